"""The fingerprint of a distribution: what is installed of it, hashed and not imported."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import sys
import sysconfig
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.metadata import Distribution

#: The groups of entry points that an attestation covers: operators and overrides.
GROUPS = ("opgrad.operators", "opgrad.overrides")

#: What an installer writes for itself beside the metadata; it says nothing about the code.
_INSTALLERS = {"direct_url.json", "INSTALLER", "RECORD", "REQUESTED", "uv_cache.json"}


class TrustError(RuntimeError):
    """A file is not an attestation, or there is nothing installed that could be attested."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A distribution as it is installed here: what an attestation is bound to.

    Attributes
    ----------
    distribution, version : str
        Which one it is.
    operators : set of (str, str, str)
        The group, name and value of each entry point that names an operator or an override.
    files : dict of str to str
        The SHA-256 of each file, by its path.
    environment : dict
        Python, the platform, and the versions of what the distribution runs on.
    """

    distribution: str
    version: str
    operators: frozenset[tuple[str, str, str]]
    files: dict[str, str]
    environment: dict[str, Any]

    @classmethod
    def of(cls, name: str) -> Installed:
        """Read a distribution's metadata and hash its files; imports nothing of it.

        Raises
        ------
        TrustError
            If it is not installed, has no operators, or they are in files that are not there.
        """
        try:
            found = distribution(name)
        except (PackageNotFoundError, ValueError) as error:
            msg = f"no distribution {name!r} is installed"
            raise TrustError(msg) from error
        points = [each for each in found.entry_points if each.group in GROUPS]
        if not points:
            msg = f"{found.name} {found.version} has no operators, so that nothing can be attested"
            raise TrustError(msg)
        operators = frozenset((each.group, each.name, each.value) for each in points)
        try:
            files = _hashes(found, {_module(each.value): each.name for each in points})
        except (OSError, csv.Error) as error:
            msg = f"the files of {found.name} {found.version} cannot be read: {error}"
            raise TrustError(msg) from error
        return cls(found.name, found.version, operators, files, _environment(found))


def canonical(name: str) -> str:
    """Return the one spelling of a distribution's name, of which there are many.

    Examples
    --------
    >>> canonical("Acme_Ops")
    'acme-ops'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def combined(files: Mapping[str, str]) -> str:
    r"""Return one SHA-256 for those of many files: that of what ``sha256sum`` prints of them.

    Parameters
    ----------
    files : mapping of str to str
        The SHA-256 of each file, by its path. They are taken in the order of their paths.

    Examples
    --------
    >>> combined({"b.py": "22", "a.py": "11"})[:8]  # printf '11  a.py\n22  b.py\n' | sha256sum
    '39b59877'
    """
    lines = "".join(f"{files[path]}  {path}\n" for path in sorted(files))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def _module(value: str) -> str:
    """Return the module in what an entry point names."""
    return re.split(r"[:\[]", value)[0].strip()


def _hashes(found: Distribution, modules: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-256 of each file of a distribution that is there, by its path.

    These are the files that its installer listed, and over them those of the packages that Python
    would import its operators from: what was added there counts, and what shadows a file that was
    listed stands in its place. The operator stands behind the module, for the message.
    """
    paths = dict(_recorded(found))
    places = dict.fromkeys(map(_located, modules))
    if None in places:
        module, operator = next(each for each in modules.items() if _located(each[0]) is None)
        msg = (
            f"the files of {found.name} {found.version} are not found: its operator {operator!r} "
            f"is in a module {module!r}, which is no file that Python can find. Install it anew."
        )
        raise TrustError(msg)
    for name, path in filter(None, places):
        paths.update(_files_in(name, path) if path.is_dir() else {name: path})
    return {name: _sha256(paths[name]) for name in sorted(paths)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _recorded(found: Distribution) -> Iterator[tuple[str, Path]]:
    """Give the files that the installer listed and that lie where Python imports from."""
    record = found.read_text("RECORD") or ""
    for row in csv.reader(record.splitlines()):
        name = PurePosixPath(row[0] if row else "")
        outside = name.is_absolute() or ".." in name.parts
        installers = name.parent.suffix == ".dist-info" and name.name in _INSTALLERS
        path = Path(str(found.locate_file(name)))
        if not (outside or installers or name.suffix == ".pyc") and path.is_file():
            yield str(name), path


def _located(module: str) -> tuple[str, Path] | None:
    """Find the first package on the way to a module that has a folder of its own, or the module.

    Namespace packages share their folders with others, and are passed through.
    """
    parts = module.split(".")
    try:
        spec = find_spec(parts[0])
    except ValueError:  # it is imported already, and does not say from where
        return None
    depth = 1
    while spec is not None and spec.origin is None and depth < len(parts):
        depth += 1
        inside = list(spec.submodule_search_locations or ())
        spec = PathFinder.find_spec(".".join(parts[:depth]), inside)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    origin = Path(spec.origin)
    if spec.submodule_search_locations is not None:
        return "/".join(parts[:depth]), origin.parent
    return "/".join([*parts[: depth - 1], origin.name]), origin


def _files_in(name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Give the files below a folder; links are followed, and no folder is entered twice."""
    entered: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        seen = real in entered
        entered.add(real)
        folders[:] = [] if seen else sorted(each for each in folders if _counts(each))
        for each in [] if seen else names:
            path = Path(here, each)
            if _counts(each) and path.is_file():
                yield "/".join((name, *path.relative_to(folder).parts)), path


def _counts(name: str) -> bool:
    """Tell whether a file or folder of a package is part of it, and not what some tool cached."""
    return not name.startswith(".") and not name.endswith(".pyc") and name != "__pycache__"


def _environment(found: Distribution) -> dict[str, Any]:
    required = [re.split(r"[^\w.-]", each)[0] for each in found.requires or () if _applies(each)]
    names = sorted({"numpy", "opgrad", *map(canonical, required)})
    return {
        "implementation": sys.implementation.name,
        "python": ".".join(map(str, sys.version_info[:3])),
        "platform": sysconfig.get_platform(),
        "packages": {name: shown for name in names if (shown := _version(name))},
    }


def _applies(requirement: str) -> bool:
    """Tell whether a requirement is one of the distribution itself, not of an extra."""
    return re.search(r"\bextra\b", requirement.partition(";")[2]) is None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
