"""Whether the backward is the derivative of the forward."""

from __future__ import annotations

import warnings
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import autograd, hookimpl
from opgrad.check import numeric
from opgrad.check.comparing import compare_jacobians, compare_samples, compare_slopes
from opgrad.check.elements import Places
from opgrad.check.findings import Finding, failed, passed, skipped
from opgrad.check.numeric import directions
from opgrad.check.probes.constants import changed, working
from opgrad.check.trial import Trial, as_tensor, cotangent, is_inexact
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from opgrad.check.discovery import Probe
    from opgrad.check.trial import Differentiable
    from opgrad.operator import Case, Operator

    Array = NDArray[Any]


def first_order(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the backward is not the derivative of the forward."""
    trial = Trial.of(operator, case)

    def function(inputs: Sequence[Any], _record: bool) -> Sequence[Tensor]:
        return trial.call(inputs)

    names = operator.contract.inputs
    yield from compare_jacobians(function, trial.inputs, trial.chosen, names)


def second_order(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the derivative of the backward, in the inputs or in grad, is wrong."""
    trial = Trial.of(operator, case)
    if reason := _no_further(trial):
        yield skipped(reason)
        return
    seeds = [cotangent(each) for each in trial.forward()]
    count = len(trial.inputs)
    names = [*operator.contract.inputs[:count], *("grad" for _ in seeds)]
    yield from compare_samples(
        gradient_function(trial),
        [*trial.inputs, *seeds],
        [*trial.chosen, *range(count, count + len(seeds))],
        names,
        [f"{trial.name(i)}.grad" for i in trial.chosen],
    )


def second_order_variants(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that second derivatives are wrong for other parameters, or for negated inputs."""
    author = Trial.of(operator, case)
    if reason := _no_further(author):
        yield skipped(reason)
        return
    inputs = [-x if is_inexact(x) else x for x in author.inputs]
    negated = author.with_inputs(inputs, "inputs negated")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a forward says of a parameter is for its user
        trials = islice(working(chain(changed(author), [negated])), 1)
        found = [each for trial in trials for each in _along_directions(trial)]
    yield from found or [skipped("the forward takes no variant")]


def _along_directions(trial: Trial) -> Iterator[Finding]:
    """Compare one slope of the gradients for each input, where the outputs are finite."""
    outputs = trial.forward()
    if all(is_inexact(each) and np.isfinite(each).all() for each in outputs):
        names = [*trial.operator.contract.inputs[: len(trial.inputs)], *("grad" for _ in outputs)]
        inputs = [*trial.inputs, *map(cotangent, outputs)]
        function = gradient_function(trial)
        yield from compare_slopes(function, inputs, trial.chosen, names, trial.variant)


def _no_further(trial: Trial) -> str:
    """Say why there is nothing to differentiate a second time; empty where there is."""
    if not trial.chosen:
        return "no input has a gradient"
    return "it says once_differentiable" if trial.operator.once_differentiable else ""


def gradient_function(trial: Differentiable) -> Any:
    """Return the gradients of a trial as a function of its inputs and of grad."""
    count = len(trial.inputs)

    def gradients(values: Sequence[Any], record: bool) -> Sequence[Tensor]:
        tensors = [as_tensor(each) for each in values]
        ends = [tensors[i].requires_grad_() for i in trial.chosen]
        outputs = trial.call(tensors[:count])
        pairs = [
            (output, seed)
            for output, seed in zip(outputs, tensors[count:], strict=True)
            if output.requires_grad
        ]
        grads = autograd.grad(
            [output for output, _ in pairs],
            ends,
            [seed for _, seed in pairs],
            create_graph=record,
            materialize_grads=True,
        )
        return [each for each in grads if each is not None]

    return gradients


def not_differentiable(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that an operator, or an input, declared to have no derivative has one."""
    trial = Trial.of(operator, case)

    def as_numbers(inputs: Sequence[Any], _record: bool) -> Sequence[Tensor]:
        plain = [each.detach() if isinstance(each, Tensor) else each for each in inputs]
        return [Tensor(each.data.astype(float)) for each in trial.call(plain)]

    constant = [i for i, each in enumerate(trial.inputs) if is_inexact(each)]
    constant = [i for i in constant if i not in trial.chosen]
    if not constant:
        yield skipped("every input has a gradient")
        return
    yield from compare_jacobians(as_numbers, trial.inputs, constant, operator.contract.inputs)


def third_order(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the third derivative, got by three backward passes, is wrong."""
    trial = Trial.of(operator, case)
    if reason := _no_further(trial):
        yield skipped(reason)
        return
    gradients = gradient_function(trial)
    seeds = [cotangent(each) for each in trial.forward()]
    weights = [cotangent(each.data) for each in gradients([*trial.inputs, *seeds], False)]

    def second(values: Sequence[Any], record: bool) -> Sequence[Tensor]:
        tensors = [as_tensor(each) for each in values]
        ends = [tensors[i].requires_grad_() for i in trial.chosen]
        found = gradients([*tensors, *seeds], True)
        pairs = [pair for pair in zip(found, weights, strict=True) if pair[0].requires_grad]
        if not pairs:
            return [Tensor(np.zeros(end.shape, end.dtype)) for end in ends]
        grads = autograd.grad(
            [each for each, _ in pairs],
            ends,
            [Tensor(weight) for _, weight in pairs],
            create_graph=record,
            materialize_grads=True,
        )
        return [each for each in grads if each is not None]

    # Inconclusive is a verdict on differences of second derivatives, not on the author's case.
    names = operator.contract.inputs
    called = [f"{trial.name(i)}.grad.grad" for i in trial.chosen]
    yield from compare_jacobians(second, trial.inputs, trial.chosen, names, "third order", called)


third_order.on_demand = True  # type: ignore[attr-defined]  # functions declare no attributes


def complex_step(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that a gradient is off by more than rounding where a complex step gives it exactly."""
    trial = Trial.of(operator, case)
    if not trial.chosen or any(trial.inputs[i].dtype != np.float64 for i in trial.chosen):
        yield skipped("it has no float64 inputs with gradients")
        return
    outputs = trial.forward()
    if any(each.dtype.kind != "f" for each in outputs):
        yield skipped("it has outputs that are not real")
        return
    seeds = [cotangent(each) for each in outputs]
    size = sum(float(np.abs(w * out).sum()) for w, out in zip(seeds, outputs, strict=True))
    for i, gradient in zip(trial.chosen, trial.gradients(seeds), strict=True):
        x = trial.inputs[i]
        path = next(directions(np.random.default_rng(x.size), x, 1))
        exact = _exact_slope(trial, i, path, seeds, size)
        if exact is None:
            yield skipped("the forward is not holomorphic", trial.name(i))
            continue
        slope = float(np.sum(gradient * path))
        # Less than this of its result, the forward cannot tell either.
        allowed = 1e-12 * (float(np.abs(gradient * path).sum()) + size)
        seen: dict[str, Any] = {
            "element": Places([], x, trial.name(i)).slope(),
            "analytic": slope,
            "numeric": exact,
            "estimate": allowed,
            "worst_error": float(numeric.share(slope - exact, allowed)),
        }
        if abs(slope - exact) <= allowed:
            yield passed(trial.name(i), **seen)
        else:
            message = (
                f"along a direction the backward gives {slope:.16g}, a complex step {exact:.16g}, "
                f"and rounding explains {allowed:.1g}"
            )
            yield failed(message, trial.name(i), **seen)


def _exact_slope(
    trial: Trial, index: int, path: Array, seeds: Sequence[Array], size: float
) -> float | None:
    """Return the slope of the outputs, weighted, along a path; None if a complex step is no use."""

    def weighted(x: Array) -> Any:
        outputs = trial.forward(trial.with_input(index, x, "").inputs)
        return sum(np.sum(w * out) for w, out in zip(seeds, outputs, strict=True))

    x, h = trial.inputs[index], 2.0**-17
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy says when it drops an imaginary part
        try:
            exact = float(numeric.complex_step(weighted, x, path))
        except (TypeError, ValueError):
            return None
    # A function of complex numbers that is not holomorphic has nothing to say: then they differ.
    rough = (weighted(x + h * path) - weighted(x - h * path)) / (2 * h)
    return exact if abs(exact - rough) <= 1e-5 * (abs(exact) + size) else None


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [
        first_order,
        second_order,
        second_order_variants,
        third_order,
        complex_step,
        not_differentiable,
    ]
