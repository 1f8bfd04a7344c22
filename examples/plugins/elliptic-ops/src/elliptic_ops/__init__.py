"""Jacobi's elliptic functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.special import ellipj

from opgrad import Case, Operator, hookimpl

__all__ = ["sncndn"]


class Sncndn(Operator):
    """Jacobi's elliptic functions sn, cn and dn of real numbers `u`, for the parameter `m`.

    They are what sine, cosine and 1 become for a pendulum that swings wide: `m` from 0 to 1 is the
    square of the modulus k. With them go ``sn**2 + cn**2 = 1`` and ``dn**2 + m * sn**2 = 1``.

    Examples
    --------
    >>> import opgrad
    >>> u = opgrad.tensor([0.0, 1.0], requires_grad=True)
    >>> sn, cn, dn = sncndn(u, m=0.5)
    >>> sn
    tensor([0.0000, 0.8030], grad_fn=<SncndnBackward0>)
    >>> sn.sum().backward()
    >>> u.grad
    tensor([1.0000, 0.4906])
    """

    expects = "real numbers, and a parameter m from 0 to 1"

    @hookimpl
    def forward(self, u: Any, /, m: float = 0.5) -> tuple[Any, Any, Any]:
        if not 0 <= m <= 1:
            msg = f"m is {m!r}"
            raise ValueError(msg)
        sn, cn, dn, _amplitude = ellipj(u, m, dtype=np.result_type(u, 1.0))
        return sn, cn, dn

    @hookimpl
    def backward(self, grad: tuple[Any, Any, Any], out: tuple[Any, Any, Any], m: float) -> Any:
        # The derivatives are products of the functions: that closes the circle for every order.
        sn, cn, dn = out
        of_sn, of_cn, of_dn = grad
        return of_sn * (cn * dn) - of_cn * (sn * dn) - of_dn * (m * sn * cn)

    @hookimpl
    def self_check(self, rng: np.random.Generator) -> Iterator[Case]:
        u = rng.normal(size=(3, 4))
        for m in (0.0, 0.3, 0.8, 1.0):
            yield Case(u, m=m)
        yield Case(rng.normal(size=()), m=0.5)


sncndn = Sncndn()
