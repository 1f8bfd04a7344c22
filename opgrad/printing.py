"""How a tensor prints: character for character as in PyTorch, from a NumPy array.

Four steps: choose what is shown (`_summarise`), write each element (`_WRITERS`), set the elements
in brackets and lines (`_brackets`), and append what they do not tell (`_suffixes`, `_append`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any, TypeAlias

import numpy as np

_COLUMNS = 80  # of a line
_THRESHOLD = 1000  # elements; a larger array shows only its edges
_EDGE = 3  # elements at each end of a shortened axis
_PREFIX = "tensor("

_Array: TypeAlias = np.ndarray[Any, Any]
_Written: TypeAlias = tuple[list[str], int]  # the elements as text, and the width of a column


def tensor_repr(
    data: _Array,
    *,
    default_dtype: np.dtype[Any],
    grad_fn: str | None = None,
    requires_grad: bool = False,
) -> str:
    """Return the text that a tensor shows itself as.

    Parameters
    ----------
    data : numpy.ndarray
        The elements: bool, integer, floating or complex, of any shape. Of a large array only the
        elements that are shown are read.
    default_dtype : numpy.dtype
        The floating dtype that goes without saying, as does the complex dtype to match.
    grad_fn : str, optional
        Name of the node that made the tensor, such as ``"MulBackward0"``.
    requires_grad : bool, optional
        Whether the tensor collects a gradient. Not shown beside `grad_fn`, which implies it.

    Returns
    -------
    str
        One line, or several that wrap at column 80.

    Examples
    --------
    >>> float64 = np.dtype("float64")
    >>> print(tensor_repr(np.array([3.0]), default_dtype=float64, requires_grad=True))
    tensor([3.], requires_grad=True)
    >>> print(tensor_repr(np.float32([[1, -0.5], [np.nan, 0]]), default_dtype=float64))
    tensor([[ 1.0000, -0.5000],
            [    nan,  0.0000]], dtype=opgrad.float32)
    """
    elements = _elements(data) if data.size else "[]"
    return _append(_PREFIX + elements, _suffixes(data, default_dtype, grad_fn, requires_grad)) + ")"


def tensor_format(data: _Array, spec: str) -> str:
    """Format the number in a 0-d tensor, as an f-string asks for it.

    Parameters
    ----------
    data : numpy.ndarray
        The elements.
    spec : str
        A format specification of Python's, such as ``".3f"``; may be empty.

    Returns
    -------
    str
        The formatted number. Empty if the tensor is not 0-d: then its repr is its text.

    Raises
    ------
    TypeError
        If there is a specification but no single number to apply it to.

    Examples
    --------
    >>> tensor_format(np.array(2 / 3), ".3f")
    '0.667'
    """
    if data.ndim == 0:
        return format(data.item(), spec)
    if spec:
        msg = (
            f"format specification {spec!r} applies to a tensor of shape (), which is one number; "
            f"got shape {data.shape}. Format its elements one at a time, or leave the "
            f"specification out to print the whole tensor"
        )
        raise TypeError(msg)
    return ""


def _elements(data: _Array) -> str:
    """Write all that is shown of an array that is not empty."""
    shown, shortened = _summarise(data)
    texts, width = _WRITERS[shown.dtype.kind](shown)
    cells = np.array(texts, dtype=object).reshape(shown.shape).tolist()
    indent = len(_PREFIX) + data.ndim
    per_line = max(1, (_COLUMNS - indent + 1) // (width + len(", ")))
    return _brackets(cells, shortened, per_line, len(_PREFIX) + 1)


def _summarise(data: _Array) -> tuple[_Array, list[bool]]:
    """Return the elements that are shown, and for every axis whether it is shortened to them."""
    if data.size <= _THRESHOLD:
        return data, [False] * data.ndim
    shortened = [length > 2 * _EDGE for length in data.shape]
    ends = [*range(_EDGE), *range(-_EDGE, 0)]
    kept = [
        ends if short else range(length)
        for short, length in zip(shortened, data.shape, strict=True)
    ]
    return data[np.ix_(*kept)], shortened


def _brackets(cells: Any, shortened: list[bool], per_line: int, indent: int) -> str:
    """Set nested lists of text in brackets; `indent` is the column of what stands inside."""
    if isinstance(cells, str):
        return cells
    short, *inner = shortened
    parts = [_brackets(cell, inner, per_line, indent + 1) for cell in cells]
    if short:
        parts.insert(_EDGE, "..." if inner else " ...")
    if not inner:
        parts = [", ".join(parts[i : i + per_line]) for i in range(0, len(parts), per_line)]
    newlines = "\n" * max(1, len(inner))
    return "[" + f",{newlines}{' ' * indent}".join(parts) + "]"


def _plain(values: _Array) -> _Written:
    """Integers and bools: as Python writes them."""
    texts = [str(value) for value in values.ravel().tolist()]
    width = max(map(len, texts))
    return [text.rjust(width) for text in texts], width


def _real(values: _Array) -> _Written:
    """Floats: one style for all, as wide as the finite non-zero ones among them need it."""
    numbers = values.ravel().tolist()
    telling = [number for number in numbers if number and isfinite(number)]
    style = _style(telling)
    width = max((len(style.format(number)) for number in telling), default=1)
    texts = [style.format(number) if isfinite(number) else str(number) for number in numbers]
    return [text.rjust(width) for text in texts], width


def _style(telling: list[float]) -> str:
    """Choose between ``3.``, ``3.0000`` and ``3.0000e+00`` for finite non-zero numbers."""
    low, high = min(map(abs, telling), default=1), max(map(abs, telling), default=1)
    if high / low > 1000 or high > 1e8 or low < 1e-4:
        return "{:.4e}"
    integral = all(number.is_integer() for number in telling)
    return "{:.0f}." if integral else "{:.4f}"


def _complex(values: _Array) -> _Written:
    """Complex numbers: each part in a style of its own, only the real parts in a column."""
    (reals, real_width), (imags, imag_width) = _real(values.real), _real(values.imag)
    signed = [imag if imag.startswith("-") else "+" + imag for imag in map(str.lstrip, imags)]
    texts = [f"{real}{imag}j" for real, imag in zip(reals, signed, strict=True)]
    return texts, real_width + len("+") + imag_width  # as in PyTorch, "j" is not counted


_WRITERS = {"b": _plain, "i": _plain, "u": _plain, "f": _real, "c": _complex}  # by dtype.kind


def _suffixes(
    data: _Array, default_dtype: np.dtype[Any], grad_fn: str | None, requires_grad: bool
) -> Iterator[str]:
    """Yield what the elements do not tell."""
    if data.size == 0 and data.ndim != 1:
        yield f"size={data.shape}"
    if data.dtype.name not in _implied_dtypes(data, default_dtype):
        yield f"dtype=opgrad.{data.dtype.name}"
    if grad_fn:
        yield f"grad_fn=<{grad_fn}>"
    elif requires_grad:
        yield "requires_grad=True"


def _implied_dtypes(data: _Array, default_dtype: np.dtype[Any]) -> set[str]:
    """Return the dtypes that a reader would assume; without elements, only the default."""
    told_by_elements = {"int64", "bool", np.result_type(default_dtype, np.complex64).name}
    return {default_dtype.name} | (told_by_elements if data.size else set())


def _append(text: str, suffixes: Iterable[str]) -> str:
    """Append the suffixes, each on a new line where it would pass the last column.

    PyTorch counts two columns too many on the line where the elements end, and its name is a
    letter shorter than ours. We count as it does, so that lines break in the same places.
    """
    column = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        length = len(suffix.replace("opgrad.", "torch."))
        if column + len(", ") + length <= _COLUMNS:
            text, column = f"{text}, ", column + len(", ")
        else:
            text, column = f"{text},\n{' ' * len(_PREFIX)}", len(_PREFIX)
        text, column = text + suffix, column + length
    return text
