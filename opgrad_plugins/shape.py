"""Operators that change shape, order of axes, or dtype, and leave the values."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import itertools
import math
import operator

import numpy as np

from opgrad import Case, Operator, hookimpl

from .families import Elementwise, of_size, shifted, shifted_strictly, with_axes


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
    def batch(self, x, shape):
        sizes = _sizes(shape)
        return self(with_axes(x, len(sizes) + 1 - x.ndim), (x.shape[0], *sizes))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 1)), shape=(2, 3, 4))
        yield Case(rng.normal(size=()), shape=(2,))
        yield Case(rng.normal(size=3) + 1j, shape=(2, 3))
        yield Case(rng.normal(size=(2, 2)), shape=(3, 2, 2))
        yield Case(rng.normal(size=(1, 0)), shape=(3, 0))


def _sizes(shape):
    """Return a shape that is given as a sequence, an array, or one number."""
    return tuple(shape) if np.iterable(shape) else (shape,)


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
    def batch(self, x, shape):
        return self(x, (x.shape[0], *_sizes(shape)))

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
    def batch(self, x, axis):
        added = len(axis) if isinstance(axis, tuple | list) else 1
        return self(x, shifted(axis, x.ndim - 1 + added))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)), axis=1)
        yield Case(rng.normal(size=(3, 4)), axis=-1)
        yield Case(rng.normal(size=(3, 4)), axis=(0, -1))
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
    def batch(self, x, axis):
        if axis is None:
            return self(x, tuple(i for i, size in enumerate(x.shape) if i and size == 1))
        if x.ndim == 1:
            self(x.dtype.type(0), axis)  # which refuses what no number by itself has
            axis = ()
        return self(x, shifted_strictly(axis, x.ndim - 1))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 1, 4, 1)))
        yield Case(rng.normal(size=(3, 1, 4, 1)), axis=1)
        yield Case(rng.normal(size=(3, 1, 4, 1)), axis=(1, -1))
        yield Case(rng.normal(size=(1, 3, 3)), axis=0)


class Stack(Operator):
    """Arrays of one shape, one after another along a new axis."""

    variadic = True
    expects = "arrays of one shape, and an axis that the result has"

    @hookimpl
    def forward(self, arrays, /, axis=0, *, xp):
        return xp.stack(arrays, axis=axis)

    @hookimpl
    def backward(self, grad, arrays_shape, axis, needs):
        before = (slice(None),) * (axis % (len(arrays_shape[0]) + 1))
        return tuple(grad[(*before, i)] if need else None for i, need in enumerate(needs))

    @hookimpl
    def batch(self, arrays, axis):
        size = max(map(len, arrays))
        return self([of_size(x, size) for x in arrays], shifted(axis, arrays[0].ndim))

    @hookimpl
    def self_check(self, rng):
        a, b, c = rng.normal(size=(3, 2, 4))
        yield Case(a, b, c)
        yield Case(a, b, axis=1)
        yield Case(a, b, a, axis=-1)
        yield Case(a, axis=-2)
        yield Case(a, b + 1j)
        yield Case(rng.normal(size=()), rng.normal(size=()))


class Concat(Operator):
    """Arrays one after another along an axis that they have; None is all their elements in C order.

    Their shapes differ along that axis at most.
    """

    aliases = ("concatenate", "cat")
    variadic = True
    node_name = "CatBackward0"
    expects = "arrays that have the axis, and differ in size along it alone"

    @hookimpl
    def forward(self, arrays, /, axis=0, *, xp):
        return xp.concat(arrays, axis=axis)

    @hookimpl
    def backward(self, grad, arrays_shape, axis, needs, xp):
        flat, axis = axis is None, 0 if axis is None else axis % grad.ndim
        lengths = [math.prod(shape) if flat else shape[axis] for shape in arrays_shape]
        parts = zip(arrays_shape, needs, slices(lengths, axis), strict=True)
        return tuple(
            (xp.reshape(grad[part], shape) if flat else grad[part]) if need else None
            for shape, need, part in parts
        )

    @hookimpl
    def batch(self, arrays, axis):
        size = max(map(len, arrays))
        parts = [of_size(x, size) for x in arrays]
        if axis is None:
            return self([x.reshape(size, -1) for x in parts], 1)
        return self(parts, shifted_strictly(axis, parts[0].ndim - 1))

    @hookimpl
    def self_check(self, rng):
        a, b = rng.normal(size=(2, 3)), rng.normal(size=(4, 3))
        yield Case(a, b)
        yield Case(a, a + 1, b.T[:2], axis=1)
        yield Case(a, a * 2, axis=-1)
        yield Case(a, b, rng.normal(size=()), axis=None)
        yield Case(a)
        yield Case(a, b + 1j)


def slices(lengths, axis):
    """Return the index of each part of an array whose parts have these lengths along an axis."""
    ends = itertools.accumulate(lengths, initial=0)
    before = (slice(None),) * axis
    return [(*before, slice(start, end)) for start, end in itertools.pairwise(ends)]


class Unstack(Operator):
    """Every part of an array along an axis, which the parts are without: each is an output."""

    aliases = ("unbind",)
    method = True
    view = True
    node_name = "UnbindBackward0"
    expects = "an axis that the input has, and not of size 0"

    @hookimpl
    def forward(self, x, /, axis=0, *, xp):
        return tuple(xp.unstack(x, axis=operator.index(axis)))

    @hookimpl
    def backward(self, grad, axis, xp):
        return xp.stack(grad, axis=axis)

    @hookimpl
    def batch(self, x, axis, parameters):
        return self(x, **{**parameters, "axis": shifted(axis, x.ndim - 1)})

    @hookimpl
    def self_check(self, rng):
        x = rng.normal(size=(2, 3, 4))
        yield Case(x)
        yield Case(x, axis=1)
        yield Case(x, axis=-1)
        yield Case(x[0] + 1j)
        yield Case(x[0, 0])


class Parts(Operator):
    """An operator that cuts an array into parts along an axis, each one an output."""

    method = True
    view = True

    @hookimpl
    def backward(self, grad, axis, xp):
        return xp.concat(grad, axis=axis)

    @hookimpl
    def batch(self, x, axis, parameters):
        return self(x, **{**parameters, "axis": shifted(axis, x.ndim - 1)})


class SplitEqually(Parts):
    """The parts of one size, the last one maybe smaller, of an array along an axis."""

    method = False
    node_name = "SplitBackward0"
    expects = "a size of at least 1"

    @hookimpl
    def forward(self, x, /, sizes, axis=0):
        if sizes < 1:
            msg = f"the size is {sizes}"
            raise ValueError(msg)
        length = x.shape[axis]
        each = [min(sizes, length - start) for start in range(0, length, sizes)] or [0]
        return tuple(x[part] for part in slices(each, axis % x.ndim))

    @hookimpl
    def self_check(self, rng):
        x = rng.normal(size=(5, 3, 4))
        yield Case(x, sizes=2)
        yield Case(x, sizes=1, axis=1)
        yield Case(x, sizes=2, axis=-1)
        yield Case(x[0] + 1j, sizes=7)


class Split(Parts):
    """The parts of an array along an axis: of one size, or of each of a list of sizes.

    With one size the last part may be smaller; several add up to the size of the axis. These are
    PyTorch's parts; NumPy's function of the same name is told how many, or where they end.
    """

    node_name = "SplitWithSizesBackward0"
    expects = "sizes that add up to that of the axis"

    @hookimpl
    def forward(self, x, /, sizes, axis=0):
        if min(sizes, default=-1) < 0 or sum(sizes) != x.shape[axis]:
            msg = f"the sizes are {list(sizes)}, and the axis is {x.shape[axis]} long"
            raise ValueError(msg)
        return tuple(x[part] for part in slices(sizes, axis % x.ndim))

    @hookimpl
    def self_check(self, rng):
        x = rng.normal(size=(5, 3, 4))
        yield Case(x, sizes=[1, 4])
        yield Case(x, sizes=(2, 0, 2), axis=-1)
        yield Case(x[0] + 1j, sizes=[3])


class Chunk(SplitEqually):
    """So many parts, or fewer, of one size, the last maybe smaller, of an array along an axis."""

    method = True
    expects = "at least 1 part"

    @hookimpl
    def forward(self, x, /, chunks, axis=0):
        if chunks < 1:
            msg = f"chunks is {chunks}"
            raise ValueError(msg)
        return super().forward(x, max(-(-x.shape[axis] // chunks), 1), axis)

    @hookimpl
    def self_check(self, rng):
        x = rng.normal(size=(5, 3, 4))
        yield Case(x, chunks=2)
        yield Case(x, chunks=4)
        yield Case(x, chunks=2, axis=-1)
        yield Case(x[0] + 1j, chunks=1)


class Flip(Operator):
    """The input with the order of its elements reversed along the given axes, by default all."""

    method = True
    view = True
    expects = "axes that the input has"

    @hookimpl
    def forward(self, x, /, axis=None, *, xp):
        return xp.flip(x, axis=axis)

    @hookimpl
    def backward(self, grad, axis, xp):
        return xp.flip(grad, axis=axis)

    @hookimpl
    def batch(self, x, axis):
        ndim = x.ndim - 1
        return self(x, shifted(tuple(range(ndim)) if axis is None else axis, ndim))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))
        yield Case(rng.normal(size=(3, 4)), axis=-1)
        yield Case(rng.normal(size=(2, 3, 2)), axis=(0, 2))
        yield Case(rng.normal(size=3) + 1j)


class Expand(BroadcastTo):
    """The input repeated to give the shape, in which a size of -1 stands for that of the input."""

    @hookimpl
    def forward(self, x, /, shape, *, xp):
        return super().forward(x, _whole(shape, x.shape), xp=xp)

    @hookimpl
    def batch(self, x, shape):
        return broadcast_to.batch(x, _whole(shape, x.shape[1:]))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 1)), shape=(2, -1, 4))
        yield Case(rng.normal(size=(1, 3)) + 1j, shape=(-1, 3))
        yield Case(rng.normal(size=()), shape=(2,))


def _whole(shape, given):
    """Return a shape with the sizes that it takes over from the one that is given."""
    added = len(shape) - len(given)
    return tuple(
        given[i - added] if size == -1 and i >= added else size for i, size in enumerate(shape)
    )


class Ravel(Operator):
    """The elements, in C order, along one axis."""

    method = True
    view = True
    node_name = "ViewBackward0"

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.reshape(x, (-1,))

    @hookimpl
    def backward(self, grad, x_shape, xp):
        return xp.reshape(grad, x_shape)

    @hookimpl
    def batch(self, x):
        return reshape(x, (x.shape[0], -1))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))
        yield Case(rng.normal(size=(4, 3)).T + 1j)
        yield Case(rng.normal(size=()))


class Flatten(Ravel):
    """The input with the axes from `start` to `end`, that one included, made one, in C order."""

    expects = "axes that the input has, start before end"

    @hookimpl
    def forward(self, x, /, start=0, end=-1, *, xp):
        shape = x.shape or (1,)
        start, end = start % len(shape), end % len(shape) + 1
        if start >= end:
            msg = f"the axes are from {start} to {end - 1}"
            raise ValueError(msg)
        return xp.reshape(x, (*shape[:start], math.prod(shape[start:end]), *shape[end:]))

    @hookimpl
    def batch(self, x, start=0, end=-1):
        x = x if x.ndim > 1 else x[:, None]
        ndim = x.ndim - 1
        return self(x, start % ndim + 1, end % ndim + 1)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(2, 3, 4)))
        yield Case(rng.normal(size=(2, 3, 4)), start=1)
        yield Case(rng.normal(size=(2, 3, 4)), end=-2)
        yield Case(rng.normal(size=()))


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
    def batch(self, x, axes):
        ndim = x.ndim - 1
        order = range(ndim)[::-1] if axes is None else axes
        return self(x, (0, *shifted_strictly(tuple(order), ndim)))

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
    def batch(self, x):
        return swapaxes(x, *shifted((-2, -1), x.ndim - 1))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))
        yield Case(rng.normal(size=(2, 3, 4)))


class Swapaxes(Operator):
    """The input with two axes exchanged."""

    method = True
    view = True
    node_name = "TransposeBackward0"
    expects = "axes that the input has"

    @hookimpl
    def forward(self, x, /, axis1, axis2, *, xp):
        order = list(range(x.ndim))
        order[axis1], order[axis2] = order[axis2], order[axis1]
        return xp.permute_dims(x, tuple(order))

    @hookimpl
    def backward(self, grad, axis1, axis2, xp):
        return self.forward(grad, axis1, axis2, xp=xp)

    @hookimpl
    def batch(self, x, axis1, axis2):
        return self(x, *shifted((axis1, axis2), x.ndim - 1))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(2, 3, 4)), axis1=0, axis2=-1)
        yield Case(rng.normal(size=(3, 4)), axis1=1, axis2=1)


class Moveaxis(Operator):
    """The input with the axes `source` at the places `destination`, and the others in order."""

    method = True
    view = True
    node_name = "PermuteBackward0"
    expects = "as many places as axes, each different"

    @hookimpl
    def forward(self, x, /, source, destination, *, xp):
        return xp.moveaxis(x, source, destination)

    @hookimpl
    def backward(self, grad, source, destination, xp):
        return xp.moveaxis(grad, destination, source)

    @hookimpl
    def batch(self, x, source, destination):
        ndim = x.ndim - 1
        return self(x, shifted(source, ndim), shifted(destination, ndim))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(2, 3, 4)), source=0, destination=-1)
        yield Case(rng.normal(size=(2, 3, 4)), source=(0, 1), destination=(-1, 0))


class Astype(Elementwise):
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


class Clone(Elementwise):
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
stack, concat, unstack = Stack(), Concat(), Unstack()
split_equally = SplitEqually()
Split.overloads = {"sizes": split_equally}
split, chunk = Split(), Chunk()
flip, expand = Flip(), Expand()
ravel, flatten = Ravel(), Flatten()
transpose, matrix_transpose = Transpose(), MatrixTranspose()
swapaxes, moveaxis = Swapaxes(), Moveaxis()
astype, clone = Astype(), Clone()
