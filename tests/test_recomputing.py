"""``opgrad.func.checkpoint``: the same gradients, without the arrays in between."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import opgrad
from opgrad import GraphError
from opgrad.func import checkpoint

X = np.array([0.5, -1.5, 2.0])


def leaf(values=X):
    return opgrad.tensor(values, requires_grad=True)


def block(x, w):
    return opgrad.tanh(opgrad.sin(x * w) * x)


def gradients(function, *leaves):
    """Return what a loss adds to the leaves' ``.grad``."""
    for each in leaves:
        each.grad = None
    function().sum().backward()
    return [each.grad.numpy().copy() for each in leaves]


def assert_as_without(call, *leaves):
    """Compare a program with checkpoints to the same one in which they only call."""
    expected = gradients(lambda: call(lambda f, *args, **kwargs: f(*args, **kwargs)), *leaves)
    found = gradients(lambda: call(checkpoint), *leaves)
    for each, other in zip(found, expected, strict=True):
        assert_allclose(each, other, rtol=1e-13)  # sums are added up in another order
        assert np.any(other)


class TestGradients:
    def test_reach_the_arguments(self):
        x, w = leaf(), leaf(2.0)
        assert_as_without(lambda call: call(block, x, w), x, w)

    def test_reach_what_the_function_encloses(self):
        x, w, unused = leaf(), leaf(2.0), leaf(1.0)

        def program(call):
            late = w * 3
            return call(lambda x: block(x, late) * w, x)

        assert_as_without(program, x, w)
        assert unused.grad is None

    def test_count_a_tensor_once_that_comes_in_several_ways(self):
        w = leaf()

        def program(call):
            x = opgrad.exp(w)  # depends on w, which the function uses beside x
            return call(lambda x, again: x * w + again * x, x, x) * w

        assert_as_without(program, w)

    def test_pass_through_a_chain_of_checkpoints(self):
        x, w = leaf(), leaf(0.7)

        def program(call):
            y = x
            for _ in range(20):
                y = call(block, y, w) + y
            return y

        assert_as_without(program, x, w)

    def test_pass_through_nested_checkpoints(self):
        x, w = leaf(), leaf(0.7)

        def program(call):
            def outer(x):
                return call(lambda y: block(y, w), call(block, x, w) * w) + x

            return call(outer, x)

        assert_as_without(program, x, w)

    def test_come_from_each_of_several_outputs(self):
        x, w = leaf(), leaf(2.0)

        def two(x, *, options):
            a = block(x, w)
            return {"a": a, "rest": (a * x, options["name"], None, np.arange(3))}

        def program(call):
            made = call(two, x, options={"name": "n"})
            product, *rest = made["rest"]
            assert rest[:2] == ["n", None]
            assert_array_equal(rest[2], [0, 1, 2])
            return made["a"] * 10 + product

        assert_as_without(program, x, w)
        assert_as_without(lambda call: call(two, x, options={"name": "n"})["rest"][0], x, w)

    def test_take_arguments_of_any_kind(self):
        x = leaf()
        assert_as_without(lambda call: call(lambda *a, n: a[0] * a[1][0] * n, x, [X], n=3), x)

    def test_pass_an_argument_that_comes_back_as_it_is(self):
        x = leaf()
        y, same = checkpoint(lambda x: (x * x, x), x)
        assert same is x
        (y + same).sum().backward()
        assert_array_equal(x.grad.data, 2 * X + 1)

    def test_of_one_output_that_is_returned_twice(self):
        x = leaf()

        def twice(x):
            y = x * x
            return y, y

        a, b = checkpoint(twice, x)
        (a + 2 * b).sum().backward()
        assert_array_equal(x.grad.data, 6 * X)

    def test_stay_none_where_a_function_has_none(self):
        class First(opgrad.autograd.Function):
            @staticmethod
            def forward(ctx, x, y):
                return x * 2

            @staticmethod
            def backward(ctx, grad):
                return grad * 2, None

        x, y = leaf(), leaf()
        checkpoint(First.apply, x, y).sum().backward()
        assert_array_equal(x.grad.data, [2, 2, 2])
        assert y.grad is None

    def test_are_those_of_the_engine_for_inputs_in_the_middle(self):
        x = leaf()
        y = x * 2
        z = checkpoint(lambda y: y * y, y)
        assert_array_equal(opgrad.autograd.grad(z.sum(), y)[0].data, 4 * X)


#: What an elementwise function of x changes by where each element of x changes by one.
TRANSFORMS = {
    "vjp": lambda f, x: opgrad.func.vjp(f, x)[1](np.ones(3))[0],
    "jvp": lambda f, x: opgrad.func.jvp(f, (x,), (np.ones(3),))[1],
    "linearize": lambda f, x: opgrad.func.linearize(f, x)[1](np.ones(3)),
    "grad": lambda f, x: opgrad.func.grad(lambda x: f(x).sum())(x),
    "jacrev": lambda f, x: opgrad.func.jacrev(f)(x).sum(axis=1),
    "jacfwd": lambda f, x: opgrad.func.jacfwd(f)(x).sum(axis=1),
}


