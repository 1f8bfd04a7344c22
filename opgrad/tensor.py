"""`Tensor`: an array that knows where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import inplace, stamps, views
from opgrad.differentiable import Differentiable
from opgrad.dispatch import plain_key
from opgrad.levels import BatchedKeyError
from opgrad.operands import describe
from opgrad.registry import calls
from opgrad.variable import Variable

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _tensor(result: Any) -> Tensor:
    """Say what a call by name returns, which only the operator knows."""
    made: Tensor = result
    return made


def _spread(sizes: tuple[Any, ...]) -> Any:
    """Read ``reshape(2, 3)`` and ``reshape((2, 3))`` alike."""
    return sizes[0] if len(sizes) == 1 and not hasattr(sizes[0], "__index__") else sizes


class Tensor(Differentiable):
    """An array, and the edge of the graph along which its gradient flows.

    Tensors are made by `opgrad.tensor` and its relatives and by operators. Python's operators
    dispatch to the operators of the registry by name; so do the methods that are not found here.

    Attributes
    ----------
    data : ndarray
        The values, sharing memory with the tensor and unknown to the graph.
    grad : Tensor or None
        What backward passes have added up, of the tensor's shape and dtype.
    grad_fn : Node or None
        The node of the call that made the tensor; None for a leaf.
    requires_grad : bool
        Whether operations on the tensor are recorded.
    """

    __slots__ = ()

    # ------------------------------------------------------------------- data and its shape

    @property
    def data(self) -> NDArray[Any]:
        """The values as an array that shares memory with the tensor."""
        if isinstance(self._data, np.generic):
            # 0-d data stays a scalar until somebody wants to share it.
            self._data = views.shared(self)
        data: NDArray[Any] = self._data
        return data

    @data.setter
    def data(self, value: Any) -> None:
        array = value._data if isinstance(value, Variable) else np.asarray(value)
        if array.shape != self.shape or array.dtype != self.dtype:
            msg = (
                f"data: got {describe(array)}; expected the tensor's own dtype and shape, "
                f"{describe(self)}"
            )
            raise ValueError(msg)
        views.cut(self)
        self._data = array

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return tuple(self._data.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return int(self._data.ndim)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(self._data.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        dtype: np.dtype[Any] = self._data.dtype
        return dtype

    @property
    def device(self) -> str:
        """Where the data is: ``"cpu"``."""
        return "cpu"

    @property
    def T(self) -> Tensor:
        """The tensor with its axes in reverse order."""
        return _tensor(calls.transpose(self))

    @property
    def mT(self) -> Tensor:
        """The tensor with its last two axes exchanged."""
        return _tensor(calls.matrix_transpose(self))

    @property
    def real(self) -> Tensor:
        """The real part of each element."""
        return _tensor(calls.real(self))

    @property
    def imag(self) -> Tensor:
        """The imaginary part of each element."""
        return _tensor(calls.imag(self))

    def numel(self) -> int:
        """Return the number of elements."""
        return self.size

    def item(self) -> Any:
        """Return the one element as a Python number.

        Raises
        ------
        ValueError
            If there is not exactly one element.
        """
        if self._data.size != 1:
            msg = f"item: the tensor has shape {self.shape}; expected exactly one element"
            raise ValueError(msg)
        return self._data.item()

    def tolist(self) -> Any:
        """Return the values as nested lists of Python numbers."""
        return self._data.tolist()

    def numpy(self) -> NDArray[Any]:
        """Return the values as an array that shares memory; refused where a gradient would be lost.

        Raises
        ------
        GraphError
            If the tensor requires grad.
        """
        self._refuse_if_recorded("numpy()")
        return self.data

    def detach(self) -> Tensor:
        """Return a tensor with the same data, sharing memory, and no history.

        Examples
        --------
        >>> import opgrad
        >>> (opgrad.tensor(3., requires_grad=True) * 2).detach()
        tensor(6.)
        """
        return Tensor(self.data)

    def is_inference(self) -> bool:
        """Tell whether the tensor was made in inference mode; see `opgrad.inference_mode`."""
        return False

    def clone(self) -> Tensor:
        """Return a copy, recorded as an operation.

        Examples
        --------
        >>> import opgrad
        >>> opgrad.tensor(3., requires_grad=True).clone()
        tensor(3., grad_fn=<CloneBackward0>)
        """
        return _tensor(calls.clone(self))

    # -------------------------------------------------------------------------------- in place

    @property
    def _version(self) -> int:
        """How many times the memory was written to in place."""
        base, _ = views.way(self)
        return stamps.version(base._data)

    def zero_(self) -> Tensor:
        """Set every element to zero, in place; returns the tensor itself.

        Examples
        --------
        >>> import opgrad
        >>> opgrad.tensor([3., 4.]).zero_()
        tensor([0., 0.])
        """
        return inplace.apply("zero", self)

    def fill_(self, value: Any) -> Tensor:
        """Set every element to `value`, in place; returns the tensor itself.

        Parameters
        ----------
        value : number or Tensor
            One value; a tensor has no axes, and a gradient flows to it.

        Examples
        --------
        >>> import opgrad
        >>> opgrad.zeros(2).fill_(3)
        tensor([3., 3.])
        """
        return inplace.apply("fill", self, value)

    def copy_(self, source: Any) -> Tensor:
        """Take over the elements of `source`, broadcast and cast; returns the tensor itself.

        Parameters
        ----------
        source : array_like
            Of a shape that broadcasts to the tensor's; a gradient flows to it.

        Examples
        --------
        >>> import opgrad
        >>> opgrad.zeros(2).copy_(opgrad.tensor([3, 4]))
        tensor([3., 4.])
        """
        return inplace.apply("assign", self, source, writer="copy_")

    def __setitem__(self, key: Any, value: Any) -> None:
        inplace.set_item(self, plain_key(key), value)

    # ---------------------------------------------------------- operators, by name of the plugin

    def reshape(self, *shape: Any) -> Tensor:
        """Return the elements in another shape, given as sizes or as one tuple."""
        return _tensor(calls.reshape(self, _spread(shape)))

    def view(self, *shape: Any) -> Tensor:
        """Return the elements in another shape, as `reshape` does, but never a copy.

        Parameters
        ----------
        *shape : int
            The sizes, or one tuple of them; one may be -1, for what is left.

        Raises
        ------
        ValueError
            If the elements do not lie in memory so that they can be looked at in that shape.

        Examples
        --------
        >>> import opgrad
        >>> a = opgrad.zeros(4)
        >>> a.view(2, -1).fill_(1)
        tensor([[1., 1.],
                [1., 1.]])
        >>> a
        tensor([1., 1., 1., 1.])
        """
        made = self.reshape(*shape)
        if self.ndim and not views.shares(made._data, self._data):
            msg = (
                f"view: the tensor of shape {self.shape} and strides {self._data.strides} cannot "
                f"be looked at in shape {made.shape} without a copy; use reshape()"
            )
            raise ValueError(msg)
        return made

    def expand(self, *sizes: Any) -> Tensor:
        """Return the tensor repeated along axes of size 1, without a copy.

        Parameters
        ----------
        *sizes : int
            The sizes, or one tuple of them; -1 stands for the one there is.

        Examples
        --------
        >>> import opgrad
        >>> opgrad.tensor([[1.], [2.]]).expand(-1, 3)
        tensor([[1., 1., 1.],
                [2., 2., 2.]])
        """
        return _tensor(calls.expand(self, _spread(sizes)))

    def transpose(self, *axes: Any) -> Tensor:
        """Return the axes in another order, given as axes or as one tuple; by default reversed."""
        return _tensor(calls.transpose(self, _spread(axes) or None))

    def __getitem__(self, key: Any) -> Tensor:
        try:
            return _tensor(calls.getitem(self, plain_key(key)))
        except BatchedKeyError:
            pass  # what follows has nothing to do with it
        from opgrad.batched import pick

        return pick(self, key)

    def __pos__(self) -> Tensor:
        return self


Variable.kind = Tensor
