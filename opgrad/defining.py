"""The class of an operator that is given as functions; see `opgrad.Operator.define`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from opgrad.contract import HOOK, OperatorError, nearest, own_classes
from opgrad.declared import ATTRIBUTES
from opgrad.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opgrad.operator import Operator

_O = TypeVar("_O", bound="Operator")


def defined(base: type[_O], forward: Callable[..., Any], members: Mapping[str, Any]) -> type[_O]:
    """Write the class statement: what is a function becomes a hook, or else a static method."""
    if not inspect.isfunction(forward):
        msg = (
            f"{base.__qualname__}.define got {forward!r} as forward; expected a function, whose "
            "arguments before a '/' are arrays"
        )
        raise OperatorError(msg)
    if "forward" in members:
        msg = f"{forward.__name__}: forward is given twice; it is the function that is decorated"
        raise OperatorError(msg)
    given = {"forward": forward, **members}
    own = {name: _member(base, forward.__name__, name, each) for name, each in given.items()}
    title = "".join(part[:1].upper() + part[1:] for part in forward.__name__.split("_"))
    names = {"__doc__": forward.__doc__, "__module__": forward.__module__, "__qualname__": title}
    return type(title, (base,), {**names, **own})


def _member(base: type[Operator], where: str, name: str, value: Any) -> Any:
    if HOOK.match(name):
        if not inspect.isfunction(value):
            msg = f"{where}: the hook {name} is {value!r}; expected a function, without self"
            raise OperatorError(msg)
        return staticmethod(hookimpl(value))
    known = [*ATTRIBUTES, "subgradient"]
    if name not in known and not (_is_own(base, name) and not inspect.isfunction(value)):
        msg = (
            f"{where}: {name!r} is neither a hook nor an attribute of {base.__qualname__}"
            f"{nearest(name, ['backward', 'self_check', 'jvp', 'batch', *known])}"
        )
        raise OperatorError(msg)
    return staticmethod(value) if inspect.isfunction(value) else value


def _is_own(base: type[Operator], name: str) -> bool:
    """Tell whether an attribute is one that a family added to those of every operator."""
    return not name.startswith("_") and any(name in vars(each) for each in own_classes(base))
