"""A time limit on whatever runs."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[Callable[[], bool]]:
    """Raise TimeoutError in the body of a ``with`` once it has taken too long.

    The alarm needs the main thread of a system with POSIX signals, and Python code that runs now
    and then. Elsewhere nothing is raised, and the body must ask what it is given.

    Parameters
    ----------
    seconds : float, optional
        The limit; None for none.

    Yields
    ------
    callable
        Tells whether the time is over.

    Examples
    --------
    >>> with time_limit(60) as is_over:
    ...     is_over()
    False
    """
    end = float("inf") if seconds is None else time.monotonic() + seconds
    with contextlib.nullcontext() if seconds is None or not _can_ring() else _alarm(seconds):
        yield lambda: time.monotonic() >= end


def _can_ring() -> bool:
    in_main = threading.current_thread() is threading.main_thread()
    return in_main and hasattr(signal, "setitimer")


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(_signal: int, _frame: Any) -> None:
        msg = f"it took longer than the time limit of {seconds:g} s"
        raise TimeoutError(msg)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
