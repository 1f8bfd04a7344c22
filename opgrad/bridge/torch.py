"""To PyTorch and back: opgrad's operators as functions of torch's tensors, and the other way.

Importing this module imports PyTorch.
"""

from __future__ import annotations

import inspect
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad.bridge import required
from opgrad.bridge.arguments import Arguments, operator_of, presented
from opgrad.bridge.foreign import Imported, name_of, signature_of
from opgrad.bridge.steps import Call
from opgrad.operands import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from opgrad.bridge.steps import Step
    from opgrad.operator import Operator

torch: Any = required("torch", "PyTorch")
#: The transforms of torch.func that a call is made in; nothing public tells of them.
functorch: Any = torch._C._functorch

#: The dtypes that NumPy has, too.
_DTYPES = {
    getattr(torch, name): np.dtype(name)
    for name in (
        "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
        "float16", "float32", "float64", "complex64", "complex128",
    )
}  # fmt: skip


def wrap(operator: Operator | str) -> Callable[..., Any]:
    """Make a function of torch's tensors of an operator.

    Parameters
    ----------
    operator : Operator or str
        The operator, or the name of a registered one.

    Returns
    -------
    callable
        It has the operator's signature: tensors, numbers and None for its inputs, and whatever it
        takes for its static parameters. It returns tensors, of the dtype that the operator gives,
        in memory of their own. They are differentiable to any order, backward and forward, and
        under `torch.func`; only once where the operator says so. Its computations are NumPy's, so
        tensors have to be on the CPU.

    Raises
    ------
    TypeError, UnknownOperatorError, RegistryError
        If `operator` is neither, or there is no such operator. What is returned raises TypeError
        for arguments that are no tensors, and ValueError for tensors that NumPy cannot read.

    Examples
    --------
    >>> import torch
    >>> from opgrad.bridge.torch import wrap
    >>> logaddexp = wrap("logaddexp")
    >>> x = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> logaddexp(x, 0.0).sum().backward()
    >>> x.grad
    tensor([0.5000, 0.7311])
    """
    found = operator_of(operator)
    is_tensor, static = partial(_is_tensor, found.name), partial(_static, found.name)

    def call(*args: Any, **kwargs: Any) -> Any:
        arguments, tensors = Arguments.bind(found, args, kwargs, is_tensor, static)
        step = Call(arguments, _needs(arguments, tensors))
        made = _Recorded.apply(step, *tensors)
        return made[: step.count] if step.several else made[0]

    return presented(call, found)


def _is_tensor(operator: str, name: str, value: Any) -> bool:
    """Tell tensors from numbers, and insist on tensors that NumPy can read."""
    if isinstance(value, NUMBERS):
        return False
    where = f"{operator}: argument {name!r}"
    if not isinstance(value, torch.Tensor):
        msg = f"{where} is of type {type(value).__name__}; expected a torch.Tensor or a number"
        raise TypeError(msg)
    _check_readable(where, value)
    return True


def _check_readable(where: str, tensor: Any) -> None:
    """Insist on a tensor that NumPy can read."""
    if tensor.device.type != "cpu":
        msg = (
            f"{where} is a tensor on the device {str(tensor.device)!r}, and opgrad computes with "
            "NumPy, on the CPU; say cpu() of it"
        )
        raise ValueError(msg)
    if tensor.layout is not torch.strided:
        msg = (
            f"{where} is a tensor of layout {tensor.layout}; expected a dense one, so say "
            "to_dense() of it"
        )
        raise ValueError(msg)
    if tensor.dtype not in _DTYPES:
        msg = (
            f"{where} is of dtype {tensor.dtype}, which NumPy lacks; say float() of it, for example"
        )
        raise ValueError(msg)


def _static(operator: str, name: str, value: Any) -> Any:
    """Return a static parameter with arrays and NumPy's dtypes for torch's."""
    if isinstance(value, torch.dtype):
        return _DTYPES.get(value, value)
    if isinstance(value, np.ndarray):
        return value.copy()  # the backward needs it as it is now
    if not isinstance(value, torch.Tensor):
        return value
    if value.requires_grad:
        msg = (
            f"{operator}: the static parameter {name!r} is a tensor that requires grad, and only "
            f"inputs have a gradient; pass {name}.detach()"
        )
        raise ValueError(msg)
    _is_tensor(operator, name, value)
    return _array(value).copy()


def _array(tensor: Any) -> NDArray[Any]:
    """Return the array that shares a tensor's memory."""
    if torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None:
        msg = (
            "a tensor is traced, as in torch.func.linearize and make_fx, and opgrad's operators "
            "compute on NumPy arrays, which a trace would take for constants; take torch.func.jvp "
            "or vjp instead"
        )
        raise RuntimeError(msg)
    try:
        made: NDArray[Any] = tensor.detach().resolve_conj().resolve_neg().numpy()
    except RuntimeError as error:
        msg = (
            "a tensor came without values, as in torch.autograd.grad(..., is_grads_batched=True) "
            "and torch.autograd.functional with vectorize=True; opgrad's operators compute on "
            "NumPy arrays. torch.func.vmap, jacrev and hessian are the way to batch them"
        )
        raise RuntimeError(msg) from error
    return made


