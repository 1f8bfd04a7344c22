"""The numeric derivative that the verifier trusts.

The derivative of f at x along d is the limit of ``(f(x + td) - f(x - td)) / 2t``. A wide step t has
truncation error, a narrow one round-off, and no single step suits 1/x at 1e-5, sin(1e6 x) at 1 and
values of 1e30 alike. So nobody chooses a step here:

1. *A ladder of steps*, each half the one above it, from about a tenth of x downwards.
2. *Extrapolation* (Richardson's) leads neighbouring rungs to step zero. What it yields is as
   uncertain as its distance from the number it improves on, plus the round-off of its rungs.
3. *Every number answers to the finer rungs.* Wide rungs can agree by accident: f oscillates between
   them, or has a kink there. But then a fine rung measures something else.
4. *A fine number answers to the wide ones.* Below the rounding errors inside f only these are left
   to measure. If all the wide rungs disagree by as little as rounding would, both may be right.
5. *Each output element takes its least uncertain number.* Five wide rungs and two narrow witnesses
   (14 calls) settle a well-behaved function; the rest of the ladder is for what is not settled.

The result is an `Estimate`: a value, and how far to trust it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]
    Function = Callable[[Array], ArrayLike]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Derivatives, and how far to trust them.

    Attributes
    ----------
    value : array
        The derivative of each output element; complex where the output is.
    error : array of float
        Its uncertainty, absolute. A value is rarely off by more than this and, where f can be
        computed to a few units of round-off, practically never by ten times this. Infinite where
        nothing can be said.
    typical : array of float
        The slope that is usual nearby: how much the output varies over the steps that gave the
        value, per step. It stays meaningful where the value itself passes through zero.
    """

    value: Array
    error: Array
    typical: Array


def agrees(analytic: ArrayLike, estimate: Estimate) -> NDArray[np.bool_]:
    """Whether a finite derivative, worked out otherwise, is what the estimate says it is.

    Examples
    --------
    >>> estimate = derivative(lambda t: np.exp(1 + t))
    >>> bool(agrees(np.e, estimate)), bool(agrees(np.e * (1 + 1e-7), estimate))
    (True, False)
    """
    a, n = np.asarray(analytic), estimate.value
    allowed = 1e-8 * np.maximum(np.abs(a), np.abs(n)) + 10 * estimate.error
    return np.isfinite(a) & (np.abs(a - n) <= allowed)


def conclusive(estimate: Estimate, analytic: ArrayLike = 0.0) -> NDArray[np.bool_]:
    """Whether agreement with the estimate means anything.

    It does if ten times the error, which is what `agrees` lets pass, is at most 1e-4 of the
    derivative: then a derivative off by a factor of 1.0005 cannot pass. An element whose own
    derivative is (nearly) zero is measured against the slope that is usual nearby, or against the
    largest derivative in the array: give whole Jacobians. And where f does not change at all and
    ``analytic`` is exactly zero as well, that is agreement at its best.
    """
    size = np.maximum(np.abs(estimate.value), np.abs(analytic))
    largest = np.max(size, initial=0.0, where=np.isfinite(size))
    precise = 10 * estimate.error <= 1e-4 * np.maximum(estimate.typical, largest)
    return np.isfinite(estimate.error) & (precise | (size == 0))


def derivative(f: Callable[[float], ArrayLike]) -> Estimate:
    """Differentiate f at zero, with steps from 1/8 downwards.

    Parameters
    ----------
    f : callable
        Takes a float, returns a real or complex array of any shape, always the same. It may be
        undefined away from zero: steps where it is not finite, or raises ``ArithmeticError`` or
        ``ValueError``, are passed over. What it raises at every step is raised.

    Examples
    --------
    >>> estimate = derivative(lambda t: np.array([np.sin(t), 1e30 * t, 7.0]))
    >>> estimate.value.round(12)
    array([1.e+00, 1.e+30, 0.e+00])
    >>> conclusive(estimate)
    array([ True,  True,  True])
    """
    return _climb(f, 1, -1)


