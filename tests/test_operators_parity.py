"""Every operator beside PyTorch 2.13: its value, its first gradients, and the gradients of those.

Both libraries get the same numbers and the same random gradients to begin with, in single and
double precision, real and complex. Where they are meant to differ, `TestDifferences` says so.
"""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import opgrad

torch = pytest.importorskip("torch", reason="parity is tested against an installed PyTorch")
pytestmark = pytest.mark.parity

inf, nan = np.inf, np.nan
functional = torch.nn.functional
bce = opgrad.nn.functional.binary_cross_entropy_with_logits

REAL, COMPLEX = ("float32", "float64"), ("complex64", "complex128")
#: How far two results may differ, relative to the largest: some tens of roundings.
CLOSE = {"float32": 1e-5, "complex64": 1e-5, "float64": 1e-13, "complex128": 1e-13}


# --------------------------------------------------------------------------- how they are compared


class Ours:
    """What the comparison needs of opgrad."""

    @staticmethod
    def leaf(data):
        return opgrad.tensor(data, requires_grad=True)

    @staticmethod
    def data(tensor):
        return tensor.detach().numpy()

    @staticmethod
    def grad(outputs, inputs, seeds, create_graph=False):
        return opgrad.autograd.grad(
            outputs, inputs, seeds, create_graph=create_graph, materialize_grads=True
        )


class Theirs:
    """The same of PyTorch."""

    @staticmethod
    def leaf(data):
        return torch.tensor(data, requires_grad=True)

    @staticmethod
    def data(tensor):
        return tensor.numpy(force=True)

    @staticmethod
    def grad(outputs, inputs, seeds, create_graph=False):
        return torch.autograd.grad(
            outputs, inputs, seeds, create_graph=create_graph, materialize_grads=True
        )


def derivatives(library, function, inputs):
    """Return the value, its gradients, and the gradients of those by the inputs and the seed."""
    leaves = [library.leaf(each) for each in inputs]
    out = function(*leaves)
    seed = library.leaf(random(tuple(out.shape), library.data(out).dtype, seed=11))
    first = library.grad([out], leaves, [seed], create_graph=True)
    recorded = [(i, each) for i, each in enumerate(first) if each.requires_grad]
    seeds = [
        library.leaf(random(tuple(each.shape), library.data(each).dtype, seed=13 + i))
        for i, each in recorded
    ]
    second = []
    if recorded:
        second = library.grad([each for _, each in recorded], [*leaves, seed], seeds)
    return [library.data(each) for each in (out, *first, *second)]


def random(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        data = data + 1j * rng.normal(size=shape)
    return np.asarray(data, dtype)


def assert_same(ours, theirs, *inputs):
    """Compare two functions of the same inputs, with their first and second gradients."""
    actual = derivatives(Ours, ours, inputs)
    expected = derivatives(Theirs, theirs, inputs)
    if len(actual) < len(expected):  # a gradient that is no function of anything is zero
        assert not any(each.any() for each in expected[len(actual) :])
    tolerance = max(CLOSE[each.dtype.name] for each in inputs)
    for got, want in zip(actual, expected, strict=False):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        size = np.abs(want[np.isfinite(want)]).max(initial=0)
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * size)


# -------------------------------------------------------------------------------- elementwise

