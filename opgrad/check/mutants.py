"""Operators made wrong on purpose, to see whether the verifier finds out.

A mutant is an instance of a subclass that is made on the fly and never registered. One of its
hooks is changed, as an entry of `MUTATIONS` says; everything else it inherits.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from opgrad.operator import Operator

    Array = NDArray[Any]

#: From the right result of a hook and the call that gave it to a wrong result.
Change: TypeAlias = "Callable[[Any, Call], Any]"


@dataclass(frozen=True, slots=True)
class Mutant:
    """An operator with one error.

    Attributes
    ----------
    operator : Operator
        The wrong operator.
    hook : str
        The hook that is wrong, with the input's name where it gives several gradients.
    mutation : str
        What is wrong with it: a name in `MUTATIONS`.
    """

    operator: Operator
    hook: str
    mutation: str


def mutants(operator: Operator) -> Iterator[Mutant]:
    """Make every mutant of an operator.

    Examples
    --------
    >>> import opgrad
    >>> made = {(each.hook, each.mutation): each.operator for each in mutants(opgrad.ops.exp)}
    >>> x = opgrad.tensor(0.0, requires_grad=True)
    >>> made["backward", "opposite sign"](x).backward()
    >>> x.grad
    tensor(-1.)
    """
    for label, hook, place in _places(operator):
        original = inspect.getattr_static(type(operator), hook)
        for name, change in MUTATIONS[hook.partition("_")[0]].items():
            attributes = {hook: _changed(original, change, place)}
            yield Mutant(_subclassed(operator, attributes), label, name)
    own = [hook for hook in operator.contract.hooks if hook.startswith("backward_")]
    for one, other in itertools.pairwise(own):
        swapped = {one: getattr(type(operator), other), other: getattr(type(operator), one)}
        yield Mutant(_subclassed(operator, swapped), f"{one}, {other}", "exchanged")


def _places(operator: Operator) -> Iterator[tuple[str, str, int]]:
    """Give what to mutate: a label, a hook, and which of the hook's results if it has several."""
    inputs = operator.contract.inputs
    for hook in operator.contract.hooks:
        if hook == "backward" and len(inputs) > 1:
            yield from ((f"backward[{name}]", hook, i) for i, name in enumerate(inputs))
        elif hook in ("forward", "self_check") or operator.differentiable:
            yield hook, hook, 0


def _subclassed(operator: Operator, attributes: Mapping[str, Any]) -> Operator:
    """Return the operator with some hooks replaced, and the rest of its state kept."""
    base = type(operator)
    members: dict[str, Any] = {"__doc__": base.__doc__, **attributes}
    cls: type[Operator] = type(base.__name__, (base,), members)
    made = cls.__new__(cls)
    for name, value in vars(operator).items():
        if name not in ("contract", "compiled"):
            setattr(made, name, value)
    return made


def _changed(original: Callable[..., Any], change: Change, place: int) -> Callable[..., Any]:
    """Return a hook with the signature and the marker of the original, and a changed result."""
    signature = inspect.signature(original)
    kept: list[Any] = []

    @functools.wraps(original)
    def hook(*args: Any, **kwargs: Any) -> Any:
        call = Call(original, signature.bind(*args, **kwargs), kept)
        result = call.run()
        if not isinstance(result, tuple):
            return change(result, call)
        changed = result[place] if result[place] is None else change(result[place], call)
        return (*result[:place], changed, *result[place + 1 :])

    return hook


