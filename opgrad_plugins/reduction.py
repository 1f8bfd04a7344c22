"""Operators that reduce axes: sum, mean, max."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

from opgrad import Case, Operator, hookimpl


def reduced_axes(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> set[int]:
    """Return the axes that a reduction removes, counted from the first."""
    if axis is None:
        return set(range(len(shape)))
    axes = axis if isinstance(axis, tuple) else (axis,)
    return {each % len(shape) for each in axes} if shape else set()


def kept_shape(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape that a reduction has with ``keepdims=True``."""
    axes = reduced_axes(shape, axis)
    return tuple(1 if i in axes else size for i, size in enumerate(shape))


class Reduction(Operator):
    """An operator that makes one number of all those along some axes."""

    method = True
    expects = "axes that the input has"

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))
        yield Case(rng.normal(size=(3, 4)), axis=0)
        yield Case(rng.normal(size=(3, 4)), axis=-1, keepdims=True)
        yield Case(rng.normal(size=(2, 3, 4)), axis=(0, -1))
        yield Case(rng.normal(size=()))


class Sum(Reduction):
    """Sum over the given axes, by default all."""

    @hookimpl
    def forward(self, x, /, axis=None, *, xp, keepdims=False):
        return xp.sum(x, axis=axis, keepdims=keepdims)

    @hookimpl
    def backward(self, grad, x_shape, axis, xp):
        if axis is not None:
            grad = xp.reshape(grad, kept_shape(x_shape, axis))
        return xp.broadcast_to(grad, x_shape)

    @hookimpl
    def self_check(self, rng):
        yield from super().self_check(rng)
        yield Case(rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4)), axis=1)


class Mean(Sum):
    """Arithmetic mean over the given axes, by default all."""

    @hookimpl
    def forward(self, x, /, axis=None, *, xp, keepdims=False):
        return xp.mean(x, axis=axis, keepdims=keepdims)

    @hookimpl
    def backward(self, grad, x_shape, axis, xp):
        count = math.prod(x_shape[i] for i in reduced_axes(x_shape, axis))
        return super().backward(grad / count, x_shape, axis, xp)


class Max(Reduction):
    """Largest element along an axis, or of several or all axes.

    Over one axis the first of equal elements gets the gradient; over several or all of them,
    equal elements share it.
    """

    @hookimpl
    def forward(self, x, /, axis=None, *, xp, keepdims=False):
        return xp.max(x, axis=axis, keepdims=keepdims)

    @hookimpl
    def backward(self, grad, x, out, axis, xp):
        kept = kept_shape(x.shape, axis)
        grad = xp.reshape(grad, kept)
        if x.shape and axis is not None and not isinstance(axis, tuple):
            chosen = _positions(x.shape, axis, xp) == xp.argmax(x, axis=axis, keepdims=True)
            return xp.where(chosen, grad, 0)
        nan = x != x  # noqa: PLR0124 - true of NaN alone, which counts as the largest
        equal = (x == xp.reshape(out, kept)) + nan
        count = xp.sum(equal, axis=axis, keepdims=True)
        return xp.where(equal, grad / count, 0)

    def subgradient(self, axis=None, **_parameters):
        """Choose the first of equal elements along one axis; see `Operator.subgradient`."""
        return "least" if axis is None or isinstance(axis, tuple) else "first"


class Argmax(Operator):
    """Index of the first largest element along an axis, by default of all in C order."""

    method = True
    differentiable = False
    expects = "an axis that the input has"

    @hookimpl
    def forward(self, x, /, axis=None, *, xp, keepdims=False):
        return xp.argmax(x, axis=axis, keepdims=keepdims)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))
        yield Case(rng.normal(size=(3, 4)), axis=1, keepdims=True)


def _positions(shape, axis, xp):
    """Return the index of each element along `axis`, in a shape that broadcasts to `shape`."""
    sizes = [1] * len(shape)
    sizes[axis] = -1
    return xp.reshape(xp.arange(shape[axis]), tuple(sizes))


sum, mean = Sum(), Mean()
max, argmax = Max(), Argmax()