#: Operator of ours, of PyTorch, the interval of its input, and the dtypes.
UNARY = {
    "neg": (opgrad.neg, torch.neg, (-3, 3), REAL + COMPLEX),
    "exp": (opgrad.exp, torch.exp, (-3, 3), REAL + COMPLEX),
    "log": (opgrad.log, torch.log, (0.1, 5), REAL + COMPLEX),
    "sqrt": (opgrad.sqrt, torch.sqrt, (0.1, 5), REAL + COMPLEX),
    "sin": (opgrad.sin, torch.sin, (-9, 9), REAL + COMPLEX),
    "cos": (opgrad.cos, torch.cos, (-9, 9), REAL + COMPLEX),
    "tanh": (opgrad.tanh, torch.tanh, (-2, 2), REAL + COMPLEX),
    "sigmoid": (opgrad.sigmoid, torch.sigmoid, (-6, 6), REAL),
    "abs": (opgrad.abs, torch.abs, (-3, 3), REAL + COMPLEX),
    "sign": (opgrad.sign, torch.sgn, (-3, 3), REAL + COMPLEX),
    "conj": (opgrad.conj, torch.conj_physical, (-3, 3), REAL + COMPLEX),
    "real": (opgrad.real, torch.real, (-3, 3), REAL + COMPLEX),
    "imag": (opgrad.imag, torch.imag, (-3, 3), COMPLEX),
    "clone": (opgrad.clone, torch.clone, (-3, 3), REAL + COMPLEX),
    "log1p": (opgrad.log1p, torch.log1p, (-0.5, 5), REAL + COMPLEX),
    "expm1": (opgrad.expm1, torch.expm1, (-3, 3), REAL + COMPLEX),
    "square": (opgrad.square, torch.square, (-3, 3), REAL + COMPLEX),
    "reciprocal": (opgrad.reciprocal, torch.reciprocal, (0.5, 3), REAL + COMPLEX),
    "relu": (opgrad.relu, torch.relu, (-3, 3), REAL),
    "clamp": (lambda x: x.clamp(-1, 0.5), lambda x: x.clamp(-1, 0.5), (-3, 3), REAL),
    "clamp below": (lambda x: x.clamp(min=0), lambda x: x.clamp(min=0), (-3, 3), REAL),
    "clamp above": (lambda x: x.clamp(max=0), lambda x: x.clamp(max=0), (-3, 3), REAL),
    "zero": (lambda x: opgrad.zero(x * x), lambda x: (x * x).zero_(), (-3, 3), REAL + COMPLEX),
    "fill": (lambda x: opgrad.fill(x * x, 2.5), lambda x: (x * x).fill_(2.5), (-3, 3), REAL),
    "1 / x": (lambda x: 1 / x, torch.reciprocal, (0.5, 3), REAL + COMPLEX),
    **{
        f"** {p}": (lambda x, p=p: x**p, lambda x, p=p: x**p, (0.2, 3), REAL + COMPLEX)
        for p in (0, 1, 2, 3, -1, -2, 0.5, 2.5, -1.5)
    },
    **{
        f"{b} **": (lambda x, b=b: b**x, lambda x, b=b: b**x, (-2, 2), REAL)
        for b in (2, 0.5, 1, 3.0)
    },
    "2 - x": (lambda x: 2 - x, lambda x: 2 - x, (-2, 2), REAL + COMPLEX),
    "x + 1": (lambda x: x + 1, lambda x: x + 1, (-2, 2), REAL + COMPLEX),
    "x * 2.5": (lambda x: x * 2.5, lambda x: x * 2.5, (-2, 2), REAL + COMPLEX),
    "x * 2j": (lambda x: x * 2j, lambda x: x * 2j, (-2, 2), REAL + COMPLEX),
    "x / 3": (lambda x: x / 3, lambda x: x / 3, (-2, 2), REAL + COMPLEX),
}
BINARY = {
    "add": (opgrad.add, torch.add, REAL + COMPLEX),
    "sub": (opgrad.sub, torch.sub, REAL + COMPLEX),
    "mul": (opgrad.mul, torch.mul, REAL + COMPLEX),
    "div": (opgrad.div, torch.div, REAL + COMPLEX),
    "pow": (opgrad.pow, torch.pow, REAL + COMPLEX),
    "logaddexp": (opgrad.logaddexp, torch.logaddexp, REAL),
    "maximum": (opgrad.maximum, torch.maximum, REAL),
    "minimum": (opgrad.minimum, torch.minimum, REAL),
}
PAIRS = [
    ((), ()),
    ((), (3,)),
    ((3,), ()),
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((3, 1), (2, 1, 4)),
    ((1, 1), (2, 2)),
    ((0, 3), (1, 3)),
    ((2, 0), (1,)),
]


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4), (0, 3)], ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_each_element(name, shape):
    ours, theirs, (low, high), dtypes = UNARY[name]
    for dtype in dtypes:
        x = np.random.default_rng(5).uniform(low, high, shape)
        if dtype in COMPLEX:
            x = x + 1j * np.random.default_rng(6).uniform(-1, 1, shape)
        assert_same(ours, theirs, np.asarray(x, dtype))


