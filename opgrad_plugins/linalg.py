"""Linear algebra."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from opgrad import Case, Operator, hookimpl

from .families import aligned


class Matmul(Operator):
    """Matrix product ``a @ b``, batched over leading axes, which broadcast.

    A 1-d `a` stands for a row, a 1-d `b` for a column, and the axis of size 1 that this adds is
    left out of the result.
    """

    method = True
    expects = "the last axis of a as long as the last but one, or only, axis of b"

    @hookimpl
    def forward(self, a, b, /, *, xp):
        return xp.matmul(a, b)

    @hookimpl
    def backward_a(self, grad, a_shape, b):
        if b.ndim == 1:
            return grad[..., None] * b
        if len(a_shape) == 1:
            return (b @ grad[..., None])[..., 0]
        return grad @ b.mT

    @hookimpl
    def backward_b(self, grad, a, b_shape):
        if len(b_shape) > 1:
            return (a[:, None] * grad[..., None, :]) if a.ndim == 1 else a.mT @ grad
        return a * grad if a.ndim == 1 else (grad[..., None, :] @ a)[..., 0, :]

    @hookimpl
    def jvp_a(self, tangent, b):
        return tangent @ b

    @hookimpl
    def jvp_b(self, tangent, a):
        return a @ tangent

    @hookimpl
    def batch(self, a, b):
        if np.ndim(a) < 2 or np.ndim(b) < 2:
            msg = "matmul: an example without axes"
            raise ValueError(msg)
        if len(a) == 1 and a.ndim == 3 and b.ndim == 2:
            return self(b, a[0].mT)  # one matrix for all: the vectors are a matrix as well
        if len(b) == 1 and b.ndim == 3 and a.ndim == 2:
            return self(a, b[0])
        rows, columns = a.ndim == 2, b.ndim == 2
        out = self(*aligned((a[:, None] if rows else a, b[..., None] if columns else b)))
        out = out[..., 0] if columns else out
        return out[..., 0] if rows and columns else out[..., 0, :] if rows else out

    @hookimpl
    def self_check(self, rng):
        shapes = [
            ((3,), (3,)), ((3,), (3, 2)), ((4, 3), (3,)), ((4, 3), (3, 2)),
            ((3,), (5, 3, 2)), ((5, 4, 3), (3,)), ((5, 4, 3), (3, 2)), ((4, 3), (5, 3, 2)),
            ((5, 4, 3), (5, 3, 2)), ((5, 1, 4, 3), (2, 3, 2)), ((1, 4, 3), (5, 3, 2)),
        ]  # fmt: skip
        for a, b in shapes:
            yield Case(rng.normal(size=a), rng.normal(size=b))
        yield Case(rng.normal(size=(2, 3)) + 1j, rng.normal(size=(3, 2)) * 1j)


matmul = Matmul()
