"""The contract of an operator: what its signatures mean, what is saved, and what is refused."""

from __future__ import annotations

import enum
import inspect
import math
import pydoc
import weakref
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

import opgrad
from opgrad import Case, GraphError, Operator, OperatorError, Tensor, hookimpl
from opgrad.registry import registry


def operator(name="Probe", **members):
    """Make an operator; functions become hooks, and a self_check is there by default."""
    members.setdefault("self_check", lambda self, rng: iter([Case(rng.normal(size=3))]))
    hooks = {key: hookimpl(each) for key, each in members.items() if inspect.isfunction(each)}
    return type(name, (Operator,), {**members, **hooks})()


def leaf(*values, dtype=None):
    return opgrad.tensor(list(values), dtype=dtype, requires_grad=True)


def grads(output, *leaves):
    """Return the gradients of the output's sum as lists."""
    return [each.tolist() for each in opgrad.autograd.grad(output.sum(), leaves)]


def message(error, function, *args, **kwargs):
    """Return the message of the error that a call raises."""
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    return str(caught.value)


class TestTheSignature:
    """Arguments before the ``/`` are inputs, those after it parameters; ``xp`` is neither."""

    scale = operator(
        "Scale",
        __doc__="The input times `factor`.",
        forward=lambda self, x, /, factor=2.0, *, xp, power=1: xp.pow(factor * x, power),
        backward=lambda self, grad, x, factor, power: (
            grad * power * factor * (factor * x) ** (power - 1)
        ),
    )

    def test_names_inputs_and_parameters(self):
        contract = self.scale.contract
        assert contract.inputs == ("x",)
        assert contract.parameters == ("factor", "power")

    def test_is_public_without_self_and_xp(self):
        assert str(inspect.signature(self.scale)) == "(x, /, factor=2.0, *, power=1)"
        assert inspect.signature(self.scale.function) == inspect.signature(self.scale)

    def test_is_what_help_shows(self):
        text = pydoc.render_doc(self.scale.function, renderer=pydoc.plaintext)
        assert "scale(x, /, factor=2.0, *, power=1)" in text
        assert "The input times `factor`." in text

    def test_is_what_repr_shows(self):
        assert repr(self.scale) == "<operator scale(x, /, factor=2.0, *, power=1)>"

    def test_of_an_installed_operator_is_that_of_its_function(self):
        assert str(inspect.signature(opgrad.matmul)) == "(a, b, /)"

    @pytest.mark.parametrize("call", [scale, scale.function])
    def test_is_kept_by_calls(self, call):
        x = leaf(1.0, 2.0)
        assert call(x).tolist() == [2.0, 4.0]
        assert call(x, 3.0, power=2).tolist() == [9.0, 36.0]
        assert call(x, factor=3.0, power=2).tolist() == [9.0, 36.0]

    def test_makes_parameters_known_to_the_backward(self):
        x = leaf(1.0, 2.0)
        assert grads(self.scale(x, 3.0, power=2), x) == [[18.0, 36.0]]

    def test_takes_inputs_by_position_only(self):
        assert "x" in message(TypeError, self.scale, x=1.0)

    def test_gives_the_name(self):
        assert operator("LogSumExp", forward=lambda self, x, /: x, differentiable=False).name == (
            "log_sum_exp"
        )

    def test_of_several_hooks_may_be_in_any_order(self):
        probe = operator(
            forward=lambda self, a, b, /, *, c: a * b + c,
            backward_b=lambda self, xp, a, c, grad: grad * a * xp.ones_like(a) + 0 * c,
            backward_a=lambda self, b, grad: grad * b,
        )
        a, b = leaf(2.0), leaf(3.0)
        assert grads(probe(a, b, c=1.0), a, b) == [[3.0], [2.0]]

    def test_of_an_input_with_a_default_makes_it_optional(self):
        probe = operator(
            forward=lambda self, x, weight=None, /: x if weight is None else x * weight,
            backward_x=lambda self, grad, weight: grad if weight is None else grad * weight,
            backward_weight=lambda self, grad, x: grad * x,
        )
        x, weight = leaf(2.0), leaf(5.0)
        assert grads(probe(x), x) == [[1.0]]
        assert grads(probe(x, weight), x, weight) == [[5.0], [2.0]]


class TestWhatIsSaved:
    """A backward names what it needs, and nothing else is kept."""

    def test_is_nothing_where_nothing_is_named(self):
        node = opgrad.add(leaf(1.0), leaf(2.0)).grad_fn
        assert (node.names, node.arrays()) == ((), ())

    def test_is_each_input_for_the_gradient_that_names_it(self):
        a, b = leaf(1.0), leaf(2.0)
        node = opgrad.mul(a, b).grad_fn
        saved = dict(zip(node.names, node.arrays(), strict=True))
        assert saved["a"] is a.data
        assert saved["b"] is b.data

    def test_is_not_an_input_for_a_gradient_that_nobody_asks(self):
        a, b = leaf(1.0), opgrad.tensor([2.0])
        node = opgrad.mul(a, b).grad_fn
        saved = dict(zip(node.names, node.arrays(), strict=True))
        assert saved["a"] is None
        assert saved["b"] is b.data

    def test_is_not_the_output_for_a_gradient_that_nobody_asks(self):
        base, exponent = leaf(2.0), opgrad.tensor([3.0])
        out = opgrad.pow(base, exponent)
        node = out.grad_fn
        assert dict(zip(node.names, node.arrays(), strict=True))["out"] is None
        assert grads(out, base) == [[12.0]]

    def test_is_the_output_itself_where_that_is_named(self):
        out = opgrad.exp(leaf(1.0))
        assert out.grad_fn.names == ("out",)
        assert out.grad_fn.arrays()[0] is out.data

    def test_keeps_no_other_array_alive(self):
        x = leaf(1.0, 2.0)
        y = x * 1.0
        data = weakref.ref(y.data)
        out = opgrad.exp(y)
        del y
        assert data() is None
        assert grads(out, x) == [np.exp([1.0, 2.0]).tolist()]

    def test_keeps_an_array_alive_that_is_named(self):
        y = leaf(1.0, 2.0) * 1.0
        data = weakref.ref(y.data)
        out = opgrad.sin(y)
        del y
        assert data() is not None
        del out
        assert data() is None

    def test_is_a_shape_instead_of_the_array_where_that_is_enough(self):
        node = opgrad.sum(opgrad.ones((2, 3), requires_grad=True)).grad_fn
        saved = dict(zip(node.names, node.arrays(), strict=True))
        assert saved == {"x_shape": (2, 3), "axis": None, "keepdims": False}

    def test_is_a_parameter_that_is_named(self):
        node = opgrad.pow_scalar(leaf(3.0), 2).grad_fn
        assert dict(zip(node.names, node.arrays(), strict=True))["exponent"] == 2

    def test_is_nothing_without_a_graph(self):
        y = opgrad.ones(2) * 1.0
        data = weakref.ref(y.data)
        out = opgrad.sin(y)
        del y
        assert data() is None
        assert out.grad_fn is None


