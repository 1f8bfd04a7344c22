"""Minimise Rosenbrock's function in many dimensions, with SciPy's methods and opgrad's derivatives.

The function is written once. Its gradient and its Hessian, whole or times a vector, are what
`opgrad.func` makes of it, and go to `scipy.optimize.minimize` as they are::

    pip install ".[examples]"
    python examples/scipy_minimize.py --dimensions 20
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from opgrad.func import hessian, hvp, value_and_grad

if TYPE_CHECKING:
    from opgrad import Tensor


def rosenbrock(x: Tensor) -> Tensor:
    """Return the height of a bent valley, which has its lowest point, 0, where all x are 1."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


#: What each method is told beside the value and the gradient.
METHODS = {
    "BFGS": {},
    "Newton-CG": {"hessp": hvp(rosenbrock)},
    "trust-ncg": {"hessp": hvp(rosenbrock)},
    "trust-exact": {"hess": hessian(rosenbrock)},
}


def solve(method: str, start: np.ndarray) -> OptimizeResult:
    return minimize(
        value_and_grad(rosenbrock), start, method=method, jac=True, tol=1e-8, **METHODS[method]
    )


def dimensions(text: str) -> int:
    number = int(text)
    if number < 2:
        msg = f"got {number}; expected at least 2"
        raise argparse.ArgumentTypeError(msg)
    return number


def main(arguments: Sequence[str] | None = None) -> dict[str, OptimizeResult]:
    """Minimise with each method, print where they end, and return SciPy's results by method."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dimensions", type=dimensions, default=12, help="default: %(default)s")
    options = parser.parse_args(arguments)

    start = np.zeros(options.dimensions)
    results = {method: solve(method, start) for method in METHODS}
    print("method           value  distance  steps  gradients  Hessians")
    for method, found in results.items():
        distance, hessians = np.abs(found.x - 1).max(), found.get("nhev", 0)
        print(
            f"{method:<12}{found.fun:10.1e}{distance:10.1e}{found.nit:7}{found.njev:11}{hessians:10}"
        )
    return results


if __name__ == "__main__":
    main()
