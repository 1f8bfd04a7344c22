"""Whether a jvp is the transpose of the backward, beyond the author's own cases, too.

A variant that the forward refuses, or where gradients are not finite, makes no claim.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import autograd, hookimpl
from opgrad.check.asking import (
    GENEROSITY,
    accepted,
    asks_gradients,
    differing,
    node_of,
    rounding,
    seeds_for,
)
from opgrad.check.findings import Finding, failed, passed, skipped
from opgrad.check.probes.constants import changed
from opgrad.check.probes.shapes import broadcast, resized
from opgrad.check.probes.storage import narrowed, spread
from opgrad.check.trial import Trial, cotangent, is_inexact, vjp
from opgrad.forward import push_through
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from opgrad.check.discovery import Probe

    Array = NDArray[Any]
    Layout = Callable[[Array], Array]


@asks_gradients
def adjoint_identity(trial: Trial) -> Iterator[Finding]:
    """Find that the jvp and the backward are not transposes of each other."""
    if not any(trial.operator.contract.jvps):
        yield skipped("it has no jvp")
        return
    seeds = seeds_for(trial.recorded()[1])
    for i in trial.chosen:
        tangent = cotangent(trial.inputs[i])
        both = partial(_products, trial, i, tangent, seeds)
        forth, back = both(trial.inputs)
        allowed = max(rounding(both, trial.inputs))
        if not abs(forth - back) <= allowed:
            message = (
                f"grad times the jvp of a tangent is {forth:.16g}, the gradient times the tangent "
                f"{back:.16g}, and rounding explains {allowed:.1g}"
            )
            yield failed(message, trial.name(i))


@asks_gradients
def jvp_variants(trial: Trial) -> Iterator[Finding]:
    """Find that the jvp and the backward are not transposes for other shapes, values or dtypes."""
    if not any(trial.operator.contract.jvps):
        yield skipped("it has no jvp")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy says of the mean of nothing that it is nan
        found = [each for other in accepted(_varied(trial)) for each in _compare(other)]
    yield from found
    strided = replace(trial, variant="inputs in every second place")
    yield from _compare(strided, spread)


@asks_gradients
def jvp_derivative(trial: Trial) -> Iterator[Finding]:
    """Find that the derivative of the jvp is not that of the backward."""
    if not any(trial.operator.contract.jvps) or trial.operator.once_differentiable:
        yield skipped("it has no jvp, or it says once_differentiable")
        return
    tangents = [cotangent(x) if i in trial.chosen else None for i, x in enumerate(trial.inputs)]
    seeds = seeds_for(trial.recorded()[1])
    forth, back = (partial(each, trial, tangents, seeds) for each in (_of_jvp, _of_backward))
    limits = partial(rounding, forth, trial.inputs)
    what = "the derivative of the jvp, beside that of the backward"
    yield from differing(trial, forth(trial.inputs), back(trial.inputs), what, limits)


def _of_jvp(
    trial: Trial, tangents: Sequence[Any], seeds: Sequence[Array], inputs: Sequence[Any]
) -> list[Array]:
    """Differentiate grad times the jvp of tangents."""
    tensors, outputs = trial.with_inputs(inputs, "").recorded()
    moved = [None if each is None else Tensor(each) for each in tangents]
    changes = push_through(node_of(outputs), moved, record=True)
    return _derivative(trial, tensors, changes, seeds)


def _of_backward(
    trial: Trial, tangents: Sequence[Any], seeds: Sequence[Array], inputs: Sequence[Any]
) -> list[Array]:
    """Differentiate the gradients of grad times the tangents."""
    tensors, outputs = trial.with_inputs(inputs, "").recorded()
    ends = [tensors[i] for i in trial.chosen]
    flowing = [(o, Tensor(s)) for o, s in zip(outputs, seeds, strict=True) if o.requires_grad]
    gradients = autograd.grad(
        [o for o, _ in flowing], ends, [s for _, s in flowing],
        create_graph=True, materialize_grads=True,
    )  # fmt: skip
    return _derivative(trial, tensors, gradients, [tangents[i] for i in trial.chosen])


def _derivative(
    trial: Trial, tensors: Sequence[Any], ends: Sequence[Any], seeds: Sequence[Array]
) -> list[Array]:
    given = [pair for pair in zip(ends, seeds, strict=True) if isinstance(pair[0], Tensor)]
    inputs = [tensors[i] for i in trial.chosen]
    if not any(each.requires_grad for each, _ in given):
        return [np.zeros_like(each.data) for each in inputs]
    return vjp([each for each, _ in given], inputs, [seed for _, seed in given])


def _varied(trial: Trial) -> Iterator[Trial]:
    yield from resized(trial)
    yield from broadcast(trial)
    yield from changed(trial)
    yield narrowed(trial)
    for what, change in _CHANGES.items():
        inputs = [change(x) if is_inexact(x) else x for x in trial.inputs]
        yield trial.with_inputs(inputs, f"inputs {what}")


_CHANGES: dict[str, Callable[[Array], Array]] = {
    "times 20": lambda x: 20 * x,
    "negated": lambda x: -x,
    "zero": np.zeros_like,
}


def _compare(trial: Trial, lay_out: Layout = np.asarray) -> Iterator[Finding]:
    """Multiply each Jacobian from both sides, beginning with a tangent, and then with grad."""
    outputs = trial.forward()
    if not all(np.isfinite(each).all() for each in outputs):
        return
    seeds = [cotangent(each) for each in outputs]
    for i in trial.chosen:
        both = partial(_sums, trial, i, lay_out(_tangent(trial.inputs[i])), seeds, lay_out)
        forth, back, size = both(trial.inputs)
        if not np.isfinite(back):
            continue
        allowed = GENEROSITY * float(np.finfo(trial.inputs[i].dtype).eps) * size
        if not abs(forth - back) <= allowed:
            allowed += float(max(rounding(both, trial.inputs)))
        if abs(forth - back) <= allowed:
            yield passed(trial.name(i), trial.variant)
        else:
            message = (
                f"grad times the jvp of a tangent is {forth:.10g}, the gradient times the tangent "
                f"{back:.10g}, and rounding explains {allowed:.1g}"
            )
            yield failed(message, trial.name(i), trial.variant)


def _tangent(x: Array) -> Array:
    """Return large numbers, and if there are several, a zero."""
    tangent = np.asarray(20 * cotangent(x), x.dtype)
    tangent.flat[: int(x.size > 1)] = 0
    return tangent


def _products(
    trial: Trial, index: int, tangent: Array, seeds: Sequence[Array], inputs: Sequence[Any]
) -> tuple[float, float]:
    """Multiply a Jacobian from both sides, beginning with the tangent, and then with grad."""
    return _sums(trial, index, tangent, seeds, np.asarray, inputs)[:2]


def _sums(
    trial: Trial,
    index: int,
    tangent: Array,
    seeds: Sequence[Array],
    lay_out: Layout,
    inputs: Sequence[Any],
) -> tuple[float, float, float]:
    """Return the two products, and what all their terms would add up to without their signs."""
    laid_out = [lay_out(x) if is_inexact(x) else x for x in inputs]
    tensors, outputs = trial.with_inputs(laid_out, "").recorded([index])
    node = node_of(outputs)
    changes = push_through(node, [tangent if i == index else None for i in range(len(node.edges))])
    (gradient,) = vjp(outputs, [tensors[index]], seeds)
    forth = np.concatenate([*map(_terms, seeds, changes)])
    back = _terms(gradient, tangent)
    return float(forth.sum()), float(back.sum()), float(np.abs(forth).sum() + np.abs(back).sum())


def _terms(a: Array, b: Array) -> Array:
    return np.asarray(np.real(np.conj(a) * b), float).reshape(-1)


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [adjoint_identity, jvp_variants, jvp_derivative]