@pytest.mark.parametrize("shapes", PAIRS, ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_elements(name, shapes):
    ours, theirs, dtypes = BINARY[name]
    for dtype in dtypes:
        # Away from where a power, a quotient or a maximum is not smooth.
        a, b = (1.5 + np.tanh(random(shape, dtype, i).real) for i, shape in enumerate(shapes))
        if dtype in COMPLEX:
            a, b = a + 0.5j, b - 0.25j
        assert_same(ours, theirs, np.asarray(a, dtype), np.asarray(b, dtype))


@pytest.mark.parametrize("name", BINARY)
def test_dtypes_that_differ_promote(name):
    ours, theirs, allowed = BINARY[name]
    for a, b in itertools.permutations(allowed, 2):
        x, y = 1.5 + np.tanh(random(3, "float64")), 1.5 + np.tanh(random(3, "float64", 1))
        assert_same(ours, theirs, x.astype(a), y.astype(b))


@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_one_tensor_on_both_sides(name):
    ours, theirs, _ = BINARY[name]
    x = random((3,), "complex128")
    assert_same(lambda x: ours(x, x * x), lambda x: theirs(x, x * x), x)


# -------------------------------------------------------------------------------------- clamp


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("shapes", [((3, 4),) * 3, ((3, 4), (4,), (3, 1)), ((), (), ())], ids=str)
def test_clamp_to_tensors(shapes, dtype):
    x, low, high = (random(shape, dtype, seed) for seed, shape in enumerate(shapes))
    low, high = low - 0.5, high + 0.5  # where some of them cross
    assert_same(opgrad.clamp, torch.clamp, x, low, high)
    assert_same(lambda x, low: x.clamp(min=low), lambda x, low: x.clamp(min=low), x, low)
    assert_same(lambda x, high: x.clamp(max=high), lambda x, high: x.clamp(max=high), x, high)


# -------------------------------------------------------------------------------------- where


@pytest.mark.parametrize("dtype", REAL + COMPLEX)
@pytest.mark.parametrize(
    "shapes",
    [((3,), (3,), (3,)), ((3, 1), (4,), (3, 4)), ((3, 4), (), (4,)), ((2,), (1, 1), (3, 1)),
     ((0, 2), (1, 2), ())],
    ids=str,
)  # fmt: skip
def test_where(shapes, dtype):
    condition = random(shapes[0], "float64", 9) > 0
    x, y = random(shapes[1], dtype), random(shapes[2], dtype, 1)
    assert_same(
        lambda x, y: opgrad.where(condition, x, y * y),
        lambda x, y: torch.where(torch.tensor(condition), x, y * y),
        x,
        y,
    )
    assert_same(
        lambda x: opgrad.where(condition, x * x, 2.5),
        lambda x: torch.where(torch.tensor(condition), x * x, 2.5),
        x,
    )


# ------------------------------------------------------------------------------------- matmul


@pytest.mark.parametrize(
    "shapes",
    [
        ((3,), (3,)), ((3,), (3, 2)), ((4, 3), (3,)), ((4, 3), (3, 2)), ((3,), (5, 3, 2)),
        ((5, 4, 3), (3,)), ((4, 3), (5, 3, 2)), ((5, 4, 3), (3, 2)), ((5, 4, 3), (5, 3, 2)),
        ((1, 4, 3), (5, 3, 2)), ((2, 1, 4, 3), (5, 3, 2)), ((3,), (2, 5, 3, 2)),
        ((2, 5, 4, 3), (3,)), ((4, 0), (0, 2)), ((0,), (0,)), ((0, 4, 3), (3, 2)),
    ],
    ids=str,
)  # fmt: skip
def test_matmul(shapes):
    for dtype in REAL + COMPLEX:
        a, b = (random(shape, dtype, i) for i, shape in enumerate(shapes))
        assert_same(opgrad.matmul, torch.matmul, a, b)


# --------------------------------------------------------------------------------- reductions


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((), None), ((5,), None), ((5,), 0), ((3, 4), None), ((3, 4), 0), ((3, 4), -1),
        ((3, 4), (0, 1)), ((2, 3, 4), (0, -1)), ((2, 3, 4), (1,)), ((0, 3), 1), ((), 0), ((), -1),
    ],
    ids=str,
)  # fmt: skip
class TestReductions:
    @pytest.mark.parametrize("name", ["sum", "mean"])
    @pytest.mark.parametrize("dtype", REAL + COMPLEX)
    def test_sum_and_mean(self, name, dtype, shape, axis, keepdims):
        assert_same(
            lambda x: getattr(opgrad, name)(x * x, axis=axis, keepdims=keepdims),
            lambda x: getattr(torch, name)(x * x, dim=axis, keepdim=keepdims),
            random(shape, dtype),
        )

    @pytest.mark.parametrize("dtype", REAL)
    @pytest.mark.parametrize("ties", [False, True])
    @pytest.mark.parametrize("name", ["max", "min"])
    def test_extremes(self, name, ties, dtype, shape, axis, keepdims):
        one, all_, some = (getattr(torch, each) for each in (name, name, f"a{name}"))

        def theirs(x):
            if isinstance(axis, int):
                return one(x, dim=axis, keepdim=keepdims).values
            if axis is None and not keepdims:
                return all_(x)
            return some(x, dim=() if axis is None else axis, keepdim=keepdims)

        x = random(shape, dtype)
        assert_same(
            lambda x: getattr(opgrad, name)(x, axis=axis, keepdims=keepdims),
            theirs,
            np.round(x) if ties else x,
        )


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [0, -1, None])
@pytest.mark.parametrize("zeros", [0, 1, 2, 5])
def test_prod(zeros, axis, keepdims):
    for dtype in REAL + COMPLEX:
        x = random((3, 4), dtype)
        x.flat[[0, 6, 5, 4, 11][:zeros]] = 0
        assert_same(
            lambda x: opgrad.prod(x, axis=axis, keepdims=keepdims),
            lambda x: (
                torch.prod(x, dim=axis, keepdim=keepdims)
                if axis is not None
                else torch.prod(x).reshape((1, 1) if keepdims else ())
            ),
            x,
        )


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("correction", [0, 1, 0.5])
@pytest.mark.parametrize(("shape", "axis"), [((3, 4), 0), ((3, 4), None), ((2, 3, 4), (0, -1))])
@pytest.mark.parametrize("name", ["var", "std"])
def test_var_and_std(name, shape, axis, correction, keepdims):
    for dtype in REAL + COMPLEX:
        assert_same(
            lambda x: getattr(opgrad, name)(x, axis, correction=correction, keepdims=keepdims),
            lambda x: getattr(torch, name)(x, axis, correction=correction, keepdim=keepdims),
            random(shape, dtype),
        )


# ----------------------------------------------------------------------- shapes and indices


