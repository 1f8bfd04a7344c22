"""To JAX and back: opgrad's operators as functions of JAX's arrays, and the other way.

Importing this module imports JAX.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad.bridge import required
from opgrad.bridge.arguments import Arguments, operator_of, presented
from opgrad.bridge.foreign import Imported, name_of, signature_of
from opgrad.bridge.steps import Call
from opgrad.graph import GraphError
from opgrad.operands import NUMBERS
from opgrad.variable import is_differentiable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opgrad.bridge.steps import Step
    from opgrad.operator import Operator

jax: Any = required("jax", "JAX")


def wrap(operator: Operator | str) -> Callable[..., Any]:
    """Make a function of JAX's arrays of an operator.

    Where a formula of the operator, forward or backward, is expressible in ``jax.numpy``, JAX
    traces it: it compiles, and runs on any device. Where it is not, because it calls NumPy or a C
    library, JAX calls it back on the CPU, by `jax.pure_callback`, element by element under
    `jax.vmap`. Derivatives are the operator's own, and of those opgrad's, to any order.

    Parameters
    ----------
    operator : Operator or str
        The operator, or the name of a registered one.

    Returns
    -------
    callable
        It has the operator's signature: arrays, numbers and None for its inputs, and whatever it
        takes for its static parameters. It is a `jax.custom_vjp`: differentiable backward, only
        once where the operator says so, and under `jit` and `vmap`.

    Raises
    ------
    TypeError, UnknownOperatorError, RegistryError
        If `operator` is neither, or there is no such operator. What is returned raises TypeError
        for arguments that are no arrays, and for static parameters that are traced. Errors of the
        operator's are raised as they are.

    Notes
    -----
    For a callback JAX has to know the shapes of the results beforehand. They are those that the
    operator gives for numbers around one of the shapes of its inputs, or for zeros where it does
    not take these.

    Examples
    --------
    >>> import jax
    >>> from opgrad.bridge.jax import wrap
    >>> jax.jit(jax.grad(wrap("tanh")))(0.0)
    Array(1., dtype=float32, weak_type=True)
    """
    found = operator_of(operator)
    is_array, static = partial(_is_array, found.name), partial(_static, found.name)

    def call(*args: Any, **kwargs: Any) -> Any:
        arguments, given = Arguments.bind(found, args, kwargs, is_array, static)
        arrays = [jax.numpy.asarray(each) for each in given]
        pairs = list(zip(arrays, arguments.differentiable, strict=True))
        needs = [can and is_differentiable(each.dtype) for each, can in pairs]
        step = Call(arguments, needs)
        function = _function(step, needs, arrays)
        if found.differentiable:
            arrays = [each if can else _refusing(found.name)(each) for each, can in pairs]
        made = function(*arrays)
        return tuple(made[: step.count]) if step.several else made[0]

    return presented(call, found)


def _is_array(operator: str, name: str, value: Any) -> bool:
    """Tell arrays from numbers, and insist on arrays of a dtype that opgrad's formulas know."""
    if isinstance(value, NUMBERS):
        return False
    where = f"{operator}: argument {name!r} is"
    if not isinstance(value, jax.Array | np.ndarray):
        msg = f"{where} of type {type(value).__name__}; expected a jax.Array or a number"
        raise TypeError(msg)
    if not _is_numeric(value.dtype):
        msg = (
            f"{where} of dtype {value.dtype}, which NumPy lacks; convert it, as with astype(float)"
        )
        raise TypeError(msg)
    return True


def _is_numeric(dtype: Any) -> bool:
    return getattr(dtype, "kind", "") in tuple("biufc")  # the dtypes of keys have no kind


def _static(operator: str, name: str, value: Any) -> Any:
    """Return a static parameter with NumPy's arrays for JAX's, which nobody else can write to."""
    if isinstance(value, jax.core.Tracer):
        msg = (
            f"{operator}: the static parameter {name!r} is traced by JAX; it has to be known "
            "beforehand, for example through static_argnames of jax.jit"
        )
        raise TypeError(msg)
    return np.array(value) if isinstance(value, jax.Array | np.ndarray) else value


def _refusing(operator: str) -> Any:
    """Return the identity, which refuses to be differentiated."""

    def refuse(_primals: Any, _tangents: Any) -> Any:
        msg = (
            f"{operator}: the operator has no gradient with respect to one of the arguments that "
            "one is asked for; pass jax.lax.stop_gradient() of it if none is wanted"
        )
        raise GraphError(msg)

    identity = jax.custom_jvp(lambda x: x)
    identity.defjvp(refuse)
    return identity


