"""Verifying many operators: in worker processes, so that whatever one does, the others go on."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import queue
import signal
import sys
from concurrent.futures import (
    BrokenExecutor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from contextvars import copy_context
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

from opgrad.check.curves import add_curve
from opgrad.check.findings import Finding, Report, Status
from opgrad.check.recording import entry_of
from opgrad.check.surroundings import LOADING, Surroundings, keep_output
from opgrad.check.verifying import verify
from opgrad.registry import RegistryError, registry

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

#: How much longer than its limit an operator may take to heed it, in seconds.
GRACE = 3.0


@dataclass(frozen=True, slots=True)
class Questions:
    """What every operator is asked: the arguments of `verify`, and whether to make a curve."""

    seed: int = 0
    more_cases: int = 0
    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    fail_fast: bool = False
    limit: float | None = None
    curves: bool = False

    def ask(self, name: str) -> Report:
        """Verify one operator; one that cannot be loaded has failed, as has one that leaves traces.

        What it sets for its own context, such as grad mode, ends with that.
        """
        before = Surroundings.now(LOADING)
        report = copy_context().run(self._ask, name)
        changed = before.restored(keep_grown=True)
        report.findings += [
            Finding(Status.FAIL, f"in the end, it has changed {what}", probe="process")
            for what in changed
        ]
        return report

    def _ask(self, name: str) -> Report:
        try:
            report = verify(
                name,
                seed=self.seed,
                more_cases=self.more_cases,
                only=self.only,
                skip=self.skip,
                fail_fast=self.fail_fast,
                limit=self.limit,
            )
            if self.curves:
                add_curve(report, registry.load(name.partition("@")[0]))
        except (RegistryError, SystemExit) as error:
            return failure(name, "load", f"{type(error).__name__}: {error}")
        return report


def failure(name: str, probe: str, message: str) -> Report:
    """Return the report on an operator about which there is but one thing to say."""
    source = entry_of(name)
    report = Report(name, source.distribution, source.version)
    report.findings.append(Finding(Status.FAIL, message, probe=probe))
    return report


def verify_all(names: Sequence[str], questions: Questions, jobs: int) -> Generator[Report]:
    """Verify operators, and yield each report once it is there.

    Parameters
    ----------
    names : sequence of str
        Names of registered operators.
    questions : Questions
        What they are asked.
    jobs : int
        How many processes share the work. With 0 this one does it, where a debugger sees it: then
        an operator that hangs outside Python code, or crashes, takes the rest with it.
    """
    if not jobs:
        yield from map(questions.ask, names)
        return
    workers: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    everybody = [_Worker(questions) for _ in range(min(jobs, len(names)))]
    for worker in everybody:
        workers.put(worker)

    def ask(name: str) -> Report:
        worker = workers.get()
        try:
            return worker.ask(name)
        finally:
            workers.put(worker)

    with ThreadPoolExecutor(len(everybody)) as threads:
        waiting: list[Future[Report]] = [threads.submit(ask, name) for name in names]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for worker in everybody:
                worker.stop()


class _Worker:
    """A process that verifies one operator after another, and is replaced when it dies.

    One process to a pool: of a pool with several, nobody could tell which operator broke it.
    """

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._pool: ProcessPoolExecutor | None = None
        self._pid = 0

    def ask(self, name: str) -> Report:
        try:
            if self._pool is None:
                # A fork would inherit the threads' locks, which nobody there would release.
                self._pool = ProcessPoolExecutor(1, get_context("spawn"), _prepare, (sys.path,))
                self._pid = self._pool.submit(os.getpid).result()
            report, is_clean = self._pool.submit(_ask, name, self._questions).result()
        except BrokenExecutor:
            self._pool = None
            limit = self._questions.limit
            reason = "it crashed the process that verified it"
            if limit is not None:
                reason += f", or hung for more than {limit:g} s where no alarm reaches it"
            return failure(name, "process", reason)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the others go on
            self._replace()
            reason = f"it ended its verification by {type(error).__name__}: {error}"
            return failure(name, "process", reason)
        if not is_clean:
            self._replace()
        return report

    def _replace(self) -> None:
        """Have the next operator verified by another process, without what this one was left."""
        self.stop()
        self._pool = None

    def stop(self) -> None:
        if self._pool is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
            self._pool.shutdown(cancel_futures=True)


def _prepare(path: list[str]) -> None:
    """Begin a worker: it finds what its parent finds, and leaves Ctrl-C and the terminal to it."""
    sys.path[:] = path
    keep_output()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _ask(name: str, questions: Questions) -> tuple[Report, bool]:
    """Verify one operator in a worker, which ends itself if the operator does not.

    Returns
    -------
    Report, bool
        The report, and whether the worker is as it was before.
    """
    before = Surroundings.now(LOADING)
    if questions.limit is not None:
        faulthandler.dump_traceback_later(questions.limit + GRACE, exit=True)
    try:
        return questions.ask(name), not before.restored(keep_grown=True)
    finally:
        faulthandler.cancel_dump_traceback_later()
