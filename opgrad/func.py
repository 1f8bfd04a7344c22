"""Transforms of functions, by the names of ``torch.func``: derivatives of f from f itself.

Functions take and return tensors, arrays and numbers, or dicts, lists and tuples of them, in any
nesting; None stands for nothing. Inside they are given tensors. Results are tensors if one of the
arguments that are differentiated is or holds one, else NumPy's arrays and scalars, except for a
result that requires grad, which stays a tensor: an array would lose its gradient.

Transforms nest, record also inside `no_grad`, and touch neither ``.grad`` nor ``requires_grad``
of anything. Results depend on the caller's own leaves as any other result does, unless the
transform is called inside `no_grad`.

Gradients of complex numbers are those of `opgrad.autograd.grad`: ``|z|**2`` has the gradient
``2 * z``. Tangents are what they say: what ``f(z)`` changes by, for a change of ``z``. Jacobians of
real functions have gradients for rows, and complex functions are taken to be holomorphic there:
``z**2`` has the derivative ``2 * z``.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from opgrad import creation
from opgrad.batching import vmap
from opgrad.jacobians import hessian, jacfwd, jacobian, jacrev
from opgrad.operands import describe
from opgrad.recomputing import checkpoint
from opgrad.recording import Recording, insist_on_function

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "checkpoint",
    "grad",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linearize",
    "value_and_grad",
    "vhp",
    "vjp",
    "vmap",
]

# ------------------------------------------------------------------- of functions to one number


def grad(
    func: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Return the function that gives the gradient of `func`.

    Parameters
    ----------
    func : callable
        Returns one real number.
    argnums : int or sequence of int
        Which positional arguments to differentiate with respect to.
    has_aux : bool
        `func` returns a pair of the number and something else; so does the result, with the
        gradient in the number's place.

    Returns
    -------
    callable
        Takes the arguments of `func`; gives the gradient, of the argument's form and shape, or
        for several `argnums` a tuple of them.

    Raises
    ------
    TypeError
        When called: if `func` gives anything but one real number, or an argument is neither
        floating nor complex.
    ValueError
        When called: if there is no such argument.

    Examples
    --------
    >>> from opgrad import func
    >>> func.grad(lambda x: x**3)(2.0)
    np.float64(12.0)
    >>> func.grad(func.grad(lambda x: x**3))(2.0)
    np.float64(12.0)
    >>> func.grad(lambda p, x: (p["w"] * x + p["b"]) ** 2)({"w": 3.0, "b": -5.0}, 2.0)
    {'w': np.float64(4.0), 'b': np.float64(2.0)}
    """
    insist_on_function("grad", func, argnums)

    @functools.wraps(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        recording = Recording("grad", func, args, kwargs, argnums, has_aux)
        found = _gradient(recording)
        return (found, recording.aux) if has_aux else found

    return gradient


def value_and_grad(
    func: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Return the function that gives the value of `func` and its gradient, as a pair.

    It is what ``scipy.optimize.minimize(value_and_grad(func), x0, jac=True)`` expects.

    Parameters
    ----------
    func, argnums
        As for `grad`.
    has_aux : bool
        `func` returns a pair of the number and something else, which stands in the value's place.

    Returns
    -------
    callable
        Takes the arguments of `func`; gives ``(value, gradient)``.

    Raises
    ------
    TypeError, ValueError
        As for `grad`.

    Examples
    --------
    >>> import numpy as np
    >>> from opgrad import func
    >>> func.value_and_grad(lambda x: (x**2).sum())(np.array([1.0, 2.0]))
    (np.float64(5.0), array([2., 4.]))
    """
    insist_on_function("value_and_grad", func, argnums)

    @functools.wraps(func)
    def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        recording = Recording("value_and_grad", func, args, kwargs, argnums, has_aux)
        found = _gradient(recording)
        value = recording.value()
        return ((value, recording.aux) if has_aux else value), found

    return both


def hvp(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that gives the product of the Hessian of `func` with a vector.

    The Hessian itself is never made: the gradient's directional derivative costs a few times
    what `func` does. It is what ``scipy.optimize.minimize(..., hessp=hvp(func))`` expects.

    Parameters
    ----------
    func : callable
        Returns one real number, of which second derivatives are taken with respect to the first
        argument.

    Returns
    -------
    callable
        Takes ``(x, v, *args, **kwargs)``: the first argument of `func`, the vector, of the form
        and shape of `x`, and the other arguments. Gives the product, likewise of that form.

    Raises
    ------
    TypeError, ValueError
        As for `grad`, or if `v` does not fit `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from opgrad import func
    >>> func.hvp(lambda x: (x**3).sum())(np.array([1.0, 2.0]), np.array([1.0, 10.0]))
    array([  6., 120.])
    """
    insist_on_function("hvp", func)

    def product(x: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
        recording = _slope("hvp", func, x, args, kwargs)
        return recording.like_value(recording.push(recording.like_inputs("v", v)))

    return product


def vhp(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that gives the product of a vector with the Hessian of `func`.

    The same numbers as from `hvp`, by two backward passes instead of a backward and a forward one.

    Parameters
    ----------
    func : callable
        As for `hvp`.

    Returns
    -------
    callable
        As from `hvp`.

    Raises
    ------
    TypeError, ValueError
        As for `hvp`.

    Examples
    --------
    >>> import numpy as np
    >>> from opgrad import func
    >>> func.vhp(lambda x: (x**3).sum())(np.array([1.0, 2.0]), np.array([1.0, 10.0]))
    array([  6., 120.])
    """
    insist_on_function("vhp", func)

    def product(x: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
        recording = _slope("vhp", func, x, args, kwargs)
        found = recording.pull(recording.like_outputs("v", v), keep=False)
        return recording.like_arguments(found)

    return product


def _gradient(recording: Recording) -> Any:
    outputs = recording.outputs
    if len(outputs) != 1 or outputs[0].size != 1 or outputs[0].dtype.kind == "c":
        got = describe(outputs[0]) if len(outputs) == 1 else f"{len(outputs)} arrays"
        msg = (
            f"{recording.name}: func returned {got}; expected one real number. Reduce it, for "
            "example with sum(); for the derivatives of an array there is jacobian, and vjp"
        )
        raise TypeError(msg)
    return recording.like_arguments(recording.pull([creation.ones_like(outputs[0])], keep=False))


def _slope(name: str, func: Callable[..., Any], x: Any, args: Any, kwargs: Any) -> Recording:
    """Record the call of a gradient."""

    def gradient(x: Any) -> Any:
        return _gradient(Recording(name, func, (x, *args), kwargs, 0))

    return Recording(name, gradient, (x,), {}, 0)


# ------------------------------------------------------------------ products with the Jacobian


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """Return the value of a function, and the function that carries gradients back through it.

    Parameters
    ----------
    func : callable
        The function.
    *primals : tree of arrays
        Its arguments, all of which are differentiated.
    has_aux : bool
        `func` returns a pair, of which the second part is not differentiated but handed on.

    Returns
    -------
    output : tree of arrays
        The value.
    vjp_fn : callable
        Takes gradients of the form of `output`; gives a tuple with the gradient of each of
        `primals`. It may be called many times, and holds the recorded graph as long as it lives.
    aux : object
        Only if `has_aux`.

    Raises
    ------
    TypeError, ValueError
        If an argument is neither floating nor complex, or the gradients do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from opgrad import func
    >>> value, pull = func.vjp(lambda x, y: x * y, np.array([1.0, 2.0]), 3.0)
    >>> value
    array([3., 6.])
    >>> pull(np.array([1.0, 10.0]))
    (array([ 3., 30.]), np.float64(21.0))
    """
    insist_on_function("vjp", func)
    recording = Recording("vjp", func, primals, {}, range(len(primals)), has_aux)

    def vjp_fn(cotangents: Any) -> tuple[Any, ...]:
        found = recording.pull(recording.like_outputs("cotangents", cotangents))
        arguments: tuple[Any, ...] = recording.like_arguments(found)
        return arguments

    return (recording.value(), vjp_fn, *([recording.aux] if has_aux else []))


def jvp(
    func: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    has_aux: bool = False,
) -> tuple[Any, ...]:
    """Return the value of a function, and what it changes by for a change of its arguments.

    Parameters
    ----------
    func : callable
        The function.
    primals, tangents : tuple or list
        Its arguments, and what each changes by, of the argument's form and shape.
    has_aux : bool
        `func` returns a pair, of which the second part is not differentiated but handed on.

    Returns
    -------
    output, change : tree of arrays
        The value, and its directional derivative, of the same form.
    aux : object
        Only if `has_aux`.

    Raises
    ------
    TypeError, ValueError
        If `primals` or `tangents` is not a sequence, an argument is neither floating nor complex,
        or the tangents do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from opgrad import func
    >>> func.jvp(lambda x, y: x * y, (np.array([1.0, 2.0]), 3.0), (np.array([0.0, 1.0]), 0.1))
    (array([3., 6.]), array([0.1, 3.2]))
    """
    insist_on_function("jvp", func)
    for name, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, tuple | list):
            msg = f"jvp: {name} is {describe(given)}; expected a tuple, with one for each argument"
            raise TypeError(msg)
    recording = Recording("jvp", func, primals, {}, range(len(primals)), has_aux)
    change = recording.push(recording.like_inputs("tangents", tangents))
    aux = [recording.aux] if has_aux else []
    return (recording.value(), recording.like_value(change), *aux)


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """Return the value of a function, and the linear function that is its derivative there.

    As `jvp`, where many tangents are asked of one point: `func` is called once.

    Parameters
    ----------
    func : callable
        The function.
    *primals : tree of arrays
        Its arguments, all of which are differentiated.

    Returns
    -------
    output : tree of arrays
        The value.
    jvp_fn : callable
        Takes a tangent for each of `primals`; gives what the output changes by. It holds the
        recorded graph as long as it lives.

    Raises
    ------
    TypeError, ValueError
        As for `jvp`.

    Examples
    --------
    >>> import numpy as np
    >>> from opgrad import func
    >>> value, push = func.linearize(lambda x: x**2, np.array([1.0, 2.0]))
    >>> push(np.array([1.0, 0.0])), push(np.array([0.0, 1.0]))
    (array([2., 0.]), array([0., 4.]))
    """
    insist_on_function("linearize", func)
    recording = Recording("linearize", func, primals, {}, range(len(primals)))

    def jvp_fn(*tangents: Any) -> Any:
        return recording.like_value(recording.push(recording.like_inputs("tangents", tangents)))

    return recording.value(), jvp_fn