class TestOneHookForEachInput:
    def test_runs_only_for_gradients_that_are_asked(self):
        ran = []
        probe = operator(
            forward=lambda self, a, b, /: a * b,
            backward_a=lambda self, grad, b: ran.append("a") or grad * b,
            backward_b=lambda self, grad, a: ran.append("b") or grad * a,
        )
        a, b = leaf(2.0), leaf(3.0)
        assert grads(probe(a, b.detach()), a) == [[3.0]]
        assert grads(probe(a.detach(), b), b) == [[2.0]]
        assert grads(probe(a, b), b) == [[2.0]]
        assert ran == ["a", "b", "b"]
        assert grads(probe(a, b), a, b) == [[3.0], [2.0]]

    def test_that_is_missing_is_an_error_where_the_input_requires_grad(self):
        probe = operator(
            "Choose",
            forward=lambda self, x, mask, /: x * mask,
            backward_x=lambda self, grad, mask: grad * mask,
        )
        x, mask = leaf(2.0), leaf(1.0)
        got = message(GraphError, probe, x, mask)
        for part in ("choose", "'mask' requires grad", "no gradient", "mask.detach()"):
            assert part in got
        assert grads(probe(x, mask.detach()), x) == [[1.0]]
        with opgrad.no_grad():
            assert probe(x, mask).tolist() == [2.0]


class TestOneHookForAll:
    def probe(self, asked):
        def backward(self, grad, a, b, needs):
            asked.append(needs)
            return grad * b, grad * a

        return operator(forward=lambda self, a, b, /: a * b, backward=backward)

    @pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
    def test_is_told_which_gradients_are_needed(self, needs):
        asked = []
        leaves = [leaf(2.0).requires_grad_(needed) for needed in needs]
        wanted = [each for each in leaves if each.requires_grad]
        found = grads(self.probe(asked)(*leaves), *wanted)
        assert found == [[2.0]] * len(wanted)
        assert asked == [needs]

    def test_is_told_which_are_needed_by_this_pass(self):
        asked = []
        a, b = leaf(2.0), leaf(3.0)
        assert grads(self.probe(asked)(a, b), b) == [[2.0]]
        assert asked == [(False, True)]

    def test_may_give_none_where_nothing_is_needed(self):
        probe = operator(
            forward=lambda self, a, b, /: a * b,
            backward=lambda self, grad, a, b, needs: [
                grad * b if needs[0] else None,
                grad * a if needs[1] else None,
            ],
        )
        a = leaf(2.0)
        assert grads(probe(a, 3.0), a) == [[3.0]]

    def test_gives_a_bare_gradient_for_a_single_input(self):
        probe = operator(
            forward=lambda self, x, /: 2 * x,
            backward=lambda self, grad: 2 * grad,
        )
        x = leaf(1.0)
        assert grads(probe(x), x) == [[2.0]]


class TestResiduals:
    """What forward returns beside its output, for the backward alone."""

    clip = operator(
        "Clip",
        residuals=("inside",),
        forward=lambda self, x, /, top: (np.minimum(x, top), x < top),
        backward=lambda self, grad, inside: grad * inside,
    )

    def test_reach_the_backward_and_not_the_caller(self):
        x = leaf(1.0, 5.0)
        out = self.clip(x, 2.0)
        assert isinstance(out, Tensor)
        assert out.tolist() == [1.0, 2.0]
        assert grads(out, x) == [[1.0, 0.0]]

    def test_stay_away_from_the_caller_without_a_graph_too(self):
        assert self.clip(opgrad.tensor([1.0, 5.0]), 2.0).tolist() == [1.0, 2.0]

    def test_stand_beside_several_outputs(self):
        probe = operator(
            residuals=("factor",),
            forward=lambda self, x, /: ((x, 2 * x), 10.0),
            backward=lambda self, grad, factor: factor * (grad[0] + 2 * grad[1]),
        )
        x = leaf(1.0)
        first, second = probe(x)
        assert (first.tolist(), second.tolist()) == ([1.0], [2.0])
        assert grads(first + second, x) == [[30.0]]

    @pytest.mark.parametrize(
        ("returned", "got"),
        [
            (np.ones((2, 2)), "float64 (2, 2)"),
            ((np.ones(2),), "a tuple of 1"),
            ((np.ones(2), 1, 2), "a tuple of 3"),
        ],
    )
    def test_that_are_not_there_are_an_error(self, returned, got):
        probe = operator(
            "Clip",
            residuals=("inside",),
            forward=lambda self, x, /: returned,
            backward=lambda self, grad, inside: grad * inside,
        )
        text = message(TypeError, probe, leaf(1.0, 2.0))
        assert f"clip.forward returned {got}; expected a tuple of 2: its output, inside" in text


