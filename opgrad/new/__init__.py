"""The start of a package of operators: ``python -m opgrad.new acme-ops`` writes a whole one.

What it consists of is in ``template``: each file as it will be, with ``.template`` after its name
and, in its text and path, ``$project``, ``$module``, ``$prefix`` and ``$opgrad`` for what
differs. ``$$`` stands for a dollar.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from opgrad.new.naming import Names

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEMPLATE = Path(__file__).with_name("template")
_SUFFIX = ".template"


def create(project: str, prefix: str | None = None) -> Path:
    """Write a package of operators into a new folder of the current one.

    Parameters
    ----------
    project : str
        Its name, such as ``"acme-ops"``, which is also the folder's.
    prefix : str, optional
        What the names of its operators begin with: ``"acme"`` for ``"acme.softplus"``. By default
        the first word of the project's name, other than opgrad.

    Returns
    -------
    Path
        The folder, which is there whole or, after an error, not at all.

    Raises
    ------
    ValueError
        If a name cannot be used, or is taken.
    FileExistsError
        If there is something of that name in the current folder, be it an empty folder.
    OSError
        If nothing can be written there.
    """
    here = _current_folder()
    names = Names.of(project, prefix)
    target = Path(project)
    try:
        with _arriving_whole(target) as scratch:
            for path, text in _files(names):
                _write(scratch / path, text)
    except OSError as error:
        msg = (
            f"{target} cannot be written in {here}: {error.strerror or error}; change to a folder "
            "that you may write to, on a disk with space left"
        )
        raise type(error)(msg) from error
    return target


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        msg = (
            "the current folder is not there any more: expected one to write into; change to "
            "another"
        )
        raise FileNotFoundError(msg) from error


def _files(names: Names) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each file of the package."""
    required = version("opgrad").partition("+")[0]  # a local version cannot be a lower bound
    values = {**asdict(names), "opgrad": required}
    for source in sorted(_TEMPLATE.rglob(f"*{_SUFFIX}")):
        path = source.relative_to(_TEMPLATE).as_posix().removesuffix(_SUFFIX)
        text = source.read_text(encoding="utf-8")
        yield Template(path).substitute(values), Template(text).substitute(values)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    if text.startswith("#!"):
        path.chmod(path.stat().st_mode | 0o111)


@contextmanager
def _arriving_whole(target: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes its place when the block ends without an exception."""
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    scratch.mkdir()
    try:
        yield scratch
        scratch.rename(target)
    except BaseException:
        shutil.rmtree(scratch)
        raise
