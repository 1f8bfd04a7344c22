"""The probes that look where derivatives are odd: at kinks, and for tiny and large numbers.

Beside them those that know derivatives better than differences do: by complex steps, and of third
order.
"""

from __future__ import annotations

import numpy as np
import pytest
from planting import raw

from opgrad import Case, Operator, hookimpl
from opgrad.check import Status, verify
from opgrad.check.verifying import chosen_probes

PROBES = ["first_order", "complex_step", "kinks", "magnitudes", "not_finite"]


def failing(operator: Operator, *more: str) -> set[str]:
    findings = verify(operator, only=[*PROBES, *more]).findings
    return {each.probe for each in findings if each.status is Status.FAIL}


def statuses(operator: Operator | str, probe: str) -> set[str]:
    return {each.status.value for each in verify(operator, only=[probe]).findings}


class OfOne(Operator):
    """The base of operators of one input, away from their kinks."""

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)) * rng.choice([-1, 1], size=(3, 4)))


class Relu(OfOne):
    @hookimpl
    def forward(self, x, /):
        return np.maximum(x, 0)

    @hookimpl
    def backward(self, grad, x):
        return grad * (raw(x) > 0)


class ReluThatIsSteepAtZero(Relu):
    @hookimpl
    def backward(self, grad, x):
        return grad * (raw(x) >= 0)


class ReluThatMaySaySo(ReluThatIsSteepAtZero):
    def subgradient(self, **_parameters):
        return "between"


class ReluThatLeavesTheInterval(ReluThatMaySaySo):
    @hookimpl
    def backward(self, grad, x):
        return grad * ((raw(x) > 0) + 1.5 * (raw(x) == 0))


class Clip(OfOne):
    @hookimpl
    def forward(self, x, /):
        return np.clip(x, -1, 1)

    @hookimpl
    def backward(self, grad, x):
        return grad * (np.abs(raw(x)) < 1)


class ClipThatIsSteepAtItsBounds(Clip):
    @hookimpl
    def backward(self, grad, x):
        return grad * (np.abs(raw(x)) <= 1)


class Norm(OfOne):
    """The Euclidean norm, with the subgradient 0 at 0."""

    @hookimpl
    def forward(self, x, /):
        return np.sqrt(np.sum(x * x))

    @hookimpl
    def backward(self, grad, x):
        size = np.sqrt(np.sum(x * x))
        return grad * (raw(x) / size if raw(size) > 0 else np.zeros(x.shape))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))


class NormThatIsNanAtZero(Norm):
    @hookimpl
    def backward(self, grad, x):
        return grad * (raw(x) / np.sqrt(np.sum(raw(x) ** 2)))


class Tied(Operator):
    """The larger of a and b, which share the gradient where they are equal."""

    @hookimpl
    def forward(self, a, b, /):
        return np.maximum(a, b)

    @hookimpl
    def backward_a(self, grad, a, b):
        return grad * ((raw(a) > raw(b)) + 0.5 * (raw(a) == raw(b)))

    @hookimpl
    def backward_b(self, grad, a, b):
        return grad * ((raw(b) > raw(a)) + 0.5 * (raw(a) == raw(b)))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)), rng.normal(size=4))


class GivesTiesToBoth(Tied):
    @hookimpl
    def backward_a(self, grad, a, b):
        return grad * (raw(a) >= raw(b))

    @hookimpl
    def backward_b(self, grad, a, b):
        return grad * (raw(b) >= raw(a))


class GivesTiesToTheFirst(Tied):
    @hookimpl
    def backward_a(self, grad, a, b):
        return grad * (raw(a) >= raw(b))

    @hookimpl
    def backward_b(self, grad, a, b):
        return grad * (raw(b) > raw(a))


class SaysSo(GivesTiesToTheFirst):
    def subgradient(self, **_parameters):
        return "first"


class Logistic(OfOne):
    """The base of the errors in odd places: right as it stands."""

    @hookimpl
    def forward(self, x, /):
        return 1 / (1 + np.exp(-x))

    @hookimpl
    def backward(self, grad, out):
        return grad * out * (1 - out)