class TestSeveralOutputs:
    """forward returns a tuple; grad is a tuple then, with zeros for what nothing depends on."""

    polar = operator(
        "SinCos",
        forward=lambda self, x, /, *, xp: (xp.sin(x), xp.cos(x)),
        backward=lambda self, grad, x, xp: grad[0] * xp.cos(x) - grad[1] * xp.sin(x),
    )

    def test_are_a_tuple_of_tensors_with_one_node(self):
        sin, cos = self.polar(leaf(0.5))
        assert sin.tolist() == [np.sin(0.5)]
        assert cos.tolist() == [np.cos(0.5)]
        assert sin.grad_fn is cos.grad_fn

    def test_are_a_tuple_of_tensors_without_a_graph(self):
        sin, cos = self.polar(opgrad.tensor([0.5]))
        assert (sin.requires_grad, cos.requires_grad) == (False, False)
        assert cos.tolist() == [np.cos(0.5)]

    def test_have_their_gradients_added(self):
        x = leaf(0.5)
        sin, cos = self.polar(x)
        assert grads(2 * sin + 3 * cos, x) == [[2 * np.cos(0.5) - 3 * np.sin(0.5)]]

    def test_that_nothing_depends_on_count_as_zeros(self):
        x = leaf(0.5)
        assert grads(self.polar(x)[0], x) == [[np.cos(0.5)]]
        assert grads(self.polar(x)[1], x) == [[-np.sin(0.5)]]

    def test_give_zeros_of_their_own_shape_and_dtype(self):
        seen = []
        probe = operator(
            forward=lambda self, x, /: (x, np.ones((2, 3), np.float32)),
            backward=lambda self, grad: seen.append(grad[1]) or grad[0],
        )
        x = leaf(1.0)
        assert grads(probe(x)[0], x) == [[1.0]]
        assert (seen[0].shape, seen[0].dtype) == ((2, 3), np.float32)
        assert not seen[0].any()

    def test_of_integers_do_not_require_grad(self):
        probe = operator(
            forward=lambda self, x, /: (2 * x, np.argsort(x)),
            backward=lambda self, grad: 2 * grad[0],
        )
        x = leaf(3.0, 1.0)
        double, order = probe(x)
        assert (double.requires_grad, order.requires_grad) == (True, False)
        assert grads(double, x) == [[2.0, 2.0]]

    def test_have_second_derivatives(self):
        x = leaf(0.5)
        _, cos = self.polar(x)
        (first,) = opgrad.autograd.grad(cos.sum(), x, create_graph=True)
        assert grads(first, x) == [[-np.cos(0.5)]]

    def test_have_second_derivatives_where_the_backward_names_them(self):
        probe = operator(
            forward=lambda self, x, /, *, xp: (xp.exp(x), xp.exp(2 * x)),
            backward=lambda self, grad, out: grad[0] * out[0] + 2 * grad[1] * out[1],
        )
        x = leaf(0.5)
        (first,) = opgrad.autograd.grad(probe(x)[1].sum(), x, create_graph=True)
        np.testing.assert_allclose(grads(first, x), [[4 * np.exp(1.0)]], rtol=1e-15)

    def test_have_second_derivatives_where_they_are_numbers(self):
        probe = operator(
            forward=lambda self, x, /: (math.exp(x), math.sin(x)),
            backward=lambda self, grad, x, out, xp: grad[0] * out[0] + grad[1] * xp.cos(x),
        )
        x = opgrad.tensor(0.5, requires_grad=True)
        (first,) = opgrad.autograd.grad(probe(x)[0], x, create_graph=True)
        (second,) = opgrad.autograd.grad(first, x)
        assert first.item() == second.item() == math.exp(0.5)

    def test_may_be_numbers(self):
        first, second = operator(
            forward=lambda self, x, /: (x.sum(), 3),
            backward=lambda self, grad, x_shape, xp: xp.broadcast_to(grad[0], x_shape),
        )(leaf(1.0, 2.0))
        assert (first.item(), second.item()) == (3.0, 3)


class TestOverloads:
    """An operator may leave an input that is a plain number to another operator."""

    shift = operator(
        "Shift",
        forward=lambda self, x, /, by, *, scale=1: scale * (x + by),
        backward=lambda self, grad, scale: grad * scale,
    )
    plus = operator(
        "Plus",
        overloads={"by": shift},
        forward=lambda self, x, by, /, *, scale=1: scale * (x + by),
        backward_x=lambda self, grad, scale: grad * scale,
        backward_by=lambda self, grad, scale: grad * scale,
    )

    @pytest.mark.parametrize("number", [2, 2.0, np.float64(2), np.float32(2), np.int8(2)])
    def test_answer_for_a_number(self, number):
        node = opgrad.pow(leaf(3.0), number).grad_fn
        assert (node.name(), len(node.next_functions)) == ("PowBackward0", 1)

    def test_do_not_answer_for_a_tensor_or_an_array(self):
        for exponent in (opgrad.tensor(2.0), np.asarray([2.0])):
            node = opgrad.pow(leaf(3.0), exponent).grad_fn
            assert (node.name(), len(node.next_functions)) == ("PowBackward1", 2)

    def test_get_the_parameters(self):
        x = leaf(1.0)
        out = self.plus(x, 2, scale=10)
        assert out.grad_fn.operator is self.shift
        assert out.tolist() == [30.0]
        assert grads(out, x) == [[10.0]]


class TestNumbers:
    """A number stays a number, so that it does not decide the dtype of a result."""

    @pytest.mark.parametrize(
        "number",
        [True, 2, 2.5, np.float64(2.5), np.float32(2.5), np.int64(2), np.uint8(2), np.bool_(True)],
    )
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_leave_the_dtype_of_a_tensor(self, number, dtype):
        x = leaf(1.0, 2.0, dtype=dtype)
        for out in (x * number, number * x, opgrad.mul(number, x)):
            assert out.dtype == x.dtype
            assert out.tolist() == [float(number), 2 * float(number)]
        assert opgrad.autograd.grad((number * x).sum(), x)[0].dtype == x.dtype

    def test_leave_integers_integers(self):
        assert (opgrad.tensor([1, 2]) * np.int64(3)).dtype == np.int64
        assert (opgrad.tensor([1, 2]) * True).tolist() == [1, 2]

    def test_make_floats_and_complex_numbers_as_in_numpy(self):
        assert (opgrad.tensor([1, 2]) * 0.5).dtype == np.float64
        assert (opgrad.tensor([1.0], dtype="float32") * 1j).dtype == np.complex64

    @pytest.mark.parametrize("number", [2.5, np.float64(2.5), np.float32(2.5)])
    def test_reach_forward_as_pythons_own(self, number):
        seen = []
        probe = operator(
            forward=lambda self, a, b, /: seen.append(type(b)) or a * b, differentiable=False
        )
        probe(np.ones(2), number)
        assert seen == [float]

    def test_of_a_subclass_count_as_their_base(self):
        class Size(enum.IntEnum):
            SMALL = 2

        x = leaf(1.0, dtype="float32")
        assert (x * Size.SMALL).tolist() == [2.0]
        assert (x**Size.SMALL).dtype == np.float32
        assert (x * type("Metres", (float,), {})(2.5)).dtype == np.float32

    def test_are_not_arrays_of_no_axes(self):
        assert (leaf(1.0, dtype="float32") * np.asarray(2.0)).dtype == np.float64

    def test_alone_make_a_tensor(self):
        assert opgrad.mul(2, 3).tolist() == 6
        assert opgrad.mul(2, 3.0).dtype == np.float64


def test_its_source_is_its_own_also_beside_another_of_its_name():
    """Tracebacks show it, and debuggers."""
    both = [
        operator("Twin", forward=forward, backward=lambda self, grad: grad).function
        for forward in (lambda self, x, /: x + 1, lambda self, y, /: y + 1)
    ]
    for function, line in zip(both, ("def call(x, /):", "def call(y, /):"), strict=True):
        assert inspect.getsource(function).startswith(line)


