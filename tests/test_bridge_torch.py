"""opgrad's operators as PyTorch's functions, and PyTorch's functions as opgrad's operators."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest
from bridging import (
    KINDS,
    accumulated,
    carried_out,
    cases_of_family,
    counted,
    expected,
    once,
    opaque,
    parity,
    rectified,
    shown,
    with_arrays,
)
from planting import Floor

import opgrad
from opgrad import Case, GraphError, OperatorError
from opgrad.check import verify

torch = pytest.importorskip("torch", reason="the bridge to PyTorch needs an installed PyTorch")

from opgrad.bridge.torch import operator, wrap  # noqa: E402 - it imports torch

pytestmark = [
    pytest.mark.parity,
    # PyTorch warns of what it does itself at the first forward derivative.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]

double = torch.float64


def leaf(values, dtype=double):
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def grad(output, *inputs, **options):
    return torch.autograd.grad(output, inputs, **options)


def gradcheck(function, *inputs):
    """Have PyTorch check first and second derivatives, backward and forward."""
    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, inputs, check_fwd_over_rev=True)


# ------------------------------------------------------------------------------------ the way out


@pytest.mark.parametrize(("op", "case"), cases_of_family("elementwise") + KINDS, ids=shown)
def test_torch_confirms_the_derivatives_of(op, case):
    function, arrays = with_arrays(op, case, wrap(op), torch.from_numpy)
    gradcheck(function, *map(leaf, arrays))


@pytest.mark.parametrize(("op", "case"), cases_of_family("elementwise") + KINDS, ids=shown)
def test_values_are_those_of_opgrad(op, case):
    function, arrays = with_arrays(op, case, wrap(op), torch.from_numpy)
    wanted = [each for each in expected(op, case) if each.dtype.kind == "f"]
    for got, want in zip(function(*map(torch.tensor, arrays)), wanted, strict=True):
        np.testing.assert_array_equal(got.numpy(), want, strict=True)


#: opgrad's name, what PyTorch calls the same function, and shapes for its arguments.
SAME = {
    "exp": (torch.exp, [(3, 2)]),
    "sigmoid": (torch.sigmoid, [(3, 2)]),
    "logaddexp": (torch.logaddexp, [(3, 2), (2,)]),
    "div": (torch.div, [(3, 1), (2,)]),
    "pow": (torch.pow, [(3,), (3,)]),
    "prod": (lambda x: torch.prod(x, dim=0), [(3, 2)], {"axis": 0}),
    "std": (lambda x: torch.std(x, dim=0, correction=0), [(3, 2)], {"axis": 0}),
    "matmul": (torch.matmul, [(4, 2, 3), (3, 2)]),
}


@pytest.mark.parametrize("name", SAME)
def test_value_and_two_gradients_are_those_of_pytorchs_own(name):
    theirs, shapes, *options = SAME[name]
    rng = np.random.default_rng(0)
    data = [rng.uniform(0.5, 2, shape) for shape in shapes]

    def derivatives(function, *options):
        leaves = [leaf(each) for each in data]
        out = function(*leaves, **dict(*options))
        first = grad((out**2).sum(), *leaves, create_graph=True)
        second = grad(sum((each**2).sum() for each in first), *leaves)
        return [out, *first, *second]

    for got, want in zip(derivatives(wrap(name), *options), derivatives(theirs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["mul", "exp", "abs", "div"])
def test_complex_gradients_follow_pytorchs_convention(name):
    data = torch.tensor([[1 + 2j, 0.5 - 1j], [2 - 0.5j, -1 + 1j]], dtype=torch.complex128)
    count = len(inspect.signature(wrap(name)).parameters)
    found = []
    for function in (wrap(name), getattr(torch, name)):
        leaves = [each.clone().requires_grad_() for each in data[:count]]
        out = function(*leaves)
        found.append(grad((out * out.conj()).real.sum() + out.real.sum(), *leaves))
        gradcheck(function, *leaves)
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want)


def test_a_real_factor_of_a_complex_number_gets_a_real_gradient():
    z, x = leaf([1 + 2j], dtype=torch.complex128), leaf([3.0])
    gradcheck(wrap("mul"), z, x)
    assert grad(wrap("mul")(z, x).imag.sum(), x)[0].item() == 2.0


def test_conjugated_and_negated_views_are_read_as_they_are():
    z = torch.tensor([1 + 2j])
    assert wrap("mul")(z.conj(), 1).item() == 1 - 2j
    assert wrap("mul")(z.conj().imag, 1).item() == -2.0


def test_derivatives_have_any_order():
    x = leaf(0.3)
    y = wrap("exp")(x) * 1
    for _ in range(4):
        (y,) = grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(np.exp(0.3), rel=1e-14)
    y, total = wrap("pow")(x, 4), 24 * 0.3
    for _ in range(3):
        (y,) = grad(y, x, create_graph=True)
    assert y.item() == pytest.approx(total, rel=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
def test_dtypes_are_kept(dtype):
    x = leaf([1.0, 2.0], dtype=getattr(torch, dtype))
    y = wrap("mul")(x, 2.0)
    assert (y.dtype, grad(y.abs().sum(), x)[0].dtype) == (x.dtype, x.dtype)


def test_integer_outputs_are_marked_as_without_gradient():
    x = leaf([1.5, 2.5])
    half, bit = wrap(parity)(x)
    assert (half.requires_grad, bit.requires_grad) == (True, False)
    assert bit.tolist() == [1, 0]
    assert not wrap("greater")(x, 2.0).requires_grad
    assert not wrap("argmax")(x).requires_grad


def test_an_operator_without_gradients_gives_constants():
    assert not wrap(Floor())(leaf([1.5])).requires_grad


def test_only_gradients_that_are_asked_for_are_computed():
    asked = []

    class Told(type(opgrad.ops.mul)):
        @opgrad.hookimpl
        def backward_a(self, grad, b):
            asked.append("a")
            return grad * b

        @opgrad.hookimpl
        def backward_b(self, grad, a):
            asked.append("b")
            return grad * a

    told, x = wrap(Told()), leaf([1.0])
    told(x, x.detach()).sum().backward()
    told(x.detach(), x).sum().backward()
    assert asked == ["a", "b"]


def test_nothing_is_recorded_without_a_need():
    x = leaf([1.0])
    with torch.no_grad():
        assert not wrap("exp")(x).requires_grad
    assert not wrap("exp")(x.detach()).requires_grad


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[:, ::2],
        lambda x: x[:1].expand(3, 4),
        lambda x: x[0, 0],
        lambda x: x[:0],
    ],
    ids=["transposed", "strided", "expanded", "0-d", "empty"],
)
def test_every_layout_is_read(view):
    x = leaf(np.arange(12.0).reshape(3, 4) / 10)
    torch.testing.assert_close(wrap("tanh")(view(x)), torch.tanh(view(x)))
    ours, theirs = (grad(f(view(x)).sum(), x)[0] for f in (wrap("tanh"), torch.tanh))
    torch.testing.assert_close(ours, theirs)


def test_a_write_to_what_the_backward_needs_is_found_by_torch():
    x = leaf([1.0, 2.0]) * 1
    y = wrap("square")(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    x = leaf([1.0])
    y = wrap("exp")(x)
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_results_share_memory_with_nothing():
    x = torch.arange(4.0)
    for out in (wrap("reshape")(x, (2, 2)), *wrap("unstack")(x), wrap("broadcast_to")(x, (2, 4))):
        out += 10
    assert x.tolist() == [0, 1, 2, 3]
    a, b = leaf([1.0]), leaf([2.0])
    wrap("add")(a, b).sum().backward()
    a.grad.zero_()
    assert b.grad.item() == 1.0


def test_static_parameters_are_those_of_the_call():
    x, key = leaf([1.0, 2.0, 3.0]), np.array([0, 1])
    made = wrap("getitem")(x, key)
    key[:] = 2
    assert grad(made.sum(), x)[0].tolist() == [1.0, 1.0, 0.0]


def test_the_mode_that_opgrad_is_in_does_not_matter():
    x = leaf([2.0])
    for mode in (opgrad.no_grad(), opgrad.inference_mode()):
        with mode:
            (slope,) = grad(wrap("exp")(x * x), x, create_graph=True)
            (curvature,) = grad(slope, x)
        torch.testing.assert_close(curvature, (2 + 4 * x * x) * torch.exp(x * x))


def test_one_tensor_in_two_places_gets_the_sum():
    x = leaf([3.0])
    gradcheck(lambda x: wrap("mul")(x, x), x)
    gradcheck(lambda x: wrap("stack")([x, x, x]), x)


def test_residuals_that_are_no_arrays_are_handed_on():
    gradcheck(wrap(opaque), leaf([1.0, 2.0]))


def test_static_parameters_may_be_tensors_and_dtypes_of_torch():
    x = leaf([1.0, 2.0, 3.0])
    y = wrap("getitem")(x, torch.tensor([2, 0]))
    assert y.tolist() == [3.0, 1.0]
    assert grad(y.sum(), x)[0].tolist() == [1.0, 0.0, 1.0]
    assert wrap("astype")(x, torch.float32).dtype is torch.float32


def test_numbers_alone_give_a_tensor():
    assert wrap("exp")(0.0).item() == 1.0


def test_it_looks_like_the_operator():
    clamp = wrap("clamp")
    assert clamp.__name__ == "clamp"
    assert inspect.signature(clamp) == inspect.signature(opgrad.ops.clamp)
    assert clamp.__doc__ == type(opgrad.ops.clamp).__doc__
    assert clamp(torch.tensor([0.0, 5.0]), max=1).tolist() == [0.0, 1.0]


# ----------------------------------------------------------------------- torch.func's transforms


def test_forward_derivatives_come_from_the_backward():
    x, v = torch.tensor([0.1, 0.2], dtype=double), torch.tensor([1.0, 10.0], dtype=double)
    value, change = torch.func.jvp(wrap("sin"), (x,), (v,))
    torch.testing.assert_close(value, x.sin())
    torch.testing.assert_close(change, x.cos() * v)


def test_transforms_nest():
    x = torch.tensor([0.1, 0.2, 0.3], dtype=double)
    for ours, theirs in ((wrap("exp"), torch.exp), (wrap("sigmoid"), torch.sigmoid)):
        for make in (
            lambda f: torch.func.vmap(torch.func.grad(lambda x: f(x) * x)),
            lambda f: torch.func.grad(lambda x: torch.func.vmap(f)(x).sum()),
            lambda f: torch.func.hessian(lambda x: f(x).sum()),
            lambda f: torch.func.jacrev(torch.func.jacrev(lambda x: f(x).sum())),
            torch.func.jacfwd,
        ):
            torch.testing.assert_close(make(ours)(x), make(theirs)(x))


def levels(product):
    """Return derivatives in which one transform's constant is what another differentiates by."""
    f, y = torch.func, torch.tensor([1.0, -2.0, 0.5], dtype=double)

    def by_y(transform, x):
        if transform == "grad":
            return f.grad(lambda y: product(x, y).sum())(y)
        return f.jvp(lambda y: product(x, y), (y,), (torch.ones_like(y),))[1]

    def beside(x):
        return f.grad(lambda y: (product(x, x) * y).sum())(y)

    def each(x):
        return f.vmap(lambda y: product(x, y))(torch.stack([y, 2 * y]))

    def unseen(x):
        with torch.no_grad():
            made = product(x, x)
        return made * x

    return [lambda x: by_y("grad", x), lambda x: by_y("jvp", x), beside, each, unseen]


