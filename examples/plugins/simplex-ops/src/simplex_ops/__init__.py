"""Projection to the probability simplex."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from opgrad import Case, Operator, hookimpl

__all__ = ["sparsemax"]


class Sparsemax(Operator):
    """The probabilities nearest to scores `z` along an axis; unlike softmax's, many are exactly 0.

    It is the Euclidean projection to the simplex: all scores are lowered by the same threshold,
    what falls below 0 is cut off, and the threshold is such that the rest adds up to 1.

    Examples
    --------
    >>> import opgrad
    >>> z = opgrad.tensor([1.0, 0.75, -0.5], requires_grad=True)
    >>> p = sparsemax(z)
    >>> p
    tensor([0.6250, 0.3750, 0.0000], grad_fn=<SparsemaxBackward0>)
    >>> p[0].backward()
    >>> z.grad
    tensor([ 0.5000, -0.5000,  0.0000])
    """

    #: Found by the forward and used once more by the backward: where the result is not 0.
    residuals = ("support",)
    expects = "real scores, and one of their axes, which is not of size 0"

    @hookimpl
    def forward(self, z: Any, /, axis: int = -1, *, xp: Any) -> tuple[Any, Any]:
        if z.shape[axis] == 0 or not xp.isdtype(z.dtype, "real floating"):
            msg = f"z has shape {z.shape} and dtype {z.dtype}, and the axis is {axis}"
            raise ValueError(msg)
        z = xp.moveaxis(z, axis, -1)
        z = z - xp.max(z, axis=-1, keepdims=True)
        falling = xp.flip(xp.sort(z, axis=-1), axis=-1)
        excess = xp.cumulative_sum(falling, axis=-1) - 1
        count = xp.arange(1, z.shape[-1] + 1, dtype=z.dtype)
        # Those that are above the threshold which the scores up to them would need.
        kept = xp.sum(falling * count > excess, axis=-1, keepdims=True)
        threshold = xp.take_along_axis(excess / count, xp.maximum(kept, 1) - 1, axis=-1)
        support = xp.moveaxis(z > threshold, -1, axis)
        return xp.moveaxis(xp.maximum(z - threshold, 0), -1, axis), support

    @hookimpl
    def backward(self, grad: Any, support: Any, axis: int, xp: Any) -> Any:
        # On its support, the result changes as z does, less the mean: the sum stays 1.
        inside = xp.where(support, grad, 0)
        size = support.sum(axis=axis, keepdims=True)
        return xp.where(support, inside - xp.sum(inside, axis=axis, keepdims=True) / size, 0)

    @hookimpl
    def self_check(self, rng: np.random.Generator) -> Iterator[Case]:
        z = rng.normal(size=(3, 5))
        yield Case(z)
        yield Case(z, axis=0)
        yield Case(rng.normal(size=7))


sparsemax = Sparsemax()
