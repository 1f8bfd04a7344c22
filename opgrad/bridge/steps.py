"""An operator's call and its derivatives, each as a function of a flat list of arrays.

Another framework differentiates what it has recorded itself. So every bridge out of opgrad needs
the same three functions, each a `Step` that the framework records as one operation of its own:

1. `Call` is the operator. It says which arrays its backward has to be given.
2. `Backward` is the operator's backward, a function of the gradients and of those arrays.
3. `Pullback` is the backward of a step of operations that opgrad records: of `Backward`, of that
   one's `Pullback`, and so on to any order.

Gradients are plain transposes here, as inside opgrad's graph: no conjugates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from opgrad import autograd
from opgrad.bridge.arguments import Slot, filled
from opgrad.engine import conform
from opgrad.graph import AccumulateGrad, GraphError, Node, input_metadata
from opgrad.inference import inference_mode
from opgrad.modes import no_grad
from opgrad.tensor import Tensor
from opgrad.variable import Variable, is_differentiable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opgrad.bridge.arguments import Arguments
    from opgrad.graph import Edge


class Step:
    """A function of arrays that a framework records as one operation.

    Attributes
    ----------
    name : str
        What is computed, for messages.
    flowing : sequence of int
        The places, in the list of what `run` returns, that gradients are taken for.
    """

    name: str
    flowing: Sequence[int]
    #: Residuals that are numbers or strings, by name: what the call is known to be for.
    constants: Mapping[str, Any] = {}
    #: The names of other residuals that are no arrays.
    opaque: tuple[str, ...] = ()

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """Compute."""
        raise NotImplementedError

    def kept(self, count: int) -> Sequence[int]:
        """Return what the pullback needs, of what `run` was given, so many, and then returned."""
        return range(count)

    def pullback(self, needs: Sequence[bool]) -> Formula:
        """Return the step from gradients to gradients.

        It takes the gradients of what is `flowing`, then what is `kept`, and returns the gradients
        of those arrays that are needed.
        """
        raise NotImplementedError

    def again(self, needs: Sequence[bool]) -> Self:  # noqa: ARG002 - for those that it matters to
        """Return the same step, for other arrays of which those that are needed may be others."""
        return self

    def insist(self, other: Step) -> None:
        """Insist that the same call on other arrays gave the same residuals that are no arrays.

        Raises
        ------
        TypeError
            If it did not.
        """
        for name, value in self.constants.items():
            got = other.constants.get(name)
            if got != value:
                msg = (
                    f"{self.name}: the residual {name} is {got!r}, and for other numbers of the "
                    f"same shapes {value!r}; let forward return what depends on numbers as arrays"
                )
                raise TypeError(msg)

    def learn_from(self, other: Step) -> None:
        """Take over what the run of one that `again` made has found out."""


class Call(Step):
    """An operator, applied to arrays.

    Parameters
    ----------
    arguments : Arguments
        What is called with what.
    needs : sequence of bool
        For each array, whether its gradient may be asked for.

    Attributes
    ----------
    count : int
        How many outputs there are; `run` returns the residuals that are arrays after them.
    several : bool
        Whether the operator returns a tuple.
    """

    def __init__(self, arguments: Arguments, needs: Sequence[bool]) -> None:
        self.arguments = arguments
        self.needs = tuple(needs)
        self.name = arguments.operator.name
        self.flowing: Sequence[int] = ()
        self._kept: Sequence[int] = ()
        self.count, self.several = 1, False
        self._linear: _Linear | None = None

    def again(self, needs: Sequence[bool]) -> Call:
        """Return the same call, for other arrays."""
        return Call(self.arguments, [a or b for a, b in zip(self.needs, needs, strict=True)])

    def learn_from(self, other: Step) -> None:
        """Take over what a run of the same call has found out."""
        vars(self).update(vars(other))

    def kept(self, count: int) -> Sequence[int]:  # noqa: ARG002 - it is known
        """Return the places of what the formulas of the operator's author name."""
        return self._kept

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """Apply the operator; return its outputs, and the residuals that are arrays."""
        # Whether anything is recorded the framework says, and not the mode that opgrad is in.
        with inference_mode(mode=False) if any(self.needs) else no_grad():
            tensors = [Tensor(each) for each in arrays]
            for tensor, need in zip(tensors, self.needs, strict=True):
                if need:
                    tensor.requires_grad_()
            result = self.arguments.apply(tensors)
        self.several = isinstance(result, tuple)
        outputs = list(result) if self.several else [result]
        self.count = len(outputs)
        node = next((each.grad_fn for each in outputs if each.grad_fn is not None), None)
        made = [each._data for each in outputs]
        return made if node is None else [*made, *self._learn(node, len(arrays), made)]

    def _learn(self, node: Node, given: int, outputs: list[Any]) -> list[Any]:
        """Note what the backward needs, and return the residuals."""
        keeper = _Keeper(self.arguments.inputs, given, len(outputs))
        values = zip(node.names, node.arrays(), node.origins, strict=True)
        saved = tuple(keeper.place(name, value, origin, node) for name, value, origin in values)
        if node.operator is not None and node.operator.once_differentiable:
            # So that a second derivative meets the backward, and its error, by every way.
            for index in np.flatnonzero(self.needs):
                keeper.keep(int(index))
        self._kept, self.constants = keeper.kept, keeper.constants
        self.opaque = tuple(keeper.opaque)
        self.flowing = [i for i, each in enumerate(outputs) if is_differentiable(each.dtype)]
        # The node itself is let go: it holds the arrays, which the framework keeps and watches.
        edges = tuple(None if edge is None else _end(edge) for edge in node.edges)
        bare = type(node)(edges, None, node.metadata)
        self._linear = _Linear(bare, saved, self.arguments.inputs, tuple(self.flowing))
        return keeper.residuals

    def pullback(self, needs: Sequence[bool]) -> Formula:
        """Return the operator's backward.

        Raises
        ------
        GraphError
            If the operator has no gradient with respect to what one is needed for.
        """
        if any(need and not can for need, can in zip(needs, self.needs, strict=True)):
            msg = (
                f"{self.name}: the operator has no gradient with respect to one of the arguments "
                "that one is asked for; pass detach() of it if none is wanted"
            )
            raise GraphError(msg)
        assert self._linear is not None, "gradients flow only through what was recorded"
        return Backward(self._linear, needs)


