"""Functions that run around every call of every operator: `opgrad.around_call`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Self

from opgrad.hookspecs import hookimpl
from opgrad.registry import registry

if TYPE_CHECKING:
    from collections.abc import Callable


class around_call:  # noqa: N801 - a function to its users
    """Run a function around every call of every operator, until it is removed.

    The operators are compiled anew with it; while there is none, they have nothing of it. Of
    several the one that came last is outermost.

    Parameters
    ----------
    function : callable
        The hook `opgrad.hookspecs.around_call`: a function of `operator` and `call`, or of what it
        names of them, which calls `call` once and returns what that returns.

    Raises
    ------
    TypeError
        If it is not a Python function or method.
    RegistryError
        If it names other arguments.

    Examples
    --------
    >>> import opgrad
    >>> def tell(operator, call):
    ...     print(operator.name)
    ...     return call()
    >>> with opgrad.around_call(tell):
    ...     opgrad.exp(0.0)
    exp
    tensor(1.)
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        if not inspect.isroutine(function) or inspect.isbuiltin(function):
            msg = (
                f"around_call got {function!r}; expected a Python function of `operator` and `call`"
            )
            raise TypeError(msg)
        self._there = False
        hookimpl(getattr(function, "__func__", function))
        self.around_call = function
        registry.register_plugin(self)
        self._there = True

    def remove(self) -> None:
        """Remove it; it is no error if it is removed already."""
        if self._there:
            self._there = False
            registry.unregister_plugin(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
