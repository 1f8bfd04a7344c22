"""`Context`: what the forward of a `Function` leaves for its backward."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from opgrad.graph import GraphError
from opgrad.operands import describe
from opgrad.variable import Variable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opgrad.autograd.recorded import FunctionNode
    from opgrad.tensor import Tensor


class Context:
    """What forward leaves for backward: the ``ctx`` of a `Function`.

    Any attribute may be set, for what is not a tensor. Like what `save_for_backward` keeps, it is
    freed after a backward pass, unless no tensor was saved.

    Attributes
    ----------
    needs_input_grad : tuple of bool
        For each argument whether it is a tensor that requires grad.
    """

    __slots__ = (
        "__dict__",
        "_constants",
        "_dirty",
        "_inputs",
        "_materialize",
        "_node",
        "_outputs",
        "_to_save",
        "needs_input_grad",
    )

    def __init__(self, arguments: Sequence[Any]) -> None:
        self._inputs = [isinstance(each, Variable) for each in arguments]
        self._outputs: list[bool] = []
        self._to_save: tuple[Tensor | None, ...] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self._constants: tuple[Tensor, ...] = ()
        self._materialize = True
        self._node: weakref.ref[FunctionNode] | None = None
        self.needs_input_grad = tuple(
            isinstance(each, Variable) and each._edge is not None for each in arguments
        )

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Save inputs, outputs or other tensors; backward has them as ``ctx.saved_tensors``.

        Parameters
        ----------
        *tensors : Tensor or None
            What to save, all of it: another call replaces what was saved before.

        Raises
        ------
        TypeError
            If one of them is neither a tensor nor None; an attribute can keep that.

        Examples
        --------
        >>> import opgrad
        >>> class Scale(opgrad.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x, factor):
        ...         ctx.factor = factor
        ...         ctx.save_for_backward(x)
        ...         return x * factor
        ...
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         (x,) = ctx.saved_tensors
        ...         print("x was", x.tolist())
        ...         return grad * ctx.factor, None
        >>> x = opgrad.tensor([1.0, 2.0], requires_grad=True)
        >>> Scale.apply(x, 10).sum().backward()
        x was [1.0, 2.0]
        >>> x.grad
        tensor([10., 10.])
        """
        given: Sequence[Any] = tensors
        for index, each in enumerate(given):
            if each is not None and not isinstance(each, Variable):
                msg = (
                    f"save_for_backward: argument {index} is {describe(each)}; expected a tensor "
                    "or None. Set anything else as an attribute of ctx."
                )
                raise TypeError(msg)
        self._to_save = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What was saved, each tensor with its place in the graph.

        Returns
        -------
        tuple of (Tensor or None)
            As it was given to `save_for_backward`, where there is an example.

        Raises
        ------
        GraphError
            If it is freed, or was written to since.
        """
        if self._node is None:
            return self._to_save
        node = self._node()
        if node is None:
            msg = "saved_tensors: the graph that this ctx belongs to is gone, and all that it saved"
            raise GraphError(msg)
        return node.saved_tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs forward has written to in place; it returns them, too.

        Parameters
        ----------
        *tensors : Tensor
            Arguments of forward that are among its results.

        Examples
        --------
        >>> import opgrad
        >>> class Double(opgrad.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.mark_dirty(x)
        ...         return x.mul_(2)
        ...
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         return grad * 2
        >>> a = opgrad.tensor([1.0, 2.0], requires_grad=True)
        >>> x = a * 1
        >>> Double.apply(x) is x
        True
        >>> x
        tensor([2., 4.], grad_fn=<DoubleBackward>)
        """
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which outputs have no gradient; backward gets zeros for them.

        Parameters
        ----------
        *tensors : Tensor
            Results of forward.

        Examples
        --------
        >>> import opgrad
        >>> class Largest(opgrad.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         where = x.argmax()
        ...         ctx.mark_non_differentiable(where)
        ...         ctx.save_for_backward(x, where)
        ...         return x.max(), where
        ...
        ...     @staticmethod
        ...     def backward(ctx, grad, _):
        ...         x, where = ctx.saved_tensors
        ...         found = opgrad.zeros_like(x)
        ...         found[where] = grad
        ...         return found
        >>> x = opgrad.tensor([1.0, 3.0, 2.0], requires_grad=True)
        >>> Largest.apply(x)
        (tensor(3., grad_fn=<LargestBackward>), tensor(1))
        """
        self._constants = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Say whether backward gets zeros for outputs that nothing depends on, or None.

        Parameters
        ----------
        value : bool
            True for zeros, as it is where nothing is said.

        Examples
        --------
        >>> import opgrad
        >>> class Both(opgrad.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.set_materialize_grads(False)
        ...         return x * 2, x * 3
        ...
        ...     @staticmethod
        ...     def backward(ctx, first, second):
        ...         print(first, second)
        ...         return first * 2
        >>> x = opgrad.tensor(1.0, requires_grad=True)
        >>> Both.apply(x)[0].backward()
        tensor(1.) None
        """
        self._materialize = value
