"""What can be said of the installed operators without importing anything of theirs."""

from __future__ import annotations

import ast
import warnings
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from opgrad.locating import specs
from opgrad.registry import registry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from opgrad.entries import Entry

_S = TypeVar("_S", bound=ast.stmt)


@dataclass(frozen=True, slots=True)
class Line:
    """One operator in the listing."""

    name: str
    distribution: str
    version: str
    plugin: str
    hooks: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the line as plain data, for JSON."""
        return asdict(self)


def lines(names: Collection[str] | None = None) -> list[Line]:
    """Return the operators that are installed, or those of some names, in the order of names."""
    return [
        Line(name, entry.distribution, entry.version, entry.value, hooks_of(entry))
        for name in registry.names()
        for entry in registry.entries()[name]
        if names is None or name in names
    ]


def family(entry: Entry) -> str:
    """Return the module that an operator is in, by the last part of its name."""
    return entry.value.partition(":")[0].strip().rpartition(".")[2]


def hooks_of(entry: Entry) -> tuple[str, ...]:
    """Read an operator's hooks off its source; empty where the source does not tell."""
    module, _, name = entry.value.partition(":")
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    classes = [(module.strip(), _class_of(module.strip(), name.strip()))]
    while classes:
        module, owner = classes.pop()
        if owner and (module, owner) not in seen:
            seen.add((module, owner))
            found.update(_hooks(module, owner))
            classes += _bases(module, owner)
    return tuple(sorted(found))


@cache
def _source(module: str) -> ast.Module | None:
    """Parse the source of a module, found as the import system would, and not imported."""
    found = list(specs(module))
    origin = found[-1].origin if len(found) == module.count(".") + 1 else None
    if origin is None or not origin.endswith(".py"):
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # of the author's spelling, not the user's
            return ast.parse(Path(origin).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None  # whoever imports it is told what is wrong with it


def _class_of(module: str, name: str) -> str | None:
    """Return the class that ``name = Class()`` makes an instance of."""
    for statement in _statements(module, ast.Assign):
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
    """Give the methods of a class that are marked with ``@hookimpl``."""
    for each in _statements(module, ast.ClassDef):
        for method in each.body if each.name == owner else ():
            if isinstance(method, ast.FunctionDef) and any(map(_is_marker, method.decorator_list)):
                yield method.name


def _bases(module: str, owner: str) -> Iterator[tuple[str, str]]:
    """Give the classes whose hooks a class has too, or where it is imported from."""
    for each in _statements(module, ast.ClassDef):
        for base in each.bases if each.name == owner else ():
            if isinstance(base, ast.Name):
                yield module, base.id
    for statement in _statements(module, ast.ImportFrom):
        for alias in statement.names:
            if (alias.asname or alias.name) == owner:
                yield _absolute(module, statement), alias.name


def _statements(module: str, kind: type[_S]) -> list[_S]:
    tree = _source(module)
    return [each for each in tree.body if isinstance(each, kind)] if tree else []


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
