"""``python -m opgrad``: which operators are installed, and what there is to say of one."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import opgrad
from opgrad.files import replacing
from opgrad.naming import canonical
from opgrad.registry import UnknownOperatorError, registry
from opgrad.showing import describing, plotting
from opgrad.showing.guarding import BrokenPluginError, Guard
from opgrad.showing.records import RecordError, speed
from opgrad.showing.states import chosen, known_to_block, lines, source
from opgrad.showing.terminal import piped, print_table, say, tracked
from opgrad.showing.verification import last_run, verification

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opgrad.showing.states import Line

SHOWN, UNUSABLE, COULD_NOT_RUN = 0, 1, 2

_COMMANDS = """\
commands:
  python -m opgrad [NAME ...]   list the operators, importing none
  python -m opgrad show NAME    tell all of one: formulas, what is saved, cases
  python -m opgrad.check        verify gradients against numeric derivatives
  python -m opgrad.new          start a package with operators of your own
Each has --help."""
_CODES = "exit code: 0 shown; 1 installed, and cannot be used; 2 could not run."
_NONE_FOUND = (
    "no operators are installed. opgrad's own are found through its metadata, which is there once "
    "it is installed: run `pip install .` in its folder."
)
_STDOUT = "-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if all is shown, 1 if an operator is unusable, 2 if it cannot run.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line, by default of the running one.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["show"]:
        options, command = _show_parser().parse_args(given[1:]), _show
    else:
        options, command = _list_parser().parse_args(given), _list
    try:
        for name in options.disable:
            known_to_block(name)
        with (
            registry.blocked(*options.disable),
            Guard(options.time_limit, options.disable) as guard,
        ):
            return command(options, guard)
    except BrokenPipeError:  # nobody reads it any more: see `piped`
        raise
    except (UnknownOperatorError, BrokenPluginError, ValueError, ImportError, OSError) as error:
        sys.stderr.write(f"opgrad: {error}\n")
        return COULD_NOT_RUN


# ----------------------------------------------------------------------------- the arguments


def _list_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m opgrad",
        description="List the installed operators by family: where they come from, their state.",
        epilog=_COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="names, prefixes or patterns, such as 'log*'")
    add("--distribution", action="append", default=[], help="those that a distribution installed")
    add("--load", action="store_true", help="import each, to see whether it can be used")
    _add_common(parser)
    add("--version", action="version", version=f"opgrad {opgrad.__version__}")
    return parser


def _show_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m opgrad show",
        description="Tell all there is to say of one operator.",
        epilog=_CODES,
    )
    parser.add_argument("name", metavar="NAME", help=_NAME)
    parser.add_argument("--plot", metavar="FILE", type=Path, help=_PLOT)
    _add_common(parser)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", nargs="?", const=_STDOUT, type=_json_file, metavar="FILE", help=_JSON)
    add("--disable", action="append", default=[], metavar="NAME", help=_DISABLE)
    add("--time-limit", type=_positive, default=20.0, metavar="SECONDS", help=_TIME_LIMIT)


_NAME = "its name, or an alias; sigmoid@opgrad is what an override of sigmoid stands in for"
_PLOT = "draw it with its derivative to FILE, .png or .svg, if it is elementwise of one real input"
_JSON = "write JSON to FILE, whose name ends in .json; without FILE, print nothing but JSON"
_DISABLE = "do as if an operator, or all of a distribution, were not there; importing nothing of it"
_TIME_LIMIT = "how long importing one operator may take (default 20)"


def _json_file(text: str) -> str:
    if text != _STDOUT and not text.lower().endswith(".json"):
        msg = f"FILE is {text!r}; expected a name that ends in .json (put NAME before --json)"
        raise argparse.ArgumentTypeError(msg)
    return text


def _positive(text: str) -> float:
    if not 0 < (number := float(text)) < float("inf"):
        msg = f"expected a number of seconds above 0, got {text}"
        raise argparse.ArgumentTypeError(msg)
    return number


# ------------------------------------------------------------------------------ the listing


def _list(options: argparse.Namespace, guard: Guard) -> int:
    found = lines()
    if not found:
        raise ValueError(_NONE_FOUND)
    found = list(map(_timed, chosen(found, options.names, options.distribution)))
    if options.load:
        loading = describing.loaded(found, guard)
        found = list(tracked(loading, len(found), "Loading operators"))
    if options.json != _STDOUT:
        _print_list(found, options.load)
    _write_json(options.json, {"operators": [line.as_dict() for line in found]})
    return SHOWN


def _timed(line: Line) -> Line:
    """Add to an override's line how fast it was, if that is recorded."""
    try:
        return replace(line, speed=speed(line.entry))
    except RecordError as error:
        sys.stderr.write(f"opgrad: {error}\n")
        return line


