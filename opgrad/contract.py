"""What the signatures of an operator's hooks say, and whether they keep to one another."""

from __future__ import annotations

import difflib
import inspect
import re
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any

from opgrad.declared import ATTRIBUTES, wrong_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from opgrad.operator import Operator

_Kind = inspect.Parameter

#: What a hook of an operator may be called.
HOOK = re.compile(r"(forward|self_check|batch)$|(backward|jvp)(_|$)")


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
        for fault in chain(wrong_attributes(operator), _misspelt(operator)):
            raise OperatorError(fault)
        hooks = dict(_hooks(operator))
        taken = {name: _parameters(operator, name, hook) for name, hook in hooks.items()}
        forward = taken["forward"]
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
        contract._check(operator, taken)
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

    def _check(self, operator: Operator, taken: Mapping[str, Collection[str]]) -> None:
        where = type(operator).__qualname__
        _check_self(operator, "forward", self.hooks["forward"], self._alluded(operator, taken))
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
                msg = (
                    f"{where}.{name}: there is no such hook; hooks are {', '.join(known)}"
                    f"{nearest(name, known)}"
                )
                raise OperatorError(msg)
        if off := next(_switched_off(operator, self.hooks), None):
            msg = (
                f"{where} says `differentiable = False`, and has the hook {off}; leave one of the "
                "two out"
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
        for name, arguments in taken.items():
            if name != "forward":
                self._check_hook(operator, name, arguments, self._takes(name, offered))
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
                    f"{where} names {name!r}, which is not an input; inputs are "
                    f"{', '.join(self.inputs)}{nearest(name, self.inputs)}"
                )
                raise OperatorError(msg)
            if not low < high:
                msg = f"{where}[{name!r}] is {(low, high)}; expected a lower bound, then an upper"
                raise OperatorError(msg)

    def _check_hook(
        self, operator: Operator, name: str, taken: Collection[str], offered: Sequence[str]
    ) -> None:
        _check_self(operator, name, self.hooks[name], offered)
        for argument in taken:
            if argument not in offered:
                msg = (
                    f"{type(operator).__qualname__}.{name} names {argument!r}, which is not there "
                    f"to give; it may name {', '.join(offered)}{nearest(argument, offered)}"
                )
                raise OperatorError(msg)

    def _alluded(self, operator: Operator, taken: Mapping[str, Collection[str]]) -> set[str]:
        """Return what must be an argument of ``forward``, and no name for self."""
        names = {"xp", *operator.domain}
        for hook in taken.keys() - {"forward"}:
            names |= {*taken[hook], re.sub("^(backward|jvp)_", "", hook)}
        if not self.inputs:  # what stands before the '/' is all gone
            names.add(next((n for n, each in _written(self.hooks["forward"]).items()
                            if each.kind is _Kind.POSITIONAL_ONLY), ""))  # fmt: skip
        return names - {"self"}


def own_classes(cls: type) -> list[type]:
    """Return the classes of an operator, down to that of all operators and without it."""
    return list(takewhile(lambda each: "define" not in vars(each), cls.__mro__))


def _misspelt(operator: Operator) -> Iterator[str]:
    """Find what is called almost as something of opgrad's, and has no use that is seen."""
    classes = own_classes(type(operator))
    base = type(operator).__mro__[len(classes)]
    known = {*dir(base), *base.__annotations__}
    members = [each for cls in classes for each in vars(cls).items()]
    for name, value in members:
        if name[0] == "_" or name in known or HOOK.match(name) or hasattr(value, "opgrad_impl"):
            continue
        hint = nearest(name, _METHODS if hasattr(value, "__get__") else [*ATTRIBUTES])
        if hint and not any(name in _names_in(each) for _, each in members):
            yield (
                f"{type(operator).__qualname__}.{name} is nothing that opgrad knows, and no method "
                f"of the class makes use of it; begin its name with '_' if it is your own{hint}"
            )


#: What an author may write as a method, whatever the inputs are.
_METHODS = ("forward", "backward", "jvp", "batch", "self_check", "subgradient", "reference")


def _names_in(value: Any) -> set[str]:
    """Return the names that stand in the code of a method, or of a property."""
    function = getattr(value, "fget", None) or getattr(value, "func", None) or value
    codes = [getattr(inspect.unwrap(function), "__code__", None)]
    names: set[str] = set()
    for code in filter(None, codes):
        codes += [each for each in code.co_consts if inspect.iscode(each)]
        names |= {*code.co_names, *(each for each in code.co_consts if isinstance(each, str))}
    return names


def _switched_off(operator: Operator, hooks: Iterable[str]) -> Iterator[str]:
    """Find the hooks for gradients that stand where they are said not to be, or below."""
    for cls in () if operator.differentiable else own_classes(type(operator)):
        yield from (
            each for each in vars(cls) if each in hooks and each.startswith(("backward", "jvp"))
        )
        if "differentiable" in vars(cls):
            return


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
        elif marked or HOOK.match(name):
            msg = f"{where}.{name} is not a hook yet: make it a method marked with @hookimpl"
            raise OperatorError(msg)


def _written(hook: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the arguments that a hook was written with, with self where that is one."""
    return inspect.signature(getattr(hook, "__func__", hook)).parameters


def _check_self(
    operator: Operator, name: str, hook: Callable[..., Any], asked: Collection[str] = ()
) -> None:
    """Refuse a method whose first argument is one that is asked for: it forgets self."""
    if not inspect.ismethod(hook):
        return
    first = next(iter(_written(hook)), None)
    if first is None or first in asked:
        given = str(inspect.signature(hook.__func__))
        rest = given[1:] if first is None else f", {given[1:]}"
        msg = (
            f"{type(operator).__qualname__}.{name}{given} has no self, and a hook is a method: "
            f"write `def {name}(self{rest}`"
        )
        raise OperatorError(msg)


def _parameters(
    operator: Operator, name: str, hook: Callable[..., Any]
) -> dict[str, inspect.Parameter]:
    _check_self(operator, name, hook)
    parameters = dict(inspect.signature(hook).parameters)
    for each in parameters.values():
        if each.kind in (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD):
            remedy = "so name each argument"
            if name == "forward" and each.kind is _Kind.VAR_POSITIONAL:
                remedy += (
                    "; for any number of arrays say `variadic = True`, and take one, "
                    f"`{each.name}, /`"
                )
            msg = (
                f"{type(operator).__qualname__}.{name} takes {each}: hooks are called with what "
                f"they name, {remedy}"
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
