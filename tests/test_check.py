"""The verifier: what it passes is right, what it fails is wrong; what it cannot tell it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from planting import RIGHT_AND_WRONG, Product, Square

import opgrad
from opgrad import Case, Operator, hookimpl
from opgrad.check import Status, comparing, verify
from opgrad.registry import RegistryError, registry


class WrongSign(Square):
    @hookimpl
    def backward(self, grad, x):
        return -grad * (2 * x)


class SlightlyScaled(Square):
    @hookimpl
    def backward(self, grad, x):
        return grad * (2.000001 * x)


class SlightlyOff(Square):
    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * x + 1e-7)


class OneElement(Square):
    @hookimpl
    def backward(self, grad, x):
        slope = 2 * np.array(x.data if hasattr(x, "grad_fn") else x)
        slope.flat[5] *= 1.001
        return grad * slope


class WrongSecondOrder(Square):
    """In float64 arrays right; recorded, it treats x as a constant."""

    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * (x.detach() if hasattr(x, "detach") else x))


class NarrowInside(Square):
    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * x).astype(np.float32)


class Raises(Square):
    @hookimpl
    def backward(self, grad, x):
        msg = "no luck"
        raise ArithmeticError(msg)


class NoCases(Square):
    @hookimpl
    def self_check(self, rng):
        return iter(())


class CasesRaise(Square):
    @hookimpl
    def self_check(self, rng):
        msg = "no cases today"
        raise RuntimeError(msg)


class Steps(Square):
    """Declared not differentiable, and rightly so."""

    differentiable = False

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.floor(x)


class SecretlySmooth(Square):
    differentiable = False


class Scaled(Product):
    """A product whose second input's gradient is right only where nothing was broadcast."""

    @hookimpl
    def backward_b(self, grad, a, b_shape):
        return grad * a if a.shape == b_shape else grad * a * 2


class Noise(Square):
    """Its forward is too rough for any numeric derivative."""

    @hookimpl
    def forward(self, x, /):
        return np.asarray([hash(float(each)) % 1000 / 1000.0 for each in np.ravel(x)])

    @hookimpl
    def backward(self, grad, x_shape):
        return np.full(x_shape, 1e3)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=2))


def failing_probes(operator: Operator) -> set[str]:
    return {each.probe for each in verify(operator).findings if each.status is Status.FAIL}


@pytest.mark.parametrize("operator", [Square(), Steps()], ids=lambda each: each.name)
def test_a_right_operator_passes(operator):
    report = verify(operator)
    assert report.passed
    assert report.status is Status.PASS
    assert report.worst_error is None or report.worst_error <= 1


@pytest.mark.parametrize(
    ("operator", "probe"),
    [
        (WrongSign(), "first_order"),
        (SlightlyScaled(), "first_order"),
        (SlightlyOff(), "first_order"),
        (OneElement(), "first_order"),
        (NarrowInside(), "first_order"),
        (WrongSecondOrder(), "second_order"),
        (Scaled(), "broadcasting"),
        (Raises(), "first_order"),
        (NoCases(), "self_check"),
        (CasesRaise(), "self_check"),
        (SecretlySmooth(), "not_differentiable"),
    ],
    ids=lambda each: getattr(each, "name", each),
)
def test_a_planted_error_is_found_by_its_probe(operator, probe):
    assert probe in failing_probes(operator)
    assert not verify(operator).passed


def test_an_error_in_the_second_order_alone_is_found_by_its_probes_alone():
    assert failing_probes(WrongSecondOrder()) == {"second_order", "second_order_variants"}


def test_an_error_under_broadcasting_alone_is_found_by_its_probes_alone():
    assert failing_probes(Scaled()) == {"broadcasting", "numbers"}


def test_a_forward_too_rough_to_differentiate_does_not_pass():
    report = verify(Noise())
    assert not report.passed
    assert report.status in (Status.INCONCLUSIVE, Status.FAIL)


def test_a_finding_names_the_element_and_both_values():
    finding = next(each for each in verify(OneElement()).findings if each.counts_against)
    assert (finding.element, finding.flat) == ("d output[1, 1] / d x[1, 1]", (5, 5))
    assert finding.analytic == pytest.approx(1.001 * finding.numeric, rel=1e-9)
    assert finding.estimate < 1e-10
    assert "the backward gives" in finding.message


def test_an_exception_becomes_a_finding_that_quotes_it():
    messages = [each.message for each in verify(Raises()).findings if each.counts_against]
    assert any("ArithmeticError: no luck" in message for message in messages)
    assert any("raised in raises.backward" in message for message in messages)