def _tensors(name: str, arrays: Sequence[Any], given: Sequence[Any]) -> Iterator[Any]:
    """Yield arrays as tensors, copied where they share memory with one another or the inputs."""
    others = list(given)
    for each in arrays:
        array = np.asarray(each)
        if array.dtype not in _DTYPES.values():
            msg = f"{name} gave an array of dtype {array.dtype}, which PyTorch lacks"
            raise TypeError(msg)
        odd = not array.flags.writeable or any(stride < 0 for stride in array.strides)
        if odd or any(np.may_share_memory(array, other) for other in others):
            array = array.copy(order="C")
        others.append(array)
        yield torch.from_numpy(array)


class _Recorded(torch.autograd.Function):  # type: ignore[misc]  # torch is imported as it comes
    """A step that torch records."""

    @staticmethod
    def forward(step: Step, *tensors: Any) -> tuple[Any, ...]:
        arrays = [*map(_array, tensors)]
        return tuple(_tensors(step.name, step.run(arrays), arrays))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        step, *tensors = inputs
        constant = [each for i, each in enumerate(output) if i not in step.flowing]
        ctx.mark_non_differentiable(*constant)
        known = [*tensors, *output]
        kept = [known[i] for i in step.kept(len(tensors))]
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)
        ctx.set_materialize_grads(False)  # zeros would be multiplied with what may be infinite
        ctx.step, ctx.count = step, len(output)
        ctx.like = {i: (output[i].shape, output[i].dtype) for i in step.flowing}

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        # PyTorch's gradients are the conjugates of what flows in a step.
        step, needs = ctx.step, ctx.needs_input_grad[1:]
        pairs = [(grads[i], like) for i, like in ctx.like.items()]
        given = [_zeros(*like) if each is None else each.conj() for each, like in pairs]
        found = iter(_Recorded.apply(step.pullback(needs), *given, *ctx.saved_tensors))
        return None, *(next(found).conj() if need else None for need in needs)

    @staticmethod
    def jvp(ctx: Any, _step: None, *tangents: Any) -> tuple[Any, ...]:
        # The backward is linear in the gradients, and its own backward is the way forward.
        kept, seeds = ctx.saved_tensors, [_zeros(*like) for like in ctx.like.values()]
        needs = [tangent is not None for tangent in tangents]
        forward = ctx.step.pullback(needs).pullback([True] * len(seeds) + [False] * len(kept))
        given = [each for each in tangents if each is not None]
        changes = dict(zip(ctx.like, _Recorded.apply(forward, *given, *seeds, *kept), strict=True))
        return tuple(changes.get(i) for i in range(ctx.count))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], step: Step, *tensors: Any) -> tuple[Any, Any]:
        # One after the other: only the operator's author knows how to batch it.
        if not info.batch_size:
            msg = f"{step.name}: vmap over an axis of size 0, which leaves the result's shape open"
            raise ValueError(msg)
        rows: list[Any] = []
        for i in range(info.batch_size):
            row = [
                each if dim is None else each.select(dim, i)
                for each, dim in zip(tensors, in_dims[1:], strict=True)
            ]
            one = step.again([_is_active(each) for each in row])
            rows.append(_Recorded.apply(one, *row))
            if one.opaque:
                msg = (
                    f"{step.name}: vmap stacks residuals, and {', '.join(one.opaque)} is no array; "
                    "call the operator for each element instead"
                )
                raise TypeError(msg)
            if not i:
                step.learn_from(one)
            step.insist(one)
        made = tuple(torch.stack(column) for column in zip(*rows, strict=True))
        return made, (0,) * len(made)


def _zeros(shape: Any, dtype: Any) -> Any:
    return torch.zeros(shape, dtype=dtype)


def _needs(arguments: Arguments, tensors: Sequence[Any]) -> list[bool]:
    """Return for each tensor whether a derivative may be asked for."""
    transforms = functorch.get_interpreter_stack() or ()
    if all(each.key() == functorch.TransformType.Vmap for each in transforms):
        return [*map(_is_active, tensors)]
    # What is a constant to the innermost transform may be differentiated by one around it.
    pairs = zip(tensors, arguments.differentiable, strict=True)
    return [can and (each.is_floating_point() or each.is_complex()) for each, can in pairs]


def _is_active(tensor: Any) -> bool:
    """Tell whether torch carries derivatives through a tensor, backward or forward."""
    if tensor.requires_grad and torch.is_grad_enabled():
        return True
    # What is batched does not tell; it is asked again for each row.
    batched = functorch.is_batchedtensor(tensor)
    return not batched and torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None


# --------------------------------------------------------------------------------- the way in


