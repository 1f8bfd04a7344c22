"""The probes of purity: each finds what was planted for it, and nothing else."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import numpy as np
import pytest
from planting import Floor, Product, messages, not_passed
from planting import Square as RealSquare

from opgrad import Case, Operator, hookimpl, is_grad_enabled
from opgrad.check import Status, verify
from opgrad.check.probes import purity

PROBES = [probe.__name__ for probe in purity.opgrad_probes()]


def failing(operator: Operator) -> set[str]:
    """Return the names of the probes of purity that an operator does not pass."""
    return not_passed(operator, PROBES)


class Square(RealSquare):
    """The base of the planted errors, for complex numbers too."""

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)))
        yield Case(rng.normal(size=3) + 1j * rng.normal(size=3))


class Pair(Operator):
    """Two outputs."""

    @hookimpl
    def forward(self, x, /):
        return x * 2, x * 3

    @hookimpl
    def backward(self, grad):
        return 2 * grad[0] + 3 * grad[1]

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=4))


# ----------------------------------------------------------------------- right ones


class HandsOn(Square):
    """Its gradient is the incoming one itself; the engine copies it for the leaf."""

    @hookimpl
    def forward(self, x, /):
        return x + 1

    @hookimpl
    def backward(self, grad):
        return grad


class Row(Square):
    """It declares that its output is a view."""

    view = True

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.reshape(x, (-1,))

    @hookimpl
    def backward(self, grad, x_shape, xp):
        return xp.reshape(grad, x_shape)


class Halves(Pair):
    """Two views of different parts of one input."""

    view = True

    @hookimpl
    def forward(self, x, /):
        return x[::2], x[1::2]

    @hookimpl
    def backward(self, grad, xp):
        return xp.reshape(xp.matrix_transpose(xp.reshape(_both(*grad, xp), (2, 2))), (4,))


def _both(a, b, xp):
    first = xp.asarray([1.0, 0.0])
    rows = xp.reshape(first, (2, 1))
    return rows * a + (1 - rows) * b


class Imaginary(Square):
    """A view of one half of a complex number; of a real one, new zeros."""

    view = True

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.imag(x)

    @hookimpl
    def backward(self, grad, x):
        return -1j * grad if x.dtype.kind == "c" else 0 * grad


class Weighted(Square):
    """Its parameters hold arrays, which it only reads."""

    @hookimpl
    def forward(self, x, /, weights, options):
        return x * weights[0] * options["factor"]

    @hookimpl
    def backward(self, grad, weights, options):
        return grad * weights[0] * options["factor"]

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3), weights=[rng.normal(size=3)], options={"factor": 2})


class Cached(Square):
    """It keeps what it has computed once, and no more of it than so much."""

    @staticmethod
    @lru_cache(maxsize=2)
    def table(size):
        return np.arange(float(size))

    @hookimpl
    def forward(self, x, /):
        return x * (1 + self.table(x.shape[-1]))

    @hookimpl
    def backward(self, grad):
        return grad * (1 + self.table(grad.shape[-1]))


class Cyclic(Square):
    """It leaves cycles behind, which the garbage collector takes."""

    @hookimpl
    def forward(self, x, /):
        cycle = [np.array(x)]
        cycle.append(cycle)
        return x * x


RIGHT = [
    Square(), Pair(), HandsOn(), Row(), Halves(), Imaginary(), Weighted(), Cached(), Cyclic(),
    Floor(),
]  # fmt: skip


@pytest.mark.parametrize("operator", RIGHT, ids=lambda each: each.name)
def test_a_right_operator_passes_every_probe(operator):
    assert failing(operator) == set()


def test_the_forward_is_asked_about_where_there_is_no_gradient():
    findings = verify(Floor(), only=PROBES).findings
    asked = {each.probe for each in findings if each.status is Status.PASS}
    assert asked == set(PROBES) - {
        "matches_reference",
        "repeatable_backward",
        "unaliased_gradients",
    }


# ----------------------------------------------------------------------- repeatable_forward


class NoisyForward(Square):
    rng = np.random.default_rng(0)

    @hookimpl
    def forward(self, x, /):
        return x * x * (1 + 1e-15 * self.rng.normal(size=x.shape))


class OtherWithGrad(Square):
    @hookimpl
    def forward(self, x, /):
        return x * x if is_grad_enabled() else x * x * (1 + 1e-15)


class NegativeZero(Square):
    """It is right but for the sign of zero, every second time."""

    calls = 0

    @hookimpl
    def forward(self, x, /):
        self.calls += 1
        return 0.0 * x * (-1) ** self.calls

    @hookimpl
    def backward(self, grad):
        return 0 * grad


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        (NoisyForward(), "a second time, output 0: at element ("),
        (OtherWithGrad(), "in no_grad, output 0: at element ("),
        (NegativeZero(), "a second time, output 0: its bits differ"),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_forward_that_is_not_repeatable_is_found_by_that_probe_alone(operator, said):
    assert failing(operator) == {"repeatable_forward"}
    assert said in messages(operator, "repeatable_forward")


# ----------------------------------------------------------------------- matches_reference


class Referred(Square):
    """The logarithm of a sum of exponentials, and the same written down naively."""

    @hookimpl
    def forward(self, x, /, *, xp, scale=1.0):
        top = xp.max(x)
        return scale * (top + xp.log(xp.sum(xp.exp(x - top))))

    def reference(self, x, scale=1.0):
        return scale * np.log(sum(np.exp(each) for each in x))

    @hookimpl
    def backward(self, grad, x, out, scale, xp):
        return grad * scale * xp.exp(x - out / scale)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=30))
        yield Case(rng.normal(size=30), scale=3.0)


class OffReference(Referred):
    def reference(self, x, scale=1.0):
        return super().reference(x, scale) * (1 + 1e-12)


class OtherShape(Referred):
    def reference(self, x, scale=1.0):
        return np.array([super().reference(x, scale)])


class OneOfTwo(Pair):
    def reference(self, x):
        return x * 2


class BothOfTwo(Pair):
    def reference(self, x):
        return x + x, x + x + x


class Rounds(Floor):
    """A reference for integers."""

    @hookimpl
    def forward(self, x, /):
        return x > 0

    def reference(self, x):
        return np.sign(x) == 1


@pytest.mark.parametrize("operator", [Referred(), BothOfTwo(), Rounds()], ids=lambda e: e.name)
def test_a_reference_that_agrees_but_for_rounding_passes(operator):
    assert failing(operator) == set()
    assert Status.PASS in {e.status for e in verify(operator, only=["matches_reference"]).findings}


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        (OffReference(), "output 0, beside the reference: at element () it is "),
        (OtherShape(), "output 0, beside the reference: its shape is (), not (1,)"),
        (OneOfTwo(), "it has 2 outputs, the reference 1"),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_forward_that_is_not_its_reference_is_found_by_that_probe_alone(operator, said):
    assert failing(operator) == {"matches_reference"}
    assert said in messages(operator, "matches_reference")


# ----------------------------------------------------------------------- repeatable_backward


class NoisyBackward(Square):
    rng = np.random.default_rng(0)

    @hookimpl
    def backward(self, grad, x):
        return grad * (2 * x) * (1 + 1e-15 * self.rng.normal(size=x.shape))


def test_a_backward_that_is_not_repeatable_is_found_by_that_probe_alone():
    assert failing(NoisyBackward()) == {"repeatable_backward"}


# ----------------------------------------------------------------------- nothing_mutated


class WritesToInput(Square):
    @hookimpl
    def forward(self, x, /):
        np.multiply(x, 1.5, out=x)
        return x * x


class WritesToGrad(Square):
    @hookimpl
    def backward(self, grad, x):
        if isinstance(grad, np.ndarray):
            grad *= 2 * x
            return grad
        return grad * (2 * x)


class WritesToSaved(Square):
    residuals = ("slope",)

    @hookimpl
    def forward(self, x, /):
        return x * x, 2 * x

    @hookimpl
    def backward(self, grad, slope):
        given = grad * np.array(slope)
        slope[0] = 0
        return given


class WritesWhenRecorded(Square):
    @hookimpl
    def backward(self, grad, x):
        if not isinstance(grad, np.ndarray):
            x.data[0] = 7
        return grad * (2 * x)


class WritesToArrayParameter(Weighted):
    @hookimpl
    def forward(self, x, /, weights, options):
        weights[0][0] += 1
        return x * weights[0] * options["factor"]


class WritesToParameter(Weighted):
    @hookimpl
    def forward(self, x, /, weights, options):
        options["seen"] = options.get("seen", 0) + 1
        return x * weights[0] * options["factor"]


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        (WritesToInput(), "forward writes to input x"),
        (WritesToGrad(), "backward writes to the incoming gradient 0"),
        (WritesToSaved(), "backward writes to the saved slope"),
        (WritesWhenRecorded(), "recorded backward writes to input x"),
        (WritesToArrayParameter(), "forward writes to parameter weights"),
        (WritesToParameter(), "forward writes to parameter options"),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_write_to_what_was_given_is_found(operator, said):
    assert "nothing_mutated" in failing(operator)
    assert said in messages(operator, "nothing_mutated")


def test_a_write_to_a_list_or_dict_is_found_by_that_probe_alone():
    assert failing(WritesToParameter()) == {"nothing_mutated"}


def test_the_probe_itself_leaves_the_case_as_it_was():
    operator, x = WritesToInput(), np.array([1.0, 2.0])
    list(purity.nothing_mutated(operator, Case(x)))
    assert x.tolist() == [1.0, 2.0]


# ----------------------------------------------------------------------- read_only_arrays


class WritesTheSame(Square):
    @hookimpl
    def forward(self, x, /):
        x += 0
        return x * x


class WritesTheSameToGrad(Square):
    @hookimpl
    def backward(self, grad, x):
        if isinstance(grad, np.ndarray):
            grad += 0
        return grad * (2 * x)


class WritesTheSameToSaved(WritesToSaved):
    @hookimpl
    def backward(self, grad, slope):
        slope += 0
        return grad * slope


@pytest.mark.parametrize(
    "operator",
    [WritesTheSame(), WritesTheSameToGrad(), WritesTheSameToSaved()],
    ids=lambda each: each.name,
)
def test_a_write_that_changes_nothing_is_found_by_that_probe_alone(operator):
    assert failing(operator) == {"read_only_arrays"}
    assert "read-only" in messages(operator, "read_only_arrays")


def test_other_errors_are_quoted_as_they_are():
    class Picky(Square):
        @hookimpl
        def backward(self, grad, x):
            msg = "not today"
            raise ValueError(msg)

    assert "ValueError: not today" in messages(Picky(), "read_only_arrays")


# ----------------------------------------------------------------------- unaliased_gradients


class Special(np.ndarray):
    """An array that the engine does not take for one of its own."""


class HandsOnInDisguise(HandsOn):
    @hookimpl
    def backward(self, grad):
        return grad.view(Special) if isinstance(grad, np.ndarray) else grad


class HandsOutWhatItSaved(Square):
    @hookimpl
    def backward(self, grad, x):
        return (2 * x * grad) if not isinstance(x, np.ndarray) else x.view(Special)


class OneForBoth(Operator):
    @hookimpl
    def forward(self, a, b, /):
        return a + b

    @hookimpl
    def backward(self, grad):
        if not isinstance(grad, np.ndarray):
            return grad, grad
        both = (1 * grad).view(Special)
        return both, both

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3), rng.normal(size=3))


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        (HandsOnInDisguise(), "the gradient of x shares memory with the incoming gradient 0"),
        (HandsOutWhatItSaved(), "the gradient of x shares memory with input x"),
        (OneForBoth(), "the gradient of a shares memory with the gradient of b"),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_leaf_gradient_that_shares_memory_is_found_by_that_probe_alone(operator, said):
    assert failing(operator) == {"unaliased_gradients"}
    assert said in messages(operator, "unaliased_gradients")


# ----------------------------------------------------------------------- unaliased_outputs


class Undeclared(Row):
    view = False


class ReturnsParameter(Weighted):
    @hookimpl
    def forward(self, x, /, weights, options):
        return weights[0]

    @hookimpl
    def backward(self, grad):
        return 0 * grad


class SameTwice(Pair):
    @hookimpl
    def forward(self, x, /):
        out = x * 2
        return out, out


class Buffered(Square):
    """Each call returns the memory of the call before."""

    buffer = np.empty((3, 4))

    @hookimpl
    def forward(self, x, /):
        return np.multiply(x, x, out=self.buffer)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)))


class ShortCut(Product):
    @hookimpl
    def forward(self, a, b, /, *, xp):
        return a if xp.all(b == 1) else a * b

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3), rng.normal(size=3))


class ItsInputForZeros(Imaginary):
    """Where the input is zeros, that has the right values, but is no view."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return xp.imag(x) if xp.any(x != 0) else xp.real(x)


