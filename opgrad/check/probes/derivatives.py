"""Whether the backward is the derivative of the forward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opgrad import autograd, hookimpl
from opgrad.check.comparing import compare_jacobians
from opgrad.check.findings import Finding, skipped
from opgrad.check.trial import Trial, as_tensor, cotangent, is_inexact
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opgrad.check.discovery import Probe
    from opgrad.operator import Case, Operator


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
    if not trial.chosen:
        yield skipped("no input has a gradient")
        return
    seeds = [cotangent(each) for each in trial.forward()]
    count = len(trial.inputs)
    names = [*operator.contract.inputs[:count], *("grad" for _ in seeds)]
    yield from compare_jacobians(
        gradient_function(trial),
        [*trial.inputs, *seeds],
        [*trial.chosen, *range(count, count + len(seeds))],
        names,
    )


def gradient_function(trial: Trial) -> Any:
    """Return the gradients of an operator as a function of its inputs and of grad."""
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


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [first_order, second_order, not_differentiable]
