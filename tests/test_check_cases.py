"""What the verifier says of cases that are none, or that an operator cannot be asked about."""

from __future__ import annotations

import numpy as np
import pytest
from planting import Square

from opgrad import Case, Operator, hookimpl
from opgrad.check import verify


class Scaled(Operator):
    """Of one input, of a parameter that has to be there, and of one that need not."""

    @hookimpl
    def forward(self, x, /, factor, *, power=1):
        return factor * x**power

    @hookimpl
    def backward(self, grad, x, factor, power):
        return grad * factor * power * x ** (power - 1)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=3), factor=2.0)


class Total(Operator):
    """Of any number of inputs."""

    variadic = True

    @hookimpl
    def forward(self, arrays, /):
        return sum(arrays)

    @hookimpl
    def backward(self, grad, arrays):
        return (grad,) * len(arrays)

    @hookimpl
    def self_check(self, rng):
        yield Case(*rng.normal(size=(3, 2)))


def with_cases(kind, check):
    """Return an operator of that kind whose self_check is another."""
    return type(kind.__name__, (kind,), {"self_check": hookimpl(check)})()


def yielding(*cases):
    def self_check(self, rng):
        yield from cases

    return self_check


def returning(value):
    def self_check(self, rng):
        return value

    return self_check


TWO = np.ones(2)


@pytest.mark.parametrize(
    ("kind", "self_check", "message"),
    [
        (
            Square,
            yielding(Case(TWO, TWO)),
            "Case(float64 (2,), float64 (2,)) has 2 inputs, and square takes 1: x",
        ),
        (Square, yielding(Case()), "Case() has no inputs, and square takes 1: x"),
        (
            Square,
            yielding(Case(TWO, p=3)),
            "Case(float64 (2,), p=3) has a parameter 'p', and square takes none",
        ),
        (
            Scaled,
            yielding(Case(TWO, factor=1.0, pwer=2)),
            (
                "Case(float64 (2,), factor=1.0, pwer=2) has a parameter 'pwer', and scaled takes "
                "the parameters factor, power; did you mean 'power'?"
            ),
        ),
        (
            Scaled,
            yielding(Case(TWO)),
            "Case(float64 (2,)) has no parameter 'factor', which scaled needs; add factor=...",
        ),
        (
            Square,
            yielding(TWO),
            "self_check yields array([1., 1.]), which is no Case; let it yield Cases alone",
        ),
        (Square, yielding(), "self_check yields nothing; let it yield at least one Case"),
        (Square, returning([]), "self_check yields nothing; let it yield at least one Case"),
        (Square, returning(None), "self_check yields nothing; let it yield at least one Case"),
        (
            Square,
            returning(Case(TWO)),
            "self_check returns Case(float64 (2,)); let it yield at least one Case",
        ),
    ],
)
def test_what_is_wrong_with_a_case_is_said_once(kind, self_check, message):
    (finding,) = verify(with_cases(kind, self_check)).findings
    assert (finding.probe, finding.message) == ("self_check", message)
    assert finding.counts_against
    assert str(finding) == f"FAIL: self_check: {message}."


def test_the_cases_beside_it_are_asked_about():
    operator = with_cases(Square, yielding(Case(TWO, TWO), Case(TWO)))
    report = verify(operator, only=["first_order"])
    assert [(each.probe, each.status) for each in report.findings] == [
        ("self_check", "FAIL"),
        ("first_order", "PASS"),
    ]


def test_of_any_number_of_inputs_any_number_fits():
    assert verify(with_cases(Total, yielding(Case(TWO), Case(TWO, TWO)))).passed


def test_a_value_that_the_forward_does_not_take_is_told_of_once_in_a_line():
    operator = with_cases(Scaled, yielding(Case(TWO, factor="a")))
    (finding,) = verify(operator, only=["first_order"]).findings
    assert "UFuncTypeError" in finding.message
    assert finding.message.count("did not contain a loop") == 1
