"""What an author writes: an `Operator` with its hooks, and `Case`s to verify it on.

The signature of ``forward`` is the contract. Arguments before ``/`` are arrays, the inputs that
gradients may be asked for; those after it are static parameters. A backward names what it needs,
and only what is named is saved. `Contract` reads that off the signatures; `calls` makes of it
the functions that are called.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import re
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from opgrad.calls import compile_call
from opgrad.operands import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_Kind = inspect.Parameter


class OperatorError(TypeError):
    """An operator's definition does not keep the contract."""


class Case:
    """One set of arguments to verify an operator on.

    Parameters
    ----------
    *inputs : array_like or None
        The inputs of ``forward``, in order; if it is variadic, the arrays of its one input.
        Numbers stay numbers.
    **parameters : object
        Its static parameters, by name.

    Examples
    --------
    >>> Case([1.0, 2.0], axis=0)
    Case(float64 (2,), axis=0)
    """

    __slots__ = ("inputs", "parameters")

    def __init__(self, *inputs: Any, **parameters: Any) -> None:
        self.inputs = tuple(
            each if each is None or isinstance(each, int | float | complex) else np.asarray(each)
            for each in inputs
        )
        self.parameters = parameters

    def __repr__(self) -> str:
        shown = [describe(each) for each in self.inputs]
        shown += [f"{name}={value!r}" for name, value in self.parameters.items()]
        return f"Case({', '.join(shown)})"


class Operator:
    """A differentiable operation: ``forward``, its derivatives, and cases to verify them on.

    Subclass it, write the hooks, mark each with `hookimpl`, and make an instance: the instance
    is the operator. See the class attributes for what else can be said of it.
    """

    #: Other names for the same operator.
    aliases: ClassVar[tuple[str, ...]] = ()
    #: Names for what ``forward`` returns beside its output, for the backward alone.
    residuals: ClassVar[tuple[str, ...]] = ()
    #: For an argument, or several, the operator that answers instead where that is a plain number,
    #: or those are, apart from the ones that are left out.
    overloads: ClassVar[Mapping[str | tuple[str, ...], Operator]] = {}
    #: False for an operator such as ``greater``, whose result never requires grad.
    differentiable: ClassVar[bool] = True
    #: Whether the one input is a sequence of arrays. ``forward`` is given a tuple, what a backward
    #: knows as the input's shape is a tuple of shapes, and it returns a gradient for each array.
    variadic: ClassVar[bool] = False
    #: Whether the output may share memory with an input.
    view: ClassVar[bool] = False
    #: Whether tensors have the operator as a method.
    method: ClassVar[bool] = False
    #: What is asked of the inputs together; ends the message of a call that fails.
    expects: ClassVar[str] = "inputs that the operator is defined for"
    #: A method, ``reference(self, *inputs, **parameters)``, that the verifier compares the outputs
    #: with: the same function of arrays, written another way.
    reference: ClassVar[Any] = None
    #: For a real input, by name, the open interval within which the operator is defined and
    #: differentiable, whatever the other arguments are: ``{"x": (0, inf)}`` for the logarithm. The
    #: verifier asks next to the bounds too, and beyond them accepts gradients of nan and inf.
    domain: ClassVar[Mapping[str, tuple[float, float]]] = {}
    #: The name of the graph's nodes; by default the class's with ``Backward0``.
    node_name: ClassVar[str] = ""

    name: str
    contract: Contract

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        """Make an operator whose contract is checked."""
        # Here rather than in __init__, which subclasses redefine: a definition that does not
        # keep the contract fails where it stands, not at its first call.
        self = super().__new__(cls)
        self.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        self.contract = Contract.of(self)
        return self

    def subgradient(self, **_parameters: Any) -> str:
        """Say what the backward gives at a kink, such as that of ``abs`` at 0.

        Parameters
        ----------
        **_parameters : object
            The static parameters that a case gives.

        Returns
        -------
        str
            "least", the subgradient of least norm: 0 where a slope of 0 touches the graph, and
            equal shares for equal elements of which one is chosen; "first", all to the first of
            equal elements; or "between", any slope from the left one to the right one.
        """
        return "least"

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        """The call as `calls` writes it, without the `around_call` hooks."""
        return compile_call(self)

    @property
    def function(self) -> Callable[..., Any]:
        """The operator as a plain function with its public signature."""
        return around(self, self.compiled) if wrappers else self.compiled

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply the operator to tensors, arrays and numbers; record it where grad is required."""
        return self.function(*args, **kwargs)

    def spread(self, count: int) -> Operator:
        """Return the operator as one of so many single inputs: itself, unless it is variadic.

        Parameters
        ----------
        count : int
            How many arrays there are.

        Returns
        -------
        Operator
            Called with the arrays one by one, it does what this one does of a sequence of them.
        """
        if not self.variadic:
            return self

        def call(*arrays: Any, **parameters: Any) -> Any:
            return self.compiled(arrays, **parameters)

        spread = copy.copy(self)
        vars(spread).update(contract=self.contract.spread(count), compiled=call, variadic=False)
        return spread

    @property
    def __signature__(self) -> inspect.Signature:
        return self.contract.signature

    def __repr__(self) -> str:
        return f"<operator {self.name}{self.contract.signature}>"


#: The `around_call` hooks that are in force, innermost first; `registry` keeps the list.
wrappers: list[Callable[[Operator, Callable[[], Any]], Any]] = []


def around(operator: Operator, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` with every `around_call` hook around it."""

    @wraps(function)
    def around_call(*args: Any, **kwargs: Any) -> Any:
        def call() -> Any:
            return function(*args, **kwargs)

        for wrapper in wrappers:
            call = _bind(wrapper, operator, call)
        return call()

    return around_call


