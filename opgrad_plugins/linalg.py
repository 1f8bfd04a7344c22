"""Linear algebra."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from opgrad import Case, Operator, hookimpl


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
