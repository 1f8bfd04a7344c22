"""Whether the backward gives the declared subgradient where the forward has a kink.

At a kink the derivatives from the left and from the right differ. What the backward has to give
there is what the operator's ``subgradient`` says: see `opgrad.operator.Operator.subgradient`.
Where one of the two does not exist or is infinite, as of the square root at 0, there is no claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import hookimpl
from opgrad.check.asking import accepted
from opgrad.check.comparing import as_row, moving_each, row_at
from opgrad.check.findings import Finding, failed, passed, skipped
from opgrad.check.numeric import Estimate, directions, is_kink, one_sided, scale
from opgrad.check.trial import Trial, cotangent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from opgrad.check.discovery import Probe
    from opgrad.operator import Case, Operator

    Array = NDArray[Any]


def kinks(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the backward gives something else than the declared subgradient at a kink."""
    author = Trial.of(operator, case)
    if not author.chosen or any(author.inputs[i].dtype.kind == "c" for i in author.chosen):
        yield skipped("it has no real inputs with gradients", variant="kinks")
        return
    found = False
    for trial in accepted(_candidates(author)):
        if _is_bent(trial):
            found = True
            yield from _compare(trial)
    if not found:
        yield skipped("no kinks at zeros, ones and ties", variant="kinks")


# ------------------------------------------------------------------------------ finding them


def _candidates(author: Trial) -> Iterator[Trial]:
    """Put inputs where operators have kinks: at 0, at 1 and -1, and where elements are equal."""
    for i in author.chosen:
        x, name = author.inputs[i], author.name(i)
        if not x.size:
            continue
        signs = np.where(np.arange(x.size) % 2, -1.0, 1.0).reshape(x.shape)
        yield author.with_input(i, np.zeros_like(x), f"{name} zero")
        yield author.with_input(i, np.asarray(signs, x.dtype), f"{name} one and minus one")
        if x.size > 1:
            yield author.with_input(i, np.full_like(x, x.flat[0]), f"{name} all equal")
    for i, j in combinations(author.chosen, 2):
        equal = _like(author.inputs[i], author.inputs[j].shape)
        if equal is not None:
            yield author.with_input(j, equal, f"{author.name(i)} equal to {author.name(j)}")


def _like(x: Array, shape: tuple[int, ...]) -> Array | None:
    """Return the elements of x that meet an array of the given shape when both are broadcast."""
    while x.ndim > len(shape):
        x = x[0]
    cut = x[tuple(slice(1 if n == 1 else None) for n in shape[len(shape) - x.ndim :])]
    try:
        return np.broadcast_to(cut, shape).copy()
    except ValueError:
        return None


def _is_bent(trial: Trial) -> bool:
    """Look for a kink by three calls: across a smooth point, slopes differ by little."""
    rng = np.random.default_rng(0)
    step = [2.0**-26 * next(directions(rng, trial.inputs[i], 1)) for i in trial.chosen]
    left, here, right = (row_at(trial, _moved(trial, step, t)) for t in (-1, 0, 1))
    if not (np.isfinite(left) & np.isfinite(here) & np.isfinite(right)).any():
        return False
    bend, slopes = np.abs(right - 2 * here + left), np.abs(right - here) + np.abs(left - here)
    return bool(np.any(bend > 1e-4 * slopes + 64 * np.finfo(float).eps * np.abs(here)))


def _moved(trial: Trial, steps: Sequence[Array], t: float) -> tuple[Any, ...]:
    inputs = [*trial.inputs]
    for i, step in zip(trial.chosen, steps, strict=True):
        inputs[i] = inputs[i] + t * step
    return trial.with_inputs(inputs, "").inputs


# --------------------------------------------------------------------------- what is declared


@dataclass(frozen=True, slots=True)
class _Sides:
    """The derivatives from the left and from the right, as arrays of output by input elements."""

    left: Estimate
    right: Estimate

    @property
    def bent(self) -> Array:
        """Where left and right differ."""
        return is_kink(self.left, self.right)

    @property
    def error(self) -> Array:
        """How far the larger of the two may be off; infinite where one does not exist."""
        sides = (self.left, self.right)
        missing = ~np.isfinite(self.left.value + self.right.value)
        return np.where(missing, np.inf, np.maximum(*(each.error for each in sides)))


def _sides_of(trial: Trial) -> _Sides:
    """Differentiate by each element of each chosen input, from the left and from the right."""
    places = [(i, at) for i in trial.chosen for at in range(trial.inputs[i].size)]
    scales = np.concatenate([scale(trial.inputs[i]).reshape(-1) for i in trial.chosen])
    path = moving_each(trial, places, scales)
    return _Sides(*(_by_column(side, scales) for side in one_sided(path, 0.0, 1.0)))


def _by_column(side: Estimate, scales: Array) -> Estimate:
    return Estimate(*((getattr(side, name).T / scales) for name in Estimate.__slots__))


def _between(sides: _Sides, _trial: Trial) -> tuple[Array, Array]:
    """Allow everything from one one-sided derivative to the other."""
    values = sides.left.value, sides.right.value
    return np.minimum(*values), np.maximum(*values)


def _first(sides: _Sides, _trial: Trial) -> tuple[Array, Array]:
    """Give the first of tied elements its steeper side, and the others the flatter one."""
    left, right = sides.left.value, sides.right.value
    first = sides.bent & (np.cumsum(sides.bent, axis=1) == 1)
    steeper = np.where(np.abs(left) > np.abs(right), left, right)
    chosen = np.where(first, steeper, _nearest_zero(left, right))
    return chosen, chosen


