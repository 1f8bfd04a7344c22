"""What each operator computes, and its gradients, against oracles that know nothing of opgrad.

Values are compared with NumPy, SciPy and mpmath, gradients with closed forms. An operator that is
linear needs none: where NumPy's own function gives the operator's matrix, column by column, the
gradient is that matrix transposed.
"""

# ruff: noqa: B023 - functions that are made in a loop are called in it

from __future__ import annotations

import inspect
import itertools
import math
import operator

import mpmath as mp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import opgrad

inf, nan = np.inf, np.nan
EPS = {dtype: float(np.finfo(dtype).eps) for dtype in (np.float32, np.float64)}
bce = opgrad.ops.binary_cross_entropy_with_logits


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def complex_normal(*shape, seed=0):
    return normal(*shape, seed=seed) + 1j * normal(*shape, seed=seed + 1)


def leaf(data, dtype=None):
    return opgrad.tensor(data, dtype=dtype, requires_grad=True)


def gradients(function, *inputs, seed=None):
    """Return the output and the gradient of each input, as arrays."""
    leaves = [leaf(each) for each in inputs]
    out = function(*leaves)
    seed = opgrad.ones_like(out) if seed is None else opgrad.tensor(seed)
    grads = opgrad.autograd.grad(out, leaves, seed)
    return out.detach().numpy(), *(each.numpy() for each in grads)


def gradient(function, x, seed=None):
    return gradients(function, x, seed=seed)[1]


def second(function, x):
    """Return the second derivative of a function of each element."""
    x = leaf(x)
    (first,) = opgrad.autograd.grad(function(x), x, opgrad.ones_like(x), create_graph=True)
    if not first.requires_grad:
        return np.zeros(x.shape)
    (result,) = opgrad.autograd.grad(first, x, opgrad.ones_like(x))
    return result.numpy()


def transposed(linear, x, seed):
    """Return the gradient of a linear function of NumPy's: its matrix, transposed, times `seed`."""
    result = np.empty(x.shape, x.dtype)
    for index in np.ndindex(x.shape):
        unit = np.zeros_like(x)
        unit[index] = 1
        result[index] = np.sum(seed * linear(unit))
    return result


def assert_linear(ours, theirs, x):
    """Compare a linear operator with NumPy's function: value, gradient, and gradient of that."""
    expected = np.asarray(theirs(x))
    seed = np.asarray(normal(*expected.shape, seed=7))
    out, grad = gradients(ours, x, seed=seed)
    assert out.shape == expected.shape
    assert grad.shape == x.shape
    np.testing.assert_allclose(out, expected, rtol=1e-14)
    np.testing.assert_allclose(grad, transposed(theirs, x, seed), rtol=1e-13, atol=1e-15)
    # The gradient is linear in the seed, and the gradient of that is the operator again.
    x, seed = leaf(x), leaf(seed)
    (first,) = opgrad.autograd.grad(ours(x), x, seed, create_graph=True)
    direction = normal(*x.shape, seed=8)
    (again,) = opgrad.autograd.grad(first, seed, opgrad.tensor(direction))
    np.testing.assert_allclose(again.numpy(), theirs(direction), rtol=1e-13, atol=1e-15)


def exact(function, *points):
    """Apply a function of mpmath to floats, with 60 digits, and round once."""
    with mp.workdps(60):
        numbers = [[mp.mpf(float(x)) for x in each] for each in points]
        return np.array([float(each) for each in map(function, *numbers)])


def assert_close(actual, expected, dtype=np.float64, ulps=4, scale=0.0):
    """Compare within some roundings of the result, or of `scale` where that is larger."""
    eps = ulps * EPS[dtype]
    assert np.asarray(actual).dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=eps, atol=eps * scale + np.finfo(dtype).tiny)


# ------------------------------------------------------------------- functions of each element

SMALL = [-3.0, -1.25, -0.5, -1e-3, 1e-3, 0.75, 2.0]
POSITIVE = [1e-100, 1e-3, 0.5, 1.0, 2.0, 1e5, 1e100]
ANGLES = [-1e6, -20.0, -1e-8, 0.0, 0.5, 3.0, 1e5]

#: Operator, value, derivative, second derivative, where.
ELEMENTWISE = {
    "neg": (lambda x: -x, lambda x: -1, lambda x: 0, SMALL),
    "exp": (mp.exp, mp.exp, mp.exp, [-700.0, -1.0, -1e-8, 0.0, 1.0, 700.0]),
    "log": (mp.log, lambda x: 1 / x, lambda x: -1 / x**2, POSITIVE),
    "sqrt": (mp.sqrt, lambda x: 0.5 / mp.sqrt(x), lambda x: -0.25 / x**1.5, POSITIVE),
    "sin": (mp.sin, mp.cos, lambda x: -mp.sin(x), ANGLES),
    "cos": (mp.cos, lambda x: -mp.sin(x), lambda x: -mp.cos(x), ANGLES),
    "tanh": (
        mp.tanh,
        lambda x: mp.sech(x) ** 2,
        lambda x: -2 * mp.tanh(x) * mp.sech(x) ** 2,
        SMALL,
    ),
    "sigmoid": (
        lambda x: 1 / (1 + mp.exp(-x)),
        lambda x: 0.25 * mp.sech(x / 2) ** 2,
        lambda x: -0.25 * mp.tanh(x / 2) * mp.sech(x / 2) ** 2,
        SMALL,
    ),
    "log1p": (
        lambda x: mp.log(1 + x),
        lambda x: 1 / (1 + x),
        lambda x: -1 / (1 + x) ** 2,
        [-0.75, -1e-3, -1e-20, 1e-40, 1e-3, 2.0, 1e20],
    ),
    "expm1": (mp.expm1, mp.exp, mp.exp, [-50.0, -1.0, -1e-20, 1e-100, 1e-3, 2.0, 300.0]),
    "square": (lambda x: x**2, lambda x: 2 * x, lambda x: 2, SMALL),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / x**2, lambda x: 2 / x**3, SMALL),
    "relu": (lambda x: max(x, 0), lambda x: x > 0, lambda x: 0, SMALL),
    "abs": (abs, mp.sign, lambda x: 0, SMALL),
    "sign": (mp.sign, lambda x: 0, lambda x: 0, SMALL),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
class TestFunctionOfEachElement:
    def test_has_the_value_that_mpmath_computes(self, name):
        function, _, _, points = ELEMENTWISE[name]
        assert_close(getattr(opgrad, name)(np.array(points)).numpy(), exact(function, points))

    def test_has_the_derivative_of_the_closed_form(self, name):
        _, derivative, _, points = ELEMENTWISE[name]
        expected = exact(derivative, points)
        assert_close(gradient(getattr(opgrad, name), points), expected, ulps=200)

    def test_has_the_second_derivative_of_the_closed_form(self, name):
        *_, derivative, points = ELEMENTWISE[name]
        expected = exact(derivative, points)
        assert_close(second(getattr(opgrad, name), points), expected, ulps=400, scale=1e-3)

    def test_is_as_good_in_float32(self, name):
        function, derivative, _, points = ELEMENTWISE[name]
        points = np.array([x for x in points if 1e-5 < abs(x) < 80], np.float32)
        out, grad = gradients(getattr(opgrad, name), points)
        assert_close(out, exact(function, points), np.float32)
        assert_close(grad, exact(derivative, points), np.float32, ulps=200)

    def test_multiplies_the_gradient_that_comes_in(self, name):
        points = np.array(ELEMENTWISE[name][-1])
        seed = normal(*points.shape)
        one = gradient(getattr(opgrad, name), points)
        np.testing.assert_allclose(
            gradient(getattr(opgrad, name), points, seed), seed * one, rtol=1e-15
        )


HOLOMORPHIC = {
    "neg": (np.negative, lambda z: -np.ones_like(z)),
    "exp": (np.exp, np.exp),
    "log": (np.log, lambda z: 1 / z),
    "sqrt": (np.sqrt, lambda z: 0.5 / np.sqrt(z)),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda z: -np.sin(z)),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "log1p": (np.log1p, lambda z: 1 / (1 + z)),
    "expm1": (np.expm1, np.exp),
    "square": (np.square, lambda z: 2 * z),
    "reciprocal": (np.reciprocal, lambda z: -1 / z**2),
}


class TestComplexNumbers:
    """The gradient of a real loss is twice its derivative by the conjugate: ``|z|**2`` has 2 z."""

    @pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
    @pytest.mark.parametrize("name", HOLOMORPHIC)
    def test_holomorphic_functions_have_the_conjugate_derivative(self, name, dtype):
        function, derivative = HOLOMORPHIC[name]
        z, seed = complex_normal(6).astype(dtype), complex_normal(6, seed=3).astype(dtype)
        out, grad = gradients(getattr(opgrad, name), z, seed=seed)
        rtol = 20 * np.finfo(dtype).eps
        assert out.dtype == grad.dtype == dtype
        np.testing.assert_allclose(out, function(z), rtol=rtol)
        np.testing.assert_allclose(grad, seed * np.conj(derivative(z)), rtol=rtol)

    def test_the_squared_size_has_twice_the_number(self):
        z = complex_normal(5)
        np.testing.assert_allclose(
            gradient(lambda z: opgrad.real(z * opgrad.conj(z)), z), 2 * z, rtol=1e-15
        )

    def test_abs_points_away_from_zero_and_is_flat_at_zero(self):
        z = np.array([3 + 4j, -2j, 0j])
        out, grad = gradients(opgrad.abs, z)
        np.testing.assert_allclose(out, [5, 2, 0])
        np.testing.assert_allclose(grad, [0.6 + 0.8j, -1j, 0], rtol=1e-15)

    def test_abs_bends_across_the_direction_and_not_at_all_at_zero(self):
        # |z| as a function of two real numbers has the second derivative y**2 / |z|**3 in x.
        z = leaf(np.array([3 + 4j, -2j, 0j]))
        ones = opgrad.ones(3)
        (first,) = opgrad.autograd.grad(opgrad.abs(z), z, ones, create_graph=True)
        (bend,) = opgrad.autograd.grad(opgrad.real(first), z, ones)
        np.testing.assert_allclose(bend.numpy(), [(16 - 12j) / 125, 0.5, 0], rtol=1e-14)

    def test_sign_is_the_direction_and_changes_only_across_it(self):
        z = np.array([3 + 4j, 2j, 0j])
        out, grad = gradients(opgrad.sign, z, seed=np.ones(3, complex))
        np.testing.assert_allclose(out, [0.6 + 0.8j, 1j, 0], rtol=1e-15)
        np.testing.assert_allclose(grad, [(16 - 12j) / 125, 0.5, 0], rtol=1e-14)

    def test_parts_give_their_gradient_to_their_part(self):
        z = complex_normal(4)
        np.testing.assert_array_equal(gradient(opgrad.real, z), np.ones(4))
        np.testing.assert_array_equal(gradient(opgrad.imag, z), np.full(4, 1j))
        seed = complex_normal(4, seed=5)
        np.testing.assert_array_equal(gradient(opgrad.conj, z, seed), np.conj(seed))

    def test_parts_of_real_numbers_are_themselves_and_zero(self):
        x = normal(4)
        for name, value, slope in (("real", x, 1), ("conj", x, 1), ("imag", 0 * x, 0)):
            out, grad = gradients(getattr(opgrad, name), x)
            np.testing.assert_array_equal(out, value)
            np.testing.assert_array_equal(grad, np.full(4, slope))
            assert out.dtype == grad.dtype == np.float64

    @pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
    def test_a_real_operand_gets_the_real_part(self, name):
        x, z, seed = 1 + normal(4) ** 2, complex_normal(4, seed=2), complex_normal(4, seed=5)
        by_x = {"add": 1, "sub": 1, "mul": z, "div": 1 / z}[name]
        _, grad_x, grad_z = gradients(getattr(opgrad, name), x, z, seed=seed)
        assert grad_x.dtype == np.float64
        assert grad_z.dtype == np.complex128
        np.testing.assert_allclose(grad_x, np.real(seed * np.conj(by_x)), rtol=1e-14)

    def test_powers_are_holomorphic_in_base_and_exponent(self):
        z, p, seed = complex_normal(5), complex_normal(5, seed=2), complex_normal(5, seed=4)
        out, grad_z, grad_p = gradients(opgrad.pow, z, p, seed=seed)
        np.testing.assert_allclose(out, z**p, rtol=1e-14)
        np.testing.assert_allclose(grad_z, seed * np.conj(p * z ** (p - 1)), rtol=1e-13)
        np.testing.assert_allclose(grad_p, seed * np.conj(z**p * np.log(z)), rtol=1e-13)

    def test_products_of_matrices_conjugate_the_other_factor(self):
        a, b, seed = complex_normal(2, 3), complex_normal(3, 4, seed=2), complex_normal(2, 4)
        _, grad_a, grad_b = gradients(opgrad.matmul, a, b, seed=seed)
        np.testing.assert_allclose(grad_a, seed @ b.conj().T, rtol=1e-13)
        np.testing.assert_allclose(grad_b, a.conj().T @ seed, rtol=1e-13)


# ------------------------------------------------------------------- functions of two elements

