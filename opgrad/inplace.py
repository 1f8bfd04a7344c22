"""In-place operations: an operator's result is written into the memory of its first input.

What is written to takes on the history of the result, and so does everything that looks at the
same memory: a view rewrites its base's history, as `CopySlices`, and a base its views'. Values
that backward passes still need are protected by `stamps`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import hooks
from opgrad.graph import Edge, GraphError, Node
from opgrad.levels import refuse_in_vmap
from opgrad.modes import grad_enabled, in_inference, set_grad_enabled
from opgrad.namespaces import namespace
from opgrad.operands import describe
from opgrad.registry import calls
from opgrad.stamps import next_sequence, stamp
from opgrad.variable import Variable, metadata_of
from opgrad.views import Step, places, shares, view_of, views_of, way

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opgrad.tensor import Tensor


def apply(name: str, target: Tensor, *args: Any, writer: str = "", **kwargs: Any) -> Tensor:
    """Apply an operator and write its result into its first input.

    Parameters
    ----------
    name : str
        The operator's name.
    target : Tensor
        Its first input, which is returned, changed.
    *args, **kwargs
        Its other arguments.
    writer : str
        What error messages call it; by default the operator's name with an underscore.

    Raises
    ------
    GraphError
        If `target` is a leaf that requires grad, or a view of one, and operations are recorded.
    ValueError, TypeError
        If the result does not fit into `target`, by its shape or its dtype.
    """
    writer = writer or f"{name}_"
    check_target(writer, target)
    if name == "assign":
        _insist_on_shape(writer, args[0], target.shape)
    result = getattr(calls, name)(target, *args, **kwargs)
    if result._edge is not None:
        _settle(result._edge[0], target._data, result._data)
    return overwrite(target, result, writer)


def set_item(target: Tensor, key: Any, value: Any) -> None:
    """Write a value to the places that an index picks, as ``target[key] = value``.

    The value may have more axes, of size 1, before the others. Where the index picks all there is,
    as it is, the tensor itself is written to: nothing of its history stays.
    """
    writer = "x[key] = value"
    part = calls.getitem(target, key)
    if isinstance(part._data, np.generic):  # a copy of one element, but with "..." a view of it
        part = calls.getitem(target, (*(key if isinstance(key, tuple) else (key,)), ...))
    surplus = np.ndim(value) - part.ndim
    if surplus > 0 and np.shape(value)[:surplus] == (1,) * surplus:
        value = calls.reshape(value, np.shape(value)[surplus:])
    if view_of(part) is None:
        _insist_on_shape(writer, value, part.shape)
        apply("setitem", target, value, key, writer=writer)
        return
    if (part.shape, part._data.strides) == (target.shape, target._data.strides):
        part = target
    apply("assign", part, value, writer=writer)


def _insist_on_shape(writer: str, value: Any, shape: tuple[int, ...]) -> None:
    """Refuse a value that does not broadcast to the shape of what it is written to."""
    got = tuple(getattr(value, "shape", ()))
    sizes = zip(got[::-1], shape[::-1], strict=False)
    if len(got) > len(shape) or any(size not in (1, wanted) for size, wanted in sizes):
        msg = (
            f"{writer}: the value has shape {got}, and what it is written to has shape {shape}; "
            "pass a value that broadcasts to that: with no more axes, each of the same size or 1"
        )
        raise ValueError(msg)


def _settle(node: Node, data: Any, out: Any) -> None:
    """Have the node of a write keep its inputs as they were, and its output where it will be."""
    if node._saved is None or not node.saves_arrays or type(data) is not np.ndarray:
        return
    fits = metadata_of(out) == metadata_of(data)

    def settled(value: Any) -> Any:
        return data if value is out and fits else value.copy() if shares(value, data) else value

    packed = type(node._saved) is not tuple
    node._saved = node._saved.with_arrays(settled) if packed else tuple(map(settled, node._saved))


def overwrite(target: Tensor, result: Tensor, name: str) -> Tensor:
    """Write a result into a tensor's memory, and its history into the graph."""
    result = _fitting(target, result, name)
    base, _ = way(target)
    record = grad_enabled()
    history = _history(name, target, result._edge) if record else base._edge
    target.data[...] = result._data
    # The node of the write itself keeps what is there from now on: the stamp is not after it.
    stamp(base._data, name, next_sequence() if result._edge is None else result._edge[0].sequence)
    hooks.move(base, history)
    _follow(base, record=record)
    return target


def check_target(name: str, target: Tensor) -> None:
    """Refuse to write where a gradient would be lost, or one place written twice.

    Raises
    ------
    GraphError
        If `target` is a leaf that requires grad, or a view of one, and operations are recorded; or
        if its elements share memory, or may not be written; or if it was made in inference mode.
    """
    refuse_in_vmap(name, "it would be written once, not for each example; operate out of place")
    if target.is_inference() and not in_inference():
        msg = (
            f"{name}: the tensor was made in inference mode and can be written to only there; "
            "write to a clone()"
        )
        raise GraphError(msg)
    data = target._data
    if any(stride == 0 and size > 1 for stride, size in zip(data.strides, data.shape, strict=True)):
        msg = (
            f"{name}: the tensor of shape {target.shape} is an expanded view, in which several "
            "elements share one place in memory; write to a clone()"
        )
        raise GraphError(msg)
    if isinstance(data, np.ndarray) and not data.flags.writeable:
        msg = (
            f"{name}: the tensor of shape {target.shape} is read-only: it was made of an array "
            "that is, or is a part of an expanded view; write to a clone()"
        )
        raise GraphError(msg)
    if grad_enabled():
        _check_history(name, target)


