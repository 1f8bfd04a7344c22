"""The probes that vary the author's cases: each finds the errors that it is there for."""

from __future__ import annotations

import numpy as np
import pytest
from planting import Product, raw

from opgrad import Case, Operator, hookimpl, ops
from opgrad.check import Status, verify

VARIANTS = [
    "broadcasting", "sizes", "axes", "layouts", "repeated", "mixed_complex", "single_precision",
]  # fmt: skip


def failing(operator: Operator) -> set[str]:
    """Return the probes of this kind that find something, after those of the first order."""
    findings = verify(operator, only=["first_order", *VARIANTS]).findings
    return {each.probe for each in findings if each.status is Status.FAIL}


def passes(operator: Operator, probe: str) -> int:
    return verify(operator, only=[probe]).count(Status.PASS)


class Cube(Operator):
    """The base of the planted errors in one input: right as it stands."""

    @hookimpl
    def forward(self, x, /):
        return x * x * x

    @hookimpl
    def backward(self, grad, x):
        return 3 * grad * x * x

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)))


class Total(Operator):
    """The base of the planted errors in axes: right as it stands."""

    @hookimpl
    def forward(self, x, /, axis=None, *, keepdims=False):
        return np.sum(x, axis=axis, keepdims=keepdims)

    @hookimpl
    def backward(self, grad, x_shape, axis, keepdims):
        if x_shape and axis is not None and not keepdims:
            grad = np.expand_dims(grad, axis)
        return np.broadcast_to(grad, x_shape)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))
        yield Case(rng.normal(size=(3, 4)), axis=0)


class RightOnlyWhenShapesAreEqual(Product):
    @hookimpl
    def backward_b(self, grad, a, b_shape):
        return grad * a if a.shape == b_shape else grad * a * 2


class WrongInOneElementOfABroadcast(Product):
    @hookimpl
    def backward_b(self, grad, a, b_shape):
        slope = np.array(raw(a))
        if slope.shape != b_shape:
            slope.flat[5] *= 1.00001
        return grad * slope


class WrongForOneElement(Cube):
    @hookimpl
    def backward(self, grad, x):
        return (2 if x.size == 1 else 3) * grad * x * x


class FailsForAScalarGrad(Cube):
    """NumPy's results without axes are scalars, not arrays, and so is then grad."""

    @hookimpl
    def backward(self, grad, x):
        if isinstance(raw(grad), np.generic):
            msg = "expected an array"
            raise TypeError(msg)
        return 3 * grad * x * x


class RaisesForNoElements(Cube):
    @hookimpl
    def backward(self, grad, x):
        return 3 * grad * x * x / np.max(raw(x)) * np.max(raw(x))


class GivesNonZeroForNothing(Product):
    @hookimpl
    def backward_b(self, grad, a, b_shape):
        return grad * a if np.size(raw(grad)) else np.ones(b_shape)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3), rng.normal(size=()))


class ForgetsThatThereMayBeNoAxes(Total):
    """NumPy sums a 0-d array over axis 0, but does not give it that axis back."""

    @hookimpl
    def backward(self, grad, x_shape, axis, keepdims):
        kept = axis is None or keepdims
        return np.broadcast_to(grad if kept else np.expand_dims(grad, axis), x_shape)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)), axis=0)


class WrongForNegativeAxes(Total):
    @hookimpl
    def backward(self, grad, x_shape, axis, keepdims):
        gradient = Total.backward(self, grad, x_shape, axis, keepdims)
        return gradient * (2 if isinstance(axis, int) and axis < 0 else 1)


class WrongForTuplesOfAxes(Total):
    @hookimpl
    def backward(self, grad, x_shape, axis, keepdims):
        gradient = Total.backward(self, grad, x_shape, axis, keepdims)
        return gradient * (2 if isinstance(axis, tuple) else 1)


class WrongWithKeptAxes(Total):
    @hookimpl
    def backward(self, grad, x_shape, axis, keepdims):
        gradient = Total.backward(self, grad, x_shape, axis, keepdims)
        return gradient * (2 if keepdims else 1)


class ReadsInMemoryOrder(Cube):
    @hookimpl
    def backward(self, grad, x):
        return 3 * grad * np.ravel(raw(x), order="K").reshape(x.shape) ** 2


class ReadsGradInMemoryOrder(Cube):
    @hookimpl
    def backward(self, grad, x):
        return 3 * np.ravel(raw(grad), order="K").reshape(x.shape) * x * x


class ForwardReadsInMemoryOrder(Cube):
    @hookimpl
    def forward(self, x, /):
        return np.ravel(x, order="K").reshape(x.shape) ** 3


