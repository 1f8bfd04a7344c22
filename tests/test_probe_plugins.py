"""Plugins with probes: what is wrong with one is told, and touches no other."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

HEAD = """
from opgrad import hookimpl
from opgrad.check.findings import failed, passed

class Plugin:
    @hookimpl
    def opgrad_probes(self):
        return probes()

plugin = Plugin()
"""


@pytest.fixture
def check(site):
    """Verify an operator with some plugins, from name to source of a function ``probes``."""

    def check(plugins, *arguments):
        for name, source in plugins.items():
            site.install(
                f"{name}-probes",
                probes={name: f"{name}_probes:plugin"},
                **{f"{name}_probes": HEAD + textwrap.dedent(source)},
            )
        return subprocess.run(
            [sys.executable, "-m", "opgrad.check", "exp", *arguments],
            env={**os.environ, "PYTHONPATH": str(site.path), "COLUMNS": "400"},
            capture_output=True,
            text=True,
            check=False,
        )

    return check


GOOD = """
    def acme_good(operator, case):
        "Find that nothing is wrong."
        yield passed()
    def probes(): return [acme_good]
"""


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (
            "raise SystemExit(3)",
            "'bad' of bad-probes 1.0 (bad_probes:plugin) is left out",
        ),
        (
            "def probes(): raise ValueError('boom')",
            "of bad-probes 1.0 (bad_probes:plugin) are left out: its opgrad_probes raises",
        ),
        ("def probes(): return 5", "raises TypeError: 'int' object is not iterable"),
        ("def probes(): raise SystemExit('enough')", "raises SystemExit: enough"),
        (
            "def probes(): return [5]",
            "bad-probes 1.0 (bad_probes:plugin) offers 5 as a probe, which is no function",
        ),
        (
            "def first_order(operator, case): yield passed()\ndef probes(): return [first_order]",
            "'first_order' of bad-probes 1.0 (bad_probes:plugin) is left out: opgrad has one",
        ),
        (
            "def acme_good(operator, case): yield failed('!')\ndef probes(): return [acme_good]",
            "is left out: acme-probes 1.0 (acme_probes:plugin) has one of that name",
        ),
    ],
)
def test_a_broken_one_is_complained_about_and_the_others_are_asked(check, source, complaint):
    chosen = ["--probe", "first_order", "--probe", "acme_good"]
    done = check({"acme": GOOD, "bad": source}, *chosen, "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.startswith("opgrad.check: ")
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "acme_good" in done.stdout


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("yield 5", "the probe answers 5; it should yield nothing but Findings"),
        ("return None", "it raises TypeError: 'NoneType' object is not iterable"),
        ("raise KeyError('mine')", "it raises KeyError: 'mine'"),
    ],
)
def test_one_that_answers_nonsense_is_a_finding_that_names_it_and_its_distribution(
    check, body, said
):
    source = f"def acme_odd(operator, case): {body}\ndef probes(): return [acme_odd]"
    done = check({"odd": source}, "--probe", "acme_odd", "--probe", "first_order")
    assert done.returncode == 1
    assert done.stderr == ""
    assert f"{said} (asked by odd-probes 1.0 (odd_probes:plugin))" in done.stdout
    assert "FAIL: acme_odd" in done.stdout
    assert "FAIL: first_order" not in done.stdout


def test_no_probe_takes_the_place_of_one_of_opgrads_wherever_it_is_in_the_order(check):
    source = """
    import inspect
    def first_order(operator, case): yield failed("not asked")
    def probes(): return [first_order]
    Plugin.opgrad_probes = hookimpl(trylast=True)(lambda self: probes())
    """
    done = check({"last": source}, "--probe", "first_order")
    assert done.returncode == 0, done.stdout
    assert "the probe 'first_order' of last-probes" in done.stderr
