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
            if _edge_a is _HIDDEN: return _divert(_operator, ((a, _edge_a), _operand(b, 'b'), ), {})
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
import itertools
import linecache
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad.blame import caller, is_own
from opgrad.graph import Node
from opgrad.modes import grad_enabled
from opgrad.namespaces import NAMESPACES, namespace
from opgrad.once import OnceNode, once
from opgrad.operands import (
    NUMBERS,
    as_array,
    divert,
    explainer,
    gradient_counter,
    operand_reader,
    operands_reader,
    output_wrapper,
    plain_number,
    refuser,
    residual_splitter,
)
from opgrad.variable import HIDDEN, SCALARS, Variable, is_differentiable, metadata_of
from opgrad.views import linker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opgrad.operator import Operator


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
        "_number": plain_number,
        "_operand": operand_reader(operator),
        "_operands": operands_reader(operator) if operator.variadic else None,
        "_operator": operator,
        "_HIDDEN": HIDDEN,
        "_divert": divert,
        "_explain": explainer(operator),
        "_split": residual_splitter(operator),
        "_refuse": refuser(operator),
        "_plain": output_wrapper(operator),
        "_record": _recorder(operator, saved),
        **{f"_overload_{i}": each.compiled for i, each in enumerate(operator.overloads.values())},
    }
    body = [*_overload_lines(operator), *_unwrap_lines(operator), *_forward_lines(operator)]
    body += _record_lines(operator, saved) if operator.differentiable else ["return _plain(_out)"]
    if operator.view:
        scope["_link"] = linker(operator)
        body = _linked(operator, body)
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
        grads = "*(grad if type(grad) is tuple else (grad,))"
        body.append(f"xp = _namespaces.get(type(grad)) or _namespace({grads})")
    if "needs" in wanted:
        body.append("needs = tuple([_edge is not None for _edge in _needs])")
    if "backward" in contract.sources and (contract.variadic or len(contract.inputs) > 1):
        body.append(f"return _counted({_hook_call('backward', hooks['backward'])}, len(_needs))")
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
        "_counted": gradient_counter(operator),
        **{f"_{name}": hook for name, hook in hooks.items()},
    }
    return _compiled(operator, "def backward(grad, _saved, _needs):", body, scope)


def compile_jvp(operator: Operator, saved: Sequence[str]) -> Callable[..., list[Any]] | None:
    """Write the function from the tangents of the inputs to what each does to the outputs.

    It has a place in its result for every input whose tangent is not None. Without jvp hooks there
    is no such function.
    """
    contract = operator.contract
    if not any(contract.jvps):
        return None
    body = [f"{', '.join(saved)}, = _saved"] if saved else []
    body += ["xp = _namespace(*_tangents)", "_changes = []"]
    for i, source in enumerate(contract.jvps):
        if source:
            call = _hook_call(source, contract.hooks[source])
            body += [f"tangent = _tangents[{i}]"]
            body += [f"if tangent is not None: _changes.append({call})"]
    body.append("return _changes")
    hooks = {f"_{name}": contract.hooks[name] for name in contract.jvps if name}
    scope = {"_namespace": namespace, **hooks}
    return _compiled(operator, "def jvp(_tangents, _saved):", body, scope)


# ----------------------------------------------------------------------------- the source


def _compiled(
    operator: Operator, head: str, body: Sequence[str], scope: dict[str, Any]
) -> Callable[..., Any]:
    source = "\n    ".join([head, *body]) + "\n"
    name = head[len("def ") : head.index("(")]
    scope["__name__"] = __name__
    exec(compile(source, _filed(f"{name} of {operator.name}", source), "exec"), scope)
    function: Callable[..., Any] = scope[name]
    return function


def _filed(title: str, source: str) -> str:
    """Put a source where tracebacks look for it; return the name that it has there alone."""
    lines = source.splitlines(keepends=True)
    for more in itertools.chain([""], map(", {}".format, itertools.count(2))):
        name = f"<{title}{more}>"
        entry = (len(source), None, lines, name)
        if linecache.cache.setdefault(name, entry) == entry:
            break
    return name


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
    lines = []
    for i, names in enumerate(operator.overloads):
        numbers = (names,) if isinstance(names, str) else names
        condition = " and ".join(_is_number(operator, name) for name in numbers)
        lines.append(f"if {condition}: return _overload_{i}({_with_numbers(operator, numbers)})")
    return lines


def _is_number(operator: Operator, name: str) -> str:
    test = f"type({name}) is not _Tensor and isinstance({name}, _NUMBERS)"
    return f"({name} is None or {test})" if _may_be_none(operator, name) else test


def _with_numbers(operator: Operator, numbers: Sequence[str]) -> str:
    contract = operator.contract
    inputs = [f"_number({each})" if each in numbers else each for each in contract.inputs]
    return ", ".join([*inputs, *(f"{each}={each}" for each in contract.parameters)])


def _may_be_none(operator: Operator, name: str) -> bool:
    return operator.contract.signature.parameters[name].default is None


def _unwrap_lines(operator: Operator) -> list[str]:
    contract = operator.contract
    parameters = ", ".join(f"{name!r}: {name}" for name in contract.parameters)
    divert = f"return _divert(_operator, {{}}, {{{{{parameters}}}}})"
    if operator.variadic:
        (name,) = contract.inputs
        all_read = divert.format(f"[*zip({name}, _edges)]")
        return [f"{name}, _edges = _operands({name})", f"if _HIDDEN in _edges: {all_read}"]
    read = [f"({name}, _edge_{name})" for name in contract.inputs]
    unread = [f"_operand({name}, {name!r})" for name in contract.inputs]
    return [
        line
        for i, name in enumerate(contract.inputs, 1)
        for line in (
            f"if type({name}) is _Tensor:",
            f"    _edge_{name} = {name}._edge",
            f"    {name} = {name}._data",
            "else:",
            f"    {name}, _edge_{name} = _operand({name}, {name!r})",
            f"    if _edge_{name} is _HIDDEN: {divert.format(_tuple([*read[:i], *unread[i:]]))}",
        )
    ]