#: Operator, value, derivatives by either operand.
BINARY = {
    "add": (operator.add, lambda a, b: 1, lambda a, b: 1),
    "sub": (operator.sub, lambda a, b: 1, lambda a, b: -1),
    "mul": (operator.mul, lambda a, b: b, lambda a, b: a),
    "div": (operator.truediv, lambda a, b: 1 / b, lambda a, b: -a / b**2),
    "pow": (operator.pow, lambda a, b: b * a ** (b - 1), lambda a, b: a**b * mp.log(a)),
    "logaddexp": (
        lambda a, b: mp.log(mp.exp(a) + mp.exp(b)),
        lambda a, b: 1 / (1 + mp.exp(b - a)),
        lambda a, b: 1 / (1 + mp.exp(a - b)),
    ),
    "maximum": (max, lambda a, b: a > b, lambda a, b: a < b),
    "minimum": (min, lambda a, b: a < b, lambda a, b: a > b),
}


def operands(dtype=np.float64):
    return [0.25, 1.5, 3.0, 0.125, 7.0], [-2.0, 0.5, 2.5, 4.0, 1.0]


@pytest.mark.parametrize("name", BINARY)
class TestFunctionOfTwoElements:
    def test_has_the_value_and_derivatives_of_the_closed_forms(self, name):
        a, b = operands()
        actual = gradients(getattr(opgrad, name), a, b)
        for got, function in zip(actual, BINARY[name], strict=True):
            assert_close(got, exact(function, a, b), ulps=8)

    def test_has_symmetric_second_derivatives(self, name):
        a, b = map(leaf, operands())
        out = getattr(opgrad, name)(a, b)
        ones = opgrad.ones_like(out)
        grads = opgrad.autograd.grad(out, [a, b], ones, create_graph=True)
        mixed = [
            opgrad.autograd.grad(
                each + 0 * a * b, other, ones, retain_graph=True, materialize_grads=True
            )[0].numpy()
            for each, other in zip(grads, (b, a), strict=True)
        ]
        np.testing.assert_allclose(*mixed, rtol=1e-13, atol=1e-15)

    @settings(max_examples=30, deadline=None)
    @given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_dims=3))
    def test_sums_its_gradients_over_what_was_broadcast(self, name, shapes):
        a, b = (1 + np.abs(normal(*each, seed=i)) for i, each in enumerate(shapes.input_shapes))
        seed = np.asarray(normal(*shapes.result_shape, seed=2))
        full = np.broadcast_arrays(a, b)
        _, grad_a, grad_b = gradients(getattr(opgrad, name), a, b, seed=seed)
        _, full_a, full_b = gradients(getattr(opgrad, name), *full, seed=seed)
        np.testing.assert_allclose(grad_a, summed(full_a, a.shape), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(grad_b, summed(full_b, b.shape), rtol=1e-12, atol=1e-14)

    def test_takes_a_number_on_either_side(self, name):
        function = getattr(opgrad, name)
        x = np.array([0.5, 1.0, 2.0])
        for dtype in (np.float32, np.float64):
            right = gradients(lambda x: function(x, 1.5), x.astype(dtype))
            left = gradients(lambda x: function(1.5, x), x.astype(dtype))
            many = np.full(3, 1.5, dtype)
            both = [gradients(function, x.astype(dtype), many), gradients(function, many, x)]
            for got, want in ((right, both[0][:2]), (left, both[1][::2])):
                for each, expected in zip(got, want, strict=True):
                    assert_close(each, expected, dtype)

    def test_gives_one_tensor_on_both_sides_the_sum_of_both_gradients(self, name):
        function = getattr(opgrad, name)
        a = 1 + np.abs(normal(4))
        _, by_a, by_b = gradients(function, a, a)
        np.testing.assert_allclose(gradient(lambda a: function(a, a), a), by_a + by_b, rtol=1e-14)


def summed(full, shape):
    """Sum an array over the axes along which `shape` was repeated."""
    full = full.sum(axis=tuple(range(full.ndim - len(shape))))
    repeated = tuple(i for i, size in enumerate(shape) if size != full.shape[i])
    return full.sum(axis=repeated, keepdims=True)


class TestPow:
    @pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5, -1, -2, 0.5, -1.5, 2.0, 0.0, True])
    def test_a_number_as_exponent_gives_the_power_rule(self, exponent):
        x = np.array([0.5, 1.0, 3.0])
        exponent_ = float(exponent)
        out, grad = gradients(lambda x: x**exponent, x)
        np.testing.assert_allclose(out, x**exponent_, rtol=1e-15)
        np.testing.assert_allclose(grad, exponent_ * x ** (exponent_ - 1), rtol=1e-15)
        np.testing.assert_allclose(
            second(lambda x: x**exponent, x),
            exponent_ * (exponent_ - 1) * x ** (exponent_ - 2),
            rtol=1e-14,
        )

    @pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4])
    def test_integer_powers_are_smooth_at_zero_and_below(self, exponent):
        x = np.array([-2.0, -1.0, 0.0])
        polynomial = np.polynomial.Polynomial.basis(exponent)
        for function in (lambda x: x**exponent, lambda x: x ** opgrad.full((3,), float(exponent))):
            out, grad = gradients(function, x)
            np.testing.assert_array_equal(out, polynomial(x))
            np.testing.assert_array_equal(grad, polynomial.deriv()(x))
            np.testing.assert_array_equal(second(function, x), polynomial.deriv(2)(x))

    @pytest.mark.parametrize("exponent", [0, 0.0, opgrad.zeros(4)])
    def test_to_the_power_zero_is_one_everywhere_with_derivative_zero(self, exponent):
        out, grad = gradients(lambda x: x**exponent, [0.0, -0.0, -2.0, inf])
        np.testing.assert_array_equal(out, np.ones(4))
        np.testing.assert_array_equal(grad, np.zeros(4))

    def test_roots_and_reciprocals_are_steep_at_zero(self):
        x = np.zeros(1)
        with np.errstate(divide="ignore"):
            for exponent, slope in ((0.5, inf), (1.5, 0), (-1, -inf), (-2, -inf)):
                assert gradient(lambda x: x**exponent, x) == slope
                power = opgrad.full((1,), float(exponent))
                assert gradient(lambda x: x**power, x) == slope

    def test_a_base_of_zero_is_flat_in_exponents_that_are_not_negative(self):
        exponents = np.array([0.0, 0.5, 2.0])
        for base in (0, 0.0, opgrad.zeros(3)):
            out, grad = gradients(lambda p: base**p, exponents)
            np.testing.assert_array_equal(out, [1, 0, 0])
            np.testing.assert_array_equal(grad, np.zeros(3))

    def test_a_negative_base_has_no_derivative_by_the_exponent(self):
        _, grad_base, grad_exponent = gradients(opgrad.pow, [-2.0, -3.0], [3.0, 2.0])
        np.testing.assert_array_equal(grad_base, [12, -6])
        assert np.isnan(grad_exponent).all()

    def test_a_number_as_base_gives_the_exponential_rule(self):
        p = np.array([-1.0, 0.0, 2.5])
        for base in (2, 2.0, 0.5, np.float64(2), np.int64(3)):
            out, grad = gradients(lambda p: base**p, p)
            np.testing.assert_allclose(out, float(base) ** p, rtol=1e-15)
            np.testing.assert_allclose(grad, float(base) ** p * np.log(base), rtol=1e-15)

    @pytest.mark.parametrize("shape", [(), (3,)])
    def test_a_complex_number_as_base_does_so_to_second_order(self, shape):
        p = leaf(np.full(shape, 0.5))
        (first,) = opgrad.autograd.grad(opgrad.real(2j**p).sum(), p, create_graph=True)
        (second,) = opgrad.autograd.grad(first.sum(), p)
        for got, order in ((first, 1), (second, 2)):
            expected = np.real(2j**0.5 * np.log(2j) ** order)
            np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-14)

    def test_integers_in_one_place_leave_gradients_to_the_other(self):
        x, n = np.array([0.5, 2.0, -3.0]), np.array([3, -2, 2])
        np.testing.assert_allclose(gradient(lambda x: x**n, x), n * x ** (n - 1.0), rtol=1e-15)
        p = np.array([0.5, 2.0, 3.0])
        base = np.array([2, 3, 1])
        np.testing.assert_allclose(
            gradient(lambda p: opgrad.tensor(base) ** p, p), base**p * np.log(base), rtol=1e-15
        )

    def test_a_number_as_exponent_has_one_edge_and_a_tensor_two(self):
        x = leaf(2.0)
        assert [(x**2).grad_fn.name(), len((x**2).grad_fn.next_functions)] == ["PowBackward0", 1]
        assert [(x**x).grad_fn.name(), len((x**x).grad_fn.next_functions)] == ["PowBackward1", 2]


class TestClamp:
    X = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])

    @pytest.mark.parametrize("bounds", [(0, 1), (0, None), (None, 1), (None, None), (1, 0)])
    def test_has_numpys_value_and_passes_the_gradient_up_to_the_bounds(self, bounds):
        low, high = (default if each is None else each
                     for each, default in zip(bounds, (-inf, inf), strict=True))  # fmt: skip
        x = self.X
        out, grad = gradients(lambda x: x.clamp(*bounds), x)
        np.testing.assert_array_equal(out, np.clip(x, *bounds))
        np.testing.assert_array_equal(grad, (x >= low) & (x <= high))

    def test_takes_its_bounds_by_name(self):
        for call in (opgrad.clamp, opgrad.clip, np.clip):
            np.testing.assert_array_equal(call(leaf(self.X), min=0).detach(), [0, 0, 0.5, 1, 2])
            np.testing.assert_array_equal(call(leaf(self.X), max=0).detach(), [-1, 0, 0, 0, 0])
        assert str(inspect.signature(opgrad.clip)) == "(x, /, min=None, max=None)"

    def test_gives_each_gradient_to_what_was_taken(self):
        x, low, high = map(leaf, ([0.0, 1.0, 2.0, 3.0, 4.0], [1.0] * 5, [3.0] * 5))
        x.clamp(low, high).backward(opgrad.tensor([1.0, 2.0, 4.0, 8.0, 16.0]))
        assert x.grad.tolist() == [0, 2, 4, 8, 0]
        assert low.grad.tolist() == [1, 0, 0, 0, 0]
        assert high.grad.tolist() == [0, 0, 0, 0, 16]

    def test_a_lower_bound_above_the_upper_gives_way(self):
        x, low, high = map(leaf, ([0.0, 1.5, 3.0], 2.0, 1.0))
        made = x.clamp(low, high)
        made.sum().backward()
        assert made.tolist() == [1, 1, 1]
        assert [x.grad.tolist(), low.grad.item(), high.grad.item()] == [[0, 0, 0], 0, 3]

    def test_a_number_beside_a_tensor_costs_no_gradient(self):
        for call in (lambda x, b: x.clamp(-1, b), lambda x, b: x.clamp(max=b)):
            _, grad_x, grad_bound = gradients(call, self.X, 0.75)
            np.testing.assert_array_equal(grad_x, self.X <= 0.75)
            assert grad_bound == 2
        _, grad_x, grad_bound = gradients(lambda x, b: x.clamp(b, 9), self.X, 0.75)
        np.testing.assert_array_equal(grad_x, self.X >= 0.75)
        assert grad_bound == 3

    def test_numbers_are_no_inputs_of_the_node(self):
        x, b = leaf(self.X), leaf(1.0)
        made = [x.clamp(0, 1), x.clamp(max=1), x.clamp(b), x.clamp(b, b), x.clamp(0, b)]
        assert [(each.grad_fn.name(), len(each.grad_fn.next_functions)) for each in made] == [
            *[("ClampBackward1", 1)] * 2,
            *[("ClampBackward0", 3)] * 3,
        ]

    def test_numbers_do_not_decide_the_dtype(self):
        assert leaf(self.X, np.float32).clamp(0, np.float64(1)).dtype == np.float32
        assert opgrad.clip(np.arange(3), 1).dtype == np.int64


#: Functions, and their derivatives of order n.
ORDERS = {
    "exp": (opgrad.exp, lambda x, n: np.exp(x)),
    "sin": (opgrad.sin, lambda x, n: np.sin(x + n * np.pi / 2)),
    "log": (opgrad.log, lambda x, n: (-1) ** (n - 1) * math.factorial(n - 1) / x**n),
    "1 / x": (lambda x: 1 / x, lambda x, n: (-1) ** n * math.factorial(n) / x ** (n + 1)),
    "x ** 4": (lambda x: x**4, lambda x, n: math.perm(4, n) * x ** max(4 - n, 0)),
    "x ** 2.5": (
        lambda x: x**2.5,
        lambda x, n: math.prod(2.5 - k for k in range(n)) * x ** (2.5 - n),
    ),
    "2 ** x": (lambda x: 2**x, lambda x, n: 2**x * np.log(2) ** n),
    "x * x * x": (lambda x: x * x * x, lambda x, n: math.perm(3, n) * x ** max(3 - n, 0)),
    "x ** tensor": (
        lambda x: x ** opgrad.tensor(3.0),
        lambda x, n: math.perm(3, n) * x ** max(3 - n, 0),
    ),
}


class TestHigherDerivatives:
    """A backward is made of operators, so it has a derivative too, and that has another."""

    @pytest.mark.parametrize("name", ORDERS)
    def test_are_right_up_to_the_fifth(self, name):
        function, derivative = ORDERS[name]
        x = leaf([0.5, 1.25, 3.0])
        made = function(x)
        for order in range(1, 6):
            (made,) = opgrad.autograd.grad(
                made + 0 * x, x, opgrad.ones(3), create_graph=True, materialize_grads=True
            )
            expected = derivative(x.detach().numpy(), order) * np.ones(3)
            np.testing.assert_allclose(made.detach().numpy(), expected, rtol=1e-12, atol=1e-12)

    def test_mix_over_matrices(self):
        # The Hessian of x' A x is A + A'.
        a, x = normal(3, 3), leaf(normal(3, seed=1))
        (first,) = opgrad.autograd.grad(x @ opgrad.tensor(a) @ x, x, create_graph=True)
        rows = [opgrad.autograd.grad(each, x, retain_graph=True)[0].numpy() for each in first]
        np.testing.assert_allclose(rows, a + a.T, rtol=1e-14)


