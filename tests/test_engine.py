"""The graph and the backward pass: what is recorded, how it is walked, what it leaves behind.

The oracles are closed forms, NumPy, and the rules that PyTorch follows; the comparison with
PyTorch itself is in test_parity.py.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import opgrad
from opgrad import Case, GraphError, Operator, hookimpl
from opgrad.autograd import AccumulateGrad, Node, grad
from opgrad.variable import Variable


def leaf(values, dtype=None):
    return opgrad.tensor(values, dtype=dtype, requires_grad=True)


def values(tensor):
    return tensor.detach().numpy()


def share_memory(*tensors):
    """Tell whether any two of the tensors share memory."""
    arrays = [each if isinstance(each, np.ndarray) else each.data for each in tensors]
    return any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[i + 1 :])


class Checked(Operator):
    """What the operators below have in common; none of them is under test itself."""

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))


class TestAccumulation:
    def test_gradients_of_several_passes_add_up(self):
        a = leaf([1.0, 2.0])
        (a * a).sum().backward()
        (3 * a).sum().backward()
        np.testing.assert_array_equal(values(a.grad), [2 + 3, 4 + 3])

    @pytest.mark.parametrize("data", [3.0, [3.0], [[1.0, 2.0], [3.0, 4.0]]])
    def test_happens_in_place_in_the_same_tensor_and_memory(self, data):
        a = leaf(data)
        (a * a).sum().backward()
        first, memory = a.grad, a.grad.data
        (a * a).sum().backward()
        assert a.grad is first
        assert np.shares_memory(a.grad.data, memory)
        np.testing.assert_array_equal(memory, 4 * np.asarray(data))

    def test_starts_anew_after_the_gradient_was_set_to_none(self):
        a = leaf([3.0])
        (a * a).backward()
        first, a.grad = a.grad, None
        (a * a).backward()
        assert a.grad is not first
        assert first.item() == a.grad.item() == 6

    def test_starts_from_zero_after_zero_(self):
        a = leaf([3.0])
        (a * a).backward()
        a.grad.zero_()
        (a * a).backward()
        assert a.grad.item() == 6

    def test_adds_to_a_gradient_that_was_assigned(self):
        a = leaf([3.0])
        a.grad = assigned = opgrad.tensor([10.0])
        (a * a).backward()
        assert a.grad is assigned
        assert assigned.item() == 16

    def test_reaches_every_leaf_and_no_other_tensor(self):
        a, b, constant = leaf([2.0]), leaf([3.0]), opgrad.tensor([5.0])
        middle = a * b
        (middle * constant).backward()
        assert (a.grad.item(), b.grad.item()) == (15, 10)
        assert constant.grad is None
        assert middle.grad is None

    def test_of_a_leaf_with_respect_to_itself_is_one(self):
        a = leaf([3.0])
        a.backward()
        a.backward()
        assert a.grad.item() == 2

    @pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
    def test_needs_no_gradient_for_one_element(self, shape):
        a = opgrad.full(shape, 3.0, requires_grad=True)
        (a * a).backward()
        assert a.grad.shape == shape
        assert a.grad.item() == 6

    def test_takes_the_gradient_of_any_other_output(self):
        a = leaf([1.0, 2.0])
        (a * a).backward(opgrad.tensor([1.0, 10.0]))
        np.testing.assert_array_equal(values(a.grad), [2, 40])

    @pytest.mark.parametrize("given", [[1, 10], (1.0, 10.0), np.float32([1, 10])])
    def test_takes_that_gradient_as_anything_like_an_array(self, given):
        a = leaf([1.0, 2.0])
        (a * a).backward(given)
        np.testing.assert_array_equal(values(a.grad), [2, 40])
        assert a.grad.dtype == a.dtype

    def test_of_several_outputs_is_one_pass(self):
        a = leaf(2.0)
        shared = a * a
        opgrad.autograd.backward([shared * 3, shared * 5])
        assert a.grad.item() == (3 + 5) * 4

    def test_of_several_outputs_takes_a_gradient_for_each(self):
        a = leaf([1.0, 2.0])
        opgrad.autograd.backward([a * 2, (a * a).sum()], [opgrad.tensor([1.0, 10.0]), None])
        np.testing.assert_array_equal(values(a.grad), [2 + 2, 20 + 4])

    def test_of_one_output_takes_the_gradient_alone_or_in_a_sequence(self):
        a, g = leaf([1.0, 2.0]), opgrad.tensor([1.0, 10.0])
        opgrad.autograd.backward(a * 1, g)
        opgrad.autograd.backward(a * 1, [g])
        opgrad.autograd.backward([a * 1], g)
        opgrad.autograd.backward([a * 1], (g.numpy(),))
        np.testing.assert_array_equal(values(a.grad), 4 * g.numpy())

    def test_works_under_no_grad_on_what_was_recorded_before(self):
        a = leaf([3.0])
        result = a * a
        with opgrad.no_grad():
            result.backward()
        assert a.grad.item() == 6
        assert not a.grad.requires_grad

    def test_switched_off_and_on_again_goes_on_where_it_stopped(self):
        a = leaf([2.0])
        result = a * a
        result.backward(retain_graph=True)
        a.requires_grad_(False)
        result.backward(retain_graph=True)
        assert a.grad.item() == 4, "what is switched off gathers nothing"
        a.requires_grad_()
        result.backward()
        assert a.grad.item() == 8, "the graph from before still knows its leaf"


class HalfSquare(Checked):
    """``x**2 / 2`` with a formula that is right for a gradient of ones alone: the input itself."""

    @hookimpl
    def forward(self, x, /):
        return x * x / 2

    @hookimpl
    def backward(self, grad, x):
        return x


class TestNothingIsShared:
    """A gradient has memory of its own: accumulation in place must be seen nowhere else."""

    @pytest.mark.parametrize(
        "function",
        [
            lambda x: x,
            lambda x: x + 0,
            lambda x: x - x * 0,
            lambda x: x.clone(),
            lambda x: x.reshape(2, 3),
            lambda x: x.T.T,
            lambda x: opgrad.broadcast_to(x, (2, 3)),
            lambda x: x[...],
            lambda x: opgrad.where(opgrad.tensor(True), x, 0),
        ],
    )
    @pytest.mark.parametrize("recorded", [False, True])
    def test_with_the_gradient_that_was_passed_in(self, function, recorded):
        a, passed = opgrad.ones(2, 3, requires_grad=True), opgrad.rand(2, 3)
        before = passed.numpy().copy()
        for _ in range(2):
            function(a).backward(passed, create_graph=recorded)
            assert not share_memory(a.grad, passed)
        np.testing.assert_array_equal(passed.numpy(), before)
        np.testing.assert_allclose(values(a.grad), 2 * before)

    def test_with_what_was_assigned_and_cannot_be_written_to(self):
        a, ones = leaf([1.0, 2.0, 3.0]), opgrad.ones(1)
        a.grad = opgrad.broadcast_to(ones, (3,))
        (a * 2).sum().backward()
        assert a.grad.tolist() == [3, 3, 3]
        assert ones.tolist() == [1]

    def test_with_an_array_that_was_passed_in(self):
        a, passed = leaf([1.0, 2.0]), np.array([3.0, 4.0])
        a.backward(passed)
        a.backward(passed)
        np.testing.assert_array_equal(passed, [3, 4])

    @pytest.mark.parametrize("recorded", [False, True])
    def test_among_leaves(self, recorded):
        a, b, c = (opgrad.rand(3, requires_grad=True) for _ in range(3))
        (a + b + c.reshape(3)).backward(opgrad.ones(3), create_graph=recorded)
        assert not share_memory(a.grad, b.grad, c.grad)

    def test_with_a_saved_value_or_an_input(self):
        a = leaf([1.0, 2.0])
        HalfSquare()(a).backward([1, 1], retain_graph=True)
        assert not share_memory(a.grad, a)
        a.grad.zero_()
        np.testing.assert_array_equal(values(a), [1, 2])

    def test_with_a_saved_value_whose_tensor_is_gone(self):
        a = leaf([1.0, 2.0])
        result = HalfSquare()(a * 1)
        (saved,) = result.grad_fn.arrays()
        result.backward([1, 1])
        assert not share_memory(a.grad, saved)

    def test_with_the_constant_that_starts_a_pass(self):
        a, b = opgrad.ones(1, requires_grad=True), opgrad.ones(1, requires_grad=True)
        a.backward()
        a.grad.data[...] = 7
        b.backward()
        assert b.grad.item() == 1

    @pytest.mark.parametrize("recorded", [False, True])
    def test_among_the_results_of_grad(self, recorded):
        a, b = opgrad.rand(3, requires_grad=True), opgrad.rand(3, requires_grad=True)
        passed = opgrad.rand(3)
        grads = grad(a + b, [a, b, a], passed, create_graph=recorded)
        assert not share_memory(*grads, passed, a, b)

    @pytest.mark.parametrize("function", [lambda x: x + 0, lambda x: x.reshape(3), lambda x: x])
    def test_of_grad_with_a_gradient_that_is_itself_a_leaf(self, function):
        a, passed = opgrad.rand(3, requires_grad=True), opgrad.rand(3, requires_grad=True)
        (result,) = grad(function(a), a, passed, create_graph=True)
        assert not share_memory(result, passed)
        assert not result.is_leaf
        (back,) = grad(result, passed, opgrad.ones(3))
        np.testing.assert_array_equal(values(back), [1, 1, 1])

    def test_by_the_inputs_that_backward_was_limited_to(self):
        a, b, passed = *(opgrad.rand(3, requires_grad=True) for _ in "ab"), opgrad.rand(3)
        (a + b).backward(passed, inputs=[a, b])
        assert not share_memory(a.grad, b.grad, passed)

    def test_but_what_nobody_else_holds_is_not_copied(self):
        made = []

        def formula(grad):
            fresh = grad * 2
            made.append(fresh.ctypes.data)
            return fresh, grad

        a = leaf([1.0, 2.0])
        Sum(formula)(a, np.ones(2)).sum().backward()
        assert [a.grad.data.ctypes.data] == made

    def test_and_a_sum_gives_a_gradient_that_can_be_written_to(self):
        a = opgrad.ones(2, 3, requires_grad=True)
        a.sum().backward()
        a.grad.data[0, 0] = 5
        np.testing.assert_array_equal(values(a.grad), [[5, 1, 1], [1, 1, 1]])


FREEING = {
    "MulBackward0": lambda x: x * x,
    "PowBackward0": lambda x: x**3,
    "ExpBackward0": opgrad.exp,
    "DivBackward0": lambda x: 1 / x,
    "MatmulBackward0": lambda x: x @ x,
    "MaxBackward0": lambda x: x.max(),
}

SAVING_NOTHING = [
    lambda x: x + x,
    lambda x: x - 1,
    lambda x: -x,
    lambda x: x.sum(),
    lambda x: x.mean(),
    lambda x: x.reshape(1, 2),
    lambda x: x.T,
    lambda x: x[0],
    lambda x: opgrad.broadcast_to(x, (3, 2)),
]


class TestFreeing:
    @pytest.mark.parametrize(("name", "function"), FREEING.items())
    def test_a_second_pass_through_freed_values_is_an_error(self, name, function):
        result = function(leaf([1.0, 2.0])).sum()
        result.backward()
        with pytest.raises(GraphError, match=rf"{name}: .*freed.*retain_graph=True"):
            result.backward()

    @pytest.mark.parametrize("function", SAVING_NOTHING)
    def test_a_second_pass_is_none_where_nothing_was_saved(self, function):
        a = leaf([1.0, 2.0])
        result = function(a).sum()
        result.backward()
        once = values(a.grad).copy()
        result.backward()
        np.testing.assert_array_equal(values(a.grad), 2 * once)

    def test_retain_graph_keeps_everything_for_as_long_as_it_is_asked_for(self):
        a = leaf([3.0])
        result = opgrad.exp(a) * a
        for _ in range(3):
            result.backward(retain_graph=True)
        result.backward()
        assert a.grad.item() == pytest.approx(4 * (np.exp(3) * 3 + np.exp(3)))
        with pytest.raises(GraphError, match="freed"):
            result.backward()

    def test_create_graph_retains_by_default(self):
        a = leaf([3.0])
        result = a * a
        grad(result, a, create_graph=True)
        result.backward(create_graph=True)
        result.backward()
        assert a.grad.item() == 12

    def test_create_graph_without_retain_graph_frees(self):
        a = leaf([3.0])
        result = a * a
        grad(result, a, create_graph=True, retain_graph=False)
        with pytest.raises(GraphError, match="freed"):
            result.backward()

    def test_lets_go_of_the_arrays_at_once(self):
        big = np.ones(1000)
        result = leaf(2.0) * big
        saved = weakref.ref(big)
        del big
        assert saved() is not None
        result.sum().backward()
        assert saved() is None

    def test_spares_what_a_limited_pass_does_not_reach(self):
        a = leaf([3.0])
        below = a * a
        above = below * below
        grad(above, below)
        below.backward()
        assert a.grad.item() == 6

    def test_does_not_disturb_a_pass_that_stops_before(self):
        a = leaf([3.0])
        below = a * a
        above = below * below
        below.backward()
        (result,) = grad(above, below)
        assert result.item() == 18

    def test_of_one_graph_leaves_another_on_the_same_leaf_alone(self):
        a = leaf([3.0])
        first, second = a * a, a * a
        first.backward()
        second.backward()
        assert a.grad.item() == 12

    def test_by_a_node_called_by_hand_does_not_happen(self):
        a = leaf([3.0])
        result = a * a
        result.grad_fn(opgrad.tensor([1.0]))
        result.backward()
        with pytest.raises(GraphError, match=r"MulBackward0: .*freed"):
            result.grad_fn(opgrad.tensor([1.0]))


POINT = np.array([0.3, 0.7, 1.4])

#: Functions of each element with their first, second and third derivatives.
DERIVATIVES = {
    "x**4": (lambda x: x**4, lambda x: 4 * x**3, lambda x: 12 * x**2, lambda x: 24 * x),
    "1/x": (lambda x: 1 / x, lambda x: -(x**-2), lambda x: 2 * x**-3, lambda x: -6 * x**-4),
    "exp(2x)": (
        lambda x: opgrad.exp(2 * x),
        lambda x: 2 * np.exp(2 * x),
        lambda x: 4 * np.exp(2 * x),
        lambda x: 8 * np.exp(2 * x),
    ),
    "sin": (opgrad.sin, np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x)),
    "log": (opgrad.log, lambda x: 1 / x, lambda x: -(x**-2), lambda x: 2 * x**-3),
    "sqrt": (
        opgrad.sqrt,
        lambda x: x**-0.5 / 2,
        lambda x: -(x**-1.5) / 4,
        lambda x: 3 * x**-2.5 / 8,
    ),
    "tanh": (
        opgrad.tanh,
        lambda x: 1 - np.tanh(x) ** 2,
        lambda x: -2 * np.tanh(x) * (1 - np.tanh(x) ** 2),
        lambda x: (6 * np.tanh(x) ** 2 - 2) * (1 - np.tanh(x) ** 2),
    ),
    "x**x": (
        lambda x: x**x,
        lambda x: x**x * (np.log(x) + 1),
        lambda x: x**x * ((np.log(x) + 1) ** 2 + 1 / x),
        lambda x: x**x * ((np.log(x) + 1) ** 3 + 3 * (np.log(x) + 1) / x - 1 / x**2),
    ),
}


class Twice(Checked):
    """``(2 x, x**2)``, whose formula names its outputs."""

    @hookimpl
    def forward(self, x, /):
        return 2 * x, x * x

    @hookimpl
    def backward(self, grad, out):
        doubled, _ = out
        return 2 * grad[0] + doubled * grad[1]


class SquareAndSign(Checked):
    """``(x**2, sign(x))``, the sign as a whole number, whose formula counts what it gets."""

    @hookimpl
    def forward(self, x, /):
        return x * x, np.sign(x).astype(int)

    @hookimpl
    def backward(self, grad, out, xp):
        squared, sign = out
        return 2 * grad[0] * xp.sqrt(squared) * sign + 1000 * grad[1]


class Constant(Checked):
    """``2 x`` with a formula that makes its result of NumPy alone, as some do."""

    @hookimpl
    def forward(self, x, /):
        return 2 * x

    @hookimpl
    def backward(self, grad, x_shape):
        return np.full(x_shape, 2.0)


class TestHigherDerivatives:
    @pytest.mark.parametrize("name", DERIVATIVES)
    def test_agree_with_closed_forms_to_the_third(self, name):
        function, *derivatives = DERIVATIVES[name]
        x = leaf(POINT)
        result = function(x)
        for derivative in derivatives:
            (result,) = grad(result.sum(), x, create_graph=True)
            np.testing.assert_allclose(values(result), derivative(POINT), rtol=1e-13)

    def test_are_there_in_grad_after_backward_with_create_graph(self):
        x = leaf([2.0])
        (x**3).backward(create_graph=True)
        assert x.grad.requires_grad
        first, x.grad = x.grad, None
        first.backward()
        assert x.grad.item() == 6 * 2

    def test_add_up_in_recorded_accumulation(self):
        x = leaf([2.0])
        for _ in range(2):
            (x**3).backward(create_graph=True)
        total, x.grad = x.grad, None
        assert total.item() == 2 * 3 * 4
        total.backward()
        assert x.grad.item() == 2 * 6 * 2

    def test_survive_a_plain_pass_into_a_recorded_gradient(self):
        x = leaf([2.0])
        (x**3).backward(create_graph=True)
        recorded = x.grad
        (x**3).backward()
        assert x.grad is recorded
        assert recorded.item() == 2 * 3 * 4
        assert grad(recorded, x)[0].item() == 6 * 2

    def test_of_two_variables_are_symmetric(self):
        x, y = leaf(2.0), leaf(3.0)
        dx, dy = grad(x**2 * y**3, [x, y], create_graph=True)
        (dxy,), (dyx,) = grad(dx, y, retain_graph=True), grad(dy, x)
        assert dxy.item() == dyx.item() == 2 * 2 * 3 * 3**2

    def test_give_the_hessian_times_a_vector(self):
        rng = np.random.default_rng(0)
        matrix, vector = rng.normal(size=(4, 4)), rng.normal(size=4)
        x = leaf(rng.normal(size=4))
        (first,) = grad(x @ matrix @ x, x, create_graph=True)
        (product,) = grad(first, x, vector)
        np.testing.assert_allclose(values(product), (matrix + matrix.T) @ vector, rtol=1e-13)

    def test_sum_over_broadcast_axes_in_every_order(self):
        x, y = leaf([[1.0], [2.0]]), leaf([3.0, 4.0, 5.0])
        dx, dy = grad((x**2 * y**2).sum(), [x, y], create_graph=True)
        (dxx,) = grad(dx.sum(), x, retain_graph=True)
        (dyx,) = grad(dy.sum(), x)
        np.testing.assert_allclose(values(dxx), np.full((2, 1), 2 * (9 + 16 + 25)))
        np.testing.assert_allclose(values(dyx), [[4 * 1 * 12], [4 * 2 * 12]])

    def test_flow_into_the_gradient_that_was_passed_in(self):
        x, passed = leaf([2.0, 3.0]), leaf([1.0, 1.0])
        (first,) = grad(x**2, x, passed, create_graph=True)
        (back,) = grad(first, passed, np.array([1.0, 10.0]))
        np.testing.assert_array_equal(values(back), [2 * 2, 2 * 3 * 10])

    def test_are_recorded_even_under_no_grad(self):
        x = leaf(2.0)
        result = x**3
        with opgrad.no_grad():
            (first,) = grad(result, x, create_graph=True)
            assert not opgrad.is_grad_enabled()
        assert grad(first, x)[0].item() == 6 * 2

    def test_are_not_recorded_unless_asked_for(self):
        x = leaf(2.0)
        (first,) = grad(x**3, x)
        assert not first.requires_grad

    def test_go_through_saved_outputs_of_several(self):
        x = leaf([2.0, 3.0])
        doubled, squared = Twice()(x)
        (first,) = grad((doubled * squared).sum(), x, create_graph=True)
        np.testing.assert_array_equal(values(first), [6 * 2**2, 6 * 3**2])
        (second,) = grad(first.sum(), x)
        np.testing.assert_array_equal(values(second), [12 * 2, 12 * 3])

    def test_give_whole_numbers_among_saved_outputs_no_gradient(self):
        x = leaf([2.0, -3.0])
        squared, sign = SquareAndSign()(x)
        assert not sign.requires_grad
        (first,) = grad(squared.sum(), x, create_graph=True)
        np.testing.assert_array_equal(values(first), [4, -6])
        (second,) = grad(first.sum(), x)
        np.testing.assert_array_equal(values(second), [2, 2])

    def test_go_on_below_a_formula_that_returns_a_plain_array(self):
        x = leaf([2.0, 3.0])
        (first,) = grad(Constant()((x**3).max()), x, create_graph=True)
        (second,) = grad(first.sum(), x)
        np.testing.assert_array_equal(values(second), [0, 2 * 6 * 3])


class Sum(Operator):
    """``a + b`` with a formula that is given, right or wrong."""

    def __init__(self, formula):
        self.formula = formula

    @hookimpl
    def forward(self, a, b, /):
        return a + b

    @hookimpl
    def backward(self, grad):
        return self.formula(grad)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3), rng.normal(size=3))


class TestGradientsFitTheirInputs:
    @pytest.mark.parametrize(
        ("shape", "other"),
        [
            ((), (2, 3)),
            ((1,), (2, 3)),
            ((3,), (2, 3)),
            ((1, 3), (2, 3)),
            ((2, 1), (2, 3)),
            ((1, 1), (4, 2, 3)),
            ((2, 1, 3), (4, 1, 5, 1)),
            ((1,), (0, 1)),
            ((0, 1), (3,)),
        ],
    )
    @pytest.mark.parametrize("recorded", [False, True])
    def test_summed_over_what_was_broadcast(self, shape, other, recorded):
        rng = np.random.default_rng(0)
        a, b = leaf(rng.normal(size=shape)), leaf(rng.normal(size=other))
        (a * b).sum().backward(create_graph=recorded)
        # Each gradient is the other factor, summed over where an element was repeated.
        for one, factor in [(a, b), (b, a)]:
            full = np.broadcast_shapes(shape, other)
            positions = np.broadcast_to(np.arange(one.size).reshape(one.shape), full)
            factors = np.broadcast_to(values(factor), full)
            expected = np.bincount(positions.ravel(), factors.ravel(), minlength=one.size)
            assert one.grad.shape == one.shape
            np.testing.assert_allclose(values(one.grad).ravel(), expected, rtol=1e-14)

    @pytest.mark.parametrize("recorded", [False, True])
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("other", ["float16", "float32", "float64"])
    def test_cast_to_their_dtype(self, dtype, other, recorded):
        a, b = leaf([1.0, 2.0], dtype), leaf([3.0, 4.0], other)
        (a * b).sum().backward(create_graph=recorded)
        assert (a.grad.dtype, b.grad.dtype) == (np.dtype(dtype), np.dtype(other))
        np.testing.assert_array_equal(values(a.grad), [3, 4])
        np.testing.assert_array_equal(values(b.grad), [1, 2])

    @pytest.mark.parametrize("recorded", [False, True])
    def test_for_a_real_input_to_complex_numbers_is_the_real_part(self, recorded):
        x, z = leaf([2.0, 3.0], "float32"), opgrad.tensor([1 + 2j, 3 - 1j])
        opgrad.real((x * z) * (1 + 1j)).sum().backward(create_graph=recorded)
        assert x.grad.dtype == opgrad.float32
        np.testing.assert_array_equal(values(x.grad), np.real(z.numpy() * (1 + 1j)))

    def test_of_an_astype_are_cast_back(self):
        x = leaf([2.0], "float32")
        (x.astype("float64") * 3).backward()
        assert x.grad.dtype == opgrad.float32
        assert x.grad.item() == 3

    @pytest.mark.parametrize(
        ("formula", "message"),
        [
            (
                lambda grad: (grad, np.ones(5)),
                r"sum\.backward returned shape \(5,\) .* input 'b'; expected .* shape \(2, 3\)",
            ),
            (lambda grad: (grad, None), r"sum\.backward returned a NoneType .* input 'b'"),
            (lambda grad: (1.0, grad), r"sum\.backward returned a float .* input 'a'"),
            (lambda grad: (grad,), r"returned a tuple of 1; expected a tuple of 2 .* a, b"),
            (lambda grad: grad, r"returned float64 \(2, 3\); expected a tuple of 2"),
        ],
    )
    def test_or_the_error_names_operator_hook_input_and_shapes(self, formula, message):
        a, b = opgrad.ones(2, 3, requires_grad=True), opgrad.ones(2, 3, requires_grad=True)
        with pytest.raises(GraphError, match=message):
            Sum(formula)(a, b).sum().backward()

    @pytest.mark.parametrize("recorded", [False, True])
    def test_and_the_error_names_the_right_one_of_two_that_got_the_same_array(self, recorded):
        a, b = opgrad.ones(2, 3, requires_grad=True), opgrad.ones(1, 3, requires_grad=True)
        operator = Sum(lambda grad: (grad[:1] * 1,) * 2)
        with pytest.raises(GraphError, match=r"shape \(1, 3\) as the gradient of input 'a'"):
            operator(a, b).sum().backward(create_graph=recorded)
        with pytest.raises(GraphError, match=r"shape \(1, 3\) as the gradient of input 'b'"):
            operator(b, a).sum().backward(create_graph=recorded)

    def test_and_an_exception_in_a_formula_says_whose_it_is(self):
        def formula(grad):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as raised:
            Sum(formula)(leaf(1.0), leaf(1.0)).backward()
        (note,) = raised.value.__notes__
        assert note.startswith("raised in sum.backward, ")

    def test_and_a_gradient_that_does_not_fit_says_where_the_call_was(self):
        operator = Sum(lambda grad: (grad, grad[:1]))
        with pytest.raises(GraphError) as raised:
            operator(leaf([1.0, 2.0]), leaf([1.0, 2.0, 3.0])[:2]).sum().backward()
        (note,) = raised.value.__notes__
        assert "sum was called here" in note
        assert note.endswith(
            "operator(leaf([1.0, 2.0]), leaf([1.0, 2.0, 3.0])[:2]).sum().backward()"
        )

    def test_singular_points_give_inf_or_nan_and_no_warning(self):
        x = leaf([0.0])
        opgrad.sqrt(x).backward()
        assert x.grad.item() == np.inf


class TestNodes:
    def test_are_called_after_their_operator(self):
        a = leaf([3.0])
        for result, name in [
            (a * 2, "MulBackward0"),
            (a**2, "PowBackward0"),
            (a**a, "PowBackward1"),
            (opgrad.exp(a), "ExpBackward0"),
            (a.sum(), "SumBackward0"),
        ]:
            assert result.grad_fn.name() == name
            assert repr(result.grad_fn) == f"<{name} object at {id(result.grad_fn):#x}>"

    def test_know_where_their_gradients_go(self):
        a, b = leaf([3.0]), leaf([4.0])
        product = a * b
        total = product + 1
        assert total.grad_fn.next_functions == ((product.grad_fn, 0), (None, 0))
        (end_a, _), (end_b, _) = product.grad_fn.next_functions
        assert isinstance(end_a, AccumulateGrad)
        assert (end_a.variable, end_b.variable) == (a, b)
        assert repr(end_a) == f"<AccumulateGrad object at {id(end_a):#x}>"
        assert end_a.next_functions == ()

    def test_have_an_edge_for_a_python_number_except_as_exponent(self):
        a = leaf([3.0])
        assert [len((a * 2).grad_fn.next_functions), len((a + 2).grad_fn.next_functions)] == [2, 2]
        assert [len((a**2).grad_fn.next_functions), len((a**a).grad_fn.next_functions)] == [1, 2]

    def test_end_at_the_same_node_for_the_same_leaf(self):
        a = leaf([3.0])
        (first, _), (second, _) = (a * a).grad_fn.next_functions
        assert first is second is a.exp().grad_fn.next_functions[0][0]

    def test_know_which_output_of_several_they_used(self):
        doubled, squared = Twice()(leaf([3.0]))
        assert doubled.grad_fn is squared.grad_fn
        assert (doubled * squared).grad_fn.next_functions == (
            (doubled.grad_fn, 0),
            (doubled.grad_fn, 1),
        )

    def test_are_numbered_downwards_in_the_order_of_the_calls(self):
        a = leaf([3.0])
        nodes = [a.exp().grad_fn for _ in range(4)]
        numbers = [node.sequence for node in nodes]
        assert numbers == sorted(numbers, reverse=True)
        assert len(set(numbers)) == 4
        assert max(numbers) < nodes[0].next_functions[0][0].sequence

    def test_save_only_what_a_gradient_will_ask_for(self):
        a, b = leaf([3.0]), opgrad.tensor([4.0])
        assert (a + b).grad_fn.arrays() == ()
        saved = dict(zip((a * b).grad_fn.names, (a * b).grad_fn.arrays(), strict=True))
        assert saved["a"] is None
        assert saved["b"] is b.data

    @pytest.mark.parametrize("result", [lambda a: a > 2, lambda a: a.astype(int), opgrad.argmax])
    def test_are_not_made_for_what_has_no_gradient(self, result):
        made = result(leaf([3.0, 1.0]))
        assert made.grad_fn is None
        assert not made.requires_grad

    def test_are_not_made_without_a_leaf_that_requires_grad(self):
        made = opgrad.tensor([3.0]) * opgrad.tensor([4.0])
        assert made.grad_fn is None
        assert made.is_leaf


class TestNodesByHand:
    def test_give_a_bare_tensor_for_one_input(self):
        made = (leaf([3.0]) ** 2).grad_fn(opgrad.tensor([1.0]))
        assert isinstance(made, opgrad.Tensor)
        assert made.item() == 6

    def test_give_a_tuple_for_several_with_none_where_nothing_flows(self):
        made = (5 * leaf([3.0])).grad_fn(opgrad.tensor([1.0]))
        assert made[0] is None or made[1] is None
        assert sorted(each is None for each in made) == [False, True]
        assert next(each for each in made if each is not None).item() == 5

    def test_do_not_sum_over_broadcast_axes(self):
        a, b = leaf(3.0), leaf([1.0, 2.0])
        grad_a, grad_b = (a * b).grad_fn(opgrad.tensor([1.0, 1.0]))
        np.testing.assert_array_equal(values(grad_a), [1, 2])
        np.testing.assert_array_equal(values(grad_b), [3, 3])

    def test_do_not_accumulate(self):
        a = leaf([3.0])
        (a * a).grad_fn(opgrad.tensor([1.0]))
        assert a.grad is None

    def test_record_iff_saved_inputs_require_grad(self):
        a, constant = leaf([3.0]), opgrad.tensor([4.0])
        from_leaf, from_constant = (a * constant).grad_fn(opgrad.tensor([1.0]))
        assert not from_leaf.requires_grad, "the constant was saved for it"
        assert from_constant is None
        from_a, _ = (a * a).grad_fn(opgrad.tensor([1.0]))
        assert from_a.grad_fn.name() == "MulBackward0"
        assert (a + a).grad_fn(opgrad.tensor([1.0]))[0].grad_fn is None

    def test_record_only_in_grad_mode(self):
        node = (leaf([3.0]) ** 2).grad_fn
        with opgrad.no_grad():
            assert not node(opgrad.tensor([1.0])).requires_grad
        assert node(opgrad.tensor([1.0])).requires_grad

    def test_record_what_is_done_to_the_gradient(self):
        passed = leaf([1.0])
        made, _ = (leaf([3.0]) * 5).grad_fn(passed)
        assert grad(made, passed)[0].item() == 5

    def test_can_be_differentiated_again(self):
        a = leaf([3.0])
        first = (a**3).grad_fn(opgrad.tensor([1.0]))
        assert grad(first, a)[0].item() == 6 * 3

    def test_take_none_for_zeros(self):
        assert (leaf([3.0]) ** 2).grad_fn(None).item() == 0
        assert Twice()(leaf([3.0]))[0].grad_fn(None, opgrad.tensor([1.0])).item() == 6

    def test_refuse_another_number_of_gradients(self):
        node = (leaf([3.0]) ** 2).grad_fn
        with pytest.raises(TypeError, match="PowBackward0: got 2 gradients, expected 1"):
            node(opgrad.tensor([1.0]), opgrad.tensor([1.0]))
        with pytest.raises(TypeError, match="PowBackward0: got 0 gradients, expected 1"):
            node()

    @pytest.mark.parametrize(
        ("given", "got"),
        [
            (np.array([1.0]), "is a ndarray"),
            (1.0, "is a float"),
            (opgrad.ones(2), r"has shape \(2,\)"),
            (opgrad.ones(()), r"has shape \(\)"),
        ],
    )
    def test_refuse_what_is_no_tensor_of_the_outputs_shape(self, given, got):
        match = rf"PowBackward0: gradient 0 {got}; expected a Tensor .* shape \(1,\)"
        with pytest.raises(GraphError, match=match):
            (leaf([3.0]) ** 2).grad_fn(given)

    def test_at_a_leaf_add_to_its_gradient(self):
        a = leaf([3.0, 4.0])
        node = a.exp().grad_fn.next_functions[0][0]
        assert node(opgrad.tensor([1.0, 2.0])) == ()
        node(opgrad.tensor([10.0, 20.0]))
        np.testing.assert_array_equal(values(a.grad), [11, 22])

    def test_at_a_leaf_copy_and_cast(self):
        a, passed = leaf([3.0], "float32"), opgrad.tensor([1.0])
        node = a.exp().grad_fn.next_functions[0][0]
        node(passed)
        node(passed)
        assert a.grad.dtype == opgrad.float32
        assert a.grad.item() == 2
        assert passed.item() == 1

    def test_at_a_leaf_refuse_another_shape(self):
        a = leaf([3.0, 4.0])
        node = a.exp().grad_fn.next_functions[0][0]
        with pytest.raises(GraphError, match=r"AccumulateGrad: .*shape \(3,\).*shape \(2,\)"):
            node(opgrad.ones(3))
        assert a.grad is None


class Logged(Checked):
    """The identity; notes the name it was made with when its backward runs."""

    def __init__(self, name, log):
        self.label, self.log = name, log

    @hookimpl
    def forward(self, x, /):
        return x * 1

    @hookimpl
    def backward(self, grad):
        self.log.append(self.label)
        return grad


class TestWalk:
    def test_visits_each_node_once_latest_call_first(self):
        log = []
        first = Logged("first", log)(leaf(1.0))
        left, right = Logged("left", log)(first), Logged("right", log)(first)
        last = Logged("last", log)(right + left)
        last.backward()
        assert log == ["last", "right", "left", "first"]

    def test_goes_by_the_order_of_the_calls_not_of_the_operands(self):
        for swapped in (False, True):
            log = []
            a = leaf(1.0)
            left, right = Logged("left", log)(a), Logged("right", log)(a)
            (right + left if swapped else left + right).backward()
            assert log == ["right", "left"]

    def test_gives_bit_for_bit_the_same_each_time(self):
        data = np.random.default_rng(0).normal(size=50)

        def gradient():
            a = leaf(data)
            sum(opgrad.sin(a * k) * opgrad.exp(-a / k) for k in range(1, 20)).sum().backward()
            return values(a.grad)

        once = gradient()
        for _ in range(5):
            np.testing.assert_array_equal(gradient(), once)

    def test_adds_up_both_sides_of_a_diamond(self):
        a = leaf(3.0)
        top = a * a
        (top.exp() * opgrad.sin(top)).backward()
        expected = 2 * 3 * np.exp(9) * (np.sin(9) + np.cos(9))
        assert a.grad.item() == pytest.approx(expected, rel=1e-14)

    def test_adds_up_an_input_used_twice_by_one_call(self):
        a = leaf([2.0, 3.0])
        (a @ a).backward()
        np.testing.assert_array_equal(values(a.grad), [4, 6])
        b = leaf(3.0)
        (b**b).backward()
        assert b.grad.item() == pytest.approx(27 * (np.log(3) + 1), rel=1e-14)

    def test_takes_time_by_the_number_of_nodes_not_of_paths(self):
        a = leaf(1.0)
        result = a
        for _ in range(1000):
            result = (result + result) / 2
        result.backward()
        assert a.grad.item() == 1

    def test_skips_what_leads_to_no_wanted_input(self):
        log = []
        a, b = leaf(1.0), leaf(1.0)
        result = Logged("a", log)(a) * Logged("b", log)(b)
        grad(result, b, retain_graph=True)
        assert log == ["b"]
        result.backward(inputs=[a])
        assert log == ["b", "a"]

    def test_visits_a_wanted_result_without_going_below(self):
        log = []
        middle = Logged("below", log)(leaf(3.0))
        (result,) = grad(Logged("above", log)(middle) * 5, middle)
        assert log == ["above"]
        assert result.item() == 5

    @pytest.mark.parametrize("differentiate", [lambda y, x: y.backward(), grad])
    def test_of_a_deep_graph_needs_no_recursion_nor_does_its_end(self, differentiate):
        a = leaf(1.0)
        result = a
        for _ in range(200_000):
            result = result * 1.0
        node = weakref.ref(result.grad_fn)
        differentiate(result, a)
        del result
        assert node() is None

    def test_of_a_deep_graph_can_be_recorded(self):
        a = leaf(2.0)
        result = a * a
        for _ in range(20_000):
            result = result * 1.0
        (first,) = grad(result, a, create_graph=True)
        assert grad(first, a)[0].item() == 2


class TestSeveralOutputs:
    @pytest.mark.parametrize("recorded", [False, True])
    def test_each_pass_their_gradient_on(self, recorded):
        a = leaf([2.0, 3.0])
        doubled, squared = Twice()(a)
        (doubled * 5 + squared * 7).sum().backward(create_graph=recorded)
        np.testing.assert_array_equal(values(a.grad), [2 * 5 + 4 * 7, 2 * 5 + 6 * 7])

    @pytest.mark.parametrize("recorded", [False, True])
    @pytest.mark.parametrize(("index", "expected"), [(0, [2, 2]), (1, [4, 6])])
    def test_count_as_zeros_where_nothing_depends_on_them(self, index, expected, recorded):
        a = leaf([2.0, 3.0])
        Twice()(a)[index].sum().backward(create_graph=recorded)
        np.testing.assert_array_equal(values(a.grad), expected)

    def test_add_up_what_comes_by_several_ways(self):
        a = leaf([2.0, 3.0])
        doubled, _ = Twice()(a)
        (doubled.sum() + (doubled * doubled).sum()).backward()
        np.testing.assert_array_equal(values(a.grad), [2 + 8 * 2, 2 + 8 * 3])

    def test_can_be_differentiated_with_respect_to_one_by_one(self):
        doubled, squared = Twice()(leaf([2.0, 3.0]))
        of_doubled, of_squared = grad((doubled * squared).sum(), [doubled, squared])
        np.testing.assert_array_equal(values(of_doubled), [4, 9])
        np.testing.assert_array_equal(values(of_squared), [4, 6])
        assert grad(doubled.sum(), [squared], allow_unused=True) == (None,)

    def test_can_all_be_where_a_pass_begins(self):
        a = leaf([2.0])
        opgrad.autograd.backward(Twice()(a))
        assert a.grad.item() == 2 + 2 * 2


class TestGrad:
    def test_returns_and_accumulates_nothing(self):
        a, b = leaf(2.0), leaf(3.0)
        da, db = grad(a * a * b, [a, b])
        assert (da.item(), db.item()) == (12, 4)
        assert a.grad is None
        assert b.grad is None

    def test_takes_results_as_inputs_and_outputs_as_their_own(self):
        a = leaf(2.0)
        middle = a * a
        result = middle * 3
        d_result, d_middle, d_a = grad(result, [result, middle, a])
        assert (d_result.item(), d_middle.item(), d_a.item()) == (1, 3, 12)

    def test_of_a_leaf_with_respect_to_itself_is_one(self):
        a = leaf([2.0])
        assert grad(a, a)[0].item() == 1

    def test_answers_for_the_same_input_twice(self):
        a = leaf([2.0])
        first, second = grad(a * a, [a, a])
        assert first.item() == second.item() == 4

    def test_sums_over_outputs_each_with_its_gradient(self):
        a = leaf([1.0, 2.0])
        (da,) = grad([a * 2, a * a], [a], [np.array([1.0, 10.0]), opgrad.tensor([1.0, 1.0])])
        np.testing.assert_array_equal(values(da), [2 + 2, 20 + 4])
        (da,) = grad(a * 2, a, grad_outputs=[opgrad.tensor([1.0, 10.0])])
        np.testing.assert_array_equal(values(da), [2, 20])

    def test_takes_a_generator_of_inputs(self):
        leaves = {"a": leaf(2.0), "b": leaf(3.0)}
        da, db = grad(leaves["a"] * leaves["b"], (each for each in leaves.values()))
        assert (da.item(), db.item()) == (3, 2)

    def test_of_an_unused_input_is_an_error_none_or_zeros(self):
        a, unused = leaf(2.0), opgrad.ones(2, 3, dtype="float32", requires_grad=True)
        with pytest.raises(GraphError, match=r"grad: .* inputs\[1\].*allow_unused=True"):
            grad(a * a, [a, unused])
        assert grad(a * a, [unused], allow_unused=True) == (None,)
        da, zeros = grad(a * a, [a, unused], materialize_grads=True)
        assert da.item() == 4
        assert (zeros.shape, zeros.dtype) == (unused.shape, unused.dtype)
        assert not values(zeros).any()

    def test_refuses_zeros_where_unused_inputs_are_forbidden(self):
        a = leaf(2.0)
        with pytest.raises(ValueError, match="materialize_grads=True needs allow_unused"):
            grad(a * a, a, allow_unused=False, materialize_grads=True)

    def test_refuses_an_input_without_a_graph(self):
        with pytest.raises(GraphError, match="grad: one of the inputs does not require grad"):
            grad(leaf(2.0) * 2, opgrad.tensor(1.0), allow_unused=True)


class TestBatchedGradients:
    def test_give_what_a_pass_for_each_gives(self):
        x = leaf([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        y, z = (x**2).sum(axis=0), x[1] * 3
        rng = np.random.default_rng(0)
        for_y, for_z = rng.normal(size=(2, 4, 3))
        (batched,) = grad([y, z], x, [for_y, for_z], retain_graph=True, is_grads_batched=True)
        assert batched.shape == (4, 2, 3)
        for i in range(4):
            (one,) = grad([y, z], x, [for_y[i], for_z[i]], retain_graph=True)
            np.testing.assert_array_equal(batched[i].numpy(), one.numpy())

    def test_of_a_number_are_one_number_each(self):
        x = leaf(3.0)
        (batched,) = grad(x**2, x, opgrad.tensor([1.0, 10.0]), is_grads_batched=True)
        assert batched.tolist() == [6.0, 60.0]

    def test_can_be_differentiated_again(self):
        x = leaf([1.0, 2.0])
        (jacobian,) = grad(x**3, x, opgrad.eye(2), create_graph=True, is_grads_batched=True)
        assert grad(jacobian.sum(), x)[0].tolist() == [6.0, 12.0]

    def test_free_the_graph_after_the_last_pass(self):
        x = leaf([1.0, 2.0])
        y = x**3
        grad(y, x, opgrad.eye(2), is_grads_batched=True)
        with pytest.raises(GraphError, match="already been freed"):
            y.sum().backward()

    def test_of_an_unused_input_are_none_or_zeros(self):
        x, unused = leaf([1.0, 2.0]), leaf(3.0)
        given = {"retain_graph": True, "is_grads_batched": True}
        assert grad(x * 2, [unused], opgrad.eye(2), allow_unused=True, **given) == (None,)
        dx, zeros = grad(x * 2, [x, unused], opgrad.eye(2), materialize_grads=True, **given)
        assert (dx.shape, zeros.shape, zeros.tolist()) == ((2, 2), (), 0.0)  # as in PyTorch

    @pytest.mark.parametrize(
        "given",
        [None, [None, np.eye(2)], [np.eye(2), np.ones((3, 2))], [1.0, 1.0], [np.ones((0, 2))] * 2],
    )
    def test_need_a_first_axis_all_of_one_size(self, given):
        x = leaf([1.0, 2.0])
        with pytest.raises(ValueError, match="grad: with is_grads_batched, each of grad_outputs"):
            grad([x * 2, x * 3], x, given, is_grads_batched=True)


class TestTheGradientOfATensor:
    """As PyTorch's, in what there is beside reading and assigning it."""

    def test_can_be_deleted(self, lib):
        a = lib.tensor([1.0, 2.0], requires_grad=True)
        a.sum().backward()
        del a.grad
        assert a.grad is None
        a.sum().backward()
        assert a.grad.tolist() == [1, 1]

    def test_arrives_at_an_output_that_has_a_number(self, lib):
        a = lib.tensor([1.0, 2.0, 3.0], requires_grad=True)
        first, second = lib.split(a, [1, 2])
        assert [each.output_nr for each in (a, a.detach(), first, second)] == [0, 0, 0, 1]


