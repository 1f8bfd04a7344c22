"""The pytest plugin: a test for each operator and probe, on the command line and as a class."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from planting import RIGHT_AND_WRONG

from opgrad.check.verifying import chosen_probes

pytest_plugins = ["pytester"]

OPERATORS = f"""{RIGHT_AND_WRONG}
from opgrad_pytest import OperatorTests

class TestRight(OperatorTests, operator=Right()):
    pass
"""
WRONG = """
class TestWrong(OperatorTests, operator=Wrong()):
    pass
"""


@pytest.fixture
def run(pytester):
    """Run pytest in a folder of its own, where warnings are errors; return what it did."""

    def run(*arguments: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess("-W", "error", *arguments)

    return run


def ran(result: pytest.RunResult) -> int:
    return sum(result.parseoutcomes().get(each, 0) for each in ("passed", "skipped"))


def test_it_is_installed_with_opgrad():
    (point,) = entry_points(group="pytest11", name="opgrad")
    assert point.value == "opgrad_pytest"


def test_pytest_does_not_import_opgrad_before_it_is_used():
    script = "import sys, opgrad_pytest; print({'opgrad', 'numpy'} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one process", "xdist"])
def test_each_probe_of_an_operator_is_a_test(run, workers):
    result = run("--opgrad=exp", "-k", "order or float or layouts", *workers)
    chosen = [
        each for each in chosen_probes() if any(w in each for w in ("order", "float", "layouts"))
    ]
    assert result.ret == 0
    assert ran(result) == len(chosen) > 2


def test_several_operators_and_patterns(run):
    result = run("--opgrad=exp", "--opgrad=[ms]ul", "--opgrad=su[bm]", "-k", "first_order", "-v")
    assert result.ret == 0
    names = [line.split("::")[1] for line in result.outlines if "PASSED" in line]
    assert names == ["exp", "mul", "sub", "sum"]


def test_without_paths_only_the_operator_is_tested_and_with_paths_both(pytester, run):
    pytester.makepyfile("def test_own(): pass")
    alone, both = (run("--opgrad=exp", "-k", "first_order or own", *paths) for paths in ([], ["."]))
    assert (ran(alone), ran(both)) == (1, 2)


def test_without_operators_nothing_changes(pytester, run):
    pytester.makepyfile("def test_own(): pass")
    result = run()
    assert result.parseoutcomes() == {"passed": 1}
    result.stdout.no_fnmatch_line("*-1 selected*")


def test_an_unknown_operator_is_a_usage_error_with_the_nearest_name(run):
    result = run("--opgrad=exq")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--opgrad=exq: *did you mean 'exp'?"])


def test_a_class_of_one_line_tests_an_operator_that_is_not_registered(pytester, run):
    pytester.makepyfile(OPERATORS)
    result = run("-k", "first_order or linear_in_grad")
    assert result.ret == 0
    assert result.parseoutcomes() == {"passed": 2, "deselected": len(chosen_probes()) - 2}


def test_a_failure_shows_what_was_found_and_no_traceback(pytester, run):
    pytester.makepyfile(OPERATORS + WRONG)
    result = run("-k", "first_order")
    assert result.parseoutcomes() | {"deselected": 0} == {
        "passed": 1,
        "failed": 1,
        "deselected": 0,
    }
    result.stdout.fnmatch_lines(
        [
            "*TestWrong.test_probe?first_order?*",
            "FAIL: first_order",
            "  case          Case(float64 (2, 3))",
            "  problem       for d output?1, 2? / d x?1, 2? the backward gives -*",
            "  likely cause  the sign is wrong",
        ]
    )
    result.stdout.no_fnmatch_line("*opgrad_pytest.py*")


def test_a_probe_without_a_question_is_skipped_with_its_reason(run):
    result = run("--opgrad=exp", "-k", "not_differentiable", "-rs")
    assert result.parseoutcomes()["skipped"] == 1
    result.stdout.fnmatch_lines(["SKIPPED*every input has a gradient"])


class TestAnOperatorThatCannotBeLoaded:
    def test_fails_one_test_with_the_reason_and_the_others_are_asked(self, site, run, monkeypatch):
        site.install("acme-ops", operators={"acme.bad": "acme_ops:bad"}, acme_ops="1 / 0")
        monkeypatch.setenv("PYTHONPATH", str(site.path))
        result = run("--opgrad=acme.bad", "--opgrad=exp", "-k", "load or first_order")
        assert {**result.parseoutcomes(), "deselected": 0} == {
            "passed": 1,
            "failed": 1,
            "deselected": 0,
        }
        result.stdout.fnmatch_lines(["*acme.bad*fails to import: ZeroDivisionError*"])
        assert run("--opgrad=acme.bad").parseoutcomes() == {"failed": 1}

    def test_fails_one_test_of_a_class_that_names_it(self, pytester, site, run, monkeypatch):
        site.install("acme-ops", operators={"acme.bad": "acme_ops:bad"}, acme_ops="1 / 0")
        monkeypatch.setenv("PYTHONPATH", str(site.path))
        pytester.makepyfile(
            "from opgrad_pytest import OperatorTests\n"
            "class TestBad(OperatorTests, operator='acme.bad'): pass"
        )
        result = run()
        assert result.parseoutcomes() == {"failed": 1}
        result.stdout.fnmatch_lines(["*TestBad.test_probe?load?*"])

    def test_is_another_matter_than_one_that_prints_meanwhile(self, site, run, monkeypatch):
        source = f"print('hello'){chr(10)}{RIGHT_AND_WRONG}{chr(10)}right = Right()"
        site.install("acme-ops", operators={"acme.right": "acme_ops:right"}, acme_ops=source)
        monkeypatch.setenv("PYTHONPATH", str(site.path))
        result = run("--opgrad=acme.right", "-k", "load or first_order")
        assert {**result.parseoutcomes(), "deselected": 0} == {
            "passed": 1,
            "failed": 1,
            "deselected": 0,
        }
        result.stdout.fnmatch_lines(["*it prints when it is imported, first of all 'hello'"])