class TestPointsThatAreNotSmooth:
    def test_abs_is_flat_at_zero(self):
        np.testing.assert_array_equal(gradient(opgrad.abs, [-1.0, -0.0, 0.0, 2.0]), [-1, 0, 0, 1])

    def test_sqrt_is_infinitely_steep_at_zero(self):
        assert gradient(opgrad.sqrt, [0.0]) == inf

    def test_maximum_shares_between_equal_operands(self):
        _, grad_a, grad_b = gradients(opgrad.maximum, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
        np.testing.assert_array_equal(grad_a, [0, 0.5, 1])
        np.testing.assert_array_equal(grad_b, [1, 0.5, 0])

    def test_minimum_shares_between_equal_operands(self):
        _, grad_a, grad_b = gradients(opgrad.minimum, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
        np.testing.assert_array_equal(grad_a, [1, 0.5, 0])
        np.testing.assert_array_equal(grad_b, [0, 0.5, 1])

    def test_relu_is_flat_at_zero_and_keeps_nan(self):
        out, grad = gradients(opgrad.relu, [-1.0, -0.0, 0.0, 2.0, nan])
        np.testing.assert_array_equal(out, [0, 0, 0, 2, nan])
        np.testing.assert_array_equal(grad, [0, 0, 0, 1, 1])

    def test_min_shares_among_equal_elements_but_over_one_axis(self):
        x = np.array([[0.0, 3.0, 0.0], [1.0, 2.0, 1.0]])
        half = [[0.5, 0, 0.5], [0, 0, 0]]
        np.testing.assert_array_equal(gradient(opgrad.min, x), half)
        first = [[1, 0, 0], [1, 0, 0]]
        np.testing.assert_array_equal(gradient(lambda x: opgrad.min(x, axis=1), x), first)

    def test_maximum_keeps_an_infinite_gradient_from_the_smaller_operand(self):
        grad = gradient(lambda x: opgrad.sqrt(opgrad.maximum(x, 0.0)), [-1.0, 4.0])
        np.testing.assert_array_equal(grad, [0, 0.25])

    def test_max_shares_among_equal_elements(self):
        x = np.array([[1.0, 3.0, 3.0], [3.0, 0.0, 2.0]])
        third = [[0, 1 / 3, 1 / 3], [1 / 3, 0, 0]]
        np.testing.assert_allclose(gradient(opgrad.max, x), third, rtol=1e-15)
        np.testing.assert_allclose(
            gradient(lambda x: opgrad.max(x, axis=(0, 1)), x), third, rtol=1e-15
        )

    @pytest.mark.parametrize("axis", [1, -1, np.int64(1)])
    def test_max_over_one_axis_takes_the_first_of_equal_elements(self, axis):
        x = np.array([[1.0, 3.0, 3.0], [2.0, 0.0, 2.0]])
        np.testing.assert_array_equal(
            gradient(lambda x: opgrad.max(x, axis=axis), x), [[0, 1, 0], [1, 0, 0]]
        )

    def test_where_keeps_what_is_not_selected_out_of_the_gradient(self):
        chosen, other = np.array([4.0, 3.0, nan]), np.array([nan, inf, 1.0])
        condition = np.array([True, True, False])
        out, grad_x, grad_y = gradients(
            lambda x, y: opgrad.where(condition, x * x, y * y), chosen, other
        )
        np.testing.assert_array_equal(out, [16, 9, 1])
        np.testing.assert_array_equal(grad_x[:2], [8, 6])
        np.testing.assert_array_equal(grad_y[2], 2)
        _, *slopes = gradients(lambda x, y: opgrad.where(condition, x, y), chosen, other)
        np.testing.assert_array_equal(slopes, [condition, ~condition])

    def test_where_keeps_an_infinite_gradient_from_the_branch_not_selected(self):
        grad = gradient(lambda x: opgrad.sqrt(opgrad.where(x > 0, x, 0.0)), [4.0, -1.0])
        np.testing.assert_array_equal(grad, [0.25, 0])
        grad = gradient(lambda x: opgrad.sqrt(opgrad.where(x < 0, 0.0, x)), [4.0, -1.0])
        np.testing.assert_array_equal(grad, [0.25, 0])

    def test_nothing_is_lost_where_nan_is_the_largest(self):
        _, grad_a, grad_b = gradients(opgrad.maximum, [nan, 1.0], [0.0, nan])
        np.testing.assert_array_equal(grad_a, [1, 1])
        np.testing.assert_array_equal(grad_b, [1, 1])
        x = [1.0, nan, 2.0, nan]
        for function in (opgrad.max, opgrad.min):
            np.testing.assert_array_equal(gradient(function, x), [0, 0.5, 0, 0.5])
            np.testing.assert_array_equal(gradient(lambda x: function(x, axis=0), x), [0, 1, 0, 0])


class TestWithoutOverflow:
    """Far out, where a formula written naively overflows or cancels."""

    FAR = np.array([-1e4, -800.0, -40.0, 40.0, 800.0, 1e4])

    def test_sigmoid_is_exact(self):
        assert_close(
            opgrad.sigmoid(self.FAR).numpy(), exact(lambda x: 1 / (1 + mp.exp(-x)), self.FAR)
        )
        np.testing.assert_array_equal(
            opgrad.sigmoid(np.array([-inf, inf, nan])).numpy(), [0, 1, nan]
        )

    def test_sigmoid_and_tanh_are_flat(self):
        for function in (opgrad.sigmoid, opgrad.tanh):
            grad = gradient(function, [-inf, -1e4, 1e4, inf])
            np.testing.assert_array_equal(grad, np.zeros(4))
            np.testing.assert_array_equal(second(function, [-inf, -1e4, 1e4, inf]), np.zeros(4))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_logaddexp_has_exact_gradients(self, dtype):
        big = 1e4 if dtype is np.float32 else 1e12
        a = np.array([big, big + 1, -big, 0, 1e3, -1e3], dtype)
        b = np.array([big + 1, big, -big - 1, -30, 0, 0], dtype)
        out, grad_a, grad_b = gradients(opgrad.logaddexp, a, b)
        value, by_a, by_b = BINARY["logaddexp"]
        assert_close(out, exact(value, a, b), dtype)
        # An exponential multiplies the rounding of its argument, here at most 30.
        assert_close(grad_a, exact(by_a, a, b), dtype, ulps=30)
        assert_close(grad_b, exact(by_b, a, b), dtype, ulps=30)

    def test_logaddexp_has_second_derivatives(self):
        a, b = leaf([0.0, 1e3, -1e3, 1.0]), opgrad.tensor([0.0, 0.0, 0.0, 3.0])
        ones = opgrad.ones(4)
        (first,) = opgrad.autograd.grad(opgrad.logaddexp(a, b), a, ones, create_graph=True)
        (bend,) = opgrad.autograd.grad(first, a, ones)
        expected = 0.25 / np.cosh(np.array([0, inf, inf, 1])) ** 2
        np.testing.assert_allclose(bend.numpy(), expected, rtol=1e-15)

    def test_logaddexp_leaves_everything_to_an_infinite_operand(self):
        _, grad_a, grad_b = gradients(opgrad.logaddexp, [inf, -inf, 1.0], [0.0, 1.0, -inf])
        np.testing.assert_array_equal(grad_a, [1, 0, 1])
        np.testing.assert_array_equal(grad_b, [0, 1, 0])


class TestWhere:
    CONDITION = np.array([[True], [False], [True]])

    def test_chooses_and_gives_each_gradient_to_the_chosen(self):
        x, y, seed = normal(3, 4), normal(4, seed=1), normal(3, 4, seed=2)
        out, grad_x, grad_y = gradients(
            lambda x, y: opgrad.where(self.CONDITION, x, y), x, y, seed=seed
        )
        np.testing.assert_array_equal(out, np.where(self.CONDITION, x, y))
        np.testing.assert_array_equal(grad_x, np.where(self.CONDITION, seed, 0))
        np.testing.assert_array_equal(grad_y, np.where(self.CONDITION, 0, seed).sum(axis=0))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
    def test_a_number_does_not_decide_the_dtype(self, dtype):
        x = np.ones(3, dtype)
        for other in (0, 0.0, 2.5, np.float64(2.5)):
            out, grad = gradients(lambda x: opgrad.where(x == 1, x, other), x)
            assert out.dtype == grad.dtype == dtype
            assert opgrad.where(self.CONDITION, other, x).dtype == dtype

    def test_numbers_and_0d_operands_get_gradients_of_their_shape(self):
        x, y = leaf(2.0), leaf(np.ones((3, 2)))
        opgrad.where(self.CONDITION, x, y).sum().backward()
        assert x.grad.shape == ()
        assert x.grad.item() == 4
        np.testing.assert_array_equal(y.grad.numpy(), [[0, 0], [1, 1], [0, 0]])

    def test_takes_a_single_condition(self):
        x = normal(3)
        for condition, slope in ((True, 1), (False, 0), (np.True_, 1), (opgrad.tensor(True), 1)):
            grad = gradient(lambda x: opgrad.where(condition, x, 0.0), x)
            np.testing.assert_array_equal(grad, np.full(3, slope))

    def test_a_condition_has_no_gradient_and_says_so(self):
        with pytest.raises(opgrad.GraphError, match="where: argument 'condition' requires grad"):
            opgrad.where(leaf([1.0, 0.0]), 1.0, 2.0)


# ----------------------------------------------------------------------------------- matmul

MATRICES = [
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((4, 3), (3,)),
    ((4, 3), (3, 2)),
    ((3,), (5, 3, 2)),
    ((5, 4, 3), (3,)),
    ((4, 3), (5, 3, 2)),
    ((5, 4, 3), (3, 2)),
    ((5, 4, 3), (5, 3, 2)),
    ((1, 4, 3), (5, 3, 2)),
    ((2, 1, 4, 3), (5, 3, 2)),
    ((3,), (2, 5, 3, 2)),
    ((2, 5, 4, 3), (3,)),
    ((1, 3), (3, 1)),
    ((1,), (1,)),
    ((4, 0), (0, 2)),
    ((0, 3), (3, 2)),
    ((4, 3), (3, 0)),
    ((0,), (0,)),
    ((0,), (0, 2)),
    ((0, 4, 3), (3, 2)),
    ((0, 4, 3), (1, 3, 2)),
    ((3,), (0, 3, 2)),
    ((0, 4, 3), (3,)),
]


@pytest.mark.parametrize(("a", "b"), MATRICES, ids=str)
class TestMatmul:
    def test_is_linear_in_either_factor(self, a, b):
        a, b = normal(*a), normal(*b, seed=1)
        assert_linear(lambda a: opgrad.matmul(a, b), lambda a: np.matmul(a, b), a)
        assert_linear(lambda b: opgrad.matmul(a, b), lambda b: np.matmul(a, b), b)

    def test_has_mixed_second_derivatives(self, a, b):
        a, b = leaf(normal(*a)), leaf(normal(*b, seed=1))
        out = a @ b
        seed = np.asarray(normal(*out.shape, seed=2))
        (by_a,) = opgrad.autograd.grad(out, a, opgrad.tensor(seed), create_graph=True)
        direction = normal(*a.shape, seed=3)
        (mixed,) = opgrad.autograd.grad(by_a, b, opgrad.tensor(direction))
        expected = transposed(lambda b: np.matmul(direction, b), b.detach().numpy(), seed)
        np.testing.assert_allclose(mixed.numpy(), expected, rtol=1e-12, atol=1e-14)


class TestMatmulRefuses:
    @pytest.mark.parametrize(("a", "b"), [((), (3,)), ((3,), (4,)), ((2, 3), (2, 3))])
    def test_what_does_not_fit(self, a, b):
        with pytest.raises(ValueError, match=r"matmul: .*\(got a: float64 .*expected the last"):
            opgrad.matmul(np.ones(a), np.ones(b))


# ------------------------------------------------------------------------------- reductions

AXES = [
    ((3, 4), None),
    ((3, 4), 0),
    ((3, 4), -1),
    ((3, 4), (0, 1)),
    ((2, 3, 4), (0, -1)),
    ((2, 3, 4), (1,)),
    ((2, 3, 4), ()),
    ((2, 3, 4), np.int64(1)),
    ((5,), 0),
    ((), None),
    ((), ()),
    ((0, 3), 1),
    ((3, 0), -2),
    ((2, 1), 1),
]
EMPTY = [((0, 3), 0), ((0, 3), None), ((3, 0), 1), ((0,), 0), ((2, 0), (0, 1))]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("shape", "axis"), AXES, ids=str)
class TestReduction:
    def test_sum_and_mean_spread_their_gradient(self, shape, axis, keepdims):
        options = {"axis": axis, "keepdims": keepdims}
        for name in ("sum", "mean"):
            assert_linear(
                lambda x: getattr(opgrad, name)(x, **options),
                lambda x: getattr(np, name)(x, **options),
                np.asarray(normal(*shape)),
            )

    @pytest.mark.parametrize("name", ["max", "min"])
    def test_extremes_give_their_gradient_to_where_they_are(self, name, shape, axis, keepdims):
        x, options = np.asarray(normal(*shape)), {"axis": axis, "keepdims": keepdims}
        numpys = getattr(np, name)
        expected = numpys(x, **options)
        seed = np.asarray(normal(*expected.shape, seed=3))
        out, grad = gradients(lambda x: getattr(opgrad, name)(x, **options), x, seed=seed)
        chosen = x == numpys(x, axis=axis, keepdims=True)
        np.testing.assert_array_equal(out, expected)
        kept = numpys(x, axis=axis, keepdims=True).shape
        np.testing.assert_array_equal(grad, np.where(chosen, seed.reshape(kept), 0))


@pytest.mark.parametrize(("shape", "axis"), EMPTY, ids=str)
class TestReductionOfNothing:
    def test_sums_to_zero(self, shape, axis):
        assert_linear(
            lambda x: opgrad.sum(x, axis=axis), lambda x: np.sum(x, axis=axis), np.ones(shape)
        )

    def test_has_the_mean_nan_and_warns_as_numpy_does(self, shape, axis):
        with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning, match="Mean of empty"):
            out, grad = gradients(lambda x: opgrad.mean(x, axis=axis), np.ones(shape))
        assert np.isnan(out).all()
        assert grad.shape == shape

    def test_has_no_extremes(self, shape, axis):
        for name in ("max", "argmax", "min", "argmin"):
            if not (name.startswith("arg") and isinstance(axis, tuple)):
                with pytest.raises(ValueError, match=rf"{name}: .*\(got x: float64"):
                    getattr(opgrad, name)(np.ones(shape), axis=axis)


