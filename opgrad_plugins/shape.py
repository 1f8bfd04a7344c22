"""Operators that change shape, order of axes, or dtype, and leave the values."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from opgrad import Case, Operator, hookimpl


class BroadcastTo(Operator):
    """The input repeated along new axes and axes of size 1, to give the shape."""

    method = True
    view = True
    expects = "a shape that the input broadcasts to"

    @hookimpl
    def forward(self, x, /, shape, *, xp):
        return xp.broadcast_to(x, shape)

    @hookimpl
    def backward(self, grad):
        return grad  # the engine sums over what was repeated

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 1)), shape=(2, 3, 4))
        yield Case(rng.normal(size=()), shape=(2,))
        yield Case(rng.normal(size=3) + 1j, shape=(2, 3))


class Reshape(Operator):
    """The same elements, in C order, in another shape; one size may be -1."""

    view = True
    expects = "a shape with as many elements"

    @hookimpl
    def forward(self, x, /, shape, *, xp):
        return xp.reshape(x, shape)

    @hookimpl
    def backward(self, grad, x_shape, xp):
        return xp.reshape(grad, x_shape)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)), shape=(2, 6))
        yield Case(rng.normal(size=(2, 3)), shape=(-1,))
        yield Case(rng.normal(size=()), shape=(1, 1))


class ExpandDims(Operator):
    """The input with a new axis of size 1 at `axis`."""

    view = True
    expects = "an axis that the result has"

    @hookimpl
    def forward(self, x, /, axis=0, *, xp):
        return xp.expand_dims(x, axis=axis)

    @hookimpl
    def backward(self, grad, x_shape, xp):
        return xp.reshape(grad, x_shape)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)), axis=1)
        yield Case(rng.normal(size=(3, 4)), axis=-1)
        yield Case(rng.normal(size=()), axis=0)


class Squeeze(Operator):
    """The input without the given axes of size 1, by default all of them."""

    method = True
    view = True
    expects = "axes of size 1"

    @hookimpl
    def forward(self, x, /, axis=None, *, xp):
        return xp.squeeze(x, axis=axis)

    @hookimpl
    def backward(self, grad, x_shape, xp):
        return xp.reshape(grad, x_shape)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 1, 4, 1)))
        yield Case(rng.normal(size=(3, 1, 4, 1)), axis=1)
        yield Case(rng.normal(size=(3, 1, 4, 1)), axis=(1, -1))


class Transpose(Operator):
    """The input with its axes in the order `axes`, by default reversed."""

    aliases = ("permute_dims",)
    view = True
    expects = "a permutation of the input's axes"

    @hookimpl
    def forward(self, x, /, axes=None, *, xp):
        return xp.permute_dims(x, tuple(range(x.ndim))[::-1] if axes is None else axes)

    @hookimpl
    def backward(self, grad, axes, xp):
        ndim = grad.ndim
        if axes is None:
            axes = range(ndim)[::-1]
        inverse = sorted(range(ndim), key=lambda i: axes[i] % ndim)
        return xp.permute_dims(grad, tuple(inverse))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(2, 3, 4)))
        yield Case(rng.normal(size=(2, 3, 4)), axes=(2, 0, 1))
        yield Case(rng.normal(size=(2, 3, 4)), axes=(-1, 0, -2))
        yield Case(rng.normal(size=3))


class MatrixTranspose(Operator):
    """The input with its last two axes exchanged."""

    method = True
    view = True
    expects = "at least two axes"

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.matrix_transpose(x)

    @hookimpl
    def backward(self, grad, xp):
        return xp.matrix_transpose(grad)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))
        yield Case(rng.normal(size=(2, 3, 4)))


class Astype(Operator):
    """The input cast to another dtype."""

    method = True
    expects = "a numeric dtype"

    @hookimpl
    def forward(self, x, /, dtype):
        return x.astype(dtype)

    @hookimpl
    def backward(self, grad):
        return grad  # the engine casts to the input's dtype

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)), dtype=np.float64)
        yield Case(rng.normal(size=3), dtype=np.complex128)


class Clone(Operator):
    """A copy of the input."""

    aliases = ("copy",)
    method = True

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.asarray(x, copy=True)

    @hookimpl
    def backward(self, grad):
        return grad

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))
        yield Case(rng.normal(size=()))


broadcast_to, reshape = BroadcastTo(), Reshape()
expand_dims, squeeze = ExpandDims(), Squeeze()
transpose, matrix_transpose = Transpose(), MatrixTranspose()
astype, clone = Astype(), Clone()
