"""Whether the hooks keep their contract, called by themselves and in company."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from opgrad import hookimpl
from opgrad.check.asking import (
    GENEROSITY,
    REFUSALS,
    asks_gradients,
    data_of,
    differing,
    hook_gradients,
    hook_rounding,
    recorded_node,
    rounding,
    run_hooks,
    seeds_for,
    spacing,
)
from opgrad.check.findings import Finding, failed, skipped
from opgrad.check.trial import Trial, cotangent, is_inexact, vjp
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from opgrad.check.discovery import Probe

    Array = NDArray[Any]

T = TypeVar("T")
R = TypeVar("R")

#: The outputs of a recorded call, and the inputs that need a gradient.
Call: TypeAlias = "tuple[Sequence[Tensor], Sequence[Tensor]]"


# ----------------------------------------------------------------------- by themselves


@asks_gradients
def hook_contract(trial: Trial) -> Iterator[Finding]:
    """Find that a hook gives what the engine cannot sum and cast to the input's shape and dtype."""
    node, outputs = recorded_node(trial)
    gradients = run_hooks(node, seeds_for(outputs))
    arrays = [*trial.inputs, *(each.detach().data for each in outputs)]
    dtypes = [each.dtype for each in arrays if is_inexact(each)]
    for i in trial.chosen:
        said = _breach(data_of(gradients[i]), trial.inputs[i].shape, dtypes)
        if said:
            yield failed(f"{_hook(trial, i)} returned {said}", trial.name(i))


def _breach(gradient: Any, shape: tuple[int, ...], dtypes: Sequence[np.dtype[Any]]) -> str:
    """Say what is wrong with a gradient, given the dtypes that it was computed from."""
    if not isinstance(gradient, np.ndarray | np.generic):
        return f"a {type(gradient).__name__}; expected an array"
    if not _broadcasts(shape, gradient.shape):
        return f"shape {gradient.shape}, which the input's, {shape}, does not broadcast to"
    if gradient.dtype.kind not in "fc":
        return f"dtype {gradient.dtype}; expected a floating or complex one"
    if gradient.dtype.kind == "c" and all(dtype.kind != "c" for dtype in dtypes):
        return f"dtype {gradient.dtype}, though inputs and outputs are real"
    if np.finfo(gradient.dtype).eps > max(np.finfo(dtype).eps for dtype in dtypes):
        return f"dtype {gradient.dtype}, narrower than all that it was computed from"
    return ""


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    added = len(to) - len(shape)
    return added >= 0 and all(a in (1, b) for a, b in zip(shape, to[added:], strict=True))


def _hook(trial: Trial, index: int) -> str:
    return trial.operator.contract.source_of(index)[0]


@asks_gradients
def linear_in_grad(trial: Trial) -> Iterator[Finding]:
    """Find that the backward is not linear in grad, or makes something of nothing."""
    node, outputs = recorded_node(trial)
    hooks = partial(hook_gradients, trial, node)
    g = seeds_for(outputs)
    h = [np.asarray(0.75 * np.roll(each, 1)) for each in g]
    of_g, of_h = hooks(g), hooks(h)
    finite = [np.isfinite(a) & np.isfinite(b) for a, b in zip(of_g, of_h, strict=True)]

    def scaled(seeds: Sequence[Array]) -> list[Array]:
        return _where(finite, hooks([-64 * each for each in seeds]))

    def mixed(seeds: Sequence[Array], saved: Sequence[Any]) -> list[Array]:
        return _where(finite, hooks(_mixed(seeds[: len(g)], seeds[len(g) :]), saved))

    def limits() -> list[Array]:
        terms = _where(finite, _mixed(map(np.abs, of_g), map(np.abs, of_h)))
        measured = hook_rounding(mixed, node, [*g, *h])
        return [a + GENEROSITY * spacing(b) for a, b in zip(measured, terms, strict=True)]

    # A power of two: equal to the bit, unless it underflows.
    expected = _where(finite, [-64 * each for each in of_g])
    yield from differing(trial, scaled(g), expected, "for -64 * g", partial(rounding, scaled, g))
    found, expected = mixed([*g, *h], node.arrays()), _where(finite, _mixed(of_g, of_h))
    yield from differing(trial, found, expected, "for 1.5 * g + 2.5 * h", limits)
    nothing = [np.zeros_like(each) for each in of_g]
    of_zero = _where(finite, hooks([*map(np.zeros_like, g)]))
    yield from differing(trial, of_zero, nothing, "for a gradient of zero", lambda: nothing)


