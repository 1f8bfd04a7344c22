"""``python -m opgrad``: operators in each state, all of one, its picture; what cannot stop it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from scipy import special

import opgrad
from opgrad import Case, Operator, hookimpl, requirements, trust
from opgrad.__main__ import main
from opgrad.fingerprint import Installed, combined
from opgrad.registry import registry
from opgrad.showing import describing, plotting, states, terminal
from opgrad.showing.guarding import Guard

VERSION = importlib.metadata.version("opgrad")

OPERATOR = '''
from math import inf
from opgrad import Case, Operator, hookimpl
import numpy as np

class Scaled(Operator):
    """The cube root's inverse.

    And a second line.
    """

    aliases = ("cubed", "third")
    residuals = ("square",)
    method = True
    domain = {"x": (0, inf)}

    @hookimpl
    def forward(self, x, /, scale=1.0):
        return scale * x * x * x, x * x

    @hookimpl
    def backward(self, grad, square, scale):
        return 3 * scale * grad * square

    @hookimpl
    def self_check(self, rng):
        for scale in (2.0, 3.0):
            yield Case(rng.uniform(0.5, 2, size=(2, 3)), scale=scale)

cube = Scaled()
'''

#: Modules, each with an operator that cannot be had, and what is then said of it.
BROKEN = {
    "raises": ("1 / 0", "ZeroDivisionError: division by zero"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "crashes": ("import os; os._exit(7)", "it ended the process that imported it, with the exit"),
    "hangs": ("while True: pass", "it took longer than the time limit of 2 s"),
    "lacks": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "misses": ("", "AttributeError: module 'acme_misses' has no attribute 'f'"),
    "number": ("f = 3", "expected an instance of a subclass of opgrad.Operator"),
    "closes": ("import os; os.closerange(3, 100)\nf = 1", "it ended the process that imported it"),
}
PRINTS = OPERATOR + "\nprint('hello from acme')\nimport os; os.write(1, b'and from C')\n"
QUICK = ["--load", "--time-limit", "2"]

OVERRIDE = """
from opgrad import hookimpl
from opgrad_plugins.linalg import Matmul

class FastMatmul(Matmul):
    @hookimpl
    def forward(self, a, b, /, *, xp):
        return xp.matmul(a, b)