@pytest.mark.parametrize("index", range(len(levels(torch.mul))))
@pytest.mark.parametrize("name", ["mul", "pow", "logaddexp"])
@pytest.mark.parametrize(
    "outer", [torch.func.jacfwd, torch.func.jacrev, torch.func.hessian, torch.func.vmap]
)
def test_every_transform_differentiates_what_is_a_constant_to_others(outer, name, index):
    x = torch.tensor([0.1, 0.2, 0.3], dtype=double)
    if outer is torch.func.vmap:
        x = torch.stack([x, 3 * x])
        outer = lambda f: torch.func.vmap(torch.func.jacfwd(torch.func.vmap(f)))  # noqa: E731
        x = x[None]
    ours, theirs = levels(wrap(name))[index], levels(getattr(torch, name))[index]
    torch.testing.assert_close(outer(ours)(x), outer(theirs)(x))


def test_what_has_no_tangent_has_no_part_in_the_derivative():
    x, three = torch.tensor([-1.5, 2.0], dtype=double), torch.tensor(3.0, dtype=double)
    f = torch.func

    def forward(function):
        return lambda x: f.jvp(function, (x,), (torch.ones_like(x),))[1]

    # The derivative by the exponent is the logarithm of a negative number.
    cube = lambda x: wrap("pow")(x, three)  # noqa: E731
    torch.testing.assert_close(forward(cube)(x), 3 * x**2)
    torch.testing.assert_close(forward(forward(cube))(x), 6 * x)
    torch.testing.assert_close(forward(f.grad(lambda x: cube(x).sum()))(x), 6 * x)
    torch.testing.assert_close(f.grad(lambda x: forward(cube)(x).sum())(x), 6 * x)


