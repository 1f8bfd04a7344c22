"""What an operator leaves behind is found, whoever of its hooks left it, and is put back."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import textwrap
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from planting import Floor, Product, Square

import opgrad
from opgrad import hookimpl
from opgrad.check import Status, verify
from opgrad.check.probes import traces
from opgrad.check.surroundings import LOADING, SHARED, Surroundings


def in_hook(hook, act):
    """Return a right operator that does something else, too, in one of its hooks."""
    original = getattr(Square, hook)
    if hook == "forward":

        def forward(self, x, /):
            act()
            return x * x

        changed = forward
    elif hook == "backward":

        def backward(self, grad, x):
            act()
            return grad * (2 * x)

        changed = backward
    else:

        def self_check(self, rng):
            act()
            return original(self, rng)

        changed = self_check
    return type("Acting", (Square,), {hook: hookimpl(changed)})()


def against(operator, **options):
    """Return what is found against an operator; nothing that it did outlives that."""
    before = Surroundings.now((*LOADING, *SHARED))
    found = [each for each in verify(operator, **options).findings if each.counts_against]
    assert before.restored() == []
    return found


def said(operator):
    return [each.message for each in against(operator, only=["nothing_left"])]


ERRORS = "NumPy's handling of errors"

SETTINGS = {
    "the current folder": lambda: os.chdir("/"),
    "os.environ": lambda: os.environ.update(ACME_THREADS="4"),
    "sys.path": sys.path.clear,
    "sys.stdin, sys.stdout or sys.stderr": lambda: setattr(sys, "stderr", None),
    ERRORS: lambda: np.seterr(all="raise"),
    "NumPy's print options": lambda: np.set_printoptions(precision=1),
    "the default dtype": lambda: opgrad.set_default_dtype(opgrad.float32),
    "whether operations are recorded": lambda: opgrad.set_grad_enabled(False),
    "what runs around every call": lambda: opgrad.around_call(lambda operator, call: call()),
    "whether garbage is collected": lambda: __import__("gc").disable(),
}
SHARED_BY_ALL = {
    "the state of np.random": lambda: np.random.seed(0),  # noqa: NPY002 - that is the error
    "the state of random": lambda: random.seed(0),
    "which warnings are shown": lambda: warnings.simplefilter("ignore"),
}
BLOCKED = {"which operators are blocked": lambda: opgrad.registry.block("tanh")}


def cases(table):
    return pytest.mark.parametrize(("what", "act"), table.items(), ids=table.keys())


class TestASetting:
    @pytest.mark.parametrize(
        ("hook", "what", "act"),
        [
            (hook, what, act)
            for what, act in SETTINGS.items()
            for hook in ("forward", "backward")
            # The engine runs a backward with settings of its own for errors.
            if (hook, what) != ("backward", ERRORS)
        ],
    )
    def test_that_a_hook_changes_is_found_with_every_probe_and_put_back(self, hook, what, act):
        for probe in ("first_order", "nothing_mutated"):
            found = against(in_hook(hook, act), only=[probe])
            assert (probe, f"it changes {what}, for whoever comes after it") in [
                (each.probe, each.message) for each in found
            ]

    @cases({**SETTINGS, **SHARED_BY_ALL, **BLOCKED})
    def test_that_self_check_changes_is_found_and_put_back(self, what, act):
        found = against(in_hook("self_check", act), only=["first_order"])
        assert [(each.probe, each.message) for each in found] == [
            ("self_check", f"it changes {what}, for whoever comes after it")
        ]

    @cases(SHARED_BY_ALL)
    @pytest.mark.parametrize("hook", ["forward", "backward"])
    def test_that_all_share_is_looked_at_by_a_probe_of_its_own(self, hook, what, act):
        assert said(in_hook(hook, act)) == [f"{hook} changes {what}"]

    def test_that_ends_with_the_pass_is_no_concern_of_others(self):
        assert against(in_hook("backward", SETTINGS[ERRORS]), only=["first_order"]) == []

    def test_that_a_hook_changes_for_itself_alone_is_its_own_business(self):
        def act():
            with np.errstate(all="raise"), np.printoptions(precision=1), opgrad.no_grad():
                return np.random.default_rng(0).normal()

        for hook in ("forward", "backward", "self_check"):
            assert against(in_hook(hook, act)) == []

    def test_that_an_imported_module_adds_to_is_forgiven_and_put_back(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "acme_adds", raising=False)
        (tmp_path / "acme_adds.py").write_text("import os; os.environ['ACME_ADDED'] = '1'")
        operator = in_hook("forward", lambda: __import__("acme_adds"))
        assert against(operator) == []
        assert "ACME_ADDED" not in os.environ


class TestAFile:
    @pytest.mark.parametrize("hook", ["forward", "backward"])
    def test_that_is_there_afterwards_is_found(self, hook, tmp_path):
        litter = tmp_path / "litter"
        operator = in_hook(hook, lambda: litter.write_text("x"))
        assert said(operator) == [f"{hook} writes to the file {str(litter)!r}"]

    def test_in_the_current_folder_that_was_there_before_is_found(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("log").touch()
        operator = in_hook("forward", lambda: Path("log").open("a").close())
        assert said(operator) == ["forward writes to the file 'log'"]

    def test_that_is_read_or_temporary_or_no_file_is_none_left(self, tmp_path):
        (tmp_path / "table").write_text("1 2 3")

        def act():
            (tmp_path / "table").read_text()
            with tempfile.TemporaryFile() as file:
                file.write(b"x")
            Path(os.devnull).write_text("x")

        assert said(in_hook("forward", act)) == []

    def test_of_another_thread_is_not_the_operators(self, tmp_path):
        def act():
            thread = threading.Thread(target=(tmp_path / "litter").write_text, args=("x",))
            thread.start()
            thread.join()

        assert said(in_hook("forward", act)) == []


class TestTheTerminal:
    @pytest.mark.parametrize("hook", ["forward", "backward"])
    @pytest.mark.parametrize("stream", [1, 2])
    def test_is_not_written_to_past_the_streams(self, hook, stream, capfd):
        operator = in_hook(hook, lambda: os.write(stream, b"hello\nand more"))
        assert said(operator) == [
            f"{hook} writes 'hello' to the terminal, past sys.stdout and sys.stderr"
        ]
        os.write(stream, b"still there")
        assert any(each.endswith("still there") for each in capfd.readouterr())

    def test_is_given_back_after_an_exception(self, capfd):
        def act():
            msg = "no luck"
            raise ArithmeticError(msg)

        with pytest.raises(ArithmeticError):
            traces._written(act)
        os.write(1, b"still there")
        assert capfd.readouterr().out == "still there"

    def test_is_not_looked_at_while_other_threads_run(self, capfd):
        done = threading.Event()
        thread = threading.Thread(target=done.wait)
        thread.start()
        operator = in_hook("forward", lambda: os.write(1, b"hello"))
        try:
            assert said(operator) == []
        finally:
            done.set()
            thread.join()
        assert "hello" in capfd.readouterr().out


@pytest.mark.parametrize("operator", [Square(), Product(), Floor()], ids=lambda each: each.name)
def test_right_operators_leave_nothing(operator):
    findings = verify(operator, only=["nothing_left"]).findings
    assert {each.status for each in findings} == {Status.PASS}


def test_random_numbers_are_the_users_own_after_it():
    np.random.seed(7)  # noqa: NPY002 - the one that all share
    random.seed(7)
    before = Surroundings.now(SHARED[:2])
    verify(Square(), only=["nothing_left"])
    assert before.restored() == []


# ---------------------------------------------------------------- many operators

COMMAND = [sys.executable, "-m", "opgrad.check"]

#: What self_check does, beside giving cases; every one of them harms those that come after it.
DEEDS = {
    "modes": "opgrad.set_grad_enabled(False)",
    "path": "sys.path.clear()",
    "streams": "sys.stdout = sys.stderr = None",
    "interrupt": "raise KeyboardInterrupt",
    "base": "class Odd(BaseException): pass\n        raise Odd",
    "disable": "os.environ['OPGRAD_DISABLE'] = 'exp'",
    "block": "opgrad.registry.block('exp')",
    "distribution": "opgrad.registry.block('opgrad')",
    "dtype": "opgrad.set_default_dtype(opgrad.float32)",
    "prints": "print('hello')",
    "warns": "warnings.warn('hello')",
}
SAID = {
    "modes": "it changes whether operations are recorded",
    "path": "it changes sys.path",
    "streams": "it changes sys.stdin, sys.stdout or sys.stderr",
    "interrupt": "it raises KeyboardInterrupt",
    "base": "it raises Odd",
    "disable": "it changes os.environ",
    "block": "it changes which operators are blocked",
    "distribution": "it changes which operators are blocked",
    "dtype": "it changes the default dtype",
    "prints": "it prints, first of all 'hello'",
    "warns": "it warns 1 times, first of UserWarning: hello",
}


def test_whatever_self_check_does_the_operators_after_it_are_judged_as_ever(site):
    source = "import os, sys, warnings, opgrad\nfrom opgrad import Case, Operator, hookimpl\n"
    for name, deed in DEEDS.items():
        source += textwrap.dedent(f"""
            class {name.title()}(Operator):
                @hookimpl
                def forward(self, x, /):
                    return x * x

                @hookimpl
                def backward(self, grad, x):
                    return grad * (2 * x)

                @hookimpl
                def self_check(self, rng):
                    @DEED@
                    yield Case(rng.uniform(0.5, 2, size=3))

            {name} = {name.title()}()
            """).replace("@DEED@", deed)
    points = {f"acme.{name}": f"acme_ops:{name}" for name in DEEDS}
    site.install("acme-ops", operators=points, acme_ops=source)
    for jobs in ("1", "2"):
        done = subprocess.run(
            [*COMMAND, *points, "exp", "sin", "--jobs", jobs, "--probe", "first_order", "-v"],
            env={**os.environ, "PYTHONPATH": str(site.path), "COLUMNS": "400"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr == ""
        *_, summary = done.stdout.splitlines()
        assert summary.startswith(f"2 of {len(DEEDS) + 2} operators passed")
        assert set(summary.partition("not passed: ")[2].split(", ")) == points.keys()
        for text in SAID.values():
            assert text in done.stdout
