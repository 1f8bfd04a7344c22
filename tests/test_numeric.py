"""The numeric derivative: right where it says so, and honest about how far it is right.

The oracle is mpmath: every formula below is written once, against a namespace ``m`` which is NumPy
for the estimate and mpmath for the truth (a complex step with a hundred digits).
"""

import math

import mpmath
import numpy as np
import pytest

from opgrad.check.numeric import (
    Estimate,
    agrees,
    complex_step,
    conclusive,
    derivative,
    directional,
    directions,
    is_kink,
    jacobian,
    one_sided,
    scale,
)


def truth(formula, x):
    """The derivative of a formula at a float, to far more digits than a float has."""
    with mpmath.workdps(120):
        step = mpmath.mpf(10) ** -50 * (abs(mpmath.mpf(x)) if x else 1)
        return float(mpmath.im(formula(mpmath.mp, mpmath.mpc(x, step))) / step)


def estimate(formula, x):
    return directional(lambda x: formula(np, x), x, 1.0)


def is_honest(found, true):
    return abs(found.value - true) <= 10 * found.error + 1e-8 * abs(found.value)


class Recorded:
    """A function that remembers where it was called."""

    def __init__(self, f):
        self.f, self.points = f, []

    @property
    def calls(self):
        return len(self.points)

    def __call__(self, x):
        self.points.append(np.array(x))
        return self.f(x)


# ------------------------------------------------------------------ right, honest and conclusive

ORDINARY = [-20.0, -1.3, -0.01, 0.3, 1.0, 2.7, 30.0]
POSITIVE = [1e-30, 1e-9, 0.05, 1.0, 3.3, 1e3, 1e30]
INSIDE = [-0.99, -0.5, -1e-8, 1e-20, 0.3, 0.9, 1 - 1e-6]  # of the interval from -1 to 1

FORMULAS = {
    # the ones that fixed steps get wrong
    "1/x": (lambda m, x: 1 / x, [1e-5, *POSITIVE]),
    "sqrt": (lambda m, x: m.sqrt(x), [1e-9, *POSITIVE]),
    "sin(1e6 x)": (lambda m, x: m.sin(1e6 * x), [1.0, 0.1, -0.37, 1e-6]),
    "sin(1/x)": (lambda m, x: m.sin(1 / x), [1e-2, 3e-3, 1e-3, 2e-4]),
    "tanh(50 x)": (lambda m, x: m.tanh(50 * x), [0.01, 0.03, 0.1, 0.15]),
    "1e-30 exp(x)": (lambda m, x: 1e-30 * m.exp(x), ORDINARY),
    "1e30 exp(x)": (lambda m, x: 1e30 * m.exp(x), ORDINARY),
    "exp(1e30 x)": (lambda m, x: m.exp(1e30 * x), [1e-30, -3e-30]),
    "sin(1e-30 x)": (lambda m, x: m.sin(1e-30 * x), [1e30, -2e30]),
    "near a pole": (lambda m, x: 1 / (x - 1), [1 + 1e-6, 1 - 1e-8]),
    "near an edge": (lambda m, x: m.asin(x), [1 - 1e-6, -1 + 1e-4]),
    # elementary functions
    "identity": (lambda m, x: x + 0, [*ORDINARY, 1e-200, -1e200]),
    "square": (lambda m, x: x * x, [*ORDINARY, 1e-30, 1e30]),
    "cube - 2x": (lambda m, x: x**3 - 2 * x, ORDINARY),
    "x**7": (lambda m, x: x**7, ORDINARY),
    "x**-3": (lambda m, x: x**-3, POSITIVE[1:-1]),
    "x**0.3": (lambda m, x: x**0.3, POSITIVE),
    "x**2.5": (lambda m, x: x**2.5, POSITIVE),
    "x**x": (lambda m, x: x**x, POSITIVE[1:5]),
    "2**x": (lambda m, x: 2**x, ORDINARY),
    "exp": (lambda m, x: m.exp(x), [*ORDINARY, 300.0, 700.0, -700.0]),
    "expm1": (lambda m, x: m.expm1(x), [*ORDINARY[1:], 1e-12]),
    "log": (lambda m, x: m.log(x), POSITIVE),
    "log1p": (lambda m, x: m.log1p(x), [-0.9, -1e-9, *POSITIVE]),
    "log2": (lambda m, x: m.log(x) / math.log(2), POSITIVE),
    "sin": (lambda m, x: m.sin(x), [*ORDINARY, 100.0, 0.0]),
    "cos": (lambda m, x: m.cos(x), [*ORDINARY, 100.0]),
    "tan": (lambda m, x: m.tan(x), ORDINARY),
    "asin": (lambda m, x: m.asin(x), INSIDE),
    "acos": (lambda m, x: m.acos(x), [-0.99, -0.5, 0.01, 0.3, 0.9, 1 - 1e-6]),
    "atan": (lambda m, x: m.atan(x), [*ORDINARY, 1e6]),
    "sinh": (lambda m, x: m.sinh(x), ORDINARY),
    "cosh": (lambda m, x: m.cosh(x), ORDINARY),
    "tanh": (lambda m, x: m.tanh(x), ORDINARY[1:-1]),
    "asinh": (lambda m, x: m.asinh(x), [*ORDINARY, 1e10]),
    "acosh": (lambda m, x: m.acosh(x), [1.001, 1.5, 1e8]),
    "atanh": (lambda m, x: m.atanh(x), INSIDE),
    # what operators are made of
    "sigmoid": (lambda m, x: 1 / (1 + m.exp(-x)), [-30.0, *ORDINARY[:-1]]),
    "softplus": (lambda m, x: m.log(1 + m.exp(x)), ORDINARY[1:]),
    "gelu-like": (lambda m, x: x * (1 + m.tanh(0.8 * (x + 0.04 * x**3))), ORDINARY[1:]),
    "gauss": (lambda m, x: m.exp(-x * x), ORDINARY[1:-1]),
    "lorentz": (lambda m, x: 1 / (1 + x * x), ORDINARY),
    "pseudo-huber": (lambda m, x: m.sqrt(1 + x * x), ORDINARY),
    "x log x": (lambda m, x: x * m.log(x), POSITIVE),
    "logit": (lambda m, x: m.log(x / (1 - x)), [1e-12, 0.1, 0.5, 0.999]),
    "rational": (lambda m, x: (x * x + 1) / (x - 3.7), ORDINARY),
    "exp(sin)": (lambda m, x: m.exp(m.sin(3 * x)), ORDINARY),
    "sin(exp)": (lambda m, x: m.sin(m.exp(x)), ORDINARY[:-1]),
    "damped": (lambda m, x: m.exp(-x) * m.cos(20 * x), ORDINARY[1:]),
    "sum with an offset": (lambda m, x: m.sin(x) + 1e3, ORDINARY),
}
POINTS = [(name, x) for name, (_, points) in FORMULAS.items() for x in points]


