"""Whether two implementations of an operator can be told apart by using them.

This asks no probe and needs no tolerance: both get the same inputs, and everything that can be
seen of them, through the engine, has to be equal. The inputs are the author's cases and what
`_varied` makes of them, so that an error shows which the author's cases do not reach.
"""

from __future__ import annotations

import contextlib
import itertools
import tracemalloc
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import autograd
from opgrad.check.asking import recorded_node, tangents_for
from opgrad.check.probes.derivatives import gradient_function
from opgrad.check.trial import Trial, as_tensor, cotangent, is_inexact
from opgrad.forward import push_through
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from opgrad.operator import Case, Operator

    Array = NDArray[Any]


@dataclass(frozen=True)
class Original:
    """The operator that others are compared with.

    Attributes
    ----------
    operator : Operator
        The operator.
    seed : int
        What the random numbers of its cases start from.
    """

    operator: Operator
    seed: int = 0

    @cached_property
    def views(self) -> list[tuple[str, Trial, dict[str, Any]]]:
        """What there is to see of it, on inputs on which its forward is finite."""
        found = []
        for trial, case in self._trials():
            with _quiet():
                if all(map(_finite, _attempt(trial.forward))):
                    found.append((f"{case}, {trial.variant}", trial, _view(trial)))
        return found

    def _trials(self) -> Iterator[tuple[Trial, Case]]:
        hook = self.operator.contract.hooks["self_check"]
        for case in hook(np.random.default_rng(self.seed)):
            author = Trial.of(self.operator, case)
            for each in (author, *_varied(author)):
                yield each, case

    def difference(self, other: Operator) -> str:
        """Say what is different about another operator, and on which inputs; or nothing."""
        if self._cases(self.operator) != self._cases(other):
            return "its cases are different"
        for where, trial, expected in self.views:
            spread = other.spread(len(trial.inputs))
            with _quiet():
                seen = _view(Trial(spread, trial.inputs, trial.parameters, trial.variant))
            for what, value in expected.items():
                if not _same(value, seen[what]):
                    return f"{what} on {where}"
        return ""

    def _cases(self, operator: Operator) -> Any:
        hook = operator.contract.hooks["self_check"]
        return _attempt(lambda: [repr(each) for each in hook(np.random.default_rng(self.seed))])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Pass over warnings: beyond the author's cases, operators may well have reason for them."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _attempt(ask: Callable[[], Any]) -> Any:
    """Return an answer, or the name of the exception there was instead."""
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 - operators may raise whatever they like
        return [type(error).__name__]


def _finite(value: Any) -> bool:
    return isinstance(value, np.ndarray) and bool(np.isfinite(value).all())


# --------------------------------------------------------------------------------- the inputs


def _varied(author: Trial) -> Iterator[Trial]:
    """Vary values or layout of the inexact inputs, then the shapes of all; together, and singly."""
    inexact = [i for i, each in enumerate(author.inputs) if is_inexact(each)]
    arrays = [i for i, each in enumerate(author.inputs) if isinstance(each, np.ndarray)]
    for variations, chosen in ((_VALUES, inexact), (_SHAPES, arrays)):
        groups = [chosen, *([i] for i in chosen if len(chosen) > 1)]
        for (name, vary), group in itertools.product(variations.items(), groups):
            inputs = [vary(x) if i in group else x for i, x in enumerate(author.inputs)]
            yield author.with_inputs(inputs, f"{name} {', '.join(map(author.name, group))}")
    conditions = [~x if i in arrays and x.dtype == bool else x for i, x in enumerate(author.inputs)]
    yield author.with_inputs(conditions, "opposite conditions")
    first = author.inputs[inexact[0]] if inexact else None
    repeated = [first if i in inexact else x for i, x in enumerate(author.inputs)]
    yield author.with_inputs(repeated, "a repeated input")
    if "dtype" in author.parameters:
        parameters = {**author.parameters, "dtype": np.float32}
        yield replace(author, parameters=parameters, variant="float32 asked for")