class TestHigherDerivatives:
    def test_by_a_recorded_backward(self):
        x, w = leaf(), leaf(2.0)

        def second(call):
            y = call(block, x, w)
            dx, dw = opgrad.autograd.grad(y.sum(), [x, w], create_graph=True)
            return (dx * dx).sum() + dw * 3

        assert_as_without(second, x, w)

    def test_by_transforms_in_either_direction(self):
        def through(x):
            return checkpoint(lambda x: (x**4).sum(), x)

        for outer in (opgrad.func.jacfwd, opgrad.func.jacrev):
            assert_allclose(outer(opgrad.func.grad(through))(X), np.diag(12 * X**2), rtol=1e-14)

    @pytest.mark.parametrize("outer", TRANSFORMS)
    @pytest.mark.parametrize("inner", TRANSFORMS)
    def test_of_what_takes_derivatives_inside(self, inner, outer):
        def derived(x):  # by the function that the second call has, the transform's is over
            return x * TRANSFORMS[inner](opgrad.exp, x) + x**2

        found = TRANSFORMS[outer](lambda x: checkpoint(derived, 2 * x), X)
        assert_allclose(found, 2 * ((1 + 2 * X) * np.exp(2 * X) + 4 * X), rtol=1e-14)

    def test_of_what_takes_derivatives_inside_a_nested_checkpoint(self):
        def slope(x):
            return opgrad.func.vjp(opgrad.exp, x)[1](opgrad.ones_like(x))[0]

        def nested(x):
            return checkpoint(lambda x: checkpoint(slope, x) * x, x)

        found = opgrad.func.grad(lambda x: nested(x).sum())(X)
        assert_allclose(found, (1 + X) * np.exp(X), rtol=1e-14)

    def test_of_what_does_not_depend_on_what_is_differentiated(self):
        def f(x):
            value, slope = opgrad.func.value_and_grad(lambda y: (y**3).sum())(opgrad.ones(2))
            return {"by x": x * slope.sum(), "constant": value}

        found = opgrad.func.jacrev(lambda x: checkpoint(f, x)["by x"])(X)
        assert_allclose(found, 6 * np.eye(3), rtol=1e-14)

    def test_of_tangents(self):
        w = leaf(3.0)
        _, change = opgrad.func.jvp(lambda x: checkpoint(block, x, w), (X,), (np.ones(3),))
        _, expected = opgrad.func.jvp(lambda x: block(x, w), (X,), (np.ones(3),))
        assert_allclose(change.detach().numpy(), expected.detach().numpy(), rtol=1e-15)
        (by_w,) = opgrad.autograd.grad(change.sum(), w)
        (as_expected,) = opgrad.autograd.grad(expected.sum(), w)
        assert by_w.item() == pytest.approx(as_expected.item(), rel=1e-14)


def writes(x):
    y = x.clone()
    y[0] = 3 * x[0]
    return y * x


@pytest.mark.parametrize(
    "f",
    [
        writes,
        lambda x: x * x * opgrad.rand(3),
        lambda x: checkpoint(opgrad.exp, x) * x,
        lambda x: x * opgrad.func.grad(lambda x: (x**3).sum())(x),
        lambda x: x * opgrad.func.vmap(opgrad.exp)(x),
    ],
    ids=["writes", "draws", "nests", "derives", "maps"],
)
def test_a_pass_inside_vmap_repeats_a_call_that_was_made_outside(f):
    rows = np.eye(3)[[1, 0, 2, 1]]
    opgrad.manual_seed(3)
    expected = rows @ opgrad.func.jacrev(f)(X)
    opgrad.manual_seed(3)
    _, pull = opgrad.func.vjp(lambda x: checkpoint(f, x), X)
    opgrad.manual_seed(3)
    _, push = opgrad.func.linearize(lambda x: checkpoint(f, x), X)
    (pulled,) = opgrad.func.vmap(pull)(rows)
    assert_allclose(pulled, expected, rtol=1e-14)
    assert_allclose(opgrad.func.vmap(push)(rows), expected, rtol=1e-14)