@pytest.mark.parametrize(("name", "x"), POINTS)
def test_the_estimate_is_right_and_conclusive(name, x):
    formula = FORMULAS[name][0]
    true, found = truth(formula, x), estimate(formula, x)
    assert abs(found.value - true) <= 1e-7 * abs(true)
    assert is_honest(found, true)
    assert agrees(true, found)
    assert conclusive(found, true)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_derivative_that_is_off_by_a_factor_of_1_0005_does_not_agree(name):
    formula, points = FORMULAS[name]
    assert not any(agrees(1.0005 * truth(formula, x), estimate(formula, x)) for x in points)


def test_most_estimates_are_right_to_twelve_digits():
    errors = [
        abs(estimate(formula, x).value - true) / abs(true)
        for formula, points in FORMULAS.values()
        for x in points
        if (true := truth(formula, x))
    ]
    assert np.median(errors) < 1e-14
    assert np.quantile(errors, 0.9) < 1e-12


def test_random_compositions_are_right_or_say_that_they_are_not():
    rng = np.random.default_rng(7)
    names = ["sin", "exp", "log1p", "tanh", "asinh", "sqrt", "atan"]
    verdicts = []
    for _ in range(300):
        (a, b, c), (p, q) = rng.choice(names, 3), 10.0 ** rng.uniform(-2, 2, 2)

        def formula(m, x, a=a, b=b, c=c, p=p, q=q):
            return getattr(m, a)(1.5 + getattr(m, b)(p * x) ** 2) * getattr(m, c)(1 + q * x)

        x = 10.0 ** rng.uniform(-6, 0) / max(p, q)
        true, found = truth(formula, x), estimate(formula, x)
        assert is_honest(found, true), (a, b, c, p, q, x)
        verdicts.append(bool(conclusive(found, true)))
    assert np.mean(verdicts) > 0.97


def test_where_a_function_saturates_the_error_stays_small_beside_its_neighbours():
    x = np.array([0.01, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0])
    found = jacobian(lambda x: np.tanh(50 * x), x)
    true = np.diag([truth(FORMULAS["tanh(50 x)"][0], each) for each in x])
    assert np.all(agrees(true, found))
    assert np.all(conclusive(found, true))


# ------------------------------------------------------------------------- exact where it can be


@pytest.mark.parametrize("x", [-3.0, 0.0, 1e-30, 0.7, 1e30])
def test_a_constant_has_derivative_zero_to_within_round_off(x):
    found = directional(lambda x: 0 * x + 5.0, x, 1.0)
    assert found.value == 0
    assert found.error <= 1e-14 * 5 / scale(x)
    assert conclusive(found, 0.0)


def test_what_is_zero_throughout_is_zero_to_within_the_rounding_of_numbers_near_one():
    found = directional(lambda x: np.maximum(x, 0), -1.0, 1.0)
    assert found.value == 0
    assert found.error < 1e-14
    assert conclusive(found, 0.0)
    assert conclusive(found, 1e-9)


@pytest.mark.parametrize("degree", range(1, 8))
def test_polynomials_are_exact_to_round_off(degree):
    found = directional(lambda x: x**degree, 1.7, 1.0)
    assert found.value == pytest.approx(degree * 1.7 ** (degree - 1), rel=1e-14 * 2**degree)
    assert found.error <= 1e-14 * 2**degree * found.value


def test_symmetric_functions_have_derivative_zero_at_the_centre():
    for f in (np.cos, np.cosh, np.square, lambda x: np.log(2 * np.cosh(x))):
        found = directional(f, 0.0, 1.0)
        assert abs(found.value) < 1e-14
        assert conclusive(found, 0.0)


def test_a_stationary_point_is_measured_by_the_slope_nearby():
    found = directional(np.sin, np.pi / 2, 1.0)
    assert conclusive(found, np.cos(np.pi / 2))
    assert agrees(np.cos(np.pi / 2), found)
    assert not agrees(1e-6, found)


# ---------------------------------------------------------------- cancellation, and saying so


def test_a_large_offset_leaves_three_digits_and_the_estimate_says_so():
    found = directional(lambda x: x + 1e12, 1.0, 1.0)
    assert is_honest(found, 1.0)
    assert 1e-5 < found.error < 1e-1
    assert not conclusive(found, 1.0)


