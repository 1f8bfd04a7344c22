"""The names of the dtypes, and which of them floating-point data has by default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

#: What can stand for a dtype; None for the default of the place.
DTypeLike: TypeAlias = "npt.DTypeLike | None"

bool_ = np.dtype(np.bool_)
int8, int16, int32, int64 = (np.dtype(f"i{size}") for size in (1, 2, 4, 8))
uint8, uint16, uint32, uint64 = (np.dtype(f"u{size}") for size in (1, 2, 4, 8))
float16, float32, float64 = (np.dtype(f"f{size}") for size in (2, 4, 8))
complex64, complex128 = (np.dtype(f"c{size}") for size in (8, 16))

_default: np.dtype[Any] = float64


def get_default_dtype() -> np.dtype[Any]:
    """Return the dtype that Python floats become, and that ``zeros``, ``rand`` and so on have.

    Examples
    --------
    >>> import opgrad
    >>> opgrad.get_default_dtype()
    dtype('float64')
    """
    return _default


def set_default_dtype(dtype: DTypeLike) -> None:
    """Set the default dtype, float64 at the start as in NumPy.

    Parameters
    ----------
    dtype : dtype_like
        A real floating-point dtype.

    Raises
    ------
    TypeError
        If it is not one.

    Examples
    --------
    >>> import opgrad
    >>> opgrad.set_default_dtype(opgrad.float32)
    >>> opgrad.tensor([1.5]).dtype
    dtype('float32')
    >>> opgrad.set_default_dtype(opgrad.float64)
    """
    global _default  # noqa: PLW0603 - one setting for the process, as in PyTorch
    made = _default if dtype is None else np.dtype(dtype)
    if made.kind != "f":
        msg = f"set_default_dtype: got {made}; expected a floating-point dtype such as float32"
        raise TypeError(msg)
    _default = made


def default_dtype_of(value: Any) -> np.dtype[Any] | None:
    """Return the default dtype for Python data that NumPy would make a float64 or complex128."""
    kind = np.asarray(value).dtype.kind
    if kind == "c":
        return np.result_type(_default, np.complex64)
    return _default if kind == "f" else None
