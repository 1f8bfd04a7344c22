"""`autograd.Function`: an operation that says itself how it is differentiated.

Where a test takes `lib` it states what opgrad and PyTorch have in common, and runs on both.
"""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import opgrad
from opgrad import GraphError
from opgrad.autograd.function import once_differentiable
from opgrad.check import gradcheck


def leaf(lib, *values):
    return lib.tensor(list(values), requires_grad=True)


def function(lib, forward, backward, setup_context=None):
    """Make a Function of plain functions, called ``Made``."""
    body = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    if setup_context:
        body["setup_context"] = staticmethod(setup_context)
    return type("Made", (lib.autograd.Function,), body)


def scaled_product(lib):
    """``a * b * by``, with what it was given in `given`."""

    def forward(ctx, a, b, by=2):
        ctx.save_for_backward(a, b)
        ctx.by = by
        return a * b * by

    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return grad * b * ctx.by, grad * a * ctx.by, None

    return function(lib, forward, backward)


def doubled(lib):
    return function(lib, lambda ctx, x: x * 2, lambda ctx, grad: grad * 2)


def returning(result):
    """A Function of one argument whose backward returns `result`, whatever is asked."""
    return function(opgrad, lambda ctx, x: x * 2, lambda ctx, *grads: result)


def name(node):
    return node.name().removeprefix("torch::autograd::")


def grads(lib, *args, **options):
    found = lib.autograd.grad(*args, **options)
    return [None if each is None else each.tolist() for each in found]


class TestApply:
    def test_returns_what_forward_does_with_a_place_in_the_graph(self, lib):
        a, b = leaf(lib, 1.0, 2.0), leaf(lib, 3.0, 4.0)
        out = scaled_product(lib).apply(a, b, 3)
        assert out.tolist() == [9, 24]
        assert out.requires_grad
        assert not out.is_leaf
        assert out.grad_fn.name() == type(out.grad_fn).__name__ == "MadeBackward"
        assert [name(node) for node, _ in out.grad_fn.next_functions] == ["AccumulateGrad"] * 2

    def test_prints_its_node_by_the_name_of_the_class(self):
        out = doubled(opgrad).apply(leaf(opgrad, 1.0))
        assert repr(out) == "tensor([2.], grad_fn=<MadeBackward>)"
        assert repr(out.grad_fn).startswith("<MadeBackward object at 0x")

    def test_gives_gradients_by_the_backward(self, lib):
        a, b = leaf(lib, 1.0, 2.0), leaf(lib, 3.0, 4.0)
        out = scaled_product(lib).apply(a, b)
        assert grads(lib, out.sum(), (a, b)) == [[6, 8], [2, 4]]

    def test_takes_arguments_by_name(self, lib):
        a, b = leaf(lib, 1.0, 2.0), leaf(lib, 3.0, 4.0)
        out = scaled_product(lib).apply(a, b, by=5)
        assert grads(lib, out.sum(), (a, b)) == [[15, 20], [5, 10]]

    def test_does_not_record_where_nothing_requires_grad(self, lib):
        a, b = lib.tensor([1.0]), lib.tensor([2.0])
        assert not scaled_product(lib).apply(a, b).requires_grad

    def test_does_not_record_in_no_grad(self, lib):
        with lib.no_grad():
            out = doubled(lib).apply(leaf(lib, 1.0))
        assert out.is_leaf
        assert not out.requires_grad

    def test_gives_an_inference_tensor_in_inference_mode(self, lib):
        with lib.inference_mode():
            assert doubled(lib).apply(leaf(lib, 1.0)).is_inference()

    def test_refuses_a_tensor_that_is_given_by_name_only_and_would_get_no_gradient(self):
        made = function(opgrad, lambda ctx, x, *, w: x * w, lambda ctx, grad: grad)
        x = leaf(opgrad, 1.0)
        assert made.apply(x, w=2.0).tolist() == [2]
        with pytest.raises(GraphError, match="'w' is for its name only"):
            made.apply(x, w=leaf(opgrad, 1.0))

    def test_leaves_tensors_in_lists_alone(self, lib):
        made = function(lib, lambda ctx, xs, y: y + xs[0], lambda ctx, grad: (None, grad))
        x, y = leaf(lib, 1.0), leaf(lib, 2.0)
        out = made.apply([x], y)
        assert grads(lib, out.sum(), (x, y), allow_unused=True) == [None, [1]]

    @pytest.mark.parametrize("missing", ["forward", "backward"])
    def test_says_which_method_is_missing(self, missing):
        body = {"forward": lambda ctx, x: x * 2, "backward": lambda ctx, grad: grad}
        del body[missing]
        made = type("Made", (opgrad.autograd.Function,), body)
        with pytest.raises(NotImplementedError, match=rf"static method {missing}\(ctx"):
            made.apply(leaf(opgrad, 1.0)).sum().backward()