class IgnoresStrides(Cube):
    """It takes the buffer as it lies, which negative and zero strides alone spoil."""

    @hookimpl
    def backward(self, grad, x):
        slope = raw(x)
        if slope.strides and min(slope.strides) <= 0:
            slope = np.zeros_like(slope)
        return 3 * grad * slope * slope


class SameMemoryCountsOnce(Product):
    @hookimpl
    def backward_b(self, grad, a, b):
        return grad * a * (0 if np.shares_memory(raw(a), raw(b)) else 1)


class TimesMatrix(Product):
    """The second input has to be a matrix, so that only the first can be the same array."""

    @hookimpl
    def forward(self, a, b, /):
        if b.ndim != 2:
            msg = "expected a matrix"
            raise ValueError(msg)
        return a * b

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=4), rng.uniform(0.5, 2, size=(3, 4)))


class SameMatrixCountsOnce(TimesMatrix):
    @hookimpl
    def backward_b(self, grad, a, b):
        return grad * a * (0 if np.shares_memory(raw(a), raw(b)) else 1)


class Weighted(Operator):
    """Three inputs; right as it stands."""

    @hookimpl
    def forward(self, a, b, weight, /):
        return weight * (a + b)

    @hookimpl
    def backward_a(self, grad, weight):
        return grad * weight

    @hookimpl
    def backward_b(self, grad, weight):
        return grad * weight

    @hookimpl
    def backward_weight(self, grad, a, b):
        return grad * (a + b)

    @hookimpl
    def self_check(self, rng):
        yield Case(*rng.uniform(0.5, 2, size=(3, 4)))


class WeightOfOneArrayTwice(Weighted):
    """It is the gradient of a third input that goes wrong."""

    @hookimpl
    def backward_weight(self, grad, a, b):
        return grad * (a if np.shares_memory(raw(a), raw(b)) else a + b)


class ComplexProduct(Product):
    """A product that looks at whether the other input is complex; right as it stands."""

    @hookimpl
    def self_check(self, rng):
        z = rng.normal(size=(2, 3)) + 1j * rng.normal(size=(2, 3))
        yield Case(z[0], z[1])


class ForgetsTheConjugateForReal(ComplexProduct):
    @hookimpl
    def backward_a(self, grad, a, b):
        return grad * (b if raw(a).dtype.kind == "c" else raw(b).conj())


class CoarseInFloat32(Cube):
    @hookimpl
    def backward(self, grad, x):
        return 3 * grad * x * x * (1 + (1e-5 if raw(x).dtype == np.float32 else 0))


class Cast(Cube):
    """It is asked for a dtype; right as it stands."""

    @hookimpl
    def forward(self, x, /, dtype):
        return x.astype(dtype)

    @hookimpl
    def backward(self, grad):
        return grad

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)), dtype=np.float64)


class WrongForACastToFloat32(Cast):
    @hookimpl
    def backward(self, grad, dtype):
        return grad * (1.01 if np.dtype(dtype) == np.float32 else 1)


class OneCoarseElementInFloat32(Cube):
    @hookimpl
    def backward(self, grad, x):
        slope = 3 * raw(x) * raw(x)
        if slope.dtype == np.float32:
            slope.flat[7] *= np.float32(1.0001)
        return grad * slope


@pytest.mark.parametrize(
    "operator",
    [
        Cube(),
        Product(),
        TimesMatrix(),
        Weighted(),
        Total(),
        ComplexProduct(),
        Cast(),
    ],
)
def test_right_operators_pass(operator):
    assert failing(operator) == set()


@pytest.mark.parametrize(
    ("operator", "probe"),
    [
        (Product(), "broadcasting"),
        (Cube(), "sizes"),
        (Total(), "axes"),
        (Cube(), "layouts"),
        (Product(), "repeated"),
        (ComplexProduct(), "mixed_complex"),
        (Cube(), "single_precision"),
    ],
)
def test_each_probe_has_something_to_ask(operator, probe):
    assert passes(operator, probe) > 0


@pytest.mark.parametrize(
    ("operator", "probe"),
    [
        (WrongInOneElementOfABroadcast(), "broadcasting"),
        (WrongForOneElement(), "sizes"),
        (FailsForAScalarGrad(), "sizes"),
        (RaisesForNoElements(), "sizes"),
        (GivesNonZeroForNothing(), "sizes"),
        (ForgetsThatThereMayBeNoAxes(), "sizes"),
        (WrongForNegativeAxes(), "axes"),
        (WrongForTuplesOfAxes(), "axes"),
        (WrongWithKeptAxes(), "axes"),
        (ReadsInMemoryOrder(), "layouts"),
        (ReadsGradInMemoryOrder(), "layouts"),
        (ForwardReadsInMemoryOrder(), "layouts"),
        (IgnoresStrides(), "layouts"),
        (SameMemoryCountsOnce(), "repeated"),
        (SameMatrixCountsOnce(), "repeated"),
        (WeightOfOneArrayTwice(), "repeated"),
        (ForgetsTheConjugateForReal(), "mixed_complex"),
        (CoarseInFloat32(), "single_precision"),
        (WrongForACastToFloat32(), "single_precision"),
        (OneCoarseElementInFloat32(), "single_precision"),
    ],
    ids=lambda each: getattr(each, "name", each),
)
def test_a_planted_error_is_found_by_its_probe_alone(operator, probe):
    assert failing(operator) == {probe}


