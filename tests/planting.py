"""Right operators that tests plant errors in, and how to ask what was found."""

from __future__ import annotations

from collections.abc import Sequence

from opgrad import Case, Operator, hookimpl
from opgrad.check import verify

#: A module of a right operator and a wrong one, for tests that install it, or run pytest on it.
RIGHT_AND_WRONG = """\
from opgrad import Case, Operator, hookimpl

class Right(Operator):
    '''The square.'''

    @hookimpl
    def forward(self, x, /):
        return x * x

    @hookimpl
    def backward(self, grad, x):
        return grad * 2 * x

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(2, 3)))
        yield Case(rng.uniform(0.5, 2, size=()))

class Wrong(Right):
    @hookimpl
    def backward(self, grad, x):
        return -2 * grad * x
"""


class Square(Operator):
    """Of one input."""

    @hookimpl
    def forward(self, x, /):
        return x * x

    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * x)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)))


class Product(Operator):
    """Of two inputs, with a hook for each."""

    @hookimpl
    def forward(self, a, b, /):
        return a * b

    @hookimpl
    def backward_a(self, grad, b):
        return grad * b

    @hookimpl
    def backward_b(self, grad, a):
        return grad * a

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)), rng.uniform(0.5, 2, size=(3, 4)))


class Floor(Operator):
    """Without a slope, and without a gradient to ask about."""

    differentiable = False

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.floor(x)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))


def raw(value):
    """Return the array of a tensor, and an array as it is."""
    return value.detach().data if hasattr(value, "detach") else value


def not_passed(operator: Operator, probes: Sequence[str]) -> set[str]:
    """Return those of some probes that an operator does not pass; all of them answer."""
    findings = verify(operator, only=probes).findings
    assert {each.probe for each in findings} == set(probes)
    return {each.probe for each in findings if each.counts_against}


def messages(operator: Operator, probe: str) -> str:
    """Return all that a probe says of an operator."""
    return "\n".join(map(str, verify(operator, only=[probe]).findings))
