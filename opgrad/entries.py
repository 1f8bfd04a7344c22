"""What the metadata of installed distributions says of operators: read, and nothing imported.

This is the only file that knows entry points.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import Distribution, EntryPoint

GROUP = "opgrad.operators"
OVERRIDES = "opgrad.overrides"


@cache
def _identity(dist: Distribution | None) -> tuple[str, str]:
    """Return name and version of a distribution; each look parses all of its metadata."""
    where = getattr(getattr(dist, "_path", None), "name", "?")
    try:
        return (dist.name or where, dist.version or "?") if dist else ("?", "?")
    except (ValueError, OSError, TypeError, KeyError):  # its metadata cannot be read
        return where, "?"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of some distribution's metadata that names an operator."""

    name: str
    value: str
    distribution: str
    version: str
    overrides: bool = False

    @classmethod
    def of(cls, point: EntryPoint) -> Entry:
        """Read an entry point, without importing what it points at."""
        return cls(point.name, point.value, *_identity(point.dist), point.group == OVERRIDES)

    @property
    def plugin(self) -> str:
        """The name under which pluggy knows it, and by which it can be blocked."""
        return f"{self.name}@{self.distribution}" if self.overrides else self.name

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.value})"

    def load(self) -> Any:
        """Import the object that the entry point names."""
        from importlib.metadata import EntryPoint

        return EntryPoint(self.name, self.value, GROUP).load()

    def origin(self) -> str:
        """Say which file is imported for it, which may be one that shadows what is meant."""
        from opgrad.locating import specs

        name = self.value.partition(":")[0].strip()
        files = [each.origin for each in specs(name) if each.name == name and each.has_location]
        return f", in {files[0]}" if files else ""


def installed(group: str) -> Iterable[EntryPoint]:
    """Return the entry points of a group; what cannot be read is left out, with a warning."""
    # Half of what `import opgrad` would cost, and not needed before the first operator is.
    from importlib.metadata import distributions, entry_points

    try:
        return entry_points(group=group)
    except (ValueError, OSError, TypeError, AttributeError):  # somebody's cannot be read
        return [
            each for dist in distributions() for each in _points_of(dist) if each.group == group
        ]


@cache
def _points_of(dist: Distribution) -> tuple[EntryPoint, ...]:
    """Return the entry points of a distribution; none, and a warning, if they cannot be read."""
    try:
        return tuple(dist.entry_points)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with them, the others are right
        msg = (
            f"the entry points of {_identity(dist)[0]} cannot be read, and are left out: "
            f"{type(error).__name__}: {error}. Repair or uninstall it."
        )
        warnings.warn(msg, RuntimeWarning, stacklevel=2)
        return ()
