"""Comparing a function's backward with its numeric derivative.

Complex numbers count as pairs of reals, so that both sides are plain real matrices: a row for
each real part and each imaginary part of the output, a column for each part of the input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from opgrad.check.causes import likely_cause
from opgrad.check.elements import Places, parts
from opgrad.check.findings import Finding, Status, passed, skipped
from opgrad.check.ladder import OUTSIDE
from opgrad.check.numeric import (
    Estimate,
    agrees,
    allowed,
    conclusive,
    derivative,
    directional,
    directions,
    jacobian,
    share,
)
from opgrad.check.trial import as_tensor, cotangent, vjp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from opgrad.check.trial import Trial
    from opgrad.tensor import Tensor

    Array = NDArray[Any]

#: From the inputs, and whether a further backward will follow, to the outputs.
Function: TypeAlias = "Callable[[Sequence[Any], bool], Sequence[Tensor]]"

#: Up to so many entries a Jacobian is compared whole; beyond, by samples of it.
WHOLE = 4096
SAMPLED_DIRECTIONS, SAMPLED_ENTRIES = 8, 32


def compare_jacobians(
    function: Function,
    inputs: Sequence[Any],
    chosen: Sequence[int],
    names: Sequence[str],
    variant: str = "",
    outputs: Sequence[str] = (),
) -> Iterator[Finding]:
    """Compare the Jacobian for each chosen input with the numeric one.

    Parameters
    ----------
    function : callable
        The function.
    inputs : sequence
        Its inputs: arrays, and whatever else it takes.
    chosen : sequence of int
        The inputs to differentiate with respect to; arrays of floating or complex dtype.
    names : sequence of str
        What the inputs are called.
    variant : str
        What makes the case one of the verifier's own.
    outputs : sequence of str
        What the outputs are called; by default "output".
    """
    if not chosen:
        yield skipped("no input has a gradient", variant=variant)
        return
    values = [each.detach().data for each in function(list(map(as_tensor, inputs)), False)]
    rows = sum(map(parts, values))
    if not rows:
        yield from (passed(names[i], variant) for i in chosen)
        return
    whole = [i for i in chosen if rows * inputs[i].size <= WHOLE]
    for i, analytic in zip(whole, _analytic(function, inputs, whole), strict=True):
        numeric = _numeric(function, inputs, i)
        places = Places(values, inputs[i], names[i], outputs)
        yield judge(analytic, numeric, places.entry, names[i], variant)
    for i in chosen:
        if i not in whole:
            places = Places(values, inputs[i], names[i], outputs)
            yield from _compare_samples(function, inputs, i, places, variant)


def compare_samples(
    function: Function,
    inputs: Sequence[Any],
    chosen: Sequence[int],
    names: Sequence[str],
    outputs: Sequence[str] = (),
) -> Iterator[Finding]:
    """Compare one slope for each chosen input; where that is not enough, the whole Jacobian.

    Takes what `compare_jacobians` takes. A slope that disagrees, or cannot be told, only says that
    something is wrong; the whole says what.
    """
    samples = compare_slopes(function, inputs, chosen, names)
    for i, sample in zip(chosen, samples, strict=True):
        if sample.status is Status.PASS:
            yield sample
            continue
        whole = [*compare_jacobians(function, inputs, [i], names, outputs=outputs)]
        passes = all(each.status is Status.PASS for each in whole)
        yield from [sample] if passes and sample.status is Status.FAIL else whole


def compare_directions(trial: Trial) -> Iterator[Finding]:
    """Compare one slope for each input with a gradient, which costs little.

    Parameters
    ----------
    trial : Trial
        What to compare. If its outputs are not finite, there is no claim, and no finding.
    """

    def function(inputs: Sequence[Any], _record: bool) -> Sequence[Tensor]:
        return trial.call(inputs)

    if all(np.isfinite(each).all() for each in trial.forward()):
        names = trial.operator.contract.inputs
        yield from compare_slopes(function, trial.inputs, trial.chosen, names, trial.variant)


def compare_slopes(
    function: Function,
    inputs: Sequence[Any],
    chosen: Sequence[int],
    names: Sequence[str],
    variant: str = "",
) -> Iterator[Finding]:
    """Compare how fast the outputs, weighted, change as each input moves in some direction.

    Neither the weights nor the directions have a component near zero: every entry of a Jacobian
    has its part in the slope, so that none is looked over.

    Parameters
    ----------
    function : callable
        Returns the outputs, given inputs and whether it is going to be differentiated.
    inputs, chosen, names : sequence
        The inputs, which of them to move, and what each is called.
    variant : str
        What was changed in the author's case.
    """
    tensors = list(map(as_tensor, inputs))
    ends = [tensors[i].requires_grad_() for i in chosen]
    outputs = function(tensors, True)
    seeds = [cotangent(each.detach().data) for each in outputs]
    weights = as_row(seeds)
    rng = np.random.default_rng(weights.size)
    paths = [next(directions(rng, inputs[i], 1)) for i in chosen]
    of_each = [_of_one(function, inputs, i) for i in chosen]

    def weighted(t: float) -> Array:
        moved = map(np.asarray, (inputs[i] + t * p for i, p in zip(chosen, paths, strict=True)))
        return np.array([weights @ of_one(x) for of_one, x in zip(of_each, moved, strict=True)])

    numeric = derivative(weighted)
    for k, gradient in enumerate(vjp(outputs, ends, seeds)):
        slope, name = np.sum(_parts(gradient) * _parts(paths[k])), names[chosen[k]]
        places = Places([], inputs[chosen[k]], name)
        yield judge(
            np.array([slope]), _element(numeric, k), lambda _k, places=places: places.slope(),
            name, variant,
        )  # fmt: skip


def _element(estimate: Estimate, k: int) -> Estimate:
    return Estimate(*(getattr(estimate, name)[k : k + 1] for name in Estimate.__slots__))


def judge(
    analytic: Array,
    numeric: Estimate,
    place: Callable[..., str],
    name: str = "",
    variant: str = "",
) -> Finding:
    """Judge derivatives, and show the one that is furthest off.

    Parameters
    ----------
    analytic : ndarray
        The derivatives that the backward gives.
    numeric : Estimate
        The same, by differences.
    place : callable
        Takes the indices of an element, and returns what that is called.
    name, variant : str
        The input that they are for, and what makes the case one of the verifier's own.
    """
    if not analytic.size:
        return passed(name, variant)
    trusted = conclusive(numeric, analytic)
    with np.errstate(invalid="ignore"):
        gap = np.abs(analytic - numeric.value)
    shares = share(gap, allowed(analytic, numeric))
    wrong = trusted & ~agrees(analytic, numeric)
    if wrong.any():
        status, badness = Status.FAIL, np.where(wrong, np.nan_to_num(gap, nan=np.inf), -1.0)
    elif not trusted.all():
        status, badness = Status.INCONCLUSIVE, np.where(trusted, -1.0, numeric.error)
    else:
        status, badness = Status.PASS, shares
    worst = np.argmax(badness >= (1 - 1e-6) * badness.max())  # the first of those next to equal
    at = tuple(map(int, np.unravel_index(worst, badness.shape)))
    a, n, e = float(analytic[at]), float(numeric.value[at]), float(numeric.error[at])
    said = {
        Status.FAIL: f"the backward gives {a:.10g}, the numeric derivative {n:.10g} +- {e:.1g}",
        Status.INCONCLUSIVE: f"the numeric derivative {n:.3g} is only known to +- {e:.1g}",
    }
    return Finding(
        status,
        f"for {place(*at)} {said[status]}" if status in said else "",
        name,
        variant,
        element=place(*at),
        flat=at if len(at) == 2 else (),
        analytic=a,
        numeric=n,
        estimate=e,
        worst_error=None if status is Status.INCONCLUSIVE else float(shares[trusted].max()),
        cause=likely_cause(analytic, numeric.value) if status is Status.FAIL else "",
    )


def _analytic(function: Function, inputs: Sequence[Any], chosen: Sequence[int]) -> list[Array]:
    """Return the Jacobian for each chosen input, one backward pass for each row."""
    if not chosen:
        return []
    tensors = list(map(as_tensor, inputs))
    ends = [tensors[i].requires_grad_() for i in chosen]
    rows: list[list[Array]] = [[] for _ in chosen]
    for output in function(tensors, True):
        for seed in _one_hots(output):
            grads = vjp([output], ends, [seed], retain_graph=True)
            for row, grad in zip(rows, grads, strict=True):
                row.append(_parts(grad))
    return [np.array(row).reshape(len(row), -1) for row in rows]


def _one_hots(output: Tensor) -> Iterator[Array]:
    return (_one_hot(output, k) for k in range(_parts(output.detach().data).size))


def _one_hot(output: Tensor, k: int) -> Array:
    """Return the seed for one row: for the real parts of the elements, and then the imaginary."""
    seed = np.zeros(output.shape, output.dtype)
    seed.flat[k % output.size] = 1 if k < output.size else 1j
    return seed


def _numeric(function: Function, inputs: Sequence[Any], chosen: int) -> Estimate:
    """Return the Jacobian for one input by numeric differences."""
    x = inputs[chosen]
    units = (1, 1j) if x.dtype.kind == "c" else (1,)
    outputs = [each.detach().data for each in function(list(map(as_tensor, inputs)), False)]

    def whole(x: Array) -> Array:
        changed = [*inputs[:chosen], x, *inputs[chosen + 1 :]]
        found = function(list(map(as_tensor, changed)), False)
        return np.concatenate([each.detach().data.reshape(-1) for each in found])

    found = [_as_rows(jacobian(whole, x, unit), outputs) for unit in units]
    return Estimate(*(np.concatenate(each, axis=1) for each in zip(*found, strict=True)))


def _as_rows(found: Estimate, outputs: Sequence[Array]) -> tuple[Array, Array, Array]:
    """Return real rows in the order of `_parts`, each as certain as the number it is a part of."""
    count = len(found.value)
    ends = np.cumsum([each.size for each in outputs])[:-1]
    order = np.concatenate(
        [
            np.concatenate([index, index + count]) if output.dtype.kind == "c" else index
            for index, output in zip(np.split(np.arange(count), ends), outputs, strict=True)
        ]
    )
    value, error, typical = (
        each.reshape(count, -1) for each in (found.value, found.error, found.typical)
    )
    both = np.concatenate([value.real, value.imag])
    return both[order], error[order % count], typical[order % count]


def _of_one(function: Function, inputs: Sequence[Any], chosen: int) -> Callable[[Array], Array]:
    """Return the function of one input alone, as one flat array of real numbers."""

    def of_one(x: Array) -> Array:
        changed = [*inputs[:chosen], x, *inputs[chosen + 1 :]]
        outputs = function(list(map(as_tensor, changed)), False)
        return np.concatenate([_parts(each.detach().data) for each in outputs])

    return of_one


def _parts(values: Array) -> Array:
    """Lay values out flat, the imaginary parts behind the real ones."""
    flat = values.reshape(-1)
    return np.concatenate([flat.real, flat.imag]) if flat.dtype.kind == "c" else flat


def moving_each(
    trial: Trial, places: Sequence[tuple[int, int]], scales: Array
) -> Callable[[Any], Array]:
    """Return a path on which elements move one at a time, to differentiate by all of them at once.

    Parameters
    ----------
    trial : Trial
        Where the path starts.
    places : sequence of tuple of int
        The elements to move: input, and index into its flat elements.
    scales : ndarray
        How far to move them; derivatives along the path are to be divided by it.

    Returns
    -------
    callable
        From t to the outputs, as a row of real numbers for each element that moves by t times its
        scale; of nan where the forward refuses that.
    """

    def outputs(t: Any) -> Array:
        rows = []
        for (i, at), size in zip(places, scales, strict=True):
            x = np.array(trial.inputs[i])
            x.flat[at] += float(t) * size
            rows.append(row_at(trial, trial.with_input(i, x, "").inputs))
        return np.array(rows)

    return outputs


def row_at(trial: Trial, inputs: Sequence[Any]) -> Array:
    """Return the outputs for other inputs as a flat array; nan where the forward refuses them."""
    try:
        return as_row(trial.forward(inputs))
    except OUTSIDE:
        return np.full_like(as_row(trial.forward()), np.nan)


def as_row(outputs: Sequence[Array]) -> Array:
    """Return outputs as one flat array of real numbers."""
    return np.concatenate([_parts(each) for each in outputs]).astype(float)


def _compare_samples(
    function: Function, inputs: Sequence[Any], chosen: int, places: Places, variant: str
) -> Iterator[Finding]:
    """Compare a Jacobian too large for the whole: along directions, single columns, single rows.

    A direction has no component near zero, so that none of the elements is looked over.
    """
    x = inputs[chosen]
    rng = np.random.default_rng(x.size)
    tensors = list(map(as_tensor, inputs))
    end = tensors[chosen].requires_grad_()
    outputs = function(tensors, True)
    seeds = [cotangent(each.detach().data) for each in outputs]
    (grad,) = vjp(outputs, [end], seeds, retain_graph=True)
    weights = np.concatenate([_parts(seed) for seed in seeds])
    of_one = _of_one(function, inputs, chosen)

    def weighted(x: Array) -> Array:
        return np.asarray(weights @ of_one(x))

    def slope(grad: Array, path: Array) -> Any:
        return np.sum(_parts(grad) * _parts(np.asarray(path, x.dtype)))

    paths = [*directions(rng, x, SAMPLED_DIRECTIONS)]
    called = [places.slope()] * SAMPLED_DIRECTIONS
    for index in rng.choice(x.size, min(x.size, SAMPLED_ENTRIES), replace=False):
        one_hot = np.zeros(x.shape, x.dtype)
        one_hot.flat[index] = 1
        paths.append(one_hot)
        called.append(places.column(int(index)))
    found = [directional(weighted, x, path) for path in paths]
    slopes = np.array([slope(grad, path) for path in paths])
    yield judge(slopes, _stack(found), called.__getitem__, places.name, variant)
    rows = [(output, k) for output in outputs for k in range(_parts(output.detach().data).size)]
    picked = rng.choice(len(rows), min(len(rows), SAMPLED_ENTRIES), replace=False)
    single = [vjp([rows[i][0]], [end], [_one_hot(*rows[i])], retain_graph=True)[0] for i in picked]
    moved = directional(of_one, x, paths[0])
    some = Estimate(*(getattr(moved, n)[picked] for n in Estimate.__slots__))
    called = [places.row(int(i)) for i in picked]
    slopes = np.array([slope(each, paths[0]) for each in single])
    yield judge(slopes, some, called.__getitem__, places.name, variant)


def _stack(found: Sequence[Estimate]) -> Estimate:
    return Estimate(*(np.stack([getattr(e, n) for e in found]) for n in Estimate.__slots__))
