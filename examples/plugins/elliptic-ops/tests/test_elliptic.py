"""Jacobi's functions: what the verifier asks, values from mpmath, and their equations."""

from __future__ import annotations

from math import nan

import mpmath
import numpy as np
import pytest
from elliptic_ops import sncndn
from numpy.testing import assert_allclose

import opgrad
from opgrad_pytest import OperatorTests

POINTS = np.array([-3.0, -0.5, 0.0, 1e-8, 1.0, 10.0])


class TestSncndn(OperatorTests, operator=sncndn):
    """A test for each probe of the verifier."""


@pytest.mark.parametrize("m", [0, 0.3, 0.99, 1])
def test_agrees_with_mpmath(m: float) -> None:
    for name, found in zip(["sn", "cn", "dn"], sncndn(POINTS, m), strict=True):
        expected = [float(mpmath.ellipfun(name, each, m=m)) for each in POINTS]
        assert_allclose(found.data, expected, rtol=1e-13, atol=1e-15)


def test_gives_three_outputs_of_one_node() -> None:
    outputs = sncndn(opgrad.tensor(POINTS, requires_grad=True))
    assert len({each.grad_fn for each in outputs}) == 1
    assert outputs[0].grad_fn.names == ("out", "m")


@pytest.mark.parametrize("m", [0.0, 0.3, 1.0])
def test_obeys_the_differential_equation_in_four_orders(m: float) -> None:
    u = opgrad.tensor(POINTS, requires_grad=True)
    sn, cn, dn = sncndn(u, m)
    derivatives = [sn]
    for _ in range(4):
        (next_one,) = opgrad.autograd.grad(derivatives[-1].sum(), u, create_graph=True)
        derivatives.append(next_one)
    _, _, second, third, fourth = (each.detach().data for each in derivatives)
    s, c, d = (each.detach().data for each in (sn, cn, dn))
    slope = -(1 + m) + 6 * m * s**2
    assert_allclose(second, -(1 + m) * s + 2 * m * s**3, atol=1e-14)
    assert_allclose(third, slope * c * d, atol=1e-14)
    assert_allclose(fourth, 12 * m * s * (c * d) ** 2 + slope * second, atol=1e-13)


@pytest.mark.parametrize("m", [-0.1, 1.1, nan])
def test_refuses_other_parameters(m: float) -> None:
    with pytest.raises(ValueError, match=rf"m is {m} .*a parameter m from 0 to 1"):
        sncndn(1.0, m)


def test_opgrad_finds_it_by_name() -> None:
    assert opgrad.ops.elliptic.sncndn is sncndn
