"""Losses."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

from opgrad import Case, Operator, Tensor, hookimpl

from .families import aligned, of_size
from .reduction import mean, sum

#: What makes one number of the losses of the elements, by the name of the reduction.
_REDUCED: dict[str, Any] = {"mean": mean, "sum": sum, "none": lambda loss, _axes: loss}


class BinaryCrossEntropyWithLogits(Operator):
    """Cross-entropy between the sigmoid of `logits` and the probabilities `target`.

    Each element is ``(1 - t) * softplus(x) + p * t * softplus(-x)``, times its weight, with
    logits ``x``, target ``t``, positive weight ``p`` and ``softplus(z) = log(1 + e ** z)``;
    this follows from ``log(sigmoid(x)) = -softplus(-x)``. It is exact however large the logits.
    `reduction` is "mean", "sum" or "none".
    """

    expects = "target, weight and pos_weight that broadcast to the shape of logits"
    residuals = ("count",)

    @hookimpl
    def forward(self, logits, target, weight=None, pos_weight=None, /, *, xp, reduction="mean"):
        if reduction not in ("mean", "sum", "none"):
            msg = f"reduction is {reduction!r}, which is none of 'mean', 'sum' and 'none'"
            raise ValueError(msg)
        loss = _unweighted(logits, target, pos_weight, xp)
        if weight is not None:
            loss = loss * weight
        if loss.shape != logits.shape:
            msg = f"together the inputs broadcast to {loss.shape}, beyond the shape of logits"
            raise ValueError(msg)
        if reduction == "none":
            return loss, 1
        if reduction == "sum":
            return xp.sum(loss), 1
        return xp.sum(loss) / loss.size, loss.size

    @hookimpl
    def backward_logits(self, grad, logits, target, weight, pos_weight, count, xp):
        # The derivative of softplus(x) is sigmoid(x) = exp(x - softplus(x)).
        softplus = xp.logaddexp(0.0, logits)
        falling = _positive(target, pos_weight) * xp.exp(-softplus)
        slope = (1 - target) * xp.exp(logits - softplus) - falling
        return _each(grad, weight, count) * slope

    @hookimpl
    def backward_target(self, grad, logits, weight, pos_weight, count, xp):
        slope = -logits
        if pos_weight is not None:
            slope = slope + (pos_weight - 1) * xp.logaddexp(0.0, -logits)
        return _each(grad, weight, count) * slope

    @hookimpl
    def backward_weight(self, grad, logits, target, pos_weight, count, xp):
        return grad / count * _unweighted(logits, target, pos_weight, xp)

    @hookimpl
    def backward_pos_weight(self, grad, logits, target, weight, count, xp):
        return _each(grad, weight, count) * (target * xp.logaddexp(0.0, -logits))

    @hookimpl
    def batch(self, inputs, reduction):
        tensors = [x for x in inputs if isinstance(x, Tensor)]
        ndim, size = inputs[0].ndim, max(map(len, tensors))
        if any(x.ndim > ndim for x in tensors) or reduction not in _REDUCED:
            return self(*inputs, reduction=reduction)  # which says what is wrong
        logits, *others = aligned(inputs)
        loss = self(of_size(logits, size), *others, reduction="none")
        return _REDUCED[reduction](loss, tuple(range(1, ndim)))

    @hookimpl
    def self_check(self, rng):
        x, t = rng.normal(size=(3, 4)), rng.uniform(size=(3, 4))
        for reduction in ("mean", "sum", "none"):
            yield Case(x, t, reduction=reduction)
            yield Case(x, t, rng.uniform(size=4), rng.uniform(1, 3, size=4), reduction=reduction)
        yield Case(30 * x, t, None, rng.uniform(1, 3, size=4))
        yield Case(x, t, rng.uniform(size=(3, 1)))


def _positive(target, pos_weight):
    return target if pos_weight is None else pos_weight * target


def _unweighted(logits, target, pos_weight, xp):
    positive = _positive(target, pos_weight) * xp.logaddexp(0.0, -logits)
    return (1 - target) * xp.logaddexp(0.0, logits) + positive


def _each(grad, weight, count):
    """Return the gradient of the loss's single elements."""
    return grad / count if weight is None else grad / count * weight


binary_cross_entropy_with_logits = BinaryCrossEntropyWithLogits()
