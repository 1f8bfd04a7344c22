"""The script ``examples/breast_cancer.py``: it runs as a user runs it, and it learns."""

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
from scipy.special import expit

import opgrad

BREAST_CANCER = Path(__file__).parents[1] / "examples" / "breast_cancer.py"


def run(*arguments):
    """Run the script in a Python of its own, with a terminal of 80 columns and no colours."""
    terminal = {"COLUMNS": "80", "FORCE_COLOR": "", "TTY_COMPATIBLE": "0"}
    return subprocess.run(
        [sys.executable, BREAST_CANCER, *arguments],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={**os.environ, **terminal, "PYTHONIOENCODING": "utf-8"},
    )


@pytest.fixture(scope="module")
def done():
    return run()


@pytest.fixture(scope="module")
def breast_cancer():
    spec = importlib.util.spec_from_file_location("breast_cancer", BREAST_CANCER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
        refused = run("--epochs", "0")
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
