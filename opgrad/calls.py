"""From an operator's contract to two plain functions: its call, and its node's backward.

Both are written out as source, as `dataclasses` does for ``__init__``: what a signature says is
decided once, and a call pays for nothing that its operator does not use. For ``mul`` the call
reads::

    def mul(a, b, /):
        if type(a) is _Tensor:
            _edge_a = a._edge
            a = a._data
        else:
            a, _edge_a = _operand(a, 'a')
        ...
        try:
            _out = _forward(a, b)
        except Exception as _error:
            raise _explain(_error, a, b)
        if (_edge_a is None and _edge_b is None) or not _grad_enabled():
            return _plain(_out)
        return _record(_out, (_edge_a, _edge_b),
                       (b if _edge_a is not None else None, a if _edge_b is not None else None))

and the backward of its nodes::

    def backward(grad, _saved, _needs):
        b, a = _saved
        return (None if _needs[0] is None else _backward_a(grad, b),
                None if _needs[1] is None else _backward_b(grad, a))
"""

from __future__ import annotations

import inspect
import linecache
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from opgrad.graph import SCALARS, GraphError, Node, Variable, is_differentiable, metadata_of
from opgrad.modes import grad_enabled
from opgrad.namespaces import NAMESPACES, namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opgrad.operator import Operator

#: What counts as a plain number: a NumPy scalar is the number it holds, so that it does not
#: decide the dtype of a result.
NUMBERS: tuple[type, ...] = (int, float, complex, np.number, np.bool_)

#: Python's own numbers, and the types of NumPy's arrays and scalars.
_PLAIN: frozenset[Any] = frozenset({bool, int, float, complex})
_NUMPY = frozenset(NAMESPACES)
_NUMPY_SCALARS = _NUMPY - {np.ndarray}

#: Exceptions whose message can be put into a sentence of ours.
_REWORDED = (ValueError, TypeError, IndexError, np.exceptions.AxisError)


def describe(value: Any) -> str:
    """Say what a value is, in a few words: ``float64 (3, 4)``."""
    data = value._data if isinstance(value, Variable) else value
    if hasattr(data, "dtype") and hasattr(data, "shape"):
        return f"{data.dtype} {tuple(data.shape)}"
    return repr(data) if isinstance(data, NUMBERS) or data is None else type(data).__name__


def compile_call(operator: Operator) -> Callable[..., Any]:
    """Write the function that applies `operator` and, where grad is required, records the call."""
    contract = operator.contract
    saved = _saved_names(operator)
    scope: dict[str, Any] = {
        "_Tensor": Variable.kind,
        "_NUMBERS": NUMBERS,
        "_namespaces": NAMESPACES,
        "_namespace": namespace,
        "_grad_enabled": grad_enabled,
        "_shape": np.shape,
        "_forward": contract.hooks["forward"],
        "_number": _number,
        "_operand": _operand_of(operator),
        "_explain": _explain_for(operator),
        "_split": _split_for(operator),
        "_refuse": _refuse_for(operator),
        "_plain": _plain_for(operator),
        "_record": _recorder(operator, saved),
        **{f"_overload_{name}": other.compiled for name, other in operator.overloads.items()},
    }
    body = [*_overload_lines(operator), *_unwrap_lines(operator), *_forward_lines(operator)]
    body += _record_lines(operator, saved) if operator.differentiable else ["return _plain(_out)"]
    arguments = _public_arguments(contract.signature, scope)
    function = _compiled(operator, f"def call({arguments}):", body, scope)
    function.__name__ = function.__qualname__ = operator.name.rpartition(".")[2]
    function.__doc__ = type(operator).__doc__
    function.__module__ = type(operator).__module__
    return function


def compile_backward(operator: Operator, saved: Sequence[str]) -> Callable[..., Sequence[Any]]:
    """Write the function that a node runs: gradients of the outputs to those of the inputs."""
    contract = operator.contract
    hooks = {name: hook for name, hook in contract.hooks.items() if name.startswith("backward")}
    wanted = {name for hook in hooks.values() for name in inspect.signature(hook).parameters}
    body = [f"{', '.join(saved)}, = _saved"] if saved else []
    if "xp" in wanted:
        body.append("xp = _namespaces.get(type(grad)) or _namespace(grad)")
    if "needs" in wanted:
        body.append("needs = tuple([_edge is not None for _edge in _needs])")
    if "backward" in contract.sources and len(contract.inputs) > 1:
        body.append(f"return _counted({_hook_call('backward', hooks['backward'])})")
    else:
        gradients = [
            "None" if source is None
            else f"None if _needs[{i}] is None else {_hook_call(source, hooks[source])}"
            for i, source in enumerate(contract.sources)
        ]  # fmt: skip
        body.append(f"return ({', '.join(gradients)},)")
    scope = {
        "_namespaces": NAMESPACES,
        "_namespace": namespace,
        "_counted": _counter(operator),
        **{f"_{name}": hook for name, hook in hooks.items()},
    }
    return _compiled(operator, "def backward(grad, _saved, _needs):", body, scope)


# ----------------------------------------------------------------------------- the source


