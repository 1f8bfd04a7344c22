"""From a tensor's methods, Python's operators and NumPy's functions to operators, by name."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import inplace
from opgrad.levels import BatchedKeyError
from opgrad.namespaces import namespace
from opgrad.operands import OperandError
from opgrad.registry import UnknownOperatorError, calls, registry
from opgrad.variable import Variable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opgrad.tensor import Tensor


#: NumPy's functions that tell of an array's shape alone, and have nothing to record.
_OF_SHAPE = frozenset((np.shape, np.ndim, np.size))

#: NumPy's functions that are PyTorch's by name and do something else.
_OTHERWISE = frozenset((np.split,))


def plain_key(key: Any) -> Any:
    """Return an index with arrays in the place of tensors, and none that others may write to."""
    if isinstance(key, tuple):
        return tuple(plain_key(each) for each in key)
    if isinstance(key, Variable):
        if key._hidden:
            raise BatchedKeyError
        key = key._data
    return key.copy() if isinstance(key, np.ndarray | list) else key


def _like(value: Any) -> Any:
    return value._like() if isinstance(value, Variable) else value


def _binary(name: str, *, commutes: bool = False) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Make a dunder and its reflection. What the operator cannot take, the other operand may."""

    def dunder(self: Tensor, other: Any) -> Any:
        try:
            return getattr(calls, name)(self, other)
        except OperandError:
            return NotImplemented

    def reflected(self: Tensor, other: Any) -> Any:
        try:
            return getattr(calls, name)(other, self)
        except OperandError:
            return NotImplemented

    return dunder, dunder if commutes else reflected


def _in_place(name: str) -> Callable[[Tensor, Any], Any]:
    """Make ``+=`` and its like."""

    def dunder(self: Tensor, other: Any) -> Any:
        try:
            return inplace.apply(name, self, other)
        except OperandError:
            return NotImplemented

    return dunder


def _unary(name: str) -> Callable[[Tensor], Any]:
    def dunder(self: Tensor) -> Any:
        return getattr(calls, name)(self)

    return dunder


class Dispatch(Variable):
    """What of a tensor is an operator: found by its name, and applied to the tensor."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __getattr__(self: Any, name: str) -> Callable[..., Any]:
        if not name.startswith("_"):
            plain = name.removesuffix("_")
            operator = registry.method(plain)
            if operator is not None:
                if plain != name:
                    return functools.partial(inplace.apply, operator.name, self)
                return functools.partial(operator.function, self)
        msg = f"a Tensor has no attribute {name!r}, and no operator of that name is a method"
        raise AttributeError(msg, name=name, obj=self)

    def __dir__(self) -> list[str]:
        names = (each.rpartition(".")[2] for each in registry.names())
        return sorted({*super().__dir__(), *names})

    __add__, __radd__ = _binary("add", commutes=True)
    __sub__, __rsub__ = _binary("sub")
    __mul__, __rmul__ = _binary("mul", commutes=True)
    __truediv__, __rtruediv__ = _binary("div")
    __pow__, __rpow__ = _binary("pow")
    __matmul__, __rmatmul__ = _binary("matmul")
    __iadd__, __isub__ = _in_place("add"), _in_place("sub")
    __imul__, __itruediv__ = _in_place("mul"), _in_place("div")
    __ipow__ = _in_place("pow")
    __eq__, __ne__ = _binary("equal")[0], _binary("not_equal")[0]
    __lt__, __le__ = _binary("less")[0], _binary("less_equal")[0]
    __gt__, __ge__ = _binary("greater")[0], _binary("greater_equal")[0]
    __neg__, __abs__ = _unary("neg"), _unary("abs")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            instead = (
                "an array takes another's values, as in `p.data -= lr * p.grad.data`, and a tensor "
                "a tensor's: `p -= lr * p.grad` inside `with opgrad.no_grad():`"
                if "out" in kwargs
                else "use opgrad's functions"
            )
            msg = (
                f"np.{ufunc.__name__}: only the plain call works on tensors, got method "
                f"{method!r} with {sorted(kwargs)}; {instead}"
            )
            raise TypeError(msg)
        try:
            call = getattr(calls, ufunc.__name__)
        except UnknownOperatorError:
            return NotImplemented
        return call(*inputs)

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        if func in _OF_SHAPE:
            return func(*map(_like, args), **{name: _like(each) for name, each in kwargs.items()})
        if func in _OTHERWISE:
            return NotImplemented
        try:
            call = getattr(namespace(self), func.__name__)
        except AttributeError:
            return NotImplemented
        return call(*args, **kwargs)
