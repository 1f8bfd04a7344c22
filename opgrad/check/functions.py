"""The verifier for functions: `gradcheck`, `gradgradcheck` of tensors, `check_gradient` of NumPy.

What is compared, and how, is what `verify` does for operators; so is the `Report`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad.check.comparing import compare_jacobians
from opgrad.check.findings import Finding, Report, failed
from opgrad.check.probes.derivatives import gradient_function
from opgrad.check.trial import as_tensor, cotangent
from opgrad.hookspecs import hookimpl
from opgrad.operands import describe
from opgrad.operator import Case, Operator
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


def gradcheck(function: Callable[..., Any], inputs: Any) -> Report:
    """Compare the gradients of a function of tensors with numeric derivatives.

    Parameters
    ----------
    function : callable
        Takes the inputs, returns a tensor or a sequence of tensors.
    inputs : Tensor or sequence
        The inputs. Those that require grad are differentiated with respect to; their dtype is
        float64 or complex128. They are not written to.

    Returns
    -------
    Report
        One finding for each input that requires grad. The report is true only if all of them
        passed, so that ``assert gradcheck(function, inputs)`` is a test; printing it tells what is
        wrong. It is false, too, if one is ``INCONCLUSIVE``: the function is too rough there for
        a numeric derivative to be trusted, and nothing is known of its gradient.

    Raises
    ------
    ValueError
        If no input requires grad, or one that does is of lower precision.
    TypeError
        If the function returns something else than tensors.

    Examples
    --------
    >>> import opgrad
    >>> from opgrad.check import gradcheck
    >>> x = opgrad.tensor([0.5, 2.0], requires_grad=True)
    >>> print(gradcheck(lambda x: opgrad.exp(x) * x, x))
    gradcheck of <lambda>: PASS, worst error ... of what is allowed
    >>> bool(gradcheck(lambda x: x * x.detach(), x))
    False
    """
    call = _Call.of("gradcheck", function, inputs)
    names = list(map(str, range(len(call.inputs))))
    found = compare_jacobians(call.differentiated, call.inputs, call.chosen, names)
    return _report("gradcheck", call, found)


def gradgradcheck(function: Callable[..., Any], inputs: Any) -> Report:
    """Compare the second derivatives of a function of tensors with numeric derivatives.

    The first derivatives, weighted with fixed numbers of both signs for ``grad``, are
    differentiated with respect to the inputs and to those numbers.

    Parameters
    ----------
    function, inputs
        As for `gradcheck`.

    Returns
    -------
    Report
        One finding for each input that requires grad, and one for each output's ``grad``. It is
        true only if all of them passed; ``INCONCLUSIVE`` is false, as for `gradcheck`.

    Raises
    ------
    ValueError, TypeError
        As `gradcheck` does.

    Examples
    --------
    >>> import opgrad
    >>> from opgrad.check import gradgradcheck
    >>> x = opgrad.tensor([0.5, 2.0], requires_grad=True)
    >>> assert gradgradcheck(opgrad.exp, x)
    """
    call = _Call.of("gradgradcheck", function, inputs)
    seeds = [cotangent(each.detach().data) for each in call.call([*map(as_tensor, call.inputs)])]
    count, total = len(call.inputs), len(call.inputs) + len(seeds)
    names = [*map(str, range(count)), *("grad" for _ in seeds)]
    chosen = [*call.chosen, *range(count, total)]
    outputs = [f"inputs[{i}].grad" for i in call.chosen]
    found = compare_jacobians(
        gradient_function(call), [*call.inputs, *seeds], chosen, names, outputs=outputs
    )
    return _report("gradgradcheck", call, found)


@dataclass(frozen=True, slots=True)
class _Call:
    """A function of tensors on given inputs, as a `Trial` is an operator on given inputs."""

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    chosen: list[int]

    @classmethod
    def of(cls, who: str, function: Callable[..., Any], inputs: Any) -> _Call:
        given = [inputs] if isinstance(inputs, Tensor | np.ndarray) else list(inputs)
        chosen = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
        if not chosen:
            msg = (
                f"{who}: none of the inputs ({', '.join(map(describe, given))}) requires grad, so "
                "there is no gradient to check; pass tensors made with requires_grad=True"
            )
            raise ValueError(msg)
        for i in chosen:
            if given[i].dtype not in (np.float64, np.complex128):
                msg = (
                    f"{who}: input {i} is {describe(given[i])}, too coarse for a numeric "
                    "derivative; pass it as float64 or complex128"
                )
                raise ValueError(msg)
        data = (x.detach().data.copy() if isinstance(x, Tensor) else x for x in given)
        return cls(function, tuple(data), chosen)

    def call(self, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
        """Apply the function; always a tuple of outputs."""
        result = self.function(*inputs)
        outputs = tuple(result) if isinstance(result, tuple | list) else (result,)
        for each in outputs:
            if not isinstance(each, Tensor):
                msg = (
                    f"{_name(self.function)} returned {describe(each)}, expected a tensor or a "
                    "tuple of tensors"
                )
                raise TypeError(msg)
        return outputs

    def differentiated(self, inputs: Sequence[Any], _record: bool) -> tuple[Tensor, ...]:
        return self.call(inputs)


def check_gradient(
    fun: Callable[..., Any],
    grad: Callable[..., Any] | bool,
    x: ArrayLike,
    *args: Any,
) -> Report:
    """Compare a gradient written by hand, in NumPy, with numeric derivatives.

    It takes what one hands to an optimizer, such as ``scipy.optimize.minimize(fun, x, args,
    jac=grad)``.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)`` returns a number, or an array.
    grad : callable or True
        ``grad(x, *args)`` returns the gradient, of the shape of x; for an array, the Jacobian,
        whose shape is that of the array followed by that of x. With True, ``fun`` returns the
        value and the gradient.
    x : array_like
        Where to compare them: real numbers.
    *args : object
        Further arguments of both.

    Returns
    -------
    Report
        True only if the gradient agrees; printing the report tells what is wrong. It is false, too,
        if the answer is ``INCONCLUSIVE``, as for `gradcheck`.

    Raises
    ------
    TypeError
        If `x` is not real, or `fun` does not return real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from opgrad.check import check_gradient
    >>> def fun(x):
    ...     return np.sum(x**2)
    >>> assert check_gradient(fun, lambda x: 2 * x, [1.0, 2.0])
    >>> print(check_gradient(fun, lambda x: x, [1.0, 2.0]))
    check_gradient of fun: FAIL, worst error ... of what is allowed
    FAIL: check_gradient
      case          Case(float64 (2,))
      problem       for d output / d x[1] the backward gives 2, the numeric derivative 4 +- ...
      element       d output / d x[1]
      analytic      2, numeric 4... +- ...
      likely cause  it is off by a factor of 0.5
    """
    given = np.array(x)
    if given.dtype.kind not in "biuf":
        msg = (
            f"check_gradient: x is {describe(given)}, expected real numbers; pass complex ones as "
            "real and imaginary parts"
        )
        raise TypeError(msg)
    given = given.astype(np.float64)
    pair = _Pair(fun, grad, args)
    call = _Call(pair, (given,), [0])
    shape, expected = np.shape(pair.slope(given)), np.shape(pair.value(given)) + given.shape
    if shape != expected:
        message = f"the gradient has shape {shape}, expected {expected}"
        return _report("check_gradient", call, [failed(message)])
    found = compare_jacobians(call.differentiated, call.inputs, call.chosen, [""])
    return _report("check_gradient", call, found)


class _Pair(Operator):
    """A NumPy function and its gradient as an operator."""

    def __init__(self, fun: Any, grad: Any, args: tuple[Any, ...]) -> None:
        self.fun, self.grad, self.args = fun, grad, args
        self.__name__ = _name(fun)

    def value(self, x: Array) -> Array:
        found = self.fun(x.copy(), *self.args)
        value = np.asarray(found[0] if self.grad is True else found)
        if value.dtype.kind not in "biuf":
            msg = f"{self.__name__} returned {describe(found)}, expected real numbers"
            raise TypeError(msg)
        return value.reshape(()) if value.size == 1 else value  # one number is a number

    def slope(self, x: Array) -> Array:
        found = (self.fun if self.grad is True else self.grad)(x.copy(), *self.args)
        slope = np.asarray(found[1] if self.grad is True else found)
        shape = np.shape(self.value(x)) + x.shape
        return slope.reshape(shape) if slope.shape == (1, *shape) else slope

    @hookimpl
    def forward(self, x: Array, /) -> Array:
        return self.value(x)

    @hookimpl
    def backward(self, grad: Array, x: Array) -> Array:
        return np.tensordot(grad, self.slope(x), np.ndim(grad))

    @hookimpl
    def self_check(self, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(rng.normal())


def _report(who: str, call: _Call, found: Iterable[Finding]) -> Report:
    case = f"Case({', '.join(map(describe, call.inputs))})"
    report = Report(f"{who} of {_name(call.function)}")
    report.findings.extend(replace(each, probe=who, case=case) for each in found)
    return report


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)