class TestForward:
    def test_runs_without_recording_on_the_tensors_themselves(self, lib):
        seen = []

        def forward(ctx, x):
            seen.extend([x, lib.is_grad_enabled(), (x * 2).requires_grad])
            return x * 2

        x = leaf(lib, 1.0)
        function(lib, forward, None).apply(x)
        assert seen[0] is x
        assert seen[1:] == [False, False]

    def test_knows_which_arguments_need_a_gradient(self, lib):
        seen = []

        def forward(ctx, a, b, c):
            seen.append(ctx.needs_input_grad)
            return a * b

        function(lib, forward, None).apply(leaf(lib, 1.0), lib.tensor([2.0]), "text")
        assert seen == [(True, False, False)]

    def test_may_be_apart_from_the_context(self, lib):
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0], output)
            ctx.power = inputs[1]

        def backward(ctx, grad):
            x, out = ctx.saved_tensors
            return grad * ctx.power * out / x, None

        made = function(lib, lambda x, n: x**n, backward, setup_context)
        x = leaf(lib, 2.0)
        assert grads(lib, made.apply(x, 3).sum(), x) == [[12]]

    def test_may_return_several(self, lib):
        made = function(lib, lambda ctx, x: (x * 2, x * 3), lambda ctx, g, h: 2 * g + 3 * h)
        x = leaf(lib, 1.0)
        first, second = made.apply(x)
        assert first.grad_fn is second.grad_fn
        assert (first.sum() + 10 * second.sum()).requires_grad
        assert grads(lib, first.sum() + 10 * second.sum(), x) == [[32]]

    def test_may_return_what_is_no_tensor(self, lib):
        seen = []

        def backward(ctx, *received):
            seen.extend(received)
            return received[2]

        made = function(lib, lambda ctx, x: (5, None, x * 2, "text"), backward)
        x = leaf(lib, 1.0)
        out = made.apply(x)
        assert out[:2] + out[3:] == (5, None, "text")
        assert grads(lib, out[2].sum(), x) == [[1]]
        assert seen[0] is seen[1] is seen[3] is None

    def test_that_returns_an_array_is_refused_as_no_gradient_could_reach_it(self):
        made = function(opgrad, lambda ctx, x: x.detach().numpy() * 2, None)
        with pytest.raises(GraphError, match=r"Made\.forward returned an array, float64 \(1,\)"):
            made.apply(leaf(opgrad, 1.0))

    def test_integer_outputs_have_no_gradient(self, lib):
        made = function(lib, lambda ctx, x: x > 1, None)
        assert not made.apply(leaf(lib, 1.0, 2.0)).requires_grad

    def test_that_returns_its_input_gives_another_tensor(self, lib):
        made = function(lib, lambda ctx, x: x, lambda ctx, grad: grad * 7)
        x = leaf(lib, 1.0)
        out = made.apply(x)
        assert out is not x
        assert x.is_leaf
        assert grads(lib, out.sum(), x) == [[7]]

    def test_outputs_that_share_memory_with_an_input_are_copied(self):
        made = function(opgrad, lambda ctx, x: x.reshape(1, 2), lambda ctx, g: g.reshape(2))
        x = leaf(opgrad, 1.0, 2.0)
        out = made.apply(x)
        with opgrad.no_grad():
            out.zero_()
        assert x.tolist() == [1, 2]


