"""Asking every probe about every case of an operator, whatever the operator does."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad.check.cases import misfits
from opgrad.check.discovery import Probe, probes, sources
from opgrad.check.findings import Finding, Report, Status, failed
from opgrad.check.overriding import same_as_base, speed
from opgrad.check.surroundings import LOADING, SHARED, USUAL, Setting, Surroundings
from opgrad.check.timelimit import time_limit
from opgrad.operator import Case, Operator
from opgrad.registry import RegistryError, registry

if TYPE_CHECKING:
    from opgrad.entries import Entry


def verify(
    operator: Operator | str,
    *,
    seed: int = 0,
    more_cases: int = 0,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    case: int | None = None,
    fail_fast: bool = False,
    limit: float | None = None,
) -> Report:
    """Verify an operator on its own cases and on what follows from them.

    Parameters
    ----------
    operator : Operator or str
        The operator, registered or not, or the name of a registered one; ``"matmul@opgrad"`` is
        the one of that distribution, which another one overrides.
    seed : int
        What the random numbers of its cases start from.
    more_cases : int
        How many times to draw its cases again, with the seeds that follow.
    only, skip : sequence of str
        The probes to ask, by default all, and those to leave out.
    case : int, optional
        Ask about this one of the cases only.
    fail_fast : bool
        Stop at the first finding that counts against the operator.
    limit : float, optional
        Seconds after which to stop, with a finding against the operator.

    Returns
    -------
    Report
        All findings; ``report.passed`` is True only if nothing failed and no case of the
        author's stayed inconclusive.

    Raises
    ------
    UnknownOperatorError, RegistryError
        If a name is not that of a usable operator.
    ValueError
        If there is no probe of a name.

    Examples
    --------
    >>> from opgrad.check import verify
    >>> verify("mul").passed
    True
    """
    asked = chosen_probes(only, skip)
    with time_limit(limit) as is_over:
        found_operator, report = loaded(operator)
        found = (
            finding
            for each in range(seed, seed + more_cases + 1)
            for finding in _findings(operator, found_operator, each, asked, case, report.seconds)
        )
        try:
            for finding in itertools.chain(
                found, _beside_base(operator, found_operator, seed, report)
            ):
                report.findings.append(finding)
                if fail_fast and finding.counts_against:
                    break
                if is_over():
                    report.findings.append(out_of_time(limit))
                    break
        except TimeoutError:  # between two probes: a probe's own is a finding already
            report.findings.append(out_of_time(limit))
    return report


def loaded(operator: Operator | str) -> tuple[Operator, Report]:
    """Load an operator, and begin the report on it with what that did beside.

    Parameters
    ----------
    operator : Operator or str
        The operator, or what to load, as `verify` takes it.

    Raises
    ------
    UnknownOperatorError, RegistryError
        If it cannot be loaded.

    Examples
    --------
    >>> operator, report = loaded("mul")
    >>> operator.name, report.distribution, report.findings
    ('mul', 'opgrad', [])
    """
    if not isinstance(operator, str):
        return operator, Report(operator.name)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        before = Surroundings.now(LOADING)
        try:
            entry, found = _found(operator)
        finally:
            changed = before.restored(keep_grown=True)
    faults = [f"when it is imported, it changes {what}" for what in changed]
    if printed := said.getvalue():
        faults.append(f"it prints when it is imported, first of all {_first_line(printed)!r}")
    found_so_far = [replace(failed(each), probe="load") for each in faults]
    return found, Report(operator, entry.distribution, entry.version, found_so_far)


def _found(name: str) -> tuple[Entry, Operator]:
    """Load an operator, or as ``name@distribution`` the one that is overridden."""
    own, _, distribution = name.partition("@")
    if distribution:
        base = registry.base(own)
        if base is None or base[0].distribution != distribution:
            msg = f"{own!r} of {distribution} is not there, or is not overridden; ask for {own!r}"
            raise RegistryError(msg)
        return base
    return registry.entry(name), registry.load(name)


def out_of_time(limit: float | None) -> Finding:
    """Return the finding against an operator that took too long."""
    return Finding(Status.FAIL, f"stopped at its time limit of {limit:g} s", probe="time_limit")


def chosen_probes(only: Sequence[str] = (), skip: Sequence[str] = ()) -> dict[str, Probe]:
    """Return the probes to ask, by name; one that is marked ``on_demand`` only if it is named."""
    known = probes()
    for name in (*only, *skip):
        if name not in known:
            msg = f"no probe is called {name!r}; there are {', '.join(known)}"
            raise ValueError(msg)
    usual = [name for name, probe in known.items() if not getattr(probe, "on_demand", False)]
    chosen = only or usual
    return {name: probe for name, probe in known.items() if name in chosen and name not in skip}


def _findings(
    given: Operator | str,
    operator: Operator,
    seed: int,
    asked: dict[str, Probe],
    only_case: int | None,
    seconds: dict[str, float],
) -> Iterator[Finding]:
    cases, faults = cases_of(operator, seed)
    yield from faults
    for index, case in enumerate(cases):
        if only_case is not None and index != only_case:
            continue
        for name, probe in asked.items():
            started = time.perf_counter()
            found = watched(probe, operator, case)
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started
            reproducer = _reproducer(given, seed, index, name)
            for each in found:
                yield replace(
                    each, probe=name, case=repr(case), seed=seed, index=index, reproducer=reproducer
                )


def _beside_base(
    given: Operator | str, operator: Operator, seed: int, report: Report
) -> Iterator[Finding]:
    """Compare an override with its base, on the base's cases; note how much faster it is."""
    found = registry.base(given) if isinstance(given, str) and "@" not in given else None
    if found is None:
        return
    _, base = found
    probe = functools.partial(same_as_base, base)
    cases, faults = cases_of(base, seed)
    faults += [
        replace(each, probe="same_as_base", case=repr(case), seed=seed, index=index)
        for index, case in enumerate(cases)
        for each in watched(probe, operator, case)
    ]
    yield from faults
    if not any(each.counts_against for each in faults):
        speeds, faults = observed(lambda: [speed(base, operator)])
        yield from (replace(each, probe="same_as_base") for each in faults)
        report.speed = next(iter(speeds), None)


