"""The questions that the verifier asks of an operator, one function for each.

A probe takes an operator and one of its author's cases and yields findings. Its docstring says
what a failure of it has found.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from opgrad import autograd
from opgrad.check.findings import Finding, Status
from opgrad.check.jacobians import (
    Function,
    analytic_jacobians,
    is_inexact,
    numeric_jacobian,
)
from opgrad.check.numeric import Estimate, agrees, conclusive
from opgrad.operator import Case, Operator
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

Probe: TypeAlias = Callable[[Operator, Case], Iterator[Finding]]


def first_order(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the backward is not the derivative of the forward."""
    yield from _compare(operator, case, "first_order", derived=False)


def second_order(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the derivative of the backward, in the inputs or in grad, is wrong."""
    chosen = _differentiable(operator, case)
    if not chosen:
        return
    forward = _function(operator, case)
    inputs = list(map(_as_data, case.inputs))
    seeds = [_cotangent(each.detach().data) for each in forward(inputs, False)]
    count = len(inputs)

    def gradients(values: Sequence[Any], record: bool) -> Sequence[Tensor]:
        tensors = [_as_tensor(each) for each in values]
        ends = [tensors[i].requires_grad_() for i in chosen]
        outputs = [each for each in forward(tensors[:count], True) if each.requires_grad]
        grads = autograd.grad(
            outputs, ends, tensors[count:], create_graph=record, materialize_grads=True
        )
        return [each for each in grads if each is not None]

    names = [*operator.contract.inputs[:count], *("grad" for _ in seeds)]
    yield from _judge(
        gradients, [*inputs, *seeds], [*chosen, *range(count, count + len(seeds))], names,
        "second_order", repr(case), derived=False,
    )  # fmt: skip


def broadcasting(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the backward is wrong where an input is broadcast."""
    if sum(map(is_inexact, map(_as_data, case.inputs))) < 2:
        return
    for variant in _broadcast_variants(case):
        try:
            _function(operator, variant)(list(map(_as_data, variant.inputs)), False)
        except (ValueError, TypeError, IndexError):
            continue  # the forward does not broadcast this way: there is no claim to test
        yield from _compare(operator, variant, "broadcasting", derived=True)


def single_precision(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that float32 gradients have another dtype, or are off by more than rounding."""
    chosen = _differentiable(operator, case)
    if not chosen or any(np.dtype(each) == np.float64 for each in _dtypes(case.parameters)):
        return
    narrow = [_narrowed(each) for each in map(_as_data, case.inputs)]
    wide = [_widened(each) for each in narrow]
    function = _function(operator, case)
    for i, gradient, reference, rounding in zip(
        chosen, *_vjps(function, narrow, wide, chosen), strict=True
    ):
        yield _judge_rounding(
            operator.contract.inputs[i], case, narrow[i], gradient, reference, rounding
        )


def not_differentiable(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that an operator declared to have no derivative has one."""
    if operator.differentiable:
        return
    inputs = list(map(_as_data, case.inputs))

    def as_numbers(values: Sequence[Any], record: bool) -> Sequence[Tensor]:
        (output,) = _function(operator, case)(values, record)
        return [Tensor(output.data.astype(float))]

    for i, name in enumerate(operator.contract.inputs):
        if is_inexact(inputs[i]):
            numeric = numeric_jacobian(as_numbers, inputs, i)
            zero = np.zeros_like(numeric.value)
            yield _finding(zero, numeric, "not_differentiable", repr(case), name, derived=False)


#: In the order in which they are asked.
PROBES: dict[str, Probe] = {
    probe.__name__: probe
    for probe in (first_order, second_order, broadcasting, single_precision, not_differentiable)
}


# ---------------------------------------------------------------------- what probes share


def _function(operator: Operator, case: Case) -> Function:
    """Return the operator as a function of its inputs alone, its outputs as a sequence."""

    def function(inputs: Sequence[Any], _record: bool) -> Sequence[Tensor]:
        result = operator(*inputs, **case.parameters)
        return result if isinstance(result, tuple) else (result,)

    return function


def _as_data(value: Any) -> Any:
    return value if not isinstance(value, np.generic) else np.asarray(value)


def _as_tensor(value: Any) -> Any:
    return Tensor(value) if isinstance(value, np.ndarray) else value


def _differentiable(operator: Operator, case: Case) -> list[int]:
    """Return the inputs that have a gradient by the operator's contract and by their dtype."""
    if not operator.differentiable:
        return []
    sources = operator.contract.sources
    return [i for i, each in enumerate(case.inputs) if sources[i] and is_inexact(_as_data(each))]


def _compare(operator: Operator, case: Case, probe: str, *, derived: bool) -> Iterator[Finding]:
    chosen = _differentiable(operator, case)
    inputs = list(map(_as_data, case.inputs))
    yield from _judge(
        _function(operator, case), inputs, chosen, operator.contract.inputs, probe, repr(case),
        derived=derived,
    )  # fmt: skip


def _judge(
    function: Function,
    inputs: Sequence[Any],
    chosen: Sequence[int],
    names: Sequence[str],
    probe: str,
    case: str,
    *,
    derived: bool,
) -> Iterator[Finding]:
    analytic = analytic_jacobians(function, inputs, chosen)
    for i, matrix in zip(chosen, analytic, strict=True):
        numeric = numeric_jacobian(function, inputs, i)
        yield _finding(matrix, numeric, probe, case, names[i], derived=derived)


def _finding(
    analytic: NDArray[Any], numeric: Estimate, probe: str, case: str, name: str, *, derived: bool
) -> Finding:
    """Judge one Jacobian by its worst element."""
    trusted = conclusive(numeric, analytic)
    right = agrees(analytic, numeric)
    wrong = trusted & ~right
    if not analytic.size:
        return Finding(probe, case, name, Status.PASS, derived, "no elements")
    gap = np.abs(analytic - numeric.value)
    size = np.maximum(np.abs(analytic), np.abs(numeric.value))
    relative = np.divide(gap, size, out=np.zeros_like(gap), where=size > 0)
    status, at = Status.PASS, relative
    if wrong.any():
        status, at = Status.FAIL, np.where(wrong, np.nan_to_num(relative, nan=np.inf), -1)
    elif not trusted.all():
        status, at = Status.INCONCLUSIVE, np.where(trusted, -1, numeric.error)
    where = np.unravel_index(np.argmax(at), at.shape)
    row, column = (int(each) for each in where)
    message = {
        Status.FAIL: (
            f"at output element {row}, input element {column} the backward gives "
            f"{analytic[where]:.10g}, the numeric derivative {numeric.value[where]:.10g} "
            f"+- {numeric.error[where]:.1g}"
        ),
        Status.INCONCLUSIVE: (
            f"at output element {row}, input element {column} the numeric derivative "
            f"{numeric.value[where]:.3g} is only known to +- {numeric.error[where]:.1g}"
        ),
    }.get(status, "")
    return Finding(
        probe, case, name, status, derived, message, f"[{row}, {column}]",
        float(analytic[where]), float(numeric.value[where]), float(numeric.error[where]),
        float(np.max(relative, where=right, initial=0.0)) if status is Status.PASS
        else float(relative[where]),
    )  # fmt: skip


# ------------------------------------------------------------------------ deriving variants


def _broadcast_variants(case: Case) -> Iterator[Case]:
    """Give one input at a time a new leading axis, an axis of size 1, or no axes."""
    for i, each in enumerate(map(_as_data, case.inputs)):
        if not is_inexact(each):
            continue
        changed = [np.stack([each, 1.25 * each])]
        if each.ndim:
            changed += [each[..., :1], each[:1], each.reshape(-1)[0]]
        for value in changed:
            yield Case(
                *case.inputs[:i], np.asarray(value), *case.inputs[i + 1 :], **case.parameters
            )


def _cotangent(output: NDArray[Any]) -> NDArray[Any]:
    """Return numbers of both signs, none near zero, the same for the same output."""
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(output).tobytes()))
    seed = rng.uniform(0.5, 1.5, output.shape) * rng.choice([-1, 1], output.shape)
    if output.dtype.kind == "c":
        seed = seed + 1j * rng.uniform(0.5, 1.5, output.shape)
    return np.asarray(seed, output.dtype)


