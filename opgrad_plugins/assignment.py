"""What an assignment leaves behind, as a function of what was there and what is written.

These write to none of their inputs: a write in place is one of them, and then the overwriting of
the storage with what it gives.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

import numpy as np

from opgrad import Case, Operator, hookimpl

from .families import Elementwise
from .indexing import is_basic


class Assignment(Operator):
    """An operator that writes another input to every element of `x`."""

    @hookimpl
    def backward_x(self, grad, xp):
        return xp.zeros_like(grad)


class Constant(Elementwise):
    """An operator whose result keeps nothing of `x` but its shape and dtype."""

    @hookimpl
    def backward(self, grad, xp):
        return xp.zeros_like(grad)


class Zero(Constant):
    """Zeros of the shape and dtype of `x`, which the gradient of `x` is as well."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.zeros_like(x)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))
        yield Case(rng.normal(size=()))
        yield Case(rng.normal(size=3) + 1j)


class FillScalar(Constant):
    """A plain number in the place of every element of `x`."""

    node_name = "FillBackward2"
    expects = "one number"

    @hookimpl
    def forward(self, x, /, value, *, xp):
        refuse_complex(x, value)
        return xp.full_like(x, value)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)), value=2.5)
        yield Case(rng.normal(size=3) + 1j, value=2 - 1j)


class Fill(Assignment):
    """One value, an array without axes, in the place of every element of `x`."""

    node_name = "FillBackward3"
    expects = "one number, or an array without axes"

    @hookimpl
    def forward(self, x, value, /, *, xp):
        refuse_complex(x, value)
        if value.shape != ():
            msg = f"the value has shape {tuple(value.shape)}"
            raise ValueError(msg)
        return xp.full_like(x, value)

    @hookimpl
    def backward_value(self, grad):
        return grad  # the engine sums over what was repeated

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)), rng.normal(size=()))
        yield Case(rng.normal(size=()), rng.normal(size=()))
        yield Case(rng.normal(size=3) + 1j, rng.normal(size=()))


class Assign(Assignment):
    """The elements of `source`, broadcast to the shape of `x` and cast to its dtype."""

    node_name = "CopyBackwards"
    expects = "a source that broadcasts to the shape of x"

    @hookimpl
    def forward(self, x, source, /, *, xp):
        refuse_complex(x, source)
        return xp.broadcast_to(source, x.shape).astype(x.dtype)

    @hookimpl
    def backward_source(self, grad):
        return grad

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)), rng.normal(size=(3, 4)))
        yield Case(rng.normal(size=(3, 4)), rng.normal(size=(3, 1)))
        yield Case(rng.normal(size=(3, 4)), 2.5)
        yield Case(rng.normal(size=3) + 1j, rng.normal(size=3))


class Setitem(Operator):
    """A copy of `x` with ``value`` at ``[key]``, for every index that NumPy takes.

    The value is broadcast to the shape that the index picks, and cast to the dtype of `x`. Where
    the index repeats a place, the last of the values for it stays, and has the gradient alone.
    """

    node_name = "IndexPutBackward0"
    expects = "an index that NumPy takes for x, and a value that broadcasts to what it picks"

    @hookimpl
    def forward(self, x, value, /, key, *, xp):
        refuse_complex(x, value)
        out = xp.asarray(x, copy=True)
        if is_basic(key):
            out[key] = value
        else:
            # `out[key] = value` goes through the key as it lies in memory, `put` as it is written.
            places = _places(out.shape, key)
            np.put(out, places, _fitted(value, places.shape))
        return out

    @hookimpl
    def backward_x(self, grad, key):
        return setitem(grad, 0, key)

    @hookimpl
    def backward_value(self, grad, value_shape, key, xp):
        picked = grad[key]
        if not is_basic(key):
            picked = xp.where(_stays(_places(grad.shape, key)), picked, 0)
        return xp.reshape(picked, (1,) * (len(value_shape) - picked.ndim) + picked.shape)

    @hookimpl
    def self_check(self, rng):
        x = rng.normal(size=(4, 5))
        yield Case(x, rng.normal(size=5), key=2)
        yield Case(x, rng.normal(size=(2, 1)), key=(slice(None, None, -2), slice(1, 4)))
        yield Case(x, 2.5, key=(..., 0))
        yield Case(x, rng.normal(size=(3, 5)), key=[1, 1, 3])
        yield Case(x, rng.normal(size=3), key=(np.asarray([0, 0, 2]), np.asarray([4, 4, 1])))
        yield Case(x, rng.normal(), key=x > 0)
        yield Case(x, rng.normal(size=np.sum(x > 0)), key=x > 0)
        yield Case(x + 1j, rng.normal(size=(1, 1, 5)), key=0)


def refuse_complex(x, value):
    """Refuse to lose an imaginary part, as NumPy and PyTorch would with a warning."""
    if np.iscomplexobj(value) and not np.iscomplexobj(x):
        msg = f"a complex value does not fit into {x.dtype}; write its real part, or cast x"
        raise TypeError(msg)


def _places(shape, key):
    """Return where in an array of that shape, in C order, each element lies that an index picks."""
    return np.asarray(np.arange(math.prod(shape)).reshape(shape)[key])


def _fitted(value, shape):
    """Broadcast a value to a shape; as in NumPy it may have more axes, of size 1, before it."""
    value = np.asarray(value)
    surplus = max(value.ndim - len(shape), 0)
    return np.broadcast_to(value.reshape(value.shape[surplus:]), shape)


def _stays(places):
    """Tell which places do not occur again later."""
    order = np.arange(places.size).reshape(places.shape)
    last = np.zeros(places.max(initial=0) + 1, int)
    np.put(last, places, order)
    return last[places] == order


zero = Zero()
fill_scalar = FillScalar()
Fill.overloads = {"value": fill_scalar}
fill = Fill()
assign, setitem = Assign(), Setitem()
