"""What a new package is called, and what it may not be called."""

from __future__ import annotations

import os.path
import re
import sys
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path

from opgrad.registry import UnknownOperatorError, registry

_OWN = "opgrad"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a new package, which have been found to be free.

    Attributes
    ----------
    project : str
        What is installed, and the folder.
    module : str
        What is imported.
    prefix : str
        What the names of its operators begin with, before the dot.
    """

    project: str
    module: str
    prefix: str

    @classmethod
    def of(cls, project: str, prefix: str | None = None) -> Names:
        """Derive the names of a package from that of its project, and check them.

        Parameters
        ----------
        project : str
            A name as packages may have it, such as ``"acme-ops"``.
        prefix : str, optional
            An identifier that is no operator's name or alias; by default the project's first word
            other than opgrad.

        Raises
        ------
        ValueError
            If one of the names cannot be used or is taken.
        FileExistsError
            If there is something of the project's name in the current folder.

        Examples
        --------
        >>> Names.of("Acme.wave-ops")
        Names(project='Acme.wave-ops', module='acme_wave_ops', prefix='acme')
        """
        _check_project(project)
        _check_folder(project)
        words = re.split("[-_.]+", project.lower())
        module = "_".join(words)
        _check_module(project, module)
        if prefix is None:
            prefix = next((word for word in words if word != _OWN), _OWN)
        _check_prefix(prefix)
        return cls(project, module, prefix)


def _check_project(project: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", project):
        msg = (
            f"project name {project!r} is none that a package may have: expected letters from a "
            "to z, digits, '-', '_' and '.', with a letter or a digit at both ends, such as "
            "'acme-ops'"
        )
        raise ValueError(msg)


def _check_folder(project: str) -> None:
    if os.path.lexists(project):
        msg = (
            f"{project} is there already: expected a name that nothing in {Path.cwd()} has; choose "
            "another, or move what is there out of the way"
        )
        raise FileExistsError(msg)


def _check_module(project: str, module: str) -> None:
    if not module.isidentifier() or iskeyword(module):
        msg = (
            f"project name {project!r} would make the module {module!r}, which cannot be imported: "
            "expected a name that begins with a letter and is no keyword of Python, such as "
            "'acme-ops'"
        )
        raise ValueError(msg)
    if shadowed := _shadowed_by(module):
        msg = (
            f"project name {project!r} would make the module {module!r}, which would shadow "
            f"{shadowed}: expected a name that is free; choose another, such as '{project}-ops'"
        )
        raise ValueError(msg)


def _shadowed_by(module: str) -> str | None:
    """Return what is imported by that name already, other than from the current folder."""
    if module in sys.stdlib_module_names:
        return "one of the standard library"
    elsewhere = [each for each in sys.path if Path(each).resolve() != Path.cwd()]
    specs = (finder.find_spec(module, elsewhere) for finder in sys.meta_path)
    found = next(filter(None, specs), None)
    return f"one that is installed, {found.origin or found.name}" if found else None


def _check_prefix(prefix: str) -> None:
    usable = prefix.isidentifier() and prefix.isascii() and not iskeyword(prefix)
    if not usable or prefix.startswith("_"):
        msg = (
            f"prefix {prefix!r} cannot stand in opgrad.ops.{prefix}.softplus: expected letters "
            "from a to z, digits and '_', beginning with a letter, and no keyword of Python; "
            "choose one with --prefix, such as --prefix acme"
        )
        raise ValueError(msg)
    if prefix == _OWN:
        msg = (
            f"prefix {prefix!r} is opgrad's own: expected one that tells your operators from "
            "others; choose one with --prefix, such as --prefix acme"
        )
        raise ValueError(msg)
    for name, why in (
        (prefix, f"opgrad.ops.{prefix} would be both an operator and yours"),
        (f"{prefix}.softplus", f"{prefix}.softplus would be claimed twice"),
    ):
        if owner := _owner(name):
            shown = repr(name) if owner == name else f"{owner!r}, alias {name!r},"
            msg = (
                f"prefix {prefix!r} is taken: there is an operator {shown} of "
                f"{registry.entries()[owner][0]}, and {why}; choose another with --prefix"
            )
            raise ValueError(msg)


def _owner(name: str) -> str | None:
    """Return the name of the operator that has this one as its name or alias."""
    if name in registry.entries():
        return name
    try:
        return registry.load(name).name
    except UnknownOperatorError:
        return None
