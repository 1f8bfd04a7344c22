"""`Batched`: what the function of `vmap` is given, one tensor for all examples.

It looks like one example and has an axis more that does not show, the first one of the tensor
inside. A call of an operator with such a tensor comes to `apply`: there the operator's ``batch``
hook says what it does to all examples at once, and where there is none, it is called for each by
itself. Both call operators on the tensors inside, so that what is recorded is a graph as any other.

Calls of `vmap` nest, and so do these tensors: inside of an inner call's is an outer call's.
"""

from __future__ import annotations

import inspect
from functools import partial
from operator import getitem
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

from opgrad.graph import Edge, GraphError, Node
from opgrad.levels import (
    Level,
    insist_on_gradients_of,
    insist_on_running,
    levels,
    refuse,
    suspended,
)
from opgrad.operands import describe
from opgrad.registry import calls
from opgrad.tensor import Tensor
from opgrad.trees import leaves, rebuild
from opgrad.variable import HIDDEN, Variable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from opgrad.operator import Operator


_VALUES = "a tensor stands for many examples and has no values by itself"


def _refused(what: str) -> Any:
    """Make a method that says that a tensor of many examples does not have it."""

    def method(*_args: Any, **_kwargs: Any) -> NoReturn:
        refuse(what, _VALUES)

    return method


