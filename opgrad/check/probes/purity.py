"""Whether an operator does nothing beside computing, and always computes the same."""

from __future__ import annotations

import copy
import gc
import sys
import warnings
from dataclasses import replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import autograd, hookimpl, no_grad
from opgrad.check.asking import (
    accepted,
    asks,
    asks_gradients,
    difference,
    differing,
    has_gradient,
    node_of,
    recorded_node,
    rounding,
    run_hooks,
    same_bits,
    seeds_for,
    tangents_for,
)
from opgrad.check.findings import Finding, failed, skipped
from opgrad.check.probes.shapes import resized
from opgrad.check.trial import is_inexact
from opgrad.forward import push_through
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from opgrad.check.discovery import Probe
    from opgrad.check.trial import Trial
    from opgrad.graph import Node

    Array = NDArray[Any]

#: How many calls have to keep a block of memory each before they count as keeping any.
CALLS = 6


# ----------------------------------------------------------------------- always the same


@asks
def repeatable_forward(trial: Trial) -> Iterator[Finding]:
    """Find that the forward gives other bits another time, or with grad switched on or off."""
    first = trial.forward()
    yield from _other_bits("a second time", trial.forward(), first)
    if trial.chosen:
        yield from _other_bits("with grad on", _data(trial.recorded()[1]), first)
        with no_grad():
            yield from _other_bits("in no_grad", _data(trial.recorded()[1]), first)


def _data(outputs: Sequence[Tensor]) -> list[Array]:
    return [each.detach().data for each in outputs]


def _other_bits(when: str, found: Sequence[Array], first: Sequence[Array]) -> Iterator[Finding]:
    if len(found) != len(first):
        yield failed(f"{when} there are {len(found)} outputs, not {len(first)}")
        return
    for k, (one, other) in enumerate(zip(found, first, strict=True)):
        if not same_bits(one, other):
            said = difference(one, other) or f"its bits differ, or its dtype ({one.dtype})"
            yield failed(f"{when}, output {k}: {said}")


@asks
def matches_reference(trial: Trial) -> Iterator[Finding]:
    """Find that the forward is not what the operator declares as its reference."""
    reference = trial.operator.reference
    if reference is None:
        yield skipped("the operator gives no reference")
        return
    outputs = trial.forward()
    given = reference(*map(copy.copy, trial.inputs), **trial.parameters)
    expected = given if isinstance(given, tuple) else (given,)
    if len(expected) != len(outputs):
        yield failed(f"it has {len(outputs)} outputs, the reference {len(expected)}")
        return
    limits = rounding(trial.forward, trial.inputs)
    for k, (one, other, limit) in enumerate(zip(outputs, expected, limits, strict=True)):
        said = difference(one, other, limit)
        if said:
            yield failed(f"output {k}, beside the reference: {said}")


@asks_gradients
def repeatable_backward(trial: Trial) -> Iterator[Finding]:
    """Find that a second backward, or a second jvp, gives other bits."""
    node, outputs = recorded_node(trial)
    seeds = seeds_for(outputs)
    first, again = trial.gradients(seeds), trial.gradients(seeds)
    yield from differing(trial, again, first, "the second time")
    if any(trial.operator.contract.jvps):
        changes, others = (push_through(node, tangents_for(trial, node)) for _ in range(2))
        if not all(map(same_bits, changes, others)):
            yield failed("the jvp gives other bits the second time")


# ----------------------------------------------------------------------- nothing is written to


@asks
def nothing_mutated(trial: Trial) -> Iterator[Finding]:
    """Find that forward or backward writes to what it was given."""
    trial = _with_arrays(trial, np.copy)
    given = _given(trial)
    yield from _changes("forward", given, trial.forward)
    if has_gradient(trial):
        node, outputs = recorded_node(trial)
        seeds = seeds_for(outputs)
        given |= {f"the saved {name}": each for name, each in _named_saved(node)}
        given |= {f"the incoming gradient {k}": each for k, each in enumerate(seeds)}
        yield from _changes("backward", given, lambda: run_hooks(node, seeds))
        tensors = [*map(Tensor, seeds)]
        yield from _changes("recorded backward", given, lambda: run_hooks(node, tensors))
        if any(trial.operator.contract.jvps):
            tangents = tangents_for(trial, node)
            given |= {f"the tangent {i}": tangent for i, tangent in enumerate(tangents)}
            yield from _changes("jvp", given, lambda: push_through(node, tangents))


