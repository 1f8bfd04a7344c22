"""The names of ``torch.autograd``: `backward` and `grad` over several tensors, and the modes."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import creation, passes
from opgrad.anomaly import (
    detect_anomaly,
    is_anomaly_check_nan_enabled,
    is_anomaly_enabled,
    set_detect_anomaly,
)
from opgrad.graph import AccumulateGrad, GraphError, Node
from opgrad.hooks import register_multi_grad_hook
from opgrad.inference import inference_mode
from opgrad.levels import levels
from opgrad.modes import (
    enable_grad,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from opgrad.registry import calls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opgrad.autograd import function, graph
    from opgrad.autograd.function import Function
    from opgrad.tensor import Tensor

__all__ = [
    "AccumulateGrad",
    "Function",
    "GraphError",
    "Node",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "function",
    "grad",
    "graph",
    "inference_mode",
    "is_anomaly_check_nan_enabled",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "register_multi_grad_hook",
    "set_detect_anomaly",
    "set_grad_enabled",
]


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradients of several tensors to the ``.grad`` of their leaves, in one pass.

    Parameters
    ----------
    tensors : Tensor or sequence of Tensor
        Where to begin.
    grad_tensors : Tensor or sequence of (Tensor or None), optional
        The gradient of each, of its shape; None for tensors of one element.
    retain_graph, create_graph, inputs
        As for `Tensor.backward`.

    Raises
    ------
    GraphError
        If there is no graph, its saved values are freed, or a gradient does not fit.
    TypeError
        If one of `tensors` or `inputs` is neither a tensor nor a gradient edge.
    ValueError
        If there is not one gradient for each tensor, or `inputs` is empty.

    Examples
    --------
    >>> import opgrad
    >>> a = opgrad.tensor(2., requires_grad=True)
    >>> opgrad.autograd.backward([a * a, a * 3])
    >>> a.grad
    tensor(7.)
    """
    passes.backward(
        passes.several(tensors),
        None if grad_tensors is None else passes.several(grad_tensors),
        retain_graph=retain_graph,
        create_graph=create_graph,
        inputs=None if inputs is None else passes.several(inputs),
    )


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
    is_grads_batched: bool = False,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the sum of `outputs` with respect to `inputs`.

    Parameters
    ----------
    outputs, inputs : Tensor or sequence of Tensor
        What is differentiated, and with respect to what; nothing is accumulated in ``.grad``.
    grad_outputs : Tensor or sequence of (Tensor or None), optional
        The gradient of each output, of its shape; None for outputs of one element.
    retain_graph, create_graph : bool, optional
        As for `Tensor.backward`.
    allow_unused : bool, optional
        Give None for an input that the outputs do not depend on, instead of an error.
    materialize_grads : bool
        Give zeros instead of None, of the shape of the input.
    is_grads_batched : bool
        Take gradients of the outputs that have one more axis, the first, of the same size all; go
        back once for each place along it, and stack what is returned.

    Returns
    -------
    tuple of (Tensor or None)
        One gradient for each input, of its shape and dtype.

    Raises
    ------
    GraphError
        If there is no path to an input and neither `allow_unused` nor `materialize_grads`.
    TypeError
        If an output or input is neither a tensor nor a gradient edge.
    ValueError
        If `inputs` is empty, or gradients are to be batched and do not have one first axis of the
        same size.

    Examples
    --------
    >>> import opgrad
    >>> x = opgrad.tensor(2., requires_grad=True)
    >>> (dx,) = opgrad.autograd.grad(x**3, x, create_graph=True)
    >>> opgrad.autograd.grad(dx, x)
    (tensor(12.),)

    A Jacobian is one row for each output:

    >>> y = opgrad.tensor([1., 2.], requires_grad=True)
    >>> rows = opgrad.eye(2)
    >>> opgrad.autograd.grad(y**2, y, rows, is_grads_batched=True)
    (tensor([[2., 0.],
            [0., 4.]]),)
    """
    if materialize_grads and allow_unused is False:
        msg = "grad: materialize_grads=True needs allow_unused=True or unset, got False"
        raise ValueError(msg)
    ends = passes.several(inputs)
    differentiate = partial(
        passes.grad,
        passes.several(outputs),
        ends,
        create_graph=create_graph,
        allow_unused=bool(allow_unused) or materialize_grads,
    )
    gradients = None if grad_outputs is None else passes.several(grad_outputs)
    if is_grads_batched:
        grads = _batched(differentiate, gradients, retain_graph)
    else:
        grads = differentiate(gradients, retain_graph=retain_graph)
    if not materialize_grads:
        return grads
    leaf = create_graph and not levels()  # inside vmap there are none
    return tuple(
        creation.zeros(*end.shape, dtype=end.dtype, requires_grad=leaf) if each is None else each
        for each, end in zip(grads, ends, strict=True)
    )


def _batched(
    differentiate: Callable[..., Any], gradients: Sequence[Any] | None, retain_graph: bool | None
) -> tuple[Tensor | None, ...]:
    """Return the stacked results of a pass for each place along the gradients' first axis."""
    given = [creation.asarray(each) for each in gradients or [] if each is not None]
    sizes = {each.shape[0] if each.ndim else 0 for each in given}
    if len(given) < len(gradients or []) or len(sizes) != 1 or 0 in sizes:
        got = [None if each is None else np.shape(each) for each in gradients or []]
        msg = (
            f"grad: with is_grads_batched, each of grad_outputs needs a first axis, all of one size"
            f" and that not 0; got shapes {got}"
        )
        raise ValueError(msg)
    (size,) = sizes
    passes = [
        differentiate([each[i] for each in given], retain_graph=i < size - 1 or retain_graph)
        for i in range(size)
    ]
    return tuple(
        None if each[0] is None else calls.stack(each) for each in zip(*passes, strict=True)
    )


def __getattr__(name: str) -> Any:
    """Load what few programs use when it is used, since its import takes long."""
    if name in ("function", "graph"):
        return import_module(f"opgrad.autograd.{name}")
    if name == "Function":
        return import_module("opgrad.autograd.function").Function
    msg = f"module 'opgrad.autograd' has no attribute {name!r}"
    raise AttributeError(msg)