def test_transforms_refuse_a_gradient_that_the_operator_lacks():
    where, x = wrap("where"), torch.tensor([1.0, 0.0], dtype=double)
    assert torch.func.grad(lambda y: where(x, y * y, 0.0).sum())(x).tolist() == [2.0, 0.0]
    for function in (
        lambda: torch.func.grad(lambda x: where(x, x, 0.0).sum())(x),
        lambda: torch.func.jvp(lambda x: where(x, x, 0.0), (x,), (x,)),
    ):
        with pytest.raises(GraphError, match=r"where: the operator has no gradient.*detach"):
            function()


def test_a_trace_is_refused():
    with pytest.raises(RuntimeError, match=r"a tensor is traced, as in torch\.func\.linearize"):
        torch.func.linearize(wrap("exp"), torch.ones(2))


def test_residuals_are_batched():
    x = torch.tensor([[0.5, -1.0], [2.0, 3.0]], dtype=double)
    slope = torch.func.vmap(torch.func.grad(lambda x: wrap(rectified)(x).sum()))(x)
    assert slope.tolist() == [[1.0, 0.0], [4.0, 6.0]]


def test_vmap_over_other_axes_and_constants():
    a, b = torch.rand(3, 2, dtype=double), torch.rand(2, dtype=double)
    made = torch.func.vmap(wrap("mul"), in_dims=(1, None), out_dims=1)(a, b[:1])
    torch.testing.assert_close(made, a * b[0])


