"""The generator of opgrad's random numbers, which is loaded when the first of them is drawn."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad.draws import draws_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Generator(np.random.Generator):
    """NumPy's generator; what is drawn in a `checkpoint` is noted, and drawn again."""

    def __init__(self, bit_generator: np.random.BitGenerator) -> None:
        super().__init__(bit_generator)
        #: Draws from the same sequence, outside of checkpoints, and need not ask.
        self._plain = np.random.Generator(bit_generator)
        self._twin = np.random.Generator(np.random.PCG64(0))  # whose state is set for each draw

    @contextmanager
    def _drawing(self) -> Iterator[np.random.Generator]:
        """Give a twin to draw from, and go on where it ends; others wait for that."""
        own, its = self.bit_generator, self._twin.bit_generator
        with own.lock:  # which NumPy takes for every draw
            its.state = own.state
            try:
                yield self._twin
            finally:
                own.state = its.state


def _method(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of NumPy's generator as one of `Generator`."""

    @functools.wraps(draw)
    def drawn(self: Generator, *args: Any, **kwargs: Any) -> Any:
        draws = draws_now()
        if draws is None:
            return draw(self, *args, **kwargs)
        with draws.drawing(self) as twin:
            return draw(twin, *args, **kwargs)

    return drawn


for _name, _draw in vars(np.random.Generator).items():
    if callable(_draw) and not _name.startswith("_") and _name != "spawn":  # which draws nothing
        setattr(Generator, _name, _method(_draw))
