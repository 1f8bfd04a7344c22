"""The forward pass of tangents, by jvp hooks and by transposing the backward."""

from __future__ import annotations

import numpy as np
import pytest
from planting import Product, not_passed

import opgrad
from opgrad import Case, GraphError, Operator, Tensor, hookimpl
from opgrad.check.numeric import directional
from opgrad.check.trial import Trial, cotangent
from opgrad.forward import push
from opgrad.registry import registry


def leaf(values):
    return opgrad.tensor(values, requires_grad=True)


def jvp(function, primals, tangents, *, record=False):
    """Return what the output changes by, as an array or, in a recorded pass, a tensor."""
    inputs = [leaf(each) for each in primals]
    output = function(*inputs)
    given = [opgrad.tensor(each) if record else np.asarray(each) for each in tangents]
    known = {x._edge: tangent for x, tangent in zip(inputs, given, strict=True)}
    (found,) = push([output._edge], known, record=record)
    return found


def cases():
    for name in registry.entries():
        operator = registry.load(name)
        for index, case in enumerate(operator.self_check(np.random.default_rng(0))):
            trial = Trial.of(operator, case)
            if trial.chosen and all(each.dtype.kind in "fc" for each in trial.forward()):
                yield pytest.param(trial, id=f"{name}-{index}")


class TestEveryOperator:
    @pytest.mark.parametrize("record", [False, True], ids=["arrays", "tensors"])
    @pytest.mark.parametrize("trial", list(cases()))
    def test_changes_as_the_numeric_derivative_says(self, trial, record):
        inputs, outputs = trial.recorded()
        tangents = {inputs[i]._edge: cotangent(trial.inputs[i]) for i in trial.chosen}
        given = {e: Tensor(each) if record else each for e, each in tangents.items()}
        found = push([each._edge for each in outputs], given, record=record)
        for output_nr, (change, output) in enumerate(zip(found, outputs, strict=True)):
            expected = 0.0
            for i in trial.chosen:

                def moved(x, i=i, output_nr=output_nr):
                    return trial.forward(trial.with_input(i, x, "").inputs)[output_nr]

                path = tangents[inputs[i]._edge]
                expected = expected + directional(moved, trial.inputs[i], path).value
            assert (change.shape, change.dtype) == (output.shape, output.dtype)
            np.testing.assert_allclose(np.asarray(change.data), expected, rtol=1e-8, atol=1e-9)


class TestAGraph:
    def test_is_gone_through_from_its_inputs_to_its_outputs(self):
        found = jvp(lambda x, y: opgrad.sin(x * y) + x, [2.0, 3.0], [1.0, 10.0])
        assert found == pytest.approx(np.cos(6.0) * (3.0 + 20.0) + 1.0, rel=1e-14)

    def test_may_use_an_input_in_many_places(self):
        assert jvp(lambda x: x * x * x + x, [2.0], [0.5]) == pytest.approx(6.5, rel=1e-14)

    def test_that_is_deep_needs_no_recursion(self):
        def many(x):
            for _ in range(5000):
                x = x + x * 1e-4
            return x

        assert jvp(many, [1.0], [1.0]) == pytest.approx(1.0001**5000, rel=1e-10)

    def test_that_does_not_lead_to_an_output_gives_none(self):
        x, y = leaf(1.0), leaf(2.0)
        assert push([(y * 2)._edge], {x._edge: np.float64(1.0)}) == [None]

    def test_can_be_entered_in_the_middle(self):
        x = leaf(2.0)
        middle = x * x
        output = middle * 3.0
        assert push([output._edge], {middle._edge: np.float64(1.0)}) == [3.0]

    def test_stays_as_it_was(self):
        x = leaf([1.0, 2.0])
        output = opgrad.exp(x).sum()
        for _ in range(2):
            (found,) = push([output._edge], {x._edge: np.array([1.0, 0.0])})
            assert found == pytest.approx(np.e, rel=1e-14)
        assert x.grad is None
        output.backward()
        np.testing.assert_allclose(x.grad.data, np.exp([1.0, 2.0]), rtol=1e-14)

    def test_can_be_recorded_for_higher_derivatives(self):
        x, v = leaf(0.5), leaf(2.0)
        output = opgrad.sin(opgrad.tanh(x))
        (found,) = push([output._edge], {x._edge: v}, record=True)
        second, by_v = opgrad.autograd.grad(found, [x, v])
        t = np.tanh(0.5)
        slope = np.cos(t) * (1 - t * t)
        curve = -np.sin(t) * (1 - t * t) ** 2 - 2 * np.cos(t) * t * (1 - t * t)
        assert by_v.item() == pytest.approx(slope, rel=1e-13)
        assert second.item() == pytest.approx(2.0 * curve, rel=1e-13)


