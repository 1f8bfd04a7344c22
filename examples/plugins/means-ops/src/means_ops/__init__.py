"""Power means of any number of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

import numpy as np

from opgrad import Case, Operator, hookimpl

__all__ = ["power_mean"]


class PowerMean(Operator):
    """Elementwise power mean of arrays of positive numbers, which are broadcast.

    The mean of power `p` is the harmonic one for -1, the geometric one for 0, the arithmetic one
    for 1, the quadratic one for 2. Where a number is not positive, it is nan.

    Examples
    --------
    >>> import opgrad
    >>> a, b = opgrad.tensor(2.0, requires_grad=True), opgrad.tensor(8.0, requires_grad=True)
    >>> mean = power_mean([a, b], p=0)
    >>> mean.backward()
    >>> mean.item(), a.grad, b.grad
    (4.0, tensor(1.), tensor(0.2500))
    """

    variadic = True
    expects = "one array or more, of shapes that broadcast, and a finite p"

    @hookimpl
    def forward(self, arrays: Sequence[Any], /, p: float = 1.0, *, xp: Any) -> Any:
        if not isfinite(p):
            msg = f"p is {p!r}"
            raise ValueError(msg)
        logs = [xp.log(xp.where(each > 0, each, xp.nan)) for each in arrays]
        center = sum(logs) / len(logs)
        if p == 0:
            return xp.exp(center)
        # Relative to the geometric mean, and less 1: exact for the smallest p, too.
        excess = sum(xp.expm1(p * (log - center)) for log in logs) / len(logs)
        return xp.exp(center + xp.log1p(excess) / p)

    @hookimpl
    def backward(
        self, grad: Any, arrays: Sequence[Any], out: Any, p: float, needs: Sequence[bool]
    ) -> tuple[Any, ...]:
        share = grad / len(arrays)
        return tuple(
            share * (each / out) ** (p - 1) if need else None
            for each, need in zip(arrays, needs, strict=True)
        )

    @hookimpl
    def self_check(self, rng: np.random.Generator) -> Iterator[Case]:
        a, b, c = rng.uniform(0.5, 3, size=(3, 2, 4))
        for p in (-1, 0, 0.5, 1, 2, 3):
            yield Case(a, b, c, p=p)
        yield Case(a, b[0], c[:, :1], p=-0.5)
        yield Case(a[0], b[0], p=2)


power_mean = PowerMean()