class TestBackward:
    def test_gets_tensors_and_is_not_recorded(self, lib):
        seen = []

        def backward(ctx, grad):
            seen.extend([isinstance(grad, lib.Tensor), lib.is_grad_enabled()])
            return grad

        function(lib, lambda ctx, x: x * 1, backward).apply(leaf(lib, 1.0)).sum().backward()
        assert seen == [True, False]

    def test_is_recorded_with_create_graph(self, lib):
        a, b = leaf(lib, 2.0), leaf(lib, 3.0)
        out = scaled_product(lib).apply(a, b)
        da, db = lib.autograd.grad((out**2).sum(), (a, b), create_graph=True)
        # (2ab)**2: the gradient is 8ab**2 and 8a**2b.
        assert (da.tolist(), db.tolist()) == ([144], [96])
        assert grads(lib, da.sum(), (a, b)) == [[72], [96]]

    def test_second_derivatives_go_through_saved_outputs(self, lib):
        def forward(ctx, x):
            out = lib.exp(x)
            ctx.save_for_backward(out)
            return out

        made = function(lib, forward, lambda ctx, grad: grad * ctx.saved_tensors[0])
        x = leaf(lib, 0.0, 1.0)
        for _ in range(3):
            y = made.apply(x).sum()
            for _ in range(3):
                (y,) = lib.autograd.grad(y.sum(), x, create_graph=True)
            np.testing.assert_allclose(y.tolist(), np.exp([0, 1]), rtol=1e-15)

    def test_gradients_are_in_pytorch_s_convention_for_complex_numbers(self, lib):
        def forward(ctx, z):
            ctx.save_for_backward(z)
            return (z * z.conj()).real

        made = function(lib, forward, lambda ctx, grad: 2 * grad * ctx.saved_tensors[0])
        z = lib.tensor([1 + 2j, -3j], requires_grad=True)
        made.apply(z).sum().backward()
        assert z.grad.tolist() == [2 + 4j, -6j]

    def test_and_so_are_those_that_it_gets(self, lib):
        seen = []

        def backward(ctx, grad):
            seen.append(grad.tolist())
            return grad * (1 - 1j)  # the conjugate of the factor

        made = function(lib, lambda ctx, z: z * (1 + 1j), backward)
        z = lib.tensor([1 + 2j], requires_grad=True)
        w = made.apply(z)
        (w * w.conj()).real.sum().backward()
        assert seen == [[2 * (1 + 2j) * (1 + 1j)]]
        assert z.grad.tolist() == [4 * (1 + 2j)]

    def test_none_is_no_gradient(self, lib):
        made = function(lib, lambda ctx, a, b: a + b, lambda ctx, grad: (None, grad))
        a, b = leaf(lib, 1.0), leaf(lib, 2.0)
        made.apply(a, b).sum().backward()
        assert a.grad is None
        assert b.grad.tolist() == [1]
        assert grads(lib, made.apply(a, b).sum(), a, allow_unused=True) == [None]

    def test_none_is_no_gradient_for_a_node_called_by_hand(self):
        made = function(opgrad, lambda ctx, a, b: a + b, lambda ctx, grad: (None, grad))
        node = made.apply(leaf(opgrad, 1.0), leaf(opgrad, 2.0)).grad_fn
        first, second = node(opgrad.tensor([3.0]))
        assert first is None
        assert second.tolist() == [3]

    def test_more_gradients_than_arguments_may_be_none(self, lib):
        made = function(lib, lambda ctx, x, k=2: x * k, lambda ctx, grad: (grad, None))
        assert grads(lib, made.apply(x := leaf(lib, 1.0)).sum(), x) == [[1]]

    def test_gradients_may_have_the_broadcast_shape(self, lib):
        made = function(lib, lambda ctx, x: x * 1, lambda ctx, grad: lib.ones(5, 2))
        assert grads(lib, made.apply(x := leaf(lib, 1.0, 2.0)).sum(), x) == [[5, 5]]

    def test_gradients_are_cast_to_the_dtype_of_the_input(self, lib):
        made = function(lib, lambda ctx, x: x * 1, lambda ctx, grad: lib.ones(1, dtype=lib.float64))
        x = lib.ones(1, dtype=lib.float32, requires_grad=True)
        (found,) = lib.autograd.grad(made.apply(x).sum(), x)
        assert found.dtype == lib.float32

    @pytest.mark.parametrize(
        ("result", "message"),
        [
            ((), r"Made\.backward returned 0 gradients; expected 1"),
            ((opgrad.ones(2),) * 2, r"Made\.backward returned 2 gradients; expected 1"),
            (1.0, r"Made\.backward returned 1.0 for argument 0; expected a tensor or None"),
            (np.ones(2), r"Made\.backward returned float64 \(2,\) for argument 0"),
            (opgrad.ones(3), r"MadeBackward\.backward returned shape \(3,\) .* input 'x'"),
        ],
    )
    def test_what_does_not_fit_is_an_error_that_names_the_class(self, result, message):
        with pytest.raises(GraphError, match=message):
            returning(result).apply(leaf(opgrad, 1.0, 2.0)).sum().backward()

    def test_a_gradient_for_what_is_no_tensor_is_an_error(self, lib):
        made = function(lib, lambda ctx, x, k: x * k, lambda ctx, grad: (grad, grad))
        with pytest.raises(RuntimeError, match="Made"):
            made.apply(leaf(lib, 1.0), 2).sum().backward()

    def test_errors_in_it_say_whose_they_are(self):
        def backward(ctx, grad):
            raise KeyError(ctx)

        with pytest.raises(KeyError) as raised:
            function(opgrad, lambda ctx, x: x * 2, backward).apply(
                leaf(opgrad, 1.0)
            ).sum().backward()
        assert "MadeBackward" in raised.value.__notes__[0]

    def test_leaves_the_mode_as_it_was_when_it_fails(self):
        with pytest.raises(GraphError):
            returning(()).apply(leaf(opgrad, 1.0)).sum().backward()
        assert opgrad.is_grad_enabled()