class ItselfWhenSymmetric(Square):
    """A transpose; a symmetric matrix has the right values, but in other places of memory."""

    view = True

    @hookimpl
    def forward(self, x, /, *, xp):
        return x if x.shape == x.mT.shape and xp.all(x == x.mT) else x.mT

    @hookimpl
    def backward(self, grad):
        return grad.mT

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))


class NothingToSum(Square):
    """A sum over an axis of size 1 that gives its input."""

    @hookimpl
    def forward(self, x, /, *, xp):
        return x if x.shape[-1:] == (1,) else xp.sum(x, axis=-1, keepdims=True)

    @hookimpl
    def backward(self, grad, x_shape, xp):
        return xp.broadcast_to(grad, x_shape)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 4)))


class LeavesOutWhatIsSmall(Operator):
    """A sum of two exponentials by its logarithm, of which one may not count."""

    @hookimpl
    def forward(self, a, b, /, *, xp):
        out = xp.logaddexp(a, b)
        return a if xp.all(out == a) else out

    @hookimpl
    def backward_a(self, grad, a, out, xp):
        return grad * xp.exp(a - out)

    @hookimpl
    def backward_b(self, grad, b, out, xp):
        return grad * xp.exp(b - out)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3), rng.normal(size=3))


class TakesNoZeros(Square):
    @hookimpl
    def forward(self, x, /, *, xp):
        if not xp.all(x != 0):
            msg = "expected no zeros"
            raise ValueError(msg)
        return x * x


