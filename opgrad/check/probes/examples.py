"""Whether many examples at once give what each of them gives by itself."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import hookimpl
from opgrad.batching import vmap
from opgrad.check.asking import accepted, asks, difference, rounding, seeds_for
from opgrad.check.findings import Finding, failed, skipped
from opgrad.check.trial import Trial, as_tensor, is_inexact, vjp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from opgrad.check.discovery import Probe
    from opgrad.tensor import Tensor

    Array = NDArray[Any]


@asks
def batching(trial: Trial) -> Iterator[Finding]:
    """Find that the batch hook gives something else than a loop over the examples."""
    if "batch" not in trial.operator.contract.hooks:
        yield skipped("it has no batch hook")
        return
    arrays = [i for i, x in enumerate(trial.inputs) if isinstance(x, np.ndarray)]
    other = next(accepted([_another(trial), trial]))
    for which in _choices(arrays):
        inputs = [
            np.stack([x, other.inputs[i]]) if i in which else x for i, x in enumerate(trial.inputs)
        ]
        yield from _compared(trial, which, inputs)


def _another(trial: Trial) -> Trial:
    """Return other values of about the same size; the forward may refuse them."""
    inputs = [_changed(x) if isinstance(x, np.ndarray) else x for x in trial.inputs]
    return trial.with_inputs(inputs, trial.variant)


def _changed(x: Array) -> Array:
    rolled = np.roll(x, 1)
    return np.asarray(rolled * (63 / 64), x.dtype) if is_inexact(x) else rolled


def _choices(arrays: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Give the inputs that differ among the examples: one alone, all but one, or all."""
    count = len(arrays)
    for size in sorted({1, count - 1, count} - {0}):
        yield from combinations(arrays, size)


def _compared(trial: Trial, which: Sequence[int], inputs: Sequence[Any]) -> Iterator[Finding]:
    """Compare values and gradients, where some of the inputs have two examples."""
    looped, at_once = (partial(_applied, trial, which, loop=each) for each in (True, False))
    seeds = seeds_for(looped(inputs)[1])
    arguments = [*inputs, *seeds]
    found, expected = (_results(trial, each, arguments) for each in (at_once, looped))
    names = [f"output {k}" for k in range(len(seeds))]
    names += [f"the gradient of {trial.name(i)}" for i in trial.chosen]
    what = f"with examples of {', '.join(map(trial.name, which))}"
    limits: list[Any] = []
    for k, (one, other) in enumerate(zip(found, expected, strict=True)):
        if one.dtype != other.dtype:
            yield failed(f"{what}: the dtype of {names[k]} is {one.dtype}, not {other.dtype}")
        elif difference(one, other):
            limits = limits or rounding(partial(_results, trial, looped), arguments)
            if said := difference(one, other, limits[k]):
                yield failed(f"{what}: {names[k]}: {said}")


def _applied(
    trial: Trial, which: Sequence[int], inputs: Sequence[Any], *, loop: bool
) -> tuple[list[Any], tuple[Tensor, ...]]:
    """Apply the operator to the examples; return the inputs, as tensors, and the outputs."""

    def of_one(*inputs: Any) -> tuple[Tensor, ...]:
        return trial.call(inputs)

    tensors = [as_tensor(each) for each in inputs]
    for i in trial.chosen:
        tensors[i].requires_grad_()
    axes = tuple(0 if i in which else None for i in range(len(inputs)))
    return tensors, vmap(of_one, axes, loop=loop)(*tensors)


def _results(trial: Trial, applied: Callable[..., Any], arguments: Sequence[Any]) -> list[Array]:
    """Return the outputs, and the gradients of the inputs, from the inputs and the seeds."""
    count = len(trial.inputs)
    tensors, outputs = applied(arguments[:count])
    gradients = vjp(outputs, [tensors[i] for i in trial.chosen], arguments[count:])
    return [*(each.detach().data for each in outputs), *gradients]


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [batching]
