"""``python -m opgrad.check --self-test``: whether the verifier finds errors that are planted.

Every operator is mutated in every hook, and every mutant is verified. One that passes although it
can be told apart from the original has survived: a probe is missing, or misses it.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from opgrad.check.equivalence import Original
from opgrad.check.mutants import Mutant, mutants
from opgrad.check.verifying import chosen_probes, verify
from opgrad.registry import RegistryError, registry
from opgrad.showing.terminal import print_table, say, tracked

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from opgrad.operator import Operator


class Fate(StrEnum):
    """What became of a mutant."""

    #: The verifier found something against it.
    KILLED = "killed"
    #: It cannot be told apart from the original: there is nothing to find.
    EQUIVALENT = "equivalent"
    #: The verifier passed it, although it is wrong.
    SURVIVED = "survived"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one mutant, or of an operator as it is.

    Attributes
    ----------
    operator, hook, mutation : str
        Which mutant; the last two are empty for the operator as it is.
    fate : Fate
        What became of it. The operator itself should be equivalent to itself.
    probe : str
        The first probe that found something.
    reason : str
        What that was; or what shows that the mutant is wrong; or why it is not.
    """

    operator: str
    hook: str
    mutation: str
    fate: Fate
    probe: str = ""
    reason: str = ""

    def __str__(self) -> str:
        what = f"{self.operator}.{self.hook} {self.mutation}" if self.hook else self.operator
        return f"{what}: {self.reason}"


def examine(operator: Operator, **options: Any) -> Iterator[Outcome]:
    """Verify an operator as it is, and then every mutant of it.

    Parameters
    ----------
    operator : Operator
        The operator; it need not be registered.
    **options
        For `verify`: ``seed``, ``only`` and ``skip``.

    Examples
    --------
    >>> import opgrad
    >>> itself, noisy, *_ = examine(opgrad.ops.equal)
    >>> str(itself)
    'equal: nothing differs on ... inputs with finite results'
    >>> noisy.hook, noisy.mutation, noisy.fate.value, noisy.probe
    ('forward', 'not repeatable', 'killed', 'repeatable_forward')
    """
    original = Original(operator, options.get("seed", 0))
    yield _judge(original, Mutant(operator, "", ""), options)
    for mutant in mutants(operator):
        yield _judge(original, mutant, options)


def _judge(original: Original, mutant: Mutant, options: Mapping[str, Any]) -> Outcome:
    name = original.operator.name
    report = verify(mutant.operator, **options, fail_fast=True)
    if not report.passed:
        found = report.findings[-1]
        fate, probe, reason = Fate.KILLED, found.probe, found.message
    elif difference := original.difference(mutant.operator):
        fate, probe, reason = Fate.SURVIVED, "", f"differs in {difference}"
    else:
        fate, probe = Fate.EQUIVALENT, ""
        reason = f"nothing differs on {len(original.views)} inputs with finite results"
    return Outcome(name, mutant.hook, mutant.mutation, fate, probe, reason)


def main(names: Sequence[str], options: argparse.Namespace) -> int:
    """Run the self-test of operators.

    Parameters
    ----------
    names : sequence of str
        The operators.
    options : argparse.Namespace
        The command's options: ``seed``, ``jobs``, ``probe`` and ``skip_probe``.

    Returns
    -------
    int
        0 if every mutant that is wrong was found out, and no operator as it is; else 1. 2 if an
        operator could not be loaded.
    """
    asked = {"seed": options.seed, "only": options.probe, "skip": options.skip_probe}
    outcomes: list[Outcome] = []
    try:
        examined = _examine_all(partial(_examine_named, options=asked), names, options.jobs)
        for some in tracked(examined, len(names), "Mutating operators"):
            outcomes.extend(some)
    except RegistryError as error:
        sys.stderr.write(f"opgrad.check: {error}\n")
        return 2
    return _report(outcomes)


def _examine_all(
    examine_named: Callable[[str], list[Outcome]], names: Sequence[str], jobs: int
) -> Iterator[list[Outcome]]:
    if jobs <= 1:
        yield from map(examine_named, names)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(examine_named, names)


def _examine_named(name: str, options: Mapping[str, Any]) -> list[Outcome]:
    return list(examine(registry.load(name), **options))


# ------------------------------------------------------------------------------- the report


def _report(outcomes: Sequence[Outcome]) -> int:
    """Print what became of the mutants, and return the exit code."""
    made = [each for each in outcomes if each.mutation]
    wrong = [each for each in made if each.fate is not Fate.EQUIVALENT]
    killed = [each for each in made if each.fate is Fate.KILLED]
    survived = [each for each in made if each.fate is Fate.SURVIVED]
    accused = [each for each in outcomes if not each.mutation and each.fate is Fate.KILLED]
    _print_mutations(made)
    _print_probes(killed, len(wrong))
    say(f"equivalent: {line}" for line in _equivalents(made))
    say(f"survived: {each}" for each in survived)
    say(f"not mutated, and yet failed by {each.probe}: {each}" for each in accused)
    share = len(killed) / len(wrong) if wrong else 1.0
    summary = (
        f"{len(made)} mutants of {len(outcomes) - len(made)} operators: {len(killed)} of "
        f"{len(wrong)} that are wrong were found out ({share:.2%}), {len(made) - len(wrong)} are "
        "equivalent to the original"
    )
    say([summary])
    return 1 if survived or accused else 0


def _print_mutations(made: Sequence[Outcome]) -> None:
    counts = Counter((_kind(each), each.fate) for each in made)
    kinds = dict.fromkeys(map(_kind, made))
    heads = ("hook", "mutation", "mutants", *Fate)
    rows = [(kind, [counts[kind, fate] for fate in Fate]) for kind in kinds]
    print_table(heads, [(*kind, *map(str, (sum(fates), *fates))) for kind, fates in rows])


def _kind(outcome: Outcome) -> tuple[str, str]:
    (hook,) = re.findall("^[a-z]+", outcome.hook)
    return hook, outcome.mutation


def _print_probes(killed: Sequence[Outcome], wrong: int) -> None:
    counts = Counter(each.probe for each in killed)
    names = dict.fromkeys((*chosen_probes(), *counts))
    print_table(("first found by", "mutants", "share"), [
        (name, str(counts[name]), f"{counts[name] / max(wrong, 1):.1%}") for name in names
    ])  # fmt: skip


def _equivalents(made: Sequence[Outcome]) -> Iterator[str]:
    """Give a line for each mutation: on which hooks it changes nothing, and what shows that."""
    kinds: dict[tuple[str, str], list[Outcome]] = {}
    for each in made:
        if each.fate is Fate.EQUIVALENT:
            kinds.setdefault((each.mutation, each.reason), []).append(each)
    for (mutation, reason), them in sorted(kinds.items()):
        yield f"{mutation}: {reason}: {', '.join(f'{x.operator}.{x.hook}' for x in them)}"
