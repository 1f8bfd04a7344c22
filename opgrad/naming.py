"""What an operator may be called, so that none gets in another's way."""

from __future__ import annotations

import re
from functools import cache
from keyword import iskeyword
from typing import TYPE_CHECKING

from opgrad.contract import nearest
from opgrad.declared import wrong_aliases
from opgrad.variable import Variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from opgrad.entries import Entry
    from opgrad.operator import Operator

    Entries = Mapping[str, Sequence[Entry]]

#: The distribution that bare names belong to.
OWN = "opgrad"

_OBJECT = re.compile(r"\s*\w+(\.\w+)*\s*:\s*\w+(\.\w+)*\s*(\[.*\]\s*)?")


@cache
def canonical(name: str) -> str:
    """Return the name of a distribution as package indexes compare it.

    Examples
    --------
    >>> canonical("Acme_Ops") == canonical("acme-ops") == "acme-ops"
    True
    """
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def misnamed(entry: Entry) -> str:
    """Say what is wrong with an entry whatever else is installed; nothing if it is well named.

    Such an entry stands in nobody's way: it is no claim to its name, and no operator.
    """
    prefix, _, own = entry.name.rpartition(".")
    if not _OBJECT.fullmatch(entry.value):
        what = f"operator {entry.name!r} of {entry}"
        return f"{what} points at {entry.value!r}; expected 'module:object'"
    for part in entry.name.split("."):
        if not part.isidentifier() or part.startswith("_") or iskeyword(part):
            return (
                f"operator {entry.name!r} of {entry} cannot be reached by that name: {part!r} is "
                "no attribute; expected identifiers with dots between, none that begins with '_'"
            )
    if not entry.overrides and not prefix and entry.distribution != OWN:
        package = entry.value.partition(":")[0].partition(".")[0]
        return (
            f"operator {entry.name!r} of {entry} needs a prefix: bare names belong to opgrad. Call "
            f"its entry point '{package}.{own}', or name it in the group 'opgrad.overrides' if it "
            "is to replace an operator."
        )
    return ""


def is_operator(name: str, entries: Entries) -> bool:
    """Tell whether some entry is an operator of that name, well named, and not an override."""
    return any(not each.overrides and not misnamed(each) for each in entries.get(name, ()))


def wrong_names(entry: Entry, entries: Entries) -> Iterator[str]:
    """Say what is wrong with the name of an entry among all that are installed."""
    name, prefix = entry.name, entry.name.rpartition(".")[0]
    if fault := misnamed(entry):
        yield fault
    elif entry.overrides and not is_operator(name, entries):
        hint = nearest(name, [each for each in entries if is_operator(each, entries)])
        yield (
            f"{entry} overrides an operator {name!r}, and no distribution has one; name the "
            f"operator that it replaces, or install the distribution that has it{hint}"
        )
    elif is_operator(prefix, entries):
        yield (
            f"operator {name!r} of {entry} has the prefix {prefix!r}, which is itself an operator, "
            f"of {entries[prefix][0]}; choose a prefix of your own"
        )


def wrong_offers(entry: Entry, operator: Operator, entries: Entries) -> Iterator[str]:
    """Say what is wrong with an operator's aliases and with its offer to be a method."""
    prefix, _, own = entry.name.rpartition(".")
    yield from wrong_aliases(operator.aliases)
    for alias in operator.aliases:
        full = f"{prefix}.{alias}".removeprefix(".")
        if is_operator(full, entries):
            other = f"{full!r} is an operator of {entries[full][0]}"
            yield f"has the alias {alias!r}, and {other}; leave the alias out"
    if operator.method and prefix and (is_operator(own, entries) or hasattr(Variable.kind, own)):
        yield (
            f"says `method = True`, but tensors have {own!r} already; give the operator another "
            "name, or leave that out"
        )
