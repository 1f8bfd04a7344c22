"""The verifier: ``python -m opgrad.check``, `verify` for one operator, and three for functions."""

from opgrad.check.findings import Finding, Report, Status
from opgrad.check.functions import check_gradient, gradcheck, gradgradcheck
from opgrad.check.verifying import verify

__all__ = [
    "Finding",
    "Report",
    "Status",
    "check_gradient",
    "gradcheck",
    "gradgradcheck",
    "verify",
]