def split_and_join(parts):
    """Use some of several outputs, in both libraries alike."""
    return parts[0] * 2 + parts[-1].sum()


SHAPES = {
    "reshape": (lambda x: x.reshape(2, 6), lambda x: x.reshape(2, 6), (3, 4)),
    "reshape to -1": (lambda x: x.reshape(-1), lambda x: x.reshape(-1), (3, 4)),
    "reshape of a transpose": (lambda x: x.T.reshape(2, 6), lambda x: x.T.reshape(2, 6), (3, 4)),
    "transpose": (
        lambda x: x.transpose(2, 0, 1),
        lambda x: x.permute(2, 0, 1),
        (2, 3, 4),
    ),
    "transpose by negative axes": (
        lambda x: opgrad.transpose(x, (-1, 0, -2)),
        lambda x: x.permute(-1, 0, -2),
        (2, 3, 4),
    ),
    "T": (lambda x: x.T, lambda x: x.T, (3, 4)),
    "mT": (lambda x: x.mT, lambda x: x.mT, (2, 3, 4)),
    "expand_dims": (lambda x: opgrad.expand_dims(x, -2), lambda x: x.unsqueeze(-2), (3, 4)),
    "squeeze": (opgrad.squeeze, lambda x: x.squeeze(), (1, 3, 1)),
    "squeeze one": (lambda x: opgrad.squeeze(x, 0), lambda x: x.squeeze(0), (1, 3, 1)),
    "squeeze two": (lambda x: opgrad.squeeze(x, (0, -1)), lambda x: x.squeeze((0, -1)), (1, 3, 1)),
    "swapaxes": (lambda x: x.swapaxes(0, -1), lambda x: x.swapaxes(0, -1), (2, 3, 4)),
    "moveaxis": (lambda x: x.moveaxis(0, -1), lambda x: x.moveaxis(0, -1), (2, 3, 4)),
    "moveaxis of two": (
        lambda x: x.moveaxis((0, 1), (-1, 0)),
        lambda x: x.moveaxis((0, 1), (-1, 0)),
        (2, 3, 4),
    ),
    "flip": (lambda x: x.flip((0, -1)), lambda x: x.flip((0, -1)), (2, 3, 4)),
    "ravel": (lambda x: x.ravel(), lambda x: x.ravel(), (2, 3, 4)),
    "flatten": (lambda x: x.flatten(1), lambda x: x.flatten(1), (2, 3, 4)),
    "flatten to an end": (lambda x: x.flatten(0, -2), lambda x: x.flatten(0, -2), (2, 3, 4)),
    "expand": (lambda x: x.expand((2, -1, 4)), lambda x: x.expand((2, -1, 4)), (3, 1)),
    "stack": (
        lambda x: opgrad.stack([x, x * x], axis=1),
        lambda x: torch.stack([x, x * x], dim=1),
        (2, 3),
    ),
    "cat": (lambda x: opgrad.cat([x, x[:1]]), lambda x: torch.cat([x, x[:1]]), (2, 3)),
    "cat along an axis": (
        lambda x: opgrad.cat([x * x, x, x * x], -1),
        lambda x: torch.cat([x * x, x, x * x], -1),
        (2, 3),
    ),
    "split": (lambda x: split_and_join(x.split(2)), lambda x: split_and_join(x.split(2)), (5, 3)),
    "split by sizes": (
        lambda x: split_and_join(x.split([2, 3], 0)),
        lambda x: split_and_join(x.split([2, 3], 0)),
        (5, 3),
    ),
    "chunk": (lambda x: split_and_join(x.chunk(2)), lambda x: split_and_join(x.chunk(2)), (5, 3)),
    "unbind": (lambda x: split_and_join(x.unbind()), lambda x: split_and_join(x.unbind()), (4, 3)),
    "broadcast_to": (
        lambda x: opgrad.broadcast_to(x, (2, 3, 4)),
        lambda x: x.broadcast_to((2, 3, 4)),
        (3, 1),
    ),
}
KEYS = {
    "an integer": 2,
    "a negative integer": -1,
    "all integers": (1, 2, -1),
    "a slice": slice(1, 3),
    "a slice with a step": (slice(None), slice(None, None, 2)),
    "an ellipsis and an integer": (..., 0),
    "new axes among others": (None, 1, None, slice(0, 2), ...),
    "a list with repeats": [1, 1, 3, 1],
    "a 2-d array": np.array([[0, 1], [1, 3]]),
    "two arrays": (np.array([0, 0, 2]), np.array([4, 4, 1])),
    "two arrays that broadcast": (np.array([[0], [3]]), np.array([4, 4, 1])),
    "arrays apart": (np.array([0, 0]), slice(None), np.array([1, 1])),
    "a slice, then an array": (slice(1, None), np.array([2, 2, 0])),
    "a mask of all": np.arange(60).reshape(4, 5, 3) % 3 == 0,
    "a mask of one axis": np.array([True, False, True, True]),
    "a mask after a slice": (slice(None), np.array([True, False, True, True, False])),
    "no elements": slice(2, 2),
}


