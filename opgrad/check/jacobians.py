"""The Jacobian of a function of tensors, twice: by its backward, and by numeric differences.

Complex numbers count as pairs of reals here, so that both are plain real matrices: a row for
each real part and each imaginary part of the output, a column for each part of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from opgrad import autograd
from opgrad.check.numeric import Estimate, jacobian
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: From the tensors of the inputs, and whether a further backward will follow, to the outputs.
Function: TypeAlias = Callable[[Sequence[Any], bool], Sequence[Tensor]]


def is_inexact(value: Any) -> bool:
    """Tell whether a value is a floating or complex array, which can have a gradient."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "fc"


def parts(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Lay the real and imaginary parts of complex values behind one another along an axis."""
    if values.dtype.kind != "c":
        return values
    return np.concatenate([values.real, values.imag], axis=axis)


def analytic_jacobians(
    function: Function, inputs: Sequence[Any], chosen: Sequence[int]
) -> list[NDArray[Any]]:
    """Return the Jacobian for each chosen input, one backward pass for each row.

    Parameters
    ----------
    function : callable
        The function.
    inputs : sequence
        Arrays, and whatever else the function takes.
    chosen : sequence of int
        The inputs to differentiate with respect to; arrays of floating or complex dtype.

    Returns
    -------
    list of ndarray
        One matrix of real numbers for each chosen input.
    """
    tensors = [Tensor(each) if isinstance(each, np.ndarray) else each for each in inputs]
    ends = [tensors[i].requires_grad_() for i in chosen]
    rows: list[list[NDArray[Any]]] = [[] for _ in chosen]
    for output in function(tensors, True):
        for seed in _one_hots(output):
            if not output.requires_grad:
                grads = [np.zeros(end.shape, end.dtype) for end in ends]
            else:
                found = autograd.grad(
                    output, ends, Tensor(seed), retain_graph=True, materialize_grads=True
                )
                grads = [each.detach().data for each in found if each is not None]
            for row, grad in zip(rows, grads, strict=True):
                row.append(parts(grad.reshape(-1), axis=0))
    return [np.array(row).reshape(len(row), -1) for row in rows]


def _one_hots(output: Tensor) -> list[NDArray[Any]]:
    units = (1, 1j) if output.dtype.kind == "c" else (1,)
    seeds = []
    for unit in units:
        for index in np.ndindex(output.shape):
            seed = np.zeros(output.shape, output.dtype)
            seed[index] = unit
            seeds.append(seed)
    return seeds


def numeric_jacobian(function: Function, inputs: Sequence[Any], chosen: int) -> Estimate:
    """Return the Jacobian for one input by numeric differences, with its estimated error."""

    def of_one(x: NDArray[Any]) -> NDArray[Any]:
        changed = [*inputs[:chosen], x, *inputs[chosen + 1 :]]
        tensors = [Tensor(each) if is_inexact(each) else each for each in changed]
        outputs = [each.detach().data for each in function(tensors, False)]
        return np.concatenate([parts(each.reshape(-1), axis=0) for each in outputs])

    x = inputs[chosen]
    units = (1, 1j) if x.dtype.kind == "c" else (1,)
    found = [jacobian(of_one, x, unit) for unit in units]
    rows = len(found[0].value)
    return Estimate(
        *(
            np.concatenate([getattr(each, name).reshape(rows, -1) for each in found], axis=1)
            for name in ("value", "error", "typical")
        )
    )
