"""The transforms of ``opgrad.func``, beside closed forms and SciPy's own derivatives."""

from __future__ import annotations

import gc
import math
import re
import weakref
from collections import namedtuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import rosen_der, rosen_hess, rosen_hess_prod

import opgrad
from opgrad import Case, GraphError, Operator, Tensor, func, hookimpl
from opgrad.recording import Recording
from opgrad.trees import leaves

X = np.array([0.5, -1.5, 2.0])
V = np.array([1.0, 10.0, -3.0])


def leaf(values):
    return opgrad.tensor(values, requires_grad=True)


def cubes(x):
    return (x**3).sum()


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def waves(x):
    """From three numbers to two: the Jacobian is `waves_jacobian`."""
    return opgrad.stack([opgrad.sin(x[0]) * x[1], x[1] * x[2]])


def waves_jacobian(x):
    a, b, c = x
    return np.array([[np.cos(a) * b, np.sin(a), 0], [0, c, b]])


class TestGrad:
    def test_of_a_number_is_a_number(self):
        found = func.grad(lambda x: x**3)(2.0)
        assert (found, type(found)) == (12.0, np.float64)

    def test_of_an_array_has_its_shape_and_dtype(self):
        found = func.grad(cubes)(X.astype(np.float32))
        assert found.dtype == np.float32
        assert_allclose(found, 3 * X**2, rtol=1e-6)

    def test_works_on_numpys_functions(self):
        assert func.grad(np.sin)(0.3) == pytest.approx(math.cos(0.3), rel=1e-15)

    @pytest.mark.parametrize(
        ("argnums", "expected"), [(0, 20.0), (1, 4.0), (-1, 4.0), ((1, 0), (4.0, 20.0)), ((), ())]
    )
    def test_is_taken_of_the_arguments_that_are_named(self, argnums, expected):
        assert func.grad(lambda x, y: x * x * y, argnums)(2.0, 5.0) == expected

    def test_hands_other_arguments_on_as_they_are(self):
        def scaled(x, name, *, by):
            assert (name, by) == ("a name", None)
            return x * 7

        assert func.grad(scaled)(1.0, "a name", by=None) == 7.0

    def test_has_the_form_of_its_argument(self):
        Layer = namedtuple("Layer", "w b")  # noqa: PYI024 - a tuple of arrays

        def loss(p):
            assert p["nothing"] is None
            first, (second,) = p["layers"]
            return (first.w * 2 + first.b * 3 + second**2).sum()

        given = {"layers": [Layer(X, 1.0), (X,)], "nothing": None}
        found = func.grad(loss)(given)
        assert (list(found), found["nothing"]) == (["layers", "nothing"], None)
        layer, (second,) = found["layers"]
        assert type(layer) is Layer
        assert_array_equal(layer.w, [2.0, 2.0, 2.0])
        assert layer.b == 9.0
        assert_array_equal(second, 2 * X)

    def test_is_zero_where_nothing_depends_on_the_argument(self):
        assert_array_equal(func.grad(lambda x, y: y * 2, (0, 1))(X, 1.0)[0], np.zeros(3))
        assert func.grad(lambda x: 3.0)(1.0) == 0.0

    def test_is_no_leaf_where_nothing_depends_on_the_argument(self):
        w = leaf([1.0, 2.0])
        slope = func.grad(lambda a, b: (w * w).sum() * b, argnums=(0, 1))
        zero, other = slope(0.7, 1.0)
        assert (zero, type(zero)) == (0.0, np.float64)
        assert other.requires_grad
        zero, _ = slope(opgrad.tensor(0.7), 1.0)
        assert not zero.requires_grad
        for loop in (False, True):
            zeros = func.vmap(func.grad(lambda a: (w * w).sum()), loop=loop)(X)
            assert type(zeros) is np.ndarray
            assert_array_equal(zeros, np.zeros(3))

    def test_hands_on_what_comes_with_the_value(self):
        found, aux = func.grad(lambda x: (cubes(x), {"double": 2 * x, "name": "n"}), has_aux=True)(
            X
        )
        assert_array_equal(found, 3 * X**2)
        assert type(aux["double"]) is np.ndarray
        assert_array_equal(aux["double"], 2 * X)
        assert aux["name"] == "n"


class TestValueAndGrad:
    def test_gives_both(self):
        value, found = func.value_and_grad(rosenbrock)(X)
        assert value == pytest.approx(100 * ((-1.75) ** 2 + 0.25**2) + 0.25 + 6.25, rel=1e-15)
        assert_allclose(found, rosen_der(X), rtol=1e-14)

    def test_puts_what_comes_with_the_value_beside_it(self):
        (value, aux), found = func.value_and_grad(lambda x: (x * x, "aux"), has_aux=True)(3.0)
        assert (value, aux, found) == (9.0, "aux", 6.0)

    def test_calls_the_function_once(self):
        called = []
        func.value_and_grad(lambda x: called.append(x) or x * x)(3.0)
        assert len(called) == 1