def as_torch(key):
    if isinstance(key, tuple):
        return tuple(map(as_torch, key))
    return torch.tensor(key) if isinstance(key, np.ndarray | list) else key


@pytest.mark.parametrize("dtype", REAL + COMPLEX)
@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name, dtype):
    ours, theirs, shape = SHAPES[name]
    assert_same(lambda x: ours(x * x), lambda x: theirs(x * x), random(shape, dtype))


@pytest.mark.parametrize("dtype", REAL + COMPLEX)
@pytest.mark.parametrize("name", KEYS)
class TestIndices:
    def test_getitem(self, name, dtype):
        key = KEYS[name]
        theirs = as_torch(key)
        x = random((4, 5, 3), dtype)
        assert_same(lambda x: (x * x)[key], lambda x: (x * x)[theirs], x)

    def test_scatter_add(self, name, dtype):
        key, shape = KEYS[name], (4, 5, 3)
        # Where each picked element lies, in C order: PyTorch takes that for any key.
        places = torch.arange(60).reshape(shape)[as_torch(key)]

        def theirs(x):
            zeros = torch.zeros(60, dtype=x.dtype)
            return zeros.index_put((places,), x * x, accumulate=True).reshape(shape)

        assert_same(
            lambda x: opgrad.ops.scatter_add(x * x, key, shape),
            theirs,
            random(tuple(places.shape), dtype),
        )


#: Those that pick no element twice: of several values for one place, see `TestDifferences`.
ONCE = {
    name: key
    for name, key in KEYS.items()
    if np.unique(places := np.arange(60).reshape(4, 5, 3)[key]).size == np.size(places)
}


@pytest.mark.parametrize("dtype", REAL + COMPLEX)
@pytest.mark.parametrize("name", ONCE)
def test_setitem(name, dtype):
    def theirs(x, value):
        x = x * x
        x[as_torch(ONCE[name])] = value * value
        return x

    def ours(x, value):
        return opgrad.setitem(x * x, value * value, ONCE[name])

    x = random((4, 5, 3), dtype)
    assert_same(ours, theirs, x, random(x[ONCE[name]].shape, dtype, 1))
    if dtype in ("float64", "complex128"):  # the gradient is a sum that cancels
        assert_same(ours, theirs, x, random((), dtype, 1))


@pytest.mark.parametrize(
    ("a", "b"), [*itertools.product(REAL, REAL + COMPLEX), *itertools.product(COMPLEX, COMPLEX)]
)
def test_astype(a, b):
    x = random(3, a)
    assert_same(lambda x: (x * x).astype(b), lambda x: (x * x).to(getattr(torch, b)), x)


@pytest.mark.parametrize(
    ("a", "b"), [*itertools.product(REAL, REAL), *itertools.product(COMPLEX, REAL + COMPLEX)]
)
@pytest.mark.parametrize("shape", [(3, 4), (4,), (3, 1), ()], ids=str)
def test_assign_and_fill(shape, a, b):
    x, source = random((3, 4), a), random(shape, b, 1)
    assert_same(
        lambda x, source: opgrad.assign(x * x, source * source),
        lambda x, source: (x * x).copy_(source * source),
        x,
        source,
    )
    if shape == () and (a in COMPLEX) == (b in COMPLEX):  # PyTorch's backward refuses the others
        assert_same(
            lambda x, value: opgrad.fill(x * x, value * value),
            lambda x, value: (x * x).fill_(value * value),
            x,
            source,
        )


# ----------------------------------------------------------------------------- names of nodes

#: The same call in both libraries, whose nodes have one name and as many edges.
NODES = {
    "clamp": lambda lib, x, y: x.clamp(0, 1),
    "clamp(min=)": lambda lib, x, y: x.clamp(min=0),
    "clamp to a tensor": lambda lib, x, y: x.clamp(y),
    "clamp to two": lambda lib, x, y: lib.clamp(x, y, y + 1),
    "minimum": lambda lib, x, y: x.minimum(y),
    "relu": lambda lib, x, y: lib.relu(x),
    "square": lambda lib, x, y: x.square(),
    "reciprocal": lambda lib, x, y: x.reciprocal(),
    "log1p": lambda lib, x, y: x.log1p(),
    "expm1": lambda lib, x, y: x.expm1(),
    "min over an axis": lambda lib, x, y: lib.min(x, 0)[0] if lib is torch else x.min(0),
    "prod": lambda lib, x, y: x.prod(),
    "var": lambda lib, x, y: x.var(),
    "std": lambda lib, x, y: x.std(),
    "stack": lambda lib, x, y: lib.stack([x, y, x]),
    "cat": lambda lib, x, y: lib.cat([x, y]),
    "split": lambda lib, x, y: x.split(1)[1],
    "split by sizes": lambda lib, x, y: x.split([1, 2])[1],
    "chunk": lambda lib, x, y: x.chunk(2)[1],
    "unbind": lambda lib, x, y: x.unbind()[1],
    "flip": lambda lib, x, y: x.flip(0),
    "expand": lambda lib, x, y: x.expand((2, -1, -1)),
    "swapaxes": lambda lib, x, y: x.swapaxes(0, 1),
    "moveaxis": lambda lib, x, y: x.moveaxis(0, 1),
    "ravel": lambda lib, x, y: x.ravel(),
    "flatten": lambda lib, x, y: x.flatten(),
}


