"""Attestations: what was verified, bound by hashes to what is installed.

``python -m opgrad.check --attest`` writes one, when every operator of a distribution has passed.
This file reads attestations, and judges whether one still holds; with ``OPGRAD_REQUIRE_VERIFIED=1``
the registry asks it about every operator before it is imported. Nothing here imports an operator.
An attestation is no signature: whoever can write a file can write an attestation.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import invalidate_caches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opgrad.fingerprint import GROUPS, Installed, TrustError, combined
from opgrad.naming import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "FORMAT",
    "Installed",
    "TrustError",
    "Verdict",
    "canonical",
    "checksum",
    "combined",
    "complaint",
    "folders",
    "forget",
    "judge",
    "read",
    "required",
    "suspended",
    "variable",
]

#: The version of the attestations' format.
FORMAT = 1

#: The variables of the environment: whether to refuse, and the folders of attestations.
REQUIRED, FOLDERS = "OPGRAD_REQUIRE_VERIFIED", "OPGRAD_ATTESTATIONS"


# ------------------------------------------------------------------------------ attestations

_FIELDS: dict[str, type] = {
    "format": int,
    "distribution": str,
    "version": str,
    "operators": list,
    "sha256": str,
    "files": dict,
    "environment": dict,
    "probes": dict,
    "seeds": list,
    "date": str,
    "checksum": str,
}
_OF_AN_OPERATOR: dict[str, type] = {"group": str, "name": str, "value": str}
_OF_THE_ENVIRONMENT: dict[str, type] = {
    "implementation": str,
    "python": str,
    "platform": str,
    "packages": dict,
}


def checksum(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what an attestation says, but for the checksum in it."""
    said = {name: value for name, value in content.items() if name != "checksum"}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read an attestation, and see that it is one and is as it was written.

    Raises
    ------
    TrustError
        If the file cannot be read, is truncated, has another format, or was edited.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}"
        raise TrustError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path} is no attestation: it is not whole JSON ({error})"
        raise TrustError(msg) from error
    complaint = _malformed(content)
    if complaint:
        msg = f"{path} is no attestation that can be read here: {complaint}"
        raise TrustError(msg)
    found: dict[str, Any] = content
    return found


def _malformed(content: Any) -> str:
    """Say what is wrong with the content of an attestation, in itself; empty if nothing is."""
    if isinstance(content, dict) and content.get("format", FORMAT) != FORMAT:
        return f"its format is {content['format']!r}, this opgrad knows {FORMAT}"
    complaint = _misses(content, _FIELDS, "it")
    if complaint:
        return complaint
    parts = [(content["environment"], _OF_THE_ENVIRONMENT, "its environment")]
    parts += [(each, _OF_AN_OPERATOR, "one of its operators") for each in content["operators"]]
    for part, fields, what in parts:
        if complaint := _misses(part, fields, what):
            return complaint
    sums = {"checksum": checksum(content), "sha256": combined(content["files"])}
    wrong = [name for name, right in sums.items() if content[name] != right]
    return f"it was changed after it was written, as its {wrong[0]} tells" if wrong else ""


def _misses(value: Any, fields: Mapping[str, type], what: str) -> str:
    if not isinstance(value, dict):
        return f"{what} is a {type(value).__name__}, expected an object with {', '.join(fields)}"
    for name, kind in fields.items():
        if not isinstance(value.get(name), kind):
            shown = repr(value[name])[:40] if name in value else "missing"
            return f"{what} should have {name!r} of type {kind.__name__}, which is {shown}"
    return ""


