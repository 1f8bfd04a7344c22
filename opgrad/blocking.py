"""Which operators are blocked: by the environment, from code, for a while."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

from opgrad.contract import nearest
from opgrad.naming import OWN, canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from opgrad.entries import Entry
    from opgrad.naming import Entries


class Blocked:
    """The names of operators, plugins and distributions that are blocked.

    Parameters
    ----------
    environment : mapping
        Where ``OPGRAD_DISABLE`` and ``OPGRAD_DISABLE_PLUGIN_AUTOLOAD`` are read.
    """

    __slots__ = ("_environment", "_for_a_while", "_names", "_told")

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._names: set[str] = set()
        self._told: set[str] = set()
        self._for_a_while: Counter[str] = Counter()

    def add(self, names: Iterable[str]) -> None:
        """Block names until they are removed."""
        self._names.update(names)

    def remove(self, names: Iterable[str]) -> None:
        """Undo `add`."""
        self._names.difference_update(names)

    def count(self, names: Iterable[str], step: int) -> None:
        """Begin to block names for a while, or with -1 end that: others may block them as well."""
        self._for_a_while.update(dict.fromkeys(names, step))

    def hides(self, entry: Entry) -> bool:
        """Tell whether an entry is to be treated as if it were not there."""
        if entry.distribution != OWN and is_set(
            self._environment, "OPGRAD_DISABLE_PLUGIN_AUTOLOAD"
        ):
            return True
        names = self._names | {*+self._for_a_while} | self._outside()
        return bool(names) and (
            not names.isdisjoint((entry.name, entry.plugin))
            or canonical(entry.distribution) in map(canonical, names)
        )

    def warn(self, entries: Entries) -> None:
        """Warn of what the environment blocks and is not there: once of each name."""
        names = self._outside() - self._told
        self._told |= names
        for name, hint in unknown(sorted(names), entries):
            msg = (
                f"OPGRAD_DISABLE names {name!r}, and no operator or distribution of that name is "
                f"installed here, so that it blocks nothing{hint}"
            )
            warnings.warn(msg, RuntimeWarning, stacklevel=3)

    def _outside(self) -> set[str]:
        listed = self._environment.get("OPGRAD_DISABLE", "").split(",")
        return {name.strip() for name in listed if name.strip()}


def is_set(environment: Mapping[str, str], variable: str) -> bool:
    """Tell whether a variable of the environment is there, and neither empty nor 0."""
    return environment.get(variable, "0") not in ("", "0")


def check_known(names: Sequence[Any], entries: Entries, owner: Callable[[str], str]) -> None:
    """Insist that there is something of each name to block.

    Parameters
    ----------
    names : sequence of str
        What is to be blocked.
    entries : mapping
        What is installed.
    owner : callable
        From an alias to the operator's name, from anything else to the same.

    Raises
    ------
    TypeError, ValueError
        If something is no name at all, or neither an operator's, nor a plugin's, nor a
        distribution's.
    """
    for name in names:
        if not isinstance(name, str):
            msg = (
                f"block got {name!r}; expected names of operators or distributions, each a text of "
                "its own"
            )
            raise TypeError(msg)
    for name, hint in unknown(names, entries):
        # An alias with a prefix would have to be looked up by importing what is not wanted.
        if "." not in name and owner(name) != name:
            msg = (
                f"block: {name!r} is an alias; an operator is blocked by its name, {owner(name)!r}"
            )
            raise ValueError(msg)
        msg = (
            f"block: {name!r} is neither an operator, nor a distribution that has some; an "
            f"operator is blocked by its name, not by an alias{hint}"
        )
        raise ValueError(msg)


def unknown(names: Iterable[str], entries: Entries) -> Iterator[tuple[str, str]]:
    """Find the names of which there is nothing to block, each with a hint at the nearest."""
    there = [each for entry in entries.values() for each in entry]
    known = {each for entry in there for each in (entry.name, entry.plugin)}
    distributions = {canonical(entry.distribution) for entry in there}
    for name in names:
        if name not in known and canonical(name) not in distributions:
            yield name, nearest(name, sorted(known | distributions))