class Batched(Tensor):
    """A tensor of one example, which stands for all of them.

    Parameters
    ----------
    value : Tensor
        All of them, along its first axis.
    level : Level
        The call of `vmap` that they are the examples of.
    """

    __slots__ = ("_level", "_value")

    _hidden = True

    def __init__(self, value: Tensor, level: Level) -> None:
        self._value = value
        self._level = level

    # What is not redefined below, and looks at the data, comes here.
    @property
    def _data(self) -> NoReturn:
        refuse("the values of a tensor", _VALUES)

    @property
    def _edge(self) -> Edge | None:  # type: ignore[override]  # that of the tensor inside
        return self._value._edge

    def _read(self) -> tuple[Any, Any]:
        return self, HIDDEN

    def _like(self) -> Any:
        return np.broadcast_to(np.zeros((), self.dtype), self.shape)

    # ------------------------------------------------------------------- what one example is

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis of one example."""
        return self._value.shape[1:]

    @property
    def ndim(self) -> int:
        """The number of axes of one example."""
        return self._value.ndim - 1

    @property
    def size(self) -> int:
        """The number of elements of one example."""
        return self._like().size  # type: ignore[no-any-return]  # an array's

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        return self._value.dtype

    def view(self, *shape: Any) -> Tensor:
        """Return the elements in another shape; as nothing can be written to, a copy will do."""
        return self.reshape(*shape)

    def __repr__(self) -> str:
        marks = ", requires_grad=True" if self.requires_grad else ""
        return f"<one of {self._level.size} in vmap: {describe(self)}{marks}>"

    def __format__(self, spec: str) -> str:
        if spec:
            refuse(f"format {spec!r}", _VALUES)
        return repr(self)

    __setitem__ = _refused("x[key] = value")
    _version = property(_refused("_version"))
    data = property(_refused("data"), _refused("data = ..."))
    item, tolist, numpy = _refused("item()"), _refused("tolist()"), _refused("numpy()")
    __bool__ = _refused("bool(), which `if` asks for")
    __int__, __float__, __complex__ = _refused("int()"), _refused("float()"), _refused("complex()")
    __index__ = _refused("an integer for Python")
    __contains__ = _refused("in")
    __array__ = _refused("conversion to a NumPy array")
    __dlpack__ = _refused("export by DLPack")
    __copy__ = _refused("copy.copy()")
    __deepcopy__ = _refused("copy.deepcopy()")
    __reduce__ = _refused("pickle")

    # ---------------------------------------------------------------------------- gradients

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward passes have added up."""
        made = innermost(self)._grad
        if made is None:
            return None
        insist_on_gradients_of(levels_of(self))
        return rewrapped(self, made)

    @grad.setter
    def grad(self, _value: Tensor | None) -> NoReturn:
        refuse("grad = ...", "the gradient is that of all examples")

    @property
    def grad_fn(self) -> Node | None:
        """The node of the call that made the tensor; it is of all examples, and so refused."""
        if self.is_leaf:
            return None
        refuse("grad_fn", "a call's node is that of all examples")

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Refuse to change whether operations are recorded."""
        if requires_grad != self.requires_grad:
            refuse("requires_grad_()", "a leaf would get the sum over the examples")
        return self

    def detach(self) -> Tensor:
        """Return a tensor with the same data and no history."""
        return Batched(self._value.detach(), self._level)

    def is_inference(self) -> bool:
        """Tell whether the tensor was made in inference mode."""
        return self._value.is_inference()


# --------------------------------------------------------------------------- hidden axes


def innermost(tensor: Tensor) -> Tensor:
    """Return the tensor that has all the axes: those of the outermost call are its first."""
    while isinstance(tensor, Batched):
        tensor = tensor._value
    return tensor


def rewrapped(like: Tensor, tensor: Tensor) -> Tensor:
    """Hide the axes of a tensor that are hidden in another."""
    if not isinstance(like, Batched):
        return tensor
    return Batched(rewrapped(like._value, tensor), like._level)


def levels_of(tensor: Tensor) -> list[Level]:
    """Return the calls whose examples a tensor stands for, the outermost first."""
    found = []
    while isinstance(tensor, Batched):
        found.append(tensor._level)
        tensor = tensor._value
    return found[::-1]


def in_front(tensor: Tensor, level: Level) -> Tensor:
    """Return a tensor with all examples of a call along its first axis, which shows."""
    insist_on_running(level)
    if not isinstance(tensor, Batched) or tensor._level.depth < level.depth:
        return _tensor(calls.broadcast_to(tensor, (level.size, *tensor.shape)))
    if tensor._level is level:
        return tensor._value
    shown = in_front(tensor._value, level)
    return Batched(_tensor(calls.swapaxes(shown, 0, 1)), tensor._level)


def hidden(tensor: Tensor, level: Level) -> Tensor:
    """Return a tensor whose first axis, the examples of a call, does not show."""
    insist_on_running(level)
    if isinstance(tensor, Batched) and tensor._level.depth > level.depth:
        shown = _tensor(calls.swapaxes(tensor._value, 0, 1))
        return Batched(hidden(shown, level), tensor._level)
    return Batched(tensor, level)


def shown(tensor: Tensor, among: Sequence[Level]) -> Tensor:
    """Return a tensor with the examples of several calls along its first axes."""
    for level in reversed(among):
        tensor = in_front(tensor, level)
    return tensor


def hidden_again(tensor: Tensor, among: Sequence[Level]) -> Tensor:
    """Undo `shown`."""
    for level in among:
        tensor = hidden(tensor, level)
    return tensor


def lifted(tensor: Tensor) -> Tensor:
    """Return a tensor that stands for the examples of every call that is running.

    Where it is the same for all examples, it takes no memory for them.
    """
    for level in levels():
        if level not in levels_of(tensor):
            tensor = hidden(in_front(tensor, level), level)
    return tensor


def detached(tensor: Tensor) -> Tensor:
    """Return a tensor of the same data that has no history."""
    return rewrapped(tensor, Tensor(innermost(tensor)._data))


def _tensor(result: Any) -> Tensor:
    made: Tensor = result
    return made


# ------------------------------------------------------------------------ calls of operators


def apply(
    operator: Operator, operands: Iterable[tuple[Any, Any]], parameters: Mapping[str, Any]
) -> Any:
    """Apply an operator to operands of which one, at least, stands for many examples.

    Parameters
    ----------
    operator : Operator
        The operator.
    operands : iterable of (data, edge)
        As they were read, with `HIDDEN` for an edge where it is the tensor itself.
    parameters : mapping
        The static parameters.

    Raises
    ------
    GraphError
        If its hook does not return tensors with the examples along the first axis.
    """
    inputs = [_operand(data, edge) for data, edge in operands]
    level = _highest(inputs)
    insist_on_running(level)
    hook = operator.contract.hooks.get("batch")
    if hook is None:
        given = (inputs,) if operator.variadic else inputs
        return looped(operator, *given, **parameters)
    values = [_in_front_once(each, level) for each in inputs]
    try:
        result = hook(**_arguments(operator, hook, values, parameters))
    except Exception as error:
        got = ", ".join(map(describe, inputs))
        error.add_note(f"{operator.name} was called inside vmap: for each example with {got}")
        raise
    if isinstance(result, tuple):
        return tuple(_result(operator, each, level) for each in result)
    return _result(operator, result, level)


def _operand(data: Any, edge: Any) -> Any:
    if edge is HIDDEN or not hasattr(data, "dtype"):
        return data
    return Variable.kind(data, edge)


def _highest(values: Iterable[Any]) -> Level:
    return max(
        (each._level for each in values if isinstance(each, Batched)),
        key=lambda level: level.depth,
    )


def _in_front_once(value: Any, level: Level) -> Any:
    """Return an input as a ``batch`` hook gets it; what is one for all has an axis of size 1."""
    if not isinstance(value, Tensor):
        return value
    if isinstance(value, Batched) and value._level is level:
        return value._value
    return calls.expand_dims(value, 0)


def _arguments(
    operator: Operator,
    hook: Callable[..., Any],
    values: Sequence[Any],
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a ``batch`` hook names."""
    import opgrad

    names = operator.contract.inputs
    given = [tuple(values)] if operator.variadic else values
    offered = {"xp": opgrad, "inputs": tuple(values), "parameters": parameters, **parameters}
    offered.update(zip(names, given, strict=True))
    return {name: offered[name] for name in inspect.signature(hook).parameters}