@pytest.mark.parametrize(
    ("formula", "x"),
    [
        (lambda m, x: (x + 1e12) - 1e12, 1.0),
        (lambda m, x: (1 - m.cos(x)) / (x * x), 1e-4),
        (lambda m, x: m.log(m.exp(x)), 1.3e-6),
        (lambda m, x: 1 - m.tanh(x) ** 2, 15.0),
        (lambda m, x: 1 - m.tanh(x) ** 2, 17.5),
        (lambda m, x: m.sqrt(x * x + 1) - x, 1e6),
        (lambda m, x: m.log1p(x) - m.asinh(x), 0.0),
    ],
)
def test_rounding_inside_f_is_not_mistaken_for_f(formula, x):
    # Steps below the rounding errors see a staircase, with a slope of its own.
    assert is_honest(estimate(formula, x), truth(formula, x))


CANCELLING = {
    "1 - tanh(x)**2": (lambda m, x: 1 - m.tanh(x) ** 2, (15, 22)),
    "1 - tanh(x)": (lambda m, x: 1 - m.tanh(x), (15, 22)),
    "exp(x) (1 - tanh(x))": (lambda m, x: m.exp(x) * (1 - m.tanh(x)), (15, 21)),
    "log(1 + exp(-x))": (lambda m, x: m.log(1 + m.exp(-x)), (28, 45)),
    "log(1 + x)": (lambda m, x: m.log(1 + x), (1e-18, 1e-12)),
    "(1 + x) - 1": (lambda m, x: (1 + x) - 1, (1e-18, 1e-12)),
    "x ((1 + x) - 1)": (lambda m, x: x * ((1 + x) - 1), (1e-18, 1e-12)),
    "(1000 + x) - 1000": (lambda m, x: (1000 + x) - 1000, (1e-15, 1e-9)),
    "exp(x) - 1": (lambda m, x: m.exp(x) - 1, (1e-18, 1e-12)),
    "(exp(x) - 1) / x": (lambda m, x: (m.exp(x) - 1) / x, (1e-18, 1e-12)),
    "log(exp(x))": (lambda m, x: m.log(m.exp(x)), (1e-18, 1e-12)),
    "sqrt(x + 1) - 1": (lambda m, x: m.sqrt(x + 1) - 1, (1e-18, 1e-12)),
    "1 - cos(x)": (lambda m, x: 1 - m.cos(x), (1e-9, 1e-6)),
    "(1 - cos(x)) / x**2": (lambda m, x: (1 - m.cos(x)) / (x * x), (1e-9, 1e-6)),
    "x - sin(x)": (lambda m, x: x - m.sin(x), (1e-9, 1e-5)),
    "acosh(1 + x)": (lambda m, x: m.acosh(1 + x), (1e-17, 1e-12)),
    "sqrt(x**2 + 1) - x": (lambda m, x: m.sqrt(x * x + 1) - x, (1e6, 1e9)),
    "sqrt(x + 1) - sqrt(x)": (lambda m, x: m.sqrt(x + 1) - m.sqrt(x), (1e10, 1e17)),
}
needs_more_digits = pytest.mark.skipif(
    np.finfo(np.longdouble).eps >= np.finfo(float).eps, reason="this machine has no more digits"
)


def points_between(low, high, count, seed=0):
    """Some at random, some round in decimal, some round in binary."""
    drawn = np.exp(np.random.default_rng(seed).uniform(np.log(low), np.log(high), count))
    return [*drawn, *(float(f"{x:.1g}") for x in drawn), *scale(drawn)]


def refuted(formula, x):
    """Whether any estimate of the derivative calls the true one wrong."""
    true, f = truth(formula, x), Recorded(lambda x: formula(np, x))
    found = [directional(f, x, 1.0), *one_sided(f, x, 1.0)]
    return any(conclusive(each, true) and not agrees(true, each) for each in found)


@needs_more_digits
@pytest.mark.parametrize("name", CANCELLING)
def test_where_f_is_what_rounding_left_over_no_right_derivative_is_called_wrong(name):
    formula, (low, high) = CANCELLING[name]
    assert not [x for x in points_between(low, high, 12) if refuted(formula, x)]


@pytest.mark.parametrize("x", [18.1, 18.5, 18.9, 20.0, 21.7])
def test_what_numbers_near_one_have_swallowed_is_not_known(x):
    def f(x):  # in double precision, whatever x is
        return 1 - np.tanh(np.float64(x)) ** 2

    for found in (directional(f, x, 1.0), directional(f, -x, 1.0), *one_sided(f, x, 1.0)):
        assert not conclusive(found, truth(CANCELLING["1 - tanh(x)**2"][0], x))
    assert not conclusive(directional(lambda x: (1 + float(x)) - 1, 1e-17, 1.0), 1.0)


def test_where_f_is_flat_a_derivative_is_still_refuted():
    for x in (-1.3, -1.3e-5, -30.4):
        for f in (np.floor, lambda x: np.maximum(x, 0), lambda x: np.where(x < 0, 2.0, x)):
            found = directional(f, x, 1.0)
            assert conclusive(found, 0.0)
            assert agrees(0.0, found)
            for wrong in (1.0, -0.01):
                assert conclusive(found, wrong)
                assert not agrees(wrong, found)


