"""Lambert's W: what the verifier asks, values and derivatives from mpmath, and its domain."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from lambert_ops import lambert_w
from numpy.testing import assert_allclose

import opgrad
from opgrad_pytest import OperatorTests


class TestLambertW(OperatorTests, operator=lambert_w):
    """A test for each probe of the verifier."""


def test_agrees_with_mpmath_in_three_derivatives() -> None:
    points = [-0.36, -0.1, 0.0, 1e-8, 0.5, 3.0, 1e5]
    x = opgrad.tensor(points, requires_grad=True)
    found = lambert_w(x)
    for order in range(4):
        expected = [float(mpmath.diff(mpmath.lambertw, at, order)) for at in points]
        assert_allclose(found.detach().data, expected, rtol=1e-12)
        (found,) = opgrad.autograd.grad(found.sum(), x, create_graph=True)


def test_is_nan_where_there_is_no_solution() -> None:
    assert np.isnan(lambert_w(np.array([-1.0, -0.3679])).data).all()


def test_keeps_its_output_alone() -> None:
    w = lambert_w(opgrad.tensor([1.0], requires_grad=True))
    assert w.grad_fn.names == ("out",)


def test_refuses_complex_numbers() -> None:
    with pytest.raises(ValueError, match=r"dtype is complex128 .*expected real numbers"):
        lambert_w(1j)


def test_opgrad_finds_it_by_name() -> None:
    assert opgrad.ops.lambert.w is lambert_w