def _least(sides: _Sides, trial: Trial) -> tuple[Array, Array]:
    """Choose the derivatives of least norm: 0, or equal shares of what tied elements add up to.

    Where several elements are at a kink together and neither holds, everything between is right.
    """
    left, right, bent = sides.left.value, sides.right.value, sides.bent
    low, high = _between(sides, trial)
    nearest = _nearest_zero(left, right)
    alone = bent.sum(axis=1, keepdims=True) == 1
    across = left * right < 0
    clear = np.where(bent, alone | across, True)
    low, high = np.where(clear, nearest, low), np.where(clear, nearest, high)
    shares, shared = _shares(sides, trial)
    return np.where(shared, shares, low), np.where(shared, shares, high)


def _shares(sides: _Sides, trial: Trial) -> tuple[Array, Array]:
    """Return what tied elements get, and where elements are tied.

    If ``f = max(3 a, 2 b)`` is at a kink, then along the direction (1/3, 1/2), where both grow
    alike, it is smooth. All its subgradients have the same product with that direction, and the
    least of them is parallel to it.
    """
    total, bent = sides.left.value + sides.right.value, sides.bent
    tied = bent & (np.abs(total) > 1e-6 * np.abs(sides.right.value - sides.left.value))
    inverse = np.divide(1, total, out=np.zeros_like(total), where=tied)
    # One direction serves all outputs, since an element weighs the same wherever it is tied.
    first = np.argmax(tied, axis=0)
    direction = inverse[first, np.arange(tied.shape[1])]
    along = np.where(tied, direction, 0)
    consistent = np.isclose(along, inverse, rtol=1e-4).all(axis=1)
    slopes = _along(trial, direction)
    smooth = consistent & ~is_kink(*slopes) & (tied.sum(axis=1) > 1)
    plain = np.where(bent, 0, np.nan_to_num(sides.right.value)) @ direction
    slope = slopes[1].value - plain
    length = np.sum(along * along, axis=1)
    factor = np.divide(slope, length, out=np.zeros_like(slope), where=smooth)
    return factor[:, None] * along, smooth[:, None] & tied


def _along(trial: Trial, direction: Array) -> tuple[Estimate, Estimate]:
    """Differentiate along a direction in all chosen inputs, from both sides."""
    ends = np.cumsum([trial.inputs[i].size for i in trial.chosen])[:-1]
    steps = [
        part.reshape(trial.inputs[i].shape)
        for i, part in zip(trial.chosen, np.split(direction, ends), strict=True)
    ]

    def path(t: Array) -> Array:
        return row_at(trial, _moved(trial, steps, float(t)))

    return one_sided(path, 0.0, 1.0)


def _hidden(sides: _Sides, trial: Trial) -> Array:
    """Tell of which outputs there is a kink that no element alone shows: a median's, for one."""
    rng = np.random.default_rng(1)
    direction = rng.uniform(0.5, 1, sides.bent.shape[1]) * rng.choice([-1, 1], sides.bent.shape[1])
    return is_kink(*_along(trial, direction)) & ~sides.bent.any(axis=1)


def _nearest_zero(left: Array, right: Array) -> Array:
    nearest = np.where(np.abs(left) < np.abs(right), left, right)
    return np.where(left * right < 0, 0.0, nearest)


_RULES = {"least": _least, "first": _first, "between": _between}


# -------------------------------------------------------------------------------- comparing


def _compare(trial: Trial) -> Iterator[Finding]:
    sides = _sides_of(trial)
    outputs = trial.forward()
    seeds = [cotangent(each) for each in outputs]
    weights = as_row(seeds)
    rule = trial.operator.subgradient(**trial.parameters)
    low, high = (weights[:, None] * each for each in _RULES[rule](sides, trial))
    low, high = np.minimum(low, high).sum(axis=0), np.maximum(low, high).sum(axis=0)
    error = np.abs(weights) @ np.where(_hidden(sides, trial)[:, None], np.inf, sides.error)
    slack = 1e-8 * np.maximum(np.abs(low), np.abs(high)) + 10 * error
    claimed = sides.bent.any(axis=0) & np.isfinite(error)
    start = 0
    for i, gradient in zip(trial.chosen, trial.gradients(seeds), strict=True):
        part = slice(start, start + gradient.size)
        start = part.stop
        if claimed[part].any():
            yield _judge(
                trial, i, gradient.reshape(-1), claimed[part],
                low[part] - slack[part], high[part] + slack[part], rule,
            )  # fmt: skip


def _judge(
    trial: Trial, index: int, given: Array, claimed: Array, low: Array, high: Array, rule: str
) -> Finding:
    wrong = claimed & ~((low <= given) & (given <= high))
    if not wrong.any():
        return passed(trial.name(index), trial.variant)
    at = int(np.argmax(wrong))
    element = tuple(int(n) for n in np.unravel_index(at, trial.inputs[index].shape))
    message = (
        f"at the kink in element {element} the backward gives {given[at]:.10g}, the subgradient "
        f"({rule!r}) is from {low[at]:.10g} to {high[at]:.10g}"
    )
    return failed(message, trial.name(index), trial.variant)


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [kinks]