class _Linear(NamedTuple):
    """What is known of a recorded call without its arrays."""

    node: Node
    saved: tuple[Any, ...]
    inputs: tuple[Any, ...]
    flowing: tuple[int, ...]


def _end(edge: Edge) -> Edge:
    """Return the edge to a leaf of an input's shape and dtype, which holds no memory."""
    shape, dtype = input_metadata(edge)
    return AccumulateGrad(Variable(np.broadcast_to(np.zeros((), dtype), shape))), 0


class _Keeper:
    """Lists what a node has saved, and says where each value is to be found again."""

    def __init__(self, inputs: Sequence[Any], given: int, outputs: int) -> None:
        self._inputs = inputs
        self._given, self._outputs = given, outputs
        self.kept: list[int] = []
        self.residuals: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.opaque: list[str] = []

    def keep(self, index: int, *, constant: bool = False) -> Slot:
        """Return the slot of an array in the list of what is kept."""
        if index not in self.kept:
            self.kept.append(index)
        return Slot(self.kept.index(index), constant)

    def place(self, name: str, value: Any, origin: Any, node: Node) -> Any:
        """Return a slot for an array, and a tuple of them for a tuple; other values as they are."""
        if isinstance(value, tuple) and origin is not None:
            return tuple(self.place(name, v, (origin[0], i), node) for i, v in enumerate(value))
        if origin is None:
            residual = node.operator is not None and name in node.operator.residuals
            return self._residual(name, value) if residual else value
        if not hasattr(value, "dtype"):
            return value
        kind, index = origin
        if kind == "output":
            return self.keep(self._given + index)
        place = self._inputs[index]
        return self.keep(place.index) if isinstance(place, Slot) else value

    def _residual(self, name: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._residual(f"{name}[{i}]", each) for i, each in enumerate(value))
        if getattr(getattr(value, "dtype", None), "kind", "") in tuple("biufc"):
            self.residuals.append(value)
            place = self._given + self._outputs + len(self.residuals) - 1
            return self.keep(place, constant=True)
        if value is None or isinstance(value, int | float | complex | str):
            self.constants[name] = value
        else:
            self.opaque.append(name)
        return value