class TestOutputsThatNothingDependsOn:
    def outputs(self, lib, prepare=lambda ctx: None):
        self.seen = []

        def forward(ctx, x):
            prepare(ctx)
            return x * 2, x * 3

        def backward(ctx, *received):
            self.seen = [None if each is None else each.tolist() for each in received]
            return received[0]

        made = function(lib, forward, backward)
        return made.apply(leaf(lib, 1.0, 2.0))

    def test_have_a_gradient_of_zeros(self, lib):
        self.outputs(lib)[0].sum().backward()
        assert self.seen == [[1, 1], [0, 0]]

    def test_or_of_none_if_that_is_asked_for(self, lib):
        self.outputs(lib, lambda ctx: ctx.set_materialize_grads(False))[0].sum().backward()
        assert self.seen == [[1, 1], None]

    @pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
    def test_or_of_zeros_with_create_graph(self, lib):
        self.outputs(lib)[0].sum().backward(create_graph=True)
        assert self.seen == [[1, 1], [0, 0]]

    def test_are_those_marked_as_not_differentiable(self, lib):
        def forward(ctx, x):
            out, order = x * 2, x * 1
            ctx.mark_non_differentiable(order)
            return out, order

        made = function(lib, forward, lambda ctx, g, _: g * 2)
        x = leaf(lib, 1.0)
        out, order = made.apply(x)
        assert out.requires_grad
        assert not order.requires_grad
        assert grads(lib, out.sum(), x) == [[2]]