class TestKinds:
    """Tensors give tensors; everything else gives NumPy's arrays and scalars."""

    @pytest.mark.parametrize(
        "transform",
        [
            func.grad(cubes),
            func.value_and_grad(cubes),
            func.jacrev(waves),
            func.jacfwd(waves),
            func.jacobian(waves),
            func.hessian(cubes),
            func.vmap(lambda x: x * x),
            lambda x: func.hvp(cubes)(x, V),
            lambda x: func.vhp(cubes)(x, V),
            lambda x: func.jvp(waves, (x,), (V,)),
            lambda x: func.vjp(waves, x)[1](np.ones(2)),
            lambda x: func.linearize(waves, x)[1](V),
        ],
    )
    def test_follow_the_argument(self, transform):
        of_array, of_tensor = transform(X), transform(opgrad.tensor(X))
        if not isinstance(of_array, tuple):
            of_array, of_tensor = (of_array,), (of_tensor,)
        for array, tensor in zip(of_array, of_tensor, strict=True):
            assert isinstance(array, np.ndarray | np.float64)
            assert type(tensor) is Tensor
            assert not tensor.requires_grad
            assert_allclose(array, tensor.numpy(), rtol=1e-15)

    def test_follow_what_is_differentiated_alone(self):
        data = opgrad.tensor(V)
        assert type(func.grad(lambda x, data: (x * data).sum())(X, data)) is np.ndarray

    def test_stay_tensors_rather_than_lose_a_gradient(self):
        w = leaf(2.0)
        value, found = func.value_and_grad(lambda x: cubes(x) * w)(X)
        assert type(value) is type(found) is Tensor
        (by_w,) = opgrad.autograd.grad(found.sum(), w)
        assert by_w.item() == pytest.approx((3 * X**2).sum(), rel=1e-15)

    def test_share_no_memory_with_what_was_given(self):
        x = X.copy()
        value, pull = func.vjp(lambda x: x, x)
        _, change = func.jvp(lambda x: x, (x,), (V,))
        for each in (value, *pull(V), change):
            assert not np.shares_memory(each, x)
            assert not np.shares_memory(each, V)
        v = opgrad.tensor(V)
        _, push = func.linearize(lambda x: x, opgrad.tensor(X))
        assert not np.shares_memory(push(v).data, v.data)


class TestMemory:
    def test_is_free_when_the_result_is_there(self):
        between = []

        def watched(x):
            y = x * x
            between.append(weakref.ref(y.data))
            return (y * x).sum()

        gc.collect()
        gc.disable()
        try:
            found = [
                func.value_and_grad(watched)(X),
                func.hessian(watched)(opgrad.tensor(X)),
                func.jvp(watched, (X,), (V,)),
                func.vjp(watched, X)[0],
                func.hvp(watched)(X, V),
            ]
            assert [each() for each in between] == [None] * len(found)
        finally:
            gc.enable()

    def test_is_freed_on_the_way_back(self):
        between, freed = [], []

        class Spy(Operator):
            """The input, doubled."""

            @hookimpl
            def forward(self, x, /):
                return 2 * x

            @hookimpl
            def backward(self, grad):
                freed.append(between[-1]() is None)
                return 2 * grad

            @hookimpl
            def self_check(self, rng):
                yield Case(rng.normal(size=3))

        spy = Spy()

        def watched(x):
            y = spy(x)
            between.append(weakref.ref(y.data))
            return opgrad.sin(y).sum()

        func.grad(watched)(X)
        func.vjp(watched, X)[1](1.0)
        assert freed == [True, False]

    def test_is_held_by_the_function_that_carries_gradients(self):
        between = []

        def watched(x):
            y = x * x
            between.append(weakref.ref(y.data))
            return (y * x).sum()

        _, pull = func.vjp(watched, X)
        for _ in range(2):
            assert_array_equal(pull(1.0)[0], 3 * X**2)
        del pull
        assert between[0]() is None


class TestNesting:
    def test_gives_higher_derivatives(self):
        f = np.sin
        for expected in (np.cos(0.7), -np.sin(0.7), -np.cos(0.7), np.sin(0.7)):
            f = func.grad(f)
            assert f(0.7) == pytest.approx(expected, rel=1e-14)

    @pytest.mark.parametrize("outer", [func.jacfwd, func.jacrev, func.jacobian])
    @pytest.mark.parametrize("inner", [func.jacfwd, func.jacrev, func.jacobian, func.grad])
    def test_of_either_direction_gives_the_hessian(self, inner, outer):
        assert_allclose(outer(inner(rosenbrock))(X), rosen_hess(X), rtol=1e-13, atol=1e-12)

    def test_keeps_variables_of_the_same_value_apart(self):
        # d/dx of x * d/dy (x + y), at equal x and y: the inner derivative is 1, not 2.
        assert func.grad(lambda x: x * func.grad(lambda y: x + y)(x))(1.0) == 1.0
        assert func.grad(lambda x: x * func.grad(lambda y: x + y)(1.0))(1.0) == 1.0
        assert func.grad(lambda x: x * func.jvp(lambda y: x + y, (1.0,), (1.0,))[1])(1.0) == 1.0

    def test_reaches_what_the_inner_function_encloses(self):
        def outer(x):
            return func.grad(lambda y: x * x * y**3)(2.0)

        assert func.grad(outer)(5.0) == 2 * 5.0 * 12.0
        assert func.jvp(outer, (5.0,), (1.0,)) == (300.0, 120.0)

    def test_of_products_with_the_hessian(self):
        found = func.grad(lambda x: (func.hvp(cubes)(x, V) * V).sum())(X)
        assert_allclose(found, 6 * V**2, rtol=1e-14)

    @pytest.mark.parametrize("product", [func.hvp, func.vhp])
    def test_differentiates_by_the_vector_too(self, product):
        found = func.grad(lambda v: product(cubes)(opgrad.tensor(X), v).sum())(V)
        assert_allclose(found, 6 * X, rtol=1e-14)

    def test_differentiates_by_tangents_and_cotangents(self):
        _, pull = func.vjp(waves, X)
        assert_allclose(
            func.jacrev(lambda c: pull(c)[0])(np.ones(2)), waves_jacobian(X).T, rtol=1e-15
        )
        _, push = func.linearize(waves, X)
        for transform in (func.jacrev, func.jacfwd):
            assert_allclose(transform(push)(V), waves_jacobian(X), rtol=1e-15)

    def test_of_vmap_and_grad_in_either_order(self):
        batch = np.stack([X, V])
        assert_allclose(func.vmap(func.grad(cubes))(batch), 3 * batch**2, rtol=1e-14)
        assert_allclose(
            func.grad(lambda x: func.vmap(cubes)(x).sum())(batch), 3 * batch**2, rtol=1e-14
        )


