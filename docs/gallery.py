#!/usr/bin/env python3
"""Write ``gallery.md``, the page of the example packages, from their sources.

Nothing of theirs is imported, so that what they require need not be installed.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "gallery.md"

_HEAD = """\
<!-- Written by `python docs/gallery.py`: change that, or the packages, instead of this page. -->

# Gallery

These are whole packages of operators, each an example of one kind. They are in `examples/plugins/`
of opgrad's repository, and are installed from a checkout of it. The tests build each, install it
where opgrad's source is not, and verify it there.

Copy the one that is nearest to yours. [How to write each kind](howto.md) shows the lines that
matter.
"""


@dataclass(frozen=True, slots=True)
class Example:
    """One operator, as its source tells.

    Attributes
    ----------
    name : str
        Its name, such as ``"bessel.jn"``.
    signature : str
        What users call, such as ``"(x, /, n=0)"``.
    summary : str
        The first line of its docstring.
    """

    name: str
    signature: str
    summary: str


class Project:
    """An example package, read and not imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        self.name: str = project["name"]
        #: Where each operator is, by its name.
        self.points: dict[str, str] = project["entry-points"]["opgrad.operators"]
        self._readme = (folder / "README.md").read_text(encoding="utf-8")

    @property
    def introduction(self) -> str:
        """The first paragraph of the README."""
        return self._readme.split("\n\n")[1]

    @property
    def kind(self) -> str:
        """What the package is an example of: from "It shows" to the end of what is in bold."""
        line = " ".join(self.introduction.split())
        return re.search(r"It shows (.*)\*\*", line)[1].replace("**", "")  # type: ignore[index]

    @property
    def mathematics(self) -> str:
        """The first paragraph of that section, and the formula that it leads to."""
        section = self._readme.partition("\n## The mathematics\n\n")[2]
        paragraph, formula, *_ = section.split("\n\n")
        return f"{paragraph}\n\n{formula.rstrip('.,')}."

    def sources(self) -> list[Path]:
        """Return the files that the operators are in."""
        return [self._source(each) for each in dict.fromkeys(map(_module, self.points.values()))]

    def operators(self) -> Iterator[Example]:
        """Yield the operators in the order of the entry points."""
        for name, value in self.points.items():
            tree = ast.parse(self._source(_module(value)).read_text(encoding="utf-8"))
            doc, forward = _definition(tree, value.partition(":")[2])
            yield Example(name, _signature(forward), doc.splitlines()[0])

    def _source(self, module: str) -> Path:
        path = self.folder.joinpath("src", *module.split("."))
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _module(value: str) -> str:
    return value.partition(":")[0]


def _definition(tree: ast.Module, attribute: str) -> tuple[str, ast.FunctionDef]:
    """Return an operator's docstring and its forward: of a class, or of a decorated function."""
    classes = {each.name: each for each in tree.body if isinstance(each, ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == attribute:
            return ast.get_docstring(node) or "", node
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == attribute:
            made = classes[ast.unparse(node.value).removesuffix("()")]
            functions = [each for each in made.body if isinstance(each, ast.FunctionDef)]
            forward = next(each for each in functions if each.name == "forward")
            return ast.get_docstring(made) or "", forward
    msg = f"{attribute} is not found; expected a function, or an instance of a class, of that name"
    raise LookupError(msg)


def _signature(forward: ast.FunctionDef) -> str:
    """Write the signature that users call: without self, xp and annotations."""
    given = forward.args
    named = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    kept = [(each, default) for each, default in named if each.arg != "xp"]
    given.kwonlyargs = [each for each, _ in kept]
    given.kw_defaults = [default for _, default in kept]
    given.posonlyargs = [each for each in given.posonlyargs if each.arg != "self"]
    for each in (*given.posonlyargs, *given.args, *given.kwonlyargs):
        each.annotation = None
    return f"({ast.unparse(given)})"


def _page(projects: list[Project]) -> Iterator[str]:
    yield _HEAD
    kinds = [(f"[{each.name}](#{each.name})", each.kind) for each in projects]
    yield from _table(("Package", "Shows"), kinds)
    for project in projects:
        yield from _entry(project)


def _entry(project: Project) -> Iterator[str]:
    sources = [path.relative_to(ROOT).as_posix() for path in project.sources()]
    yield f"\n## {project.name}\n\n{project.introduction}\n\n{project.mathematics}\n"
    yield from _table(
        ("Operator", "Computes"),
        [
            (f"`opgrad.ops.{each.name}{each.signature}`", each.summary.replace("``", "`"))
            for each in project.operators()
        ],
    )
    yield f"\n- Source: {', '.join(f'[{path}](../{path})' for path in sources)}"
    yield f"- Install: `pip install ./{project.folder.relative_to(ROOT).as_posix()}`"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, ["-" * width for width in widths], *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield f"| {' | '.join(cells)} |"


def text() -> str:
    """Return the page as it has to be."""
    folders = sorted(path.parent for path in ROOT.glob("examples/plugins/*/pyproject.toml"))
    return "\n".join(_page([Project(folder) for folder in folders])) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8", newline="\n")