class TestBackwardInputs:
    def test_limit_what_is_accumulated(self):
        a, b = leaf(2.0), leaf(3.0)
        (a * b).backward(inputs=[a])
        assert a.grad.item() == 3
        assert b.grad is None

    def test_may_be_one_tensor_or_the_same_twice(self):
        a = leaf(2.0)
        (a * a).backward(inputs=a)
        (a * a).backward(inputs=[a, a])
        opgrad.autograd.backward([a * a], inputs=a)
        assert a.grad.item() == 3 * 4

    def test_that_are_unused_keep_their_gradient(self):
        a, unused = leaf(2.0), leaf(3.0)
        (a * a).backward(inputs=[unused])
        assert a.grad is None
        assert unused.grad is None

    @pytest.mark.parametrize("recorded", [False, True])
    def test_that_are_results_get_a_gradient_too(self, recorded):
        a = leaf(3.0)
        middle = a * a
        for _ in range(2):
            (middle * middle).backward(inputs=[middle], create_graph=recorded)
        assert middle.grad.item() == 2 * 18
        assert middle.grad.requires_grad is recorded
        assert a.grad is None

    def test_that_are_none_at_all_are_refused(self):
        with pytest.raises(ValueError, match=r"backward: inputs is empty"):
            (leaf(2.0) * 2).backward(inputs=[])


