"""Whether an operator leaves something behind: files, text, random numbers that are used up."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from opgrad import hookimpl
from opgrad.check.asking import (
    asks,
    has_gradient,
    recorded_node,
    run_hooks,
    seeds_for,
    tangents_for,
)
from opgrad.check.findings import Finding, failed
from opgrad.check.surroundings import SHARED, Surroundings
from opgrad.forward import push_through

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opgrad.check.discovery import Probe
    from opgrad.check.trial import Trial

_T = TypeVar("_T")

#: The flags of what opens a file for more than reading.
_WRITES = os.O_WRONLY | os.O_RDWR

#: The files that were opened for writing in this thread, while anybody wants to know.
_opened: ContextVar[list[Any] | None] = ContextVar("opgrad_opened", default=None)


@asks
def nothing_left(trial: Trial) -> Iterator[Finding]:
    """Find that forward or backward leaves a file, text or other random numbers behind."""
    for who, run in _runs(trial):
        with _stirred():
            run()  # what is left once, by an import or a cache, may be left
        with _stirred() as shared:
            said, opened = _written(partial(_opening, run))
        for what in shared:
            yield failed(f"{who} changes {what}")
        for file in dict.fromkeys(opened):
            if Path(os.fsdecode(file)).is_file():
                yield failed(f"{who} writes to the file {os.fsdecode(file)!r}")
        if said:
            text = said.decode(errors="replace").splitlines()[0][:60]
            yield failed(f"{who} writes {text!r} to the terminal, past sys.stdout and sys.stderr")


def _runs(trial: Trial) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "forward", trial.forward
    with _stirred():
        if not has_gradient(trial):
            return
        node, outputs = recorded_node(trial)
    yield "backward", partial(run_hooks, node, seeds_for(outputs))
    if any(trial.operator.contract.jvps):
        yield "jvp", partial(push_through, node, tangents_for(trial, node))


@contextmanager
def _stirred() -> Iterator[list[str]]:
    """Yield the names of what all share, and has changed in the end; put it back."""
    changed: list[str] = []
    outer = Surroundings.now(SHARED)
    # So that to seed them again, as an earlier call has done, shows.
    np.random.random()  # noqa: NPY002 - the one that all share
    random.random()
    inner = Surroundings.now(SHARED)
    try:
        yield changed
        changed += inner.restored()
    finally:
        outer.restored()


@cache
def _listen() -> None:
    """Hear from now on, as long as Python runs, of every file that it opens."""

    def hear(
        event: str, arguments: tuple[Any, ...], wanted: Callable[[], Any] = _opened.get
    ) -> None:
        if event == "open" and (files := wanted()) is not None:
            path, _, flags = arguments
            if isinstance(path, str | bytes) and flags & _WRITES:
                files.append(path)

    sys.addaudithook(hear)


def _opening(run: Callable[[], Any]) -> list[Any]:
    """Run something, and return the files that it opens for writing."""
    _listen()
    files: list[Any] = []
    token = _opened.set(files)
    try:
        run()
    finally:
        _opened.reset(token)
    return files


def _written(run: Callable[[], _T]) -> tuple[bytes, _T]:
    """Run something; return what it writes to where the terminal was, and what it returns.

    It is not asked where other threads run, whose words it might be.
    """
    if threading.active_count() > 1 or not all(map(_is_open, (1, 2))):
        return b"", run()
    _flush()
    with tempfile.TemporaryFile() as file:
        copies = {terminal: os.dup(terminal) for terminal in (1, 2)}
        try:
            for terminal in copies:
                os.dup2(file.fileno(), terminal)
            result = run()
            _flush()
        finally:
            for terminal, copy in copies.items():
                os.dup2(copy, terminal)
                os.close(copy)
        file.seek(0)
        return file.read(), result


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _flush() -> None:
    for each in (sys.__stdout__, sys.__stderr__):
        if each is not None and not each.closed:
            each.flush()


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [nothing_left]
