"""Whether the backward is right where the author did not look: for tiny, large, odd numbers."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import hookimpl
from opgrad.check.asking import REFUSALS, accepted
from opgrad.check.comparing import as_row, compare_directions, judge, moving_each
from opgrad.check.elements import Places
from opgrad.check.findings import Finding, Status, failed, passed, skipped
from opgrad.check.numeric import (
    Estimate,
    agrees,
    conclusive,
    derivative,
    is_kink,
    one_sided,
    scale,
)
from opgrad.check.trial import Trial, cotangent, is_inexact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from opgrad.check.discovery import Probe
    from opgrad.operator import Case, Operator

    Array = NDArray[Any]

#: Tiny, small, ordinary and large numbers of both signs; at none of them, nor at a pair of them,
#: does an operator usually have a kink.
GRID = (1e-30, -1.3e-30, 1e-8, -1.3e-8, 1.1, -1.3, 30.3, -33.1, 1033.7, -1121.3)

#: How far from the bounds of its domain an operator is asked, relative to the bound; and how far
#: from a bound of 0.
NEAR, NEAR_ZERO = (1e-3, 1e-6, 1e-9), (1e-9, 1e-15, 1e-100)


def magnitudes(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the backward is wrong for tiny, large or negative elements, or near a bound."""
    author = Trial.of(operator, case)
    inputs = author.inputs
    asked = [i for i in author.chosen if inputs[i].dtype.kind == "f" and inputs[i].size]
    if not asked:
        yield skipped("it has no real inputs with gradients", variant="magnitudes")
        return
    spread = [(i, *each) for i in asked for each in _on_grid(author, i)]
    if not spread:
        message = "the forward refuses the numbers, or gives nan or inf"
        yield skipped(message, variant="magnitudes")
    for i, trial, places in spread:
        yield from _compare_each(trial, i, places)


def _on_grid(author: Trial, index: int) -> Iterator[tuple[Trial, list[int]]]:
    """Spread the grid over the elements of an input, as far as two rounds go; and all bounds."""
    x, name = author.inputs[index], author.name(index)
    rng = np.random.default_rng(zlib.crc32(x.tobytes()))
    grid = rng.permutation(GRID)[: 2 * x.size]
    yield from _spread(author, index, grid, rng, f"{name} of many magnitudes")
    bounds = np.array([*_next_to_bounds(author, index)], x.dtype)
    yield from _spread(author, index, bounds, rng, f"{name} next to the bounds of its domain")


def _spread(
    author: Trial, index: int, numbers: Array, rng: np.random.Generator, variant: str
) -> Iterator[tuple[Trial, list[int]]]:
    """Put numbers into elements of an input, in as many rounds as it takes.

    A number of which the forward makes something that is not finite is left out.
    """
    x = author.inputs[index]
    for start in range(0, len(numbers), x.size):
        changed, places = np.array(x), []
        some = numbers[start : start + x.size]
        for at, number in zip(rng.permutation(x.size), some, strict=False):
            if _is_finite(author.with_input(index, _replaced(x, at, number), "")):
                changed.flat[at] = number
                places.append(int(at))
        trial = author.with_input(index, changed, variant)
        if places and _is_finite(trial):
            yield trial, places


def _next_to_bounds(author: Trial, index: int) -> Iterator[float]:
    """Yield numbers next to the finite bounds of an input's domain, all of them inside."""
    low, high = _domain(author, index)
    as_dtype = author.inputs[index].dtype.type
    for bound, inwards in ((low, 1), (high, -1)):
        if np.isfinite(bound):
            for far in np.multiply(NEAR, abs(bound)) if bound else NEAR_ZERO:
                number = as_dtype(bound + inwards * far)
                if low < number < high:
                    yield number


def _domain(trial: Trial, index: int) -> tuple[float, float]:
    return trial.operator.domain.get(trial.name(index), (-np.inf, np.inf))


def _beyond(trial: Trial, index: int) -> Array:
    """Tell for each element of an input whether it is beyond the bounds of the input's domain."""
    low, high = _domain(trial, index)
    x = trial.inputs[index]
    return np.asarray((x < low) | (x > high)) if x.dtype.kind == "f" else np.zeros(x.shape, bool)


