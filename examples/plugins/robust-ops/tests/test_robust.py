"""The robust loss: what the verifier asks, the losses it is named for, and what it refuses."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from numpy.testing import assert_allclose
from robust_ops import loss

import opgrad
from opgrad_pytest import OperatorTests

x = np.linspace(-30, 30, 61)


class TestLoss(OperatorTests, operator=loss):
    """A test for each probe of the verifier."""


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (2, x**2 / 2),
        (1, np.sqrt(x**2 + 1) - 1),
        (0, np.log(x**2 / 2 + 1)),
        (-2, 2 * x**2 / (x**2 + 4)),
        (-inf, 1 - np.exp(-(x**2) / 2)),
    ],
)
def test_has_the_losses_that_have_names(alpha: float, expected: np.ndarray) -> None:
    assert_allclose(loss(x, alpha).data, expected, rtol=1e-13)
    assert_allclose(loss(3 * x, alpha, scale=3).data, expected, rtol=1e-13)


@pytest.mark.parametrize("alpha", [2, 0])
def test_passes_smoothly_through_its_special_cases(alpha: float) -> None:
    assert_allclose(loss(x, alpha - 1e-9).data, loss(x, alpha).data, rtol=1e-6)


def test_is_exact_for_the_smallest_residuals() -> None:
    for alpha in (2, 1, 0, -2, -inf):
        assert_allclose(loss(np.array(1e-9), alpha).item(), 5e-19, rtol=1e-12)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"alpha": 2.5}, r"alpha is 2\.5 .*expected alpha up to 2"),
        ({"alpha": nan}, "alpha is nan"),
        ({"scale": 0}, "scale is 0 .*and a positive scale"),
        ({"scale": inf}, "scale is inf"),
    ],
)
def test_refuses_parameters_out_of_range(given: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        loss(x, **given)


def test_opgrad_finds_it_by_name() -> None:
    assert opgrad.ops.robust.loss is loss