def test_an_error_where_shapes_differ_is_found_by_broadcasting():
    assert "broadcasting" in failing(RightOnlyWhenShapesAreEqual())


def test_a_finding_says_which_input_and_which_variant():
    findings = verify(ReadsGradInMemoryOrder(), only=["layouts"]).findings
    wrong = [each for each in findings if each.status is Status.FAIL]
    assert {each.input for each in wrong} == {"x"}
    assert "grad in Fortran order" in {each.variant for each in wrong}
    assert "beside C order" in wrong[0].message


def test_variants_that_the_forward_refuses_make_no_claim():
    variants = {each.variant for each in verify("matmul", only=["sizes"]).findings}
    assert "axes of size 3 cut to 0" in variants
    assert "no axes" not in variants


@pytest.mark.parametrize(
    ("axis", "others"),
    [
        (None, {(0,), (0, 1)}),
        (0, {-1, -2, (0,)}),
        ((0, 1), {(-1, 0), (-2, -1), (1, 0)}),
    ],
)
def test_axes_are_written_in_all_other_ways(axis, others):
    from opgrad.check.probes.shapes import _other_axes
    from opgrad.check.trial import Trial

    trial = Trial(ops.squeeze, (np.ones((1, 3)),), {})
    assert set(_other_axes(trial, axis)) == others


class TransposedWhereSquare(Cube):
    @hookimpl
    def backward(self, grad, x):
        right = 3 * grad * x * x
        return right.mT if x.ndim == 2 and x.shape[0] == x.shape[1] > 1 else right


class WidensFloat32(Cube):
    @hookimpl
    def forward(self, x, /):
        return x * x * x * np.float64(1)


def test_a_transpose_that_only_shows_in_a_square_is_found_by_sizes():
    assert failing(TransposedWhereSquare()) == {"sizes"}


def test_an_output_in_float64_of_inputs_in_float32_is_found():
    assert failing(WidensFloat32()) == {"single_precision"}


# ------------------------------------------------------------------------------------ tangents


class Square(Operator):
    """The base of the planted errors in jvps: right as it stands."""

    @hookimpl
    def forward(self, x, /):
        return x * x

    @hookimpl
    def backward(self, grad, x):
        return 2 * grad * x

    @hookimpl
    def jvp(self, tangent, x):
        return 2 * tangent * x

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)))


class PushesNegativeWrong(Square):
    @hookimpl
    def jvp(self, tangent, x, xp):
        return 2 * tangent * x * xp.where(x < 0, 1.01, 1)


class PushesLargeWrong(Square):
    @hookimpl
    def jvp(self, tangent, x, xp):
        return 2 * tangent * x * xp.where(x > 5, 1.01, 1)


class PushesNothingWrong(Square):
    @hookimpl
    def jvp(self, tangent, x):
        return 2 * tangent * x / np.max(x) * np.max(x)


class PushesCoarseInFloat32(Square):
    @hookimpl
    def jvp(self, tangent, x):
        return 2 * tangent * x * (1.001 if x.dtype == np.float32 else 1)


class PushesInMemoryOrder(Square):
    @hookimpl
    def jvp(self, tangent, x):
        return 2 * tangent * x * (1 if raw(x).flags.c_contiguous else 1.01)


class NanJvpAtZero(Square):
    @hookimpl
    def jvp(self, tangent, x):
        return 2 * tangent * x * (x / x)


def test_a_right_jvp_passes_for_all_variants():
    assert passes(Square(), "jvp_variants") > 5
    assert verify(Square(), only=["adjoint_identity", "jvp_variants"]).passed


@pytest.mark.parametrize(
    "operator",
    [
        PushesNegativeWrong(),
        PushesLargeWrong(),
        PushesNothingWrong(),
        PushesCoarseInFloat32(),
        PushesInMemoryOrder(),
        NanJvpAtZero(),
    ],
    ids=lambda each: each.name,
)
def test_a_jvp_that_is_wrong_beyond_the_cases_is_found_by_its_probe_alone(operator):
    findings = verify(operator).findings
    assert {each.probe for each in findings if each.counts_against} == {"jvp_variants"}
