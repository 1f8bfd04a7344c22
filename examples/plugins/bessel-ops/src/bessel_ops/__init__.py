"""Bessel functions of the C library."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from opgrad import Case, Operator, hookimpl

__all__ = ["jn"]

if sys.platform == "win32":
    _c_jn = ctypes.CDLL("ucrtbase")._jn
else:
    _c_jn = ctypes.CDLL(ctypes.util.find_library("m")).jn
_c_jn.argtypes, _c_jn.restype = (ctypes.c_int, ctypes.c_double), ctypes.c_double

#: Beyond these orders, C's integers would be at their end.
_MOST = 2**31 - 1000


class Jn(Operator):
    """Elementwise Bessel function of the first kind ``J_n(x)``, of integer order `n`.

    Examples
    --------
    >>> import opgrad
    >>> x = opgrad.tensor([0.0, 2.0], requires_grad=True)
    >>> y = jn(x, 1)
    >>> y
    tensor([0.0000, 0.5767], grad_fn=<JnBackward0>)
    >>> y.sum().backward()
    >>> x.grad
    tensor([ 0.5000, -0.0645])
    """

    expects = "real numbers, and an integer order n"

    @hookimpl
    def forward(self, x: Any, /, n: int = 0) -> Any:
        if n != int(n) or abs(n) > _MOST:
            msg = f"n is {n!r}"
            raise ValueError(msg)
        if x.dtype.kind not in "iuf":
            msg = f"the dtype is {x.dtype}"
            raise ValueError(msg)
        values = [_c_jn(int(n), each) for each in x.ravel().tolist()]
        return np.array(values, np.result_type(x, 1.0)).reshape(x.shape)

    @hookimpl
    def backward(self, grad: Any, x: Any, n: int) -> Any:
        # C knows nothing of derivatives, but the operator calls itself: so there is every order.
        return grad * ((jn(x, n - 1) - jn(x, n + 1)) / 2)

    @hookimpl
    def self_check(self, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.uniform(-10, 10, size=(3, 4))
        for n in (0, 1, 2, -3):
            yield Case(x, n=n)
        yield Case(rng.uniform(1, 2, size=()), n=1)


jn = Jn()