def test_a_formula_that_is_zero_everywhere_is_no_error():
    class Step(Operator):
        """Zero or one."""

        @hookimpl
        def forward(self, x, /, *, xp):
            return xp.heaviside(x, 0.5)

        @hookimpl
        def backward_x(self, grad, *, xp):
            return xp.zeros_like(grad)

        @hookimpl
        def self_check(self, rng):
            yield Case(rng.uniform(1, 2, size=3))

    for record in (False, True):
        found = jvp(lambda x: Step()(x) + x, [[1.0, 2.0]], [[1.0, 5.0]], record=record)
        np.testing.assert_array_equal(found, [1.0, 5.0])


class TestSeveralOutputs:
    class Polar(Operator):
        """Radius and angle."""

        @hookimpl
        def forward(self, x, y, /, *, xp):
            return xp.sqrt(x * x + y * y), xp.arctan2(y, x)

        @hookimpl
        def backward(self, grad, x, y):
            radius, angle = grad
            square = x * x + y * y
            size = square**0.5
            return (
                radius * x / size - angle * y / square,
                radius * y / size + angle * x / square,
            )

        @hookimpl
        def self_check(self, rng):
            yield Case(rng.uniform(1, 2, size=3), rng.uniform(1, 2, size=3))

    def test_each_have_their_tangent(self):
        x, y = leaf([3.0]), leaf([4.0])
        outputs = self.Polar()(x, y)
        tangents = {x._edge: np.array([1.0]), y._edge: np.array([0.0])}
        radius, angle = push([each._edge for each in outputs], tangents)
        np.testing.assert_allclose([radius, angle], [[0.6], [-4 / 25]], rtol=1e-14)


class Jvp(Product):
    """With hooks for its tangents."""

    @hookimpl
    def jvp_a(self, tangent, b):
        return tangent * b

    @hookimpl
    def jvp_b(self, tangent, a):
        return tangent * a


class TestAHook:
    def test_is_called_with_what_it_names(self):
        found = jvp(Jvp(), [[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 10.0]])
        np.testing.assert_array_equal(found, [3.0, 20.0])

    def test_is_called_only_where_something_changes(self):
        class Once(Jvp):
            @hookimpl
            def jvp_b(self, tangent, a):
                raise AssertionError

        x = leaf([1.0])
        output = Once()(x, leaf([2.0]))
        assert push([output._edge], {x._edge: np.array([1.0])}) == [[2.0]]

    def test_may_give_a_shape_that_broadcasts_to_the_outputs(self):
        found = jvp(lambda a, b: a + b, [1.0, [1.0, 2.0]], [5.0, [0.0, 1.0]])
        np.testing.assert_array_equal(found, [5.0, 6.0])
        x = leaf(1.0)
        output = x + opgrad.ones(3)
        np.testing.assert_array_equal(push([output._edge], {x._edge: np.float64(2.0)}), [[2.0] * 3])

    def test_that_gives_another_shape_is_named(self):
        class Wrong(Jvp):
            @hookimpl
            def jvp_a(self, tangent, b):
                return tangent[:1, None]

        x = leaf([1.0, 2.0])
        output = Wrong()(x, leaf([3.0, 4.0]))
        with pytest.raises(GraphError, match=r"wrong\.jvp returned \(1, 1\) .* shape \(2,\)"):
            push([output._edge], {x._edge: np.ones(2)})


class TestTheProbe:
    def test_passes_a_jvp_that_is_right(self):
        assert not_passed(Jvp(), ["adjoint_identity"]) == set()

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda self, tangent, b: -tangent * b,
            lambda self, tangent, b: tangent * b * 1.0005,
            lambda self, tangent, b: tangent * (b + 1e-9),
            lambda self, tangent, b: tangent,
            lambda self, tangent, b: tangent[..., :1] * b,
        ],
    )
    def test_finds_a_jvp_that_is_not(self, wrong):
        planted = type("Planted", (Jvp,), {"jvp_a": hookimpl(wrong)})()
        assert not_passed(planted, ["adjoint_identity", "first_order"]) == {"adjoint_identity"}