class TestOutputsThatShareMemory:
    """They are copied, so that a write to one is a write to nothing else."""

    @staticmethod
    def made(parts):
        def backward(ctx, *grads):
            total = grads[0] * 0
            for grad in grads:
                total = total + opgrad.sum(grad) * 2
            return total

        return function(opgrad, lambda ctx, x: parts(x * 2), backward)

    @pytest.mark.parametrize(
        "parts",
        [
            lambda t: (t, t),
            lambda t: [t, t],
            lambda t: (t, t[:]),
            lambda t: (t[:], t),
            lambda t: (t[:], t[:]),
            lambda t: (t, t.detach()),
            lambda t: (t, opgrad.asarray(t.data)),
            lambda t: (t, opgrad.asarray(t.data[:])),
        ],
    )
    @pytest.mark.parametrize("written", [0, 1])
    def test_with_each_other(self, parts, written):
        x = leaf(opgrad, 1.0, 2.0)
        outputs = self.made(parts).apply(x)
        outputs[written].mul_(3.0)
        other = outputs[1 - written]
        assert other.tolist() == [2, 4]
        # Each is t; of what was not written to the gradient is 2 * t, which is given back in sums.
        assert grads(opgrad, (other * other).sum(), x) == [[24, 24]]

    @pytest.mark.parametrize("returned", ["itself", "a view", "its array", "a list that holds it"])
    def test_with_something_that_forward_encloses(self, returned):
        buffer = opgrad.zeros(2)
        holder = [buffer]

        def forward(ctx, x):
            buffer.copy_(x * 2)
            return {
                "itself": buffer,
                "a view": buffer[:],
                "its array": opgrad.asarray(buffer.data),
                "a list that holds it": holder,
            }[returned]

        x = leaf(opgrad, 1.0, 2.0)
        made = function(opgrad, forward, lambda ctx, grad: grad * 2)
        first = made.apply(x)
        first = first[0] if isinstance(first, list) else first
        first.mul_(3.0)
        assert buffer.tolist() == [2, 4]
        assert grads(opgrad, first.sum(), x) == [[6, 6]]

    def test_with_an_attribute_of_the_context(self):
        def forward(ctx, x):
            ctx.out = opgrad.exp(x)
            return ctx.out

        x = leaf(opgrad, 0.0, 0.0)
        out = function(opgrad, forward, lambda ctx, grad: grad * ctx.out).apply(x)
        out.mul_(3.0)
        assert grads(opgrad, out.sum(), x) == [[3, 3]]

    @pytest.mark.parametrize("saved", [False, True])
    def test_with_nothing_are_not_copied(self, saved):
        arrays = []

        def forward(ctx, x):
            out = x * 2
            arrays.append(out._data.__array_interface__["data"][0])
            if saved:
                ctx.save_for_backward(out)
                ctx.mark_non_differentiable(out)
            return out

        out = function(opgrad, forward, None).apply(leaf(opgrad, 1.0, 2.0))
        assert [out.data.__array_interface__["data"][0]] == arrays