def directional(f: Function, x: ArrayLike, direction: ArrayLike) -> Estimate:
    """Differentiate ``f(x + t * direction)`` by t at zero: the Jacobian times the direction.

    The length of ``direction`` matters to the result, not to the steps: the widest one moves no
    element of x further than an eighth of its `scale`, and at least one element that far. With a
    direction from `directions`, or a one-hot one, no step is rounded.

    Parameters
    ----------
    f : callable
        Takes a float64 or complex128 array of x's shape, returns an array.
    x : array_like
        Where to differentiate.
    direction : array_like
        Of x's shape; complex only where x is, as ``1j`` at one element.

    Examples
    --------
    >>> directional(lambda x: 1 / x, 1e-5, 1.0).value.round(2)
    array(-1.e+10)
    """
    line, unit = _line(f, x, direction)
    return _per(unit, derivative(line))


def jacobian(f: Function, x: ArrayLike, unit: complex = 1) -> Estimate:
    """Differentiate every element of f by every element of x; the shape is ``f(x).shape + x.shape``.

    For complex x, ``unit`` is the direction in the plane: 1 for the real parts, 1j for the
    imaginary parts.

    Examples
    --------
    >>> jacobian(np.cumsum, [1.0, 2.0]).value.round(12)
    array([[1., 0.],
           [1., 1.]])
    """
    x = _inexact(x)
    one_hot = unit * np.eye(x.size).reshape(-1, *x.shape)
    if x.size == 0:
        empty = np.zeros(np.shape(f(x)) + x.shape)
        return Estimate(empty, empty, empty)
    columns = [directional(f, x, direction) for direction in one_hot]
    fields = ([getattr(c, name) for c in columns] for name in Estimate.__slots__)
    stacked = (np.stack(parts, axis=-1) for parts in fields)
    return Estimate(*(part.reshape(*part.shape[:-1], *x.shape) for part in stacked))


def one_sided(f: Function, x: ArrayLike, direction: ArrayLike) -> tuple[Estimate, Estimate]:
    """Differentiate as `directional` does, but from the left alone and from the right alone."""
    line, unit = _line(f, x, direction)
    return _per(unit, _climb(line, 0, -1)), _per(unit, _climb(line, 1, 0))


def is_kink(left: Estimate, right: Estimate) -> NDArray[np.bool_]:
    """Whether the one-sided derivatives differ by more than 1e-3, or only one of them exists.

    Examples
    --------
    >>> bool(is_kink(*one_sided(np.abs, 0.0, 1.0))), bool(is_kink(*one_sided(np.exp, 0.0, 1.0)))
    (True, False)
    """
    gap = np.abs(right.value - left.value)
    size = np.maximum(np.abs(left.value), np.abs(right.value))
    differ = gap > 1e-3 * size + 10 * (left.error + right.error)
    return differ | (np.isfinite(left.value) != np.isfinite(right.value))


def complex_step(f: Function, x: ArrayLike, direction: ArrayLike) -> Array:
    """Differentiate a holomorphic f at real x: the imaginary part of ``f(x + i h d) / h``.

    There is no difference, hence no round-off: h is 2**-100 of x and the result as exact as f.

    Raises
    ------
    TypeError
        If f gives a real array for a complex one, as ``abs`` does: it is not holomorphic.

    Examples
    --------
    >>> float(complex_step(np.exp, 0.0, 1.0))
    1.0
    """
    x, d = np.asarray(x, np.float64), np.asarray(direction, np.float64)
    h = 2.0**-100 * _unit(x, d)
    out = np.asarray(f(np.asarray(x + 1j * (h * d))))
    if not np.iscomplexobj(out):
        raise TypeError(
            f"f turned a complex array into {out.dtype}: a complex step needs a holomorphic f "
            "that keeps the imaginary part; use directional() for this one"
        )
    return out.imag / h


def scale(x: ArrayLike) -> Array:
    """Give the size of each element that steps are relative to.

    It is the power of two at or below ``|x|``, so that a step of a power of two is exact; 1 where x
    is zero; and at least 2**-970, so that the finest step is still a number.

    Examples
    --------
    >>> scale([3.0, -0.3, 0.0])
    array([2.  , 0.25, 1.  ])
    """
    size = np.abs(_inexact(x))
    power = np.ldexp(1.0, np.frexp(size)[1] - 1)
    return np.where(size == 0, 1.0, np.maximum(power, 2.0**-970))