def test_an_operator_that_does_not_take_zeros_is_not_asked_about_them():
    assert failing(TakesNoZeros()) == set()


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        (Undeclared(), "output 0 shares memory with input x; return fresh memory, or declare"),
        (ShortCut(), "all inputs 1: output 0 shares memory with input a"),
        (ReturnsParameter(), "output 0 shares memory with parameter weights"),
        (SameTwice(), "output 0 shares memory with output 1"),
        (Buffered(), "output 0 shares memory with output 0 of an earlier call"),
        (ItsInputForZeros(), "all inputs 0: output 0 shares memory with input x, and is no view"),
        (ItselfWhenSymmetric(), "output 0 shares memory with input x, and is no view of it"),
        (NothingToSum(), "axes of size 4 cut to 1, all inputs 1: output 0 shares memory with"),
        (LeavesOutWhatIsSmall(), "a 1000: output 0 shares memory with input a"),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_an_output_that_shares_memory_is_found_by_that_probe_alone(operator, said):
    assert failing(operator) == {"unaliased_outputs"}
    assert said in messages(operator, "unaliased_outputs")


# ----------------------------------------------------------------------- memory_kept


def test_memory_that_a_call_gives_back_is_no_fault():
    class Shrinking(Operator):
        """The identity, which empties a store as it is called."""

        store: ClassVar[list[object]] = [object() for _ in range(200_000)]

        @hookimpl
        def forward(self, x, /):
            del self.store[-10:]
            return x + 0.0

        @hookimpl
        def backward(self, grad):
            return grad

        @hookimpl
        def self_check(self, rng):
            yield Case(rng.normal(size=3))

    assert failing(Shrinking()) == set()