def test_what_cannot_be_batched_says_so():
    with pytest.raises(TypeError, match="opaque: vmap stacks residuals, and note is no array"):
        torch.func.vmap(torch.func.grad(wrap(opaque)))(torch.ones(3))
    message = r"counted: the residual count is 1, and for other numbers of the same shapes 2"
    with pytest.raises(TypeError, match=message):
        torch.func.vmap(torch.func.grad(lambda x: wrap(counted)(x).sum()))(
            torch.tensor([[1.0, 2.0], [1.0, -2.0]])
        )
    with pytest.raises(ValueError, match="exp: vmap over an axis of size 0"):
        torch.func.vmap(wrap("exp"))(torch.ones(0, 2))
    x = leaf([1.0, 2.0])
    with pytest.raises(RuntimeError, match=r"is_grads_batched.*torch\.func\.vmap"):
        grad(wrap("exp")(x), x, grad_outputs=torch.eye(2, dtype=double), is_grads_batched=True)


# ------------------------------------------------------------------------------------ its refusals


def test_a_second_derivative_through_once_differentiable_is_refused():
    x = leaf([2.0])
    (first,) = grad(wrap(once)(x).sum(), x, create_graph=True)
    assert first.item() == 12.0
    with pytest.raises(GraphError, match="once: the operator says once_differentiable"):
        grad(first.sum(), x)