@pytest.mark.parametrize("name", NODES)
def test_nodes_have_the_same_name_and_edges(name):
    def shown(library, namespace):
        x, y = library.leaf(random((3, 3), "float64")), library.leaf(random((3, 3), "float64", 1))
        node = (made := NODES[name](namespace, x, y)).grad_fn
        # What depends on the output points at its index.
        index = (-made).grad_fn.next_functions[0][1]
        edges = [edge and (type(edge).__name__, number) for edge, number in node.next_functions]
        return node.name(), index, edges

    assert shown(Ours, opgrad) == shown(Theirs, torch)


# ---------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weight", [None, (3, 4), (4,), (3, 1), ()], ids=str)
@pytest.mark.parametrize("pos_weight", [None, (3, 4), (4,), ()], ids=str)
def test_binary_cross_entropy_with_logits(pos_weight, weight, reduction):
    for dtype in REAL:
        x, t = random((3, 4), dtype) * 2, np.abs(np.tanh(random((3, 4), dtype, 1)))
        # Only here do the weights have gradients; those are compared with closed forms elsewhere.
        weights = {
            name: np.asarray(0.5 + random(shape, dtype, seed) ** 2, dtype)
            for name, shape, seed in (("weight", weight, 2), ("pos_weight", pos_weight, 3))
            if shape is not None
        }
        fixed = {name: torch.tensor(each) for name, each in weights.items()}
        ours = partial(bce, **weights, reduction=reduction)
        theirs = partial(functional.binary_cross_entropy_with_logits, **fixed, reduction=reduction)
        assert_same(ours, theirs, x, t)


# ------------------------------------------------------------------ points that are not smooth

#: Function of either library, and points at which both say the same.
POINTS = {
    "abs": (lambda lib, x: lib.abs(x), [0.0, -0.0, -1.0, inf, -inf]),
    "sqrt": (lambda lib, x: lib.sqrt(x), [0.0, 4.0, inf, -1.0]),
    "log": (lambda lib, x: lib.log(x), [0.0, 1.0, inf, -1.0]),
    "sigmoid": (lambda lib, x: lib.sigmoid(x), [0.0, 1e4, -1e4, inf, -inf, nan]),
    "tanh": (lambda lib, x: lib.tanh(x), [0.0, 1e4, -1e4, inf, -inf, nan]),
    "sign": (lambda lib, x: lib.sign(x), [0.0, -0.0, 2.0, inf, -inf]),
    "max": (lambda lib, x: lib.max(x), [1.0, 3.0, 3.0, 2.0]),
    "relu": (lambda lib, x: lib.relu(x), [0.0, -0.0, -1.0, inf, -inf, nan]),
    "clamp": (lambda lib, x: lib.clamp(x, 0, 1), [0.0, 1.0, -1.0, 2.0, inf, -inf, nan]),
    "clamp the other way round": (lambda lib, x: lib.clamp(x, 1, 0), [0.0, 1.0, 0.5, -1.0, 2.0]),
    "square": (lambda lib, x: lib.square(x), [0.0, inf, -inf, nan]),
    "reciprocal": (lambda lib, x: lib.reciprocal(x), [0.0, -0.0, inf]),
    "log1p": (lambda lib, x: lib.log1p(x), [-1.0, -2.0, 0.0, -0.0, inf]),
    "expm1": (lambda lib, x: lib.expm1(x), [0.0, -0.0, -inf, inf]),
    "min": (lambda lib, x: lib.min(x), [1.0, 3.0, 1.0, 2.0]),
    "min with nan": (lambda lib, x: lib.min(x), [1.0, nan, 3.0, nan]),
    "prod with a zero": (lambda lib, x: lib.prod(x), [2.0, 0.0, 3.0]),
    "prod with two zeros": (lambda lib, x: lib.prod(x), [2.0, 0.0, 0.0]),
    "std of equal elements": (lambda lib, x: lib.std(x, correction=0), [2.0, 2.0, 2.0]),
    "max with nan": (lambda lib, x: lib.max(x), [1.0, nan, 3.0, nan]),
    "max of one infinite": (lambda lib, x: lib.max(x), [1.0, inf, inf]),
    "x ** 0": (lambda lib, x: x**0, [0.0, -0.0, -2.0, inf, nan]),
    "x ** 0.0": (lambda lib, x: x**0.0, [0.0, -0.0, -2.0, inf, nan]),
    "x ** 1": (lambda lib, x: x**1, [0.0, -2.0, inf, nan]),
    "x ** 2": (lambda lib, x: x**2, [0.0, -2.0, inf, nan]),
    "x ** 3": (lambda lib, x: x**3, [0.0, -2.0, inf, nan]),
    "x ** -1": (lambda lib, x: x**-1, [0.0, -2.0, inf, nan]),
    "x ** 0.5": (lambda lib, x: x**0.5, [0.0, -2.0, inf, nan]),
    "x ** 1.5": (lambda lib, x: x**1.5, [0.0, -2.0, nan]),
    "0 ** x": (lambda lib, x: 0**x, [0.0, 1.0, 2.5]),
    "2 ** x": (lambda lib, x: 2**x, [0.0, -inf, inf, nan]),
    "(-2) ** x": (lambda lib, x: (-2) ** x, [2.0, 3.0, 0.5]),
    "1 / x": (lambda lib, x: 1 / x, [0.0, -0.0, inf]),
    "sqrt of a maximum": (
        lambda lib, x: lib.sqrt(lib.maximum(x, lib.zeros(3, dtype=lib.float64))),
        [-1.0, 4.0, -0.5],
    ),
    "where keeps nan out": (
        lambda lib, x: lib.where(x > 1, x, lib.full((3,), nan, dtype=lib.float64)),
        [2.0, 0.5, 3.0],
    ),
    "log where positive": (
        lambda lib, x: lib.where(x > 0, lib.log(x), 0.0),
        [2.0, 0.5, -3.0],
    ),
}
PAIRS_OF_POINTS = {
    "maximum": (lambda lib, a, b: lib.maximum(a, b), [1.0, 2.0, 2.0, nan, 1.0, inf],
                [2.0, 2.0, 1.0, 1.0, nan, inf]),
    "minimum": (lambda lib, a, b: lib.minimum(a, b), [1.0, 2.0, 2.0, nan, 1.0, inf],
                [2.0, 2.0, 1.0, 1.0, nan, inf]),
    "clamp to a tensor": (lambda lib, a, b: lib.clamp(a, min=b), [1.0, 2.0, 2.0, nan, 1.0, inf],
                          [2.0, 2.0, 1.0, 1.0, nan, inf]),
    "pow": (lambda lib, a, b: a**b, [0.0, 0.0, 0.0, -2.0, -2.0, inf, 1.0, -0.0],
            [0.0, 2.0, 1.0, 3.0, 0.0, 0.0, inf, 2.0]),
    "logaddexp": (lambda lib, a, b: lib.logaddexp(a, b), [inf, -inf, 1e3, -1e4, 0.0, nan],
                  [0.0, 1.0, 0.0, 1e4, 0.0, 1.0]),
    "div": (lambda lib, a, b: a / b, [0.0, 1.0, 0.0, inf, 1.0], [0.0, 0.0, 1.0, inf, inf]),
}  # fmt: skip