class TestComplexNumbers:
    """The gradient of L is dL/d(re) + i dL/d(im), so that of |z|**2 is 2 z."""

    Z = np.array([1 + 2j, -3 + 0.5j])

    @pytest.mark.parametrize("recorded", [False, True])
    @pytest.mark.parametrize(
        ("loss", "gradient"),
        [
            (lambda z: abs(z) ** 2, lambda z: 2 * z),
            (lambda z: opgrad.real(z * z.conj()), lambda z: 2 * z),
            (opgrad.real, np.ones_like),
            (opgrad.imag, lambda z: 1j * np.ones_like(z)),
            (lambda z: opgrad.real(z**3), lambda z: np.conj(3 * z**2)),
            (lambda z: opgrad.imag(z**3), lambda z: 1j * np.conj(3 * z**2)),
            (lambda z: opgrad.real(opgrad.exp(z)), lambda z: np.conj(np.exp(z))),
            (abs, lambda z: z / np.abs(z)),
        ],
    )
    def test_of_a_real_loss(self, loss, gradient, recorded):
        z = leaf(self.Z)
        loss(z).sum().backward(create_graph=recorded)
        np.testing.assert_allclose(values(z.grad), gradient(self.Z), rtol=1e-13)
        (again,) = grad(loss(z).sum(), z, create_graph=recorded)
        np.testing.assert_allclose(values(again), gradient(self.Z), rtol=1e-13)

    def test_of_a_complex_output_is_what_was_passed_times_the_conjugate_derivative(self):
        z, passed = leaf(self.Z), np.array([1 - 1j, 2j])
        (z**2).backward(passed)
        np.testing.assert_allclose(values(z.grad), passed * np.conj(2 * self.Z), rtol=1e-14)

    def test_accumulate_and_pass_through_results(self):
        z = leaf(self.Z)
        for _ in range(2):
            (abs(z) ** 2).sum().backward()
        np.testing.assert_allclose(values(z.grad), 4 * self.Z, rtol=1e-14)
        middle = z * 1j
        (result,) = grad((abs(middle) ** 2).sum(), middle)
        np.testing.assert_allclose(values(result), 2j * self.Z, rtol=1e-14)

    def test_of_a_real_input_get_the_real_part(self):
        x = leaf([2.0, 3.0])
        (abs(x * self.Z) ** 2).sum().backward()
        assert x.grad.dtype == opgrad.float64
        np.testing.assert_allclose(values(x.grad), 2 * np.array([2, 3]) * np.abs(self.Z) ** 2)

    def test_have_second_derivatives(self):
        z = leaf(self.Z)
        (first,) = grad((abs(z) ** 2).sum(), z, create_graph=True)
        (second,) = grad(opgrad.real(first * first.conj()).sum(), z)
        np.testing.assert_allclose(values(second), 8 * self.Z, rtol=1e-13)

    def test_by_hand_follow_the_same_convention(self):
        z = leaf(self.Z)
        passed = opgrad.tensor([1 - 1j, 2j])
        made = (z**2).grad_fn(passed)
        np.testing.assert_allclose(values(made), passed.numpy() * np.conj(2 * self.Z))
        z.exp().grad_fn.next_functions[0][0](passed)
        np.testing.assert_array_equal(values(z.grad), passed.numpy())

    def test_refuse_to_be_a_loss(self):
        with pytest.raises(GraphError, match=r"backward: the output .*complex128.*abs"):
            (leaf(1j) * 2).backward()