@needs_more_digits
def test_functions_that_have_no_more_digits_are_known_as_well():
    def refuses(x):
        if x.dtype == np.longdouble:
            raise NotImplementedError
        return np.exp(x)

    for f in (
        refuses,
        lambda x: np.exp(np.float64(x)),
        lambda x: np.exp(x) * np.ones(1 + x.itemsize // 16),
    ):
        found = directional(f, 1.0, 1.0)
        assert np.all(conclusive(found))
        np.testing.assert_allclose(found.value, np.e, rtol=1e-12)


def test_a_function_that_rounds_to_single_precision_inside_is_not_taken_for_flat():
    found = directional(lambda x: np.sin(np.float64(np.float32(x))), 1.1, 1.0)
    assert is_honest(found, np.cos(1.1))


@pytest.mark.parametrize("outer", ["exp", "tanh", "cos", "atan"])
@pytest.mark.parametrize("a", ["sin", "tan", "tanh", "sinh", "atan", "asinh", "expm1", "log1p"])
@pytest.mark.parametrize("b", ["sin", "asin", "atanh", "expm1"])
def test_where_everything_vanishes_at_zero_so_does_the_derivative(outer, a, b):
    def f(x):
        return getattr(np, outer)(getattr(np, a)(x) - getattr(np, b)(x))

    if a != b:
        found = directional(f, 0.0, 1.0)
        assert agrees(0.0, found)
        assert conclusive(found)
    beside = jacobian(f, [0.0, 0.5])
    assert agrees(0.0, beside).tolist() == [[True, True], [True, a == b]]


def test_only_the_columns_of_zeros_are_less_certain_for_it():
    found = jacobian(np.exp, [0.0, 1.0])
    assert found.error[0, 0] > 1e-11 > found.error[1, 1]


def test_at_zero_ordinary_and_steep_functions_stay_conclusive():
    for steepness in (1e-3, 1.0, 20.0, 100.0):
        found = directional(lambda x, k=steepness: np.expm1(k * x), 0.0, 1.0)
        assert agrees(steepness, found)
        assert conclusive(found)
        assert not agrees(1.0005 * steepness, found)
    found = directional(lambda x: np.where(np.abs(x) > 0.05, np.inf, np.sin(x)), 0.0, 1.0)
    assert agrees(1.0, found)
    assert conclusive(found)


def test_stairs_too_fine_to_be_told_from_rounding_are_inconclusive():
    def f(x):
        return x / 2 + np.round(x / 2, 9)  # the slope is 1/2, or 1 if rounding is an accident

    assert not conclusive(directional(f, 0.3, 1.0), 0.5)
    assert not any(conclusive(side, 0.5) for side in one_sided(f, 0.3, 1.0))


def test_a_function_below_round_off_is_inconclusive_unless_both_are_zero():
    found = directional(lambda x: x + 1e20, 1.0, 1.0)
    assert is_honest(found, 1.0)
    assert not conclusive(found, 1.0)
    assert conclusive(found, 0.0)


def test_oscillation_too_fast_for_floats_is_inconclusive():
    found = directional(lambda x: np.sin(1e15 * x), 1.0, 1.0)
    assert found.error == np.inf
    assert not conclusive(found, 1e15)


def test_oscillation_too_fast_for_single_precision_is_inconclusive():
    for x in np.float32([5.842080708085007e-10, 3.1e-10, 7.7e-10]).tolist():
        found = directional(lambda x: np.sin(1 / x.astype(np.float32)), x, 1.0)
        assert not conclusive(found, truth(lambda m, x: m.sin(1 / x), x))


def test_noise_is_inconclusive():
    rng = np.random.default_rng(0)
    found = directional(lambda x: x + rng.normal(), 1.0, 1.0)
    assert not conclusive(found, 1.0)


def test_noise_of_a_hundred_units_of_round_off_is_no_obstacle():
    rng = np.random.default_rng(0)
    f = Recorded(lambda x: np.exp(x) * (1 + 1e-14 * rng.normal()))
    found = directional(f, 1.0, 1.0)
    assert found.value == pytest.approx(np.e, rel=1e-11)
    assert is_honest(found, np.e)
    assert conclusive(found)


# --------------------------------------------------------------------------------------- aliasing


@pytest.mark.parametrize("frequency", [2.0**k for k in range(3, 24, 4)])
def test_a_period_that_divides_the_wide_steps_is_found_out(frequency):
    # At x = 1 and steps of 2**-k the wide rungs see the same phase on both sides: no slope at all.
    found = directional(lambda x: np.sin(2 * np.pi * np.fmod(frequency * x, 1)), 1.0, 1.0)
    assert found.value == pytest.approx(2 * np.pi * frequency, rel=1e-7)
    assert conclusive(found)


@pytest.mark.parametrize("amplitude", [1e-9, 1e-10, 1e-11, 1e-12])
def test_a_ripple_that_hides_from_the_wide_steps_is_found_out(amplitude):
    def f(x):
        return x + amplitude * np.sin(2 * np.pi * np.fmod(2.0**20 * x, 1))

    assert is_honest(directional(f, 1.0, 1.0), 1 + 2 * np.pi * 2.0**20 * amplitude)


def test_a_sawtooth_is_differentiated_between_its_teeth():
    found = directional(lambda x: np.mod(x, 2.0**-10), 1.1003, 1.0)
    assert found.value == pytest.approx(1.0, rel=1e-9)


def test_a_staircase_is_flat_between_its_steps():
    for x in (0.3, 30.5, -7.2, 500.5):
        found = directional(np.floor, x, 1.0)
        assert found.value == 0
        assert conclusive(found, 0.0)


# ------------------------------------------------------------------------------------------ kinks


@pytest.mark.parametrize("distance", [0.3, 1e-2, 1e-4, 1e-6, 1e-8, -1e-8, -1e-5, -1e-3, -0.1])
@pytest.mark.parametrize(
    ("f", "below", "above"),
    [
        (lambda x: np.maximum(x - 1, 0), 0.0, 1.0),
        (lambda x: np.abs(x - 1), -1.0, 1.0),
        (lambda x: np.minimum(x, 1) + 3.0, 1.0, 0.0),
        (lambda x: np.where(x < 1, -2 * (x - 1), 0.5 * (x - 1)), -2.0, 0.5),
    ],
)
def test_a_kink_nearby_does_not_spoil_the_slope_on_this_side(f, below, above, distance):
    found = directional(f, 1 + distance, 1.0)
    true = above if distance > 0 else below
    assert is_honest(found, true)
    assert conclusive(found, true)
    assert not agrees(below + above - true, found)


@pytest.mark.parametrize("distance", [1e-11, 1e-12, -1e-12, -1e-11])
def test_a_kink_too_near_for_many_steps_is_no_reason_to_be_wrong(distance):
    found = directional(lambda x: np.maximum(x - 1, 0), 1 + distance, 1.0)
    assert is_honest(found, float(distance > 0))


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (np.abs, 0.0),
        (lambda x: np.maximum(x, 0), 0.0),
        (lambda x: np.maximum(x, 1), 1.0),
        (lambda x: np.abs(np.sin(x)) + x, 0.0),
        (lambda x: np.where(x < 2, x, 1.002 * x - 0.004), 2.0),
        (np.sqrt, 0.0),  # exists on one side only
    ],
)
def test_kinks_are_found(f, x):
    assert is_kink(*one_sided(f, x, 1.0))


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (np.exp, 0.0),
        (np.sin, np.pi / 2),
        (lambda x: np.sin(1e6 * x), 1.0),
        (lambda x: x * np.abs(x), 0.0),
        (lambda x: x + 1e12, 1.0),
        (lambda x: 1e-30 * np.cosh(x), 0.3),
        (lambda x: np.abs(x - 1), 1.0 + 1e-6),
        (lambda x: 0 * x, 0.0),
        (np.log, 0.0),  # not finite on either side: there is nothing to differ
    ],
)
def test_smooth_points_are_not_taken_for_kinks(f, x):
    assert not is_kink(*one_sided(f, x, 1.0))


