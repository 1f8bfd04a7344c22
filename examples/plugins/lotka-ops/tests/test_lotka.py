"""The flow: what the verifier asks, where it is known in closed form, and what it conserves."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest
from lotka_ops import flow
from numpy.testing import assert_allclose

import opgrad
from opgrad_pytest import OperatorTests

STATE, RATES = np.array([10.0, 5.0]), np.array([1.1, 0.4, 0.4, 0.1])


class TestFlow(OperatorTests, operator=flow):
    """A test for each probe of the verifier."""


def leaves(*arrays: np.ndarray) -> Any:
    return [opgrad.tensor(each, requires_grad=True) for each in arrays]


def gradients(output: Any, inputs: Any, **options: Any) -> Any:
    return opgrad.autograd.grad(output, inputs, **options)


def conserved(state: Any, rates: Any) -> Any:
    """Return Volterra's first integral, which is the same all along an orbit."""
    (prey, hunters), (births, hunting, deaths, feeding) = state, rates
    from_prey = feeding * prey - deaths * opgrad.log(prey)
    return from_prey + hunting * hunters - births * opgrad.log(hunters)


@pytest.mark.parametrize("time", [2.0, -1.5])
def test_has_the_closed_form_of_species_that_never_meet(time: float) -> None:
    state, rates = leaves(STATE, np.array([0.7, 0.0, 0.3, 0.0]))
    end = flow(state, rates, time)
    expected = np.array([10 * np.exp(0.7 * time), 5 * np.exp(-0.3 * time)])
    assert_allclose(end.detach().data, expected, rtol=1e-11)
    by_state, by_rates = gradients(end.sum(), [state, rates])
    assert_allclose(by_state.data, expected / STATE, rtol=1e-11)
    assert_allclose(by_rates.data[[0, 2]], time * expected * [1, -1], rtol=1e-11)


def test_conserves_the_first_integral_and_its_gradient() -> None:
    state, rates = leaves(STATE, RATES)
    before = conserved(state, rates)
    after = conserved(flow(state, rates, time=20.0), rates)
    assert_allclose(after.item(), before.item(), rtol=1e-11)
    expected = gradients(before, [state, rates])
    for got, wanted in zip(gradients(after, [state, rates]), expected, strict=True):
        assert_allclose(got.data, wanted.data, rtol=1e-8)


def test_goes_back_to_where_it_came_from() -> None:
    state, rates = leaves(STATE, RATES)
    again = flow(flow(state, rates, 5.0), rates, -5.0)
    assert_allclose(again.detach().data, STATE, rtol=1e-10)
    by_state, by_rates = gradients(again[0], [state, rates])
    assert_allclose(by_state.data, [1, 0], atol=1e-8)
    assert_allclose(by_rates.data, 0, atol=1e-7)


def test_is_once_differentiable() -> None:
    state, rates = leaves(STATE, RATES)
    (grad,) = gradients(flow(state, rates)[0], state, create_graph=True)
    with pytest.raises(opgrad.GraphError, match=r"FlowBackward0: .*once_differentiable"):
        grad.sum().backward()


def test_is_nan_where_nobody_is_alive_to_begin_with() -> None:
    assert np.isnan(flow(np.array([0.0, 1.0]), RATES).data).all()


@pytest.mark.parametrize(
    ("state", "rates", "time"),
    [(np.ones(3), RATES, 1.0), (STATE, np.ones(1), 1.0), (STATE, RATES, inf)],
)
def test_refuses_other_shapes_and_times(state: np.ndarray, rates: np.ndarray, time: float) -> None:
    with pytest.raises(ValueError, match=r"the shapes are .*expected a state of 2 numbers"):
        flow(state, rates, time)


def test_opgrad_finds_it_by_name() -> None:
    assert opgrad.ops.lotka.flow is flow
