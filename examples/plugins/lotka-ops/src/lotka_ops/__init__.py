"""The flow of Lotka and Volterra's equations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf, isfinite
from typing import Any, ClassVar

import numpy as np
from scipy.integrate import solve_ivp

from opgrad import Case, Operator, hookimpl

__all__ = ["flow"]


class Flow(Operator):
    """The numbers of prey and hunters after a `time`, from a `state`, with some `rates`.

    By Lotka and Volterra, prey x and hunters y change by ``x' = births * x - hunting * x * y`` and
    ``y' = feeding * x * y - deaths * y``. The rates are births, hunting, deaths and feeding.

    Examples
    --------
    >>> import opgrad
    >>> state = opgrad.tensor([10.0, 5.0], requires_grad=True)
    >>> rates = opgrad.tensor([1.1, 0.4, 0.4, 0.1], requires_grad=True)
    >>> prey, hunters = flow(state, rates, time=2.0)
    >>> prey.backward()
    >>> state.grad
    tensor([-0.0757, -0.4907])
    >>> rates.grad
    tensor([  1.0812,  -6.1335,   3.5001, -17.1689])
    """

    #: The solver's steps are not recorded, and a second derivative is a clear error.
    once_differentiable = True
    domain: ClassVar = {"state": (0, inf)}
    residuals = ("logs",)
    expects = "a state of 2 numbers and rates of 4, and a finite time"

    @hookimpl
    def forward(self, state: Any, rates: Any, /, time: float = 1.0) -> tuple[Any, Any]:
        if state.shape != (2,) or rates.shape != (4,) or not isfinite(time):
            msg = f"the shapes are {state.shape} and {rates.shape}, and the time is {time!r}"
            raise ValueError(msg)
        first = np.log(np.where(state > 0, state, np.nan), dtype=float)
        logs = _solve(lambda logs: _velocity(logs, rates), first, time)
        return np.exp(logs).astype(np.result_type(state, rates, 1.0)), logs

    @hookimpl
    def backward(self, grad: Any, state: Any, rates: Any, logs: Any, time: float) -> Any:
        # The adjoint tells what a change of the logarithms at any time does to the last ones. It
        # is carried back in time along with them, and gathers what a change of the rates does.
        # There is one row for each of the last ones, and grad comes in when all is done: so the
        # steps that the solver takes do not depend on grad, and the result is linear in it.
        def velocity(packed: Any) -> Any:
            logs, adjoint = packed[:2], packed[2:6].reshape(2, 2)
            by_logs, by_rates = _jacobians(logs, rates)
            changes = _velocity(logs, rates), -adjoint @ by_logs, -adjoint @ by_rates
            return np.concatenate([each.ravel() for each in changes])

        last = np.concatenate([logs, np.eye(2).ravel(), np.zeros(8)])
        first = _solve(velocity, last, -time)
        by_last = grad * np.exp(logs)
        return by_last @ first[2:6].reshape(2, 2) / state, by_last @ first[6:].reshape(2, 4)

    @hookimpl
    def self_check(self, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(rng.uniform(0.5, 2, size=2), rng.uniform(0.5, 1.5, size=4), time=1.0)


def _velocity(logs: Any, rates: Any) -> Any:
    """Return how fast the logarithms of the numbers change: so these stay positive."""
    (prey, hunters), (births, hunting, deaths, feeding) = np.exp(logs), rates
    return np.array([births - hunting * hunters, feeding * prey - deaths])


def _jacobians(logs: Any, rates: Any) -> tuple[Any, Any]:
    """Return the derivatives of the velocity by the logarithms and by the rates."""
    (prey, hunters), (_, hunting, _, feeding) = np.exp(logs), rates
    by_logs = np.array([[0, -hunting * hunters], [feeding * prey, 0]])
    by_rates = np.array([[1, -hunters, 0, 0], [0, 0, -1, prey]])
    return by_logs, by_rates


def _solve(velocity: Callable[[Any], Any], start: Any, time: float) -> Any:
    """Follow a velocity for a time, back if it is negative; nan where that leads nowhere."""
    if not np.isfinite(velocity(start)).all():
        return np.full_like(start, np.nan)
    solution = solve_ivp(
        lambda _, state: velocity(state), (0, time), start, "DOP853", rtol=1e-13, atol=1e-13
    )
    return solution.y[:, -1] if solution.success else np.full_like(start, np.nan)


flow = Flow()
