"""The probes that change what is no array of real numbers: each finds what it is there for."""

from __future__ import annotations

import numpy as np
import pytest
from planting import Product, Square, raw

from opgrad import Case, Operator, hookimpl
from opgrad.check import verify
from opgrad.check.probes.constants import others


def against(operator: Operator) -> set[str]:
    """Return the probes of which a finding counts against an operator."""
    return {each.probe for each in verify(operator).findings if each.counts_against}


class Scaled(Operator):
    """The base of the planted errors in a number: right as it stands."""

    @hookimpl
    def forward(self, x, /, factor=1.0):
        return factor * x

    @hookimpl
    def backward(self, grad, factor):
        return grad * factor

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=4))


class ForgetsTheFactor(Scaled):
    @hookimpl
    def backward(self, grad):
        return grad


class Powered(Operator):
    """The base of the planted errors in whole numbers: right as it stands."""

    @hookimpl
    def forward(self, x, /, n=2):
        return x**n

    @hookimpl
    def backward(self, grad, x, n):
        return grad * n * x ** (n - 1)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=4))


class WrongForNegativePowers(Powered):
    @hookimpl
    def backward(self, grad, x, n):
        return grad * abs(n) * x ** (n - 1)


class Softmax(Operator):
    """The base of the planted errors in an axis and in a switch: right as it stands."""

    once_differentiable = True

    @hookimpl
    def forward(self, x, /, axis=-1, logarithm=False):
        weights = np.exp(x - np.max(x, axis=axis, keepdims=True))
        result = weights / np.sum(weights, axis=axis, keepdims=True)
        return np.log(result) if logarithm else result

    @hookimpl
    def backward(self, grad, out, axis, logarithm):
        if logarithm:
            return grad - np.exp(out) * np.sum(grad, axis=axis, keepdims=True)
        return out * (grad - np.sum(grad * out, axis=axis, keepdims=True))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))


class AlwaysAlongTheLastAxis(Softmax):
    @hookimpl
    def backward(self, grad, out, logarithm):
        return Softmax.backward(self, grad, out, -1, logarithm)


class ForgetsTheLogarithm(Softmax):
    @hookimpl
    def backward(self, grad, out, axis):
        return Softmax.backward(self, grad, out, axis, False)


class Permuted(Operator):
    """The base of the planted error in an order of axes: right as it stands."""

    view = True
    once_differentiable = True

    @hookimpl
    def forward(self, x, /, order, *, xp):
        return xp.permute_dims(x, order)

    @hookimpl
    def backward(self, grad, order, xp):
        return xp.permute_dims(grad, tuple(map(order.index, range(len(order)))))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(2, 3, 4)), order=(0, 2, 1))


class RightIfAnOrderIsItsOwnInverse(Permuted):
    @hookimpl
    def backward(self, grad, order, xp):
        return xp.permute_dims(grad, order)


class Taken(Operator):
    """The base of the planted errors in indices: right as it stands."""

    once_differentiable = True

    @hookimpl
    def forward(self, x, at, /):
        if np.ndim(x) != 1 or np.asarray(at).dtype.kind != "i":
            msg = "expected a vector, and integers"
            raise ValueError(msg)
        return x[at]

    @hookimpl
    def backward_x(self, grad, at, x_shape):
        gradient = np.zeros(x_shape, grad.dtype)
        np.add.at(gradient, at, grad)
        return gradient

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=6), np.array([0, 2, 5]))


class LosesRepeatedIndices(Taken):
    @hookimpl
    def backward_x(self, grad, at, x_shape):
        gradient = np.zeros(x_shape, grad.dtype)
        gradient[at] += grad
        return gradient


class WrongForNegativeIndices(Taken):
    @hookimpl
    def backward_x(self, grad, at, x_shape):
        return Taken.backward_x(self, grad, np.maximum(at, 0), x_shape)


