"""`vmap`: a function of one example, applied to each of a batch."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad.batched import hidden, in_front, innermost, levels_of
from opgrad.levels import Level, insist_on_running, running
from opgrad.operands import describe
from opgrad.recording import insist_on_function, tensor_of
from opgrad.recording import plain as as_plain
from opgrad.registry import calls
from opgrad.tensor import Tensor
from opgrad.trees import children, leaves, rebuild

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


def vmap(
    func: Callable[..., Any], in_dims: Any = 0, out_dims: Any = 0, *, loop: bool = False
) -> Callable[..., Any]:
    """Return the function that applies `func` to every slice of its arguments.

    `func` is called once, with tensors that look like one slice and stand for all of them. Each
    operator that it calls is applied to all at once if it has a ``batch`` hook, and else to one
    after the other. Results are what a loop over the slices gives, and differentiable as those are.

    What needs the values of a slice by itself is refused with an error: to branch on them, to
    write in place, to draw random numbers. With `loop` it is possible.

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
    loop : bool
        Call `func` once for each slice, and stack what it returned. Then it may do anything, and
        takes the time that a loop takes.

    Returns
    -------
    callable
        Takes the arguments with one more axis each. Results are tensors if one of the arguments
        is or holds one, or if they require grad, else NumPy's arrays and scalars.

    Raises
    ------
    ValueError
        When called: if an argument or a result lacks the axis, the axes differ in length or are
        empty, results differ in form or shape, or one with the axis None differs between the
        slices.
    TypeError
        If `func` is no function.
    BatchError
        When called: if `func` does what cannot be done for all slices at once.

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
    insist_on_function("vmap", func)

    @functools.wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        given = list(leaves(args))
        axes = _spread("in_dims", in_dims, args)
        parts = [
            leaf if axis is None else _in_front(f"args{path}", leaf, axis)
            for (path, leaf), axis in zip(given, axes, strict=True)
        ]
        sliced = [axis is not None for axis in axes]
        size = _length(
            {f"args{path}": part.shape[0]
             for (path, _), part, is_sliced in zip(given, parts, sliced, strict=True) if is_sliced}
        )  # fmt: skip
        plain = not any(isinstance(leaf, Tensor) for _, leaf in given)

        def call(values: Iterable[Any]) -> Any:
            return func(*rebuild(args, iter(values)), **kwargs)

        run = _one_by_one if loop else _at_once
        return run(call, parts, sliced, size, out_dims, plain)

    return mapped


def _at_once(
    call: Callable[[Iterable[Any]], Any],
    parts: Sequence[Any],
    sliced: Sequence[bool],
    size: int,
    out_dims: Any,
    plain: bool,
) -> Any:
    """Call the function with tensors that stand for all slices."""
    with running(size) as level:
        values = zip(parts, sliced, strict=True)
        result = call(hidden(x, level) if is_sliced else x for x, is_sliced in values)
        axes = _spread("out_dims", out_dims, result)
        made = [
            _of_all(tensor_of(f"vmap: what func returned{path}", leaf), axis, level)
            for (path, leaf), axis in zip(leaves(result), axes, strict=True)
        ]
    return rebuild(result, (_settled(each, plain) for each in _unaliased(made)))


def _of_all(result: Tensor, axis: int | None, level: Level) -> Tensor:
    """Return a result with all slices along an axis; for None, the one that they all have."""
    for each in levels_of(result):
        insist_on_running(each)
    if axis is not None:
        made = in_front(result, level)
        _insist_on_place(axis, made.shape[1:])
        return calls.moveaxis(made, 0, axis) if axis else made
    among = levels_of(result)
    if level not in among:
        return result
    values = np.moveaxis(innermost(result)._data, among.index(level), 0)
    for i, each in enumerate(values):
        _insist_on_the_same(each, values[0], i)
    first: Tensor = calls.getitem(in_front(result, level), 0)
    return first