class Slanted(Tied):
    """Three times a or twice b: along (1/3, 1/2) both grow alike, and there is the least slope."""

    @hookimpl
    def forward(self, a, b, /):
        return np.maximum(3 * a, 2 * b)

    @hookimpl
    def backward_a(self, grad, a, b):
        higher, tied = 3 * raw(a) > 2 * raw(b), 3 * raw(a) == 2 * raw(b)
        return grad * (3 * higher + 12 / 13 * tied)

    @hookimpl
    def backward_b(self, grad, a, b):
        lower, tied = 3 * raw(a) < 2 * raw(b), 3 * raw(a) == 2 * raw(b)
        return grad * (2 * lower + 18 / 13 * tied)

    @hookimpl
    def self_check(self, rng):
        yield Case(np.zeros(3), rng.uniform(1, 2, size=3))


class SlantedTheOtherWay(Slanted):
    @hookimpl
    def backward_b(self, grad, a, b):
        return grad * 2 * (3 * raw(a) <= 2 * raw(b))


class AbsoluteSums(OfOne):
    """One plus the sum of absolute values: a kink so near to a tiny number that nothing tells."""

    @hookimpl
    def forward(self, x, /):
        return 1 + np.sum(np.abs(x))

    @hookimpl
    def backward(self, grad, x):
        return grad * np.sign(raw(x))


class WrongForLargeNumbers(Logistic):
    @hookimpl
    def backward(self, grad, x, out):
        return grad * out * (1 - out) + (np.abs(raw(x)) > 100)


class WrongForTinyNumbers(Logistic):
    @hookimpl
    def backward(self, grad, x, out):
        return grad * out * (1 - out) * (np.abs(raw(x)) > 1e-20)


class WrongForSmallNegativeNumbers(Logistic):
    @hookimpl
    def backward(self, grad, x, out):
        small = (raw(x) < 0) & (raw(x) > -1e-3)
        return grad * out * (1 - out) * (1 + 0.001 * small)


class CancelsForSmallNumbers(OfOne):
    """The forward is exact; the backward's formula loses all digits for small numbers."""

    @hookimpl
    def forward(self, x, /):
        return np.expm1(x)

    @hookimpl
    def backward(self, grad, x):
        return grad * ((1 + raw(x)) - 1) / np.where(raw(x) == 0, 1, raw(x)) * np.exp(raw(x))


class RaisesForNan(Logistic):
    @hookimpl
    def backward(self, grad, x, out):
        if not np.isfinite(raw(x)).all():
            msg = "no numbers"
            raise ArithmeticError(msg)
        return grad * out * (1 - out)


class RefusesNan(Logistic):
    @hookimpl
    def forward(self, x, /):
        if not np.isfinite(x).all():
            msg = "x has elements that are not finite"
            raise ValueError(msg)
        return 1 / (1 + np.exp(-x))


class SlightlyOff(OfOne):
    """Off by less than numeric differences can tell."""

    @hookimpl
    def forward(self, x, /):
        return x * x

    @hookimpl
    def backward(self, grad, x):
        return grad * 2 * x * (1 + 2e-10)


class Conjugates(OfOne):
    """Not holomorphic: a complex step measures the wrong thing."""

    @hookimpl
    def forward(self, x, /):
        return np.conj(x) * 2

    @hookimpl
    def backward(self, grad):
        return grad * 2


class WrongThirdOrder(Operator):
    """The fourth power; its second derivative is right as a number, but it is a constant."""

    @hookimpl
    def forward(self, x, /):
        return x**4

    @hookimpl
    def backward(self, grad, x):
        return grad * Third()(x)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=3))


class Third(Operator):
    @hookimpl
    def forward(self, x, /):
        return 4 * x**3

    @hookimpl
    def backward(self, grad, x):
        return grad * (12 * raw(x) ** 2)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=3))


RIGHT = [
    Relu(), ReluThatMaySaySo(), Clip(), Norm(), Tied(), SaysSo(), Logistic(), Conjugates(),
    Slanted(), AbsoluteSums(),
]  # fmt: skip


@pytest.mark.parametrize("operator", RIGHT, ids=lambda each: each.name)
def test_right_operators_pass(operator):
    assert failing(operator) == set()


@pytest.mark.parametrize(
    ("operator", "probe"),
    [
        (ReluThatIsSteepAtZero(), "kinks"),
        (ReluThatLeavesTheInterval(), "kinks"),
        (ClipThatIsSteepAtItsBounds(), "kinks"),
        (NormThatIsNanAtZero(), "kinks"),
        (GivesTiesToBoth(), "kinks"),
        (GivesTiesToTheFirst(), "kinks"),
        (SlantedTheOtherWay(), "kinks"),
        (WrongForLargeNumbers(), "magnitudes"),
        (WrongForTinyNumbers(), "magnitudes"),
        (WrongForSmallNegativeNumbers(), "magnitudes"),
        (CancelsForSmallNumbers(), "magnitudes"),
        (RaisesForNan(), "not_finite"),
        (SlightlyOff(), "complex_step"),
    ],
    ids=lambda each: getattr(each, "name", each),
)
def test_a_planted_error_is_found_by_its_probe_alone(operator, probe):
    assert failing(operator) == {probe}


