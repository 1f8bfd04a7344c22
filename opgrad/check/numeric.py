"""The numeric derivative that the verifier trusts.

The derivative of f at x along d is the limit of ``(f(x + td) - f(x - td)) / 2t``. A wide step t has
truncation error, a narrow one round-off, and no single step suits 1/x at 1e-5, sin(1e6 x) at 1 and
values of 1e30 alike. So nobody chooses a step here:

1. *A ladder of steps*, each half the one above it, from about a tenth of x downwards.
2. *Extrapolation* (Richardson's) leads neighbouring rungs to step zero. What it yields is as
   uncertain as its distance from the number it improves on, plus the round-off of its rungs.
3. *Every number answers to the finer rungs.* Wide rungs can agree by accident, where f oscillates
   or has a kink between them; but then a finer rung measures something else.
4. *Every number answers to the wide rungs.* Below the rounding errors inside f, only these are left
   to measure. Where wide rungs object, and rounding could be the reason, nobody knows.
5. *Each output element takes its least uncertain number.* Five wide rungs and two narrow witnesses
   (14 calls) settle a well-behaved function; the rest of the ladder is for what is not settled.

The result is an `Estimate`: a value, and how far to trust it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]
    Function = Callable[[Array], ArrayLike]
    Path = Callable[[float], ArrayLike]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Derivatives, and how far to trust them.

    Attributes
    ----------
    value : array
        The derivative of each output element; complex where the output is.
    error : array of float
        Its typical error, absolute. Where f is computed to within a few units of round-off, the
        value is practically never off by ten times this. Infinite where nothing can be said.
    typical : array of float
        The usual slope nearby: how far the output moves over the steps that gave the value, per
        step. It is the yardstick where the derivative itself passes through zero.
    """

    value: Array
    error: Array
    typical: Array


def agrees(analytic: ArrayLike, estimate: Estimate) -> Array:
    """Whether a derivative worked out otherwise is finite and what the estimate says.

    Examples
    --------
    >>> estimate = derivative(lambda t: np.exp(1 + t))
    >>> bool(agrees(np.e, estimate)), bool(agrees(np.e * (1 + 1e-7), estimate))
    (True, False)
    """
    a, n = np.asarray(analytic), estimate.value
    with np.errstate(invalid="ignore"):
        allowed = 1e-8 * np.maximum(np.abs(a), np.abs(n)) + 10 * estimate.error
        return np.asarray(np.isfinite(a) & (np.abs(a - n) <= allowed))


def conclusive(estimate: Estimate, analytic: ArrayLike = 0.0) -> Array:
    """Whether agreement with the estimate means anything.

    It does if the ten errors that `agrees` lets pass are at most 2e-4 of the derivative: then one
    that is off by a factor of 1.0005 fails, even if the value is off by ten errors as well. Where
    the derivative is next to nothing, the yardstick is the usual slope nearby or the largest
    derivative in the array (so give a whole Jacobian). And it does where f does not move at all
    and ``analytic`` is zero too.
    """
    size = np.maximum(np.abs(estimate.value), np.nan_to_num(np.abs(analytic), nan=0.0, posinf=0.0))
    largest = np.max(size, initial=0.0, where=np.isfinite(size))
    precise = 10 * estimate.error <= 2e-4 * np.maximum(estimate.typical, largest)
    return np.asarray(np.isfinite(estimate.error) & (precise | (size == 0)))


def derivative(f: Path) -> Estimate:
    """Differentiate f at 0, with steps from 1/8 downwards.

    Parameters
    ----------
    f : callable
        Takes a float, returns a real or complex array, always of the same shape. Steps where it is
        not finite, or raises ``ArithmeticError`` or ``ValueError``, are passed over, as outside its
        domain. If it raises at every step, so does this.

    Examples
    --------
    >>> estimate = derivative(lambda t: np.array([np.sin(t), 1e30 * t, 7.0]))
    >>> estimate.value.round(12)
    array([1.e+00, 1.e+30, 0.e+00])
    >>> conclusive(estimate)
    array([ True,  True,  True])
    """
    return _climb(f, ahead=1, behind=-1)


def directional(f: Function, x: ArrayLike, direction: ArrayLike) -> Estimate:
    """Differentiate ``f(x + t * direction)`` by t at 0: the Jacobian times the direction.

    The direction's length counts in the result, but not in the steps: in the widest one, the
    element that moves most, relative to its `scale`, moves by a sixteenth to an eighth of it. Steps
    along one-hot directions and those of `directions` are exact, not rounded.

    Parameters
    ----------
    f : callable
        Takes a float64 or complex128 array of x's shape, returns an array as in `derivative`. Its
        round-off is that of the dtype it returns: if it works in float32, it returns float32.
    x : array_like
        Where to differentiate.
    direction : array_like
        Of x's shape; complex, for instance 1j at one element, only where x is.

    Examples
    --------
    >>> float(directional(lambda x: 1 / x, 1e-5, 1.0).value.round(2))
    -10000000000.0
    """
    return _climb(*_path(f, x, direction), ahead=1, behind=-1)


