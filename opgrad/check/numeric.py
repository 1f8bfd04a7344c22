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
6. *Rounding errors inside f are looked for.* Where f is what a subtraction left over, they can be
   as large as f, and alike on many rungs. If f takes numbers with more digits (NumPy's formulas do,
   where the machine has a longer ``longdouble``), it is worked out at one point with and without
   them (2 calls). And where f does not move, numbers near one may have swallowed its movement.

The result is an `Estimate`: a value, and how far to trust it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad.check.ladder import OUTSIDE, climb, joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from opgrad.check.ladder import Path

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
    a = np.asarray(analytic)
    with np.errstate(invalid="ignore"):
        gap = np.abs(a - estimate.value)
        return np.asarray(np.isfinite(a) & (gap <= allowed(a, estimate)))


def allowed(analytic: ArrayLike, estimate: Estimate) -> Array:
    """Return how far a derivative may be from the estimate, to agree with it."""
    size = np.maximum(np.abs(analytic), np.abs(estimate.value))
    return np.asarray(1e-8 * size + 10 * estimate.error)


def share(gap: ArrayLike, limit: ArrayLike) -> Array:
    """Return differences in units of what is allowed: what is no number is infinitely far off.

    Examples
    --------
    >>> share([0.0, -1e-9, np.nan], [0.0, 1e-8, 1e-8])
    array([0. , 0.1, inf])
    """
    size = np.abs(gap)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(size == 0, 0.0, size / np.asarray(limit))
    return np.asarray(np.where(np.isnan(found), np.inf, found))


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
    return Estimate(*climb(f, ahead=1, behind=-1))


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
    return Estimate(*climb(*_path(f, x, direction), ahead=1, behind=-1))


def jacobian(f: Function, x: ArrayLike, unit: complex = 1) -> Estimate:
    """Differentiate by each element of x in turn; the shape is that of f(x), then that of x.

    Where x is complex, ``unit`` is 1 for the derivatives by real parts, 1j for imaginary ones.
    Steps that f refuses, as in `derivative`, are lost for their own column only.

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
    across = _fitting(unit * scale(x), x).ravel()
    steps = np.diag(across).reshape(-1, *x.shape)
    paths = [_stepping(f, x, step) for step in steps]

    def columns(t: float) -> Array:
        return _side_by_side([_attempt(path, t) for path in paths])

    # All columns climb one ladder together: its arithmetic costs more than most functions.
    found = climb(columns, scale(x).ravel(), x.ravel() == 0, ahead=1, behind=-1)
    return Estimate(*(each.reshape((*each.shape[:-1], *x.shape)) for each in found))


def one_sided(f: Function, x: ArrayLike, direction: ArrayLike) -> tuple[Estimate, Estimate]:
    """Differentiate as `directional` does, but from the left alone and from the right alone."""
    path, *start = _path(f, x, direction)
    path = lru_cache(maxsize=4, typed=True)(path)  # f(x) is in every difference
    left = climb(path, *start, ahead=0, behind=-1)
    right = climb(path, *start, ahead=1, behind=0)
    return Estimate(*left), Estimate(*right)


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
        yield joined(sign * size).reshape(x.shape) * scale(x)


def _inexact(x: ArrayLike) -> Array:
    return np.asarray(x, np.complex128 if np.iscomplexobj(x) else np.float64)


def _attempt(path: Path, t: float) -> Array | Exception:
    """Return what is there, or why f refuses to say."""
    try:
        return np.asarray(path(t))
    except OUTSIDE as refusal:
        return refusal


def _side_by_side(found: Sequence[Array | Exception]) -> Array:
    """Stack what there is, with nan for what was refused; refuse if that is everything."""
    kept = [each for each in found if not isinstance(each, Exception)]
    if not kept:
        assert isinstance(found[0], Exception)
        raise found[0]
    if len(kept) < len(found):
        kind = kept[0].dtype if kept[0].dtype.kind in "fc" else np.float64
        missing = np.full(kept[0].shape, np.nan, kind)
        kept = [missing if isinstance(each, Exception) else each for each in found]
    rows = np.array(kept)  # stacked along the first axis, which is faster
    return rows.transpose(*range(1, rows.ndim), 0)


def _unit(x: Array, direction: Array) -> float:
    """Return the greatest power of two that brings the direction within all scales."""
    mantissa, exponent = math.frexp(np.max(np.abs(direction) / scale(x), initial=0.0))
    return math.ldexp(1.0, (mantissa == 0.5) - exponent)


def _path(f: Function, x: ArrayLike, direction: ArrayLike) -> tuple[Path, float, bool]:
    """Return f by steps relative to x, the length of such a step, and whether it leaves a zero."""
    x = _inexact(x)
    d = _fitting(direction, x)
    unit = _unit(x, d)
    return _stepping(f, x, unit * d), unit, bool(np.any(d[x == 0]))


def _fitting(direction: ArrayLike, x: Array) -> Array:
    """Return the direction, if it is one that x can go in."""
    d = _inexact(direction)
    if d.shape != x.shape or (np.iscomplexobj(d) and not np.iscomplexobj(x)):
        msg = (
            f"direction is {d.dtype} of shape {d.shape}, x is {x.dtype} of shape {x.shape}: "
            "give a direction of x's shape, complex only where x is"
        )
        raise ValueError(msg)
    return d


def _stepping(f: Function, x: Array, step: Array) -> Path:
    """Return f by the number of steps; the copy lets f use its memory again."""
    return lambda t: np.array(f(np.asarray(x + t * step)))
