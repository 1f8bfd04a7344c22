"""The self-test: what is planted is wrong, is found out, and is excused only if nothing differs."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from opgrad import Case, Operator, hookimpl, ops, tensor
from opgrad.check import __main__, selftest
from opgrad.check.equivalence import Original
from opgrad.check.mutants import MUTATIONS, mutants
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
        (hook, mutation)
        for hook in ops.mul.contract.hooks
        for mutation in MUTATIONS[hook.partition("_")[0]]
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
    ("backward", "zero if an input is repeated"),
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
