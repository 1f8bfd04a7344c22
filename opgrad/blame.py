"""What an error in a backward pass is told about: the operator, its hook, and the forward call."""

from __future__ import annotations

import inspect
import traceback
import weakref
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from opgrad.graph import Node


class Call(NamedTuple):
    """Where a node was recorded."""

    operator: str
    stack: traceback.StackSummary
    #: The call whose backward recorded this one, as with ``create_graph``.
    during: Call | None

    def __str__(self) -> str:
        shown: list[str] = []
        call: Call | None = self
        while call is not None:
            lines = "".join(call.stack.format()).rstrip()
            shown.append(f"{call.operator} was called here (most recent call last):\n{lines}")
            call = call.during
        return "\nin the backward of: ".join(shown)


#: The calls that anomaly mode has noted.
calls: weakref.WeakKeyDictionary[Node, Call] = weakref.WeakKeyDictionary()


def operator_name(node: Node) -> str:
    """Return the name of the operator that a node is a call of, else the node's own."""
    return node.name() if node.operator is None else node.operator.name


def explain(error: Exception, node: Node) -> None:
    """Add to an error in a node's backward whose hook raised it, and where its forward was."""
    name = operator_name(node)
    hook = _hook(error.__traceback__, node)
    inputs = ", ".join(map(repr, _inputs(node, hook)))
    where = f"{name}.{hook}, for input {inputs}" if inputs else f"the backward of {name}"
    call = calls.get(node)
    place = (
        f"to see where {name} was called, do forward and backward inside "
        "`with opgrad.autograd.detect_anomaly():`"
        if call is None
        else str(call)
    )
    error.add_note(f"raised in {where}; {place}")


def _hook(trace: TracebackType | None, node: Node) -> str | None:
    """Return the hook that is the first of the node's operator in a traceback."""
    if node.operator is None:
        return None
    codes = {
        getattr(inspect.unwrap(function), "__code__", None): name
        for name, function in node.operator.contract.hooks.items()
        if name.startswith("backward")
    }
    frames = (frame.f_code for frame, _ in traceback.walk_tb(trace))
    return next((codes[code] for code in frames if code in codes), None)


def _inputs(node: Node, hook: str | None) -> Iterator[str]:
    """Give the names of the inputs whose gradients a hook returns."""
    if node.operator is not None:
        contract = node.operator.contract
        pairs = zip(contract.inputs, contract.sources, strict=True)
        yield from (name for name, source in pairs if hook is not None and source == hook)
