"""A picture of an elementwise operator of one real input and of its derivative."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import autograd
from opgrad.files import replacing
from opgrad.showing.describing import operator_of
from opgrad.showing.guarding import RefusalError
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from opgrad.operator import Case, Operator

    Array = NDArray[Any]

SUFFIXES = (".png", ".svg")
#: At how many places the operator is evaluated.
_POINTS = 601
#: How many elements of the output are looked at for what they depend on.
_ROWS = 32
#: How often the cases are drawn, for the range of their numbers.
_SEEDS = range(10)


@dataclass(frozen=True, slots=True)
class Curve:
    """An operator and its derivative as numbers.

    Attributes
    ----------
    label, axis : str
        The operator with the parameters it was given, and the name of its input.
    x, y, slope : ndarray
        Places in its domain, in order, the values there, and the derivatives.
    """

    label: str
    axis: str
    x: Array
    y: Array
    slope: Array


# ------------------------------------------------------------------------------- the numbers


def sample(name: str) -> Curve:
    """Import an operator, and evaluate it over its domain.

    The interval goes from the lower to the upper bound of the operator's ``domain``. Where that is
    infinite, or says nothing, the numbers of the operator's own cases are taken for it.

    Raises
    ------
    RefusalError
        If it is not an elementwise operator of one real input.
    """
    operator = operator_of(name)
    _check_inputs(operator)
    typical, case = _typical(operator)
    _check_elementwise(operator, typical, case)
    low, high = _interval(operator, case)
    x = np.linspace(low, high, _POINTS + 2)[1:-1]  # the bounds themselves are not in the domain
    with np.errstate(all="ignore"):
        tensor, output = _recorded(operator, x, case)
        slope = _pulled_back(tensor, output, np.ones_like(x))
    given = [f"{key}={value!r}" for key, value in case.parameters.items()]
    (axis,) = operator.contract.inputs
    return Curve(f"{name}({', '.join([axis, *given])})", axis, x, output.detach().data, slope)


def _refuse(operator: Operator, reason: str) -> RefusalError:
    return RefusalError(
        f"--plot draws elementwise operators of one real input; {operator.name} {reason}. Without "
        "--plot, show tells what there is to tell"
    )


def _check_inputs(operator: Operator) -> None:
    inputs = operator.contract.inputs
    if operator.variadic:
        raise _refuse(operator, f"takes a sequence of arrays, {inputs[0]}")
    if len(inputs) != 1:
        raise _refuse(operator, f"has {len(inputs)} inputs, {', '.join(inputs)}")
    if not operator.differentiable:
        raise _refuse(operator, "is not differentiable")


def _real_cases(operator: Operator, seed: int) -> Iterator[tuple[Array, Case]]:
    """Yield those cases of an operator whose one input is real, with that."""
    for case in operator.contract.hooks["self_check"](np.random.default_rng(seed)):
        x = np.asarray(case.inputs[0])
        if x.dtype.kind == "f":
            yield x, case


def _typical(operator: Operator) -> tuple[Array, Case]:
    """Return the first case by which an elementwise operator can be told from others."""
    for x, case in _real_cases(operator, 0):
        if x.size > 1:
            return x, case
    raise _refuse(operator, "has no case of two real numbers or more")


def _check_elementwise(operator: Operator, x: Array, case: Case) -> None:
    tensor, output = _recorded(operator, x, case)
    if output.shape != tensor.shape:
        raise _refuse(operator, f"gives shape {output.shape} for shape {tensor.shape}")
    for i in np.unique(np.linspace(0, x.size - 1, min(x.size, _ROWS), dtype=int)):
        seed = np.zeros(tensor.shape)
        seed.flat[i] = 1
        row = _pulled_back(tensor, output, seed).copy()
        row.flat[i] = 0
        if row.any():
            raise _refuse(operator, "mixes the elements: one output depends on several inputs")


def _recorded(operator: Operator, x: Array, case: Case) -> tuple[Tensor, Tensor]:
    """Return an input and the one real output of the operator, with the call recorded."""
    tensor = Tensor(np.array(x)).requires_grad_()
    output = operator(tensor, **case.parameters)
    if isinstance(output, tuple):
        raise _refuse(operator, f"has {len(output)} outputs")
    if output.detach().data.dtype.kind != "f" or not output.requires_grad:
        raise _refuse(operator, f"gives {output.dtype} for {tensor.dtype}")
    return tensor, output


def _pulled_back(tensor: Tensor, output: Tensor, seed: Array) -> Array:
    seeds = [Tensor(seed.astype(output.detach().data.dtype))]
    (gradient,) = autograd.grad([output], [tensor], seeds, retain_graph=True)
    assert gradient is not None
    return np.asarray(gradient.detach().data)


def _interval(operator: Operator, case: Case) -> tuple[float, float]:
    """Return the operator's domain; for what is infinite in it, how far its cases go."""
    numbers = np.concatenate([
        np.ravel(x)
        for seed in _SEEDS
        for x, each in _real_cases(operator, seed)
        if repr(each.parameters) == repr(case.parameters)
    ])  # fmt: skip
    drawn = numbers[np.isfinite(numbers)]
    low, high = operator.domain.get(operator.contract.inputs[0], (-np.inf, np.inf))
    low = low if isfinite(low) else float(drawn.min())
    high = high if isfinite(high) else float(drawn.max())
    if not low < high:
        raise _refuse(operator, f"has no case other than {low:g} to take an interval from")
    return low, high


# ------------------------------------------------------------------------------- the picture


def check_plottable(path: str | os.PathLike[str]) -> None:
    """Insist that a picture can be written there, before anything is computed.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the suffix is neither ``.png`` nor ``.svg``.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        msg = f"--plot: FILE is {str(path)!r}; it must end in {' or '.join(SUFFIXES)}"
        raise ValueError(msg)
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        msg = (
            "--plot needs the Python package `matplotlib`, which is not installed; "
            'install it with: pip install "opgrad[plot]"'
        )
        raise ImportError(msg) from error


def draw(curve: Curve) -> Figure:
    """Draw an operator and its derivative; needs the extra ``plot``."""
    # Not pyplot, which would choose a window system for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="0.8", linewidth=0.8)
    axes.plot(curve.x, curve.y, label=curve.label.replace("$", r"\$"))  # no formula in TeX
    axes.plot(curve.x, curve.slope, "--", label="its derivative")
    axes.set_xlabel(curve.axis)
    axes.set_ylim(*_seen(np.concatenate([curve.y, curve.slope])))
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure


def _seen(values: Array) -> tuple[float, float]:
    """Return what part of the values to show: a pole must not flatten all the rest."""
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, [0.02, 0.98]) if finite.size else (0.0, 0.0)
    margin = 0.1 * (high - low) or 1.0
    return low - margin, high + margin


def save(curve: Curve, path: str | os.PathLike[str]) -> None:
    """Draw an operator into a file, whole or not at all.

    Parameters
    ----------
    curve : Curve
        What to draw.
    path : str or path-like
        The file; its suffix, ``.png`` or ``.svg``, says what it will be.
    """
    figure = draw(curve)
    kind = Path(path).suffix.lower()[1:]
    metadata = {"Date": None} if kind == "svg" else None
    with replacing(path) as scratch:
        figure.savefig(scratch, format=kind, dpi=150, metadata=metadata)