class TestForwardsOutput:
    def test_may_be_made_by_other_operators(self):
        probe = operator(
            forward=lambda self, x, /: opgrad.exp(x),
            backward=lambda self, grad, out: grad * out,
        )
        x = leaf(0.5)
        assert type(probe(x).data) is np.ndarray
        assert type(probe(x.detach()).data) is np.ndarray
        assert grads(probe(x), x) == [[np.exp(0.5)]]

    @pytest.mark.parametrize("exp", [math.exp, np.exp, opgrad.exp])
    def test_has_its_place_in_the_graph_whatever_it_is_returned_as(self, exp):
        probe = operator(
            forward=lambda self, x, /: exp(x), backward=lambda self, grad, out: grad * out
        )
        x = opgrad.tensor(0.5, requires_grad=True)
        (first,) = opgrad.autograd.grad(probe(x), x, create_graph=True)
        (second,) = opgrad.autograd.grad(first, x)
        assert first.item() == second.item() == np.exp(0.5)

    def test_may_not_hide_a_tensor_that_requires_grad(self):
        hidden = leaf(2.0)
        probe = operator(
            "Affine",
            forward=lambda self, x, /, weight: x * weight,
            backward=lambda self, grad: grad,
        )
        for x in (leaf(1.0), opgrad.tensor([1.0])):
            got = message(TypeError, probe, x, weight=hidden)
            for part in ("affine.forward", "requires grad", "not among the inputs", "before the"):
                assert part in got

    def test_loses_numpys_subclasses(self):
        x = opgrad.tensor([[1.0, 2.0]])
        assert type(opgrad.mul(x, np.ma.masked_array([[2.0, 2.0]])).data) is np.ndarray

    @pytest.mark.parametrize(
        ("returned", "got"),
        [
            (None, "None"),
            ([1.0, 2.0], "a list of 2"),
            ("text", "str"),
            ((), "a tuple of 0"),
            ((np.ones(1), (np.ones(1),)), "a tuple of 1"),
            ((np.ones(1), None), "None"),
            (np.asarray([None]), "object (1,)"),
        ],
    )
    def test_that_is_no_array_is_an_error(self, returned, got):
        probe = operator(
            "Strange", forward=lambda self, x, /: returned, backward=lambda self, grad: grad
        )
        text = message(TypeError, probe, leaf(1.0))
        assert f"strange.forward returned {got} as an output; expected a numeric array" in text

    @pytest.mark.parametrize("returned", [None, [1.0], (), (np.ones(1), (np.ones(1),))])
    def test_that_is_no_array_is_an_error_without_a_graph_too(self, returned):
        probe = operator("Strange", forward=lambda self, x, /: returned, differentiable=False)
        assert "strange.forward" in message(TypeError, probe, 1.0)

    @pytest.mark.parametrize("name", registry.names())
    def test_shares_memory_only_where_the_operator_says_so(self, name):
        probe = registry.load(name)
        for case in probe.contract.hooks["self_check"](np.random.default_rng(0)):
            outputs = probe.spread(len(case.inputs))(*case.inputs, **case.parameters)
            for out in outputs if isinstance(outputs, tuple) else [outputs]:
                shared = [np.shares_memory(out.data, each) for each in case.inputs]
                assert probe.view or not any(shared)

    @pytest.mark.parametrize(
        "view",
        [lambda x: x[1:], lambda x: x.T, lambda x: opgrad.reshape(x, (3, 2)), opgrad.real],
    )
    def test_of_a_view_shares_memory(self, view):
        x = opgrad.ones((2, 3))
        assert np.shares_memory(view(x).data, x.data)


class TestNotDifferentiable:
    def test_never_requires_grad(self):
        a, b = leaf(1.0, 5.0), leaf(2.0, 3.0)
        out = a > b
        assert out.tolist() == [False, True]
        assert (out.requires_grad, out.grad_fn) == (False, None)

    def test_needs_no_backward(self):
        probe = operator(forward=lambda self, x, /: 2 * x, differentiable=False)
        assert probe(leaf(1.0)).requires_grad is False

    def test_is_an_output_of_integers_of_any_operator(self):
        assert leaf(1.5).astype("int64").requires_grad is False


