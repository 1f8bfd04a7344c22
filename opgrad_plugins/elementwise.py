"""Functions of each element by itself, and the choice among elements."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import inf
from typing import ClassVar

import numpy as np

from opgrad import Case, hookimpl

from .families import Binary, Elementwise, Unary


class Exp(Unary):
    """Elementwise exponential ``e ** x``."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.exp(x)

    @hookimpl
    def backward(self, grad, out):
        return grad * out

    @hookimpl
    def jvp(self, tangent, out):
        return tangent * out


class Log(Unary):
    """Elementwise natural logarithm."""

    domain: ClassVar = {"x": (0, inf)}
    drawn_from = (0.5, 3)

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.log(x)

    @hookimpl
    def backward(self, grad, x):
        return grad / x


class Log1p(Unary):
    """Elementwise ``log(1 + x)``, exact for small `x`."""

    domain: ClassVar = {"x": (-1, inf)}
    node_name = "Log1PBackward0"
    drawn_from = (-0.5, 3)

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.log1p(x)

    @hookimpl
    def backward(self, grad, x):
        return grad / (1 + x)


class Expm1(Unary):
    """Elementwise ``e ** x - 1``, exact for small `x`."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.expm1(x)

    @hookimpl
    def backward(self, grad, x, xp):
        return grad * xp.exp(x)


class Square(Unary):
    """Elementwise ``x * x``."""

    node_name = "PowBackward0"

    @hookimpl
    def forward(self, x, /):
        return x * x

    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * x)


class Reciprocal(Unary):
    """Elementwise ``1 / x``."""

    drawn_from = (0.5, 3)

    @hookimpl
    def forward(self, x, /):
        return 1 / x

    @hookimpl
    def backward(self, grad, out):
        return -grad * (out * out)


class Sqrt(Unary):
    """Elementwise square root; its derivative at 0 is infinite."""

    domain: ClassVar = {"x": (0, inf)}
    drawn_from = (0.5, 3)

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.sqrt(x)

    @hookimpl
    def backward(self, grad, out):
        return grad / (2 * out)


class Sin(Unary):
    """Elementwise sine."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.sin(x)

    @hookimpl
    def backward(self, grad, x, xp):
        return grad * xp.cos(x)


class Cos(Unary):
    """Elementwise cosine."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.cos(x)

    @hookimpl
    def backward(self, grad, x, xp):
        return -grad * xp.sin(x)


class Tanh(Unary):
    """Elementwise hyperbolic tangent."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.tanh(x)

    @hookimpl
    def backward(self, grad, out):
        return grad * (1 - out * out)


class Sigmoid(Unary):
    """Elementwise logistic function ``1 / (1 + e ** -x)``, without overflow for any real `x`."""

    holomorphic = False

    @hookimpl
    def forward(self, x, /, *, xp):
        # The second exponent is -abs(x), also where x is unsigned.
        return xp.exp(xp.minimum(x, 0)) / (1 + xp.exp(xp.copysign(x, -1.0)))

    @hookimpl
    def backward(self, grad, out):
        return grad * (out * (1 - out))


class Logaddexp(Binary):
    """Elementwise ``log(e ** a + e ** b)``, without overflow."""

    holomorphic = False

    @hookimpl
    def forward(self, a, b, /, *, xp):
        return xp.logaddexp(a, b)

    @hookimpl
    def backward_a(self, grad, a, b, xp):
        # The sigmoid of a - b, smooth and exact in every order: log(sigmoid(-x)) is
        # -logaddexp(0, x).
        return grad * xp.exp(-xp.logaddexp(0.0, b - a))

    @hookimpl
    def backward_b(self, grad, a, b, xp):
        return grad * xp.exp(-xp.logaddexp(0.0, a - b))


class Abs(Unary):
    """Elementwise absolute value; its derivative at 0 is 0, the subgradient of least norm."""

    aliases = ("absolute",)
    holomorphic = False

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.abs(x)

    @hookimpl
    def backward(self, grad, x, xp):
        return grad * xp.conj(xp.sign(x))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)) * rng.choice([-1, 1], size=(3, 4)))
        yield Case(rng.normal(size=3) + 1j * rng.normal(size=3))


class Sign(Unary):
    """Elementwise sign: -1, 0 or 1, and ``x / abs(x)`` for complex numbers."""

    holomorphic = False

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.sign(x)

    @hookimpl
    def backward(self, grad, x, out, xp):
        if not xp.isdtype(x.dtype, "complex floating"):
            return xp.zeros_like(grad)
        # Of x / abs(x), the part of a change along x itself is lost.
        size = xp.abs(x)
        across = grad - xp.real(grad * out) * xp.conj(out)
        return across / xp.where(size == 0, xp.inf, size)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)) * rng.choice([-1, 1], size=(3, 4)))
        yield Case(rng.normal(size=3) + 1j * rng.normal(size=3))