def _first_zero(x: Array) -> Array:
    x = x.copy()
    x.flat[:1] = 0
    return x


def _narrow(x: Array) -> Array:
    return x.astype(np.complex64 if x.dtype.kind == "c" else np.float32)


def _single(x: Array) -> Array:
    return x[(slice(1),) * x.ndim]


def _square(x: Array) -> Array:
    size = min(x.shape[-2:], default=0)
    key: tuple[Any, ...] = (..., *[slice(size)] * min(x.ndim, 2))
    return np.asarray(x[key])


def _strided(x: Array) -> Array:
    """Return the same numbers, not contiguous in memory."""
    return np.stack([x, x], axis=-1)[..., 0]


_VALUES: dict[str, Callable[[Array], Array]] = {
    "negated": lambda x: -x,
    "times 20": lambda x: 20 * x,
    "ones for": np.ones_like,
    "zeros for": np.zeros_like,
    "thousands for": lambda x: np.full_like(x, 1000),
    "one zero in": _first_zero,
    "float32": _narrow,
    "strided": _strided,
}

_SHAPES: dict[str, Callable[[Array], Array]] = {
    "square": _square,
    "square zeros for": lambda x: 0 * _square(x),
    "one element of": _single,
    "no axes for": lambda x: x.reshape(-1)[0] if x.size else x,
    "no elements in": lambda x: x[:0] if x.ndim else x,
    "a first axis for": lambda x: np.stack([x, x]),
}


# ---------------------------------------------------------------------- what there is to see


def _view(trial: Trial) -> dict[str, Any]:
    """Ask everything, each time of fresh copies of the inputs."""
    return {name: _attempt(lambda ask=ask: ask(_fresh(trial))) for name, ask in _VIEWS.items()}  # type: ignore[misc]


def _fresh(trial: Trial) -> Trial:
    """Copy the inputs with their layout; an input that is given twice stays one."""
    copies: dict[int, Any] = {}
    for each in trial.inputs:
        if isinstance(each, np.ndarray):
            contiguous = each.flags.c_contiguous
            copies.setdefault(id(each), each.copy() if contiguous else _strided(each))
    inputs = [copies.get(id(each), each) for each in trial.inputs]
    return trial.with_inputs(inputs, trial.variant)


def _output(trial: Trial) -> Any:
    """Return what two calls give, and what is left of the inputs."""
    return [_copied(trial.forward()), _copied(trial.forward()), _copied(trial.inputs)]


def _shared(trial: Trial) -> Any:
    """Tell what outputs share memory with: inputs, and the outputs of another call.

    And what is in them after inputs have been written to, which shows in a view.
    """
    given = [each for each in (*trial.inputs, *trial.forward()) if isinstance(each, np.ndarray)]
    outputs = trial.forward()
    shared = [np.shares_memory(out, each) for out in outputs for each in given]
    for each in filter(is_inexact, trial.inputs):
        each += np.arange(each.size).reshape(each.shape)
    return [shared, _copied(outputs)]


def _gradient(trial: Trial) -> Any:
    seeds = [cotangent(each) for each in trial.forward()]
    large, strided = [20 * each for each in seeds], [*map(_strided, seeds)]
    return [_backward(trial, each) for each in (seeds, seeds, large, strided)]


def _backward(trial: Trial, seeds: Sequence[Array]) -> Any:
    """Return gradients, and what is left of seeds, outputs and inputs."""
    seeds = [each.copy() if each.flags.c_contiguous else each for each in seeds]
    tensors, outputs = trial.recorded()
    pairs = [
        (output, Tensor(seed))
        for output, seed in zip(outputs, seeds, strict=True)
        if output.requires_grad
    ]
    if pairs:
        autograd.backward([output for output, _ in pairs], [seed for _, seed in pairs])
    grads = [tensors[i].grad for i in trial.chosen]
    found = [None if each is None else each.detach().data for each in grads]
    held = [*seeds, *(each.detach().data for each in outputs), *trial.inputs]
    arrays = [each for each in held if isinstance(each, np.ndarray)]
    shared = [np.shares_memory(a, b) for a in found if a is not None for b in arrays]
    return [_copied(found), _copied(arrays), shared]


