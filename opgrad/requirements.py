"""Whether what a distribution says it requires is what is installed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any


def unmet(distribution: str) -> tuple[str, ...]:
    """Say which requirements of a distribution are not met; imports nothing of it.

    Reading them is the work of the package ``packaging`` (the extra ``plugins``). Without it
    nothing can be said, and nothing is; `readable` tells.

    Parameters
    ----------
    distribution : str
        Its name.

    Returns
    -------
    tuple of str
        For each requirement that is not met what is required, and what is there.

    Examples
    --------
    >>> unmet("opgrad")
    ()
    """
    if not readable():
        return ()
    from packaging.requirements import InvalidRequirement, Requirement

    complaints = []
    for text in _required(distribution):
        try:
            complaints += _complaint(Requirement(text))
        except InvalidRequirement as error:
            complaints.append(f"{text!r}, which is no requirement ({error})")
    return tuple(complaints)


@cache
def readable() -> bool:
    """Tell whether there is ``packaging`` to read requirements with."""
    try:
        import packaging.requirements  # noqa: F401 - only whether it is there
    except ImportError:
        return False
    return True


def _required(distribution: str) -> list[str]:
    try:
        return requires(distribution) or []
    except (PackageNotFoundError, ValueError, OSError):  # it has no metadata that can be read
        return []


def _complaint(requirement: Any) -> list[str]:
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return []
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return [f"{requirement}, which is not installed"]
    if requirement.specifier.contains(found, prereleases=True):
        return []
    return [f"{requirement}, and {requirement.name} {found} is installed"]
