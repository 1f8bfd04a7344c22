"""``python -m opgrad.check``: verify the gradients of the installed operators."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from opgrad.check import attesting, discovery, junit, listing, page, selftest
from opgrad.check.attesting import Attempt, Round
from opgrad.check.disabling import disabled
from opgrad.check.overriding import with_bases
from opgrad.check.recording import Recorder
from opgrad.check.running import Questions, verify_all
from opgrad.check.terminal import (
    print_durations,
    print_failures,
    print_findings,
    print_reports,
)
from opgrad.check.verifying import chosen_probes
from opgrad.files import replacing
from opgrad.fingerprint import TrustError
from opgrad.naming import canonical
from opgrad.registry import RegistryError, UnknownOperatorError, registry
from opgrad.requirements import unasked
from opgrad.showing.terminal import counted, piped, print_table, say, tracked
from opgrad.trust import suspended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opgrad.check import Report
    from opgrad.entries import Entry

PASSED, NOT_PASSED, COULD_NOT_RUN = 0, 1, 2

_NONE_FOUND = """\
no operators are installed. opgrad's own are found through its metadata, which is there once it is
installed: run `pip install opgrad`, or `pip install .` in a checkout. Check OPGRAD_DISABLE if you
have set it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if all passed, 1 if something did not, 2 if it could not run."""
    options = _parser().parse_args(arguments)
    if options.verify_attestation:
        return attesting.tell(options.verify_attestation)
    with suspended(), ExitStack() as stack:
        try:
            stack.enter_context(disabled(options.disable))
            names = _selected(options)
            if not options.list:
                chosen_probes(options.probe, options.skip_probe)
            attempt = Attempt.begin(options) if options.attest else None
        except (UnknownOperatorError, RegistryError, TrustError, ValueError) as error:
            sys.stderr.write(f"opgrad.check: {error}\n")
            return COULD_NOT_RUN
        if options.list:
            _list(options, names)
            return PASSED
        remarks = [*discovery.complaints, *_unasked(names)]
        sys.stderr.writelines(f"opgrad.check: {each}\n" for each in remarks)
        if options.list_probes:
            _list_probes()
            return PASSED
        if options.self_test:
            return selftest.main(names, options)
        return _run(names, options, attempt)


def _unasked(names: Sequence[str]) -> Iterator[str]:
    """Say of which distributions the requirements are not compared with what is installed."""
    own = {name.partition("@")[0] for name in names}
    for each in sorted({e.distribution for name in own for e in registry.entries()[name]}):
        if remark := unasked(each):
            yield f"{each}: {remark}"


def _run(names: Sequence[str], options: argparse.Namespace, attempt: Attempt | None) -> int:
    """Verify operators, show and write what was found, and return the exit code."""
    seeds = range(options.seed, options.seed + options.cases)
    rounds = attempt.rounds if attempt else [Round(names)]
    reports: list[Report] = []
    interrupted = False
    for each in rounds:
        with disabled(each.blocked):
            more, interrupted = _verify(each.names, options)
        reports += more
        if interrupted:
            break
    _show(reports, options)
    _write_files(reports, options)
    if interrupted:
        count = sum(len(each.names) for each in rounds)
        sys.stderr.write(f"opgrad.check: interrupted; {len(reports)} of {count} were done\n")
        return COULD_NOT_RUN
    if attempt and not attempt.finish(reports, seeds):
        return NOT_PASSED
    return PASSED if all(report.passed for report in reports) else NOT_PASSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m opgrad.check",
        description="Verify the gradients of the installed operators against numeric derivatives.",
        epilog="Exit code: 0 all passed, 1 something failed or was inconclusive, 2 could not run, "
        "or was interrupted. Unless probes are chosen, what was found is recorded for `python -m "
        "opgrad show NAME`: below sys.prefix in share/opgrad/verifications, or in the folder that "
        "OPGRAD_VERIFICATIONS names; if that is empty, nowhere.",
    )
    add = parser.add_argument_group("which operators (by default all)").add_argument
    add("names", nargs="*", metavar="NAME", help="operators by name")
    add("--family", action="append", default=[], help="those of a module, such as arithmetic")
    add("--distribution", action="append", default=[], help="those that a distribution installed")
    add("--disable", action="extend", default=[], type=_names, metavar="NAMES", help=_DISABLE)
    add("--list", action="store_true", help="list them, importing nothing")

    add = parser.add_argument_group("what to ask (by default everything)").add_argument
    add("--probe", action="append", default=[], help="only this probe; repeat it for several")
    add("--skip-probe", action="append", default=[], metavar="PROBE", help="all but this one")
    add("--list-probes", action="store_true", help="list them, with what they find")
    add("--seed", type=int, default=0, help="seed of the cases (default 0)")
    add("--self-test", action="store_true", help="plant errors; count those found")
    add("--cases", type=_at_least(1), default=1, metavar="N", help="draw the cases N times")

    add = parser.add_argument_group("how to run").add_argument
    add("--jobs", type=_at_least(0), default=1, metavar="N", help=_JOBS)
    add("--time-limit", type=_at_least(1), default=60, metavar="SECONDS", help=_TIME_LIMIT)
    add("--fail-fast", action="store_true", help="stop at the first finding against an operator")

    add = parser.add_argument_group("what to show").add_argument
    add("-q", "--quiet", action="store_true", help="only failures and the last line")
    add("-v", "--verbose", action="store_true", help="every single finding")
    add("--durations", type=_at_least(1), metavar="N", help="the N slowest probes")
    for name, what in _FILES.items():
        add(f"--{name}", metavar="FILE", type=Path, help=f"write {what} to FILE")
    group = parser.add_argument_group("what to attest")
    add = group.add_mutually_exclusive_group().add_argument
    add("--attest", metavar="FILE", type=Path, help=_ATTEST)
    add("--verify-attestation", metavar="FILE", type=Path, help=_VERIFY_ATTESTATION)
    return parser


_DISABLE = "block operators or distributions, separated by commas, as OPGRAD_DISABLE does"
_ATTEST = "write to FILE that all operators of one distribution passed, if they do"
_VERIFY_ATTESTATION = "tell whether such a file holds for what is installed, importing nothing"
_JOBS = "worker processes (default 1); 0 does all in this process, for debuggers"
_TIME_LIMIT = "how long one operator may take (default 60)"
_FILES = {
    "json": "all findings",
    "junit": "the results in JUnit's XML, for continuous integration,",
    "html": "a page for people",
}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"expected {least} or more, got {text}")  # noqa: EM102
        return int(text)

    return number


def _selected(options: argparse.Namespace) -> list[str]:
    """Return the names of the operators that are asked for, and that are not blocked."""
    there = set(registry.names())
    for name in options.names:
        if (own := name.partition("@")[0]) not in there:
            registry.entry(own)  # says why
    names = list(dict.fromkeys(options.names)) or registry.names()
    if not names:
        raise ValueError(_NONE_FOUND)
    own = {name.partition("@")[0] for name in names}
    entries = [entry for name in own for entry in registry.entries()[name]]
    for what, (of, spelled) in _KINDS.items():
        known = {spelled(of(entry)) for entry in entries}
        wanted = {spelled(each): each for each in getattr(options, what)}
        for each in wanted.keys() - known:
            msg = f"no operator here is of {what} {wanted[each]!r}; there are {sorted(known)}"
            raise ValueError(msg)
        entries = [entry for entry in entries if not wanted or spelled(of(entry)) in wanted]
    left = {entry.name for entry in entries}
    return with_bases(name for name in names if name.partition("@")[0] in left)


#: What operators can be chosen by, and the spelling in which that is compared.
_KINDS: dict[str, tuple[Callable[[Entry], str], Callable[[str], str]]] = {
    "family": (listing.family, str.lower),
    "distribution": (attrgetter("distribution"), canonical),
}


def _verify(names: Sequence[str], options: argparse.Namespace) -> tuple[list[Report], bool]:
    """Return the reports that were made, in the order of the names; and whether that was all."""
    questions = Questions(
        options.seed,
        options.cases - 1,
        options.probe,
        options.skip_probe,
        options.fail_fast,
        options.time_limit,
        curves=options.html is not None,
    )
    reports: list[Report] = []
    interrupted = False
    everything = not (options.probe or options.skip_probe)
    recorder = Recorder(names) if everything else None
    running = verify_all(names, questions, options.jobs)
    try:
        for report in tracked(running, len(names), "Verifying operators"):
            reports.append(report)
            if recorder:
                recorder.note(report)
            if options.fail_fast and not report.passed:
                break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        running.close()
    return sorted(reports, key=lambda report: names.index(report.operator)), interrupted


def _list(options: argparse.Namespace, names: Sequence[str]) -> None:
    lines = listing.lines(names)
    heads = ("operator", "distribution", "version", "plugin", "hooks")
    print_table(heads, [
        (line.name, line.distribution, line.version, line.plugin, ", ".join(line.hooks))
        for line in lines
    ])  # fmt: skip
    if options.json:
        _write(options.json, json.dumps([line.as_dict() for line in lines], indent=1))


def _list_probes() -> None:
    rows = []
    for name, probe in discovery.probes().items():
        on_demand = " Asked only by name." if getattr(probe, "on_demand", False) else ""
        rows.append((name, " ".join((probe.__doc__ or "").split()) + on_demand))
    print_table(("probe", "what its failure has found"), rows)


def _show(reports: Sequence[Report], options: argparse.Namespace) -> None:
    if not options.quiet:
        print_reports(reports)
    if options.verbose:
        print_findings(reports)
    print_failures(reports, whole=options.verbose)
    if options.durations:
        print_durations(reports, options.durations)
    failed = [report.operator for report in reports if not report.passed]
    questions = sum(len(report.findings) for report in reports)
    say([
        f"{len(reports) - len(failed)} of {len(reports)} operators passed, "
        f"{counted(questions, 'question')} asked"
        + (f"; not passed: {', '.join(failed)}" if failed else "")
    ])  # fmt: skip


def _write_files(reports: Sequence[Report], options: argparse.Namespace) -> None:
    passed = all(report.passed for report in reports)
    if options.json:
        found = [report.as_dict() for report in reports]
        data = {"seed": options.seed, "passed": passed, "reports": found}
        _write(options.json, json.dumps(data, indent=1))
    if options.junit:
        _write(options.junit, junit.render(reports))
    if options.html:
        _write(options.html, page.render(reports))


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as scratch:
        scratch.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(piped(main))
