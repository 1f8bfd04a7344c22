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

import itertools
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from opgrad.operator import Operator
    from opgrad.tensor import Tensor

#: Where a gradient goes: a node, and which of that node's outputs it belongs to.
Edge: TypeAlias = "tuple[Node, int]"
#: What a gradient has to look like: shape and dtype.
Metadata: TypeAlias = "tuple[tuple[int, ...], np.dtype[Any]]"


class GraphError(RuntimeError):
    """A backward pass that cannot be done: no graph, freed values, a gradient that does not fit."""


class Variable:
    """What the graph knows of a tensor: its data, and the edge along which its gradient flows."""

    __slots__ = ("__weakref__", "_data", "_edge")

    #: The class of everything that calls return. `Tensor` names itself here, so that the rooms
    #: below make tensors without importing the room above.
    kind: ClassVar[type[Tensor]]

    def __init__(self, data: Any, edge: Edge | None = None) -> None:
        self._data = data
        self._edge = edge


#: Numbers the nodes downwards in the order of their creation: the least is the latest call.
next_sequence: Callable[[], int] = itertools.count(0, -1).__next__

#: The metadata of 0-d data, by scalar type: looking it up is faster than reading the attributes.
SCALARS: dict[type, Metadata] = {
    np.dtype(code).type: ((), np.dtype(code)) for code in np.typecodes["AllFloat"]
}


def metadata_of(data: Any) -> Metadata:
    """Return the shape and dtype of an array, the shared pair of `SCALARS` where it is 0-d."""
    shape = tuple(data.shape)
    dtype = data.dtype
    return SCALARS.get(dtype.type, (shape, dtype)) if shape == () else (shape, dtype)


def is_differentiable(dtype: npt.DTypeLike) -> bool:
    """Tell whether `dtype` is floating or complex."""
    return np.dtype(dtype).kind in "fc"


def conjugate(grad: Any, metadata: Metadata) -> Any:
    """Turn PyTorch's convention for a complex gradient into the graph's, and back."""
    return grad.conj() if metadata[1].kind == "c" else grad


class Node:
    """One recorded call of an operator.

    Every operator has its own subclass, named after it: ``MulBackward0``. A node can be called
    with the gradient of its output and returns the gradients of its inputs: one tensor for a
    single input, else a tuple with None where nothing flows.
    """

    __slots__ = ("__weakref__", "edges", "hooks", "metadata", "saved", "sequence")

    operator: ClassVar[Operator | None] = None
    #: Compiled from the operator's hooks: (grad, saved, needs) -> one gradient for each input.
    run: ClassVar[Callable[[Any, Any, Sequence[Edge | None]], Sequence[Any]]]
    #: The names of the saved values, as the operator's hooks use them.
    names: ClassVar[tuple[str, ...]] = ()
    #: For each saved value the input or output that it is: ("input", 1), or None for the rest.
    origins: ClassVar[tuple[tuple[str, int] | None, ...]] = ()
    #: Whether arrays are among the saved values: those are freed after a backward pass.
    saves_arrays: ClassVar[bool] = False

    edges: tuple[Edge | None, ...]
    saved: tuple[Any, ...] | None
    metadata: Any
    sequence: int
    hooks: Any

    def __init__(
        self, edges: tuple[Edge | None, ...], saved: tuple[Any, ...] | None, metadata: Any
    ) -> None:
        self.edges = edges
        self.saved = saved
        self.metadata = metadata
        self.sequence = next_sequence()
        self.hooks = None

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The nodes that gradients go to, each with the index of its output; or (None, 0)."""
        return tuple((None, 0) if edge is None else edge for edge in self.edges)

    def name(self) -> str:
        """Return the name that repr shows, such as ``MulBackward0``."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"

    def outputs(self) -> list[Metadata]:
        """Return shape and dtype of every output."""
        return self.metadata if type(self.metadata) is list else [self.metadata]

    def arrays(self) -> tuple[Any, ...]:
        """Return the saved values as they were saved."""
        return self._freed() if self.saved is None else self.saved

    def tensors(self) -> tuple[Any, ...]:
        """Return the saved values with their place in the graph.

        What was an input or output of the call is a tensor again, so that a formula applied to
        it is itself recorded.
        """
        return tuple(map(self._restore, self.arrays(), self.origins))

    def _restore(self, value: Any, origin: tuple[str, int] | None) -> Any:
        if origin is None:
            return value
        kind, index = origin
        if kind == "output" and isinstance(value, tuple):
            return tuple(self._restore(each, (kind, i)) for i, each in enumerate(value))
        if not hasattr(value, "dtype"):
            return value
        edge = self.edges[index] if kind == "input" else (self, index)
        return Variable.kind(value, edge if is_differentiable(value.dtype) else None)

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
            to the input's shape where the call had broadcast.
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
            None if edge is None else conjugate(result, input_metadata(edge))
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
        return type(self).run(grad, self.tensors(), self.edges)


def zeros(node: Node, output_nr: int) -> Tensor:
    """Return the gradient of an output that nothing depends on."""
    shape, dtype = node.outputs()[output_nr]
    return Variable.kind(np.zeros(shape, dtype))


def input_metadata(edge: Edge) -> Metadata:
    """Return shape and dtype of the input that an edge stands for."""
    node, output_nr = edge
    metadata: Metadata = node.outputs()[output_nr]
    return metadata


class AccumulateGrad(Node):
    """The end of the graph at a leaf: adds what arrives to the leaf's ``.grad``.

    It owns the gradient, and the leaf owns it; the leaf itself it only knows weakly.
    """

    __slots__ = ("_variable", "grad")

    #: The reference count of a gradient that nobody but the engine holds; measured in engine.py.
    unshared: ClassVar[int] = 0
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, variable: Variable) -> None:
        super().__init__((), (), metadata_of(variable._data))
        self._variable = weakref.ref(variable)
        self.grad: Tensor | None = None

    @property
    def variable(self) -> Tensor | None:
        """The leaf, or None if nobody holds it any more."""
        return self._variable()  # type: ignore[return-value]  # every Variable is a Tensor

    def accumulate(self, grad: Any) -> None:
        """Add an array, or in a recorded backward a tensor, to the leaf's gradient.

        What is added to never shares memory with anything else: an array that somebody else may
        hold is copied before it becomes the gradient.
        """
        shared = sys.getrefcount(grad) > self.unshared
        if self.metadata[1].kind == "c":
            grad, shared = grad.conj(), False
        with self._lock:
            held = self.grad
            if isinstance(grad, Variable):
                made: Any = grad
                self.grad = made.clone() if held is None else held + made
            elif held is None:
                if type(grad) is np.ndarray and (shared or grad.base is not None):
                    grad = grad.copy()
                self.grad = Variable.kind(grad)
            elif held._edge is None and type(held._data) is np.ndarray:
                np.add(held._data, grad, out=held._data)
            else:
                held._data = held._data + grad

    def _called(self, grads: list[Any]) -> Sequence[Any]:
        (grad,), dtype = grads, self.metadata[1]
        self.accumulate(grad if grad.dtype == dtype else grad.astype(dtype))
        return ()