class TestBadInput:
    """Each message says what was got, what was expected, and what to do."""

    def test_a_loss_of_several_elements_without_a_gradient(self):
        with pytest.raises(GraphError, match=r"shape \(2, 3\).*one element.*sum\(\)"):
            opgrad.ones(2, 3, requires_grad=True).exp().backward()

    def test_a_loss_of_no_elements_without_a_gradient(self):
        with pytest.raises(GraphError, match=r"shape \(0,\).*one element"):
            opgrad.ones(0, requires_grad=True).backward()

    @pytest.mark.parametrize("given", [np.ones(3), np.ones((1, 2)), np.ones(()), 1.0])
    def test_a_gradient_of_another_shape(self, given):
        match = r"backward: the gradient has shape \(.*\), the output has shape \(2,\); pass"
        with pytest.raises(GraphError, match=match):
            opgrad.ones(2, requires_grad=True).exp().backward(given)

    def test_a_complex_gradient_for_a_real_output(self):
        with pytest.raises(GraphError, match=r"complex gradient .* float64; pass a real one"):
            leaf([1.0]).exp().backward([1j])

    @pytest.mark.parametrize("given", ["x", object()])
    def test_a_gradient_that_is_no_number(self, given):
        with pytest.raises(TypeError, match=r"backward: the gradient .*expected numbers"):
            leaf(1.0).exp().backward(given)

    def test_another_number_of_gradients_than_of_outputs(self):
        a = leaf([1.0])
        with pytest.raises(ValueError, match="backward: got 1 gradients, expected 2"):
            opgrad.autograd.backward([a * 1, a * 2], [opgrad.tensor([1.0])])

    @pytest.mark.parametrize(
        "without_graph",
        [
            lambda: opgrad.ones(()),
            lambda: leaf(1.0).detach(),
            opgrad.no_grad()(leaf(1.0).exp),
        ],
    )
    def test_an_output_without_a_graph(self, without_graph):
        match = r"one of the outputs does not require grad.*requires_grad=True.*no_grad\(\)"
        with pytest.raises(GraphError, match=match):
            without_graph().backward()

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda a: a * opgrad.ones(4), r"mul: .*a: float64 \(2, 3\), b: float64 \(4,\).*broad"),
            (lambda a: a @ a, r"matmul: .*a: float64 \(2, 3\), b: .* \(2, 3\).*last axis of a"),
            (lambda a: a.reshape(4), r"reshape: .*x: float64 \(2, 3\).*as many elements"),
            (lambda a: a.sum(axis=2), r"sum: .*x: float64 \(2, 3\).*axes that the input has"),
        ],
    )
    def test_shapes_that_do_not_go_together(self, call, message):
        with pytest.raises(ValueError, match=message):
            call(opgrad.ones(2, 3, requires_grad=True))


