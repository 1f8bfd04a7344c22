"""What the operators of a family share: how they are offered, and what they are verified on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from opgrad import Case, Operator, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np


class Unary(Operator):
    """A function of each element by itself."""

    method = True

    #: The interval that cases are drawn from.
    drawn_from: ClassVar[tuple[float, float]] = (-2.0, 2.0)
    #: Whether the function is also defined, and holomorphic, for complex numbers.
    holomorphic: ClassVar[bool] = True

    @hookimpl
    def self_check(self, rng: np.random.Generator) -> Iterator[Case]:
        low, high = self.drawn_from
        yield Case(rng.uniform(low, high, size=(3, 4)))
        yield Case(rng.uniform(low, high, size=()))
        if self.holomorphic:
            yield Case(rng.uniform(low, high, size=5) + 1j * rng.uniform(-1, 1, size=5))


class Binary(Operator):
    """A function of two elements, with broadcasting."""

    method = True
    expects = "shapes that broadcast: sizes equal or 1 in each axis, counted from the last"

    #: The intervals that cases for the two inputs are drawn from.
    drawn_from: ClassVar[tuple[tuple[float, float], tuple[float, float]]] = ((-2, 2), (-2, 2))
    #: Whether the function is also defined, and holomorphic, for complex numbers.
    holomorphic: ClassVar[bool] = True

    @hookimpl
    def self_check(self, rng: np.random.Generator) -> Iterator[Case]:
        a, b = self.drawn_from
        yield Case(rng.uniform(*a, size=(3, 4)), rng.uniform(*b, size=(3, 4)))
        yield Case(rng.uniform(*a, size=(3, 4)), rng.uniform(*b, size=4))
        yield Case(rng.uniform(*a, size=(3, 1)), rng.uniform(*b, size=(2, 1, 4)))
        yield Case(rng.uniform(*a), rng.uniform(*b, size=3))
        yield Case(rng.uniform(*a, size=3), rng.uniform(*b))
        if self.holomorphic:
            z = rng.uniform(*a, size=3) + 1j * rng.uniform(-1, 1, size=3)
            yield Case(z, rng.uniform(*b, size=3) + 0.5j)
            yield Case(z, rng.uniform(*b, size=3))
