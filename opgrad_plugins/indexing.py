"""Indexing and its adjoint, scatter-add: the backward of each calls the other."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from types import EllipsisType
from typing import Any

import numpy as np

from opgrad import Case, Operator, hookimpl

_BASIC = (int, np.integer, slice, EllipsisType, type(None))


def is_basic(key: Any) -> bool:
    """Tell whether an index picks each element once at most: integers, slices, ``...``, None."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(isinstance(part, _BASIC) and not isinstance(part, bool) for part in parts)


class Getitem(Operator):
    """The elements ``x[key]``, for every index that NumPy takes."""

    view = True
    expects = "an index that NumPy takes for this shape"

    @hookimpl
    def forward(self, x, /, key):
        return x[key]

    @hookimpl
    def backward(self, grad, x_shape, key):
        return scatter_add(grad, key, x_shape)

    @hookimpl
    def batch(self, x, key):
        if not _moves_axes(key):
            return self(x, _after_all(key))
        return self(x.moveaxis(0, -1), _before_all(key)).moveaxis(-1, 0)

    @hookimpl
    def self_check(self, rng):
        x = rng.normal(size=(4, 5))
        yield Case(x, key=2)
        yield Case(x, key=(slice(None, None, -2), slice(1, 4)))
        yield Case(x, key=(..., None, 0))
        yield Case(x, key=[1, 1, 3])
        yield Case(x, key=(np.asarray([0, 0, 2]), np.asarray([4, 4, 1])))
        yield Case(x, key=x > 0)
        yield Case(rng.normal(size=(2, 3, 4)), key=(np.asarray([0, 1]), ..., np.asarray([1, 3])))


class ScatterAdd(Operator):
    """Zeros of the given shape, to which `x` is added at ``[key]``; repeated places add up."""

    expects = "an input of the shape that the index picks"

    @hookimpl
    def forward(self, x, /, key, shape, *, xp):
        out = xp.zeros(shape, dtype=x.dtype)
        if is_basic(key):
            out[key] = x
        else:
            np.add.at(out, key, x)
        return out

    @hookimpl
    def backward(self, grad, key):
        return getitem(grad, key)

    @hookimpl
    def batch(self, x, key, shape):
        size = x.shape[0]
        if not _moves_axes(key):
            # What is broadcast to the place that the index picks has all of that place's axes.
            missing = np.broadcast_to(0, shape)[key].ndim + 1 - x.ndim
            x = x.reshape((size, *(1,) * missing, *x.shape[1:]))
            return self(x, _after_all(key), (size, *shape))
        return self(x.moveaxis(0, -1), _before_all(key), (*shape, size)).moveaxis(-1, 0)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=5), key=2, shape=(4, 5))
        yield Case(rng.normal(size=(2, 3)), key=(slice(0, 2), slice(1, 4)), shape=(4, 5))
        yield Case(rng.normal(size=(3, 5)), key=[1, 1, 3], shape=(4, 5))
        yield Case(rng.normal(size=(3, 3)), key=..., shape=(3, 3))
        several = (np.asarray([0, 1, 0]), ..., np.asarray([1, 3, 1]))
        yield Case(rng.normal(size=(3, 3)), key=several, shape=(2, 3, 4))
        yield Case(rng.normal(size=(0, 5)), key=slice(0), shape=(4, 5))


def _moves_axes(key):
    """Tell whether an index may put the axes that it makes before others: one of several arrays."""
    return isinstance(key, tuple) and not is_basic(key)


def _after_all(key):
    """Return an index that first takes all of an axis more."""
    return (slice(None), *(key if isinstance(key, tuple) else (key,)))


def _before_all(key):
    """Return an index that at last takes all of an axis more, and cannot reach it otherwise."""
    whole = any(part is ... for part in key)
    return (*key, slice(None)) if whole else (*key, ..., slice(None))


getitem, scatter_add = Getitem(), ScatterAdd()
