"""Whether the backward is right for constants that no case has: parameters, indices, numbers.

What the forward refuses, in whatever way, makes no claim that could be wrong.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from inspect import Parameter
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import hookimpl
from opgrad.check.asking import (
    accepted,
    asks_gradients,
    differing,
    gradient_rounding,
    same_bits,
)
from opgrad.check.comparing import compare_directions
from opgrad.check.findings import Finding, passed, skipped
from opgrad.check.trial import Trial, cotangent, is_inexact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opgrad.check.discovery import Probe


@asks_gradients
def parameters(trial: Trial) -> Iterator[Finding]:
    """Find that the backward is wrong for parameters, indices or masks that no case has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a forward says of a parameter is for its user
        found = [each for other in working(changed(trial)) for each in compare_directions(other)]
    yield from found or [skipped("it has no parameters that can be changed")]


def changed(trial: Trial) -> Iterator[Trial]:
    """Change one parameter, or one input of integers or bools, at a time."""
    given = {**_defaults(trial), **trial.parameters}
    for name, value in given.items():
        for other in (0, 1) if name == "axis" and value is None else others(value):
            variant = f"{name}={other}"
            yield replace(trial, parameters={**trial.parameters, name: other}, variant=variant)
    for i, value in enumerate(trial.inputs):
        if isinstance(value, np.ndarray) and value.dtype.kind in "iub":
            for other in others(value):
                yield trial.with_input(i, other, f"{trial.name(i)}={other.tolist()}")


@asks_gradients
def counts(trial: Trial) -> Iterator[Finding]:
    """Find that the backward is wrong for another number of arrays than the cases have."""
    if not type(trial.operator).variadic or not trial.inputs:
        yield skipped("it takes no sequence of arrays")
        return
    inputs = trial.inputs
    for count in (1, len(inputs) + 1, len(inputs) + 2):
        more = [inputs[i % len(inputs)] for i in range(count)]
        other = replace(trial, operator=trial.operator.spread(count))
        for each in working([other.with_inputs(more, f"{count} arrays")]):
            yield from compare_directions(each)


def _defaults(trial: Trial) -> dict[str, Any]:
    contract = trial.operator.contract
    known = ((name, contract.signature.parameters[name].default) for name in contract.parameters)
    return {name: default for name, default in known if default is not Parameter.empty}


def others(value: Any) -> Iterator[Any]:
    """Yield other constants of the same kind, which may do as well.

    Examples
    --------
    >>> list(others(0)), list(others((2, 1))), list(others(True)), list(others("mean"))
    ([1, -1], [(2, 1), (2, 2), (3, 1), (-3, 1), (2, 2), (2, -2)], [False], [])
    """
    yield from _OTHERS.get(type(value), _none)(value)


def _other_floats(value: float) -> Iterator[float]:
    if np.isfinite(value):
        yield value + 0.25


def _other_tuples(value: Sequence[Any]) -> Iterator[Any]:
    """Put them in another order, make all the same, and replace one of the first two."""
    ordered = sorted(value, key=repr)
    whole: Callable[[Iterable[Any]], Any] = type(value)
    if value and repr(ordered[0]) != repr(ordered[-1]):
        yield whole([*ordered[1:], ordered[0]])
        yield whole([value[0]] * len(value))
    for i, each in enumerate(value[:2]):
        for other in others(each):
            yield whole([*value[:i], other, *value[i + 1 :]])


def _other_arrays(value: Any) -> Iterator[Any]:
    """Count from the other end, as bools turn each; and make all of them the same."""
    if value.dtype.kind in "iub" and value.size:
        yield ~value
        yield np.full_like(value, False if value.dtype.kind == "b" else value.flat[0])


def _none(_value: Any) -> Iterator[Any]:
    yield from ()


_OTHERS: dict[type, Callable[[Any], Iterator[Any]]] = {
    bool: lambda value: iter([not value]),
    int: lambda value: iter([value + 1, ~value]),
    float: _other_floats,
    tuple: _other_tuples,
    list: _other_tuples,
    np.ndarray: _other_arrays,
}


def working(trials: Iterable[Trial]) -> Iterator[Trial]:
    """Leave out what makes the forward raise: nobody said with what it refuses a constant."""
    return accepted(trials, Exception)


@asks_gradients
def numbers(trial: Trial) -> Iterator[Finding]:
    """Find that a gradient is wrong beside an input of integers, or beside a plain number."""
    real = [i for i, x in enumerate(trial.inputs) if is_inexact(x) and x.dtype.kind == "f"]
    if len(real) < 2:
        yield skipped("it has not two inputs of real numbers")
        return
    for i in real:
        whole = np.rint(2 * trial.inputs[i]) + (np.rint(2 * trial.inputs[i]) == 0)
        as_integers = whole.astype(np.int64)
        yield from _beside(trial.with_input(i, whole, ""), i, as_integers, "integers")
        if whole.size:
            number = float(whole.flat[0])
            plain = trial.with_input(i, np.array(number), "")
            yield from _beside(plain, i, number, "a plain number")


def _beside(plain: Trial, i: int, value: Any, what: str) -> Iterator[Finding]:
    """Compare the gradients of the others, where an input has another type, and equal values."""
    variant = f"{plain.name(i)} is {what}"
    other = plain.with_input(i, value, variant)
    rest = [k for k, at in enumerate(plain.chosen) if at in other.chosen]
    if not rest or len(list(working([plain, other]))) < 2:
        return
    outputs = plain.forward()
    if not all(map(same_bits, other.forward(), outputs)):
        return
    seeds = [cotangent(each) for each in outputs]

    def limits() -> list[Any]:
        allowed = gradient_rounding(plain, seeds)
        return [allowed[k] for k in rest]

    gradients = plain.gradients(seeds)
    expected = [gradients[k] for k in rest]
    found = list(differing(other, other.gradients(seeds), expected, "beside an array", limits))
    yield from found or [passed(variant=variant)]


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [parameters, counts, numbers]
