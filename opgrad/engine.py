"""The backward pass: one iterative walk over the graph, latest call first.

Sequence numbers count down: every node has a lower one than the nodes that its inputs came
from. So a heap of them visits each node after everything that depends on it, without counting
dependencies beforehand, without recursion, and always in the same order.
"""

from __future__ import annotations

import functools
import sys
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from opgrad import hooks
from opgrad.blame import explain, operator_name
from opgrad.graph import AccumulateGrad, Edge, GraphError, Node, Run, input_metadata, runners
from opgrad.modes import enable_grad, grad_enabled, in_inference
from opgrad.namespaces import namespace
from opgrad.stamps import stamps
from opgrad.variable import SCALARS, Metadata, Variable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from opgrad.handles import Hooks


@np.errstate(all="ignore")  # the derivative at a singular point is inf or nan: no news
def walk(  # noqa: PLR0912, PLR0915 - the hot loop: what is taken out of it is paid for at each node
    roots: Sequence[tuple[Edge, Any]],
    *,
    keep: bool = False,
    record: bool = False,
    wanted: Collection[Edge] | None = None,
    accumulate: bool = False,
) -> dict[Edge, Any]:
    """Carry gradients from the roots to the leaves, or to the edges that are wanted.

    Parameters
    ----------
    roots : sequence of (edge, gradient)
        Where to begin; gradients are in the graph's convention (see `variable.conjugate`).
    keep : bool
        Keep the saved values for another pass.
    record : bool
        Give the formulas tensors instead of arrays, so that the pass is itself recorded.
    wanted : collection of edges, optional
        Return what arrives at these edges, and go nowhere else.
    accumulate : bool
        Accumulate at those of the wanted edges that are leaves' all the same.

    Returns
    -------
    dict
        The gradient at each wanted edge that the roots depend on.
    """
    if record and not (grad_enabled() or in_inference()):
        with enable_grad():
            return walk(roots, keep=keep, record=True, wanted=wanted, accumulate=accumulate)
    special = None if wanted is None else Walk(roots, record, wanted, accumulate)
    pending: dict[int, list[Any]] = {}
    ready: list[int] = []
    scalar_metadata, array = SCALARS.get, np.ndarray
    for edge, grad in roots:
        _arrive(pending, ready, edge, grad)
    while ready:
        # `grad` must be the only name that holds the gradient when it reaches a leaf.
        node, grad = pending.pop(heappop(ready))
        edges, hooked = node.edges, node.hooks is not None
        if hooked or special is not None:
            special = special or Walk(roots, record)
            grad, edges = special.visit(node, grad)
            if edges is None:
                continue
        if not edges:  # only a leaf's node leads nowhere
            node.accumulate(grad)
            if hooked:
                hooks.accumulated(node, grad, record)
            continue
        try:
            saved = None if record or stamps else node._saved
            if type(saved) is not tuple:
                saved = node.tensors() if record else node.arrays()
            if type(node.metadata) is list:
                grad = _completed(node, grad, record)
            run = _watched(node) if runners else node.run
            grads = run(grad, saved, edges)
        except Exception as error:
            explain(error, node)
            raise
        if node.saves_arrays and not keep:
            node._saved = None
        if hooked and cast("Hooks", node.hooks).post:
            grads = hooks.after(node, _conformed(node, edges, grads, record), grad, record)
        for edge, grad in zip(edges, grads):  # noqa: B905 - `run` gives one for each edge
            if edge is None:
                continue
            target = edge[0]
            metadata = target.metadata
            several = type(metadata) is list
            if several:
                metadata = metadata[edge[1]]
            if record or (
                grad.dtype is not metadata[1] or grad.shape != metadata[0]
                if type(grad) is array
                else scalar_metadata(type(grad)) is not metadata
            ):
                grad = conform(grad, metadata, node, grads, record)
                if grad is None:
                    continue
            key = target.sequence
            if several:
                _arrive(pending, ready, edge, grad)
            elif key in pending:
                waiting = pending[key]
                waiting[1] = waiting[1] + grad
            else:
                pending[key] = [target, grad]
                heappush(ready, key)
        grad = grads = None
    return special.found if special else {}


