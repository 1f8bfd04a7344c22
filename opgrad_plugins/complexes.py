"""The parts of complex numbers.

The graph's gradients are plain transposes: a change ``dz`` changes the result by the real part
of ``grad * dz``.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from opgrad import Case, hookimpl

from .families import Elementwise


class ComplexPart(Elementwise):
    """A function of complex numbers that is linear over the reals."""

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4)))
        yield Case(rng.normal(size=3))


class Conj(ComplexPart):
    """Elementwise complex conjugate."""

    aliases = ("conjugate",)
    method = True

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.conj(x)

    @hookimpl
    def backward(self, grad, xp):
        return xp.conj(grad)


class Real(ComplexPart):
    """Elementwise real part."""

    view = True

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.real(x)

    @hookimpl
    def backward(self, grad):
        return grad


class Imag(ComplexPart):
    """Elementwise imaginary part; zeros for real input."""

    view = True

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.imag(x)

    @hookimpl
    def backward(self, grad, x, xp):
        if not xp.isdtype(x.dtype, "complex floating"):
            return xp.zeros_like(grad)
        return grad * -1j  # the other way round, Python would make its own complex of a scalar


conj, real, imag = Conj(), Real(), Imag()