class KeepsGradients(Square):
    def __init__(self):
        self.kept = []

    @hookimpl
    def backward(self, grad, x):
        self.kept.append(1 * grad)
        return grad * (2 * x)


class KeepsTheIncomingGradient(Square):
    def __init__(self):
        self.kept = []

    @hookimpl
    def backward(self, grad, x):
        self.kept.append(grad)
        return grad * (2 * x)


class KeepsNumbers(Floor):
    def __init__(self):
        self.kept = []

    @hookimpl
    def forward(self, x, /, *, xp):
        self.kept.append(float(x[0]))
        return xp.floor(x)


class KeepsCycles(Square):
    def __init__(self):
        self.kept = {}

    @hookimpl
    def forward(self, x, /):
        cycle = [x]
        cycle.append(cycle)
        self.kept[len(self.kept)] = cycle
        return x * x


@pytest.mark.parametrize(
    "operator",
    [KeepsGradients(), KeepsTheIncomingGradient(), KeepsNumbers(), KeepsCycles()],
    ids=lambda each: each.name,
)
def test_memory_that_is_kept_with_each_call_is_found_by_that_probe_alone(operator):
    assert failing(operator) == {"memory_kept"}
    assert "each call keeps " in messages(operator, "memory_kept")


# ----------------------------------------------------------------------- jvps


class WritesToTangent(Square):
    @hookimpl
    def jvp(self, tangent, x):
        change = tangent * (2 * x)
        np.multiply(tangent, 2, out=tangent)
        return change

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.uniform(0.5, 2, size=(3, 4)))


class NoisyJvp(WritesToTangent):
    calls = 0

    @hookimpl
    def jvp(self, tangent, x):
        type(self).calls += 1
        return tangent * (2 * x) * (1 + self.calls * 2**-50)


@pytest.mark.parametrize(
    ("operator", "probe", "said"),
    [
        (WritesToTangent(), "nothing_mutated", "jvp writes to the tangent 0"),
        (NoisyJvp(), "repeatable_backward", "the jvp gives other bits the second time"),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_jvp_that_does_more_than_compute_is_found(operator, probe, said):
    assert probe in failing(operator)
    assert said in messages(operator, probe)
