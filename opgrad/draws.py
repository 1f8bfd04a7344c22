"""The random numbers that a call of `checkpoint` draws, and draws once more when it is repeated.

All threads share opgrad's generator. Set back for a second call, it would give others the same
numbers again, and what they draw meanwhile would be missing in the call. So the first call notes
the states that it draws from, and the second has a generator of its own for them.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad.graph import GraphError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opgrad.randomness import Generator


class Draws:
    """How often a call draws random numbers, and from which states."""

    __slots__ = ("_end", "_outer", "again", "count", "starts")

    def __init__(self, outer: Draws | _Again | None) -> None:
        self._outer = outer
        #: Whether it is inside of one that draws again.
        self.again: bool = outer is not None and outer.again
        self.count = 0
        #: The states, by the draws that do not go on where the one before ended.
        self.starts: dict[int, Any] = {}
        self._end: Any = None

    @contextmanager
    def drawing(self, generator: Generator) -> Iterator[np.random.Generator]:
        """Give what to draw from in place of a generator, for one draw."""
        around = self._outer.drawing(generator) if self._outer else generator._drawing()
        with around as twin:
            self._note(twin.bit_generator.state)
            try:
                yield twin
            finally:
                self._end = twin.bit_generator.state

    def _note(self, state: Any) -> None:
        if state != self._end:
            self.starts[self.count] = state
        self.count += 1


class _Again:
    """The draws of a call while it is repeated."""

    again = True

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._count = 0

    @functools.cached_property
    def _twin(self) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(0))  # whose state is going to be set

    @contextmanager
    def drawing(self, _: Generator) -> Iterator[np.random.Generator]:
        """Give what to draw from in place of a generator, for one draw."""
        start = self._draws.starts.get(self._count)
        if start is not None:
            self._twin.bit_generator.state = start
        self._count += 1
        if self._count > self._draws.count:
            self._refuse()
        yield self._twin

    def check(self) -> None:
        """Insist on as many draws as at first; where there were none, none were wrong."""
        if self._count not in (0, self._draws.count):
            self._refuse()

    def _refuse(self) -> None:
        msg = (
            "checkpoint: at its second call, in the backward pass, func drew random numbers "
            f"{self._count} times, after {self._draws.count} at the first; it must do the same at "
            "both. Draw them outside of func, and pass them to it."
        )
        raise GraphError(msg)


_draws: ContextVar[Draws | _Again | None] = ContextVar("opgrad_draws", default=None)

#: Returns those of the call of `checkpoint` that this thread and task is in, if any.
draws_now = _draws.get


@contextmanager
def noted() -> Iterator[Draws]:
    """Note the draws of this thread and task."""
    draws = Draws(draws_now())
    token = _draws.set(draws)
    try:
        yield draws
    finally:
        _draws.reset(token)


@contextmanager
def repeated(draws: Draws) -> Iterator[None]:
    """Draw the numbers again that were drawn while `draws` were noted; nothing else is touched.

    Raises
    ------
    GraphError
        If there are more draws, or fewer, though not none.
    """
    again = _Again(draws)
    token = _draws.set(again)
    try:
        yield
    finally:
        _draws.reset(token)
    again.check()


def is_repeated() -> bool:
    """Tell whether the numbers that are drawn just now are those of an earlier call."""
    draws = draws_now()
    return draws is not None and draws.again
