"""What the operators of a family share: how they are offered, and what they are verified on."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.lib.array_utils import normalize_axis_index

from opgrad import Case, Operator, Tensor, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np


class Elementwise(Operator):
    """A function of elements, of one input or of several that broadcast."""

    @hookimpl
    def batch(self, inputs: tuple[Any, ...], parameters: dict[str, Any]) -> Any:
        return self(*aligned(inputs), **parameters)


def aligned(inputs: Sequence[Any]) -> list[Any]:
    """Give examples as many axes each, so that their axes broadcast and not that of the examples.

    Parameters
    ----------
    inputs : sequence
        As a ``batch`` hook gets them: tensors with the examples along the first axis, or numbers,
        or None.
    """
    most = max(x.ndim for x in inputs if isinstance(x, Tensor))
    return [with_axes(x, most - x.ndim) if isinstance(x, Tensor) else x for x in inputs]


def with_axes(x: Tensor, count: int) -> Tensor:
    """Give examples so many axes of size 1 before their own."""
    return x.reshape(x.shape[0], *(1,) * count, *x.shape[1:]) if count > 0 else x


def of_size(x: Tensor, size: int) -> Tensor:
    """Repeat what is the same for all examples, so many."""
    return x if x.shape[0] == size else x.expand(size, *x.shape[1:])


def shifted(axis: Any, ndim: int) -> Any:
    """Return where an axis of an example, or several, are once that of the examples is first.

    Parameters
    ----------
    axis : int or tuple of int
        The axis, counted from either end.
    ndim : int
        How many axes an example has.
    """
    if isinstance(axis, tuple | list):
        return tuple(shifted(each, ndim) for each in axis)
    return normalize_axis_index(index(axis), ndim) + 1


def shifted_strictly(axis: Any, ndim: int) -> Any:
    """Return what `shifted` does, for operators that take neither lists nor booleans as axes.

    Raises
    ------
    TypeError
        If it is, or holds, one of these.
    """
    for each in axis if isinstance(axis, tuple) else (axis,):
        if isinstance(each, bool | list):
            msg = f"axis is {axis!r}; expected an integer, or a tuple of them"
            raise TypeError(msg)
    return shifted(axis, ndim)


class Unary(Elementwise):
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


class Binary(Elementwise):
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
