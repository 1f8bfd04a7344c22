"""A robust loss for every taste."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, isinf
from typing import Any, ClassVar

import numpy as np

from opgrad import Case, Operator, hookimpl

__all__ = ["loss"]


class RobustLoss(Operator):
    """Elementwise loss of a residual `x`: the smaller `alpha`, the less an outlier counts.

    It is ``x**2 / 2`` for `alpha` 2, for 1 like ``abs(x)`` far from 0, for 0 Cauchy's logarithm,
    for -2 that of Geman and McClure, and for -inf Welsch's, which outliers cannot move at all.
    Residuals beyond `scale` are outliers.

    Examples
    --------
    >>> import opgrad
    >>> x = opgrad.tensor([0.1, 10.0], requires_grad=True)
    >>> loss(x, alpha=-2).sum().backward()
    >>> x.grad
    tensor([0.0995, 0.0148])
    """

    #: It is defined and smooth everywhere. For a logarithm, this would be ``(0, inf)``.
    domain: ClassVar = {"x": (-inf, inf)}
    expects = "alpha up to 2, and a positive scale"

    @hookimpl
    def forward(self, x: Any, /, alpha: float = 1.0, scale: float = 1.0, *, xp: Any) -> Any:
        if not alpha <= 2:
            msg = f"alpha is {alpha!r}"
            raise ValueError(msg)
        if not 0 < scale < inf:
            msg = f"scale is {scale!r}"
            raise ValueError(msg)
        square = (x / scale) ** 2
        if alpha == 2:
            return square / 2
        if isinf(alpha):
            return -xp.expm1(-square / 2)
        # A power less 1, by its logarithm: exact for small residuals, too.
        log = xp.log1p(square / (2 - alpha))
        return log if alpha == 0 else (2 - alpha) / alpha * xp.expm1(alpha / 2 * log)

    @hookimpl
    def backward(self, grad: Any, x: Any, alpha: float, scale: float, xp: Any) -> Any:
        # One formula for every alpha, with its limits at 2 and -inf.
        square = (x / scale) ** 2
        if alpha == 2:
            weight = 1.0
        elif isinf(alpha):
            weight = xp.exp(-square / 2)
        else:
            weight = (1 + square / (2 - alpha)) ** (alpha / 2 - 1)
        return grad * (weight * x / scale**2)

    @hookimpl
    def self_check(self, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.normal(size=(3, 4))
        for alpha in (2, 1.5, 1, 0, -2):
            yield Case(x, alpha=alpha)
        yield Case(x, alpha=-inf, scale=0.5)
        yield Case(rng.normal(size=()), alpha=0.5, scale=3)


loss = RobustLoss()
