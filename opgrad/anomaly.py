"""Anomaly mode: where a nan in a backward pass, or an error, comes from."""

from __future__ import annotations

import sys
import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opgrad import blame
from opgrad.engine import conform
from opgrad.graph import AccumulateGrad, GraphError, input_metadata, recorders, runners
from opgrad.modes import InForce, Outer
from opgrad.namespaces import namespace
from opgrad.variable import Variable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opgrad.graph import Edge, Node, Run


class _Mode:
    """Anomaly mode as a thread or task has it; nodes are watched as long as one is anybody's."""

    __slots__ = ("check_nan",)

    def __init__(self, check_nan: bool) -> None:
        self.check_nan = check_nan
        _watching.add(1)

    def __del__(self) -> None:
        _watching.add(-1)


_mode: ContextVar[_Mode | None] = ContextVar("opgrad_anomaly", default=None)

_outer: Outer[_Mode | None] = Outer("opgrad_outer_anomaly")

#: The call whose backward is running.
_running: ContextVar[blame.Call | None] = ContextVar("opgrad_anomaly_running", default=None)


def is_anomaly_enabled() -> bool:
    """Tell whether anomaly mode is on, in this thread and task."""
    return _mode.get() is not None


def is_anomaly_check_nan_enabled() -> bool:
    """Tell whether anomaly mode is on and looks for nan, in this thread and task."""
    mode = _mode.get()
    return mode is not None and mode.check_nan


class detect_anomaly:  # noqa: N801 - a function to its users, as in PyTorch
    """Say of a nan in a backward pass, or of an error, which call of which operator it is from.

    Inside the block each recorded call is noted with the lines that led to it. A backward that
    produces nan is then an error, which names operator, hook and input, and shows those lines; so
    do errors raised in a backward. Both forward and backward belong inside. It is slow: for
    debugging only. Each thread and each async task has its own.

    Parameters
    ----------
    check_nan : bool
        Whether a nan is an error.

    Examples
    --------
    >>> import opgrad
    >>> x = opgrad.tensor([0.0, 1.0], requires_grad=True)
    >>> with opgrad.autograd.detect_anomaly():
    ...     (opgrad.sqrt(x) * 0).sum().backward()
    Traceback (most recent call last):
    opgrad.graph.GraphError: sqrt.backward gave nan in 1 of 2 elements of the gradient of input 'x'
    raised in the backward of sqrt; sqrt was called here (most recent call last):
      File ...
    """

    __slots__ = ("_check_nan",)

    def __init__(self, check_nan: bool = True) -> None:
        self._check_nan = bool(check_nan)

    def __enter__(self) -> None:
        _outer.push(_mode.get())
        _mode.set(_Mode(self._check_nan))

    def __exit__(self, *_: object) -> None:
        _mode.set(_outer.pop())


class set_detect_anomaly:  # noqa: N801 - likewise
    """Switch anomaly mode on or off, at once; as a context manager, until the block ends.

    Parameters
    ----------
    mode : bool
        Whether it is on from now on.
    check_nan : bool
        Whether a nan is an error.

    Examples
    --------
    >>> import opgrad
    >>> with opgrad.autograd.set_detect_anomaly(True):
    ...     opgrad.autograd.is_anomaly_enabled()
    True
    >>> opgrad.autograd.is_anomaly_enabled()
    False
    """

    __slots__ = ("_before",)

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = _mode.get()
        _mode.set(_Mode(bool(check_nan)) if mode else None)

    def __enter__(self) -> None:
        _outer.push(self._before)

    def __exit__(self, *_: object) -> None:
        _mode.set(_outer.pop())


# ------------------------------------------------------------------------- of each node


def _note(node: Node) -> None:
    """Note where a call was made."""
    if is_anomaly_enabled() and not isinstance(node, AccumulateGrad):
        blame.calls[node] = blame.Call(blame.operator_name(node), _stack(), _running.get())


def _begin() -> None:
    recorders.append(_note)
    runners.append(_checked)


def _end() -> None:
    recorders.remove(_note)
    runners.remove(_checked)


_watching = InForce(_begin, _end)


def _stack() -> traceback.StackSummary:
    """Return the lines that led here, without those of opgrad and NumPy."""
    frames = [
        (frame, line)
        for frame, line in traceback.walk_stack(sys._getframe())
        if not blame.is_own(frame.f_globals.get("__name__"))
    ]
    return traceback.StackSummary.extract(reversed(frames), lookup_lines=False)


def _checked(node: Node, needs: Sequence[Edge | None], run: Run) -> Sequence[Any]:
    """Run a node's backward; note whose calls it records, and look for nan in what it gives."""
    if not is_anomaly_enabled():
        return run()
    token = _running.set(blame.calls.get(node))
    try:
        grads = run()
    finally:
        _running.reset(token)
    if is_anomaly_check_nan_enabled():
        _refuse_nan(node, needs, grads)
    return grads


def _refuse_nan(node: Node, needs: Sequence[Edge | None], grads: Sequence[Any]) -> None:
    for index, (grad, edge) in enumerate(zip(grads, needs, strict=True)):
        if grad is None or edge is None:
            continue
        # As the engine will: a sum over broadcast axes can make nan of inf.
        several = isinstance(grad, Variable) and grad._hidden
        made = conform(grad, input_metadata(edge), node, grads, record=several)
        if several:
            from opgrad.batched import innermost

            made = innermost(made)
        data = made._data if isinstance(made, Variable) else made
        xp = namespace(data)
        bad = int(xp.count_nonzero(xp.isnan(data)))
        if bad:
            hook, name = node.source_of(index)
            msg = (
                f"{blame.operator_name(node)}.{hook} gave nan in {bad} of {data.size} elements of "
                f"the gradient of input {name!r}"
            )
            raise GraphError(msg)
