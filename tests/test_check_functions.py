"""The verifier for functions: of tensors, and of NumPy arrays with a gradient written by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.optimize

import opgrad
from opgrad.check import Status, check_gradient, gradcheck, gradgradcheck


def tensor(*shape: int, seed: int = 0, **options):
    return opgrad.tensor(
        np.random.default_rng(seed).uniform(0.5, 2, shape), requires_grad=True, **options
    )


def detached_factor(x):
    """Is x * x, differentiated as if one factor were constant."""
    return x * x.detach()


def worst(report):
    return next(each for each in report.findings if each.counts_against)


# ---------------------------------------------------------------- functions of tensors


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (opgrad.exp, tensor(3, 4)),
        (lambda a, b: (a @ b, opgrad.sum(a)), (tensor(2, 3), tensor(3, 2, seed=1))),
        (lambda x: 3 * x, tensor(4)),
        (lambda x: x * 1e-30, tensor(2)),
        (lambda z: z * opgrad.conj(z), tensor(3).detach().astype("complex128").requires_grad_()),
    ],
    ids=["exp", "two outputs", "linear", "tiny", "complex"],
)
def test_right_functions_pass(check, function, inputs):
    report = check(function, inputs)
    assert report.passed, report
    assert report.worst_error < 1


def test_a_lost_factor_is_found_and_said():
    report = gradcheck(detached_factor, tensor(3))
    assert report.status is Status.FAIL
    assert worst(report).cause == "it is off by a factor of 0.5"
    assert worst(report).case == "Case(float64 (3,))"
    assert worst(report).analytic == pytest.approx(worst(report).numeric / 2, rel=1e-9)


class TestAReportIsTrueOnlyIfItPassed:
    """So that ``assert gradcheck(function, inputs)``, as one knows it, is a test."""

    @pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
    def test_for_functions_of_tensors(self, check):
        assert check(opgrad.exp, tensor(3))
        assert not check(lambda x: opgrad.exp(x.detach()) * x * x.detach(), tensor(3))

    def test_for_numpy_functions(self):
        assert check_gradient(np.sin, np.cos, 0.3)
        assert not check_gradient(np.sin, np.sin, 0.3)

    def test_and_what_cannot_be_told_is_false(self):
        def rough(x):
            return x + opgrad.sin(x * 1e12) * 1e-4

        report = gradcheck(rough, tensor(3))
        assert report.status is Status.INCONCLUSIVE
        assert not report
        assert report.worst_error is None


@pytest.mark.parametrize(
    ("function", "inputs", "element"),
    [
        (detached_factor, tensor(3), r"d output\[(\d)\] / d inputs\[0\]\[\1\]"),
        (detached_factor, tensor(), r"d output / d inputs\[0\]"),
        (
            lambda a, b: (a.detach() * 2, a + b * b.detach()),
            (tensor(2, 3).detach(), tensor(3)),
            r"d outputs\[1\]\[\d, (\d)\] / d inputs\[1\]\[\1\]",
        ),
        (
            lambda z: opgrad.conj(z).detach() * z,
            tensor(2).detach().astype("complex128").requires_grad_(),
            r"d output\[(\d)\]\.(real|imag) / d inputs\[0\]\[\1\]\.(real|imag)",
        ),
    ],
    ids=["one axis", "none", "two outputs", "complex"],
)
def test_the_element_is_named_by_its_indices_in_output_and_input(function, inputs, element):
    found = worst(gradcheck(function, inputs))
    assert re.fullmatch(element, found.element)
    assert found.message.startswith(f"for {found.element} the backward gives ")


def test_in_second_derivatives_the_outputs_are_gradients():
    found = worst(gradgradcheck(lambda x: opgrad.exp(x.detach()) * x, tensor(2)))
    assert re.fullmatch(r"d inputs\[0\]\.grad\[(\d)\] / d inputs\[0\]\[\1\]", found.element)


def test_samples_of_a_large_jacobian_are_named_too():
    x = np.linspace(1, 2, 5000)
    found = worst(check_gradient(np.sum, lambda x: np.full_like(x, 1.1), x))
    number = r"d sum\(grad \* output\) (along a direction in x|/ d x\[\d+\])"
    assert re.fullmatch(number, found.element)
    assert found.flat == ()


def test_a_detached_output_is_found_by_both():
    def detached(x):
        return x + 0, (x * x).detach()

    assert not gradcheck(detached, tensor(3)).passed
    assert gradgradcheck(detached, tensor(3)).passed  # its first derivatives are constant: 1 and 0


def test_an_error_in_the_second_derivative_alone_is_found_by_gradgradcheck_alone():
    class Cube(opgrad.Operator):
        """Its backward is right, but records x as a constant."""

        @opgrad.hookimpl
        def forward(self, x, /):
            return x * x * x

        @opgrad.hookimpl
        def backward(self, grad, x):
            return grad * 3 * (detached_factor(x) if hasattr(x, "grad_fn") else x * x)

        @opgrad.hookimpl
        def self_check(self, rng):
            yield opgrad.Case(rng.normal(size=3))

    assert gradcheck(Cube(), tensor(3)).passed
    assert not gradgradcheck(Cube(), tensor(3)).passed


def test_only_inputs_that_require_grad_are_asked_about():
    report = gradcheck(lambda a, b, n: a * b.detach() * n, (tensor(2), tensor(2).detach(), 3))
    assert [each.input for each in report.findings] == ["0"]
    assert report.passed


def test_inputs_and_their_grad_are_left_alone():
    x = tensor(3)
    before = x.detach().data.copy()
    gradcheck(opgrad.exp, x)
    assert x.grad is None
    np.testing.assert_array_equal(x.detach().data, before)


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_what_cannot_be_checked_is_refused_with_what_to_do(check):
    with pytest.raises(ValueError, match=r"none of the inputs \(float64 \(2,\)\) requires grad"):
        check(opgrad.exp, tensor(2).detach())
    with pytest.raises(ValueError, match=r"input 0 is float32 \(2,\).*float64"):
        check(opgrad.exp, tensor(2, dtype=np.float32))
    with pytest.raises(TypeError, match=r"returned 1\.0, expected a tensor"):
        check(lambda _x: 1.0, tensor(2))


def test_an_exception_of_the_function_is_the_callers():
    def broken(x):
        msg = "no luck"
        raise ArithmeticError(msg)

    with pytest.raises(ArithmeticError, match="no luck"):
        gradcheck(broken, tensor(2))


# ---------------------------------------------------------------- pairs of NumPy functions

ROSENBROCK = scipy.optimize.rosen, scipy.optimize.rosen_der


def test_scipys_own_gradient_passes():
    report = check_gradient(*ROSENBROCK, [1.3, 0.7, 0.8, 1.9, 1.2])
    assert report.passed, report
    assert report.worst_error < 1


def test_an_error_that_scipys_check_does_not_see_is_found():
    fun, grad = ROSENBROCK

    def slightly_off(x):
        return grad(x) * (1 + 1e-7)

    x = np.array([1.3, 0.7, 0.8])
    right, wrong = (scipy.optimize.check_grad(fun, each, x) for each in (grad, slightly_off))
    assert wrong < 50 * right  # nothing that a threshold would tell apart
    report = check_gradient(fun, slightly_off, x)
    assert worst(report).cause == "it is off by a factor of 1.0000001"
    assert 1 < report.worst_error < 1e-7 / 1e-8  # which would be allowed of an exact derivative


def test_a_hessian_is_the_jacobian_of_the_gradient():
    x = np.array([1.3, 0.7, 0.8])
    assert check_gradient(scipy.optimize.rosen_der, scipy.optimize.rosen_hess, x).passed
    assert not check_gradient(
        scipy.optimize.rosen_der, lambda x: np.triu(scipy.optimize.rosen_hess(x)), x
    ).passed


def test_value_and_gradient_may_come_from_one_function():
    assert check_gradient(lambda x: (np.sum(x**3), 3 * x**2), True, [1.0, -2.0]).passed
    assert not check_gradient(lambda x: (np.sum(x**3), 3 * x), True, [1.0, -2.0]).passed


def test_further_arguments_go_to_both():
    def fun(x, a, b):
        return a * np.sum(x) ** 2 + b

    def grad(x, a, _b):
        return np.full(x.shape, 2 * a * np.sum(x))

    assert check_gradient(fun, grad, np.ones((2, 3)), 3.0, 1.0).passed


def test_scalars_are_functions_too():
    assert check_gradient(np.sin, np.cos, 0.3).passed
    assert not check_gradient(np.cos, np.sin, 0.3).passed


def test_many_unknowns_are_checked_by_samples():
    x = np.linspace(-1, 1, 5000)

    def one_wrong(x):
        grad = 2 * x
        grad[4321] *= -1
        return grad

    assert check_gradient(lambda x: np.sum(x**2), lambda x: 2 * x, x).passed
    assert not check_gradient(lambda x: np.sum(x**2), one_wrong, x).passed


def test_a_gradient_of_another_shape_fails():
    report = check_gradient(np.sum, lambda x: np.ones((2, 2)), np.ones(4))
    assert worst(report).message == "the gradient has shape (2, 2), expected (4,)"


def test_functions_that_write_to_x_do_not_disturb_the_comparison():
    def fun(x):
        x *= x
        return np.sum(x)

    assert check_gradient(fun, lambda x: 2 * x, [1.0, 2.0]).passed


def test_complex_numbers_are_refused_with_what_to_do():
    with pytest.raises(TypeError, match="as real and imaginary parts"):
        check_gradient(np.sum, np.ones_like, [1j])
    with pytest.raises(TypeError, match=r"sqrt returned complex128.*expected real numbers"):
        check_gradient(np.emath.sqrt, np.ones_like, [-1.0])


def test_the_report_prints_case_values_and_cause():
    printed = str(check_gradient(np.sin, lambda x: -np.cos(x), [0.3]))
    assert printed.splitlines()[0].startswith("check_gradient of sin: FAIL")
    assert "case          Case(float64 (1,))" in printed
    assert "likely cause  the sign is wrong" in printed
