"""The inputs and outputs of a call: what is accepted, what is wrapped, and what is said if neither.

The functions that are named for an operator (``operand_reader(operator)``) make one for that
operator; the compiled call uses them where its fast path ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from opgrad.dtypes import default_dtype_of
from opgrad.graph import GraphError
from opgrad.namespaces import NAMESPACES
from opgrad.variable import Variable, kind_now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opgrad.operator import Operator

#: What counts as a plain number: a NumPy scalar is the number it holds, so that it does not
#: decide the dtype of a result.
NUMBERS: tuple[type, ...] = (int, float, complex, np.number, np.bool_)

#: Python's own numbers, and the types of NumPy's arrays and scalars.
_PLAIN: frozenset[Any] = frozenset({bool, int, float, complex})
NUMPY_TYPES = frozenset(NAMESPACES)

#: Of these types are the outputs that are wrapped without further questions. There are none while
#: some thread is in inference mode.
at_once: set[type] = set(NUMPY_TYPES)

#: Exceptions whose message can be put into a sentence of ours.
_REWORDED = (ValueError, TypeError, IndexError, np.exceptions.AxisError)


def describe(value: Any) -> str:
    """Say what a value is, in a few words: ``float64 (3, 4)``."""
    data = value._like() if isinstance(value, Variable) else value
    if hasattr(data, "dtype") and hasattr(data, "shape"):
        return f"{data.dtype} {tuple(data.shape)}"
    return repr(data) if isinstance(data, NUMBERS) or data is None else type(data).__name__


def plain_number(value: Any) -> Any:
    """Return a number as one of Python's own, which decides no dtype; None as it is."""
    if type(value) in _PLAIN or value is None:
        return value
    if isinstance(value, np.generic):
        return value.item()
    return next(kind(value) for kind in _PLAIN if isinstance(value, kind))


def _array(value: Any) -> Any:
    """Return a numeric array, NumPy's as a plain ndarray; None if `value` is not one."""
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value) if value.dtype.kind in "biufc" else None
    return value if hasattr(value, "__array_namespace__") else None


def _as_data(value: Any) -> Any:
    """Return a number as 0-d data: NumPy's scalars as they are, Python's of the default dtype."""
    if isinstance(value, np.generic):
        return value
    return np.asarray(value, default_dtype_of(value))[()]


def operand_reader(operator: Operator) -> Callable[[Any, str], tuple[Any, Any]]:
    """Make the reader of an input that is not a plain `Tensor`.

    Beside another input a number stays a number, which decides no dtype; alone it is 0-d data.
    """
    parameters = operator.contract.signature.parameters
    optional = {name for name, each in parameters.items() if each.default is None}
    alone = len(operator.contract.inputs) == 1
    number = _as_data if alone else plain_number
    as_they_are = frozenset() if alone else _PLAIN

    def operand(value: Any, name: str) -> tuple[Any, Any]:
        kind = type(value)
        if kind in as_they_are:
            return value, None
        if value is None and name in optional:
            return None, None
        if isinstance(value, Variable):
            return value._read()
        if kind is np.ndarray and value.dtype.kind in "biufc":
            return value, None
        if isinstance(value, NUMBERS):
            return number(value), None
        array = _array(value)
        if array is not None:
            return array, None
        got = f"an array of dtype {value.dtype}" if hasattr(value, "dtype") else kind.__name__
        msg = (
            f"{operator.name}: argument {name!r} is {got}; expected a tensor, a numeric "
            "array or a number. Convert it with opgrad.tensor first."
        )
        raise OperandError(msg)

    return operand


def operands_reader(operator: Operator) -> Callable[[Any], tuple[Any, Any]]:
    """Make the reader of the one input of a variadic operator: of arrays, and of edges."""
    (name,) = operator.contract.inputs
    operand = operand_reader(operator)

    def operands(values: Any) -> tuple[Any, Any]:
        if not isinstance(values, tuple | list) or not values:
            got = "empty" if isinstance(values, tuple | list) else f"a {type(values).__name__}"
            msg = (
                f"{operator.name}: argument {name!r} is {got}; expected a list or tuple of one "
                "tensor or array, or more"
            )
            raise OperandError(msg)
        pairs = [operand(each, f"{name}[{i}]") for i, each in enumerate(values)]
        return tuple(zip(*pairs, strict=True))  # type: ignore[return-value]  # there are pairs

    return operands


