"""Tables and a progress bar: rich where it is installed, plain text otherwise."""

from __future__ import annotations

import sys
from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from opgrad.check.findings import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from opgrad.check.findings import Report

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


def print_reports(reports: Sequence[Report]) -> None:
    """Print a table with a line for each operator."""
    heads = ("operator", "distribution", "passed", "failed", "inconclusive", "worst", "s", "result")
    print_table(heads, [
        (
            report.operator,
            f"{report.distribution} {report.version}",
            str(report.count(Status.PASS)),
            str(report.count(Status.FAIL)),
            str(report.count(Status.INCONCLUSIVE)),
            f"{report.error:.0e}",
            f"{sum(report.seconds.values()):.2f}",
            report.status.value,
        )
        for report in reports
    ])  # fmt: skip


def print_findings(reports: Sequence[Report]) -> None:
    """Print every finding on a line of its own."""
    say(f"{report.operator}: {each}" for report in reports for each in report.findings)


def print_failures(reports: Sequence[Report], whole: bool = False) -> None:
    """Explain what counts against operators; unless `whole`, one finding of those alike."""
    for report in reports:
        for first, *more in report.failures():
            say([f"{report.operator}: {first.explain()}"])
            if whole:
                say(f"{report.operator}: {each.explain()}" for each in more)
            elif more:
                probes = ", ".join(dict.fromkeys(each.probe for each in more))
                say([f"  and {len(more)} more like it, of {probes}; -v shows them"])


def print_durations(reports: Sequence[Report], count: int) -> None:
    """Print the slowest probes: of all operators together, and of one operator."""
    whole: Counter[str] = Counter()
    single: Counter[tuple[str, str]] = Counter()
    for report in reports:
        whole.update(report.seconds)
        single.update({(report.operator, name): s for name, s in report.seconds.items()})
    rows = [("all", name, f"{s:.3f}") for name, s in whole.most_common(count)]
    rows += [(*pair, f"{s:.3f}") for pair, s in single.most_common(count)]
    print_table(("operator", "probe", "s"), rows)


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


def say(lines: Iterable[Any]) -> None:
    """Print lines of plain text."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