def _bind(
    wrapper: Callable[[Operator, Callable[[], Any]], Any],
    operator: Operator,
    call: Callable[[], Any],
) -> Callable[[], Any]:
    return lambda: wrapper(operator, call)


# ------------------------------------------------------------------------------ the contract


@dataclass(frozen=True, slots=True)
class Contract:
    """What the signatures of an operator's hooks say.

    Attributes
    ----------
    signature : inspect.Signature
        The public signature: that of ``forward``, less ``self`` and ``xp``.
    inputs, parameters : tuple of str
        The names before and after the ``/``.
    forward : tuple of str
        What ``forward`` takes, in order.
    hooks : dict of str to function
        The hooks by name.
    sources : tuple of (str or None)
        For each input the hook that gives its gradient.
    jvps : tuple of (str or None)
        For each input the hook that gives what a change of it does to the output.
    variadic : bool
        Whether the one input is a sequence of arrays.
    """

    signature: inspect.Signature
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    hooks: Mapping[str, Callable[..., Any]]
    sources: tuple[str | None, ...]
    jvps: tuple[str | None, ...]
    variadic: bool

    @classmethod
    def of(cls, operator: Operator) -> Contract:
        """Read and check the contract of an operator.

        Raises
        ------
        OperatorError
            If a hook is missing, not marked, misspelt, or asks for what is not there.
        """
        hooks = dict(_hooks(operator))
        forward = _parameters(operator, "forward", hooks["forward"])
        inputs = tuple(n for n, each in forward.items() if each.kind is _Kind.POSITIONAL_ONLY)
        public = {
            name: _by_name_too(each)
            for name, each in forward.items()
            if name != "xp" or name in inputs
        }
        contract = cls(
            inspect.Signature(list(public.values())),
            inputs,
            tuple(name for name in public if name not in inputs),
            hooks,
            tuple(_source(hooks, "backward", name) for name in inputs),
            tuple(_source(hooks, "jvp", name) for name in inputs),
            operator.variadic,
        )
        contract._check(operator)
        return contract

    def source_of(self, index: int) -> tuple[str, str]:
        """Return the hook that gives the gradient of an input, and the input's name."""
        if self.variadic:
            return self.spread(index + 1).source_of(index)
        return self.sources[index] or "backward", self.inputs[index]

    def spread(self, count: int) -> Contract:
        """Return the contract with an input for each array, so many, of a variadic one."""
        if not self.variadic:
            return self
        (name,), (source,) = self.inputs, self.sources
        inputs = tuple(f"{name}[{i}]" for i in range(count))
        sources, jvps = (source,) * count, (None,) * count
        return replace(self, inputs=inputs, sources=sources, jvps=jvps, variadic=False)

    def offered(self, operator: Operator) -> dict[str, str]:
        """Return what a backward may name, with a word on each.

        Raises
        ------
        OperatorError
            If one name would stand for two things.
        """
        offered: dict[str, str] = {}
        for names, what in (
            (("grad",), "the gradient of the output"),
            (("out",), "the output"),
            (("xp",), "the array namespace"),
            (("needs",), "the answer to which gradients are needed"),
            ([f"{name}_shape" for name in self.inputs], "an input's shape"),
            (self.inputs, "an input"),
            (self.parameters, "a parameter"),
            (operator.residuals, "a residual"),
        ):
            for name in names:
                if name in offered:
                    msg = (
                        f"{type(operator).__qualname__}: {name!r} is {what}, and for a backward "
                        f"also {offered[name]}; give it another name"
                    )
                    raise OperatorError(msg)
                offered[name] = what
        return offered

    def derivatives(self) -> list[str]:
        """Return the names that the hooks of a derivative may have."""
        if self.variadic:
            return ["backward"]
        both = ("backward", "jvp")
        whole = both if len(self.inputs) == 1 else both[:1]
        return [*whole, *(f"{kind}_{name}" for kind in both for name in self.inputs)]

    def for_batch(self) -> list[str]:
        """Return what a ``batch`` hook may name."""
        return list(dict.fromkeys((*self.inputs, *self.parameters, "inputs", "parameters", "xp")))

    def _takes(self, name: str, offered: list[str]) -> list[str]:
        """Return what a hook other than ``forward`` may name."""
        if name == "self_check":
            return ["rng"]
        if name == "batch":
            return self.for_batch()
        if name.startswith("backward"):
            return offered
        source = self.sources[self.jvps.index(name)]
        saved = inspect.signature(self.hooks[source]).parameters if source else ()
        cheap = [*(f"{each}_shape" for each in self.inputs), *self.parameters]
        arrays = [each for each in saved if each not in ("grad", "needs", "xp", *cheap)]
        return ["tangent", "xp", *arrays, *cheap]

    def _check(self, operator: Operator) -> None:
        where = type(operator).__qualname__
        if not self.inputs:
            msg = (
                f"{where}.forward{self.signature} has no array inputs; put the arguments that are "
                "arrays before a '/', as in `def forward(self, x, /, axis=None)`"
            )
            raise OperatorError(msg)
        if self.variadic and len(self.inputs) > 1:
            msg = (
                f"{where}.forward{self.signature} is variadic and has {len(self.inputs)} inputs; "
                "put the one that is a sequence of arrays before the '/', and the others after it"
            )
            raise OperatorError(msg)
        if operator.differentiable and not any(self.sources):
            names = " or ".join(["backward", *(f"backward_{name}" for name in self.inputs)])
            msg = (
                f"{where} lacks a backward hook: define {names}, marked with @hookimpl, or say "
                "`differentiable = False`"
            )
            raise OperatorError(msg)
        if "self_check" not in self.hooks:
            msg = (
                f"{where} declares no self_check: define `self_check(self, rng)`, marked with "
                "@hookimpl, which yields Cases that its gradients are verified on"
            )
            raise OperatorError(msg)
        offered = list(self.offered(operator))
        for name, hook in self.hooks.items():
            self._check_hook(operator, name, hook, offered)
        own = [name for name in self.hooks if name.startswith("backward_")]
        if own and "backward" in self.hooks:
            msg = (
                f"{where} has both backward and {own[0]}; define one hook for all inputs, or one "
                "for each"
            )
            raise OperatorError(msg)
        self._check_jvps(operator)
        self._check_domain(operator)

    def _check_jvps(self, operator: Operator) -> None:
        """Insist that where an operator gives a jvp at all, it gives one for each gradient."""
        where = type(operator).__qualname__
        if any(self.jvps) and "tangent" in self.offered(operator):
            msg = f"{where}: 'tangent' is what a jvp hook is given; give the argument another name"
            raise OperatorError(msg)
        for name, source, jvp in zip(self.inputs, self.sources, self.jvps, strict=True):
            if any(self.jvps) and bool(source) is not bool(jvp):
                lacks = "backward" if jvp else "jvp"
                msg = (
                    f"{where} lacks {lacks}_{name}: an operator has a jvp hook either for every "
                    "input with a gradient, or for none"
                )
                raise OperatorError(msg)

    def _check_domain(self, operator: Operator) -> None:
        where = f"{type(operator).__qualname__}.domain"
        for name, (low, high) in operator.domain.items():
            if name not in self.inputs:
                msg = (
                    f"{where} names {name!r}, which is not an input{nearest(name, self.inputs)}; "
                    f"inputs are {', '.join(self.inputs)}"
                )
                raise OperatorError(msg)
            if not low < high:
                msg = f"{where}[{name!r}] is {(low, high)}; expected a lower bound, then an upper"
                raise OperatorError(msg)

    def _check_hook(
        self, operator: Operator, name: str, hook: Callable[..., Any], offered: list[str]
    ) -> None:
        where = f"{type(operator).__qualname__}.{name}"
        known = ["forward", "self_check", "batch", *self.derivatives()]
        if name not in known:
            msg = f"{where}: there is no such hook{nearest(name, known)}; hooks are {known}"
            raise OperatorError(msg)
        if name == "forward":
            return
        takes = self._takes(name, offered)
        for argument in _parameters(operator, name, hook):
            if argument not in takes:
                msg = (
                    f"{where} names {argument!r}, which is not there to give"
                    f"{nearest(argument, takes)}; it may name {', '.join(takes)}"
                )
                raise OperatorError(msg)