def divert(operator: Operator, operands: Sequence[tuple[Any, Any]], parameters: Any) -> Any:
    """Apply an operator where an operand, as it was read, is `HIDDEN`."""
    from opgrad.batched import apply

    return apply(operator, operands, parameters)


class OperandError(TypeError):
    """An input that no operator takes; a binary operator then lets the other operand try."""


def explainer(operator: Operator) -> Callable[..., Exception]:
    """Make the function that puts operator, arguments and expectation into an error's message."""

    def explain(error: Exception, *inputs: Any) -> Exception:
        got = ", ".join(
            f"{name}: {describe(value)}"
            for name, value in zip(
                operator.contract.spread(len(inputs)).inputs, inputs, strict=True
            )
        )
        said = str(error).removeprefix(f"{operator.name}: ")
        msg = f"{operator.name}: {said} (got {got}; expected {operator.expects})"
        if type(error) not in _REWORDED:
            error.add_note(msg)
            return error
        reworded: Exception = type(error)(msg)
        reworded.__cause__ = error
        return reworded

    return explain


def refuser(operator: Operator) -> Callable[[str], NoReturn]:
    """Make the function that refuses an input which requires grad and has no gradient."""

    def refuse(name: str) -> NoReturn:
        msg = (
            f"{operator.name}: argument {name!r} requires grad, but the operator has no gradient "
            f"with respect to it; pass {name}.detach() if none is wanted"
        )
        raise GraphError(msg)

    return refuse


def gradient_counter(operator: Operator) -> Callable[[Any, int], Sequence[Any]]:
    """Make the function that insists on one gradient for each input."""

    def counted(grads: Any, count: int) -> Sequence[Any]:
        if not isinstance(grads, tuple | list) or len(grads) != count:
            inputs = operator.contract.spread(count).inputs
            msg = (
                f"{operator.name}.backward returned {_amount(grads)}; expected a tuple of "
                f"{len(inputs)} gradients, one for each of {', '.join(inputs)}"
            )
            raise GraphError(msg)
        return grads

    return counted


def residual_splitter(operator: Operator) -> Callable[[Any], tuple[Any, ...]]:
    """Make the function that takes a forward's output and residuals apart."""
    parts = ("its output", *operator.residuals)

    def split(out: Any) -> tuple[Any, ...]:
        if not isinstance(out, tuple) or len(out) != len(parts):
            msg = (
                f"{operator.name}.forward returned {_amount(out)}; expected a tuple of "
                f"{len(parts)}: {', '.join(parts)}"
            )
            raise OutputError(msg)
        return out

    return split


def _amount(values: Any) -> str:
    if isinstance(values, tuple | list):
        return f"a {type(values).__name__} of {len(values)}"
    return describe(values)


def output_wrapper(operator: Operator) -> Callable[[Any], Any]:
    """Make the function that wraps an output which is not recorded."""
    kind = Variable.kind

    def plain(out: Any) -> Any:
        if type(out) in at_once:
            return kind(out)
        now = kind_now()
        if isinstance(out, tuple) and out:
            return tuple(now(as_array(operator, each)) for each in out)
        return now(as_array(operator, out))

    return plain


def as_array(operator: Operator, out: Any) -> Any:
    """Return an output as an array; what another operator made of arrays is one, too."""
    if isinstance(out, Variable):
        if out._edge is None:
            return out._data
        msg = (
            f"{operator.name}.forward returned a tensor that requires grad, which would be lost: "
            "it was computed from a tensor that is not among the inputs. Make that one an input, "
            "before the '/'."
        )
        raise OutputError(msg)
    array = np.asarray(out)[()] if isinstance(out, NUMBERS) else _array(out)
    if array is None:
        msg = (
            f"{operator.name}.forward returned {_amount(out)} as an output; expected a numeric "
            "array, or a tuple of them for several outputs"
        )
        raise OutputError(msg)
    return array


class OutputError(TypeError):
    """A forward returned what is no array."""