class TestMemory:
    """What a function computes in between is gone when it returns, until backward needs it."""

    @staticmethod
    def alive(call):
        between = []

        def deep(x):
            for _ in range(10):
                x = opgrad.sin(x)
                between.append(weakref.ref(x.data))
            return x

        x = leaf()
        first, second = call(deep, x), call(deep, x)
        returned = {id(first.data), id(second.data)}
        held = [each() for each in between]
        return first + second, sum(a is not None and id(a) not in returned for a in held), between

    def test_is_free_after_the_call(self):
        assert self.alive(lambda f, x: f(x))[1] == 18
        assert self.alive(checkpoint)[1] == 0

    def test_is_free_after_the_backward_pass(self):
        made, _, between = self.alive(checkpoint)
        made.sum().backward()
        assert len(between) == 40
        del made
        assert [each() for each in between] == [None] * 40

    def test_is_freed_as_any_saved_value(self):
        x = leaf()
        y = checkpoint(lambda x: x * x, x).sum()
        y.backward(retain_graph=True)
        y.backward()
        assert_array_equal(x.grad.data, 4 * X)
        with pytest.raises(GraphError, match=r"CheckpointBackward0: .* already been freed"):
            y.backward()


class TestTheSecondCall:
    def test_is_made_in_backward_alone_and_only_once(self):
        called = []
        y = checkpoint(lambda x: called.append(opgrad.is_grad_enabled()) or (x * x).sum(), leaf())
        assert called == [True]
        with opgrad.no_grad():
            y.backward()
        assert called == [True, True]

    def test_that_returns_another_shape_is_refused(self):
        lengths = iter([3, 2])
        y = checkpoint(lambda x: (x * x)[: next(lengths)], leaf())
        with pytest.raises(GraphError, match=r"checkpoint: .* shapes \[\(2,\)\], after \[\(3,\)\]"):
            y.sum().backward()

    def test_that_uses_other_tensors_is_refused(self):
        used = iter([leaf(2.0), leaf(3.0)])
        y = checkpoint(lambda x: x * next(used), leaf())
        with pytest.raises(GraphError, match=r"checkpoint: .* computed from other tensors"):
            y.sum().backward()

    def test_on_an_argument_that_was_written_to_is_refused(self):
        x = leaf()
        y = x * 1
        z = checkpoint(lambda y: y * y, y)
        with opgrad.no_grad():
            y.mul_(2)
        with pytest.raises(GraphError, match=r"CheckpointBackward0 saved 'inputs', .* has written"):
            z.sum().backward()

    def test_on_an_enclosed_leaf_that_was_written_to_is_refused(self):
        x, w = leaf(), leaf()
        z = checkpoint(lambda x: x * w, x)
        with opgrad.no_grad():
            w.mul_(2)
        with pytest.raises(GraphError, match=r"CheckpointBackward0 saved 'inputs', .* has written"):
            z.sum().backward()


class TestValuesThatAreWrittenTo:
    """The second call must not silently go on with what its tensors became in the meantime."""

    @staticmethod
    def assert_refused(call, write):
        y = call()
        with opgrad.no_grad():
            write()
        with pytest.raises(GraphError, match=r"checkpoint: float64 \(\), .* changed .* clone\(\)"):
            y.sum().backward()

    def test_an_argument_without_axes(self):
        w = leaf(2.0)
        self.assert_refused(lambda: checkpoint(lambda w: w**3, w), lambda: w.sub_(1.0))

    def test_a_leaf_without_axes_that_the_function_encloses(self):
        x, w = leaf(), leaf(2.0)
        self.assert_refused(lambda: checkpoint(lambda x: x * w, x), lambda: w.sub_(1.0))

    def test_a_constant_without_axes(self):
        x, c = leaf(), opgrad.tensor(2.0)
        self.assert_refused(lambda: checkpoint(lambda x, c: x * c, x, c), lambda: c.add_(1.0))

    def test_a_constant_without_axes_that_the_function_encloses(self):
        x, c = leaf(), opgrad.tensor(2.0)
        self.assert_refused(lambda: checkpoint(lambda x: x * c, x), lambda: c.add_(1.0))

    def test_a_view_whose_base_is_written_to(self):
        x, base = leaf(), opgrad.tensor([2.0, 3.0])
        view = base[0]
        self.assert_refused(lambda: checkpoint(lambda x, c: x * c, x, view), lambda: base.mul_(2.0))

    def test_a_view_whose_base_the_function_itself_writes_to(self):
        x, base = leaf(), opgrad.tensor([2.0, 3.0])
        view, holder = base[0], [base]

        def writes(x, c):
            y = x * c
            holder[0].mul_(2.0)
            return y

        with pytest.raises(GraphError, match=r"checkpoint: .* changed .* clone\(\)"):
            checkpoint(writes, x, view)

    def test_an_enclosed_constant_with_axes(self):
        x, c = leaf(), opgrad.tensor(X)
        z = checkpoint(lambda x: x * c, x)
        c.mul_(2)
        with pytest.raises(GraphError, match=r"CheckpointBackward0 saved 'inputs', .* has written"):
            z.sum().backward()

    def test_a_tensor_that_is_given_another_array(self):
        x = leaf()
        z = checkpoint(lambda x: x**3, x)
        x.data = np.ones(3)
        with pytest.raises(GraphError, match=r"checkpoint: float64 \(3,\), .* changed"):
            z.sum().backward()

    def test_that_are_only_looked_at_are_the_same(self):
        w = leaf(2.0)
        y = checkpoint(lambda w: w**3, w)
        assert w.data.shape == ()  # which makes an array of the number
        y.backward()
        assert w.grad.item() == 12.0

    def test_that_are_not_a_number_are_the_same(self):
        x, c = leaf(2.0), opgrad.tensor(np.nan)
        y = checkpoint(lambda x, c: x * (3.0 if np.isnan(c.item()) else c), x, c)
        y.backward()
        assert x.grad.item() == 3.0

    @pytest.mark.parametrize("values", [X, 2.0], ids=["with axes", "without"])
    def test_are_seen_inside_of_saved_tensor_hooks(self, values):
        x = leaf(values)
        with opgrad.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
            z = checkpoint(lambda x: x**3, x)
        with opgrad.no_grad():
            x.mul_(2)
        with pytest.raises(GraphError, match=r"checkpoint: .* changed|CheckpointBackward0 saved"):
            z.sum().backward()


