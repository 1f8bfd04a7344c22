"""The page on how opgrad is built names every room, by the first line of its file."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"^\| `(.*?)` +\| (.*?) +\|$", PAGE, re.MULTILINE)


def files():
    """Return the files by the names that the page has for them."""
    found = {}
    for path in [*ROOT.glob("opgrad/**/*.py"), *ROOT.glob("opgrad_plugins/**/*.py")]:
        place = path.relative_to(ROOT).with_suffix("").as_posix().removesuffix("/__init__")
        found[place.removeprefix("opgrad/")] = path
    return found


def test_every_file_is_a_room_once_and_nothing_else_is():
    both_packages = {"opgrad", "opgrad_plugins"}
    assert sorted(name for name, _ in ROOMS) == sorted({*files()} - both_packages)


@pytest.mark.parametrize(("name", "what"), ROOMS, ids=[name for name, _ in ROOMS])
def test_a_room_is_what_the_first_line_of_its_file_says(name, what):
    text = ast.get_docstring(ast.parse(files()[name].read_text(encoding="utf-8")))
    assert what == text.splitlines()[0].replace("``", "`")
