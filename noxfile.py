#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.10.14"]
# ///
"""The developers' tasks. `nox` runs lint, typecheck and tests; `nox --list` names them all."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff; `nox -s lint -- --fix` repairs what it can."""
    session.install("-e", ".[lint]")
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Run mypy, in strict mode."""
    session.install("-e", ".[test,lint]")
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, then the verifier over every operator."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)
    session.run("python", "-m", "opgrad.check")


@nox.session(default=False)
def lowest(session: nox.Session) -> None:
    """Run the registry's tests with the oldest supported pluggy and NumPy."""
    session.install("-e", ".[test]", "pluggy==1.5.0", "numpy==2.2.0")
    files = ("registry", "operator", "traps", "living_together", "define")
    session.run("pytest", *(f"tests/test_{each}.py" for each in files), *session.posargs)


@nox.session(default=False)
def parity(session: nox.Session) -> None:
    """Run the tests that compare with PyTorch."""
    session.install("-e", ".[test,parity]")
    session.run("pytest", "-m", "parity", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Time opgrad against PyTorch, autograd, MyGrad and JAX."""
    session.install("-e", ".[bench]")
    session.run("python", "benchmarks", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-W", "-b", "html", "docs", "docs/_build", *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel into dist."""
    session.install("build")
    session.run("python", "-m", "build", *session.posargs)


if __name__ == "__main__":
    nox.main()
