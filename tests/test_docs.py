"""What the documentation says of the verifier is so: its options, its probes, and its plugin.

The examples with ``>>>`` in it are run as they stand, as doctests.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from planting import RIGHT_AND_WRONG

from opgrad.check import __main__
from opgrad.showing import terminal

ROOT = Path(__file__).parents[1]
VERIFIER = (ROOT / "docs" / "verifier.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """Return what stands under a heading, down to the next."""
    return text.split(f"\n## {title}\n")[1].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the first table in a text, without its heads."""
    _heads, _rule, *lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def block(text: str, language: str) -> str:
    """Return the first block of code in a language."""
    return re.search(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1]


def flags(cells: list[str]) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", " ".join(cells)))


# ------------------------------------------------------------------------------- its options


def parser_flags() -> set[str]:
    actions = __main__._parser()._actions
    return {flag for action in actions for flag in action.option_strings} - {"-h", "--help"}


def test_the_table_of_options_holds_exactly_those_that_the_command_takes():
    assert flags([first for first, _ in rows(section(VERIFIER, "The command"))]) == parser_flags()


def test_the_readme_names_no_option_that_is_not_there():
    named = flags([first for first, _ in rows(section(README, "Verification"))])
    assert named
    assert named <= parser_flags()


def test_options_with_a_value_are_shown_with_one_and_others_are_not():
    shown = {}
    for first, _ in rows(section(VERIFIER, "The command")):
        for flag, value in re.findall(r"`(-[\w-]+)(?: (\w+))?`", first):
            shown[flag] = bool(value)
    takes = {
        flag: action.nargs != 0
        for action in __main__._parser()._actions
        for flag in action.option_strings
        if flag not in ("-h", "--help")
    }
    assert shown == takes


# -------------------------------------------------------------------------------- its probes


def test_the_table_of_probes_is_what_the_command_lists(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "has_rich", lambda: False)
    assert __main__.main(["--list-probes"]) == 0
    _heads, _rule, *lines = capsys.readouterr().out.splitlines()
    listed = [line.replace("``", "`").split(maxsplit=1) for line in lines]
    documented = [[name.strip("`"), found] for name, found in rows(section(VERIFIER, "The probes"))]
    assert documented == listed


# ------------------------------------------------------------------------- a probe of your own

CLIPS = f"""{RIGHT_AND_WRONG}
import numpy as np

class Clips(Right):
    @hookimpl
    def backward(self, grad, x):
        return np.clip(grad, -1e6, 1e6) * 2 * x

clips = Clips()
"""


@pytest.fixture
def command(site):
    """Install the probe of the documentation and an operator; return the command beside them."""
    example = section(VERIFIER, "Write a probe")
    points = tomllib.loads(block(example, "toml"))["project"]["entry-points"]["opgrad.probes"]
    site.install("acme-probes", probes=points, acme_probes=block(example, "python"))
    site.install("acme-ops", operators={"acme.clips": "acme_ops:clips"}, acme_ops=CLIPS)

    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            env={**os.environ, "PYTHONPATH": str(site.path)},
            cwd=site.path,
            capture_output=True,
            text=True,
            check=False,
        )

    return command


def test_the_probe_is_listed_with_its_docstring(command):
    done = command("opgrad.check", "--list-probes")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"acme_unclipped +Find that a gradient is clipped: it does not ", done.stdout)


def test_the_probe_passes_right_operators_and_is_skipped_without_gradients(command):
    done = command("opgrad.check", "-v", "--jobs", "0", "--probe", "acme_unclipped")
    assert done.returncode == 1, done.stderr
    against = [line for line in done.stdout.splitlines() if "not passed" in line]
    assert [line.partition("not passed: ")[2] for line in against] == ["acme.clips"]
    assert "exp: PASS: acme_unclipped on Case(float64 (3, 4)), grad times 2**30" in done.stdout
    assert "equal: SKIP: acme_unclipped on" in done.stdout


def test_the_probe_finds_a_clipped_gradient_and_says_by_how_much(command):
    done = command("opgrad.check", "acme.clips", "--probe", "acme_unclipped")
    assert done.returncode == 1
    assert "acme.clips: FAIL: acme_unclipped" in done.stdout
    assert "grad has grown by a factor of 1.07e+09, the gradient by " in done.stdout


def test_the_probe_is_a_test_of_pytests(command):
    done = command(
        "pytest", "--opgrad=acme.clips", "-k", "acme_unclipped", "-p", "no:cacheprovider"
    )
    assert "1 failed" in done.stdout
    assert "grad has grown by" in done.stdout
