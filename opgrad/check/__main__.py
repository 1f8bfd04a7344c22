"""``python -m opgrad.check``: verify the gradients of the installed operators."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opgrad.check import Finding, Report, Status, listing, verify
from opgrad.check.terminal import print_table, progress, say
from opgrad.registry import RegistryError, UnknownOperatorError, registry

if TYPE_CHECKING:
    from collections.abc import Sequence

PASSED, NOT_PASSED, COULD_NOT_RUN = 0, 1, 2

_NONE_FOUND = """\
opgrad.check: no operators are installed. opgrad's own are found through its metadata, which is
there once it is installed: run `pip install opgrad`, or `pip install .` in a checkout. Check
OPGRAD_DISABLE if you have set it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if all passed, 1 if something did not, 2 if it could not run."""
    options = _parser().parse_args(arguments)
    names = options.names or registry.names()
    if not names:
        sys.stderr.write(_NONE_FOUND + "\n")
        return COULD_NOT_RUN
    if options.list:
        _list(options)
        return PASSED
    try:
        for name in options.names:
            registry.load(name)
    except (UnknownOperatorError, RegistryError) as error:
        sys.stderr.write(f"opgrad.check: {error}\n")
        return COULD_NOT_RUN
    reports = [_verify(name, options.seed) for name in progress(names, "Verifying operators")]
    _show(reports)
    if options.json:
        _write_json(options.json, {
            "seed": options.seed,
            "passed": all(report.passed for report in reports),
            "reports": [report.as_dict() for report in reports],
        })  # fmt: skip
    return PASSED if all(report.passed for report in reports) else NOT_PASSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m opgrad.check",
        description="Verify the gradients of the installed operators against numeric derivatives.",
        epilog="Exit code: 0 all passed, 1 something failed or was inconclusive, 2 could not run.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="operators; by default all")
    parser.add_argument("--list", action="store_true", help="list operators, importing nothing")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all findings to FILE")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases (default 0)")
    return parser


def _verify(name: str, seed: int) -> Report:
    """Verify one operator; one that cannot be loaded has failed, and the others go on."""
    try:
        return verify(name, seed=seed)
    except RegistryError as error:
        sources = registry.entries()[name]
        report = Report(name, sources[0].distribution, sources[0].version)
        report.findings.append(Finding(Status.FAIL, str(error), probe="load"))
        return report


def _list(options: argparse.Namespace) -> None:
    lines = [line for line in listing.lines() if not options.names or line.name in options.names]
    heads = ("operator", "distribution", "version", "plugin", "hooks")
    print_table(heads, [
        (line.name, line.distribution, line.version, line.plugin, ", ".join(line.hooks))
        for line in lines
    ])  # fmt: skip
    if options.json:
        _write_json(options.json, [line.as_dict() for line in lines])


def _show(reports: Sequence[Report]) -> None:
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
    for report in reports:
        say(f"{report.operator}: {each}" for each in report.findings if each.counts_against)
    failed = [report.operator for report in reports if not report.passed]
    questions = sum(len(report.findings) for report in reports)
    say([
        f"{len(reports) - len(failed)} of {len(reports)} operators passed, "
        f"{questions} questions asked"
        + (f"; not passed: {', '.join(failed)}" if failed else "")
    ])  # fmt: skip


def _write_json(path: Path, data: Any) -> None:
    """Write a file whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
            file.write("\n")
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    sys.exit(main())