def test_the_same_seed_asks_the_same_questions():
    first, again, other = verify("tanh"), verify("tanh"), verify("tanh", seed=1)
    assert [each.analytic for each in first.findings] == [each.analytic for each in again.findings]
    assert [each.analytic for each in first.findings] != [each.analytic for each in other.findings]


def test_after_an_import_that_fails_the_streams_are_as_before(site):
    source = "import sys; print('hello'); sys.stdout = None; 1 / 0"
    site.install("acme-ops", operators={"acme.bad": "acme_ops:bad"}, acme_ops=source)
    before = sys.stdout, sys.stderr
    with pytest.raises(RegistryError, match="ZeroDivisionError"):
        verify("acme.bad")
    assert (sys.stdout, sys.stderr) == before


def test_what_an_import_changes_is_found_and_put_back(site):
    source = RIGHT_AND_WRONG + "import opgrad; opgrad.set_default_dtype('f4'); right = Right()"
    site.install("acme-ops", operators={"acme.right": "acme_ops:right"}, acme_ops=source)
    (finding,) = [each for each in verify("acme.right").findings if each.counts_against]
    assert (finding.probe, finding.message) == (
        "load",
        "when it is imported, it changes the default dtype",
    )
    assert opgrad.get_default_dtype() == np.float64


# ---------------------------------------------------------------------- the command


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "opgrad.check", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_every_installed_operator_passes_and_the_exit_code_is_0():
    done = run()
    assert done.returncode == 0, done.stdout
    assert "operators passed" in done.stdout
    assert "FAIL" not in done.stdout


def test_names_select_operators_and_json_holds_every_finding(tmp_path: Path):
    file = tmp_path / "findings.json"
    done = run("mul", "exp", "--json", str(file), "--seed", "3")
    data = json.loads(file.read_text())
    assert done.returncode == 0
    assert data["seed"] == 3
    assert data["passed"] is True
    assert [report["operator"] for report in data["reports"]] == ["mul", "exp"]
    assert {"probe", "case", "status", "analytic", "numeric", "estimate"} <= data["reports"][0][
        "findings"
    ][0].keys()
    assert list(tmp_path.iterdir()) == [file]


def test_an_unknown_name_could_not_run_and_the_nearest_is_named():
    done = run("mull")
    assert done.returncode == 2
    assert "did you mean 'mul'" in done.stderr


def test_without_operators_it_says_how_to_install_and_could_not_run():
    done = run(OPGRAD_DISABLE="opgrad")
    assert done.returncode == 2
    assert "pip install" in done.stderr


def test_the_list_gives_names_distributions_plugins_and_hooks_and_imports_nothing():
    script = (
        "import sys; from opgrad.check.__main__ import main; main(['--list']);"
        "print([name for name in sys.modules if name.startswith('opgrad_plugins')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    *_, imported = done.stdout.strip().splitlines()
    assert imported == "[]"
    assert "opgrad_plugins.arithmetic:mul" in done.stdout
    assert "backward_a, backward_b, batch, forward" in done.stdout


def test_the_hooks_in_the_list_are_those_that_the_operators_have():
    from opgrad import ops
    from opgrad.check.listing import lines

    for line in lines(registry.names()):
        operator = ops
        for part in line.name.split("."):
            operator = getattr(operator, part)
        assert line.hooks == tuple(sorted(operator.contract.hooks)), line.name


def test_without_rich_the_table_is_plain_text():
    script = (
        "import sys; sys.modules['rich'] = None;"
        "import opgrad.showing.terminal as terminal; terminal.has_rich = lambda: False;"
        "from opgrad.check.__main__ import main; sys.exit(main(['mul']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == [
        "operator", "distribution", "passed", "failed", "inconclusive", "error/allowed", "s",
        "result",
    ]  # fmt: skip


class Wide(Square):
    """With a Jacobian too large to be compared whole."""

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=100))
        yield Case(rng.uniform(0.5, 2, size=70) + 1j)


class TestALargeJacobian:
    def test_passes_if_it_is_right(self):
        assert verify(Wide(), only=["first_order"]).passed

    def test_is_compared_in_single_rows_as_well(self, monkeypatch):
        class Wrong(Wide):
            @hookimpl
            def backward(self, grad, x):
                return grad * (2.001 * x)

        # With no weight on any output, directions and columns have nothing to compare.
        monkeypatch.setattr(comparing, "cotangent", np.zeros_like)
        findings = verify(Wrong(), only=["first_order"]).findings
        assert [each.status for each in findings] == [Status.PASS, Status.FAIL] * 2