class TestOutputsThatShareMemory:
    """They are copied, so that a write to one is a write to nothing else."""

    def test_with_an_argument(self):
        x = leaf()
        z = x * 1
        y = checkpoint(lambda z: z[:], z)
        y.mul_(2.0)
        assert_array_equal(z.data, X)
        (z * z + y).sum().backward()
        assert_array_equal(x.grad.data, 2 * X + 2)

    def test_with_a_leaf(self):
        x = leaf()
        checkpoint(lambda x: x[:], x).mul_(2.0)
        assert_array_equal(x.data, X)

    def test_with_what_the_function_encloses(self):
        x, w = leaf(), leaf()
        z = w * 1
        checkpoint(lambda x: (x * 2, z[1:]), x)[1].zero_()
        assert_array_equal(z.data, X)

    @pytest.mark.parametrize("first", [0, 1])
    def test_with_each_other(self, first):
        def parts(x):
            t = x * 2
            return (t, t[1:]) if first == 0 else (t[1:], t)

        x = leaf()
        made = checkpoint(parts, x)
        whole, part = made[first], made[1 - first]
        part.mul_(10.0)
        assert_array_equal(whole.data, 2 * X)
        (whole * whole).sum().backward(retain_graph=True)
        assert_array_equal(x.grad.data, 8 * X)
        x.grad = None
        part.sum().backward()
        assert_array_equal(x.grad.data, [0, 20, 20])

    def test_because_they_are_one_tensor_stay_one(self):
        def twice(x):
            y = x * x
            return y, [y]

        x = leaf()
        a, (b,) = checkpoint(twice, x)
        assert a is b
        b.mul_(3.0)
        a.sum().backward()
        assert_array_equal(x.grad.data, 6 * X)


class TestTheFirstCall:
    def test_that_writes_to_an_argument_is_refused(self):
        y = leaf() * 1
        with pytest.raises(GraphError, match=r"checkpoint: .* wrote to float64 \(3,\).* clone"):
            checkpoint(lambda y: y.mul_(2), y)

    def test_without_anything_that_requires_grad_is_a_call(self):
        made = checkpoint(lambda x: x * 2, opgrad.tensor(X))
        assert not made.requires_grad
        assert checkpoint(lambda: "text") == "text"

    def test_inside_no_grad_is_a_call(self):
        with opgrad.no_grad():
            assert not checkpoint(block, leaf(), leaf(2.0)).requires_grad

    def test_passes_an_exception_on(self):
        with pytest.raises(ZeroDivisionError):
            checkpoint(lambda x: 1 / 0, leaf())


class TestParity:
    pytestmark = pytest.mark.parity

    def test_with_pytorch(self):
        torch = pytest.importorskip("torch", reason="parity is tested against an installed PyTorch")
        from torch.utils.checkpoint import checkpoint as theirs

        def program(lib, call):
            x = lib.tensor(X, requires_grad=True)
            w = lib.tensor(0.7, dtype=lib.float64, requires_grad=True)

            def inner(x):
                return lib.tanh(lib.sin(x * w) * x), x * x

            y, z = call(lambda x: inner(call(inner, x)[0]), x)
            dx, dw = lib.autograd.grad((y * z).sum(), [x, w], create_graph=True)
            ((dx * dx).sum() + dw).backward()
            return [each.detach().numpy() for each in (y, z, dx, dw, x.grad, w.grad)]

        def call_theirs(*args):
            return theirs(*args, use_reentrant=False)

        ours = program(opgrad, checkpoint)
        for mine, other in zip(ours, program(torch, call_theirs), strict=True):
            assert_allclose(mine, other, rtol=1e-13)