def jacobian(f: Function, x: ArrayLike, unit: complex = 1) -> Estimate:
    """Differentiate by each element of x in turn; the shape is that of f(x), then that of x.

    Where x is complex, ``unit`` is 1 for the derivatives by real parts, 1j for imaginary ones.

    Examples
    --------
    >>> jacobian(np.cumsum, [1.0, 2.0]).value.round(12)
    array([[1., 0.],
           [1., 1.]])
    """
    x = _inexact(x)
    if x.size == 0:
        nothing = np.zeros(np.shape(f(x)) + x.shape)
        return Estimate(nothing, nothing, nothing)
    one_hot = unit * np.eye(x.size).reshape(-1, *x.shape)
    paths, units, from_zero = zip(*(_path(f, x, each) for each in one_hot), strict=True)

    def columns(t: float) -> Array:
        return np.stack([np.asarray(path(t)) for path in paths], axis=-1)

    # All columns climb one ladder together: its arithmetic costs more than most functions.
    found = _climb(columns, np.array(units), np.array(from_zero), ahead=1, behind=-1)
    shape = (*found.value.shape[:-1], *x.shape)
    return Estimate(*(getattr(found, each.name).reshape(shape) for each in fields(Estimate)))


def one_sided(f: Function, x: ArrayLike, direction: ArrayLike) -> tuple[Estimate, Estimate]:
    """Differentiate as `directional` does, but from the left alone and from the right alone."""
    path, *start = _path(f, x, direction)
    path = lru_cache(maxsize=2)(path)  # f(x) is in every difference
    return _climb(path, *start, ahead=0, behind=-1), _climb(path, *start, ahead=1, behind=0)


def is_kink(left: Estimate, right: Estimate) -> Array:
    """Whether one-sided derivatives differ by more than 1e-3 of them, or only one exists.

    Examples
    --------
    >>> bool(is_kink(*one_sided(np.abs, 0.0, 1.0))), bool(is_kink(*one_sided(np.exp, 0.0, 1.0)))
    (True, False)
    """
    gap = np.abs(right.value - left.value)
    size = np.maximum(np.abs(left.value), np.abs(right.value))
    differ = gap > 1e-3 * size + 10 * (left.error + right.error)
    return np.asarray(differ | (np.isfinite(left.value) != np.isfinite(right.value)))


def complex_step(f: Function, x: ArrayLike, direction: ArrayLike) -> Array:
    """Differentiate a holomorphic f at real x: the imaginary part of ``f(x + ihd)``, over h.

    Nothing is subtracted, so nothing is lost: h can be 2**-100 of x, and the result is as exact as
    f. If f gives a real array for a complex one it is not holomorphic: that is a TypeError.

    Examples
    --------
    >>> float(complex_step(np.exp, 0.0, 1.0))
    1.0
    """
    x, d = np.asarray(x, np.float64), np.asarray(direction, np.float64)
    h = 2.0**-100 * _unit(x, d)
    out = np.asarray(f(np.asarray(x + 1j * (h * d))))
    if not np.iscomplexobj(out):
        msg = (
            f"f turned a complex array into {out.dtype}: a complex step needs a holomorphic f, "
            "which keeps the imaginary part; use directional() for this one"
        )
        raise TypeError(msg)
    return np.asarray(out.imag / h)