def _compiled(
    operator: Operator, head: str, body: Sequence[str], scope: dict[str, Any]
) -> Callable[..., Any]:
    source = "\n    ".join([head, *body]) + "\n"
    name = head[len("def ") : head.index("(")]
    filename = f"<{name} of {operator.name}>"
    exec(compile(source, filename, "exec"), scope)
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    function: Callable[..., Any] = scope[name]
    return function


def _public_arguments(signature: inspect.Signature, scope: dict[str, Any]) -> str:
    """Write the public signature, its defaults as names in `scope`."""
    empty = inspect.Parameter.empty
    parameters = []
    for each in signature.parameters.values():
        default = each.default
        if default is not empty:
            scope[f"_default_{each.name}"] = default
            default = _Name(f"_default_{each.name}")
        parameters.append(each.replace(annotation=empty, default=default))
    return str(inspect.Signature(parameters))[1:-1]


class _Name(str):
    """A default value that is written into a signature as a name."""

    __slots__ = ()
    __repr__ = str.__str__


def _overload_lines(operator: Operator) -> list[str]:
    return [
        f"if type({name}) is not _Tensor and isinstance({name}, _NUMBERS): "
        f"return _overload_{name}({_with_number(operator, name)})"
        for name in operator.overloads
    ]


def _with_number(operator: Operator, number: str) -> str:
    contract = operator.contract
    inputs = [f"_number({each})" if each == number else each for each in contract.inputs]
    return ", ".join([*inputs, *(f"{each}={each}" for each in contract.parameters)])


def _unwrap_lines(operator: Operator) -> list[str]:
    return [
        line
        for name in operator.contract.inputs
        for line in (
            f"if type({name}) is _Tensor:",
            f"    _edge_{name} = {name}._edge",
            f"    {name} = {name}._data",
            "else:",
            f"    {name}, _edge_{name} = _operand({name}, {name!r})",
        )
    ]


def _forward_lines(operator: Operator) -> list[str]:
    contract = operator.contract
    inputs = ", ".join(contract.inputs)
    forward = contract.hooks["forward"]
    lines = []
    if "xp" in inspect.signature(forward).parameters:
        lines.append(f"xp = _namespaces.get(type({contract.inputs[0]})) or _namespace({inputs})")
    return [
        *lines,
        "try:",
        f"    _out = {_hook_call('forward', forward)}",
        "except Exception as _error:",
        f"    raise _explain(_error, {inputs})",
        *_split_lines(operator),
    ]


def _split_lines(operator: Operator) -> list[str]:
    names = ["_out", *operator.residuals]
    return [f"{', '.join(names)} = _split(_out)"] if operator.residuals else []


def _record_lines(operator: Operator, saved: Sequence[str]) -> list[str]:
    contract = operator.contract
    edges = [f"_edge_{name}" for name in contract.inputs]
    refusals = [
        f"if _edge_{name} is not None: _refuse({name!r})"
        for name, source in zip(contract.inputs, contract.sources, strict=True)
        if source is None
    ]
    return [
        f"if ({' and '.join(f'{edge} is None' for edge in edges)}) or not _grad_enabled():",
        "    return _plain(_out)",
        *refusals,
        f"return _record(_out, {_tuple(edges)}, {_tuple(_saved(operator, n) for n in saved)})",
    ]


def _saved_names(operator: Operator) -> tuple[str, ...]:
    """Return what the backward hooks name beside what they are given anew."""
    wanted = dict.fromkeys(
        name
        for hook, function in operator.contract.hooks.items()
        if hook.startswith("backward")
        for name in inspect.signature(function).parameters
    )
    return tuple(name for name in wanted if name not in ("grad", "xp", "needs"))


def _saved(operator: Operator, name: str) -> str:
    """Write the expression that saves a value, an array only for gradients that will be asked."""
    contract = operator.contract
    value = "_out" if name == "out" else name
    if name.removesuffix("_shape") in contract.inputs and name not in contract.inputs:
        return f"_shape({name.removesuffix('_shape')})"
    users = [
        f"_edge_{each} is not None"
        for each, source in zip(contract.inputs, contract.sources, strict=True)
        if source and name in inspect.signature(contract.hooks[source]).parameters
    ]
    arrays = (*contract.inputs, "out", *operator.residuals)
    always = name not in arrays or len(users) == len(contract.inputs)
    return value if always else f"{value} if {' or '.join(users)} else None"


def _hook_call(name: str, hook: Callable[..., Any]) -> str:
    arguments = [
        f"{each.name}={each.name}" if each.kind is each.KEYWORD_ONLY else each.name
        for each in inspect.signature(hook).parameters.values()
    ]
    return f"_{name}({', '.join(arguments)})"


def _tuple(items: Any) -> str:
    return "(" + "".join(f"{item}, " for item in items) + ")"


# ------------------------------------------------------------------- what the source calls


def _number(value: Any) -> Any:
    """Return a number as one of Python's own, which decides no dtype."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.generic):
        return value.item()
    return next(kind(value) for kind in _PLAIN if isinstance(value, kind))


def _array(value: Any) -> Any:
    """Return a numeric array, NumPy's as a plain ndarray; None if `value` is not one."""
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value) if value.dtype.kind in "biufc" else None
    return value if hasattr(value, "__array_namespace__") else None