def _result(operator: Operator, value: Any, level: Level) -> Tensor:
    if not isinstance(value, Tensor) or value.shape[:1] != (level.size,):
        msg = (
            f"{operator.name}.batch returned {describe(value)}; expected a tensor with all "
            f"{level.size} examples along its first axis"
        )
        raise GraphError(msg)
    return Batched(value, level)


def looped(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function for each example by itself, and stack what it returns.

    What is the same for all is handed on as a view that cannot be written to: what is written for
    one would be seen by the next.
    """
    from opgrad.batching import vmap

    given = (args, kwargs)
    level = _highest(leaf for _, leaf in leaves(given))
    insist_on_running(level)
    flat = [leaf for _, leaf in leaves(given)]
    theirs = [isinstance(each, Batched) and each._level is level for each in flat]
    values = [
        each._value if its else _read_only(each) for each, its in zip(flat, theirs, strict=True)
    ]

    def of_one(*each: Any) -> Any:
        args, kwargs = rebuild(given, iter(each))
        return call(*args, **kwargs)

    with suspended(level):
        made = vmap(of_one, tuple(0 if its else None for its in theirs), loop=True)(*values)
    return rebuild(made, (hidden(leaf, level) for _, leaf in leaves(made)))


def each_by_itself(call: Callable[..., Any], *args: Any) -> Any:
    """Call a function with tensors that have values, for each example where they have none."""
    if any(isinstance(leaf, Batched) for _, leaf in leaves(args)):
        return looped(partial(each_by_itself, call), *args)
    return call(*args)


def _read_only(value: Any) -> Any:
    return calls.broadcast_to(value, value.shape) if isinstance(value, Tensor) else value


def pick(x: Tensor, key: Any) -> Tensor:
    """Return ``x[key]`` where the key differs among the examples."""
    level = _highest(leaf for _, leaf in leaves((x, key)))
    if isinstance(key, Batched) and not key._value._hidden and key.dtype.kind in "iu":
        index = key._value.data
        if key._level is level and not (isinstance(x, Batched) and x._level is level):
            return hidden(_tensor(calls.getitem(x, index)), level)
        if key._level is level:
            rows = np.arange(level.size).reshape(-1, *[1] * key.ndim)
            return hidden(_tensor(calls.getitem(x._value, (rows, index))), level)
    return _tensor(looped(getitem, x, key))
