"""The numeric derivative that the verifier trusts.

The derivative of f at x along d is the limit of ``(f(x + td) - f(x - td)) / 2t``. A wide step t has
truncation error, a narrow one round-off; no single step suits 1/x at 1e-5, sin(1e6 x) at 1 and
values of 1e30 alike. So nobody chooses a step here:

1. *A ladder of steps*, each half the one above it, from an eighth of x downwards. Steps are powers
   of two relative to x, so that ``x + td`` is exact.
2. *Extrapolation* (Richardson's) takes neighbouring rungs to step zero. Each extrapolated number
   is as uncertain as its distance from the one it improves on, plus the round-off of its rungs.
3. *Every number answers to the finer rungs.* What they measure must agree with it, up to their
   round-off; if it does not, the number is as uncertain as they differ. Wide rungs which agree by
   accident, because f oscillates or because a kink lies between them, are found out here.
4. *Each output element takes its least uncertain number.* Five wide rungs and two narrow witnesses
   (14 calls) settle a well-behaved function; the rest of the ladder is for what is not settled.

The result is an `Estimate`: a value, and how far to trust it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Estimate:
    """x."""

    value: Array
    error: Array
    typical: Array

    def __truediv__(self, factor: float) -> Estimate:
        return Estimate(self.value / factor, self.error / factor, self.typical / factor)


def agrees(analytic: ArrayLike, estimate: Estimate) -> NDArray[np.bool_]:
    a, n = np.asarray(analytic), estimate.value
    bound = 1e-8 * np.maximum(np.abs(a), np.abs(n)) + 10 * estimate.error
    return np.isfinite(a) & (np.abs(a - n) <= bound)


def conclusive(estimate: Estimate, analytic: ArrayLike = 0.0) -> NDArray[np.bool_]:
    size = np.maximum(np.abs(estimate.value), np.abs(analytic))
    scale = np.maximum(estimate.typical, np.max(size, initial=0.0))
    return (10 * estimate.error <= 1e-4 * scale) | (np.isfinite(estimate.error) & (size == 0))


def derivative(f: Callable[[float], ArrayLike]) -> Estimate:
    return _climb(f, 1, -1)


def directional(f: Callable[[Array], ArrayLike], x: ArrayLike, direction: ArrayLike) -> Estimate:
    line, unit = _line(f, x, direction)
    return derivative(line) / unit


def one_sided(f, x, direction) -> tuple[Estimate, Estimate]:
    line, unit = _line(f, x, direction)
    return _climb(line, 0, -1) / unit, _climb(line, 1, 0) / unit


def is_kink(left: Estimate, right: Estimate) -> NDArray[np.bool_]:
    gap = np.abs(right.value - left.value)
    size = np.maximum(np.abs(left.value), np.abs(right.value))
    differ = gap > 1e-3 * size + 10 * (left.error + right.error)
    return differ | (np.isfinite(left.value) != np.isfinite(right.value))


def jacobian(f, x, unit: complex = 1) -> Estimate:
    x = _inexact(x)
    if x.size == 0:
        empty = np.zeros(np.shape(f(x)) + x.shape)
        return Estimate(empty, empty, empty)
    columns = []
    for i in np.ndindex(x.shape):
        one_hot = np.zeros(x.shape, x.dtype)
        one_hot[i] = unit
        columns.append(directional(f, x, one_hot))
    parts = [np.stack([getattr(c, k) for c in columns], -1) for k in Estimate.__slots__]
    return Estimate(*(part.reshape(part.shape[:-1] + x.shape) for part in parts))


def complex_step(f, x, direction) -> Array:
    line, unit = _line(f, x, np.multiply(direction, 1j))
    out = np.asarray(line(_COMPLEX_STEP))
    return out.imag / (_COMPLEX_STEP * unit)


def scale(x: ArrayLike) -> Array:
    size = np.abs(_inexact(x))
    power = np.ldexp(1.0, np.frexp(size)[1] - 1)
    return np.where(size == 0, 1.0, np.maximum(power, _SMALLEST))


def directions(rng: np.random.Generator, x: ArrayLike, count: int) -> Iterator[Array]:
    x = _inexact(x)
    for _ in range(count):
        parts = [_signed(rng, x.shape) for _ in range(1 + np.iscomplexobj(x))]
        yield (parts[0] if len(parts) == 1 else parts[0] + 1j * parts[1]) * scale(x)


def _signed(rng, shape) -> Array:
    size = rng.integers(4, 33, shape) / 32
    sign = rng.choice([-1.0, 1.0], shape)
    if sign.size > 1 and np.all(sign == sign.flat[0]):
        sign.flat[rng.integers(sign.size)] *= -1
    return size * sign


_COMPLEX_STEP = 2.0**-100
_SMALLEST = 2.0**-970


def _inexact(x):
    x = np.asarray(x)
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def _line(f, x, direction):
    x, d = _inexact(x), np.asarray(direction)
    reach = np.max(np.abs(d) / scale(x), initial=0.0)
    unit = float(np.ldexp(1.0, 1 - np.frexp(reach)[1])) if reach else 1.0
    step = unit * d
    return (lambda t: f(np.asarray(x + t * step))), unit


# --------------------------------------------------------------------------------------------------

_WIDEST, _FINEST = 3, 45
_OPENING = 5
_FLIGHT = 6
_COLUMNS = 5
_ROUNDOFF = 0.5
_LENIENCY = 16.0
SETTLED = [1e-10]
COUNT = [0]


def _climb(f, ahead: int, behind: int) -> Estimate:
    ladder = _Ladder(f, (ahead, behind))
    ladder.add(range(_WIDEST, _WIDEST + _OPENING))
    ladder.add(ladder.witnesses)
    done = ladder.read(last=False)
    start = _WIDEST + _OPENING
    while not done:
        ladder.add(range(start, min(start + _FLIGHT, ladder.finest + 1)))
        start += _FLIGHT
        done = ladder.read(last=start > ladder.finest)
    return ladder.estimate()


@dataclass(slots=True)
class _Ladder:
    f: Any
    sides: tuple[int, int]
    rungs: dict[int, Array] = field(default_factory=dict)
    active: Any = None
    shape: Any = None
    eps: float = 2.0**-52
    quantum: float = 2.0**-1074
    base: Any = None
    refusal: Any = None
    result: Any = None
    calls: int = 0

    @property
    def finest(self):
        return min(_FINEST, round(-np.log2(self.eps)) - 7)

    @property
    def witnesses(self):
        bits = round(-np.log2(self.eps))
        return 3 * bits // 8, bits // 2

    def sample(self, t):
        if t == 0 and self.base is not None:
            return self.base
        with np.errstate(all="ignore"):
            try:
                out = np.array(self.f(t))
            except (ArithmeticError, ValueError) as refusal:
                self.refusal = refusal
                return None
        self.calls += 1
        COUNT[0] = self.calls
        info = np.finfo(out.dtype if out.dtype.kind in "fc" else float)
        self.eps = max(self.eps, float(info.eps))
        self.quantum = max(self.quantum, float(info.tiny * info.eps))
        if self.shape is None:
            self.shape = out.shape
        parts = np.stack([out.real, out.imag]) if out.dtype.kind == "c" else out[None]
        parts = parts.reshape(len(parts), -1).astype(np.float64)
        if t == 0:
            self.base = parts
        return parts

    def add(self, exponents):
        for k in exponents:
            if k in self.rungs:
                continue
            pair = [self.sample(side * 2.0**-k) for side in self.sides]
            if pair[0] is None or pair[1] is None:
                continue
            pair = np.stack(pair)
            if self.active is None:
                self.active = np.arange(pair.shape[-1])
                self.result = [np.full(pair.shape[1:], q) for q in (np.nan, np.inf, 0.0)]
            self.rungs[k] = pair[..., self.active]

    def read(self, last):
        if not self.rungs:
            if last:
                raise self.refusal
            return False
        ks = sorted(self.rungs)
        steps = np.array([2.0**-k for k in ks])
        pairs = np.stack([self.rungs[k] for k in ks])
        with np.errstate(all="ignore"):
            v, e, ty, settled = _read(steps, pairs, self.sides, self.eps, self.quantum, last)
        for r, new in zip(self.result, (v, e, ty)):
            r[:, self.active] = new
        self.active = self.active[~settled]
        for k in ks:
            self.rungs[k] = self.rungs[k][..., ~settled]
        return last or not self.active.size

    def estimate(self):
        value, error, typical = self.result
        if len(value) == 2:
            value = value[0] + 1j * value[1]
            error = np.hypot(*error)
        else:
            value, error = value[0], error[0]
        return Estimate(*(p.reshape(self.shape) for p in (value, error, typical.max(axis=0))))


DEBUG = {}


def _read(steps, pairs, sides, eps, quantum, last):
    order = 2 if sides == (1, -1) else 1
    steps = steps[:, None, None]
    span = (sides[0] - sides[1]) * steps
    slopes = (pairs[:, 0] - pairs[:, 1]) / span
    slopes = np.where(np.isfinite(slopes), slopes, np.nan)
    size = np.abs(pairs).max(axis=(1, 2))[:, None]
    model = (_ROUNDOFF * eps * (size + np.abs(slopes)) + quantum) / span
    noise = model
    if last:
        seen = np.abs(np.diff(slopes[-4:], axis=0)) * steps[-3:]
        seen = np.fmax.reduce(seen, initial=0.0)
        noise = np.maximum(model, seen / steps)
    best, raw = _extrapolate(steps, slopes, noise, order)
    err = raw.copy()
    for k in range(len(steps) - 1):
        err[k] += _contradiction(steps[k:], slopes[k:], noise[k:], best[k], order)
    err[np.isnan(err)] = np.inf
    pick = np.argmin(err, axis=0)[None]
    v = np.take_along_axis(best, pick, 0)[0]
    e = np.take_along_axis(err, pick, 0)[0]
    high = np.fmax.accumulate(pairs.max(axis=1)[::-1])[::-1]
    low = np.fmin.accumulate(pairs.min(axis=1)[::-1])[::-1]
    typ = (high - low) / ((1 + (order == 2)) * steps)
    typical = np.take_along_axis(typ, pick, 0)[0]
    if last:
        e = np.maximum(e, _rivals(steps, slopes, best, raw, pairs, typ, v, e, pick, order, size))
    floor = np.fmin.reduce(model)
    done = ((e <= SETTLED[0] * np.abs(v)) | (e <= 8 * floor)).all(axis=0)
    return v, e, typical, done


def _contradiction(steps, slopes, noise, value, order):
    gap = np.abs(slopes[1:] - value)
    allowed = 4 * np.abs(slopes[0] - value) * (steps[1:] / steps[0]) ** order
    return np.maximum(gap - allowed - _LENIENCY * noise[1:], 0).max(axis=0)


def _extrapolate(steps, slopes, noise, order):
    best, error = slopes.copy(), np.full(slopes.shape, np.inf)
    column, doubt = slopes, noise
    for j in range(1, min(_COLUMNS + 1, len(steps))):
        gain = (steps[:-j] / steps[j:]) ** order - 1
        coarse = column[:-1]
        column = column[1:] + (column[1:] - coarse) / gain
        doubt = doubt[1:] + (doubt[1:] + doubt[:-1]) / gain
        e = np.abs(column - coarse) + doubt
        better = e < error[j:]
        best[j:][better] = column[better]
        error[j:][better] = e[better]
    return best, error


RIVAL = [2.0**-10, 0.1, 4]


def _rivals(steps, slopes, best, raw, pairs, typ, v, e, pick, order, size):
    total = pairs.sum(axis=1)
    bend = (total[:-1] - total[1:]) / steps[:-1]
    bend = 2 * bend[1:] - bend[:-1]  # to step zero
    out = np.zeros_like(v)
    for w in range(len(steps) - 2):
        gap = np.abs(best[w] - v)
        amplitude = (
            np.abs(slopes[w + 1 :] - best[w])
            - 4 * np.abs(slopes[w] - best[w]) * (steps[w + 1 :] / steps[w]) ** order
        ) * steps[w + 1 :]
        amplitude = np.maximum(amplitude, 0).max(axis=0)
        rival = (w < pick[0]) & (gap > RIVAL[2] * (raw[w] + amplitude / steps[w]))
        rival &= amplitude < RIVAL[0] * np.maximum(typ[w] * steps[w], RIVAL[0] * size[w])
        kink = np.abs(np.abs(bend[w]) - gap) < RIVAL[1] * gap
        out = np.where(rival & ~kink, np.maximum(out, gap), out)
    return out
