"""Which operators are blocked: by the environment, from code, for a while."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from opgrad.contract import nearest
from opgrad.naming import OWN, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opgrad.entries import Entry
    from opgrad.naming import Entries


class Blocked:
    """The names of operators, plugins and distributions that are blocked.

    Parameters
    ----------
    environment : mapping
        Where ``OPGRAD_DISABLE`` and ``OPGRAD_DISABLE_PLUGIN_AUTOLOAD`` are read.
    """

    __slots__ = ("_environment", "_for_a_while", "_names")

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._names: set[str] = set()
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

    def _outside(self) -> set[str]:
        listed = self._environment.get("OPGRAD_DISABLE", "").split(",")
        return {name.strip() for name in listed if name.strip()}


def is_set(environment: Mapping[str, str], variable: str) -> bool:
    """Tell whether a variable of the environment is there, and neither empty nor 0."""
    return environment.get(variable, "0") not in ("", "0")


def check_known(names: Iterable[str], entries: Entries) -> None:
    """Insist that there is something of each name to block.

    Raises
    ------
    ValueError
        If a name is neither an operator's, nor a plugin's, nor a distribution's.
    """
    there = [each for entry in entries.values() for each in entry]
    known = {each for entry in there for each in (entry.name, entry.plugin)}
    distributions = {canonical(entry.distribution) for entry in there}
    for name in names:
        if name not in known and canonical(name) not in distributions:
            hint = nearest(name, sorted(known | distributions))
            msg = (
                f"block: {name!r} is neither an operator, nor a distribution that has some{hint}; "
                "an operator is blocked by its name, not by an alias"
            )
            raise ValueError(msg)