class Walk:
    """What a walk has to do beside carrying gradients from calls to leaves.

    Attributes
    ----------
    found : dict
        The gradients that came to wanted edges.
    """

    __slots__ = (
        "__weakref__",
        "_accumulate",
        "_reached",
        "_record",
        "_roots",
        "_useful",
        "_wanted",
        "found",
    )

    def __init__(
        self,
        roots: Sequence[tuple[Edge, Any]],
        record: bool,
        wanted: Collection[Edge] | None = None,
        accumulate: bool = False,
    ) -> None:
        self.found: dict[Edge, Any] = {}
        self._roots = roots
        self._record = record
        self._wanted = wanted
        self._accumulate = accumulate
        self._useful = set() if wanted is None else nodes_towards(wanted, roots)
        self._reached: set[Edge] = set()

    def visit(self, node: Node, grad: Any) -> tuple[Any, Any]:
        """Call hooks, and take what is wanted, where a gradient has come to a node.

        Returns
        -------
        gradient, edges
            What to go on with and along which edges; None for the edges where the walk ends.
        """
        edges, wanted = node.edges, self._wanted
        runs, leaf = True, isinstance(node, AccumulateGrad)
        if wanted is not None:
            edges = _only(edges, self._useful)
            leaf = leaf and self._accumulate and (node, 0) in wanted  # a root need not be
            runs = leaf or any(edges)
        if node.hooks is not None:
            grad = hooks.before(node, grad, self._record, self, runs)
        if wanted is not None and not leaf:
            _capture(self.found, wanted, node, grad)
        return grad, edges if runs else None

    def reaches(self, edge: Edge) -> bool:
        """Tell whether a gradient will come, or has come, to an output of a node."""
        if not self._reached:
            nodes = _reachable(self._roots)
            if self._wanted is not None:
                nodes &= self._useful
            edges = {edge for edge, _ in self._roots}.union(*(node.edges for node in nodes))
            self._reached = {edge for edge in edges if edge is not None and edge[0] in nodes}
        return edge in self._reached


def _arrive(pending: dict[int, list[Any]], ready: list[int], edge: Edge, grad: Any) -> None:
    """Add a gradient to what waits at an edge, with one place for each of several outputs."""
    node, output_nr = edge
    key = node.sequence
    if key not in pending:
        pending[key] = [node, None]
        heappush(ready, key)
    waiting = pending[key]
    if type(node.metadata) is list:
        if waiting[1] is None:
            waiting[1] = [None] * len(node.metadata)
        waiting, place = waiting[1], output_nr
    else:
        place = 1
    waiting[place] = grad if waiting[place] is None else waiting[place] + grad


def _completed(node: Node, grads: list[Any], record: bool) -> tuple[Any, ...]:
    """Put zeros where nothing depended on one of several outputs."""
    if node.optional_gradients:
        return tuple(grads)
    made = [
        np.zeros(*metadata) if grad is None else grad
        for grad, metadata in zip(grads, node.outputs(), strict=True)
    ]
    return tuple(as_tensor(grad) for grad in made) if record else tuple(made)


def as_tensor(grad: Any) -> Any:
    """Return an array as a tensor without history; a tensor as it is."""
    return grad if isinstance(grad, Variable) else Variable.kind(grad)


def nodes_towards(wanted: Collection[Edge], roots: Sequence[tuple[Edge, Any]]) -> set[Node]:
    """Return the nodes from which a wanted edge can be reached."""
    # What is older than the oldest of them (numbers count down) leads to none of them.
    oldest = max((node.sequence for node, _ in wanted), default=0)
    useful = {node for node, _ in wanted}
    reachable = _reachable(roots, oldest)
    for node in sorted(reachable, key=lambda node: node.sequence, reverse=True):
        if any(edge is not None and edge[0] in useful for edge in node.edges):
            useful.add(node)
    return useful


def _reachable(roots: Sequence[tuple[Edge, Any]], oldest: int = 0) -> set[Node]:
    """Return the nodes that gradients come to from the roots, those not older than some point."""
    reachable = {edge[0] for edge, _ in roots}
    unseen = list(reachable)
    while unseen:
        for edge in unseen.pop().edges:
            if edge is not None and edge[0].sequence <= oldest and edge[0] not in reachable:
                reachable.add(edge[0])
                unseen.append(edge[0])
    return reachable


