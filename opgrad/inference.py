"""Inference mode: nothing is recorded, and what is made stays out of every graph.

Results are of a class of their own, so that ordinary calls need not ask: for anything but a plain
`Tensor` a call falls to its slow path, and there an `InferenceTensor` speaks for itself.
"""

from __future__ import annotations

import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from opgrad.graph import Edge, GraphError, Node, recorders
from opgrad.modes import GradMode, InForce, grad_enabled, in_inference
from opgrad.operands import NUMPY_TYPES, at_once, describe
from opgrad.tensor import Tensor
from opgrad.variable import Variable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_P = ParamSpec("_P")
_R = TypeVar("_R")


class InferenceTensor(Tensor):
    """A tensor that was made in inference mode."""

    __slots__ = ()

    def is_inference(self) -> bool:
        """Tell whether the tensor was made in inference mode: it was."""
        return True

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Say whether operations on this leaf are recorded; in inference mode only.

        Raises
        ------
        GraphError
            If it is to be switched on outside of inference mode.
        """
        if requires_grad and not self.requires_grad and not in_inference():
            msg = (
                "requires_grad_: the tensor was made in inference mode and stays out of every "
                "graph; use a clone(), or make it in no_grad()"
            )
            raise GraphError(msg)
        return super().requires_grad_(requires_grad)

    def detach(self) -> Tensor:
        """Return a tensor with the same data, sharing memory, and no history."""
        return InferenceTensor(self.data)

    def _read(self) -> tuple[Any, Edge | None]:
        if grad_enabled():
            _watch(self)
        return super()._read()


Variable.inference = InferenceTensor


# ------------------------------------------------------------------ what must not be saved

_lock = threading.RLock()  # again by the same thread: a tensor may die at any moment

#: The inference tensors that recorded calls were given, by the identity of their data.
_guests: dict[int, weakref.ref[InferenceTensor]] = {}


def _watch(tensor: InferenceTensor) -> None:
    """Look from now on whether a node saves the data of a tensor, as long as it lives."""
    key = id(tensor._data)
    with _lock:
        _guests[key] = weakref.ref(tensor, lambda _: _guests.pop(key, None))
        if _refuse_to_save not in recorders:
            recorders.insert(0, _refuse_to_save)  # before anything is packed


def _refuse_to_save(node: Node) -> None:
    with _lock:
        if not _guests and _refuse_to_save in recorders:
            recorders.remove(_refuse_to_save)
    for name, value in zip(node.names, node._saved, strict=True):
        for array in value if isinstance(value, tuple) else (value,):
            guest = _guests.get(id(array), lambda: None)()
            if guest is not None and guest._data is array:
                msg = (
                    f"{node.name()} has to save {name!r}, {describe(array)}, for its backward, and "
                    "that was made in inference mode; use a clone(), or make it in no_grad()"
                )
                raise GraphError(msg)


# ------------------------------------------------------------------------------ the mode


class _InferenceMode(GradMode):
    """A context manager and decorator that switches inference mode on or off and back again."""

    __slots__ = ()

    def __enter__(self) -> None:
        super().__enter__()
        _asking.add(1)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _asking.add(-1)
        super().__exit__(kind, error, traceback)

    def _inference(self) -> bool:
        return not self._enabled


#: While some thread is in the mode, no output is wrapped without asking whether this one is.
_asking = InForce(at_once.clear, partial(at_once.update, NUMPY_TYPES))


@overload
def inference_mode(mode: bool = True) -> GradMode: ...
@overload
def inference_mode(mode: Callable[_P, _R]) -> Callable[_P, _R]: ...
def inference_mode(mode: Any = True) -> Any:
    """Record nothing, and promise that results are never part of a recorded computation.

    Works as `no_grad` does, and further: tensors made inside cannot require grad outside, be saved
    for a backward or be written to in place there. Use it where such a use would be a mistake, and
    `no_grad` elsewhere: neither is faster. Inside, `enable_grad` has no effect.

    Parameters
    ----------
    mode : bool
        False: switch it off inside of it, and recording on.

    Examples
    --------
    >>> import opgrad
    >>> w = opgrad.ones(2, requires_grad=True)
    >>> with opgrad.inference_mode():
    ...     y = w * 2
    >>> y.is_inference()
    True
    >>> w * y
    Traceback (most recent call last):
    opgrad.graph.GraphError: MulBackward0 has to save 'b', float64 (2,), for its backward, and ...
    """
    return _InferenceMode(enabled=False)(mode) if callable(mode) else _InferenceMode(not mode)
