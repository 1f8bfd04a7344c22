"""What the graph knows of a tensor: its data, its edge, and what its gradient has to look like.

Calls and passes handle tensors as `Variable`s: all that follows for users, from shapes to hooks,
is added above, in `tensor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from opgrad.modes import in_inference

if TYPE_CHECKING:
    import numpy.typing as npt

    from opgrad.graph import Edge
    from opgrad.tensor import Tensor

#: What a gradient has to look like: shape and dtype.
Metadata: TypeAlias = "tuple[tuple[int, ...], np.dtype[Any]]"

#: In the place of an edge: the operand stands for many examples; see `batched`.
HIDDEN: Any = object()


class Variable:
    """What the graph knows of a tensor: its data, and the edge along which its gradient flows.

    Attributes
    ----------
    _grad : Tensor or None
        What backward passes have added up here.
    """

    # The last two are set only where tensors share memory; see `views`.
    __slots__ = ("__weakref__", "_data", "_edge", "_grad", "_view", "_views")

    #: The class of everything that calls return. `Tensor` names itself here, so that the rooms
    #: below make tensors without importing the room above.
    kind: ClassVar[type[Tensor]]

    #: The class of what is made in inference mode, which names itself likewise.
    inference: ClassVar[type[Tensor]]

    #: Whether it has an axis that does not show, of the examples of `vmap`; see `batched`.
    _hidden: ClassVar[bool] = False

    def __init__(self, data: Any, edge: Edge | None = None) -> None:
        self._data = data
        self._edge = edge
        self._grad: Tensor | None = None

    def _like(self) -> Any:
        """Return an array of its shape and dtype."""
        return self._data

    def _read(self) -> tuple[Any, Edge | None]:
        """Return data and edge, as an operand of a call."""
        return self._data, self._edge


def kind_now() -> type[Tensor]:
    """Return the class of what is made now."""
    return Variable.inference if in_inference() else Variable.kind


#: The metadata of 0-d data, by scalar type: looking it up is faster than reading the attributes.
SCALARS: dict[type, Metadata] = {
    np.dtype(code).type: ((), np.dtype(code)) for code in np.typecodes["AllFloat"]
}


def metadata_of(data: Any) -> Metadata:
    """Return the shape and dtype of an array, the shared pair of `SCALARS` where it is 0-d."""
    shape = tuple(data.shape)
    dtype = data.dtype
    return SCALARS.get(dtype.type, (shape, dtype)) if shape == () else (shape, dtype)


def is_differentiable(dtype: npt.DTypeLike) -> bool:
    """Tell whether `dtype` is floating or complex."""
    return np.dtype(dtype).kind in "fc"


def conjugate(grad: Any, metadata: Metadata) -> Any:
    """Turn PyTorch's convention for a complex gradient into the graph's, and back."""
    return grad.conj() if metadata[1].kind == "c" else grad
