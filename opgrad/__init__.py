"""opgrad: automatic differentiation on NumPy, in which every derivative is a plugin.

Tensors behave as PyTorch's do; conventions are NumPy's and the Array API standard's. Operators
are found through entry points and loaded at first use: ``opgrad.ops.mul`` is the operator,
``opgrad.mul`` the function that applies it. ``python -m opgrad.check`` verifies them all.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from numpy import e, finfo, iinfo, inf, isdtype, nan, newaxis, pi

from opgrad import autograd, nn, registry
from opgrad.autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from opgrad.contract import OperatorError
from opgrad.creation import (
    arange,
    asarray,
    eye,
    full,
    full_like,
    linspace,
    manual_seed,
    ones,
    ones_like,
    rand,
    rand_like,
    randn,
    randn_like,
    tensor,
    zeros,
    zeros_like,
)
from opgrad.dtypes import bool_ as bool
from opgrad.dtypes import (
    complex64,
    complex128,
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    set_default_dtype,
    uint8,
    uint16,
    uint32,
    uint64,
)
from opgrad.graph import GraphError
from opgrad.hookspecs import hookimpl
from opgrad.levels import BatchError
from opgrad.operator import Case, Operator
from opgrad.registry import RegistryError, UnknownOperatorError, ops
from opgrad.tensor import Tensor

__all__ = [
    "BatchError",
    "Case",
    "GraphError",
    "Operator",
    "OperatorError",
    "RegistryError",
    "Tensor",
    "UnknownOperatorError",
    "arange",
    "around_call",
    "asarray",
    "autograd",
    "bool",
    "complex64",
    "complex128",
    "draw",
    "e",
    "enable_grad",
    "eye",
    "finfo",
    "float16",
    "float32",
    "float64",
    "full",
    "full_like",
    "func",
    "get_default_dtype",
    "hookimpl",
    "iinfo",
    "inf",
    "inference_mode",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "isdtype",
    "linspace",
    "load",
    "manual_seed",
    "nan",
    "newaxis",
    "nn",
    "no_grad",
    "ones",
    "ones_like",
    "ops",
    "pi",
    "profiler",
    "rand",
    "rand_like",
    "randn",
    "randn_like",
    "registry",
    "save",
    "set_default_dtype",
    "set_grad_enabled",
    "tensor",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "zeros",
    "zeros_like",
]


#: What is imported when it is first used, with the module that it is in, or is itself.
_LAZY = {
    "around_call": "around",
    "draw": "drawing",
    "func": "func",
    "load": "serialization",
    "profiler": "profiler",
    "save": "serialization",
}


def __getattr__(name: str) -> Any:
    """Find what is not above: operators by name, and what is loaded only when it is used."""
    if name in _LAZY:
        module = import_module(f"opgrad.{_LAZY[name]}")
        return getattr(module, name, module)
    if name == "__version__":
        from importlib.metadata import version

        return version("opgrad")
    if name.startswith("_"):
        msg = f"module 'opgrad' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(registry.calls, name)


def __dir__() -> list[str]:
    return sorted({*__all__, *dir(ops)})