@asks
def read_only_arrays(trial: Trial) -> Iterator[Finding]:
    """Find that forward or backward writes to arrays, if only what had been there before."""
    trial = _with_arrays(trial, _frozen)
    try:
        trial.forward()
        if has_gradient(trial):
            node, outputs = recorded_node(trial)
            for each in _arrays(node.arrays()):
                each.flags.writeable = False
            seeds = [*map(_frozen, seeds_for(outputs))]
            run_hooks(node, seeds)
            run_hooks(node, [*map(Tensor, seeds)])
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        yield failed(f"it writes to an array that it was given: {error}")


def _frozen(array: Array) -> Array:
    frozen = array.copy()
    frozen.flags.writeable = False
    return frozen


def _changes(who: str, given: Mapping[str, Any], run: Callable[[], Any]) -> Iterator[Finding]:
    before = {what: _fingerprint(value) for what, value in given.items()}
    run()
    for what, value in given.items():
        if _fingerprint(value) != before[what]:
            yield failed(f"{who} writes to {what}; work on a copy")


def _fingerprint(value: Any) -> str:
    return repr(_mapped(lambda array: (array.dtype, array.shape, array.tobytes()), value))


# ----------------------------------------------------------------------- nothing is shared


@asks_gradients
def unaliased_gradients(trial: Trial) -> Iterator[Finding]:
    """Find that the gradient of a leaf shares memory with anything else."""
    tensors, outputs = trial.recorded()
    pairs = [(o, Tensor(seed)) for o, seed in zip(outputs, seeds_for(outputs), strict=True)]
    ends, seeds = zip(*((o, seed) for o, seed in pairs if o.requires_grad), strict=True)
    autograd.backward(ends, seeds, retain_graph=True)
    gradients = {
        f"the gradient of {trial.name(i)}": grad.data
        for i in trial.chosen
        if (grad := tensors[i].grad) is not None
    }
    node = node_of(ends)
    others = _given(trial) | {f"the saved {name}": each for name, each in _named_saved(node)}
    others |= {f"the incoming gradient {k}": seed.data for k, seed in enumerate(seeds)}
    others |= {f"output {k}": each for k, each in enumerate(_data(outputs))}
    yield from _sharing(combinations(gradients.items(), 2))
    yield from _sharing(product(gradients.items(), others.items()))


