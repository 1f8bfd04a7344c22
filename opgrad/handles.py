"""Where the hooks of a node are kept, and the handles that remove them."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable

    from opgrad.graph import Node
    from opgrad.tensor import Tensor

    Hook = Callable[..., Any]

_next_key = itertools.count().__next__
_lock = threading.RLock()  # again by the same thread: `__del__` may come at any moment


class RemovableHandle:
    """What registering a hook returns: removes it again; also as a context manager.

    Examples
    --------
    >>> import opgrad
    >>> x = opgrad.tensor(2., requires_grad=True)
    >>> with x.register_hook(lambda grad: grad * 10):
    ...     x.square().backward()
    >>> x.square().backward()
    >>> x.grad
    tensor(44.)
    """

    __slots__ = ("_registered",)

    def __init__(self, *hooks: tuple[dict[int, Hook], Hook]) -> None:
        self._registered = [(place, _next_key()) for place, _ in hooks]
        for (place, key), (_, hook) in zip(self._registered, hooks, strict=True):
            place[key] = hook

    def remove(self) -> None:
        """Remove the hook; it is no error if it is removed already."""
        for place, key in self._registered:
            place.pop(key, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Hooks:
    """The hooks of one node; `hooks` calls them.

    Attributes
    ----------
    tensor : dict
        By output: those of the tensors that the node made.
    pre, post : dict
        To be called before and after the node runs.
    kept : dict
        By output: the tensor that the gradient is to be kept at.
    after_accumulation : dict
        To be called after a leaf's gradient was added to.
    """

    __slots__ = ("after_accumulation", "kept", "post", "pre", "tensor")

    def __init__(self) -> None:
        self.tensor: dict[int, dict[int, Hook]] = {}
        self.pre: dict[int, Hook] = {}
        self.kept: dict[int, weakref.ref[Tensor]] = {}
        self.after_accumulation: dict[int, Hook] = {}
        self.post: dict[int, Hook] = {}

    @classmethod
    def of(cls, node: Node) -> Hooks:
        """Return the hooks of a node, which has them from then on."""
        hooks = node.hooks
        return cls._first(node) if hooks is None else hooks

    @classmethod
    def _first(cls, node: Node) -> Hooks:
        with _lock:  # threads may come here at once
            hooks = node.hooks = node.hooks or cls()
        return hooks