class TestADefinition:
    """What does not keep the contract fails where it stands, and says what to do."""

    #: Functions that make an operator together, of inputs `a` and `b` and a parameter `scale`.
    sound: ClassVar = {
        "forward": lambda self, a, b, /, *, scale=1.0: scale * a * b,
        "backward": lambda self, grad, a, b, scale: (scale * grad * b, scale * grad * a),
        "self_check": lambda self, rng: [Case(rng.normal(size=3), rng.normal(size=3))],
    }

    def refusal(self, **changes):
        """Return the error's message for the sound operator with changes; None leaves out."""
        hooks = {name: each for name, each in {**self.sound, **changes}.items() if each is not None}
        members = {
            name: hookimpl(each) if inspect.isfunction(each) else each
            for name, each in hooks.items()
        }
        return message(OperatorError, type("Probe", (Operator,), members))

    def test_that_is_sound_is_none_of_these(self):
        assert operator(**self.sound)(2.0, 3.0, scale=10).item() == 60.0

    @pytest.mark.parametrize(
        ("hook", "function", "wrong", "near"),
        [
            ("backward_a", lambda self, gard, b: gard * b, "gard", "grad"),
            ("backward_a", lambda self, grad, sclae: grad, "sclae", "scale"),
            ("backward_b", lambda self, grad, a_shpe: grad, "a_shpe", "a_shape"),
            ("backward", lambda self, grad, neds: (grad, grad), "neds", "needs"),
            ("self_check", lambda self, rgn: [], "rgn", "rng"),
        ],
    )
    def test_whose_hook_names_an_unknown_argument(self, hook, function, wrong, near):
        rest = {} if hook == "self_check" else {"backward": None}
        got = self.refusal(**{**rest, hook: function})
        assert f"Probe.{hook} names {wrong!r}, which is not there to give" in got
        assert "; it may name " in got
        assert got.endswith(f"; did you mean {near!r}?")

    def test_whose_hook_names_what_is_like_nothing(self):
        got = self.refusal(backward=lambda self, grad, zyxwv: (grad, grad))
        assert "did you mean" not in got
        assert "it may name grad, out, xp, needs, a_shape, b_shape, a, b, scale" in got

    @pytest.mark.parametrize(
        ("hook", "near"),
        [("backwards", "backward"), ("backward_aa", "backward_a"), ("selfcheck", "self_check")],
    )
    def test_whose_hook_is_misspelt(self, hook, near):
        got = self.refusal(**{hook: lambda self: None})
        assert f"Probe.{hook}: there is no such hook; hooks are forward, self_check, batch, " in got
        assert got.endswith(f"; did you mean {near!r}?")

    def test_without_a_backward(self):
        got = self.refusal(backward=None)
        assert "Probe lacks a backward hook" in got
        for part in ("backward_a", "backward_b", "@hookimpl", "differentiable = False"):
            assert part in got

    @pytest.mark.parametrize(
        ("hooks", "said"),
        [
            (["jvp_a"], "Probe lacks jvp_b: an operator has a jvp hook either for every input"),
            (["jvp"], "jvp_a, jvp_b; did you mean 'jvp_"),
        ],
    )
    def test_with_a_jvp_for_some_inputs_only(self, hooks, said):
        got = self.refusal(**dict.fromkeys(hooks, lambda self, tangent: tangent))
        assert said in got

    def test_with_a_jvp_for_what_has_no_backward(self):
        jvps = dict.fromkeys(["jvp_a", "jvp_b"], lambda self, tangent: tangent)
        got = self.refusal(backward=None, backward_a=lambda self, grad, b: grad * b, **jvps)
        assert "Probe lacks backward_b" in got

    def test_whose_jvp_names_what_the_backward_does_not_save(self):
        hooks = {
            "backward": None,
            "backward_a": lambda self, grad, b, scale: scale * grad * b,
            "backward_b": lambda self, grad, a, scale: scale * grad * a,
            "jvp_a": lambda self, tangent, a: tangent * a,
            "jvp_b": lambda self, tangent, a: tangent * a,
        }
        got = self.refusal(**hooks)
        assert "Probe.jvp_a names 'a', which is not there to give" in got
        assert "it may name tangent, xp, b, a_shape, b_shape, scale" in got

    def test_whose_jvp_could_mean_two_tangents(self):
        hooks = {
            "forward": lambda self, tangent, /: tangent,
            "backward": lambda self, grad: grad,
            "jvp": lambda self, tangent: tangent,
        }
        assert "'tangent' is what a jvp hook is given" in self.refusal(**hooks)

    def test_without_a_forward(self):
        got = self.refusal(forward=None)
        assert "Probe lacks a forward hook" in got
        assert "@hookimpl" in got

    def test_without_a_self_check(self):
        got = self.refusal(self_check=None)
        assert "Probe declares no self_check" in got
        assert "self_check(self, rng)" in got

    @pytest.mark.parametrize(
        "unmarked",
        [
            ("forward", lambda self, a, b, /: a),
            ("backward", lambda self, grad: grad),
            ("backward_a", lambda self, grad: grad),
            ("self_check", lambda self, rng: []),
        ],
    )
    def test_whose_hook_is_not_marked(self, unmarked):
        hook, function = unmarked
        members = {name: hookimpl(each) for name, each in self.sound.items()}
        got = message(OperatorError, type("Probe", (Operator,), {**members, hook: function}))
        assert f"Probe.{hook} is not a hook yet" in got
        assert "@hookimpl" in got

    def test_whose_hook_is_no_method(self):
        got = self.refusal(backward=classmethod(hookimpl(lambda cls, grad: grad)))
        assert "Probe.backward is not a hook yet" in got

    @pytest.mark.parametrize(
        ("hook", "function", "what"),
        [
            ("forward", lambda self, a, /, *b: a, "*b"),
            ("forward", lambda self, a, /, **b: a, "**b"),
            ("backward", lambda self, *grad: grad, "*grad"),
            ("self_check", lambda self, **rng: [], "**rng"),
        ],
    )
    def test_whose_hook_takes_whatever_comes(self, hook, function, what):
        got = self.refusal(**{hook: function})
        assert f"Probe.{hook} takes {what}: " in got
        assert "name each argument" in got

    def test_whose_forward_takes_any_number_of_arrays_names_the_remedy(self):
        got = self.refusal(forward=lambda self, *xs: xs)
        assert "Probe.forward takes *xs: " in got
        assert got.endswith("for any number of arrays say `variadic = True`, and take one, `xs, /`")

    @pytest.mark.parametrize(
        ("hook", "function", "remedy"),
        [
            ("forward", lambda a, b, /: a * b, "forward(self, a, b, /)"),
            ("forward", lambda a, /, *, scale=1.0: a, "forward(self, a, /, *, scale=1.0)"),
            ("forward", lambda xp, a, b, /, scale=1.0: a, "forward(self, xp, a, b, /, scale=1.0)"),
            ("forward", lambda: 1.0, "forward(self)"),
            ("backward", lambda grad, a, b: (grad * b, grad * a), "backward(self, grad, a, b)"),
            ("backward", lambda a, grad: (grad, grad), "backward(self, a, grad)"),
            ("backward", lambda: None, "backward(self)"),
            ("backward", lambda out: (out, out), "backward(self, out)"),
            ("backward", lambda xp, grad: (grad, grad), "backward(self, xp, grad)"),
            ("backward", lambda needs, grad: (grad, grad), "backward(self, needs, grad)"),
            ("backward", lambda scale, grad: (grad, grad), "backward(self, scale, grad)"),
            ("backward", lambda mask, grad: (grad, grad), "backward(self, mask, grad)"),
            ("backward", lambda a_shape, grad: grad, "backward(self, a_shape, grad)"),
            ("jvp_a", lambda tangent: tangent, "jvp_a(self, tangent)"),
            ("batch", lambda inputs, xp: xp, "batch(self, inputs, xp)"),
            ("self_check", lambda rng: [], "self_check(self, rng)"),
            ("self_check", lambda: None, "self_check(self)"),
        ],
    )
    def test_whose_hook_forgets_self(self, hook, function, remedy):
        got = self.refusal(**{hook: function}, residuals=("mask",))
        assert got.startswith(f"Probe.{hook}(")
        assert "has no self" in got
        assert got.endswith(f"`def {remedy}`")

    @pytest.mark.parametrize("wrong", ["backward_a", "jvp_a"])
    def test_whose_forward_forgets_self_of_an_input_that_another_hook_is_named_after(self, wrong):
        hooks = {"backward": None, wrong: lambda self, grad: grad}
        got = self.refusal(forward=lambda a, b, /: a, **hooks)
        assert got.startswith("Probe.forward(a, b, /) has no self")

    def test_whose_self_has_another_name_is_sound(self):
        made = operator(
            forward=lambda this, x, /: x * this.factor,
            backward=lambda me, grad: grad * me.factor,
            self_check=lambda _, rng: [Case(rng.normal(size=3))],
            factor=3.0,
        )
        x = leaf(2.0)
        made(x).backward()
        assert x.grad.tolist() == [3.0]

    def test_whose_hooks_are_static_methods_is_sound(self):
        members = {
            "forward": lambda x, /: 3.0 * x,
            "backward": lambda grad: 3.0 * grad,
            "self_check": lambda rng: [Case(rng.normal(size=3))],
        }
        made = type("Probe", (Operator,), {
            name: staticmethod(hookimpl(each)) for name, each in members.items()
        })()  # fmt: skip
        x = leaf(2.0)
        made(x).backward()
        assert x.grad.tolist() == [3.0]

    @pytest.mark.parametrize(
        ("aliases", "said"),
        [
            (("foo", "foo"), "Probe has the alias 'foo' twice; name it once"),
            (("a b",), "Probe has the alias 'a b'; expected a name as of a Python function"),
        ],
    )
    def test_with_wrong_aliases(self, aliases, said):
        assert self.refusal(aliases=aliases) == said
        hooks = {"backward": lambda grad: grad, "self_check": lambda rng: []}
        got = message(OperatorError, Operator.define, lambda x, /: x, aliases=aliases, **hooks)
        assert got == said.replace("Probe", "<lambda>")

    @pytest.mark.parametrize("base", [(Operator,), ("family", Operator)])
    def test_with_an_equality_of_its_own(self, base):
        equality = {"__eq__": lambda self, other: np.array([True]), "__hash__": None}
        bases = (type("Family", (Operator,), equality),) if "family" in base else base
        own = {name: hookimpl(each) for name, each in self.sound.items()}
        members = own if "family" in base else own | equality
        got = message(OperatorError, type("Probe", bases, members))
        assert got.startswith("Probe defines __eq__, by which it might pass for another plugin")

    @pytest.mark.parametrize(
        ("name", "value", "near"),
        [
            ("once_diferentiable", True, "once_differentiable"),
            ("alias", ("foo",), "aliases"),
            ("domian", {"a": (0, np.inf)}, "domain"),
            ("residual", ("mask",), "residuals"),
            ("refrence", np.multiply, "reference"),
            ("refrence", staticmethod(lambda a, b, scale=1: a * b * scale), "reference"),
            ("subgradiant", staticmethod(lambda **_: "first"), "subgradient"),
            ("bakward", staticmethod(lambda grad: grad), "backward"),
        ],
    )
    def test_whose_attribute_is_misspelt(self, name, value, near):
        got = self.refusal(**{name: value})
        assert got.startswith(f"Probe.{name} is nothing that opgrad knows, and no method")
        assert got.endswith(f"; did you mean {near!r}?")

    @pytest.mark.parametrize(
        "members",
        [
            {"factor": 2.0, "alphabet": "abc", "_domian": 3, "names": ["a"]},
            {"views": 3, "scaled": lambda self: [self.views for _ in "a"]},
            {"views": 3, "scaled": property(lambda self: getattr(self, "views"))},  # noqa: B009
            {"derived": staticmethod(lambda x: x), "dim": property(lambda self: 3)},
        ],
    )
    def test_with_attributes_of_its_own_is_sound(self, members):
        hooks = {name: hookimpl(each) for name, each in self.sound.items()}
        assert type("Probe", (Operator,), {**hooks, **members})()(2.0, 3.0).item() == 6.0

    @pytest.mark.parametrize("hook", ["backward", "jvp"])
    def test_with_a_gradient_that_is_switched_off(self, hook):
        hooks = {"backward": None, "forward": lambda self, x, /: x, hook: lambda self, grad: grad}
        got = self.refusal(**hooks, differentiable=False)
        said = f"says `differentiable = False`, and has the hook {hook}; leave one of the two out"
        assert got == f"Probe {said}"

    def test_with_an_inherited_gradient_that_is_switched_off_is_sound(self):
        members = {name: hookimpl(each) for name, each in self.sound.items()}
        base = type("Probe", (Operator,), members)
        off = type("Off", (base,), {"differentiable": False})
        assert not off()(leaf(2.0), 3.0).requires_grad
        with pytest.raises(OperatorError, match="Again says `differentiable = False`, and has"):
            type("Again", (off,), {"backward": members["backward"]})()

    def test_without_inputs(self):
        got = self.refusal(forward=lambda self, x, axis=None: x)
        assert "Probe.forward(x, axis=None) has no array inputs" in got
        assert "before a '/'" in got

    @pytest.mark.parametrize(
        ("forward", "twice"),
        [
            (lambda self, grad, /: grad, "'grad' is an input"),
            (lambda self, out, /: out, "'out' is an input"),
            (lambda self, x, xp, /: x, "'xp' is an input"),
            (lambda self, x, needs, /: x, "'needs' is an input"),
            (lambda self, x, x_shape, /: x, "'x_shape' is an input"),
            (lambda self, x, /, out=None: x, "'out' is a parameter"),
            (lambda self, x, /, x_shape=None: x, "'x_shape' is a parameter"),
            (lambda self, x, mask, /: x, "'mask' is a residual"),
            (lambda self, x, /, mask=None: x, "'mask' is a residual"),
        ],
    )
    def test_in_which_a_name_means_two_things(self, forward, twice):
        hooks = {"forward": forward, "backward": lambda self, grad: grad}
        got = self.refusal(**hooks, residuals=("mask",))
        assert f"Probe: {twice}, and for a backward also" in got
        assert "give it another name" in got

    def test_with_one_hook_for_all_and_one_for_an_input(self):
        got = self.refusal(backward_a=lambda self, grad: grad)
        assert "Probe has both backward and backward_a" in got

    def test_whose_domain_is_of_something_else_than_an_input(self):
        got = self.refusal(domain={"c": (0, np.inf)})
        assert got == "Probe.domain names 'c', which is not an input; inputs are a, b"

    def test_whose_domain_misspells_an_input(self):
        def power(self, base, exponent, /):
            return base**exponent

        got = self.refusal(forward=power, backward=lambda self: (), domain={"bases": (0, np.inf)})
        said = "inputs are base, exponent; did you mean 'base'?"
        assert got == f"Probe.domain names 'bases', which is not an input; {said}"

    @pytest.mark.parametrize("bounds", [(np.inf, 0), (1, 1), (0, np.nan)])
    def test_whose_domain_is_empty(self, bounds):
        got = self.refusal(domain={"a": bounds})
        assert got == f"Probe.domain['a'] is {bounds}; expected a lower bound, then an upper"