def test_one_sided_derivatives_are_those_of_either_side():
    left, right = one_sided(lambda x: np.where(x < 1, np.sin(x), np.exp(x - 1) + 3), 1.0, 1.0)
    assert right.value == pytest.approx(1.0, rel=1e-9)
    assert not np.isclose(left.value, np.cos(1.0))  # f jumps: from the left it has no slope
    assert not conclusive(left)
    left, right = one_sided(lambda x: np.where(x < 1, np.sin(x), np.sin(1) * x), 1.0, 2.0)
    assert left.value == pytest.approx(2 * np.cos(1.0), rel=1e-9)
    assert right.value == pytest.approx(2 * np.sin(1.0), rel=1e-9)


def test_kinks_are_found_element_by_element():
    x = np.array([-1.0, 0.0, 2.0])
    assert is_kink(*one_sided(np.abs, x, scale(x))).tolist() == [False, True, False]


# --------------------------------------------------------------------------- element by element


def test_each_output_element_gets_its_own_best_step():
    def f(x):
        return np.array([[np.sin(1e6 * x), 1e30 / x], [1e-30 * x**2, 7.0]])

    found = directional(f, 1.0, 1.0)
    true = np.array([[1e6 * np.cos(1e6), -1e30], [2e-30, 0.0]])
    assert found.value.shape == found.error.shape == found.typical.shape == (2, 2)
    np.testing.assert_allclose(found.value, true, rtol=1e-8)
    assert np.all(agrees(true, found))
    np.testing.assert_array_less(found.error, 1e-7 * np.abs(true) + 1e-13)


def test_steps_that_leave_the_domain_of_one_element_leave_the_others_alone():
    x = 0.95
    found = directional(lambda x: np.stack([np.arcsin(x), np.arctanh(x), np.exp(x)]), x, 1.0)
    true = [1 / np.sqrt(1 - x * x), 1 / (1 - x * x), np.exp(x)]
    np.testing.assert_allclose(found.value, true, rtol=1e-9)
    assert np.all(conclusive(found))


def test_dense_directions_may_lead_far_out_of_the_domain():
    x = np.array([1.0, 1e-3])
    found = directional(np.log, x, np.array([0.5, 0.5]))  # 1/16 of the widest step is too far
    np.testing.assert_allclose(found.value, 0.5 / x, rtol=1e-8)


def test_where_f_is_not_finite_at_x_nothing_is_claimed():
    for f in (lambda x: np.where(np.abs(x - 1) < 1e-5, np.nan, x), lambda x: np.full(3, np.nan)):
        found = directional(f, 1.0, 1.0)
        assert np.all(found.error == np.inf)
        assert not np.any(conclusive(found, 1.0))


def test_where_f_jumps_nothing_is_conclusive():
    assert not conclusive(directional(np.sign, 0.0, 1.0), 0.0)


@pytest.mark.parametrize("size", [0, 1, 3])
def test_outputs_may_have_any_size(size):
    found = directional(lambda x: np.full(size, 2.0) * x, 1.0, 1.0)
    np.testing.assert_allclose(found.value, np.full(size, 2.0), rtol=1e-13)


def test_integer_and_boolean_outputs_are_numbers():
    assert directional(lambda x: np.sign(x).astype(int), 3.0, 1.0).value == 0
    assert directional(lambda x: x > 0, 3.0, 1.0).value == 0


def test_a_function_that_refuses_wide_steps_is_differentiated_by_narrow_ones():
    a = np.array([[1.0, 0.95], [0.95, 1.0]])  # barely positive definite
    found = directional(np.linalg.cholesky, a, np.array([[0.0, 1.0], [1.0, 0.0]]))
    true = [[0, 0], [1, -0.95 / np.sqrt(1 - 0.95**2)]]
    np.testing.assert_allclose(found.value, true, rtol=1e-8, atol=1e-12)


def test_a_function_in_pure_python_may_raise_outside_its_domain():
    assert directional(math.asin, 0.97, 1.0).value == pytest.approx(1 / math.sqrt(1 - 0.97**2))
    assert derivative(lambda t: 1 / (1 - t / 0.125)).value == pytest.approx(8.0)


def test_a_function_that_always_raises_is_heard():
    with pytest.raises(ValueError, match="could not convert string to float: 'gradient'"):
        directional(lambda x: float("gradient"), 1.0, 1.0)


