"""What can be said of the installed operators without importing anything of theirs."""

from __future__ import annotations

import ast
from dataclasses import asdict, dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from opgrad.registry import Entry, registry

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Line:
    """One operator in the listing."""

    name: str
    distribution: str
    version: str
    plugin: str
    hooks: tuple[str, ...]

    @property
    def family(self) -> str:
        """The module that the operator is in, by the last part of its name."""
        return self.plugin.partition(":")[0].rpartition(".")[2]

    def as_dict(self) -> dict[str, object]:
        """Return the line as plain data, for JSON."""
        return asdict(self)


def lines() -> list[Line]:
    """Return the operators that are installed, in the order of their names."""
    return [
        Line(name, entry.distribution, entry.version, entry.value, hooks_of(entry))
        for name in registry.names()
        for entry in registry.entries()[name]
    ]


def hooks_of(entry: Entry) -> tuple[str, ...]:
    """Read an operator's hooks off its source; empty where the source does not tell."""
    module, _, name = entry.value.partition(":")
    owner = _class_of(module, name)
    return tuple(sorted(set(_hooks(module, owner)))) if owner else ()


@cache
def _source(module: str) -> ast.Module | None:
    """Parse the source of a module, found as the import system would, and not imported."""
    path: list[str] | None = None
    spec = None
    parts = module.split(".")
    for i in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: i + 1]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _class_of(module: str, name: str) -> str | None:
    """Return the class that ``name = Class()`` makes an instance of."""
    tree = _source(module)
    for statement in tree.body if tree else ():
        if isinstance(statement, ast.Assign):
            for target, value in _assignments(statement):
                if not (isinstance(target, ast.Name) and target.id == name):
                    continue
                if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
                    return value.func.id
    return None


def _assignments(statement: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    for target in statement.targets:
        if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
            yield from zip(target.elts, statement.value.elts, strict=False)
        else:
            yield target, statement.value


def _hooks(module: str, owner: str) -> Iterator[str]:
    """Give the methods of a class and of its bases that are marked with ``@hookimpl``."""
    tree = _source(module)
    for statement in tree.body if tree else ():
        if isinstance(statement, ast.ClassDef) and statement.name == owner:
            for each in statement.body:
                if isinstance(each, ast.FunctionDef) and any(map(_is_marker, each.decorator_list)):
                    yield each.name
            for base in statement.bases:
                if isinstance(base, ast.Name):
                    yield from _hooks(module, base.id)
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == owner:
                    yield from _hooks(_absolute(module, statement), alias.name)


def _is_marker(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name == "hookimpl"


def _absolute(module: str, statement: ast.ImportFrom) -> str:
    """Return what ``from .families import ...`` names."""
    if not statement.level:
        return statement.module or ""
    package = module.rsplit(".", statement.level)[0]
    return f"{package}.{statement.module}" if statement.module else package