def _gradient_of_two_calls(trial: Trial) -> Any:
    """Return the gradient of the sum of two calls, whose incoming gradients are different."""
    tensors, outputs = trial.recorded()
    outputs = (*outputs, *trial.call(tensors))
    pairs = [
        (output, Tensor(cotangent(output.detach().data) * (i + 1)))
        for i, output in enumerate(outputs)
        if output.requires_grad
    ]
    if pairs:
        autograd.backward([output for output, _ in pairs], [seed for _, seed in pairs])
    found = [tensors[i].grad for i in trial.chosen]
    return _copied([None if each is None else each.detach().data for each in found])


def _gradient_of_ones(trial: Trial) -> Any:
    return _backward(trial, [np.ones_like(each) for each in trial.forward()])


def _gradient_read_only(trial: Trial) -> Any:
    """Return gradients where nothing that the operator is given can be written to."""
    seeds = [cotangent(each) for each in trial.forward()]
    for each in (*seeds, *trial.inputs):
        if isinstance(each, np.ndarray):
            each.flags.writeable = False
    return _copied(trial.gradients(seeds))


def _second(trial: Trial) -> Any:
    """Return the gradients of the gradients, in the inputs and in grad."""
    seeds = [cotangent(each) for each in trial.forward()]
    tensors = [as_tensor(each) for each in (*trial.inputs, *seeds)]
    ends = [*(tensors[i] for i in trial.chosen), *tensors[len(trial.inputs) :]]
    for each in ends:
        each.requires_grad_()
    grads = [each for each in gradient_function(trial)(tensors, True) if each.requires_grad]
    given = [Tensor(cotangent(each.detach().data + 0.0)) for each in grads]  # no -0.0
    found = autograd.grad(grads, ends, given, materialize_grads=True) if grads else ()
    return _copied([each.detach().data for each in found if each is not None])


def _growth(trial: Trial) -> Any:
    """Tell whether arrays stay in memory after calls whose results nobody holds."""
    if trial.variant:
        return None
    seeds = [cotangent(each) for each in trial.forward()]
    tracemalloc.start()
    try:
        for _ in range(32):
            trial.forward()
            trial.gradients([each.copy() for each in seeds])
        arrays = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
        return len(tracemalloc.take_snapshot().filter_traces([arrays]).traces) >= 32
    finally:
        tracemalloc.stop()


def _tangent(trial: Trial) -> Any:
    """Return what jvps give, and what is left of what they got."""
    if not any(trial.operator.contract.jvps) or not trial.chosen:
        return None
    node, _ = recorded_node(trial)
    usual = tangents_for(trial, node)
    changes = (np.copy, np.copy, lambda x: 20 * x, _strided, _first_zero)
    given = [[x if x is None else change(x) for x in usual] for change in changes]
    found = [_copied(push_through(node, each)) for each in given]
    return [*found, *map(_copied, given), _copied(trial.inputs)]


_VIEWS: dict[str, Callable[[Trial], Any]] = {
    "the output": _output,
    "shared memory": _shared,
    "the gradient": _gradient,
    "the gradient of ones": _gradient_of_ones,
    "the gradient of two calls": _gradient_of_two_calls,
    "the gradient of what is read-only": _gradient_read_only,
    "the second derivative": _second,
    "the tangent": _tangent,
    "memory kept": _growth,
}


def _copied(values: Sequence[Any]) -> list[Any]:
    return [
        np.array(each) if isinstance(each, np.ndarray | np.generic) else each for each in values
    ]


def _same(one: Any, other: Any) -> bool:
    """Compare what was seen; -0.0 is 0.0 and NaN is NaN."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        inexact = one.dtype.kind in "fc"
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=inexact)
    return type(one) is type(other) and bool(one == other)
