"""Asking every probe about every case of an operator, whatever the operator does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from opgrad.check.findings import Finding, Report, Status
from opgrad.check.probes import PROBES
from opgrad.operator import Case, Operator
from opgrad.registry import registry

if TYPE_CHECKING:
    from collections.abc import Iterator


def verify(operator: Operator | str, *, seed: int = 0) -> Report:
    """Verify an operator on its own cases and on what follows from them.

    Parameters
    ----------
    operator : Operator or str
        The operator, registered or not, or the name of a registered one.
    seed : int
        What the random numbers of its cases start from.

    Returns
    -------
    Report
        All findings; ``report.passed`` is True only if nothing failed and no case of the
        author's stayed inconclusive.

    Raises
    ------
    UnknownOperatorError, RegistryError
        If a name is not that of a usable operator.

    Examples
    --------
    >>> from opgrad.check import verify
    >>> verify("mul").passed
    True
    """
    if isinstance(operator, str):
        entry = registry.entry(operator)
        report = Report(operator, entry.distribution, entry.version)
        operator = registry.load(operator)
    else:
        report = Report(operator.name)
    started = time.perf_counter()
    report.findings = list(_findings(operator, seed))
    report.seconds = time.perf_counter() - started
    return report


def _findings(operator: Operator, seed: int) -> Iterator[Finding]:
    try:
        cases = list(operator.contract.hooks["self_check"](np.random.default_rng(seed)))
    except Exception as error:  # noqa: BLE001 - whatever it does is a finding about it
        yield Finding("self_check", "", "", Status.FAIL, False, _said(error))
        return
    if not cases or not all(isinstance(case, Case) for case in cases):
        yield Finding(
            "self_check", "", "", Status.FAIL, False,
            f"expected at least one Case, and nothing but Cases; got {cases!r}",
        )  # fmt: skip
        return
    for case in cases:
        for name, probe in PROBES.items():
            try:
                with np.errstate(all="ignore"):
                    yield from probe(operator, case)
            except Exception as error:  # noqa: BLE001 - likewise
                yield Finding(name, repr(case), "", Status.FAIL, False, _said(error))


def _said(error: Exception) -> str:
    notes = "; ".join(getattr(error, "__notes__", []))
    return f"raised {type(error).__name__}: {error}" + (f" ({notes})" if notes else "")
