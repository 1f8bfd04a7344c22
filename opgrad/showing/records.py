"""Records of verifications: what `python -m opgrad.check` last found here, a file per operator.

They are notes for people. Strict mode believes attestations alone: see `opgrad.trust`.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import numpy as np

from opgrad.files import replacing
from opgrad.fingerprint import Installed, TrustError, combined
from opgrad.naming import canonical
from opgrad.showing.terminal import counted

if TYPE_CHECKING:
    from opgrad.entries import Entry

#: The variable of the environment that names the folder, or switches records off if it is empty.
FOLDER = "OPGRAD_VERIFICATIONS"

#: The version of the records' format.
FORMAT = 1

_VERDICTS = {"PASS": "passed", "FAIL": "failed", "INCONCLUSIVE": "was inconclusive"}


class RecordError(ValueError):
    """A file is not a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was found of an operator, and of which one.

    Attributes
    ----------
    operator, distribution, version, entry_point : str
        The operator, where it comes from, and what its entry point names.
    sha256 : str or None
        One hash for the files of its distribution, as they were before; None if they cannot be
        read.
    opgrad, numpy : str
        The versions of these.
    date : str
        When it was, in UTC.
    verdict : str
        "PASS", "FAIL" or "INCONCLUSIVE".
    probes, questions : int
        How many probes were asked, and how many answers there were.
    worst_error : float, optional
        The worst error of a derivative, in units of what is allowed.
    speed : float, optional
        Of an override, how many times as fast it is as its base.
    """

    operator: str
    distribution: str
    version: str
    entry_point: str
    sha256: str | None
    opgrad: str
    numpy: str
    date: str
    verdict: str
    probes: int
    questions: int
    worst_error: float | None = None
    speed: float | None = None

    @classmethod
    def of(cls, content: Any) -> Self:
        """Take a record from what is in its file.

        Raises
        ------
        RecordError
            If it is something else.
        """
        if not isinstance(content, dict):
            msg = "it is no object"
            raise RecordError(msg)
        if content.get("format") != FORMAT:
            msg = f"its format is {content.get('format')!r}, this opgrad knows {FORMAT}"
            raise RecordError(msg)
        for name, kinds in _FIELDS.items():
            if not isinstance(content.get(name), kinds) or isinstance(content.get(name), bool):
                msg = f"its {name!r} is {content.get(name, 'missing')!r}"
                raise RecordError(msg)
        if content["verdict"] not in _VERDICTS:
            msg = f"its 'verdict' is {content['verdict']!r}, expected one of {[*_VERDICTS]}"
            raise RecordError(msg)
        return cls(**{name: content[name] for name in _FIELDS})

    def unchanged(self, entry: Entry) -> bool | None:
        """Tell whether an entry still names what was verified; None if that is not known."""
        if (self.version, self.entry_point) != (entry.version, entry.value):
            return False
        now = fingerprint(entry.distribution)
        return None if self.sha256 is None or now is None else self.sha256 == now

    def told(self, entry: Entry) -> str:
        """Say it in a line."""
        since = _SINCE[self.unchanged(entry)]
        asked = f"{counted(self.probes, 'probe')}, {counted(self.questions, 'question')}"
        speed = "" if self.speed is None else f", {self.speed:.2g} times as fast as its base"
        here = {"opgrad": version("opgrad"), "numpy": np.__version__}
        then = {"opgrad": self.opgrad, "numpy": self.numpy}
        others = [f"{name} {then[name]}" for name in here if here[name] != then[name]]
        by = f"; that was with {' and '.join(others)}" if others else ""
        return f"{_VERDICTS[self.verdict]} on {self.date[:10]} ({asked}){speed}, {since}{by}"


_SINCE = {
    True: "files unchanged since",
    False: "but its files have changed since",
    None: "and whether its files have changed since is not known",
}
_NUMBER = (int, float, type(None))
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "operator": str,
    "distribution": str,
    "version": str,
    "entry_point": str,
    "sha256": (str, type(None)),
    "opgrad": str,
    "numpy": str,
    "date": str,
    "verdict": str,
    "probes": int,
    "questions": int,
    "worst_error": _NUMBER,
    "speed": _NUMBER,
}


def folder() -> Path | None:
    """Return the folder that records are in, which need not be there; None if there are none."""
    named = os.environ.get(FOLDER)
    if named is None:
        return Path(sys.prefix) / "share" / "opgrad" / "verifications"
    return Path(named) if named else None


def write(record: Record) -> None:
    """Write a record in the place of the one before, whole or not at all.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    """
    if (path := _path(record.operator, record.distribution)) is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        text = json.dumps({"format": FORMAT, **asdict(record)}, indent=1, allow_nan=False)
        scratch.write_text(text + "\n", encoding="utf-8")


def read(entry: Entry) -> Record | None:
    """Return the record of the operator of an entry; None if there is none.

    Raises
    ------
    RecordError
        If the file cannot be read, or is no record of that operator.
    """
    path = _path(entry.name, entry.distribution)
    if path is None or not path.exists():
        return None
    try:
        found = Record.of(json.loads(path.read_bytes()))
        if (found.operator, found.distribution) != (entry.name, entry.distribution):
            msg = f"it is about {found.operator} of {found.distribution}"
            raise RecordError(msg)
    except (OSError, ValueError, RecursionError) as error:
        msg = f"the record {path} cannot be read: {error}"
        raise RecordError(msg) from error
    return found


def speed(entry: Entry) -> float | None:
    """Return how many times as fast an override is as its base, if that was measured as it is.

    Raises
    ------
    RecordError
        As `read`.
    """
    found = read(entry) if entry.overrides else None
    return found.speed if found and found.speed and found.unchanged(entry) else None


def _path(operator: str, distribution: str) -> Path | None:
    place = folder()
    name = f"{quote(operator, safe='')}@{quote(canonical(distribution), safe='')}.json"
    return None if place is None else place / name


def fingerprint(distribution: str) -> str | None:
    """Return one hash for the files of a distribution; None if they cannot be read."""
    try:
        return combined(Installed.of(distribution).files)
    except TrustError:
        return None
