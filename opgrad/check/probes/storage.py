"""Whether the result does not depend on how the numbers are stored: layout, sharing, and dtype.

A variant that the forward refuses makes no claim that could be wrong.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import hookimpl
from opgrad.check.asking import (
    accepted,
    asks_gradients,
    difference,
    differing,
    gradient_rounding,
    moved,
    rounding,
    same_bits,
)
from opgrad.check.comparing import compare_directions
from opgrad.check.findings import Finding, failed, passed, skipped
from opgrad.check.trial import Trial, cotangent, is_inexact, vjp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from opgrad.check.discovery import Probe

    Array = NDArray[Any]


# ------------------------------------------------------------------------------------- layouts


@asks_gradients
def layouts(trial: Trial) -> Iterator[Finding]:
    """Find that the result depends on how an input, or grad, lies in memory."""
    yield from _laid_out(trial, _SAME_VALUES)
    constant = trial.with_inputs([*map(_constant_along_first, trial.inputs)], "")
    for other in accepted([constant]):
        yield from _laid_out(other, {"zero strides": _zero_strides})


def _laid_out(plain: Trial, ways: dict[str, Callable[[Array], Array]]) -> Iterator[Finding]:
    """Lay out each input, and each seed, by itself; everything else stays in C order."""
    outputs = plain.forward()
    seeds = [cotangent(each) for each in outputs]
    if "zero strides" in ways:
        seeds = [*map(_constant_along_first, seeds)]
    expected, limits = plain.gradients(seeds), cache(partial(gradient_rounding, plain, seeds))
    what = "beside C order"
    for way, laid_out in ways.items():
        for i, each in enumerate(plain.inputs):
            if isinstance(each, np.ndarray) and each.ndim:
                trial = plain.with_input(i, laid_out(each), f"{plain.name(i)} in {way}")
                yield from _other_outputs(trial, plain, outputs, what)
                yield from differing(trial, trial.gradients(seeds), expected, what, limits)
        trial = replace(plain, variant=f"grad in {way}")
        changed = [laid_out(each) if each.ndim else each for each in seeds]
        yield from differing(trial, trial.gradients(changed), expected, what, limits)


def _other_outputs(
    trial: Trial, plain: Trial, expected: Sequence[Array], what: str
) -> Iterator[Finding]:
    """Compare what the forward gives; it may sum in another order."""
    found = trial.forward()
    if all(map(same_bits, found, expected)):
        return
    limits = rounding(plain.forward, plain.inputs)
    for one, other, limit in zip(found, expected, limits, strict=True):
        if said := difference(one, other, limit):
            yield failed(f"the forward's result, {what}: {said}", variant=trial.variant)


def _swapped(x: Array) -> Array:
    return x.swapaxes(0, -1).copy().swapaxes(0, -1)


def _backwards(x: Array) -> Array:
    return np.flip(np.flip(x).copy())


def spread(x: Array) -> Array:
    """Return the same numbers in every second place of memory."""
    twice = np.full((*x.shape, 2), 7, x.dtype)
    twice[..., 0] = x
    return twice[..., 0]


def _constant_along_first(value: Any) -> Any:
    if not isinstance(value, np.ndarray) or not value.size or not value.ndim:
        return value
    return np.broadcast_to(value[:1], value.shape).copy()


def _zero_strides(x: Array) -> Array:
    return np.broadcast_to(x[:1], x.shape) if x.size else x


_SAME_VALUES: dict[str, Callable[[Array], Array]] = {
    "Fortran order": np.asfortranarray,
    "order of a transposed array": _swapped,
    "negative strides": _backwards,
    "every second place": spread,
}


# ------------------------------------------------------------------------------------- sharing


@asks_gradients
def repeated(trial: Trial) -> Iterator[Finding]:
    """Find that ``f(x, x)`` does not have the gradients of ``f(x, y)`` at y = x, added up."""
    if len(trial.chosen) < 2:
        yield skipped("it has not two inputs with gradients")
        return
    for i, j in permutations(trial.chosen, 2):
        # Inputs of one shape are all the same in the other order.
        if i < j or trial.inputs[i].shape != trial.inputs[j].shape:
            variant = f"{trial.name(j)} is {trial.name(i)}"
            equal = trial.with_input(j, trial.inputs[i].copy(), variant)
            for apart in accepted([equal]):
                yield from list(_compare_repeated(apart, i, j)) or [passed("", variant)]


def _compare_repeated(apart: Trial, i: int, j: int) -> Iterator[Finding]:
    """Compare the gradients of all inputs, where j is the same array as i, or an equal one."""
    seeds = [cotangent(each) for each in apart.forward()]
    others = [k for k in apart.chosen if k != j]

    def added(gradients: Sequence[Array]) -> list[Array]:
        each = dict(zip(apart.chosen, gradients, strict=True))
        return [each[k] + each[j] if k == i else each[k] for k in others]

    tensors, _ = apart.recorded()
    tensors[j] = tensors[i]
    found = vjp(apart.call(tensors), [tensors[k] for k in others], seeds)
    yield from differing(
        apart,
        found,
        added(apart.gradients(seeds)),
        "beside the gradients for two equal inputs, added up",
        lambda: added(gradient_rounding(apart, seeds)),
        others,
    )


# -------------------------------------------------------------------------------------- dtypes

#: How many roundings of float64 one of float32 is.
COARSER = float(np.finfo(np.float32).eps / np.finfo(np.float64).eps)


@asks_gradients
def mixed_complex(trial: Trial) -> Iterator[Finding]:
    """Find that the gradient is wrong, or not real, for a real input beside complex ones."""
    complexes = [i for i in trial.chosen if trial.inputs[i].dtype.kind == "c"]
    if not complexes:
        yield skipped("no input is complex")
        return
    changed = (
        trial.with_input(i, trial.inputs[i].real.copy(), f"{trial.name(i)} real") for i in complexes
    )
    for other in accepted(changed):
        yield from _other_dtypes(other, other.gradients([*map(cotangent, other.forward())]))
        yield from compare_directions(other)


def _other_dtypes(trial: Trial, gradients: Sequence[Array]) -> Iterator[Finding]:
    for i, gradient in zip(trial.chosen, gradients, strict=True):
        if gradient.dtype != trial.inputs[i].dtype:
            message = f"the gradient's dtype is {gradient.dtype}, the input's "
            yield failed(message + str(trial.inputs[i].dtype), trial.name(i), trial.variant)


@asks_gradients
def single_precision(trial: Trial) -> Iterator[Finding]:
    """Find that float32 gradients have another dtype, or are off by more than rounding."""
    narrow = narrowed(trial)
    wide = narrow.with_inputs([*map(_widened, narrow.inputs)], "float64")
    wide = replace(wide, parameters=trial.parameters)
    outputs = narrow.forward()
    for each, exact in zip(outputs, wide.forward(), strict=True):
        if is_inexact(each) and each.dtype == exact.dtype:
            message = f"the output's dtype is {each.dtype}, of inputs in float32"
            yield failed(message, variant=narrow.variant)
    seeds = [cotangent(each) for each in outputs]
    given = narrow.gradients(seeds)
    yield from _other_dtypes(narrow, given)

    doubled = [*map(_widened, seeds)]
    expected, limits = wide.gradients(doubled), gradient_rounding(wide, doubled, COARSER)
    what = "in float32, beside float64"
    found = list(differing(narrow, given, expected, what, lambda: limits))
    if found:
        # Rounding inside a formula scatters from input to input; an error in it does not.
        more = [a + b for a, b in zip(limits, _scatter(narrow, wide, seeds), strict=True)]
        found = list(differing(narrow, given, expected, what, lambda: more))
    yield from found or [passed(variant=narrow.variant)]


def _scatter(narrow: Trial, wide: Trial, seeds: Sequence[Array]) -> list[Array]:
    """Return by how much the error of float32 gradients varies between neighbouring inputs."""
    rng = np.random.default_rng(0)
    doubled = [*map(_widened, seeds)]
    errors: list[list[Array]] = []
    for _ in range(6):
        near = [moved(each, rng, 8) for each in narrow.inputs]
        found = narrow.with_inputs(near, "").gradients(seeds)
        exact = wide.with_inputs([*map(_widened, near)], "").gradients(doubled)
        errors.append([a - b for a, b in zip(found, exact, strict=True)])
    each_input = [np.array(each) for each in zip(*errors, strict=True)]
    return [4 * np.max(np.abs(each - each.mean(axis=0)), axis=0) for each in each_input]


_NARROWER = {np.dtype(float): np.float32, np.dtype(complex): np.complex64}


def narrowed(trial: Trial) -> Trial:
    """Return the same in float32, and asking for it where it asks for float64."""
    inputs = [
        each.astype(_NARROWER.get(each.dtype, each.dtype)) if is_inexact(each) else each
        for each in trial.inputs
    ]
    parameters = dict(trial.parameters)
    if parameters.get("dtype") is not None:
        asked = np.dtype(parameters["dtype"])
        parameters["dtype"] = _NARROWER.get(asked, asked)
    return replace(trial.with_inputs(inputs, "float32"), parameters=parameters)


def _widened(value: Any) -> Any:
    return value.astype(np.result_type(value, np.float64)) if is_inexact(value) else value


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [layouts, repeated, mixed_complex, single_precision]
