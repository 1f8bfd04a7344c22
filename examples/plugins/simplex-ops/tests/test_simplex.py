"""Sparsemax: what the verifier asks, the threshold by bisection, and what a projection obeys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from simplex_ops import sparsemax

import opgrad
from opgrad_pytest import OperatorTests

scores = np.random.default_rng(0).normal(size=(20, 7))


class TestSparsemax(OperatorTests, operator=sparsemax):
    """A test for each probe of the verifier."""


def by_bisection(z: Any) -> Any:
    """Find the threshold as the root of what it has to make 0."""

    def excess(threshold: float) -> float:
        return float(np.maximum(z - threshold, 0).sum() - 1)

    return np.maximum(z - brentq(excess, z.min() - 1, z.max(), xtol=1e-15), 0)


def test_lowers_all_scores_by_one_threshold() -> None:
    expected = np.apply_along_axis(by_bisection, -1, scores)
    assert_allclose(sparsemax(scores).data, expected, atol=1e-14)
    assert_allclose(sparsemax(scores.T, axis=0).data, expected.T, atol=1e-14)
    assert_allclose(sparsemax(scores + 1e6).data, expected, atol=1e-9)


def test_leaves_probabilities_as_they_are() -> None:
    probabilities = sparsemax(scores).data
    assert_allclose(sparsemax(probabilities).data, probabilities, atol=1e-15)


def test_reuses_the_support_that_the_forward_has_found() -> None:
    z = opgrad.tensor(scores, requires_grad=True)
    p = sparsemax(z)
    assert p.grad_fn.names == ("support", "axis")
    assert (p.grad_fn.saved.support == (p.detach().data > 0)).all()


def test_has_a_projection_for_its_derivative() -> None:
    for row in scores:
        jacobian = opgrad.func.jacobian(sparsemax)(opgrad.tensor(row)).data
        assert_allclose(jacobian, jacobian.T, atol=1e-15)
        assert_allclose(jacobian @ jacobian, jacobian, atol=1e-15)
        assert_allclose(jacobian.sum(axis=0), 0, atol=1e-15)


@pytest.mark.parametrize("given", [np.zeros((2, 0)), np.array([1, 2]), np.array([1j])])
def test_refuses_what_cannot_be_scores(given: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"z has shape .*expected real scores"):
        sparsemax(given)


def test_opgrad_finds_it_by_name() -> None:
    assert opgrad.ops.simplex.sparsemax is sparsemax
