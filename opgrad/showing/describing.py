"""All that there is to say of one operator: what its author wrote, and what opgrad reads off it."""

from __future__ import annotations

import inspect
import math
import os
import textwrap
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad.calls import _saved_names
from opgrad.registry import registry
from opgrad.showing.states import Details

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opgrad.operator import Operator
    from opgrad.showing.guarding import Guard
    from opgrad.showing.states import Line

#: How many cases are shown.
_CASES = 5
_FLAGS = ("differentiable", "once_differentiable", "view", "method", "variadic")


def operator_of(name: str) -> Operator:
    """Import what a name means, or as ``name@distribution`` what is overridden.

    Examples
    --------
    >>> operator_of("exp")
    <operator exp(x, /)>
    """
    own, _, distribution = name.partition("@")
    if distribution and (base := registry.base(own)) and base[0].distribution == distribution:
        return base[1]
    return registry.load(own)


def load(name: str) -> Details:
    """Import an operator, and return what the listing shows of it."""
    operator = registry.load(name)
    return Details(tuple(map(str, operator.aliases)), bool(operator.method))


def loaded(found: Iterable[Line], guard: Guard) -> Iterator[Line]:
    """Import what is lazy, each operator under guard, and yield all lines as they then are.

    Parameters
    ----------
    found : iterable of Line
        Lines of operators; those that are blocked, or overridden, or have failed, stay as they are.
    guard : Guard
        Where the operators are imported.
    """
    for line in found:
        if line.state != "lazy":
            yield line
            continue
        answer = guard.ask(load, line.entry.name)
        if answer.why:
            yield replace(line, state="failed", why=answer.why)
        else:
            details = replace(answer.value, printed=answer.printed)
            yield replace(line, state="loaded", details=details)


def describe(name: str) -> dict[str, Any]:
    """Import an operator, and return all there is to say of it as plain data.

    Parameters
    ----------
    name : str
        Its name in the registry; ``name@distribution`` is what is overridden.

    Returns
    -------
    dict
        Texts, numbers, lists and dicts, as JSON knows them.
    """
    operator = operator_of(name)
    contract = operator.contract
    return {
        "signature": _signature(contract.signature),
        "doc": inspect.cleandoc(type(operator).__doc__ or ""),
        "aliases": list(operator.aliases),
        "inputs": list(contract.inputs),
        "parameters": list(contract.parameters),
        "gradients": _by_input(contract.inputs, contract.sources),
        "tangents": _by_input(contract.inputs, contract.jvps),
        "saves": list(_saved_names(operator)),
        "residuals": list(operator.residuals),
        "flags": {flag: bool(getattr(operator, flag, False)) for flag in _FLAGS},
        "domain": {name: [_bound(each) for each in ends] for name, ends in operator.domain.items()},
        "hooks": [
            {"name": hook, **_source(function)}
            for hook, function in contract.hooks.items()
            if hook != "self_check"
        ],
        "cases": list(_cases(operator)),
    }


def _signature(signature: inspect.Signature) -> str:
    """Return a signature as text, without the annotations, which tell more of types than of it."""
    empty = inspect.Parameter.empty
    bare = [each.replace(annotation=empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def _by_input(inputs: tuple[str, ...], hooks: tuple[str | None, ...]) -> dict[str, str]:
    return {name: hook for name, hook in zip(inputs, hooks, strict=True) if hook}


def _bound(value: float) -> float | None:
    """Return the bound of an interval; JSON has no infinity."""
    return float(value) if math.isfinite(value) else None


def _source(function: Callable[..., Any]) -> dict[str, Any]:
    """Return where a hook is written, and how; None where its source is not to be had."""
    try:
        text, line = inspect.getsourcelines(function)
    except OSError:
        return {"file": None, "line": None, "source": None}
    file = inspect.getsourcefile(function)
    return {"file": file, "line": line, "source": textwrap.dedent("".join(text))}


def _cases(operator: Operator) -> Iterator[str]:
    """Yield the first of the operator's cases as text; of one that fails, why."""
    cases = operator.contract.hooks["self_check"](np.random.default_rng(0))
    try:
        yield from map(repr, islice(cases, _CASES))
        if next(cases, None) is not None:
            yield "..."
    except Exception as error:  # noqa: BLE001 - the rest is to be seen all the same
        yield f"self_check fails: {type(error).__name__}: {error}"


# ----------------------------------------------------------------------------------- as text


def facts(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a description says in a few words, as pairs of a heading and a text."""
    yield "aliases", ", ".join(told["aliases"])
    yield "gradients", _hooks_as_text(told["gradients"])
    yield "jvps", _hooks_as_text(told["tangents"])
    yield "saves", ", ".join(told["saves"]) or "nothing"
    yield "residuals", ", ".join(told["residuals"])
    yield "flags", ", ".join(flag for flag, value in told["flags"].items() if value)
    bounded = {name: ends for name, ends in told["domain"].items() if ends != [None, None]}
    yield "domain", ", ".join(_interval(name, *ends) for name, ends in bounded.items())


def _hooks_as_text(hooks: dict[str, str]) -> str:
    return ", ".join(f"{name} by {hook}" for name, hook in hooks.items())


def _interval(name: str, low: float | None, high: float | None) -> str:
    below = "" if low is None else f"{low:g} < "
    above = "" if high is None else f" < {high:g}"
    return f"{below}{name}{above}"


def place(hook: dict[str, Any]) -> str:
    """Return where a hook is written, as ``file:line``, from here if it is below."""
    if hook["file"] is None:
        return "its source is not to be had"
    below = os.path.relpath(hook["file"])
    file = hook["file"] if below.startswith(os.pardir) else below
    return f"{file}:{hook['line']}"
