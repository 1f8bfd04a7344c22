"""`checkpoint`: keep nothing of a call for its backward pass, and do it again there."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import engine
from opgrad.draws import noted, repeated
from opgrad.graph import AccumulateGrad, Edge, GraphError, Node, check_fresh, input_metadata
from opgrad.levels import outside, refuse_in_vmap
from opgrad.modes import enable_grad
from opgrad.operands import describe
from opgrad.recording import first_calls, insist_on_function, repeating
from opgrad.stamps import next_sequence, owner, written_since
from opgrad.tensor import Tensor
from opgrad.trees import leaves, rebuild
from opgrad.variable import metadata_of
from opgrad.views import view_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from opgrad.draws import Draws


def checkpoint(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function, save nothing for the backward pass, and call it again in there.

    That trades time for memory: of the arrays that the function computes, only what it returns is
    kept. Gradients reach its arguments and all that it uses beside them, derivatives of every
    order among them.

    Parameters
    ----------
    func : callable
        Must do the same at the second call as at the first, and write to nothing. Random numbers
        of opgrad's generator are repeated, as far as they are drawn in the thread of the call.
    *args, **kwargs
        What it is called with, of any kind.

    Returns
    -------
    object
        What `func` returns. Tensors that share memory with an argument, with each other or with
        what `func` encloses are copied.

    Raises
    ------
    TypeError
        If `func` is no function.
    GraphError
        If `func` writes to one of its arguments in place; in the backward pass, if the second
        call does not repeat the first, or an argument or a tensor that `func` encloses was written
        to since.

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
    insist_on_function("checkpoint", func)
    refuse_in_vmap("checkpoint", "the second call would come when vmap is over; put it around vmap")
    since, given = next_sequence(), _data_of(_held((func, args, kwargs)))
    with noted() as draws:
        value = func(*args, **kwargs)
    outputs = _computed(value, since)
    edges = _entries(outputs, since)
    if not edges:
        return value
    given += _data_of(node.variable for node, _ in edges if isinstance(node, AccumulateGrad))
    arrays = tuple({id(data): data for _, data in given if isinstance(data, np.ndarray)}.values())
    for array in arrays:
        if stamp := written_since(array, since):
            msg = (
                f"checkpoint: {stamp.writer!r} wrote to {describe(array)}, which func was given; "
                "the second call, in the backward pass, would not be the same. Write to a clone() "
                "instead, or not in place."
            )
            raise GraphError(msg)
    _check_unchanged(given)
    shapes = [x.shape for x in outputs]
    times = (*first_calls(), next_sequence())
    call = _Call(func, args, kwargs, edges, draws, shapes, given, times)
    node = CheckpointBackward0(edges, (call, arrays), [metadata_of(x._data) for x in outputs])
    made = {
        id(output): Tensor(data, (node, i))
        for i, (output, data) in enumerate(zip(outputs, _own(outputs, arrays), strict=True))
    }
    return rebuild(value, (made.get(id(leaf), leaf) for _, leaf in leaves(value)))


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that can be repeated."""

    func: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    #: Where what it recorded came from, in the order of `_entries`.
    edges: tuple[Edge, ...]
    #: Its random numbers.
    draws: Draws
    #: The shapes of what it returned.
    shapes: list[tuple[int, ...]]
    #: The tensors and arrays that it reads, each with its data at the first call.
    given: Sequence[tuple[Any, Any]]
    #: When that was, after when the calls were first made that it was in the repetition of.
    times: tuple[int, ...]

    def backward(self, grads: Sequence[Any], needs: Sequence[Edge | None]) -> list[Any]:
        """Return the gradients at the edges that are needed, for those of the outputs."""
        for _, data in self.given:
            check_fresh(data, self.times[-1], CheckpointBackward0.__name__, "inputs")
        _check_unchanged(self.given)
        # The second call's graph ends in stand-ins, so that the pass through it goes no further.
        # They are made first, since a pass goes from the latest node to the earliest.
        ends: dict[Edge, Edge] = {
            edge: (_StandIn((edge,), (), input_metadata(edge)), 0) for edge in self.edges
        }
        since = next_sequence()
        # It was called outside of vmap, and the pass may be inside.
        with outside(), repeated(self.draws), repeating(self.times), enable_grad():
            value = self.func(*self.args, **self.kwargs)
        outputs = _computed(value, since)
        self._check(outputs, since)
        for node in _inside(outputs, since):
            node.edges = tuple(edge and ends.get(edge, edge) for edge in node.edges)
        pairs = zip(outputs, grads, strict=True)
        roots = [(x._edge, each) for x, each in pairs if x._edge and each is not None]
        # The node's own edges may lead to the stand-ins of a call around this one.
        places = [need and ends[edge] for edge, need in zip(self.edges, needs, strict=True)]
        record = any(isinstance(each, Tensor) for each in grads)
        wanted = [place for place in places if place]
        found = engine.walk(roots, keep=record, record=record, wanted=wanted)
        return [place and found.get(place) for place in places]

    def _check(self, outputs: Sequence[Tensor], since: int) -> None:
        shapes = [x.shape for x in outputs]
        if shapes != self.shapes:
            difference = f"returned arrays of shapes {shapes}, after {self.shapes} at the first"
        elif {*_entries(outputs, since)} != {*self.edges}:
            difference = "computed from other tensors than at the first"
        else:
            return
        msg = (
            f"checkpoint: at its second call, in the backward pass, func {difference}; it must "
            "do the same at both"
        )
        raise GraphError(msg)


class CheckpointBackward0(Node):
    """A call of a function, of which nothing is saved but how to repeat it."""

    __slots__ = ()

    names = ("call", "inputs")
    origins = (None, None)
    saves_arrays = True
    optional_gradients = True

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


def _held(call: Any) -> Iterator[Any]:
    """Give what a call can read: the leaves of its arguments, and what its function encloses."""
    func, *arguments = call
    yield from (leaf for _, leaf in leaves(arguments))
    for cell in getattr(func, "__closure__", None) or ():
        with suppress(ValueError):  # of a name that has no value yet
            yield cell.cell_contents


def _data_of(values: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Return those of some values that are tensors or arrays, each with its data."""
    return [
        (each, each._data if isinstance(each, Tensor) else each)
        for each in values
        if isinstance(each, Tensor | np.ndarray)
    ]


def _check_unchanged(given: Sequence[tuple[Any, Any]]) -> None:
    """Insist that tensors have the data that they had: without axes, that is no array to stamp."""
    for (_, then), (_, now) in zip(given, _data_of(each for each, _ in given), strict=True):
        same = now is then or (isinstance(then, np.generic) and now.tobytes() == then.tobytes())
        if not same:
            msg = (
                f"checkpoint: {describe(then)}, which func uses, was changed since it was called; "
                "the second call, in the backward pass, would not be the same. Write to a clone() "
                "instead, or not in place."
            )
            raise GraphError(msg)


def _own(outputs: Sequence[Tensor], given: Sequence[Any]) -> Iterator[Any]:
    """Give the data of outputs, copied where it shares memory with anything else."""
    taken = {id(owner(array)) for array in given}
    for output in outputs:
        data = output._data
        if isinstance(data, np.ndarray):
            shared = view_of(output) is not None or id(owner(data)) in taken
            data = data.copy() if shared else data
            taken.add(id(owner(data)))
        yield data
