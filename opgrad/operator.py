"""What an author writes: an `Operator` with its hooks, and `Case`s to verify it on.

The signature of ``forward`` is the contract. Arguments before ``/`` are arrays, the inputs that
gradients may be asked for; those after it are static parameters. A backward names what it needs,
and only what is named is saved. `contract` reads that off the signatures, and `calls` makes of it
the functions that are called.
"""

from __future__ import annotations

import copy
import inspect
import re
from functools import cached_property, partial, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Self, overload

import numpy as np

from opgrad.calls import compile_call
from opgrad.contract import Contract
from opgrad.defining import defined
from opgrad.operands import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
    #: True for a backward that is not itself differentiated: it is given arrays always, may compute
    #: as it likes, in a C library for example, and a second derivative through it is an error.
    once_differentiable: ClassVar[bool] = False
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
    #: differentiable, whatever the other arguments are: ``{"x": (0, inf)}`` for the logarithm; that
    #: of a sequence of arrays holds for each of them. The verifier asks next to the bounds too, and
    #: beyond them accepts gradients of nan and inf.
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

    @overload
    @classmethod
    def define(cls, forward: Callable[..., Any], /, **members: Any) -> Self: ...

    @overload
    @classmethod
    def define(cls, /, **members: Any) -> Callable[[Callable[..., Any]], Self]: ...

    @classmethod
    def define(cls, forward: Callable[..., Any] | None = None, /, **members: Any) -> Any:
        """Make an operator of functions, without a class around them; a decorator of ``forward``.

        It is the class statement written shorter: the function is the hook ``forward``, and named
        after it are the operator and the class, of which this one is the base.

        Parameters
        ----------
        forward : callable, optional
            The hook, which has no `self`. Left out where this is a decorator.
        **members
            The other hooks, likewise functions without `self`, and the class attributes.

        Returns
        -------
        Operator
            Or, without `forward`, the decorator that makes it.

        Raises
        ------
        OperatorError
            If the contract is not kept, or there is nothing of a name to define.

        Examples
        --------
        >>> import opgrad
        >>> @opgrad.Operator.define(
        ...     backward=lambda grad, x: grad * 3 * x**2,
        ...     self_check=lambda rng: [opgrad.Case(rng.normal(size=3))],
        ... )
        ... def cube(x, /):
        ...     return x**3
        >>> cube(opgrad.tensor([1.0, 2.0], requires_grad=True))
        tensor([1., 8.], grad_fn=<CubeBackward0>)
        """
        hook = members.pop("forward", None) if forward is None else forward
        if hook is None:
            return partial(cls.define, **members)
        operator = defined(cls, hook, members)()
        operator.name = hook.__name__
        return operator

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
            One that is spread can be spread again, to another number.
        """
        if not self.variadic:
            whole: Operator = vars(self).get("_whole", self)
            same = whole is self or len(self.contract.inputs) == count
            return self if same else whole.spread(count)

        def call(*arrays: Any, **parameters: Any) -> Any:
            return self.compiled(arrays, **parameters)

        spread, contract = copy.copy(self), self.contract.spread(count)
        domain = {name: ends for ends in self.domain.values() for name in contract.inputs}
        vars(spread).update(
            contract=contract, compiled=call, variadic=False, domain=domain, _whole=self
        )
        return spread

    if not TYPE_CHECKING:  # to a type checker an operator has the attributes that stand here

        def __getattr__(self, name: str) -> Any:
            """Raise the error of `ops.exp.soft`: the name before the dot is no prefix."""
            try:
                return object.__getattribute__(self, name)
            except AttributeError as error:
                if hasattr(type(self), name) or name.startswith("_") or "name" not in vars(self):
                    raise
                msg = (
                    f"{error}; {self.name!r} is an operator, and no prefix of others such as "
                    f"'{self.name}.{name}'"
                )
                raise AttributeError(msg, name=name, obj=self) from None

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
