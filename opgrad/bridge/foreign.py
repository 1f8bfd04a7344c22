"""A function of another framework as an opgrad operator.

The framework's own gradient becomes the operator's ``backward``. That one is again a function of
the framework, which takes the inputs and the gradients of the outputs; so it is applied by an
operator as well, `Foreign`, and has a backward in the same way, to any order.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, Protocol

from opgrad.contract import OperatorError, nearest
from opgrad.hookspecs import hookimpl
from opgrad.operator import Operator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from opgrad.operator import Case

_Kind = inspect.Parameter

#: Names that mean something to the hooks of an operator.
_TAKEN = {
    "grad": "the gradient of the output",
    "needs": "the answer to which gradients are needed",
    "xp": "the array namespace",
}


class Framework(Protocol):
    """What a bridge knows of its framework."""

    def run(self, function: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        """Call a function of the framework with NumPy's arrays and return such, not recorded.

        It returns one array or a tuple of them, in memory of their own.
        """

    def pullback(self, function: Callable[..., Any], needs: Sequence[bool]) -> Callable[..., Any]:
        """Return the backward of a function, as a function of the framework.

        It takes the inputs and then a gradient for each output, and returns a tuple of the
        gradients that are needed. They are plain transposes, without conjugates.
        """


class Foreign(Operator):
    """A function of another framework, applied to arrays."""

    variadic = True

    @hookimpl
    def forward(self, arrays: Any, /, function: Any, framework: Any) -> Any:  # noqa: D102
        return framework.run(function, arrays)

    @hookimpl
    def backward(  # noqa: D102
        self, grad: Any, arrays: Any, function: Any, framework: Any, needs: Any
    ) -> Any:
        return _gradients(framework, function, grad, arrays, needs)

    @hookimpl
    def self_check(self, rng: Any) -> Iterator[Case]:  # noqa: ARG002, D102
        yield from ()  # it is never registered: the operators that apply it have cases


_foreign = Foreign()


def _gradients(
    framework: Framework,
    function: Callable[..., Any],
    grad: Any,
    inputs: Sequence[Any],
    needs: Sequence[bool],
) -> list[Any]:
    """Return a gradient for each input that needs one; None for the others."""
    grads = grad if isinstance(grad, tuple) else (grad,)
    pullback = framework.pullback(function, needs)
    found = iter(_foreign((*inputs, *grads), pullback, framework))
    return [next(found) if need else None for need in needs]


@dataclass(frozen=True, slots=True)
class Imported:
    """A function of another framework, with what is known of its arguments.

    Attributes
    ----------
    framework : Framework
        Whose function it is.
    function : callable
        The function.
    name : str
        The operator's.
    arguments : dict of str to inspect.Parameter
        The arguments in order.
    inputs : tuple of str
        Those that are arrays.
    """

    framework: Framework
    function: Callable[..., Any]
    name: str
    arguments: Mapping[str, inspect.Parameter]
    inputs: tuple[str, ...]

    @classmethod
    def of(
        cls,
        framework: Framework,
        function: Callable[..., Any],
        signature: inspect.Signature | None,
        name: str,
        inputs: Sequence[str] | None,
    ) -> Imported:
        """Read a signature.

        Parameters
        ----------
        framework, function, name
            As above.
        signature : inspect.Signature, optional
            That of the function, if Python knows it.
        inputs : sequence of str, optional
            The arguments that are arrays; by default all without a default.

        Raises
        ------
        OperatorError
            If there is no such argument, or the inputs cannot be told from the signature.
        """
        if inputs is not None and not _are_names(inputs):
            msg = (
                f"operator {name}: argument 'inputs' is {inputs!r}; expected a list or tuple of "
                "names, such as ('x', 'y')"
            )
            raise OperatorError(msg)
        arguments = dict(signature.parameters) if signature else {}
        if any(
            each.kind in (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD) for each in arguments.values()
        ):
            arguments = {}
        if not arguments:
            # Nothing is known of them, so the inputs are all there are.
            arguments = {each: _Kind(each, _Kind.POSITIONAL_ONLY) for each in inputs or ()}
        chosen = inputs
        if chosen is None:
            chosen = [each.name for each in arguments.values() if each.default is _Kind.empty]
        for each in chosen:
            if each not in arguments:
                msg = (
                    f"operator {name}: there is no argument {each!r} to be an input; there are "
                    f"{', '.join(arguments)}{nearest(each, list(arguments))}"
                )
                raise OperatorError(msg)
        if not chosen:
            msg = (
                f"operator {name}: the function's signature does not tell which arguments are "
                "arrays; name them, as in inputs=('x', 'y')"
            )
            raise OperatorError(msg)
        for each in arguments:
            if each in _TAKEN:
                msg = (
                    f"operator {name}: the function has an argument {each!r}, which to an "
                    f"operator's hooks is {_TAKEN[each]}; give it another name, as by a function "
                    "around it"
                )
                raise OperatorError(msg)
        return cls(framework, function, name, arguments, tuple(chosen))

    def operator(self, **members: Any) -> Operator:
        """Define the operator; `members` are its other hooks and its attributes."""
        several = len(self.inputs) > 1
        scope: dict[str, Any] = {
            "_forward": self._forward,
            "_backward": self._backward if several else self._backward_alone,
        }
        static = [each for each in self.arguments if each not in self.inputs]
        for each in static:
            scope[f"_default_{each}"] = self.arguments[each].default
        shown = [
            each if self.arguments[each].default is _Kind.empty else f"{each}=_default_{each}"
            for each in static
        ]
        inputs, names = ", ".join(self.inputs), ", ".join([*self.inputs, *static])
        values = f"({inputs},), {{{', '.join(f'{each!r}: {each}' for each in static)}}}"
        # Hooks are called with what their signatures name, so they are written out.
        source = (
            f"def forward({', '.join([inputs, '/', *(['*', *shown] if shown else [])])}):\n"
            f"    return _forward({values})\n"
            f"def backward(grad, {names}, needs):\n"
            f"    return _backward(grad, needs, {values})\n"
        )
        exec(compile(source, f"<operator {self.name}>", "exec"), scope)
        forward = scope["forward"]
        forward.__name__ = forward.__qualname__ = self.name
        forward.__doc__ = self.function.__doc__
        forward.__module__ = self.function.__module__
        made: Operator = Operator.define(forward, backward=scope["backward"], **members)
        return made

    def _bound(self, parameters: Mapping[str, Any]) -> Callable[..., Any]:
        """Return the function of the inputs alone."""
        by_name = [n for n, each in self.arguments.items() if each.kind is _Kind.KEYWORD_ONLY]

        def bound(*inputs: Any) -> Any:
            given = {**parameters, **dict(zip(self.inputs, inputs, strict=True))}
            positional = [given[each] for each in self.arguments if each not in by_name]
            return self.function(*positional, **{each: given[each] for each in by_name})

        return bound

    def _forward(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
        return self.framework.run(self._bound(parameters), inputs)

    def _backward(
        self, grad: Any, needs: Sequence[bool], inputs: Sequence[Any], parameters: Mapping[str, Any]
    ) -> list[Any]:
        return _gradients(self.framework, self._bound(parameters), grad, inputs, needs)

    def _backward_alone(self, *given: Any) -> Any:
        return self._backward(*given)[0]


def _are_names(inputs: Any) -> bool:
    return isinstance(inputs, list | tuple) and all(isinstance(each, str) for each in inputs)


def name_of(function: Any, name: Any, title: str) -> str:
    """Return the name of an operator: that of the function, where none is given.

    Raises
    ------
    OperatorError
        If the function is none, or the name cannot be an operator's.

    Examples
    --------
    >>> name_of(type("LogCosh", (), {}), None, "PyTorch")
    'log_cosh'
    """
    if not callable(function):
        msg = (
            f"operator: argument 'function' is {function!r}; expected a function of {title}'s "
            f"arrays. To use an operator in {title}, call wrap instead"
        )
        raise OperatorError(msg)
    own = getattr(function, "__name__", type(function).__name__)
    made = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", own).lower()
    if not isinstance(made, str) or not made.isidentifier() or iskeyword(made):
        msg = (
            f"operator: argument 'name' is {made!r}; expected an identifier, and no keyword of "
            "Python. A prefix, as in acme.softplus, belongs to the entry point"
        )
        raise OperatorError(msg)
    return made


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return a function's signature; None for what is compiled and has none."""
    try:
        return inspect.signature(function)
    except ValueError:
        return None
