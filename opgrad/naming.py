"""What an operator may be called, so that none gets in another's way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opgrad.contract import nearest
from opgrad.graph import Variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from opgrad.operator import Operator
    from opgrad.registry import Entry

    Entries = Mapping[str, Sequence[Entry]]

#: The distribution that bare names belong to.
OWN = "opgrad"


def wrong_names(entry: Entry, entries: Entries) -> Iterator[str]:
    """Say what is wrong with the name of an entry among all that are installed."""
    name, prefix = entry.name, entry.name.rpartition(".")[0]
    if entry.overrides:
        if all(each.overrides for each in entries[name]):
            hint = nearest(name, [each for each in entries if each != name])
            yield f"{entry} overrides an operator {name!r}, and no distribution has one{hint}"
    elif prefix in entries:
        yield (
            f"operator {name!r} of {entry} has the prefix {prefix!r}, which is itself an operator, "
            f"of {entries[prefix][0]}; choose a prefix of your own"
        )
    elif not prefix and entry.distribution != OWN:
        package = entry.value.partition(":")[0].partition(".")[0]
        yield (
            f"operator {name!r} of {entry} needs a prefix: bare names belong to opgrad. Call its "
            f"entry point '{package}.{name}', or name it in the group 'opgrad.overrides' if it is "
            "to replace an operator."
        )


def wrong_offers(entry: Entry, operator: Operator, entries: Entries) -> Iterator[str]:
    """Say what is wrong with an operator's aliases and with its offer to be a method."""
    prefix, _, own = entry.name.rpartition(".")
    for i, alias in enumerate(operator.aliases):
        what, full = f"has the alias {alias!r}", f"{prefix}.{alias}".removeprefix(".")
        if not alias.isidentifier():
            yield f"{what}; expected a name as of a Python function"
        if alias in operator.aliases[:i]:
            yield f"{what} twice; name it once"
        if full in entries:
            yield f"{what}, and {full!r} is an operator of {entries[full][0]}; leave the alias out"
    if operator.method and prefix and (own in entries or hasattr(Variable.kind, own)):
        yield (
            f"says `method = True`, but tensors have {own!r} already; give the operator another "
            "name, or leave that out"
        )
