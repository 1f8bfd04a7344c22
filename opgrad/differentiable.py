"""What a tensor has of the graph: whether it is recorded, its gradient, hooks, backward passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from opgrad import engine, hooks, passes
from opgrad.conversions import Conversions
from opgrad.graph import AccumulateGrad, GraphError, Node
from opgrad.levels import anywhere, insist_on_gradients_of, refuse, refuse_in_vmap
from opgrad.variable import Variable, is_differentiable, metadata_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opgrad.graph import Edge
    from opgrad.handles import RemovableHandle
    from opgrad.tensor import Tensor


class Differentiable(Conversions):
    """What of a tensor has to do with gradients."""

    __slots__ = ("_end",)

    #: Where the graph ends that was recorded before `requires_grad_(False)`.
    _end: Edge

    @property
    def requires_grad(self) -> bool:
        """Whether operations on the tensor are recorded."""
        return self._edge is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made the tensor."""
        return self._edge is None or isinstance(self._edge[0], AccumulateGrad)

    @property
    def grad_fn(self) -> Node | None:
        """The node of the call that made the tensor."""
        return None if self._edge is None or self.is_leaf else self._edge[0]

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward passes have added up."""
        if anywhere and self._grad is not None:
            insist_on_gradients_of()
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            self._check_grad(value)
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self.grad = None

    @property
    def output_nr(self) -> int:
        """Which of the outputs of `grad_fn` it is; 0 without one."""
        return 0 if self._edge is None else self._edge[1]

    def _check_grad(self, value: Any) -> None:
        if not isinstance(value, Variable.kind):
            msg = f"grad: got a {type(value).__name__}; expected a Tensor or None"
            raise TypeError(msg)
        if value._hidden:
            refuse("grad = ...", "the gradient of what is outside is one for all examples")
        shape, dtype = metadata_of(self._like())
        if value.shape != shape or value.dtype != dtype:
            msg = (
                f"grad: got shape {value.shape} and dtype {value.dtype}; expected the tensor's "
                f"own, shape {shape} and dtype {dtype}"
            )
            raise GraphError(msg)
        if value is self:
            msg = "grad: a tensor cannot be its own gradient; assign a copy"
            raise GraphError(msg)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Say whether operations on this leaf are recorded; returns the tensor itself.

        Raises
        ------
        GraphError
            If the tensor is not a leaf and `requires_grad` is False.
        TypeError
            If the dtype is neither floating nor complex.
        """
        if requires_grad == self.requires_grad:
            return self
        if not self.is_leaf:
            msg = (
                "requires_grad_: only leaves can be changed, and this tensor was made by "
                f"{self.grad_fn!r}; use detach() for a tensor without its history"
            )
            raise GraphError(msg)
        _, dtype = metadata_of(self._like())
        if requires_grad and not is_differentiable(dtype):
            msg = (
                f"requires_grad: the tensor's dtype is {dtype}; only floating and complex "
                "tensors can require grad. Pass a dtype, for example dtype=opgrad.float64."
            )
            raise TypeError(msg)
        if self._edge is None:
            refuse_in_vmap("requires_grad", "a leaf's gradient would be the sum over the examples")
            # A graph from before this was switched off still ends at the node of that time.
            try:
                self._edge = self._end
            except AttributeError:
                self._edge = (AccumulateGrad(self), 0)
        else:
            self._end, self._edge = self._edge, None
        return self

    def retain_grad(self: Any) -> None:
        """Keep the gradient of this tensor, though it is not a leaf, as its ``.grad``.

        Raises
        ------
        GraphError
            If the tensor does not require grad.

        Examples
        --------
        >>> import opgrad
        >>> a = opgrad.tensor(3., requires_grad=True)
        >>> b = a * 2
        >>> b.retain_grad()
        >>> (b * b).backward()
        >>> b.grad
        tensor(12.)
        """
        refuse_in_vmap("retain_grad", "the gradient that comes is that of all examples")
        hooks.keep(self)

    @property
    def retains_grad(self: Any) -> bool:
        """Whether the gradient is kept though the tensor is not a leaf."""
        return hooks.keeps(self)

    def register_hook(self: Any, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Have a function called with the gradient of this tensor, each time there is one.

        Parameters
        ----------
        hook : callable
            Takes the gradient, which it does not write to; returns another one to go on with, of
            the same shape, or None.

        Returns
        -------
        RemovableHandle
            Its ``remove()`` takes the hook away.

        Raises
        ------
        GraphError
            If the tensor does not require grad.

        Examples
        --------
        >>> import opgrad
        >>> a = opgrad.tensor(3., requires_grad=True)
        >>> handle = a.register_hook(lambda grad: grad / 2)
        >>> (a * 4).backward()
        >>> a.grad
        tensor(2.)
        """
        return hooks.register(self, hook)

    def register_post_accumulate_grad_hook(
        self: Any, hook: Callable[[Tensor], None]
    ) -> RemovableHandle:
        """Have a function called with this leaf each time after its ``.grad`` was added to.

        Parameters
        ----------
        hook : callable
            Takes the leaf. Calls in it are recorded only where the pass is.

        Returns
        -------
        RemovableHandle

        Raises
        ------
        GraphError
            If the tensor is not a leaf, or does not require grad.

        Examples
        --------
        >>> import opgrad
        >>> a = opgrad.tensor([1., 2.], requires_grad=True)
        >>> handle = a.register_post_accumulate_grad_hook(lambda leaf: leaf.sub_(0.5 * leaf.grad))
        >>> (a * a).sum().backward()
        >>> a
        tensor([0., 0.], requires_grad=True)
        """
        return hooks.register_after_accumulation(self, hook)

    def backward(
        self: Any,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Sequence[Tensor] | Tensor | None = None,
    ) -> None:
        """Add the gradient of this tensor with respect to each leaf to the leaf's ``.grad``.

        Parameters
        ----------
        gradient : Tensor or array_like, optional
            The gradient of some scalar with respect to this tensor, of its shape; needed unless
            the tensor has one element.
        retain_graph : bool, optional
            Keep what the graph saved for another pass; by default `create_graph`.
        create_graph : bool
            Record the backward pass itself, for higher derivatives.
        inputs : Tensor or sequence of Tensor, optional
            Accumulate into these leaves only.

        Raises
        ------
        GraphError
            If there is no graph, its saved values are freed, or `gradient` does not fit.

        Examples
        --------
        >>> import opgrad
        >>> a = opgrad.tensor([3.], requires_grad=True)
        >>> (5 * a**2).backward()
        >>> a.grad
        tensor([30.])
        """
        if inputs is None and not anywhere:  # the common case, straight
            keep = create_graph if retain_graph is None else retain_graph
            start = passes.root(self, gradient, "backward", create_graph)
            engine.walk([start], keep=keep, record=create_graph)
            return
        ends = None if inputs is None else passes.several(inputs)
        passes.backward(
            [self], [gradient], retain_graph=retain_graph, create_graph=create_graph, inputs=ends
        )