class TestACall:
    """What a call cannot take is an error that names operator, argument and expectation."""

    @pytest.mark.parametrize(
        ("value", "got"),
        [
            ("text", "is str"),
            ([1.0], "is list"),
            (None, "is NoneType"),
            (np.asarray(["a"]), "is an array of dtype <U1"),
            (np.asarray([None]), "is an array of dtype object"),
            (np.str_("a"), "is an array of dtype <U1"),
            (np.datetime64("2020-01-01"), "is an array of dtype datetime64[D]"),
        ],
    )
    def test_with_what_is_neither_array_nor_number(self, value, got):
        text = message(TypeError, opgrad.mul, leaf(1.0), value)
        assert text.startswith(f"mul: argument 'b' {got}; expected")
        assert "opgrad.tensor" in text

    def test_with_what_the_other_operand_can_take_is_left_to_it(self):
        class Other:
            def __rmul__(self, other):
                return "taken"

        assert leaf(1.0) * Other() == "taken"

    @pytest.mark.parametrize(
        ("call", "parts"),
        [
            (
                lambda x: opgrad.add(x, np.ones(4, "float32")),
                ("add: ", "a: float64 (3,)", "b: float32 (4,)", "shapes that broadcast"),
            ),
            (
                lambda x: x @ opgrad.ones((2, 2)),
                ("matmul: ", "a: float64 (3,)", "b: float64 (2, 2)", "the last axis of a"),
            ),
            (
                lambda x: opgrad.reshape(x, (2, 2)),
                ("reshape: ", "x: float64 (3,)", "as many elements"),
            ),
            (lambda x: opgrad.sum(x, axis=1), ("sum: ", "x: float64 (3,)", "axes that the input")),
            (lambda x: x[5], ("getitem: ", "x: float64 (3,)", "an index that NumPy takes")),
            (
                lambda x: opgrad.where(x > 0, 1, np.ones(2)),
                ("where: ", "condition: bool (3,)", "x: 1", "y: float64 (2,)"),
            ),
        ],
    )
    def test_with_shapes_that_do_not_fit(self, call, parts):
        got = message((ValueError, IndexError), call, opgrad.ones(3))
        for part in parts:
            assert part in got

    def test_that_fails_keeps_the_type_of_the_error_and_its_cause(self):
        def forward(self, x, /):
            msg = "not today"
            raise ValueError(msg)

        probe = operator("Lazy", forward=forward, expects="patience", differentiable=False)
        message = r"^lazy: not today \(got x: int64 \(\); expected patience\)$"
        with pytest.raises(ValueError, match=message):
            probe(1)

    def test_that_fails_in_a_way_of_its_own_gets_a_note(self):
        class OwnError(Exception):
            def __init__(self, code, reason):
                super().__init__(code, reason)

        def forward(self, x, /):
            raise OwnError(7, "not today")

        probe = operator("Lazy", forward=forward, differentiable=False)
        with pytest.raises(OwnError) as caught:
            probe(1)
        assert caught.value.args == (7, "not today")
        assert caught.value.__notes__[0].startswith("lazy: ")