def test_a_gradient_that_the_operator_lacks_is_refused():
    condition = leaf([1.0, 0.0])
    with pytest.raises(GraphError, match="where: argument 'condition' requires grad"):
        wrap("where")(condition, 1.0, torch.ones(2, dtype=double))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: wrap("matmul")(torch.ones(2, device="meta"), torch.ones(2)),
            ValueError,
            r"matmul: argument 'a' is a tensor on the device 'meta'.*say cpu\(\) of it",
        ),
        (
            lambda: wrap("stack")([torch.ones(2), torch.ones(2).to_sparse()]),
            ValueError,
            r"stack: argument 'arrays\[1\]' is a tensor of layout torch.sparse_coo.*to_dense",
        ),
        (
            lambda: wrap("exp")(torch.ones(2, dtype=torch.bfloat16)),
            ValueError,
            r"exp: argument 'x' is of dtype torch.bfloat16.*say float\(\) of it",
        ),
        (
            lambda: wrap("exp")(np.ones(2)),
            TypeError,
            r"exp: argument 'x' is of type ndarray; expected a torch.Tensor or a number",
        ),
        (
            lambda: wrap("stack")(torch.ones(2)),
            TypeError,
            r"stack: argument 'arrays' is tensor.*expected a list or tuple",
        ),
        (
            lambda: wrap("fill_scalar")(torch.ones(2), leaf(1.0)),
            ValueError,
            r"fill_scalar: the static parameter 'value' .*value\.detach\(\)",
        ),
        (
            lambda: wrap("matmul")(torch.ones(2), torch.ones(3)),
            ValueError,
            r"matmul: .*got a: float32 \(2,\), b: float32 \(3,\)",
        ),
        (
            lambda: wrap("sum")(torch.ones(2), axsi=0),
            TypeError,
            r"^sum: got an .* 'axsi'; it is called as sum\(x, .*; did you mean 'axis'\?$",
        ),
        (
            wrap("exp"),
            TypeError,
            r"^exp: missing a required argument: 'x'; it is called as exp\(x, /\)$",
        ),
        (lambda: wrap(opgrad.Operator), TypeError, r"'operator' is <class .*an instance"),
        (lambda: wrap("no_such"), opgrad.UnknownOperatorError, "no_such"),
    ],
)
def test_arguments_that_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ------------------------------------------------------------------------------------- the way in