def _mixed(g: Iterable[Array], h: Iterable[Array]) -> list[Array]:
    return [np.asarray(1.5 * a + 2.5 * b) for a, b in zip(g, h, strict=True)]


def _where(finite: Sequence[Array], gradients: Sequence[Array]) -> list[Array]:
    """Put zeros where a gradient is not finite: there is no claim to test."""
    return [np.where(at, each, 0) for at, each in zip(finite, gradients, strict=True)]


@asks_gradients
def recorded_like_raw(trial: Trial) -> Iterator[Finding]:
    """Find that a recorded backward, of tensors, gives other values than one of arrays."""
    node, outputs = recorded_node(trial)
    seeds = seeds_for(outputs)
    raw = partial(hook_gradients, trial, node)
    limits = partial(hook_rounding, raw, node, seeds)
    recorded = raw([*map(Tensor, seeds)])
    yield from differing(trial, recorded, raw(seeds), "recorded", limits)


@asks_gradients
def input_subsets(trial: Trial) -> Iterator[Finding]:
    """Find that a gradient depends on which others are asked for."""
    if len(trial.chosen) < 2:
        yield skipped("there is one gradient at most")
        return
    node, outputs = recorded_node(trial)
    seeds = seeds_for(outputs)
    together = dict(zip(trial.chosen, hook_gradients(trial, node, seeds), strict=True))
    for subset in _proper_subsets(trial.chosen):
        fewer, _ = recorded_node(trial, subset)
        yield from _unasked(trial, run_hooks(fewer, seeds), subset)
        gradients = partial(hook_gradients, trial, node, indices=subset)
        expected = [together[i] for i in subset]
        what = f"without {', '.join(trial.name(i) for i in trial.chosen if i not in subset)}"
        for found in (gradients(seeds), hook_gradients(trial, fewer, seeds, indices=subset)):
            limits = partial(hook_rounding, gradients, node, seeds)
            yield from differing(trial, found, expected, what, limits, subset)


