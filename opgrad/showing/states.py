"""What there is to say of the installed operators without importing anything of theirs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from opgrad.blocking import unknown
from opgrad.contract import nearest
from opgrad.naming import canonical, misnamed
from opgrad.registry import RegistryError, registry
from opgrad.requirements import unasked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from opgrad.entries import Entry

_BLOCKED = "by OPGRAD_DISABLE, OPGRAD_DISABLE_PLUGIN_AUTOLOAD, --disable or opgrad.registry.block"


@dataclass(frozen=True, slots=True)
class Details:
    """What is known of an operator once it is loaded."""

    aliases: tuple[str, ...] = ()
    method: bool = False
    #: What it printed when it was imported.
    printed: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of some distribution's metadata, and whether it is what its name means.

    Attributes
    ----------
    entry : Entry
        The entry.
    state : str
        "lazy", to be imported at first use; "loaded"; "overridden"; "blocked"; or "failed": it
        cannot be used.
    why : str
        The reason for "blocked" and "failed".
    other : Entry, optional
        What it overrides, or is overridden by.
    details : Details, optional
        What only a loaded operator tells.
    speed : float, optional
        How many times as fast an override is as its base, if that was measured.
    """

    entry: Entry
    state: str
    why: str = ""
    other: Entry | None = None
    details: Details | None = field(default=None, compare=False)
    speed: float | None = field(default=None, compare=False)

    @property
    def family(self) -> str:
        """The module that the operator is in, by its last name; for others after their prefix."""
        own = self.other if self.entry.overrides and self.other else self.entry
        module = own.value.partition(":")[0].strip().rpartition(".")[2]
        prefix = self.entry.name.rpartition(".")[0]
        return f"{prefix}: {module}" if prefix else module

    @property
    def status(self) -> str:
        """The state in words: "overridden by fast-ops 1.0", "failed: no module named 'acme'"."""
        if self.state == "overridden" and self.other:
            return f"overridden by {source(self.other)}"
        if self.state == "failed":
            return f"failed: {' '.join(self.why.split())}"
        notes = []
        if self.other and self.state != "blocked":
            notes.append(f"overrides {source(self.other)}")
        if self.details and self.details.printed.strip():
            first = self.details.printed.strip().splitlines()[0]
            notes.append(f"prints {first!r} when it is imported")
        if self.state in ("lazy", "loaded") and (remark := unasked(self.entry.distribution)):
            notes.append(remark)
        return f"{self.state}: {'; '.join(notes)}" if notes else self.state

    def as_dict(self) -> dict[str, Any]:
        """Return the line as plain data, for JSON."""
        overrides = self.entry.overrides
        return {
            "name": self.entry.name,
            "family": self.family,
            **_where(self.entry),
            "state": self.state,
            "why": self.why,
            "overrides": _where(self.other) if self.other and overrides else None,
            "overridden_by": _where(self.other) if self.other and not overrides else None,
            "details": self.details and asdict(self.details),
            "speed": self.speed,
        }


def source(entry: Entry) -> str:
    """Return the distribution of an entry, with its version."""
    return f"{entry.distribution} {entry.version}"


def _where(entry: Entry) -> dict[str, str]:
    return {
        "distribution": entry.distribution,
        "version": entry.version,
        "entry_point": entry.value,
    }


def lines() -> list[Line]:
    """Return a line for every entry, by family; opgrad's own families come first."""
    usable = set(registry.names())
    found = [
        line
        for name, entries in registry.entries().items()
        for line in _lines_of(name, entries, usable)
    ]
    return sorted(found, key=_place)


def _place(line: Line) -> tuple[bool, str, str, bool]:
    entry = line.entry
    return "." in entry.name, line.family, entry.name, entry.overrides


def _lines_of(name: str, entries: Sequence[Entry], usable: Collection[str]) -> Iterator[Line]:
    faults = {entry: misnamed(entry) for entry in entries}
    if all(faults.values()) and name not in usable:
        faults = {}  # blocked, which is all that there is to say of them
    yield from (Line(entry, "failed", fault) for entry, fault in faults.items() if fault)
    entries = [entry for entry in entries if not faults.get(entry)]
    if not entries:
        return
    try:
        chosen = registry.entry(name)
        registry.admit(chosen)
    except RegistryError as error:
        state = "failed" if name in usable else "blocked"
        why = str(error) if name in usable else _BLOCKED
        yield from (Line(entry, state, why) for entry in entries)
        return
    base = next((entry for entry in entries if not entry.overrides), None)
    for entry in entries:
        if entry == chosen:
            yield Line(entry, "lazy", other=base if entry.overrides else None)
        elif chosen.overrides and not entry.overrides:
            yield Line(entry, "overridden", other=chosen)
        else:
            yield Line(entry, "blocked", _BLOCKED, base if entry.overrides else None)


# ------------------------------------------------------------------------- which of them


def chosen(
    found: Sequence[Line], patterns: Sequence[str] = (), distributions: Sequence[str] = ()
) -> list[Line]:
    """Return the lines that are asked for.

    Parameters
    ----------
    found : sequence of Line
        All of them.
    patterns : sequence of str
        Names, or prefixes, or patterns such as ``"log*"``; by default all.
    distributions : sequence of str
        Distributions; by default all.

    Raises
    ------
    ValueError
        If one of them matches nothing; the message names the nearest.
    """
    for pattern in patterns:
        if not any(_matches(line.entry.name, pattern) for line in found):
            names = sorted({line.entry.name for line in found})
            msg = f"no operator here is called {pattern!r}{nearest(pattern, names)}"
            raise ValueError(msg)
    known = {canonical(line.entry.distribution): line.entry.distribution for line in found}
    wanted = {canonical(each): each for each in distributions}
    for key, each in wanted.items():
        if key not in known:
            msg = f"no operator here is of distribution {each!r}; there are {sorted(known)}"
            raise ValueError(msg)
    return [
        line
        for line in found
        if (not patterns or any(_matches(line.entry.name, each) for each in patterns))
        and (not wanted or canonical(line.entry.distribution) in wanted)
    ]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")


def known_to_block(name: str) -> None:
    """Insist that there is something of a name to block.

    Raises
    ------
    ValueError
        If it is neither an operator's name, nor a plugin's, nor a distribution's.
    """
    for _, hint in unknown([name], registry.entries()):
        msg = f"--disable: {name!r} is neither an operator nor a distribution that has some{hint}"
        raise ValueError(msg)