class LogCosh(torch.autograd.Function):
    """The logarithm of the hyperbolic cosine."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.log(torch.cosh(x))

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * torch.tanh(x)


class Power(torch.autograd.Function):
    """With the context apart, and a static parameter between inputs."""

    @staticmethod
    def forward(x, exponent, y):
        return x**exponent * y, x.detach() + y

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.exponent, y = inputs
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx, grad, other):
        x, y = ctx.saved_tensors
        n = ctx.exponent
        return grad * n * x ** (n - 1) * y + other, None, grad * x**n + other


class WrongSign(LogCosh):
    @staticmethod
    def backward(ctx, grad):
        return -LogCosh.backward(ctx, grad)


class OnlyOnce(LogCosh):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return LogCosh.backward(ctx, grad)


def matrices(rng):
    yield Case(rng.normal(size=(3, 2)))
    yield Case(rng.normal(size=()))


def pairs(rng):
    yield Case(rng.uniform(0.5, 2, size=(3, 2)), rng.uniform(0.5, 2, size=(3, 2)), exponent=3)
    yield Case(rng.uniform(0.5, 2, size=4), rng.uniform(0.5, 2, size=4), exponent=2)


def assert_passes(op):
    report = verify(op)
    assert report.passed, report


def test_a_function_becomes_an_operator_that_the_verifier_passes():
    op = operator(LogCosh, self_check=matrices)
    assert (op.name, str(inspect.signature(op))) == ("log_cosh", "(x, /)")
    assert type(op).__doc__ == LogCosh.__doc__
    x = opgrad.tensor([0.5], requires_grad=True)
    op(x).backward()
    assert x.grad.item() == pytest.approx(np.tanh(0.5))
    assert_passes(op)


def test_a_function_of_several_arguments_and_outputs():
    op = operator(Power, self_check=pairs, inputs=["x", "y"], name="power")
    assert str(inspect.signature(op)) == "(x, y, /, *, exponent)"
    assert_passes(op)


def test_any_differentiable_callable_of_torch_will_do():
    def weighted(x, weight, *, axis=-1):
        return (x * torch.sin(weight)).sum(axis)

    def cases(rng):
        yield Case(rng.normal(size=(3, 2)), rng.normal(size=(3, 2)))
        yield Case(rng.normal(size=(3, 2)), rng.normal(size=2), axis=0)
        yield Case(rng.normal(size=3) + 1j, rng.normal(size=3), axis=0)

    assert_passes(operator(weighted, self_check=cases))
    softplus = operator(torch.nn.functional.softplus, self_check=matrices, inputs=["x"])
    assert_passes(softplus)


def test_the_verifier_fails_a_function_with_a_wrong_gradient():
    report = verify(operator(WrongSign, self_check=matrices))
    assert not report.passed
    assert "first_order" in {each.probe for each in report.findings if each.status == "FAIL"}


def test_once_differentiable_stays_so():
    op = operator(OnlyOnce, self_check=matrices)
    assert op.once_differentiable
    assert_passes(op)
    x = opgrad.tensor([0.5], requires_grad=True)
    (first,) = opgrad.autograd.grad(op(x), x, create_graph=True)
    with pytest.raises(GraphError, match="once_differentiable"):
        opgrad.autograd.grad(first, x)


def test_derivatives_of_what_came_in_have_any_order():
    op = operator(torch.exp, self_check=matrices, inputs=["x"])
    x = opgrad.tensor(0.3, requires_grad=True)
    y = op(x)
    for _ in range(4):
        (y,) = opgrad.autograd.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(np.exp(0.3), rel=1e-14)


def test_dtypes_stay_and_numbers_decide_none():
    op = operator(torch.mul, self_check=pairs, inputs=["a", "b"])
    assert op(np.ones(2, np.float32), 2.5).dtype == np.float32
    assert op(np.ones(2, np.complex64), 2.5).dtype == np.complex64
    with pytest.raises(
        TypeError, match=r"dtype (longdouble|float128|float96), which PyTorch lacks"
    ):
        op(np.ones(2, np.longdouble), 1.0)


def test_the_mode_that_torch_is_in_does_not_matter():
    op = operator(lambda x: x**3, self_check=matrices, name="cube")
    for mode in (torch.no_grad(), torch.inference_mode()):
        a = opgrad.tensor([2.0], requires_grad=True)
        with mode:
            (slope,) = opgrad.autograd.grad(op(a), a, create_graph=True)
            (curvature,) = opgrad.autograd.grad(slope, a)
        assert (slope.tolist(), curvature.tolist()) == ([12.0], [12.0])


def test_results_are_no_memory_that_the_function_keeps():
    buffer = torch.zeros(2, dtype=double)
    op = operator(lambda x: buffer.copy_(x.detach()), self_check=matrices, name="kept")
    first = op(opgrad.tensor([1.0, 2.0]))
    op(opgrad.tensor([3.0, 4.0]))
    assert first.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", ["backward", "forward"])
def test_names_of_hooks_are_names_as_any_other(name):
    made = operator(lambda x: 2 * x, self_check=matrices, name=name)
    assert made.name == name
    assert made(opgrad.tensor(1.5)).item() == 3.0


@pytest.mark.parametrize("argument", ["grad", "needs", "xp"])
def test_arguments_that_hooks_know_as_something_else_are_refused(argument):
    with pytest.raises(
        OperatorError, match=f"operator f: the function has an argument '{argument}'"
    ):
        operator(torch.nn.functional.softplus, self_check=matrices, name="f", inputs=[argument])


def test_there_and_back_again():
    there = operator(wrap("tanh"), self_check=matrices, name="there")
    assert_passes(there)


def test_it_serves_as_an_entry_point(site):
    site.install(
        "acme-ops",
        operators={"acme.log_cosh": "acme_torch:log_cosh"},
        acme_torch="""
            import torch
            from opgrad import Case
            from opgrad.bridge.torch import operator

            def log_cosh(x):
                return torch.log(torch.cosh(x))

            log_cosh = operator(log_cosh, self_check=lambda rng: [Case(rng.normal(size=3))])
        """,
    )
    assert verify("acme.log_cosh").passed
    x = opgrad.tensor([0.5], requires_grad=True)
    assert opgrad.ops.acme.log_cosh(x).grad_fn.name() == "LogCoshBackward0"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: operator(LogCosh, self_check=matrices, inputs=["X"]),
            "operator log_cosh: there is no argument 'X' to be an input.*there are x",
        ),
        (
            lambda: operator(torch.exp, self_check=matrices),
            r"operator exp: the function's signature does not tell.*inputs=\('x', 'y'\)",
        ),
        (
            lambda: operator(LogCosh, self_check=matrices, name="acme.log_cosh"),
            "'name' is 'acme.log_cosh'; expected an identifier.*entry point",
        ),
        (
            lambda: operator(LogCosh, self_check=matrices, name="lambda"),
            "'name' is 'lambda'; expected an identifier, and no keyword of Python",
        ),
        (
            lambda: operator(LogCosh, self_check=matrices, name=3),
            "'name' is 3; expected an identifier",
        ),
        (
            lambda: operator(3, self_check=matrices),
            r"^operator: argument 'function' is 3; expected a function of PyTorch's.* call wrap",
        ),
        (
            lambda: operator(torch.mul, self_check=pairs, inputs="ab"),
            r"^operator mul: argument 'inputs' is 'ab'; expected a list or tuple of names, such as",
        ),
        (
            lambda: operator(torch.mul, self_check=pairs, inputs=2),
            r"^operator mul: argument 'inputs' is 2; expected a list or tuple of names, such as",
        ),
        (
            lambda: operator(torch.mul, self_check=pairs, inputs=["a", 2]),
            r"^operator mul: argument 'inputs' is \['a', 2\]; expected a list or tuple of names",
        ),
        (lambda: operator(LogCosh, self_check=matrices, alias=()), "'alias' is neither a hook"),
    ],
)
def test_definitions_that_are_refused(make, message):
    with pytest.raises(OperatorError, match=message):
        make()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.numpy(), "of type ndarray; expected a torch.Tensor; "),
        (lambda x: [x, x], "of type list; expected a torch.Tensor; "),
        (lambda x: (x, None), "of type NoneType; expected a torch.Tensor; "),
        (lambda x: x.to(torch.bfloat16), r"of dtype torch.bfloat16, which NumPy lacks.*float\(\)"),
        (lambda x: x.to_sparse(), r"a tensor of layout torch.sparse_coo; .*to_dense\(\)"),
        (lambda x: x.to("meta"), r"a tensor on the device 'meta', .*cpu\(\)"),
    ],
)
def test_functions_that_return_something_else_are_refused(function, message):
    made = operator(function, self_check=matrices, name="odd")
    expected = f"^odd: what the function returned is {message}.*got x: float64"
    with pytest.raises((TypeError, ValueError), match=expected):
        made(np.ones((2, 2)))


# --------------------------------------------------------------------------------- it is optional

IMPORTS = """
import sys
import opgrad, opgrad.bridge
assert not {"torch", "jax"} & set(sys.modules)
sys.modules["NAME"] = None  # as where it is not installed
try:
    import opgrad.bridge.NAME
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_framework_is_needed_by_its_bridge_alone(name):
    code = IMPORTS.replace("NAME", name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"opgrad.bridge.{name} leads to" in done.stdout
    assert f"pip install {name}" in done.stdout


def test_operators_that_only_numpy_can_compute_are_no_different():
    x = leaf([1.0, 2.0, 3.0])
    assert wrap(accumulated)(x, power=2).tolist() == [1.0, 5.0, 14.0]


@pytest.mark.parametrize(
    "title", ["An operator in PyTorch", "A function of PyTorch as an operator"]
)
def test_the_documentation_shows_what_happens(title):
    said, done = carried_out(title)
    assert done == said
