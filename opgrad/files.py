"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to, whose file takes the place of another once it is written.

    Parameters
    ----------
    path : str or path-like
        The file to write. What it holds stays as it is until the block ends, and for good if the
        block ends with an exception.

    Yields
    ------
    Path
        An empty file in the same folder.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such folder, or the path is one itself.
    """
    target = Path(os.path.realpath(path))  # what a symbolic link stands for, not the link
    if target.is_dir():
        msg = f"{path} is a folder; expected the path of a file"
        raise IsADirectoryError(msg)
    if not target.parent.is_dir():
        msg = f"{path} cannot be written: there is no folder {target.parent}"
        raise FileNotFoundError(msg)
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        scratch.touch(exist_ok=False)
        mode = (target if target.exists() else scratch).stat().st_mode
        yield scratch
        scratch.chmod(stat.S_IMODE(mode))
        with scratch.open("rb+") as written:
            os.fsync(written.fileno())
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
