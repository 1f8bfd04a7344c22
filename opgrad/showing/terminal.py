"""Tables and a progress bar: rich where it is installed, plain text otherwise."""

from __future__ import annotations

import os
import sys
import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_T = TypeVar("_T")

#: How a cell is coloured, by what stands before a colon in it, or by the whole of it.
_COLOURS = {
    "PASS": "green",
    "FAIL": "bold red",
    "INCONCLUSIVE": "yellow",
    "SKIP": "dim",
    "loaded": "green",
    "lazy": "dim",
    "blocked": "yellow",
    "failed": "bold red",
}


#: The widest cell of a plain table; what is longer goes on below.
_WIDEST = 100


def has_rich() -> bool:
    """Tell whether rich is installed, and whole."""
    try:
        import rich.box
        import rich.console
        import rich.progress
        import rich.table
        import rich.text  # noqa: F401 - only whether they are there
    except Exception:  # noqa: BLE001 - a table needs no colours, whatever is wrong with them
        return False
    return True


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; a cell that is a status or a state is coloured."""
    if not has_rich():
        _print_plain(heads, rows)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads, box=box.SIMPLE, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(each, style=_COLOURS.get(each.split(":")[0], "")) for each in row))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 160)
    with console.capture() as printed:
        console.print(table)
    sys.stdout.write(printed.get())  # for if nobody reads it, rich has an ending of its own


def _print_plain(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [line for row in rows for line in _wrapped(row)]
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    rule = ["-" * width for width in widths]
    for cells in (heads, rule, *lines):
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def _wrapped(row: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the lines of a row whose cells are none too wide."""
    cells = [textwrap.wrap(cell, _WIDEST, break_on_hyphens=False) or [""] for cell in row]
    return zip_longest(*cells, fillvalue="")


def tracked(items: Iterable[_T], total: int, what: str) -> Iterator[_T]:
    """Give items, so many in all, one after another; with a progress bar on standard error."""
    if not sys.stderr.isatty():
        yield from items
    elif has_rich():
        yield from _rich_progress(items, total, what)
    else:
        for done, item in enumerate(items, 1):
            sys.stderr.write(f"\r{what} {done}/{total}")
            sys.stderr.flush()
            yield item
        sys.stderr.write("\r" + " " * (len(what) + 16) + "\r")


def _rich_progress(items: Iterable[_T], total: int, what: str) -> Iterator[_T]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, what, total=total, console=console, transient=True)


#: The exit code of a program that writes to a pipe which nobody reads any more.
CLOSED = 128 + 13


def piped(command: Callable[[], int]) -> int:
    """Run a command, and return its exit code; it ends quietly if its reader does, as `head`."""
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left to be written goes nowhere: Python complains if it cannot write in the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    return code


def counted(count: int, what: str) -> str:
    """Return how many there are of something.

    Examples
    --------
    >>> counted(1, "operator"), counted(2, "operator")
    ('1 operator', '2 operators')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"


def say(lines: Iterable[Any]) -> None:
    """Print lines of plain text."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
