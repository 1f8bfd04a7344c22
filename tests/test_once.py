"""Operators that are only once differentiable: a backward in a black box."""

from __future__ import annotations

import numpy as np
import pytest

import opgrad
from opgrad import Case, GraphError, Operator, hookimpl
from opgrad.autograd.function import Function, once_differentiable
from opgrad.check import verify
from opgrad.func import jacfwd, jvp, vjp, vmap

#: What NumPy has for arrays: 0-d ones are scalars.
ARRAYS = (np.ndarray, np.generic)


class Cube(Operator):
    """The cube, by functions that know NumPy alone."""

    once_differentiable = True

    @hookimpl
    def forward(self, x, /):
        return np.multiply(x, np.square(x))

    @hookimpl
    def backward(self, grad, x):
        assert isinstance(grad, ARRAYS)
        assert isinstance(x, ARRAYS)
        return 3 * np.square(x) * grad

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))


class Parts(Operator):
    """The square and the double, with one backward for both."""

    once_differentiable = True
    residuals = ("slope",)

    @hookimpl
    def forward(self, x, /):
        return (np.square(x), 2 * x), 2 * x

    @hookimpl
    def backward(self, grad, slope):
        assert all(isinstance(each, ARRAYS) for each in (*grad, slope))
        return grad[0] * slope + 2 * grad[1]

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))


class Doubled(Operator):
    """Twice the input, whose backward depends on nothing but the gradient."""

    once_differentiable = True

    @hookimpl
    def forward(self, x, /):
        return 2 * x

    @hookimpl
    def backward(self, grad):
        return np.multiply(2, grad)

    @hookimpl
    def jvp(self, tangent):
        return 2 * tangent

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))


@pytest.fixture
def x():
    return opgrad.tensor([1.0, 2.0], requires_grad=True)


class TestTheFirstDerivative:
    def test_is_what_the_backward_gives(self, x):
        Cube()(x).sum().backward()
        np.testing.assert_array_equal(x.grad.data, [3.0, 12.0])

    def test_is_the_same_where_it_is_recorded(self, x):
        (grad,) = opgrad.autograd.grad(Cube()(x).sum(), x, create_graph=True)
        np.testing.assert_array_equal(grad.detach().data, [3.0, 12.0])

    def test_of_several_outputs_and_residuals(self, x):
        square, double = Parts()(x)
        (grad,) = opgrad.autograd.grad((square + double).sum(), x, create_graph=True)
        np.testing.assert_array_equal(grad.detach().data, [4.0, 6.0])

    def test_is_given_by_a_node_that_is_called(self, x):
        grad = Cube()(x).grad_fn(opgrad.ones(2))
        np.testing.assert_array_equal(grad.detach().data, [3.0, 12.0])


class TestASecondDerivative:
    @pytest.mark.parametrize("operator", [Cube(), Parts()])
    def test_is_an_error_that_names_the_operators_node(self, x, operator):
        out = operator(x)
        out = out if isinstance(out, opgrad.Tensor) else out[0]
        (grad,) = opgrad.autograd.grad(out.sum(), x, create_graph=True)
        name = f"{type(operator).__name__}Backward0"
        with pytest.raises(GraphError, match=f"{name}: .* once_differentiable.*second derivative"):
            grad.sum().backward()

    def test_with_respect_to_the_gradient_that_was_given_is_an_error_too(self, x):
        given = opgrad.ones(2, requires_grad=True)
        (grad,) = opgrad.autograd.grad(Doubled()(x), x, given, create_graph=True)
        with pytest.raises(GraphError, match="once_differentiable"):
            grad.sum().backward()

    def test_is_not_asked_where_the_gradient_depends_on_nothing(self, x):
        (grad,) = opgrad.autograd.grad(Doubled()(x).sum(), x, create_graph=True)
        assert not grad.requires_grad

    def test_of_the_rest_of_a_program_is_there(self, x):
        (grad,) = opgrad.autograd.grad((Doubled()(x) + x**3).sum(), x, create_graph=True)
        (second,) = opgrad.autograd.grad(grad.sum(), x)
        np.testing.assert_array_equal(second.data, [6.0, 12.0])


