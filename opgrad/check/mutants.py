"""Operators made wrong on purpose, to see whether the verifier finds out.

A mutant is an instance of a subclass that is made on the fly and never registered. One of its
hooks is changed: in what it gives, as `opgrad.check.mutations` says, or in its text. Everything
else it inherits.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad.check.mutations import Call, mutations
from opgrad.check.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opgrad.check.mutations import Change
    from opgrad.operator import Operator


@dataclass(frozen=True, slots=True)
class Mutant:
    """An operator with one error.

    Attributes
    ----------
    operator : Operator
        The wrong operator.
    hook : str
        The hook that is wrong, and which of its results if it gives several.
    mutation : str
        What is wrong with it.
    """

    operator: Operator
    hook: str
    mutation: str


def mutants(operator: Operator) -> Iterator[Mutant]:
    """Make every mutant of an operator.

    Examples
    --------
    >>> import opgrad
    >>> made = {(each.hook, each.mutation): each.operator for each in mutants(opgrad.ops.exp)}
    >>> x = opgrad.tensor(0.0, requires_grad=True)
    >>> made["backward", "opposite sign"](x).backward()
    >>> x.grad
    tensor(-1.)
    """
    outputs = _output_count(operator)
    for label, hook, place in _places(operator, outputs):
        original = _function(operator, hook)
        for name, change in mutations(operator, hook, outputs).items():
            attributes = {hook: _changed(original, change, place)}
            yield Mutant(_subclassed(operator, attributes), label, name)
    yield from _exchanged(operator)
    yield from _shortened(operator)


def _function(operator: Operator, hook: str) -> Callable[..., Any]:
    """Return a hook as its author wrote it: with `self`, unless it is static."""
    found: Callable[..., Any] = inspect.getattr_static(type(operator), hook)
    return found.__func__ if isinstance(found, staticmethod) else found


def _output_count(operator: Operator) -> int:
    cases = operator.contract.hooks["self_check"](np.random.default_rng(0))
    return len(Trial.of(operator, next(iter(cases))).forward())


def _places(operator: Operator, outputs: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Give what to mutate: a label, a hook, and where in the hook's result to find it."""
    inputs = operator.contract.inputs
    for hook in operator.contract.hooks:
        first = (0,) if hook == "forward" and operator.residuals else ()
        if hook in ("forward", "batch") and outputs > 1:
            yield from ((f"{hook}[{k}]", hook, (*first, k)) for k in range(outputs))
        elif hook == "backward" and len(inputs) > 1:
            yield from ((f"backward[{name}]", hook, (i,)) for i, name in enumerate(inputs))
        elif hook in ("forward", "self_check") or operator.differentiable:
            yield hook, hook, first


def _changed(
    original: Callable[..., Any], change: Change, place: tuple[int, ...]
) -> Callable[..., Any]:
    """Return a hook with the signature and the marker of the original, and a changed result."""
    signature = inspect.signature(original)
    kept: list[Any] = []

    @functools.wraps(original)
    def hook(*args: Any, **kwargs: Any) -> Any:
        call = Call(original, signature.bind(*args, **kwargs), place, kept)
        return _put(call.whole(), place, lambda right: change(right, call))

    return hook


def _put(result: Any, place: tuple[int, ...], change: Callable[[Any], Any]) -> Any:
    """Return a result with a change somewhere in it; what is None, or not there, remains so."""
    if not place:
        return None if result is None else change(result)
    at, *rest = place
    if at >= len(result):  # how many parts an array has depends on its shape
        return result
    return (*result[:at], _put(result[at], tuple(rest), change), *result[at + 1 :])


def _subclassed(operator: Operator, attributes: Mapping[str, Any]) -> Operator:
    """Return the operator with some hooks replaced, and the rest of its state kept."""
    base = type(operator)
    members: dict[str, Any] = {"__doc__": base.__doc__}
    for name, hook in attributes.items():
        static = isinstance(inspect.getattr_static(base, name), staticmethod)
        members[name] = staticmethod(hook) if static else hook
    cls: type[Operator] = type(base.__name__, (base,), members)
    made = cls.__new__(cls)
    for name, value in vars(operator).items():
        if name not in ("contract", "compiled"):
            setattr(made, name, value)
    return made


def _exchanged(operator: Operator) -> Iterator[Mutant]:
    """Exchange the gradients of neighbouring inputs."""
    contract, base = operator.contract, type(operator)
    own = [hook for hook in contract.hooks if hook.startswith("backward_")]
    for one, other in itertools.pairwise(own):
        attributes = {one: getattr(base, other), other: getattr(base, one)}
        # A jvp may name what the backward of the same input names: it has to go along.
        jvps = [each.replace("backward", "jvp") for each in (one, other)]
        if any(contract.jvps):
            attributes |= {jvps[0]: getattr(base, jvps[1]), jvps[1]: getattr(base, jvps[0])}
        yield Mutant(_subclassed(operator, attributes), f"{one}, {other}", "exchanged")
    if "backward" in contract.hooks:
        original = _function(operator, "backward")
        for i, names in enumerate(itertools.pairwise(contract.inputs)):
            exchange = functools.partial(_with_neighbours_exchanged, i)
            attributes = {"backward": _changed(original, exchange, ())}
            label = f"backward[{', '.join(names)}]"
            yield Mutant(_subclassed(operator, attributes), label, "exchanged")


def _with_neighbours_exchanged(i: int, results: Any, _call: Call) -> Any:
    return (*results[:i], results[i + 1], results[i], *results[i + 2 :])


# ------------------------------------------------------------------------- a term less


def _shortened(operator: Operator) -> Iterator[Mutant]:
    """Drop the terms of the sums and differences in the text of a derivative, one at a time."""
    for hook in operator.contract.hooks:
        if hook.startswith(("backward", "jvp")) and operator.differentiable:
            for term, function in _without_each_term(_function(operator, hook)):
                label = f"{hook}, without {term}"
                yield Mutant(_subclassed(operator, {hook: function}), label, "dropped term")


def _without_each_term(function: Callable[..., Any]) -> Iterator[tuple[str, Callable[..., Any]]]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return  # there is no text, as of functions that are made by others
    if not isinstance(tree.body[0], ast.FunctionDef) or function.__name__ != tree.body[0].name:
        return  # of a lambda it is that of the statement around it
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            left, sign, right = node.left, node.op, node.right
            one = ast.Constant(1 if isinstance(sign, ast.Add) else -1)
            node.op = ast.Mult()
            for dropped, node.left, node.right in (
                (right, left, ast.Constant(1)),
                (left, one, right),
            ):
                yield ast.unparse(dropped), _compiled(tree, function)
            node.left, node.op, node.right = left, sign, right


def _compiled(tree: ast.Module, function: Callable[..., Any]) -> Callable[..., Any]:
    """Make the function that a changed text defines, with the names that the original sees."""
    (definition,) = tree.body
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    seen = inspect.getclosurevars(function)
    scope = {**function.__globals__, **seen.nonlocals}
    exec(compile(ast.fix_missing_locations(tree), "<a term less>", "exec"), scope)
    return functools.wraps(function)(scope[definition.name])