class TestReductions:
    def test_a_0d_tensor_has_an_axis_to_reduce_as_in_numpy(self):
        for name in ("sum", "prod", "mean", "max", "min"):
            for axis in (0, -1):
                out, grad = gradients(lambda x: getattr(opgrad, name)(x, axis=axis), 3.0)
                assert (out, grad) == (3, 1)

    def test_take_the_axis_by_position_too(self):
        x = normal(2, 3)
        for name in ("sum", "mean", "max", "argmax"):
            expected = getattr(np, name)(x, 1)
            np.testing.assert_allclose(getattr(opgrad, name)(x, 1).numpy(), expected, rtol=1e-15)
            np.testing.assert_allclose(
                getattr(opgrad.tensor(x), name)(1).numpy(), expected, rtol=1e-15
            )

    def test_booleans_and_small_integers_are_summed_as_integers(self):
        for dtype in (bool, np.int8, np.uint8):
            total = opgrad.sum(opgrad.ones(300, dtype=dtype))
            assert total.item() == 300
            assert total.dtype == np.ones(300, dtype).sum().dtype
            assert opgrad.mean(opgrad.ones(300, dtype=dtype)).item() == 1.0

    def test_means_of_half_precision_do_not_overflow(self):
        x = np.full(100, 60000, np.float16)
        out, grad = gradients(opgrad.mean, x)
        assert (out, out.dtype, grad.dtype) == (60000, np.float16, np.float16)

    @pytest.mark.parametrize("name", ["sum", "mean", "max", "argmax"])
    def test_refuse_an_axis_that_is_not_there(self, name):
        with pytest.raises(ValueError, match=rf"{name}: axis 2 .*got x: float64 \(2, 3\)"):
            getattr(opgrad, name)(np.ones((2, 3)), axis=2)

    def test_argmax_is_the_first_of_the_largest(self):
        x = np.array([[1.0, 3.0, 3.0], [2.0, 0.0, 2.0]])
        assert opgrad.argmax(x).item() == 1
        np.testing.assert_array_equal(opgrad.argmax(x, axis=-1).numpy(), [1, 0])
        assert opgrad.argmax(leaf(x), axis=0, keepdims=True).shape == (1, 3)
        assert not opgrad.argmax(leaf(x)).requires_grad


class TestProd:
    @pytest.mark.parametrize("zeros", [0, 1, 2, 3])
    @pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 11])
    def test_has_exact_derivatives_of_first_and_second_order(self, size, zeros):
        x = normal(size)
        x[: min(zeros, size)] = 0
        leaf_ = leaf(x)
        (first,) = opgrad.autograd.grad(leaf_.prod(), leaf_, create_graph=True)
        without = [np.prod(np.delete(x, i)) for i in range(size)]
        np.testing.assert_allclose(first.detach().numpy(), without, rtol=1e-14)
        if size > 1:
            rows = [opgrad.autograd.grad(each, leaf_, retain_graph=True)[0] for each in first]
            both = [
                [np.prod(np.delete(x, [i, j])) if i != j else 0.0 for j in range(size)]
                for i in range(size)
            ]
            np.testing.assert_allclose([each.numpy() for each in rows], both, rtol=1e-13)

    @pytest.mark.parametrize("axis", [0, -1, (0, 2), (2, 1), (), None])
    @pytest.mark.parametrize("keepdims", [False, True])
    def test_is_taken_along_the_axes(self, axis, keepdims):
        x = normal(2, 3, 4)
        x[0, 1, 2] = 0
        function = lambda x: opgrad.prod(x, axis=axis, keepdims=keepdims)  # noqa: E731
        out, grad = gradients(function, x)
        np.testing.assert_allclose(out, np.prod(x, axis=axis, keepdims=keepdims), rtol=1e-14)
        axes = tuple(range(3)) if axis is None else axis
        for index in np.ndindex(x.shape):
            one = x.copy()
            one[index] = 1
            along = np.prod(one, axis=axes, keepdims=True)
            place = np.minimum(index, np.array(along.shape) - 1)
            np.testing.assert_allclose(grad[index], along[tuple(place)], rtol=1e-13)

    def test_of_nothing_is_one(self):
        out, grad = gradients(opgrad.prod, np.ones((0, 3)))
        assert (out, grad.shape) == (1, (0, 3))


@pytest.mark.parametrize(
    ("axis", "correction", "count"),
    [(None, 0, 12), (None, 1, 12), (0, 0, 3), (1, 1, 4), (-1, 0.5, 4), ((0, 1), 2, 12), ((), 0, 1)],
)
class TestVarAndStd:
    X = normal(3, 4)

    def parameters(self, axis, correction):
        return {"axis": axis, "correction": correction, "keepdims": True}

    def test_var_has_numpys_value_and_the_gradient_of_the_closed_form(
        self, axis, correction, count
    ):
        parameters = self.parameters(axis, correction)
        out, grad = gradients(lambda x: opgrad.var(x, **parameters), self.X)
        np.testing.assert_allclose(out, np.var(self.X, **parameters), rtol=1e-14)
        far = self.X - np.mean(self.X, axis=axis, keepdims=True)
        np.testing.assert_allclose(grad, 2 * far / (count - correction), rtol=1e-13)
        kept = opgrad.var(self.X, axis, correction=correction)
        assert kept.shape == np.var(self.X, axis=axis).shape

    def test_std_is_its_root(self, axis, correction, count):
        parameters = self.parameters(axis, correction)
        out, grad = gradients(lambda x: opgrad.std(x, **parameters), self.X)
        expected = np.std(self.X, **parameters)
        np.testing.assert_allclose(out, expected, rtol=1e-14)
        far = self.X - np.mean(self.X, axis=axis, keepdims=True)
        slope = np.divide(far, (count - correction) * expected, where=expected != 0,
                          out=np.zeros_like(far))  # fmt: skip
        np.testing.assert_allclose(grad, slope, rtol=1e-13)

    def test_std_of_equal_elements_is_flat(self, axis, correction, count):
        parameters = self.parameters(axis, correction)
        x = np.full((3, 4), 2.5)
        out, grad = gradients(lambda x: opgrad.std(x, **parameters), x)
        np.testing.assert_array_equal(out, np.zeros_like(out))
        np.testing.assert_array_equal(grad, np.zeros((3, 4)))


class TestVariance:
    def test_has_a_constant_second_derivative(self):
        x = leaf(normal(5))
        (first,) = opgrad.autograd.grad(opgrad.var(x, correction=1), x, create_graph=True)
        rows = [opgrad.autograd.grad(each, x, retain_graph=True)[0].numpy() for each in first]
        np.testing.assert_allclose(rows, (np.eye(5) - 1 / 5) / 2, rtol=1e-14, atol=1e-16)

    def test_of_complex_numbers_is_that_of_both_parts(self):
        z = complex_normal(5)
        out, grad = gradients(opgrad.var, z)
        real, grad_real = gradients(opgrad.var, z.real)
        imag, grad_imag = gradients(opgrad.var, z.imag)
        np.testing.assert_allclose(out, real + imag, rtol=1e-14)
        np.testing.assert_allclose(grad, grad_real + 1j * grad_imag, rtol=1e-13)

    def test_of_too_few_is_not_a_number_and_warns_as_numpy_does(self):
        with pytest.warns(RuntimeWarning, match="Degrees of freedom|invalid value"):
            out, grad = gradients(lambda x: opgrad.var(x, correction=1), [2.0])
        assert np.isnan([out, grad[0]]).all()


# ------------------------------------------------------------------------- shapes and dtypes

#: Operator, shape, parameters.
SHAPES = [
    ("reshape", (3, 4), {"shape": (2, 6)}),
    ("reshape", (3, 4), {"shape": (-1,)}),
    ("reshape", (3, 4), {"shape": -1}),
    ("reshape", (3, 4), {"shape": [2, -1, 1]}),
    ("reshape", (), {"shape": (1, 1)}),
    ("reshape", (1, 1), {"shape": ()}),
    ("reshape", (0, 3), {"shape": (3, 0, 2)}),
    ("transpose", (2, 3, 4), {}),
    ("transpose", (2, 3, 4), {"axes": (2, 0, 1)}),
    ("transpose", (2, 3, 4), {"axes": (-1, 0, -2)}),
    ("transpose", (2, 3, 4), {"axes": [1, 2, 0]}),
    ("transpose", (3,), {}),
    ("transpose", (), {}),
    ("transpose", (0, 3), {}),
    ("flip", (3, 4), {}),
    ("flip", (2, 3, 4), {"axis": (0, -1)}),
    ("flip", (3,), {"axis": 0}),
    ("flip", (), {}),
    ("swapaxes", (2, 3, 4), {"axis1": 0, "axis2": -1}),
    ("swapaxes", (2, 3, 4), {"axis1": 1, "axis2": 1}),
    ("moveaxis", (2, 3, 4), {"source": 0, "destination": -1}),
    ("moveaxis", (2, 3, 4), {"source": (0, 1), "destination": (-1, 0)}),
    ("ravel", (2, 3), {}),
    ("ravel", (), {}),
    ("ravel", (0, 3), {}),
    ("matrix_transpose", (3, 4), {}),
    ("matrix_transpose", (2, 0, 4), {}),
    ("matrix_transpose", (2, 3, 4, 5), {}),
    ("expand_dims", (3, 4), {"axis": 0}),
    ("expand_dims", (3, 4), {"axis": 1}),
    ("expand_dims", (3, 4), {"axis": -1}),
    ("expand_dims", (), {"axis": 0}),
    ("expand_dims", (0,), {"axis": 1}),
    ("expand_dims", (3,), {"axis": (0, -1)}),
    ("squeeze", (1, 3, 1), {}),
    ("squeeze", (1, 3, 1), {"axis": 0}),
    ("squeeze", (1, 3, 1), {"axis": -1}),
    ("squeeze", (1, 3, 1), {"axis": (0, -1)}),
    ("squeeze", (1, 3, 1), {"axis": ()}),
    ("squeeze", (1, 1), {}),
    ("squeeze", (), {}),
    ("squeeze", (0, 1), {}),
    ("broadcast_to", (3, 1), {"shape": (2, 3, 4)}),
    ("broadcast_to", (3, 1), {"shape": (3, 1)}),
    ("broadcast_to", (), {"shape": (2, 2)}),
    ("broadcast_to", (3,), {"shape": (0, 3)}),
    ("broadcast_to", (1,), {"shape": (0,)}),
    ("broadcast_to", (1,), {"shape": 4}),
]


class TestShape:
    @pytest.mark.parametrize(("name", "shape", "parameters"), SHAPES, ids=str)
    def test_is_linear(self, name, shape, parameters):
        assert_linear(
            lambda x: getattr(opgrad, name)(x, **parameters),
            lambda x: getattr(np, name)(x, **parameters),
            np.asarray(normal(*shape)),
        )

    @pytest.mark.parametrize(
        ("name", "parameters"),
        [
            ("reshape", {"shape": (5,)}),
            ("transpose", {"axes": (0, 0)}),
            ("transpose", {"axes": (0,)}),
            ("expand_dims", {"axis": 4}),
            ("squeeze", {"axis": 0}),
            ("broadcast_to", {"shape": (2, 4)}),
            ("expand", {"shape": (-1, 4)}),
            ("expand", {"shape": (-1, 2, 3)}),
            ("flip", {"axis": 2}),
            ("moveaxis", {"source": 0, "destination": 2}),
        ],
        ids=str,
    )
    def test_refuses_what_does_not_fit(self, name, parameters):
        with pytest.raises(ValueError, match=rf"{name}: .*got x: float64 \(2, 3\); expected"):
            getattr(opgrad, name)(np.ones((2, 3)), **parameters)

    @pytest.mark.parametrize(
        ("shape", "to", "means"),
        [((3, 1), (2, -1, 4), (2, 3, 4)), ((1, 3), (-1, -1), (1, 3)), ((), (2,), (2,))],
    )
    def test_expand_keeps_the_sizes_of_minus_one(self, shape, to, means):
        x = np.asarray(normal(*shape))
        assert_linear(lambda x: opgrad.expand(x, to), lambda x: np.broadcast_to(x, means), x)

    @pytest.mark.parametrize(
        ("options", "shape"),
        [
            ({}, (24,)),
            ({"start": 1}, (2, 12)),
            ({"end": -2}, (6, 4)),
            ({"start": 1, "end": 1}, (2, 3, 4)),
        ],
    )
    def test_flatten_makes_axes_one(self, options, shape):
        x = normal(2, 3, 4)
        assert_linear(lambda x: x.flatten(**options), lambda x: np.reshape(x, shape), x)
        assert opgrad.flatten(opgrad.tensor(1.0)).shape == (1,)

    def test_clone_copies(self):
        x = leaf(normal(3))
        copy = opgrad.clone(x)
        assert not np.shares_memory(copy.data, x.data)
        assert_linear(opgrad.clone, np.copy, normal(2, 3))


