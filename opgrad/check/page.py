"""The results as one HTML page that needs nothing else: for people, and for archives."""

from __future__ import annotations

import platform
from html import escape
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from opgrad.check.curves import draw
from opgrad.check.findings import Status, shown, worst_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opgrad.check.findings import Finding, Report


def render(reports: Sequence[Report]) -> str:
    """Return the page: a summary, a table of the operators, and a section for each."""
    passed = sum(report.passed for report in reports)
    verdict = Status.PASS if passed == len(reports) else Status.FAIL
    facts = {
        "operators passed": f"{passed} of {len(reports)}",
        "questions asked": str(sum(len(report.findings) for report in reports)),
        _WORST: shown(worst_error(each for report in reports for each in report.findings)),
        "seconds": f"{sum(sum(report.seconds.values()) for report in reports):.1f}",
    }
    return _PAGE.substitute(
        verdict=verdict,
        badge=_badge(verdict),
        facts="".join(
            f"<div><dt>{escape(what)}</dt><dd>{escape(fact)}</dd></div>"
            for what, fact in facts.items()
        ),
        overview=_table(
            ("operator", "from", "result", *_COUNTED, _WORST, "seconds"),
            (_overview(report) for report in reports),
        ),
        sections="".join(map(_section, reports)),
        versions=f"Python {platform.python_version()}, NumPy {np.__version__}, "
        f"{platform.system()} on {platform.machine()}",
    )


#: Of derivatives; at most 1 where they agree.
_WORST = "worst error / allowed"

_COUNTED = {
    "passed": Status.PASS,
    "failed": Status.FAIL,
    "inconclusive": Status.INCONCLUSIVE,
    "skipped": Status.SKIP,
}


def _counts(findings: Sequence[Finding]) -> list[str]:
    return [str(sum(each.status is status for each in findings)) for status in _COUNTED.values()]


def _overview(report: Report) -> list[str]:
    return [
        f'<a href="#{escape(report.operator)}">{escape(report.operator)}</a>',
        escape(f"{report.distribution} {report.version}"),
        _badge(report.status),
        *_counts(report.findings),
        shown(report.worst_error),
        f"{sum(report.seconds.values()):.2f}",
    ]


def _section(report: Report) -> str:
    probes = dict.fromkeys(each.probe for each in report.findings)
    table = _table(
        ("probe", "result", *_COUNTED, _WORST, "seconds", "remark"),
        (_probe(report, name) for name in probes),
    )
    failures = "".join(map(_failure, report.failures()))
    return (
        f'<details id="{escape(report.operator)}"{"" if report.passed else " open"}>'
        f"<summary>{_badge(report.status)} {escape(report.operator)}</summary>"
        f"{failures}{table}{_figure(report)}</details>"
    )


def _failure(alike: Sequence[Finding]) -> str:
    """Show one finding, and those like it if asked."""
    first, *more = (f"<pre>{escape(each.explain())}</pre>" for each in alike)
    if not more:
        return first
    return f"{first}<details><summary>{len(more)} more like it</summary>{''.join(more)}</details>"


def _probe(report: Report, name: str) -> list[str]:
    found = [each for each in report.findings if each.probe == name]
    skipped = all(each.status is Status.SKIP for each in found)
    return [
        f"<code>{escape(name)}</code>",
        _badge(_gravest(found)),
        *_counts(found),
        shown(worst_error(found)),
        f"{report.seconds.get(name, 0.0):.2f}",
        escape(found[0].message) if skipped else "",
    ]


def _gravest(found: Sequence[Finding]) -> Status:
    statuses = {each.status for each in found}
    order = (Status.FAIL, Status.INCONCLUSIVE, Status.PASS, Status.SKIP)
    return next(status for status in order if status in statuses)


def _figure(report: Report) -> str:
    if len(report.curve) < 2:
        return ""
    return (
        f"<figure>{draw(report.curve)}<figcaption>Plain central differences at the element of the "
        "first derivative that agrees least: their relative distance from the backward, against "
        "the step. A right derivative gives a V; a wrong one ends on a floor.</figcaption></figure>"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are HTML already."""
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{each}</td>" for each in row) + "</tr>" for row in rows)
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _badge(status: Status) -> str:
    return f'<b class="{status.lower()}">{status}</b>'


_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>opgrad.check: $verdict</title>
<style>
:root {
  color-scheme: light dark;
  --text: #1c2024; --soft: #60646c; --line: #d9dce1; --back: #ffffff; --raised: #f6f7f9;
  --pass: #18794e; --fail: #c62a2f; --inconclusive: #946800; --skip: #73777f; --curve: #0b68cb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e6e8eb; --soft: #9ba1a6; --line: #35393e; --back: #151718; --raised: #1e2123;
    --pass: #4cc38a; --fail: #ff6369; --inconclusive: #f1a10d; --skip: #889096; --curve: #52a9ff;
  }
}
body {
  max-width: 72rem; margin: 2.5rem auto; padding: 0 1.25rem;
  font: 1rem/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
}
h1 { font-size: 1.6rem; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
dl { display: flex; flex-wrap: wrap; gap: 1rem; margin: 0; }
dl div { padding: .6rem 1rem; border-radius: .5rem; background: var(--raised); }
dt { font-size: .8rem; color: var(--soft); }
dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
div:has(> table) { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th { text-align: left; font-weight: 500; color: var(--soft); }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); }
td { font-variant-numeric: tabular-nums; white-space: nowrap; }
td:last-child { white-space: normal; }
a { color: inherit; text-decoration-color: var(--soft); text-underline-offset: .2em; }
b { font-size: .8em; letter-spacing: .03em; }
.pass { color: var(--pass); } .fail { color: var(--fail); }
.inconclusive { color: var(--inconclusive); } .skip { color: var(--skip); }
details { padding: .6rem 0; }
body > details { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; }
pre, code { font: .85rem/1.5 ui-monospace, monospace; }
pre { padding: .8rem 1rem; border-radius: .5rem; background: var(--raised); overflow-x: auto; }
figure { margin: 1.25rem 0; max-width: 36rem; }
figcaption, footer { font-size: .85rem; color: var(--soft); }
footer { margin-top: 2.5rem; }
svg { width: 100%; }
svg text { font-size: 11px; fill: var(--soft); }
svg line { stroke: var(--line); }
svg polyline { fill: none; stroke: var(--curve); stroke-width: 2; stroke-linejoin: round; }
</style>
</head>
<body>
<h1>opgrad.check $badge</h1>
<dl>$facts</dl>
<h2>Operators</h2>
$overview
<h2>Probes</h2>
$sections
<footer>$versions</footer>
</body>
</html>""")