class NanWithoutAnyOfAMask(Operator):
    """The forward gives 0 for the mean of nothing."""

    @hookimpl
    def forward(self, x, mask, /):
        mask = np.broadcast_to(mask, x.shape)
        return np.sum(x * mask, dtype=x.dtype) / x.dtype.type(max(np.sum(mask), 1))

    @hookimpl
    def backward_x(self, grad, x_shape, mask):
        mask = np.broadcast_to(raw(mask), x_shape)
        return grad * (mask / np.sum(mask) if mask.size else mask)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=4), np.array([True, False, True, True]))


class Mean(Operator):
    """The base of the planted error in a number of arrays: right as it stands."""

    variadic = True

    @hookimpl
    def forward(self, arrays, /):
        total = 1 * arrays[0]
        for each in arrays[1:]:
            total = total + each
        return total / len(arrays)

    @hookimpl
    def backward(self, grad, arrays):
        return (grad / len(arrays),) * len(arrays)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=4), rng.normal(size=4))


class MeanOfTwo(Mean):
    @hookimpl
    def backward(self, grad, arrays):
        return (grad / 2,) * len(arrays)


class NeedsAnArray(Product):
    @hookimpl
    def backward_a(self, grad, b):
        return grad * b.reshape(b.shape)


class WrongBesideIntegers(Product):
    @hookimpl
    def backward_a(self, grad, b):
        return grad * (b // 2 if np.asarray(raw(b)).dtype.kind == "i" else b)


@pytest.mark.parametrize(
    "operator",
    [Scaled(), Powered(), Softmax(), Permuted(), Taken(), Mean(), Product(), Square()],
    ids=lambda each: each.name,
)
def test_right_operators_pass(operator):
    assert against(operator) == set()


@pytest.mark.parametrize(
    ("operator", "probe"),
    [
        (ForgetsTheFactor(), "parameters"),
        (WrongForNegativePowers(), "parameters"),
        (AlwaysAlongTheLastAxis(), "parameters"),
        (ForgetsTheLogarithm(), "parameters"),
        (RightIfAnOrderIsItsOwnInverse(), "parameters"),
        (LosesRepeatedIndices(), "parameters"),
        (WrongForNegativeIndices(), "parameters"),
        (NanWithoutAnyOfAMask(), "parameters"),
        (MeanOfTwo(), "counts"),
        (NeedsAnArray(), "numbers"),
        (WrongBesideIntegers(), "numbers"),
    ],
    ids=lambda each: getattr(each, "name", each),
)
def test_a_planted_error_is_found_by_its_probe_alone(operator, probe):
    assert against(operator) == {probe}


def test_what_the_forward_refuses_in_any_way_makes_no_claim():
    class Picky(Scaled):
        @hookimpl
        def forward(self, x, /, factor=1.0):
            return {1.0: x + 0}[factor]

    assert against(Picky()) == set()


def test_a_finding_names_the_parameter():
    findings = verify(ForgetsTheFactor(), only=["parameters"]).findings
    assert [each.variant for each in findings] == ["factor=1.25"]


@pytest.mark.parametrize("value", [None, "mean", np.float32, object(), float("inf"), (), []])
def test_constants_of_no_other_value(value):
    assert list(others(value)) == []


def test_an_index_that_holds_arrays_is_changed_element_by_element():
    changed = [repr(each) for each in others((np.array([0, 1]), 2))]
    assert "(array([-1, -2]), 2)" in changed
    assert "(array([0, 1]), -3)" in changed


# ------------------------------------------------------- what other probes ask about such changes


class Total(Operator):
    """The base of the planted errors in hooks beside the backward: right as it stands."""

    @hookimpl
    def forward(self, x, /, axis=0, *, keepdims=False):
        return np.sum(x * x, axis=axis, keepdims=keepdims)

    @hookimpl
    def backward(self, grad, x, axis, keepdims, xp):
        return 2 * x * (grad if keepdims or not x.ndim else xp.expand_dims(grad, axis=axis))

    @hookimpl
    def jvp(self, tangent, x, axis, keepdims, xp):
        return xp.sum(2 * x * tangent, axis=axis, keepdims=keepdims)

    @hookimpl
    def batch(self, x, axis, keepdims):
        return self(x, axis + 1 if axis >= 0 else axis, keepdims=keepdims)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)), axis=0)