def _replaced(x: Array, at: int, number: float) -> Array:
    changed = np.array(x)
    changed.flat[at] = number
    return changed


def _is_finite(trial: Trial) -> bool:
    try:
        return all(np.isfinite(each).all() for each in trial.forward())
    except REFUSALS:
        return False


def _is_claimed(trial: Trial) -> bool:
    """Tell whether outputs are finite, and gradients have to be: one beyond a bound does not."""
    if not _is_finite(trial):
        return False
    if not any(_beyond(trial, i).any() for i in trial.chosen):
        return True
    found = trial.gradients([cotangent(each) for each in trial.forward()])
    return all(np.isfinite(each).all() for each in found)


def _compare_each(trial: Trial, index: int, places: Sequence[int]) -> Iterator[Finding]:
    """Compare the gradient at each of some elements of an input with its numeric derivative."""
    seeds = [cotangent(each) for each in trial.forward()]
    gradients = dict(zip(trial.chosen, trial.gradients(seeds), strict=True))
    analytic = gradients[index].reshape(-1)[[*places]]
    where, weights = [(index, at) for at in places], as_row(seeds)
    numeric = _numeric(trial, where, weights)
    right, known = agrees(analytic, numeric), conclusive(numeric, analytic)
    known &= np.isfinite(analytic) | ~_beyond(trial, index).reshape(-1)[[*places]]
    if not np.all(right[known]):
        # Other steps have to confirm it: where the forward jumps, regular ones can mislead. And
        # where it cancels, it cannot tell slopes from the rounding of its ordinary ones.
        again = _numeric(trial, where, weights, factor=0.7)
        confirmed = agrees(again.value, numeric) & conclusive(again, analytic)
        slight = np.abs(analytic - numeric.value) < 1e-12 * _ordinary(trial, where, weights)
        known &= right | (confirmed & ~slight)
    if not known.any():
        message = "the numeric derivative is not known at any of the numbers"
        yield Finding(Status.INCONCLUSIVE, message, trial.name(index), trial.variant)
        return
    numeric = Estimate(*(each[known] for each in _fields(numeric)))
    called = Places([], trial.inputs[index], trial.name(index))
    at = [place for place, each in zip(places, known, strict=True) if each]
    yield judge(
        analytic[known], numeric, lambda k: called.column(at[k]), trial.name(index), trial.variant
    )


def _ordinary(trial: Trial, places: Sequence[tuple[int, int]], weights: Array) -> Array:
    """Return how steep the weighted sum of the outputs is over a distance of about 1."""
    path = moving_each(trial, places, np.ones(len(places)))
    return np.asarray(np.abs(path(0.5) - path(-0.4)) @ np.abs(weights))


def _numeric(
    trial: Trial, places: Sequence[tuple[int, int]], weights: Array, factor: float = 1.0
) -> Estimate:
    """Differentiate the weighted sum of the outputs by elements of the inputs.

    Beside other elements, a tiny one can move unnoticed. Such a one is moved as if it were 1; if
    there is a kink on either side of it, nothing is known.
    """
    sizes = factor * np.array([scale(trial.inputs[i]).flat[at] for i, at in places])
    ones = np.full_like(sizes, factor)
    near, here = moving_each(trial, places, sizes), as_row(trial.forward())
    reached = _reached(trial, places, here)
    unnoticed = reached & (np.abs(near(0.125) - here) <= 1e-6 * np.abs(here))
    lost = (sizes < 1e-3) & unnoticed.any(axis=1)

    found = np.zeros((3, *reached.shape))
    if not lost.all():
        some = [place for place, each in zip(places, lost, strict=True) if not each]
        found[:, ~lost] = _fields(derivative(moving_each(trial, some, sizes[~lost])))
    if lost.any():
        some = [place for place, each in zip(places, lost, strict=True) if each]
        left, right = one_sided(moving_each(trial, some, ones[lost]), 0.0, 1.0)
        found[:, lost] = _fields(right)
        found[1, lost] = np.where(is_kink(left, right), np.inf, right.error)
    # Each output counts only by the elements that reach it: the others' rounding is not its own.
    value, error, typical = np.where(reached, found, 0) / np.where(lost, ones, sizes)[:, None]
    return Estimate(value @ weights, error @ np.abs(weights), typical @ np.abs(weights))