class TestSavedTensors:
    def test_keep_none(self, lib):
        seen = []

        def forward(ctx, x):
            ctx.save_for_backward(None, x)
            return x * 2

        def backward(ctx, grad):
            seen.append(ctx.saved_tensors[0])
            return grad

        function(lib, forward, backward).apply(leaf(lib, 1.0)).sum().backward()
        assert seen == [None]

    def test_refuse_what_is_no_tensor(self, lib):
        made = function(lib, lambda ctx, x: ctx.save_for_backward(x, 3), None)
        with pytest.raises(TypeError, match=r"argument 1 is"):
            made.apply(leaf(lib, 1.0))

    def test_have_their_place_in_the_graph(self, lib):
        weight = leaf(lib, 5.0)  # neither input nor output

        def forward(ctx, x):
            ctx.save_for_backward(x, weight)
            return x * weight

        made = function(lib, forward, lambda ctx, grad: grad * ctx.saved_tensors[1])
        x = leaf(lib, 2.0)
        (dx,) = lib.autograd.grad(made.apply(x).sum(), x, create_graph=True)
        assert grads(lib, dx.sum(), weight) == [[1]]

    def test_can_be_read_from_the_node(self, lib):
        a, b = leaf(lib, 1.0), leaf(lib, 2.0)
        node = scaled_product(lib).apply(a, b).grad_fn
        assert [each.tolist() for each in node.saved_tensors] == [[1], [2]]
        assert [each.requires_grad for each in node.saved_tensors] == [True, True]

    def test_have_the_names_of_the_arguments(self):
        def forward(ctx, a, *rest):
            out = a * rest[0]
            ctx.save_for_backward(a, rest[1], out, a * 3)
            ctx.flag = "kept"
            return out

        x = leaf(opgrad, 2.0)
        node = function(opgrad, forward, None).apply(x, 4, leaf(opgrad, 1.0)).grad_fn
        assert node.names == ("ctx", "a", "args[1]", "out0", "saved3")
        assert node.saved.ctx.flag == "kept"
        assert node.saved.out0.tolist() == [8]
        assert node.saved.saved3.tolist() == [6]

    def test_are_freed_after_a_backward_pass(self, lib):
        x = leaf(lib, 1.0)
        out = scaled_product(lib).apply(x, x).sum()
        node = out.grad_fn.next_functions[0][0]
        out.backward(retain_graph=True)
        assert len(node.saved_tensors) == 2
        out.backward()
        with pytest.raises(RuntimeError, match="freed"):
            out.backward()
        with pytest.raises(RuntimeError, match="freed"):
            _ = node.saved_tensors

    def test_that_were_written_to_since_are_an_error(self, lib):
        x = leaf(lib, 1.0) * 1
        out = scaled_product(lib).apply(x, lib.tensor([2.0])).sum()
        x.mul_(2)
        with pytest.raises(RuntimeError, match=r"mul_|modified by an inplace operation"):
            out.backward()

    def test_without_any_a_second_pass_is_possible(self, lib):
        x = leaf(lib, 1.0)
        out = doubled(lib).apply(x)
        out.backward(lib.ones(1))
        out.backward(lib.ones(1))
        assert x.grad.tolist() == [4]

    def test_say_that_the_graph_is_gone(self):
        contexts = []

        def forward(ctx, x):
            ctx.save_for_backward(x)
            contexts.append(ctx)
            return x * 2

        out = function(opgrad, forward, None).apply(leaf(opgrad, 1.0))
        assert len(contexts[0].saved_tensors) == 1
        del out
        with pytest.raises(GraphError, match="the graph that this ctx belongs to is gone"):
            _ = contexts[0].saved_tensors


class TestInPlace:
    def write(self, lib):
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        return function(lib, forward, lambda ctx, grad: grad * 2)

    def test_the_input_takes_the_history_of_the_call(self, lib):
        a = leaf(lib, 1.0, 2.0)
        x = a * 1
        out = self.write(lib).apply(x)
        assert out is x
        assert x.grad_fn.name() == "MadeBackward"
        assert grads(lib, x.sum(), a) == [[2, 2]]

    def test_a_view_rewrites_the_history_of_its_base(self, lib):
        a = leaf(lib, 1.0, 2.0)
        x = a * 1
        view = x[:1]
        assert self.write(lib).apply(view) is view
        assert x.tolist() == [2, 2]
        assert name(x.grad_fn) == "CopySlices"
        assert grads(lib, x.sum(), a) == [[2, 1]]

    def test_values_that_others_saved_are_protected(self, lib):
        x = leaf(lib, 1.0) * 1
        y = (x * x).sum()
        self.write(lib).apply(x)
        with pytest.raises(RuntimeError, match=r"Made|modified by an inplace operation"):
            y.backward()

    def test_the_result_may_be_saved(self, lib):
        def forward(ctx, x):
            x.exp_()
            ctx.mark_dirty(x)
            ctx.save_for_backward(x)
            return x

        made = function(lib, forward, lambda ctx, grad: grad * ctx.saved_tensors[0])
        a = leaf(lib, 0.0)
        assert grads(lib, made.apply(a * 1).sum(), a) == [[1]]

    def test_a_leaf_that_requires_grad_is_refused(self, lib):
        with pytest.raises(RuntimeError, match="leaf"):
            self.write(lib).apply(leaf(lib, 1.0))

    def test_what_is_written_to_has_to_be_returned(self, lib):
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x * 1

        with pytest.raises(RuntimeError, match=r"mark_dirty|marked as dirty"):
            function(lib, forward, None).apply(leaf(lib, 1.0) * 1)


