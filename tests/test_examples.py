"""The scripts in ``examples/``: they run as a user runs them, learn, and find the minimum."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize, rosen, rosen_der, rosen_hess_prod
from scipy.special import expit

import opgrad

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(script, *arguments):
    """Run a script in a Python of its own, with a terminal of 80 columns and no colours."""
    terminal = {"COLUMNS": "80", "FORCE_COLOR": "", "TTY_COMPATIBLE": "0"}
    return subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={**os.environ, **terminal, "PYTHONIOENCODING": "utf-8"},
    )


def load(script):
    """Import a script as a module."""
    spec = importlib.util.spec_from_file_location(Path(script).stem, EXAMPLES / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def done():
    return run("breast_cancer.py")


@pytest.fixture(scope="module")
def breast_cancer():
    return load("breast_cancer.py")


class TestTheScript:
    """It trains logistic regression and a network with one hidden layer."""

    def test_ends_well_and_without_warnings(self, done):
        assert (done.returncode, done.stderr) == (0, "")

    def test_reports_at_least_95_percent_for_both_models(self, done):
        shares = re.findall(r"^(.+?) +test accuracy (\d+\.\d)%$", done.stdout, re.MULTILINE)
        assert [name for name, _ in shares] == ["logistic regression", "hidden layer"]
        assert min(float(share) for _, share in shares) >= 95

    def test_shows_a_progress_bar_for_each_model(self, done):
        bars = re.findall(r"^(.+?) +[━-]+ +100%", done.stdout, re.MULTILINE)
        assert bars == ["logistic regression", "hidden layer"]

    def test_refuses_to_train_for_no_epochs(self):
        refused = run("breast_cancer.py", "--epochs", "0")
        assert refused.returncode == 2
        assert "argument --epochs: got 0; expected at least 1" in refused.stderr


class TestTraining:
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_learns_on_other_splits_too(self, breast_cancer, seed):
        accuracies = breast_cancer.main(["--seed", str(seed)])
        assert min(accuracies.values()) >= 0.95

    def test_repeats_itself_for_the_same_seed(self, breast_cancer):
        arguments = ["--seed", "5", "--epochs", "10", "--hidden", "4"]
        assert breast_cancer.main(arguments) == breast_cancer.main(arguments)

    def test_standardises_by_the_training_set(self, breast_cancer):
        data = breast_cancer.load(seed=0)
        assert_allclose(data.x_train.numpy().mean(axis=0), np.zeros(30), atol=1e-13)
        assert_allclose(data.x_train.numpy().std(axis=0), np.ones(30))

    def test_steps_down_the_gradient_of_logistic_regression_in_closed_form(self, breast_cancer):
        data = breast_cancer.load(seed=0)
        x, y = data.x_train.numpy(), data.y_train.numpy()
        w, b = np.random.default_rng(0).normal(size=30), 0.5
        error = expit(x @ w + b) - y
        parameters = [opgrad.tensor(each, requires_grad=True) for each in (w, b)]

        breast_cancer.step(breast_cancer.logistic, parameters, data.x_train, data.y_train, rate=2)

        assert_allclose(w - parameters[0].data, 2 * x.T @ error / len(y), rtol=1e-12)
        assert_allclose(b - parameters[1].data, 2 * error.mean(), rtol=1e-12)


class TestScipyMinimize:
    """It finds the minimum of Rosenbrock's function with four of SciPy's methods."""

    def test_ends_at_the_minimum_with_every_method(self):
        done = run("scipy_minimize.py")
        assert (done.returncode, done.stderr) == (0, "")
        heads, *rows = done.stdout.splitlines()
        assert heads.split() == ["method", "value", "distance", "steps", "gradients", "Hessians"]
        found = {name: [float(each) for each in rest] for name, *rest in map(str.split, rows)}
        assert list(found) == ["BFGS", "Newton-CG", "trust-ncg", "trust-exact"]
        assert max(value for value, *_ in found.values()) < 1e-15
        assert max(distance for _, distance, *_ in found.values()) < 1e-7
        assert [name for name, (*_, hessians) in found.items() if hessians == 0] == ["BFGS"]

    @pytest.mark.parametrize("dimensions", ["2", "30"])
    def test_succeeds_in_other_dimensions(self, dimensions, capsys):
        for found in load("scipy_minimize.py").main(["--dimensions", dimensions]).values():
            assert found.success
            assert_allclose(found.x, np.ones(int(dimensions)), rtol=1e-7)

    @pytest.mark.parametrize("method", ["BFGS", "Newton-CG", "trust-ncg"])
    def test_goes_the_way_that_scipys_own_derivatives_go(self, method):
        start = np.linspace(1.3, 0.7, 10)
        way, expected = [], []
        rosenbrock = load("scipy_minimize.py").rosenbrock
        opgrads = {
            "fun": opgrad.func.value_and_grad(rosenbrock),
            "jac": True,
            "hessp": opgrad.func.hvp(rosenbrock),
            "callback": way.append,
        }
        scipys = {
            "fun": rosen,
            "jac": rosen_der,
            "hessp": rosen_hess_prod,
            "callback": expected.append,
        }
        for options in (opgrads, scipys):
            if method == "BFGS":
                del options["hessp"]
            minimize(x0=start, method=method, options={"maxiter": 5}, **options)
        assert len(way) == 5
        assert_allclose(way, expected, rtol=1e-9)

    def test_refuses_a_single_dimension(self):
        refused = run("scipy_minimize.py", "--dimensions", "1")
        assert refused.returncode == 2
        assert "argument --dimensions: got 1; expected at least 2" in refused.stderr