class TestTheCallersTensors:
    def test_are_left_alone(self):
        x, plain = leaf(X), opgrad.tensor(X)
        for each in (x, plain):
            before = each.requires_grad
            func.value_and_grad(cubes)(each)
            func.hessian(cubes)(each)
            func.jvp(waves, (each,), (V,))
            func.vjp(waves, each)[1](np.ones(2))
            func.checkpoint(cubes, each)
            assert (each.grad, each.requires_grad, each.is_leaf) == (None, before, True)

    def test_keep_their_graph(self):
        x = leaf(X)
        y = x * x
        assert_allclose(func.grad(cubes)(y).data, 3 * X**4, rtol=1e-14)
        y.sum().backward()
        assert_array_equal(x.grad.data, 2 * X)

    @pytest.mark.parametrize(
        "transform",
        [
            func.grad(cubes),
            lambda x: func.jvp(cubes, (x,), (np.ones(3),))[1],
            lambda x: func.linearize(cubes, x)[1](np.ones(3)),
            lambda x: func.vjp(cubes, x)[1](1.0)[0],
            func.jacfwd(cubes),
            func.jacrev(cubes),
        ],
    )
    def test_are_what_the_results_depend_on(self, transform):
        x = leaf(X)
        transform(x).sum().backward()
        assert_allclose(x.grad.data, 6 * X, rtol=1e-14)

    def test_are_what_comes_with_the_value_may_depend_on(self):
        w = leaf(2.0)

        def loss(x):
            y = x * x
            return y.sum(), y * w

        found, aux = func.grad(loss, has_aux=True)(X)
        assert_array_equal(found, 2 * X)
        aux.sum().backward()
        assert w.grad.item() == (X**2).sum()

    def test_are_what_the_value_depends_on(self):
        x = leaf(X)
        for value in (func.value_and_grad(cubes)(x)[0], func.vjp(cubes, x)[0]):
            x.grad = None
            value.backward()
            assert_allclose(x.grad.data, 3 * X**2, rtol=1e-14)


class TestNoGrad:
    def test_around_a_transform_leaves_its_numbers_as_they_are(self):
        with opgrad.no_grad():
            value, found = func.value_and_grad(cubes)(leaf(X))
            hessian = func.hessian(cubes)(X)
            _, pull = func.vjp(waves, X)
        assert_allclose(found.data, 3 * X**2, rtol=1e-14)
        assert_allclose(hessian, np.diag(6 * X), rtol=1e-14)
        assert_allclose(pull(np.array([1.0, 0.0]))[0], waves_jacobian(X)[0], rtol=1e-15)
        assert not value.requires_grad
        assert not found.requires_grad

    def test_around_a_transform_is_still_there_inside_its_results(self):
        with opgrad.no_grad():
            func.grad(cubes)(X)
            assert not opgrad.is_grad_enabled()

    def test_inside_the_function_holds(self):
        def half(x):
            with opgrad.no_grad():
                constant = x * x
            return (constant * x).sum()

        assert_allclose(func.grad(half)(X), X**2, rtol=1e-15)

    def test_is_undone_when_the_function_raises(self):
        def fails(x):
            raise KeyError

        with opgrad.no_grad():
            with pytest.raises(KeyError):
                func.grad(fails)(1.0)
            assert not opgrad.is_grad_enabled()


class TestVjp:
    def test_carries_gradients_back(self):
        value, pull = func.vjp(waves, X)
        assert_allclose(value, [np.sin(0.5) * -1.5, -3.0], rtol=1e-15)
        for cotangent in np.eye(2):
            (found,) = pull(cotangent)
            assert_allclose(found, cotangent @ waves_jacobian(X), rtol=1e-15)

    def test_takes_and_gives_trees(self):
        def both(p, y):
            return {"sum": p["a"] + y, "rest": [p["a"] * y, p["b"]]}

        value, pull = func.vjp(both, {"a": 2.0, "b": 3.0}, 5.0)
        assert value == {"sum": 7.0, "rest": [10.0, 3.0]}
        assert pull({"rest": [1.0, 100.0], "sum": 10.0}) == ({"a": 15.0, "b": 100.0}, 12.0)

    def test_hands_on_what_comes_with_the_value(self):
        value, pull, aux = func.vjp(lambda x: (x * 2, "aux"), 3.0, has_aux=True)
        assert (value, pull(1.0), aux) == (6.0, (2.0,), "aux")

    def test_has_no_gradient_where_nothing_depends(self):
        _, pull = func.vjp(lambda x, y: opgrad.tensor(1.0), X, 2.0)
        assert_array_equal(pull(1.0)[0], np.zeros(3))


class TestJvp:
    def test_is_the_directional_derivative(self):
        value, change = func.jvp(waves, (X,), (V,))
        assert_allclose(value, [np.sin(0.5) * -1.5, -3.0], rtol=1e-15)
        assert_allclose(change, waves_jacobian(X) @ V, rtol=1e-15)

    def test_takes_and_gives_trees(self):
        value, change = func.jvp(
            lambda p: (p["a"] * p["b"], [p["a"]]), [{"a": 2.0, "b": 5.0}], [{"b": 1.0, "a": 10.0}]
        )
        assert (value, change) == ((10.0, [2.0]), (52.0, [10.0]))

    def test_hands_on_what_comes_with_the_value(self):
        assert func.jvp(lambda x: (x * 2, "aux"), (3.0,), (1.0,), has_aux=True) == (6.0, 2.0, "aux")

    def test_is_zero_where_nothing_depends(self):
        assert func.jvp(lambda x: opgrad.ones(2), (X,), (V,))[1].tolist() == [0.0, 0.0]

    def test_casts_the_tangent_to_the_arguments_dtype(self):
        _, change = func.jvp(lambda x: x * x, (np.float32(3.0),), (1,))
        assert (change, change.dtype) == (6.0, np.float32)


