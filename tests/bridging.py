"""Operators that the tests of bridges take to other frameworks, and the cases of a family."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np

from opgrad import Case, Operator, hookimpl
from opgrad.bridge.arguments import operator_of
from opgrad.registry import registry


def real_cases(name):
    """Return pairs of an operator and each of its own cases that is of real numbers."""
    return [
        (name, case)
        for case in registry.load(name).contract.hooks["self_check"](np.random.default_rng(0))
        if all(np.asarray(each).dtype.kind in "fbiO" for each in case.inputs)
    ]


def cases_of_family(family):
    """Return the real cases of every operator that one of opgrad's modules offers."""
    module = f"opgrad_plugins.{family}"
    points = entry_points(group="opgrad.operators")
    names = sorted({each.name for each in points if each.module == module})
    assert names
    return [pair for name in names for pair in real_cases(name)]


def shown(value):
    """Name a test after an operator or a case."""
    return value if isinstance(value, str) else repr(value)


def with_arrays(op, case, wrapped, convert=lambda array: array):
    """Return what is wrapped as a function of a case's floating arrays alone, and these."""
    is_array = [isinstance(each, np.ndarray) for each in case.inputs]
    places = [i for i, each in enumerate(case.inputs) if is_array[i] and each.dtype.kind == "f"]
    fixed = [convert(x) if array else x for x, array in zip(case.inputs, is_array, strict=True)]

    def function(*arrays):
        inputs = list(fixed)
        for i, array in zip(places, arrays, strict=True):
            inputs[i] = array
        variadic = operator_of(op).variadic
        made = wrapped(*([inputs] if variadic else inputs), **case.parameters)
        outputs = made if isinstance(made, tuple) else (made,)
        return tuple(each for each in outputs if "float" in str(each.dtype))

    return function, [case.inputs[i] for i in places]


def expected(op, case):
    """Return what opgrad itself gives, as arrays."""
    found = operator_of(op)
    made = found(*([case.inputs] if found.variadic else case.inputs), **case.parameters)
    return [each.numpy() for each in (made if isinstance(made, tuple) else (made,))]


class Rectified(Operator):
    """The square of what is above a bound; the backward is left a mask, as a residual."""

    residuals = ("above",)

    @hookimpl
    def forward(self, x, /, bound=0.0, *, xp):
        above = x > bound
        return xp.where(above, x * x, 0), above

    @hookimpl
    def backward(self, grad, x, above, xp):
        return xp.where(above, grad * 2 * x, 0)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 2)) * rng.choice([-1, 1], size=(3, 2)))
        yield Case(rng.uniform(1.5, 2, size=3), bound=1.0)


class Accumulated(Operator):
    """The running sums of the powers of a vector's elements, by a method that only NumPy has."""

    @hookimpl
    def forward(self, x, /, power=1, reverse=False):
        step = -1 if reverse else 1
        return np.add.accumulate((x**power)[::step])[::step].copy()

    @hookimpl
    def backward(self, grad, x, power, reverse):
        return accumulated(grad, reverse=not reverse) * (power * x ** (power - 1))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=4), power=3)
        yield Case(rng.uniform(0.5, 2, size=1), power=2, reverse=True)


class Opaque(Operator):
    """The square, with a residual that is no array."""

    residuals = ("note",)

    @hookimpl
    def forward(self, x, /):
        return x * x, {"factor": 2}

    @hookimpl
    def backward(self, grad, x, note):
        return grad * note["factor"] * x

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))


class Counted(Operator):
    """Each element times how many are positive: a number, and left to the backward as one."""

    residuals = ("count",)

    @hookimpl
    def forward(self, x, /):
        count = int(np.count_nonzero(np.asarray(x) > 0))
        return x * count, count

    @hookimpl
    def backward(self, grad, count):
        return grad * count

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=3))


class Once(Operator):
    """The cube, whose backward is not to be differentiated, and does not name the input."""

    once_differentiable = True
    residuals = ("slope",)

    @hookimpl
    def forward(self, x, /):
        return x**3, 3 * x**2

    @hookimpl
    def backward(self, grad, slope):
        return grad * slope

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))


class Parity(Operator):
    """The quotient and the remainder of division by two: one has a slope, the other is integer."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return x / 2, xp.astype(xp.floor(x), xp.int32) % 2

    @hookimpl
    def backward(self, grad):
        return grad[0] / 2

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0, 9, size=4))


rectified, accumulated, counted = Rectified(), Accumulated(), Counted()
opaque, once, parity = Opaque(), Once(), Parity()

#: Of every kind of operator beside those of one element each: name or operator, and its cases.
KINDS = [
    (name, case)
    for name in (
        "sum",
        "matmul",
        "stack",
        "split",
        "pow",
        "std",
        "binary_cross_entropy_with_logits",
    )
    for name, case in real_cases(name)
    if sum(np.size(each) for each in case.inputs) <= 32
] + [
    (operator, case)
    for operator in (rectified, accumulated, counted, parity)
    for case in operator.self_check(np.random.default_rng(0))
]


def section(title):
    """Return what the documentation of the bridges says under a heading."""
    text = (Path(__file__).parents[1] / "docs" / "bridges.md").read_text(encoding="utf-8")
    return text.split(f"\n## {title}\n")[1].partition("\n## ")[0]


def carried_out(title):
    """Carry out a section's code; return what is said there of values, and what they are."""
    (code,) = re.findall(r"^```python\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)
    scope = {"__name__": "documented"}
    exec(compile(code, title, "exec"), scope)
    stated = re.findall(r"^(\w[^=\n]*?)  # (.+)$", code, re.MULTILINE)
    assert stated
    return [said for _, said in stated], [repr(eval(code, scope)) for code, _ in stated]
