"""The probes of the hooks' contract: each finds what was planted for it, and nothing else."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from planting import Floor, messages, not_passed
from planting import Square as RealSquare

from opgrad import Case, Operator, engine, hookimpl
from opgrad.check import Status, verify
from opgrad.check.probes import contract
from opgrad.tensor import Tensor

PROBES = [probe.__name__ for probe in contract.opgrad_probes()]


def failing(operator: Operator) -> set[str]:
    """Return the names of the probes of the contract that an operator does not pass."""
    return not_passed(operator, PROBES)


class Square(RealSquare):
    """The base of the planted errors, for numbers of many kinds."""

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)))
        yield Case(rng.uniform(0.5, 2, size=()))
        yield Case(rng.uniform(0.5, 2, size=(0, 2)))
        yield Case(rng.normal(size=3) + 1j * rng.normal(size=3))
        yield Case(rng.uniform(0.5, 2, size=3).astype(np.float32))


class Product(Operator):
    """Two inputs, one hook, which looks at what is needed."""

    @hookimpl
    def forward(self, a, b, /):
        return a * b

    @hookimpl
    def backward(self, grad, a, b, needs):
        return (grad * b if needs[0] else None, grad * a if needs[1] else None)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)), rng.normal(size=(3, 4)))
        yield Case(rng.normal(size=(3, 4)), rng.normal(size=4))
        yield Case(2.0, rng.normal(size=4))


class SinAndCos(Operator):
    """Two outputs."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.sin(x), xp.cos(x)

    @hookimpl
    def backward(self, grad, out):
        return grad[0] * out[1] - grad[1] * out[0]

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))


# ----------------------------------------------------------------------- right ones


class NeverLooks(Product):
    """It gives both gradients, needed or not, and does not ask."""

    @hookimpl
    def backward(self, grad, a, b):
        return grad * b, grad * a


class Root(Square):
    """At 0 its derivative is infinite."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.sqrt(x)

    @hookimpl
    def backward(self, grad, out):
        return grad / (2 * out)

    @hookimpl
    def self_check(self, rng):
        yield Case([0.0, 1.0, 0.0, 4.0])
        yield Case([0.0])


class Softmax(Square):
    """Its backward subtracts what is nearly equal, and rounds differently each time."""

    @hookimpl
    def forward(self, x, /, *, xp):
        powers = xp.exp(x)
        return powers / xp.sum(powers)

    @hookimpl
    def backward(self, grad, out, xp):
        return out * (grad - xp.sum(grad * out))

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=50))
        yield Case([20.0, 0.0, -20.0])


class SumsInAnyOrder(RealSquare):
    """Recorded, it adds up in another order: the same but for rounding."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.sum(x * x)

    @hookimpl
    def backward(self, grad, x):
        terms = [grad * x * factor for factor in (0.1, 0.7, 1.2)]
        return sum(terms if isinstance(x, np.ndarray) else terms[::-1])


