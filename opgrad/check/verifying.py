"""Asking every probe about every case of an operator, whatever the operator does."""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from opgrad.check.discovery import Probe, probes
from opgrad.check.findings import Finding, Report, Status, failed
from opgrad.check.timelimit import time_limit
from opgrad.operator import Case, Operator
from opgrad.registry import registry


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
        The operator, registered or not, or the name of a registered one.
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
        loaded, report = _loaded(operator)
        found = (
            finding
            for each in range(seed, seed + more_cases + 1)
            for finding in _findings(operator, loaded, each, asked, case, report.seconds)
        )
        try:
            for finding in found:
                report.findings.append(finding)
                if fail_fast and finding.counts_against:
                    break
                if is_over():
                    report.findings.append(out_of_time(limit))
                    break
        except TimeoutError:  # between two probes: a probe's own is a finding already
            report.findings.append(out_of_time(limit))
    return report


def _loaded(operator: Operator | str) -> tuple[Operator, Report]:
    if not isinstance(operator, str):
        return operator, Report(operator.name)
    entry, said = registry.entry(operator), io.StringIO()
    report = Report(operator, entry.distribution, entry.version)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        loaded = registry.load(operator)
    if printed := said.getvalue():
        msg = f"it prints when it is imported, first of all {printed.splitlines()[0][:60]!r}"
        report.findings.append(replace(failed(msg), probe="load"))
    return loaded, report


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
    cases, complaint = _cases(operator, seed)
    if complaint:
        yield complaint
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


def _reproducer(given: Operator | str, seed: int, index: int, probe: str) -> str:
    """Return two lines of Python that ask a probe again about a case."""
    imports, shown = "from opgrad.check import verify", repr(given)
    if isinstance(given, Operator):
        kind = type(given)
        imports += f"; from {kind.__module__} import {kind.__qualname__}"
        shown = f"{kind.__qualname__}()"
    call = f"verify({shown}, seed={seed}, case={index}, only=[{probe!r}])"
    return f'{imports}\nprint(*{call}.findings, sep="\\n")'


def _cases(operator: Operator, seed: int) -> tuple[list[Case], Finding | None]:
    try:
        cases = list(operator.contract.hooks["self_check"](np.random.default_rng(seed)))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it does is a finding about it
        return [], replace(failed(_said(error)), probe="self_check")
    if not cases or not all(isinstance(case, Case) for case in cases):
        msg = f"expected at least one Case, and nothing but Cases; got {cases!r}"
        return [], replace(failed(msg), probe="self_check")
    return cases, None


def watched(probe: Probe, operator: Operator, case: Case) -> list[Finding]:
    """Ask a probe, and find against the operator what it does beside answering."""
    said = io.StringIO()
    found: list[Finding] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                with np.errstate(all="ignore"):
                    found.extend(probe(operator.spread(len(case.inputs)), case))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - likewise
                found.append(failed(_said(error)))
    if warned:
        kind, message = warned[0].category.__name__, warned[0].message
        found.append(failed(f"it warns {len(warned)} times, first of {kind}: {message}"))
    if printed := said.getvalue():
        first = printed.splitlines()[0][:60]
        found.append(failed(f"it prints, first of all {first!r}; operators are silent"))
    return found


def _said(error: BaseException) -> str:
    notes = "; ".join(getattr(error, "__notes__", []))
    return f"it raises {type(error).__name__}: {error}" + (f" ({notes})" if notes else "")
