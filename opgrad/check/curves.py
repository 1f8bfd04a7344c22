"""The error of plain numeric derivatives against their step: a picture of one derivative.

Wide steps err by truncation, narrow ones by rounding, so that the curve of a right derivative is a
V. Where a derivative is wrong, the curve ends on a floor: by so much it is wrong.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from opgrad.check.comparing import as_row
from opgrad.check.numeric import scale
from opgrad.check.trial import Trial
from opgrad.check.verifying import cases_of, watched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opgrad.check.findings import Curve, Finding, Report
    from opgrad.operator import Case, Operator


def add_curve(report: Report, operator: Operator) -> None:
    """Add the errors at the worst element of an operator's first derivatives, if there is one."""
    found = [each for each in report.findings if each.probe == "first_order" and _is_entry(each)]
    if not found:
        return
    worst = max(found, key=lambda each: (each.counts_against, each.worst_error or 0.0))

    def measure(operator: Operator, case: Case) -> Iterator[Finding]:
        report.curve = tuple(_errors(Trial.of(operator, case), worst))
        yield from ()

    cases, _ = cases_of(operator, worst.seed)
    against = watched(measure, operator, cases[worst.index])
    report.findings.extend(replace(each, probe="curve", case=worst.case) for each in against)


def _is_entry(finding: Finding) -> bool:
    return not finding.variant and len(finding.flat) == 2


def _errors(trial: Trial, finding: Finding) -> Iterator[tuple[float, float]]:
    """Yield (step, relative error); steps that leave the domain of forward are left out."""
    chosen = trial.operator.contract.inputs.index(finding.input)
    row, column = finding.flat
    x = trial.inputs[chosen]
    direction = np.zeros(x.shape, x.dtype)
    part, at = divmod(column, x.size)
    direction.flat[at] = 1j if part else 1

    def moved(step: float) -> float:
        changed = trial.with_input(chosen, x + step * direction, "").inputs
        return float(as_row(trial.forward(changed))[row])

    assert finding.analytic is not None
    assert finding.numeric is not None
    size = max(abs(finding.analytic), abs(finding.numeric)) or 1.0
    for k in range(3, 50):
        step = 2.0**-k * float(scale(x).flat[at])
        try:
            slope = (moved(step) - moved(-step)) / (2 * step)
        except (ArithmeticError, ValueError):
            continue
        if math.isfinite(error := abs(slope - finding.analytic) / size):
            yield step, error


# ------------------------------------------------------------------------------- the picture

WIDTH, HEIGHT, LEFT, BOTTOM, EDGE = 520, 240, 62, 40, 20


def draw(curve: Curve) -> str:
    """Draw a curve as SVG, with logarithmic axes; its colours are the page's."""
    floor = 1e-17  # an error of zero has no logarithm
    points = [(math.log10(step), math.log10(max(error, floor))) for step, error in curve]
    x_low, x_high = _decades([x for x, _ in points])
    y_low, y_high = _decades([y for _, y in points])

    def across(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - EDGE)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - BOTTOM - EDGE)

    marks = []
    for x in _ticks(x_low, x_high):
        marks.append(_line(across(x), EDGE, across(x), HEIGHT - BOTTOM))
        marks.append(_text(across(x), HEIGHT - BOTTOM + 15, f"1e{x}", "middle"))
    for y in _ticks(y_low, y_high):
        marks.append(_line(LEFT, down(y), WIDTH - EDGE, down(y)))
        marks.append(_text(LEFT - 6, down(y) + 4, f"1e{y}", "end"))
    path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="error against step">'
        + "".join(marks)
        + _text((LEFT + WIDTH) / 2, HEIGHT - 6, "step", "middle")
        + _text(LEFT - 6, EDGE, "error", "end")
        + f'<polyline points="{path}"/></svg>'
    )


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(min(values)), math.ceil(max(values))
    return low, max(high, low + 1)


def _ticks(low: int, high: int) -> range:
    return range(low, high + 1, max(1, math.ceil((high - low) / 6)))


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