def first_order(library, function, *points):
    leaves = [library.leaf(np.array(each)) for each in points]
    out = function(*leaves)
    seed = library.leaf(np.ones(tuple(out.shape)))
    grads = library.grad([out], leaves, [seed])
    return [library.data(each) for each in (out, *grads)]


@pytest.mark.parametrize("name", [*POINTS, *PAIRS_OF_POINTS])
def test_points_that_are_not_smooth(name):
    function, *points = {**POINTS, **PAIRS_OF_POINTS}[name]
    expected = first_order(Theirs, lambda *x: function(torch, *x), *points)
    with np.errstate(all="ignore"):
        actual = first_order(Ours, lambda *x: function(opgrad, *x), *points)
    for got, want in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14)


# ----------------------------------------------------------------------------- whole programs

#: Steps from two 3x3 matrices to one, written so that both libraries take them.
STEPS = [
    lambda x, y: x + y,
    lambda x, y: x - y * 2,
    lambda x, y: x * y,
    lambda x, y: x / (1 + y * y),
    lambda x, y: x @ y * 0.25,
    lambda x, y: x.mT - y[0],
    lambda x, y: x * y.sum(0),
    lambda x, y: x + y.mean(1).reshape(3, 1),
    lambda x, y: x - y.max(),
    lambda x, y: x.maximum(y),
    lambda x, y: x.logaddexp(y),
    lambda x, y: x[[2, 0, 0]] * y[:, 1:2],
    lambda x, y: x + y[1, 2],
    lambda x, y: x * (y > 0),
    lambda x, y: (x.abs() + 0.5) ** (y.tanh()),
    lambda x, y: (x * x + 1).sqrt() - y,
    lambda x, y: (x * x + 1).log() * y,
    lambda x, y: x.sin() + y.cos(),
    lambda x, y: x.tanh() * y,
    lambda x, y: x.sigmoid() - y,
    lambda x, y: (x.tanh() - y * y).exp(),
    lambda x, y: x**2 - y**3,
    lambda x, y: -x,
    lambda x, y: x.reshape(9)[::2][:3] + y.squeeze(),
    lambda x, y: x[None].sum(0) + y[..., None].reshape(3, 3),
    lambda x, y: x[0] @ y[1] * x + y @ x[:, 0],
    lambda x, y: x.clamp(-0.5, 0.5) + y.clamp(min=0.1),
    lambda x, y: x.clamp(max=y) - x.minimum(y).relu(),
    lambda x, y: x.square() - y.square().log1p() + x.expm1(),
    lambda x, y: (1 + y * y).reciprocal() * x.prod(1),
    lambda x, y: x / (1 + y.flip((0,)).square()),
    lambda x, y: x * x.split(1)[2] + y.split([1, 2], 1)[1].sum(),
    lambda x, y: x.unbind()[1] * y.unbind(1)[2].expand((3, -1)) + y.chunk(2)[0][0],
    lambda x, y: x.swapaxes(0, 1) + y.ravel()[:3] * x.flatten()[4],
    lambda x, y: x - y.var(0, correction=0) * x.std(correction=1),
]