def directions(rng: np.random.Generator, x: ArrayLike, count: int) -> Iterator[Array]:
    """Yield random directions, relative to `scale`, in which no element of x can hide.

    Components are between 1/8 and 1, times a sign, times the scale; for complex x this holds for
    real and imaginary parts. Unless there is only one, they never all have the same sign. They are
    multiples of 1/32, which keeps the steps exact.
    """
    x = _inexact(x)
    parts = (2, x.size) if np.iscomplexobj(x) else (1, x.size)
    for _ in range(count):
        size = rng.integers(4, 33, parts) / 32
        sign = rng.choice([-1.0, 1.0], parts)
        if sign.size > 1 and np.all(sign == sign.flat[0]):
            sign.flat[rng.integers(sign.size)] *= -1
        yield _whole(sign * size).reshape(x.shape) * scale(x)


def _inexact(x: ArrayLike) -> Array:
    return np.asarray(x, np.complex128 if np.iscomplexobj(x) else np.float64)


def _unit(x: Array, direction: Array) -> float:
    """Return the largest power of two that, times the direction, exceeds no element's scale."""
    mantissa, exponent = math.frexp(np.max(np.abs(direction) / scale(x), initial=0.0))
    return 2.0 ** ((mantissa == 0.5) - exponent)


def _line(
    f: Function, x: ArrayLike, direction: ArrayLike
) -> tuple[Callable[[float], ArrayLike], float]:
    """Return f along the direction, in steps relative to x, and how long a step of 1 is."""
    x, d = _inexact(x), _inexact(direction)
    if d.shape != x.shape or (np.iscomplexobj(d) and not np.iscomplexobj(x)):
        raise ValueError(
            f"direction is {d.dtype} of shape {d.shape}, x is {x.dtype} of shape {x.shape}: "
            "give a direction of x's shape, complex only if x is"
        )
    unit = _unit(x, d)
    step = unit * d
    return lambda t: f(np.asarray(x + t * step)), unit


def _per(unit: float, estimate: Estimate) -> Estimate:
    with np.errstate(over="ignore"):
        return Estimate(estimate.value / unit, estimate.error / unit, estimate.typical / unit)


# The ladder ---------------------------------------------------------------------------------------

_WIDEST, _FINEST = 3, 45  # the steps are 2**-3, 2**-4, ..., 2**-45
_OPENING, _FLIGHT = 5, 6  # rungs at first, and as many more at a time
_COLUMNS = 5  # extrapolations at most
_SETTLED = 1e-10  # relative error that needs no more rungs


def _climb(f: Callable[[float], ArrayLike], ahead: int, behind: int) -> Estimate:
    """Differentiate f at 0 by ``(f(ahead * t) - f(behind * t)) / ((ahead - behind) * t)``."""
    ladder = _Ladder(_Sampler(f), ahead, behind)
    ladder.add(range(_WIDEST, _WIDEST + _OPENING))
    ladder.add(ladder.witnesses)
    done = ladder.read()
    for start in range(_WIDEST + _OPENING, ladder.finest + 1, _FLIGHT):
        if done: break
        ladder.add(range(start, min(start + _FLIGHT, ladder.finest + 1)))
        done = ladder.read(last=start + _FLIGHT > ladder.finest)
    return ladder.estimate()
COUNT = [0]

@dataclass(slots=True)
class _Sampler:
    f: Any
    shape: Any = None
    eps: float = 2.0**-52
    quantum: float = 2.0**-1074
    base: Any = None
    refusal: Any = None
    calls: int = 0

    def __call__(self, t):
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

def _whole(parts):
    return parts[0] + 1j * parts[1] if len(parts) == 2 else parts[0]

