"""The end of the graph behind a backward that is not itself differentiated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from opgrad.forward import is_transposing
from opgrad.graph import Edge, GraphError, Node
from opgrad.modes import no_grad
from opgrad.variable import Variable, metadata_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class OnceDifferentiable(Node):
    """Where a walk ends that would differentiate such a backward."""

    __slots__ = ()
    names = ("function",)
    origins = (None,)

    @staticmethod
    def run(*given: Any) -> NoReturn:
        """Refuse."""
        _, (name,), _ = given
        msg = (
            f"{name}: its backward is marked with once_differentiable, and a second derivative "
            "through it was asked for; write it with recorded operations, and without the mark"
        )
        raise GraphError(msg)


def ended(name: str, edges: tuple[Edge | None, ...], grad: Any) -> Any:
    """Return a gradient whose history ends with an error.

    Parameters
    ----------
    name : str
        The node's whose backward gave it.
    edges : tuple
        Along which the gradient would flow, were it recorded.
    grad : Tensor, array or None
        What the backward gave. Only a tensor has a history.
    """
    if not isinstance(grad, Variable):
        return grad
    if grad._hidden:
        return _ended_for_all(name, edges, grad)
    node = OnceDifferentiable(edges, (name,), metadata_of(grad._data))
    return Variable.kind(grad._data, (node, 0))


def _ended_for_all(name: str, edges: tuple[Edge | None, ...], grad: Any) -> Any:
    from opgrad.batched import innermost, rewrapped

    return rewrapped(grad, ended(name, edges, innermost(grad)))


class _Saved(tuple[Any, ...]):  # noqa: SLOT001 - tuples of any length have no slots
    """Saved values in a recorded pass, with the edges of the call that saved them."""

    edges: tuple[Edge | None, ...] = ()


class OnceNode(Node):
    """A call whose backward is given arrays, in a recorded pass too, and ends the graph there."""

    __slots__ = ()

    def tensors(self) -> tuple[Any, ...]:
        """Return the saved values with their place in the graph, and the call's edges."""
        saved = _Saved(super().tensors())
        saved.edges = self.edges
        return saved


def once(
    name: str, run: Callable[..., Sequence[Any]], residuals: bool
) -> Callable[..., Sequence[Any]]:
    """Return the `run` of a `OnceNode`.

    Parameters
    ----------
    name : str
        The node's, for messages.
    run : callable
        What `calls.compile_backward` writes.
    residuals : bool
        Whether residuals are among what is saved: nothing tells which inputs they depend on.
    """

    def run_once(grad: Any, saved: Sequence[Any], needs: Sequence[Edge | None]) -> Sequence[Any]:
        tensors = [*_tensors(grad), *_tensors(tuple(saved))]
        edges = [each._edge for each in tensors]
        if residuals and isinstance(saved, _Saved):
            edges += saved.edges
        with no_grad():
            if any(each._hidden for each in tensors):
                grads = _run_for_each(run, grad, tuple(saved), needs)
            else:
                grads = run(_plain(grad), tuple(map(_plain, saved)), needs)
        if not any(edges):
            return grads
        if is_transposing():
            msg = (
                f"{name}: a forward derivative (jvp, linearize, jacfwd, jacobian) differentiates "
                "the backward, which is marked with once_differentiable; give the operator a jvp "
                "hook, or use reverse mode (vjp, jacrev)"
            )
            raise GraphError(msg)
        return [ended(name, tuple(edges), _tensor(each)) for each in grads]

    return run_once


def _run_for_each(
    run: Callable[..., Sequence[Any]], grad: Any, saved: tuple[Any, ...], needs: Any
) -> Sequence[Any]:
    """Run a backward for each example of vmap, which has values, by itself."""
    from opgrad.batched import each_by_itself

    def run_plain(grad: Any, saved: Any) -> Sequence[Any]:
        return run(_plain(grad), _plain(saved), needs)

    found: Sequence[Any] = each_by_itself(run_plain, grad, saved)
    return found


def _tensor(value: Any) -> Any:
    return value if value is None or isinstance(value, Variable) else Variable.kind(value)


def _tensors(value: Any) -> Iterator[Variable]:
    if isinstance(value, tuple):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, Variable):
        yield value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value._data if isinstance(value, Variable) else value
