"""`save` and `load`: tensors in files of the safetensors format.

Such a file holds named arrays and a table of strings. The arrays have readable names, so that
other programs find them; one string, in JSON, says how they make up the object that was saved, and
one is a checksum of it all. It is data and nothing else: to load a file runs none of what is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad.files import replacing
from opgrad.graph import GraphError
from opgrad.operands import describe
from opgrad.tensor import Tensor
from opgrad.variable import is_differentiable

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Of how the tree is written; a reader refuses what is later than itself.
_VERSION = 1

#: The names of the tree and of the checksum in the file's table of strings.
_TREE, _CHECKSUM = "opgrad", "opgrad.sha256"

#: How many containers may be in each other: what more could not be read by every program.
_DEEPEST = 100

#: The dtypes of NumPy's that safetensors has, by their names there.
_DTYPES = {
    "BOOL": "bool",
    **{f"{code}{bits}": f"{name}{bits}" for code, name in (("I", "int"), ("U", "uint"))
       for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "C64": "complex64",
}  # fmt: skip


class FormatError(ValueError):
    """A file that is not what `load` can read."""


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write tensors, and dicts, lists and tuples of them, to a file in the safetensors format.

    Parameters
    ----------
    obj : Tensor, dict, list, tuple, str, int, float, bool or None
        Containers may be nested; the keys of dicts are strings or ints. NumPy's real scalars are
        written as Python's numbers. A tensor that is there more than once is written once. Not
        written are gradients, hooks, and which tensors share memory.
    path : str or path-like
        The file. It is replaced when all is written; until then, and where writing fails, it stays
        as it was. A checksum is written along, by which `load` notices damage.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    GraphError
        If a tensor is not a leaf.
    TypeError
        If something in `obj` is of another kind, or a tensor of a dtype that cannot be written; if
        `path` is no path.
    ValueError
        If a container contains itself, or containers are nested more than 100 deep.

    See Also
    --------
    load : Read it again.

    Examples
    --------
    >>> import opgrad, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> model = {"w": opgrad.ones(2, requires_grad=True), "epoch": 3}
    >>> opgrad.save(model, f"{folder.name}/model.safetensors")
    >>> opgrad.load(f"{folder.name}/model.safetensors")
    {'w': tensor([1., 1.], requires_grad=True), 'epoch': 3}
    >>> folder.cleanup()
    """
    library = _safetensors("save")
    _insist_on_path("save", path)
    writer = _Writer()
    tree = json.dumps({"version": _VERSION, "tree": writer.encode(obj)})
    table = {_TREE: tree, _CHECKSUM: _checksum(tree, writer.arrays)}
    with replacing(path) as scratch:
        try:
            library.numpy.save_file(writer.arrays, scratch, metadata=table)
        except library.SafetensorError as error:
            msg = f"save: {path} cannot be written: {error}"
            raise OSError(msg) from error


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` has written, or the tensors of any other safetensors file.

    Parameters
    ----------
    path : str or path-like
        The file. It may come from anywhere: nothing in it is run.

    Returns
    -------
    object
        What was saved: tensors are leaves with the dtype, the shape and the ``requires_grad`` of
        those that were saved, and no ``.grad``. Of a file that opgrad has not written, a dict of
        tensors by name.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    FormatError
        If the file is damaged, is no safetensors file, or has numbers that NumPy has not. What
        `save` has written is compared with the checksum that it wrote along.
    FileNotFoundError
        If there is no such file.
    TypeError
        If `path` is no path.

    See Also
    --------
    save : Write such a file.

    Examples
    --------
    >>> import opgrad, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = f"{folder.name}/model.safetensors"
    >>> opgrad.save([opgrad.ones(2, dtype="float32"), {"name": "best"}], path)
    >>> opgrad.load(path)
    [tensor([1., 1.], dtype=opgrad.float32), {'name': 'best'}]

    Other programs write tensors by name alone:

    >>> import numpy, safetensors.numpy
    >>> safetensors.numpy.save_file({"w": numpy.arange(3)}, path)
    >>> opgrad.load(path)
    {'w': tensor([0, 1, 2])}
    >>> folder.cleanup()
    """
    library = _safetensors("load")
    _insist_on_path("load", path)
    try:
        with Path(path).open("rb"), library.safe_open(os.fspath(path), framework="numpy") as file:
            return _Reader(file).read()
    except (library.SafetensorError, FormatError, RecursionError) as error:
        msg = (
            f"load: {path} cannot be read: {error}. It is cut short, damaged, or no safetensors "
            "file; write it again with opgrad.save()"
        )
        raise FormatError(msg) from error


def _safetensors(caller: str) -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        msg = f'{caller}: safetensors is not installed; pip install "opgrad[io]"'
        raise ImportError(msg) from error
    return safetensors


def _insist_on_path(caller: str, path: Any) -> None:
    if not isinstance(path, str | os.PathLike):
        msg = f"{caller}: path is {describe(path)}; expected a string or a path, of a file"
        raise TypeError(msg)


def _checksum(tree: str, arrays: Mapping[str, Any]) -> str:
    """Return a digest of the tree, and of the name, the form and the bytes of each array."""
    digest = hashlib.sha256(tree.encode())
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, array.dtype.name, array.shape)).encode())
        # A file has the bytes of a little-endian machine.
        ordered = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(ordered.reshape(-1).view(np.uint8))
    return digest.hexdigest()


# ------------------------------------------------------------------------------- writing


class _Writer:
    """Turns an object into arrays, and a tree for JSON in which they are by name."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        #: The names of tensors by identity.
        self._names: dict[int, str] = {}
        #: The containers around the value that is being written, by identity.
        self._around: list[int] = []

    def encode(self, value: Any, *path: str | int) -> dict[str, Any]:
        """Return the tree of a value, which is reached by these keys and indices."""
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if isinstance(value, np.generic) and value.dtype.kind in "biuf":
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return {"value": value}
        if type(value) not in (list, tuple) and not isinstance(value, dict):
            msg = (
                f"save: {_place(path)} is {describe(value)}; expected a Tensor, a number, a "
                "string, None, or a dict, list or tuple of them. opgrad.asarray() makes a tensor "
                "of an array"
            )
            raise TypeError(msg)
        if id(value) in self._around:
            msg = f"save: {_place(path)} contains itself, which a file cannot"
            raise ValueError(msg)
        if len(path) >= _DEEPEST:
            msg = (
                f"save: {_place(path[:3])}... is a container more than {_DEEPEST} deep in others; "
                "a file has no more, so save it in a flatter form"
            )
            raise ValueError(msg)
        self._around.append(id(value))
        tree = (self._dict if isinstance(value, dict) else self._sequence)(value, path)
        self._around.pop()
        return tree

    def _sequence(self, value: Any, path: tuple[str | int, ...]) -> dict[str, Any]:
        kind = "list" if type(value) is list else "tuple"
        return {kind: [self.encode(each, *path, i) for i, each in enumerate(value)]}

    def _dict(self, value: Any, path: tuple[str | int, ...]) -> dict[str, Any]:
        for key in value:
            if type(key) not in (str, int):
                msg = f"save: {_place(path)} has the key {key!r}; expected strings and ints"
                raise TypeError(msg)
        # As pairs: what JSON calls an object has strings for keys.
        return {"dict": [[key, self.encode(each, *path, key)] for key, each in value.items()]}

    def _tensor(self, value: Tensor, path: tuple[str | int, ...]) -> dict[str, Any]:
        name = self._names.get(id(value))
        if name is None:
            name = self._names[id(value)] = self._free_name(path)
            self.arrays[name] = _array(value, path)
        # The format has no complex128: its parts are written, along one more axis.
        split = value.dtype.name == "complex128"
        return {"tensor": name, "requires_grad": value.requires_grad, "complex128": split}

    def _free_name(self, path: tuple[str | int, ...]) -> str:
        # The format has names in UTF-8, which lacks half of a surrogate pair.
        text = ".".join(map(str, path)) or "tensor"
        name = text.encode(errors="backslashreplace").decode()
        while name in self.arrays or name == "__metadata__":  # which is the format's own
            name += "_"
        return name


def _array(value: Tensor, path: tuple[str | int, ...]) -> Any:
    if not value.is_leaf:
        msg = (
            f"save: {_place(path)} was made by {value.grad_fn!r}; only leaves can be saved, since "
            "a file keeps no history. Save its detach()"
        )
        raise GraphError(msg)
    data = np.asarray(value._data, order="C")
    if data.dtype.name == "complex128":
        return data.astype(np.complex128, copy=False).reshape(*data.shape, 1).view(np.float64)
    if data.dtype.name not in _DTYPES.values():
        msg = (
            f"save: {_place(path)} is {describe(data)}, of a dtype that the format lacks; cast it "
            "with astype()"
        )
        raise TypeError(msg)
    return data


def _place(path: tuple[str | int, ...]) -> str:
    return "obj" + "".join(f"[{each!r}]" for each in path)


# ------------------------------------------------------------------------------- reading


class _Reader:
    """Puts an object together again from an open file."""

    def __init__(self, file: Any) -> None:
        table = file.metadata() or {}
        self._tree, self._checksum = table.get(_TREE), table.get(_CHECKSUM)
        self._arrays = {name: _read(file, name) for name in file.keys()}  # noqa: SIM118 - a file
        self._made: dict[str, Tensor] = {}

    def read(self) -> Any:
        """Return what was saved, or where no tree says what that was, all tensors by name."""
        text = self._tree
        if text is None:
            self._verify()
            return {name: self._tensor(name) for name in self._arrays}
        try:
            match json.loads(text):
                case {"version": int(version), "tree": tree} if version <= _VERSION:
                    self._verify()
                    return self._decode(tree)
                case {"version": int(version)}:
                    msg = f"a later version of opgrad wrote it, in version {version} of its format"
                    raise FormatError(msg)
        except json.JSONDecodeError:
            pass
        raise _damaged(text)

    def _verify(self) -> None:
        """Compare what was read with the checksum, where there is one."""
        if self._checksum not in (None, _checksum(self._tree or "", self._arrays)):
            msg = "what it holds is not what was written: its checksum is another"
            raise FormatError(msg)

    def _decode(self, tree: Any) -> Any:
        match tree:
            case {"value": None | bool() | int() | float() | str() as value}:
                return value
            case {"list": [*items]}:
                return [self._decode(each) for each in items]
            case {"tuple": [*items]}:
                return tuple(self._decode(each) for each in items)
            case {"dict": [*pairs]}:
                return dict(map(self._pair, pairs))
            case {"tensor": str(name), "requires_grad": bool(grad), "complex128": bool(split)}:
                return self._tensor(name, requires_grad=grad, split=split)
        raise _damaged(tree)

    def _pair(self, pair: Any) -> tuple[str | int, Any]:
        match pair:
            case [str() | int() as key, tree]:
                return key, self._decode(tree)
        raise _damaged(pair)

    def _tensor(self, name: str, *, requires_grad: bool = False, split: bool = False) -> Tensor:
        if name not in self._made:
            data = self._arrays.get(name)
            if data is None:
                raise _damaged(name)
            if split:
                if data.dtype != np.float64 or data.shape[-1:] != (2,):
                    raise _damaged(name)
                data = data.view(np.complex128).reshape(data.shape[:-1])
            self._made[name] = Tensor(data[()] if data.ndim == 0 else data)
        made = self._made[name]
        if requires_grad and not is_differentiable(made.dtype):
            raise _damaged(name)
        return made.requires_grad_(requires_grad)


def _read(file: Any, name: str) -> Any:
    dtype = file.get_slice(name).get_dtype()
    if dtype not in _DTYPES:
        msg = f"its {name!r} is of dtype {dtype}, which NumPy has not"
        raise FormatError(msg)
    return file.get_tensor(name)


def _damaged(what: Any) -> FormatError:
    msg = f"it does not say how its tensors make up an object, at {str(what)[:80]!r}"
    return FormatError(msg)
