"""Asking plugins in a process of their own: whatever one does, it does it to that process alone."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing import get_context
from typing import IO, TYPE_CHECKING, Any, Self

from opgrad.registry import RegistryError, UnknownOperatorError, registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess


class RefusalError(ValueError):
    """What a function that is asked says no with: its message is meant to be read."""


class BrokenPluginError(RuntimeError):
    """A plugin raised, ended its process, or took too long."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function returned, or why it did not; and what was printed meanwhile."""

    value: Any
    why: str
    printed: str


class Guard:
    """A process that is asked one question after another, and is replaced when it dies.

    Parameters
    ----------
    limit : float
        How many seconds an answer may take.
    blocked : sequence of str
        What is blocked there, as `opgrad.registry.block` takes it.
    """

    def __init__(self, limit: float, blocked: Sequence[str] = ()) -> None:
        self._limit = limit
        self._blocked = tuple(blocked)
        self._process: SpawnProcess | None = None
        self._pipe: Connection[Any, Any]

    def ask(self, function: Callable[..., Any], *args: Any) -> Answer:
        """Call a function there: one of a module, with arguments that can be pickled.

        Returns
        -------
        Answer
            What came of it; never without an answer.
        """
        if self._process is None:
            self._start()
        try:
            self._pipe.send((function, args))
            if not self._pipe.poll(self._limit):
                self.stop()
                return Answer(None, f"it took longer than the time limit of {self._limit:g} s", "")
            answer: Answer = self._pipe.recv()
        except (EOFError, OSError):
            return Answer(None, f"it ended the process that imported it, {self._epitaph()}", "")
        return answer

    def value(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return what a function returns there.

        Raises
        ------
        BrokenPluginError
            If it does not return.
        """
        answer = self.ask(function, *args)
        if answer.why:
            raise BrokenPluginError(answer.why)
        return answer.value

    def _start(self) -> None:
        # A fork would hold what this process has imported, and locks that nobody there releases.
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, list(sys.path), self._blocked), daemon=True
        )
        self._process.start()
        theirs.close()
        self._pipe.recv()  # it is there: from now on, time is the plugins'

    def _epitaph(self) -> str:
        assert self._process is not None
        self._process.join(self._limit)
        code = self._process.exitcode
        self.stop()
        return f"with the exit code {code}"

    def stop(self) -> None:
        """End the process, whatever it is at."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _serve(pipe: Connection[Any, Any], path: list[str], blocked: Sequence[str]) -> None:
    """Answer what comes through the pipe; nothing that is printed reaches the terminal."""
    sys.path[:] = path
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    registry.block(*blocked)
    with tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
        pipe.send("ready")
        with contextlib.suppress(EOFError):
            while True:
                function, args = pipe.recv()
                pipe.send(_answer(function, args, printed))


def _answer(function: Callable[..., Any], args: Sequence[Any], printed: IO[bytes]) -> Answer:
    start = printed.seek(0, os.SEEK_END)
    value, why = None, ""
    try:
        value = function(*args)
    except BaseException as error:  # noqa: BLE001 - SystemExit too must break itself alone
        why = _explain(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a plugin may have put anything in its place
            stream.flush()
    printed.seek(start)
    return Answer(value, why, printed.read().decode(errors="replace"))


def _explain(error: BaseException) -> str:
    """Return what went wrong; of an error that wraps another one, what the other one says."""
    cause = error.__cause__ if isinstance(error, RegistryError) else None
    if cause is None and isinstance(error, RefusalError | RegistryError | UnknownOperatorError):
        return str(error)
    found = cause or error
    return f"{type(found).__name__}: {found}"