def _function(
    step: Step, needs: Sequence[bool], arrays: Sequence[Any], like: Sequence[Any] | None = None
) -> Any:
    """Return a step as a function that JAX differentiates by the step's own backward.

    Parameters
    ----------
    step : Step
        What to compute.
    needs : sequence of bool
        For each array, whether its gradient may be asked for.
    arrays : sequence of arrays
        What the function is going to be given; all that counts are shapes and dtypes.
    like : sequence of arrays, optional
        What has the shapes and dtypes of the results, if that is known.
    """
    given = _shapes(arrays)

    def run(*arrays: Any) -> tuple[Any, ...]:
        return tuple(map(jax.numpy.asarray, step.run(arrays)))

    if not _is_traceable(run, given) or step.opaque:
        returned = _probed(step, arrays) if like is None else _shapes(like)
        run = _calling_back(step, needs, returned)

    def forward(*primals: Any) -> tuple[Any, Any]:
        arrays = [each.value for each in primals]
        made: Any = function(*arrays)  # so that what is kept has a derivative of its own
        known = [*arrays, *made]
        # Keys are no values to JAX, and so stay what they are.
        asked = {i: () for i, each in enumerate(primals) if each.perturbed and needs[i]}
        return made, (tuple(known[i] for i in step.kept(len(arrays))), asked)

    def backward(residuals: Any, grads: Any) -> tuple[Any, ...]:
        kept, asked = residuals
        if not step.flowing or not asked:
            return (None,) * len(needs)
        values = [*(_filled(grads[i]) for i in step.flowing), *kept]
        inexact = [is_differentiable(each.dtype) for each in values]
        wanted = [given[i] for i in asked]
        pullback = step.pullback([i in asked for i in range(len(needs))])
        found = iter(_function(pullback, inexact, values, wanted)(*values))
        return tuple(next(found) if i in asked else None for i in range(len(needs)))

    function: Any = jax.custom_vjp(run)
    function.defvjp(forward, backward, symbolic_zeros=True)
    return function


def _filled(grad: Any) -> Any:
    """Return a gradient as an array, also where JAX only knows that it is zero."""
    if isinstance(grad, jax.custom_derivatives.SymbolicZero):
        return jax.numpy.zeros(grad.shape, grad.dtype)
    return grad


def _is_traceable(run: Callable[..., Any], given: Sequence[Any]) -> bool:
    """Try a step on what JAX traces functions with: shapes and dtypes without values."""
    try:
        jax.eval_shape(run, *given)
    except Exception:  # noqa: BLE001 - a wrong argument is one, too, and is told by the operator
        return False
    return True


def _calling_back(
    step: Step, needs: Sequence[bool], returned: Sequence[Any]
) -> Callable[..., tuple[Any, ...]]:
    """Return a step as a function that JAX calls back on the CPU."""

    def on_host(*arrays: Any) -> tuple[Any, ...]:
        again = step.again(needs)
        made = again.run([*map(np.asarray, arrays)])
        step.insist(again)
        return tuple(_fitting(step, *pair) for pair in zip(made, returned, strict=True))

    def run(*arrays: Any) -> tuple[Any, ...]:
        made = jax.pure_callback(on_host, tuple(returned), *arrays, vmap_method="sequential")
        return tuple(made)

    return run


def _shapes(arrays: Sequence[Any]) -> list[Any]:
    """Return shapes and dtypes as JAX declares them, without 64 bits unless they are enabled."""
    return [
        jax.ShapeDtypeStruct(each.shape, jax.dtypes.canonicalize_dtype(each.dtype))
        for each in arrays
    ]


def _fitting(step: Step, array: Any, like: Any) -> Any:
    made = np.asarray(array)
    if made.shape != like.shape or not np.can_cast(made.dtype, like.dtype, "same_kind"):
        msg = (
            f"{step.name}: the result is {made.dtype} {made.shape}, and for other numbers of the "
            f"same shapes it was {like.dtype} {like.shape}; JAX needs shapes and dtypes that "
            "depend on shapes and dtypes alone"
        )
        raise ValueError(msg)
    return made.astype(like.dtype, copy=False)


def _probed(step: Step, arrays: Sequence[Any]) -> list[Any]:
    """Return shapes and dtypes of what a call gives, found out by making it."""
    if any(isinstance(each, jax.core.Tracer) for each in arrays):
        made = _tried(step, arrays)
    else:
        made = _run(step, [*map(np.asarray, arrays)])
    if step.opaque:
        msg = (
            f"{step.name}: JAX hands residuals on as arrays, and {', '.join(step.opaque)} is "
            "none; let forward return arrays beside its output"
        )
        raise TypeError(msg)
    return _shapes(made)


def _run(step: Step, arrays: Sequence[Any]) -> list[Any]:
    with np.errstate(all="ignore"):
        return step.run(arrays)


def _tried(step: Step, arrays: Sequence[Any]) -> list[Any]:
    """Return what a call gives for other numbers, as those given are not known."""
    likely, zeros = _numbers(arrays), [np.zeros(each.shape, each.dtype) for each in arrays]
    try:
        return _run(step, likely)
    except Exception as error:
        try:
            return _run(step, zeros)
        except Exception:  # noqa: BLE001 - the first says it
            shown = ", ".join(f"{each.dtype} {tuple(each.shape)}" for each in arrays)
            reason = (
                f"JAX could not trace {step.name}, and the numbers are not known, so it was called "
                f"with other numbers of the same shapes, {shown}, to see what shapes it gives: "
                "that raised this"
            )
            error.add_note(reason)
        raise