def _print_list(found: Sequence[Line], details: bool) -> None:
    more: tuple[str, ...] = ("aliases", "method") if details else ()
    speeds = any(line.speed is not None for line in found)
    more += ("speed",) * speeds
    rows = []
    family = None
    for line in found:
        entry = line.entry
        row = ["" if line.family == family else line.family, entry.name, entry.distribution]
        row += [entry.version, line.status]
        if details:
            row += [", ".join(line.details.aliases) if line.details else ""]
            row += ["yes" if line.details and line.details.method else ""]
        if speeds:
            row += ["" if line.speed is None else f"{line.speed:.2g}x"]
        rows.append(row)
        family = line.family
    print_table(("family", "operator", "distribution", "version", "state", *more), rows)
    states = Counter(line.state for line in found)
    say([f"{len(found)} in all: " + ", ".join(f"{n} {state}" for state, n in states.items())])


# ------------------------------------------------------------------------------ one operator


def _show(options: argparse.Namespace, guard: Guard) -> int:
    if options.plot:
        plotting.check_plottable(options.plot)
    line, told = _described(options.name, guard)
    if options.plot:
        plotting.save(guard.value(plotting.sample, _key(line)), options.plot)
    attested, last = verification(line.entry), last_run(line.entry)
    if options.json != _STDOUT:
        facts = {"verification": last.text, "attestation": str(attested)}
        _print_operator(line, told, facts)
        if options.plot:
            say([f"drawn to {options.plot}"])
    verified = {"verification": asdict(attested), "last_verification": last.data}
    _write_json(options.json, {**line.as_dict(), "description": told, **verified})
    return UNUSABLE if told is None else SHOWN


def _described(name: str, guard: Guard) -> tuple[Line, dict[str, Any] | None]:
    """Return the line of what a name means, and its description, None if it cannot be used."""
    line = _named(name, guard)
    if line.state not in ("lazy", "overridden"):
        return line, None
    answer = guard.ask(describing.describe, _key(line))
    if answer.why:
        return replace(line, state="failed", why=answer.why), None
    return (replace(line, state="loaded") if line.state == "lazy" else line), answer.value


def _key(line: Line) -> str:
    """Return the name under which what stands in a line is loaded."""
    entry = line.entry
    return f"{entry.name}@{entry.distribution}" if line.state == "overridden" else entry.name


def _named(name: str, guard: Guard) -> Line:
    """Return the line of what a name, an alias, or ``name@distribution`` means.

    Raises
    ------
    UnknownOperatorError, ValueError
        If it means nothing.
    """
    found = lines()
    own, _, distribution = name.partition("@")
    if distribution:
        return _of_distribution(own, distribution, found)
    named = [line for line in found if line.entry.name == name]
    if not named:
        prefix, _, alias = name.rpartition(".")
        beside = [line for line in found if line.entry.name.rpartition(".")[0] == prefix]
        named = [
            line
            for line in describing.loaded(beside, guard)
            if line.details and alias in line.details.aliases
        ]
        if not named:
            registry.entry(name)  # says what is like it
        return replace(named[0], state="lazy", details=None)
    return next((line for line in named if line.state == "lazy"), named[0])


def _of_distribution(name: str, distribution: str, found: Sequence[Line]) -> Line:
    """Return the line of the operator that a distribution has of a name."""
    named = {canonical(line.entry.distribution): line for line in found if line.entry.name == name}
    if not named:
        registry.entry(name)  # says what is like it
    if canonical(distribution) not in named:
        there = ", ".join(f"{name}@{line.entry.distribution}" for line in named.values())
        msg = f"no operator {name!r} here is of distribution {distribution!r}; there is {there}"
        raise ValueError(msg)
    return named[canonical(distribution)]


def _print_operator(line: Line, told: dict[str, Any] | None, verified: Mapping[str, str]) -> None:
    entry = line.entry
    signature = told["signature"] if told else ""
    say([f"{entry.name}{signature}", *([told["doc"]] if told and told["doc"] else []), ""])
    facts = [
        ("distribution", source(entry)),
        ("entry point", entry.value),
        ("family", line.family),
        ("state", line.status),
        ("why", line.why if line.state == "blocked" else ""),
        *(describing.facts(told) if told else ()),
        *verified.items(),
    ]
    say(f"  {heading:12}  {text}" for heading, text in facts if text)
    if told is None:
        return
    for hook in told["hooks"]:
        say(["", f"{hook['name']}  {describing.place(hook)}"])
        say(f"    {each}" for each in (hook["source"] or "").splitlines())
    say(["", "cases, with seed 0", *(f"    {case}" for case in told["cases"])])


def _write_json(target: str | None, data: dict[str, Any]) -> None:
    if target is None:
        return
    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    if target == _STDOUT:
        sys.stdout.write(text)
        return
    with replacing(target) as scratch:
        scratch.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(piped(main))
