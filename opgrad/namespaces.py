"""From the type of an array to the namespace ``xp`` that formulas are applied in.

A formula is written once, against `xp`. For NumPy arrays that is ``numpy`` itself, for tensors
it is ``opgrad``, and for any other array of the Array API standard what the array itself names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: One look-up per type. NumPy's scalars are keys too, since reductions return them.
NAMESPACES: dict[type, Any] = {
    np.ndarray: np,
    **{np.dtype(code).type: np for code in np.typecodes["All"] if code not in "OSUVMm"},
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
        ``numpy`` where there is no array at all.

    Examples
    --------
    >>> import numpy, opgrad
    >>> namespace(2.0, numpy.ones(3)) is numpy
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
    return np