@pytest.mark.parametrize("shape", [(), (3,)])
def test_matrix_transpose_of_what_is_no_matrix_is_refused(shape):
    with pytest.raises(ValueError, match=r"matrix_transpose: .*expected at least two axes"):
        opgrad.matrix_transpose(np.zeros(shape))


class TestAstype:
    def test_casts_and_casts_the_gradient_back(self):
        x = leaf([0.1, 0.2], np.float32)
        made = opgrad.astype(x, np.float64)
        made.backward(opgrad.tensor([1 / 3, 1.0]))
        assert made.dtype == np.float64
        assert x.grad.dtype == np.float32
        np.testing.assert_array_equal(x.grad.numpy(), np.array([1 / 3, 1], np.float32))

    @pytest.mark.parametrize("dtype", ["float32", float, opgrad.complex64, np.dtype(">f8")])
    def test_takes_whatever_numpy_takes_for_a_dtype(self, dtype):
        assert leaf([1.0]).astype(dtype).dtype == np.dtype(dtype)

    def test_from_real_to_complex_gives_back_the_real_part(self):
        x = leaf([1.0, 2.0])
        opgrad.astype(x, np.complex128).backward(opgrad.tensor([1 + 2j, 3j]))
        np.testing.assert_array_equal(x.grad.numpy(), [1, 0])

    def test_to_integers_has_no_gradient(self):
        made = opgrad.astype(leaf([1.5, -1.5]), np.int64)
        assert not made.requires_grad
        np.testing.assert_array_equal(made.numpy(), [1, -1])


# --------------------------------------------------------------------------------- indexing

KEYS = {
    "an integer": 2,
    "a negative integer": -1,
    "a NumPy integer": np.int64(1),
    "a 0-d array": np.array(1),
    "all integers": (1, 2, -1),
    "a slice": slice(1, 3),
    "a slice with a step": slice(None, None, 2),
    "a slice backwards": slice(None, None, -1),
    "a slice backwards with a step": (slice(None), slice(None, None, -2)),
    "an empty slice": slice(2, 2),
    "a slice beyond the end": slice(2, 100),
    "an ellipsis": ...,
    "an ellipsis and an integer": (..., 0),
    "a new axis": None,
    "new axes among others": (None, 1, None, slice(0, 2), ...),
    "nothing": (),
    "a list": [0, 2],
    "a list with repeats": [1, 1, 3, 1],
    "an empty list": [],
    "a list of booleans": [True, False, True, False],
    "an array with repeats": np.array([0, 0, 2]),
    "an array of negative integers": np.array([-1, 3, 0]),
    "an array of small integers": np.array([1, 0], np.uint8),
    "a 2-d array": np.array([[0, 1], [1, 3]]),
    "two arrays": (np.array([0, 0, 2]), np.array([4, 4, 1])),
    "two arrays that broadcast": (np.array([[0], [3]]), np.array([4, 4, 1])),
    "arrays apart": (np.array([0, 0]), slice(None), np.array([1, 1])),
    "a slice, then an array": (slice(1, None), [2, 2, 0]),
    "an array and a new axis": (None, [1, 1], ...),
    "an array and an integer": (2, slice(None), [0, 0, 1]),
    "a mask of all": np.arange(60).reshape(4, 5, 3) % 3 == 0,
    "a mask of one axis": np.array([True, False, True, True]),
    "a mask of two axes": np.arange(20).reshape(4, 5) % 7 == 0,
    "a mask after a slice": (slice(None), np.array([True, False, True, True, False])),
    "a mask and an array": (np.array([False, True, False, False]), [0, 0, 2]),
    "a mask of nothing": np.zeros(4, bool),
    "True": True,
    "False": False,
}


class TestGetitem:
    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
    def test_takes_every_index_that_numpy_takes(self, key):
        assert_linear(lambda x: x[key], operator.itemgetter(key), normal(4, 5, 3))

    @settings(max_examples=100, deadline=None)
    @given(data=st.data(), shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    def test_takes_any_basic_index(self, data, shape):
        key = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
        assert_linear(lambda x: x[key], operator.itemgetter(key), np.asarray(normal(*shape)))

    @settings(max_examples=50, deadline=None)
    @given(data=st.data(), shape=hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    def test_takes_any_index_of_integer_arrays(self, data, shape):
        key = data.draw(hnp.integer_array_indices(shape))
        assert_linear(lambda x: x[key], operator.itemgetter(key), normal(*shape))

    def test_takes_tensors_as_index(self):
        x = normal(4, 5)
        for key in ([0, 0, 2], [[1], [3]], 2):
            assert_linear(lambda x: x[opgrad.tensor(key)], operator.itemgetter(np.array(key)), x)
        mask = x > 0
        assert_linear(lambda x: x[opgrad.tensor(mask)], operator.itemgetter(mask), x)
        both = (opgrad.tensor([0, 0]), opgrad.tensor([1, 1]))
        assert_linear(lambda x: x[both], operator.itemgetter(([0, 0], [1, 1])), x)
        bounds = slice(opgrad.tensor(1), opgrad.tensor(3))
        assert_linear(lambda x: x[bounds], operator.itemgetter(slice(1, 3)), x)

    def test_a_0d_tensor_takes_what_a_0d_array_takes(self):
        for key in ((), ..., None, True, False, (None, ...)):
            assert_linear(lambda x: x[key], lambda x: np.asarray(x)[key], np.asarray(2.5))

    def test_comparisons_select(self):
        x = leaf([1.0, -2.0, 3.0])
        x[x > 0].sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), [1, 0, 1])

    @pytest.mark.parametrize("key", [5, 1.0, "a", (0, 0, 0), [7], np.ones(3, bool)], ids=repr)
    def test_refuses_what_numpy_refuses(self, key):
        with pytest.raises(IndexError, match=r"getitem: .*got x: float64 \(4, 5\); expected an"):
            opgrad.ones(4, 5)[key]

    def test_iteration_and_unpacking_keep_the_gradient(self):
        x = leaf([1.0, 2.0, 3.0])
        a, b, c = x
        (a * b * c).backward()
        np.testing.assert_array_equal(x.grad.numpy(), [6, 3, 2])


class TestScatterAdd:
    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
    def test_adds_up_what_getitem_takes_apart(self, key):
        shape = (4, 5, 3)
        picked = np.empty(shape)[key]
        x = np.asarray(normal(*np.shape(picked)))
        out = opgrad.ops.scatter_add(x, key, shape).numpy()
        np.testing.assert_allclose(
            out, transposed(operator.itemgetter(key), np.empty(shape), x), rtol=1e-14
        )
        seed = normal(*shape, seed=1)
        grad = gradient(lambda x: opgrad.ops.scatter_add(x, key, shape), x, seed)
        np.testing.assert_array_equal(grad, seed[key])

    def test_sums_the_gradient_of_what_it_broadcast(self):
        seed = normal(4, 5)
        for key in (slice(0, 3), [0, 0, 2]):
            grad = gradient(lambda x: opgrad.ops.scatter_add(x, key, (4, 5)), 2.0, seed)
            np.testing.assert_allclose(grad, seed[key].sum(), rtol=1e-14)


# --------------------------------------------------------------- several arrays, and several parts


class TestStackAndConcat:
    @pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
    def test_stack_is_linear(self, axis):
        assert_linear(
            lambda x: opgrad.stack([x, 2 * x, x * x * 0], axis),
            lambda x: np.stack([x, 2 * x, 0 * x], axis),
            normal(2, 3),
        )

    @pytest.mark.parametrize("axis", [0, 1, -1, None])
    def test_concat_is_linear(self, axis):
        assert_linear(
            lambda x: opgrad.concat([x, 2 * x, x * x * 0], axis),
            lambda x: np.concat([x, 2 * x, 0 * x], axis),
            normal(2, 3),
        )

    def test_each_array_gets_its_part_of_the_gradient(self):
        a, b, seed = normal(2, 3), normal(2, 1, seed=1), normal(2, 4, seed=2)
        out, grad_a, grad_b = gradients(lambda *x: opgrad.concat(x, axis=1), a, b, seed=seed)
        np.testing.assert_array_equal(out, np.concat([a, b], axis=1))
        np.testing.assert_array_equal(grad_a, seed[:, :3])
        np.testing.assert_array_equal(grad_b, seed[:, 3:])
        seed = normal(3, 2, 3)
        _, grad_a, grad_c = gradients(lambda a, c: opgrad.stack([a, c, a]), a, 2 * a, seed=seed)
        np.testing.assert_array_equal(grad_a, seed[0] + seed[2])
        np.testing.assert_array_equal(grad_c, seed[1])

    def test_there_is_an_edge_for_each_array(self):
        a, b = leaf(normal(3)), leaf(normal(3))
        made = opgrad.stack([a, np.ones(3), b, a])
        ends = [each and each.variable for each, _ in made.grad_fn.next_functions]
        assert [end is given for end, given in zip(ends, (a, None, b, a), strict=True)] == [
            True
        ] * 4
        assert made.grad_fn.name() == "StackBackward0"
        assert opgrad.concat([a, b]).grad_fn.name() == "CatBackward0"

    def test_as_many_arrays_as_there_are(self):
        many = [leaf([float(i)]) for i in range(300)]
        (opgrad.concat(many) * np.arange(300.0)).sum().backward()
        assert [each.grad.item() for each in many] == [*range(300)]

    def test_dtypes_promote_and_gradients_come_back_in_their_own(self):
        a, z = leaf(normal(3), np.float32), leaf(complex_normal(3))
        made = opgrad.stack([a, z, np.ones(3, int)])
        made.backward(opgrad.tensor(np.full((3, 3), 1 + 1j)))
        assert (made.dtype, a.grad.dtype, z.grad.dtype) == (
            np.complex128,
            np.float32,
            np.complex128,
        )
        assert a.grad.tolist() == [1.0, 1.0, 1.0]

    def test_they_have_the_names_of_numpy_and_pytorch(self):
        a, b = leaf(normal(2)), leaf(normal(2))
        for call in (opgrad.concatenate, opgrad.cat, np.concatenate, np.concat):
            assert call([a, b]).grad_fn.name() == "CatBackward0"
        assert np.stack((a, b), axis=1).shape == (2, 2)

    @pytest.mark.parametrize(
        ("arrays", "said"),
        [
            ([], r"argument 'arrays' is empty; expected a list or tuple"),
            (np.ones((2, 2)), r"argument 'arrays' is a ndarray; expected a list or tuple"),
            ([np.ones(2), "ab"], r"argument 'arrays\[1\]' is str; expected a tensor"),
            ([np.ones(2), None], r"argument 'arrays\[1\]' is NoneType; expected a tensor"),
        ],
    )
    def test_they_take_a_list_of_arrays_and_nothing_else(self, arrays, said):
        for name in ("stack", "concat"):
            with pytest.raises(TypeError, match=f"{name}: {said}"):
                getattr(opgrad, name)(arrays)

    def test_arrays_that_do_not_fit_are_named(self):
        arrays = [np.ones((2, 3)), np.ones(2)]
        got = r"got arrays\[0\]: float64 \(2, 3\), arrays\[1\]: float64 \(2,\); expected arrays"
        for name in ("stack", "concat"):
            with pytest.raises(ValueError, match=f"{name}: .*{got}"):
                getattr(opgrad, name)(arrays)


def starts(sizes):
    return np.cumsum(sizes)[:-1]


