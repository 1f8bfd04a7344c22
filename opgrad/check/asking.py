"""What probes share that compare an operator with itself, not with a numeric derivative.

Such a probe is a *question*: a function of a `Trial` that yields only what is wrong with it.
`asks` makes it a probe, which finds that all is well where the question has no answer.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from opgrad.check.findings import Finding, failed, passed, skipped
from opgrad.check.trial import Trial, cotangent, is_inexact
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from opgrad.check.discovery import Probe
    from opgrad.graph import Edge, Node
    from opgrad.operator import Case, Operator

    Array = NDArray[Any]

Question: TypeAlias = "Callable[[Trial], Iterator[Finding]]"

#: How many times the rounding that was measured a difference may be: few samples of it are
#: taken, and they are typical, not worst.
GENEROSITY = 16

#: What a forward raises that does not take what it is given.
REFUSALS = (ValueError, TypeError, IndexError, ArithmeticError)


def asks(question: Question) -> Probe:
    """Make a probe of a question; no answer to it is a pass."""

    @wraps(question)
    def probe(operator: Operator, case: Case) -> Iterator[Finding]:
        yield from list(question(Trial.of(operator, case))) or [passed()]

    return probe


def asks_gradients(question: Question) -> Probe:
    """Make a probe of a question about gradients; it is skipped where there are none."""

    @wraps(question)
    def about_gradients(trial: Trial) -> Iterator[Finding]:
        if has_gradient(trial):
            yield from question(trial)
        else:
            yield skipped("nothing has a gradient")

    return asks(about_gradients)


def accepted(
    trials: Iterable[Trial], refusals: type[Exception] | tuple[type[Exception], ...] = REFUSALS
) -> Iterator[Trial]:
    """Leave out the trials that the forward refuses: they make no claim that could be wrong."""
    for trial in trials:
        try:
            trial.forward()
        except refusals:
            continue
        yield trial


def has_gradient(trial: Trial) -> bool:
    """Tell whether any gradient flows: from an inexact output to an inexact input."""
    return bool(trial.chosen) and any(map(is_inexact, trial.forward()))


# ----------------------------------------------------------------------- the hooks themselves


def recorded_node(
    trial: Trial, needs: Sequence[int] | None = None
) -> tuple[Node, tuple[Tensor, ...]]:
    """Return the node of a call of which some inputs, by default all, need a gradient."""
    _, outputs = trial.recorded(needs)
    return node_of(outputs), outputs


def node_of(outputs: Sequence[Tensor]) -> Node:
    """Return the node of the call that made some outputs, of which one at least is recorded."""
    return next(each.grad_fn for each in outputs if each.grad_fn is not None)


def seeds_for(outputs: Sequence[Tensor]) -> list[Array]:
    """Return a gradient for each output: numbers of both signs; zeros for integers."""
    data = [each.detach().data for each in outputs]
    return [cotangent(each) if is_inexact(each) else np.zeros_like(each) for each in data]


def tangents_for(trial: Trial, node: Node) -> list[Any]:
    """Return a tangent for each input of a recorded call, None where there is no gradient."""
    chosen = trial.chosen
    return [cotangent(trial.inputs[i]) if i in chosen else None for i in range(len(node.edges))]


def run_hooks(
    node: Node,
    seeds: Sequence[Any],
    edges: Sequence[Edge | None] | None = None,
    saved: Sequence[Any] | None = None,
) -> list[Any]:
    """Return what the hooks give for each input, None where no gradient is needed.

    Parameters
    ----------
    node : Node
        The node of a recorded call.
    seeds : sequence of ndarray or Tensor
        The gradient of each output, in the graph's convention (see `opgrad.graph`): tensors for
        the formulas as a recorded backward runs them, else arrays.
    edges : sequence, optional
        The node's edges, None for inputs to leave out.
    saved : sequence, optional
        What to take for the saved values.
    """
    if saved is None:
        saved = node.tensors() if isinstance(seeds[0], Tensor) else node.arrays()
    given = tuple(seeds) if isinstance(node.metadata, list) else seeds[0]
    return list(type(node).run(given, saved, node.edges if edges is None else edges))


def data_of(gradient: Any) -> Any:
    """Return the array of a gradient, which hooks may give as a tensor."""
    return gradient.detach().data if isinstance(gradient, Tensor) else gradient


def hook_gradients(
    trial: Trial,
    node: Node,
    seeds: Sequence[Any],
    saved: Sequence[Any] | None = None,
    indices: Sequence[int] | None = None,
) -> list[Array]:
    """Return what the hooks give for some inputs, by default all chosen, in the inputs' dtypes.

    Raises
    ------
    TypeError
        If one of them is not an array.
    """
    indices = trial.chosen if indices is None else indices
    edges = [edge if i in indices else None for i, edge in enumerate(node.edges)]
    gradients = run_hooks(node, seeds, edges, saved)
    return [_cast(gradients[i], trial.inputs[i].dtype, trial.name(i)) for i in indices]


def _cast(gradient: Any, dtype: np.dtype[Any], name: str) -> Array:
    made = data_of(gradient)
    if not isinstance(made, np.ndarray | np.generic):
        msg = f"the gradient of input {name!r} is a {type(made).__name__}; expected an array"
        raise TypeError(msg)
    made = made.real if made.dtype.kind == "c" and dtype.kind != "c" else made
    return np.asarray(made, dtype)


# ----------------------------------------------------------------------- the same, or not


def same_bits(a: Any, b: Any) -> bool:
    """Tell whether two arrays are the same to the bit, in dtype, shape and values.

    Examples
    --------
    >>> same_bits([0.0, float("nan")], [0.0, float("nan")]), same_bits([0.0], [-0.0])
    (True, False)
    """
    a, b = np.asarray(a), np.asarray(b)
    return bool(a.dtype == b.dtype) and a.shape == b.shape and a.tobytes() == b.tobytes()


def difference(found: Any, expected: Any, allowed: Any = 0.0) -> str:
    """Say where two arrays differ most, by more than allowed; nothing if they do not.

    Examples
    --------
    >>> difference([1.0, 2.5], [1.0, 2.0])
    'at element (1,) it is 2.5, not 2'
    >>> difference([1.0], [1.0 + 1e-15], allowed=1e-14)
    ''
    """
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return f"its shape is {found.shape}, not {expected.shape}"
    gap = _gap(found, expected)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    excess = np.where(same | (gap <= allowed), -1.0, np.nan_to_num(gap, nan=np.inf))
    if np.all(excess < 0):
        return ""
    at = np.unravel_index(np.argmax(excess), gap.shape)
    return f"at element {tuple(map(int, at))} it is {found[at]:.17g}, not {expected[at]:.17g}"


def rounding(
    function: Callable[[Sequence[Any]], Sequence[Any]],
    arguments: Sequence[Any],
    roundings: float = 1.0,
) -> list[Array]:
    """Return how much rounding may change the results of a function.

    That is measured: by the results for arguments that are off by a rounding each, or by several
    roundings, and by the spacing of numbers as large as the largest.
    """
    rng = np.random.default_rng(0)
    results = function(arguments)
    allowed = [roundings * spacing(each) for each in results]
    for _ in range(2):
        others = function([moved(each, rng, roundings) for each in arguments])
        moves = map(_gap, others, results)
        allowed = [np.fmax(most, move) for most, move in zip(allowed, moves, strict=True)]
    return [GENEROSITY * each for each in allowed]


def hook_rounding(
    function: Callable[[Sequence[Any], Sequence[Any]], Sequence[Any]],
    node: Node,
    seeds: Sequence[Array],
) -> list[Array]:
    """Likewise, for a function of the gradients of the outputs and of what a node saved.

    What was saved is off by a rounding, too: where a formula subtracts what is nearly equal, only
    that shows how large its terms are.
    """
    count = len(seeds)
    return rounding(
        lambda values: function(values[:count], values[count:]), [*seeds, *node.arrays()]
    )


def gradient_rounding(trial: Trial, seeds: Sequence[Array], roundings: float = 1.0) -> list[Array]:
    """Likewise, for the gradients of a trial as a function of its inputs and of the seeds."""
    count = len(trial.inputs)

    def gradients(values: Sequence[Any]) -> list[Array]:
        return trial.with_inputs(values[:count], "").gradients(values[count:])

    return rounding(gradients, [*trial.inputs, *seeds], roundings)


def spacing(values: Any) -> Array:
    """Return the distance between numbers next to the largest finite one."""
    size = np.abs(np.multiply(values, 1.0))
    return np.asarray(np.spacing(np.max(size, initial=0.0, where=np.isfinite(size))))


def _gap(a: Any, b: Any) -> Array:
    return np.asarray(np.abs(np.subtract(a, b, dtype=np.result_type(a, b, 1.0))))


def moved(value: Any, rng: np.random.Generator, roundings: float = 1.0) -> Any:
    """Return inexact numbers that are off by so many roundings each, up or down."""
    if isinstance(value, tuple):
        return tuple(moved(each, rng, roundings) for each in value)
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in "fc":
        return value
    signs = rng.choice([-roundings, roundings], value.shape)
    return np.asarray(value * (1 + np.finfo(value.dtype).eps * signs), value.dtype)


def differing(
    trial: Trial,
    found: Sequence[Any],
    expected: Sequence[Any],
    what: str,
    allowed: Callable[[], Sequence[Any]] | None = None,
    indices: Sequence[int] | None = None,
) -> Iterator[Finding]:
    """Find that gradients which ought to be the same are not.

    Parameters
    ----------
    trial : Trial
        What they are gradients of.
    found, expected : sequence of ndarray
        The gradients.
    what : str
        What the one found is.
    allowed : callable, optional
        Measures by how much they may differ; by default the bits have to agree. It is called only
        where they do not.
    indices : sequence of int, optional
        The inputs that they are for, by default all chosen.
    """
    if all(map(same_bits, found, expected)):
        return
    limits = [0.0] * len(found) if allowed is None else allowed()
    names = [trial.name(i) for i in (trial.chosen if indices is None else indices)]
    for name, one, other, limit in zip(names, found, expected, limits, strict=True):
        said = difference(one, other, limit)
        if said or (allowed is None and not same_bits(one, other)):
            yield failed(f"{what}: {said or 'its bits differ'}", name, trial.variant)
