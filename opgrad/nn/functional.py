"""The familiar names for network operators, with the arguments that they have in PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opgrad.registry import calls

if TYPE_CHECKING:
    from opgrad.tensor import Tensor


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy between the sigmoid of `input` and `target`.

    Parameters
    ----------
    input : Tensor
        Logits of any shape; exact however large they are.
    target : Tensor
        Probabilities, of a shape that broadcasts with `input`'s.
    weight : Tensor, optional
        A factor for each element.
    reduction : {"mean", "sum", "none"}
        What becomes of the elements.
    pos_weight : Tensor, optional
        A factor for the positive part of each element.

    Returns
    -------
    Tensor
        0-d for "mean" and "sum", else of the broadcast shape.

    Examples
    --------
    >>> import opgrad
    >>> logits, target = opgrad.tensor([0., 1e4]), opgrad.tensor([0., 1.])
    >>> binary_cross_entropy_with_logits(logits, target, reduction="none")
    tensor([0.6931, 0.0000])
    """
    loss: Tensor = calls.binary_cross_entropy_with_logits(
        input, target, weight, pos_weight, reduction=reduction
    )
    return loss