def _unaliased(results: Sequence[Tensor]) -> Iterator[Tensor]:
    """Give results each in memory of its own, as stacking gives them."""
    seen = set()
    for each in results:
        data = innermost(each)._data
        own = each._hidden or (getattr(data, "base", None) is None and id(data) not in seen)
        seen.add(id(data))
        yield each if own else each.clone()


def _one_by_one(
    call: Callable[[Iterable[Any]], Any],
    parts: Sequence[Any],
    sliced: Sequence[bool],
    size: int,
    out_dims: Any,
    plain: bool,
) -> Any:
    """Call the function with each slice, and stack what it returns."""
    slices = [
        calls.unstack(part) if is_sliced else [part] * size
        for part, is_sliced in zip(parts, sliced, strict=True)
    ]
    return _stacked([call(each) for each in zip(*slices, strict=True)], out_dims, plain)


def _spread(name: str, axes: Any, tree: Any) -> list[int | None]:
    """Return an axis for each leaf of a tree, from one for all or from a tree of them."""
    if axes is None or (isinstance(axes, int | np.integer) and not isinstance(axes, bool)):
        return [axes if axes is None else int(axes) for _ in leaves(tree)]
    inner, given = children(tree), dict(children(axes) or [])
    if inner is None or given.keys() != {key for key, _ in inner}:
        msg = (
            f"vmap: {name} has {axes!r} for {'an array' if inner is None else describe(tree)}"
            f"{'' if inner is None else f' of {len(inner)}'}; expected an integer, None, or as "
            "many of them in the same form"
        )
        raise ValueError(msg)
    return [axis for key, child in inner for axis in _spread(name, given[key], child)]


def _in_front(where: str, value: Any, axis: int) -> Tensor:
    """Return an argument with the axis of the slices as its first."""
    # What plain arrays are written to in the function stays there.
    array = tensor_of(f"vmap: {where}", value, copy=None if isinstance(value, Tensor) else True)
    if not -array.ndim <= axis < array.ndim:
        msg = (
            f"vmap: {where} is {describe(array)}, which has no axis {axis} to slice; say None in "
            "in_dims for an argument that is the same for every slice"
        )
        raise ValueError(msg)
    return calls.moveaxis(array, axis, 0)  # type: ignore[no-any-return]  # a call by name


def _length(lengths: Mapping[str, int]) -> int:
    """Return how many slices there are, the same number for all."""
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
        _joined([tensor_of(f"vmap: what func returned{path}", x) for path, x in each], axis, plain)
        for each, axis in zip(zip(*found, strict=True), axes, strict=True)
    ]
    return rebuild(results[0], iter(made))


def _joined(parts: Sequence[Tensor], axis: int | None, plain: bool) -> Any:
    for i, each in enumerate(parts):
        if each.shape != parts[0].shape:
            msg = f"vmap: func returned shape {parts[0].shape} for slice 0, {each.shape} for {i}"
            raise ValueError(msg)
        if axis is None:
            _insist_on_the_same(each._data, parts[0]._data, i)
        else:
            _insist_on_place(axis, each.shape)
    return _settled(parts[0] if axis is None else calls.stack(parts, axis=axis), plain)


def _insist_on_place(axis: int, shape: tuple[int, ...]) -> None:
    """Refuse an axis that results of a shape have not, with one more for the slices."""
    count = len(shape) + 1
    if not -count <= axis < count:
        msg = (
            f"vmap: out_dims has {axis} for a result of shape {shape} for each slice; expected an "
            f"axis from {-count} to {count - 1}, where that of the slices is to stand, or None"
        )
        raise ValueError(msg)


def _insist_on_the_same(data: Any, first: Any, index: int) -> None:
    if not np.array_equal(data, first, equal_nan=True):
        msg = (
            f"vmap: out_dims is None for a result that differs between slices 0 and {index}; give "
            "the axis that they are stacked along"
        )
        raise ValueError(msg)


def _settled(result: Tensor, plain: bool) -> Any:
    """Return a result as the caller gets it: an array if the arguments are, and none is lost."""
    return as_plain(result) if plain and not (result.requires_grad or result._hidden) else result
