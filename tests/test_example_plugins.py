"""The packages in ``examples/plugins/``: built, installed where opgrad's source is not, verified.

Their own tests say what is special about each: values from another library, an adjoint in closed
form, the error of a second derivative that there is not. Here they are run as a user has them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = sorted(path.parent for path in ROOT.glob("examples/plugins/*/pyproject.toml"))

each_project = pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)

# One environment serves all; without a group, every worker of pytest-xdist would make its own.
pytestmark = pytest.mark.xdist_group("example_plugins")


#: The kind of operator that each is an example of.
SHOWN = {
    "bessel-ops": "It shows how to **wrap C through `ctypes`**",
    "dtw-ops": "It shows **a kernel compiled by Numba with a hand-written adjoint**",
    "elliptic-ops": "It shows **several outputs**",
    "lambert-ops": "It shows the one-function case: **a decorator",
    "lotka-ops": "It shows **SciPy's `solve_ivp` with the adjoint equation for a backward**",
    "means-ops": "It shows **variadic inputs**",
    "robust-ops": "It shows a formula with **static parameters that are validated**",
    "simplex-ops": "It shows **residuals**",
}


class Environment:
    """A virtual environment of its own, and wheels to install into it."""

    def __init__(self, path: Path) -> None:
        venv.create(path / "venv", with_pip=True)
        self.path = path
        self.wheels = path / "wheels"
        self.python = path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"

    def run(self, *arguments, cwd=None):
        """Run its Python, which sees nothing of the folder that the tests are run in."""
        return subprocess.run(
            [self.python, "-I", *map(str, arguments)],
            capture_output=True,
            check=False,
            cwd=cwd or self.path,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )

    def pip(self, *arguments):
        """Run its pip, which has to succeed."""
        done = self.run("-m", "pip", "--disable-pip-version-check", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    def wheel(self, project):
        """Return the wheel of a project."""
        [wheel] = self.wheels.glob(f"{name_of(project).replace('-', '_')}-*.whl")
        return wheel


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """A fresh environment with the wheels of opgrad and of all packages."""
    made = Environment(tmp_path_factory.mktemp("plugins"))
    made.pip("wheel", "--no-deps", "--wheel-dir", made.wheels, ROOT, *PROJECTS)
    made.pip("install", made.wheel(ROOT), *(f"{made.wheel(each)}[test]" for each in PROJECTS))
    return made


def metadata_of(project):
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name_of(project):
    return metadata_of(project)["name"]


def module_of(project):
    return name_of(project).replace("-", "_")


class TestEachPackage:
    @each_project
    def test_passes_the_verifier(self, environment, project):
        done = environment.run("-m", "opgrad.check", "--distribution", name_of(project))
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        for operator in metadata_of(project)["entry-points"]["opgrad.operators"]:
            assert operator in done.stdout

    @each_project
    def test_passes_its_own_tests_without_warnings(self, environment, project, tmp_path):
        shutil.copytree(project / "tests", tmp_path / "tests")
        shutil.copy(project / "README.md", tmp_path)
        options = ["-W", "error", "-p", "no:cacheprovider", "--strict-markers"]
        options += ["--doctest-modules", "--doctest-glob=*.md"]
        paths = ["tests", "README.md", "--pyargs", module_of(project)]
        done = environment.run("-m", "pytest", "-q", *options, *paths, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr

    @each_project
    def test_is_what_was_installed(self, environment, project):
        script = f"import opgrad, {module_of(project)} as it; print(opgrad.__file__, it.__file__)"
        done = environment.run("-c", script)
        assert done.stderr == ""
        for file in done.stdout.split():
            assert Path(file).is_relative_to(environment.path)

    @each_project
    def test_brings_its_types_along_and_not_its_tests(self, environment, project):
        names = ZipFile(environment.wheel(project)).namelist()
        assert f"{module_of(project)}/py.typed" in names
        assert {name.partition("/")[0].partition("-")[0] for name in names} == {module_of(project)}


class TestTheReadmes:
    """The gallery is made of their first paragraphs."""

    def test_are_of_all_kinds_of_operators(self):
        assert [project.name for project in PROJECTS] == list(SHOWN)

    @each_project
    def test_say_first_what_the_package_shows(self, project):
        title, paragraph, *_ = (project / "README.md").read_text(encoding="utf-8").split("\n\n")
        assert title == f"# {name_of(project)}"
        assert SHOWN[project.name] in " ".join(paragraph.split())
