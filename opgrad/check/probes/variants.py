"""Whether the backward is right beyond the author's own cases.

A variant that the forward refuses, or where it is not finite, makes no claim that could be wrong.
"""

from __future__ import annotations

import warnings
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import autograd, hookimpl
from opgrad.check.comparing import compare_directions
from opgrad.check.findings import Finding, Status, failed, passed, skipped
from opgrad.check.numeric import directions
from opgrad.check.trial import Trial, as_tensor, cotangent, is_inexact
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from opgrad.check.discovery import Probe
    from opgrad.operator import Case, Operator

    Array = NDArray[Any]

#: What a forward raises to say that it does not take these inputs.
REFUSALS = (ValueError, TypeError, IndexError)


def accepted(trials: Iterable[Trial]) -> Iterator[Trial]:
    """Leave out the trials that the forward refuses."""
    for trial in trials:
        try:
            trial.forward()
        except REFUSALS:
            continue
        yield trial


# ------------------------------------------------------------------------------------ shapes


def broadcasting(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the backward is wrong where an input is broadcast."""
    author = Trial.of(operator, case)
    if sum(map(is_inexact, author.inputs)) < 2 or not author.chosen:
        yield skipped("there is nothing to broadcast with", variant="broadcast")
        return
    for trial in accepted(_broadcast(author)):
        yield from compare_directions(trial)


def _broadcast(trial: Trial) -> Iterator[Trial]:
    """Give one input at a time a new leading axis, an axis of size 1, or no axes."""
    for i, each in enumerate(trial.inputs):
        if not is_inexact(each):
            continue
        changed = {"a new first axis": np.stack([each, 1.25 * each])}
        if each.size and each.ndim:
            changed["no axes"] = each.reshape(-1)[0]
            changed["last axis of size 1"] = each[..., :1]
        if each.size and each.ndim > 1:
            changed["first axis of size 1"] = each[:1]
        for what, value in changed.items():
            if value.shape != each.shape:
                yield trial.with_input(i, value, f"{trial.name(i)} with {what}")


def sizes(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the backward is wrong, or fails, for axes of size 0 or 1 or for no axes at all."""
    author = Trial.of(operator, case)
    if not author.chosen:
        yield skipped("no input has a gradient", variant="sizes")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy says of the mean of nothing that it is nan
        found = [each for trial in accepted(_resized(author)) for each in _of_size(trial)]
    yield from found


def _resized(trial: Trial) -> Iterator[Trial]:
    """Cut axes of one size, which belong together, to 0 or 1; or all to one size, or all away."""
    arrays = [each for each in trial.inputs if isinstance(each, np.ndarray)]
    several = sorted({n for each in arrays for n in each.shape if n > 1})
    for size in several:
        for less in (0, 1):
            variant = f"axes of size {size} cut to {less}"
            yield trial.with_inputs([_cut(each, size, less) for each in trial.inputs], variant)
    if len(several) > 1:
        square = [_cut_to(several[0], each) for each in trial.inputs]
        yield trial.with_inputs(square, f"all axes cut to {several[0]}")
    if any(each.ndim for each in arrays) and all(each.size for each in arrays):
        scalars = [np.reshape(x, -1)[0] if x is not None else x for x in trial.inputs]
        yield trial.with_inputs(scalars, "no axes")


def _cut_to(most: int, value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return value[tuple(slice(most) for _ in value.shape)].copy()


def _cut(value: Any, size: int, less: int) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return value[tuple(slice(less if n == size else n) for n in value.shape)].copy()


def _of_size(trial: Trial) -> Iterator[Finding]:
    outputs = trial.forward()
    moves = any(each.size for each in outputs)
    for i, gradient in zip(trial.chosen, trial.gradients([*map(cotangent, outputs)]), strict=True):
        shape = trial.inputs[i].shape
        if gradient.shape != shape:
            message = f"the gradient's shape is {gradient.shape}, the input's {shape}"
            yield failed(message, trial.name(i), trial.variant)
        elif not moves and gradient.any():
            message = "the gradient is not zero, although the result has no elements"
            yield failed(message, trial.name(i), trial.variant)
        elif not moves or not gradient.size:
            yield passed(trial.name(i), trial.variant)
    if moves and any(trial.inputs[i].size for i in trial.chosen):
        yield from compare_directions(trial)


# -------------------------------------------------------------------------------- parameters


def axes(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the same axes, written in another way or kept, give another gradient."""
    author = Trial.of(operator, case)
    others = list(_rewritten(author)) if author.chosen else []
    if not others:
        yield skipped("it has no parameter axis, axes or keepdims", variant="axes")
        return
    # Where no two elements are the same, an equal result comes from equal axes.
    rng = np.random.default_rng(0)
    inputs = [x + next(directions(rng, x, 1)) / 64 if is_inexact(x) else x for x in author.inputs]
    moved = author.with_inputs(inputs, "")
    expected = moved.forward()
    seeds = [cotangent(each) for each in expected]
    for parameters, variant in others:
        other = Trial(operator, moved.inputs, parameters, variant)
        for trial in accepted([other]):
            found = trial.forward()
            if all(map(_same_in_order, found, expected)):
                reshaped = [np.reshape(s, o.shape) for s, o in zip(seeds, found, strict=True)]
                yield from compare_gradients(
                    trial, trial.gradients(reshaped), moved, seeds, "the same axes in another way"
                )


def _rewritten(trial: Trial) -> Iterator[tuple[dict[str, Any], str]]:
    parameters = dict(trial.parameters)
    known = trial.operator.contract.parameters
    for name in ("axis", "axes"):
        if name in known:
            for value in _other_axes(trial, parameters.get(name)):
                yield {**parameters, name: value}, f"{name}={value}"
    if "keepdims" in known:
        kept = not parameters.get("keepdims", False)
        yield {**parameters, "keepdims": kept}, f"keepdims={kept}"


def _other_axes(trial: Trial, axis: Any) -> Iterator[Any]:
    """Write axes, counted from the first or from the last, in all other ways."""
    ndims = {np.ndim(each) for each in (*trial.inputs, *trial.forward()) if each is not None}
    if axis is None:
        yield from (tuple(range(ndim)) for ndim in sorted(ndims) if ndim)
        return
    many = axis if isinstance(axis, tuple) else (axis,)
    if not all(isinstance(each, int) for each in many):
        return
    for ndim in sorted(ndims):
        turned = tuple(each - ndim if each >= 0 else each + ndim for each in many)
        yield turned if isinstance(axis, tuple) else turned[0]
    yield many[::-1] if len(many) > 1 else many if axis != many else many[0]


def _same_in_order(a: Array, b: Array) -> bool:
    squeezed = [[n for n in each.shape if n != 1] for each in (a, b)]
    return squeezed[0] == squeezed[1] and np.array_equal(a.reshape(-1), b.reshape(-1))


# ------------------------------------------------------------------------- layouts, and sharing


def layouts(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the result depends on how an input, or grad, lies in memory."""
    author = Trial.of(operator, case)
    if not author.chosen:
        yield skipped("no input has a gradient", variant="layouts")
        return
    yield from _laid_out(author, _SAME_VALUES)
    narrowed = author.with_inputs([_constant_along_first(each) for each in author.inputs], "")
    for trial in accepted([narrowed]):
        yield from _laid_out(trial, {"zero strides": _zero_strides})


def _laid_out(plain: Trial, ways: dict[str, Callable[[Array], Array]]) -> Iterator[Finding]:
    """Lay out each input, and each seed, by itself; everything else stays in C order."""
    outputs = plain.forward()
    seeds = [cotangent(each) for each in outputs]
    if "zero strides" in ways:
        seeds = [*map(_constant_along_first, seeds)]
    for what, way in ways.items():
        for i, each in enumerate(plain.inputs):
            if isinstance(each, np.ndarray) and each.ndim:
                trial = plain.with_input(i, way(each), f"{plain.name(i)} in {what}")
                yield from _compare_outputs(trial, plain, outputs)
                yield from compare_gradients(trial, trial.gradients(seeds), plain, seeds, "C order")
        changed = [way(each) if each.ndim else each for each in seeds]
        trial = plain.with_inputs(plain.inputs, f"grad in {what}")
        yield from compare_gradients(trial, trial.gradients(changed), plain, seeds, "C order")


def _fortran(x: Array) -> Array:
    return np.asfortranarray(x)


def _swapped(x: Array) -> Array:
    return x.swapaxes(0, -1).copy().swapaxes(0, -1)


def _backwards(x: Array) -> Array:
    return np.flip(np.flip(x).copy())


def _spread(x: Array) -> Array:
    spread = np.full((*x.shape, 2), 7, x.dtype)
    spread[..., 0] = x
    return spread[..., 0]


def _constant_along_first(value: Any) -> Any:
    if not isinstance(value, np.ndarray) or not value.size or not value.ndim:
        return value
    return np.broadcast_to(value[:1], value.shape).copy()


def _zero_strides(x: Array) -> Array:
    return np.broadcast_to(x[:1], x.shape) if x.size else x


_SAME_VALUES: dict[str, Callable[[Array], Array]] = {
    "Fortran order": _fortran,
    "order of a transposed array": _swapped,
    "negative strides": _backwards,
    "every second place": _spread,
}


def _compare_outputs(trial: Trial, plain: Trial, expected: Sequence[Array]) -> Iterator[Finding]:
    """Compare what the forward gives; it may sum in another order."""
    found = trial.forward()
    if all(map(_same_bits, found, expected)):
        return
    for each, other, allowed in zip(found, expected, _output_rounding(plain), strict=True):
        if each.shape != other.shape or not np.all(_close(each, other, allowed)):
            message = "the forward's result is another than in C order"
            yield failed(message, variant=trial.variant)


def _output_rounding(trial: Trial) -> list[Array]:
    return _rounding(trial, [], lambda each, _: list(each.forward()), np.float64)


def repeated(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that ``f(x, x)`` does not have the sum of the gradients of ``f(x, y)`` at y = x."""
    author = Trial.of(operator, case)
    pairs = [*combinations(author.chosen, 2)]
    if not pairs:
        yield skipped("it has not two inputs with gradients", variant="repeated")
        return
    for i, j in pairs:
        variant = f"{author.name(j)} is {author.name(i)}"
        copied = author.with_input(j, author.inputs[i].copy(), variant)
        for trial in accepted([copied]):
            yield from _compare_repeated(trial, i, j)


def _compare_repeated(trial: Trial, i: int, j: int) -> Iterator[Finding]:
    seeds = [cotangent(each) for each in trial.forward()]
    apart = dict(zip(trial.chosen, trial.gradients(seeds), strict=True))
    tensors = [as_tensor(each) for each in trial.inputs]
    tensors[j] = tensors[i].requires_grad_()
    outputs = trial.call(tensors)
    grads = [Tensor(seed) for seed in seeds]
    (found,) = autograd.grad(outputs, [tensors[i]], grads, materialize_grads=True)
    assert found is not None
    together, total = found.detach().data, apart[i] + apart[j]
    eps = np.finfo(total.dtype).eps
    if np.all(_close(together, total, 4 * eps * (np.abs(apart[i]) + np.abs(apart[j])))):
        yield passed(trial.name(i), trial.variant)
    else:
        message = f"the gradient is {together!r}, the sum of those of two equal inputs {total!r}"
        yield failed(message, trial.name(i), trial.variant)


# -------------------------------------------------------------------------------------- dtypes


def mixed_complex(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that the gradient is wrong, or not real, for a real input beside complex ones."""
    author = Trial.of(operator, case)
    complexes = [i for i in author.chosen if author.inputs[i].dtype.kind == "c"]
    if not complexes:
        yield skipped("no input is complex", variant="real input")
        return
    trials = (
        author.with_input(i, author.inputs[i].real.copy(), f"{author.name(i)} real")
        for i in complexes
    )
    for trial in accepted(trials):
        seeds = [cotangent(each) for each in trial.forward()]
        for i, gradient in zip(trial.chosen, trial.gradients(seeds), strict=True):
            if gradient.dtype != trial.inputs[i].dtype:
                message = f"the gradient is {gradient.dtype}, the input {trial.inputs[i].dtype}"
                yield failed(message, trial.name(i), trial.variant)
        yield from compare_directions(trial)


def single_precision(operator: Operator, case: Case) -> Iterator[Finding]:
    """Find that float32 gradients have another dtype, or are off by more than rounding."""
    author = Trial.of(operator, case)
    if not author.chosen or _asks_for_double(author):
        yield skipped("the case has no float32 counterpart", variant="float32")
        return
    narrow = author.with_inputs([*map(_narrowed, author.inputs)], "float32")
    wide = author.with_inputs([*map(_widened, narrow.inputs)], "float64")
    outputs = narrow.forward()
    for each, exact in zip(outputs, wide.forward(), strict=True):
        if each.dtype.kind in "fc" and each.dtype == exact.dtype:
            yield failed(f"the output's dtype is {each.dtype}, of inputs in float32", "", "float32")
    seeds = [cotangent(each) for each in outputs]
    given = narrow.gradients(seeds)
    for i, gradient in zip(narrow.chosen, given, strict=True):
        if gradient.dtype != narrow.inputs[i].dtype:
            message = f"the gradient's dtype is {gradient.dtype}, the input's "
            yield failed(message + str(narrow.inputs[i].dtype), narrow.name(i), "float32")
    doubled = [*map(_widened, seeds)]
    found = [*compare_gradients(narrow, given, wide, doubled, "float64", np.float32)]
    if any(each.status is Status.FAIL for each in found):
        # Rounding inside a formula scatters from input to input; an error in it does not.
        scatter = _scatter(narrow, seeds)
        found = [*compare_gradients(narrow, given, wide, doubled, "float64", np.float32, scatter)]
    yield from found


def _scatter(narrow: Trial, seeds: Sequence[Array]) -> list[Array]:
    """Return by how much the error of float32 gradients varies between neighbouring inputs."""
    eps = 8 * float(np.finfo(np.float32).eps)
    rng = np.random.default_rng(0)
    errors: list[list[Array]] = []
    for _ in range(6):
        moved = narrow.with_inputs([_moved(each, eps, rng) for each in narrow.inputs], "moved")
        wide = narrow.with_inputs([*map(_widened, moved.inputs)], "moved")
        exact = wide.gradients([*map(_widened, seeds)])
        errors.append([a - b for a, b in zip(moved.gradients(seeds), exact, strict=True)])
    middle = [np.mean(each, axis=0) for each in zip(*errors, strict=True)]
    return [
        4 * np.max(np.abs(np.array(each) - mean), axis=0)
        for each, mean in zip(zip(*errors, strict=True), middle, strict=True)
    ]


def _asks_for_double(trial: Trial) -> bool:
    asked = trial.parameters.get("dtype")
    return asked is not None and np.dtype(asked) in (np.float64, np.complex128)


def _narrowed(value: Any) -> Any:
    if not is_inexact(value):
        return value
    return value.astype(np.complex64 if value.dtype.kind == "c" else np.float32)


def _widened(value: Any) -> Any:
    return value.astype(np.result_type(value, np.float64)) if is_inexact(value) else value


# ----------------------------------------------------------------------------------- rounding


def compare_gradients(
    trial: Trial,
    given: Sequence[Array],
    other: Trial,
    seeds: Sequence[Array],
    what: str,
    precision: type = np.float64,
    more: Sequence[Array] | None = None,
) -> Iterator[Finding]:
    """Compare gradients with those of another trial, which differ by rounding alone.

    Parameters
    ----------
    trial, given : Trial, sequence of ndarray
        A trial, and its gradients.
    other, seeds : Trial, sequence of ndarray
        The trial that has the right gradients, and the seeds for them.
    what : str
        What the other trial is called.
    precision : type
        The precision of the trial's own numbers.
    more : sequence of ndarray, optional
        What they may differ by beside that.
    """
    expected = other.gradients(seeds)
    if all(map(_same_bits, given, expected)):
        yield from (passed(trial.name(i), trial.variant) for i in trial.chosen)
        return
    allowed = _rounding(other, seeds, Trial.gradients, precision)
    if more is not None:
        allowed = [a + b for a, b in zip(allowed, more, strict=True)]
    for i, a, b, most in zip(trial.chosen, given, expected, allowed, strict=True):
        yield _judge_rounding(a, b, most, what, trial.name(i), trial.variant)


def _judge_rounding(a: Array, b: Array, allowed: Array, what: str, *where: str) -> Finding:
    if a.shape != b.shape:
        return failed(f"the gradient's shape is {a.shape}, with {what} {b.shape}", *where)
    close = _close(a, b, allowed)
    if np.all(close):
        return passed(*where)
    excess = np.where(close, -1.0, np.nan_to_num(np.abs(a - b) - allowed, nan=np.inf))
    at = np.unravel_index(np.argmax(excess), excess.shape)
    message = (
        f"at input element {tuple(map(int, at))} the gradient is {a[at]:.10g}, with {what} "
        f"{b[at]:.10g}, and rounding explains {allowed[at]:.1g}"
    )
    return failed(message, *where)


def _rounding(
    trial: Trial, seeds: Sequence[Array], results: Callable[..., list[Array]], precision: type
) -> list[Array]:
    """Return how much rounding may change results.

    That is measured: on inputs and seeds that are off by a rounding.
    """
    eps = float(np.finfo(precision).eps)
    rng = np.random.default_rng(0)
    reference = results(trial, seeds)
    allowed = [4 * eps * (np.abs(each) + np.abs(each).max(initial=0.0)) for each in reference]
    for _ in range(4):
        moved = trial.with_inputs([_moved(each, eps, rng) for each in trial.inputs], "moved")
        found = results(moved, [_moved(seed, eps, rng) for seed in seeds])
        allowed = [
            most + 4 * np.abs(near - far)
            for most, near, far in zip(allowed, reference, found, strict=True)
        ]
    return allowed


def _moved(value: Any, eps: float, rng: np.random.Generator) -> Any:
    if not is_inexact(value):
        return value
    moved = value * (1 + eps * rng.choice([-1, 1], value.shape))
    return np.asarray(moved, value.dtype)


def _close(a: Array, b: Array, allowed: Array) -> Array:
    return np.asarray((np.abs(a - b) <= allowed) | (a == b) | (np.isnan(a) & np.isnan(b)))


def _same_bits(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)


@hookimpl
def opgrad_probes() -> list[Probe]:
    """Return the probes of this file."""
    return [broadcasting, sizes, axes, layouts, repeated, mixed_complex, single_precision]
