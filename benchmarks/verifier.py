"""What verifying an operator costs, beside PyTorch's own checker on the same cases.

``python benchmarks/verifier.py`` times, for each operator that both libraries have, all of
opgrad's probes, those of its probes that ask what PyTorch asks (first and second order), and
``torch.autograd.gradcheck`` with ``gradgradcheck``. CPU time, the sides in turn, medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import opgrad
from opgrad.check import verify

#: How PyTorch spells what opgrad's operators do; its checker cannot take the mixed cases of where.
PEERS: dict[str, Callable[..., Any]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "neg": torch.neg,
    "pow_scalar": torch.pow, "pow": torch.pow, "exp": torch.exp, "log": torch.log,
    "sqrt": torch.sqrt, "sin": torch.sin, "cos": torch.cos, "tanh": torch.tanh,
    "sigmoid": torch.sigmoid, "logaddexp": torch.logaddexp, "abs": torch.abs,
    "maximum": torch.maximum, "matmul": torch.matmul,
    "sum": lambda x, axis=None, keepdims=False: torch.sum(x, axis, keepdims),
    "mean": lambda x, axis=None, keepdims=False: torch.mean(x, axis, keepdims),
    "reshape": torch.reshape,
    "broadcast_to": lambda x, shape: x.broadcast_to(shape),
}  # fmt: skip


def cases_of(name: str) -> list[tuple[list[Any], dict[str, Any]]]:
    """Return an operator's own cases, with tensors of PyTorch for the arrays."""
    operator = getattr(opgrad.ops, name)
    rng = np.random.default_rng(0)
    return [
        ([_tensor(each) for each in case.inputs], case.parameters)
        for case in operator.self_check(rng)
    ]


def _tensor(value: Any) -> Any:
    made = torch.tensor(np.asarray(value))
    if not isinstance(value, np.ndarray | np.generic):
        return made
    return made.requires_grad_() if made.is_floating_point() or made.is_complex() else made


def with_torch(name: str) -> None:
    """Check every case of an operator as PyTorch does."""
    for inputs, parameters in cases_of(name):

        def function(*arrays: Any, parameters: dict[str, Any] = parameters) -> Any:
            return PEERS[name](*arrays, **parameters)

        torch.autograd.gradcheck(function, inputs)
        torch.autograd.gradgradcheck(function, inputs)


def seconds(run: Callable[[], Any]) -> float:
    """Return the CPU time of a call."""
    started = time.process_time()
    run()
    return time.process_time() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="samples of each (default 3)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    totals = np.zeros(3)
    print("| operator | all probes, ms | first and second order, ms | PyTorch, ms |")
    print("| --- | --: | --: | --: |")
    for name in PEERS:
        sides: tuple[Callable[[], Any], ...] = (
            lambda name=name: verify(name),
            lambda name=name: verify(name, only=["first_order", "second_order"]),
            lambda name=name: with_torch(name),
        )
        samples = [[seconds(side) for side in sides] for _ in range(rounds)]
        middle = np.array([statistics.median(column) for column in zip(*samples, strict=True)])
        totals += middle
        print(f"| {name} |", " | ".join(f"{1e3 * each:.0f}" for each in middle), "|")
    shown = " | ".join(f"{1e3 * each / len(PEERS):.0f}" for each in totals)
    print(f"| mean | {shown} |")
    print(f"Ratio to PyTorch: {totals[0] / totals[2]:.2f} all, {totals[1] / totals[2]:.2f} alike")


if __name__ == "__main__":
    main()
