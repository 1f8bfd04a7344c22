"""An override beside its base: the same values, gradients and dtypes, and how much faster."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad.check.asking import difference, gradient_rounding, has_gradient, rounding, seeds_for
from opgrad.check.findings import failed, passed
from opgrad.check.trial import Trial
from opgrad.registry import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from opgrad.check.findings import Finding
    from opgrad.operator import Case, Operator

    Array = NDArray[Any]

#: How often each of the two is timed, in turn; and for how long at least each time, in seconds.
ROUNDS, SECONDS = 7, 0.002


def with_bases(names: Iterable[str]) -> list[str]:
    """Return names of operators, each followed by that of what it overrides, once.

    Examples
    --------
    >>> with_bases(["exp", "exp", "mul"])  # which nothing overrides here
    ['exp', 'mul']
    """
    return list(dict.fromkeys(each for name in names for each in (name, *_base(name))))


def _base(name: str) -> tuple[str, ...]:
    entry = registry.base_entry(name) if "@" not in name else None
    return (f"{name}@{entry.distribution}",) if entry else ()


def same_as_base(base: Operator, override: Operator, case: Case) -> Iterator[Finding]:
    """Find that an override gives other values, gradients or dtypes than its base.

    Parameters
    ----------
    base, override : Operator
        The two.
    case : Case
        One of the base's cases.
    """
    expected, found = (Trial.of(each, case) for each in (base, override))
    faults = list(_outputs(expected, found)) or list(_gradients(expected, found))
    yield from faults or [passed()]


def _outputs(expected: Trial, found: Trial) -> Iterator[Finding]:
    values, others = expected.forward(), found.forward()
    if len(values) != len(others):
        yield failed(f"it gives {len(others)} outputs, its base {len(values)}")
        return
    limits = _limits(rounding(each.forward, each.inputs) for each in (expected, found))
    for k, arrays in enumerate(zip(others, values, limits, strict=True)):
        yield from _compared(f"output {k}", "", *arrays)


def _gradients(expected: Trial, found: Trial) -> Iterator[Finding]:
    if expected.chosen != found.chosen:
        names = [", ".join(map(each.name, each.chosen)) or "none" for each in (found, expected)]
        yield failed("it has gradients for {}, its base for {}".format(*names))
        return
    if not has_gradient(expected) or not has_gradient(found):
        return
    seeds = seeds_for(expected.recorded()[1])
    pair = [each.gradients(seeds) for each in (found, expected)]
    limits = _limits(gradient_rounding(each, seeds) for each in (expected, found))
    for i, *arrays in zip(expected.chosen, *pair, limits, strict=True):
        yield from _compared("the gradient", expected.name(i), *arrays)


def _limits(both: Any) -> list[Array]:
    """Return how far two functions may be apart which may each be wrong by their rounding."""
    return [sum(each) for each in zip(*both, strict=True)]


def _compared(
    what: str, name: str, found: Array, expected: Array, allowed: Array
) -> Iterator[Finding]:
    if found.dtype != expected.dtype:
        yield failed(f"{what} is {found.dtype}, that of its base {expected.dtype}", name)
    elif said := difference(found, expected, allowed):
        yield failed(f"{what}, beside its base: {said}", name)


def speed(base: Operator, override: Operator) -> float:
    """Return how many times as fast an override is as its base, forward and backward together.

    It is the ratio of the least CPU times of both over all the base's cases, taken in turn.
    """
    cases = list(base.contract.hooks["self_check"](np.random.default_rng(0)))
    runs = [[_run(Trial.of(each, case)) for case in cases] for each in (base, override)]
    least = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for k, calls in enumerate(runs):
            least[k] = min(least[k], _timed(calls))
    return least[0] / least[1]


def _run(trial: Trial) -> Callable[[], Any]:
    if not has_gradient(trial):
        return trial.forward
    return partial(trial.gradients, seeds_for(trial.recorded()[1]))


def _timed(calls: Sequence[Callable[[], Any]]) -> float:
    """Return the CPU time of one run of all the calls, from as many runs as fill the time."""
    count, started = 0, time.process_time()
    while (taken := time.process_time() - started) < SECONDS or not count:
        for call in calls:
            call()
        count += 1
    return taken / count
