"""What Python and NumPy make of a tensor: numbers, text, copies, arrays."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import copying, dtypes, printing
from opgrad.dispatch import Dispatch, plain_key
from opgrad.graph import GraphError
from opgrad.operands import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from opgrad.dtypes import DTypeLike
    from opgrad.tensor import Tensor


class Conversions(Dispatch):
    """What of a tensor Python and NumPy ask for, to have something else in its place.

    What would lose a gradient warns where it is one number, and is refused where it is an array.
    """

    __slots__ = ()

    # ------------------------------------------------------------------- Python's conversions

    def __len__(self: Any) -> int:
        if not self.shape:
            msg = "len() of a 0-d tensor"
            raise TypeError(msg)
        return int(self.shape[0])

    def __iter__(self: Any) -> Iterator[Tensor]:
        if not self.shape:
            msg = "iteration over a 0-d tensor"
            raise TypeError(msg)
        return (self[i] for i in range(len(self)))

    def __contains__(self: Any, value: object) -> bool:
        return bool(np.any(plain_key(self == value)))

    def __bool__(self: Any) -> bool:
        return bool(self.item())

    def __int__(self: Any) -> int:
        return int(self.item())

    def __index__(self: Any) -> int:
        if self.shape != () or self.dtype.kind not in "iu":
            msg = f"only a 0-d integer tensor can be an index, got {describe(self)}"
            raise TypeError(msg)
        return int(self._data)

    def __float__(self: Any) -> float:
        self._warn_if_recorded("float()")
        return float(self.item())

    def __complex__(self: Any) -> complex:
        self._warn_if_recorded("complex()")
        return complex(self.item())

    def __repr__(self: Any) -> str:
        node = self.grad_fn
        return printing.tensor_repr(
            np.asarray(self._data),
            default_dtype=dtypes.get_default_dtype(),
            grad_fn=None if node is None else node.name(),
            requires_grad=self.requires_grad,
        )

    def __format__(self: Any, spec: str) -> str:
        if self.shape == () or spec:
            return printing.tensor_format(np.asarray(self._data), spec)
        return repr(self)

    def __reduce__(self: Any) -> tuple[Any, ...]:
        return copying.reduced(self)

    def __copy__(self: Any) -> Tensor:
        return copying.copied(self)

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Tensor:
        return copying.deep_copied(self, memo)

    def _warn_if_recorded(self: Any, what: str) -> None:
        if self.requires_grad:
            msg = f"{what} of a tensor that requires grad loses it; use item() or detach()"
            warnings.warn(msg, UserWarning, stacklevel=3)

    def _refuse_if_recorded(self: Any, what: str) -> None:
        if self.requires_grad:
            msg = (
                f"{what} of a tensor that requires grad would lose the gradient silently; "
                "use detach() first if that is meant, or an operator of opgrad"
            )
            raise GraphError(msg)

    # ---------------------------------------------------------------- NumPy's and the Array API's

    def __array_namespace__(self: Any, *, api_version: str | None = None) -> Any:
        import opgrad

        return opgrad

    def __array__(self: Any, dtype: DTypeLike = None, copy: bool | None = None) -> NDArray[Any]:
        self._refuse_if_recorded("conversion to a NumPy array")
        return np.array(self.data, dtype=dtype, copy=copy)

    def __dlpack__(self: Any, **options: Any) -> Any:
        self._refuse_if_recorded("export by DLPack")
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self: Any) -> Any:
        return self.data.__dlpack_device__()