def _hooks(operator: Operator) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Find the hooks of an operator, `forward` first."""
    cls = type(operator)
    where = cls.__qualname__
    if not callable(getattr(cls, "forward", None)):
        msg = f"{where} lacks a forward hook: define `forward`, marked with @hookimpl"
        raise OperatorError(msg)
    names = [name for name in dir(cls) if not name.startswith("__")]
    for name in sorted(names, key=lambda name: name != "forward"):
        method = inspect.getattr_static(cls, name)
        marked = hasattr(method, "opgrad_impl")
        if marked and inspect.isfunction(method):
            yield name, getattr(operator, name)
        elif marked or re.match(r"(forward|self_check|batch)$|(backward|jvp)(_|$)", name):
            msg = f"{where}.{name} is not a hook yet: make it a method marked with @hookimpl"
            raise OperatorError(msg)


def _parameters(
    operator: Operator, name: str, hook: Callable[..., Any]
) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(hook).parameters)
    for each in parameters.values():
        if each.kind in (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD):
            msg = (
                f"{type(operator).__qualname__}.{name} takes {each}: hooks are called with what "
                "they name, so name each argument"
            )
            raise OperatorError(msg)
    return parameters


def _by_name_too(parameter: inspect.Parameter) -> inspect.Parameter:
    """Let an input that may be left out be given by name, as in ``clip(x, max=1)``."""
    if parameter.kind is _Kind.POSITIONAL_ONLY and parameter.default is not parameter.empty:
        return parameter.replace(kind=_Kind.POSITIONAL_OR_KEYWORD)
    return parameter


def _source(hooks: Mapping[str, Any], kind: str, name: str) -> str | None:
    own = f"{kind}_{name}"
    return own if own in hooks else kind if kind in hooks else None


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the end of a message about an unknown name: the known one that is most like it."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
