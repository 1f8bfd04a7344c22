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
    def backward_a(self, grad, a_shape, b, xp):
        if len(a_shape) >= 2 and b.ndim >= 2:
            return grad @ b.mT
        grad, b = _as_matrices(grad, len(a_shape) == 1, b.ndim == 1, xp), _column(b, xp)
        grad_a = grad @ b.mT
        return xp.squeeze(grad_a, axis=-2) if len(a_shape) == 1 else grad_a

    @hookimpl
    def backward_b(self, grad, a, b_shape, xp):
        if a.ndim >= 2 and len(b_shape) >= 2:
            return a.mT @ grad
        grad, a = _as_matrices(grad, a.ndim == 1, len(b_shape) == 1, xp), _row(a, xp)
        grad_b = a.mT @ grad
        return xp.squeeze(grad_b, axis=-1) if len(b_shape) == 1 else grad_b

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


def _row(a, xp):
    return xp.expand_dims(a, axis=0) if a.ndim == 1 else a


def _column(b, xp):
    return xp.expand_dims(b, axis=1) if b.ndim == 1 else b


def _as_matrices(grad, a_is_row, b_is_column, xp):
    """Put the axes of size 1 back that 1-d operands left out of the product."""
    if b_is_column:
        grad = xp.expand_dims(grad, axis=-1)
    return xp.expand_dims(grad, axis=-2) if a_is_row else grad


matmul = Matmul()