class TestOnceDifferentiable:
    def square(self, lib):
        once = once_differentiable
        if lib is not opgrad:
            once = lib.autograd.function.once_differentiable

        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        return function(lib, forward, once(lambda ctx, grad: 2 * grad * ctx.saved_tensors[0]))

    def test_gives_first_derivatives(self, lib):
        x = leaf(lib, 3.0)
        assert grads(lib, self.square(lib).apply(x).sum(), x) == [[6]]
        assert grads(lib, self.square(lib).apply(x).sum(), x, create_graph=True) == [[6]]

    def test_refuses_second_derivatives(self, lib):
        x = leaf(lib, 3.0)
        (dx,) = lib.autograd.grad(self.square(lib).apply(x).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError):
            lib.autograd.grad(dx.sum(), x)

    def test_never_leaves_one_out_silently(self):
        x = leaf(opgrad, 3.0)
        y = self.square(opgrad).apply(x) + x**3
        (dx,) = opgrad.autograd.grad(y.sum(), x, create_graph=True)
        with pytest.raises(GraphError, match=r"MadeBackward: .* once_differentiable"):
            opgrad.autograd.grad(dx.sum(), x)


class TestForwardDerivatives:
    """They are those of the backward, so it has to be recorded."""

    X = np.array([0.0, 1.0])

    @staticmethod
    def sine(backward):
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return opgrad.asarray(np.sin(x.data))

        return function(opgrad, forward, backward)

    def left(self):
        """With a backward that does not record."""
        return self.sine(lambda ctx, g: opgrad.asarray(g.data * np.cos(ctx.saved_tensors[0].data)))

    @pytest.mark.parametrize(
        "derivative",
        [
            lambda f, x: opgrad.func.jvp(f, (x,), (x,)),
            lambda f, x: opgrad.func.jacfwd(f)(x),
            lambda f, x: opgrad.func.linearize(f, x)[1](x),
            lambda f, x: opgrad.func.jacobian(lambda s: f(s * x))(1.0),
            lambda f, x: opgrad.func.jacfwd(opgrad.func.jacfwd(f))(x),
            lambda f, x: opgrad.func.jacfwd(lambda x: opgrad.func.checkpoint(f, x) + x)(x),
        ],
        ids=["jvp", "jacfwd", "linearize", "jacobian", "nested", "checkpoint"],
    )
    def test_of_a_backward_that_is_not_recorded_are_refused(self, derivative):
        f = self.left().apply
        with pytest.raises(GraphError, match=r"MadeBackward: .*forward.* 'x' .*reverse mode"):
            derivative(f, self.X)
        np.testing.assert_allclose(opgrad.func.jacrev(f)(self.X), np.diag(np.cos(self.X)))

    def test_of_a_backward_that_depends_on_what_was_saved_alone_are_refused(self):
        def backward(ctx, grad):
            return opgrad.asarray(grad.data) * opgrad.cos(ctx.saved_tensors[0])

        with pytest.raises(GraphError, match=r"MadeBackward: .*forward.* 'x' .*reverse mode"):
            opgrad.func.jacfwd(self.sine(backward).apply)(self.X)

    def test_of_a_backward_that_is_marked_are_refused_as_what_they_are(self):
        @once_differentiable
        def backward(ctx, grad):
            return grad * opgrad.cos(ctx.saved_tensors[0])

        f = self.sine(backward).apply
        with pytest.raises(GraphError, match=r"forward derivative .* once_differentiable") as found:
            opgrad.func.jacfwd(f)(self.X)
        assert "second" not in str(found.value)

    def test_of_complex_ones_that_are_marked_are_refused_likewise(self):
        f = function(opgrad, lambda ctx, z: z * 2, once_differentiable(lambda ctx, g: g * 2))
        with pytest.raises(GraphError, match=r"forward derivative .* once_differentiable"):
            opgrad.func.jvp(f.apply, (1j * self.X,), (self.X,))

    def test_are_zero_where_backward_returns_none(self):
        f = function(opgrad, lambda ctx, x, y: x * 2, lambda ctx, grad: (grad * 2, None))
        _, change = opgrad.func.jvp(f.apply, (self.X, self.X), (self.X, self.X))
        np.testing.assert_array_equal(change, 2 * self.X)

    def test_ask_only_for_what_changes(self):
        def backward(ctx, grad):
            return grad * 2, opgrad.asarray(grad.data)

        f = function(opgrad, lambda ctx, x, y: x * 2 + y, backward)
        _, change = opgrad.func.jvp(lambda x: f.apply(x, opgrad.ones(2)), (self.X,), (self.X,))
        np.testing.assert_array_equal(change, 2 * self.X)


