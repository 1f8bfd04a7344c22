"""Bessel functions: what the verifier asks, values and derivatives from mpmath, and refusals."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from bessel_ops import jn
from numpy.testing import assert_allclose

import opgrad
from opgrad_pytest import OperatorTests

POINTS = [-7.5, -1.0, 0.0, 1e-6, 0.5, 3.0, 25.0]


class TestJn(OperatorTests, operator=jn):
    """A test for each probe of the verifier."""


@pytest.mark.parametrize("n", [-2, 0, 1, 5])
def test_agrees_with_mpmath_in_four_derivatives(n: int) -> None:
    x = opgrad.tensor(POINTS, requires_grad=True)
    found = jn(x, n)
    for order in range(5):
        expected = [float(mpmath.besselj(n, each, derivative=order)) for each in POINTS]
        assert_allclose(found.detach().data, expected, rtol=1e-12, atol=1e-15)
        (found,) = opgrad.autograd.grad(found.sum(), x, create_graph=True)


def test_keeps_shape_and_single_precision() -> None:
    y = jn(np.ones((2, 0, 3), np.float32), 1)
    assert (y.shape, y.dtype) == ((2, 0, 3), np.float32)


@pytest.mark.parametrize("n", [0.5, 2**40])
def test_refuses_an_order_that_c_does_not_take(n: float) -> None:
    with pytest.raises(ValueError, match=r"n is .*expected real numbers, and an integer order n"):
        jn(1.0, n)


def test_refuses_complex_numbers() -> None:
    with pytest.raises(ValueError, match="dtype is complex128"):
        jn(1j)


def test_opgrad_finds_it_by_name() -> None:
    assert opgrad.ops.bessel.jn is jn