def test_other_exceptions_are_not_taken_for_the_edge_of_a_domain():
    with pytest.raises(KeyError, match="gradient"):
        directional(lambda x: {}["gradient"], 1.0, 1.0)


def test_a_shape_that_changes_is_an_error():
    shapes = iter([2, 3])
    with pytest.raises(TypeError, match=r"shape \(3,\), expected numbers of shape \(2,\)"):
        derivative(lambda t: np.zeros(next(shapes)))


def test_an_output_that_is_no_number_is_an_error():
    with pytest.raises(TypeError, match="f returned object"):
        derivative(lambda t: None)


def test_memory_may_be_reused_by_f_and_x_may_be_overwritten():
    memory = np.empty(2)

    def f(x):
        np.multiply(x, x, out=memory)
        x[...] = np.nan
        return memory

    x = np.array([3.0, 4.0])
    np.testing.assert_allclose(directional(f, x, [1.0, 1.0]).value, [6.0, 8.0], rtol=1e-12)
    for side in one_sided(f, x, [1.0, 1.0]):
        np.testing.assert_allclose(side.value, [6.0, 8.0], rtol=1e-9)
    assert x.tolist() == [3.0, 4.0]
    found = derivative(lambda t: np.multiply(t, [1.0, 2.0], out=memory))
    np.testing.assert_allclose(found.value, [1.0, 2.0], rtol=1e-12)


# ----------------------------------------------------------------------- the scale of x, and steps


@pytest.mark.parametrize("x", [1e-300, 1e-200, 1e-30, 1e-5, 1.0, 1e5, 1e30, 1e200, 1e300])
def test_steps_are_relative_to_x(x):
    for sign in (1, -1):
        found = directional(np.log, x, sign)
        assert found.value * sign == pytest.approx(1 / x, rel=1e-10)
        assert conclusive(found)


def test_denormal_numbers_have_a_derivative_too():
    found = directional(np.sin, 5e-324, 1.0)
    assert found.value == pytest.approx(1.0, rel=1e-10)


def test_underflow_in_f_is_not_a_derivative_of_zero():
    found = directional(np.square, 1e-200, 1.0)
    assert is_honest(found, 2e-200)
    assert not conclusive(found, 2e-200)


def test_the_length_of_the_direction_counts_in_the_result_only():
    for length in (1e-100, 1.0, 1e100):
        f = Recorded(np.exp)
        assert directional(f, 1.0, length).value == pytest.approx(np.e * length, rel=1e-12)
        assert 0.0625 <= max(abs(x - 1.0) for x in f.points) <= 0.125


def test_a_direction_of_zero_gives_zero():
    assert directional(np.exp, [1.0, 2.0], [0.0, 0.0]).value.tolist() == [0.0, 0.0]


def test_scale_is_a_power_of_two_at_or_below_x():
    x = np.array([1.0, 1.99, 2.0, -0.3, 1e30, -1e-30, 0.0, 5e-324, 3 + 4j])
    powers = [1.0, 1.0, 2.0, 0.25, 2.0**99, 2.0**-100, 1.0, 2.0**-970, 4.0]
    assert scale(x).tolist() == powers


def test_one_hot_steps_are_powers_of_two_exactly():
    rng = np.random.default_rng(0)
    for x in rng.uniform(1, 1.8, size=100) * 2.0 ** rng.integers(-20, 20, size=100):
        f = Recorded(np.exp)
        directional(f, x, 1.0)
        irregular = {float(y) for y in f.points if y.dtype == np.longdouble}  # for rounding errors
        steps = [abs(math.fsum([y, -x])) for y in f.points if float(y) not in irregular]
        assert len(steps) >= 14
        assert {math.frexp(step)[0] for step in steps} == {0.5}


@pytest.mark.parametrize("x", [np.arange(5.0), np.array(2.0), np.ones((2, 3)), np.ones(2) * 1j])
def test_directions_are_signed_and_have_no_small_component(x):
    rng = np.random.default_rng(0)
    found = list(directions(rng, x, 50))
    assert len(found) == 50
    for d in found:
        assert d.shape == x.shape
        assert np.iscomplexobj(d) == np.iscomplexobj(x)
        parts = np.concatenate([(d / scale(x)).real.ravel(), (d / scale(x)).imag.ravel()])
        parts = parts if np.iscomplexobj(x) else parts[: x.size]
        assert np.all((np.abs(parts) >= 0.125) & (np.abs(parts) <= 1.0))
        assert np.min(np.abs(parts)) >= 0.1 / np.sqrt(x.size) * np.linalg.norm(parts)
        assert parts.size == 1 or set(np.sign(parts)) == {-1.0, 1.0}
    assert len({d.tobytes() for d in found}) > 1


def test_directions_of_nothing_are_empty():
    found = directions(np.random.default_rng(0), np.ones((0, 3)), 2)
    assert [d.shape for d in found] == [(0, 3), (0, 3)]


def test_a_direction_sees_every_element():
    x = np.random.default_rng(1).normal(size=50)
    matrix = np.random.default_rng(2).normal(size=(3, 50))
    for d in directions(np.random.default_rng(3), x, 4):
        found = directional(lambda x: matrix @ np.exp(x), x, d)
        np.testing.assert_allclose(found.value, matrix @ (np.exp(x) * d), rtol=1e-10)
        assert np.all(conclusive(found))


# --------------------------------------------------------------------------- Jacobians and complex


def test_the_jacobian_has_the_shape_of_f_then_of_x():
    a, x = np.random.default_rng(0).normal(size=(2, 3)), np.arange(1.0, 13.0).reshape(3, 4)
    found = jacobian(lambda x: a @ x, x)
    true = np.einsum("ik,jl->ijkl", a, np.eye(4))
    assert found.value.shape == (2, 4, 3, 4)
    np.testing.assert_allclose(found.value, true, rtol=1e-12, atol=1e-13)
    assert np.all(agrees(true, found) & conclusive(found, true))