def _check_history(name: str, target: Tensor) -> None:
    """Refuse a write that would be recorded, and cannot be."""
    base, steps = way(target)
    if base._edge is None and (target._edge is None or not target.is_leaf):
        return
    if base.is_leaf:
        msg = (
            f"{name}: the tensor is {'a view of a leaf' if steps else 'a leaf'} that requires "
            "grad, and writing to it would cut it off from its gradient. Write inside `with "
            "opgrad.no_grad():`, as optimizers do, or to a clone()."
        )
        raise GraphError(msg)
    if target._edge is None:
        msg = (
            f"{name}: the tensor is a view that was made where nothing is recorded, of a tensor "
            "that requires grad; make the view where the write is, or write inside `with "
            "opgrad.no_grad():`"
        )
        raise GraphError(msg)


def _fitting(target: Tensor, result: Tensor, name: str) -> Tensor:
    """Return a result of the target's shape and dtype."""
    if result.shape != target.shape:
        msg = (
            f"{name}: the result has shape {result.shape}, which does not fit into the tensor's "
            f"own, {target.shape}; operate out of place, or reshape the other operand"
        )
        raise ValueError(msg)
    if result.dtype == target.dtype:
        return result
    if not np.can_cast(result.dtype, target.dtype, "same_kind"):
        msg = (
            f"{name}: the result is {describe(result)}, which a tensor of dtype {target.dtype} "
            "cannot keep; cast one of the two with astype()"
        )
        raise TypeError(msg)
    made: Tensor = calls.astype(result, target.dtype)
    return made


# --------------------------------------------------------------------------- shared memory


def _history(name: str, target: Tensor, edge: Edge | None) -> Edge | None:
    """Return the history of a base after a result, which has one itself, is written to a view."""
    base, steps = way(target)
    if not steps or (edge is None and base._edge is None):
        return edge
    if target.dtype != base.dtype:
        msg = (
            f"{name}: the tensor is a part of complex numbers, and writing to it is not recorded; "
            "write to the complex tensor, or inside `with opgrad.no_grad():`"
        )
        raise GraphError(msg)
    return CopySlices(base, steps, edge), 0


def _follow(base: Tensor, *, record: bool) -> None:
    """Give what looks at a tensor's memory its new history; and scalars, which copy it, its value.

    A history is made by calling again what made the view, also where the view had one and the
    write is not recorded: as in PyTorch, a write makes another tensor of a view, as far as hooks
    and `grad` are concerned, and no view is then on the way from another one to the base. What was
    made where nothing is recorded stays without a history; and what has one, where its source has
    none, stays what it is: a leaf, for instance, that is a part of a larger tensor.
    """
    unseen = [(base, base)]
    while unseen:  # rather than call itself: views of views may be many
        seen, source = unseen.pop()
        for view in views_of(seen):
            copied = not shares(view._data, seen._data)
            recorded = source._edge is not None and _is_recorded(view, record)
            if copied or recorded:
                made = _again(view, source, recorded)
                view._data = made._data if copied else view._data
                if recorded:
                    hooks.move(view, made._edge)
            if views_of(view):
                unseen.append((view, _again(view, source, recorded) if recorded else view))


def _is_recorded(view: Tensor, record: bool) -> bool:
    """Tell whether a view has a history, or is to have that of what is written to its memory."""
    found = view_of(view)
    assert found is not None
    return view._edge is not None or (record and found.recorded)


def _again(view: Tensor, source: Tensor, recorded: bool) -> Tensor:
    """Make a view again, of another source."""
    found = view_of(view)
    assert found is not None
    with set_grad_enabled(recorded):
        made: Tensor = found.step(source)
    return made


class CopySlices(Node):
    """The history of a tensor part of which was written over through a view.

    Its inputs are what the tensor was before, and what was written.
    """

    __slots__ = ()
    names = ("steps",)
    origins = (None,)
    saves_arrays = True  # it does not, but then there is no second pass, as in PyTorch

    def __init__(self, base: Tensor, steps: Sequence[Step], edge: Edge | None) -> None:
        super().__init__((base._edge, edge), (tuple(steps),), metadata_of(base._data))

    @staticmethod
    def run(*given: Any) -> Sequence[Any]:
        """Share a gradient between what was there before and what was written to a part of it."""
        grad, (steps,), needs = given
        before = written = None
        if needs[0] is not None:
            kept = np.ones(grad.shape, bool)
            kept.flat[places(grad.shape, steps)] = False
            before = namespace(grad).where(kept, grad, 0)
        if needs[1] is not None:
            written = grad
            for step in steps:
                made = step(written)
                written = made if isinstance(grad, Variable) else made._data
        return before, written
