"""The verifier: ``python -m opgrad.check``, and `verify` for one operator."""

from opgrad.check.findings import Finding, Report, Status
from opgrad.check.verifying import verify

__all__ = ["Finding", "Report", "Status", "verify"]