class WithIndices(SinAndCos):
    """One of its outputs holds integers."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return x * x, xp.astype(x > 0, xp.int64)

    @hookimpl
    def backward(self, grad, x):
        return grad[0] * (2 * x)


RIGHT = [
    Square(), Product(), SinAndCos(), NeverLooks(), Root(), Softmax(), SumsInAnyOrder(), Floor(),
    WithIndices(),
]  # fmt: skip


@pytest.mark.parametrize("operator", RIGHT, ids=lambda each: each.name)
def test_a_right_operator_passes_every_probe(operator):
    assert failing(operator) == set()


def test_probes_with_nothing_to_ask_say_so():
    findings = verify(Floor(), only=PROBES).findings
    assert {each.status for each in findings} == {Status.SKIP}
    assert {each.message for each in findings} == {"nothing has a gradient"}


# ----------------------------------------------------------------------- hook_contract


class IntegerGradient(RealSquare):
    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.floor(x)

    @hookimpl
    def backward(self, grad, x_shape, xp):
        return xp.zeros(x_shape, dtype=xp.int64)


class ComplexGradient(RealSquare):
    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * x) * (1 + 0j)


class NarrowGradient(IntegerGradient):
    @hookimpl
    def backward(self, grad, x_shape, xp):
        return xp.zeros(x_shape, dtype=xp.float32)


class TooSmall(RealSquare):
    @hookimpl
    def backward(self, grad, x):
        return (grad * (2 * x))[0]


class TooLong(RealSquare):
    @hookimpl
    def backward(self, grad, x):
        return (grad * (2 * x)).reshape((12,))


class PythonNumber(RealSquare):
    @hookimpl
    def backward(self, grad, x):
        return 1.0


class OneInATuple(RealSquare):
    @hookimpl
    def backward(self, grad, x):
        return (grad * (2 * x),)


class Forgotten(Product):
    @hookimpl
    def backward(self, grad, a, b, needs):
        return grad * b, None


class OneForTwo(Product):
    @hookimpl
    def backward(self, grad, a, b, needs):
        return (grad * b,)


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        (IntegerGradient(), "backward returned dtype int64; expected a floating or complex one"),
        (ComplexGradient(), "dtype complex128, though inputs and outputs are real"),
        (NarrowGradient(), "dtype float32, narrower than all that it was computed from"),
        (TooSmall(), "shape (4,), which the input's, (3, 4), does not broadcast to"),
        (TooLong(), "shape (12,), which the input's, (3, 4), does not broadcast to"),
        (PythonNumber(), "a float; expected an array"),
        (OneInATuple(), "a tuple; expected an array"),
        (Forgotten(), "input b: backward returned a NoneType; expected an array"),
        (OneForTwo(), "expected a tuple of 2 gradients, one for each of a, b"),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_hook_that_breaks_its_contract_is_found(operator, said):
    assert "hook_contract" in failing(operator)
    assert said in messages(operator, "hook_contract")


@pytest.mark.parametrize(
    "operator", [IntegerGradient(), ComplexGradient(), NarrowGradient()], ids=lambda each: each.name
)
def test_what_the_engine_repairs_is_found_by_that_probe_alone(operator):
    assert failing(operator) == {"hook_contract"}


def test_a_gradient_of_the_broadcast_shape_is_within_the_contract():
    class Repeats(Square):
        @hookimpl
        def backward(self, grad, x, xp):
            return xp.broadcast_to(grad * x, (2, *x.shape))

    assert failing(Repeats()) == set()


# ----------------------------------------------------------------------- linear_in_grad


class Magnitude(Square):
    @hookimpl
    def backward(self, grad, x, xp):
        return xp.abs(grad) * (2 * x)


class Clipped(RealSquare):
    @hookimpl
    def backward(self, grad, x, xp):
        return xp.where(grad > 1, 1, grad) * (2 * x)


class SomethingForNothing(Square):
    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * x) + 1e-300


class OffByLittle(RealSquare):
    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * x) + 1e-12 * grad * grad


class EachOnItsOwn(RealSquare):
    """To twice the gradient it gives twice as much, and still it is not linear."""

    @hookimpl
    def backward(self, grad, x, xp):
        return xp.where(xp.abs(grad) == xp.max(xp.abs(grad)), 1.001, 1) * grad * (2 * x)


@pytest.mark.parametrize(
    "operator", [Magnitude(), Clipped(), OffByLittle()], ids=lambda each: each.name
)
def test_a_backward_that_is_not_linear_is_found(operator):
    assert "linear_in_grad" in failing(operator)
    assert "for -64 * g: at element" in messages(operator, "linear_in_grad")


def test_a_backward_that_scales_and_does_not_add_up_is_found():
    said = messages(EachOnItsOwn(), "linear_in_grad")
    assert "for 1.5 * g + 2.5 * h" in said
    assert "-64 * g" not in said


def test_a_backward_that_makes_something_of_nothing_is_found_by_that_probe_alone():
    assert failing(SomethingForNothing()) == {"linear_in_grad"}
    assert "for a gradient of zero" in messages(SomethingForNothing(), "linear_in_grad")


# ----------------------------------------------------------------------- recorded_like_raw


class OtherwiseRecorded(Square):
    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * x) if isinstance(x, np.ndarray) else grad * ((2 + 1e-12) * x)


class NotRecorded(Square):
    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * x) if type(x) is not Tensor else None


@pytest.mark.parametrize("operator", [OtherwiseRecorded(), NotRecorded()], ids=lambda e: e.name)
def test_a_formula_that_differs_between_arrays_and_tensors_is_found_by_that_probe_alone(operator):
    # 0-d data is one of NumPy's scalars there, which is neither.
    assert "recorded_like_raw" in failing(operator)
    assert failing(operator) <= {"recorded_like_raw", "diamonds", "op_after_op"}


# ----------------------------------------------------------------------- input_subsets


class CountsOnBoth(Product):
    @hookimpl
    def backward(self, grad, a, b, needs):
        of_b = grad * a if needs[1] else None
        return (grad * b if all(needs) else 2 * grad * b) if needs[0] else None, of_b


class SwappedNeeds(Product):
    @hookimpl
    def backward(self, grad, a, b, needs):
        return (grad * b if needs[1] else None, grad * a if needs[0] else None)


class NeedsIgnored(Product):
    @hookimpl
    def backward(self, grad, a, b, needs):
        return grad * b, grad * a


class BothNeeded(Product):
    @hookimpl
    def backward(self, grad, a, b, needs):
        return (grad * b, grad * a) if all(needs) else (None, None)


def test_a_gradient_that_depends_on_what_else_is_asked_for_is_found_by_that_probe_alone():
    class Twice(CountsOnBoth):
        @hookimpl
        def self_check(self, rng):
            yield Case(rng.normal(size=4), rng.normal(size=4))

    assert failing(Twice()) == {"input_subsets"}
    assert "without b" in messages(Twice(), "input_subsets")


@pytest.mark.parametrize("operator", [SwappedNeeds(), BothNeeded()], ids=lambda each: each.name)
def test_a_gradient_that_is_missing_when_asked_for_alone_is_found(operator):
    assert "input_subsets" in failing(operator)
    assert "expected an array" in messages(operator, "input_subsets")


def test_a_hook_that_asks_what_is_needed_and_gives_more_is_found_by_that_probe_alone():
    assert failing(NeedsIgnored()) == {"input_subsets"}
    said = "backward gives a gradient though needs[1] is False; expected None"
    assert said in messages(NeedsIgnored(), "input_subsets")


# ----------------------------------------------------------------------- missing_output_grads


class ShortCut(SinAndCos):
    """It counts on the first output's gradient."""

    @hookimpl
    def backward(self, grad, out, xp):
        if isinstance(grad[0], np.ndarray) and not grad[0].any():
            return xp.zeros_like(grad[0])
        return grad[0] * out[1] - grad[1] * out[0]