matmul = FastMatmul()
"""
TRAP = "raise AssertionError('imported')"


@pytest.fixture
def acme(site):
    site.install("acme-ops", "2.1", operators={"acme.cube": "acme_ops:cube"}, acme_ops=OPERATOR)
    return site


@pytest.fixture
def broken(acme):
    operators = {f"acme.{name}": f"acme_{name}:f" for name in BROKEN}
    modules = {f"acme_{name}": source for name, (source, _) in BROKEN.items()}
    acme.install("acme-broken", "0.3", operators=operators, **modules)
    acme.install("loud", operators={"loud.cube": "loud_ops:cube"}, loud_ops=PRINTS)
    return acme


@pytest.fixture
def listed(capsys):
    """Run the listing; return its lines by operator and distribution, as JSON has them."""

    def listed(*arguments):
        assert main([*arguments, "--json"]) == 0
        lines = json.loads(capsys.readouterr().out)["operators"]
        found = {(line["name"], line["distribution"]): line for line in lines}
        assert len(found) == len(lines)
        return found

    return listed


@pytest.fixture
def shown(capsys):
    """Run ``show``; return what it prints."""

    def shown(*arguments, code=0):
        assert main(["show", *arguments]) == code
        return capsys.readouterr().out

    return shown


@pytest.fixture
def complaint(capsys):
    """Run a command that cannot be done; return what it says on standard error."""

    def complaint(*arguments):
        assert main(arguments) == 2
        printed, said = capsys.readouterr()
        assert printed == ""
        assert said.startswith("opgrad: ")
        assert said.count("\n") == 1
        return said

    return complaint


def command(site, *arguments, **environment):
    """Run ``python -m opgrad`` in an interpreter of its own, in which warnings are errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "opgrad", *arguments],
        env={**os.environ, "PYTHONPATH": str(site.path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


# -------------------------------------------------------------------------------- the states


class TestStates:
    def test_are_read_off_the_metadata_and_nothing_is_imported(self, site):
        site.install("acme", "2.5", operators={"acme.f": "acme_trap:f"}, acme_trap=TRAP)
        code = (
            "import sys; from opgrad.__main__ import main; main(['--json']); main([])\n"
            "names = [n for n in sys.modules if n.startswith(('opgrad_plugins', 'acme'))]\n"
            "sys.stderr.write(str(names))"
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env={**os.environ, "PYTHONPATH": str(site.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == "[]"

    def test_lazy_is_what_can_be_used_but_was_not_yet(self, acme, listed):
        assert listed()["acme.cube", "acme-ops"] == {
            "name": "acme.cube",
            "family": "acme: acme_ops",
            "distribution": "acme-ops",
            "version": "2.1",
            "entry_point": "acme_ops:cube",
            "state": "lazy",
            "why": "",
            "overrides": None,
            "overridden_by": None,
            "details": None,
            "speed": None,
        }

    def test_are_there_for_each_of_opgrads_own(self, listed):
        declared = importlib.metadata.distribution("opgrad").entry_points.select(
            group="opgrad.operators"
        )
        lines = listed("--distribution", "opgrad")
        assert {(name, line["entry_point"]) for (name, _), line in lines.items()} == {
            (point.name, point.value) for point in declared
        }
        assert {line["state"] for line in lines.values()} == {"lazy"}
        assert lines["mul", "opgrad"]["family"] == "arithmetic"

    def test_overridden_names_the_override_and_the_override_its_base(self, site, listed):
        site.install("fast-ops", "1.2", overrides={"matmul": "fast_ops:matmul"}, fast_ops=OVERRIDE)
        for load, state in (([], "lazy"), (["--load"], "loaded")):
            lines = listed("matmul", *load)
            base, override = lines["matmul", "opgrad"], lines["matmul", "fast-ops"]
            assert (base["state"], override["state"]) == ("overridden", state)
            assert base["overridden_by"]["distribution"] == "fast-ops"
            assert base["overridden_by"]["version"] == "1.2"
            assert override["overrides"]["entry_point"] == "opgrad_plugins.linalg:matmul"
            assert override["family"] == base["family"] == "linalg"
            assert base["overrides"] is override["overridden_by"] is None

    def test_blocked_is_what_the_command_blocks_for_one_run(self, acme, listed):
        assert listed("--disable", "acme-ops")["acme.cube", "acme-ops"]["state"] == "blocked"
        lines = listed("--disable", "acme.cube", "--load", "acme.cube")
        assert lines["acme.cube", "acme-ops"]["state"] == "blocked"
        assert "--disable" in lines["acme.cube", "acme-ops"]["why"]
        assert listed()["acme.cube", "acme-ops"]["state"] == "lazy"
        assert "acme_ops" not in sys.modules

    def test_blocked_is_what_the_environment_blocks(self, acme, listed, monkeypatch):
        monkeypatch.setenv("OPGRAD_DISABLE", "exp")
        monkeypatch.setenv("OPGRAD_DISABLE_PLUGIN_AUTOLOAD", "1")
        lines = listed()
        states = {name: line["state"] for (name, _), line in lines.items()}
        assert (states["exp"], states["acme.cube"], states["mul"]) == ("blocked", "blocked", "lazy")

    def test_a_blocked_override_brings_the_base_back(self, site, listed):
        site.install("fast-ops", "1.2", overrides={"matmul": "fast_ops:matmul"}, fast_ops=TRAP)
        lines = listed("matmul", "--disable", "matmul@fast-ops", "--load")
        assert lines["matmul", "opgrad"]["state"] == "loaded"
        assert lines["matmul", "fast-ops"]["state"] == "blocked"

    def test_blocked_is_a_distribution_however_its_name_is_spelled(self, acme, listed):
        lines = listed("--disable", "Acme_OPS", "--distribution", "acme.ops")
        assert lines["acme.cube", "acme-ops"]["state"] == "blocked"

    @pytest.mark.parametrize("metadata", ["Name: acme-odd", "Version: 1.0", "Author: \xe9"])
    def test_are_told_where_the_metadata_is_damaged(self, site, metadata):
        site.install("acme-odd", operators={"odd.cube": "acme_odd:cube"}, acme_odd=OPERATOR)
        (site.path / "acme_odd-1.0.dist-info" / "METADATA").write_bytes(metadata.encode("latin-1"))
        for arguments in (["odd"], ["odd", "--json"], ["show", "odd.cube"]):
            done = command(site, *arguments)
            assert (done.returncode, done.stderr) == (0, "")
            assert "odd.cube" in done.stdout

    def test_failed_are_both_that_claim_one_name(self, acme, listed):
        acme.install("acme-too", "9", operators={"acme.cube": "acme_too:f"}, acme_too=TRAP)
        for load in ([], ["--load"]):
            lines = listed("acme", *load)
            for distribution in ("acme-ops", "acme-too"):
                line = lines["acme.cube", distribution]
                assert line["state"] == "failed"
                assert "acme-ops 2.1" in line["why"]
                assert "acme-too 9" in line["why"]

    def test_failed_is_a_name_without_prefix_and_an_override_of_nothing(self, site, listed):
        points = {"operators": {"cube": "acme:f"}, "overrides": {"acme.no": "acme:f"}}
        site.install("acme-ops", "2.1", **points, acme=TRAP)
        lines = listed("--distribution", "acme_ops")
        assert [line["state"] for line in lines.values()] == ["failed", "failed"]
        assert "needs a prefix" in lines["cube", "acme-ops"]["why"]
        assert "no distribution has one" in lines["acme.no", "acme-ops"]["why"]

    def test_failed_is_what_requires_something_that_is_not_there(self, site, listed):
        pytest.importorskip("packaging", reason="the extra `plugins` is not installed")
        site.install("greedy", "2.1", operators={"acme.f": "acme_trap:f"}, acme_trap=TRAP)
        with (site.path / "greedy-2.1.dist-info" / "METADATA").open("a") as metadata:
            metadata.write("Requires-Dist: numpy>=99\n")
        for load in ([], ["--load"]):
            line = listed("acme", *load)["acme.f", "greedy"]
            assert line["state"] == "failed"
            assert f"numpy>=99, and numpy {np.__version__} is installed" in line["why"]

    def test_tell_of_requirements_that_nobody_compares(self, site, monkeypatch, capsys):
        requires = ("numpy>=99",)
        site.install("greedy", "2.1", operators={"acme.f": "f:f"}, requires=requires, f=TRAP)
        monkeypatch.setattr(requirements, "readable", lambda: False)
        monkeypatch.setattr(terminal, "has_rich", lambda: False)
        assert main(["acme"]) == 0
        assert "lazy: numpy>=99 is not compared with what is installed" in capsys.readouterr().out

    def test_failed_is_what_is_not_verified_where_that_is_required(self, acme, listed, monkeypatch):
        monkeypatch.setenv("OPGRAD_REQUIRE_VERIFIED", "1")
        monkeypatch.setenv("OPGRAD_ATTESTATIONS", str(acme.path))
        line = listed("acme")["acme.cube", "acme-ops"]
        assert line["state"] == "failed"
        assert "is not verified: there is no attestation" in line["why"]

    def test_loaded_is_what_was_imported_with_what_it_then_tells(self, acme, listed):
        line = listed("acme", "--load")["acme.cube", "acme-ops"]
        assert line["state"] == "loaded"
        assert line["details"] == {"aliases": ["cubed", "third"], "method": True, "printed": ""}
        assert "acme_ops" not in sys.modules

    @pytest.mark.parametrize("name", BROKEN)
    def test_failed_says_why_and_the_others_are_loaded(self, broken, name, listed):
        lines = listed(f"acme.{name}", "acme.cube", "mul", *QUICK)
        assert lines["acme.cube", "acme-ops"]["state"] == "loaded"
        assert lines["mul", "opgrad"]["state"] == "loaded"
        line = lines[f"acme.{name}", "acme-broken"]
        assert line["state"] == "failed"
        assert BROKEN[name][1] in line["why"]

    def test_of_an_operator_that_prints_are_not_in_disorder(self, broken):
        done = command(broken, "loud", "mul", "--load", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        mul, loud = json.loads(done.stdout)["operators"]
        assert (mul["name"], loud["name"]) == ("mul", "loud.cube")
        assert (mul["details"]["printed"], loud["state"]) == ("", "loaded")
        assert "hello from acme" in loud["details"]["printed"]
        assert "and from C" in loud["details"]["printed"]


# ---------------------------------------------------------------------------- which of them


class TestOperatorsAreChosen:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["log*"], ["log", "log1p", "logaddexp"]),
            (["mul", "acme.c?be"], ["mul", "acme.cube"]),
            (["acme"], ["acme.cube"]),
            (["--distribution", "ACME_ops"], ["acme.cube"]),
            (["sin", "--distribution", "opgrad", "--distribution", "acme-ops"], ["sin"]),
        ],
        ids=" ".join,
    )
    def test_by_name_pattern_prefix_and_distribution(self, acme, arguments, expected, listed):
        assert [name for name, _ in listed(*arguments)] == expected

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["mull"], "no operator here is called 'mull'; did you mean 'mul'?"),
            (["mul", "acme.*"], "no operator here is called 'acme.*'"),
            (["--distribution", "acme"], "no operator here is of distribution 'acme'; there are ["),
            (["--disable", "mull"], "--disable: 'mull' is neither an operator nor a distribution"),
            (["show", "logg"], "no installed distribution has an operator 'logg'; did you mean"),
            (["show", "nothing.like.it"], "no installed distribution has an operator 'nothing."),
        ],
        ids=" ".join,
    )
    def test_and_what_there_is_not_is_told(self, arguments, message, complaint):
        assert message in complaint(*arguments)

    def test_and_without_any_it_says_how_to_have_some(self, monkeypatch, complaint):
        monkeypatch.setattr(registry, "entries", dict)
        assert "no operators are installed" in complaint()

    def test_names_that_are_unknown_end_without_a_traceback(self, acme):
        done = command(acme, "show", "acme.cub")
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == (
            "opgrad: no installed distribution has an operator 'acme.cub'; did you mean "
            "'acme.cube'?\n"
        )