class Maximum(Binary):
    """Elementwise maximum of `a` and `b`; where they are equal, each gets half the gradient."""

    holomorphic = False

    @hookimpl
    def forward(self, a, b, /, *, xp):
        return xp.maximum(a, b)

    @hookimpl
    def backward_a(self, grad, a, b, xp):
        return xp.where(a < b, 0, xp.where(a == b, grad / 2, grad))

    @hookimpl
    def backward_b(self, grad, a, b, xp):
        return xp.where(b < a, 0, xp.where(a == b, grad / 2, grad))


class Clamping(Elementwise):
    """An operator that keeps its input within bounds."""

    def subgradient(self, **_parameters):
        """Choose 1 at the bounds, as PyTorch does; see `Operator.subgradient`."""
        return "between"


class ClampScalar(Clamping):
    """Each element of `x`, or the nearest number from `min` to `max`; None is no bound.

    The gradient passes within the bounds and at them.
    """

    node_name = "ClampBackward1"
    expects = "real numbers for bounds"

    @hookimpl
    def forward(self, x, /, min=None, max=None, *, xp):
        return xp.clip(x, min, max)

    @hookimpl
    def backward(self, grad, x, min, max, xp):
        return xp.where(_within(x, min, max), grad, 0)

    @hookimpl
    def self_check(self, rng):
        x = rng.normal(size=(3, 4))
        yield Case(x, min=-0.5, max=0.5)
        yield Case(x, min=0)
        yield Case(x, max=0.25)
        yield Case(x)


class Clamp(Clamping):
    """Each element of `x`, or the nearest one from `min` to `max`; None is no bound.

    The gradient passes to `x` within the bounds and at them, beyond them to the bound. Where `min`
    is greater than `max`, the result is `max`.
    """

    aliases = ("clip",)
    method = True
    node_name = "ClampBackward0"
    expects = "bounds that broadcast with x"

    @hookimpl
    def forward(self, x, min=None, max=None, /, *, xp):
        return xp.clip(x, min, max)

    @hookimpl
    def backward_x(self, grad, x, min, max, xp):
        return xp.where(_within(x, min, max), grad, 0)

    @hookimpl
    def backward_min(self, grad, x, min, max, xp):
        chosen = x < min if max is None else (x < min) * (min <= max)
        return xp.where(chosen, grad, 0)

    @hookimpl
    def backward_max(self, grad, x, min, max, xp):
        chosen = x > max if min is None else (x > max) + (min > max)
        return xp.where(chosen, grad, 0)

    @hookimpl
    def self_check(self, rng):
        x, low, high = rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=(3, 1))
        yield Case(x, -np.abs(low), np.abs(high))
        yield Case(x, low, high)
        yield Case(x, low)
        yield Case(x, None, high)
        yield Case(x, -0.5, np.abs(high))


def _within(x, min, max):
    if min is None:
        return True if max is None else x <= max
    return x >= min if max is None else (x >= min) * (x <= max)


class Minimum(Binary):
    """Elementwise minimum of `a` and `b`; where they are equal, each gets half the gradient."""

    holomorphic = False

    @hookimpl
    def forward(self, a, b, /, *, xp):
        return xp.minimum(a, b)

    @hookimpl
    def backward_a(self, grad, a, b, xp):
        return xp.where(a > b, 0, xp.where(a == b, grad / 2, grad))

    @hookimpl
    def backward_b(self, grad, a, b, xp):
        return xp.where(b > a, 0, xp.where(a == b, grad / 2, grad))


class Relu(Unary):
    """Elementwise, `x` where it is positive, else 0; its derivative at 0 is 0."""

    holomorphic = False

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.maximum(x, 0)

    @hookimpl
    def backward(self, grad, out, xp):
        return xp.where(out <= 0, 0, grad)


class Where(Elementwise):
    """Elementwise choice: `x` where `condition` holds, else `y`, with broadcasting."""

    expects = Binary.expects

    @hookimpl
    def forward(self, condition, x, y, /, *, xp):
        return xp.where(condition, x, y)

    @hookimpl
    def backward_x(self, grad, condition, xp):
        return xp.where(condition, grad, 0)

    @hookimpl
    def backward_y(self, grad, condition, xp):
        return xp.where(condition, 0, grad)

    @hookimpl
    def self_check(self, rng):
        condition = np.asarray([[True], [False], [True]])
        yield Case(condition, rng.normal(size=(3, 4)), rng.normal(size=4))
        yield Case(condition[:, 0], rng.normal(size=3), 0.0)
        yield Case(condition, rng.normal(), rng.normal(size=(3, 2)))
        yield Case(condition[:, 0], rng.normal(size=3) + 1j, rng.normal(size=3))


exp, log, sqrt = Exp(), Log(), Sqrt()
log1p, expm1 = Log1p(), Expm1()
square, reciprocal = Square(), Reciprocal()
sin, cos, tanh = Sin(), Cos(), Tanh()
sigmoid, logaddexp = Sigmoid(), Logaddexp()
abs, sign = Abs(), Sign()
maximum, minimum, where = Maximum(), Minimum(), Where()
relu = Relu()
clamp_scalar = ClampScalar()
Clamp.overloads = {("min", "max"): clamp_scalar}
clamp = Clamp()
