"""Operators that reduce axes: sum, product, mean, variance, the extremes."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

from opgrad import Case, Operator, hookimpl

from .families import shifted_strictly, with_axes


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
    def batch(self, x, axis, parameters):
        ndim = x.ndim - 1
        if not ndim and axis is not None:
            axis = self._none_of(x, axis)
        axes = shifted_strictly(tuple(range(ndim)) if axis is None else axis, ndim)
        return self(x, **{**parameters, "axis": axes})

    def _none_of(self, x, axis):
        """Insist that a number by itself is taken with an axis, as some are, and return none."""
        self(x.dtype.type(0), axis=axis)
        return ()

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
    def jvp(self, tangent, axis, xp, keepdims):
        return self.forward(tangent, axis, xp=xp, keepdims=keepdims)  # it is linear

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


class Prod(Reduction):
    """Product over the given axes, by default all; its gradient is exact where elements are 0."""

    @hookimpl
    def forward(self, x, /, axis=None, *, xp, keepdims=False):
        return xp.prod(x, axis=axis, keepdims=keepdims)

    @hookimpl
    def backward(self, grad, x, axis, xp):
        axes = reduced_axes(x.shape, axis)
        order = sorted(range(x.ndim), key=lambda i: (i in axes, i))
        last = xp.permute_dims(x, tuple(order))
        count = math.prod(x.shape[i] for i in axes)
        flat = xp.reshape(last, (*last.shape[: x.ndim - len(axes)], count))
        others = xp.reshape(_products_of_others(flat, xp), last.shape)
        others = xp.permute_dims(others, tuple(sorted(range(x.ndim), key=order.__getitem__)))
        return xp.reshape(grad, kept_shape(x.shape, axis)) * others

    @hookimpl
    def self_check(self, rng):
        yield from super().self_check(rng)
        yield Case(rng.normal(size=(3, 5)) * [1, 0, 1, 1, 1], axis=1)
        yield Case(rng.normal(size=(3, 7)) * [1, 0, 1, 1, 0, 1, 1], axis=1)
        yield Case(rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4)), axis=1)


class Spread(Reduction):
    """A measure of how far the elements are from their mean."""

    @hookimpl
    def self_check(self, rng):
        yield from super().self_check(rng)
        yield Case(rng.normal(size=(3, 4)), axis=1, correction=1)
        yield Case(rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4)), axis=0, correction=0.5)


class Var(Spread):
    """Mean squared distance from the mean: that of all elements, or along the given axes.

    The sum of squares is divided by the number of elements less `correction`.
    """

    @hookimpl
    def forward(self, x, /, axis=None, *, xp, correction=0, keepdims=False):
        return xp.var(x, axis=axis, correction=correction, keepdims=keepdims)

    @hookimpl
    def backward(self, grad, x, axis, correction, xp):
        grad = xp.reshape(grad, kept_shape(x.shape, axis))
        return 2 * grad * _deviation(x, axis, correction, xp)


class Std(Spread):
    """Square root of the variance; where all elements are the same, it has the derivative 0."""

    @hookimpl
    def forward(self, x, /, axis=None, *, xp, correction=0, keepdims=False):
        return xp.std(x, axis=axis, correction=correction, keepdims=keepdims)

    @hookimpl
    def backward(self, grad, x, out, axis, correction, xp):
        slope = grad / xp.where(out == 0, math.inf, out)
        slope = xp.reshape(slope, kept_shape(x.shape, axis))
        return slope * _deviation(x, axis, correction, xp)


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
            chosen = _positions(x.shape, axis, xp) == self._first(x, axis, xp)
            return xp.where(chosen, grad, 0)
        nan = x != x  # noqa: PLR0124 - true of NaN alone, which counts as the extreme
        equal = (x == xp.reshape(out, kept)) + nan
        count = xp.sum(equal, axis=axis, keepdims=True)
        return xp.where(equal, grad / count, 0)

    def _first(self, x, axis, xp):
        return xp.argmax(x, axis=axis, keepdims=True)

    def subgradient(self, axis=None, **_parameters):
        """Choose the first of equal elements along one axis; see `Operator.subgradient`."""
        return "least" if axis is None or isinstance(axis, tuple) else "first"


class Min(Max):
    """Smallest element along an axis, or of several or all axes.

    Over one axis the first of equal elements gets the gradient; over several or all of them,
    equal elements share it.
    """

    @hookimpl
    def forward(self, x, /, axis=None, *, xp, keepdims=False):
        return xp.min(x, axis=axis, keepdims=keepdims)

    def _first(self, x, axis, xp):
        return xp.argmin(x, axis=axis, keepdims=True)


class Argmax(Operator):
    """Index of the first largest element along an axis, by default of all in C order."""

    method = True
    differentiable = False
    expects = "an axis that the input has"

    @hookimpl
    def forward(self, x, /, axis=None, *, xp, keepdims=False):
        return xp.argmax(x, axis=axis, keepdims=keepdims)

    @hookimpl
    def batch(self, x, axis, keepdims):
        if axis is not None and x.ndim > 1:
            return self(x, shifted_strictly(axis, x.ndim - 1), keepdims=keepdims)
        if axis is not None:
            self(x.dtype.type(0), axis)  # which refuses what no number by itself has
        found = self(x.flatten(1) if x.ndim > 1 else x[:, None], 1)
        return with_axes(found, x.ndim - 1) if keepdims else found

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))
        yield Case(rng.normal(size=(3, 4)), axis=1, keepdims=True)


class Argmin(Argmax):
    """Index of the first smallest element along an axis, by default of all in C order."""

    @hookimpl
    def forward(self, x, /, axis=None, *, xp, keepdims=False):
        return xp.argmin(x, axis=axis, keepdims=keepdims)


def _products_of_others(x, xp):
    """Return for each element the product of all others along the last axis, dividing by none."""
    count = x.shape[-1]
    if count < 2:
        return xp.ones_like(x)
    if count % 2:
        even = xp.concat([x, xp.ones_like(x[..., :1])], axis=-1)
        return _products_of_others(even, xp)[..., :-1]
    a, b = x[..., : count // 2], x[..., count // 2 :]
    rest = _products_of_others(a * b, xp)
    return xp.concat([rest * b, rest * a], axis=-1)


def _deviation(x, axis, correction, xp):
    """Return how far each element is from the mean, divided by how many elements count."""
    count = math.prod(x.shape[i] for i in reduced_axes(x.shape, axis))
    far = xp.conj(x - xp.mean(x, axis=axis, keepdims=True))
    return far / (count - correction) if count > correction else far * math.inf


def _positions(shape, axis, xp):
    """Return the index of each element along `axis`, in a shape that broadcasts to `shape`."""
    sizes = [1] * len(shape)
    sizes[axis] = -1
    return xp.reshape(xp.arange(shape[axis]), tuple(sizes))


sum, prod, mean = Sum(), Prod(), Mean()
var, std = Var(), Std()
max, argmax = Max(), Argmax()
min, argmin = Min(), Argmin()