def _reached(trial: Trial, places: Sequence[tuple[int, int]], here: Array) -> Array:
    """Tell which outputs each element reaches as it moves: nearby, to ordinary numbers, and far.

    It stops short of the bounds of its domain, and what the forward refuses tells nothing. One that
    reaches no output, as far as can be seen, may reach any of them by less.
    """
    numbers = np.array([trial.inputs[i].flat[at] for i, at in places])
    low, high = np.array([_domain(trial, i) for i, _ in places]).T
    reached = np.zeros((len(places), here.size), bool)
    for to in (numbers + 0.5, numbers + 2e3, numbers - 3e3, 0.7, -0.4):
        inside = np.clip(to, (numbers + low) / 2, (numbers + high) / 2)
        moved = moving_each(trial, places, inside - numbers)(1.0)
        reached |= (moved != here) & ~np.isnan(moved).all(axis=1, keepdims=True)
    return reached | ~reached.any(axis=1, keepdims=True)


def _fields(numeric: Estimate) -> tuple[Array, Array, Array]:
    return numeric.value, numeric.error, numeric.typical


def rescaled(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the backward is wrong where all inputs are large, or have the other sign."""
    author = Trial.of(operator, case)
    if not author.chosen:
        yield skipped("no input has a gradient", variant="rescaled")
        return
    for what, factor in (("inputs times 20", 20), ("inputs negated", -1)):
        inputs = [factor * x if is_inexact(x) else x for x in author.inputs]
        for trial in filter(_is_claimed, [author.with_inputs(inputs, what)]):
            yield from compare_directions(trial)


def exact_zeros(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that a gradient is nan at an exact zero, although the result there is finite."""
    author = Trial.of(operator, case)
    # Of complex numbers, NumPy's infinities are nan.
    if not author.chosen or any(np.iscomplexobj(each) for each in author.inputs):
        yield skipped("it has no real inputs with gradients", variant="zeros")
        return
    for trial in filter(_is_claimed, _with_zeros(author)):
        found = trial.gradients([cotangent(each) for each in trial.forward()])
        pairs = zip(trial.chosen, found, strict=True)
        nan = [trial.name(i) for i, gradient in pairs if np.isnan(gradient).any()]
        if nan:
            yield failed("the gradient is nan, and the result is finite", nan[0], trial.variant)
        else:
            yield passed(variant=trial.variant)


def _with_zeros(author: Trial) -> Iterator[Trial]:
    """Put a zero into one of the first elements of an input, or into all, or into all inputs."""
    zeros = [*author.inputs]
    for i in author.chosen:
        x, name = author.inputs[i], author.name(i)
        zeros[i] = np.zeros_like(x)
        for at in range(min(x.size, 3)):
            yield author.with_input(i, _replaced(x, at, 0.0), f"{name} is 0 at [{at}]")
        yield author.with_input(i, zeros[i], f"{name} is 0")
    if len(author.chosen) > 1:
        yield author.with_inputs(zeros, "all inputs are 0")


def not_finite(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the backward raises where an input has nan or inf."""
    author = Trial.of(operator, case)
    asked = [i for i in author.chosen if author.inputs[i].size]
    if not asked:
        yield skipped("no input has a gradient", variant="nan and inf")
        return
    for i in asked:
        for number in (np.nan, np.inf, -np.inf):
            value = _replaced(author.inputs[i], 0, number)
            for trial in accepted([author.with_input(i, value, f"{author.name(i)} has {number}")]):
                trial.gradients([cotangent(each) for each in trial.forward()])
                yield passed(author.name(i), trial.variant)


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [magnitudes, rescaled, exact_zeros, not_finite]
