"""The operators of the example packages, by PyTorch's and JAX's own checkers of derivatives."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from bridging import with_arrays

ROOT = Path(__file__).parents[1]


def operators():
    """Return package and entry point of every operator in ``examples/plugins/``."""
    for file in sorted(ROOT.glob("examples/plugins/*/pyproject.toml")):
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        for name, value in project["entry-points"]["opgrad.operators"].items():
            yield pytest.param(file.parent, value, id=name)


pytestmark = [pytest.mark.parity, pytest.mark.parametrize(("package", "value"), [*operators()])]


def loaded(package, value, monkeypatch):
    """Return an operator and the first of its cases whose inputs are real."""
    if "numba" in (package / "pyproject.toml").read_text(encoding="utf-8"):
        pytest.importorskip("numba", reason="this package is verified where Numba is installed")
    monkeypatch.setattr(sys, "path", [str(package / "src"), *sys.path])
    module, _, name = value.partition(":")
    op = getattr(importlib.import_module(module), name)
    cases = op.contract.hooks["self_check"](np.random.default_rng(0))
    return op, next(
        case for case in cases if all(np.asarray(x).dtype.kind in "fi" for x in case.inputs)
    )


def test_torch_confirms_the_derivatives(package, value, monkeypatch):
    torch = pytest.importorskip("torch", reason="the bridge to PyTorch needs an installed PyTorch")
    from opgrad.bridge.torch import wrap

    op, case = loaded(package, value, monkeypatch)
    function, arrays = with_arrays(op, case, wrap(op), torch.from_numpy)
    inputs = [torch.tensor(x, requires_grad=True) for x in arrays]
    assert torch.autograd.gradcheck(function, inputs)
    if not op.once_differentiable:
        assert torch.autograd.gradgradcheck(function, inputs)


def test_jax_confirms_the_derivatives(package, value, monkeypatch):
    jax = pytest.importorskip("jax", reason="the bridge to JAX needs an installed JAX")
    from jax.test_util import check_grads

    from opgrad.bridge.jax import wrap

    op, case = loaded(package, value, monkeypatch)
    with jax.enable_x64(True):
        function, arrays = with_arrays(op, case, wrap(op), jax.numpy.asarray)
        order = 1 if op.once_differentiable else 2
        check_grads(jax.jit(function), arrays, order=order, modes=["rev"])