class TestABackward:
    """What a backward returns and cannot be is an error that names operator, hook and input."""

    def failure(self, error=GraphError, **hooks):
        probe = operator("Twist", forward=lambda self, a, b, /: a * b, **hooks)
        a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
        return message(error, probe(a, b).sum().backward)

    @pytest.mark.parametrize(
        ("returned", "got"),
        [
            (np.ones(3), "shape (3,)"),
            (np.ones(()), "shape ()"),
            (np.ones((2, 1)), "shape (2, 1)"),
            (None, "a NoneType"),
            (1.0, "a float"),
            ([1.0, 2.0], "a list"),
            ((np.ones(2),), "a tuple"),
        ],
    )
    @pytest.mark.parametrize("name", ["a", "b"])
    def test_with_what_does_not_fit_the_input(self, returned, got, name):
        hooks = {
            "backward_a": lambda self, grad, b: grad * b,
            "backward_b": lambda self, grad, a: grad * a,
            f"backward_{name}": lambda self: returned,
        }
        text = self.failure(**hooks)
        assert f"twist.backward_{name} returned {got}" in text
        assert f"input {name!r}" in text
        assert "expected an array of shape (2,)" in text

    @pytest.mark.parametrize(
        ("gradients", "name"),
        [
            ((None, np.ones(2)), "a"),
            ((np.ones(2), None), "b"),
            ((np.ones(3), np.ones(2)), "a"),
            ((np.ones(2), 1.0), "b"),
        ],
    )
    def test_for_all_with_what_does_not_fit_an_input(self, gradients, name):
        text = self.failure(backward=lambda self: gradients)
        assert "twist.backward returned" in text
        assert f"input {name!r}" in text

    def test_for_all_with_none_where_only_the_second_is_needed(self):
        probe = operator(forward=lambda self, a, b, /: a * b, backward=lambda self: (None, None))
        assert "input 'b'" in message(GraphError, probe(np.ones(1), leaf(1.0)).backward)

    @pytest.mark.parametrize(
        ("returned", "got"),
        [
            ((np.ones(2),), "a tuple of 1"),
            ((np.ones(2),) * 3, "a tuple of 3"),
            (np.ones((2, 2)), "float64 (2, 2)"),
            (None, "None"),
        ],
    )
    def test_for_all_with_another_number_of_gradients(self, returned, got):
        text = self.failure(backward=lambda self: returned)
        assert f"twist.backward returned {got}; expected a tuple of 2 gradients" in text
        assert "a, b" in text

    def test_that_fails_gets_a_note_with_the_operator(self):
        def backward(self, grad):
            msg = "by design"
            raise ZeroDivisionError(msg)

        probe = operator("Twist", forward=lambda self, x, /: x * 1, backward=backward)
        with pytest.raises(ZeroDivisionError, match="by design") as caught:
            probe(leaf(1.0)).backward()
        assert any("twist.backward" in note for note in caught.value.__notes__)

    def test_may_return_the_broadcast_shape_and_another_dtype(self):
        probe = operator(
            forward=lambda self, a, b, /: a * b,
            backward_a=lambda self, grad, b: grad * b,
            backward_b=lambda self, grad, a: grad * a,
        )
        a = opgrad.ones((3, 1), dtype="float32", requires_grad=True)
        b = opgrad.tensor([1.0, 2.0], requires_grad=True)
        probe(a, b).sum().backward()
        assert (a.grad.tolist(), a.grad.dtype) == ([[3.0]] * 3, np.float32)
        assert (b.grad.tolist(), b.grad.dtype) == ([3.0, 3.0], np.float64)


@pytest.fixture
def around():
    """Register `around_call` hooks for the length of a test."""
    plugins = []

    def register(function, **options):
        plugin = SimpleNamespace(around_call=hookimpl(function, **options))
        registry.register_plugin(plugin)
        plugins.append(plugin)
        return plugin

    yield register
    for plugin in plugins:
        if registry.plugins.is_registered(plugin):
            registry.unregister_plugin(plugin)


