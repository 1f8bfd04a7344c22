"""Whether the backward is right for other shapes, and for axes that are written in another way.

A variant that the forward refuses, or where it is not finite, makes no claim that could be wrong.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import hookimpl
from opgrad.check.asking import accepted, asks, asks_gradients, differing, gradient_rounding
from opgrad.check.comparing import compare_directions
from opgrad.check.findings import Finding, failed, passed, skipped
from opgrad.check.numeric import directions
from opgrad.check.trial import Trial, cotangent, is_inexact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from opgrad.check.discovery import Probe

    Array = NDArray[Any]


# -------------------------------------------------------------------------------- broadcasting


@asks_gradients
def broadcasting(trial: Trial) -> Iterator[Finding]:
    """Find that the backward is wrong where an input is broadcast."""
    if sum(map(is_inexact, trial.inputs)) < 2:
        yield skipped("there is nothing to broadcast with")
        return
    for other in accepted(broadcast(trial)):
        yield from compare_directions(other)


def broadcast(trial: Trial) -> Iterator[Trial]:
    """Give one input at a time a new leading axis, an axis of size 1, or no axes."""
    for i, each in enumerate(trial.inputs):
        if not is_inexact(each):
            continue
        changed = {"a new first axis": np.stack([each, 1.25 * each])}
        if each.size and each.ndim:
            changed["no axes"] = each.reshape(-1)[0]
            changed["last axis of size 1"] = each[..., :1]
        if each.size and each.ndim > 1:
            changed["first axis of size 1"] = each[:1]
        if each.size and each.ndim > 2:
            changed["second axis of size 1"] = each[:, :1]
        for what, value in changed.items():
            if value.shape != each.shape:
                yield trial.with_input(i, value, f"{trial.name(i)} with {what}")


# --------------------------------------------------------------------------------------- sizes


@asks_gradients
def sizes(trial: Trial) -> Iterator[Finding]:
    """Find that the backward is wrong, or fails, for axes of size 0 or 1 or for no axes at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy says of the mean of nothing that it is nan
        found = [each for other in accepted(resized(trial)) for each in _of_size(other)]
    yield from found


def resized(trial: Trial) -> Iterator[Trial]:
    """Cut axes of one size, which belong together, to 0 or 1; or all to one size, or all away.

    The forward may refuse them.
    """
    arrays = [each for each in trial.inputs if isinstance(each, np.ndarray)]
    several = sorted({n for each in arrays for n in each.shape if n > 1})
    for size in several:
        for less in (0, 1):
            variant = f"axes of size {size} cut to {less}"
            yield trial.with_inputs([_cut(each, size, less) for each in trial.inputs], variant)
    if sum(map(is_inexact, trial.inputs)) < 2:  # else they are broadcast, which shows as much
        yield trial.with_inputs([*map(_stacked, trial.inputs)], "a new first axis")
    shorter = (trial.with_inputs([*map(f, trial.inputs)], what) for what, f in _SHORTER.items())
    yield from islice(accepted(shorter), 1)
    if len(several) > 1:
        square = [_cut_to(several[0], each) for each in trial.inputs]
        yield trial.with_inputs(square, f"all axes cut to {several[0]}")
    if any(each.ndim for each in arrays) and all(each.size for each in arrays):
        scalars = [np.reshape(x, -1)[0] if x is not None else x for x in trial.inputs]
        yield trial.with_inputs(scalars, "no axes")


def _stacked(value: Any) -> Any:
    """Return an array beside another, of the same numbers, along a new first axis."""
    return np.stack([value, np.flip(value)]) if isinstance(value, np.ndarray) else value


def _one_less(value: Any) -> Any:
    return value[tuple(slice(n - 1) for n in value.shape)].copy() if _is_long(value) else value


def _one_less_along_last(value: Any) -> Any:
    return value[..., :-1].copy() if _is_long(value) else value