def _proper_subsets(items: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield those of one item and those that lack one, which of three items are all."""
    for size in sorted({1, len(items) - 1}):
        yield from combinations(items, size)


def _unasked(trial: Trial, gradients: Sequence[Any], subset: Sequence[int]) -> Iterator[Finding]:
    """Find that a hook which asks what is needed gives what is not."""
    hooks = trial.operator.contract.hooks
    for i in trial.chosen:
        asks = "needs" in inspect.signature(hooks[_hook(trial, i)]).parameters
        if asks and i not in subset and gradients[i] is not None:
            message = f"{_hook(trial, i)} gives a gradient though needs[{i}] is False"
            yield failed(f"{message}; expected None", trial.name(i))


@asks_gradients
def missing_output_grads(trial: Trial) -> Iterator[Finding]:
    """Find that an output which nothing depends on does not count as one with gradient zero."""
    outputs = trial.forward()
    flowing = [k for k, each in enumerate(outputs) if is_inexact(each)]
    if len(flowing) < 2:
        yield skipped("there is one output with a gradient at most")
        return

    def one_by_one(seeds: Sequence[Array]) -> list[Array]:
        alone = [trial.gradients(_only(seeds, [k], None)) for k in flowing]
        return [np.asarray(sum(each)) for each in zip(*alone, strict=True)]

    seeds = [cotangent(each) for each in outputs]
    limits = partial(rounding, one_by_one, seeds)
    yield from differing(trial, trial.gradients(seeds), one_by_one(seeds), "all at once", limits)
    for subset in _proper_subsets(flowing):
        missing, zeros = (trial.gradients(_only(seeds, subset, rest)) for rest in (None, 0.0))
        what = f"with the gradient of output {', '.join(map(str, subset))} alone"
        # Equal, if not to the bit: a complex zero becomes -0j where it is conjugated once.
        yield from differing(trial, missing, zeros, what, lambda: [0.0] * len(trial.chosen))


def _only(seeds: Sequence[Array], subset: Sequence[int], rest: float | None) -> list[Any]:
    """Return the seeds of some outputs, and None or a number instead of each of the others."""
    others = [None if rest is None else np.full_like(each, rest) for each in seeds]
    return [seed if k in subset else others[k] for k, seed in enumerate(seeds)]


# ----------------------------------------------------------------------- in company


@asks_gradients
def op_after_op(trial: Trial) -> Iterator[Finding]:
    """Find that the gradients are wrong where the operator is applied to its own output."""
    middle = trial.forward()
    fitting = [i for i in trial.chosen if _alike(trial.inputs[i], middle)]
    if not fitting:
        yield skipped("the output does not fit an input")
        return
    place = fitting[0]
    later = trial.with_inputs(_put(trial.inputs, place, middle[0]), "")
    try:
        seeds = [cotangent(each) for each in later.forward()]
    except REFUSALS:
        yield skipped("the operator does not take its own output")
        return

    def one_by_one(values: Sequence[Any]) -> list[Array]:
        """Go through the two calls by hand, given their inputs and the last one's gradients."""
        first, second, seeds = (values[k * count : (k + 1) * count] for k in range(3))
        after = trial.with_inputs(second, "").gradients(seeds)
        before = trial.with_inputs(first, "").gradients([after[trial.chosen.index(place)]])
        pairs = zip(trial.chosen, before, after, strict=True)
        return [b if i == place else a + b for i, b, a in pairs]

    count, values = len(trial.inputs), [*trial.inputs, *later.inputs, *seeds]
    tensors, outputs = trial.recorded()
    chained = trial.call(_put(tensors, place, outputs[0]))
    found = vjp(chained, [tensors[i] for i in trial.chosen], seeds)
    what = f"applied to its own output as {trial.name(place)}"
    limits = partial(rounding, one_by_one, values)
    yield from differing(trial, found, one_by_one(values), what, limits)


def _alike(given: Array, outputs: Sequence[Array]) -> bool:
    return [(given.shape, given.dtype)] == [(each.shape, each.dtype) for each in outputs]


def _put(inputs: Sequence[Any], place: int, value: Any) -> list[Any]:
    return [*inputs[:place], value, *inputs[place + 1 :]]


@asks_gradients
def diamonds(trial: Trial) -> Iterator[Finding]:
    """Find that the gradients are wrong between other calls, on several ways to the same leaves."""
    tensors, _ = trial.recorded()
    ends = [tensors[i] for i in trial.chosen]
    inputs = [each * 1 if any(each is end for end in ends) else each for each in tensors]
    sums = [u + v for u, v in zip(trial.call(inputs), trial.call(inputs), strict=True)]
    twice = [each + each for each in sums]
    seeds = seeds_for(twice)

    def four_times(seeds: Sequence[Array]) -> list[Array]:
        return [4 * each for each in trial.gradients(seeds)]

    found, expected = vjp(twice, ends, seeds), four_times(seeds)
    what = "four ways to each output"
    yield from differing(trial, found, expected, what, partial(rounding, four_times, seeds))


@asks_gradients
def retained_graph(trial: Trial) -> Iterator[Finding]:
    """Find that a second pass through a retained graph does not give the same bits."""
    tensors, outputs = trial.recorded()
    ends, seeds = [tensors[i] for i in trial.chosen], seeds_for(outputs)
    first, again = (vjp(outputs, ends, seeds, retain_graph=True) for _ in range(2))
    yield from differing(trial, again, first, "in a second pass through the same graph")


@asks_gradients
def four_threads(trial: Trial) -> Iterator[Finding]:
    """Find that calls in other threads, on other values, change the bits of a gradient."""
    trials = [_shrunk(trial, 1 - k / 64) for k in range(4)]
    with ThreadPoolExecutor(len(trials)) as pool:
        # No backward starts before every forward is done: what one leaves behind, another finds.
        calls = _in_threads(pool, _recorded, trials)
        found = _in_threads(pool, _pulled, calls)
    for each, gradients in zip(trials, found, strict=True):
        expected = _pulled(_recorded(each))
        yield from differing(trial, gradients, expected, "beside three other threads")


def _in_threads(pool: Executor, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    # NumPy's error state, which the verifier sets, is part of the context.
    waiting = [pool.submit(copy_context().run, function, item) for item in items]
    return [each.result() for each in waiting]


def _recorded(trial: Trial) -> Call:
    tensors, outputs = trial.recorded()
    return outputs, [tensors[i] for i in trial.chosen]


def _pulled(call: Call) -> list[Array]:
    outputs, ends = call
    return vjp(outputs, ends, seeds_for(outputs))


def _shrunk(trial: Trial, factor: float) -> Trial:
    """Return the same on slightly smaller numbers, if the forward takes them."""
    shrunk = [
        np.asarray(factor * each, each.dtype) if is_inexact(each) else each for each in trial.inputs
    ]
    changed = trial.with_inputs(shrunk, "")
    try:
        changed.forward()
    except REFUSALS:
        return trial
    return changed


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [
        hook_contract,
        linear_in_grad,
        recorded_like_raw,
        input_subsets,
        missing_output_grads,
        op_after_op,
        diamonds,
        retained_graph,
        four_threads,
    ]