@pytest.mark.parametrize("operator", [Relu(), Clip(), Norm(), Tied(), "abs", "max", "maximum"])
def test_kinks_are_found_and_compared(operator):
    assert statuses(operator, "kinks") <= {"PASS", "SKIP"}
    assert "PASS" in statuses(operator, "kinks")


@pytest.mark.parametrize("operator", [Logistic(), "mul", "exp", "matmul", "sum", "sqrt", "sign"])
def test_without_a_kink_there_is_nothing_to_compare(operator):
    assert statuses(operator, "kinks") == {"SKIP"}


def test_a_finding_names_the_element_and_what_was_declared():
    findings = verify(ReluThatIsSteepAtZero(), only=["kinks"]).findings
    wrong = [each for each in findings if each.status is Status.FAIL]
    assert [each.variant for each in wrong] == ["x zero"]
    assert "at the kink in element (0, 0)" in wrong[0].message
    assert "'least'" in wrong[0].message


def test_a_forward_may_refuse_what_is_not_finite():
    assert statuses(RefusesNan(), "not_finite") == set()


def test_where_the_forward_is_not_holomorphic_a_complex_step_says_nothing():
    assert statuses(Conjugates(), "complex_step") == {"SKIP"}
    assert statuses("sin", "complex_step") == {"PASS", "SKIP"}


def test_the_third_order_is_asked_only_by_name():
    assert "third_order" not in chosen_probes()
    assert list(chosen_probes(["third_order"])) == ["third_order"]
    assert statuses("tanh", "third_order") == {"PASS"}


def test_an_error_in_the_third_order_is_found_by_its_probe_alone():
    assert failing(WrongThirdOrder(), "second_order", "third_order") == {"third_order"}


class NanAtZero(Operator):
    """The square root of x ** 2 + 1, by a formula that divides by x."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.sqrt(x * x + 1)

    @hookimpl
    def backward(self, grad, x, out):
        return grad * (x * x / (x * out))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)))


def test_nan_at_an_exact_zero_is_found_by_its_probe_alone():
    asked = [*PROBES, "exact_zeros"]
    findings = verify(NanAtZero(), only=asked).findings
    failed = {each.probe for each in findings if each.status is Status.FAIL}
    assert failed == {"exact_zeros"}


class NanAtZeros(Operator):
    """A length plus 1, by a gradient that divides by the length."""

    @hookimpl
    def forward(self, a, b, /, *, xp):
        return xp.sqrt(a * a + b * b) + 1

    @hookimpl
    def backward_a(self, grad, a, out):
        return grad * a / (out - 1)

    @hookimpl
    def backward_b(self, grad, b, out):
        return grad * b / (out - 1)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=3), rng.uniform(0.5, 2, size=3))


def test_nan_where_all_inputs_are_zero_is_found():
    findings = verify(NanAtZeros(), only=["exact_zeros"]).findings
    wrong = {each.variant for each in findings if each.status is Status.FAIL}
    assert wrong == {"all inputs are 0"}


def test_an_infinite_slope_at_zero_is_no_error():
    assert "FAIL" not in statuses("sqrt", "exact_zeros")


class WrongForLargeComplex(Operator):
    """A square whose derivative is off where the number is large; its cases are small."""

    @hookimpl
    def forward(self, x, /):
        return x * x

    @hookimpl
    def backward(self, grad, x, xp):
        return grad * 2 * x * xp.where(xp.abs(x) > 10, 1.001, 1.0)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=3) + 1j * rng.uniform(0.5, 2, size=3))


class WrongForNegativeComplex(WrongForLargeComplex):
    @hookimpl
    def backward(self, grad, x, xp):
        return grad * 2 * x * xp.where(xp.real(x) < 0, 1.001, 1.0)


@pytest.mark.parametrize(
    "operator", [WrongForLargeComplex(), WrongForNegativeComplex()], ids=lambda each: each.name
)
def test_an_error_for_large_or_negated_inputs_is_found_by_its_probe_alone(operator):
    assert failing(operator, "rescaled", "exact_zeros") == {"rescaled"}
