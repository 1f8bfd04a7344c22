"""What is timed: scalar functions of arrays, each written once for all libraries.

A loss is called with the library's array namespace, a holder of its network functions, the
parameters and the constants. Timed are its value and the gradients of all parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

Arrays = list[Any]


@dataclass(frozen=True, slots=True)
class Workload:
    """A loss and its data.

    Attributes
    ----------
    unit : {"µs", "ms"}
        What its times are given in.
    loss : callable
        ``(xp, F, *parameters, *constants) -> scalar``.
    data : callable
        From a random generator to the parameters and the constants, as NumPy arrays.
    target : float, optional
        What the time should be at most, in times of PyTorch.
    operations : int
        By how much times are divided, where they are given for one operation.
    """

    unit: str
    loss: Callable[..., Any]
    data: Callable[[np.random.Generator], tuple[Arrays, Arrays]]
    target: float | None = None
    operations: int = 1


def chain(_xp: Any, _F: Any, x: Any, *, operations: int = 1000) -> Any:
    """Multiply and add by turns; converges to x / (1 - x)."""
    y = x
    for _ in range(operations // 2):
        y = y * x
        y = y + x
    return y


def network(xp: Any, F: Any, w1: Any, b1: Any, w2: Any, b2: Any, x: Any, target: Any) -> Any:
    """Return the loss of a network with one hidden layer."""
    hidden = xp.tanh(x @ w1 + b1)
    return F.binary_cross_entropy_with_logits(hidden @ w2 + b2, target)


def _normal(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape, dtype=np.float32)


def _network_data(
    batch: int, inputs: int, hidden: int, outputs: int, rng: np.random.Generator
) -> tuple[Arrays, Arrays]:
    w1, b1 = _normal(rng, inputs, hidden) / inputs**0.5, _normal(rng, hidden)
    w2, b2 = _normal(rng, hidden, outputs) / hidden**0.5, _normal(rng, outputs)
    target = rng.integers(2, size=(batch, outputs)).astype(np.float32)
    return [w1, b1, w2, b2], [_normal(rng, batch, inputs), target]


WORKLOADS = {
    "chain": Workload(
        "µs", chain, lambda rng: ([np.float64(0.5)], []), target=0.5, operations=1000
    ),
    "square": Workload(
        "µs", lambda xp, F, a: 5 * a**2, lambda rng: ([np.asarray([3.0])], []), target=0.3
    ),
    "small-net": Workload("µs", network, partial(_network_data, 4, 8, 16, 2), target=0.45),
    "large-net": Workload("µs", network, partial(_network_data, 32, 784, 128, 10), target=1.1),
    "elementwise": Workload(
        "ms",
        lambda xp, F, x: xp.sum(xp.tanh(x) * xp.exp(-x * x) + x),
        lambda rng: ([_normal(rng, 4_000_000)], []),
    ),
    "matmul": Workload(
        "ms",
        lambda xp, F, a, b, c: xp.sum(c * (a @ b)),
        lambda rng: (list(_normal(rng, 2, 1024, 1024)), [_normal(rng, 1024, 1024)]),
    ),
}
