"""The calls of `vmap` that are running, each of which hides an axis: that of its examples.

They nest, the outermost first. What asks here what is running needs nothing of `batched`, where
the tensors are that have hidden axes.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence


@dataclass(slots=True, eq=False)
class Level:
    """One call of `vmap`.

    Attributes
    ----------
    size : int
        How many examples there are.
    depth : int
        Greater than those of the calls that it is inside of.
    added_up : bool
        Whether a backward pass has added up the gradients of the examples.
    """

    size: int
    depth: int
    added_up: bool = False


class BatchError(RuntimeError):
    """What all the examples of `vmap` at once cannot do, and each by itself could."""


class BatchedKeyError(BatchError):
    """An index that differs among the examples."""

    def __init__(self) -> None:
        super().__init__(
            "an index that differs among the examples of vmap: it can pick, as in `x[i]`, and not "
            "write. Pass loop=True to vmap, which calls the function once for each example."
        )


_levels: ContextVar[tuple[Level, ...]] = ContextVar("opgrad_levels", default=())

#: Those whose examples are being taken one by one.
_suspended: ContextVar[tuple[Level, ...]] = ContextVar("opgrad_levels_suspended", default=())

#: Returns those that are running, in this thread or task, the outermost first.
levels = _levels.get

#: Those that are running in any thread: where there are none, that is seen sooner.
anywhere: list[Level] = []


@contextmanager
def running(size: int) -> Iterator[Level]:
    """Run a block as the function that is called with so many examples."""
    level = Level(size, levels()[-1].depth + 1 if levels() else 0)
    token = _levels.set((*levels(), level))
    anywhere.append(level)
    try:
        yield level
    finally:
        anywhere.remove(level)
        _levels.reset(token)


@contextmanager
def suspended(level: Level) -> Iterator[None]:
    """Run a block in which the examples of a call are taken one by one."""
    token = _suspended.set((*_suspended.get(), level))
    try:
        with outside({*levels()} - {level}):
            yield
    finally:
        _suspended.reset(token)


@contextmanager
def outside(keep: Collection[Level] = ()) -> Iterator[None]:
    """Run a block as if no call were running, but for some."""
    token = _levels.set(tuple(each for each in levels() if each in keep))
    try:
        yield
    finally:
        _levels.reset(token)


def insist_on_running(level: Level) -> None:
    """Refuse a tensor of a call that is over.

    Raises
    ------
    BatchError
        If the call is not running, in this thread or task.
    """
    if level in levels():
        return
    if level in _suspended.get():
        msg = (
            f"vmap: a tensor of {level.size} examples is used where these are taken one by one, "
            "as in forward of a Function that encloses it. Pass it to apply() as an argument."
        )
    else:
        msg = (
            f"vmap: a tensor of {level.size} examples is used outside of the function that was "
            "given them: after its call, or in another thread. Return it from the function instead."
        )
    raise BatchError(msg)


def insist_on_gradients_of(own: Sequence[Level] = ()) -> None:
    """Refuse the gradient of a tensor where a backward pass has added up those of examples.

    Parameters
    ----------
    own : sequence of Level
        The calls whose examples the tensor stands for: for these it has a gradient each.

    Raises
    ------
    BatchError
        If it is one for all examples of a call that such a pass was in.
    """
    if any(each.added_up and each not in own for each in levels()):
        refuse(
            "grad",
            "backward() has added up the gradients of all examples; func.grad gives each its own",
        )


def refuse(what: str, why: str) -> NoReturn:
    """Refuse what cannot be done for all examples at once.

    Parameters
    ----------
    what : str
        What was asked.
    why : str
        Why that is not possible: a clause about it.

    Raises
    ------
    BatchError
        Always.
    """
    msg = (
        f"{what}: inside vmap, {why}. Do without it, or pass loop=True to vmap, which calls the "
        "function once for each example."
    )
    raise BatchError(msg)


def refuse_in_vmap(what: str, why: str) -> None:
    """Refuse it if a call is running."""
    if levels():
        refuse(what, why)