def _reproducer(given: Operator | str, seed: int, index: int, probe: str) -> str:
    """Return two lines of Python that ask a probe again about a case."""
    imports, shown = "from opgrad.check import verify", repr(given)
    if isinstance(given, Operator):
        kind = type(given)
        imports += f"; from {kind.__module__} import {kind.__qualname__}"
        shown = f"{kind.__qualname__}()"
    call = f"verify({shown}, seed={seed}, case={index}, only=[{probe!r}])"
    return f'{imports}\nprint(*{call}.findings, sep="\\n")'


def cases_of(operator: Operator, seed: int) -> tuple[list[Case], list[Finding]]:
    """Return the cases that an operator can be asked about, and what is wrong with the others.

    Parameters
    ----------
    operator : Operator
        The operator.
    seed : int
        What the random numbers of its cases start from.

    Examples
    --------
    >>> import opgrad
    >>> cases_of(opgrad.ops.sin, 0)
    ([Case(float64 (3, 4)), ...], [])
    """
    self_check = operator.contract.hooks["self_check"]
    settings = (*LOADING, *SHARED)
    made, faults = observed(lambda: [self_check(np.random.default_rng(seed))], settings)
    yields = all(isinstance(each, Iterable) for each in made)
    cases, more = observed(lambda: made[0] if made and yields else (), settings)
    faults += more
    if not (cases or faults):
        what = "yields nothing" if yields or made == [None] else f"returns {made[0]!r}"
        faults = [failed(f"self_check {what}; let it yield at least one Case")]
    wrong = {at: failed(why) for at, why in misfits(operator, cases)}
    right = [case for at, case in enumerate(cases) if at not in wrong]
    return right, [replace(each, probe="self_check") for each in (*faults, *wrong.values())]


def watched(probe: Probe, operator: Operator, case: Case) -> list[Finding]:
    """Ask a probe, and find against the operator what it does beside answering."""
    answers, faults = observed(lambda: probe(operator.spread(len(case.inputs)), case))
    faults += [
        failed(f"the probe answers {each!r}; it should yield nothing but Findings")
        for each in answers
        if not isinstance(each, Finding)
    ]
    found = [each for each in answers if isinstance(each, Finding)]
    if source := sources.get(getattr(probe, "__name__", "")):
        # It may be the probe's own fault.
        faults = [replace(each, message=f"{each.message} (asked by {source})") for each in faults]
    return found + faults


def observed(
    run: Callable[[], Iterable[Any]], settings: Sequence[Setting] = USUAL
) -> tuple[list[Any], list[Finding]]:
    """Return what something gives, up to where it raises, and what else it does.

    Parameters
    ----------
    run : callable
        What to run.
    settings : sequence of Setting
        What it has to leave as it was; it is put back.

    Examples
    --------
    >>> given, [fault] = observed(lambda: [print("hello")])
    >>> given, fault.message
    ([None], "it prints, first of all 'hello'; operators are silent")
    """
    said = io.StringIO()
    given: list[Any] = []
    faults: list[Finding] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with (
            np.errstate(all="ignore"),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            before = Surroundings.now(settings)
            try:
                given.extend(run())
            except BaseException as error:
                if _is_ctrl_c(error):
                    raise
                faults.append(failed(_said(error)))
            finally:
                changed = before.restored()
    faults += [failed(f"it changes {what}, for whoever comes after it") for what in changed]
    if warned:
        kind, message = warned[0].category.__name__, warned[0].message
        faults.append(failed(f"it warns {len(warned)} times, first of {kind}: {message}"))
    if printed := said.getvalue():
        faults.append(
            failed(f"it prints, first of all {_first_line(printed)!r}; operators are silent")
        )
    return given, faults


def _first_line(text: str) -> str:
    return text.splitlines()[0][:60]


def _is_ctrl_c(error: BaseException) -> bool:
    """Tell whether somebody wants to stop, which no worker hears of: there it was raised."""
    heard = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    return isinstance(error, KeyboardInterrupt) and heard


def _said(error: BaseException) -> str:
    said, notes = str(error), "; ".join(getattr(error, "__notes__", []))
    if said in notes:
        said, notes = notes, ""
    return f"it raises {type(error).__name__}: {said}" + (f" ({notes})" if notes else "")
