"""The self-test: what is planted is wrong, is found out, and is excused only if nothing differs."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from opgrad import Case, Operator, hookimpl, ops, tensor
from opgrad.check import __main__, selftest, verify
from opgrad.check.equivalence import Original
from opgrad.check.mutants import mutants
from opgrad.check.mutations import mutations
from opgrad.check.selftest import Fate, examine
from opgrad.registry import registry


class Cube(Operator):
    """``x ** 3``: every mutation of its backward that can show does."""

    @hookimpl
    def forward(self, x, /):
        return x * x * x

    @hookimpl
    def backward(self, grad, x):
        return grad * (3 * x * x)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))


class Product(Operator):
    """Two inputs, one hook for both gradients, an attribute of its own, and a residual."""

    residuals = ("twice",)

    def __init__(self, factor=1):
        self.factor = factor

    @hookimpl
    def forward(self, a, b, /):
        return self.factor * a * b, 2 * b

    @hookimpl
    def backward(self, grad, a, twice):
        return self.factor * grad * twice / 2, self.factor * grad * a

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3), rng.normal(size=3))


class Cartesian(Operator):
    """From polar coordinates: two inputs with a hook each, and two outputs."""

    @hookimpl
    def forward(self, radius, angle, /, *, xp):
        return radius * xp.cos(angle), radius * xp.sin(angle)

    @hookimpl
    def backward_radius(self, grad, angle, xp):
        return grad[0] * xp.cos(angle) + grad[1] * xp.sin(angle)

    @hookimpl
    def backward_angle(self, grad, radius, angle, xp):
        return radius * (grad[1] * xp.cos(angle) - grad[0] * xp.sin(angle))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(2, 2)), rng.normal(size=(2, 2)))


class Moments(Operator):
    """Two outputs, one hook for the gradients of both inputs, and a residual."""

    residuals = ("power",)

    @hookimpl
    def forward(self, x, weight, /):
        return (x * weight, x * x * weight), 2

    @hookimpl
    def backward(self, grad, x, weight, power):
        return weight * (grad[0] + grad[1] * x * power), x * (grad[0] + grad[1] * x)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(2, 2)), rng.normal(size=2))


class Parabola(Cube):
    """A slope of two terms."""

    @hookimpl
    def forward(self, x, /):
        return x * x - 3 * x

    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * x - 3)


class Many(Cube):
    """A case of 1000 elements, whose Jacobian is too large to be compared whole."""

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=1000))


def planted(operator: Operator, mutation: str, hook: str = "backward") -> Operator:
    found = [m.operator for m in mutants(operator) if (m.mutation, m.hook) == (mutation, hook)]
    (mutant,) = found
    return mutant


def gradient(operator: Operator, *values: float) -> list[float]:
    tensors = [tensor([value], requires_grad=True) for value in values]
    operator(*tensors).backward()
    return [float(each.grad.data[0]) for each in tensors]


# ------------------------------------------------------------------------------ the mutants


@pytest.mark.parametrize(
    ("mutation", "expected"),
    [
        ("opposite sign", -12.0),
        ("times 1.0005", 12.006),
        ("times 2", 24.0),
        ("dropped", 0.0),
        ("plus a constant", 12.000012),
        ("computed in float32", 12.0),
        ("wrong if negative", 12.0),
        ("wrong if large", 12.0),
        ("wrong at one element", 12.0),
    ],
)
def test_a_mutant_gives_the_gradient_its_name_says(mutation, expected):
    assert gradient(planted(Cube(), mutation), 2.0) == [pytest.approx(expected, rel=1e-12)]


@pytest.mark.parametrize(
    ("mutation", "at", "expected"),
    [
        ("wrong if negative", -2.0, 12 * 1.01),
        ("wrong if large", 20.0, 1200 * 1.01),
        ("computed in float32", 0.1, float(np.float32(0.03))),
        ("NaN at zero", 0.0, np.nan),
    ],
)
def test_a_conditional_error_shows_where_its_condition_holds(mutation, at, expected):
    found = gradient(planted(Cube(), mutation), at)
    assert found == [pytest.approx(expected, rel=1e-7, nan_ok=True)]
    assert gradient(Cube(), at) != found


def test_every_hook_is_mutated_in_every_way():
    made = {(each.hook, each.mutation) for each in mutants(ops.mul)}
    expected = {
        (hook, mutation) for hook in ops.mul.contract.hooks for mutation in mutations(ops.mul, hook)
    }
    assert made == expected | {("backward_a, backward_b", "exchanged")}


def test_an_operator_without_derivative_is_mutated_in_its_forward_and_its_cases():
    assert {each.hook for each in mutants(ops.argmax)} == {"forward", "self_check"}


def test_a_hook_that_gives_several_gradients_is_mutated_in_one_at_a_time():
    a = planted(Product(), "opposite sign", "backward[a]")
    b = planted(Product(), "opposite sign", "backward[b]")
    assert gradient(Product(), 2.0, 3.0) == [3.0, 2.0]
    assert gradient(a, 2.0, 3.0) == [-3.0, 2.0]
    assert gradient(b, 2.0, 3.0) == [3.0, -2.0]


def test_each_of_several_outputs_is_mutated_by_itself():
    hooks = {each.hook for each in mutants(Cartesian())}
    assert {"forward[0]", "forward[1]"} <= hooks
    for k in range(2):
        twice = planted(Moments(), "returns a list", f"forward[{k}]").contract.hooks["forward"]
        outputs, power = twice(np.array([3.0]), np.array([1.0]))
        assert power == 2
        assert [type(each) is list for each in outputs] == [k == 0, k == 1]


@pytest.mark.parametrize(
    ("mutation", "expected"),
    [("output 0 ignored", 16.0), ("output 1 ignored", 30.0), ("outputs exchanged", 242.0)],
)
def test_a_mutant_loses_or_confuses_the_gradients_of_outputs(mutation, expected):
    def slope(operator):
        x = tensor([4.0], requires_grad=True)
        once, square = operator(x, np.array([1.0]))
        (30 * once + 2 * square).sum().backward()
        return float(x.grad.data[0])

    assert slope(Moments()) == 30 + 2 * 8
    assert slope(planted(Moments(), mutation, "backward[x]")) == expected


@pytest.mark.parametrize(
    ("hook", "expected"), [("backward, without 2 * x", -3.0), ("backward, without 3", 10.0)]
)
def test_a_dropped_term_does_not_count(hook, expected):
    assert gradient(Parabola(), 5.0) == [7.0]
    assert gradient(planted(Parabola(), "dropped term", hook), 5.0) == [expected]


def test_terms_that_stand_for_local_names_are_dropped_as_well():
    factor, shift = 2, 3

    class Closing(Parabola):
        @hookimpl
        def backward(self, grad, x):
            return grad * (factor * x - shift)

    without = planted(Closing(), "dropped term", "backward, without shift")
    assert gradient(without, 5.0) == [10.0]


def test_a_backward_without_a_text_has_no_terms_to_drop():
    scope = {}
    exec("def backward(self, grad, x): return grad * (2 * x - 3)", scope)
    made = type("Made", (Parabola,), {"backward": hookimpl(scope["backward"])})
    assert "dropped term" not in {each.mutation for each in mutants(made())}


def test_exchanged_saved_values_take_each_others_places():
    exchanged = planted(ops.div, "saved values exchanged", "backward_b")
    assert gradient(ops.div, 6.0, 2.0)[1] == -6 / 2**2
    assert gradient(exchanged, 6.0, 2.0)[1] != -6 / 2**2


def test_factors_are_not_exchanged_for_the_sake_of_rounding():
    exchanged = planted(Moments(), "saved values exchanged", "backward[x]")
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, 9))

    def slope(operator):
        leaf = tensor(x, requires_grad=True)
        operator(leaf, weight)[1].sum().backward()
        return leaf.grad.data

    assert np.array_equal(slope(exchanged), slope(Moments()))


def test_another_axis_is_one_to_the_left_of_the_right_one():
    x = tensor(np.eye(2), requires_grad=True)
    planted(ops.sum, "other axis")(x, axis=1).backward(tensor([10.0, 20.0]))
    assert x.grad.data.tolist() == [[10.0, 20.0], [10.0, 20.0]]


def test_exchanged_gradients_of_one_hook_are_each_others():
    exchanged = planted(Product(), "exchanged", "backward[a, b]")
    assert gradient(Product(), 2.0, 3.0) == [3.0, 2.0]
    assert gradient(exchanged, 2.0, 3.0) == [2.0, 3.0]


def test_exchanged_hooks_give_each_others_gradients():
    exchanged = planted(ops.mul, "exchanged", "backward_a, backward_b")
    assert gradient(ops.mul, 2.0, 3.0) == [3.0, 2.0]
    assert gradient(exchanged, 2.0, 3.0) == [2.0, 3.0]


def test_a_mutant_keeps_name_signatures_and_state_and_is_not_registered():
    original = Product(factor=5)
    for mutant in mutants(original):
        operator = mutant.operator
        assert operator.name == "product"
        assert operator.factor == 5
        assert operator.contract.signature == original.contract.signature
        assert operator.contract.sources == original.contract.sources
        assert registry.plugins.get_name(operator) is None
    assert "product" not in registry.names()


def test_making_mutants_leaves_the_operator_as_it_was():
    before = gradient(ops.mul, 2.0, 3.0)
    for mutant in mutants(ops.mul):
        assert mutant.operator is not ops.mul
    assert gradient(ops.mul, 2.0, 3.0) == before
    assert type(ops.mul).__name__ == "Mul"


# -------------------------------------------------------------------------- the equivalence


@pytest.mark.parametrize("name", ["exp", "where", "max", "getitem", "conj", "argmax"])
def test_an_operator_is_equivalent_to_itself(name):
    operator = registry.load(name)
    assert Original(operator).difference(operator) == ""


#: What changes nothing about ``x ** 3``: it has one input, of the gradient's shape, and results
#: that the engine copies before anybody sees them.
HARMLESS = {
    ("backward", "wrong if broadcast"),
    ("backward", "returns an argument"),
}


@pytest.mark.parametrize("mutant", [*mutants(Cube())], ids=lambda each: each.mutation)
def test_a_difference_is_seen_exactly_where_there_is_one(mutant):
    difference = Original(Cube()).difference(mutant.operator)
    assert bool(difference) is ((mutant.hook, mutant.mutation) not in HARMLESS)


def test_a_difference_that_the_authors_cases_do_not_reach_is_seen():
    class OnlyPositive(Cube):
        @hookimpl
        def self_check(self, rng):
            yield Case(rng.uniform(0.5, 2, size=(3, 4)))

    difference = Original(OnlyPositive()).difference(planted(OnlyPositive(), "wrong if negative"))
    assert difference == "the gradient on Case(float64 (3, 4)), negated x"


def test_a_gradient_of_zero_may_have_either_sign():
    class Steps(Cube):
        @hookimpl
        def forward(self, x, /, *, xp):
            return xp.floor(x)

        @hookimpl
        def backward(self, grad):
            return grad * 0

    assert Original(Steps()).difference(planted(Steps(), "opposite sign")) == ""
    assert Original(Steps()).difference(planted(Steps(), "times 2")) == ""
    assert Original(Steps()).difference(planted(Steps(), "returns None"))


# ---------------------------------------------------------------------------- the self-test


def test_a_mutant_is_killed_survives_or_is_equivalent_and_says_why():
    fates = {(each.hook, each.mutation): each for each in examine(Cube(), only=["first_order"])}
    sign = fates["backward", "opposite sign"]
    assert (sign.fate, sign.probe) == (Fate.KILLED, "first_order")
    assert "the backward gives" in sign.reason
    detached = fates["backward", "saved values detached"]
    assert detached.fate is Fate.SURVIVED
    assert "differs in the second derivative on Case(float64 (3, 4))" in detached.reason
    harmless = fates["backward", "returns an argument"]
    assert harmless.fate is Fate.EQUIVALENT
    assert harmless.reason.startswith("nothing differs on ")


@pytest.mark.parametrize("name", ["mul", "tanh", "where", "max", "getitem"])
def test_an_operator_as_it_is_is_not_killed(name):
    itself = next(examine(registry.load(name)))
    assert itself.fate is Fate.EQUIVALENT, str(itself)


@pytest.mark.parametrize("name", ["tanh", "where", "max", "getitem"])
def test_every_error_is_killed(name):
    outcomes = examine(registry.load(name))
    assert [str(each) for each in outcomes if each.fate is Fate.SURVIVED] == []


@pytest.mark.parametrize("operator", [Cartesian(), Moments()], ids=lambda each: each.name)
def test_every_error_of_an_operator_with_two_outputs_is_killed(operator):
    itself, *mutated = examine(operator)
    assert itself.fate is Fate.EQUIVALENT, str(itself)
    assert [str(each) for each in mutated if each.fate is Fate.SURVIVED] == []
    assert {each.mutation for each in mutated if each.fate is Fate.EQUIVALENT} <= {
        "returns an argument",  # of a backward: the engine copies it before anybody sees it
        "saved values exchanged",  # of a product
    }


@pytest.mark.parametrize(
    "mutation", ["wrong at one element", "times 1.0005", "plus a constant", "saved values detached"]
)
def test_an_error_at_one_of_1000_elements_is_killed(mutation):
    assert verify(Many()).passed
    assert not verify(planted(Many(), mutation)).passed


def run(capsys, *arguments):
    code = __main__.main(["--self-test", *arguments])
    return code, capsys.readouterr().out


def test_the_command_counts_mutants_by_mutation_and_by_probe(capsys):
    code, out = run(capsys, "equal")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert ["forward", "returns", "None", "1", "1", "0", "0"] in rows
    assert any(row[:2] == ["self_check", "2"] for row in rows)
    assert "mutants of 1 operators" in out
    assert "(100.00%)" in out


def test_a_survivor_makes_the_exit_code_1_and_is_named(capsys):
    code, out = run(capsys, "exp", "--probe", "first_order")
    assert code == 1
    assert "survived: exp.backward grad detached: differs in the second derivative on" in out


def test_an_operator_that_fails_as_it_is_makes_the_exit_code_1_and_is_named(capsys, monkeypatch):
    wrong = planted(ops.exp, "times 2")
    monkeypatch.setattr(registry, "load", lambda _: wrong)
    options = argparse.Namespace(seed=0, jobs=1, probe=["first_order"], skip_probe=[])
    assert selftest.main(["exp"], options) == 1
    assert "not mutated, and yet failed by first_order: exp: " in capsys.readouterr().out


def test_the_result_does_not_depend_on_the_number_of_processes(capsys):
    arguments = ("equal", "neg", "--probe", "first_order")
    assert run(capsys, *arguments) == run(capsys, *arguments, "--jobs", "2")
