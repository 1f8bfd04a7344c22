"""Bridges to other frameworks: `bridge.torch` for PyTorch, and `bridge.jax` for JAX.

One operator, verified once, serves all three: ``wrap`` makes it a function of the other
framework, differentiable there; ``operator`` makes an opgrad operator of the other framework's
function. A bridge is imported by its name, ``from opgrad.bridge import torch``, and needs the
framework; this package does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def required(name: str, title: str) -> Any:
    """Import the framework that a bridge leads to.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        msg = (
            f"opgrad.bridge.{name} leads to {title}, which is not installed; install it, for "
            f"example with `pip install {name}`"
        )
        raise ModuleNotFoundError(msg, name=name) from error
