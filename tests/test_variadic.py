"""Operators of as many arrays as a caller has, and inputs that may be left out."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import opgrad
from opgrad import Case, Operator, hookimpl
from opgrad.check import verify


class Product(Operator):
    """The elementwise product of arrays, which saves them all."""

    variadic = True
    expects = "arrays that broadcast"

    @hookimpl
    def forward(self, arrays, /, power=1):
        out = arrays[0] ** power
        for each in arrays[1:]:
            out = out * each**power
        return out

    @hookimpl
    def backward(self, grad, arrays, power, needs):
        return [self._slope(grad, arrays, i, power) if need else None
                for i, need in enumerate(needs)]  # fmt: skip

    @staticmethod
    def _slope(grad, arrays, index, power):
        for i, each in enumerate(arrays):
            grad = grad * (each**power if i != index else power * each ** (power - 1))
        return grad

    @hookimpl
    def self_check(self, rng):
        yield Case(*rng.uniform(1, 2, size=(3, 4)))
        yield Case(rng.uniform(1, 2, size=(2, 3)), rng.uniform(1, 2, size=3), power=2)
        yield Case(rng.uniform(1, 2, size=3))


product = Product()


def leaf(*values):
    return opgrad.tensor(list(values), requires_grad=True)


def altered(**members):
    """Make an operator like `Product` with other members; functions become hooks."""
    hooks = {key: hookimpl(each) for key, each in members.items() if inspect.isfunction(each)}
    return type("Altered", (Product,), {**members, **hooks})


class TestAVariadicOperator:
    def test_takes_a_sequence_of_arrays(self):
        a, b, c = leaf(2.0, 3.0), leaf(5.0, 7.0), np.array([1.0, 10.0])
        for arrays in ([a, b, c], (a, b, c)):
            out = product(arrays)
            assert out.tolist() == [10.0, 210.0]
            grads = opgrad.autograd.grad(out.sum(), [a, b])
            assert [each.tolist() for each in grads] == [[5.0, 70.0], [2.0, 30.0]]
        assert str(inspect.signature(product)) == "(arrays, /, power=1)"

    def test_has_an_edge_for_each(self):
        a = leaf(2.0)
        assert [number for _, number in product([a, a, 3.0]).grad_fn.next_functions] == [0, 0, 0]
        assert [node is None for node, _ in product([a, 3.0]).grad_fn.next_functions] == [
            False,
            True,
        ]

    def test_gives_one_array_in_two_places_the_sum(self):
        a = leaf(3.0)
        product([a, a, a], power=2).backward()
        assert a.grad.tolist() == [6 * 3.0**5]

    def test_has_derivatives_of_any_order_though_it_saves_its_arrays(self):
        a, b = leaf(3.0), leaf(2.0)
        (first,) = opgrad.autograd.grad(product([a, b], 3), a, create_graph=True)
        (mixed,) = opgrad.autograd.grad(first, b, create_graph=True)
        (third,) = opgrad.autograd.grad(mixed, b)
        assert [first.item(), mixed.item(), third.item()] == [27 * 8, 27 * 12, 27 * 12]

    def test_gives_the_sum_to_what_was_broadcast(self):
        a, b = leaf(2.0), leaf(1.0, 2.0, 3.0)
        product([a, b]).sum().backward()
        assert (a.grad.tolist(), b.grad.tolist()) == ([6.0], [2.0, 2.0, 2.0])

    def test_records_nothing_without_a_gradient_to_ask_for(self):
        assert not product([np.ones(2), opgrad.ones(2)]).requires_grad
        with opgrad.no_grad():
            assert not product([leaf(1.0)]).requires_grad

    def test_is_verified_like_any_other(self):
        assert verify(product).passed

    def test_that_is_wrong_in_one_place_is_found_out(self):
        def backward(self, grad, arrays, power, needs):
            grads = Product.backward(self, grad, arrays, power, needs)
            return [*grads[:-1], None if grads[-1] is None else 2 * grads[-1]]

        report = verify(altered(backward=backward)())
        wrong = {each.input for each in report.findings if each.status == "FAIL"}
        assert not report.passed
        assert "arrays[2]" in wrong

    def test_can_be_called_with_its_arrays_one_by_one(self):
        a, b = leaf(2.0), leaf(5.0)
        spread = product.spread(2)
        assert spread(a, b, power=2).tolist() == product([a, b], 2).tolist()
        assert spread.contract.inputs == ("arrays[0]", "arrays[1]")
        assert product.spread(2).spread(2).contract.inputs == spread.contract.inputs
        assert opgrad.ops.mul.spread(2) is opgrad.ops.mul

    def test_returns_as_many_gradients_as_there_are_arrays(self):
        short = altered(backward=lambda self, grad: (grad,))()
        with pytest.raises(
            opgrad.GraphError,
            match=r"returned a tuple of 1; expected a tuple of 2 gradients, one for each of "
            r"arrays\[0\], arrays\[1\]",
        ):
            short([leaf(1.0), leaf(2.0)]).backward()

    def test_names_the_array_whose_gradient_does_not_fit(self):
        strange = altered(backward=lambda self, grad: (grad, np.ones(7)))()
        with pytest.raises(opgrad.GraphError, match=r"arrays\[1\]"):
            strange([leaf(1.0), leaf(2.0, 3.0)]).sum().backward()

    @pytest.mark.parametrize(
        ("members", "said"),
        [
            ({"forward": lambda self, a, b, /: a}, "is variadic and has 2 inputs"),
            ({"backward_arrays": lambda self, grad: grad}, "there is no such hook"),
            ({"jvp": lambda self, tangent: tangent}, "there is no such hook"),
            ({"forward": lambda self, *arrays: arrays[0]}, r"takes \*arrays"),
        ],
    )
    def test_has_one_input_and_one_hook_for_it(self, members, said):
        with pytest.raises(opgrad.OperatorError, match=said):
            altered(**members)()


class TestAnInputThatMayBeLeftOut:
    def test_may_be_given_by_name(self):
        x, high = leaf(1.0, 3.0), leaf(2.0)
        out = opgrad.clip(x, max=high)
        grads = opgrad.autograd.grad(out.sum(), [x, high])
        assert [out.tolist(), *(each.tolist() for each in grads)] == [[1, 2], [1, 0], [1]]
        loss = opgrad.ops.binary_cross_entropy_with_logits
        x, t, w = np.ones(2), np.zeros(2), np.array([1.0, 2.0])
        assert loss(x, t, weight=w).item() == loss(x, t, w).item()

    def test_others_may_not(self):
        with pytest.raises(TypeError, match="positional"):
            opgrad.clip(x=np.ones(2))

    def test_several_may_be_left_to_another_operator_together(self):
        x, bound = leaf(1.0), leaf(2.0)
        scalar, tensors = opgrad.ops.clamp_scalar, opgrad.ops.clamp
        for given in ((0, 1), (None, 1), (0,), (np.float32(0), np.int64(1)), ()):
            assert opgrad.clamp(x, *given).grad_fn.operator is scalar
        for given in ((bound,), (0, bound), (bound, 3), (None, bound), (np.zeros(1), 1)):
            assert opgrad.clamp(x, *given).grad_fn.operator is tensors
