"""Power means: what the verifier asks, the means that SciPy has, and what all means obey."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pytest
from means_ops import power_mean
from numpy.testing import assert_allclose
from scipy.stats import pmean

import opgrad
from opgrad_pytest import OperatorTests

POWERS = [-3, -1, -1e-3, 0, 1e-3, 0.5, 1, 2, 7]
arrays = np.random.default_rng(0).uniform(0.1, 10, size=(5, 3, 4))


class TestPowerMean(OperatorTests, operator=power_mean):
    """A test for each probe of the verifier."""


@pytest.mark.parametrize("p", POWERS)
def test_agrees_with_scipy(p: float) -> None:
    assert_allclose(power_mean(list(arrays), p).data, pmean(arrays, p, axis=0), rtol=1e-12)


@pytest.mark.parametrize("p", [-1e-9, 1e-9, 1e-300])
def test_is_exact_for_the_smallest_powers(p: float) -> None:
    logs = np.log(arrays)
    expected = np.exp(logs.mean(axis=0)) * (1 + p * logs.var(axis=0) / 2)
    assert_allclose(power_mean(list(arrays), p).data, expected, rtol=1e-14)


@pytest.mark.parametrize("p", POWERS)
def test_is_homogeneous_so_that_eulers_theorem_holds(p: float) -> None:
    leaves: list[Any] = [opgrad.tensor(each, requires_grad=True) for each in arrays]
    mean = power_mean(leaves, p)
    grads: Any = opgrad.autograd.grad(mean.sum(), leaves, create_graph=True)
    euler = sum(x * grad for x, grad in zip(leaves, grads, strict=True))
    assert_allclose(euler.detach().data, mean.detach().data, rtol=1e-12)
    # The gradient does not change with all numbers in proportion: by the Hessian, x goes to 0.
    hessian: Any = opgrad.autograd.grad(grads[0].sum(), leaves)
    nothing = sum(x.data * each.data for x, each in zip(leaves, hessian, strict=True))
    assert_allclose(nothing, 0, atol=1e-13)
    assert p == 1 or abs(hessian[1].data).max() > 1e-6


def test_grows_with_the_power() -> None:
    means = np.array([power_mean(list(arrays), p).data for p in POWERS])
    assert (np.diff(means, axis=0) > 0).all()


def test_takes_any_number_of_arrays_that_broadcast() -> None:
    a: Any = opgrad.tensor([1.0, 2.0], requires_grad=True)
    b: Any = opgrad.tensor(4.0, requires_grad=True)
    mean = power_mean([a, b, 4.0, b], p=-1)
    assert_allclose(mean.detach().data, [16 / 7, 3.2])
    mean.sum().backward()
    assert a.grad.shape == (2,)
    assert b.grad.shape == ()


def test_is_nan_where_a_number_is_not_positive() -> None:
    for p in (-1, 0, 2):
        found = power_mean([np.array([-1.0, 0.0, 1.0]), 1.0], p)
        assert_allclose(found.data, [nan, nan, 1])


@pytest.mark.parametrize("p", [inf, -inf, nan])
def test_refuses_a_power_that_is_not_finite(p: float) -> None:
    with pytest.raises(ValueError, match=rf"p is {p} .*and a finite p"):
        power_mean([1.0, 2.0], p)


def test_opgrad_finds_it_by_name() -> None:
    assert opgrad.ops.means.power is power_mean
