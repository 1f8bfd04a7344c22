"""What the signatures of an operator's hooks say, and whether they keep to one another."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opgrad.operator import Operator

_Kind = inspect.Parameter


def _are_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, str) for each in value)


def _are_intervals(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(each, tuple | list) and len(each) == 2 and all(isinstance(x, Real) for x in each)
        for each in value.values()
    )


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


_NAMES = (_are_names, "a tuple of names, such as ('multiply',)")
_FLAG = (_is(bool), "True or False")
_TEXT = (_is(str), "a text")

#: What an author may say of an operator beside its hooks: the test of a value, and what passes it.
ATTRIBUTES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "aliases": _NAMES,
    "residuals": _NAMES,
    "overloads": (_is(Mapping), "a mapping from arguments to operators"),
    "differentiable": _FLAG,
    "once_differentiable": _FLAG,
    "variadic": _FLAG,
    "view": _FLAG,
    "method": _FLAG,
    "expects": _TEXT,
    "reference": (lambda value: value is None or callable(value), "a method"),
    "domain": (_are_intervals, "a mapping from inputs to pairs of numbers, {'x': (0, inf)}"),
    "node_name": _TEXT,
}


class OperatorError(TypeError):
    """An operator's definition does not keep the contract."""


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
        _check_attributes(operator)
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
        known = ["forward", "self_check", "batch", *self.derivatives()]
        for name in self.hooks:
            if name not in known:
                hint = nearest(name, known)
                msg = f"{where}.{name}: there is no such hook{hint}; hooks are {known}"
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


def _check_attributes(operator: Operator) -> None:
    for name, (is_right, expected) in ATTRIBUTES.items():
        value = getattr(operator, name)
        if not is_right(value):
            msg = f"{type(operator).__qualname__}.{name} is {value!r}; expected {expected}"
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
        if isinstance(method, staticmethod):
            method = method.__func__
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