def _dtypes(parameters: dict[str, Any]) -> list[Any]:
    return [parameters["dtype"]] if "dtype" in parameters else []


def _narrowed(value: Any) -> Any:
    if not is_inexact(value):
        return value
    return value.astype(np.complex64 if value.dtype.kind == "c" else np.float32)


def _widened(value: Any) -> Any:
    if not is_inexact(value):
        return value
    return value.astype(np.complex128 if value.dtype.kind == "c" else np.float64)


def _vjps(
    function: Function, narrow: Sequence[Any], wide: Sequence[Any], chosen: Sequence[int]
) -> tuple[list[NDArray[Any]], list[NDArray[Any]], list[NDArray[Any]]]:
    """Return gradients in float32, the same in float64, and how much rounding may change them.

    The last is measured: the float64 gradients of inputs that are off by a rounding of float32.
    """
    eps = float(np.finfo(np.float32).eps)
    reference = _vjp(function, wide, chosen)
    rounding = [
        np.asarray(4 * eps * (np.abs(each) + np.abs(each).max(initial=0.0))) for each in reference
    ]
    rng = np.random.default_rng(0)
    for _ in range(4):
        moved = [
            np.asarray(each * (1 + eps * rng.choice([-1, 1], each.shape)))
            if is_inexact(each)
            else each
            for each in wide
        ]
        for total, near, far in zip(
            rounding, reference, _vjp(function, moved, chosen), strict=True
        ):
            np.add(total, 4 * np.abs(near - far), out=total)
    return _vjp(function, narrow, chosen), reference, rounding


def _vjp(function: Function, inputs: Sequence[Any], chosen: Sequence[int]) -> list[NDArray[Any]]:
    tensors = [_as_tensor(each) for each in inputs]
    ends = [tensors[i].requires_grad_() for i in chosen]
    outputs = [each for each in function(tensors, False) if each.requires_grad]
    rng = np.random.default_rng(0)
    seeds = [Tensor(rng.uniform(0.5, 1.5, each.shape).astype(each.dtype)) for each in outputs]
    grads = autograd.grad(outputs, ends, seeds, materialize_grads=True)
    return [each.data for each in grads if each is not None]


def _judge_rounding(
    name: str,
    case: Case,
    given: NDArray[Any],
    gradient: NDArray[Any],
    reference: NDArray[Any],
    rounding: NDArray[Any],
) -> Finding:
    probe = "single_precision"
    if gradient.dtype != given.dtype:
        message = f"the gradient's dtype is {gradient.dtype}, the input's {given.dtype}"
        return Finding(probe, repr(case), name, Status.FAIL, True, message)
    gap = np.abs(gradient - reference)
    if np.all(gap <= rounding):
        return Finding(probe, repr(case), name, Status.PASS, True)
    where = np.unravel_index(np.argmax(gap - rounding), gap.shape)
    message = (
        f"at input element {tuple(map(int, where))} float32 gives {gradient[where]:.8g}, float64 "
        f"{reference[where]:.8g}; rounding explains {rounding[where]:.1g}"
    )
    return Finding(probe, repr(case), name, Status.FAIL, True, message)
