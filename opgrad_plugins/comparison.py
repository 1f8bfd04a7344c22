"""Comparisons: boolean results, which have no gradient."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from opgrad import hookimpl

from .families import Binary


class Comparison(Binary):
    """A comparison of two elements, with broadcasting; its result never requires grad."""

    differentiable = False
    holomorphic = False


class Equal(Comparison):
    """Elementwise ``a == b``."""

    @hookimpl
    def forward(self, a, b, /):
        return a == b


class NotEqual(Comparison):
    """Elementwise ``a != b``."""

    @hookimpl
    def forward(self, a, b, /):
        return a != b


class Less(Comparison):
    """Elementwise ``a < b``."""

    @hookimpl
    def forward(self, a, b, /):
        return a < b


class LessEqual(Comparison):
    """Elementwise ``a <= b``."""

    @hookimpl
    def forward(self, a, b, /):
        return a <= b


class Greater(Comparison):
    """Elementwise ``a > b``."""

    @hookimpl
    def forward(self, a, b, /):
        return a > b


class GreaterEqual(Comparison):
    """Elementwise ``a >= b``."""

    @hookimpl
    def forward(self, a, b, /):
        return a >= b


equal, not_equal = Equal(), NotEqual()
less, less_equal = Less(), LessEqual()
greater, greater_equal = Greater(), GreaterEqual()
