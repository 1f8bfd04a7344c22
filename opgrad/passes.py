"""A backward pass as it is asked for: what is passed in and what comes out; `engine` walks."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from opgrad import hooks
from opgrad.engine import as_tensor, walk
from opgrad.graph import Edge, GradientEdge, GraphError, Node, input_metadata
from opgrad.levels import levels
from opgrad.operands import describe
from opgrad.variable import Variable, conjugate, metadata_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opgrad.tensor import Tensor


def backward(
    outputs: Sequence[Tensor],
    gradients: Sequence[Any] | None = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Add the gradients of `outputs` to the ``.grad`` of the leaves, or of `inputs` instead."""
    _insist_on_tensors("backward: tensors", outputs)
    _insist_on_tensors("backward: inputs", inputs or ())
    if levels():
        from opgrad.example_gradients import roots_of_all

        roots = roots_of_all(outputs, gradients, create_graph, inputs)
    else:
        roots = _roots(outputs, gradients, "backward", create_graph)
    keep = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        walk(roots, keep=keep, record=create_graph)
        return
    if not inputs:
        msg = "backward: inputs is empty; name the tensors to accumulate into, or pass None for all"
        raise ValueError(msg)
    ends = {_edge(each, "backward") for each in inputs}
    for each in inputs:
        hooks.keep(each)  # which leaves a leaf as it is
    walk(roots, keep=keep, record=create_graph, wanted=ends, accumulate=True)


