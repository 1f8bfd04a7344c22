"""The results in the XML format of JUnit, which systems for continuous integration read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from opgrad.check.findings import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opgrad.check.findings import Finding, Report


def render(reports: Sequence[Report]) -> str:
    """Return the document: a test suite for each operator, a test case for each probe."""
    root = ET.Element("testsuites", name="opgrad.check")
    for report in reports:
        suite = ET.SubElement(root, "testsuite", name=report.operator)
        if report.worst_error is not None:
            properties = ET.SubElement(suite, "properties")
            ET.SubElement(properties, "property", name="worst_error", value=str(report.worst_error))
        probes = list(dict.fromkeys([each.probe for each in report.findings]))
        for probe in probes:
            found = [each for each in report.findings if each.probe == probe]
            seconds = report.seconds.get(probe, 0.0)
            _add(suite, report.operator, probe, seconds, found)
        suite.set("tests", str(len(probes)))
        suite.set("failures", str(len(suite.findall("testcase/failure"))))
        suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
        suite.set("time", f"{sum(report.seconds.values()):.3f}")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def _add(
    suite: ET.Element, operator: str, probe: str, seconds: float, found: Sequence[Finding]
) -> None:
    case = ET.SubElement(suite, "testcase", classname=operator, name=probe, time=f"{seconds:.3f}")
    against = [each for each in found if each.counts_against]
    if against:
        failure = ET.SubElement(case, "failure", message=_printable(against[0].message))
        failure.set("type", against[0].status)
        failure.text = _printable("\n\n".join(each.explain() for each in against))
    elif all(each.status is Status.SKIP for each in found):
        ET.SubElement(case, "skipped", message=_printable(found[0].message))


def _printable(text: str) -> str:
    """Leave out the control characters, which XML does not allow at all."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