# ---------------------------------------------------------------------------------- judgement


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an attestation holds for what is installed.

    Attributes
    ----------
    reasons : list of str
        Why it does not hold; empty if it does.
    notes : list of str
        What is different and does not matter to that: it was made elsewhere.
    """

    reasons: list[str]
    notes: list[str]

    @property
    def holds(self) -> bool:
        """Whether the proof was made for what is installed."""
        return not self.reasons


def judge(attestation: Mapping[str, Any], installed: Installed) -> Verdict:
    """Compare an attestation with what is installed.

    Parameters
    ----------
    attestation : mapping
        What `read` returned.
    installed : Installed
        The distribution that it is about.

    Returns
    -------
    Verdict
        It holds if version, entry points and files are the same, and if Python, NumPy, opgrad and
        whatever else the distribution requires have the same first two numbers of their versions.
    """
    reasons: list[str] = []
    notes: list[str] = []
    if canonical(attestation["distribution"]) != canonical(installed.distribution):
        reasons.append(f"it is about {attestation['distribution']}, not {installed.distribution}")
    if attestation["version"] != installed.version:
        said = f"it is about version {attestation['version']}"
        reasons.append(f"{said}, and {installed.version} is installed")
    reasons += _differences_of_operators(attestation["operators"], installed.operators)
    reasons += _differences_of_files(attestation["files"], installed.files)
    there, here = attestation["environment"], installed.environment
    for difference, matters in _differences_of_environment(there, here):
        (reasons if matters else notes).append(difference)
    return Verdict(reasons, notes)


def _differences_of_operators(
    attested: Iterable[Mapping[str, str]], installed: Iterable[tuple[str, str, str]]
) -> Iterator[str]:
    there = {(each["group"], each["name"]): each["value"] for each in attested}
    here = {(group, name): value for group, name, value in installed}
    for key in sorted(there.keys() | here.keys()):
        what = f"the {'override' if key[0] == GROUPS[1] else 'operator'} {key[1]!r}"
        if key not in here:
            yield f"{what} is gone"
        elif key not in there:
            yield f"{what} is new"
        elif there[key] != here[key]:
            yield f"{what} was {there[key]}, and is {here[key]} now"


def _differences_of_files(there: Mapping[str, str], here: Mapping[str, str]) -> Iterator[str]:
    common = there.keys() & here.keys()
    kinds = {
        "changed": [path for path in common if there[path] != here[path]],
        "new": here.keys() - there.keys(),
        "gone": there.keys() - here.keys(),
    }
    for kind, paths in kinds.items():
        if paths:
            first = ", ".join(sorted(paths)[:3])
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            yield f"files are {kind}: {first}{more}"


def _differences_of_environment(
    there: Mapping[str, Any], here: Mapping[str, Any]
) -> Iterator[tuple[str, bool]]:
    """Give what is different, and whether the proof was therefore not made for this."""
    for what in ("implementation", "platform"):
        if there[what] != here[what]:
            yield f"it was made with {what} {there[what]}, here is {here[what]}", what != "platform"
    versions = {"python": (there["python"], here["python"])}
    for name in sorted(there["packages"].keys() | here["packages"].keys()):
        versions[name] = (there["packages"].get(name), here["packages"].get(name))
    for name, (then, now) in versions.items():
        if then != now:
            made = f"it was made with {name} {then}" if then else f"it was made without {name}"
            is_here = f"here is {now}" if now else "here is none"
            yield f"{made}, {is_here}", _release(then) != _release(now)


def _release(version: str | None) -> list[str]:
    """Return the first two numbers of a version: what may change how anything behaves."""
    return str(version).split(".")[:2]


# -------------------------------------------------------------------------------- strict mode


def required(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether operators without a valid attestation are to be refused."""
    return environment.get(REQUIRED, "") not in ("", "0")


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment for a while; processes started meanwhile inherit it."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def suspended() -> AbstractContextManager[None]:
    """Refuse nothing for a while: not in this process, nor in those that it starts meanwhile.

    It is for the verifier, which must import what it is to attest.
    """
    return variable(REQUIRED, "0")


def folders() -> list[Path]:
    """Return the folders in which attestations are looked for."""
    listed = [each for each in os.environ.get(FOLDERS, "").split(os.pathsep) if each]
    return [Path(each) for each in listed or [f"{sys.prefix}/share/opgrad/attestations"]]


def complaint(distribution: str, operator: str, plugin_value: str) -> str | None:
    """Say why an operator is not verified; None if a valid attestation covers it.

    Parameters
    ----------
    distribution, operator, plugin_value : str
        The distribution, the operator's name, and what its entry point names.

    Returns
    -------
    str or None
        The reason, with the command that helps. What is installed is read once in a process: see
        `forget`.
    """
    places = tuple(each / f"{canonical(distribution)}.json" for each in folders())
    reason, covered = _standing(distribution, places)
    if reason is None and (operator, plugin_value) not in covered:
        reason = f"its attestation does not cover {operator!r} as {plugin_value}"
    if reason is None:
        return None
    file = shlex.quote(str(places[0]))
    command = f"python -m opgrad.check --distribution {distribution} --attest {file}"
    return f"{reason}. Verify and attest it with `{command}`."


def forget() -> None:
    """Forget what was read, after something was installed, attested, or removed."""
    _standing.cache_clear()
    _installed.cache_clear()
    invalidate_caches()


_installed = cache(Installed.of)


@cache
def _standing(
    distribution: str, places: tuple[Path, ...]
) -> tuple[str | None, frozenset[tuple[str, str]]]:
    """Return why no attestation of a distribution holds, or which operators the first covers."""
    reasons = []
    for place in places:
        if not place.exists():
            continue
        try:
            verdict = judge(read(place), _installed(distribution))
        except TrustError as error:
            reasons.append(str(error).removesuffix("."))
            continue
        if verdict.holds:
            operators = _installed(distribution).operators
            return None, frozenset((name, value) for _, name, value in operators)
        reasons.append(f"{place} does not hold: {'; '.join(verdict.reasons)}")
    missing = f"there is no attestation {' or '.join(map(str, places))}"
    return "; ".join(reasons) or missing, frozenset()
