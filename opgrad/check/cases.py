"""The author's cases: whether there are any, and whether the operator takes what they hold."""

from __future__ import annotations

from inspect import Parameter
from typing import TYPE_CHECKING, Any

from opgrad.contract import nearest
from opgrad.operator import Case
from opgrad.showing.terminal import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opgrad.operator import Operator


def misfits(operator: Operator, cases: Sequence[Any]) -> Iterator[tuple[int, str]]:
    """Yield the places of those cases that the operator cannot be asked about, and why.

    Examples
    --------
    >>> import numpy as np
    >>> import opgrad
    >>> [why for _, why in misfits(opgrad.ops.exp, [Case(np.ones(2)), Case(1.0, 2.0)])]
    ['Case(1.0, 2.0) has 2 inputs, and exp takes 1: x']
    """
    for at, case in enumerate(cases):
        if not isinstance(case, Case):
            yield at, f"self_check yields {case!r}, which is no Case; let it yield Cases alone"
        elif why := _misfit(operator, case):
            yield at, f"{case!r} {why}"


def _misfit(operator: Operator, case: Case) -> str:
    """Say what of a case does not fit the signature of ``forward``; nothing if all does."""
    contract = operator.contract
    parameters = contract.signature.parameters
    count = len(case.inputs)
    needed = [name for name in contract.inputs if parameters[name].default is Parameter.empty]
    if not operator.variadic and not len(needed) <= count <= len(contract.inputs):
        names, amount = ", ".join(contract.inputs), len(contract.inputs)
        takes = f"{len(needed)} to {amount}" if len(needed) < amount else f"{amount}"
        has = "no inputs" if not count else counted(count, "input")
        return f"has {has}, and {operator.name} takes {takes}: {names}"
    known = contract.parameters
    for name in case.parameters:
        if name not in known:
            there = f"takes the parameters {', '.join(known)}" if known else "takes none"
            hint = nearest(name, known)
            return f"has a parameter {name!r}, and {operator.name} {there}{hint}"
    for name in known:
        if name not in case.parameters and parameters[name].default is Parameter.empty:
            return f"has no parameter {name!r}, which {operator.name} needs; add {name}=..."
    return ""