def _numbers(arrays: Sequence[Any]) -> list[Any]:
    """Return numbers around one, and ones for integers."""
    rng = np.random.default_rng(0)
    return [
        np.asarray(
            rng.uniform(0.5, 1.5, each.shape)
            if is_differentiable(each.dtype)
            else np.ones(each.shape),
            each.dtype,
        )
        for each in arrays
    ]


# --------------------------------------------------------------------------------- the way in


def operator(
    function: Callable[..., Any],
    *,
    self_check: Callable[..., Any],
    name: str | None = None,
    inputs: Sequence[str] | None = None,
    **attributes: Any,
) -> Operator:
    """Make an opgrad operator of a function of JAX's arrays.

    Parameters
    ----------
    function : callable
        It takes and returns arrays, several in a tuple, and is differentiable backward. It is
        called with 64-bit numbers enabled where it is given such. Give it compiled, by `jax.jit`,
        where that pays.
    self_check : callable
        The hook of this name, ``self_check(rng)``, which yields each `opgrad.Case` to verify
        the operator on.
    name : str, optional
        The operator's name; by default the function's.
    inputs : sequence of str, optional
        The arguments that are arrays; by default all without a default. The others are static
        parameters, which are given by name.
    **attributes
        Class attributes of `opgrad.Operator`.

    Returns
    -------
    Operator
        To be called, registered and verified as any other.

    Raises
    ------
    OperatorError
        If the function is none, or its arguments are not known, or there is no input or attribute
        of a name.

    Examples
    --------
    >>> import jax, opgrad
    >>> from opgrad.bridge.jax import operator
    >>> def log_cosh(x):
    ...     return jax.numpy.log(jax.numpy.cosh(x))
    >>> made = operator(log_cosh, self_check=lambda rng: [opgrad.Case(rng.normal(size=3))])
    >>> made(opgrad.tensor([0.0], requires_grad=True))
    tensor([0.], grad_fn=<LogCoshBackward0>)
    """
    name = name_of(function, name, "JAX")
    imported = Imported.of(_JAX, function, signature_of(function), name, inputs)
    return imported.operator(self_check=self_check, **attributes)


class _Jax:
    """JAX, for `foreign`."""

    def run(self, function: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        if any(isinstance(each, jax.core.Tracer) for each in inputs):
            result = function(*inputs)  # it is wrapped again, and JAX goes on tracing
            return tuple(result) if isinstance(result, tuple | list) else result
        arrays = [np.asarray(each) for each in inputs if isinstance(each, np.ndarray | np.generic)]
        wide = not arrays or any(each.real.itemsize > 4 for each in arrays)
        with jax.enable_x64(wide or jax.config.jax_enable_x64):
            given = [
                jax.numpy.asarray(each) if isinstance(each, np.ndarray | np.generic) else each
                for each in inputs
            ]
            result = function(*given)
            if isinstance(result, tuple | list):
                return tuple(map(_returned, result))
            return _returned(result)

    def pullback(self, function: Callable[..., Any], needs: Sequence[bool]) -> Callable[..., Any]:
        count = len(needs)

        def pulled(*arrays: Any) -> tuple[Any, ...]:
            inputs, grads = list(arrays[:count]), arrays[count:]
            wanted = [i for i, need in enumerate(needs) if need]

            def of_wanted(*chosen: Any) -> Any:
                for i, each in zip(wanted, chosen, strict=True):
                    inputs[i] = each
                return function(*inputs)

            made, back = jax.vjp(of_wanted, *(inputs[i] for i in wanted))
            outputs, structure = jax.tree.flatten(made)
            found: tuple[Any, ...] = back(structure.unflatten(map(_seed, grads, outputs)))
            return found

        return pulled


def _returned(value: Any) -> Any:
    """Return what a function gave as an array of NumPy's, and insist that it can be one."""
    is_array = isinstance(value, jax.Array | np.ndarray)
    if not is_array and not isinstance(value, NUMBERS):
        what = f"of type {type(value).__name__}"
    elif is_array and not _is_numeric(value.dtype):
        what = f"of dtype {value.dtype}"
    else:
        return np.array(value)
    msg = (
        f"what the function returned is {what}; expected a jax.Array of a dtype that NumPy has, "
        "several in a tuple"
    )
    raise TypeError(msg)


def _seed(grad: Any, output: Any) -> Any:
    """Return a gradient as JAX wants it for an output, which for integers is of no size."""
    if jax.numpy.issubdtype(output.dtype, jax.numpy.inexact):
        return jax.numpy.asarray(grad, output.dtype)
    return np.zeros(output.shape, jax.dtypes.float0)


_JAX = _Jax()