@settings(max_examples=150, deadline=None)
@given(
    program=st.lists(
        st.tuples(st.sampled_from(range(len(STEPS))), st.integers(0, 9), st.integers(0, 9)),
        min_size=1,
        max_size=7,
    ),
    seed=st.integers(0, 1000),
)
def test_programs_of_many_steps(program, seed):
    def run(x, y):
        values = [x, y]
        for step, i, j in program:
            made = STEPS[step](values[i % len(values)], values[j % len(values)])
            values.append(made.sin())  # which, unlike tanh, has no far end where slopes cancel
        return sum(values).sin() if len(program) % 2 else values[-1]

    x, y = random((3, 3), "float64", seed), random((3, 3), "float64", seed + 1)
    assert_same(run, run, x, y)


# -------------------------------------------------------------------------- where they differ


class TestDifferences:
    """Where opgrad does not do what PyTorch does, and why."""

    def test_the_mixed_derivative_of_a_power_with_exponent_zero(self):
        # d/dx of x**p is p * x**(p - 1), which grows with p at p = 0 by 1 / x; PyTorch has 0.
        def mixed(library):
            x, p = library.leaf(np.array(2.0)), library.leaf(np.array(0.0))
            out = x**p
            (first,) = library.grad([out], [x], [library.leaf(np.array(1.0))], create_graph=True)
            (second,) = library.grad([first], [p], [library.leaf(np.array(1.0))])
            return float(second.detach())

        assert (mixed(Ours), mixed(Theirs)) == (0.5, 0.0)

    def test_the_second_derivative_of_logaddexp_far_out(self):
        def bend(library, function):
            a = library.leaf(np.array(0.0))
            one = library.leaf(np.array(1.0))
            (first,) = library.grad([function(a)], [a], [one], create_graph=True)
            return float(library.grad([first], [a], [one])[0].detach())

        assert bend(Ours, lambda a: opgrad.logaddexp(a, 1e3)) == 0
        assert np.isnan(bend(Theirs, lambda a: torch.logaddexp(a, torch.tensor(1e3))))

    def test_the_gradient_of_values_that_were_written_over(self):
        # Of two values for one place the last one stays, and has the gradient; in PyTorch both do.
        def written(library, setitem):
            value = library.leaf(np.array([1.0, 2.0, 3.0]))
            out = setitem(value)
            seed = library.leaf(np.ones(2))
            return library.data(out), library.data(library.grad([out], [value], [seed])[0])

        def theirs(value):
            out = torch.zeros(2, dtype=torch.float64)
            out[[0, 0, 1]] = value
            return out

        values, grad = written(Ours, lambda value: opgrad.setitem(np.zeros(2), value, [0, 0, 1]))
        np.testing.assert_array_equal((values, grad[1:]), [[2, 3], [1, 1]])
        assert grad[0] == 0
        np.testing.assert_array_equal(written(Theirs, theirs)[1], [1, 1, 1])

    def test_the_gradient_of_equal_bounds(self):
        # Below both, the bounds move the result as one; PyTorch gives neither a gradient.
        def bound(library, function):
            x, low = library.leaf(np.array(0.0)), library.leaf(np.array(1.0))
            out = function(x, low, library.leaf(np.array(1.0)))
            return float(library.data(library.grad([out], [low], [library.leaf(np.array(1.0))])[0]))

        assert (bound(Ours, opgrad.clamp), bound(Theirs, torch.clamp)) == (1, 0)

    def test_a_number_and_a_tensor_as_bounds(self):
        x, bound = np.array([0.0, 2.0]), np.array(1.0)
        assert opgrad.clamp(x, -1, Ours.leaf(bound)).tolist() == [0.0, 1.0]
        with pytest.raises(TypeError, match="invalid combination of arguments"):
            torch.clamp(torch.tensor(x), -1, Theirs.leaf(bound))

    def test_the_variance_is_that_of_the_standard(self):
        # NumPy and the Array API divide by the number of elements, PyTorch by one less.
        x = np.array([1.0, 2.0, 4.0])
        assert opgrad.var(x).item() == np.var(x) == torch.var(torch.tensor(x), correction=0).item()
        assert torch.var(torch.tensor(x)).item() == opgrad.var(x, correction=1).item()

    def test_the_loss_of_a_logit_that_is_right(self):
        # PyTorch's form loses the loss of a negative logit in the rounding of the logit.
        logit, target = np.float32([-20.0]), np.float32([0.0])
        expected = np.float32(np.log1p(np.exp(-20.0)))
        assert bce(logit, target).item() == expected
        theirs = functional.binary_cross_entropy_with_logits(*map(torch.tensor, (logit, target)))
        assert theirs.item() == 0