def _is_long(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim > 0 and min(value.shape) > 1


#: A square is one no more, and what was even is odd, if the forward takes it so.
_SHORTER = {"last axes one shorter": _one_less_along_last, "all axes one shorter": _one_less}


def _cut_to(most: int, value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return value[tuple(slice(most) for _ in value.shape)].copy()


def _cut(value: Any, size: int, less: int) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return value[tuple(slice(less if n == size else n) for n in value.shape)].copy()


def _of_size(trial: Trial) -> Iterator[Finding]:
    outputs = trial.forward()
    moves = any(each.size for each in outputs)
    seeds = [cotangent(each)[()] for each in outputs]  # as NumPy computes: without axes, no array
    for i, gradient in zip(trial.chosen, trial.gradients(seeds), strict=True):
        shape = trial.inputs[i].shape
        if gradient.shape != shape:
            message = f"the gradient's shape is {gradient.shape}, the input's {shape}"
            yield failed(message, trial.name(i), trial.variant)
        elif not moves and gradient.any():
            message = "the gradient is not zero, although the result has no elements"
            yield failed(message, trial.name(i), trial.variant)
        elif not moves or not gradient.size:
            yield passed(trial.name(i), trial.variant)
    if moves and any(trial.inputs[i].size for i in trial.chosen):
        yield from compare_directions(trial)


# ---------------------------------------------------------------------------------------- axes


@asks
def axes(trial: Trial) -> Iterator[Finding]:
    """Find that the same axes, written in another way or kept, give another gradient."""
    others = list(_rewritten(trial)) if trial.chosen else []
    if not others:
        yield skipped("it has no parameter axis, axes or keepdims")
        return
    # Where no two elements are the same, an equal result comes from equal axes.
    rng = np.random.default_rng(0)
    inputs = [x + next(directions(rng, x, 1)) / 64 if is_inexact(x) else x for x in trial.inputs]
    plain = trial.with_inputs(inputs, "")
    outputs = plain.forward()
    seeds = [cotangent(each) for each in outputs]
    expected, limits = plain.gradients(seeds), partial(gradient_rounding, plain, seeds)
    for parameters, variant in others:
        for other in accepted([replace(plain, parameters=parameters, variant=variant)]):
            found = other.forward()
            if all(map(_same_in_order, found, outputs)):
                reshaped = [np.reshape(s, o.shape) for s, o in zip(seeds, found, strict=True)]
                what = "beside the same axes in another way"
                yield from differing(other, other.gradients(reshaped), expected, what, limits)


def _rewritten(trial: Trial) -> Iterator[tuple[dict[str, Any], str]]:
    parameters = dict(trial.parameters)
    known = trial.operator.contract.parameters
    for name in ("axis", "axes"):
        if name in known:
            for value in _other_axes(trial, parameters.get(name)):
                yield {**parameters, name: value}, f"{name}={value}"
    if "keepdims" in known:
        kept = not parameters.get("keepdims", False)
        yield {**parameters, "keepdims": kept}, f"keepdims={kept}"


def _other_axes(trial: Trial, axis: Any) -> Iterator[Any]:
    """Write axes, counted from the first or from the last, in all other ways."""
    ndims = {np.ndim(each) for each in (*trial.inputs, *trial.forward()) if each is not None}
    if axis is None:
        yield from (tuple(range(ndim)) for ndim in sorted(ndims) if ndim)
        return
    many = axis if isinstance(axis, tuple) else (axis,)
    if not all(isinstance(each, int) for each in many):
        return
    for ndim in sorted(ndims):
        turned = tuple(each - ndim if each >= 0 else each + ndim for each in many)
        yield turned if isinstance(axis, tuple) else turned[0]
    yield many[::-1] if len(many) > 1 else many if axis != many else many[0]


def _same_in_order(a: Array, b: Array) -> bool:
    squeezed = [[n for n in each.shape if n != 1] for each in (a, b)]
    return squeezed[0] == squeezed[1] and np.array_equal(a.reshape(-1), b.reshape(-1))


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [broadcasting, sizes, axes]