def _only(edges: tuple[Edge | None, ...], useful: set[Node]) -> tuple[Edge | None, ...]:
    return tuple(edge if edge is not None and edge[0] in useful else None for edge in edges)


def _capture(found: dict[Edge, Any], wanted: Collection[Edge], node: Node, grad: Any) -> None:
    grads = grad if type(node.metadata) is list else [grad]
    for output_nr, each in enumerate(grads):
        if each is not None and (node, output_nr) in wanted:
            found[node, output_nr] = each


def _watched(node: Node) -> Callable[..., Sequence[Any]]:
    """Return a node's backward with every one of `runners` around it."""

    def run(grad: Any, saved: Any, needs: Sequence[Edge | None]) -> Sequence[Any]:
        call: Run = functools.partial(type(node).run, grad, saved, needs)
        for runner in list(runners):
            call = functools.partial(runner, node, needs, call)
        return call()

    return run


def conform(grad: Any, metadata: Metadata, node: Node, grads: Sequence[Any], record: bool) -> Any:
    """Sum a gradient over the broadcast axes of its input and cast it to the input's dtype.

    Raises
    ------
    GraphError
        If the gradient is not an array, or its shape is not one that the input broadcasts to.
    """
    if grad is None and node.optional_gradients:
        return None
    made = grad._data if isinstance(grad, Variable) and not record else grad
    if not hasattr(made, "shape") or not hasattr(made, "dtype"):
        _misfit(node, grads, grad, f"a {type(grad).__name__}", metadata)
    if record:
        made = as_tensor(made)
    shape, dtype = metadata
    if made.shape != shape:
        axes = _broadcast_axes(tuple(made.shape), shape)
        if axes is None:
            _misfit(node, grads, grad, f"shape {tuple(made.shape)}", metadata)
        xp = namespace(made)
        made = xp.sum(made, axis=axes)
        if made.shape != shape:
            made = xp.reshape(made, shape)
    if made.dtype != dtype:
        if made.dtype.kind == "c" and dtype.kind != "c":
            made = namespace(made).real(made)
        made = made.astype(dtype)
    return made


def _conformed(
    node: Node, edges: Sequence[Edge | None], grads: Sequence[Any], record: bool
) -> list[Any]:
    return [
        None if edge is None else conform(grad, input_metadata(edge), node, grads, record)
        for edge, grad in zip(edges, grads, strict=True)
    ]


@functools.lru_cache(maxsize=4096)
def _broadcast_axes(shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the axes along which `target` was repeated to give `shape`; None if it was not."""
    added = len(shape) - len(target)
    if added < 0 or any(
        want not in (1, got) for got, want in zip(shape[added:], target, strict=True)
    ):
        return None
    repeated = [added + i for i, want in enumerate(target) if want != shape[added + i]]
    return (*range(added), *repeated)


def _misfit(node: Node, grads: Sequence[Any], grad: Any, got: str, metadata: Metadata) -> None:
    index = next(
        i
        for i, (each, edge) in enumerate(zip(grads, node.edges, strict=True))
        if each is grad and edge is not None and input_metadata(edge) is metadata
    )
    hook, name = node.source_of(index)
    shape, dtype = metadata
    msg = (
        f"{operator_name(node)}.{hook} returned {got} as the gradient of input {name!r}; expected "
        f"an array of shape {shape} (the input's, dtype {dtype}) or of a shape that it "
        "broadcasts to. Correct the hook's formula."
    )
    error = GraphError(msg)
    explain(error, node)
    raise error


# --------------------------------------------------------------- who else holds a gradient


class _Probe(AccumulateGrad):
    """A leaf that notes the reference count of what reaches it."""

    __slots__ = ()

    def accumulate(self, grad: Any) -> None:
        AccumulateGrad.unshared = sys.getrefcount(grad)


class _Source(Node):
    """A node whose gradient nobody else holds."""

    __slots__ = ()

    @staticmethod
    def run(*_: Any) -> Sequence[Any]:
        return (np.zeros(1),)


def _count_references() -> None:
    """Measure what `AccumulateGrad.accumulate` sees: it differs among Python versions."""
    end = _Probe(Variable(np.zeros(1)))
    source = _Source(((end, 0),), (), end.metadata)
    walk([((source, 0), np.zeros(1))])


_count_references()
