"""The forward pass of tangents: one walk over the graph, earliest call first.

A recorded graph has all that is needed to carry tangents from its inputs to its outputs. What a
call does to the tangents of its inputs says its operator's ``jvp`` hook. Where there is none, the
backward says it: it is linear in the gradient, and the transpose of a transpose is the map itself.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opgrad.blame import explain
from opgrad.engine import conform, nodes_towards, walk
from opgrad.graph import AccumulateGrad, Edge, GraphError, Node, input_metadata, zeros
from opgrad.levels import outside
from opgrad.modes import enable_grad
from opgrad.namespaces import namespace
from opgrad.variable import Metadata, Variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


_transposing: ContextVar[bool] = ContextVar("opgrad_transposing", default=False)

#: Tells a backward that it is going to be differentiated, so that all of it has to be recorded.
is_transposing = _transposing.get


def push(
    outputs: Sequence[Edge], tangents: Mapping[Edge, Any], *, record: bool = False
) -> list[Any]:
    """Carry tangents from some edges of the graph to others.

    Parameters
    ----------
    outputs : sequence of edges
        Where to carry them.
    tangents : mapping of edges to arrays
        What the inputs change by: arrays of their shapes and dtypes; tensors if `record`.
    record : bool
        Give the formulas tensors instead of arrays, so that the pass is itself recorded.

    Returns
    -------
    list
        What each output changes by; None where it does not depend on the inputs.
    """
    known = dict(tangents)
    starts = {node for node, _ in tangents}
    useful = nodes_towards(tangents, [(edge, None) for edge in outputs]) - starts
    for node in sorted(useful, key=lambda node: node.sequence, reverse=True):
        inputs = [None if edge is None else known.get(edge) for edge in node.edges]
        try:
            changes = push_through(node, inputs, record=record)
        except Exception as error:
            explain(error, node)
            raise
        for output_nr, tangent in enumerate(changes):
            known[node, output_nr] = tangent
    return [known.get(edge) for edge in outputs]


def push_through(node: Node, tangents: Sequence[Any], *, record: bool = False) -> list[Any]:
    """Return what the outputs of one call change by, for the tangents of its inputs.

    Parameters
    ----------
    node : Node
        The call.
    tangents : sequence
        A tangent for each input, or None where an input does not change.
    record : bool
        As for `push`.
    """
    jvp = type(node).jvp
    if jvp is None:
        return _transposed(node, tangents, record)
    changes = jvp(tangents, node.tensors() if record else node.arrays())
    several = type(node.metadata) is list
    found = zip(*changes, strict=True) if several else [changes]
    return [
        _total(node, parts, metadata, record)
        for parts, metadata in zip(found, node.outputs(), strict=True)
    ]


def _total(node: Node, parts: Sequence[Any], metadata: Metadata, record: bool) -> Any:
    """Add up what the inputs change an output by, each part of a shape that broadcasts to it."""
    shape, dtype = metadata
    total = sum(parts[1:], start=parts[0])
    if not record and isinstance(total, Variable):
        total = total._data
    try:
        if tuple(total.shape) != shape:
            total = namespace(total).broadcast_to(total, shape)
    except (AttributeError, ValueError) as error:
        assert node.operator is not None
        msg = (
            f"{node.operator.name}.jvp returned {getattr(total, 'shape', total)!r} as the tangent "
            f"of the output; expected an array of shape {shape}, or of one that broadcasts to it"
        )
        raise GraphError(msg) from error
    if total.dtype.kind == "c" and dtype.kind != "c":
        total = namespace(total).real(total)
    return total if total.dtype == dtype else total.astype(dtype)


def _transposed(node: Node, tangents: Sequence[Any], record: bool) -> list[Any]:
    """Transpose the backward: differentiate its results, weighted with the tangents, by grad."""
    pairs = zip(node.edges, tangents, strict=True)
    needs = tuple(None if tangent is None else edge for edge, tangent in pairs)
    nothing = [zeros(node, i) for i in range(len(node.outputs()))]
    ends: list[Edge] = [(AccumulateGrad(each), 0) for each in nothing]
    # The map is one for all examples of vmap, though they may differ in their tangents.
    with outside(), enable_grad(), _to_be_transposed():
        seeds = [Variable.kind(each._data, end) for each, end in zip(nothing, ends, strict=True)]
        grad = tuple(seeds) if type(node.metadata) is list else seeds[0]
        found = type(node).run(grad, node.tensors() if record else node.arrays(), needs)
        roots = []
        for edge, result, tangent in zip(needs, found, tangents, strict=True):
            if edge is not None:
                fitting = conform(result, input_metadata(edge), node, found, record=True)
                if fitting is not None and fitting._edge is not None:
                    roots.append((fitting._edge, tangent))
    carried = walk(roots, record=record, wanted=ends)
    unchanged = nothing if record else [each._data for each in nothing]
    return [carried.get(end, same) for end, same in zip(ends, unchanged, strict=True)]


@contextmanager
def _to_be_transposed() -> Iterator[None]:
    token = _transposing.set(True)
    try:
        yield
    finally:
        _transposing.reset(token)