class TestLinearize:
    def test_calls_the_function_once_for_many_tangents(self):
        called = []
        _, push = func.linearize(lambda x: called.append(x) or waves(x), X)
        for tangent in np.eye(3):
            assert_allclose(push(tangent), waves_jacobian(X) @ tangent, rtol=1e-15)
        assert len(called) == 1


class Exp(opgrad.autograd.Function):
    """The exponential function, with a backward that takes a derivative by itself."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return opgrad.exp(x)

    @staticmethod
    def backward(ctx, grad):
        return Exp.slope(grad, *ctx.saved_tensors)

    @staticmethod
    def slope(grad, x):
        return grad * func.grad(lambda x: opgrad.exp(x).sum())(x)


def exp_by_itself(x, /, *, xp):
    return xp.exp(x)


def cases(rng):
    yield Case(rng.normal(size=3))


@pytest.mark.parametrize(
    "exp", [Exp.apply, Operator.define(exp_by_itself, backward=Exp.slope, self_check=cases)]
)
@pytest.mark.parametrize("loop", [False, True])
def test_a_backward_that_takes_a_derivative_does_so_for_many_examples_at_once(exp, loop):
    for derivative in (func.grad, func.hessian, func.jacrev, func.jacfwd):
        mapped = func.vmap(derivative(exp), loop=loop)
        assert_allclose(mapped(X), np.exp(X), rtol=1e-14)
        assert_allclose(func.vmap(mapped)(np.outer(X, V)), np.exp(np.outer(X, V)), rtol=1e-14)


def test_a_backward_that_takes_a_derivative_is_transposed_for_many_tangents_at_once():
    _, push = func.linearize(lambda x: x * Exp.apply(x), X)
    tangents = np.array([V, X, -2 * V, X + V])
    assert_allclose(func.vmap(push)(tangents), tangents * (1 + X) * np.exp(X), rtol=1e-14)


class TestArraysThatAreWrittenToLater:
    @pytest.mark.parametrize("as_tree", [False, True], ids=["array", "tree"])
    def test_do_not_change_what_linearize_gave(self, as_tree):
        x = X.copy()
        tree = {"x": x} if as_tree else x
        _, push = func.linearize(lambda p: (p["x"] if as_tree else p) ** 3, tree)
        x *= 3
        assert_array_equal(push({"x": np.ones(3)} if as_tree else np.ones(3)), 3 * X**2)

    def test_do_not_change_what_vjp_gave(self):
        x = X.copy()
        _, pull = func.vjp(lambda x: x * x * x, x)
        x *= 3
        assert_allclose(pull(np.ones(3))[0], 3 * X**2, rtol=1e-15)

    def test_do_not_change_what_other_objects_gave_as_their_memory(self):
        memory = bytearray(X.tobytes())
        _, pull = func.vjp(lambda x: x * x * x, np.frombuffer(memory))
        memory[:] = bytes(len(memory))
        assert_allclose(pull(np.ones(3))[0], 3 * X**2, rtol=1e-15)


DIRECTIONS = [func.jacrev, func.jacfwd, func.jacobian]


@pytest.mark.parametrize("transform", DIRECTIONS)
class TestJacobians:
    def test_of_a_vector(self, transform):
        assert_allclose(transform(waves)(X), waves_jacobian(X), rtol=1e-15)

    def test_have_the_outputs_shape_before_the_arguments(self, transform):
        a, x = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
        by_a, by_x = transform(opgrad.matmul, argnums=(0, 1))(a, x)
        assert_array_equal(by_a, np.einsum("ik,lj->ijkl", np.eye(2), x))
        assert_array_equal(by_x, np.einsum("il,jk->ijlk", a, np.eye(4)))

    def test_of_numbers_is_a_number(self, transform):
        assert transform(lambda x: x * x)(3.0) == 6.0
        assert transform(lambda x: x * X)(3.0).tolist() == X.tolist()

    def test_of_trees_have_the_arguments_form_in_the_outputs(self, transform):
        found = transform(lambda p: {"y": p["a"] * p["b"], "z": [p["b"]]})({"a": 2.0, "b": X})
        assert_array_equal(found["y"]["a"], X)
        assert_array_equal(found["y"]["b"], 2 * np.eye(3))
        assert_array_equal(found["z"][0]["a"], np.zeros(3))
        assert_array_equal(found["z"][0]["b"], np.eye(3))

    def test_of_empty_arrays_are_empty(self, transform):
        assert transform(lambda x: x[:0])(X).shape == (0, 3)
        assert transform(lambda x: opgrad.ones(2) * x.sum())(X[:0]).shape == (2, 0)

    def test_hand_on_what_comes_with_the_value(self, transform):
        found, aux = transform(lambda x: (waves(x), "aux"), has_aux=True)(X)
        assert_allclose(found, waves_jacobian(X), rtol=1e-15)
        assert aux == "aux"

    def test_call_the_function_once(self, transform):
        called = []
        transform(lambda x: called.append(x) or waves(x))(X)
        assert len(called) == 1


class TestJacobian:
    """It goes the way with fewer passes."""

    @pytest.mark.parametrize(("n", "way"), [(3, "pull"), (5, "push"), (4, "pull")])
    def test_is_backward_unless_results_are_more(self, monkeypatch, n, way):
        passes = []
        for name in ("pull", "push"):
            method = getattr(Recording, name)
            monkeypatch.setattr(
                Recording,
                name,
                lambda *args, name=name, method=method, **rest: (
                    passes.append(name) or method(*args, **rest)
                ),
            )
        found = func.jacobian(lambda x: x.sum() * np.ones(n))(np.ones(4))
        assert_array_equal(found, np.ones((n, 4)))
        assert passes == [way] * min(n, 4)


class TestHessian:
    def test_is_that_of_scipys_rosenbrock(self):
        x = np.linspace(-1, 2, 12)
        assert_allclose(func.hessian(rosenbrock)(x), rosen_hess(x), rtol=1e-13, atol=1e-11)

    def test_of_several_arguments_has_a_block_for_each_pair(self):
        (aa, ab), (ba, bb) = func.hessian(lambda a, b: a * a * cubes(b), argnums=(0, 1))(2.0, X)
        assert aa == pytest.approx(2 * cubes(X), rel=1e-15)
        assert_allclose(ab, 4 * 3 * X**2, rtol=1e-15)
        assert_allclose(ba, 4 * 3 * X**2, rtol=1e-15)
        assert_allclose(bb, np.diag(4 * 6 * X), rtol=1e-15)

    def test_of_an_array_has_its_shape_first(self):
        found = func.hessian(lambda x: x**3)(X)
        expected = np.zeros((3, 3, 3))
        expected[range(3), range(3), range(3)] = 6 * X
        assert_allclose(found, expected, rtol=1e-15)

    @pytest.mark.parametrize("product", [func.hvp, func.vhp])
    def test_products_agree_with_scipys(self, product):
        x, v = np.linspace(-1, 2, 12), np.linspace(3, -2, 12)
        assert_allclose(product(rosenbrock)(x, v), rosen_hess_prod(x, v), rtol=1e-12, atol=1e-11)

    @pytest.mark.parametrize("product", [func.hvp, func.vhp])
    def test_products_take_trees_and_further_arguments(self, product):
        def loss(p, scale, *, power):
            return scale * p["a"] ** power * p["b"]

        found = product(loss)({"a": 2.0, "b": 3.0}, {"a": 1.0, "b": 10.0}, 5.0, power=3)
        assert found == {"a": 5 * (6 * 2 * 3 * 1 + 3 * 4 * 10), "b": 5 * 3 * 4}

    @pytest.mark.parametrize("product", [func.hvp, func.vhp])
    def test_products_are_zero_for_a_linear_function(self, product):
        assert_array_equal(product(lambda x: x.sum())(X, V), np.zeros(3))


class TestComplexNumbers:
    """Gradients are those of `autograd.grad`; tangents are what they say."""

    Z = np.array([1 + 2j, -0.5 + 1j])

    def test_a_gradient_points_uphill(self):
        found = func.grad(lambda z: (abs(z) ** 2).sum())(self.Z)
        assert_allclose(found, 2 * self.Z, rtol=1e-15)

    def test_a_tangent_is_carried_as_it_is(self):
        for tangent in (1.0, 1j, 2 - 3j):
            _, change = func.jvp(lambda z: z * z, (self.Z[0],), (tangent,))
            assert change == pytest.approx(2 * self.Z[0] * tangent, rel=1e-15)
            _, change = func.jvp(lambda z: abs(z) ** 2, (self.Z[0],), (tangent,))
            assert change == pytest.approx(2 * (self.Z[0].conj() * tangent).real, rel=1e-14)

    @pytest.mark.parametrize("transform", DIRECTIONS)
    def test_a_holomorphic_function_has_its_complex_derivative(self, transform):
        found = transform(lambda z: z**3)(self.Z)
        assert_allclose(found, np.diag(3 * self.Z**2), rtol=1e-14)
        assert transform(lambda z: z * 1j)(1.0 + 0j) == 1j

    def test_jacobian_loses_no_part_of_a_derivative(self):
        assert_array_equal(func.jacobian(lambda x: (x * 1j).sum())(X), [1j, 1j, 1j])
        found = func.jacobian(lambda z: abs(z) ** 2 * X)(self.Z[0])
        assert_allclose(found, 2 * self.Z[0] * X, rtol=1e-14)

    @pytest.mark.parametrize("product", [func.hvp, func.vhp])
    def test_the_gradient_changes_along_a_vector(self, product):
        v = np.array([1j, 2.0])
        assert_allclose(product(lambda z: (abs(z) ** 2).sum())(self.Z, v), 2 * v, rtol=1e-14)


class TestVmap:
    A = np.arange(24.0).reshape(2, 3, 4)

    def test_applies_a_function_to_every_slice(self):
        assert_array_equal(func.vmap(lambda x: x.sum())(self.A), self.A.sum(axis=(1, 2)))

    @pytest.mark.parametrize("in_dim", [0, 1, 2, -1])
    @pytest.mark.parametrize("out_dim", [0, 1, 2, -1])
    def test_takes_and_puts_the_axis_where_it_is_told(self, in_dim, out_dim):
        found = func.vmap(lambda x: x * 2, in_dim, out_dim)(self.A)
        assert_array_equal(found, np.moveaxis(2 * self.A, in_dim, out_dim))

    def test_hands_an_argument_on_for_none(self):
        found = func.vmap(lambda x, w: w @ x, in_dims=(1, None))(self.A[0], X)
        assert_allclose(found, X @ self.A[0], rtol=1e-15)
        given = []
        func.vmap(lambda x, what: given.append(what) or x, (0, None), loop=True)(X, {"a": "name"})
        assert given == [{"a": "name"}] * 3

    def test_takes_and_gives_trees(self):
        found = func.vmap(
            lambda p, y: {"sum": p["a"] + y, "rest": (p["b"], p["a"])},
            in_dims=({"a": 0, "b": None}, 0),
            out_dims={"sum": 0, "rest": (None, 0)},
        )({"a": X, "b": 7.0}, V)
        assert_array_equal(found["sum"], X + V)
        assert found["rest"][0] == 7.0
        assert_array_equal(found["rest"][1], X)

    def test_nests(self):
        outer = func.vmap(func.vmap(lambda x, y: x * y, (None, 0)), (0, None))
        assert_array_equal(outer(X, V), np.outer(X, V))

    def test_may_branch_on_values(self):
        found = func.vmap(lambda x: x * 10 if x > 0 else -x, loop=True)(X)
        assert_array_equal(found, [5.0, 1.5, 20.0])

    def test_has_the_gradient_of_the_loop(self):
        x = leaf(self.A[0])
        w = np.array([1.0, 10.0, 100.0, 1000.0])
        made = func.vmap(lambda column, w: (column**2).sum() * w, in_dims=(1, 0))(x, w)
        made.sum().backward()
        assert_array_equal(x.grad.data, 2 * self.A[0] * w)

    def test_reaches_what_the_function_encloses(self):
        w = leaf(2.0)
        found = func.vmap(lambda x: x * w)(X)
        assert type(found) is Tensor
        found.sum().backward()
        assert w.grad.item() == pytest.approx(X.sum(), rel=1e-15)

    def test_of_jvp_and_jacobian(self):
        batch = np.stack([X, V])
        found = func.vmap(lambda x, v: func.jvp(waves, (x,), (v,))[1])(batch, batch)
        assert_allclose(found, [waves_jacobian(x) @ x for x in batch], rtol=1e-14)
        found = func.vmap(func.jacobian(waves))(batch)
        assert_allclose(found, [waves_jacobian(x) for x in batch], rtol=1e-14)


NAN = opgrad.tensor([np.nan])
ERRORS = {
    "an argument of integers": (
        lambda: func.grad(cubes)(np.arange(3)),
        TypeError,
        r"grad: argument 0 is int64 \(3,\); only floating and complex .* \.astype\(float\)",
    ),
    "a leaf that is no array": (
        lambda: func.value_and_grad(lambda p: p["w"])({"w": ["a"]}),
        TypeError,
        r"value_and_grad: argument 0\['w'\]\[0\] is str; expected a tensor, an array or a number",
    ),
    "argnums out of range": (
        lambda: func.jacfwd(cubes, argnums=(0, 2))(X),
        ValueError,
        r"jacfwd: argnums is \(0, 2\), but func was called with 1 positional arguments",
    ),
    "an argument that is named twice": (
        lambda: func.grad(lambda x, y: x * y, argnums=(1, -1))(1.0, 2.0),
        ValueError,
        r"grad: argnums is \(1, -1\), which names an argument twice",
    ),
    "a value that is an array": (
        lambda: func.grad(lambda x: x)(X),
        TypeError,
        r"grad: func returned float64 \(3,\); expected one real number\. Reduce it, .* jacobian",
    ),
    "a value that is complex": (
        lambda: func.hvp(lambda z: z * z)(1j, 1.0),
        TypeError,
        r"hvp: func returned complex128 \(\); expected one real number",
    ),
    "a value that is several": (
        lambda: func.grad(lambda x: (x, x))(1.0),
        TypeError,
        r"grad: func returned 2 arrays; expected one real number",
    ),
    "a value that is no array": (
        lambda: func.vjp(lambda x: {"y": "text"}, 1.0),
        TypeError,
        r"vjp: what func returned\['y'\] is str; expected a tensor",
    ),
    "no aux": (
        lambda: func.grad(lambda x: x, has_aux=True)(1.0),
        TypeError,
        r"grad: func returned float64 \(\); with has_aux, expected \(value, aux\)",
    ),
    "primals that are no tuple": (
        lambda: func.jvp(cubes, X, (V,)),
        TypeError,
        r"jvp: primals is float64 \(3,\); expected a tuple, with one for each argument",
    ),
    "a tangent too many": (
        lambda: func.jvp(cubes, (X,), (V, V)),
        ValueError,
        r"jvp: tangents has another form .* jvp: tangents\[1\] has no counterpart",
    ),
    "a tangent of another shape": (
        lambda: func.linearize(cubes, X)[1](1.0),
        ValueError,
        r"linearize: tangents\[0\] has shape \(\); expected \(3,\)",
    ),
    "a complex tangent of real numbers": (
        lambda: func.jvp(cubes, (X,), (1j * V,)),
        TypeError,
        r"jvp: tangents\[0\] is complex, and what it belongs to is float64",
    ),
    "a cotangent missing": (
        lambda: func.vjp(lambda x: {"a": x, "b": x}, 1.0)[1]({"a": 1.0}),
        ValueError,
        r"vjp: cotangents has another form than expected: .*\['b'\] is missing",
    ),
    "a vector of another shape": (
        lambda: func.vhp(cubes)(X, V[:2]),
        ValueError,
        r"vhp: v has shape \(2,\); expected \(3,\)",
    ),
    "a vector of another shape, forward": (
        lambda: func.hvp(cubes)(X, V[:2]),
        ValueError,
        r"hvp: v has shape \(2,\); expected \(3,\)",
    ),
    "an argument that no tensor is made of": (
        lambda: func.vmap(lambda x, p: x)(X, {"a": "text"}),
        TypeError,
        r"vmap: args\[1\]\['a'\] is str; expected a tensor, an array or a number",
    ),
    "a result that no tensor is made of": (
        lambda: func.vmap(lambda x: (x, "text"))(X),
        TypeError,
        r"vmap: what func returned\[1\] is str; expected a tensor, an array or a number",
    ),
    "one in a loop": (
        lambda: func.vmap(lambda x: (x, "text"), loop=True)(X),
        TypeError,
        r"vmap: what func returned\[1\] is str; expected a tensor, an array or a number",
    ),
    "an axis that is no number": (
        lambda: func.vmap(cubes, in_dims=True)(X),
        ValueError,
        r"vmap: in_dims has True for tuple of 1; expected an integer, None, or as many",
    ),
    "a complex result of a real argument, backward": (
        lambda: func.jacrev(lambda x: x * 1j)(X),
        TypeError,
        r"jacrev: func returned complex numbers for real arguments, .* use jacfwd",
    ),
    "a real result of a complex argument, forward": (
        lambda: func.jacfwd(abs)(1j * X),
        TypeError,
        r"jacfwd: func returned real numbers for complex arguments, .* use jacrev",
    ),
    "a complex argument of a hessian": (
        lambda: func.hessian(lambda z: abs(z).sum())(1j * X),
        TypeError,
        r"hessian: an argument is complex; expected real ones",
    ),
    "nothing to slice": (
        lambda: func.vmap(cubes, in_dims=None)(X),
        ValueError,
        r"vmap: there is nothing to slice; in_dims is None for every argument",
    ),
    "an axis that is not there": (
        lambda: func.vmap(lambda x, y: x)(X, 1.0),
        ValueError,
        r"vmap: args\[1\] is float64 \(\), which has no axis 0 to slice; say None in in_dims",
    ),
    "different numbers of slices": (
        lambda: func.vmap(lambda x, y: x)(X, {"a": X[:1]}),
        ValueError,
        r"vmap: .* different numbers of slices: 3 of args\[0\], 1 of args\[1\]\['a'\]",
    ),
    "no slices": (
        lambda: func.vmap(cubes)(X[:0]),
        ValueError,
        r"vmap: there are no slices, so nothing tells what func returns",
    ),
    "too few in_dims": (
        lambda: func.vmap(lambda x, y: x, in_dims=(0,))(X, X),
        ValueError,
        r"vmap: in_dims has \(0,\) for tuple of 2; expected an integer, None, or as many",
    ),
    "out_dims of another form": (
        lambda: func.vmap(lambda x: x, out_dims=(0, 0))(X),
        ValueError,
        r"vmap: out_dims has \(0, 0\) for an array; expected an integer, None",
    ),
    "a result that differs, and has no axis": (
        lambda: func.vmap(lambda x: x, out_dims=None)(X),
        ValueError,
        r"vmap: out_dims is None for a result that differs between slices 0 and 1",
    ),
    "results of different forms": (
        lambda: func.vmap(lambda x: [x] if x > 0 else [x, x], loop=True)(X),
        ValueError,
        r"vmap: func returned results of different forms for slices 0 and 1",
    ),
    "a place for the slices that is not there": (
        lambda: func.vmap(lambda x: {"a": [x]}, out_dims=5)(np.ones((3, 2))),
        ValueError,
        r"vmap: out_dims has 5 for a result of shape \(2,\) for each slice; expected .* -2 to 1",
    ),
    "one before the first": (
        lambda: func.vmap(lambda x: x, out_dims=-2, loop=True)(X),
        ValueError,
        r"vmap: out_dims has -2 for a result of shape \(\) for each slice; expected .* -1 to 0",
    ),
    "a place for what is the same for all": (
        lambda: func.vmap(lambda x: 1.0, out_dims=1)(X),
        ValueError,
        r"vmap: out_dims has 1 for a result of shape \(\) for each slice; expected .* -1 to 0",
    ),
    "results of different shapes": (
        lambda: func.vmap(lambda x: x if x > 0 else opgrad.stack([x, x]), loop=True)(X),
        ValueError,
        r"vmap: func returned shape \(\) for slice 0, \(2,\) for 1",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_names_the_transform_the_argument_and_what_to_do(case):
    call, kind, message = ERRORS[case]
    with pytest.raises(kind) as raised:
        call()
    assert re.search(message, str(raised.value), re.DOTALL)


CALLS = {
    "grad": func.grad,
    "value_and_grad": func.value_and_grad,
    "hvp": func.hvp,
    "vhp": func.vhp,
    "vjp": lambda f: func.vjp(f, 1.0),
    "jvp": lambda f: func.jvp(f, (1.0,), (1.0,)),
    "linearize": lambda f: func.linearize(f, 1.0),
    "jacrev": func.jacrev,
    "jacfwd": func.jacfwd,
    "jacobian": func.jacobian,
    "hessian": func.hessian,
    "vmap": func.vmap,
    "checkpoint": lambda f: func.checkpoint(f, 1.0),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_function_is_refused_before_it_is_called(name):
    with pytest.raises(TypeError, match=f"^{name}: func is 3; expected a function"):
        CALLS[name](3)


@pytest.mark.parametrize("argnums", ["a", 1.5, (0, "x"), None, True, {0}, np.zeros(1)], ids=str)
@pytest.mark.parametrize(
    "name", ["grad", "value_and_grad", "jacrev", "jacfwd", "jacobian", "hessian"]
)
def test_an_argument_is_named_by_its_place(name, argnums):
    with pytest.raises(TypeError, match=rf"^{name}: argnums is .*; expected the place of a posit"):
        getattr(func, name)(cubes, argnums)


def test_a_place_may_be_one_of_numpys_integers():
    for argnums, expected in ((np.int64(1), 6.0), ([np.int8(1)], (6.0,)), (range(2), (5.0, 6.0))):
        assert func.grad(lambda x, y: 5 * x + 6 * y, argnums)(1.0, 1.0) == expected


@pytest.mark.parametrize("loop", [False, True])
def test_an_axis_may_be_one_of_numpys_integers(loop):
    matrix = np.arange(6.0).reshape(2, 3)
    for in_dims, out_dims in ((np.int64(1), np.int8(-1)), ((np.int64(1),), np.int64(1))):
        assert_array_equal(
            func.vmap(lambda x: 2 * x, in_dims, out_dims, loop=loop)(matrix), 2 * matrix
        )


def test_a_tangent_through_a_singular_point_is_no_warning():
    assert func.jvp(opgrad.sqrt, (0.0,), (1.0,))[1] == math.inf


def test_a_result_that_is_nan_for_every_slice_is_the_same_for_all():
    assert_array_equal(func.vmap(lambda x: NAN, out_dims=None)(X), [np.nan])


def test_every_public_name_is_documented():
    assert all(getattr(func, name).__doc__.count("Examples\n") == 1 for name in func.__all__)


def test_a_function_that_writes_to_its_argument_is_refused():
    def writes(x):
        x += 1
        return x.sum()

    x = X.copy()
    with pytest.raises(GraphError, match="leaf"):
        func.grad(writes)(x)
    assert_array_equal(x, X)


# ------------------------------------------------------------------------------------- parity


def polynomial(x, y):
    return ((x * y + x**2) ** 2).sum()


def pair(x, y):
    return {"product": x * y, "powers": [x**3, y.sum() * x]}


PROGRAMS = {
    "grad": lambda f, x, y: f.grad(polynomial, (0, 1))(x, y),
    "grad of grad": lambda f, x, y: f.grad(
        lambda x: f.grad(lambda x: f.grad(polynomial)(x, y).sum())(x).sum()
    )(x),
    "grad with aux": lambda f, x, y: f.grad(lambda x: (polynomial(x, y), x * 2), has_aux=True)(x),
    "vjp": lambda f, x, y: f.vjp(pair, x, y)[1]({"product": y, "powers": [x, x * y]}),
    "vjp with aux": lambda f, x, y: f.vjp(lambda x: (x * y, x + y), x, has_aux=True)[::2],
    "jvp": lambda f, x, y: f.jvp(pair, (x, y), (y, x)),
    "jvp with aux": lambda f, x, y: f.jvp(lambda x: (x * y, x + y), (x,), (y,), has_aux=True),
    "linearize": lambda f, x, y: (f.linearize(pair, x, y)[0], f.linearize(pair, x, y)[1](y, x)),
    "jacrev": lambda f, x, y: f.jacrev(pair)(x, y),
    "jacrev by both": lambda f, x, y: f.jacrev(polynomial, argnums=(0, 1))(x, y),
    "jacfwd": lambda f, x, y: f.jacfwd(pair)(x, y),
    "jacrev with aux": lambda f, x, y: f.jacrev(lambda x: (x * y, x + y), has_aux=True)(x),
    "hessian": lambda f, x, y: f.hessian(polynomial)(x, y),
    "hessian by both": lambda f, x, y: f.hessian(polynomial, argnums=(1, 0))(x, y),
    "vmap": lambda f, x, y: f.vmap(lambda x, y: x * y.sum(), (0, None))(x, y),
    "vmap of trees": lambda f, x, y: f.vmap(lambda p: p["x"] + p["y"], ({"x": 0, "y": None},))(
        {"x": x, "y": y}
    ),
    "vmap to another axis": lambda f, x, y: f.vmap(lambda x: (x * y, x), out_dims=(1, 0))(x),
    "vmap of grad": lambda f, x, y: f.vmap(f.grad(lambda x, y: (x * y).sum() ** 2), (0, None))(
        x, y
    ),
    "jacfwd of jacrev": lambda f, x, y: f.jacfwd(f.jacrev(lambda x: x * (x * y).sum()))(x),
    "perturbations": lambda f, x, y: f.grad(
        lambda x: (x * f.grad(lambda z: (x * z * z).sum())(x)).sum()
    )(x),
}


def flat(tree):
    return {path: leaf.detach().numpy() for path, leaf in leaves(tree)}


def assert_same(ours, theirs):
    ours, theirs = flat(ours), flat(theirs)
    assert list(ours) == list(theirs)
    for path, array in ours.items():
        assert (array.shape, array.dtype) == (theirs[path].shape, theirs[path].dtype)
        assert_allclose(array, theirs[path], rtol=1e-13, err_msg=path)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="parity is tested against an installed PyTorch")


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")
class TestParity:
    @pytest.mark.parametrize("name", PROGRAMS)
    def test_with_torch_func(self, torch, name):
        import torch.func

        program = PROGRAMS[name]
        ours = program(func, opgrad.tensor(X), opgrad.tensor(V))
        assert_same(ours, program(torch.func, torch.tensor(X), torch.tensor(V)))

    def test_with_torch_autograd_functional(self, torch):
        x, v = torch.tensor(X), torch.tensor(V)
        theirs = torch.autograd.functional
        hvp, vhp = func.hvp(rosenbrock), func.vhp(rosenbrock)
        assert_allclose(hvp(X, V), theirs.hvp(rosenbrock, x, v)[1].numpy(), rtol=1e-13)
        assert_allclose(vhp(X, V), theirs.vhp(rosenbrock, x, v)[1].numpy(), rtol=1e-13)
        found = func.jacobian(lambda x: x**3)(X)
        assert_allclose(found, theirs.jacobian(lambda x: x**3, x).numpy(), rtol=1e-15)

    def test_of_complex_numbers(self, torch):
        z = np.array([1 + 2j, -0.5 + 1j])
        programs = [
            lambda f, z: f.grad(lambda z: (abs(z) ** 2).sum())(z),
            lambda f, z: f.vjp(lambda z: z * z.conj() * z, z)[1](z),
            lambda f, z: f.jvp(lambda z: z * z.conj() * z, (z,), (1j * z,)),
        ]
        for program in programs:
            ours = program(func, opgrad.tensor(z))
            assert_same(ours, program(torch.func, torch.tensor(z)))

    @pytest.mark.parametrize("name", ["grad", "jacrev", "hessian"])
    def test_depends_on_what_the_function_encloses(self, torch, name):
        def program(lib, f):
            w = lib.tensor(V, requires_grad=True)
            getattr(f, name)(lambda x: ((x * w) ** 3).sum())(lib.tensor(X)).sum().backward()
            return w.grad

        assert_same(program(opgrad, func), program(torch, torch.func))