class PushesAlongTheFirstAxis(Total):
    @hookimpl
    def jvp(self, tangent, x, keepdims, xp):
        return xp.sum(2 * x * tangent, axis=0, keepdims=keepdims)


class BatchesNegativeAxesWrong(Total):
    @hookimpl
    def batch(self, x, axis, keepdims):
        return self(x, axis + 1, keepdims=keepdims)


class BatchesOneRankAlone(Product):
    @hookimpl
    def batch(self, a, b):
        return self(a, b)


class CutsTheJvp(Square):
    @hookimpl
    def jvp(self, tangent, x):
        return tangent * raw(2 * x)


class CutsTheGraphForNegativeInputs(Square):
    @hookimpl
    def backward(self, grad, x, xp):
        return 2 * grad * xp.where(x < 0, raw(x), x)


class CutsTheGraphForOtherPowers(Powered):
    @hookimpl
    def backward(self, grad, x, n):
        return grad * n * x ** (n - 1) if n == 2 else grad * n * raw(x) ** (n - 1)


@pytest.mark.parametrize(
    ("operator", "probe"),
    [
        (CutsTheGraphForNegativeInputs(), "second_order_variants"),
        (CutsTheGraphForOtherPowers(), "second_order_variants"),
        (PushesAlongTheFirstAxis(), "jvp_variants"),
        (BatchesNegativeAxesWrong(), "batching"),
        (BatchesOneRankAlone(), "batching"),
        (CutsTheJvp(), "jvp_derivative"),
    ],
    ids=lambda each: getattr(each, "name", each),
)
def test_an_error_in_another_hook_is_found_by_its_probe_alone(operator, probe):
    assert against(operator) == {probe}


def test_hooks_that_are_right_pass():
    assert against(Total()) == set()


# ------------------------------------------------------------------------------------- shapes


class Trace(Operator):
    """The base of the planted errors in shapes: right as it stands."""

    once_differentiable = True

    @hookimpl
    def forward(self, x, /):
        return np.asarray(np.trace(x, axis1=-2, axis2=-1), x.dtype)

    @hookimpl
    def backward(self, grad, x_shape):
        return np.asarray(grad)[..., None, None] * np.eye(*x_shape[-2:])

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 3)))


class RightForSquares(Trace):
    @hookimpl
    def backward(self, grad, x_shape):
        gradient = Trace.backward(self, grad, x_shape)
        return gradient * (1 if x_shape[-1] == x_shape[-2] else 2)


class RightForOneMatrix(Trace):
    @hookimpl
    def backward(self, grad, x_shape):
        return Trace.backward(self, grad, x_shape) * (1 if len(x_shape) == 2 else 2)


class RightForEvenSizes(Square):
    @hookimpl
    def backward(self, grad, x):
        return 2 * grad * x * (2 if x.ndim and x.shape[-1] in (3, 5, 7) else 1)


class SumsNoMiddleAxis(Product):
    """It is summed by hand, and where an axis in the middle is of size 1, averaged."""

    @hookimpl
    def backward_b(self, grad, a, b_shape):
        wrong = len(b_shape) == 3 and b_shape[1] == 1 and b_shape[0] > 1 and b_shape[2] > 1
        return grad * a * (0.5 if wrong else 1)

    @hookimpl
    def self_check(self, rng):
        yield Case(*rng.normal(size=(2, 2, 3, 4)))


def test_a_trace_that_is_right_passes():
    assert against(Trace()) == set()


@pytest.mark.parametrize(
    ("operator", "probe"),
    [
        (RightForSquares(), "sizes"),
        (RightForOneMatrix(), "sizes"),
        (RightForEvenSizes(), "sizes"),
        (SumsNoMiddleAxis(), "broadcasting"),
    ],
    ids=lambda each: getattr(each, "name", each),
)
def test_an_error_for_another_shape_is_found_by_its_probe_alone(operator, probe):
    assert probe in against(operator)
