"""`FunctionNode`: a recorded call of a `Function`, which runs its backward."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from opgrad.blame import caller
from opgrad.engine import nodes_towards
from opgrad.forward import is_transposing
from opgrad.graph import Edge, GraphError, Node, input_metadata, zeros
from opgrad.modes import no_grad
from opgrad.once import OnceDifferentiable
from opgrad.operands import describe
from opgrad.variable import Variable, conjugate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opgrad.autograd.context import Context
    from opgrad.autograd.function import Function


class SavedValue(NamedTuple):
    """A saved value, its name, and where it came from: see `Node.origins`."""

    name: str
    value: Any
    #: Also ("own", edge), for what is neither input nor output.
    origin: tuple[str, Any] | None


class FunctionNode(Node):
    """One recorded call of a `Function`; every function has its own subclass: ``CubeBackward``."""

    __slots__ = ("caller", "inputs", "names", "origins", "saves_arrays")

    function: ClassVar[type[Function]]
    optional_gradients = True

    def __init__(
        self,
        ctx: Context,
        edges: tuple[Edge | None, ...],
        saved: Sequence[SavedValue],
        metadata: Any,
    ) -> None:
        self.names, values, self.origins = zip(*saved, strict=True)
        self.saves_arrays = len(saved) > 1
        #: Which of the arguments the inputs are.
        self.inputs = [index for index, is_tensor in enumerate(ctx._inputs) if is_tensor]
        ctx._node = weakref.ref(self)
        super().__init__(edges, values, metadata)
        self.caller = caller()

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What forward has saved, each tensor with its place in the graph."""
        return self.tensors()[1:]

    def source_of(self, index: int) -> tuple[str, str]:
        """Return the hook that gives the gradient of an input, and the input's name."""
        place = self.inputs[index]
        return "backward", self.function._names(place + 1)[place]

    def _restore(self, value: Any, origin: Any) -> Any:
        if origin is None or origin[0] != "own":
            return super()._restore(value, origin)
        return Variable.kind(value, origin[1])

    @staticmethod
    def run(*given: Any) -> Sequence[Any]:
        """Call the function's backward with tensors, recorded if the pass is."""
        grad, (ctx, *_), needs = given
        node: FunctionNode = ctx._node()
        grads = grad if type(node.metadata) is list else (grad,)
        recorded = any(isinstance(each, Variable) for each in grads)
        with nullcontext() if recorded else no_grad():
            shown = [node._shown(ctx, index, each) for index, each in enumerate(grads)]
            found = node._taken(ctx, node.function.backward(ctx, *shown))
            if is_transposing():
                node._insist_on_recording(found, shown, needs)
            return found

    def _insist_on_recording(
        self, found: Sequence[Any], grads: Sequence[Any], needs: Sequence[Edge | None]
    ) -> None:
        """Refuse a result that did not come from the gradients by recorded calls."""
        ends = [each._edge for each in grads if each is not None and each._edge is not None]
        for index, (result, need) in enumerate(zip(found, needs, strict=True)):
            if not ends or result is None or need is None:
                continue
            between = nodes_towards(ends, [(result._edge, None)] if result._edge else [])
            if any(isinstance(each, OnceDifferentiable) for each in between):
                fault = "it is marked with once_differentiable. Take the mark away, if it records"
            elif result._edge is None or result._edge[0] not in between:
                fault = (
                    f"what it returned for {self.source_of(index)[1]!r} is not recorded as computed"
                    " from its gradients. Use opgrad's operations in it, return None for zeros"
                )
            else:
                continue
            msg = (
                f"{self.name()}: a forward derivative (jvp, linearize, jacfwd, jacobian) "
                f"differentiates backward, and {fault}, or use reverse mode (vjp, jacrev)"
            )
            raise GraphError(msg)

    def _shown(self, ctx: Context, index: int, grad: Any) -> Any:
        if grad is None or not ctx._outputs[index]:
            return zeros(self, index) if ctx._outputs[index] and ctx._materialize else None
        made = grad if isinstance(grad, Variable) else Variable.kind(grad)
        return conjugate(made, self.outputs()[index])

    def _taken(self, ctx: Context, returned: Any) -> list[Any]:
        """Return the gradients of the inputs that are tensors, in the graph's convention."""
        grads = list(returned) if isinstance(returned, tuple | list) else [returned]
        where, count = f"{self.function.__qualname__}.backward", len(ctx._inputs)
        if len(grads) < count or any(each is not None for each in grads[count:]):
            msg = (
                f"{where} returned {len(grads)} gradients; expected {count}, one for each argument "
                "that apply() was given, None for those without a gradient"
            )
            raise GraphError(msg)
        found: list[Any] = []
        for index, (grad, is_tensor) in enumerate(zip(grads, ctx._inputs, strict=False)):
            if grad is not None and not (is_tensor and isinstance(grad, Variable)):
                got = describe(grad) if is_tensor else "a gradient"
                expected = "a tensor or None" if is_tensor else "None, as it is no tensor"
                msg = f"{where} returned {got} for argument {index}; expected {expected}"
                raise GraphError(msg)
            if is_tensor:
                edge = self.edges[len(found)]
                found.append(
                    None if grad is None or edge is None else conjugate(grad, input_metadata(edge))
                )
        return found