def test_an_output_whose_gradient_counts_only_beside_another_is_found():
    assert "missing_output_grads" in failing(ShortCut())


def test_a_missing_gradient_that_is_not_zero_is_found(monkeypatch):
    def completed(node, grads, record):
        return tuple(
            np.ones(*metadata) if grad is None else grad
            for grad, metadata in zip(grads, node.outputs(), strict=True)
        )

    monkeypatch.setattr(engine, "_completed", completed)
    assert failing(SinAndCos()) == {"missing_output_grads"}


# ----------------------------------------------------------------------- in company


class Remembers(Square):
    """It keeps its input on the operator, where the next call finds it."""

    @hookimpl
    def forward(self, x, /):
        self.x = x
        return x * x

    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * self.x)


class PerThread(Square):
    """It keeps its input for the thread that called it, and the next call there finds it."""

    local = threading.local()

    @hookimpl
    def forward(self, x, /):
        self.local.x = x
        return x * x

    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * self.local.x)


class WritesToGrad(Square):
    @hookimpl
    def backward(self, grad, x):
        if not isinstance(grad, np.ndarray):
            return grad * (2 * x)
        grad *= 2 * x
        return grad


class UsesUp(Square):
    """Its backward writes to what forward saved."""

    residuals = ("slope",)

    @hookimpl
    def forward(self, x, /):
        return x * x, np.array(2 * x)

    @hookimpl
    def backward(self, grad, slope):
        given = grad * np.array(slope)
        slope *= 1 + 1e-12
        return given


def test_state_on_the_operator_is_found_where_calls_overlap():
    assert {"op_after_op", "four_threads"} <= failing(Remembers())


def test_state_of_a_thread_is_found_where_calls_overlap():
    assert "op_after_op" in failing(PerThread())


def test_a_backward_that_writes_to_a_gradient_which_two_calls_share_is_found():
    assert "diamonds" in failing(WritesToGrad())


def test_a_backward_that_uses_up_what_was_saved_is_found():
    assert "retained_graph" in failing(UsesUp())


def test_a_finding_names_the_input_the_element_and_both_values():
    said = messages(OtherwiseRecorded(), "recorded_like_raw")
    assert "input x: recorded: at element (" in said
    assert ", not " in said