#: Call, what NumPy says to it, and the name of the node.
PARTS = {
    "split by one size": (
        lambda x: opgrad.split(x, 2), lambda x: np.split(x, [2, 4]), "SplitBackward0"
    ),
    "split by a size along an axis": (
        lambda x: x.split(1, axis=-1), lambda x: np.split(x, 3, axis=1), "SplitBackward0"
    ),
    "split by more than there is": (lambda x: x.split(9), lambda x: [x], "SplitBackward0"),
    "split by sizes": (
        lambda x: opgrad.split(x, [1, 0, 4]),
        lambda x: np.split(x, starts([1, 0, 4])),
        "SplitWithSizesBackward0",
    ),
    "split by sizes along an axis": (
        lambda x: x.split((2, 1), 1),
        lambda x: np.split(x, [2], axis=1),
        "SplitWithSizesBackward0",
    ),
    "chunk": (lambda x: x.chunk(3), lambda x: np.split(x, [2, 4]), "SplitBackward0"),
    "chunk into fewer": (lambda x: opgrad.chunk(x, 4), lambda x: np.split(x, [2, 4]),
                         "SplitBackward0"),
    "chunk along an axis": (
        lambda x: x.chunk(2, axis=1), lambda x: np.split(x, [2], axis=1), "SplitBackward0"
    ),
    "unstack": (opgrad.unstack, np.unstack, "UnbindBackward0"),
    "unbind along an axis": (
        lambda x: x.unbind(-1), lambda x: np.unstack(x, axis=1), "UnbindBackward0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
class TestParts:
    X = normal(5, 3)

    def test_are_numpys_each_linear(self, name):
        ours, theirs, _ = PARTS[name]
        assert len(ours(leaf(self.X))) == len(theirs(self.X))
        for i in range(len(theirs(self.X))):
            assert_linear(lambda x: ours(x)[i], lambda x: theirs(x)[i], self.X)

    def test_are_outputs_of_one_node(self, name):
        ours, _, node = PARTS[name]
        parts = ours(leaf(self.X))
        assert {each.grad_fn for each in parts} == {parts[0].grad_fn}
        assert parts[0].grad_fn.name() == node
        assert [(-each).grad_fn.next_functions for each in parts] == [
            ((parts[0].grad_fn, i),) for i in range(len(parts))
        ]

    def test_all_together_give_the_whole_gradient(self, name):
        ours, theirs, _ = PARTS[name]
        x = leaf(self.X)
        opgrad.autograd.backward([(i + 1) * each.sum() for i, each in enumerate(ours(x))])
        expected = np.zeros((5, 3))
        for i, each in enumerate(theirs(expected)):
            each += i + 1
        np.testing.assert_array_equal(x.grad.numpy(), expected)

    def test_share_the_memory(self, name):
        x = leaf(self.X)
        assert all(np.shares_memory(each.data, x.data) for each in PARTS[name][0](x) if each.size)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: x.split(0), r"split\w*: the size is 0 "),
        (lambda x: x.split([1, 3]), r"split: the sizes are \[1, 3\], and the axis is 5 long "),
        (lambda x: x.split([6, -1]), r"split: the sizes are \[6, -1\], and the axis is 5 long "),
        (lambda x: x.split([]), r"split: the sizes are \[\], and the axis is 5 long "),
        (lambda x: x.chunk(0), r"chunk: chunks is 0 "),
        (lambda x: x.flatten(1, 0), r"flatten: the axes are from 1 to 0 "),
    ],
)
def test_parts_that_do_not_fit_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call(opgrad.ones((5, 3)))


# ------------------------------------------------------------------------------- assignment


def assigned(x, value, key):
    """Assign one element after another, in the order in which a key picks them."""
    out = x.copy()
    places = np.asarray(np.arange(x.size).reshape(x.shape)[key])
    for place, each in zip(places.flat, np.broadcast_to(value, places.shape).flat, strict=True):
        out.flat[place] = each
    return out


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
class TestSetitem:
    X = normal(4, 5, 3)

    def value(self, key):
        return np.asarray(normal(*self.X[key].shape, seed=3))

    def test_writes_what_numpy_writes(self, key):
        expected = self.X.copy()
        expected[key] = self.value(key)
        np.testing.assert_array_equal(opgrad.setitem(self.X, self.value(key), key), expected)
        expected[key] = 2.5
        np.testing.assert_array_equal(opgrad.setitem(self.X, 2.5, key), expected)

    def test_is_linear_in_what_was_there(self, key):
        nothing = np.zeros_like(self.value(key))
        assert_linear(
            lambda x: opgrad.setitem(x, nothing, key), lambda x: assigned(x, nothing, key), self.X
        )

    def test_is_linear_in_what_is_written(self, key):
        nothing = np.zeros_like(self.X)
        value = self.value(key)
        many = np.asarray(normal(*(1,) * value.ndim))
        for each in (value, many, np.asarray(1.5)):
            assert_linear(
                lambda value: opgrad.setitem(nothing, value, key),
                lambda value: assigned(nothing, value, key),
                each,
            )

    def test_a_value_may_have_axes_of_size_one_before_the_others(self, key):
        value = self.value(key)
        seed = normal(4, 5, 3, seed=5)
        function = lambda v: opgrad.setitem(self.X, v, key)  # noqa: E731
        if not value.ndim:  # NumPy takes nothing with axes for one element
            with pytest.raises(ValueError, match="setitem: setting an array element"):
                function(value[None])
            return
        out, grad = gradients(function, value, seed=seed)
        more, more_grad = gradients(function, value[None, None], seed=seed)
        np.testing.assert_array_equal(out, more)
        np.testing.assert_array_equal(grad[None, None], more_grad)


class TestSetitemInAnyCase:
    @pytest.mark.parametrize(
        "layout",
        [np.ascontiguousarray, np.asfortranarray, lambda x: x[::-1, ::-1].copy()[::-1, ::-1]],
        ids=["C", "Fortran", "backwards"],
    )
    def test_the_last_value_for_a_place_stays_and_has_the_gradient(self, layout):
        key = layout(np.random.default_rng(0).integers(0, 3, size=(4, 5)))
        value = layout(normal(4, 5))
        last = {place: at for at, place in enumerate(key.flatten())}
        out, grad = gradients(lambda v: opgrad.setitem(np.zeros(3), v, key), value)
        np.testing.assert_array_equal(out, [value.flatten()[last[i]] for i in range(3)])
        assert np.flatnonzero(grad.flatten()).tolist() == sorted(last.values())

    def test_casts_to_the_dtype_that_was_there(self):
        x, value = leaf(normal(3), np.float32), leaf(normal(2))
        made = opgrad.setitem(x, value, slice(2))
        made.sum().backward()
        assert (made.dtype, value.grad.dtype) == (np.float32, np.float64)
        assert value.grad.tolist() == [1.0, 1.0]
        assert opgrad.setitem(np.arange(3), 2.75, 0).tolist() == [2, 1, 2]
        z = leaf(normal(2))
        made = opgrad.setitem(np.zeros(2, complex), z, ...)
        made.backward(opgrad.tensor([1 + 1j, 2j]))
        assert z.grad.tolist() == [1.0, 0.0]

    def test_takes_0d_tensors_and_numbers(self):
        x, value = leaf(1.0), leaf(2.0)
        for key in ((), ..., True):
            made = opgrad.setitem(x, value, key)
            grads = opgrad.autograd.grad(made, [x, value])
            assert [made.item(), *(each.item() for each in grads)] == [2.0, 0.0, 1.0]

    @pytest.mark.parametrize("key", [slice(2), [0, 1], np.array([True, True, False])], ids=str)
    def test_refuses_what_numpy_refuses(self, key):
        for value in (np.ones(3), np.ones((2, 2))):
            with pytest.raises(ValueError, match=r"setitem: .*got x: float64 \(3,\), value: "):
                opgrad.setitem(np.zeros(3), value, key)
        with pytest.raises(IndexError, match=r"setitem: .*expected an index that NumPy takes"):
            opgrad.setitem(np.zeros(3), 1.0, 3)


class TestFillAndAssign:
    def test_zero_is_zero_and_its_gradient_as_well(self):
        out, grad = gradients(opgrad.zero, normal(2, 3).astype(np.float32))
        np.testing.assert_array_equal((out, grad), np.zeros((2, 2, 3)))
        assert out.dtype == grad.dtype == np.float32

    def test_fill_gives_everything_to_the_value(self):
        x, seed = normal(2, 3), normal(2, 3, seed=1)
        out, grad_x, grad_value = gradients(opgrad.fill, x, 2.5, seed=seed)
        np.testing.assert_array_equal((out, grad_x), (np.full((2, 3), 2.5), np.zeros((2, 3))))
        np.testing.assert_allclose(grad_value, seed.sum(), rtol=1e-15)
        out, grad_x = gradients(lambda x: opgrad.fill(x, 2.5), x)
        np.testing.assert_array_equal((out, grad_x), (np.full((2, 3), 2.5), np.zeros((2, 3))))

    def test_fill_takes_one_value(self):
        with pytest.raises(ValueError, match=r"fill: the value has shape \(1,\) .*without axes"):
            opgrad.fill(np.ones(3), np.ones(1))

    @pytest.mark.parametrize("shape", [(2, 3), (3,), (2, 1), ()])
    def test_assign_is_linear_in_the_source(self, shape):
        x = normal(2, 3)
        assert_linear(
            lambda source: opgrad.assign(x, source),
            lambda source: np.broadcast_to(source, (2, 3)),
            np.asarray(normal(*shape)),
        )
        np.testing.assert_array_equal(
            gradient(lambda x: opgrad.assign(x, np.ones(shape)), x), np.zeros((2, 3))
        )

    def test_assign_casts_and_casts_the_gradient_back(self):
        x, source = leaf(normal(3), np.float32), leaf(normal(3))
        made = opgrad.assign(x, source)
        made.backward(opgrad.ones_like(made))
        assert (made.dtype, x.grad.dtype, source.grad.dtype) == (np.float32, np.float32, np.float64)
        assert opgrad.assign(np.zeros(2, int), np.array([1.5, 2.5])).tolist() == [1, 2]

    def test_assign_refuses_a_source_that_is_larger(self):
        for shape in ((2, 4), (1, 2, 3), (2,)):
            with pytest.raises(ValueError, match=r"assign: .*expected a source that broadcasts"):
                opgrad.assign(np.ones((2, 3)), np.ones(shape))

    @pytest.mark.parametrize(
        "call",
        [
            lambda x, z: opgrad.fill(x, z[0]),
            lambda x, z: opgrad.fill(x, 1j),
            opgrad.assign,
            lambda x, z: opgrad.setitem(x, z, ...),
            lambda x, z: opgrad.setitem(x, 1j, [0]),
        ],
    )
    def test_no_imaginary_part_is_lost(self, call):
        with pytest.raises(TypeError, match="a complex value does not fit into float64"):
            call(leaf([1.0]), leaf([1j]))

    def test_nodes_have_the_names_of_pytorch(self):
        x, y = leaf(normal(3)), leaf(1.0)
        made = [opgrad.fill(x, 2), opgrad.fill(x, y), opgrad.zero(x), opgrad.assign(x, y),
                opgrad.setitem(x, y, [0])]  # fmt: skip
        assert [each.grad_fn.name() for each in made] == [
            "FillBackward2", "FillBackward3", "ZeroBackward0", "CopyBackwards", "IndexPutBackward0"
        ]  # fmt: skip
        assert [len(each.grad_fn.next_functions) for each in made] == [1, 2, 1, 2, 2]


# -------------------------------------------------------------------------------- the loss

LOGITS = [-1e4, -800.0, -40.0, -20.0, -3.0, -1e-9, 0.0, 0.5, 10.0, 40.0, 800.0, 1e4]
TARGETS = [0.0, 1.0, 0.25, 0.875]
POINTS = [*itertools.product(LOGITS, TARGETS)]


def softplus(z):
    return mp.log1p(mp.exp(z)) if z < 300 else z + mp.exp(-z)


def logistic(z):
    return mp.exp(-softplus(-z))


class TestBinaryCrossEntropyWithLogits:
    """Compared element by element with mpmath: ``(1 - t) softplus(x) + p t softplus(-x)``."""

    logits, target = map(np.array, zip(*POINTS, strict=True))
    pos_weight = np.resize([0.5, 1.0, 3.0], logits.shape)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_is_exact_however_large_the_logits(self, dtype):
        x, t, p = (each.astype(dtype) for each in (self.logits, self.target, self.pos_weight))
        plain = exact(lambda x, t: (1 - t) * softplus(x) + t * softplus(-x), x, t)
        assert_close(bce(x, t, reduction="none").numpy(), plain, dtype)
        loss = exact(lambda x, t, p: (1 - t) * softplus(x) + p * t * softplus(-x), x, t, p)
        assert_close(bce(x, t, None, p, reduction="none").numpy(), loss, dtype)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_has_all_four_gradients_exact(self, dtype):
        x, t, p = (each.astype(dtype) for each in (self.logits, self.target, self.pos_weight))
        w, seed = np.full_like(x, 0.75), np.linspace(0.5, 2, x.size, dtype=dtype)
        actual = gradients(lambda *inputs: bce(*inputs, reduction="none"), x, t, w, p, seed=seed)
        formulas = (
            lambda x, t, w, p, s: w * ((1 - t) * softplus(x) + p * t * softplus(-x)),
            lambda x, t, w, p, s: s * w * ((1 - t) * logistic(x) - p * t * logistic(-x)),
            lambda x, t, w, p, s: s * w * (p * softplus(-x) - softplus(x)),
            lambda x, t, w, p, s: s * ((1 - t) * softplus(x) + p * t * softplus(-x)),
            lambda x, t, w, p, s: s * w * t * softplus(-x),
        )
        # The second and third are differences: as good as their parts are.
        scales = (0, seed * w * t * p * 1.0, seed * w * np.abs(x) * p, 0, 0)
        for got, formula, scale in zip(actual, formulas, scales, strict=True):
            expected = exact(formula, x, t, w, p, seed)
            certain = np.where(np.isin(t, (0, 1)), 0, scale) if scale is scales[1] else scale
            eps = 20 * EPS[dtype]
            bound = eps * np.abs(expected) + eps * certain + np.finfo(dtype).tiny
            assert got.dtype == dtype
            assert (np.abs(got - expected) <= bound).all()

    def test_agrees_with_scipy(self):
        x, t = 3 * normal(20), scipy.special.expit(normal(20, seed=1))
        p = scipy.special.expit(x)
        expected = -scipy.special.xlogy(t, p) - scipy.special.xlog1py(1 - t, -p)
        np.testing.assert_allclose(bce(x, t, reduction="none").numpy(), expected, rtol=1e-13)
        _, grad = gradients(lambda x: bce(x, t, reduction="sum"), x)
        np.testing.assert_allclose(grad, p - t, rtol=1e-13, atol=1e-15)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_reduces_by_mean_or_sum_or_not_at_all(self, weighted):
        x, t, w = normal(3, 4), np.abs(np.sin(normal(3, 4, seed=1))), normal(4, seed=2) ** 2
        inputs = (x, t, w) if weighted else (x, t)
        each, *by_each = gradients(lambda *a: bce(*a, reduction="none"), *inputs)
        for reduction, size in (("mean", 12), ("sum", 1)):
            out, *grads = gradients(lambda *a: bce(*a, reduction=reduction), *inputs)
            assert out.shape == ()
            np.testing.assert_allclose(out, each.sum() / size, rtol=1e-14)
            for got, want in zip(grads, by_each, strict=True):
                np.testing.assert_allclose(got, want / size, rtol=1e-13, atol=1e-16)
        np.testing.assert_array_equal(bce(*inputs).numpy(), bce(*inputs, reduction="mean").numpy())

    def test_broadcasts_weights_to_the_logits(self):
        x, t = normal(3, 4), np.abs(np.sin(normal(3, 4, seed=1)))
        for shape in ((), (4,), (3, 1), (1, 4)):
            w, p = (1 + np.abs(np.asarray(normal(*shape, seed=i))) for i in (2, 3))
            full = [np.broadcast_to(each, x.shape) for each in (w, p)]
            _, _, _, grad_w, grad_p = gradients(bce, x, t, w, p)
            _, _, _, full_w, full_p = gradients(bce, x, t, *full)
            np.testing.assert_allclose(grad_w, summed(full_w, shape), rtol=1e-13)
            np.testing.assert_allclose(grad_p, summed(full_p, shape), rtol=1e-13)

    def test_bends_as_the_logistic_function_does(self):
        x = np.array([-800.0, -2.0, 0.0, 1.0, 800.0])
        expected = 0.25 / np.cosh(np.clip(x / 2, -300, 300)) ** 2
        for t in (0.0, 0.5, 1.0):
            bend = second(lambda x: bce(x, opgrad.full((5,), t), reduction="none"), x)
            np.testing.assert_allclose(bend, expected, rtol=1e-13, atol=1e-100)

    def test_takes_labels_that_are_integers_or_booleans(self):
        x, labels = normal(4), np.array([0, 1, 1, 0])
        expected = gradients(lambda x: bce(x, labels.astype(float)), x)
        for t in (labels, labels.astype(bool), labels.astype(np.uint8)):
            for got, want in zip(gradients(lambda x: bce(x, t), x), expected, strict=True):
                np.testing.assert_array_equal(got, want)

    def test_refuses_a_reduction_that_is_none(self):
        with pytest.raises(ValueError, match="reduction is 'avg', which is none of 'mean', 'sum'"):
            bce(np.ones(2), np.ones(2), reduction="avg")

    @pytest.mark.parametrize("shapes", [((3,), (2, 3)), ((3,), (4,)), ((3,), (3,), (2, 3))])
    def test_refuses_inputs_beyond_the_shape_of_logits(self, shapes):
        with pytest.raises(ValueError, match=r"^binary_cross_entropy.*expected target"):
            bce(*map(np.ones, shapes))


