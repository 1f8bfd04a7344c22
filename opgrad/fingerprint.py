"""The fingerprint of a distribution: what is installed of it, hashed and not imported."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import sys
import sysconfig
from dataclasses import dataclass
from importlib.machinery import all_suffixes
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import cache_from_source
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from opgrad.locating import specs
from opgrad.naming import canonical

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from importlib.metadata import Distribution

#: The groups of entry points that an attestation covers: operators and overrides.
GROUPS = ("opgrad.operators", "opgrad.overrides")

#: What an installer writes for itself beside the metadata; it says nothing about the code.
_INSTALLERS = {"direct_url.json", "INSTALLER", "RECORD", "REQUESTED", "uv_cache.json"}


#: What editors leave beside a file that is open or was changed.
_LEFT = ("~", ".swp", ".swo", ".swx")


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
        found = _found(name)
        points = [each for each in found.entry_points if each.group in GROUPS]
        if not points:
            msg = f"{found.name} {found.version} has no operators, so that nothing can be attested"
            raise TrustError(msg)
        operators = frozenset((each.group, each.name, each.value) for each in points)
        try:
            files = _hashes(found, {_module(each.value): each.name for each in points})
        except (OSError, ValueError, csv.Error) as error:
            msg = f"the files of {found.name} {found.version} cannot be read: {error}"
            raise TrustError(msg) from error
        return cls(found.name, found.version, operators, files, _environment(found))


def _found(name: str) -> Distribution:
    """Return the distribution of that name, whose metadata can be read."""
    try:
        found = distribution(name)
    except (PackageNotFoundError, ValueError) as error:
        msg = f"no distribution {name!r} is installed"
        raise TrustError(msg) from error
    try:
        found.entry_points  # noqa: B018 - whether they can be read
        said = found.metadata
        lacks = [each for each in ("Name", "Version") if each not in said or not said[each].strip()]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        msg = f"the metadata of {name} cannot be read: {error}. Repair or reinstall it."
        raise TrustError(msg) from error
    if lacks:
        msg = f"the metadata of {name} has no {lacks[0]}. Repair or reinstall it."
        raise TrustError(msg)
    return found


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

    These are the files that its installer listed, and over them those that Python would import
    in their place, with all of their packages: what was added there counts, and what shadows a file
    that was listed is hashed instead. The operator stands behind its module, for the message.
    """
    paths = dict(_recorded(found))
    places = {module: _located(module) for module in (*modules, *_modules(paths))}
    missing = next((each for each in modules if places[each] is None), None)
    if missing is not None:
        msg = (
            f"the files of {found.name} {found.version} are not found: its operator "
            f"{modules[missing]!r} is in a module {missing!r}, which is no file that Python can "
            "find. Install it anew."
        )
        raise TrustError(msg)
    for name, path in filter(None, dict.fromkeys(places.values())):
        _put(paths, name, path, Path(str(found.locate_file(name))))
    _refuse_blind_code(found, paths.values())
    return {name: _sha256(paths[name]) for name in sorted(paths)}


def _put(paths: dict[str, Path], name: str, path: Path, listed: Path) -> None:
    """Put what Python would import under a name in the place of what was listed there."""
    if not path.is_dir():
        paths[name] = path
        return
    if not (listed.exists() and listed.samefile(path)):
        for each in [each for each in paths if each.startswith(f"{name}/")]:
            del paths[each]
    paths.update(_files_in(name, path))


def _sha256(path: Path) -> str:
    """Return the hash of a file, or that of where a link leads that `_files_in` does not follow."""
    if path.is_dir():
        target = os.path.relpath(os.path.realpath(path), os.path.realpath(path.parent))
        return hashlib.sha256(os.fsencode(target)).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_blind_code(found: Distribution, paths: Iterable[Path]) -> None:
    """Refuse byte code that Python runs in place of a source without a look at the source."""
    for path in paths:
        for level in ("", 1, 2) if path.suffix == ".py" else ():
            code = Path(cache_from_source(str(path), optimization=level))
            if code.is_file() and _is_blind(code):
                msg = (
                    f"the files of {found.name} {found.version} do not tell what Python runs: "
                    f"{code} is byte code that it does not compare with its source. Delete it."
                )
                raise TrustError(msg)


def _is_blind(code: Path) -> bool:
    """Tell whether byte code has a hash of its source that is not to be checked (PEP 552)."""
    with code.open("rb") as file:
        flags = int.from_bytes(file.read(8)[4:], "little")
    return flags & 0b11 == 0b01


# ------------------------------------------------------------------------------ which files


def _recorded(found: Distribution) -> Iterator[tuple[str, Path]]:
    """Give the files that the installer listed and that lie where Python imports from."""
    record = found.read_text("RECORD") or ""
    for row in csv.reader(record.splitlines()):
        name = PurePosixPath(row[0] if row else "")
        outside = name.is_absolute() or ".." in name.parts
        installers = name.parent.suffix == ".dist-info" and name.name in _INSTALLERS
        path = Path(str(found.locate_file(name)))
        if not (outside or installers or "__pycache__" in name.parts) and path.is_file():
            yield str(name), path


def _modules(files: Collection[str]) -> Iterator[str]:
    """Give the modules that files are, by name; of a package only the package."""
    stems = {stem: None for each in files if (stem := _stem(each)) is not None}
    for parts in stems:
        ways = (parts[: depth + 1] for depth in range(len(parts)))
        package = next((way for way in ways if (*way, "__init__") in stems), parts)
        if all(map(str.isidentifier, package)):
            yield ".".join(package)


def _stem(file: str) -> tuple[str, ...] | None:
    """Return the parts of a file's path without the suffix of a module; None if it is none."""
    suffix = next((each for each in all_suffixes() if file.endswith(each)), None)
    return None if suffix is None else PurePosixPath(file[: -len(suffix)]).parts


def _located(module: str) -> tuple[str, Path] | None:
    """Find the first package on the way to a module that has a folder of its own, or the module.

    Namespace packages share their folders with others, and are passed through.
    """
    parts = module.split(".")
    for depth, spec in enumerate(specs(module), 1):
        if spec.origin is None and spec.submodule_search_locations is not None:
            continue
        if spec.origin is None or not Path(spec.origin).is_file():
            return None
        origin = Path(spec.origin)
        if spec.submodule_search_locations is not None:
            return "/".join(parts[:depth]), origin.parent
        return "/".join([*parts[: depth - 1], origin.name]), origin
    return None


def _files_in(name: str, folder: Path, above: tuple[str, ...] = ()) -> Iterator[tuple[str, Path]]:
    """Give the files below a folder; links are followed, but for those to a folder they are in."""
    inside = (*above, os.path.realpath(folder))
    for path in filter(_counts, folder.iterdir()):
        below = f"{name}/{path.name}"
        if path.is_file() or os.path.realpath(path) in inside:
            yield below, path
        elif path.is_dir():
            yield from _files_in(below, path, inside)


def _counts(path: Path) -> bool:
    """Tell whether something in a package is part of it, and not what a tool or an editor left."""
    name = path.name
    return not (name.startswith((".", "#")) or name.endswith(_LEFT) or name == "__pycache__")


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
