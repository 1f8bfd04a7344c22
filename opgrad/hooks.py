"""Hooks: functions that see gradients on their way through the graph, and may replace them.

The order at each node: the hooks of the tensors that it made, its pre-hooks, the gradients that are
to be retained; then the node runs; then, at a leaf, the hooks after accumulation, and the node's
post-hooks. A hook that returns None leaves things as they are.
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from opgrad.blame import explain
from opgrad.graph import AccumulateGrad, Edge, GraphError, Node, input_metadata
from opgrad.handles import Hooks, RemovableHandle
from opgrad.levels import refuse, refuse_in_vmap
from opgrad.modes import set_grad_enabled
from opgrad.operands import describe
from opgrad.variable import Metadata, Variable, conjugate, metadata_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opgrad.engine import Walk
    from opgrad.handles import Hook
    from opgrad.tensor import Tensor

#: The walk that is calling hooks.
_walk: ContextVar[Walk] = ContextVar("opgrad_walk_with_hooks")


def before(node: Node, grad: Any, record: bool, walk: Walk, runs: bool) -> Any:
    """Call what is due at a node, and before it runs if it does; return the gradient to go on."""
    outputs = node.outputs()
    several = type(node.metadata) is list
    grads = [
        _shown(each, metadata)
        for each, metadata in zip(grad if several else [grad], outputs, strict=True)
    ]
    token = _walk.set(walk)
    try:
        with set_grad_enabled(record):
            _see(node, grads, runs)
    finally:
        _walk.reset(token)
    made = [_taken(each, metadata, record) for each, metadata in zip(grads, outputs, strict=True)]
    return made if several else made[0]


def _see(node: Node, grads: list[Any], runs: bool) -> None:
    outputs = node.outputs()
    for output_nr, hooks in list(Hooks.of(node).tensor.items()):
        for hook in list(hooks.values()):
            if grads[output_nr] is not None:
                new = _call(f"a tensor hook of output {output_nr}", node, hook, grads[output_nr])
                _replace(node, grads, output_nr, new, outputs[output_nr])
    for hook in list(Hooks.of(node).pre.values() if runs else ()):
        _replace_all(node, grads, _call("a pre-hook", node, hook, tuple(grads)), outputs)
    for output_nr, reference in list(Hooks.of(node).kept.items()):
        if (tensor := reference()) is not None and grads[output_nr] is not None:
            held, new = tensor._grad, grads[output_nr]
            if new._hidden:
                refuse("retain_grad", "the gradient differs among the examples")
            tensor._grad = new.clone() if held is None else held + new


def accumulated(node: AccumulateGrad, grad: Any, record: bool) -> None:
    """Call what is due after a gradient was added to a leaf's."""
    with set_grad_enabled(record):
        for hook in list(Hooks.of(node).after_accumulation.values()):
            if (leaf := node.variable) is not None:
                _call("a post-accumulate-grad hook", node, hook, leaf)
        for hook in list(Hooks.of(node).post.values()):
            _call("a post-hook", node, hook, (), (_shown(grad, node.outputs()[0]),))


def after(node: Node, grads: Sequence[Any], grad: Any, record: bool) -> Sequence[Any]:
    """Call what is due after a node has run; return the gradients of its inputs."""
    expected = [None if edge is None else input_metadata(edge) for edge in node.edges]
    inputs = [
        None if metadata is None else _shown(each, metadata)
        for each, metadata in zip(grads, expected, strict=True)
    ]
    arrived = grad if type(node.metadata) is list else [grad]
    outputs = tuple(map(_shown, arrived, node.outputs()))
    with set_grad_enabled(record):
        for hook in list(Hooks.of(node).post.values()):
            new = _call("a post-hook", node, hook, tuple(inputs), outputs)
            _replace_all(node, inputs, new, expected)
    return [
        None if metadata is None else _taken(each, metadata, record)
        for each, metadata in zip(inputs, expected, strict=True)
    ]


def _call(kind: str, node: Node, hook: Hook, *args: Any) -> Any:
    try:
        return hook(*args)
    except Exception as error:
        explain(error, node, kind)
        raise


def _shown(grad: Any, metadata: Metadata) -> Any:
    """Return a gradient as hooks see it: a tensor, in PyTorch's convention."""
    if grad is None:
        return None
    made = grad if isinstance(grad, Variable) else Variable.kind(grad)
    return conjugate(made, metadata)


def _taken(grad: Any, metadata: Metadata, record: bool) -> Any:
    if grad is None:
        return None
    return conjugate(grad if record else grad._data, metadata)


def _replace(node: Node, grads: list[Any], index: int, new: Any, expected: Metadata | None) -> None:
    """Put what a hook returned in the place of a gradient, if it fits."""
    if new is None:
        return
    if not isinstance(new, Variable):
        msg = (
            f"{node.name()}: a hook returned a {type(new).__name__} in the place of a gradient; "
            "return a tensor, or None to leave it"
        )
        raise TypeError(msg)
    if expected is not None and metadata_of(new._like()) != expected:
        shape, dtype = expected
        msg = (
            f"{node.name()}: a hook returned {describe(new)} in the place of a gradient; return "
            f"{dtype} {shape}, as it is, or None to leave it"
        )
        raise GraphError(msg)
    grads[index] = new


def _replace_all(
    node: Node, grads: list[Any], new: Any, expected: Sequence[Metadata | None]
) -> None:
    if new is None:
        return
    if not isinstance(new, tuple) or len(new) != len(grads):
        got = f"{len(new)} gradients" if isinstance(new, tuple) else f"a {type(new).__name__}"
        msg = (
            f"{node.name()}: a hook of the node returned {got}; return a tuple of {len(grads)}, or "
            "None to leave them"
        )
        raise GraphError(msg) if isinstance(new, tuple) else TypeError(msg)
    for index, each in enumerate(new):
        _replace(node, grads, index, each, expected[index])


