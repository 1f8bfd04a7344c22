"""Lambert's W function."""

from __future__ import annotations

from collections.abc import Iterator
from math import e, inf
from typing import Any

import numpy as np
from scipy.special import lambertw

from opgrad import Case, Operator

__all__ = ["lambert_w"]


def _slope(grad: Any, out: Any, xp: Any) -> Any:
    """Differentiate ``w * e ** w == x``; what the forward gave is all that this needs."""
    return grad * (xp.exp(-out) / (1 + out))


def _cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case(rng.uniform(-0.3, 5, size=(3, 4)))
    yield Case(rng.uniform(1, 100, size=()))


@Operator.define(
    backward=_slope,
    self_check=_cases,
    domain={"x": (-1 / e, inf)},
    expects="real numbers",
)
def lambert_w(x: Any, /) -> Any:
    """Elementwise the greater solution w of ``w * e ** w == x``; nan where there is none.

    Examples
    --------
    >>> import opgrad
    >>> x = opgrad.tensor([0.0, 2.718281828459045], requires_grad=True)
    >>> w = lambert_w(x)
    >>> w
    tensor([0., 1.], grad_fn=<LambertWBackward0>)
    >>> w.sum().backward()
    >>> x.grad
    tensor([1.0000, 0.1839])
    """
    if x.dtype.kind not in "iuf":
        msg = f"the dtype is {x.dtype}"
        raise ValueError(msg)
    w = lambertw(x)
    return np.where(x < -1 / e, np.nan, w.real).astype(np.result_type(x, 1.0))