def test_a_column_that_f_refuses_to_step_along_leaves_the_others_alone():
    def f(x):
        if x[0] > 1.0:  # no step to the right
            raise ValueError
        if x[1] > 2.05:  # no wide step
            raise ZeroDivisionError
        return np.exp(x)

    recorded = Recorded(f)
    found = jacobian(recorded, [1.0, 2.0, 3.0])
    assert np.all(np.isinf(found.error[:, 0]))
    np.testing.assert_allclose(found.value[:, 1:], np.diag(np.exp([1.0, 2.0, 3.0]))[:, 1:], 1e-9)
    assert np.all(conclusive(found)[:, 1:])
    widest = max(abs(x[2] - 3.0) for x in recorded.points)
    alone = jacobian(np.exp, [3.0])
    assert widest == 0.25
    assert found.value[2, 2] == alone.value[0, 0]


def test_a_function_that_refuses_every_column_is_heard():
    with pytest.raises(ValueError, match="could not convert string to float: 'gradient'"):
        jacobian(lambda x: float("gradient"), [1.0, 2.0])


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_refused_columns_do_not_change_what_the_others_are_made_of(dtype):
    def f(x):
        if x[0] != 1.0:
            raise ValueError
        return (3 * x).astype(dtype)

    def alone(x):
        return f(np.array([1.0, x[0]]))

    found, column = jacobian(f, [1.0, 2.5]), jacobian(alone, [2.5])
    assert found.value[:, 1].tolist() == column.value[:, 0].tolist()
    assert found.error[:, 1].tolist() == column.error[:, 0].tolist()


def test_an_output_that_does_not_depend_on_an_input_has_exactly_zero():
    x = np.array([0.3, -1e-7, 1e9])
    found = jacobian(np.sin, x)
    assert found.value[~np.eye(3, dtype=bool)].tolist() == [0.0] * 6
    np.testing.assert_allclose(np.diag(found.value), np.cos(x), rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0), (1, 2)])
def test_jacobians_of_every_shape(shape):
    found = jacobian(lambda x: np.stack([x, 2 * x]), np.ones(shape))
    assert found.value.shape == found.error.shape == found.typical.shape == (2, *shape, *shape)
    found = jacobian(np.sum, np.ones(shape))
    assert found.value.shape == found.error.shape == found.typical.shape == shape


def test_a_complex_output_has_a_complex_derivative_and_a_real_error():
    found = directional(lambda x: np.exp(1j * x) * np.array([1.0, 1e-20]), 0.7, 1.0)
    true = 1j * np.exp(0.7j) * np.array([1.0, 1e-20])
    np.testing.assert_allclose(found.value, true, rtol=1e-12)
    assert found.error.dtype == found.typical.dtype == np.float64
    assert np.all(agrees(true, found) & conclusive(found))


@pytest.mark.parametrize("size", [1e-20, 1e-10, 1.0, 1e10])
def test_a_part_that_does_not_move_at_all_is_no_reason_for_doubt(size):
    for f in (lambda z: (2 + 0j) * z, np.conj, np.square, lambda z: z * np.conj(z), np.abs):
        for z in (size + 0j, size * 1j):
            for unit in (1, 1j):
                found = directional(f, z, unit)
                assert conclusive(found)


def test_the_error_of_a_complex_derivative_covers_both_parts():
    def f(x):
        stairs = x / 2 + np.round(x / 2, 9)  # nobody knows what slope that is
        return np.exp(x) + 1j * stairs

    for turn in (1, 1j):
        assert not conclusive(directional(lambda x, turn=turn: turn * f(x), 0.3, 1.0))


def test_each_part_of_a_complex_derivative_gets_its_own_best_step():
    for turn in (1, 1j):
        f = Recorded(lambda x, turn=turn: turn * (np.exp(x) + 1j * np.sin(1e5 * x)))
        found = directional(f, 0.7, 1.0)
        true = turn * (np.exp(0.7) + 1e5j * np.cos(7e4))
        assert abs(found.value - true) < 1e-8 * abs(true)
        assert agrees(true, found)


@pytest.mark.parametrize(
    ("f", "points", "calls"),
    [
        (lambda z: np.exp((1 + 1j) * z) * np.exp(-1j * z), np.linspace(0.3, 3, 40) + 0j, 16),
        (lambda z: 1 - np.tanh(z) ** 2, np.linspace(2.5, 4, 40) + 1.9e-4j, 28),
        (np.tanh, np.linspace(6, 9, 40) - 0.009j, 24),
    ],
)
def test_a_part_that_is_nearly_zero_is_measured_by_the_whole(f, points, calls):
    # It is little but the rounding of the other part.
    recorded = [Recorded(f) for _ in points]
    found = [directional(*each, 1j) for each in zip(recorded, points, strict=True)]
    assert np.mean([conclusive(each) for each in found]) > 0.9
    assert np.mean([each.calls for each in recorded]) <= calls


def test_complex_inputs_are_differentiated_along_either_axis():
    z = np.array([1.0 + 2.0j, -0.3 - 1e-3j, 2j])
    along, across = jacobian(np.conj, z), jacobian(np.conj, z, 1j)
    np.testing.assert_allclose(along.value, np.eye(3), rtol=1e-12)
    np.testing.assert_allclose(across.value, -1j * np.eye(3), rtol=1e-12)
    slope = directional(np.exp, z, np.array([0, 1j, 0]))
    np.testing.assert_allclose(slope.value[1], 1j * np.exp(z[1]), rtol=1e-11)


