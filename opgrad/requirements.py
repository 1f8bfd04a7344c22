"""Whether what a distribution says it requires is what is installed."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from opgrad.naming import OWN, canonical


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


def unasked(distribution: str) -> str | None:
    """Say which versions of opgrad and NumPy a distribution asks for, and nobody looks whether.

    Parameters
    ----------
    distribution : str
        Its name.

    Returns
    -------
    str or None
        A remark, where it requires a range of versions and there is no ``packaging`` to read it.

    Examples
    --------
    >>> unasked("opgrad") is None
    True
    """
    if readable() or canonical(distribution) == OWN:
        return None
    ranges = [
        _plain(text)
        for text in _required(distribution)
        if canonical(_name(text)) in (OWN, "numpy")
        and _plain(text) != _name(text)
        and "extra" not in text.partition(";")[2]
    ]
    if not ranges:
        return None
    return (
        f"{', '.join(ranges)} is not compared with what is installed, which takes "
        "`pip install opgrad[plugins]`"
    )


def remedy(distribution: str, error: BaseException) -> str:
    """Say what to do about an error in importing a distribution; imports nothing of it.

    Parameters
    ----------
    distribution : str
        Its name.
    error : BaseException
        The error. If it is that a module is not there, and the distribution requires what is
        called as the module is and is not installed, installing that is what helps.

    Examples
    --------
    >>> remedy("opgrad", ValueError("wrong"))
    'repair or uninstall opgrad'
    """
    lacks = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    module = canonical(lacks.partition(".")[0])
    for text in _required(distribution) if module else ():
        name, what = _name(text), _plain(text)
        if canonical(name) == module and not _is_installed(name):
            what = what if what == name else f"'{what}'"
            return f"{distribution} requires {text!r}, which is not installed: `pip install {what}`"
    return f"repair or uninstall {distribution}"


def _name(requirement: str) -> str:
    """Return the name that a requirement begins with."""
    found = re.match(r"\s*([\w.-]+)", requirement)
    return found[1] if found else ""


def _plain(requirement: str) -> str:
    """Return a requirement without its marker, written as pip takes it."""
    return re.sub(r"[\s()]", "", requirement.partition(";")[0])


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
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