# ------------------------------------------------------------------------------ how it looks


class TestTheTable:
    def test_is_plain_text_without_rich(self, acme, monkeypatch, capsys):
        monkeypatch.setattr(terminal, "has_rich", lambda: False)
        acme.install("fast-ops", "1.2", overrides={"sin": "fast_ops:sin"}, fast_ops=TRAP)
        assert main(["sin", "cos", "acme"]) == 0
        assert capsys.readouterr().out == (
            "family          operator   distribution  version  state\n"
            "--------------  ---------  ------------  -------  ----------------------------\n"
            f"elementwise     cos        opgrad        {VERSION}    lazy\n"
            f"                sin        opgrad        {VERSION}    overridden by fast-ops 1.2\n"
            f"                sin        fast-ops      1.2      lazy: overrides opgrad {VERSION}\n"
            "acme: acme_ops  acme.cube  acme-ops      2.1      lazy\n"
            "4 in all: 3 lazy, 1 overridden\n"
        )

    def test_has_the_same_cells_with_rich(self, acme, capsys):
        pytest.importorskip("rich", reason="the extra `rich` is not installed")
        assert main(["cos", "acme", "--load"]) == 0
        _, heads, _rule, cos, acme_cube, _, summary = capsys.readouterr().out.splitlines()
        assert heads.split()[-3:] == ["state", "aliases", "method"]
        assert cos.split() == ["elementwise", "cos", "opgrad", VERSION, "loaded", "yes"]
        assert acme_cube.split("acme_ops")[1].split() == [
            "acme.cube", "acme-ops", "2.1", "loaded", "cubed,", "third", "yes",
        ]  # fmt: skip
        assert summary == "2 in all: 2 loaded"

    @pytest.mark.parametrize("rich", [True, False])
    def test_says_why_something_failed(self, broken, rich, monkeypatch, capsys):
        if not rich:
            monkeypatch.setattr(terminal, "has_rich", lambda: False)
        assert main(["acme.raises", "loud", "--load"]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "failed: ZeroDivisionError: division by zero" in printed
        assert "loaded: prints" in printed
        assert "1 failed, 1 loaded" in printed

    @pytest.mark.parametrize("module", ["__init__", "box", "other"])
    def test_is_plain_where_rich_raises_or_is_not_whole(self, acme, module):
        (acme.path / "rich").mkdir()
        (acme.path / "rich" / "__init__.py").touch()
        (acme.path / "rich" / f"{module}.py").write_text("1 / 0")
        done = command(acme, "acme")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[1].startswith("------")

    def test_is_never_wide_and_nothing_of_it_is_cut(self, site, monkeypatch, capsys):
        monkeypatch.setattr(terminal, "has_rich", lambda: False)
        site.install("greedy", operators={"cube": "acme_greedy:f"}, acme_greedy=TRAP)
        assert main(["cube"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) < 160
        assert len(lines) > 4
        state = lines[0].index("state")
        (line,) = states.chosen(states.lines(), ["cube"])
        assert " ".join(each[state:].strip() for each in lines[2:-1]) == line.status

    def test_is_coloured_where_colours_are_wanted(self, acme):
        pytest.importorskip("rich", reason="the extra `rich` is not installed")
        done = command(acme, "acme", "--load", FORCE_COLOR="1", COLUMNS="100", TERM="xterm")
        assert "\x1b[32mloaded" in done.stdout


class TestJson:
    def test_to_a_file_leaves_the_table_where_it_was(self, tmp_path, capsys):
        file = tmp_path / "operators.json"
        assert main(["mul", "--json", str(file)]) == 0
        assert "1 in all: 1 lazy" in capsys.readouterr().out
        (line,) = json.loads(file.read_text())["operators"]
        assert line["name"] == "mul"

    @pytest.mark.parametrize("target", [["--json"], ["--json", "-"]], ids=" ".join)
    def test_to_standard_output_is_alone_there(self, acme, target):
        done = command(acme, "acme", *target)
        assert [line["name"] for line in json.loads(done.stdout)["operators"]] == ["acme.cube"]
        assert (done.returncode, done.stderr) == (0, "")

    def test_is_not_written_over_a_name_that_follows_by_mistake(
        self, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as stop:
            main(["--json", "mul"])
        assert stop.value.code == 2
        assert "FILE is 'mul'; expected a name that ends in .json" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_needs_a_folder_to_be_written_to(self, tmp_path, capsys):
        file = tmp_path / "no" / "operators.json"
        assert main(["mul", "--json", str(file)]) == 2
        assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], ["python -m opgrad show NAME", "opgrad.check", "opgrad.new", "--disable"]),
        (["show", "--help"], ["--plot FILE", "exit code: 0 shown"]),
        (["--version"], [f"opgrad {VERSION}\n"]),
    ],
    ids=" ".join,
)
def test_it_explains_itself(arguments, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert [each for each in said if each not in printed] == []


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_limit_is_a_positive_number(seconds, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--load", "--time-limit", seconds])
    assert stop.value.code == 2
    assert "--time-limit" in capsys.readouterr().err


# ------------------------------------------------------------------------------ one operator


class TestShow:
    def test_tells_all_there_is(self, acme, shown, monkeypatch):
        monkeypatch.chdir(acme.path)
        assert shown("acme.cube") == (
            "acme.cube(x, /, scale=1.0)\n"
            "The cube root's inverse.\n"
            "\n"
            "And a second line.\n"
            "\n"
            "  distribution  acme-ops 2.1\n"
            "  entry point   acme_ops:cube\n"
            "  family        acme: acme_ops\n"
            "  state         loaded\n"
            "  aliases       cubed, third\n"
            "  gradients     x by backward\n"
            "  saves         square, scale\n"
            "  residuals     square\n"
            "  flags         differentiable, method\n"
            "  domain        0 < x\n"
            "  verification  never verified here\n"
            "  attestation   never attested\n"
            "\n"
            "forward  acme_ops.py:17\n"
            "    @hookimpl\n"
            "    def forward(self, x, /, scale=1.0):\n"
            "        return scale * x * x * x, x * x\n"
            "\n"
            "backward  acme_ops.py:21\n"
            "    @hookimpl\n"
            "    def backward(self, grad, square, scale):\n"
            "        return 3 * scale * grad * square\n"
            "\n"
            "cases, with seed 0\n"
            "    Case(float64 (2, 3), scale=2.0)\n"
            "    Case(float64 (2, 3), scale=3.0)\n"
        )

    def test_tells_the_same_as_json(self, acme, shown):
        told = json.loads(shown("acme.cube", "--json"))
        assert told["state"] == "loaded"
        assert told["verification"] == {
            "attested": False, "date": None, "file": None, "why": "never attested"
        }  # fmt: skip
        assert told["last_verification"] is None
        described = told["description"]
        assert described.pop("hooks") == [
            {
                "name": name,
                "file": str(acme.path / "acme_ops.py"),
                "line": line,
                "source": "".join(
                    each[4:] + "\n" for each in OPERATOR.split("\n")[line - 1 : line + 2]
                ),
            }
            for name, line in (("forward", 17), ("backward", 21))
        ]
        assert described == {
            "signature": "(x, /, scale=1.0)",
            "doc": "The cube root's inverse.\n\nAnd a second line.",
            "aliases": ["cubed", "third"],
            "inputs": ["x"],
            "parameters": ["scale"],
            "gradients": {"x": "backward"},
            "tangents": {},
            "saves": ["square", "scale"],
            "residuals": ["square"],
            "flags": {
                "differentiable": True,
                "once_differentiable": False,
                "view": False,
                "method": True,
                "variadic": False,
            },
            "domain": {"x": [0.0, None]},
            "cases": ["Case(float64 (2, 3), scale=2.0)", "Case(float64 (2, 3), scale=3.0)"],
        }

    @pytest.mark.parametrize(
        ("name", "line"),
        [
            ("mul", "  gradients     a by backward_a, b by backward_b"),
            ("mul", "  jvps          a by jvp_a, b by jvp_b"),
            ("add", "  saves         nothing"),
            ("concat", "  flags         differentiable, variadic"),
            ("log1p", "  domain        -1 < x"),
            ("mul", "    ..."),
        ],
    )
    def test_tells_what_is_particular_to_an_operator(self, name, line, shown):
        assert line in shown(name).splitlines()

    def test_saves_are_what_a_node_holds(self, acme):
        x = opgrad.tensor([1.0, 2.0], requires_grad=True)
        for name in ("exp", "log", "sum", "clamp_scalar"):
            node = getattr(opgrad.ops, name)(*([x, 1.5, None] if "clamp" in name else [x])).grad_fn
            assert describing.describe(name)["saves"] == list(type(node).names)

    @pytest.mark.parametrize(("alias", "name"), [("multiply", "mul"), ("acme.third", "acme.cube")])
    def test_knows_aliases(self, acme, alias, name, shown):
        told = json.loads(shown(alias, "--json"))
        assert (told["name"], told["state"]) == (name, "loaded")

    def test_finds_an_alias_though_others_with_its_prefix_are_broken(self, broken, shown):
        assert shown("acme.third", "--time-limit", "2").startswith("acme.cube(")

    def test_tells_of_an_override_with_what_it_replaces(self, site, shown):
        site.install("fast-ops", "1.2", overrides={"matmul": "fast_ops:matmul"}, fast_ops=OVERRIDE)
        printed = shown("matmul")
        assert f"  state         loaded: overrides opgrad {VERSION}\n" in printed
        assert "  entry point   fast_ops:matmul\n" in printed
        assert f"forward  {site.path / 'fast_ops.py'}:6\n" in printed
        assert "opgrad_plugins/linalg.py:" in printed

    @pytest.mark.parametrize("name", ["raises", "hangs", "exits", "crashes"])
    def test_tells_why_an_operator_cannot_be_used(self, broken, name, shown):
        printed = shown(f"acme.{name}", "--time-limit", "2", code=1)
        assert printed.startswith(f"acme.{name}\n")
        assert "  distribution  acme-broken 0.3\n" in printed
        assert f"  state         failed: {BROKEN[name][1]}" in printed

    def test_tells_that_an_operator_is_blocked_and_does_not_import_it(self, site, shown):
        site.install("acme", operators={"acme.f": "acme_trap:f"}, acme_trap=TRAP)
        printed = shown("acme.f", "--disable", "acme", code=1)
        assert "  state         blocked\n  why           by OPGRAD_DISABLE" in printed
        told = json.loads(shown("acme.f", "--disable", "acme", "--json", code=1))
        assert (told["state"], told["description"]) == ("blocked", None)

    def test_tells_the_rest_where_self_check_fails(self, site, shown):
        source = OPERATOR.replace(
            "yield Case", "raise ValueError('no luck')\n            yield Case"
        )
        site.install("acme", operators={"acme.cube": "acme_ops:cube"}, acme_ops=source)
        printed = shown("acme.cube")
        assert "def backward" in printed
        assert printed.endswith("    self_check fails: ValueError: no luck\n")

    def test_tells_the_rest_where_there_is_no_source(self, site, shown):
        source = f"exec(compile({OPERATOR!r}, '<made>', 'exec'))"
        site.install("acme", operators={"acme.cube": "acme_ops:cube"}, acme_ops=source)
        printed = shown("acme.cube")
        assert "forward  its source is not to be had\n" in printed
        assert printed.endswith("Case(float64 (2, 3), scale=3.0)\n")

    def test_of_what_is_overridden_has_its_distribution_in_its_name(self, site, shown, complaint):
        site.install("fast-ops", "1.2", overrides={"matmul": "fast_ops:matmul"}, fast_ops=OVERRIDE)
        printed = shown("matmul@opgrad")
        assert printed.startswith("matmul(a, b, /)\n")
        assert "  entry point   opgrad_plugins.linalg:matmul\n" in printed
        assert "  state         overridden by fast-ops 1.2\n" in printed
        assert "fast_ops.py" not in printed
        assert json.loads(shown("matmul@Fast_ops", "--json"))["entry_point"] == "fast_ops:matmul"
        assert (
            "no operator 'matmul' here is of distribution 'slow-ops'; there is matmul@opgrad, "
            "matmul@fast-ops\n"
        ) in complaint("show", "matmul@slow-ops")
        assert "did you mean 'matmul'?" in complaint("show", "matmull@opgrad")

    def test_of_what_is_overridden_draws_just_that(self, site, shown, tmp_path):
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
        source = (
            "from opgrad import hookimpl\n"
            "from opgrad_plugins.elementwise import Sin\n\n"
            "class Loud(Sin):\n"
            "    @hookimpl\n"
            "    def forward(self, x, /, *, xp):\n"
            "        raise AssertionError('asked')\n\n"
            "sin = Loud()\n"
        )
        site.install("loud", overrides={"sin": "loud_ops:sin"}, loud_ops=source)
        shown("sin@opgrad", "--plot", str(tmp_path / "sin.svg"))
        assert (tmp_path / "sin.svg").is_file()

    def test_says_nothing_of_a_domain_that_is_all_numbers(self, site, shown):
        source = OPERATOR.replace("(0, inf)", "(-inf, inf)")
        site.install("acme", operators={"acme.cube": "acme_ops:cube"}, acme_ops=source)
        assert "  domain" not in shown("acme.cube")

    def test_ends_quietly_where_nobody_reads_on(self, acme):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "opgrad", "show", "acme.cube"],
            env={**os.environ, "PYTHONPATH": str(acme.path)},
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, b"")  # as a shell tells of SIGPIPE

    def test_keeps_what_an_operator_prints_to_itself(self, broken):
        done = command(broken, "show", "loud.cube", "--json")
        assert json.loads(done.stdout)["name"] == "loud.cube"
        assert (done.returncode, done.stderr) == (0, "")


