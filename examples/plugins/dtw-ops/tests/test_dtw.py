"""Soft-DTW: what the verifier asks, every path one by one, and the loops without a compiler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dtw_ops
import numpy as np
import pytest
from dtw_ops import soft_dtw
from numpy.testing import assert_allclose

import opgrad
from opgrad_pytest import OperatorTests

costs = np.random.default_rng(0).normal(size=(4, 5))


class TestSoftDTW(OperatorTests, operator=soft_dtw):
    """A test for each probe of the verifier."""


def walks(i: int, j: int) -> Iterator[np.ndarray]:
    """Yield every monotone path to a cell, as a matrix of zeros and ones."""
    before = [(a, b) for a, b in ((i, j - 1), (i - 1, j), (i - 1, j - 1)) if min(a, b) >= 0]
    for walk in (each for cell in before for each in walks(*cell)) if before else [costs * 0]:
        walk[i, j] = 1
        yield walk


@pytest.mark.parametrize("gamma", [0.1, 1.0, 10.0])
def test_is_the_soft_minimum_over_every_path(gamma: float) -> None:
    every = np.array([*walks(3, 4)])
    lengths = (every * costs).sum(axis=(1, 2))
    weights = np.exp(-lengths / gamma)
    cost: Any = opgrad.tensor(costs, requires_grad=True)
    total = soft_dtw(cost, gamma)
    total.backward()
    assert len(every) == 129  # the Delannoy number of a 4 by 5 matrix
    assert_allclose(total.item(), -gamma * np.log(weights.sum()), rtol=1e-12)
    assert_allclose(cost.grad.data, np.average(every, axis=0, weights=weights), rtol=1e-12)


def test_tends_to_the_cheapest_path() -> None:
    cheapest = min((path * costs).sum() for path in walks(3, 4))
    assert_allclose(soft_dtw(costs, 1e-3).item(), cheapest, rtol=1e-3)


def test_compiles_to_what_python_does() -> None:
    total = dtw_ops._sweep.py_func(costs, 0.5)
    assert_allclose(dtw_ops._sweep(costs, 0.5), total, rtol=1e-14)
    shares = dtw_ops._sweep_back.py_func(costs, total, 0.5)
    assert_allclose(dtw_ops._sweep_back(costs, total, 0.5), shares, rtol=1e-12)


def test_passes_around_cells_that_are_closed() -> None:
    closed = costs.copy()
    closed[1:3, 1:4] = np.inf
    cost: Any = opgrad.tensor(closed, requires_grad=True)
    soft_dtw(cost).backward()
    assert (cost.grad.data[1:3, 1:4] == 0).all()
    assert_allclose(cost.grad.data[[0, -1], [0, -1]], 1)


def test_is_once_differentiable() -> None:
    cost = opgrad.tensor(costs, requires_grad=True)
    grads: Any = opgrad.autograd.grad(soft_dtw(cost), cost, create_graph=True)
    with pytest.raises(opgrad.GraphError, match=r"SoftDTWBackward0: .*once_differentiable"):
        grads[0].sum().backward()


@pytest.mark.parametrize("given", [np.zeros(3), np.zeros((2, 0)), np.array([[1j]])])
def test_refuses_what_is_no_matrix_of_costs(given: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"cost has shape .*expected a matrix of real costs"):
        soft_dtw(given)


@pytest.mark.parametrize("gamma", [0, -1.0, np.inf])
def test_refuses_other_gammas(gamma: float) -> None:
    with pytest.raises(ValueError, match=rf"gamma is {gamma} .*a positive gamma"):
        soft_dtw(costs, gamma)


def test_opgrad_finds_it_by_name() -> None:
    assert opgrad.ops.dtw.soft is soft_dtw
