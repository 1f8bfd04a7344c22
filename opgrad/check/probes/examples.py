"""Whether many examples at once give what each of them gives by itself."""

from __future__ import annotations

import warnings
from functools import partial
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import hookimpl
from opgrad.batching import vmap
from opgrad.check.asking import accepted, asks, difference, rounding, seeds_for
from opgrad.check.findings import Finding, failed, skipped
from opgrad.check.probes.constants import changed, working
from opgrad.check.probes.shapes import broadcast
from opgrad.check.trial import Trial, as_tensor, is_inexact, vjp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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
    yield from _batched(trial, _choices(_arrays(trial)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a forward says of a parameter is for its user
        for other in working(chain(changed(trial), _of_other_ranks(trial))):
            yield from _batched(other, [tuple(_arrays(other))])


def _batched(trial: Trial, choices: Iterable[tuple[int, ...]]) -> Iterator[Finding]:
    """Compare for each choice of the inputs that differ among the examples."""
    other = next(accepted([_another(trial), trial]))
    for which in choices:
        inputs = [
            np.stack([x, other.inputs[i]]) if i in which else x for i, x in enumerate(trial.inputs)
        ]
        yield from _compared(trial, which, inputs)


def _arrays(trial: Trial) -> list[int]:
    return [i for i, x in enumerate(trial.inputs) if isinstance(x, np.ndarray)]


def _of_other_ranks(trial: Trial) -> Iterator[Trial]:
    """Broadcast one of several inputs, so that it has another number of axes."""
    if sum(map(is_inexact, trial.inputs)) < 2:
        return
    ranks = [*map(np.ndim, trial.inputs)]
    yield from (each for each in broadcast(trial) if [*map(np.ndim, each.inputs)] != ranks)


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
    one_by_one = looped(inputs)
    seeds = seeds_for(one_by_one[1])
    expected, found = (_results(trial, each, seeds) for each in (one_by_one, at_once(inputs)))

    def again(arguments: Sequence[Any]) -> list[Array]:
        count = len(inputs)
        return _results(trial, looped(arguments[:count]), arguments[count:])

    names = [f"output {k}" for k in range(len(seeds))]
    names += [f"the gradient of {trial.name(i)}" for i in trial.chosen]
    what = f"with examples of {', '.join(map(trial.name, which))}"
    limits: list[Any] = []
    for k, (one, other) in enumerate(zip(found, expected, strict=True)):
        if one.dtype != other.dtype:
            message = f"{what}: the dtype of {names[k]} is {one.dtype}, not {other.dtype}"
            yield failed(message, variant=trial.variant)
        elif difference(one, other):
            limits = limits or rounding(again, [*inputs, *seeds])
            if said := difference(one, other, limits[k]):
                yield failed(f"{what}: {names[k]}: {said}", variant=trial.variant)


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


def _results(
    trial: Trial, applied: tuple[list[Any], tuple[Tensor, ...]], seeds: Sequence[Array]
) -> list[Array]:
    """Return the outputs of a call, and the gradients of its inputs."""
    tensors, outputs = applied
    gradients = vjp(outputs, [tensors[i] for i in trial.chosen], seeds)
    return [*(each.detach().data for each in outputs), *gradients]


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [batching]