class TestTheAttestation:
    @pytest.fixture
    def attested(self, acme, tmp_path, monkeypatch):
        """Attest what is installed, in a folder where attestations are looked for."""
        folder = tmp_path / "attestations"
        folder.mkdir()
        monkeypatch.setenv("OPGRAD_ATTESTATIONS", f"{tmp_path / 'no'}{os.pathsep}{folder}")
        file = folder / "acme-ops.json"
        found = Installed.of("acme-ops")
        content = {
            "format": trust.FORMAT,
            "distribution": found.distribution,
            "version": found.version,
            "operators": [
                {"group": group, "name": name, "value": value}
                for group, name, value in sorted(found.operators)
            ],
            "sha256": combined(found.files),
            "files": found.files,
            "environment": found.environment,
            "probes": {},
            "seeds": [0],
            "date": "2031-05-06",
        }
        file.write_text(json.dumps({**content, "checksum": trust.checksum(content)}))
        trust.forget()
        yield file
        trust.forget()

    def test_is_that_of_an_attestation_that_holds(self, attested, shown):
        assert f"  attestation   attested on 2031-05-06, by {attested}\n" in shown("acme.cube")
        told = json.loads(shown("acme.cube", "--json"))["verification"]
        date, file = "2031-05-06", str(attested)
        assert told == {"attested": True, "date": date, "file": file, "why": ""}

    def test_does_not_count_if_something_was_changed_since(self, acme, attested, shown):
        with (acme.path / "acme_ops.py").open("a") as module:
            module.write("# changed\n")
        told = json.loads(shown("acme.cube", "--json"))["verification"]
        assert not told["attested"]
        assert "files are changed: acme_ops.py" in told["why"]
        assert f"not attested: {attested} does not hold: files are changed" in shown("acme.cube")


