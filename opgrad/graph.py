"""The recorded graph: a `Node` for each call, an `AccumulateGrad` for each leaf, edges between.

A node holds arrays and edges, never the tensor that it made: there are no reference cycles, and
a graph that nobody holds is freed at once. An edge ``(node, output_nr)`` points from a call to
where one of its inputs came from; gradients travel along it.

Gradients inside the graph are plain transposes (``grad * derivative``, no conjugates), so that
formulas read as in a textbook. PyTorch's convention for complex numbers, in which ``|z|**2``
has the gradient ``2 * z``, is the conjugate of that: `conjugate` stands at every place where a
gradient enters or leaves the graph.
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, TypeAlias

import numpy as np

from opgrad.blame import explain
from opgrad.handles import Hooks, RemovableHandle
from opgrad.levels import refuse_in_vmap
from opgrad.stamps import next_sequence, stamp, stamps, written_since
from opgrad.variable import Variable, conjugate, is_differentiable, metadata_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opgrad.blame import Caller
    from opgrad.operator import Operator
    from opgrad.tensor import Tensor
    from opgrad.variable import Metadata

#: Where a gradient goes: a node, and which of that node's outputs it belongs to.
Edge: TypeAlias = "tuple[Node, int]"
#: Does a node's backward.
Run: TypeAlias = "Callable[[], Sequence[Any]]"

#: Why there are no hooks in `vmap`.
_OF_ALL = "the gradient that comes is that of all examples"


class GraphError(RuntimeError):
    """A backward pass that cannot be done: no graph, freed values, a gradient that does not fit."""


#: What is told of each new node, while somebody wants to know.
recorders: list[Callable[[Node], None]] = []

#: What runs a node's backward in the place of the engine, while somebody wants to. Each is given
#: the node, the edges that gradients are wanted at, and a function that does it.
runners: list[Callable[[Node, Sequence[Edge | None], Run], Sequence[Any]]] = []


class Node:
    """One recorded call of an operator.

    Every operator has its own subclass, named after it: ``MulBackward0``. A node can be called
    with the gradient of its output and returns the gradients of its inputs: one tensor for a
    single input, else a tuple with None where nothing flows.
    """

    __slots__ = ("__weakref__", "_saved", "edges", "hooks", "metadata", "sequence")

    operator: ClassVar[Operator | None] = None
    #: Compiled from the operator's hooks: (grad, saved, needs) -> one gradient for each input.
    run: ClassVar[Callable[[Any, Any, Sequence[Edge | None]], Sequence[Any]]]
    #: Likewise from the jvp hooks, where there are any: (tangents, saved) -> what each changes.
    jvp: ClassVar[Callable[[Sequence[Any], Any], Sequence[Any]] | None] = None
    #: The names of the saved values, as the operator's hooks use them.
    names: tuple[str, ...] = ()
    #: For each saved value the input or output that it is: ("input", 1), or None for the rest.
    origins: tuple[tuple[str, int] | None, ...] = ()
    #: Whether arrays are among the saved values: those are freed after a backward pass.
    saves_arrays: bool = False
    #: The line that made the call, where the backward is not opgrad's own.
    caller: Caller | None = None
    #: Whether None may stand for zeros, as the gradient of an output or of an input.
    optional_gradients: ClassVar[bool] = False

    edges: tuple[Edge | None, ...]
    #: A tuple; a sequence of another type where values are packed (see `saving`); None once freed.
    _saved: Any
    metadata: Any
    sequence: int
    hooks: Hooks | None

    def __init__(
        self, edges: tuple[Edge | None, ...], saved: tuple[Any, ...] | None, metadata: Any
    ) -> None:
        self.edges = edges
        self._saved = saved
        self.metadata = metadata
        self.sequence = next_sequence()
        self.hooks = None
        if recorders:
            for recorder in recorders.copy():  # one may remove itself
                recorder(self)

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The nodes that gradients go to, each with the index of its output; or (None, 0)."""
        return tuple((None, 0) if edge is None else edge for edge in self.edges)

    def register_prehook(self, hook: Callable[[tuple[Any, ...]], Any]) -> RemovableHandle:
        """Register a function to call before each run of the node.

        Parameters
        ----------
        hook : callable
            Takes a tuple of the gradients of the outputs, returns such a tuple to replace it, or
            None.

        Returns
        -------
        RemovableHandle

        Examples
        --------
        >>> import opgrad
        >>> a = opgrad.tensor(3., requires_grad=True)
        >>> b = a * 2
        >>> handle = b.grad_fn.register_prehook(lambda grads: (grads[0] * 10,))
        >>> b.backward()
        >>> a.grad
        tensor(20.)
        """
        refuse_in_vmap("register_prehook()", _OF_ALL)
        return RemovableHandle((Hooks.of(self).pre, hook))

    def register_hook(
        self, hook: Callable[[tuple[Any, ...], tuple[Any, ...]], Any]
    ) -> RemovableHandle:
        """Register a function to call after each run of the node.

        Parameters
        ----------
        hook : callable
            Takes a tuple of the gradients of the inputs and one of those of the outputs; returns a
            tuple to replace the first, or None.

        Returns
        -------
        RemovableHandle

        Examples
        --------
        >>> import opgrad
        >>> b = opgrad.tensor(3., requires_grad=True) ** 2
        >>> handle = b.grad_fn.register_hook(print)
        >>> b.backward()
        (tensor(6.),) (tensor(1.),)
        """
        refuse_in_vmap("register_hook()", _OF_ALL)
        return RemovableHandle((Hooks.of(self).post, hook))

    def name(self) -> str:
        """Return the name that repr shows, such as ``MulBackward0``."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"

    def outputs(self) -> list[Metadata]:
        """Return shape and dtype of every output."""
        return self.metadata if type(self.metadata) is list else [self.metadata]

    @property
    def saved(self) -> Saved:
        """The saved values by name.

        Examples
        --------
        >>> import opgrad
        >>> a = opgrad.tensor(3.0, requires_grad=True)
        >>> (a**2).grad_fn.saved
        Saved(base=tensor(3., requires_grad=True), exponent=2)
        """
        return Saved(self)

    def source_of(self, index: int) -> tuple[str, str]:
        """Return the hook that gives the gradient of an input, and the input's name."""
        return self.operator.contract.source_of(index) if self.operator else ("backward", "?")

    def arrays(self) -> tuple[Any, ...]:
        """Return the saved values as they were saved.

        Raises
        ------
        GraphError
            If they are freed, or their memory was written to after they were saved.
        """
        return tuple(self._values())

    def _values(self) -> Sequence[Any]:
        if self._saved is None:
            self._freed()
        if stamps and self.saves_arrays and type(self._saved) is tuple:
            self._check_fresh()
        values: Sequence[Any] = self._saved
        return values

    def tensors(self) -> tuple[Any, ...]:
        """Return the saved values with their place in the graph.

        What was an input or output of the call is a tensor again, so that a formula applied to
        it is itself recorded.
        """
        return tuple(map(self._restore, self.arrays(), self.origins))

    def tensor(self, index: int) -> Any:
        """Return one of the `tensors`."""
        return self._restore(self._values()[index], self.origins[index])

    def _restore(self, value: Any, origin: tuple[str, int] | None) -> Any:
        if origin is None:
            return value
        kind, index = origin
        if isinstance(value, tuple):  # of several outputs, or of the inputs of a variadic call
            return tuple(self._restore(each, (kind, i)) for i, each in enumerate(value))
        if not hasattr(value, "dtype"):
            return value
        edge = self.edges[index] if kind == "input" else (self, index)
        if edge is not None and isinstance(edge[0], AccumulateGrad):
            leaf = edge[0].variable
            if leaf is not None and leaf._edge is edge and leaf._data is value:
                return leaf
        return Variable.kind(value, edge if is_differentiable(value.dtype) else None)

    def _check_fresh(self) -> None:
        for name, value in zip(self.names, self._saved, strict=True):
            for array in value if isinstance(value, tuple) else (value,):
                check_fresh(array, self.sequence, self.name(), name)

    def _freed(self) -> NoReturn:
        msg = (
            f"{self.name()}: the values saved for backward have already been freed by an earlier "
            "backward pass. To go through the graph again, pass retain_graph=True to the "
            "earlier pass, or compute the output anew."
        )
        raise GraphError(msg)

    def __call__(self, *grads: Any) -> Any:
        """Apply the operator's backward to the gradients of its outputs, recorded as any call is.

        Parameters
        ----------
        *grads : Tensor
            The gradient of each output, of the output's shape; None stands for zeros.

        Returns
        -------
        Tensor, tuple or None
            The gradient of the input, or a tuple of them, as the formula gives them: not summed
            to the input's shape where the call had broadcast; of a real input the real part.
        """
        outputs = self.outputs()
        if len(grads) != len(outputs):
            msg = f"{self.name()}: got {len(grads)} gradients, expected {len(outputs)}"
            raise TypeError(msg)
        inside = [
            self._received(grad, index, metadata)
            for index, (grad, metadata) in enumerate(zip(grads, outputs, strict=True))
        ]
        results = tuple(
            None if edge is None or result is None else _outside(result, input_metadata(edge))
            for result, edge in zip(self._called(inside), self.edges, strict=True)
        )
        return results[0] if len(results) == 1 else results

    def _received(self, grad: Any, index: int, metadata: Metadata) -> Any:
        if grad is None:
            return zeros(self, index)
        if not isinstance(grad, Variable) or tuple(grad._data.shape) != metadata[0]:
            got = (
                f"has shape {tuple(grad._data.shape)}"
                if isinstance(grad, Variable)
                else f"is a {type(grad).__name__}"
            )
            msg = (
                f"{self.name()}: gradient {index} {got}; expected a Tensor of the output's shape "
                f"{metadata[0]}"
            )
            raise GraphError(msg)
        return conjugate(grad, metadata)

    def _called(self, grads: list[Any]) -> Sequence[Any]:
        grad = tuple(grads) if type(self.metadata) is list else grads[0]
        try:
            return type(self).run(grad, self.tensors(), self.edges)
        except Exception as error:
            explain(error, self)
            raise