@asks
def unaliased_outputs(trial: Trial) -> Iterator[Finding]:
    """Find that an output shares memory with what it may not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy says of the mean of nothing that it is nan
        found = [
            replace(each, variant=other.variant)
            for other in (trial, *accepted(_short_cuts(trial)))
            for each in _shared_outputs(other)
        ]
    yield from found


def _short_cuts(trial: Trial) -> Iterator[Trial]:
    """Give what a forward might return as it is: where there is little to do, or nothing."""
    for each in (trial, *resized(trial)):
        what = f"{each.variant}, " if each.variant else ""
        for number in (1, 0):
            same = [np.full_like(x, number) if is_inexact(x) else x for x in each.inputs]
            yield each.with_inputs(same, f"{what}all inputs {number}")
    for i in trial.chosen:
        large = np.full_like(trial.inputs[i], 1000)
        yield trial.with_input(i, large, f"{trial.name(i)} 1000")


def _shared_outputs(trial: Trial) -> Iterator[Finding]:
    earlier, now = (
        {f"output {k}{when}": each for k, each in enumerate(trial.forward())}
        for when in (" of an earlier call", "")
    )
    yield from _sharing(combinations(now.items(), 2))
    if trial.operator.view:
        yield from _stale_views(_with_arrays(trial, np.copy))
    else:
        remedy = "; return fresh memory, or declare `view = True`"
        yield from _sharing(product(now.items(), _given(trial).items()), remedy)
        yield from _sharing(product(now.items(), earlier.items()))


def _stale_views(trial: Trial) -> Iterator[Finding]:
    """Write to the inputs: what shares their memory has to be what the forward then gives."""
    outputs = trial.forward()
    for i, x in enumerate(trial.inputs):
        views = [k for k, out in enumerate(outputs) if is_inexact(x) and np.shares_memory(out, x)]
        if views:
            x += np.arange(1, x.size + 1).reshape(x.shape)
            now = trial.forward()
            for k in views:
                if not same_bits(outputs[k], now[k]):
                    what = f"output {k} shares memory with input {trial.name(i)}"
                    yield failed(f"{what}, and is no view of it; return fresh memory")


def _sharing(
    pairs: Iterable[tuple[tuple[str, Any], tuple[str, Any]]], remedy: str = ""
) -> Iterator[Finding]:
    for (one, a), (other, b) in pairs:
        if any(np.shares_memory(x, y) for x, y in product(_arrays(a), _arrays(b))):
            yield failed(f"{one} shares memory with {other}{remedy}")


# ----------------------------------------------------------------------- nothing is kept


@asks
def memory_kept(trial: Trial) -> Iterator[Finding]:
    """Find that each call keeps memory that is never given back."""
    seeds = seeds_for(trial.recorded()[1]) if has_gradient(trial) else []

    def run() -> None:
        # With new seeds each time, since a backward might keep them as well.
        if seeds:
            trial.gradients([seed.copy() for seed in seeds])
        else:
            trial.forward()

    run()  # what is kept once may be kept
    # Other threads, and Python's own caches, keep some blocks as well; but not as many for each
    # of more and more calls.
    kept = 0
    for calls in (CALLS, 10 * CALLS, 100 * CALLS):
        kept = _growth(run, calls) // calls
        if kept <= 0:  # Python or a library may give some back meanwhile
            return
    yield failed(f"each call keeps {kept} blocks of memory or more")


def _growth(run: Callable[[], Any], calls: int) -> int:
    """Return how many more blocks are allocated after so many calls."""
    gc.freeze()  # so that to collect takes no time
    try:
        gc.collect()  # which also empties Python's lists of blocks to use again
        before = sys.getallocatedblocks()
        for _ in range(calls):
            run()
        gc.collect()
        return sys.getallocatedblocks() - before
    finally:
        gc.unfreeze()


# ----------------------------------------------------------------------- arrays, wherever


def _given(trial: Trial) -> dict[str, Any]:
    """Return what an operator is given, and what each is called."""
    inputs = {f"input {trial.name(i)}": each for i, each in enumerate(trial.inputs)}
    return inputs | {f"parameter {name}": each for name, each in trial.parameters.items()}


def _named_saved(node: Node) -> Iterator[tuple[str, Any]]:
    return zip(node.names, node.arrays(), strict=True)


def _with_arrays(trial: Trial, function: Callable[[Array], Array]) -> Trial:
    """Return the same with other arrays in its inputs and parameters."""
    inputs, parameters = _mapped(function, (trial.inputs, dict(trial.parameters)))
    return replace(trial, inputs=inputs, parameters=parameters)


def _mapped(function: Callable[[Array], Any], value: Any) -> Any:
    """Apply a function to the arrays in tuples, lists and dicts; leave the rest as it is."""
    if isinstance(value, np.ndarray):
        return function(value)
    if type(value) in (tuple, list):
        return type(value)(_mapped(function, each) for each in value)
    if type(value) is dict:
        return {key: _mapped(function, each) for key, each in value.items()}
    return value


def _arrays(value: Any) -> list[Array]:
    found: list[Array] = []
    _mapped(found.append, value)
    return found


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [
        repeatable_forward,
        matches_reference,
        repeatable_backward,
        nothing_mutated,
        read_only_arrays,
        unaliased_gradients,
        unaliased_outputs,
        memory_kept,
    ]
