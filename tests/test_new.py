"""``python -m opgrad.new``: what it writes is whole, passes its own checks, and harms nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from opgrad import new
from opgrad.new import create
from opgrad.new.__main__ import main
from opgrad.new.naming import Names

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"
LONG = "acme-" + "very-" * 10 + "long"

FILES = [
    ".github/dependabot.yml",
    ".github/workflows/cd.yml",
    ".github/workflows/ci.yml",
    ".gitignore",
    ".pre-commit-config.yaml",
    "LICENSE",
    "README.md",
    "docs/index.md",
    "noxfile.py",
    "pyproject.toml",
    "src/acme_ops/__init__.py",
    "src/acme_ops/activation.py",
    "src/acme_ops/py.typed",
    "tests/test_activation.py",
]


def names(folder):
    """Return what is in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


def files(folder):
    """Return the text of every file in a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder to be in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


# --------------------------------------------------------------------------------- its names


@pytest.mark.parametrize(
    ("project", "module", "prefix"),
    [
        ("acme-ops", "acme_ops", "acme"),
        ("acme", "acme", "acme"),
        ("Acme.Wave_ops", "acme_wave_ops", "acme"),
        ("acme--ops2", "acme_ops2", "acme"),
        ("opgrad-acme", "opgrad_acme", "acme"),
    ],
)
def test_module_and_prefix_follow_from_the_name_of_the_project(project, module, prefix):
    assert Names.of(project) == Names(project, module, prefix)


def test_the_prefix_can_be_chosen():
    assert Names.of("acme-ops", "waves") == Names("acme-ops", "acme_ops", "waves")


@pytest.mark.parametrize("project", ["", "acme ops", "-acme", "acme_", "a/b", "..", "acmé", "a\n"])
def test_a_name_that_no_package_may_have_is_refused(project):
    expected = re.escape(f"project name {project!r} is none that a package may have: expected ")
    with pytest.raises(ValueError, match=f"^{expected}.* such as 'acme-ops'$"):
        Names.of(project)


@pytest.mark.parametrize(
    ("project", "module"), [("2-fast", "2_fast"), ("Class", "class"), ("lambda", "lambda")]
)
def test_a_name_whose_module_cannot_be_imported_is_refused(project, module):
    expected = f"^project name '{project}' would make the module '{module}', which cannot be"
    with pytest.raises(ValueError, match=f"{expected} imported: expected .* such as 'acme-ops'$"):
        Names.of(project)


@pytest.mark.parametrize(
    ("project", "shadowed"),
    [
        ("email", "one of the standard library"),
        ("Sys", "one of the standard library"),
        ("NumPy", "one that is installed, .*numpy.__init__.py"),
        ("opgrad-pytest", "one that is installed, .*opgrad_pytest.py"),
    ],
)
def test_a_name_whose_module_would_shadow_another_is_refused(project, shadowed):
    expected = f"^project name '{project}' would make .* which would shadow {shadowed}: expected a"
    with pytest.raises(ValueError, match=f"{expected} name that is free; choose another, such as"):
        Names.of(project)


def test_a_module_that_is_installed_without_an_init_file_is_not_shadowed_either(site):
    (site.path / "acme_ops" / "waves").mkdir(parents=True)
    site.refresh()
    with pytest.raises(ValueError, match="shadow one that is installed, acme_ops: expected"):
        Names.of("acme-ops")


def test_what_lies_in_the_current_folder_is_not_installed(here, monkeypatch):
    (here / "acme_ops.py").touch()
    monkeypatch.syspath_prepend(here)
    assert Names.of("acme-ops").module == "acme_ops"


@pytest.mark.parametrize("prefix", ["", "2d", "acme.waves", "acme-waves", "_acme", "import", "é"])
def test_a_prefix_that_cannot_be_an_attribute_is_refused(prefix):
    expected = re.escape(
        f"prefix {prefix!r} cannot stand in opgrad.ops.{prefix}.softplus: expected"
    )
    with pytest.raises(ValueError, match=f"^{expected} letters .* such as --prefix acme$"):
        Names.of("acme-ops", prefix)


@pytest.mark.parametrize(("project", "prefix"), [("acme-ops", "opgrad"), ("opgrad-opgrad", None)])
def test_opgrads_own_prefix_is_refused(project, prefix):
    with pytest.raises(ValueError, match=r"^prefix 'opgrad' is opgrad's own: expected .* --prefix"):
        Names.of(project, prefix)


def test_a_prefix_that_is_an_operator_is_refused():
    expected = (
        r"^prefix 'sum' is taken: there is an operator 'sum' of opgrad \S+ \(.*\), and "
        "opgrad.ops.sum would be both an operator and yours; choose another with --prefix$"
    )
    with pytest.raises(ValueError, match=expected):
        Names.of("sum-ops")


@pytest.mark.parametrize(
    ("prefix", "owner", "why"),
    [
        (
            "multiply",
            "'mul', alias 'multiply', of opgrad",
            "opgrad.ops.multiply would be both an operator and yours",
        ),
        (
            "acme",
            "'acme.ramp', alias 'acme.softplus', of acme-core",
            "acme.softplus would be claimed twice",
        ),
    ],
)
def test_so_is_one_that_is_an_alias(site, prefix, owner, why):
    ramp = """
        from opgrad import Case, Operator, hookimpl

        class Ramp(Operator):
            aliases = ("softplus",)

            @hookimpl
            def forward(self, x, /):
                return x

            @hookimpl
            def backward(self, grad):
                return grad

            @hookimpl
            def self_check(self, rng):
                yield Case(rng.normal(size=3))

        ramp = Ramp()
    """
    site.install("acme-core", operators={"acme.ramp": "acme_core:ramp"}, acme_core=ramp)
    expected = f"prefix '{prefix}' is taken: there is an operator {owner} .*, and {why}; choose"
    with pytest.raises(ValueError, match=f"^{expected} another with --prefix$"):
        Names.of("acme-ops", prefix)


def test_operators_that_cannot_be_imported_take_no_prefix(site):
    site.install("waves", operators={"acme.ramp": "waves:ramp"}, waves="1 / 0")
    assert Names.of("acme-ops").prefix == "acme"


def test_a_prefix_under_which_another_distribution_has_the_operator_is_refused(site):
    site.install("acme-core", operators={"acme.softplus": "acme_core:softplus"})
    expected = (
        r"^prefix 'acme' is taken: there is an operator 'acme.softplus' of acme-core 1.0 \(.*\), "
        "and acme.softplus would be claimed twice; choose another with --prefix$"
    )
    with pytest.raises(ValueError, match=expected):
        Names.of("acme-ops")


# -------------------------------------------------------------------------------- its folder


def test_it_returns_the_folder_that_it_has_written(here):
    assert create("acme-ops") == Path("acme-ops")
    assert names(here) == ["acme-ops"]


@pytest.mark.parametrize("held", [[], ["notes.txt"]], ids=["empty", "not empty"])
def test_a_folder_that_is_there_stays_as_it_is(here, held):
    (here / "acme-ops").mkdir()
    for name in held:
        (here / "acme-ops" / name).write_text("mine")
    before = files(here)
    with pytest.raises(FileExistsError, match=r"^acme-ops is there already: expected a name that"):
        create("acme-ops")
    assert files(here) == before
    assert names(here) == ["acme-ops"]


def test_so_do_a_file_and_a_link_to_nowhere(here):
    (here / "acme-ops").write_text("mine")
    (here / "acme-waves").symlink_to("nowhere")
    for name in ("acme-ops", "acme-waves"):
        with pytest.raises(FileExistsError, match="choose another, or move what is there out of"):
            create(name)
    assert (here / "acme-ops").read_text() == "mine"
    assert (here / "acme-waves").readlink() == Path("nowhere")


def test_the_folder_counts_before_what_is_installed_from_it(here, site):
    (here / "acme-ops").mkdir()
    (site.path / "acme_ops.py").touch()
    site.refresh()
    with pytest.raises(FileExistsError, match=r"^acme-ops is there already"):
        create("acme-ops")


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(28, "Full")])
@pytest.mark.parametrize("method", ["mkdir", "write_text"])
def test_where_nothing_can_be_written_it_says_so(here, monkeypatch, method, error):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(Path, method, fail)
    expected = (
        f"acme-ops cannot be written in {here}: {error.strerror}; change to a folder that you may "
        "write to, on a disk with space left"
    )
    with pytest.raises(type(error), match=f"^{re.escape(expected)}$"):
        create("acme-ops")
    assert names(here) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no folder that somebody is in")
def test_a_current_folder_that_is_gone_is_told(here, capsys):
    here.rmdir()
    assert main(["acme-ops"]) == 2
    assert capsys.readouterr().err == (
        "opgrad.new: the current folder is not there any more: expected one to write into; change "
        "to another\n"
    )


@pytest.mark.parametrize("error", [OSError("no space is left"), KeyboardInterrupt()])
def test_what_is_interrupted_leaves_nothing(here, monkeypatch, error):
    write, written = new._write, []

    def fail_at_the_fifth(path, text):
        if len(written) == 4:
            raise error
        write(path, text)
        written.append(path)

    monkeypatch.setattr(new, "_write", fail_at_the_fifth)
    with pytest.raises(type(error)):
        create("acme-ops")
    assert len(written) == 4
    assert names(here) == []


def test_a_folder_that_is_made_in_the_meantime_is_not_replaced(here, monkeypatch):
    def write_too(path, _text):
        path.touch()
        (here / "acme-ops").mkdir(exist_ok=True)
        (here / "acme-ops" / "notes.txt").write_text("mine")

    monkeypatch.setattr(new, "_write", lambda path, text: write_too(here / "spare", text))
    with pytest.raises(OSError, match="acme-ops"):
        create("acme-ops")
    assert files(here) == {"spare": "", "acme-ops/notes.txt": "mine"}


# ------------------------------------------------------------------------------- the command


def test_the_command_tells_what_to_run_next(capsys):
    assert main(["acme-ops"]) == 0
    out, err = capsys.readouterr()
    commands = [line.strip() for line in out.splitlines() if line.startswith("    ")]
    assert err == ""
    assert commands == [
        "cd acme-ops",
        'python -m pip install -e ".[dev]"',
        "pytest",
        "python -m opgrad.check --distribution acme-ops",
    ]


def test_the_command_takes_a_prefix(here):
    assert main(["acme-ops", "--prefix", "waves"]) == 0
    assert "opgrad.ops.waves.softplus" in files(here)["acme-ops/README.md"]


@pytest.mark.parametrize("arguments", [["acme ops"], ["acme-ops", "--prefix", "2"], ["taken"]])
def test_the_command_says_why_it_writes_nothing(here, capsys, arguments):
    (here / "taken").mkdir()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, names(here)) == ("", ["taken"])
    assert re.fullmatch(r"opgrad\.new: .*expected.*choose.*\n|opgrad\.new: .*such as.*\n", err)


def test_it_is_a_module_to_run(here):
    command = [sys.executable, "-m", "opgrad.new", "acme-ops"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("acme-ops is written.")
    assert list(files(here / "acme-ops")) == FILES


# --------------------------------------------------------------------------------- the files


@pytest.fixture
def made():
    """The texts of a new package, by path."""
    return files(create("acme-ops"))


def pyproject(made):
    return tomllib.loads(made["pyproject.toml"])


def test_every_file_is_there(made):
    assert list(made) == FILES


def test_nothing_is_left_to_fill_in(made):
    for path, text in made.items():
        assert re.findall(r"\$(?!\{\{ )", text) == [], path
        assert not {"template", "$"} & {*path.split("/")}


def test_every_file_but_the_empty_one_ends_with_one_newline(made):
    assert [path for path, text in made.items() if not text] == ["src/acme_ops/py.typed"]
    for text in made.values():
        assert re.search(r"[^\s]\n\Z|\A\Z", text)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not mark what can be run")
def test_what_can_be_run_is_marked_so(made):
    scripts = {path for path, text in made.items() if text.startswith("#!")}
    assert scripts == {path for path in made if os.access(Path("acme-ops", path), os.X_OK)}
    assert scripts == {"noxfile.py"}


def test_the_project_has_its_names(made):
    project = pyproject(made)["project"]
    assert project["name"] == "acme-ops"
    assert project["entry-points"]["opgrad.operators"] == {"acme.softplus": "acme_ops:softplus"}
    assert f"opgrad>={version('opgrad')}" in project["dependencies"]


@pytest.mark.parametrize(
    ("installed", "required"), [("1.2.0", "1.2.0"), ("1.3.dev4+gabc", "1.3.dev4")]
)
def test_it_requires_the_opgrad_that_wrote_it(monkeypatch, installed, required):
    monkeypatch.setattr(new, "version", {"opgrad": installed}.__getitem__)
    dependencies = pyproject(files(create("acme-ops")))["project"]["dependencies"]
    assert f"opgrad>={required}" in dependencies


def test_no_line_of_code_grows_too_long_with_the_name(here):
    create(LONG)
    lines = [line for path in here.rglob("*.py") for line in path.read_text().splitlines()]
    assert len(lines) > 50
    assert [line for line in lines if len(line) > 100] == []


def test_continuous_integration_runs_every_check_on_every_python_that_opgrad_supports(made):
    workflow = made[".github/workflows/ci.yml"]
    runs = re.findall(r"- run: (.*)", workflow)
    for command in (
        "ruff check",
        "ruff format --check",
        "mypy",
        "pytest",
        "python -m opgrad.check --distribution acme-ops",
    ):
        assert command in runs
    own = (ROOT / ".github/workflows/ci.yml").read_text()
    pythons = re.search(r"python: (\[.*\])", own)[1]
    assert f"python: {pythons}" in workflow
    assert json.loads(pythons)[0] == pyproject(made)["project"]["requires-python"].lstrip(">=")


def test_actions_are_pinned_as_opgrads_own_are(made):
    def used(workflows):
        return {line for text in workflows for line in re.findall(r"uses: (.*)", text)}

    pins = used(text for path, text in made.items() if "/workflows/" in path)
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", pin) for pin in pins)
    assert len(pins) == 5
    assert pins <= used(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))


def test_tools_have_the_versions_of_opgrads_own(made):
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(own["lint"]) <= set(pyproject(made)["project"]["optional-dependencies"]["dev"])

    def hooks(text):
        return set(re.findall(r"repo: (\S+)\n +rev: (\S+)", text))

    theirs = hooks(made[".pre-commit-config.yaml"])
    assert len(theirs) > 5
    assert theirs <= hooks((ROOT / ".pre-commit-config.yaml").read_text())


# --------------------------------------------------------------------------------- its tests


@pytest.fixture
def its_tests(site, made):
    """Run the tests of a new package as if it were installed; return what they did."""
    points = pyproject(made)["project"]["entry-points"]["opgrad.operators"]
    site.install("acme-ops", operators=points)

    def run(*arguments):
        paths = (Path("acme-ops/src").resolve(), site.path)
        return subprocess.run(
            [sys.executable, "-m", "pytest", "--color=no", *arguments],
            cwd="acme-ops",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_its_tests_pass(its_tests):
    done = its_tests("-v")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (
        "tests/test_activation.py::TestSoftplus::test_probe[first_order]",
        "tests/test_activation.py::TestSoftplus::test_probe[second_order]",
        "tests/test_activation.py::test_values_and_derivatives_agree_with_exact_arithmetic",
        "tests/test_activation.py::test_opgrad_finds_it_by_name",
        "src/acme_ops/activation.py::acme_ops.activation.Softplus",
        "README.md::README.md",
        "docs/index.md::index.md",
    ):
        assert f"{name} PASSED" in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "found_by"),
    [
        ("return grad *", "return -grad *", r"test_probe\[first_order\]"),
        ("return grad *", "return 1.0001 * grad *", "exact_arithmetic"),
        ("xp.logaddexp(x, 0.0)", "xp.log1p(xp.exp(x))", "exact_arithmetic"),
    ],
)
def test_its_tests_find_errors(its_tests, right, wrong, found_by):
    changed = 0
    for path in Path("acme-ops/src/acme_ops").glob("*.py"):
        text = path.read_text()
        changed += text.count(right)
        path.write_text(text.replace(right, wrong))
    assert changed == 1
    done = its_tests()
    assert done.returncode == 1
    assert re.search(f"^FAILED tests/.*{found_by}", done.stdout, re.MULTILINE)


# ------------------------------------------------------------------ in an environment of its own


#: Settings of this environment that would be felt in another one.
FOREIGN = {"PYTHONPATH", "PYTHONWARNINGS", "PYTEST_ADDOPTS", "OPGRAD_DISABLE", "FORCE_COLOR"}


class Environment:
    """A fresh virtual environment, with opgrad and what its own copy of the command wrote."""

    def __init__(self, folder):
        self.project = folder / "acme-ops"
        self._programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        self._settings = {name: os.environ[name] for name in os.environ.keys() - FOREIGN}
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        self.pip("install", "--no-compile", ROOT)
        self.run("python", "-m", "opgrad.new", "acme-ops", cwd=folder)
        reviewers = ("repo-review[cli]", "sp-repo-review")
        self.pip("install", "--no-compile", "-e", f"{self.project}[dev]", *reviewers)

    def run(self, program, *arguments, cwd=None, **settings):
        """Run one of its programs, in the project, to a good end; return what it says."""
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=cwd or self.project,
            env={**self._settings, **settings},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, f"{program} {arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def pip(self, *arguments):
        self.run("python", "-m", "pip", "--disable-pip-version-check", *arguments, cwd=ROOT)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("environment"))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("pytest", r"\d passed, \d+ skipped in"),
        ("ruff check", "All checks passed!"),
        ("ruff format --check", r"\d files already formatted"),
        ("mypy --strict", "Success: no issues found in 3 source files"),
        ("python -m opgrad.check --distribution acme-ops", "1 of 1 operators passed"),
    ],
)
def test_freshly_written_and_installed_it_passes(environment, command, says):
    assert re.search(says, environment.run(*command.split()))


def test_repo_review_finds_nothing_against_it(environment):
    checks = json.loads(environment.run("repo-review", ".", "--format", "json"))["checks"]
    results = [check["result"] for check in checks.values()]
    assert [name for name, check in checks.items() if check["result"] is False] == []
    assert results.count(True) > 50


@pytest.mark.parametrize("page", ["its README", "the tutorial"])
def test_nox_runs_with_an_opgrad_that_is_not_on_the_index_as_they_tell(environment, page):
    told = {"its README": environment.project / "README.md", "the tutorial": TUTORIAL}[page]
    text = told.read_text(encoding="utf-8")
    wheel, nox = re.search(r"^(.*pip wheel .*)\n(.* nox)\n```$", text, re.MULTILINE).groups()
    _, arguments = wheel.replace("/path/to/opgrad", ROOT.as_posix()).split("pip ")
    environment.run("pip", *arguments.split())
    *settings, program = nox.split()
    said = environment.run(program, "-s", "tests", **dict(each.split("=") for each in settings))
    assert "1 of 1 operators passed" in said


def test_its_source_distribution_leaves_the_wheels_of_others_out(environment):
    (environment.project / "wheels").mkdir(exist_ok=True)
    (environment.project / "wheels" / "opgrad.whl").touch()
    environment.run("nox", "-s", "build", "--", "--sdist", "--outdir", "sdist")
    (path,) = (environment.project / "sdist").iterdir()
    with tarfile.open(path) as archive:
        tops = {name.split("/")[1] for name in archive.getnames()}
    assert {"src", "tests", "docs"} < tops
    assert "wheels" not in tops


def test_its_wheel_holds_the_module_its_types_its_licence_and_the_entry_point(environment):
    dist = environment.project / "dist"
    environment.pip("wheel", "--no-deps", "--wheel-dir", dist, environment.project)
    (path,) = dist.iterdir()
    with zipfile.ZipFile(path) as wheel:
        info = "acme_ops-0.1.0.dist-info"
        assert set(wheel.namelist()) == {
            "acme_ops/__init__.py",
            "acme_ops/activation.py",
            "acme_ops/py.typed",
            *(f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")),
            f"{info}/licenses/LICENSE",
        }
        points = wheel.read(f"{info}/entry_points.txt").decode()
    assert points.split("\n")[:2] == [
        "[opgrad.operators]",
        "acme.softplus = acme_ops:softplus",
    ]


def test_it_is_typed_for_those_who_import_it(environment, tmp_path):
    (tmp_path / "use.py").write_text("import acme_ops\n\nreveal_type(acme_ops.softplus)\n")
    out = environment.run("mypy", "--strict", "use.py", cwd=tmp_path)
    assert 'Revealed type is "acme_ops.activation.Softplus"' in out
