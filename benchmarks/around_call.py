"""Time calls with and without `around_call` hooks: ``python benchmarks/around_call.py``.

The same step is timed by turns: with the functions as they were before any plugin implemented the
hook, with those that are there when plugins have come and gone, and with one and two plugins that
do nothing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from timing import by_turns, looped

import opgrad
from opgrad import hookimpl
from opgrad.registry import registry


class Passing:
    """Runs around every call, and does nothing."""

    @hookimpl
    def around_call(self, call: Any) -> Any:
        return call()


def step(mul: Callable[..., Any], add: Callable[..., Any], a: Any, b: Any) -> None:
    add(mul(a, b), b).backward()
    a.grad = b.grad = None


def sample(plugins: int, arguments: tuple[Any, ...]) -> float:
    """Return the time of one step while so many plugins are registered, after one that was."""
    hooks = [Passing() for _ in range(max(plugins, 1))]
    for each in hooks:
        registry.register_plugin(each)
    if not plugins:
        registry.unregister_plugin(hooks.pop())
    try:
        return looped(partial(step, opgrad.mul, opgrad.add, *arguments))()
    finally:
        for each in hooks:
            registry.unregister_plugin(each)


def main() -> None:
    """Measure, and print ratios to the time before there was any plugin."""
    parser = argparse.ArgumentParser("python benchmarks/around_call.py", description=__doc__)
    parser.add_argument("--rounds", metavar="N", type=int, default=40)
    rounds = parser.parse_args().rounds
    arguments = tuple(opgrad.tensor(np.float64(x), requires_grad=True) for x in (2.0, 3.0))
    timers = {
        "before": looped(partial(step, opgrad.mul, opgrad.add, *arguments)),
        "none any more": partial(sample, 0, arguments),
        "one": partial(sample, 1, arguments),
        "two": partial(sample, 2, arguments),
    }
    samples = by_turns(timers, rounds)
    before = samples.pop("before")
    print(f"a step before there was any plugin: {1e6 * statistics.median(before):.2f} µs")
    for name, times in samples.items():
        ratio = statistics.median(x / y for x, y in zip(times, before, strict=True))
        print(f"with {name}: {ratio:.2f} times that")


if __name__ == "__main__":
    main()
