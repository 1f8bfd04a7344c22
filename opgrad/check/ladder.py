"""The ladder of steps behind `opgrad.check.numeric`, whose docstring tells the idea.

Arrays have the axes (rung, part, element), the widest rung first. A complex output has two parts,
which are differentiated apart. Where f is not finite there is nan, which spoils only the numbers
that stem from it or would have to answer to it. No constant is critical: twice or half of any
changes next to nothing in thousands of random expressions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]

#: From how far to go, to what is there.
Path: TypeAlias = "Callable[[float], ArrayLike]"

#: What f raises outside its domain.
OUTSIDE = (ArithmeticError, ValueError)

_OPENING = range(3, 8)  # rungs by exponent: the steps are 2**-3, 2**-4, ..., 2**-7
_FLIGHT = 6  # rungs added at a time
_COLUMNS = 5  # extrapolations at most
_SETTLED = 1e-10  # the relative error that asks for no more rungs
_IRREGULAR = 0.011  # a step with many binary digits: on short ones, f may be exact by accident
# Numbers with more digits than float64; some machines have none.
_EXTENDED = [np.dtype(t) for t in (np.longdouble, np.clongdouble) if np.finfo(t).eps < 2.0**-60]


def climb(
    f: Path, unit: ArrayLike = 1.0, from_zero: ArrayLike = False, *, ahead: int, behind: int
) -> tuple[Array, Array, Array]:
    """Differentiate f at 0 by ``(f(ahead * t) - f(behind * t)) / (ahead - behind) / t / unit``.

    Returns
    -------
    value, error, typical : tuple of array
        The fields of an `Estimate`.
    """
    ladder = _Ladder(_Sampler(f), ahead, behind, from_zero)
    ladder.add(_OPENING)
    bits = round(-math.log2(ladder.sample.eps))
    ladder.add((3 * bits // 8, bits // 2))  # the witnesses
    ladder.rounding = ladder.sample.rounding(_IRREGULAR * (ahead or behind))
    start = _OPENING.stop
    while not ladder.judge() and start < bits - 8:
        ladder.add(range(start, start + _FLIGHT))
        start += _FLIGHT
    return ladder.estimate(unit)


@dataclass(slots=True)
class _Sampler:
    """Evaluates f, and learns how finely f can be computed."""

    f: Path
    shape: tuple[int, ...] | None = None
    eps: float = 2.0**-52
    smallest: float = 2.0**-1074  # number above zero
    refusal: Exception | None = None

    def __call__(self, t: float) -> Array | None:
        """Return f(t) with axes (part, element); None where f refuses."""
        try:
            with np.errstate(all="ignore"):
                out = np.asarray(self.f(t))
        except OUTSIDE as refusal:
            self.refusal = refusal
            return None
        self._learn(out)
        parts = np.array([out.real, out.imag] if out.dtype.kind == "c" else [out], np.float64)
        return parts.reshape(len(parts), -1)

    def rounding(self, t: float) -> ArrayLike:
        """Return how far f(t) is from f worked out to more digits; 0 where they cannot be had."""
        if not _EXTENDED:
            return 0.0
        try:
            with np.errstate(all="ignore"):
                fine = np.asarray(self.f(np.longdouble(t)))  # type: ignore[arg-type]
        except Exception:  # noqa: BLE001 - for whatever reason, f does not take such numbers
            return 0.0
        if fine.dtype not in _EXTENDED or fine.shape != self.shape or (rough := self(t)) is None:
            return 0.0
        with np.errstate(all="ignore"):
            gap = np.abs(fine - joined(rough).reshape(fine.shape)).astype(np.float64)
        return np.where(np.isfinite(gap), gap, 0.0)

    def _learn(self, out: Array) -> None:
        if out.dtype.kind not in "biufc" or self.shape not in (None, out.shape):
            expected = "numbers" if self.shape is None else f"numbers of shape {self.shape}"
            msg = f"f returned {out.dtype} of shape {out.shape}, expected {expected}"
            raise TypeError(msg)
        self.shape = out.shape
        if out.dtype.kind in "fc":
            info = np.finfo(out.dtype)
            self.eps = max(self.eps, float(info.eps))
            self.smallest = max(self.smallest, float(info.tiny) * float(info.eps))


@dataclass(slots=True)
class _Ladder:
    """The rungs so far, for elements still open; and what is known, for all elements."""

    sample: _Sampler
    ahead: int
    behind: int
    from_zero: ArrayLike
    rungs: dict[int, Array] = field(default_factory=dict)  # exponent: samples ahead and behind
    open: Any = field(default_factory=lambda: slice(None))  # indices of elements
    rounding: ArrayLike = 0.0  # inside f
    known: Array | None = None  # value, error, typical

    def add(self, exponents: Iterable[int]) -> None:
        for k in exponents:
            if k not in self.rungs:
                ahead, behind = (self.sample(side * 2.0**-k) for side in (self.ahead, self.behind))
                if ahead is not None and behind is not None:
                    self.rungs[k] = np.array([ahead, behind])[..., self.open]

    def judge(self) -> bool:
        """Update what is known; return whether no element is open any more."""
        if not self.rungs:
            return False
        exponents, pairs = zip(*sorted(self.rungs.items()), strict=True)
        step = np.ldexp(1.0, -np.array(exponents)).reshape(-1, 1, 1)
        ahead, behind = np.array(pairs).swapaxes(0, 1)
        each = (
            np.broadcast_to(given, self.sample.shape or ()).ravel()[self.open]
            for given in (self.from_zero, self.rounding)
        )
        with np.errstate(all="ignore"):
            rungs = _Rungs(step, ahead, behind, self.ahead - self.behind)
            known, settled = _judge(rungs, self.sample, *each)
        if self.known is None:
            self.known, self.open = known, np.arange(known.shape[-1])
        self.known[..., self.open] = known
        if settled.all():
            return True
        self.open = self.open[~settled]
        self.rungs = {k: pair[..., ~settled] for k, pair in self.rungs.items()}
        return False

    def estimate(self, unit: ArrayLike) -> tuple[Array, Array, Array]:
        if self.known is None:
            assert self.sample.refusal is not None
            raise self.sample.refusal
        value, error, typical = self.known
        whole = (joined(value), error.sum(axis=0), typical.max(axis=0))
        with np.errstate(over="ignore"):
            a, b, c = (np.asarray(each.reshape(self.sample.shape) / unit) for each in whole)
        return a, b, c


class _Rungs:
    """Difference quotients of f, and what else its samples tell."""

    def __init__(self, step: Array, ahead: Array, behind: Array, width: int) -> None:
        self.step = step
        self.span = width * step
        self.order = width  # of accuracy: 2 if central, 1 if one-sided
        self.slope = (ahead - behind) / self.span
        self.slope[~np.isfinite(self.slope)] = np.nan
        self.size = np.maximum(np.abs(ahead), np.abs(behind)).max(axis=1, keepdims=True)
        # Over each rung and those below it: the range of f, where finite.
        finite = np.where(np.isnan(self.slope), np.nan, [ahead, behind])
        highest = np.fmax.accumulate(finite.max(axis=0)[::-1])[::-1]
        self.reach = highest - np.fmin.accumulate(finite.min(axis=0)[::-1])[::-1]
        # A kink there shifts the slope by as much as it bends the even part of f, at step zero.
        even = ahead + behind
        bend = (even[:-1] - even[1:]) / step[:-1]
        self.kink = np.zeros_like(even)
        if width == 2:
            self.kink[:-2] = np.abs(2 * bend[1:] - bend[:-1])


def _judge(
    rungs: _Rungs, sample: _Sampler, from_zero: Array, rounding: Array
) -> tuple[Array, Array]:
    """Return value, error and typical slope of each element; and which need no more rungs."""
    # Half a unit of round-off in f, and half a unit in what f makes of its argument to begin with;
    # or what the finest rungs show, where that is still round-off.
    steepness = np.abs(rungs.slope).max(axis=1, keepdims=True)
    roundoff = (0.5 * sample.eps * (rungs.size + steepness) + sample.smallest) / rungs.span
    tremor = _tremor(rungs)
    noise = np.maximum(roundoff, tremor / rungs.step)
    noise = np.where(noise < 256 * roundoff, noise, roundoff)

    # What f is left over from may be larger, with larger rounding errors. One look at them may have
    # met a small one; and where nothing moves, numbers near one may have swallowed all movement.
    still = (rungs.slope == 0).all(axis=1, keepdims=True)
    inside = np.maximum(8 * rounding, np.where(still, sample.eps * np.maximum(rungs.size, 1), 0))

    number, error = _extrapolate(rungs, noise)
    conflict, wobble = _answer(rungs, noise, number)
    doubt = error + conflict
    doubt[np.isnan(doubt)] = np.inf
    best = np.argmin(doubt, axis=0, keepdims=True)
    _, part, element = np.indices(best.shape, sparse=True)
    value, doubt, floor, typical, unseen = (
        each[best, part % each.shape[1], element]
        for each in (number, doubt, roundoff, rungs.reach / rungs.span, inside / rungs.span)
    )
    wider = np.arange(len(number)).reshape(-1, 1, 1) < best
    objection = _objection(rungs, error, wobble, np.abs(number - value))
    doubt = np.maximum(doubt, np.max(objection, axis=0, initial=0.0, where=wider))

    modulus = np.abs(value).max(axis=1, keepdims=True)
    settled = (doubt <= np.maximum(_SETTLED * modulus, 8 * floor)).all(axis=1, keepdims=True)
    unresolved = (tremor > 2.0**-8 * rungs.reach[0]).any(axis=0)
    doubt = np.where(~settled & unresolved, np.inf, doubt)
    doubt = doubt + unseen
    # From x = 0, all that f is made of may shrink with the step, and its rounding errors with it.
    # The rungs then agree on a slope which consists of those, small beside that of a wide step.
    far = np.where(from_zero, rungs.reach[0] / rungs.span[0], 0.0)
    doubt = np.fmax(doubt, max(2.0**-34, 8 * sample.eps) * far)
    typical = np.fmax(typical, far)
    return np.concatenate([value, doubt, typical]), settled[0, 0]


def _tremor(rungs: _Rungs) -> Array:
    """Return by how much f trembles, as the finest rungs show it: they should all but agree."""
    finest = (rungs.step <= 4 * rungs.step[-1])[1:, 0, 0]
    moves = np.abs(np.diff(rungs.slope, axis=0)) * rungs.step[1:]
    return np.asarray(moves[finest].max(axis=0, initial=0.0))


def _extrapolate(rungs: _Rungs, noise: Array) -> tuple[Array, Array]:
    """Return the best number that ends on each rung, and its error."""
    step, column = rungs.step, rungs.slope
    number, error = column.copy(), np.full(column.shape, np.inf)
    for j in range(1, min(_COLUMNS + 1, len(step))):
        gain = (step[:-j] / step[j:]) ** rungs.order - 1
        coarse = column[:-1]
        column = column[1:] + (column[1:] - coarse) / gain
        noise = noise[1:] + (noise[1:] + noise[:-1]) / gain
        distance = np.abs(column - coarse) + noise
        better = distance < error[j:]
        number[j:][better] = column[better]
        error[j:][better] = distance[better]
    error[-2:] = np.inf  # the last two have too few to answer to
    return number, error


def _answer(rungs: _Rungs, noise: Array, number: Array) -> tuple[Array, Array]:
    """Return by how much the finer rungs contradict each number, and by what wobble of f.

    They may deviate by truncation, which falls with the step, and by a multiple of their noise.
    """
    step, slope = rungs.step, rungs.slope
    conflict, wobble = np.zeros_like(number), np.zeros_like(number)
    for k in range(len(step) - 1):
        finer = slice(k + 1, None)
        truncation = np.abs(slope[k] - number[k]) * (step[finer] / step[k]) ** rungs.order
        excess = np.abs(slope[finer] - number[k]) - 4 * truncation
        conflict[k] = np.maximum(excess - 16 * noise[finer], 0).max(axis=0)
        wobble[k] = np.maximum(excess * step[finer], 0).max(axis=0)
    return conflict, wobble


def _objection(rungs: _Rungs, error: Array, wobble: Array, gap: Array) -> Array:
    """Return the gap between each number and the value, where the number cannot be dismissed.

    It can if f wobbles below it more than rounding does, if a kink there explains the gap, or if
    its own uncertainty does.
    """
    rounding = wobble < 2.0**-5 * np.maximum(rungs.reach, 2.0**-10 * rungs.size)
    unexplained = np.minimum(gap, np.abs(gap - rungs.kink))
    serious = unexplained > 0.1 * gap + 4 * (error + wobble / rungs.step)
    return np.where(rounding & serious, gap, 0.0)


def joined(parts: Array) -> Array:
    """Return numbers from their real parts, and their imaginary ones if there are any."""
    whole: Array = parts[0] if len(parts) == 1 else parts[0] + 1j * parts[1]
    return whole
