"""The operator's declared domain: the verifier asks next to its bounds, and makes no claim beyond.

What else the same probes ask about, tiny and large numbers and zeros, stands in
``test_probes_kinks.py``.
"""

from __future__ import annotations

from math import inf
from typing import ClassVar

import numpy as np
import pytest

from opgrad import Case, Operator, hookimpl, ops
from opgrad.check import Status, verify
from opgrad.check.probes.domain import magnitudes
from opgrad.check.verifying import watched


def failing(operator: Operator) -> set[str]:
    return {each.probe for each in verify(operator).findings if each.status is Status.FAIL}


class Log(Operator):
    """The base of the errors next to a bound of 0: right as it stands."""

    domain: ClassVar = {"x": (0, inf)}

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.log(x)

    @hookimpl
    def backward(self, grad, x):
        return grad / x

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)))
        yield Case(rng.uniform(0.5, 2))


class ShiftedLog(Log):
    """Next to 0, it divides by 1e-60 and not by x."""

    @hookimpl
    def backward(self, grad, x):
        return grad / (x + 1e-60)


class Arcsin(Log):
    """The base of the errors next to a bound that is not 0: right as it stands."""

    domain: ClassVar = {"x": (-1, 1)}

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.asin(x)

    @hookimpl
    def backward(self, grad, x):
        return grad * ((1 - x) * (1 + x)) ** -0.5

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(-0.9, 0.9, size=(3, 4)))
        yield Case(rng.uniform(-0.9, 0.9))


class CancellingArcsin(Arcsin):
    """Right as well: next to 1 its formula loses digits, but no more than rounding x does."""

    @hookimpl
    def backward(self, grad, x):
        return grad * (1 - x * x) ** -0.5


class WrongNextToOne(Arcsin):
    @hookimpl
    def backward(self, grad, x):
        return grad * ((1 - x) * (1 + x) + 1e-11 * (x > 0.999)) ** -0.5


class WrongNextToMinusOne(Arcsin):
    @hookimpl
    def backward(self, grad, x):
        return grad * ((1 - x) * (1 + x) + 1e-6 * (x < -0.999)) ** -0.5


class Clipped(Arcsin):
    """Defined for all numbers, but beyond its bounds the backward is not finite."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.asin(xp.clip(x, -1, 1))


class ClippedWithoutDomain(Clipped):
    domain: ClassVar = {}


class ClippedAndFiniteBeyond(Clipped):
    """Beyond its bounds the backward is finite, and wrong: the forward is flat there."""

    @hookimpl
    def backward(self, grad, x, xp):
        return grad * xp.where(xp.abs(x) > 1, 1.0, xp.abs((1 - x) * (1 + x)) ** -0.5)


class ClippedArccosh(Log):
    """Below 1 it is 0, and the backward is nan."""

    domain: ClassVar = {"x": (1, inf)}

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.acosh(xp.clip(x, 1, None))

    @hookimpl
    def backward(self, grad, x):
        return grad * (x - 1) ** -0.5 * (x + 1) ** -0.5

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(1.5, 3, size=(3, 4)))


class NanNextToZero(Log):
    """Both powers are 0 there: they underflow."""

    @hookimpl
    def backward(self, grad, x):
        return grad * x**4 / x**5


@pytest.mark.parametrize(
    "operator", [Log(), Arcsin(), CancellingArcsin(), Clipped()], ids=lambda each: each.name
)
def test_right_operators_pass(operator):
    report = verify(operator)
    assert report.passed, str(report)


@pytest.mark.parametrize(
    "operator",
    [ShiftedLog(), WrongNextToOne(), WrongNextToMinusOne(), NanNextToZero()],
    ids=lambda each: each.name,
)
def test_an_error_only_next_to_a_bound_is_found_by_that_probe_alone(operator):
    assert failing(operator) == {"magnitudes"}


def test_without_a_declared_domain_the_error_is_not_asked_for():
    class NothingDeclared(ShiftedLog):
        domain: ClassVar = {}

    assert failing(NothingDeclared()) == set()


@pytest.mark.parametrize("operator", [Log(), Arcsin()], ids=lambda each: each.name)
def test_a_single_element_is_put_next_to_every_bound_in_turn(operator):
    scalar = Case(0.5 * np.ones(()))
    found = [each for each in watched(magnitudes, operator, scalar) if "bounds" in each.variant]
    assert [each.status for each in found] == [Status.PASS] * (3 if operator.name == "log" else 6)


def test_the_finding_says_that_it_is_next_to_a_bound():
    found = verify(WrongNextToOne()).failures()
    assert {each.variant for group in found for each in group} == {
        "x next to the bounds of its domain"
    }


def test_numbers_are_inside_in_the_dtype_of_the_input():
    """In float32, 1 less a billionth is 1, where the slope is infinite."""
    seen = set()

    class Spy(Arcsin):
        @hookimpl
        def backward(self, grad, x):
            seen.update(np.abs(x.detach().data if hasattr(x, "detach") else x))
            return grad * ((1 - x) * (1 + x)) ** -0.5

    watched(magnitudes, Spy(), Case(np.float32([0.5, -0.25, 0.125])))
    assert 0.999 <= max(seen) < 1


def test_beyond_the_bounds_a_gradient_that_is_not_finite_is_not_held_against_the_operator():
    assert failing(ClippedWithoutDomain()) >= {"magnitudes", "rescaled"}
    assert failing(Clipped()) == set()


def test_zero_may_be_beyond_the_bounds():
    class NothingDeclared(ClippedArccosh):
        domain: ClassVar = {}

    assert "exact_zeros" in failing(NothingDeclared())
    assert failing(ClippedArccosh()) == set()


def test_beyond_the_bounds_a_gradient_that_is_finite_has_to_be_right():
    assert failing(ClippedAndFiniteBeyond()) >= {"magnitudes", "rescaled"}


@pytest.mark.parametrize("name", ["log", "sqrt", "pow", "pow_scalar"])
def test_operators_that_are_not_defined_for_negative_numbers_say_so(name):
    (bounds,) = getattr(ops, name).domain.values()
    assert bounds == (0, inf)


def refusing(operator_type):
    """Make an operator that raises beyond the bounds of its domain, where NumPy gives nan."""

    class Refusing(operator_type):
        @hookimpl
        def forward(self, x, /, *, xp):
            low, high = self.domain["x"]
            if not ((low < x) & (x < high)).all():
                msg = f"x is {x}"
                raise ValueError(msg)
            return super().forward(x, xp=xp)

    Refusing.__name__ = f"Refusing{operator_type.__name__}"
    return Refusing()


class NarrowLog(Log):
    """Of an interval that is over before ordinary numbers begin."""

    domain: ClassVar = {"x": (0, 0.1)}

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.02, 0.08, size=(3, 4)))


class NarrowShiftedLog(NarrowLog):
    @hookimpl
    def backward(self, grad, x):
        return grad / (x + 1e-60)


class OfThreeHalves(Log):
    """Beside the slopes at large numbers, that at a tiny one is nothing."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return x * xp.sqrt(x)

    @hookimpl
    def backward(self, grad, x):
        return grad * 1.5 * x**0.5


