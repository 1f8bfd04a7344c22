"""What a pattern of wrong derivatives suggests.

Each pattern is a function of the analytic and the numeric derivatives, two arrays of the same
shape, and returns the words for it, or none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]


def likely_cause(analytic: Array, numeric: Array) -> str:
    """Say what would explain the differences, or nothing.

    Parameters
    ----------
    analytic, numeric : ndarray
        Derivatives of the same shape.

    Examples
    --------
    >>> import numpy as np
    >>> likely_cause(np.array([-2.0, 4.0]), np.array([2.0, -4.0]))
    'the sign is wrong'
    >>> likely_cause(np.array([4.0, 8.0]), np.array([2.0, 4.0]))
    'it is off by a factor of 2'
    """
    return next(filter(None, (words(analytic, numeric) for words in _PATTERNS)), "")


def _not_finite(a: Array, _n: Array) -> str:
    if np.isfinite(a).all():
        return ""
    return "the formula divides by zero, overflows, or leaves the domain of a root or logarithm"


def _nothing(a: Array, _n: Array) -> str:
    return "" if a.any() else "it is zero throughout: a term is missing, or a value was detached"


def _sign(a: Array, n: Array) -> str:
    return "the sign is wrong" if _same(a, -n) else ""


def _factor(a: Array, n: Array) -> str:
    ratio = _constant_ratio(a, n)
    return "" if ratio is None else f"it is off by a factor of {ratio:.10g}"


def _transposed(a: Array, n: Array) -> str:
    square = a.ndim == 2 and a.shape[0] == a.shape[1]
    return "it is transposed" if square and _same(a, n.T) else ""


def _some_signs(a: Array, n: Array) -> str:
    same = _same(np.abs(a), np.abs(n))
    return "some signs are wrong; with complex numbers, a conjugate is missing" if same else ""


def _offset(a: Array, n: Array) -> str:
    offset = _constant_ratio(a - n, np.ones_like(n))
    return "" if offset is None else f"{offset:.6g} was added to it"


def _one_element(a: Array, n: Array) -> str:
    wrong = ~np.isclose(a, n, rtol=1e-7, atol=0)
    return "a single element is wrong" if wrong.sum() == 1 < wrong.size else ""


_PATTERNS: tuple[Callable[[Array, Array], str], ...] = (
    _not_finite, _nothing, _sign, _factor, _transposed, _some_signs, _offset, _one_element,
)  # fmt: skip


def _same(a: Array, b: Array) -> bool:
    return bool(np.allclose(a, b, rtol=1e-7, atol=1e-12 * np.abs(b).max(initial=0.0)))


def _constant_ratio(a: Array, b: Array) -> float | None:
    """Return the number that all of `a` is times `b`, if there is one."""
    there = np.abs(b) > 1e-6 * np.abs(b).max(initial=0.0)
    if not there.any():
        return None
    ratio = float(np.median(a[there] / b[there]))
    return ratio if _same(a, ratio * b) else None
