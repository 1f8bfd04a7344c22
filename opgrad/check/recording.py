"""Recording what a run of the command found, for `python -m opgrad` to tell."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from opgrad.check.findings import finite
from opgrad.registry import RegistryError, registry
from opgrad.showing.records import FOLDER, Record, fingerprint, folder, write

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opgrad.check.findings import Report
    from opgrad.entries import Entry


class Recorder:
    """Writes a record of each report, in the folder where `opgrad.showing.records` looks.

    Parameters
    ----------
    names : iterable of str
        What is to be verified. The files are hashed now, so that a change meanwhile shows.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._works = folder() is not None
        hashed = cache(fingerprint)
        self._entries = {name: entry_of(name) for name in names} if self._works else {}
        self._hashes = {
            name: hashed(entry.distribution) for name, entry in self._entries.items()
        }  # fmt: skip

    def note(self, report: Report) -> None:
        """Write down a report; where that cannot be done, say so once, and go on."""
        if not self._works:
            return
        try:
            write(self._record(report))
        except OSError as error:
            self._works = False
            sys.stderr.write(
                f"opgrad.check: the verification is not recorded: {error}. Name a folder in "
                f"{FOLDER}; if it is empty, nothing is recorded.\n"
            )

    def _record(self, report: Report) -> Record:
        entry = self._entries[report.operator]
        return Record(
            operator=entry.name,
            distribution=entry.distribution,
            version=entry.version,
            entry_point=entry.value,
            sha256=self._hashes[report.operator],
            opgrad=version("opgrad"),
            numpy=np.__version__,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            verdict=report.status.value,
            probes=len(report.seconds),
            questions=len(report.findings),
            worst_error=finite(report.worst_error),
            speed=report.speed,
        )


def entry_of(name: str) -> Entry:
    """Return the entry that a name of the command means, or, of several that claim it, the first.

    Parameters
    ----------
    name : str
        The name of an operator; ``"sigmoid@opgrad"`` is what stands behind an override.
    """
    own, _, distribution = name.partition("@")
    entries = registry.entries()[own]
    if distribution:
        named = (each for each in entries if each.distribution == distribution)
        return next(named, entries[0])
    try:
        return registry.entry(own)
    except RegistryError:
        return entries[0]