# ------------------------------------------------------------------------------- of tensors


def register(tensor: Tensor, hook: Hook) -> RemovableHandle:
    """Register a hook for a tensor's gradient; see `Tensor.register_hook`."""
    node, output_nr = _edge_to_hook(tensor, "register_hook")
    return RemovableHandle((Hooks.of(node).tensor.setdefault(output_nr, {}), hook))


def register_after_accumulation(tensor: Tensor, hook: Hook) -> RemovableHandle:
    """Register a hook for a leaf; see `Tensor.register_post_accumulate_grad_hook`."""
    node, _ = _edge_to_hook(tensor, "register_post_accumulate_grad_hook")
    if not isinstance(node, AccumulateGrad):
        msg = (
            "register_post_accumulate_grad_hook: only leaves accumulate a gradient, and this "
            f"tensor was made by {node!r}; use register_hook()"
        )
        raise GraphError(msg)
    return RemovableHandle((Hooks.of(node).after_accumulation, hook))


def keep(tensor: Tensor) -> None:
    """Keep a tensor's gradient as its ``.grad``; see `Tensor.retain_grad`."""
    node, output_nr = edge_of(tensor, "retain_grad")
    if isinstance(node, AccumulateGrad):
        return
    kept = Hooks.of(node).kept
    if output_nr not in kept or kept[output_nr]() is None:
        kept[output_nr] = weakref.ref(tensor)


def keeps(tensor: Tensor) -> bool:
    """Tell whether a tensor's gradient is kept though it is not a leaf."""
    if tensor._edge is None or (hooks := tensor._edge[0].hooks) is None:
        return False
    reference = hooks.kept.get(tensor._edge[1])
    return reference is not None and reference() is tensor


def move(tensor: Tensor, edge: Edge | None) -> None:
    """Give a tensor another history; if its gradient is kept, it goes on being kept."""
    kept = keeps(tensor)
    if kept:
        node, output_nr = edge_of(tensor, "retain_grad")
        del Hooks.of(node).kept[output_nr]
    tensor._edge = edge
    if kept and edge is not None:
        keep(tensor)


def edge_of(tensor: Any, caller: str) -> Edge:
    """Return where a tensor's gradient arrives.

    Raises
    ------
    GraphError
        If the tensor does not require grad.
    """
    if not isinstance(tensor, Variable):
        msg = f"{caller}: got a {type(tensor).__name__}; expected a tensor that requires grad"
        raise TypeError(msg)
    if tensor._hidden:
        refuse(caller, "the gradient that comes is that of all examples")
    if tensor._edge is None:
        msg = (
            f"{caller}: the tensor does not require grad, so that no gradient will ever come; set "
            "requires_grad=True, or compute it from what requires grad"
        )
        raise GraphError(msg)
    return tensor._edge


def _edge_to_hook(tensor: Tensor, caller: str) -> Edge:
    """Return where a tensor's gradient arrives, if a hook can see it there."""
    refuse_in_vmap(caller, "the gradient that comes is that of all examples")
    return edge_of(tensor, caller)


# ------------------------------------------------------------------- of several tensors at once


def register_multi_grad_hook(
    tensors: Sequence[Tensor], fn: Hook, *, mode: str = "all"
) -> RemovableHandle:
    """Register a hook for the gradients of several tensors.

    Parameters
    ----------
    tensors : sequence of Tensor
        They require grad.
    fn : callable
        With mode "all" it is called once in each backward pass, when the gradients of all those
        tensors that the pass reaches are there, with a list of them and None for the rest. With
        mode "any" it is called with the first of them to come. What it returns counts for nothing.
    mode : {"all", "any"}
        Which of the two.

    Returns
    -------
    RemovableHandle

    Examples
    --------
    >>> import opgrad
    >>> a = opgrad.tensor(2., requires_grad=True)
    >>> b = opgrad.tensor(3., requires_grad=True)
    >>> handle = opgrad.autograd.register_multi_grad_hook([a, b], print)
    >>> (a * b).backward()
    [tensor(3.), tensor(2.)]
    """
    if mode not in ("all", "any"):
        msg = f"register_multi_grad_hook: mode is {mode!r}; expected 'all' or 'any'"
        raise ValueError(msg)
    edges = [_edge_to_hook(each, "register_multi_grad_hook") for each in tensors]
    gathered = _Gathered(edges, fn, all_of_them=mode == "all")
    return RemovableHandle(
        *(
            (Hooks.of(node).tensor.setdefault(output_nr, {}), partial(gathered.came, index))
            for index, (node, output_nr) in enumerate(edges)
        )
    )


class _Gathered:
    """The gradients of several tensors, as far as they have come in each walk."""

    def __init__(self, edges: Sequence[Edge], fn: Hook, *, all_of_them: bool) -> None:
        # Weakly: the nodes have this among their hooks.
        self._places = [(weakref.ref(node), output_nr) for node, output_nr in edges]
        self._fn = fn
        self._all = all_of_them
        self._walks: weakref.WeakKeyDictionary[Walk, list[Any]] = weakref.WeakKeyDictionary()

    def came(self, index: int, grad: Any) -> None:
        """Take the gradient of one of the tensors; call the function if it is time to."""
        walk = _walk.get()
        first = walk not in self._walks
        grads = self._walks.setdefault(walk, [None] * len(self._places))
        grads[index] = grad
        if not self._all:
            if first:
                self._fn(grad)
            return
        places = [(node(), output_nr) for node, output_nr in self._places]
        due = [node is not None and walk.reaches((node, nr)) for node, nr in places]
        if all(each is not None for each, wanted in zip(grads, due, strict=True) if wanted):
            self._fn(grads)
