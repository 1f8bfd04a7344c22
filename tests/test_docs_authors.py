"""What the pages for authors show is so: the tutorial's commands, the examples' lines, the gallery.

The examples with ``>>>`` in them are run as they stand, as doctests.
"""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIAL = (DOCS / "tutorial.md").read_text(encoding="utf-8")
HOWTO = (DOCS / "howto.md").read_text(encoding="utf-8")

#: Settings of this environment that would be felt in the commands.
FOREIGN = re.compile("OPGRAD_|PYTEST_ADDOPTS|PYTHONWARNINGS")


def blocks(text):
    """Return the language, the text and the paragraph before each block of code."""
    found = re.finditer(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [
        (each[1], each[2], text[: each.start()].strip().rpartition("\n\n")[2]) for each in found
    ]


def section(text, title):
    """Return what stands under a heading, down to the next."""
    return text.split(f"\n## {title}\n")[1].partition("\n## ")[0]


def commands(console):
    """Return each command of a block, with the output that it shows."""
    parts = re.split(r"^\$ (.*)\n", console, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def without_rules(text):
    """Leave out the line under the heads of a table, which rich draws otherwise."""
    return re.sub(r"^[-─ ]+$", "", text, flags=re.MULTILINE)


class Shell:
    """Runs the commands of a page, with this Python for whichever the page has installed."""

    def __init__(self, site, folder):
        self.site = site
        self.folder = folder

    def run(self, command, expected):
        """Run one command, and see that it says what the page shows."""
        program, *arguments = shlex.split(command)
        if program == "cd":
            self.folder /= arguments[0]
            return
        assert program in ("python", "pytest")
        arguments[:0] = ["-m", "pytest", "-p", "no:cacheprovider"] if program == "pytest" else []
        paths = [self.folder / "src", self.site.path]
        settings = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        settings |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "100"}
        settings["OPGRAD_VERIFICATIONS"] = str(self.site.path / "verifications")
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**settings, "FORCE_COLOR": "", "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=False,
            encoding="utf-8",
        )
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        pair = without_rules(expected).strip(), without_rules(done.stdout).strip()
        fits = doctest.OutputChecker().check_output(*pair, flags)
        assert fits, f"$ {command}\n{done.stdout}\n{done.stderr}"

    def install(self):
        """Do what pip does with the entry points of the folder's project."""
        project = tomllib.loads((self.folder / "pyproject.toml").read_text())["project"]
        for metadata in self.site.path.glob("*.dist-info"):
            shutil.rmtree(metadata)
        points = project["entry-points"]["opgrad.operators"]
        self.site.install(project["name"], project["version"], operators=points)

    def write(self, before, text):
        """Make a file what a block shows it to be, or a table in it."""
        path = self.folder / re.findall(r"`([\w/]+\.\w+)`", before)[0]
        if path.suffix == ".toml":
            table = text.partition("\n")[0]
            old = re.search(rf"^{re.escape(table)}\n(?:.+\n)+", path.read_text(), re.MULTILINE)[0]
            text = path.read_text().replace(old, text)
        path.write_text(text, encoding="utf-8")

    def change(self, before, text):
        """Replace lines of a file as a block shows."""
        path = self.folder / re.findall(r"`([\w/]+\.\w+)`", before)[0]
        old, new = (re.findall(rf"^[{sign}](.*)", text, re.MULTILINE) for sign in "-+")
        whole = path.read_text()
        assert whole.count("\n".join(old)) == 1
        path.write_text(whole.replace("\n".join(old), "\n".join(new)))


@pytest.fixture
def shell(site, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return Shell(site, folder)


# ------------------------------------------------------------------------------- the tutorial


def test_the_tutorial_leads_where_it_says(shell):
    for language, text, before in blocks(TUTORIAL):
        if language == "console":
            for command, expected in commands(text):
                shell.run(command, expected)
        elif language == "diff":
            shell.change(before, text)
        elif language in ("python", "toml"):
            shell.write(before, text)
        elif "pip install -e" in text:
            shell.install()


def test_the_tutorial_tells_of_every_file(shell):
    shell.run("python -m opgrad.new acme-ops", "...")
    folder = shell.folder / "acme-ops"
    there = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    told = re.findall(r"^\| `(.*?)`", section(TUTORIAL, "Start"), re.MULTILINE)
    assert sorted(told) == sorted(there)


# --------------------------------------------------------------------------------- the how-to


def excerpts():
    """Return the file and the text of each block that shows lines of a file."""
    linked = [
        (re.search(r"\]\((\.\./.*?\.py)\)", before), text) for _, text, before in blocks(HOWTO)
    ]
    return [(file[1], text) for file, text in linked if file]


def test_every_example_package_is_shown():
    shown = {Path(file).parts[3] for file, _ in excerpts() if "plugins" in Path(file).parts}
    assert shown == {path.name for path in ROOT.glob("examples/plugins/*")}


@pytest.mark.parametrize(("file", "text"), [pytest.param(*each, id=each[0]) for each in excerpts()])
def test_what_is_shown_stands_in_the_source(file, text):
    source = (DOCS / file).read_text(encoding="utf-8")
    end = 0
    for part in re.split(r"^\.\.\.\n", text, flags=re.MULTILINE):
        start = source.find(part.strip("\n"), end)
        assert start >= 0, f"{file} has no such lines, or in another order:\n{part}"
        end = start + len(part)


def test_the_override_is_verified_and_listed_as_shown(shell):
    shown = {language: text for language, text, _ in blocks(section(HOWTO, "Override an operator"))}
    points = tomllib.loads(shown["toml"])["project"]["entry-points"]["opgrad.overrides"]
    shell.site.install("quick-ops", overrides=points, quick_ops=shown["python"])
    for command, expected in commands(shown["console"]):
        shell.run(command, expected)


# -------------------------------------------------------------------------------- the gallery


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gallery"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gallery"]


def test_the_gallery_is_up_to_date(gallery):
    written = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert written == gallery.text(), "run `python docs/gallery.py`"


@pytest.mark.parametrize(
    "folder",
    # Numba, which dtw-ops needs, is not among what the tests require.
    sorted(path for path in ROOT.glob("examples/plugins/*") if path.name != "dtw-ops"),
    ids=lambda path: path.name,
)
def test_it_shows_the_signatures_that_the_operators_have(gallery, folder, monkeypatch):
    monkeypatch.syspath_prepend(folder / "src")
    project = gallery.Project(folder)
    for shown in project.operators():
        module, _, attribute = project.points[shown.name].partition(":")
        operator = getattr(importlib.import_module(module), attribute)
        given = inspect.signature(operator)
        plain = [each.replace(annotation=each.empty) for each in given.parameters.values()]
        assert shown.signature == str(inspect.Signature(plain))
        assert inspect.getdoc(type(operator)).startswith(shown.summary)
        del sys.modules[module]


def test_an_operator_that_is_not_there_is_an_error(gallery, tmp_path):
    text = '[project]\nname = "x"\n[project.entry-points."opgrad.operators"]\n"x.y" = "x:y"\n'
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "x.py").write_text("z = 1\n")
    (tmp_path / "README.md").write_text("# x\n")
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(LookupError, match=r"^y is not found; expected a function, or an instance"):
        list(gallery.Project(tmp_path).operators())
