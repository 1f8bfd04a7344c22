"""The operators of arithmetic: ``+ - * / **``, negation."""

# Signatures are the contract that opgrad reads; annotating every array as Any says nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import inf
from typing import ClassVar

from opgrad import Case, hookimpl

from .families import Binary, Elementwise, Unary


class Add(Binary):
    """Elementwise sum ``a + b``, with broadcasting."""

    @hookimpl
    def forward(self, a, b, /):
        return a + b

    @hookimpl
    def backward_a(self, grad):
        return grad

    @hookimpl
    def backward_b(self, grad):
        return grad

    @hookimpl
    def jvp_a(self, tangent):
        return tangent

    @hookimpl
    def jvp_b(self, tangent):
        return tangent


class Sub(Binary):
    """Elementwise difference ``a - b``, with broadcasting."""

    aliases = ("subtract",)

    @hookimpl
    def forward(self, a, b, /):
        return a - b

    @hookimpl
    def backward_a(self, grad):
        return grad

    @hookimpl
    def backward_b(self, grad):
        return -grad


class Mul(Binary):
    """Elementwise product ``a * b``, with broadcasting."""

    aliases = ("multiply",)

    @hookimpl
    def forward(self, a, b, /):
        return a * b

    @hookimpl
    def backward_a(self, grad, b):
        return grad * b

    @hookimpl
    def backward_b(self, grad, a):
        return grad * a

    @hookimpl
    def jvp_a(self, tangent, b):
        return tangent * b

    @hookimpl
    def jvp_b(self, tangent, a):
        return tangent * a


class Div(Binary):
    """Elementwise quotient ``a / b``, with broadcasting."""

    aliases = ("divide", "true_divide")
    drawn_from = ((-2, 2), (0.5, 2))

    @hookimpl
    def forward(self, a, b, /):
        return a / b

    @hookimpl
    def backward_a(self, grad, b):
        return grad / b

    @hookimpl
    def backward_b(self, grad, a, b):
        return -grad * (a / b / b)


class Neg(Unary):
    """Elementwise negation ``-x``."""

    aliases = ("negative",)

    @hookimpl
    def forward(self, x, /):
        return -x

    @hookimpl
    def backward(self, grad):
        return -grad


class PowScalar(Elementwise):
    """Elementwise power ``base ** exponent`` with a plain number for the exponent."""

    node_name = "PowBackward0"
    expects = "a floating base, or a non-negative exponent"
    domain: ClassVar = {"base": (0, inf)}

    @hookimpl
    def forward(self, base, /, exponent):
        return base**exponent

    @hookimpl
    def backward(self, grad, base, exponent, xp):
        if exponent == 0:
            return xp.zeros_like(grad)
        if exponent == 2:  # most powers are squares, and NumPy adds sooner than it takes a number
            return grad * (base + base)
        return grad * (exponent * base ** (exponent - 1))

    @hookimpl
    def self_check(self, rng):
        for exponent in (0, 1, 2, 3, -1, 0.5, -1.5):
            yield Case(rng.uniform(0.5, 2, size=(3, 4)), exponent=exponent)
        yield Case(rng.uniform(-2, -0.5, size=3), exponent=3)
        yield Case(rng.uniform(0.5, 2, size=3) + 1j, exponent=2.5)


class Pow(Binary):
    """Elementwise power ``base ** exponent``, with broadcasting.

    At ``0 ** 0`` the derivative with respect to the base is 0, and with respect to the exponent
    it is 0 wherever the base is 0, as in PyTorch.
    """

    aliases = ("power",)
    node_name = "PowBackward1"
    domain: ClassVar = {"base": (0, inf)}
    drawn_from = ((0.5, 2), (-2, 2))

    @hookimpl
    def forward(self, base, exponent, /):
        return base**exponent

    @hookimpl
    def backward_base(self, grad, base, exponent):
        both_zero = (base == 0) * (exponent == 0)
        return grad * (exponent * base ** (exponent - 1 + both_zero))

    @hookimpl
    def backward_exponent(self, grad, out, base, xp):
        return grad * (out * xp.log(xp.where(base == 0, 1, base)))


add, sub, mul, div = Add(), Sub(), Mul(), Div()
neg = Neg()
pow_scalar = PowScalar()
Pow.overloads = {"exponent": pow_scalar}
pow = Pow()