def grad(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    gradients: Sequence[Any] | None = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `outputs` with respect to `inputs`; nothing is accumulated."""
    _insist_on_tensors("grad: outputs", outputs)
    _insist_on_tensors("grad: inputs", inputs)
    if not inputs:
        msg = "grad: inputs is empty; name the tensors to differentiate with respect to"
        raise ValueError(msg)
    keep = create_graph if retain_graph is None else retain_graph
    if levels():
        from opgrad.example_gradients import gradients as of_examples

        return of_examples(outputs, inputs, gradients, keep, create_graph, allow_unused)
    roots = _roots(outputs, gradients, "grad", create_graph)
    return gradients_at(inputs, roots, keep, create_graph, allow_unused)


def gradients_at(
    inputs: Sequence[Tensor],
    roots: Sequence[tuple[Edge, Any]],
    keep: bool,
    record: bool,
    allow_unused: bool,
) -> tuple[Tensor | None, ...]:
    """Return the gradients with respect to `inputs`, of a walk that begins at the roots."""
    ends = [_edge(each, "grad") for each in inputs]
    found = walk(roots, keep=keep, record=record, wanted=set(ends))
    unused = [i for i, edge in enumerate(ends) if edge not in found]
    if unused and not allow_unused:
        msg = (
            f"grad: the outputs do not depend on inputs[{unused[0]}]. Pass allow_unused=True to "
            "get None for it, or materialize_grads=True to get zeros."
        )
        raise GraphError(msg)
    return tuple(_result(found[edge], edge) if edge in found else None for edge in ends)


def _result(grad: Any, edge: Edge) -> Tensor:
    """Return a gradient for the caller to keep, in memory of its own."""
    grad = conjugate(grad, input_metadata(edge))
    if not isinstance(grad, Variable):
        return Variable.kind(grad.copy())
    made = cast("Tensor", grad)
    # A leaf's copy is a result; the copy of a result is the same result.
    if made.is_leaf or made._hidden:
        return made.clone()
    return Variable.kind(made._data.copy(), made._edge)


def several(given: Any) -> list[Any]:
    """Return one tensor, array, number or gradient edge, or several, as a list.

    In the place of a gradient edge stands a tensor that has it, and whose values mean nothing.
    """
    single = isinstance(given, GradientEdge) or hasattr(given, "dtype")
    return list(map(_placed, [given] if single or not isinstance(given, Iterable) else given))


def _placed(given: Any) -> Any:
    if not isinstance(given, GradientEdge):
        return given
    node: object = given.node  # whatever it was made of
    output_nr = given.output_nr
    if not isinstance(node, Node) or output_nr not in range(len(node.outputs())):
        msg = (
            f"{given} is no place in a graph; expected a node, and the number of one of its "
            "outputs. opgrad.autograd.graph.get_gradient_edge(tensor) gives the edge of a tensor"
        )
        raise ValueError(msg)
    shape, dtype = input_metadata(given)
    return Variable.kind(np.broadcast_to(np.zeros((), dtype), shape), (given.node, given.output_nr))


def _insist_on_tensors(where: str, given: Sequence[Any]) -> None:
    for index, each in enumerate(given):
        if not isinstance(each, Variable):
            msg = (
                f"{where}[{index}] is {describe(each)}; expected a tensor that requires grad, or "
                "an edge from opgrad.autograd.graph.get_gradient_edge(tensor)"
            )
            raise TypeError(msg)


def _edge(tensor: Tensor, caller: str) -> Edge:
    return tensor._edge or refuse(caller, "inputs")


def refuse(caller: str, argument: str) -> NoReturn:
    """Refuse to go back from, or to, what has no graph."""
    msg = (
        f"{caller}: one of the {argument} does not require grad and was not computed from "
        "anything that does, so there is no graph to go through. Set requires_grad=True on the "
        "leaves before computing, and check that no detach() or no_grad() cuts the path."
    )
    raise GraphError(msg)


def _roots(
    outputs: Sequence[Tensor], gradients: Sequence[Any] | None, caller: str, record: bool
) -> list[tuple[Edge, Any]]:
    return [root(*pair, caller, record) for pair in with_gradients(outputs, gradients, caller)]


def with_gradients(
    outputs: Sequence[Tensor], gradients: Sequence[Any] | None, caller: str
) -> list[tuple[Tensor, Any]]:
    """Return each output with the gradient that is given for it, or None."""
    if gradients is None:
        gradients = [None] * len(outputs)
    if len(gradients) != len(outputs):
        msg = f"{caller}: got {len(gradients)} gradients, expected {len(outputs)}, one per output"
        raise ValueError(msg)
    return list(zip(outputs, gradients, strict=True))


def root(output: Tensor, gradient: Any, caller: str, record: bool) -> tuple[Edge, Any]:
    """Return where a walk begins: the edge of an output, and the gradient there."""
    edge = output._edge
    if edge is None:
        refuse(caller, "outputs")
    return edge, seed_for(output._data, gradient, caller, record)


def seed_for(data: Any, gradient: Any, caller: str, record: bool) -> Any:
    """Return the gradient to begin with, by default one, for real outputs of one element only.

    Parameters
    ----------
    data : ndarray
        What it is the gradient of; its values do not matter.
    gradient : array_like or None
        As it was passed in.
    caller : str
        For messages.
    record : bool
        Whether the pass is recorded, and begins with a tensor.
    """
    if gradient is None and data.size == 1 and data.dtype.kind == "f":
        one = _one(data.shape, data.dtype)
        return Variable.kind(one) if record else one
    shape, dtype = metadata = metadata_of(data)
    if gradient is None:
        msg = (
            f"{caller}: the output has shape {shape} and dtype {dtype}; only a real output of one "
            "element has a gradient by itself. Pass the gradient, an array of that shape, or "
            "reduce the output first, for example with abs() and sum()."
        )
        raise GraphError(msg)
    seed: Any = as_tensor(gradient if isinstance(gradient, Variable) else np.asarray(gradient))
    if seed.dtype.kind not in "biufc":
        msg = f"{caller}: the gradient is a {type(gradient).__name__}; expected numbers"
        raise TypeError(msg)
    if seed.shape != shape:
        msg = (
            f"{caller}: the gradient has shape {seed.shape}, the output has shape "
            f"{shape}; pass a gradient of the output's shape."
        )
        raise GraphError(msg)
    if seed.dtype.kind == "c" and dtype.kind != "c":
        msg = f"{caller}: got a complex gradient for an output of dtype {dtype}; pass a real one"
        raise GraphError(msg)
    if seed.dtype != dtype:
        seed = seed.astype(dtype)
    return conjugate(seed if record else seed._data, metadata)


@functools.cache
def _one(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Return the gradient of an output of one element with respect to itself."""
    if shape == ():
        return dtype.type(1)
    one = np.ones(shape, dtype)
    one.flags.writeable = False
    return one