# ------------------------------------------------------------------------------- the picture


class Softplus(Operator):
    """``log(1 + exp(x))``, sharper with `beta`; by default not as it is verified first."""

    @hookimpl
    def forward(self, x, /, *, xp, beta=1.0):
        return xp.log1p(xp.exp(beta * x)) / beta

    @hookimpl
    def backward(self, grad, x, xp, beta):
        return grad / (1 + xp.exp(-beta * x))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(-3, 3), beta=5.0)
        yield Case(rng.uniform(-3, 3, size=4), beta=2.0)


def bases(name):
    """Return an interval that the picture covers, its function and the derivative of that."""
    return {
        "tanh": ((-2, 2), np.tanh, lambda x: 1 / np.cosh(x) ** 2),
        "log": ((0, 3), np.log, lambda x: 1 / x),
        "log1p": ((-1, 3), np.log1p, lambda x: 1 / (1 + x)),
        "sqrt": ((0, 3), np.sqrt, lambda x: 0.5 / np.sqrt(x)),
        "sigmoid": ((-2, 2), special.expit, lambda x: special.expit(x) * special.expit(-x)),
        "abs": ((-2, 2), np.abs, np.sign),
    }[name]


class TestThePicture:
    @pytest.mark.parametrize("name", ["tanh", "log", "log1p", "sqrt", "sigmoid", "abs"])
    def test_has_the_function_and_its_derivative_over_the_domain(self, name):
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
        (low, high), function, derivative = bases(name)
        (axes,) = plotting.draw(plotting.sample(name)).axes
        _zero, drawn, slope = axes.lines
        assert [drawn.get_label(), slope.get_label()] == [f"{name}(x)", "its derivative"]
        x = drawn.get_xdata()
        np.testing.assert_array_equal(slope.get_xdata(), x)
        assert low < x[0] < low + 0.2
        assert high - 0.2 < x[-1] < high
        assert np.all(np.diff(x) > 0)
        np.testing.assert_allclose(drawn.get_ydata(), function(x), rtol=1e-13)
        np.testing.assert_allclose(slope.get_ydata(), derivative(x), rtol=1e-12)

    def test_has_the_parameters_of_the_case_that_it_is_of(self, monkeypatch):
        monkeypatch.setattr(registry, "load", lambda name: Softplus())
        curve = plotting.sample("softplus")
        assert curve.label == "softplus(x, beta=2.0)"
        np.testing.assert_allclose(curve.y, np.logaddexp(0, 2 * curve.x) / 2, rtol=1e-13)
        np.testing.assert_allclose(curve.slope, special.expit(2 * curve.x), rtol=1e-13)

    def test_is_not_flattened_by_a_pole(self):
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
        curve = plotting.sample("log")
        (axes,) = plotting.draw(curve).axes
        low, high = axes.get_ylim()
        assert curve.slope.max() > 100
        assert high < 20
        assert low < curve.y[50:].min()

    def test_shows_a_constant_derivative(self):
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
        flat = plotting.Curve("$f(x)", "x", np.arange(3.0), np.zeros(3), np.zeros(3))
        (axes,) = plotting.draw(flat).axes
        assert axes.get_ylim() == (-1, 1)

    def test_is_written_as_svg(self, shown, tmp_path):
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
        file = tmp_path / "tanh.svg"
        printed = shown("tanh", "--plot", str(file))
        assert printed.endswith(f"drawn to {file}\n")
        root = ET.parse(file).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert list(tmp_path.iterdir()) == [file]

    def test_in_svg_has_the_curve_of_the_derivative(self, tmp_path):
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
        file = tmp_path / "tanh.svg"
        curve = plotting.sample("tanh")
        plotting.save(curve, file)
        dashed = next(
            each for each in ET.parse(file).iter("{http://www.w3.org/2000/svg}path")
            if "dasharray" in each.get("style", "") and len(each.get("d").split()) > 100
        )  # fmt: skip
        numbers = [float(each) for each in dashed.get("d").replace("M", "").split() if each != "L"]
        across, down = np.array(numbers).reshape(-1, 2).T
        x = np.interp(across, across[[0, -1]], curve.x[[0, -1]])
        assert np.corrcoef(down, 1 / np.cosh(x) ** 2)[0, 1] < -0.99999  # down the page

    def test_is_written_as_png_and_replaces_what_was_there(self, shown, tmp_path):
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
        file = tmp_path / "tanh.PNG"
        file.write_text("before")
        json.loads(shown("tanh", "--plot", str(file), "--json"))
        assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")

    def test_leaves_the_choice_of_a_window_system_to_others(self, tmp_path):
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
        code = (
            "import sys; from opgrad.__main__ import main\n"
            "assert main(['show', 'tanh', '--plot', sys.argv[1]]) == 0\n"
            "assert 'matplotlib.figure' in sys.modules\n"
            "assert 'matplotlib.pyplot' not in sys.modules\n"
        )
        file = tmp_path / "tanh.svg"
        subprocess.run([sys.executable, "-c", code, str(file)], check=True, capture_output=True)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("add", "add has 2 inputs, a, b"),
            ("stack", "stack takes a sequence of arrays, arrays"),
            ("sum", "sum gives shape () for shape (3, 4)"),
            ("flip", "flip mixes the elements"),
            ("argmax", "argmax is not differentiable"),
        ],
    )
    def test_is_refused_of_what_is_not_elementwise(self, name, reason, complaint, tmp_path):
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
        said = complaint("show", name, "--plot", str(tmp_path / "no.svg"))
        assert "--plot draws elementwise operators of one real input; " + reason in said
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"self_check": [Case(1.0), Case([1j, 2j])]}, "has no case of two real numbers"),
            ({"self_check": [Case([2.0, 2.0])]}, "has no case other than 2 to take an interval"),
            ({"forward": lambda x: x * (1 + 1j)}, "gives complex128 for float64"),
            ({"forward": lambda x: (x, x)}, "has 2 outputs"),
        ],
    )
    def test_is_refused_of_an_operator_without(self, change, reason, monkeypatch):
        def self_check(rng):
            return iter(change.get("self_check", [Case([1.0, 2.0])]))

        class Odd(Operator):
            @hookimpl
            def forward(self, x, /):
                return change.get("forward", lambda x: x)(x)

            @hookimpl
            def backward(self, grad):
                return grad

            @hookimpl
            def self_check(self, rng):
                return self_check(rng)

        monkeypatch.setattr(registry, "load", lambda name: Odd())
        with pytest.raises(plotting.RefusalError, match=reason):
            plotting.sample("odd")

    def test_is_svg_or_png(self, complaint):
        said = complaint("show", "tanh", "--plot", "tanh.bmp")
        assert said == "opgrad: --plot: FILE is 'tanh.bmp'; it must end in .png or .svg\n"

    def test_needs_an_extra_that_the_error_names(self, monkeypatch, complaint, tmp_path):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        said = complaint("show", "tanh", "--plot", str(tmp_path / "tanh.svg"))
        assert 'pip install "opgrad[plot]"' in said
        assert list(tmp_path.iterdir()) == []

    def test_needs_a_folder_to_be_written_to(self, complaint, tmp_path):
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
        file = tmp_path / "no" / "tanh.svg"
        assert "there is no folder" in complaint("show", "tanh", "--plot", str(file))


