"""The arguments of a call, with another framework's arrays taken out of them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from opgrad.contract import nearest
from opgrad.operator import Operator
from opgrad.registry import registry
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an array belongs: its place in a list.

    Residuals are `constant`: a formula gets them as arrays, though it is itself recorded.
    """

    index: int
    constant: bool = False


def operator_of(operator: Any) -> Operator:
    """Return an operator that is given as itself or by name.

    Raises
    ------
    TypeError
        If it is neither.
    UnknownOperatorError, RegistryError
        If a name is not that of a usable operator.
    """
    if isinstance(operator, Operator):
        return operator
    if isinstance(operator, str):
        return registry.load(operator)
    msg = (
        f"wrap: argument 'operator' is {operator!r}; expected an opgrad.Operator (an instance, not "
        "its class), or the name of a registered one"
    )
    raise TypeError(msg)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of one call, with the arrays taken out of them.

    Attributes
    ----------
    operator : Operator
        What is called.
    inputs : tuple
        Its inputs, those of a variadic operator one by one: a `Slot` for each array, or a number or
        None.
    parameters : dict
        Its static parameters.
    """

    operator: Operator
    inputs: tuple[Any, ...]
    parameters: Mapping[str, Any]

    @classmethod
    def bind(
        cls,
        operator: Operator,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        is_array: Callable[[str, Any], bool],
        static: Callable[[str, Any], Any],
    ) -> tuple[Arguments, list[Any]]:
        """Read arguments as the operator's signature says; return them and the arrays.

        Parameters
        ----------
        operator, args, kwargs
            What is called with what.
        is_array : callable
            Takes the name of an input and its value, and tells whether it is an array of the
            framework's. For what is neither that nor a number it raises an error.
        static : callable
            Takes the name of a static parameter and its value, and returns it for NumPy.

        Raises
        ------
        TypeError
            If they do not fit the signature.
        """
        contract = operator.contract
        bound = _bound(operator, args, kwargs)
        inputs = [bound.arguments.pop(name) for name in contract.inputs]
        if operator.variadic:
            (inputs,) = inputs
            if not isinstance(inputs, list | tuple) or not inputs:
                (name,) = contract.inputs
                msg = (
                    f"{operator.name}: argument {name!r} is {inputs!r}; expected a list or tuple "
                    "of one array, or more"
                )
                raise TypeError(msg)
        arrays: list[Any] = []
        places: list[Any] = []
        for name, value in zip(contract.spread(len(inputs)).inputs, inputs, strict=True):
            if value is not None and is_array(name, value):
                places.append(Slot(len(arrays)))
                arrays.append(value)
            else:
                places.append(value)
        parameters = {k: each_of(v, partial(static, k)) for k, v in bound.arguments.items()}
        return cls(operator, tuple(places), parameters), arrays

    @property
    def differentiable(self) -> tuple[bool, ...]:
        """For each array, whether the operator has a gradient with respect to it."""
        sources = self.operator.contract.spread(len(self.inputs)).sources
        allowed = self.operator.differentiable
        pairs = zip(self.inputs, sources, strict=True)
        return tuple(allowed and bool(source) for each, source in pairs if isinstance(each, Slot))

    def apply(self, arrays: Sequence[Any]) -> Any:
        """Call the operator."""
        inputs = filled(self.inputs, arrays)
        return self.operator(*((inputs,) if self.operator.variadic else inputs), **self.parameters)


def _bound(
    operator: Operator, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> inspect.BoundArguments:
    """Return the arguments by name, with defaults."""
    signature = operator.contract.signature
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        unknown = [name for name in kwargs if name not in signature.parameters]
        hint = nearest(unknown[0], list(signature.parameters)) if unknown else ""
        name = operator.name
        msg = f"{name}: {error}; it is called as {name}{signature}{hint}"
        raise TypeError(msg) from None
    bound.apply_defaults()
    return bound


def filled(places: Any, arrays: Sequence[Any]) -> Any:
    """Put arrays where the slots are."""
    if isinstance(places, Slot):
        array = arrays[places.index]
        return array._data if places.constant and isinstance(array, Tensor) else array
    if isinstance(places, tuple):
        return tuple(filled(each, arrays) for each in places)
    return places


def presented(call: Callable[..., Any], operator: Operator) -> Callable[..., Any]:
    """Give a function the name, signature and docstring of an operator."""
    call.__name__ = call.__qualname__ = operator.name.rpartition(".")[2]
    call.__doc__ = type(operator).__doc__
    call.__signature__ = inspect.signature(operator)  # type: ignore[attr-defined]  # inspect reads it
    return call


def each_of(value: Any, made: Callable[[Any], Any]) -> Any:
    """Return what is made of a value, or of everything in it if it is a list or a tuple."""
    if isinstance(value, list):
        return [each_of(each, made) for each in value]
    return tuple(each_of(each, made) for each in value) if type(value) is tuple else made(value)
