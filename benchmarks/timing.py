"""How times are taken: by turns, in loops long enough for the clock, as medians over rounds.

The clock is the processor time of the process. With one thread it runs as the one on the wall
does, but stands still while another process has the core.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, repeat
from time import process_time
from typing import Any, TypeVar

import numpy as np
from sides import SIDES, Step
from workloads import Workload, chain

K = TypeVar("K")
T = TypeVar("T")

#: What one sample lasts at least, in seconds.
SAMPLE = 0.005


@dataclass(frozen=True, slots=True)
class Timing:
    """The samples of one workload, in seconds, for each library.

    `target` bounds the ratio to PyTorch, or the time itself if `absolute`.
    """

    unit: str
    samples: Mapping[str, Sequence[float]]
    target: float | None = None
    absolute: bool = False

    def quartiles(self, side: str) -> list[float]:
        """Return the quartiles of a library's samples in the workload's unit; median second."""
        scale = {"µs": 1e6, "ms": 1e3}[self.unit]
        quartiles = statistics.quantiles(self.samples[side], method="inclusive")
        return [scale * each for each in quartiles]

    def ratio(self, peer: str) -> float:
        """Return opgrad's time by a peer's: the median over rounds of samples taken in turn."""
        pairs = zip(self.samples["opgrad"], self.samples[peer], strict=True)
        return statistics.median(own / other for own, other in pairs)

    @property
    def judged(self) -> float | None:
        """What the target bounds, None if it was not measured."""
        if self.target is None or not (self.absolute or "PyTorch" in self.samples):
            return None
        return self.quartiles("opgrad")[1] if self.absolute else self.ratio("PyTorch")

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        sides = [name for name in self.samples if name != "opgrad"]
        return {
            "unit": self.unit,
            "target": self.target,
            "ratios": {name: self.ratio(name) for name in sides},
            "quartiles": {name: self.quartiles(name) for name in self.samples},
            "seconds": {name: list(each) for name, each in self.samples.items()},
        }


def time_workload(workload: Workload, rounds: int) -> Timing:
    """Time a workload on every library, having verified that all compute the same."""
    parameters, constants = workload.data(np.random.default_rng(0))
    arguments = (workload.loss, parameters, constants)
    steps = {name: side.prepare(*arguments) for name, side in SIDES.items()}
    verify(steps, parameters)
    timers = {name: looped(step, workload.operations) for name, step in steps.items()}
    return Timing(workload.unit, by_turns(timers, rounds), workload.target)


def verify(steps: Mapping[str, Step], parameters: Sequence[Any]) -> None:
    """Assert that values and gradients agree with opgrad's, also when a step is repeated."""
    expected = _outcome(steps["opgrad"])
    for name, step in steps.items():
        value, *grads = _outcome(step)
        _assert_close(value, expected[0], f"{name}: value")
        for i, (grad, parameter) in enumerate(zip(grads, parameters, strict=True)):
            what = f"{name}: gradient {i}, {grad.dtype} {grad.shape}"
            assert (grad.dtype, grad.shape) == (parameter.dtype, parameter.shape), what
            _assert_close(grad, expected[1 + i], what)


def _outcome(step: Step) -> list[Any]:
    step()
    value, grads = step()
    detached = (each.detach() if hasattr(each, "detach") else each for each in (value, *grads))
    return [np.asarray(each) for each in detached]


def _assert_close(got: Any, expected: Any, what: str) -> None:
    rounding = 100 * np.finfo(expected.dtype).eps
    bound = rounding * np.abs(expected).max()
    np.testing.assert_allclose(got.reshape(expected.shape), expected, rounding, bound, err_msg=what)


def by_turns(timers: Mapping[K, Callable[[], T]], rounds: int) -> dict[K, list[T]]:
    """Take one sample of each in every round, so that what slows the machine slows them all."""
    samples: dict[K, list[T]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            samples[name].append(timer())
    return samples


def looped(step: Step, operations: int = 1) -> Callable[[], float]:
    """Return a timer of a step's operation, which repeats it until a sample lasts long enough."""

    def seconds(number: int) -> float:
        begin = process_time()
        for _ in repeat(None, number):
            step()
        return (process_time() - begin) / number

    fastest = min(seconds(3) for _ in range(3))
    number = math.ceil(SAMPLE / fastest)
    return lambda: seconds(number) / operations


# ------------------------------------------------------------------------ other measurements


def time_imports(rounds: int) -> Timing:
    """Time what importing each library adds to importing numpy, in fresh processes."""
    timers = {name: partial(_import, side.imports) for name, side in SIDES.items()}
    by_turns(timers, 1)  # writes the bytecode
    return Timing("ms", by_turns(timers, rounds), target=60, absolute=True)


def _import(module: str) -> float:
    clock = "time.process_time()"
    code = f"import numpy, time; begin = {clock}; import {module}; print({clock} - begin)"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    return float(subprocess.check_output([sys.executable, "-c", code], env=environment))


def time_depth(rounds: int) -> dict[int, list[float]]:
    """Return what a node costs opgrad, in seconds, in chains of several lengths.

    Returns
    -------
    dict
        For each length: building a node, going backward through it, dropping it.
    """
    lives = by_turns({n: partial(_life, n) for n in (10_000, 100_000, 1_000_000)}, rounds)
    return {
        length: [statistics.median(stage) / length for stage in zip(*each, strict=True)]
        for length, each in lives.items()
    }


def _life(length: int) -> list[float]:
    import opgrad

    x = opgrad.tensor(0.5, requires_grad=True)
    times = [process_time()]
    y = chain(opgrad, None, x, operations=length)
    times.append(process_time())
    y.backward()
    times.append(process_time())
    del y
    times.append(process_time())
    np.testing.assert_allclose(x.grad.item(), 4)
    return [end - begin for begin, end in pairwise(times)]
