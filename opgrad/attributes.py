"""Operators as attributes: ``opgrad.ops.mul``, ``opgrad.ops.acme.softplus``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opgrad.naming import is_operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from opgrad.operator import Operator
    from opgrad.registry import Registry


class Namespace:
    """Operators as attributes: ``ops.mul``, ``ops.acme.softplus``. Loads at first use.

    Parameters
    ----------
    registry : Registry
        Where names are looked up.
    prefix : str
        What stands before the attribute's name, with a dot at its end.
    pick : callable
        What of an operator the attribute is.
    """

    def __init__(
        self, registry: Registry, pick: Callable[[Operator], Any], prefix: str = ""
    ) -> None:
        self._registry = registry
        self._prefix = prefix
        self._pick = pick
        self._own = frozenset((*self.__dict__, "_own"))
        registry.on_change(self._forget)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        full = self._prefix + name
        known = self._registry.entries()
        if not is_operator(full, known) and any(each.startswith(f"{full}.") for each in known):
            found: Any = Namespace(self._registry, self._pick, f"{full}.")
        else:
            found = self._pick(self._registry.load(full))
        self.__dict__[name] = found
        return found

    def __dir__(self) -> list[str]:
        known, prefix = self._registry.entries(), self._prefix
        names = (each for each in self._registry.names() if is_operator(each, known))
        return sorted({each.removeprefix(prefix).partition(".")[0] for each in names
                       if each.startswith(prefix)})  # fmt: skip

    def _forget(self) -> None:
        for name in self.__dict__.keys() - self._own:
            del self.__dict__[name]
