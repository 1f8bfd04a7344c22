"""`vmap` without a loop: one call, whose results are those of a loop over the slices.

What is compared is `func.vmap(f)` with `func.vmap(f, loop=True)`, with a loop written out, and with
NumPy and PyTorch.
"""

from __future__ import annotations

import copy
import math
import pickle
import re
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from planting import Product, Square, messages

import opgrad
from opgrad import Case, GraphError, Operator, OperatorError, Tensor, func, hookimpl
from opgrad.check import verify
from opgrad.check.mutants import mutants
from opgrad.levels import BatchError
from opgrad.trees import leaves

RNG = np.random.default_rng(5)
X = RNG.normal(size=(4, 3))
Y = RNG.normal(size=(4, 3))
W = RNG.normal(size=(3, 2))


def leaf(values):
    return opgrad.tensor(values, requires_grad=True)


def data(tree):
    return [np.asarray(each.detach()) if isinstance(each, Tensor) else each
            for _, each in leaves(tree)]  # fmt: skip


def assert_same(found, expected, rtol=1e-13, atol=1e-15):
    found, expected = data(found), data(expected)
    assert [(x.shape, x.dtype) for x in found] == [(x.shape, x.dtype) for x in expected]
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one, other, rtol=rtol, atol=atol)


def assert_like_loop(f, *args, **options):
    """Compare values, and first and second gradients with respect to the arguments, of all ways."""
    found = []
    for loop in (False, True):
        tensors = [leaf(x) for x in args]
        results = func.vmap(f, loop=loop, **options)(*tensors)
        outputs = [each for _, each in leaves(results)]
        weights = [np.cos(np.arange(each.size)).reshape(each.shape) for each in outputs]
        # Something of all, so that there is a second derivative.
        total = sum((x**3).sum() for x in tensors)
        total += sum((w * each).sum() for w, each in zip(weights, outputs, strict=True))
        first = opgrad.autograd.grad(total, tensors, create_graph=True, materialize_grads=True)
        slope = sum((each**2).sum() for each in first)
        second = opgrad.autograd.grad(slope, tensors, materialize_grads=True)
        found.append([outputs, list(first), list(second)])
    assert_same(*found, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------- one call


class TestOneCall:
    def test_with_what_looks_like_one_slice(self):
        seen = []

        def f(x):
            seen.append((x.shape, x.ndim, x.size, len(x), x.dtype, x.numel(), x.device))
            return x

        func.vmap(f)(X)
        assert seen == [((3,), 1, 3, 3, np.float64, 3, "cpu")]

    def test_shows_that_it_is_many(self):
        seen = []
        func.vmap(lambda x: seen.append(f"{x!r} {x}") or x)(X)
        assert seen == ["<one of 4 in vmap: float64 (3,)> <one of 4 in vmap: float64 (3,)>"]
        w = leaf(X[0])
        func.vmap(lambda x: seen.append(repr(x * w)) or x)(X)
        assert seen[1] == "<one of 4 in vmap: float64 (3,), requires_grad=True>"

    def test_applies_an_operator_once(self):
        calls = []

        class Counted(Square):
            @hookimpl
            def forward(self, x, /):
                calls.append(x.shape)
                return x * x

            @hookimpl
            def batch(self, x):
                return self(x)

        assert_same(func.vmap(Counted())(X), X**2)
        assert calls == [(4, 3)]

    def test_goes_once_over_the_slices_of_an_operator_without_a_hook(self):
        calls = []

        class Plain(Square):
            @hookimpl
            def forward(self, x, /):
                calls.append(x.shape)
                return x * x

        plain = Plain()
        assert_like_loop(lambda x: plain(x).sum(), X)
        calls.clear()
        assert_same(func.vmap(lambda x: plain(x) + 1)(X), X**2 + 1)
        assert calls == [(3,)] * 4

    def test_records_ordinary_nodes(self):
        x = leaf(X)
        made = func.vmap(lambda x: x * 2)(x)
        assert type(made) is Tensor
        assert made.grad_fn.name() == "MulBackward0"

    def test_calls_the_function_for_each_slice_where_it_is_to_loop(self):
        calls = []
        func.vmap(lambda x: calls.append(1) or x, loop=True)(X)
        assert len(calls) == 4

    def test_takes_keyword_arguments_as_they_are(self):
        assert_same(func.vmap(lambda x, *, p: x**p)(X, p=3), X**3)

    def test_refuses_results_that_no_tensor_is_made_of(self):
        with pytest.raises(TypeError):
            func.vmap(lambda x: "text")(X)


# ----------------------------------------------------------------------------- the same as a loop

FUNCTIONS = {
    "sum": lambda x, y: (x * y).sum(),
    "branches by where": lambda x, y: opgrad.where(x > y, x, y * 2),
    "numbers": lambda x, y: 2 / (1 + x * x) - y**3 + 2.0**x,
    "NumPy's functions": lambda x, y: np.exp(x) + np.sum(np.multiply(y, np.float64(2)) * x),
    "arrays beside": lambda x, y: x @ W + W.T @ y,
    "matrix and vector": lambda x, y: (x[:, None] * y) @ (y * 2),
    "vectors": lambda x, y: x @ y,
    "matrices": lambda x, y: (x[:, None] * y) @ (y[:, None] * x),
    "more axes": lambda x, y: x * y.reshape(3, 1) + x.sum(),
    "reductions": lambda x, y: opgrad.stack(
        [x.mean(), y.var(axis=-1), x.max(axis=0), y.min(), x.prod(), y.std()]
    ),
    "no axes": lambda x, y: x[0] * y[1] + x.sum(axis=()).sum() * y.sum().sum(),
    "shapes": lambda x, y: opgrad.concat([x.expand(2, 3).T.ravel(), y.flip()], axis=0),
    "parts": lambda x, y: [*x.split([1, 2]), *opgrad.unstack(y)],
    "constants": lambda x, y: (x * 0 + 1, opgrad.ones(2), 3.0),
    "indices": lambda x, y: x[[0, 0, 2]] * y[1] + x[1:2] + y[..., None, 0],
    "indices of several arrays": lambda x, y: (x[:, None, None] * y * opgrad.ones(2, 1))[
        np.array([0, 2]), :, np.array([1, 1])
    ],
    "detached": lambda x, y: x * y.detach() + y.clone(),
    "tree": lambda x, y: {"a": x + y, "b": [x.sum(), (y,)]},
    "iterated": lambda x, y: sum(a * b for a, b in zip(x, y, strict=True)),
    "chosen place": lambda x, y: x[y.argmax()],
    "chosen places": lambda x, y: x[opgrad.stack([y.argmax(), y.argmin()])] * y[0],
    "chosen row": lambda x, y: opgrad.asarray(W)[x.argmax()] * y[:2],
    "chosen by a tuple": lambda x, y: (x[:, None] * y)[x.argmax(), y.argmin()],
    "like": lambda x, y: opgrad.ones_like(x) * x + opgrad.zeros_like(y) + opgrad.full_like(x, 2.0),
    "cast": lambda x, y: opgrad.asarray(x, dtype=np.complex128).real + y.astype(np.float64),
    "slope": lambda x, y: func.grad(lambda x: ((x * y) ** 3).sum())(x),
    "slope of an array": lambda x, y: func.grad(lambda w: ((w @ x) * y.sum()) ** 2)(W[:, 0]),
    "jacobian by rows": lambda x, y: func.jacrev(lambda x: opgrad.sin(x) * y.sum())(x),
    "jacobian by columns": lambda x, y: func.jacfwd(lambda x: opgrad.sin(x) * x.sum())(x * y),
    "hessian": lambda x, y: func.hessian(lambda x: (x**3 * y).sum() * x.sum())(x),
    "products": func.hvp(lambda x: (x**3).sum() ** 2),
    "transposed products": func.vhp(lambda x: (x**3).sum() ** 2),
    "vjp": lambda x, y: func.vjp(lambda a, b: opgrad.tanh(a) * b, x, y)[1](x),
    "vjp of a constant": lambda x, y: func.vjp(lambda a: a * 2, x)[1](np.ones(3)),
    "jvp": lambda x, y: func.jvp(lambda a, b: opgrad.tanh(a) * b.exp(), (x, y), (y, x)),
    "jvp along a constant": lambda x, y: func.jvp(opgrad.sin, (x,), (np.ones(3),)),
    "jvp of a constant": lambda x, y: func.jvp(lambda w: w * x, (np.ones(3),), (y,)),
    "linearize": lambda x, y: [(f := func.linearize(lambda x: x**3, x)[1])(y), f(x)],
    "value and grad": lambda x, y: func.value_and_grad(
        lambda x: ((x * y).sum(), (x, y.sum())), has_aux=True
    )(x),
    "grad that nothing depends on": lambda x, y: func.grad(lambda x: y.sum())(x),
    "autograd": lambda x, y: func.grad(
        lambda x: opgrad.autograd.grad((x**3 * y).sum(), x, create_graph=True)[0].sum()
    )(x),
    "vmap": lambda x, y: func.vmap(lambda a: a * y + x.sum())(x),
    "vmap of both": lambda x, y: func.vmap(lambda a, b: a * b, out_dims=0)(x, y).sum(),
    "vmap of grad": lambda x, y: func.vmap(func.grad(lambda a, b: (a * b * x).sum() ** 2))(x, y),
    "grad of vmap": lambda x, y: func.grad(lambda a: (func.vmap(lambda v: v**2 * y)(a)).sum())(x),
    "vmap in two directions": lambda x, y: func.vmap(
        func.vmap(lambda a, b: a * b + y.sum(), (None, 0)), (0, None)
    )(x, y),
    "rows by vmap": lambda x, y: func.vmap(func.vjp(lambda a: opgrad.sin(a) * y.sum(), x)[1])(
        np.eye(3)
    ),
    "columns by vmap": lambda x, y: func.vmap(func.linearize(lambda a: opgrad.exp(a) * y, x)[1])(
        np.eye(3)
    ),
    "rows by vmap of batched": lambda x, y: func.vmap(
        lambda v: func.vjp(lambda a: a**3, x)[1](v * y)[0]
    )(np.eye(3)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
class TestSameAsLoop:
    def test_in_values_and_gradients(self, name):
        assert_like_loop(FUNCTIONS[name], X, Y)

    def test_written_out(self, name):
        f = FUNCTIONS[name]
        found = func.vmap(f)(opgrad.tensor(X), opgrad.tensor(Y))
        each = [data(f(opgrad.tensor(x), opgrad.tensor(y))) for x, y in zip(X, Y, strict=True)]
        expected = [np.stack(parts) for parts in zip(*each, strict=True)]
        assert_same(found, expected, rtol=1e-12)

    def test_with_one_argument_for_all(self, name):
        assert_like_loop(FUNCTIONS[name], X, Y[0], in_dims=(0, None))
        assert_like_loop(FUNCTIONS[name], X[0], Y, in_dims=(None, 0))

    def test_of_one_slice(self, name):
        assert_like_loop(FUNCTIONS[name], X[:1], Y[:1])
        assert_like_loop(FUNCTIONS[name], X[:1], Y[0], in_dims=(0, None))

    def test_along_other_axes(self, name):
        assert_like_loop(FUNCTIONS[name], X.T, Y, in_dims=(1, 0), out_dims=-1)


def test_dtypes_are_those_of_the_loop():
    x = X.astype(np.float32)
    for f in (
        lambda x: x * 2,
        lambda x: x / x.size,
        lambda x: x * np.float64(2),
        lambda x: x.mean(),
        lambda x: x[0] * np.ones(3),
        lambda x: x > 0,
        lambda x: x.argmax(),
    ):
        assert func.vmap(f)(x).dtype == func.vmap(f, loop=True)(x).dtype


def test_complex_numbers():
    z = X + 1j * Y
    for f in (
        func.grad(lambda z: (abs(z) ** 2).sum()),
        lambda z: func.vjp(lambda z: z * z.conj() * z, z)[1](z)[0],
        lambda z: func.jvp(lambda z: z * z.conj() * z, (z,), (1j * z,))[1],
        func.jacobian(lambda z: z**2),
        lambda z: func.vmap(func.vjp(lambda a: a * z.conj(), z)[1])(1j * np.eye(3))[0],
    ):
        assert_same(func.vmap(f)(z), func.vmap(f, loop=True)(z))


@pytest.mark.parametrize("loop", [False, True])
def test_a_result_that_is_the_same_for_all_needs_no_axis(loop):
    x = leaf(X)
    made = func.vmap(lambda x: (x * 0 + 2, w_plain), out_dims=None, loop=loop)(x)
    assert_same(made, [np.full(3, 2.0), X[0]])
    nested = func.vmap(lambda a: func.vmap(lambda b: a, out_dims=None)(a))(X)
    assert_same(nested, X)


def test_the_cross_entropy_of_each():
    t, p = RNG.uniform(size=(4, 3)), RNG.uniform(1, 2, size=3)
    for reduction in ("mean", "sum", "none"):

        def f(x, t, p=None):
            entropy = opgrad.ops.binary_cross_entropy_with_logits
            return entropy(x, t, None, p, reduction=reduction)  # noqa: B023

        assert_like_loop(f, X, t)
        assert_like_loop(f, X[0], t, p, in_dims=(None, 0, None))


def test_a_negative_axis_does_not_reach_the_axis_of_the_slices():
    for f in (
        lambda x: x.sum(axis=-2),
        lambda x: x.argmax(axis=-2),
        lambda x: opgrad.expand_dims(x, axis=-3),
        lambda x: x.swapaxes(0, -2),
        lambda x: x.moveaxis(-2, 0),
        lambda x: opgrad.stack([x, x], axis=-3),
        lambda x: opgrad.concat([x, x], axis=-2),
        lambda x: x.mT,
        lambda x: x.flip(axis=-2),
        lambda x: x.squeeze(axis=-2),
        lambda x: opgrad.unstack(x, axis=-2),
    ):
        for loop in (False, True):
            with pytest.raises((ValueError, IndexError)):
                func.vmap(f, loop=loop)(X[:1])


@pytest.mark.parametrize(
    "key",
    [
        (slice(None), [0, 1, 2]),
        (0, [0, 1, 2]),
        ([0, 1, 1], 0),
        (np.array([0, 1]), slice(None)),
        (np.array([[True, False, True], [False, True, False]]),),
        ([0, 1], ..., [0, 1]),
    ],
    ids=str,
)
def test_one_index_too_many_does_not_reach_the_axis_of_the_slices(key):
    for loop in (False, True):
        with pytest.raises(IndexError, match="too many indices"):
            func.vmap(lambda x: x[key], loop=loop)(X)
        with pytest.raises(IndexError, match="too many indices"):
            func.vmap(lambda x: opgrad.ops.scatter_add(x, key, (3,)), loop=loop)(X)


@pytest.mark.parametrize(
    "key",
    [
        ([0, 1], 0),
        (0, [0, 1, 1]),
        (slice(None), [0, 1]),
        ([0, 1],),
        ([0, 1], slice(None)),
        (..., [0, 1]),
        ([0, 1], ...),
        (None, [0, 1], None),
        (X[0] > 0,),
    ],
    ids=str,
)
def test_as_many_indices_as_there_are_axes_pick_what_they_pick_of_each(key):
    x = RNG.normal(size=(4, 3, 2))
    assert_same(func.vmap(lambda x: x[key])(x), np.stack([each[key] for each in x]))
    assert_like_loop(lambda x: x[key], x)


#: What NumPy takes or refuses as axes, of slices with axes and without.
AXES = (None, (), 0, -1, 1, 5, (0,), (0, 1), [0], True, (True,), 1.5, "rows", np.int64(0))
OF_AXES = {
    name: getattr(opgrad, name)
    for name in (
        "sum", "mean", "prod", "var", "std", "max", "min", "argmax", "argmin", "squeeze",
        "expand_dims", "flip", "unstack",
    )
} | {
    "concat": lambda x, axis: opgrad.concat([x, x], axis=axis),
    "stack": lambda x, axis: opgrad.stack([x, x], axis=axis),
    "moveaxis": lambda x, axis: opgrad.ops.moveaxis(x, axis, 0),
    "transpose": lambda x, axis: x.transpose((axis, 1, 2)),
}  # fmt: skip


def result_or_error(f, *args):
    try:
        return data(f(*args))
    except Exception as error:  # noqa: BLE001 - which one it is, is what is compared
        return type(error)


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
@pytest.mark.parametrize("name", OF_AXES)
@pytest.mark.parametrize("shape", [(), (3,), (1, 3, 2)], ids=str)
def test_axes_are_taken_or_refused_as_of_each_slice(name, shape, dtype):
    x = RNG.normal(size=(4, *shape)).astype(dtype)
    for axis in AXES:
        one, other = (
            result_or_error(func.vmap(lambda x: OF_AXES[name](x, axis=axis), loop=loop), x)  # noqa: B023
            for loop in (False, True)
        )
        if isinstance(other, type):
            assert isinstance(one, type), (axis, one, other)
        else:
            assert not isinstance(one, type), (axis, one, other)
            assert_same(one, other)


@pytest.mark.parametrize("axis", [(0, -1), (-1, -2), (1, -1), (2, 0), (0, 1), [0, 2], (), (-2,)])
def test_several_new_axes_are_where_numpy_puts_them(axis):
    found = func.vmap(lambda x: opgrad.expand_dims(x, axis=axis))(X)
    assert_same(found, np.stack([np.expand_dims(x, axis) for x in X]))


def test_a_shape_may_be_an_array():
    assert_same(func.vmap(lambda x: opgrad.reshape(x, np.array([3, 1])))(X), X.reshape(4, 3, 1))
    found = func.vmap(lambda x: opgrad.broadcast_to(x, np.array([2, 3])))(X)
    assert_same(found, np.stack([np.broadcast_to(x, (2, 3)) for x in X]))


def test_an_axis_that_is_none_is_named():
    for axis in (True, [0]):
        with pytest.raises(TypeError, match=r"axis is .*; expected an integer, or a tuple of them"):
            func.vmap(lambda x: x.sum(axis=axis))(X)  # noqa: B023


def test_an_operator_refuses_slices_as_it_refuses_them_by_themselves():
    for f in (
        lambda x: x @ x[0],
        lambda x: x[0] @ x,
        lambda x: x.expand(-1, 3),
        lambda x: x.reshape(2, -1),
        lambda x: opgrad.broadcast_to(x, (2,)),
        lambda x: x[:, 0],
        lambda x: opgrad.ops.binary_cross_entropy_with_logits(x, x[None]),
        lambda x: opgrad.ops.binary_cross_entropy_with_logits(x, x, reduction="most"),
    ):
        for loop in (False, True):
            with pytest.raises((ValueError, IndexError)):
                func.vmap(f, loop=loop)(X[:1])


def test_an_error_tells_what_one_slice_was():
    with pytest.raises(ValueError, match="matmul") as caught:
        func.vmap(lambda x: x @ np.ones(2))(X)
    assert caught.value.__notes__ == [
        "matmul was called inside vmap: for each example with float64 (3,), float64 (2,)"
    ]


# ----------------------------------------------------------------------------------- gradients


def loss(w, x, t):
    return ((opgrad.tanh(x @ w) - t) ** 2).sum()


class TestPerExampleGradients:
    T = RNG.normal(size=(4, 2))

    def test_of_a_parameter_that_all_share(self):
        found = func.vmap(func.grad(loss), (None, 0, 0))(W, X, self.T)
        expected = [func.grad(loss)(W, x, t) for x, t in zip(X, self.T, strict=True)]
        assert type(found) is np.ndarray
        assert_same(found, np.stack(expected))

    def test_where_it_requires_grad_itself(self):
        found = []
        for loop in (False, True):
            w = leaf(W)
            made = func.vmap(func.grad(loss), (None, 0, 0), loop=loop)(w, X, self.T)
            (made**2).sum().backward()
            found.append([made, w.grad])
        assert_same(*found)

    def test_take_no_memory_for_a_parameter(self):
        sizes = []

        def f(w, x):
            sizes.append(opgrad.batched.innermost(w)._data.strides[0])
            return (x @ w).sum()

        func.vmap(func.grad(f), (None, 0))(W, X)
        assert sizes == [0]

    def test_of_what_the_function_encloses_are_their_sum(self):
        found = []
        for loop in (False, True):
            w = leaf(W)
            func.vmap(lambda x, t: loss(w, x, t), loop=loop)(X, self.T).sum().backward()  # noqa: B023
            found.append(w.grad)
        assert_same(*found)

    def test_of_a_closure_inside_a_gradient(self):
        found = []
        for loop in (False, True):
            w = leaf(W)
            slope = func.grad(lambda x: ((x @ w) ** 3).sum())  # noqa: B023
            (func.vmap(slope, loop=loop)(X) ** 2).sum().backward()
            found.append(w.grad)
        assert_same(*found)

    def test_backward_inside_adds_them_up(self):
        found = []
        for loop in (False, True):
            w = leaf(W)

            def f(x):
                y = (x @ w) ** 2  # noqa: B023
                y.backward(opgrad.asarray([1.0, 2.0]) * x[0], retain_graph=True)
                y.sum().backward()
                return y.detach()

            func.vmap(f, loop=loop)(X)
            found.append(w.grad)
        assert_same(*found)

    def test_backward_of_several_and_of_complex_numbers(self):
        found = []
        for loop in (False, True):
            w = leaf(W + 1j)

            def f(x):
                y = x @ w  # noqa: B023
                opgrad.autograd.backward([(y * y.conj()).real.sum(), y], [None, 1j * x[:2]])
                return x

            func.vmap(f, loop=loop)(X)
            found.append(w.grad)
        assert_same(*found)

    def test_backward_for_one_input(self):
        found = []
        for loop in (False, True):
            w, v = leaf(W), leaf(W)

            def f(x):
                (x @ w @ v.mT).sum().backward(inputs=v)  # noqa: B023
                return x

            func.vmap(f, loop=loop)(X)
            assert w.grad is None
            found.append(v.grad)
        assert_same(*found)

    def test_backward_inside_of_grad_reaches_its_input(self):
        def f(x):
            (x**2).sum().backward()
            return (x.grad * x).sum()

        assert_same(func.vmap(func.grad(f))(X), func.vmap(func.grad(f), loop=True)(X))

    @pytest.mark.parametrize("read", [lambda w: w.grad, lambda w: w.grad.zero_()])
    def test_that_backward_has_added_up_inside_are_not_those_of_one(self, read):
        w = leaf(X[0])

        def f(x):
            w.grad = None
            (w * x).sum().backward()
            return read(w)

        with pytest.raises(BatchError, match=r"grad: inside vmap, backward\(\) has added up"):
            func.vmap(f)(X)
        assert_same(w.grad, X.sum(axis=0))

    def test_of_what_retains_them_are_not_those_of_one(self):
        w = leaf(X[0])
        h = w * 2
        h.retain_grad()

        def f(x):
            (h * x).sum().backward()
            return h.grad

        with pytest.raises(BatchError, match=r"func\.grad gives each its own"):
            func.vmap(f)(X)
        assert_same(h.grad, X.sum(axis=0))

    def test_of_an_outer_slice_are_not_those_of_an_inner(self):
        def outer(x):
            def inner(y):
                (x * y).sum().backward()
                return x.grad

            return func.vmap(inner)(opgrad.asarray(Y)).sum()

        with pytest.raises(BatchError, match="has added up"):
            func.vmap(func.grad(outer))(X)

    def test_of_an_outer_slice_are_the_sum_over_the_inner(self):
        def outer(x):
            func.vmap(lambda y: (x * y).sum().backward() or y)(opgrad.asarray(Y))
            return (x.grad * x).sum()

        assert_same(func.vmap(func.grad(outer))(X), np.stack([Y.sum(axis=0)] * 4))

    def test_that_are_there_before_can_be_read_and_taken_away(self):
        w, v = leaf(X[0]), leaf(X[0])
        (w * 3).sum().backward()

        def f(x):
            seen = w.grad * x
            w.grad = None
            (w * x).sum().backward()
            w.grad = None
            assert w.grad is None
            assert v.grad is None
            return seen

        assert_same(func.vmap(f)(X), 3 * X)

    def test_backward_for_one_input_that_is_no_leaf(self):
        found = []
        for loop in (False, True):
            h = leaf(X[0]) * 2
            func.vmap(lambda x: (h * x).sum().backward(inputs=h) or x, loop=loop)(X)  # noqa: B023
            found.append(h.grad)
        assert_same(*found)

    def test_by_rows_that_are_batched(self):
        w = leaf(X[0])
        rows = opgrad.asarray(Y)

        def f(x):
            return opgrad.autograd.grad(w**3, w, rows * x, is_grads_batched=True)[0]

        assert_same(func.vmap(f)(X), func.vmap(f, loop=True)(X))

    def test_of_a_graph_from_outside(self):
        w = leaf(X[0])
        y = opgrad.tanh(w) * w
        (v,) = leaves_of = [leaf(Y)]
        found = func.vmap(lambda v: opgrad.autograd.grad(y, w, v, retain_graph=True)[0])(v)
        assert_same(found, Y * (np.tanh(X[0]) + X[0] / np.cosh(X[0]) ** 2))
        assert not found.requires_grad
        recorded = func.vmap(lambda v: opgrad.autograd.grad(y, w, v, create_graph=True)[0])(v)
        recorded.sum().backward()
        assert leaves_of[0].grad is not None

    @pytest.mark.parametrize("anomaly", [False, True])
    def test_of_a_graph_from_outside_meet_its_hooks(self, anomaly):
        found = []
        for loop in (False, True):
            w = leaf(X[0])
            with opgrad.autograd.set_detect_anomaly(anomaly):
                h = w * 2
                h.register_hook(lambda grad: grad * 3)
                y = opgrad.tanh(h) * h

                def pull(v):
                    return opgrad.autograd.grad(y, w, v, retain_graph=True)[0]  # noqa: B023

                found.append(func.vmap(pull, loop=loop)(Y))
        assert_same(*found)

    def test_of_a_graph_from_outside_with_other_nodes(self):
        w = leaf(X[0])
        written = w * 1
        written[1:] = w[:2] * 2
        for y in (Cube.apply(w), func.checkpoint(lambda w: opgrad.sin(w) * w, w), written):

            def pull(v):
                return opgrad.autograd.grad(y, w, v, retain_graph=True)[0]  # noqa: B023

            assert_same(func.vmap(pull)(Y), func.vmap(pull, loop=True)(Y))

    def test_that_are_nan_are_found_as_anomalies(self):
        w = leaf([0.0, 1.0])
        with opgrad.autograd.detect_anomaly():
            y = opgrad.sqrt(w)
            with pytest.raises(GraphError, match="gave nan in 3 of 6 elements"):
                func.vmap(lambda v: opgrad.autograd.grad(y, w, v)[0])(np.zeros((3, 2)))

    def test_that_differ_are_not_kept(self):
        w = leaf(X[0])
        h = w * 2
        h.retain_grad()
        with pytest.raises(BatchError, match="retain_grad: inside vmap, the gradient differs"):
            func.vmap(lambda v: opgrad.autograd.grad(h**2, w, v)[0])(Y)
        assert h.grad is None

    def test_inside_no_grad_are_values(self):
        w = leaf(W)
        with opgrad.no_grad():
            made = func.vmap(func.grad(loss), (None, 0, 0))(w, X, self.T)
        assert not made.requires_grad

    def test_touch_nothing(self):
        w = leaf(W)
        func.vmap(func.grad(loss), (None, 0, 0))(w, X, self.T)
        assert w.grad is None


class Cube(opgrad.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3 * x**2


def test_a_function_of_ones_own_is_applied_to_each():
    assert_like_loop(lambda x: Cube.apply(x * 2), X)
    assert_like_loop(lambda x: Cube.apply(x=x) + Cube.apply(opgrad.ones(3)), X)


class Dropout(opgrad.autograd.Function):
    """Draws, and writes in place, for each example anew."""

    @staticmethod
    def forward(ctx, x):
        kept = opgrad.zeros(x.shape)
        kept += opgrad.rand(x.shape) > 0.5
        ctx.save_for_backward(kept)
        return x * kept

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0]


def test_a_function_of_ones_own_may_do_what_one_example_may():
    found = []
    for loop in (False, True):
        opgrad.manual_seed(3)
        x = leaf(np.ones((8, 6)))
        made = func.vmap(lambda x: Dropout.apply(x) + func.vmap(lambda y: y * 2)(x), loop=loop)(x)
        made.sum().backward()
        found.append([made, x.grad])
    assert_same(*found)
    assert len(np.unique(found[0][0].detach().data, axis=0)) > 1


class AddTo(opgrad.autograd.Function):
    """Adds in place."""

    @staticmethod
    def forward(ctx, y, x):
        y += x
        ctx.mark_dirty(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        return grad, grad


class AddToMemory(AddTo):
    """Adds in place, past opgrad."""

    @staticmethod
    def forward(ctx, y, x):
        y.data[...] += x.data
        return y.clone()


@pytest.mark.parametrize("shape", [(3,), ()])
@pytest.mark.parametrize("function", [AddTo, AddToMemory])
def test_a_function_of_ones_own_does_not_write_to_what_is_one_for_all(function, shape):
    for make in (
        lambda x: function.apply(opgrad.zeros(shape), x),
        lambda x: func.vmap(lambda y: function.apply(x * 1, y))(
            opgrad.asarray(Y[:, 0] if shape == () else Y)
        ),
    ):
        with pytest.raises((GraphError, ValueError), match=r"read-only|expanded"):
            func.vmap(make)(X[:, 0] if shape == () else X)


def test_a_function_of_ones_own_writes_to_what_is_each_ones():
    found = func.vmap(lambda x: AddTo.apply(opgrad.zeros_like(x) * x, x))(X)
    assert_same(found, X)


def test_a_function_of_ones_own_adds_up_the_gradients_of_what_is_one_for_all():
    found = []
    for loop in (False, True):
        w = leaf(X[0])
        func.vmap(lambda x: Cube.apply(w * x) * MulBy.apply(w, x), loop=loop)(X).sum().backward()  # noqa: B023
        found.append(w.grad)
    assert_same(*found)


class MulBy(opgrad.autograd.Function):
    """The product, with a backward that is not linear in the gradient."""

    @staticmethod
    def forward(ctx, w, x):
        ctx.save_for_backward(w, x)
        return w * x

    @staticmethod
    def backward(ctx, grad):
        w, x = ctx.saved_tensors
        return opgrad.clamp(grad * x, -0.5, 0.5), grad * w


def test_a_checkpoint_around_it():
    x = leaf(X)
    func.checkpoint(func.vmap(lambda v: opgrad.sin(v).sum() * v), x).sum().backward()
    other = leaf(X)
    func.vmap(lambda v: opgrad.sin(v).sum() * v, loop=True)(other).sum().backward()
    assert_same(x.grad, other.grad)


def test_inference_mode():
    with opgrad.inference_mode():
        made = func.vmap(lambda x: x * 2 if not x.is_inference() else x)(opgrad.asarray(X))
    assert made.is_inference()


# ---------------------------------------------------------------------------- whose memory it is


class TestMemory:
    @pytest.mark.parametrize(
        "f", [lambda x: x, lambda x: x.T, lambda x: x[:2], lambda x: x.real, lambda x: x.detach()]
    )
    @pytest.mark.parametrize("axis", [0, 1])
    def test_of_a_result_is_its_own(self, f, axis):
        x = opgrad.tensor(X)
        made = func.vmap(f, 0, axis)(x)
        assert not np.shares_memory(made.data, x.data)
        made += 1
        assert_array_equal(x.data, X)

    def test_of_a_constant_can_be_written_to(self):
        w = opgrad.tensor(X[0])
        made = func.vmap(lambda x: w)(opgrad.tensor(Y))
        made += 1
        assert_array_equal(w.data, X[0])
        assert_array_equal(made.data, np.stack([X[0] + 1] * 4))

    def test_of_two_results_is_not_the_same(self):
        def twice(x):
            y = x * 2
            return y, y

        one, other = func.vmap(twice)(opgrad.tensor(X))
        one += 1
        assert_array_equal(other.data, 2 * X)

    def test_of_plain_arrays_is_not_the_callers(self):
        made = func.vmap(lambda x: x)(X)
        assert type(made) is np.ndarray
        assert not np.shares_memory(made, X)

    @pytest.mark.parametrize("f", [lambda x: x.__iadd__(1), lambda x: AddTo.apply(x, x * 0 + 1)])
    def test_of_plain_arrays_is_not_written_to(self, f):
        given = X.copy()
        assert_same(func.vmap(f, loop=True)(given), X + 1)
        assert_array_equal(given, X)

    def test_of_plain_arrays_is_not_written_to_by_a_function(self):
        given = X.copy()
        assert_same(func.vmap(lambda x: AddTo.apply(x, x * 0 + 1))(given), X + 1)
        assert_array_equal(given, X)

    def test_that_is_written_to_later_is_noticed(self):
        x = leaf(X)
        y = x * 1
        made = func.vmap(lambda x: x**2)(y)
        y += 1
        with pytest.raises(GraphError, match="'add_' has written to that memory since"):
            made.sum().backward()


# ----------------------------------------------------------------------------------- refusals

w_plain = opgrad.tensor(X[0])
w_leaf = leaf(X[0])

REFUSALS = {
    "bool(), which `if` asks for": lambda x: x if x.sum() > 0 else -x,
    "int()": lambda x: int(x[0]),
    "float()": lambda x: math.exp(x[0]),
    "complex()": lambda x: complex(x[0]),
    "an integer for Python": lambda x: [1, 2][x.argmax()],
    "item()": lambda x: x[0].item(),
    "tolist()": lambda x: x.tolist(),
    "numpy()": lambda x: x.numpy(),
    "data": lambda x: x.data,
    "data = ...": lambda x: setattr(x, "data", X[0]),
    "conversion to a NumPy array": np.asarray,
    "export by DLPack": np.from_dlpack,
    "in": lambda x: 1.0 in x,
    "format '.2f'": lambda x: f"{x[0]:.2f}",
    "copy.copy()": copy.copy,
    "copy.deepcopy()": copy.deepcopy,
    "pickle": pickle.dumps,
    "x[key] = value": lambda x: x.__setitem__(0, 1.0),
    "add_": lambda x: x.__iadd__(1),
    "mul_": lambda x: x.mul_(2),
    "zero_": lambda x: x.zero_(),
    "fill_": lambda x: x.fill_(0),
    "copy_": lambda x: x.copy_(x),
    "requires_grad_()": lambda x: x.requires_grad_(),
    "requires_grad": lambda x: opgrad.zeros(3, requires_grad=True),
    "grad = ...": lambda x: setattr(x, "grad", opgrad.zeros(3)),
    "grad_fn": lambda x: (x * w_leaf).grad_fn,
    "register_hook": lambda x: (x * w_leaf).register_hook(print),
    "register_post_accumulate_grad_hook": lambda x: x.register_post_accumulate_grad_hook(print),
    "register_multi_grad_hook": lambda x: opgrad.autograd.register_multi_grad_hook([x], print),
    "retain_grad": lambda x: (x * w_leaf).retain_grad(),
    "get_gradient_edge": lambda x: opgrad.autograd.graph.get_gradient_edge(x * w_leaf),
    "backward()": lambda x: (w_leaf**2).sum().backward(),
    "backward(inputs=...)": lambda x: (y := x * w_leaf).sum().backward(inputs=[y]),
    "grad": lambda x: opgrad.autograd.grad((x * w_leaf).sum(), w_leaf),
    "checkpoint": lambda x: func.checkpoint(opgrad.exp, x),
    "random numbers": lambda x: opgrad.rand(3),
    "_version": lambda x: x._version,
}
#: Those that say it of what they use, not of themselves.
IN_OTHER_WORDS = {
    "opgrad.tensor": opgrad.tensor,
    "opgrad.tensor of a list": lambda x: opgrad.tensor([x[0], x[1]]),
    "full": lambda x: opgrad.full((2,), x[0]),
    "full_like": lambda x: opgrad.full_like(w_plain, x[0]),
    "rand_like": opgrad.rand_like,
    "randn": lambda x: opgrad.randn(2, dtype=opgrad.complex128),
    "write to what is outside": lambda x: w_plain.__iadd__(1),
    "write to what is one for all": lambda x: opgrad.zeros(3).__iadd__(x),
    "write to a place in it": lambda x: opgrad.zeros(3).__setitem__(0, x[0]),
    "write at an index": lambda x: opgrad.zeros(3).__setitem__(x.argmax(), 1.0),
    "copy_ from it": lambda x: opgrad.zeros(3).copy_(x),
    "an array's index": lambda x: np.arange(9.0)[x.argmax()],
    "an axis": lambda x: x.sum(axis=x.argmax()),
    "a shape": lambda x: x.reshape(x.argmax(), -1),
    "save": lambda x: opgrad.save({"x": x}, "nowhere/x.safetensors"),
    "draw": lambda x: opgrad.draw(x * w_leaf),
    "range": lambda x: range(x.argmax()),
    "sorted": sorted,
    "hook of what is one for all": lambda x: (w_leaf * 2).register_hook(print),
    "hook of its node": lambda x: (w_leaf * 2).grad_fn.register_hook(print),
    "hook before its node": lambda x: (w_leaf * 2).grad_fn.register_prehook(print),
    "hook of a leaf": lambda x: w_leaf.register_post_accumulate_grad_hook(print),
    "hook of several": lambda x: opgrad.autograd.register_multi_grad_hook([w_leaf], print),
    "retained gradient of what is one for all": lambda x: (w_leaf * 2).retain_grad(),
    "gradient of what is outside": lambda x: setattr(w_plain, "grad", x),
    "increment_version": opgrad.autograd.graph.increment_version,
    "second backward of one for all": lambda x: opgrad.autograd.backward([x.sum(), w_leaf.sum()]),
}


class TestRefuses:
    @pytest.mark.parametrize("what", REFUSALS)
    def test_and_says_what_and_what_to_do(self, what):
        with pytest.raises(BatchError) as caught:
            func.vmap(REFUSALS[what])(X)
        assert str(caught.value).startswith(f"{what}: inside vmap, ")
        assert "pass loop=True to vmap, which calls the function once" in str(caught.value)

    @pytest.mark.parametrize("what", IN_OTHER_WORDS)
    def test_what_would_need_the_values(self, what):
        with pytest.raises(BatchError, match="loop=True"):
            func.vmap(IN_OTHER_WORDS[what])(X)

    def test_numpys_arrays_to_be_written_to(self):
        with pytest.raises(BatchError, match="loop=True"):
            func.vmap(lambda x: np.zeros(3).__setitem__(slice(None), x))(X)
        # NumPy says this in words of its own, with what it is about as the cause.
        with pytest.raises(ValueError, match="array element") as caught:
            func.vmap(lambda x: np.zeros(3).__setitem__(0, x[0]))(X)
        assert isinstance(caught.value.__cause__, BatchError)
        assert "loop=True" in str(caught.value.__cause__)

    def test_nothing_of_it_in_a_loop(self):
        def f(x):
            y = opgrad.zeros(3)
            y[0] = x[0] if x[0] > 0 else float(x[1])
            return y + opgrad.rand(3)

        assert func.vmap(f, loop=True)(X).shape == (4, 3)

    def test_an_index_to_write_at_with_a_word_on_what_can(self):
        with pytest.raises(BatchError, match=re.escape("it can pick, as in `x[i]`, and not write")):
            func.vmap(lambda x: opgrad.zeros(3).__setitem__(x > 0, 1.0))(X)

    def test_the_tensor_outside_of_its_call(self):
        kept = []
        func.vmap(lambda x: kept.append(x) or x)(X)
        for use in (
            lambda: kept[0] * 2,
            lambda: func.vmap(lambda y: y * kept[0])(X),
            lambda: func.vmap(lambda _: kept[0])(X),
            lambda: func.vmap(lambda _: kept[0], out_dims=None)(X),
            lambda: func.vmap(func.vmap(lambda _: kept[0]))(X),
        ):
            with pytest.raises(BatchError, match="used outside of the function that was given"):
                use()

    def test_the_tensor_as_a_gradient_that_stays(self):
        w, kept = leaf(X[0]), []
        func.vmap(lambda x: kept.append(x) or x)(X)
        with pytest.raises(BatchError, match=r"grad = \.\.\.: inside vmap"):
            w.grad = kept[0]
        assert w.grad is None

    def test_the_tensor_that_forward_of_a_function_encloses(self):
        class Enclosing(opgrad.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * enclosed[0]

        enclosed = []
        with pytest.raises(BatchError, match=r"one by one.* as an argument"):
            func.vmap(lambda x: enclosed.append(x) or Enclosing.apply(x))(X)

    def test_the_tensor_in_another_thread(self):
        found = []

        def f(x):
            def other():
                try:
                    x * 2
                except BatchError as error:
                    found.append(str(error))

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            return x

        func.vmap(f)(X)
        assert "or in another thread" in found[0]

    def test_a_recording_outside_of_its_call(self):
        kept = []
        func.vmap(lambda x: kept.append(func.vjp(opgrad.sin, x)[1]) or x)(X)
        with pytest.raises(BatchError, match="used outside"):
            kept[0](np.ones(3))

    def test_leave_nothing_behind(self):
        with pytest.raises(BatchError):
            func.vmap(lambda x: x.item())(X)
        assert opgrad.rand(2, requires_grad=True).is_leaf

    def test_sizes_that_differ_among_the_slices(self):
        with pytest.raises(ValueError, match=r"vmap: func returned shape"):
            func.vmap(lambda x: x[x > 0])(X)

    def test_a_gradient_that_does_not_fit_one_slice(self):
        with pytest.raises(GraphError, match=r"the output has shape \(3,\); pass a gradient"):
            func.vmap(lambda x: opgrad.autograd.grad(x * w_leaf, x, np.ones(2)))(leaf(X))
        with pytest.raises(
            GraphError, match=r"the output has shape \(3,\) and dtype float64; only"
        ):
            func.vmap(lambda x: opgrad.autograd.grad(x * w_leaf, x))(leaf(X))
        with pytest.raises(GraphError, match="does not require grad"):
            func.vmap(lambda x: opgrad.autograd.grad(x.sum(), x))(X)


def test_what_does_not_need_the_values_works():
    def f(x):
        assert (x.is_leaf, x.grad, x.requires_grad, x.grad_fn) == (True, None, False, None)
        assert (x.retains_grad, x.is_inference(), len({x, x})) == (False, False, 1)
        x.requires_grad_(False)
        assert (np.shape(x), np.ndim(x), np.size(x)) == ((3,), 1, 3)
        return +x

    assert_same(func.vmap(f)(X), X)


# ----------------------------------------------------------------------------------- the hook


class Scaled(Operator):
    """`x`, as it is, times the largest element along an axis."""

    @hookimpl
    def forward(self, x, /, axis=0, *, xp, factor=2):
        return factor * x * xp.max(x, axis=axis, keepdims=True)

    @hookimpl
    def backward(self, grad):
        return grad

    @hookimpl
    def batch(self, x, axis, factor):
        assert axis >= 0
        return self(x, axis + 1, factor=factor)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))


class TestHook:
    def test_gets_the_parameters_that_it_names(self):
        x = RNG.normal(size=(4, 3, 2))
        found = func.vmap(lambda x: Scaled()(x, 1, factor=3))(x)
        assert_same(found, 3 * x * x.max(axis=2, keepdims=True))

    def test_gets_an_axis_for_one_where_an_input_is_the_same_for_all(self):
        seen = []

        class Seeing(Product):
            @hookimpl
            def batch(self, a, b, xp):
                seen.append((a.shape, b.shape if isinstance(b, Tensor) else b, xp))
                return self(a, b)

        seeing = Seeing()
        func.vmap(lambda x: seeing(x, w_plain) + seeing(w_plain, x) + seeing(x, 2))(X)
        assert [each[:2] for each in seen] == [
            ((4, 3), (1, 3)), ((1, 3), (4, 3)), ((4, 3), 2)
        ]  # fmt: skip
        assert {each[2] for each in seen} == {opgrad}

    def test_may_ask_for_all_inputs_and_all_parameters(self):
        seen = []

        class Asking(Scaled):
            @hookimpl
            def batch(self, inputs, parameters):
                seen.append(parameters)
                return self(*inputs, **{**parameters, "axis": 1})

        func.vmap(Asking())(X)
        assert seen == [{"axis": 0, "factor": 2}]

    @pytest.mark.parametrize(
        ("result", "said"),
        [(lambda x: x[:1], r"float64 \(1, 3\)"), (lambda x: x.data, "float64"), (lambda x: 1, "1")],
    )
    def test_that_returns_anything_but_the_slices_is_an_error(self, result, said):
        class Wrong(Square):
            @hookimpl
            def batch(self, x):
                return result(x)

        with pytest.raises(GraphError, match=rf"wrong.batch returned {said}.*all 4 examples along"
                           if said != "float64" else "wrong.batch returned"):  # fmt: skip
            func.vmap(Wrong())(X)

    def test_that_is_misspelt_is_an_error(self):
        class Probe(Square):
            @hookimpl
            def bath(self, x):
                return self(x)

        message = r"Probe\.bath: there is no such hook; hooks are .*; did you mean 'batch'\?"
        with pytest.raises(OperatorError, match=message):
            Probe()

    def test_that_names_what_is_not_there_is_an_error(self):
        class Probe(Product):
            @hookimpl
            def batch(self, a, bb):
                return self(a, bb)

        with pytest.raises(OperatorError) as caught:
            Probe()
        assert str(caught.value).rpartition("<locals>.")[2] == (
            "Probe.batch names 'bb', which is not there to give; it may name a, b, inputs, "
            "parameters, xp; did you mean 'b'?"
        )

    def test_that_is_not_marked_is_an_error(self):
        class Probe(Square):
            def batch(self, x):
                return self(x)

        with pytest.raises(OperatorError, match=r"Probe.batch is not a hook yet"):
            Probe()

    def test_is_registered(self, site):
        site.install(
            "acme-ops",
            operators={"acme.twice": "acme_ops:twice"},
            acme_ops="""
            from opgrad import Case, Operator, hookimpl

            class Twice(Operator):
                @hookimpl
                def forward(self, x, /):
                    return 2 * x
                @hookimpl
                def backward(self, grad):
                    return 2 * grad
                @hookimpl
                def batch(self, x):
                    return self(x)
                @hookimpl
                def self_check(self, rng):
                    yield Case(rng.normal(size=3))

            twice = Twice()
            """,
        )
        assert_same(func.vmap(opgrad.ops.acme.twice)(X), 2 * X)
        assert verify("acme.twice", only=["batching"]).passed


def test_every_operator_of_several_slices_is_that_of_each():
    """All that have a hook; the probe compares them with the loop, on all of their cases."""
    hooked = [
        name for name in dir(opgrad.ops) if "batch" in getattr(opgrad.ops, name).contract.hooks
    ]
    assert len(hooked) > 60
    for name in hooked:
        assert verify(name, only=["batching"]).passed, name


# ----------------------------------------------------------------------------------- the probe


def planted(base, batch):
    class Wrong(base):
        pass

    Wrong.batch = hookimpl(batch)
    return Wrong()


def exchanged(self, x):
    return self(x)[::-1]


def detached(self, x):
    return self(x.detach())


def of_the_first(self, x):
    return self(x[:1]).expand(*x.shape)


def flat(self, x):
    return self(x).reshape(x.shape[0], -1)


def narrow(self, x):
    return self(x).astype(np.float32)


def forgets_the_second(self, a, b):
    return self(a, opgrad.ones_like(b)) + 0 * b


def only_if_both(self, a, b):
    return self(a, b) * (1 if len(a) == len(b) else 1.01)


class TestProbe:
    @pytest.mark.parametrize("wrong", [exchanged, detached, of_the_first, flat, narrow])
    def test_finds_a_wrong_hook(self, wrong):
        operator = planted(Square, wrong)
        assert not verify(operator, only=["batching"]).passed
        assert re.search("with examples of x|the output has shape", messages(operator, "batching"))

    @pytest.mark.parametrize("wrong", [forgets_the_second, only_if_both])
    def test_finds_what_is_wrong_for_some_choice_of_inputs(self, wrong):
        assert not verify(planted(Product, wrong), only=["batching"]).passed

    def test_says_what_differs(self):
        assert re.search(
            r"with examples of x: the gradient of x: at element .* it is 0, not",
            messages(planted(Square, detached), "batching"),
        )
        assert "the dtype of output 0 is float32, not float64" in messages(
            planted(Square, narrow), "batching"
        )

    def test_finds_an_axis_that_is_not_shifted(self):
        class Sum(Square):
            @hookimpl
            def forward(self, x, /, axis=0, *, xp):
                return xp.sum(x, axis=axis)

            @hookimpl
            def backward(self, grad, x_shape, axis, xp):
                return xp.broadcast_to(xp.expand_dims(grad, axis=axis), x_shape)

            @hookimpl
            def batch(self, x, axis):
                return self(x, axis)

            @hookimpl
            def self_check(self, rng):
                yield Case(rng.normal(size=(2, 2)), axis=0)

        assert not verify(Sum(), only=["batching"]).passed

    @pytest.mark.parametrize("name", ["mul", "sum", "stack", "unstack", "getitem"])
    def test_finds_every_error_that_the_self_test_plants_in_a_hook(self, name):
        planted = [each for each in mutants(getattr(opgrad.ops, name)) if "batch" in each.hook]
        assert len(planted) >= 6
        for each in planted:
            assert not verify(each.operator, only=["batching"]).passed, str(each)

    def test_finds_nothing_against_a_right_one(self):
        assert verify(planted(Square, lambda self, x: self(x)), only=["batching"]).passed

    def test_is_skipped_without_a_hook(self):
        assert "it has no batch hook" in messages(Square(), "batching")


# ------------------------------------------------------------------------------ any composition

UNARY = [
    opgrad.sin,
    lambda x: x.T,
    lambda x: x.sum(axis=-1, keepdims=True),
    lambda x: x.mean(),
    lambda x: x * 0.5 - 1,
    lambda x: x.flip(),
    lambda x: opgrad.stack([x, x * 2], axis=-1) if x.ndim < 3 else x,
    lambda x: opgrad.expand_dims(x, axis=0) if x.ndim < 3 else x,
    lambda x: x[..., 0] if x.ndim else x,
    lambda x: x[[0, 0]] if x.ndim else x,
    lambda x: x.ravel(),
    lambda x: x.detach() * x,
    lambda x: opgrad.where(x > 0, x, 0.1 * x),
    func.grad(lambda x: (x**3).sum()),
    lambda x: func.vjp(opgrad.tanh, x)[1](x)[0],
    lambda x: func.jvp(opgrad.tanh, (x,), (x,))[1],
    lambda x: func.vmap(lambda v: v * v.sum())(x) if x.ndim else x,
    lambda x: func.vmap(lambda v: v * x.sum(), 0, -1)(x) if x.ndim else x,
]
BINARY = [
    lambda x, y: x.sum() * y,
    lambda x, y: x * y.mean(),
    lambda x, y: x.ravel()[:1] + y,
    lambda x, y: x.ravel()[:1] @ y.ravel()[:1],
    lambda x, y: opgrad.concat([x.ravel(), y.ravel()])[:4],
    lambda x, y: func.grad(lambda z: (z * x.sum()).sum() ** 2)(y),
    lambda x, y: func.vmap(lambda v: v + x.sum())(y) if y.ndim else y,
]


@st.composite
def programs(draw):
    steps = []
    for count in range(2, 2 + draw(st.integers(1, 5))):
        step = draw(st.sampled_from(UNARY + BINARY))
        operands = 1 if step in UNARY else 2
        steps.append((step, [draw(st.integers(0, count - 1)) for _ in range(operands)]))
    return steps


def run(steps, x, y):
    made = [x, y]
    for step, places in steps:
        made.append(step(*(made[i] for i in places)))
    return made[-1]


@settings(deadline=None, max_examples=60)
@given(programs(), st.sampled_from([(0, 0), (0, None), (None, 1), (1, 0)]))
def test_any_composition_is_that_of_a_loop(steps, in_dims):
    rng = np.random.default_rng(1)
    args = [
        rng.uniform(0.5, 1.5, (3, 2)) if axis is None else rng.uniform(0.5, 1.5, (3, 3, 2))
        for axis in in_dims
    ]
    assert_like_loop(lambda x, y: run(steps, x, y), *args, in_dims=in_dims)


# ------------------------------------------------------------------------------------- parity


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")
class TestParity:
    def test_per_example_gradients_are_torchs(self):
        torch = pytest.importorskip("torch", reason="parity is tested against PyTorch")
        theirs_of = pytest.importorskip("torch.func")

        t = RNG.normal(size=(4, 2))

        def theirs(w, x, t):
            return ((torch.tanh(x @ w) - t) ** 2).sum()

        for make in ("grad", "jacrev", "jacfwd", "hessian"):
            found = func.vmap(getattr(func, make)(loss), (None, 0, 0))(W, X, t)
            mapped = theirs_of.vmap(getattr(theirs_of, make)(theirs), (None, 0, 0))
            assert_allclose(found, mapped(*map(torch.tensor, (W, X, t))).numpy(), rtol=1e-12)

    def test_nested_maps_are_torchs(self):
        torch = pytest.importorskip("torch", reason="parity is tested against PyTorch")
        theirs_of = pytest.importorskip("torch.func")

        def f(lib):
            return lambda x, y: lib.sin(x) * y.sum() + (x @ y) ** 2

        many = RNG.normal(size=(2, 4, 3))
        for x, y, inner, outer in [
            (X, Y, (None, 0), (0, None)),
            (X, Y, (0, None), (None, 0)),
            (many, Y[0], (0, None), (1, None)),
        ]:
            ours = func.vmap(func.vmap(f(opgrad), inner), outer, 1)
            theirs = theirs_of.vmap(theirs_of.vmap(f(torch), inner), outer, 1)
            expected = theirs(torch.tensor(x), torch.tensor(y)).numpy()
            assert_allclose(ours(x, y), expected, rtol=1e-12)


@pytest.mark.parametrize("key", [slice(0, 2), (slice(0, 2), 1), [1, 1], ...])
def test_what_is_added_to_more_places_than_it_has_is_batched_as_in_a_loop(key):
    def added(x):
        return opgrad.ops.scatter_add(x, key, (4, 2))

    examples = np.array([1.0, 2.0])
    expected = func.vmap(added, loop=True)(examples)
    assert_array_equal(func.vmap(added)(examples), expected)