@pytest.fixture
def without_collector():
    """Leave every reference cycle where it is, and say so at the end."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
class TestReferences:
    """There are no reference cycles: what nobody holds is gone at once."""

    FUNCTIONS = (*FREEING.values(), *SAVING_NOTHING, opgrad.tanh, opgrad.sigmoid)

    @pytest.mark.parametrize("function", FUNCTIONS)
    def test_a_dropped_graph_is_gone(self, function):
        a = leaf([1.0, 2.0])
        result = function(a) * 2
        nodes = [weakref.ref(result.grad_fn), weakref.ref(result.grad_fn.next_functions[0][0])]
        del result
        assert [node() for node in nodes] == [None, None]

    @pytest.mark.parametrize("function", FUNCTIONS)
    def test_a_graph_is_gone_after_a_pass(self, function):
        a = leaf([1.0, 2.0])
        result = function(a).sum()
        result.backward(retain_graph=True)
        grad(result, a)
        node = weakref.ref(result.grad_fn)
        del result
        assert node() is None

    def test_a_leaf_is_gone_with_its_gradient(self):
        a = leaf([1.0, 2.0])
        (a * a).sum().backward()
        gone = [weakref.ref(a), weakref.ref(a.grad)]
        del a
        assert [each() for each in gone] == [None, None]

    def test_a_leaf_may_go_before_its_graph(self):
        a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
        result = (a * b).sum()
        end = result.grad_fn.next_functions[0][0].next_functions[0][0]
        assert end.variable is a
        del a
        assert end.variable is None
        result.backward()
        np.testing.assert_array_equal(values(b.grad), [1, 2])

    def test_a_result_may_go_before_its_graph(self):
        a = leaf(2.0)
        middle = a * a
        result = middle * 3
        gone = weakref.ref(middle)
        del middle
        assert gone() is None
        result.backward()
        assert a.grad.item() == 12

    def test_a_recorded_gradient_is_gone_with_the_last_name_for_it(self):
        a = leaf(2.0)
        (first,) = grad(a**3, a, create_graph=True)
        node = weakref.ref(first.grad_fn)
        del first
        assert node() is None

    def test_training_leaves_nothing_to_collect(self):
        rng = np.random.default_rng(0)
        w, b = leaf(rng.normal(size=(3, 2))), leaf(np.zeros(2))
        for _ in range(5):
            loss = opgrad.tanh(rng.normal(size=(4, 3)) @ w + b).sum()
            (penalty,) = grad(loss, b, create_graph=True)
            (loss + (penalty * penalty).sum()).backward()
            with opgrad.no_grad():
                w.grad.zero_()
        del loss, penalty
        assert gc.collect() == 0


class TestThreads:
    THREADS = 8
    ROUNDS = 50

    @pytest.fixture(autouse=True)
    def threads_take_turns_quickly(self):
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        yield
        sys.setswitchinterval(before)

    def run(self, work):
        """Do the work in all threads, from the same moment on."""
        barrier = threading.Barrier(self.THREADS)

        def started(number):
            barrier.wait()
            for _ in range(self.ROUNDS):
                work(number)

        with ThreadPoolExecutor(self.THREADS) as pool:
            list(pool.map(started, range(self.THREADS)))

    def test_that_go_back_to_the_same_leaves_give_the_exact_sum(self):
        # Whole numbers, so that the sum does not depend on the order.
        a, b = leaf(np.ones(100)), leaf(2.0)
        self.run(lambda number: (a * b * (number + 1)).sum().backward())
        total = self.ROUNDS * sum(range(1, self.THREADS + 1))
        np.testing.assert_array_equal(values(a.grad), np.full(100, 2 * total))
        assert b.grad.item() == 100 * total

    def test_that_bring_the_first_gradient_at_once_all_count(self):
        # So many numbers that NumPy lets other threads run while it copies and adds them.
        passed = np.ones(300_000)
        leaves = [opgrad.zeros(passed.shape, requires_grad=True) for _ in range(10)]
        together = threading.Barrier(self.THREADS)

        def work(_):
            for each in leaves:
                together.wait()
                each.backward(passed)

        with ThreadPoolExecutor(self.THREADS) as pool:
            list(pool.map(work, range(self.THREADS)))
        assert {each.grad.data.min() for each in leaves} == {self.THREADS}

    def test_may_walk_one_graph_that_is_retained(self):
        a = leaf(np.ones(100))
        result = (a * a).sum()
        self.run(lambda number: result.backward(retain_graph=True))
        np.testing.assert_array_equal(values(a.grad), 2 * self.ROUNDS * self.THREADS)

    def test_do_not_see_each_others_results_of_grad(self):
        a = leaf(np.ones(100))

        def work(number):
            (result,) = grad((a * number).sum(), a)
            np.testing.assert_array_equal(values(result), number)

        self.run(work)
        assert a.grad is None


def test_the_classes_of_the_graph_are_in_opgrad_autograd():
    a = leaf(2.0)
    node = (a * a).grad_fn
    assert isinstance(node, Node)
    assert isinstance(node.next_functions[0][0], Node)
    assert issubclass(opgrad.Tensor, Variable)
