"""Where the forward is flat: no error is a slope too small to show, and any that would show is.

Of ``1 - exp(-x**2 / 2)`` at 33 nothing is left to see but 1, and the slope is 1e-237.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from opgrad import Case, Operator, hookimpl
from opgrad.check import Status, verify


def failing(operator: Operator) -> set[str]:
    return {each.probe for each in verify(operator).findings if each.status is Status.FAIL}


class Welsch(Operator):
    """Beyond 9 scales it is 1 to the last bit, and its slope is 1e-18, or 1e-237: right."""

    scale = 1.0

    @hookimpl
    def forward(self, x, /, *, xp):
        return -xp.expm1(-((x / self.scale) ** 2) / 2)

    @hookimpl
    def backward(self, grad, x, xp):
        return grad * xp.exp(-((x / self.scale) ** 2) / 2) * x / self.scale**2

    @hookimpl
    def self_check(self, rng):
        yield Case(self.scale * rng.uniform(0.5, 2, size=(3, 4)))


class NarrowWelsch(Welsch):
    """Right, too: wherever an element is moved to, there it is 1."""

    scale = 0.033


class BellAndRest(Welsch):
    """Right, too: of one output the slope is 1e-236, and of the other nothing shows."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.exp(-x * x / 2), -xp.expm1(-x * x / 2)

    @hookimpl
    def backward(self, grad, x, xp):
        return (grad[1] - grad[0]) * xp.exp(-x * x / 2) * x


class WrongWhereFlat(Welsch):
    @hookimpl
    def backward(self, grad, x, xp):
        return grad * (xp.exp(-x * x / 2) * x + 1e-6 * (x > 20))


class WrongForTinyWhereFlat(Welsch):
    """It is flat everywhere."""

    @hookimpl
    def forward(self, x, /):
        return 1 + 0 * x

    @hookimpl
    def backward(self, grad, x, xp):
        return grad * 1e-3 * (xp.abs(x) < 1e-20)


@pytest.mark.parametrize(
    "operator", [Welsch(), NarrowWelsch(), BellAndRest()], ids=lambda each: each.name
)
def test_a_slope_too_small_for_the_forward_to_show_is_no_error(operator):
    report = verify(operator)
    assert report.passed, str(report)


@pytest.mark.parametrize(
    "operator", [WrongWhereFlat(), WrongForTinyWhereFlat()], ids=lambda each: each.name
)
def test_a_slope_that_would_show_where_the_forward_is_flat_is_an_error(operator):
    assert "magnitudes" in failing(operator)


def test_a_forward_that_overflows_beyond_what_it_is_made_for_makes_no_claim_there():
    class Powers(Operator):
        """The exponential, by Python's own, which raises OverflowError where NumPy gives inf."""

        @hookimpl
        def forward(self, x, /):
            return np.reshape([math.exp(each) for each in np.ravel(x)], np.shape(x))

        @hookimpl
        def backward(self, grad, out):
            return grad * out

        @hookimpl
        def self_check(self, rng):
            yield Case(rng.normal(size=3))

    failures = [str(each) for each in verify(Powers()).findings if "Overflow" in each.message]
    assert failures == []