# -------------------------------------------------------------------- dtypes and their promotion

FLOATS = [np.float32, np.float64, np.complex64, np.complex128]


class TestDtypes:
    @pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow", "matmul", "where"])
    @pytest.mark.parametrize(("a", "b"), [*itertools.product(FLOATS, FLOATS)])
    def test_two_operands_promote_as_in_numpy_and_gradients_come_back_in_their_own(
        self, name, a, b
    ):
        def function(a, b):
            call = getattr(opgrad, name)
            return call(np.array([True, False]), a, b) if name == "where" else call(a, b)

        out, grad_a, grad_b = gradients(function, np.ones(2, a), np.ones(2, b))
        assert (out.dtype, grad_a.dtype, grad_b.dtype) == (np.result_type(a, b), a, b)

    @pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow"])
    @pytest.mark.parametrize("dtype", [np.float16, *FLOATS])
    @pytest.mark.parametrize("number", [2, 2.0, True, np.float64(2), np.int64(2), np.float32(2)])
    def test_a_number_does_not_decide_the_dtype(self, name, dtype, number):
        function = getattr(opgrad, name)
        for shape in ((), (3,)):
            for call in (lambda x: function(x, number), lambda x: function(number, x)):
                out, grad = gradients(call, np.ones(shape, dtype))
                assert (out.dtype, grad.dtype) == (dtype, dtype)

    @pytest.mark.parametrize("name", ["logaddexp", "maximum"])
    def test_nor_for_functions_of_two_elements(self, name):
        function = getattr(opgrad, name)
        out, grad = gradients(lambda x: function(x, 0.5), np.ones(2, np.float32))
        assert (out.dtype, grad.dtype) == (np.float32, np.float32)

    def test_a_complex_number_makes_real_tensors_complex(self):
        for dtype, made in ((np.float32, np.complex64), (np.float64, np.complex128)):
            out, grad = gradients(lambda x: x * 2j, np.ones(2, dtype))
            assert (out.dtype, grad.dtype) == (made, dtype)

    @pytest.mark.parametrize("name", [*ELEMENTWISE, "sum", "mean", "max"])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
    def test_functions_keep_the_dtype(self, name, dtype):
        for shape in ((), (3,)):
            out, grad = gradients(getattr(opgrad, name), np.full(shape, 0.5, dtype))
            assert out.dtype == grad.dtype == dtype

    @pytest.mark.parametrize(
        "name", ["exp", "log", "sqrt", "sin", "cos", "tanh", "sigmoid", "mean", "div"]
    )
    def test_integers_become_floats(self, name):
        x = opgrad.tensor([1, 4])
        made = x / 2 if name == "div" else getattr(opgrad, name)(x)
        assert made.dtype == np.float64
        assert not made.requires_grad

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint64, np.int64])
    def test_sigmoid_of_any_integers_is_that_of_their_values(self, dtype):
        x = np.array([0, 1, 5, 100]).astype(dtype)
        made = opgrad.sigmoid(x).numpy()
        np.testing.assert_allclose(
            made, scipy.special.expit(x.astype(float)), rtol=4 * np.finfo(made.dtype).eps
        )

    @pytest.mark.parametrize("name", ["add", "sub", "mul", "pow", "maximum", "matmul"])
    def test_integers_stay_integers(self, name):
        a, b = np.array([3, 4]), np.array([1, 2])
        made = getattr(opgrad, name)(opgrad.tensor(a), opgrad.tensor(b))
        assert made.dtype == np.int64
        expected = {"sub": "subtract", "pow": "power", "mul": "multiply"}.get(name, name)
        np.testing.assert_array_equal(made.numpy(), getattr(np, expected)(a, b))

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.int64])
    def test_shapes_and_indices_and_powers_keep_any_dtype(self, dtype):
        x = opgrad.ones(2, 3, dtype=dtype)
        made = [x.reshape(6), x.T, x.mT, x[0], x[0, 0], x[[0, 0]], x[None].squeeze(), x.clone()]
        made += [opgrad.broadcast_to(x, (2, 2, 3)), opgrad.expand_dims(x, 0), opgrad.max(x)]
        made += [opgrad.ops.scatter_add(x, [1, 0], (2, 3)), opgrad.where(True, x, x)]
        assert {each.dtype for each in made} == {np.dtype(dtype)}
        if dtype is not bool:
            assert (x**2).dtype == (x + 1).dtype == (2 * x).dtype == (-x).dtype == dtype

    def test_an_integer_to_a_negative_power_is_refused(self):
        with pytest.raises(ValueError, match=r"pow.*expected a floating base, or a non-negative"):
            opgrad.tensor([1, 2]) ** -1

    def test_a_gradient_reaches_a_float_through_integers_beside_it(self):
        x, n = np.array([0.5, 2.0], np.float32), np.array([2, 3])
        for name in ("add", "sub", "mul", "div", "pow", "maximum", "matmul"):
            _, grad = gradients(lambda x: getattr(opgrad, name)(x, n), x)
            assert grad.dtype == np.float32
            _, wide = gradients(lambda x: getattr(opgrad, name)(x, n), x.astype(float))
            np.testing.assert_allclose(grad, wide, rtol=1e-6)

    def test_booleans_count_as_zero_and_one(self):
        mask = np.array([True, False])
        np.testing.assert_array_equal(gradient(lambda x: x * mask, [3.0, 4.0]), [1, 0])
        np.testing.assert_array_equal(opgrad.add(mask, 1).numpy(), [2, 1])
        np.testing.assert_array_equal(opgrad.matmul(mask, np.array([1.0, 2.0])).numpy(), 1.0)

    def test_a_narrow_tensor_gets_a_narrow_gradient_from_a_wide_graph(self):
        narrow, wide = leaf([1.0], np.float32), leaf([1 / 3])
        (narrow * wide).backward()
        assert narrow.grad.dtype == np.float32
        assert narrow.grad.item() == np.float32(1 / 3)


# ---------------------------------------------------- what holds for every operator there is

NAMES = [name for name in dir(opgrad.ops) if not name.startswith("_")]


def cases(name):
    """Return the operator and what its author verifies it on."""
    found = getattr(opgrad.ops, name)
    return found, list(found.contract.hooks["self_check"](np.random.default_rng(0)))


def arrays(case):
    return [each if np.isscalar(each) or each is None else np.array(each) for each in case.inputs]


def layouts(x):
    """Give the same array laid out in other ways."""
    frozen = x.copy()
    frozen.flags.writeable = False
    yield frozen
    if x.ndim == 0:
        return
    yield x.astype(x.dtype.newbyteorder())
    yield np.asfortranarray(x)
    backwards = (slice(None, None, -1),) * x.ndim
    yield x[backwards].copy()[backwards]
    spaced = np.full([2 * size + 1 for size in x.shape], 99, x.dtype)
    inside = (slice(1, None, 2),) * x.ndim
    spaced[inside] = x
    yield spaced[inside]


def apply(found, inputs, parameters):
    """Apply an operator to its inputs, those of a variadic one one by one; return all outputs."""
    result = found.spread(len(inputs))(*inputs, **parameters)
    return result if isinstance(result, tuple) else (result,)


def with_gradient(found, inputs):
    """Return which inputs are arrays that the operator has a gradient for."""
    sources = found.spread(len(inputs)).contract.sources
    return [
        i
        for i, x in enumerate(inputs)
        if isinstance(x, np.ndarray) and x.dtype.kind in "fc" and sources[i]
    ]


def through(found, inputs, parameters):
    """Run an operator forwards and backwards, on tensors that share memory with the inputs."""
    tensors = [opgrad.asarray(x) if isinstance(x, np.ndarray) else x for x in inputs]
    leaves = [tensors[i].requires_grad_() for i in with_gradient(found, inputs)]
    outputs = apply(found, tensors, parameters)
    if not any(out.requires_grad for out in outputs):
        return outputs, []
    seeds = [np.asarray(normal(*out.shape)).astype(out.dtype) for out in outputs]
    for seed in seeds:
        seed.flags.writeable = False
    return outputs, opgrad.autograd.grad(outputs, leaves, [*map(opgrad.asarray, seeds)])


@pytest.mark.parametrize("name", NAMES)
class TestEveryOperator:
    def test_gives_the_same_for_any_layout(self, name):
        found, given_cases = cases(name)
        for case in given_cases:
            inputs = arrays(case)
            expected = itertools.chain(*through(found, inputs, case.parameters))
            expected = [each.detach().numpy() for each in expected]
            for i, x in enumerate(inputs):
                if not isinstance(x, np.ndarray):
                    continue
                for other in layouts(x):
                    changed = [*inputs[:i], other, *inputs[i + 1 :]]
                    actual = itertools.chain(*through(found, changed, case.parameters))
                    for got, want in zip(actual, expected, strict=True):
                        np.testing.assert_allclose(
                            got.detach().numpy(), want, rtol=1e-13, atol=1e-15
                        )

    def test_writes_to_nothing_that_it_was_given(self, name):
        found, given_cases = cases(name)
        for case in given_cases:
            inputs = arrays(case)
            before = [np.copy(x) for x in inputs if x is not None]
            through(found, inputs, case.parameters)
            after = [x for x in inputs if x is not None]
            assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))

    def test_shares_memory_only_if_it_is_declared_a_view(self, name):
        found, given_cases = cases(name)
        if found.view:
            return
        for case in given_cases:
            inputs = arrays(case)
            outputs, _ = through(found, inputs, case.parameters)
            assert not any(
                np.shares_memory(out.detach().data, x)
                for out in outputs
                for x in inputs
                if isinstance(x, np.ndarray)
            )

    def test_gives_every_leaf_a_gradient_of_its_own(self, name):
        found, given_cases = cases(name)
        for case in given_cases:
            inputs = arrays(case)
            chosen = with_gradient(found, inputs)
            given = [leaf(x) if i in chosen else x for i, x in enumerate(inputs)]
            outputs = apply(found, given, case.parameters)
            if not any(out.requires_grad for out in outputs):
                continue
            seeds = [opgrad.ones_like(out) for out in outputs]
            opgrad.autograd.backward(outputs, seeds)
            leaves = [given[i] for i in chosen]
            held = [each.data for each in (*leaves, *(x.grad for x in leaves), *seeds)]
            for one, other in itertools.combinations(held, 2):
                assert not np.shares_memory(one, other)
            assert all(each.flags.writeable for each in held)

    def test_takes_plain_arrays_and_records_nothing(self, name):
        found, given_cases = cases(name)
        for case in given_cases:
            for out in apply(found, arrays(case), case.parameters):
                assert isinstance(out, opgrad.Tensor)
                assert not out.requires_grad

    def test_records_nothing_under_no_grad(self, name):
        found, given_cases = cases(name)
        with opgrad.no_grad():
            for case in given_cases:
                inputs = [
                    opgrad.tensor(x) if isinstance(x, np.ndarray) else x for x in arrays(case)
                ]
                outputs = apply(found, inputs, case.parameters)
                assert not any(out.requires_grad for out in outputs)


