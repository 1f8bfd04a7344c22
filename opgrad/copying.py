"""Pickle, `copy.copy` and `copy.deepcopy` of leaves.

What comes out is a leaf that has the values and requires grad as the original does; it has none of
its hooks. A shallow copy shares the memory. A deep copy also has a copy of the gradient, and where
a tensor is copied together with its views, the copies share memory as the originals do.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from opgrad.graph import GraphError
from opgrad.views import shared, way

if TYPE_CHECKING:
    from opgrad.tensor import Tensor


def rebuilt(kind: type[Tensor], data: Any, requires_grad: bool) -> Tensor:
    """Make a leaf."""
    return kind(data).requires_grad_(requires_grad)


def reduced(tensor: Tensor) -> tuple[Any, ...]:
    """Return how to make a tensor anew, as ``__reduce__`` does."""
    _refuse_unless_leaf(tensor)
    return rebuilt, (type(tensor), tensor._data, tensor.requires_grad)


def copied(tensor: Tensor) -> Tensor:
    """Return a leaf that shares the memory of another."""
    _refuse_unless_leaf(tensor)
    return rebuilt(type(tensor), tensor.detach()._data, tensor.requires_grad)


def deep_copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """Return a copy of a leaf and its gradient."""
    _refuse_unless_leaf(tensor)
    made = rebuilt(type(tensor), _copied_data(tensor, memo), tensor.requires_grad)
    made.grad = copy.deepcopy(tensor.grad, memo)
    return made


def _refuse_unless_leaf(tensor: Tensor) -> None:
    if not tensor.is_leaf:
        msg = (
            f"only leaves can be copied or pickled, and this tensor was made by "
            f"{tensor.grad_fn!r}; use clone() for a copy that keeps the history, or detach() first"
        )
        raise GraphError(msg)


def _copied_data(tensor: Tensor, memo: dict[int, Any]) -> Any:
    """Copy the data of a tensor; if it is a view, in the copy of what it is a view of."""
    base, steps = way(tensor)
    whole = base._data
    if not steps or type(whole) is not np.ndarray or not whole.flags.forc:
        return copy.deepcopy(tensor._data, memo)
    data = shared(tensor) if isinstance(tensor._data, np.generic) else tensor._data
    (low, high), (begin, end) = byte_bounds(data), byte_bounds(whole)
    if not (begin <= low and high <= end):  # its data was assigned since
        return data.copy()
    made = copy.deepcopy(whole, memo)  # the memo has one for all views
    offset = data.__array_interface__["data"][0] - begin
    buffer = made if made.flags.c_contiguous else made.T
    return np.ndarray(data.shape, data.dtype, buffer, offset, data.strides)