class Formula(Step):
    """A step of operations that opgrad records, where it is given tensors.

    It keeps all that it is given, and gradients are taken for all that it returns.
    """

    def apply(self, values: Sequence[Any], *, record: bool) -> list[Any]:
        """Compute: with tensors if `record`, so that what is done is recorded; else with arrays."""
        raise NotImplementedError

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """Compute with arrays."""
        # As in opgrad's engine, what happens at a singular point is no news.
        with np.errstate(all="ignore"), inference_mode(mode=False):
            return self.apply(arrays, record=False)

    def pullback(self, needs: Sequence[bool]) -> Formula:
        """Return the step's own backward, as opgrad derives it."""
        return Pullback(self, needs)


class Backward(Formula):
    """The backward of an operator.

    Parameters
    ----------
    linear : _Linear
        What is known of the call.
    needs : sequence of bool
        For each of its arrays, whether the gradient is asked for.
    """

    def __init__(self, linear: _Linear, needs: Sequence[bool]) -> None:
        self._linear = linear
        self._edges = tuple(
            edge if isinstance(place, Slot) and needs[place.index] else None
            # An operator that answers where some inputs are numbers has the others in their order.
            for edge, place in zip(linear.node.edges, linear.inputs, strict=False)
        )
        self.name = f"the backward of {linear.node.name()}"
        self.flowing = range(sum(each is not None for each in self._edges))

    def apply(self, values: Sequence[Any], *, record: bool) -> list[Any]:
        """Apply the formulas of the operator's author."""
        node, saved, _, flowing = self._linear
        grads, kept = values[: len(flowing)], values[len(flowing) :]
        by_output = dict(zip(flowing, grads, strict=True))
        complete = tuple(
            by_output[i] if i in by_output else np.zeros(shape, dtype)
            for i, (shape, dtype) in enumerate(node.outputs())
        )
        grad = complete if type(node.metadata) is list else complete[0]
        found = type(node).run(grad, filled(saved, kept), self._edges)
        return [
            conform(each, input_metadata(edge), node, found, record)
            for each, edge in zip(found, self._edges, strict=True)
            if edge is not None
        ]

    def pullback(self, needs: Sequence[bool]) -> Formula:
        """Return the backward of the backward.

        Raises
        ------
        GraphError
            If the operator is only once differentiable.
        """
        operator = self._linear.node.operator
        if operator is not None and operator.once_differentiable:
            msg = (
                f"{operator.name}: the operator says once_differentiable, and a second derivative "
                "through it was asked for; only its first derivatives can be had"
            )
            raise GraphError(msg)
        return super().pullback(needs)


class Pullback(Formula):
    """The backward of a formula.

    Parameters
    ----------
    formula : Formula
        What to go back through. It is computed anew, with what it was given.
    needs : sequence of bool
        For each array that it was given, whether the gradient is asked for.
    """

    def __init__(self, formula: Formula, needs: Sequence[bool]) -> None:
        self._formula = formula
        self._wanted = [i for i, need in enumerate(needs) if need]
        self.name = f"the backward of {formula.name}"
        self.flowing = range(len(self._wanted))

    def apply(self, values: Sequence[Any], *, record: bool) -> list[Any]:
        """Record the formula, and go back."""
        tensors = [each if isinstance(each, Tensor) else Tensor(each) for each in values]
        count = len(self._formula.flowing)
        grads, given = tensors[:count], tensors[count:]
        for i in self._wanted:
            if not given[i].requires_grad:
                given[i] = Tensor(given[i]._data).requires_grad_()
        outputs = self._formula.apply(given, record=True)
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if o.requires_grad]
        found = (
            autograd.grad(
                [output for output, _ in pairs],
                [given[i] for i in self._wanted],
                [_conj(grad) for _, grad in pairs],
                create_graph=record,
                materialize_grads=True,
            )
            if pairs
            else [Tensor(np.zeros(given[i].shape, given[i].dtype)) for i in self._wanted]
        )
        return [_conj(each) if record else _conj(each)._data for each in found]


def _conj(tensor: Any) -> Any:
    """Turn PyTorch's convention for a complex gradient, which `autograd.grad` has, into ours."""
    return tensor.conj() if tensor.dtype.kind == "c" else tensor
