"""Soft dynamic time warping, compiled by Numba."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, inf, log
from typing import Any

import numpy as np
from numba import njit

from opgrad import Case, Operator, hookimpl

__all__ = ["soft_dtw"]


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _sweep(cost: Any, gamma: float) -> Any:
    """Return for each cell the soft minimum of the costs of all paths to it."""
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), inf)
    total[0, 0] = 0.0
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            left, up, across = total[i, j - 1], total[i - 1, j], total[i - 1, j - 1]
            least = min(left, up, across)
            if least < inf:
                weight = 0.0
                for each in (left, up, across):
                    weight += exp((least - each) / gamma)
                least -= gamma * log(weight)
            total[i, j] = cost[i - 1, j - 1] + least
    return total


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _sweep_back(cost: Any, total: Any, gamma: float) -> Any:
    """Return for each cell the share of the paths through it: the same steps in reverse."""
    rows, columns = cost.shape
    share = np.zeros((rows + 1, columns + 1))
    share[rows, columns] = 1.0
    for i in range(rows, 0, -1):
        for j in range(columns, 0, -1):
            if share[i, j] > 0:
                least = total[i, j] - cost[i - 1, j - 1]
                for a, b in ((i, j - 1), (i - 1, j), (i - 1, j - 1)):
                    share[a, b] += share[i, j] * exp((least - total[a, b]) / gamma)
    return share[1:, 1:]


class SoftDTW(Operator):
    """The soft minimum, over all monotone paths through a matrix, of the `cost` along the path.

    A path goes from the first cell to the last one, each step right, down, or both. The gradient
    is each cell's share of the paths: the expected alignment. The smaller `gamma`, the more counts
    the cheapest path alone.

    Examples
    --------
    >>> import opgrad
    >>> a, b = opgrad.tensor([0.0, 1.0, 2.0]), opgrad.tensor([0.0, 0.0, 1.0, 2.0])
    >>> cost = ((a[:, None] - b) ** 2).requires_grad_()
    >>> soft_dtw(cost, gamma=0.1).backward()
    >>> cost.grad.data.round(3)
    array([[1., 1., 0., 0.],
           [0., 0., 1., 0.],
           [0., 0., 0., 1.]])
    """

    #: The compiled loops are not recorded, and a second derivative is a clear error.
    once_differentiable = True
    residuals = ("total",)
    expects = "a matrix of real costs, not an empty one, and a positive gamma"

    @hookimpl
    def forward(self, cost: Any, /, gamma: float = 1.0) -> tuple[Any, Any]:
        if cost.ndim != 2 or cost.size == 0 or cost.dtype.kind not in "iuf":
            msg = f"cost has shape {cost.shape} and dtype {cost.dtype}"
            raise ValueError(msg)
        if not 0 < gamma < inf:
            msg = f"gamma is {gamma!r}"
            raise ValueError(msg)
        total = _sweep(_compilable(cost), float(gamma))
        return total[-1, -1].astype(np.result_type(cost, 1.0)), total

    @hookimpl
    def backward(self, grad: Any, cost: Any, total: Any, gamma: float) -> Any:
        return grad * _sweep_back(_compilable(cost), total, float(gamma))

    @hookimpl
    def self_check(self, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(rng.uniform(size=(4, 5)))
        yield Case(rng.normal(size=(3, 2)), gamma=0.2)
        yield Case(rng.normal(size=(1, 6)), gamma=3)


def _compilable(cost: Any) -> Any:
    """Return the matrix in the one layout and dtype that the loops are compiled for."""
    return np.ascontiguousarray(cost, np.float64)


soft_dtw = SoftDTW()