class TestAForwardDerivative:
    def test_is_an_error_that_tells_what_to_do(self, x):
        with pytest.raises(GraphError, match=r"CubeBackward0: a forward derivative .* jvp hook"):
            jvp(Cube(), (x.detach(),), (opgrad.ones(2),))
        with pytest.raises(GraphError, match=r"or use reverse mode"):
            jacfwd(Cube())(x.detach())

    def test_is_there_with_a_jvp_hook(self, x):
        _, change = jvp(Doubled(), (x.detach(),), (opgrad.ones(2),))
        np.testing.assert_array_equal(change.data, [2.0, 2.0])

    def test_in_reverse_is_there(self, x):
        _, pull = vjp(Cube(), x.detach())
        np.testing.assert_array_equal(pull(opgrad.ones(2))[0].data, [3.0, 12.0])


class Pair(Operator):
    """The product, whose backward knows NumPy alone and gives only what is asked for."""

    once_differentiable = True

    @hookimpl
    def forward(self, a, b, /):
        return np.multiply(a, b)

    @hookimpl
    def backward(self, grad, a, b, needs):
        assert all(isinstance(each, ARRAYS) for each in (grad, a, b))
        return np.multiply(grad, b) if needs[0] else None, grad * a if needs[1] else None

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3), rng.normal(size=3))


class BlackBox(Function):
    """The square, whose backward knows NumPy alone."""

    @staticmethod
    def forward(ctx, x, power):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return opgrad.asarray(2 * grad.numpy() * x.detach().numpy()), None


class TestSeveralRowsAtOnce:
    ROWS = np.array([[0.3, 0.7], [1.1, -0.4], [0.9, 0.2]])
    X = np.array([1.0, 2.0])

    @pytest.mark.parametrize(
        ("f", "slope"),
        [
            (Cube(), 3 * X**2),
            (Doubled(), 2),
            (lambda x: Pair()(x, np.array([5.0, 7.0])), np.array([5.0, 7.0])),
            (lambda x: BlackBox.apply(x, 2), 2 * X),
            (lambda x: sum(Parts()(x * 3)), 18 * X + 6),
        ],
    )
    def test_are_what_each_is(self, f, slope):
        found = vmap(vjp(f, self.X)[1])(self.ROWS)
        np.testing.assert_allclose(found[0], self.ROWS * slope)

    @pytest.mark.parametrize("f", [Cube(), lambda x: BlackBox.apply(x, 2)])
    def test_are_what_each_is_in_two_directions(self, f):
        pull = vjp(f, self.X)[1]
        rows = np.stack([self.ROWS, 2 * self.ROWS])
        found = vmap(vmap(lambda row: pull(row)[0]))(rows)
        np.testing.assert_allclose(found, np.stack([[pull(each)[0] for each in r] for r in rows]))
        # The rows of the inner call are of the outer one, too, and the graph is of neither.
        found = vmap(lambda a: vmap(lambda b: pull(a * b)[0])(self.ROWS))(self.ROWS)
        expected = [[pull(a * b)[0] for b in self.ROWS] for a in self.ROWS]
        np.testing.assert_allclose(found, np.array(expected))

    @pytest.mark.parametrize("f", [Cube(), lambda x: BlackBox.apply(x, 2)])
    def test_still_end_the_graph(self, f):
        x, rows = opgrad.tensor(self.X, requires_grad=True), opgrad.tensor(self.ROWS)
        found = vmap(lambda row: opgrad.autograd.grad(f(x), x, row, create_graph=True)[0])(rows)
        np.testing.assert_allclose(
            found.detach(), [opgrad.autograd.grad(f(x), x, row)[0] for row in self.ROWS]
        )
        with pytest.raises(GraphError, match="once_differentiable"):
            found.sum().backward()


class TestTheVerifier:
    @pytest.mark.parametrize("operator", [Cube(), Parts(), Doubled()])
    def test_passes_it_and_says_what_it_did_not_ask(self, operator):
        report = verify(operator)
        assert report.passed
        (second,) = [each for each in report.findings if each.probe == "second_order"]
        assert (second.status.name, second.message) == ("SKIP", "it says once_differentiable")

    def test_still_finds_a_wrong_gradient(self):
        class Wrong(Cube):
            @hookimpl
            def backward(self, grad, x):
                return 2 * np.square(x) * grad

        assert not verify(Wrong()).passed