def _outside(grad: Any, metadata: Metadata) -> Any:
    """Return a gradient as a formula gives it in PyTorch's convention, real for a real input."""
    made = conjugate(grad, metadata)
    kind = getattr(made, "dtype", metadata[1]).kind  # what a formula gives may be a number
    return made.real if kind == "c" and metadata[1].kind != "c" else made


class Saved:
    """The values that a node has saved for its backward, by name.

    What was an input or an output of the call is a tensor, with its place in the graph. A value
    that this call's backward does not need is None.
    """

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    def __getattr__(self, name: str) -> Any:
        names = self._node.names
        if name in names:
            return self._node.tensor(names.index(name))
        msg = f"{self._node.name()} has saved no {name!r}, but {', '.join(names) or 'nothing'}"
        raise AttributeError(msg, name=name, obj=self)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._node.names]

    def __repr__(self) -> str:
        if self._node._saved is None:
            return "<Saved, freed by a backward pass>"
        pairs = zip(self._node.names, self._node.tensors(), strict=True)
        return f"Saved({', '.join(f'{name}={value!r}' for name, value in pairs)})"


class GradientEdge(NamedTuple):
    """A place in the graph where a gradient arrives; see `opgrad.autograd.graph`.

    Attributes
    ----------
    node : Node
        What made the tensor that the gradient is of; for a leaf, where its gradient is added up.
    output_nr : int
        Which of the node's outputs it is.

    Examples
    --------
    >>> import opgrad
    >>> a = opgrad.tensor(3., requires_grad=True)
    >>> b = a**2
    >>> opgrad.autograd.grad(b * 5, opgrad.autograd.graph.get_gradient_edge(b))
    (tensor(5.),)
    """

    node: Node
    output_nr: int