def scale(x: ArrayLike) -> Array:
    """Return the size of each element, which steps are relative to.

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
    """Yield random directions in which no element of x can hide.

    A component is 4/32 to 32/32 of the element's `scale` (few digits, so that steps are exact) with
    a random sign; unless there is only one, they never all have the same sign. Where x is complex,
    its real and imaginary parts are components.
    """
    x = _inexact(x)
    for _ in range(count):
        parts = (1 + np.iscomplexobj(x), x.size)
        size, sign = rng.integers(4, 33, parts) / 32, rng.choice([-1.0, 1.0], parts)
        if sign.size > 1 and np.all(sign == sign.flat[0]):
            sign.flat[rng.integers(sign.size)] *= -1
        yield _joined(sign * size).reshape(x.shape) * scale(x)


def _inexact(x: ArrayLike) -> Array:
    return np.asarray(x, np.complex128 if np.iscomplexobj(x) else np.float64)


def _joined(parts: Array) -> Array:
    joined: Array = parts[0] if len(parts) == 1 else parts[0] + 1j * parts[1]
    return joined


def _unit(x: Array, direction: Array) -> float:
    """Return the greatest power of two that brings the direction within all scales."""
    mantissa, exponent = math.frexp(np.max(np.abs(direction) / scale(x), initial=0.0))
    return math.ldexp(1.0, (mantissa == 0.5) - exponent)


def _path(f: Function, x: ArrayLike, direction: ArrayLike) -> tuple[Path, float, bool]:
    """Return f by steps relative to x, the length of such a step, and whether it leaves a zero."""
    x, d = _inexact(x), _inexact(direction)
    if d.shape != x.shape or (np.iscomplexobj(d) and not np.iscomplexobj(x)):
        msg = (
            f"direction is {d.dtype} of shape {d.shape}, x is {x.dtype} of shape {x.shape}: "
            "give a direction of x's shape, complex only where x is"
        )
        raise ValueError(msg)
    unit = _unit(x, d)
    step = unit * d
    # The copy lets f use its memory again.
    return lambda t: np.array(f(np.asarray(x + t * step))), unit, bool(np.any(d[x == 0]))


# The ladder ---------------------------------------------------------------------------------------
# Arrays have the axes (rung, part, element), the widest rung first. A complex output has two parts,
# which are differentiated apart. Where f is not finite there is nan, which spoils only the numbers
# that stem from it or would have to answer to it. No constant is critical: twice or half of any
# changes next to nothing in thousands of random expressions.

_OPENING = range(3, 8)  # rungs by exponent: the steps are 2**-3, 2**-4, ..., 2**-7
_FLIGHT = 6  # rungs added at a time
_COLUMNS = 5  # extrapolations at most
_SETTLED = 1e-10  # the relative error that asks for no more rungs


def _climb(
    f: Path, unit: ArrayLike = 1.0, from_zero: ArrayLike = False, *, ahead: int, behind: int
) -> Estimate:
    """Differentiate f at 0 by ``(f(ahead * t) - f(behind * t)) / (ahead - behind) / t / unit``."""
    ladder = _Ladder(_Sampler(f), ahead, behind, from_zero)
    ladder.add(_OPENING)
    bits = round(-math.log2(ladder.sample.eps))
    ladder.add((3 * bits // 8, bits // 2))  # the witnesses
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
        except (ArithmeticError, ValueError) as refusal:
            self.refusal = refusal
            return None
        self._learn(out)
        parts = np.array([out.real, out.imag] if out.dtype.kind == "c" else [out], np.float64)
        return parts.reshape(len(parts), -1)

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
        from_zero = np.broadcast_to(self.from_zero, self.sample.shape or ()).ravel()[self.open]
        with np.errstate(all="ignore"):
            rungs = _Rungs(step, ahead, behind, self.ahead - self.behind)
            known, settled = _judge(rungs, self.sample, from_zero)
        if self.known is None:
            self.known, self.open = known, np.arange(known.shape[-1])
        self.known[..., self.open] = known
        self.open = self.open[~settled]
        self.rungs = {k: pair[..., ~settled] for k, pair in self.rungs.items()}
        return not self.open.size

    def estimate(self, unit: ArrayLike) -> Estimate:
        if self.known is None:
            assert self.sample.refusal is not None
            raise self.sample.refusal
        value, error, typical = self.known
        parts = (_joined(value), error.sum(axis=0), typical.max(axis=0))
        with np.errstate(over="ignore"):
            return Estimate(*(np.asarray(each.reshape(self.sample.shape) / unit) for each in parts))


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
        self.kink[:-2] = np.abs(2 * bend[1:] - bend[:-1])


def _judge(rungs: _Rungs, sample: _Sampler, from_zero: Array) -> tuple[Array, Array]:
    """Return value, error and typical slope of each element; and which need no more rungs."""
    # Half a unit of round-off in f, and half a unit in what f makes of its argument to begin with;
    # or what the finest rungs show, where that is still round-off.
    steepness = np.abs(rungs.slope).max(axis=1, keepdims=True)
    roundoff = (0.5 * sample.eps * (rungs.size + steepness) + sample.smallest) / rungs.span
    tremor = _tremor(rungs)
    noise = np.maximum(roundoff, tremor / rungs.step)
    noise = np.where(noise < 256 * roundoff, noise, roundoff)

    number, error = _extrapolate(rungs, noise)
    conflict, wobble = _answer(rungs, noise, number)
    doubt = error + conflict
    doubt[np.isnan(doubt)] = np.inf
    best = np.argmin(doubt, axis=0, keepdims=True)
    value, doubt, floor, typical = (
        np.take_along_axis(each, best, axis=0)
        for each in (number, doubt, roundoff, rungs.reach / rungs.span)
    )
    wider = np.arange(len(number)).reshape(-1, 1, 1) < best
    objection = _objection(rungs, error, wobble, np.abs(number - value))
    doubt = np.maximum(doubt, np.max(objection, axis=0, initial=0.0, where=wider))

    modulus = np.abs(value).max(axis=1, keepdims=True)
    settled = (doubt <= np.maximum(_SETTLED * modulus, 8 * floor)).all(axis=1, keepdims=True)
    unresolved = (tremor > 2.0**-8 * rungs.reach[0]).any(axis=0)
    doubt = np.where(~settled & unresolved, np.inf, doubt)
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
