"""What attestations, and the last run of the verifier here, say of an operator."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from opgrad.fingerprint import Installed, TrustError
from opgrad.naming import canonical
from opgrad.showing.records import RecordError
from opgrad.showing.records import read as read_record
from opgrad.trust import complaint, folders, judge, read

if TYPE_CHECKING:
    from pathlib import Path

    from opgrad.entries import Entry


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether an operator was verified as it is installed.

    Attributes
    ----------
    attested : bool
        Whether there is an attestation that holds.
    date, file : str, optional
        When it was made, and where it is.
    why : str
        Why there is none.
    """

    attested: bool = False
    date: str | None = None
    file: str | None = None
    why: str = ""

    def __str__(self) -> str:
        if self.attested:
            return f"attested on {self.date}, by {self.file}"
        return self.why


def verification(entry: Entry) -> Verification:
    """Look for an attestation of an operator; imports nothing of it."""
    places = [folder / f"{canonical(entry.distribution)}.json" for folder in folders()]
    there = [place for place in places if place.exists()]
    if not there:
        return Verification(why="never attested")
    if reason := complaint(entry.distribution, entry.name, entry.value):
        return Verification(why=f"not attested: {reason}")
    file = next(place for place in there if _holds(place, entry.distribution))
    return Verification(True, read(file)["date"], str(file))


@dataclass(frozen=True, slots=True)
class LastRun:
    """What the verifier found when it was last run here.

    Attributes
    ----------
    text : str
        That, in a line; or why nothing is known of it.
    data : dict, optional
        The record as plain data, and whether the files are ``unchanged`` since.
    """

    text: str
    data: dict[str, Any] | None = None


def last_run(entry: Entry) -> LastRun:
    """Look for the record of an operator; imports nothing of it."""
    try:
        record = read_record(entry)
    except RecordError as error:
        return LastRun(f"never verified here, as far as can be told: {error}")
    if record is None:
        return LastRun("never verified here")
    return LastRun(record.told(entry), {**asdict(record), "unchanged": record.unchanged(entry)})


def _holds(place: Path, distribution: str) -> bool:
    try:
        return judge(read(place), Installed.of(distribution)).holds
    except TrustError:
        return False