def _operand_of(operator: Operator) -> Callable[[Any, str], tuple[Any, Any]]:
    """Make the reader of an input that is not a plain `Tensor`."""
    parameters = operator.contract.signature.parameters

    def operand(value: Any, name: str) -> tuple[Any, Any]:
        kind = type(value)
        if kind is float or kind is int or kind is complex or kind is bool:
            return value, None
        if isinstance(value, Variable):
            return value._data, value._edge
        if kind is np.ndarray and value.dtype.kind in "biufc":
            return value, None
        if kind in _NUMPY_SCALARS:
            return value.item(), None
        if isinstance(value, NUMBERS):
            return _number(value), None
        array = _array(value)
        if array is not None or (value is None and parameters[name].default is None):
            return array, None
        got = f"an array of dtype {value.dtype}" if hasattr(value, "dtype") else kind.__name__
        msg = (
            f"{operator.name}: argument {name!r} is {got}; expected a tensor, a numeric "
            "array or a number. Convert it with opgrad.tensor first."
        )
        raise OperandError(msg)

    return operand


class OperandError(TypeError):
    """An input that no operator takes; a binary operator then lets the other operand try."""


def _explain_for(operator: Operator) -> Callable[..., Exception]:
    """Make the function that puts operator, arguments and expectation into an error's message."""

    def explain(error: Exception, *inputs: Any) -> Exception:
        got = ", ".join(
            f"{name}: {describe(value)}"
            for name, value in zip(operator.contract.inputs, inputs, strict=True)
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


def _refuse_for(operator: Operator) -> Callable[[str], NoReturn]:
    def refuse(name: str) -> NoReturn:
        msg = (
            f"{operator.name}: argument {name!r} requires grad, but the operator has no gradient "
            f"with respect to it; pass {name}.detach() if none is wanted"
        )
        raise GraphError(msg)

    return refuse


def _counter(operator: Operator) -> Callable[[Any], Sequence[Any]]:
    inputs = operator.contract.inputs

    def counted(grads: Any) -> Sequence[Any]:
        if not isinstance(grads, tuple | list) or len(grads) != len(inputs):
            msg = (
                f"{operator.name}.backward returned {_amount(grads)}; expected a tuple of "
                f"{len(inputs)} gradients, one for each of {', '.join(inputs)}"
            )
            raise GraphError(msg)
        return grads

    return counted


def _split_for(operator: Operator) -> Callable[[Any], tuple[Any, ...]]:
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


def _plain_for(operator: Operator) -> Callable[[Any], Any]:
    """Make the function that wraps an output which is not recorded."""
    kind = Variable.kind

    def plain(out: Any) -> Any:
        if type(out) in _NUMPY:
            return kind(out)
        if isinstance(out, tuple) and out:
            return tuple(kind(_as_array(operator, each)) for each in out)
        return kind(_as_array(operator, out))

    return plain


def _as_array(operator: Operator, out: Any) -> Any:
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


def _recorder(operator: Operator, saved: Sequence[str]) -> Callable[..., Any]:
    """Make the function that gives an output its node."""
    kind = Variable.kind
    node_type = _node_type(operator, saved)

    def record(out: Any, edges: tuple[Any, ...], values: tuple[Any, ...]) -> Any:
        if type(out) is np.ndarray:
            dtype = out.dtype
            if dtype.kind not in "fc":
                return kind(_as_array(operator, out))
            return kind(out, (node_type(edges, values, (out.shape, dtype)), 0))
        metadata = SCALARS.get(type(out))
        if metadata is not None:
            return kind(out, (node_type(edges, values, metadata), 0))
        if isinstance(out, tuple) and out:
            return record_several(out, edges, values)
        made = _as_array(operator, out)
        if not is_differentiable(made.dtype):
            return kind(made)
        return kind(made, (node_type(edges, values, metadata_of(made)), 0))

    def record_several(out: tuple[Any, ...], edges: tuple[Any, ...], values: Any) -> Any:
        arrays = [_as_array(operator, each) for each in out]
        node = node_type(edges, values, [metadata_of(each) for each in arrays])
        return tuple(
            kind(each, (node, index) if is_differentiable(each.dtype) else None)
            for index, each in enumerate(arrays)
        )

    return record


def _node_type(operator: Operator, saved: Sequence[str]) -> type[Node]:
    contract = operator.contract
    origins = {name: ("input", index) for index, name in enumerate(contract.inputs)}
    origins["out"] = ("output", 0)
    name = operator.node_name or f"{type(operator).__name__}Backward0"
    arrays = {*contract.inputs, "out", *operator.residuals}
    attributes = {
        "__slots__": (),
        "__module__": type(operator).__module__,
        "operator": operator,
        "run": staticmethod(compile_backward(operator, saved)),
        "names": tuple(saved),
        "origins": tuple(origins.get(each) for each in saved),
        "saves_arrays": any(each in arrays for each in saved),
    }
    return type(name, (Node,), attributes)
