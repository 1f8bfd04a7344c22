"""What an error in a backward pass is told about: the operator, its hook, and the forward call."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
import weakref
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

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


#: The line that called an operator: file, number, and function.
Caller: TypeAlias = "tuple[str, int, str]"


@functools.cache
def is_own(module: str | None) -> bool:
    """Tell whether a module is opgrad's, or NumPy's."""
    return str(module).partition(".")[0] in ("opgrad", "opgrad_plugins", "numpy")


def caller() -> Caller | None:
    """Return the innermost line that is neither opgrad's nor NumPy's."""
    frame: FrameType | None = sys._getframe(3)  # the first three make the node
    while frame is not None and is_own(frame.f_globals.get("__name__")):
        frame = frame.f_back
    return frame and (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


#: The calls that anomaly mode has noted.
calls: weakref.WeakKeyDictionary[Node, Call] = weakref.WeakKeyDictionary()


def operator_name(node: Node) -> str:
    """Return the name of the operator that a node is a call of, else the node's own."""
    return node.name() if node.operator is None else node.operator.name


def explain(error: Exception, node: Node, user_hook: str | None = None) -> None:
    """Add to an error at a node whose hook raised it, and where its forward was.

    Parameters
    ----------
    error : Exception
        What was raised.
    node : Node
        Where a pass through the graph was.
    user_hook : str, optional
        Which of the functions that users hang on nodes raised it, if it was one of those.
    """
    name = operator_name(node)
    where = _derivative(error, node, name) if user_hook is None else f"{user_hook} of {node.name()}"
    if node.edges:
        error.add_note(f"raised in {where}; {_place(node, name)}")
    else:
        ((shape, dtype),) = node.outputs()
        error.add_note(f"raised in {where}, of a leaf of {dtype} {shape}")


def _derivative(error: Exception, node: Node, name: str) -> str:
    hook = _hook(error.__traceback__, node)
    inputs = ", ".join(map(repr, _inputs(node, hook)))
    return f"{name}.{hook}, for input {inputs}" if inputs else f"the backward of {name}"


def _place(node: Node, name: str) -> str:
    call = calls.get(node)
    if call is not None:
        return str(call)
    if node.caller is None:
        return (
            f"to see where {name} was called, do forward and backward inside "
            "`with opgrad.autograd.detect_anomaly():`"
        )
    (line,) = traceback.StackSummary.from_list([(*node.caller, None)]).format()
    return (
        f"{name} was called here (to see from where, do forward and backward inside "
        f"`with opgrad.autograd.detect_anomaly():`):\n{line.rstrip()}"
    )


def _hook(trace: TracebackType | None, node: Node) -> str | None:
    """Return the hook that is the first of the node's operator in a traceback."""
    if node.operator is None:
        return None
    codes = {
        getattr(inspect.unwrap(function), "__code__", None): name
        for name, function in node.operator.contract.hooks.items()
        if name.startswith(("backward", "jvp"))
    }
    frames = (frame.f_code for frame, _ in traceback.walk_tb(trace))
    return next((codes[code] for code in frames if code in codes), None)


def _inputs(node: Node, hook: str | None) -> Iterator[str]:
    """Give the names of the inputs whose gradients a hook returns."""
    if node.operator is not None:
        contract = node.operator.contract
        named = zip(contract.inputs, contract.sources, contract.jvps, strict=True)
        yield from (name for name, *hooks in named if hook is not None and hook in hooks)
