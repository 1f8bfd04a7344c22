"""Fixtures: a folder to install distributions into for one test; opgrad and PyTorch by turns."""

from __future__ import annotations

import importlib
import sys
import textwrap
from pathlib import Path

import pytest

import opgrad
from opgrad.entries import GROUP, OVERRIDES
from opgrad.registry import registry


class Site:
    """A folder on ``sys.path``, as ``site-packages`` is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(
        self,
        name,
        version="1.0",
        *,
        operators=None,
        overrides=None,
        probes=None,
        requires=(),
        **modules,
    ):
        """Write a distribution: its metadata, its entry points, and its modules' sources."""
        info = self.path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata += "".join(f"Requires-Dist: {each}\n" for each in requires)
        (info / "METADATA").write_text(metadata)
        lines = []
        for group, points in (
            (GROUP, operators),
            (OVERRIDES, overrides),
            ("opgrad.probes", probes),
        ):
            lines += [
                f"[{group}]",
                *(f"{each} = {value}" for each, value in (points or {}).items()),
            ]
        (info / "entry_points.txt").write_text("\n".join(lines))
        for module, source in modules.items():
            (self.path / f"{module}.py").write_text(textwrap.dedent(source))
        self.refresh()

    def imported(self):
        """Return the names of this folder's modules that are imported."""
        return [
            name
            for name, module in sys.modules.items()
            if str(getattr(module, "__file__", None) or "").startswith(str(self.path))
        ]

    def refresh(self):
        importlib.invalidate_caches()
        registry.rescan()


@pytest.fixture(autouse=True, scope="session")
def verifications(tmp_path_factory):
    """A folder for the records of verifications, beside those of the environment."""
    folder = tmp_path_factory.mktemp("verifications")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPGRAD_VERIFICATIONS", str(folder))
        yield folder


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A `Site` of its own, which Python and opgrad forget after the test."""
    made = Site(tmp_path / "site")
    made.path.mkdir()
    with monkeypatch.context() as patch:
        patch.syspath_prepend(made.path)
        yield made
    for name in made.imported():
        del sys.modules[name]
    made.refresh()


@pytest.fixture(params=["opgrad", pytest.param("torch", marks=pytest.mark.parity)])
def lib(request):
    """Each of the two libraries, for tests of what they have in common."""
    if request.param == "opgrad":
        yield opgrad
        return
    torch = pytest.importorskip("torch", reason="parity is tested against an installed PyTorch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)
