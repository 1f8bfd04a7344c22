"""From the type of an array to the namespace ``xp`` that formulas are applied in.

A formula is written once, against `xp`. For NumPy arrays that is NumPy, for tensors it is
``opgrad``, and for any other array of the Array API standard what the array itself names.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

# NumPy's types leave `axis=None`, all axes, out of a ufunc's `reduce`.
_add: Any = np.add.reduce
_maximum: Any = np.maximum.reduce
_minimum: Any = np.minimum.reduce


def _sum(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    return _add(x, axis=axis, dtype=dtype, keepdims=keepdims)


def _mean(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    if x.dtype.kind not in "fc" or x.dtype.itemsize < 4 or not x.size:
        return np.mean(x, axis=axis, keepdims=keepdims)  # which sums them in a wider dtype
    total = _add(x, axis=axis, keepdims=keepdims)
    return total / (x.size // total.size)


def _max(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    return _maximum(x, axis=axis, keepdims=keepdims)


def _min(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    return _minimum(x, axis=axis, keepdims=keepdims)


def _numpy() -> ModuleType:
    """Make NumPy's namespace, with the array's own method where the function only wraps it.

    On small arrays those wrappers take longer than the work: ``np.sum`` three times as long as
    the ufunc behind it, ``np.reshape`` eight times as long as the method.
    """
    xp = ModuleType("opgrad.namespaces.numpy", "NumPy, as opgrad's formulas see it.")
    vars(xp).update(
        {name: value for name, value in vars(np).items() if not name.startswith("_")},
        __getattr__=lambda name: getattr(np, name),
        sum=_sum,
        mean=_mean,
        max=_max,
        min=_min,
        reshape=lambda x, /, shape: x.reshape(shape),
        permute_dims=lambda x, /, axes: x.transpose(axes),
        matrix_transpose=lambda x, /: x.swapaxes(-1, -2),
        astype=lambda x, dtype, /: x.astype(dtype),
        real=lambda x, /: x.real,
        imag=lambda x, /: x.imag,
    )
    return xp


numpy = _numpy()

#: One look-up per type. NumPy's scalars are keys too, since reductions return them.
NAMESPACES: dict[type, Any] = {
    np.ndarray: numpy,
    **{np.dtype(code).type: numpy for code in np.typecodes["All"] if code not in "OSUVMm"},
}


def namespace(*arrays: Any) -> Any:
    """Return the namespace of the first array among the arguments.

    Parameters
    ----------
    *arrays : array or number or None
        Numbers and None have no namespace of their own and are passed over.

    Returns
    -------
    module
        That of NumPy where there is no array at all.

    Examples
    --------
    >>> import numpy, opgrad
    >>> namespace(2.0, numpy.ones(3)).exp is numpy.exp
    True
    >>> namespace(opgrad.ones(3)) is opgrad
    True
    """
    for array in arrays:
        kind = type(array)
        if kind in NAMESPACES:
            return NAMESPACES[kind]
        if hasattr(array, "__array_namespace__"):
            return NAMESPACES.setdefault(kind, array.__array_namespace__())
    return numpy
