"""One operator on one set of inputs: what probes call instead of the operator itself."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from opgrad import autograd
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from opgrad.operator import Case, Operator

    Array = NDArray[Any]


class Differentiable(Protocol):
    """What can be called with tensors, on inputs of which some are chosen: a `Trial` is one."""

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The inputs: arrays, and whatever else it takes."""

    @property
    def chosen(self) -> list[int]:
        """The inputs to differentiate with respect to."""

    def call(self, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
        """Return the outputs."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An operator on given inputs.

    Attributes
    ----------
    operator : Operator
        The operator.
    inputs : tuple
        Its inputs: arrays, numbers, or None.
    parameters : mapping
        Its static parameters.
    variant : str
        What was changed in the author's case; empty for the case itself.
    """

    operator: Operator
    inputs: tuple[Any, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""

    @classmethod
    def of(cls, operator: Operator, case: Case) -> Trial:
        """Take an author's case as it is."""
        spread = operator.spread(len(case.inputs))
        return cls(spread, tuple(map(as_data, case.inputs)), case.parameters)

    def with_inputs(self, inputs: Sequence[Any], variant: str) -> Trial:
        """Return the same with other inputs."""
        return Trial(self.operator, tuple(map(as_data, inputs)), self.parameters, variant)

    def with_input(self, index: int, value: Any, variant: str) -> Trial:
        """Return the same with one other input."""
        inputs = self.inputs
        return self.with_inputs([*inputs[:index], value, *inputs[index + 1 :]], variant)

    @property
    def chosen(self) -> list[int]:
        """The inputs that have a gradient, by the operator's contract and by their dtype."""
        if not self.operator.differentiable:
            return []
        sources = self.operator.contract.sources
        return [i for i, each in enumerate(self.inputs) if sources[i] and is_inexact(each)]

    def name(self, index: int) -> str:
        """Return the name of an input."""
        return self.operator.contract.inputs[index]

    def call(self, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
        """Apply the operator; always a tuple of outputs."""
        result = self.operator(*inputs, **self.parameters)
        return result if isinstance(result, tuple) else (result,)

    def forward(self, inputs: Sequence[Any] | None = None) -> tuple[Array, ...]:
        """Return the outputs as arrays, with nothing recorded."""
        given = self.inputs if inputs is None else inputs
        return tuple(each.detach().data for each in self.call([*map(as_tensor, given)]))

    def recorded(self, needs: Sequence[int] | None = None) -> tuple[list[Any], tuple[Tensor, ...]]:
        """Apply the operator to tensors of which those in `needs`, by default all, require grad.

        Returns
        -------
        list, tuple
            The inputs, and the outputs.
        """
        tensors = [as_tensor(each) for each in self.inputs]
        for i in self.chosen if needs is None else needs:
            tensors[i].requires_grad_()
        return tensors, self.call(tensors)

    def gradients(self, seeds: Sequence[Array | None], **options: Any) -> list[Array]:
        """Return the gradient for each chosen input, by a backward pass through the engine."""
        tensors, outputs = self.recorded()
        return vjp(outputs, [tensors[i] for i in self.chosen], seeds, **options)


def vjp(
    outputs: Sequence[Tensor],
    ends: Sequence[Tensor],
    seeds: Sequence[Array | None],
    **options: Any,
) -> list[Array]:
    """Return gradients by a pass through the engine.

    Outputs without a graph, or without a seed, count for nothing.
    """
    if not ends:
        return []
    pairs = [
        (output, Tensor(seed))
        for output, seed in zip(outputs, seeds, strict=True)
        if seed is not None and output.requires_grad
    ]
    found = autograd.grad(
        [output for output, _ in pairs],
        ends,
        [seed for _, seed in pairs],
        materialize_grads=True,
        **options,
    )
    return [each.detach().data for each in found if each is not None]


def is_inexact(value: Any) -> bool:
    """Tell whether a value is a floating or complex array, which can have a gradient."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "fc"


def as_data(value: Any) -> Any:
    """Return NumPy's scalars as 0-d arrays; numbers stay numbers."""
    return np.asarray(value) if isinstance(value, np.generic) else value


def as_tensor(value: Any) -> Any:
    """Return arrays as tensors that share their memory, anything else as it is."""
    return Tensor(value) if isinstance(value, np.ndarray) else value


def cotangent(output: Array) -> Array:
    """Return numbers of both signs, none near zero, always the same for the same output.

    Parameters
    ----------
    output : ndarray
        What the numbers are a gradient of: they have its shape and dtype.
    """
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(output).tobytes()))
    seed = rng.uniform(0.5, 1.5, output.shape) * rng.choice([-1, 1], output.shape)
    if output.dtype.kind == "c":
        seed = seed + 1j * rng.uniform(0.5, 1.5, output.shape)
    return np.asarray(seed, output.dtype)