class TestWithTheRest:
    def test_graphs_die_without_the_garbage_collector(self):
        made = scaled_product(opgrad)
        x = leaf(opgrad, 1.0)
        gc.disable()
        try:
            out = made.apply(x, x)
            node = weakref.ref(out.grad_fn)
            del out
            assert node() is None
        finally:
            gc.enable()

    def test_an_output_on_the_context_makes_no_cycle(self):
        def forward(ctx, x):
            ctx.out = x * 2
            ctx.save_for_backward(ctx.out)
            return ctx.out

        gc.disable()
        try:
            out = function(opgrad, forward, None).apply(leaf(opgrad, 1.0))
            node = weakref.ref(out.grad_fn)
            del out
            assert node() is None
        finally:
            gc.enable()

    def test_the_verifier_accepts_a_right_one_and_refuses_a_wrong_one(self):
        def backward(ctx, grad):
            b = ctx.saved_tensors[1]
            return grad * b * ctx.by, grad * b * ctx.by, None

        right = scaled_product(opgrad)
        wrong = function(opgrad, right.forward, backward)
        a, b = leaf(opgrad, 1.0, 2.0), leaf(opgrad, 3.0, -4.0)
        assert gradcheck(right.apply, (a, b)).passed
        assert not gradcheck(wrong.apply, (a, b)).passed

    def test_it_is_differentiated_forwards_by_its_backward(self):
        made = scaled_product(opgrad)
        a, b = np.array([1.0, 2.0]), np.array([3.0, -4.0])
        _, tangent = opgrad.func.jvp(made.apply, (a, b), (np.ones(2), np.zeros(2)))
        np.testing.assert_array_equal(tangent, 2 * b)

    def test_hooks_see_its_gradients(self, lib):
        seen = []
        x = leaf(lib, 1.0)
        out = doubled(lib).apply(x)
        out.register_hook(lambda grad: seen.append(grad.tolist()))
        out.grad_fn.register_hook(lambda inputs, outputs: seen.append(inputs[0].tolist()))
        out.backward(lib.tensor([3.0]))
        assert seen == [[3], [6]]

    def test_it_can_be_drawn(self):
        pytest.importorskip("graphviz")
        out = scaled_product(opgrad).apply(leaf(opgrad, 1.0), leaf(opgrad, 2.0))
        assert "MadeBackward" in str(opgrad.draw(out, saved=True))
