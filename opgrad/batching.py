"""`vmap`: a function of one example, applied to each of a batch."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import creation
from opgrad.operands import describe
from opgrad.recording import plain as as_plain
from opgrad.registry import calls
from opgrad.tensor import Tensor
from opgrad.trees import children, leaves, rebuild

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def vmap(func: Callable[..., Any], in_dims: Any = 0, out_dims: Any = 0) -> Callable[..., Any]:
    """Return the function that applies `func` to every slice of its arguments.

    It is a loop over the slices, and stacks what `func` returned: it saves writing the loop, not
    the time that the loop takes. So `func` may do anything, branch on values included, and the
    result is differentiable as the loop is.

    Parameters
    ----------
    func : callable
        The function of one slice. It is given tensors for what is sliced.
    in_dims : int, None, or a tuple of them
        Along which axis to slice: one for all arguments, or one for each, in which a tree may
        stand for an argument that is one. None hands an argument on as it is. Keyword arguments
        are always handed on.
    out_dims : int, None, or a tree of them
        Where the axis of the slices stands in a result. None for a result that is the same for
        every slice.

    Returns
    -------
    callable
        Takes the arguments with one more axis each. Results are tensors if one of the arguments
        is or holds one, or if they require grad, else NumPy's arrays and scalars.

    Raises
    ------
    ValueError
        When called: if an argument lacks the axis, the axes differ in length or are empty,
        results differ in form or shape, or one with the axis None differs between the slices.

    Examples
    --------
    >>> import numpy as np
    >>> from opgrad import func
    >>> func.vmap(func.grad(lambda x: (x**3).sum()))(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[ 3., 12.],
           [27., 48.]])
    >>> func.vmap(lambda a, x: a * x, in_dims=(None, 1))(2.0, np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[2., 6.],
           [4., 8.]])
    """

    @functools.wraps(func)
    def batched(*args: Any, **kwargs: Any) -> Any:
        given = list(leaves(args))
        axes = _spread("in_dims", in_dims, args)
        parts = [
            None if axis is None else _slices(f"args{path}", leaf, axis)
            for (path, leaf), axis in zip(given, axes, strict=True)
        ]
        results = []
        for i in range(_length([path for path, _ in given], parts)):
            slices = [
                leaf if part is None else part[i]
                for (_, leaf), part in zip(given, parts, strict=True)
            ]
            results.append(func(*rebuild(args, iter(slices)), **kwargs))
        plain = not any(isinstance(leaf, Tensor) for _, leaf in given)
        return _stacked(results, out_dims, plain)

    return batched


def _spread(name: str, axes: Any, tree: Any) -> list[int | None]:
    """Return an axis for each leaf of a tree, from one for all or from a tree of them."""
    if axes is None or isinstance(axes, int):
        return [axes for _ in leaves(tree)]
    inner, given = children(tree), dict(children(axes) or [])
    if inner is None or given.keys() != {key for key, _ in inner}:
        msg = (
            f"vmap: {name} has {axes!r} for {'an array' if inner is None else describe(tree)}"
            f"{'' if inner is None else f' of {len(inner)}'}; expected an integer, None, or as "
            "many of them in the same form"
        )
        raise ValueError(msg)
    return [axis for key, child in inner for axis in _spread(name, given[key], child)]


def _slices(where: str, value: Any, axis: int) -> list[Tensor]:
    array = creation.asarray(value)
    if not -array.ndim <= axis < array.ndim:
        msg = (
            f"vmap: {where} is {describe(array)}, which has no axis {axis} to slice; say None in "
            "in_dims for an argument that is the same for every slice"
        )
        raise ValueError(msg)
    return list(calls.unstack(array, axis=axis)) if array.shape[axis] else []


def _length(paths: Sequence[str], parts: Sequence[list[Tensor] | None]) -> int:
    """Return how many slices there are, the same number for all."""
    lengths = {
        f"args{path}": len(part)
        for path, part in zip(paths, parts, strict=True)
        if part is not None
    }
    if not lengths:
        msg = "vmap: there is nothing to slice; in_dims is None for every argument"
        raise ValueError(msg)
    if len({*lengths.values()}) > 1:
        found = ", ".join(f"{length} of {name}" for name, length in lengths.items())
        msg = f"vmap: the arguments have different numbers of slices: {found}"
        raise ValueError(msg)
    length = next(iter(lengths.values()))
    if length == 0:
        msg = "vmap: there are no slices, so nothing tells what func returns; got an empty axis"
        raise ValueError(msg)
    return length


def _stacked(results: Sequence[Any], out_dims: Any, plain: bool) -> Any:
    """Return the tree of what the calls returned, leaf by leaf along a new axis."""
    found = [list(leaves(each)) for each in results]
    for i, each in enumerate(found):
        if [path for path, _ in each] != [path for path, _ in found[0]]:
            msg = f"vmap: func returned results of different forms for slices 0 and {i}"
            raise ValueError(msg)
    axes = _spread("out_dims", out_dims, results[0])
    made = [
        _joined([leaf for _, leaf in each], axis, plain)
        for each, axis in zip(zip(*found, strict=True), axes, strict=True)
    ]
    return rebuild(results[0], iter(made))


def _joined(values: Sequence[Any], axis: int | None, plain: bool) -> Any:
    parts = [creation.asarray(each) for each in values]
    for i, each in enumerate(parts):
        if each.shape != parts[0].shape:
            msg = f"vmap: func returned shape {parts[0].shape} for slice 0, {each.shape} for {i}"
            raise ValueError(msg)
        if axis is None and not np.array_equal(each._data, parts[0]._data, equal_nan=True):
            msg = (
                f"vmap: out_dims is None for a result that differs between slices 0 and {i}; give "
                "the axis that they are stacked along"
            )
            raise ValueError(msg)
    made: Tensor = parts[0] if axis is None else calls.stack(parts, axis=axis)
    return as_plain(made) if plain and not made.requires_grad else made
