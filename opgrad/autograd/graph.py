"""The names of ``torch.autograd.graph``: nodes, gradient edges, hooks of the graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opgrad.graph import GradientEdge, Node
from opgrad.handles import RemovableHandle
from opgrad.hooks import edge_of, register_multi_grad_hook
from opgrad.operands import describe
from opgrad.saving import disable_saved_tensors_hooks, save_to_disk, saved_tensors_hooks
from opgrad.stamps import next_sequence, stamp
from opgrad.tensor import Tensor

__all__ = [
    "GradientEdge",
    "Node",
    "RemovableHandle",
    "disable_saved_tensors_hooks",
    "get_gradient_edge",
    "increment_version",
    "register_multi_grad_hook",
    "save_to_disk",
    "saved_tensors_hooks",
]


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """Return where in the graph the gradient of a tensor arrives.

    `opgrad.autograd.grad` and `opgrad.autograd.backward` take an edge in the place of a tensor, so
    that gradients can be asked for after the tensor, and its memory, are gone. An edge stays valid
    after the graph's saved values are freed.

    Parameters
    ----------
    tensor : Tensor
        Requires grad.

    Returns
    -------
    GradientEdge

    Raises
    ------
    GraphError
        If the tensor does not require grad.

    Examples
    --------
    >>> import opgrad
    >>> x = opgrad.tensor([1.0, 2.0], requires_grad=True)
    >>> hidden = x * 2
    >>> edge = opgrad.autograd.graph.get_gradient_edge(hidden)
    >>> loss = (hidden**2).sum()
    >>> del hidden
    >>> opgrad.autograd.grad(loss, edge)
    (tensor([4., 8.]),)
    """
    return GradientEdge(*edge_of(tensor, "get_gradient_edge"))


def increment_version(tensor: Tensor | Iterable[Tensor]) -> None:
    """Note that the memory of one tensor, or of several, was written to.

    Operations in place note it by themselves. This is for writes that opgrad cannot see, such as
    those to ``tensor.data``: a backward which needs the old values is then an error.

    Parameters
    ----------
    tensor : Tensor or iterable of Tensor
        What was written to.

    Raises
    ------
    TypeError
        If it is anything else.

    Examples
    --------
    >>> import opgrad
    >>> x = opgrad.ones(3)
    >>> x.data[0] = 5
    >>> opgrad.autograd.graph.increment_version(x)
    >>> x._version
    1
    """
    given: Any = tensor
    given = [given] if isinstance(given, Tensor) or not isinstance(given, Iterable) else [*given]
    for each in given:
        if not isinstance(each, Tensor):
            msg = f"increment_version: got {describe(each)}; expected a tensor, or several"
            raise TypeError(msg)
    for each in given:
        stamp(each.data, "increment_version", next_sequence())