def operator(
    function: Any,
    *,
    self_check: Callable[..., Any],
    name: str | None = None,
    inputs: Sequence[str] | None = None,
    **attributes: Any,
) -> Operator:
    """Make an opgrad operator of a function of torch's tensors.

    Parameters
    ----------
    function : subclass of torch.autograd.Function, or callable
        It takes and returns tensors, several in a tuple, is differentiable, and gives for the same
        numbers the same results: its backward calls it anew.
    self_check : callable
        The hook of this name, ``self_check(rng)``, which yields each `opgrad.Case` to verify
        the operator on.
    name : str, optional
        The operator's name; by default the function's, in lower case.
    inputs : sequence of str, optional
        The arguments that are tensors; by default all without a default. The others are static
        parameters, which are given by name.
    **attributes
        Class attributes of `opgrad.Operator`. A Function whose backward is marked with
        ``once_differentiable`` is so as an operator.

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
    >>> import opgrad, torch
    >>> from opgrad.bridge.torch import operator
    >>> softplus = operator(
    ...     torch.nn.functional.softplus,
    ...     self_check=lambda rng: [opgrad.Case(rng.normal(size=3))],
    ...     inputs=["x"],
    ... )
    >>> softplus(opgrad.tensor([0.0], requires_grad=True))
    tensor([0.6931], grad_fn=<SoftplusBackward0>)
    """
    call = function
    if isinstance(function, type) and issubclass(function, torch.autograd.Function):
        call = _of_class(function)
        if _is_once_differentiable(function):
            attributes.setdefault("once_differentiable", True)
    name = name_of(function, name, "PyTorch")
    imported = Imported.of(_TORCH, _refusing(call), signature_of(call), name, inputs)
    return imported.operator(self_check=self_check, **attributes)


def _of_class(function: Any) -> Callable[..., Any]:
    """Return what applies a Function, with the signature of its forward, less the context."""
    separate = function.setup_context is not torch.autograd.Function.setup_context
    arguments = [*inspect.signature(function.forward).parameters.values()]

    def apply(*args: Any) -> Any:
        return function.apply(*args)

    apply.__doc__, apply.__module__ = function.__doc__, function.__module__
    apply.__signature__ = inspect.Signature(arguments if separate else arguments[1:])  # type: ignore[attr-defined]  # as above
    return apply


def _refusing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have arguments refused by a ValueError, as opgrad does, where PyTorch has RuntimeError."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            raise ValueError(str(error)) from error

    return call


def _is_once_differentiable(function: Any) -> bool:
    marked = torch.autograd.function.once_differentiable(lambda ctx: None)
    return getattr(function.backward, "__code__", None) is marked.__code__


class _Torch:
    """PyTorch, for `foreign`."""

    def run(self, function: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        arrays = [each for each in inputs if isinstance(each, np.ndarray | np.generic)]
        # Outside of inference mode, in which the backward could not be recorded.
        with torch.inference_mode(mode=False), torch.no_grad():
            tensors = [_as_tensor(each, arrays) for each in inputs]
            result = function(*tensors)
        made = result if isinstance(result, tuple) else (result,)
        for each in made:
            _check_returned(each)
        own = tuple(_array(each).copy() for each in made)  # the function may keep its tensors
        return own if isinstance(result, tuple) else own[0]

    def pullback(self, function: Callable[..., Any], needs: Sequence[bool]) -> Callable[..., Any]:
        count = len(needs)

        def pulled(*tensors: Any) -> tuple[Any, ...]:
            record = torch.is_grad_enabled()
            inputs, grads = list(tensors[:count]), tensors[count:]
            wanted = [i for i, need in enumerate(needs) if need]
            with torch.enable_grad():
                for i in wanted:
                    if not inputs[i].requires_grad:
                        inputs[i] = inputs[i].detach().requires_grad_()
                result = function(*inputs)
                outputs = result if isinstance(result, tuple) else (result,)
                # PyTorch's gradients are the conjugates of opgrad's formulas'.
                pairs = [
                    (output, grad.conj())
                    for output, grad in zip(outputs, grads, strict=True)
                    if output.requires_grad
                ]
                leaves = [inputs[i] for i in wanted]
                if not pairs:
                    return tuple(map(torch.zeros_like, leaves))
                reached, seeds = zip(*pairs, strict=True)
                found = torch.autograd.grad(
                    reached, leaves, seeds, create_graph=record, materialize_grads=True
                )
            return tuple(each.conj() for each in found)

        return pulled


def _check_returned(value: Any) -> None:
    """Insist on what the operator can return."""
    where = "what the function returned"
    if not isinstance(value, torch.Tensor):
        msg = (
            f"{where} is of type {type(value).__name__}; expected a torch.Tensor; let it compute "
            "with torch, and return several tensors in a tuple"
        )
        raise TypeError(msg)
    _check_readable(where, value)


def _as_tensor(value: Any, arrays: Sequence[Any]) -> Any:
    """Return an array as a tensor; a number as one of the dtype that it has beside the arrays."""
    if value is None:
        return None
    if not isinstance(value, np.ndarray | np.generic):
        value = np.asarray(value, np.result_type(value, *arrays))
    (made,) = _tensors("the caller", [value], [])
    return made


_TORCH = _Torch()
