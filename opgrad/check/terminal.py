"""Reports as tables and lines of text."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from opgrad.check.findings import Status, shown
from opgrad.showing.terminal import print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opgrad.check.findings import Report


def print_reports(reports: Sequence[Report]) -> None:
    """Print a table with a line for each operator; of overrides, how fast they are, too."""
    heads = (
        "operator", "distribution", "passed", "failed", "inconclusive", "error/allowed", "s",
        "result",
    )  # fmt: skip
    overrides = any(report.speed is not None for report in reports)
    print_table((*heads, "speed to base") if overrides else heads, [
        (
            report.operator,
            f"{report.distribution} {report.version}",
            str(report.count(Status.PASS)),
            str(report.count(Status.FAIL)),
            str(report.count(Status.INCONCLUSIVE)),
            shown(report.worst_error),
            f"{sum(report.seconds.values()):.2f}",
            report.status.value,
            *([""] if overrides and report.speed is None else []),
            *([] if report.speed is None else [f"{report.speed:.2f}"]),
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