class WrongOfThreeHalves(OfThreeHalves):
    @hookimpl
    def backward(self, grad, x):
        return grad * 1.5 * x**0.5 * (1 + 1e-3 * (x < 1e-20))


@pytest.mark.parametrize("of", [Log, Arcsin, NarrowLog, OfThreeHalves])
def test_a_forward_may_refuse_what_is_beyond_its_bounds(of):
    report = verify(refusing(of))
    assert report.passed, str(report)
    asked = [each for each in report.findings if each.probe == "magnitudes" and each.input]
    assert {each.status for each in asked} == {Status.PASS}


@pytest.mark.parametrize(
    "of",
    [ShiftedLog, WrongNextToOne, WrongNextToMinusOne, NanNextToZero, NarrowShiftedLog,
     WrongOfThreeHalves],
)  # fmt: skip
def test_an_error_next_to_a_bound_is_found_if_the_forward_refuses_what_is_beyond(of):
    assert failing(refusing(of)) == {"magnitudes"}


class RefusingWithoutDomain(OfThreeHalves):
    domain: ClassVar = {}

    @hookimpl
    def forward(self, x, /, *, xp):
        if not (x > 0).all():
            raise ValueError
        return x * xp.sqrt(x)


class WrongAndRefusingWithoutDomain(RefusingWithoutDomain):
    @hookimpl
    def backward(self, grad, x):
        return grad * 1.5 * x**0.5 * (1 + 1e-3 * (x < 1e-20))


def test_a_forward_may_refuse_numbers_without_saying_so_in_a_domain():
    report = verify(RefusingWithoutDomain())
    assert report.passed, str(report)
    assert failing(WrongAndRefusingWithoutDomain()) == {"magnitudes"}


def test_a_forward_that_refuses_what_the_author_gives_fails():
    class AboveOne(type(refusing(Log))):
        domain: ClassVar = {"x": (1, inf)}

    assert "first_order" in failing(AboveOne())


def test_where_the_forward_refuses_all_other_numbers_there_is_nothing_to_ask():
    class OnlyOrdinary(Log):
        domain: ClassVar = {}

        @hookimpl
        def forward(self, x, /, *, xp):
            if not ((x > 0.4) & (x < 1.05)).all():
                raise ValueError
            return xp.log(x)

    (found,) = watched(magnitudes, OnlyOrdinary(), Case(np.array([0.5, 0.75])))
    assert found.status is Status.SKIP
    assert found.message == "the forward refuses the numbers, or gives nan or inf"


def test_there_is_no_kink_where_the_forward_refuses_one_side():
    class AtLeastZero(OfThreeHalves):
        @hookimpl
        def forward(self, x, /):
            if (x < 0).any():
                raise ValueError
            return x**1.5

    report = verify(AtLeastZero())
    assert report.passed, str(report)


class SumOfLogs(Operator):
    """The domain of its one input is that of each of the arrays."""

    variadic = True
    domain: ClassVar = {"arrays": (0, inf)}

    @hookimpl
    def forward(self, arrays, /, *, xp):
        return sum(xp.log(each) for each in arrays)

    @hookimpl
    def backward(self, grad, arrays):
        return [grad / each for each in arrays]

    @hookimpl
    def self_check(self, rng):
        yield Case(*rng.uniform(0.5, 2, size=(2, 3)))


class SumOfShiftedLogs(SumOfLogs):
    @hookimpl
    def backward(self, grad, arrays):
        return [grad / (each + 1e-60 * i) for i, each in enumerate(arrays)]


def test_the_domain_of_a_variadic_operator_is_that_of_each_array():
    found = verify(SumOfLogs(), only=["magnitudes"]).findings
    assert {each.status for each in found} == {Status.PASS}
    assert {each.input for each in found if "bounds" in each.variant} == {"arrays[0]", "arrays[1]"}
    (alike,) = verify(SumOfShiftedLogs()).failures()
    assert {(each.probe, each.input) for each in alike} == {("magnitudes", "arrays[1]")}
