"""Who is timed: for each library one function that prepares a step.

A step computes a loss and the gradients of its parameters, and returns both. Moving the data
into the library and compiling are done before, and so not timed. What a library does to begin
with fresh gradients is inside the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, NamedTuple

Step = Callable[[], tuple[Any, Sequence[Any]]]


class Side(NamedTuple):
    """A library: what one imports to use it, and ``(loss, parameters, constants) -> step``."""

    imports: str
    prepare: Callable[..., Step]

    @property
    def distribution(self) -> str:
        """The name of what is installed."""
        return self.imports.partition(".")[0]


def _recorded(loss: Any, xp: Any, leaves: Sequence[Any], constants: Sequence[Any]) -> Step:
    """Make a step for a library with PyTorch's interface."""
    functions = xp.nn.functional

    def step() -> tuple[Any, Sequence[Any]]:
        for leaf in leaves:
            leaf.grad = None
        value = loss(xp, functions, *leaves, *constants)
        value.backward()
        return value, [leaf.grad for leaf in leaves]

    return step


def _opgrad(loss: Any, parameters: Sequence[Any], constants: Sequence[Any]) -> Step:
    import opgrad

    leaves = [opgrad.tensor(each, requires_grad=True) for each in parameters]
    return _recorded(loss, opgrad, leaves, [opgrad.tensor(each) for each in constants])


def _torch(loss: Any, parameters: Sequence[Any], constants: Sequence[Any]) -> Step:
    import torch

    torch.set_num_threads(1)
    leaves = [torch.tensor(each, requires_grad=True) for each in parameters]
    return _recorded(loss, torch, leaves, [torch.tensor(each) for each in constants])


def _mygrad(loss: Any, parameters: Sequence[Any], constants: Sequence[Any]) -> Step:
    import mygrad

    leaves = [mygrad.tensor(each) for each in parameters]
    fixed = [mygrad.tensor(each, constant=True) for each in constants]
    functions = _network_functions(mygrad)

    def step() -> tuple[Any, Sequence[Any]]:
        # Using a leaf again drops its gradient: there is nothing to reset.
        value = loss(mygrad, functions, *leaves, *fixed)
        value.backward()
        return value, [leaf.grad for leaf in leaves]

    return step


def _autograd(loss: Any, parameters: Sequence[Any], constants: Sequence[Any]) -> Step:
    import autograd
    import autograd.numpy

    function = autograd.value_and_grad(loss, argnum=[*range(2, 2 + len(parameters))])
    arguments = (autograd.numpy, _network_functions(autograd.numpy), *parameters, *constants)
    return lambda: function(*arguments)


def _jax(loss: Any, parameters: Sequence[Any], constants: Sequence[Any]) -> Step:
    import jax
    import jax.numpy

    functions = _network_functions(jax.numpy)

    def scalar(*arrays: Any) -> Any:
        return jax.numpy.sum(loss(jax.numpy, functions, *arrays))

    function = jax.jit(jax.value_and_grad(scalar, argnums=tuple(range(len(parameters)))))
    arrays = [jax.numpy.asarray(each) for each in (*parameters, *constants)]
    return lambda: jax.block_until_ready(function(*arrays))


def _network_functions(xp: Any) -> SimpleNamespace:
    """Return the network functions for a library that has none of its own."""

    def binary_cross_entropy_with_logits(logits: Any, target: Any) -> Any:
        return xp.mean(xp.logaddexp(0, logits) - target * logits)

    return SimpleNamespace(binary_cross_entropy_with_logits=binary_cross_entropy_with_logits)


_ALL = {
    "opgrad": Side("opgrad", _opgrad),
    "PyTorch": Side("torch", _torch),
    "autograd": Side("autograd.numpy", _autograd),
    "MyGrad": Side("mygrad", _mygrad),
    "JAX jit": Side("jax.numpy", _jax),
}

#: The libraries that are installed, opgrad first.
SIDES = {name: side for name, side in _ALL.items() if find_spec(side.distribution)}
