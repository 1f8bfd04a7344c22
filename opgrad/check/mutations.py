"""What can be wrong with a hook: a table of errors to plant, and how each is made.

Each error is a function of the right result of a hook, and of the call that gave it.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from opgrad.operator import Operator

    Array = NDArray[Any]

#: What a hook is given that was not saved.
INCOMING = ("grad", "tangent")

#: From the right result of a hook and the call that gave it to a wrong result.
Change: TypeAlias = "Callable[[Any, Call], Any]"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a hook.

    Attributes
    ----------
    hook : function
        The right hook.
    given : inspect.BoundArguments
        Its arguments.
    place : tuple of int
        Where in what it returns, if that is a tuple, the result is that is to be wrong.
    kept : list
        What the mutant keeps from call to call.
    """

    hook: Callable[..., Any]
    given: inspect.BoundArguments
    place: tuple[int, ...] = ()
    kept: list[Any] = field(default_factory=list)

    def whole(self, /, **changes: Any) -> Any:
        """Call the right hook, with some of the arguments changed."""
        arguments = {**self.given.arguments, **changes}
        given = inspect.BoundArguments(self.given.signature, arguments)
        return self.hook(*given.args, **given.kwargs)

    def run(self, /, **changes: Any) -> Any:
        """Likewise, and return the one result that is to be wrong."""
        result = self.whole(**changes)
        for at in self.place:
            result = result[at]
        return result

    @property
    def grads(self) -> list[Array]:
        """The incoming gradients, one for each output, or the tangent; none in a forward."""
        return arrays_of(self._given(lambda name: name in INCOMING))

    @property
    def others(self) -> list[Array]:
        """The arrays among the other arguments."""
        return arrays_of(self._given(lambda name: name not in INCOMING))

    def _given(self, asked: Callable[[str], bool]) -> tuple[Any, ...]:
        return tuple(value for name, value in self.given.arguments.items() if asked(name))

    @property
    def saved(self) -> list[Array]:
        """The inexact ones of them."""
        return [each for each in self.others if each.dtype.kind in "fc"]

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
    return call.run(**{name: _constant(each) for name, each in given if (name == "grad") is grad})


def _constant(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_constant, value))
    return value.detach() if isinstance(value, Tensor) else value


def _exchanged(result: Any, call: Call, names: Sequence[str]) -> Any:
    """Compute the result with the saved values in the opposite order."""
    values = [call.given.arguments[name] for name in names]
    other = call.run(**dict(zip(names, values[::-1], strict=True)))
    (right,), (wrong,) = arrays_of(result), arrays_of(other)
    # A product of them is off by rounding alone, which is no error.
    alike = right.shape == wrong.shape and np.allclose(right, wrong, 1e-9, 0, equal_nan=True)
    return result if alike else other


def _other_axis(result: Any, call: Call, name: str) -> Any:
    """Compute the result for the axes before those that were asked for."""
    axis = call.given.arguments[name]
    if axis is None:
        return result
    return call.run(**{name: axis - 1 if isinstance(axis, int) else tuple(n - 1 for n in axis)})


def _output_ignored(_result: Any, call: Call, k: int) -> Any:
    grads = call.given.arguments["grad"]
    return call.run(grad=(*grads[:k], grads[k] * 0, *grads[k + 1 :]))


def _outputs_exchanged(_result: Any, call: Call) -> Any:
    return call.run(grad=call.given.arguments["grad"][::-1])


def _writing(result: Any, arrays: list[Array]) -> Any:
    """Return the result, unharmed, and then overwrite arrays."""
    result = result.copy() if isinstance(result, np.ndarray) else result
    for each in arrays:
        np.subtract(each, 1, out=each) if each.dtype.kind != "b" else np.logical_not(each, out=each)
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
    if isinstance(result, Tensor) and not result.requires_grad:
        return Tensor(_buffered(result.data, call))
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


#: Of any backward. That the engine sums over the axes along which an input was broadcast leaves
#: a hook only to be wrong there.
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
    "NaN at zero": lambda g, call: _where(g, call.operand == 0, np.nan),
    "crashes if empty": _crashing,
    "not repeatable": _noisy,
    "grad detached": partial(_detached, grad=True),
    "writes to grad": lambda g, call: _writing(g, call.grads),
    "returns an argument": _alias,
    "reuses its memory": _buffered,
    "keeps its results": _keeping,
    "returns None": lambda _g, _: None,
    "returns a list": lambda g, _: [g],
    "returns an element too many": _longer,
}

#: Of a backward that names an array beside grad.
_OF_SAVED: dict[str, Change] = {
    "saved values detached": partial(_detached, grad=False),
    "writes to a saved value": lambda g, call: _writing(g, call.others),
}

#: Of one that names two or more.
_OF_SEVERAL_SAVED: dict[str, Change] = {
    "zero if an input is repeated": lambda g, call: _where(g, _same_input_twice(g, call), 0.0),
}

# A forward that is wrong, or that refuses some inputs, is another operator, whose gradient may well
# be right: only what is wrong with any forward is here.
_FORWARD: dict[str, Change] = {
    "not repeatable": _noisy,
    "writes to an input": lambda out, call: _writing(out, call.others),
    "returns an argument": _alias,
    "reuses its memory": _buffered,
    "keeps its results": _keeping,
    "computed in float64": _upcast,
    "returns None": lambda _out, _: None,
    "returns a list": lambda out, _: [out],
}

#: Of a batch hook; what it calls is the operator, and wrong in no other way.
_BATCH: dict[str, Change] = {
    "times 1.0005": lambda out, _: out * 1.0005,
    "plus one": lambda out, _: out + 1,
    "detached": lambda out, _: out.detach(),
    "examples exchanged": lambda out, _: out[::-1],
    "one example only": lambda out, _: out[:1],
    "returns None": lambda _out, _: None,
}

_SELF_CHECK: dict[str, Change] = {
    "no cases": lambda _cases, _: iter(()),
    "returns None": lambda _cases, _: None,
}


#: Of the hooks that are no derivatives.
_OTHERS = {"forward": _FORWARD, "batch": _BATCH, "self_check": _SELF_CHECK}

#: What would need to be seen through the recorded pass of a tangent, which no probe asks about.
_NOT_OF_JVP = ("grad detached", "returns an argument", "reuses its memory", "keeps its results")

_JVP = {
    name.replace("grad", "tangent"): change
    for name, change in _BACKWARD.items()
    if name not in _NOT_OF_JVP
}


def mutations(operator: Operator, hook: str, outputs: int = 1) -> dict[str, Change]:
    """Return what can be wrong with a hook, by name.

    Parameters
    ----------
    operator : Operator
        The operator.
    hook : str
        The name of one of its hooks.
    outputs : int
        How many outputs it has.
    """
    if hook in _OTHERS:
        return _OTHERS[hook]
    contract = operator.contract
    names = [*inspect.signature(contract.hooks[hook]).parameters]
    saved = [name for name in names if name in (*contract.inputs, "out", *operator.residuals)]
    backward = hook.startswith("backward")
    found = dict(_BACKWARD if backward else _JVP)
    if saved and backward:
        found |= _OF_SAVED
    if len(saved) > 1 and backward:
        found |= _OF_SEVERAL_SAVED
    if len(saved) > 1:
        found["saved values exchanged"] = partial(_exchanged, names=saved)
    for name in {"axis", "axes"} & {*names}:
        found["other axis"] = partial(_other_axis, name=name)
    if outputs > 1 and backward:
        found["outputs exchanged"] = _outputs_exchanged
        for k in range(outputs):
            found[f"output {k} ignored"] = partial(_output_ignored, k=k)
    return found
