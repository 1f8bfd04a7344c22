"""Writing attestations of distributions that have passed, and telling whether one still holds.

What an attestation is, and how it is bound to what is installed, is in `opgrad.trust`.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opgrad.check.disabling import disabled
from opgrad.check.findings import Finding, Report, Status
from opgrad.check.overriding import with_bases
from opgrad.check.verifying import chosen_probes
from opgrad.entries import GROUP, OVERRIDES, Entry
from opgrad.files import replacing
from opgrad.fingerprint import Installed, TrustError, combined
from opgrad.registry import RegistryError, registry
from opgrad.showing.terminal import counted, say
from opgrad.trust import FORMAT, checksum, folders, forget, judge, read

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

HOLDS, DOES_NOT_HOLD, CANNOT_BE_READ = 0, 1, 2

#: Options with which not everything is asked, by their names among the parsed ones.
_LEAVE_OUT = {
    "names": "NAME",
    "family": "--family",
    "list": "--list",
    "probe": "--probe",
    "skip_probe": "--skip-probe",
    "list_probes": "--list-probes",
    "self_test": "--self-test",
    "fail_fast": "--fail-fast",
}


# ------------------------------------------------------------------------------------ writing


@dataclass(frozen=True, slots=True)
class Round:
    """The names of operators that are verified together, and what is blocked meanwhile."""

    names: Sequence[str]
    blocked: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attestation that is to be written to a file, if all goes well.

    Attributes
    ----------
    path : Path
        The file.
    installed : Installed
        The distribution, as it was before it was verified.
    entries : list of Entry
        Its operators, then its overrides.
    rounds : list of Round
        The same, each verified without the overrides of anybody else; after an override what it
        overrides, which is not attested, and has to pass all the same.
    """

    path: Path
    installed: Installed
    entries: list[Entry]
    rounds: list[Round]

    @classmethod
    def begin(cls, options: argparse.Namespace) -> Attempt:
        """See, before anything is verified, that the options allow an attestation.

        Raises
        ------
        ValueError
            If they leave something out, or do not name one distribution, or one file in a folder.
        TrustError
            If the distribution's files are not found.
        """
        _check_options(options)
        _check_folder(options.attest)
        installed = Installed.of(options.distribution[0])
        every = [entry for entries in registry.entries().values() for entry in entries]
        overrides = [each for each in every if each.overrides]
        own = [each for each in every if each.distribution == installed.distribution]
        rounds = []
        for kind in (False, True):
            chosen = [each for each in own if each.overrides is kind]
            blocked = [each.plugin for each in overrides if each not in chosen]
            with disabled(blocked):
                _check_reach(chosen)
                names = with_bases(each.name for each in chosen)
            if chosen:
                rounds.append(Round(names, blocked))
        own.sort(key=lambda each: each.overrides)
        return cls(options.attest, installed, own, rounds)

    def finish(self, reports: Sequence[Report], seeds: Sequence[int]) -> bool:
        """Write the attestation if everything passed; say so, or why there is none.

        Parameters
        ----------
        reports : sequence of Report
            The reports of all rounds, in the order of their names.
        seeds : sequence of int
            What the cases were drawn with.
        """
        failed = [report.operator for report in reports if not report.passed]
        if failed or self._has_changed():
            why = f"{', '.join(failed)} did not pass" if failed else _CHANGED
            sys.stderr.write(f"opgrad.check: no attestation is written: {why}\n")
            return False
        if _is_looked_into(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        own = [report for report in reports if "@" not in report.operator]
        with replacing(self.path) as scratch:
            content = dumps(self._content(own, seeds), indent=1, allow_nan=False)
            scratch.write_text(content + "\n", encoding="utf-8")
        forget()
        say([f"{self.path} attests {self.installed.distribution} {self.installed.version}"])
        return True

    def _has_changed(self) -> bool:
        try:
            return Installed.of(self.installed.distribution) != self.installed
        except TrustError:  # it is gone
            return True

    def _content(self, reports: Sequence[Report], seeds: Sequence[int]) -> dict[str, Any]:
        content: dict[str, Any] = {
            "format": FORMAT,
            "distribution": self.installed.distribution,
            "version": self.installed.version,
            "operators": list(map(_operator, self.entries, reports)),
            "sha256": combined(self.installed.files),
            "files": self.installed.files,
            "environment": self.installed.environment,
            "probes": _probes(reports),
            "seeds": list(seeds),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return {**content, "checksum": checksum(content)}


_CHANGED = "what is installed has changed while it was verified; run it again"


def _check_options(options: argparse.Namespace) -> None:
    given = [option for name, option in _LEAVE_OUT.items() if getattr(options, name)]
    if given:
        msg = (
            "an attestation says that every operator of a distribution was asked everything; "
            f"leave out {', '.join(given)}, or leave out --attest"
        )
        raise ValueError(msg)
    if len(options.distribution) != 1:
        msg = (
            f"an attestation is about one distribution, got {len(options.distribution)}; "
            "name it with --distribution"
        )
        raise ValueError(msg)


def _check_folder(path: Path) -> None:
    """See that a file can be where an attestation is to be written to."""
    if path.is_dir():
        msg = f"--attest {path}: it is a folder; expected the path of a file"
        raise ValueError(msg)
    if not (_is_looked_into(path.parent) or path.parent.is_dir()):
        msg = f"--attest {path}: there is no folder {path.parent}; make it first"
        raise ValueError(msg)


def _is_looked_into(folder: Path) -> bool:
    """Tell whether attestations are looked for in a folder, however it is written."""
    return folder.resolve() in [each.resolve() for each in folders()]


def _check_reach(entries: Sequence[Entry]) -> None:
    """See that nothing of a round is blocked, and would therefore not be verified."""
    blocked = [entry.plugin for entry in entries if _is_blocked(entry)]
    if blocked:
        msg = f"{', '.join(blocked)} cannot be attested: it is blocked (see OPGRAD_DISABLE)"
        raise ValueError(msg)


def _is_blocked(entry: Entry) -> bool:
    try:
        return registry.entry(entry.name) != entry
    except RegistryError:  # blocked, or unusable: that the verifier finds by itself
        return entry.name not in registry.names()


def _operator(entry: Entry, report: Report) -> dict[str, Any]:
    return {
        "group": OVERRIDES if entry.overrides else GROUP,
        "name": entry.name,
        "value": entry.value,
        "worst_error": report.worst_error,
        "counts": _counts(report.findings),
    }


def _probes(reports: Sequence[Report]) -> dict[str, dict[str, int]]:
    findings = [finding for report in reports for finding in report.findings]
    names = dict.fromkeys([*chosen_probes(), *(each.probe for each in findings)])
    return {name: _counts([each for each in findings if each.probe == name]) for name in names}


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    counted = Counter(each.status.value for each in findings)
    return {status: counted[status] for status in Status if counted[status]}


# ------------------------------------------------------------------------------------ telling


def tell(path: str | os.PathLike[str]) -> int:
    """Say whether an attestation holds for what is installed; return the exit code.

    Parameters
    ----------
    path : str or path-like
        The attestation.

    Returns
    -------
    int
        0 if it holds, 1 if it does not, 2 if it cannot be read.
    """
    try:
        attestation = read(path)
    except TrustError as error:
        sys.stderr.write(f"opgrad.check: {error}\n")
        return CANNOT_BE_READ
    what = f"{attestation['distribution']} {attestation['version']}"
    try:
        verdict = judge(attestation, Installed.of(attestation["distribution"]))
    except TrustError as error:
        say([f"{path} does not hold:", f"  {error}"])
        return DOES_NOT_HOLD
    if not verdict.holds:
        say([f"{path} does not hold:", *(f"  {reason}" for reason in verdict.reasons)])
        return DOES_NOT_HOLD
    count = counted(len(attestation["operators"]), "operator")
    verified = f"{count}, verified at {attestation['date']}"
    say([f"{path} holds for {what}: {verified}", *(f"  {note}" for note in verdict.notes)])
    return HOLDS