# --------------------------------------------------------------------------------- the guard


def interrupted():
    raise KeyboardInterrupt


class TestTheGuard:
    def test_answers_with_what_a_function_returns_there(self):
        with Guard(20) as guard:
            assert guard.ask(divmod, 7, 2).value == (3, 1)
            assert guard.ask(os.getpid).value != os.getpid()
            assert guard.ask(os.getpid).value == guard.ask(os.getpid).value

    def test_goes_on_after_whatever_happened_there(self):
        with Guard(2) as guard:
            assert guard.ask(interrupted).why == "KeyboardInterrupt: "
            assert guard.ask(os._exit, 5).why.endswith("with the exit code 5")
            assert guard.ask(sys.exit, "enough").why == "SystemExit: enough"
            assert guard.ask(divmod, 7, 2).value == (3, 1)

    def test_leaves_no_process_behind(self):
        with Guard(20) as guard:
            pid = guard.ask(os.getpid).value
            os.kill(pid, 0)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


class TestNamesThatAreNone:
    def test_are_failed_beside_the_operator_that_has_the_name(self, site, listed):
        points = {"mul": "evil:x", "evil.lambda": "evil:x"}
        site.install("evil", operators=points, evil=TRAP)
        lines = listed("mul", "evil.lambda")
        assert lines["mul", "opgrad"]["state"] == "lazy"
        assert lines["mul", "evil"]["state"] == lines["evil.lambda", "evil"]["state"] == "failed"
        assert "needs a prefix" in lines["mul", "evil"]["why"]
        assert "'lambda' is no attribute" in lines["evil.lambda", "evil"]["why"]