@pytest.mark.parametrize(
    "name", [*ELEMENTWISE, *BINARY, "sum", "mean", "max", "min", "var", "std", "matmul"]
)
class TestNumbersThatAreNotFinite:
    @pytest.mark.parametrize("bad", [nan, inf, -inf])
    def test_go_through_like_any_others(self, name, bad):
        x = np.array([1.0, bad, 2.0])
        others = [np.ones(3)] if name in BINARY or name == "matmul" else []
        with np.errstate(all="ignore"):
            out, *grads = gradients(getattr(opgrad, name), x, *others)
        numpy_name = {"sub": "subtract", "mul": "multiply", "div": "divide", "pow": "power",
                      "neg": "negative"}.get(name, name)  # fmt: skip
        others_reference = {"sigmoid": scipy.special.expit, "relu": lambda x: np.maximum(x, 0)}
        reference = others_reference.get(name) or getattr(np, numpy_name)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(out, reference(x, *others), rtol=1e-15)
        assert all(each.shape == (3,) for each in grads)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 2)])
class TestNoElements:
    @pytest.mark.parametrize("name", ELEMENTWISE)
    def test_give_none_back(self, name, shape):
        out, grad = gradients(getattr(opgrad, name), np.ones(shape, np.float32))
        assert out.shape == grad.shape == shape
        assert out.dtype == grad.dtype == np.float32

    @pytest.mark.parametrize("name", BINARY)
    def test_give_zero_to_what_was_broadcast_to_none(self, name, shape):
        out, grad_a, grad_b = gradients(getattr(opgrad, name), np.ones(shape), np.ones(()))
        assert out.shape == grad_a.shape == shape
        assert grad_b == 0

    def test_sum_to_zero(self, shape):
        out, grad = gradients(opgrad.sum, np.ones(shape))
        assert out == 0
        assert grad.shape == shape

    def test_have_no_loss(self, shape):
        out, grad = gradients(lambda x: bce(x, x, reduction="sum"), np.ones(shape))
        assert out == 0
        assert grad.shape == shape


# ------------------------------------------------------------------ how operators are called

#: The method, and the same from NumPy.
METHODS = {
    "sum()": (lambda t: t.sum(), lambda x: x.sum()),
    "sum(axis=0)": (lambda t: t.sum(axis=0), lambda x: x.sum(axis=0)),
    "sum(0)": (lambda t: t.sum(0), lambda x: x.sum(0)),
    "sum((0, 1))": (lambda t: t.sum((0, 1)), lambda x: x.sum((0, 1))),
    "sum(axis=1, keepdims=True)": (
        lambda t: t.sum(axis=1, keepdims=True),
        lambda x: x.sum(axis=1, keepdims=True),
    ),
    "mean()": (lambda t: t.mean(), lambda x: x.mean()),
    "mean(axis=-1)": (lambda t: t.mean(axis=-1), lambda x: x.mean(axis=-1)),
    "max()": (lambda t: t.max(), lambda x: x.max()),
    "max(axis=0)": (lambda t: t.max(axis=0), lambda x: x.max(axis=0)),
    "argmax()": (lambda t: t.argmax(), lambda x: x.argmax()),
    "reshape(4, 3)": (lambda t: t.reshape(4, 3), lambda x: x.reshape(4, 3)),
    "reshape((4, 3))": (lambda t: t.reshape((4, 3)), lambda x: x.reshape((4, 3))),
    "reshape([4, -1])": (lambda t: t.reshape([4, -1]), lambda x: x.reshape([4, -1])),
    "reshape(-1)": (lambda t: t.reshape(-1), lambda x: x.reshape(-1)),
    "transpose()": (lambda t: t.transpose(), lambda x: x.transpose()),
    "transpose(0, 1)": (lambda t: t.transpose(0, 1), lambda x: x.transpose(0, 1)),
    "transpose((1, 0))": (lambda t: t.transpose((1, 0)), lambda x: x.transpose((1, 0))),
    "T": (lambda t: t.T, lambda x: x.T),
    "mT": (lambda t: t.mT, lambda x: x.mT),
    "squeeze()": (lambda t: t.squeeze(), lambda x: x.squeeze()),
    "astype(float32)": (lambda t: t.astype(np.float32), lambda x: x.astype(np.float32)),
    "broadcast_to((2, 3, 4))": (
        lambda t: t.broadcast_to((2, 3, 4)),
        lambda x: np.broadcast_to(x, (2, 3, 4)),
    ),
    "copy()": (lambda t: t.copy(), lambda x: x.copy()),
    "clone()": (lambda t: t.clone(), lambda x: x.copy()),
    "conj()": (lambda t: t.conj(), lambda x: x.conj()),
    "exp()": (lambda t: t.exp(), np.exp),
    "log()": (lambda t: t.log(), np.log),
    "sqrt()": (lambda t: t.sqrt(), np.sqrt),
    "sin()": (lambda t: t.sin(), np.sin),
    "cos()": (lambda t: t.cos(), np.cos),
    "tanh()": (lambda t: t.tanh(), np.tanh),
    "sigmoid()": (lambda t: t.sigmoid(), scipy.special.expit),
    "abs()": (lambda t: t.abs(), np.abs),
    "sign()": (lambda t: t.sign(), np.sign),
    "neg()": (lambda t: t.neg(), np.negative),
    "add(2)": (lambda t: t.add(2), lambda x: x + 2),
    "sub(2)": (lambda t: t.sub(2), lambda x: x - 2),
    "mul(2)": (lambda t: t.mul(2), lambda x: x * 2),
    "div(2)": (lambda t: t.div(2), lambda x: x / 2),
    "pow(2)": (lambda t: t.pow(2), lambda x: x**2),
    "matmul": (lambda t: t.matmul(t.T), lambda x: x @ x.T),
    "maximum(2)": (lambda t: t.maximum(2), lambda x: np.maximum(x, 2)),
    "logaddexp(2)": (lambda t: t.logaddexp(2), lambda x: np.logaddexp(x, 2)),
}

#: Python's operators, with tensors, arrays and numbers on either side.
PYTHON = {
    "t + t": lambda t: t + t,
    "t - t": lambda t: t - t * 3,
    "t * t": lambda t: t * t,
    "t / t": lambda t: t / (t * t),
    "t ** t": lambda t: t**t,
    "t @ t": lambda t: t @ t.T,
    "-t": operator.neg,
    "+t": operator.pos,
    "abs(t)": lambda t: abs(-t),
    "t + 2": lambda t: t + 2,
    "2 + t": lambda t: 2 + t,
    "t - 2": lambda t: t - 2,
    "2 - t": lambda t: 2 - t,
    "2.5 * t": lambda t: 2.5 * t,
    "t / 2": lambda t: t / 2,
    "2 / t": lambda t: 2 / t,
    "t ** 2": lambda t: t**2,
    "t ** -0.5": lambda t: t**-0.5,
    "2 ** t": lambda t: 2**t,
    "pow(t, 2)": lambda t: pow(t, 2),
    "t + array": lambda t: t + np.arange(4.0),
    "array + t": lambda t: np.arange(4.0) + t,
    "array - t": lambda t: np.arange(4.0) - t,
    "array * t": lambda t: np.arange(4.0) * t,
    "array / t": lambda t: np.arange(4.0) / t,
    "array ** t": lambda t: np.arange(1.0, 5) ** t,
    "array @ t": lambda t: np.ones((2, 3)) @ t,
    "t @ array": lambda t: t @ np.ones(4),
    "np.float64 * t": lambda t: np.float64(2) * t,
    "np.float32 - t": lambda t: np.float32(2) - t,
    "np.int64 / t": lambda t: np.int64(2) / t,
    "np.float64 ** t": lambda t: np.float64(2) ** t,
    "t < t": lambda t: t < 2,
    "array >= t": lambda t: np.full(4, 2.0) >= t,
    "t == t": lambda t: t == 1.5,
    "t != t": lambda t: t != 1.5,
}

#: The standard's names for what has a shorter one here.
ALIASES = {
    "subtract": lambda xp, x: xp.subtract(x, 2),
    "multiply": lambda xp, x: xp.multiply(x, 2),
    "divide": lambda xp, x: xp.divide(x, 2),
    "true_divide": lambda xp, x: xp.true_divide(2, x),
    "negative": lambda xp, x: xp.negative(x),
    "power": lambda xp, x: xp.power(x, 2),
    "absolute": lambda xp, x: xp.absolute(x),
    "conjugate": lambda xp, x: xp.conjugate(x),
    "permute_dims": lambda xp, x: xp.permute_dims(x, axes=(1, 0)),
    "copy": lambda xp, x: xp.copy(x),
}

#: NumPy's own functions, given a tensor.
PROTOCOLS = {
    "exp": np.exp,
    "add": lambda x: np.add(x, 1),
    "multiply": lambda x: np.multiply(np.arange(4.0), x),
    "power": lambda x: np.power(x, 2),
    "maximum": lambda x: np.maximum(x, 2),
    "matmul": lambda x: np.matmul(x, np.ones(4)),
    "absolute": np.absolute,
    "sum": np.sum,
    "sum over an axis": lambda x: np.sum(x, axis=0),
    "mean": lambda x: np.mean(x, axis=1, keepdims=True),
    "max": np.max,
    "min": lambda x: np.min(x, axis=1),
    "prod": np.prod,
    "var": lambda x: np.var(x, axis=0),
    "std": np.std,
    "clip": lambda x: np.clip(x, 1, 2),
    "stack": lambda x: np.stack([x, np.ones((3, 4))], axis=1),
    "concatenate": lambda x: np.concatenate([x, x]),
    "flip": np.flip,
    "ravel": np.ravel,
    "moveaxis": lambda x: np.moveaxis(x, 0, 1),
    "minimum": lambda x: np.minimum(x, 2),
    "square": np.square,
    "log1p": np.log1p,
    "where": lambda x: np.where(np.arange(4) > 1, x, 0.0),
    "reshape": lambda x: np.reshape(x, (4, 3)),
    "transpose": np.transpose,
    "squeeze": np.squeeze,
    "expand_dims": lambda x: np.expand_dims(x, 0),
    "broadcast_to": lambda x: np.broadcast_to(x, (2, 3, 4)),
    "real": np.real,
}


class TestCalls:
    X = 0.5 + np.arange(12.0).reshape(3, 4) / 4

    def check(self, ours, theirs):
        x = leaf(self.X)
        out, expected = ours(x), theirs(self.X)
        assert isinstance(out, opgrad.Tensor)
        assert out.dtype == expected.dtype
        np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-14)
        return out

    @pytest.mark.parametrize("name", METHODS)
    def test_methods_are_numpys(self, name):
        self.check(*METHODS[name])

    @pytest.mark.parametrize("name", PYTHON)
    def test_pythons_operators_are_numpys(self, name):
        self.check(PYTHON[name], PYTHON[name])

    @pytest.mark.parametrize("name", ALIASES)
    def test_names_of_the_standard_are_aliases(self, name):
        out = self.check(lambda t: ALIASES[name](opgrad, t), lambda x: ALIASES[name](np, x))
        assert out.requires_grad

    @pytest.mark.parametrize("name", PROTOCOLS)
    def test_numpys_functions_take_tensors_and_keep_their_gradient(self, name):
        assert self.check(PROTOCOLS[name], PROTOCOLS[name]).requires_grad

    @pytest.mark.parametrize("name", ["sum", "mean", "max"])
    def test_functions_have_numpys_argument_names(self, name):
        for options in ({}, {"axis": 0}, {"axis": (0, 1), "keepdims": True}, {"keepdims": True}):
            self.check(
                lambda t: getattr(opgrad, name)(t, **options),
                lambda x: getattr(np, name)(x, **options),
            )

    @pytest.mark.parametrize("compare", ["lt", "le", "gt", "ge", "eq", "ne"])
    def test_comparisons_are_booleans_without_gradient(self, compare):
        function = getattr(operator, compare)
        x, y = leaf([1.0, 2.0, nan]), leaf([2.0, 2.0, nan])
        result = function(x, y)
        assert result.dtype == bool
        assert not result.requires_grad
        np.testing.assert_array_equal(
            result.numpy(), function(x.detach().numpy(), y.detach().numpy())
        )

    @pytest.mark.parametrize("other", ["a", None, [1.0, 2.0], {}], ids=repr)
    def test_what_is_no_operand_is_refused_by_python(self, other):
        for function in (operator.add, operator.truediv, operator.pow, operator.matmul):
            with pytest.raises(TypeError, match="unsupported operand"):
                function(leaf([1.0, 2.0]), other)

    @pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow", "maximum", "where"])
    def test_shapes_that_do_not_broadcast_are_named(self, name):
        call = getattr(opgrad, name)
        inputs = [np.ones((2, 3)), np.ones((2, 4))]
        if name == "where":
            inputs = [np.ones((2, 3), bool), *inputs]
        with pytest.raises(ValueError, match=rf"{name}: .*\(2, 3\).*\(2, 4\); expected shapes"):
            call(*inputs)


def test_an_index_that_is_written_to_later_does_not_change_the_gradient():
    x = opgrad.zeros(3, requires_grad=True)
    index = np.array([0, 1])
    picked = x[index]
    index[:] = 2
    picked.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("name", ["exp", "mean", "transpose", "squeeze", "clone"])
def test_a_number_alone_is_0d_data_of_its_own_dtype(name):
    function = getattr(opgrad, name)
    assert function(np.float32(1)).dtype == np.float32
    assert function(2.0).dtype == np.float64
