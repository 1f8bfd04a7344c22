"""Saved-tensor hooks: what a call saves for its backward is packed, and unpacked when it is needed.

While a context is active, a recorder replaces the saved values of each new node by `_Packed`. A
node's values are then a sequence that unpacks what it is asked for; nothing else changes.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from opgrad.graph import GraphError, Node, check_fresh, recorders
from opgrad.modes import InForce, no_grad
from opgrad.operands import describe
from opgrad.stamps import version
from opgrad.variable import Variable, metadata_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opgrad.tensor import Tensor
    from opgrad.variable import Metadata


class _Hooks(NamedTuple):
    pack: Callable[[Tensor], Any]
    unpack: Callable[[Any], Any]


#: The contexts that are active in this thread and task, the innermost last.
_active: ContextVar[tuple[_Hooks, ...]] = ContextVar("opgrad_saved_tensors_hooks", default=())

#: Why none may be: the message of `disable_saved_tensors_hooks`.
_disabled: ContextVar[str | None] = ContextVar("opgrad_saved_tensors_hooks_disabled", default=None)


class saved_tensors_hooks:  # noqa: N801 - a function to its users, as in PyTorch
    """Have two functions pack and unpack what calls inside the block save for their backward.

    Of nested contexts the innermost counts. Threads and async tasks have their own.

    Parameters
    ----------
    pack_hook : callable
        Called with each array that a call saves, as a tensor: an input with its place in the
        graph, anything else without. It does not write to it. What it returns is kept instead.
    unpack_hook : callable
        Called with what `pack_hook` returned, whenever the value is needed; returns a tensor or an
        array of the same values, shape and dtype. Nothing is recorded in either.

    Raises
    ------
    TypeError
        If one of them is no function.
    GraphError
        If saved-tensor hooks are disabled; if `pack_hook` writes to what it is given.

    Notes
    -----
    A packed value is kept safe from later writes in place by being a copy. What `pack_hook` returns
    as it got it is no copy, and a write to it is an error in the backward pass, as it is without
    hooks.

    Examples
    --------
    >>> import opgrad
    >>> x = opgrad.tensor([1.0, 2.0], requires_grad=True)
    >>> with opgrad.autograd.graph.saved_tensors_hooks(
    ...     lambda tensor: tensor.tolist(), lambda packed: opgrad.tensor(packed)
    ... ):
    ...     y = (x**2).sum()
    >>> y.backward()
    >>> x.grad
    tensor([2., 4.])
    """

    __slots__ = ("_hooks",)

    def __init__(
        self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Any]
    ) -> None:
        self._hooks = _Hooks(pack_hook, unpack_hook)
        given: tuple[tuple[str, Any], ...] = ("pack_hook", pack_hook), ("unpack_hook", unpack_hook)
        for name, hook in given:
            if not callable(hook):
                msg = f"saved_tensors_hooks: {name} is {describe(hook)}; expected a function"
                raise TypeError(msg)

    def __enter__(self) -> None:
        if (message := _disabled.get()) is not None:
            raise GraphError(message)
        _active.set((*_active.get(), self._hooks))
        _listening.add(1)

    def __exit__(self, *_: object) -> None:
        _active.set(_active.get()[:-1])
        _listening.add(-1)


@contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """Refuse saved-tensor hooks inside the block, for code that they would break.

    Parameters
    ----------
    error_message : str
        What the error says.

    Raises
    ------
    GraphError
        Where a context of `saved_tensors_hooks` is active or is entered.

    Examples
    --------
    >>> import opgrad
    >>> graph = opgrad.autograd.graph
    >>> with graph.disable_saved_tensors_hooks("not in here"), graph.save_to_disk():
    ...     pass
    Traceback (most recent call last):
    opgrad.graph.GraphError: not in here
    """
    if _active.get():
        raise GraphError(error_message)
    token = _disabled.set(error_message)
    try:
        yield
    finally:
        _disabled.reset(token)


# ------------------------------------------------------------------------------ packed values


def _pack(node: Node) -> None:
    """Replace what a node has saved by what the innermost context makes of it."""
    if (active := _active.get()) and node._saved:
        with no_grad():
            node._saved = _Packed(node, active[-1])


#: New nodes are looked at as long as a context is active in any thread.
_listening = InForce(partial(recorders.append, _pack), partial(recorders.remove, _pack))


class _Value(NamedTuple):
    """A saved array as its pack hook left it."""

    packed: Any
    #: What it has to be again: shape and dtype.
    metadata: Metadata
    #: The array itself, where the hook returned the tensor that it was given.
    kept: Any


class _Values(tuple[Any, ...]):
    """Those of several arrays that are saved as one: no list or tuple that is a parameter."""

    __slots__ = ()


class _Packed(Sequence[Any]):
    """The saved values of a node, some of them packed."""

    __slots__ = ("_name", "_names", "_since", "_unpack", "_values")

    def __init__(self, node: Node, hooks: _Hooks) -> None:
        # Not the node itself: it holds this.
        self._name, self._names, self._since = node.name(), node.names, node.sequence
        self._unpack = hooks.unpack
        self._values = [
            self._packed(node, name, value, origin, hooks.pack)
            for name, value, origin in zip(node.names, node._saved, node.origins, strict=True)
        ]

    def _packed(self, node: Node, name: str, value: Any, origin: Any, pack: Any) -> Any:
        if origin is not None and isinstance(value, tuple):
            return _Values(self._packed(node, name, each, origin, pack) for each in value)
        if not isinstance(value, np.ndarray) and (origin is None or not hasattr(value, "dtype")):
            return value
        # An output would keep this node, which keeps what the hook returns.
        is_input = origin is not None and origin[0] != "output"
        shown = node._restore(value, origin) if is_input else Variable.kind(value)
        before = version(value)
        packed = pack(shown)
        if version(value) != before:
            msg = (
                f"saved_tensors_hooks: pack_hook wrote to {name!r} of {node.name()}, which others "
                "use, too; let it write to a clone()"
            )
            raise GraphError(msg)
        return _Value(packed, metadata_of(value), value if packed is shown else None)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        return self._unpacked(self._values[index], self._names[index])

    def with_arrays(self, settled: Callable[[Any], Any]) -> _Packed:
        """Put others in the place of those arrays that are kept as they are; see `inplace`."""
        for i, each in enumerate(self._values):
            if isinstance(each, _Value) and each.kept is not None:
                each.packed._data = settled(each.kept)
                self._values[i] = each._replace(kept=each.packed._data)
        return self

    def _unpacked(self, value: Any, name: str) -> Any:
        if isinstance(value, _Values):
            return tuple(self._unpacked(each, name) for each in value)
        if not isinstance(value, _Value):
            return value
        if value.kept is not None:
            check_fresh(value.kept, self._since, self._name, name)
        with no_grad():
            made = self._unpack(value.packed)
        data = made._data if isinstance(made, Variable) else made
        if not hasattr(data, "dtype") or metadata_of(data) != value.metadata:
            shape, dtype = value.metadata
            msg = (
                f"saved_tensors_hooks: unpack_hook returned {describe(made)} for {name!r} of "
                f"{self._name}; expected a tensor or an array, {dtype} {shape}, as was packed"
            )
            raise GraphError(msg)
        plain = np.asarray(data) if isinstance(data, np.ndarray) else data
        return plain if plain.ndim else plain[()]


# ----------------------------------------------------------------------------------- on disk


class save_to_disk(saved_tensors_hooks):  # noqa: N801 - a function to its users
    """Keep what calls inside the block save for their backward in files, and not in memory.

    Each array is written to a file of its own, which is mapped into memory (`numpy.memmap`) when
    the backward needs it, and removed when the backward has freed it or the graph dies. Arrays that
    are smaller than a page of memory are copied instead.

    Parameters
    ----------
    directory : path_like, optional
        Where the files are; by default where the system has its temporary files.

    Raises
    ------
    TypeError
        If `directory` is no path.
    NotADirectoryError
        If there is no such directory.

    Examples
    --------
    >>> import opgrad
    >>> x = opgrad.rand(1000, requires_grad=True)
    >>> with opgrad.autograd.graph.save_to_disk():
    ...     y = (x * x).sum()
    >>> y.backward()
    >>> bool((x.grad.data == 2 * x.data).all())
    True
    """

    __slots__ = ()

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        given: object = directory
        if not isinstance(given, str | os.PathLike | None):
            msg = f"save_to_disk: directory is {describe(directory)}; expected a path, or None"
            raise TypeError(msg)
        if directory is not None and not Path(directory).is_dir():
            msg = (
                f"save_to_disk: directory is {str(directory)!r}, and there is no such directory; "
                "make it first"
            )
            raise NotADirectoryError(msg)
        super().__init__(lambda tensor: _stored(tensor, directory), _loaded)


class _File:
    """An array in a file, which goes when this does."""

    __slots__ = ("__weakref__", "_dtype", "_path", "_shape")

    def __init__(self, array: Any, directory: str | os.PathLike[str] | None) -> None:
        import tempfile  # here, since few need it, and its import takes long

        handle, self._path = tempfile.mkstemp(".array", "opgrad-", directory)
        weakref.finalize(self, Path(self._path).unlink, missing_ok=True)
        self._shape, self._dtype = array.shape, array.dtype
        with open(handle, "wb") as file:  # noqa: PTH123 - it is open already
            # Not through a mapping: where the disk is full that is a crash, and this an error.
            array.tofile(file)

    def map(self) -> Any:
        """Return the array, mapped into memory; the mapping outlives the file."""
        return np.memmap(self._path, self._dtype, "r", shape=self._shape)


def _stored(tensor: Tensor, directory: Any) -> Any:
    array = tensor.data
    return tensor.clone() if array.nbytes < mmap.PAGESIZE else _File(array, directory)


def _loaded(stored: Any) -> Any:
    return stored.map() if isinstance(stored, _File) else stored
