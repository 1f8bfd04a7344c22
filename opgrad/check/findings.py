"""What the verifier says: a `Finding` for each question asked, a `Report` for each operator."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


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
    """The answer to one question: one probe on one case, for one input.

    Attributes
    ----------
    probe, case, input : str
        What was asked: the probe's name, the case, and the input that the derivative is for.
    status : Status
        The answer.
    derived : bool
        Whether the verifier made the case itself. Only an inconclusive answer on an author's own
        case counts against the operator.
    message : str
        What is wrong, or why it was skipped.
    element : str
        The output and input element where analytic and numeric value are furthest apart.
    analytic, numeric, estimate : float or complex, optional
        The two values there, and the estimated error of the numeric one.
    error : float
        The largest relative difference that was seen.
    """

    probe: str
    case: str
    input: str
    status: Status
    derived: bool = False
    message: str = ""
    element: str = ""
    analytic: complex | float | None = None
    numeric: complex | float | None = None
    estimate: float | None = None
    error: float = 0.0

    @property
    def counts_against(self) -> bool:
        """Whether the operator has not passed because of it."""
        return self.status is Status.FAIL or (
            self.status is Status.INCONCLUSIVE and not self.derived
        )

    def __str__(self) -> str:
        where = f"{self.probe} on {self.case}" + (f", input {self.input}" if self.input else "")
        return f"{self.status}: {where}: {self.message}"


@dataclass(slots=True)
class Report:
    """All findings about one operator.

    Attributes
    ----------
    operator, distribution, version : str
        Which operator it is, and where it comes from.
    findings : list of Finding
        In the order in which they were found.
    seconds : float
        How long it took.
    """

    operator: str
    distribution: str = ""
    version: str = ""
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

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
    def error(self) -> float:
        """The largest relative difference between analytic and numeric values."""
        return max((each.error for each in self.findings), default=0.0)

    def count(self, status: Status) -> int:
        """Return how many findings have a status."""
        return sum(each.status is status for each in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        data = asdict(self)
        for finding in data["findings"]:
            for key in ("analytic", "numeric"):
                if isinstance(finding[key], complex):
                    finding[key] = {"real": finding[key].real, "imag": finding[key].imag}
        return {**data, "status": self.status, "passed": self.passed}
