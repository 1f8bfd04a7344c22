"""How results are shown: as tables in a terminal or in Markdown, and as JSON."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sides import SIDES

if TYPE_CHECKING:
    from timing import Timing

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- results of `python benchmarks --write` -->", "<!-- end of the results -->"


@dataclass(frozen=True, slots=True)
class Table:
    """A title, and rows of text of which the first is the header."""

    title: str
    rows: Sequence[Sequence[str]]

    def as_text(self) -> str:
        """Lay the table out with spaces."""
        return "\n".join([self.title, *self._lines("  ")])

    def as_markdown(self) -> str:
        """Lay the table out with pipes."""
        header, *lines = self._lines(" | ")
        rule = ["-" * (width - (i > 0)) + ":" * (i > 0) for i, width in enumerate(self._widths())]
        body = [f"| {line} |" for line in (header, " | ".join(rule), *lines)]
        return "\n".join([f"**{self.title}**", "", *body])

    def print_rich(self) -> None:
        """Print the table with rich."""
        from rich.box import SIMPLE
        from rich.console import Console
        from rich.table import Table as RichTable

        header, *rows = self.rows
        table = RichTable(title=self.title, title_justify="left", box=SIMPLE)
        for i, name in enumerate(header):
            table.add_column(name, justify="right" if i else "left")
        for row in rows:
            table.add_row(*row)
        Console().print(table)

    def _widths(self) -> list[int]:
        return [max(map(len, column)) for column in zip(*self.rows, strict=True)]

    def _lines(self, gap: str) -> Iterable[str]:
        for first, *others in self.rows:
            width, *widths = self._widths()
            cells = [each.rjust(w) for each, w in zip(others, widths, strict=True)]
            yield gap.join([first.ljust(width), *cells])


def tables(timings: Mapping[str, Timing], depth: Mapping[int, Sequence[float]]) -> Iterable[Table]:
    """Make the tables, ratios first."""
    if timings and len(SIDES) > 1:
        yield _ratios(timings)
    if timings:
        yield _times(timings)
    if depth:
        yield _depths(depth)


def show(all_tables: Iterable[Table]) -> None:
    """Print tables, with rich if it is installed."""
    for table in all_tables:
        if find_spec("rich"):
            table.print_rich()
        else:
            print(table.as_text(), end="\n\n")


def write_readme(markdown: str) -> None:
    """Put Markdown between the markers in the README."""
    head, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    README.write_text(f"{head}{BEGIN}\n\n{markdown}\n\n{END}{tail}", encoding="utf-8")


def surroundings() -> dict[str, str]:
    """Return the machine and the versions."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    distributions = [side.distribution for side in SIDES.values()]
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        platform.python_implementation(): platform.python_version(),
        "numpy": f"{version('numpy')} with {blas['name']} {blas['version']}",
        **{name: version(name) for name in distributions},
    }


def _processor() -> str:
    """Return the processor's model where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def describe(about: Mapping[str, str]) -> str:
    """Write the surroundings as a sentence."""
    versions = [f"{name} {what}" for name, what in about.items() if name != "machine"]
    return f"{about['machine']}; {', '.join(versions)}."


# ---------------------------------------------------------------------------------- the rows


def _ratios(timings: Mapping[str, Timing]) -> Table:
    peers = [name for name in SIDES if name != "opgrad"]
    rows = [
        [name, *(_rounded(each.ratio(peer), 2) for peer in peers), _verdict(each)]
        for name, each in timings.items()
    ]
    header = ["Time of opgrad / of", *peers, "Target"]
    return Table("Ratios: below 1, opgrad is faster", [header, *rows])


def _verdict(timing: Timing) -> str:
    if timing.target is None:
        return "-"
    bound = f"{timing.target:g} {timing.unit}" if timing.absolute else f"{timing.target:g}"
    if timing.judged is None:
        return bound
    return f"{bound}, {'met' if timing.judged <= timing.target else 'missed'}"


def _times(timings: Mapping[str, Timing]) -> Table:
    rows = [
        [f"{name}, {each.unit}", *(_spread(each.quartiles(side)) for side in SIDES)]
        for name, each in timings.items()
    ]
    header = ["Time of one", *SIDES]
    return Table("Times: median ± half the interquartile range", [header, *rows])


def _spread(quartiles: Sequence[float]) -> str:
    low, median, high = quartiles
    return f"{_rounded(median, 3)} ±{(high - low) / 2 / median:.0%}"


def _depths(depth: Mapping[int, Sequence[float]]) -> Table:
    rows = [
        [f"{length:,}", *(_rounded(1e6 * each, 3) for each in (*stages, sum(stages)))]
        for length, stages in depth.items()
    ]
    header = ["Nodes", "Build", "Backward", "Drop", "Together"]
    return Table("Depth: µs a node in a chain, opgrad alone", [header, *rows])


def _rounded(value: float, digits: int) -> str:
    """Write a number with so many digits that count, and never fewer than before its point."""
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(value)))}f}"
