"""`checkpoint`: keep nothing of a call for its backward pass, and do it again there."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import creation, engine
from opgrad.graph import AccumulateGrad, Edge, GraphError, Node, input_metadata, metadata_of
from opgrad.modes import enable_grad
from opgrad.operands import describe
from opgrad.stamps import next_sequence, written_since
from opgrad.tensor import Tensor
from opgrad.trees import leaves, rebuild

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


def checkpoint(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function, save nothing for the backward pass, and call it again in there.

    That trades time for memory: of the arrays that the function computes, only what it returns is
    kept. Gradients reach its arguments and all that it uses beside them, derivatives of every
    order among them.

    Parameters
    ----------
    func : callable
        Must do the same at the second call as at the first, and write to nothing. Random numbers
        of opgrad's generator are repeated.
    *args, **kwargs
        What it is called with, of any kind.

    Returns
    -------
    object
        What `func` returns.

    Raises
    ------
    GraphError
        If `func` writes to one of its arguments in place; in the backward pass, if the second
        call does not repeat the first, or an argument was written to since.

    Examples
    --------
    >>> import opgrad
    >>> x = opgrad.tensor([1.0, 2.0], requires_grad=True)
    >>> y = opgrad.func.checkpoint(lambda x: opgrad.exp(x) * opgrad.exp(-x) * x, x)
    >>> y
    tensor([1., 2.], grad_fn=<CheckpointBackward0>)
    >>> y.sum().backward()
    >>> x.grad
    tensor([1., 1.])
    """
    random, since = creation._random().bit_generator.state, next_sequence()
    value = func(*args, **kwargs)
    outputs = _computed(value, since)
    edges = _entries(outputs, since)
    if not edges:
        return value
    arrays = _arrays((args, kwargs), edges)
    for array in arrays:
        if stamp := written_since(array, since):
            msg = (
                f"checkpoint: {stamp.writer!r} wrote to {describe(array)}, which func was given; "
                "the second call, in the backward pass, would not be the same. Write to a clone() "
                "instead, or not in place."
            )
            raise GraphError(msg)
    call = _Call(func, args, kwargs, edges, random)
    node = CheckpointBackward0(edges, (call, arrays), [metadata_of(x._data) for x in outputs])
    places = {id(output): (node, i) for i, output in enumerate(outputs)}
    made = [
        Tensor(leaf._data, places[id(leaf)]) if id(leaf) in places else leaf
        for _, leaf in leaves(value)
    ]
    return rebuild(value, iter(made))


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that can be repeated."""

    func: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    #: Where what it recorded came from, in the order of `_entries`.
    edges: tuple[Edge, ...]
    random: Any

    def backward(self, grads: Sequence[Any], needs: Sequence[Edge | None]) -> list[Any]:
        """Return the gradients at the edges that are needed, for those of the outputs."""
        # The second call's graph ends in stand-ins, so that the pass through it goes no further.
        # They are made first, since a pass goes from the latest node to the earliest.
        ends: dict[Edge, Edge] = {
            edge: (_StandIn((edge,), (), input_metadata(edge)), 0) for edge in self.edges
        }
        since = next_sequence()
        with _random_numbers_of(self.random), enable_grad():
            value = self.func(*self.args, **self.kwargs)
        outputs = _computed(value, since)
        self._check(outputs, grads, since)
        for node in _inside(outputs, since):
            node.edges = tuple(edge and ends.get(edge, edge) for edge in node.edges)
        roots = [(x._edge, each) for x, each in zip(outputs, grads, strict=True) if x._edge]
        # The node's own edges may lead to the stand-ins of a call around this one.
        places = [need and ends[edge] for edge, need in zip(self.edges, needs, strict=True)]
        record = isinstance(grads[0], Tensor)
        wanted = [place for place in places if place]
        found = engine.walk(roots, keep=record, record=record, wanted=wanted)
        return [place and found[place] for place in places]

    def _check(self, outputs: Sequence[Tensor], grads: Sequence[Any], since: int) -> None:
        shapes, expected = [x.shape for x in outputs], [tuple(each.shape) for each in grads]
        if shapes != expected:
            difference = f"returned arrays of shapes {shapes}, after {expected} at the first"
        elif {*_entries(outputs, since)} != {*self.edges}:
            difference = "computed from other tensors than at the first"
        else:
            return
        msg = (
            f"checkpoint: at its second call, in the backward pass, func {difference}; it must "
            "do the same at both"
        )
        raise GraphError(msg)


@contextmanager
def _random_numbers_of(state: Any) -> Iterator[None]:
    """Repeat the random numbers that followed a state, and then go on as before."""
    generator = creation._random().bit_generator
    before = generator.state
    generator.state = state
    try:
        yield
    finally:
        generator.state = before


class CheckpointBackward0(Node):
    """A call of a function, of which nothing is saved but how to repeat it."""

    __slots__ = ()

    names = ("call", "inputs")
    origins = (None, None)
    saves_arrays = True

    @staticmethod
    def run(grads: Any, *rest: Any) -> Sequence[Any]:
        """Call the function again, and go back through what that records."""
        (call, _arrays), needs = rest
        found: Sequence[Any] = call.backward(grads, needs)
        return found


class _StandIn(Node):
    """The end of one graph and the way on into another."""

    __slots__ = ()

    @staticmethod
    def run(grad: Any, *_: Any) -> Sequence[Any]:
        return (grad,)


def _computed(value: Any, since: int) -> list[Tensor]:
    """Return the tensors in a tree that were recorded after some point in time."""
    found = {
        id(leaf): leaf
        for _, leaf in leaves(value)
        if isinstance(leaf, Tensor) and leaf._edge is not None and leaf._edge[0].sequence < since
    }
    return list(found.values())


def _inside(outputs: Sequence[Tensor], since: int) -> list[Node]:
    """Return the nodes that outputs were computed by after some point in time."""
    found = dict.fromkeys(output._edge[0] for output in outputs if output._edge is not None)
    unseen = list(found)
    while unseen:
        for edge in unseen.pop().edges:
            if edge is not None and edge[0].sequence < since and edge[0] not in found:
                found[edge[0]] = None
                unseen.append(edge[0])
    return list(found)


def _entries(outputs: Sequence[Tensor], since: int) -> tuple[Edge, ...]:
    """Return the edges that lead from nodes after some point in time to those before it."""
    return tuple(
        dict.fromkeys(
            edge
            for node in _inside(outputs, since)
            for edge in node.edges
            if edge is not None and edge[0].sequence > since
        )
    )


def _arrays(arguments: Any, edges: Sequence[Edge]) -> tuple[Any, ...]:
    """Return the arrays that a call reads: those of its arguments, and of the leaves it uses."""
    variables = [node.variable for node, _ in edges if isinstance(node, AccumulateGrad)]
    given = [*variables, *(leaf for _, leaf in leaves(arguments))]
    data = (each._data if isinstance(each, Tensor) else each for each in given)
    return tuple({id(each): each for each in data if isinstance(each, np.ndarray)}.values())
