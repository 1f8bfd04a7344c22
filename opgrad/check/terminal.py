"""Tables and a progress bar: rich where it is installed, plain text otherwise."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_T = TypeVar("_T")

_COLOURS = {"PASS": "green", "FAIL": "bold red", "INCONCLUSIVE": "yellow", "SKIP": "dim"}


def has_rich() -> bool:
    """Tell whether rich is installed."""
    return find_spec("rich") is not None


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; a cell that is a status is coloured."""
    if not has_rich():
        _print_plain(heads, rows)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads, box=box.SIMPLE, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 160)
    console.print(table)


def _print_plain(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    for row in (heads, rule, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def progress(items: Sequence[_T], what: str) -> Iterator[_T]:
    """Give the items one after another, with a progress bar on standard error meanwhile."""
    if has_rich() and sys.stderr.isatty():
        yield from _rich_progress(items, what)
        return
    for done, item in enumerate(items):
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{what} {done + 1}/{len(items)}")
            sys.stderr.flush()
        yield item
    if sys.stderr.isatty():
        sys.stderr.write("\r" + " " * (len(what) + 16) + "\r")


def _rich_progress(items: Sequence[_T], what: str) -> Iterator[_T]:
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description=what, console=Console(stderr=True), transient=True)


def say(lines: Iterable[Any]) -> None:
    """Print lines of plain text."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
