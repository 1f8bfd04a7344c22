"""Tell malignant from benign tumours: logistic regression, and a network with one hidden layer.

The data are scikit-learn's, 569 tumours with 30 measurements each; a quarter is kept for the test.
Both models learn by gradient descent, with one step an epoch on the whole training set::

    pip install ".[examples]"
    python examples/breast_cancer.py --epochs 200 --hidden 16 --seed 0
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.progress import track
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import opgrad
from opgrad import Tensor
from opgrad.nn.functional import binary_cross_entropy_with_logits

#: From measurements of shape (n, 30) and parameters to the logits, of shape (n,).
Model = Callable[..., Tensor]


class Data(NamedTuple):
    """Measurements ``x`` of shape (n, 30), and diagnoses ``y`` of shape (n,), each 0 or 1."""

    x_train: Tensor
    x_test: Tensor
    y_train: Tensor
    y_test: Tensor


def load(seed: int) -> Data:
    """Split the data, and standardise the measurements by the training set's mean and spread."""
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, stratify=y, random_state=seed)
    mean, std = x_train.mean(axis=0), x_train.std(axis=0)
    arrays = (x_train - mean) / std, (x_test - mean) / std, y_train, y_test
    return Data(*(opgrad.tensor(array, dtype=opgrad.float64) for array in arrays))


def logistic(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return opgrad.matmul(x, w) + b


def network(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    hidden = opgrad.tanh(opgrad.matmul(x, w1) + b1)
    return opgrad.matmul(hidden, w2) + b2


def weight(*shape: int) -> Tensor:
    """Draw a parameter at random, scaled so that the layer's output varies as its input does."""
    return (opgrad.randn(shape) / shape[0] ** 0.5).requires_grad_()


def bias(*shape: int) -> Tensor:
    return opgrad.zeros(shape, requires_grad=True)


def step(model: Model, parameters: Sequence[Tensor], x: Tensor, y: Tensor, rate: float) -> None:
    """Move the parameters down the gradient of the mean loss, in place."""
    binary_cross_entropy_with_logits(model(x, *parameters), y).backward()
    with opgrad.no_grad():
        for each in parameters:
            each.data[...] -= rate * each.grad.data
            each.grad = None


def accuracy(model: Model, parameters: Sequence[Tensor], x: Tensor, y: Tensor) -> float:
    """Return the share of right answers: a logit above 0 says that y is 1."""
    with opgrad.no_grad():
        return ((model(x, *parameters) > 0) == y).mean().item()


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        msg = f"got {number}; expected at least 1"
        raise argparse.ArgumentTypeError(msg)
    return number


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train both models, print their accuracy on the test set, and return it by model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=positive, default=200, help="default: %(default)s")
    parser.add_argument("--hidden", type=positive, default=16, help="units; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)

    opgrad.manual_seed(options.seed)
    data = load(options.seed)
    n, hidden = data.x_train.shape[1], options.hidden
    models = {
        "logistic regression": (logistic, [weight(n), bias()]),
        "hidden layer": (network, [weight(n, hidden), bias(hidden), weight(hidden), bias()]),
    }
    accuracies = {}
    for name, (model, parameters) in models.items():
        for _ in track(range(options.epochs), description=f"{name:<20}"):
            step(model, parameters, data.x_train, data.y_train, rate=0.5)
        accuracies[name] = accuracy(model, parameters, data.x_test, data.y_test)
    for name, share in accuracies.items():
        print(f"{name:<20} test accuracy {share:.1%}")
    return accuracies


if __name__ == "__main__":
    main()