def _forward_lines(operator: Operator) -> list[str]:
    contract = operator.contract
    inputs = ", ".join(contract.inputs)
    if operator.variadic:
        inputs = f"*{inputs}"
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
    each = [f"_edge_{name}" for name in contract.inputs]
    edges, nothing = _tuple(each), " and ".join(f"{edge} is None" for edge in each)
    if operator.variadic:
        edges, nothing = "_edges", "not any(_edges)"
    refusals = [
        f"if _edge_{name} is not None: _refuse({name!r})"
        for name, source in zip(contract.inputs, contract.sources, strict=True)
        if source is None
    ]
    return [
        f"if ({nothing}) or not _grad_enabled():",
        "    return _plain(_out)",
        *refusals,
        f"return _record(_out, {edges}, {_tuple(_saved(operator, n) for n in saved)})",
    ]


def _linked(operator: Operator, body: Sequence[str]) -> list[str]:
    """Have the results noted that share memory with the first input."""
    source, *others = operator.contract.inputs
    parameters = ", ".join(f"{name!r}: {name}" for name in operator.contract.parameters)
    end = f", _source, {_tuple(others)}, {{{parameters}}})"
    noted = [
        line.replace("return ", "return _link(", 1) + end
        if line.lstrip().startswith(("return _plain(", "return _record("))
        else line
        for line in body
    ]
    return [f"_source = {source}", *noted]


def _saved_names(operator: Operator) -> tuple[str, ...]:
    """Return what the hooks of the derivatives name beside what they are given anew."""
    given = {"backward": ("grad", "xp", "needs"), "jvp": ("tangent", "xp")}
    wanted = dict.fromkeys(
        name
        for hook, function in operator.contract.hooks.items()
        for name in inspect.signature(function).parameters
        if name not in given.get(hook.partition("_")[0], (name,))
    )
    return tuple(wanted)


def _saved(operator: Operator, name: str) -> str:
    """Write the expression that saves a value, an array only for gradients that will be asked."""
    contract = operator.contract
    value = "_out" if name == "out" else name
    if name.removesuffix("_shape") in contract.inputs and name not in contract.inputs:
        shape = "tuple(map(_shape, {}))" if operator.variadic else "_shape({})"
        return shape.format(name.removesuffix("_shape"))
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


def _recorder(operator: Operator, saved: Sequence[str]) -> Callable[..., Any]:
    """Make the function that gives an output its node."""
    kind = Variable.kind
    node_type = _node_type(operator, saved)

    def record(out: Any, edges: tuple[Any, ...], values: tuple[Any, ...]) -> Any:
        if type(out) is np.ndarray:
            dtype = out.dtype
            if dtype.kind not in "fc":
                return kind(as_array(operator, out))
            return kind(out, (node_type(edges, values, (out.shape, dtype)), 0))
        metadata = SCALARS.get(type(out))
        if metadata is not None:
            return kind(out, (node_type(edges, values, metadata), 0))
        if isinstance(out, tuple) and out:
            return record_several(out, edges, values)
        made = as_array(operator, out)
        if not is_differentiable(made.dtype):
            return kind(made)
        node = node_type(edges, _with(values, out, made), metadata_of(made))
        return kind(made, (node, 0))

    def record_several(out: tuple[Any, ...], edges: tuple[Any, ...], values: Any) -> Any:
        arrays = tuple([as_array(operator, each) for each in out])
        node = node_type(edges, _with(values, out, arrays), list(map(metadata_of, arrays)))
        return tuple(
            kind(each, (node, index) if is_differentiable(each.dtype) else None)
            for index, each in enumerate(arrays)
        )

    return record


def _with(values: tuple[Any, ...], out: Any, made: Any) -> tuple[Any, ...]:
    """Have an output saved as its tensor holds it: a number would have no place in the graph."""
    return tuple([made if each is out else each for each in values])


def _node_type(operator: Operator, saved: Sequence[str]) -> type[Node]:
    contract = operator.contract
    origins = {name: ("input", index) for index, name in enumerate(contract.inputs)}
    origins["out"] = ("output", 0)
    name = operator.node_name or f"{type(operator).__name__}Backward0"
    arrays = {*contract.inputs, "out", *operator.residuals}
    run, jvp = compile_backward(operator, saved), compile_jvp(operator, saved)
    attributes = {
        "__slots__": (),
        "__module__": type(operator).__module__,
        "operator": operator,
        "run": staticmethod(run),
        "jvp": jvp and staticmethod(jvp),
        "names": tuple(saved),
        "origins": tuple(origins.get(each) for each in saved),
        "saves_arrays": any(each in arrays for each in saved),
    }
    if not is_own(type(operator).__module__):
        attributes |= {"__slots__": ("caller",), "__init__": _noting_caller}
    if not operator.once_differentiable:
        return type(name, (Node,), attributes)
    attributes["run"] = staticmethod(once(name, run, not {*operator.residuals}.isdisjoint(saved)))
    return type(name, (OnceNode,), attributes)


def _noting_caller(node: Any, edges: Any, saved: Any, metadata: Any) -> None:
    """Begin a node that tells who called; a call of opgrad's own operators has no time for that."""
    Node.__init__(node, edges, saved, metadata)
    node.caller = caller()