@dataclass(slots=True)
class _Ladder:
    sample: Any
    ahead: int
    behind: int
    rungs: dict[int, Array] = field(default_factory=dict)
    active: Any = None
    result: Any = None

    @property
    def finest(self):
        return min(_FINEST, round(-np.log2(self.sample.eps)) - 7)

    @property
    def witnesses(self):
        bits = round(-np.log2(self.sample.eps))
        return 3 * bits // 8, bits // 2

    def add(self, exponents):
        for k in exponents:
            if k in self.rungs:
                continue
            pair = [self.sample(side * 2.0**-k) for side in (self.ahead, self.behind)]
            if pair[0] is None or pair[1] is None:
                continue
            pair = np.stack(pair)
            if self.active is None:
                self.active = np.arange(pair.shape[-1])
                self.result = [np.full(pair.shape[1:], q) for q in (np.nan, np.inf, 0.0)]
            self.rungs[k] = pair[..., self.active]

    def read(self, last=False):
        if not self.rungs:
            if last:
                raise self.sample.refusal
            return False
        ks = sorted(self.rungs)
        steps = np.array([2.0**-k for k in ks])
        pairs = np.stack([self.rungs[k] for k in ks])
        with np.errstate(all="ignore"):
            v, e, ty, settled = _read(steps, pairs, (self.ahead, self.behind), self.sample.eps, self.sample.quantum, last)
        for r, new in zip(self.result, (v, e, ty)):
            r[:, self.active] = new
        self.active = self.active[~settled]
        for k in ks:
            self.rungs[k] = self.rungs[k][..., ~settled]
        return not self.active.size

    def estimate(self):
        value, error, typical = self.result
        value = _whole(value)
        error = np.hypot(*error) if len(error) == 2 else error[0]
        return Estimate(*(p.reshape(self.sample.shape) for p in (value, error, typical.max(axis=0))))


OPT = dict(lenience=16., trunc=4., seen=True, rivals=True, rv_range=2.0**-8, rv_kink=.1, rv_gap=4., rv_size=2.**-10, roundoff=.5, noise=True)
def _read(steps, pairs, sides, eps, quantum, last):
    order = 2 if sides == (1, -1) else 1
    steps = steps[:, None, None]
    span = (sides[0] - sides[1]) * steps
    slopes = (pairs[:, 0] - pairs[:, 1]) / span
    slopes = np.where(np.isfinite(slopes), slopes, np.nan)
    size = np.abs(pairs).max(axis=(1, 2))[:, None]
    model = (OPT['roundoff'] * eps * (size + np.abs(slopes)) + quantum) / span
    noise = model
    if last:
        seen = np.abs(np.diff(slopes[-4:], axis=0)) * steps[-3:]
        seen = np.fmax.reduce(seen, initial=0.0)
        noise = np.maximum(model, seen / steps) if OPT['seen'] else model
    best, raw = _extrapolate(steps, slopes, noise, order)
    err = raw.copy()
    wobble = np.zeros_like(raw)
    for k in range(len(steps) - 1):
        dev = np.abs(slopes[k + 1 :] - best[k]) - OPT['trunc'] * np.abs(slopes[k] - best[k]) * (steps[k + 1 :] / steps[k]) ** order
        err[k] += np.maximum(dev - OPT['lenience'] * noise[k + 1 :], 0).max(axis=0)
        wobble[k] = np.maximum(dev * steps[k + 1 :], 0).max(axis=0)
    err[np.isnan(err)] = np.inf
    pick = np.argmin(err, axis=0)[None]
    v = np.take_along_axis(best, pick, 0)[0]
    e = np.take_along_axis(err, pick, 0)[0]
    high = np.fmax.accumulate(pairs.max(axis=1)[::-1])[::-1]
    low = np.fmin.accumulate(pairs.min(axis=1)[::-1])[::-1]
    reach = high - low
    typical = np.take_along_axis(reach / span, pick, 0)[0]
    if OPT['rivals']:
        gap = np.abs(best - v)
        rival = np.arange(len(steps))[:, None, None] < pick
        rival &= gap > OPT['rv_gap'] * (raw + wobble / steps)
        rival &= wobble < OPT['rv_range'] * np.maximum(reach, OPT['rv_size'] * size)
        total = pairs.sum(axis=1)
        bend = (total[:-1] - total[1:]) / steps[:-1]
        bend = 2 * bend[1:] - bend[:-1]  # to step zero
        rival[:-2] &= np.abs(np.abs(bend) - gap[:-2]) > OPT['rv_kink'] * gap[:-2]
        rival[-2:] = False
        e = np.maximum(e, np.where(rival, gap, 0).max(axis=0))
    if last and OPT['noise']:
        e = np.where((seen > OPT['rv_range'] * reach[0]) & (seen > 2.**-20 * size[0]), np.inf, e)
    floor = np.fmin.reduce(model)
    done = ((e <= _SETTLED * np.abs(v)) | (e <= 8 * floor)).all(axis=0)
    return v, e, typical, done


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