def check_fresh(array: Any, since: int, node_name: str, name: str) -> None:
    """Insist that the memory of a saved array was not written to after some point in time."""
    if written := written_since(array, since):
        msg = (
            f"{node_name} saved {name!r}, {array.dtype} of shape {array.shape}, for its backward, "
            f"and {written.writer!r} has written to that memory since: the gradient would be "
            "wrong. Write to a clone() instead, or not in place."
        )
        raise GraphError(msg)


def zeros(node: Node, output_nr: int) -> Tensor:
    """Return the gradient of an output that nothing depends on."""
    shape, dtype = node.outputs()[output_nr]
    return Variable.kind(np.zeros(shape, dtype))


def input_metadata(edge: Edge) -> Metadata:
    """Return shape and dtype of the input that an edge stands for."""
    node, output_nr = edge
    metadata: Metadata = node.outputs()[output_nr]
    return metadata


#: The reference count of an array that nothing but its tensor holds: that one, and the argument.
_HELD_BY_ITS_TENSOR = 2


class AccumulateGrad(Node):
    """The end of the graph at a leaf: adds what arrives to the leaf's ``.grad``.

    It knows the leaf only weakly: a gradient that is itself recorded leads back here, and were
    the leaf held, it would hold itself.
    """

    __slots__ = ("_variable",)

    #: The reference count of a gradient that nobody but the engine holds; measured in engine.py.
    unshared: ClassVar[int] = 0
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, variable: Variable) -> None:
        super().__init__((), (), metadata_of(variable._data))
        self._variable = weakref.ref(variable)

    @property
    def variable(self) -> Tensor | None:
        """The leaf, or None if nobody holds it any more."""
        return self._variable()  # type: ignore[return-value]  # every Variable is a Tensor

    def accumulate(self, grad: Any) -> None:
        """Add an array, or in a recorded backward a tensor, to the gradient of a leaf that lives.

        What is added to never shares memory with anything else: an array that somebody else may
        hold is copied before it becomes the gradient.
        """
        shared = sys.getrefcount(grad) > self.unshared
        if self.metadata[1].kind == "c":
            grad, shared = grad.conj(), False
        leaf = self._variable()
        if leaf is None or leaf._edge is None:  # or is no longer to gather any
            return
        with self._lock:
            held = leaf._grad
            if isinstance(grad, Variable):
                made: Any = grad
                leaf._grad = made.clone() if held is None else held + made
            elif held is None:
                if type(grad) is np.ndarray and (shared or grad.base is not None):
                    grad = grad.copy()
                leaf._grad = Variable.kind(grad)
            elif held._edge is None and type(held._data) is np.ndarray:
                try:
                    np.add(held._data, grad, out=held._data)
                except ValueError:  # what somebody assigned is read-only
                    held._data = held._data + grad
                if sys.getrefcount(held._data) > _HELD_BY_ITS_TENSOR:
                    stamp(held._data, "backward()", next_sequence())  # a node may have saved it
            else:
                held._data = held._data + grad

    def _called(self, grads: list[Any]) -> Sequence[Any]:
        (grad,), dtype = grads, self.metadata[1]
        self.accumulate(grad if grad.dtype == dtype else grad.astype(dtype))
        return ()
