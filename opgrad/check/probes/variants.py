"""Whether the backward is right beyond the author's own cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import hookimpl
from opgrad.check.comparing import compare_jacobians
from opgrad.check.findings import Finding, failed, passed, skipped
from opgrad.check.trial import Trial, cotangent, is_inexact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from opgrad.check.discovery import Probe
    from opgrad.operator import Case, Operator
    from opgrad.tensor import Tensor

    Array = NDArray[Any]


def broadcasting(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the backward is wrong where an input is broadcast."""
    author = Trial.of(operator, case)
    if sum(map(is_inexact, author.inputs)) < 2:
        yield skipped("there is nothing to broadcast with", variant="broadcast")
        return
    for trial in _broadcast(author):
        try:
            trial.forward()
        except (ValueError, TypeError, IndexError):
            continue  # the forward does not broadcast this way: there is no claim to test

        def function(
            inputs: Sequence[Any], _record: bool, trial: Trial = trial
        ) -> Sequence[Tensor]:
            return trial.call(inputs)

        names = operator.contract.inputs
        yield from compare_jacobians(function, trial.inputs, trial.chosen, names, trial.variant)


def _broadcast(trial: Trial) -> Iterator[Trial]:
    """Give one input at a time a new leading axis, an axis of size 1, or no axes."""
    for i, each in enumerate(trial.inputs):
        if not is_inexact(each):
            continue
        changed = {"a new first axis": np.stack([each, 1.25 * each])}
        if each.ndim:
            changed["last axis of size 1"] = each[..., :1]
            changed["first axis of size 1"] = each[:1]
            changed["no axes"] = each.reshape(-1)[0]
        for what, value in changed.items():
            inputs = [*trial.inputs[:i], value, *trial.inputs[i + 1 :]]
            yield trial.with_inputs(inputs, f"{trial.name(i)} with {what}")


def single_precision(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that float32 gradients have another dtype, or are off by more than rounding."""
    author = Trial.of(operator, case)
    if not author.chosen or _asks_for_double(author):
        yield skipped("the case has no float32 counterpart", variant="float32")
        return
    narrow = author.with_inputs([*map(_narrowed, author.inputs)], "float32")
    wide = author.with_inputs([*map(_widened, narrow.inputs)], "float64")
    seeds = [cotangent(each) for each in narrow.forward()]
    given = narrow.gradients(seeds)
    reference, rounding = _with_rounding(wide, [*map(_widened, seeds)])
    for i, gradient, exact, allowed in zip(author.chosen, given, reference, rounding, strict=True):
        yield _judge_rounding(narrow.name(i), narrow.inputs[i], gradient, exact, allowed)


def _asks_for_double(trial: Trial) -> bool:
    asked = trial.parameters.get("dtype")
    return asked is not None and np.dtype(asked) in (np.float64, np.complex128)


def _narrowed(value: Any) -> Any:
    if not is_inexact(value):
        return value
    return value.astype(np.complex64 if value.dtype.kind == "c" else np.float32)


def _widened(value: Any) -> Any:
    return value.astype(np.result_type(value, np.float64)) if is_inexact(value) else value


def _with_rounding(wide: Trial, seeds: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Return the gradients in float64, and how much rounding to float32 may change them.

    That is measured: the gradients of inputs and seeds that are off by a rounding of float32.
    """
    eps = float(np.finfo(np.float32).eps)
    rng = np.random.default_rng(0)
    reference = wide.gradients(seeds)
    rounding = [4 * eps * (np.abs(each) + np.abs(each).max(initial=0.0)) for each in reference]
    for _ in range(4):
        moved = wide.with_inputs([_moved(each, eps, rng) for each in wide.inputs], "moved")
        found = moved.gradients([_moved(seed, eps, rng) for seed in seeds])
        rounding = [
            most + 4 * np.abs(near - far)
            for most, near, far in zip(rounding, reference, found, strict=True)
        ]
    return reference, rounding


def _moved(value: Any, eps: float, rng: np.random.Generator) -> Any:
    if not is_inexact(value):
        return value
    return np.asarray(value * (1 + eps * rng.choice([-1, 1], value.shape)))


def _judge_rounding(
    name: str, given: Array, gradient: Array, reference: Array, allowed: Array
) -> Finding:
    if gradient.dtype != given.dtype:
        message = f"the gradient's dtype is {gradient.dtype}, the input's {given.dtype}"
        return failed(message, name, "float32")
    gap = np.abs(gradient - reference)
    if np.all(gap <= allowed):
        return passed(name, "float32")
    at = np.unravel_index(np.argmax(gap - allowed), gap.shape)
    message = (
        f"at input element {tuple(map(int, at))} float32 gives {gradient[at]:.8g}, float64 "
        f"{reference[at]:.8g}, and rounding explains {allowed[at]:.1g}"
    )
    return failed(message, name, "float32")


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [broadcasting, single_precision]