class TestAroundCall:
    @staticmethod
    def tracer(log, name=""):
        def around_call(operator, call):
            log.append(f"{name}<{operator.name}")
            result = call()
            log.append(f"{name}>{operator.name}")
            return result

        return around_call

    def test_sees_every_call(self, around):
        log = []
        around(self.tracer(log))
        a = leaf(2.0)
        assert opgrad.mul(a, 3.0).tolist() == [6.0]
        assert (a * 3.0).tolist() == [6.0]
        assert opgrad.ops.mul(a, 3.0).tolist() == [6.0]
        assert a.sum().item() == 2.0
        assert np.exp(a).shape == (1,)
        calls = [name for name in ("mul", "mul", "mul", "sum", "exp") for name in (name, name)]
        assert [each[1:] for each in log] == calls

    def test_sees_operators_that_are_not_installed(self, around):
        log = []
        around(self.tracer(log))
        operator("Own", forward=lambda self, x, /: x, differentiable=False)(1.0)
        assert log == ["<own", ">own"]

    def test_stands_in_one_another_the_last_registered_outermost(self, around):
        log = []
        for name in "abc":
            around(self.tracer(log, name))
        opgrad.mul(1.0, 2.0)
        assert log == ["c<mul", "b<mul", "a<mul", "a>mul", "b>mul", "c>mul"]

    def test_may_ask_to_be_outermost_or_innermost(self, around):
        log = []
        around(self.tracer(log, "first"), tryfirst=True)
        around(self.tracer(log, "middle"))
        around(self.tracer(log, "last"), trylast=True)
        opgrad.mul(1.0, 2.0)
        assert log[:3] == ["first<mul", "middle<mul", "last<mul"]

    def test_is_given_what_it_names(self, around):
        around(lambda call: [call()])
        around(lambda call, operator: [operator.name, *call()])
        name, product = opgrad.mul(2.0, 3.0)
        assert (name, product.item()) == ("mul", 6.0)

    def test_can_be_removed(self, around):
        log = []
        inner, outer = around(self.tracer(log, "a")), around(self.tracer(log, "b"))
        registry.unregister_plugin(outer)
        opgrad.mul(1.0, 2.0)
        assert log == ["a<mul", "a>mul"]
        registry.unregister_plugin(inner)
        opgrad.mul(1.0, 2.0)
        assert len(log) == 2
        assert opgrad.mul is opgrad.ops.mul.compiled

    def test_may_be_given_as_a_function_for_a_while(self):
        log = []
        outer = opgrad.around_call(self.tracer(log, "outer"))
        with (
            opgrad.around_call(self.tracer(log, "inner")),
            pytest.raises(ValueError, match="shape"),
        ):
            opgrad.mul(opgrad.ones(2), opgrad.ones(3))
        opgrad.mul(1.0, 2.0)
        assert log == ["inner<mul", "outer<mul", "outer<mul", "outer>mul"]
        outer.remove()
        outer.remove()
        opgrad.mul(1.0, 2.0)
        assert len(log) == 4
        assert opgrad.mul is opgrad.ops.mul.compiled

    def test_may_be_given_as_a_method(self):
        class Counter:
            count = 0

            def hook(self, call):
                self.count += 1
                return call()

        counter = Counter()
        with opgrad.around_call(counter.hook):
            opgrad.mul(1.0, 2.0)
        assert counter.count == 1

    def test_that_is_no_function_is_an_error(self):
        with pytest.raises(TypeError, match=r"around_call got <built-in function print>; expected"):
            opgrad.around_call(print)

    def test_that_names_something_else_is_an_error_and_leaves_nothing(self):
        with pytest.raises(opgrad.RegistryError, match="'kall'"):
            opgrad.around_call(lambda kall: kall())
        assert opgrad.mul is opgrad.ops.mul.compiled

    @pytest.mark.parametrize("lost", [lambda operator, call: None, lambda call: call() and None])
    def test_that_returns_none_is_an_error_with_its_place(self, around, lost):
        line = inspect.getsourcelines(lost)[1]
        around(lambda call: call())
        around(lost)
        around(lambda call: call())
        for call in (lambda: opgrad.tensor([1.0]) + 1, lambda: opgrad.add(1.0, 1.0)):
            got = message(TypeError, call)
            assert got.startswith("around_call: ")
            assert f"<lambda>, in {__file__}:{line}, returned None for operator 'add'; " in got
            assert got.endswith("return what call() gives")

    def test_that_returns_none_is_an_error_of_a_method_too(self):
        class Tracer:
            def forget(self, operator, call):
                call()

        with opgrad.around_call(Tracer().forget):
            got = message(TypeError, opgrad.mul, 1.0, 2.0)
        assert "Tracer.forget, in " in got
        assert "returned None for operator 'mul'" in got

    def test_leaves_the_graph_as_it_is(self, around):
        around(self.tracer([]))
        a = leaf(3.0)
        (5 * a**2).backward()
        assert a.grad.tolist() == [30.0]

    def test_sees_the_operators_of_a_backward_that_is_recorded(self, around):
        a = leaf(3.0)
        out = opgrad.sin(a).sum()
        log = []
        around(self.tracer(log))
        out.backward(create_graph=True)
        assert "<cos" in log

    def test_sees_one_call_where_an_overload_answers(self, around):
        calls = []
        probe = operator(
            "Plus",
            overloads={"b": TestOverloads.shift},
            forward=lambda self, a, b, /: a + b,
            differentiable=False,
        )
        for _ in range(2):
            plugin = around(lambda operator, call: calls.append(operator.name) or call())
            assert probe(1.0, 2.0).item() == 3.0
            registry.unregister_plugin(plugin)
        assert calls == ["plus", "plus"]

    def test_leaves_name_and_signature_of_the_function(self, around):
        around(self.tracer([]))
        assert opgrad.mul.__name__ == "mul"
        assert inspect.signature(opgrad.mul) == inspect.signature(opgrad.ops.mul)

    def test_sees_an_error_pass_through(self, around):
        seen = []

        def around_call(operator, call):
            try:
                return call()
            except Exception as error:
                seen.append(type(error))
                raise

        around(around_call)
        with pytest.raises(ValueError, match="add"):
            opgrad.add(np.ones(2), np.ones(3))
        assert seen == [ValueError]


class TestCase:
    def test_holds_arrays_numbers_and_nothing(self):
        case = Case([1, 2], 3, 2.5, None, True, axis=0)
        assert isinstance(case.inputs[0], np.ndarray)
        assert case.inputs[1:] == (3, 2.5, None, True)
        assert case.parameters == {"axis": 0}

    def test_shows_shapes_instead_of_elements(self):
        case = Case(np.ones((2, 3), np.float32), None, 2, axis=(0, 1))
        assert repr(case) == "Case(float32 (2, 3), None, 2, axis=(0, 1))"
