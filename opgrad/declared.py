"""What an author declares of an operator beside its hooks: the class attributes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opgrad.operator import Operator


def _are_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, str) for each in value)


def _are_intervals(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(each, tuple | list) and len(each) == 2 and all(isinstance(x, Real) for x in each)
        for each in value.values()
    )


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


_NAMES = (_are_names, "a tuple of names, such as ('multiply',)")
_FLAG = (_is(bool), "True or False")
_TEXT = (_is(str), "a text")

#: What an author may say of an operator beside its hooks: the test of a value, and what passes it.
ATTRIBUTES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "aliases": _NAMES,
    "residuals": _NAMES,
    "overloads": (_is(Mapping), "a mapping from arguments to operators"),
    "differentiable": _FLAG,
    "once_differentiable": _FLAG,
    "variadic": _FLAG,
    "view": _FLAG,
    "method": _FLAG,
    "expects": _TEXT,
    "reference": (lambda value: value is None or callable(value), "a method"),
    "domain": (_are_intervals, "a mapping from inputs to pairs of numbers, {'x': (0, inf)}"),
    "node_name": _TEXT,
}


def wrong_attributes(operator: Operator) -> Iterator[str]:
    """Say what is wrong with the class attributes of an operator."""
    where = type(operator).__qualname__
    for name, (is_right, expected) in ATTRIBUTES.items():
        value = getattr(operator, name)
        if not is_right(value):
            yield f"{where}.{name} is {value!r}; expected {expected}"
    for fault in chain(wrong_aliases(operator.aliases), wrong_equality(operator)):
        yield f"{where} {fault}"


def wrong_aliases(aliases: Sequence[str]) -> Iterator[str]:
    """Say what is wrong with the aliases of an operator, whatever else is installed."""
    for i, alias in enumerate(aliases):
        if not alias.isidentifier():
            yield f"has the alias {alias!r}; expected a name as of a Python function"
        if alias in aliases[:i]:
            yield f"has the alias {alias!r} twice; name it once"


def wrong_equality(plugin: Any) -> Iterator[str]:
    """Say that a plugin has a `==` of its own, by which pluggy would tell it from others."""
    if any("__eq__" in vars(each) for each in type(plugin).__mro__[:-1]):
        yield (
            "defines __eq__, by which it might pass for another plugin; leave it out, so that "
            "plugins are told apart by identity"
        )