def test_real_outputs_of_complex_inputs():
    z = 3.0 + 4.0j
    assert directional(np.abs, z, 1.0).value == pytest.approx(0.6, rel=1e-11)
    assert directional(np.abs, z, 1j).value == pytest.approx(0.8, rel=1e-11)
    for d in directions(np.random.default_rng(0), np.array([z]), 3):
        found = directional(np.abs, [z], d)
        np.testing.assert_allclose(found.value, (np.conj(z) * d).real / 5, rtol=1e-10)


@pytest.mark.parametrize(("x", "direction"), [([1.0, 2.0], 1.0), (1.0, 1j), (1.0, [1.0])])
def test_a_direction_that_does_not_fit_is_an_error(x, direction):
    with pytest.raises(ValueError, match="give a direction of x's shape, complex only where x is"):
        directional(np.exp, x, direction)


def test_the_complex_step_is_as_exact_as_f():
    for name, (formula, points) in FORMULAS.items():
        if name in ("near an edge", "asin", "acos", "acosh", "atanh", "x**x", "log1p", "expm1"):
            continue  # NumPy's complex versions are themselves not exact, or have a branch cut
        for x in points:
            if abs(x) < 1e100 and abs(x) < 100:
                found = complex_step(lambda x, f=formula: f(np, x), x, 1.0)
                assert found == pytest.approx(truth(formula, x), rel=1e-9), (name, x)


def test_the_complex_step_takes_arrays_and_directions():
    x = np.array([1e-30, 0.0, 2.0])
    found = complex_step(np.exp, x, [1.0, 2.0, -1.0])
    np.testing.assert_allclose(found, np.exp(x) * [1.0, 2.0, -1.0], rtol=1e-15)


def test_the_complex_step_refuses_what_is_not_holomorphic():
    with pytest.raises(TypeError, match="needs a holomorphic f"):
        complex_step(np.abs, 1.0, 1.0)


# ------------------------------------------------------------------------------- single precision


@pytest.mark.parametrize("f", [np.sin, np.exp, np.tanh, np.sqrt, np.square, lambda x: 1 / x])
@pytest.mark.parametrize("x", [0.01, 0.3, 1.1, 2.5])
def test_single_precision_is_known_to_single_precision(f, x):
    x = float(np.float32(x))
    true = directional(f, x, 1.0).value
    found = directional(lambda x: f(x.astype(np.float32)), x, 1.0)
    round_off = float(np.finfo(np.float32).eps) * (abs(f(x) / x) + abs(true))
    assert is_honest(found, true)
    assert abs(found.value - true) < 30 * round_off
    assert round_off < found.error < 100 * round_off


def test_single_precision_outputs_widen_the_error_even_if_they_agree():
    narrow = directional(lambda x: np.float32(3) * x.astype(np.float32), 1.5, 1.0)
    wide = directional(lambda x: 3 * x, 1.5, 1.0)
    assert narrow.value == wide.value == 3.0
    assert narrow.error > 1e6 * wide.error


def test_half_precision_is_inconclusive():
    assert not conclusive(directional(lambda x: np.exp(x.astype(np.float16)), 1.0, 1.0))


# -------------------------------------------------------------------------------------- the verdict


def test_agreement_allows_ten_errors_and_a_hundred_millionth():
    found = Estimate(np.array([1.0, 1.0, -2.0]), np.array([0.0, 1e-3, 0.0]), np.zeros(3))
    assert agrees([1 + 0.9e-8, 1.0099, -2 - 1.9e-8], found).tolist() == [True] * 3
    assert agrees([1 + 1.1e-8, 1.0101, -2 - 2.1e-8], found).tolist() == [False] * 3


@pytest.mark.parametrize("analytic", [np.nan, np.inf, -np.inf, complex(np.nan, 0)])
def test_what_is_not_finite_never_agrees(analytic):
    everything = Estimate(np.array([1.0, np.inf]), np.array([np.inf, 0.0]), np.zeros(2))
    assert not np.any(agrees(analytic, everything))


def test_an_estimate_is_conclusive_if_ten_errors_are_a_two_thousandth_of_a_tenth():
    def verdict(value, error, typical=0.0, analytic=0.0):
        found = Estimate(np.array(value), np.array(error), np.array(typical))
        return conclusive(found, analytic).tolist()

    assert verdict([3.0], [5e-5]) == [True]
    assert verdict([3.0], [7e-5]) == [False]
    assert verdict([0.0], [1e-9]) == [True]  # zero, and zero it is
    assert verdict([0.0], [1e-9], analytic=1e-9) == [False]
    assert verdict([0.0], [1e-9], analytic=1.0) == [True]  # near enough to refute it
    assert verdict([0.0], [1e-9], typical=[1.0], analytic=1e-9) == [True]
    assert verdict([1e-12, 1.0], [1e-9, 1e-9]) == [True, True]  # small beside its neighbours
    assert verdict([1.0, 0.0], [np.inf, np.inf]) == [False, False]
    assert verdict([np.nan, 1.0], [np.inf, 1e-9], analytic=np.inf) == [False, True]


# ------------------------------------------------------------------------------------------- cost


@pytest.mark.parametrize(
    "f", [np.exp, np.sin, np.tanh, np.sqrt, np.log, np.square, lambda x: 1 / x]
)
@pytest.mark.parametrize("x", [1e-5, 0.3, 1.0, 2.0])
def test_a_well_behaved_function_takes_sixteen_calls(f, x):
    f = Recorded(f)
    directional(f, x, 1.0)
    assert f.calls <= 16


def test_no_function_takes_more_than_a_hundred_calls():
    for hard in (np.sign, lambda x: np.sin(1e15 * x), lambda x: np.full(2, np.nan)):
        f = Recorded(hard)
        directional(f, 0.0, 1.0)
        assert 16 < f.calls <= 100


def test_both_sides_share_the_value_at_x():
    f = Recorded(np.square)
    one_sided(f, 1.0, 1.0)
    assert f.calls <= 20
