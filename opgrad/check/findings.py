"""What the verifier says: a `Finding` for each question asked, a `Report` for each operator."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Numeric errors of a derivative by step; see `curves`.
Curve: TypeAlias = tuple[tuple[float, float], ...]


class Status(StrEnum):
    """How a question was answered."""

    PASS = "PASS"
    FAIL = "FAIL"
    #: The numeric derivative could not be trusted.
    INCONCLUSIVE = "INCONCLUSIVE"
    #: There was nothing to ask, for the reason given.
    SKIP = "SKIP"


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question.

    A probe says what it found; which probe it was, and on which case, is filled in for it.

    Attributes
    ----------
    status : Status
        The answer.
    message : str
        What is wrong, or why it was skipped.
    input : str
        The input that it is about, if it is about one.
    variant : str
        What the verifier changed in the author's case, such as "float32"; empty for the case as
        the author gave it. An inconclusive answer counts against the operator only there.
    element : str
        Where analytic and numeric value are furthest apart; if all is well, by what is allowed
        there.
    flat : tuple of int
        The same for an entry of a Jacobian, as indices among all numbers of the outputs and of the
        input: of an array all real parts in a row, and then all imaginary ones.
    analytic, numeric, estimate : float, optional
        The two values there, and the estimated error of the numeric one.
    worst_error : float, optional
        How far any are apart, in units of what the criterion allows there: at most 1 if they
        agree. None where nothing was compared with a derivative, or that is not known.
    cause : str
        What the pattern of the differences suggests.
    probe, case, reproducer : str
        What was asked, on which case, and two lines of Python that ask it again.
    seed, index : int
        Which case that is: the seed it was drawn with, and its place among those drawn.
    """

    status: Status
    message: str = ""
    input: str = ""
    variant: str = ""
    element: str = ""
    flat: tuple[int, ...] = ()
    analytic: float | None = None
    numeric: float | None = None
    estimate: float | None = None
    worst_error: float | None = None
    cause: str = ""
    probe: str = ""
    case: str = ""
    reproducer: str = ""
    seed: int = 0
    index: int = 0

    @property
    def counts_against(self) -> bool:
        """Whether the operator has not passed because of it."""
        return self.status is Status.FAIL or (
            self.status is Status.INCONCLUSIVE and not self.variant
        )

    def __str__(self) -> str:
        where = f"{self.probe} on {self.case}" if self.case else self.probe
        where += f", {self.variant}" if self.variant else ""
        where += f", input {self.input}" if self.input else ""
        cause = f" Likely cause: {self.cause}." if self.cause else ""
        return f"{self.status}: {where}: {self.message}.{cause}"

    def explain(self) -> str:
        """Say all there is to say, over several lines: what, where, why, and how to see it."""
        values = (self.analytic, self.numeric, self.estimate)
        shown = "" if None in values else "{:.17g}, numeric {:.17g} +- {:.1g}".format(*values)
        rows = {
            "input": self.input,
            "case": self.case + (f", {self.variant}" if self.variant else ""),
            "problem": self.message,
            "element": self.element,
            "analytic": shown,
            "likely cause": self.cause,
            "reproducer": self.reproducer.replace("\n", "\n" + " " * 16),
        }
        lines = [f"  {head:<14}{text}" for head, text in rows.items() if text]
        return "\n".join([f"{self.status}: {self.probe}", *lines])


def passed(input: str = "", variant: str = "", **seen: Any) -> Finding:
    """Make a finding that all is well."""
    return Finding(Status.PASS, input=input, variant=variant, **seen)


def failed(message: str, input: str = "", variant: str = "", **seen: Any) -> Finding:
    """Make a finding that something is wrong."""
    return Finding(Status.FAIL, message, input, variant, **seen)


def skipped(reason: str, input: str = "", variant: str = "") -> Finding:
    """Make a finding that there was nothing to ask."""
    return Finding(Status.SKIP, reason, input, variant)


@dataclass(slots=True)
class Report:
    """All findings about one operator.

    Attributes
    ----------
    operator, distribution, version : str
        Which operator it is, and where it comes from.
    findings : list of Finding
        In the order in which they were found.
    seconds : dict of str to float
        How long each probe took.
    curve : tuple of (float, float)
        For the first derivative that agrees least, the error of plain numeric derivatives by
        their step; made only if asked for.
    speed : float, optional
        How many times as fast an override is as its base.
    """

    operator: str
    distribution: str = ""
    version: str = ""
    findings: list[Finding] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    curve: Curve = ()
    speed: float | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing failed and no author's case stayed inconclusive."""
        return bool(self.findings) and not any(each.counts_against for each in self.findings)

    @property
    def status(self) -> Status:
        """The gravest status that counts."""
        grave = [each.status for each in self.findings if each.counts_against]
        if Status.FAIL in grave:
            return Status.FAIL
        return Status.INCONCLUSIVE if grave else Status.PASS if self.findings else Status.SKIP

    @property
    def worst_error(self) -> float | None:
        """The worst of the errors of derivatives, in units of what is allowed; None of none."""
        return worst_error(self.findings)

    def __bool__(self) -> bool:
        """Whether it has passed, so that ``assert gradcheck(...)`` says what it seems to."""
        return self.passed

    def failures(self) -> list[list[Finding]]:
        """Return what counts against the operator, with what is alike in one list.

        Alike are findings of one probe on one input, and those with the same message.
        """
        alike: dict[tuple[str, str], list[Finding]] = {}
        keys: dict[str, tuple[str, str]] = {}
        for each in self.findings:
            if each.counts_against:
                key = keys.setdefault(each.message, (each.probe, each.input))
                alike.setdefault(key, []).append(each)
        return list(alike.values())

    def count(self, status: Status) -> int:
        """Return how many findings have a status."""
        return sum(each.status is status for each in self.findings)

    def __str__(self) -> str:
        head = f"{self.operator}: {self.status}"
        if self.worst_error is not None:
            head += f", worst error {shown(self.worst_error)} of what is allowed"
        against = (each.explain() for each in self.findings if each.counts_against)
        return "\n".join([head, *against])

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        found = asdict(self, dict_factory=_plain)
        worst = finite(self.worst_error)
        return {**found, "status": self.status, "passed": self.passed, "worst_error": worst}


def worst_error(findings: Iterable[Finding]) -> float | None:
    """Return the worst error of some findings; None if no derivative was compared."""
    return max(
        (each.worst_error for each in findings if each.worst_error is not None), default=None
    )


def shown(error: float | None) -> str:
    """Return an error, in units of what is allowed, as tables have it; nothing for None."""
    return "" if error is None else f"{error:.2g}"


def _plain(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = ((name, list(each) if isinstance(each, tuple) else each) for name, each in fields)
    return {name: finite(each) if isinstance(each, float) else each for name, each in plain}


def finite(number: float | None) -> float | None:
    """Return a number, or None for one that is not finite, which JSON does not have."""
    return number if number is not None and math.isfinite(number) else None
