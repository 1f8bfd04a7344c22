"""Gradients of tensors that stand for many examples; see `batched`.

What is recorded is one graph of all examples, so that one walk gives the gradients of all. Nothing
here is needed but where `vmap` is running: `passes` asks that, and comes here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from opgrad import passes
from opgrad.batched import detached, hidden_again, innermost, levels_of, shown
from opgrad.levels import levels, outside, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opgrad.graph import Edge
    from opgrad.levels import Level
    from opgrad.tensor import Tensor


def gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    seeds: Sequence[Any] | None,
    keep: bool,
    record: bool,
    allow_unused: bool,
) -> tuple[Tensor | None, ...]:
    """Return for each example what `passes.grad` would.

    Where the graph is one of all examples, so are the gradients. Where only the gradients of the
    outputs differ among them, the formulas are given tensors that stand for many, as in a pass
    that is recorded.

    Raises
    ------
    BatchError
        If an output stands for examples that an input is the same for.
    """
    among = sorted({each for x in outputs for each in levels_of(x)}, key=lambda each: each.depth)
    ends = [_end(each, among) for each in inputs]
    roots: list[tuple[Edge, Any]] = _roots("grad", outputs, seeds, among)
    with_tensors = record or any(seed._hidden for _, seed in roots)
    if not with_tensors:
        roots = [(edge, seed._data) for edge, seed in roots]
    # The formulas know of no other examples than those that the gradients differ among.
    with outside({each for _, seed in roots for each in levels_of(seed)}):
        found = passes.gradients_at(ends, roots, keep, with_tensors, allow_unused)
    return tuple(
        None if each is None else hidden_again(each if record else detached(each), among)
        for each in found
    )


def roots_of_all(
    outputs: Sequence[Tensor],
    gradients: Sequence[Any] | None,
    record: bool,
    inputs: Sequence[Tensor] | None,
) -> list[tuple[Edge, Any]]:
    """Return where a backward pass begins that adds up the gradients of all examples.

    Raises
    ------
    BatchError
        If what is one for all examples would have its gradient added once, not for each.
    """
    for each in outputs:
        if levels_of(each) != [*levels()]:
            refuse("backward()", "the gradient of what is one for all examples would be added once")
    if any(each._hidden for each in inputs or ()):
        refuse("backward(inputs=...)", "the inputs would get their gradients for all examples")
    roots = _roots("backward", outputs, gradients, levels())
    for level in levels():
        level.added_up = True
    return roots if record else [(edge, each._data) for edge, each in roots]


def _end(tensor: Tensor, among: Sequence[Level]) -> Tensor:
    """Return an input as a graph has it that belongs to the examples of some calls."""
    own = levels_of(tensor)
    if any(each not in own for each in among):
        refuse(
            "grad",
            "an output differs among the examples and an input does not, so that the gradient "
            "would be the sum over them; use opgrad.func.grad, whose inputs are given to it",
        )
    # What stands for further examples was made of what the outputs have nothing to do with.
    return innermost(tensor)


def _roots(
    caller: str, outputs: Sequence[Tensor], gradients: Sequence[Any] | None, among: Sequence[Level]
) -> list[tuple[Edge, Tensor]]:
    """Return where a walk over the graph of all examples begins."""
    roots = []
    for output, gradient in passes.with_gradients(outputs, gradients, caller):
        if output._edge is None:
            passes.refuse(caller, "outputs")
        like = output._like()
        one = like.size == 1 and like.dtype.kind == "f"
        given = np.ones_like(like) if gradient is None and one else gradient
        seed = passes.seed_for(like, given, caller, record=True)
        roots.append((cast("Edge", shown(output, among)._edge), shown(seed, among)))
    return roots