# ------------------------------------------------------------------------- what a change sees


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a hook.

    Attributes
    ----------
    hook : function
        The right hook.
    given : inspect.BoundArguments
        Its arguments.
    kept : list
        What the mutant keeps from call to call.
    """

    hook: Callable[..., Any]
    given: inspect.BoundArguments
    kept: list[Any] = field(default_factory=list)

    def run(self, **changes: Any) -> Any:
        """Call the right hook, with some of the arguments changed."""
        arguments = {**self.given.arguments, **changes}
        given = inspect.BoundArguments(self.given.signature, arguments)
        return self.hook(*given.args, **given.kwargs)

    @property
    def grads(self) -> list[Array]:
        """The incoming gradients, one for each output; none in a forward."""
        return arrays_of(self.given.arguments.get("grad"))

    @property
    def saved(self) -> list[Array]:
        """The inexact arrays among the other arguments."""
        given = [value for name, value in self.given.arguments.items() if name != "grad"]
        return [each for each in arrays_of(tuple(given)) if each.dtype.kind in "fc"]

    @property
    def operand(self) -> Array:
        """The array whose values decide where the result is wrong."""
        return [*self.saved, *self.grads][0]


def arrays_of(value: Any) -> list[Array]:
    """Return the arrays in an argument, those of tensors as they are in memory."""
    if isinstance(value, tuple):
        return [array for each in value for array in arrays_of(each)]
    data = value.detach().data if isinstance(value, Tensor) else value
    return [np.asarray(data)] if isinstance(data, np.ndarray | np.generic) else []


# --------------------------------------------------------------------------------- the changes


def _plus_constant(result: Any, _call: Call) -> Any:
    (data,) = arrays_of(result)
    return result + 1e-6 * float(np.abs(data).max(initial=0.0))


def _rounded(result: Any, _call: Call) -> Any:
    narrow = np.complex64 if result.dtype.kind == "c" else np.float32
    return result.astype(narrow).astype(result.dtype)


def _where(result: Any, wrong: Any, factor: float = 1.01) -> Any:
    """Return the result wrong by a factor at some elements, or everywhere if one of them counts."""
    (data,) = arrays_of(result)
    mask = wrong if np.shape(wrong) == data.shape else np.any(wrong)
    if not np.any(mask):
        return result
    return result * np.where(mask, factor, 1.0).astype(data.real.dtype)


def _one_element(result: Any, _call: Call) -> Any:
    (data,) = arrays_of(result)
    return _where(result, np.arange(data.size).reshape(data.shape) == max(data.size - 1, 1))


def _other_shape(result: Any, call: Call) -> bool:
    shapes = [value for name, value in call.given.arguments.items() if name.endswith("_shape")]
    shapes += [each.shape for each in (*call.saved, *arrays_of(result))]
    return any(shape != each.shape for shape in shapes for each in call.grads)


def _same_input_twice(_result: Any, call: Call) -> bool:
    saved = call.saved
    return any(np.shares_memory(a, b) for i, a in enumerate(saved) for b in saved[:i])


def _transposed(result: Any, _call: Call) -> Any:
    square = len(result.shape) > 1 and result.shape[-1] == result.shape[-2]
    return result.mT if square else result


def _noisy(result: Any, call: Call) -> Any:
    """Change the result a little in every second call; what is no inexact number, altogether."""
    call.kept[:] = [] if call.kept else [True]
    if call.kept:
        return result
    (data,) = arrays_of(result)
    if data.dtype.kind in "fc":
        return result * (1 + 4 * float(np.finfo(data.dtype).eps))
    return ~result if data.dtype.kind == "b" else result + 1


def _keeping(result: Any, call: Call) -> Any:
    call.kept.append(result)
    return result


def _detached(result: Any, call: Call, grad: bool) -> Any:
    """Compute the result again from constants, which shows only in further derivatives."""
    if not isinstance(result, Tensor):
        return result
    given = call.given.arguments.items()
    tensors = {name: each for name, each in given if isinstance(each, Tensor)}
    return call.run(**{n: each.detach() for n, each in tensors.items() if (n == "grad") is grad})


def _writing(result: Any, arrays: list[Array]) -> Any:
    """Return the result, unharmed, and then overwrite arrays."""
    result = result.copy() if isinstance(result, np.ndarray) else result
    for each in arrays:
        np.multiply(each, 2, out=each)
    return result


def _alias(result: Any, call: Call) -> Any:
    """Return one of the arguments, where it is equal to the result."""
    if not isinstance(result, np.ndarray):
        return result
    given = (*call.grads, *call.saved)
    same = (x for x in given if x.dtype == result.dtype and np.array_equal(x, result))
    return next(same, result)


def _buffered(result: Any, call: Call) -> Any:
    """Return every result of one shape in the same memory."""
    if not isinstance(result, np.ndarray):
        return result
    for each in call.kept:
        if each.shape == result.shape and each.dtype == result.dtype:
            np.copyto(each, result)
            return each
    call.kept.append(result.copy())
    return call.kept[-1]


def _longer(result: Any, _call: Call) -> Any:
    flat = result.reshape((-1,))
    return flat[[*range(flat.size), -1]]


def _crashing(result: Any, call: Call) -> Any:
    if any(each.size == 0 for each in (*call.grads, *call.saved)):
        msg = "no elements"
        raise IndexError(msg)
    return result


def _upcast(result: Any, _call: Call) -> Any:
    wide = {"float32": np.float64, "complex64": np.complex128}.get(str(result.dtype))
    return result.astype(wide) if wide else result


_BACKWARD: dict[str, Change] = {
    "opposite sign": lambda g, _: -g,
    "times 1.0005": lambda g, _: g * 1.0005,
    "times 2": lambda g, _: g * 2,
    "dropped": lambda g, _: g * 0,
    "plus a constant": _plus_constant,
    "computed in float32": _rounded,
    "transposed if square": _transposed,
    "wrong if negative": lambda g, call: _where(g, call.operand.real < 0),
    "wrong if large": lambda g, call: _where(g, np.abs(call.operand) > 10),
    "wrong at one element": _one_element,
    "wrong in float32": lambda g, _: _where(g, g.dtype.itemsize == 4 << (g.dtype.kind == "c")),
    "wrong if broadcast": lambda g, call: _where(g, _other_shape(g, call)),
    "wrong if not contiguous": lambda g, call: _where(
        g, any(not each.flags.c_contiguous for each in (*call.saved, *call.grads))
    ),
    "zero if an input is repeated": lambda g, call: _where(g, _same_input_twice(g, call), 0.0),
    "NaN at zero": lambda g, call: _where(g, call.operand == 0, np.nan),
    "crashes if empty": _crashing,
    "not repeatable": _noisy,
    "saved values detached": lambda g, call: _detached(g, call, grad=False),
    "grad detached": lambda g, call: _detached(g, call, grad=True),
    "writes to grad": lambda g, call: _writing(g, call.grads),
    "writes to a saved value": lambda g, call: _writing(g, call.saved),
    "returns an argument": _alias,
    "reuses its memory": _buffered,
    "keeps its results": _keeping,
    "returns None": lambda _g, _: None,
    "returns a list": lambda g, _: [g],
    "returns an element too many": _longer,
}

# A forward that is wrong, or that refuses some inputs, is another operator, whose gradient may well
# be right: only what is wrong with any forward is here.
_FORWARD: dict[str, Change] = {
    "not repeatable": _noisy,
    "writes to an input": lambda out, call: _writing(out, call.saved),
    "returns an argument": _alias,
    "reuses its memory": _buffered,
    "keeps its results": _keeping,
    "computed in float64": _upcast,
    "returns None": lambda _out, _: None,
    "returns a list": lambda out, _: [out],
}

_SELF_CHECK: dict[str, Change] = {
    "no cases": lambda _cases, _: iter(()),
    "returns None": lambda _cases, _: None,
}

#: What can be wrong with each kind of hook, by name.
MUTATIONS: dict[str, dict[str, Change]] = {
    "backward": _BACKWARD, "forward": _FORWARD, "self": _SELF_CHECK,
}  # fmt: skip
