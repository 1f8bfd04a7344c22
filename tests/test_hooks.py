"""Hooks: who is called, when, with what, and what becomes of what is returned."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import suppress

import numpy as np
import pytest

import opgrad
from opgrad.autograd import GraphError, register_multi_grad_hook


def leaf(values, **options):
    return opgrad.tensor(values, requires_grad=True, **options)


def listening(seen, name=None):
    """Return a hook that notes what it is called with, and leaves it."""

    def hook(*given):
        seen.append((name, *map(shown, given)) if name is not None else shown(*given))

    return hook


def shown(given):
    if isinstance(given, tuple):
        return tuple(map(shown, given))
    return given.tolist() if isinstance(given, opgrad.Tensor) else given


def accumulator(a):
    return (a * 1).grad_fn.next_functions[0][0]


class TestTensorHooks:
    def test_see_the_gradient_of_a_leaf_and_of_a_result(self):
        a, seen = leaf([1.0, 2.0]), []
        b = a * 3
        a.register_hook(listening(seen, "a"))
        b.register_hook(listening(seen, "b"))
        (b * b).sum().backward()
        assert seen == [("b", [6.0, 12.0]), ("a", [18.0, 36.0])]

    def test_see_it_once_it_has_come_from_everywhere(self):
        a, seen = leaf(2.0), []
        b = a * 1
        b.register_hook(listening(seen))
        (b * 3 + b * 4 + b**2).backward()
        assert seen == [11.0]

    def test_replace_it_by_what_they_return_one_after_the_other(self):
        a = leaf([1.0, 2.0])
        for change in (lambda grad: grad + 1, lambda grad: grad * 10, lambda grad: None):
            a.register_hook(change)
        (a * 3).sum().backward()
        assert a.grad.tolist() == [40.0, 40.0]

    def test_may_return_what_belongs_to_others(self):
        a, mine = leaf([1.0, 2.0]), opgrad.tensor([5.0, 6.0])
        a.register_hook(lambda grad: mine)
        for _ in range(2):
            (a * 3).sum().backward()
        assert (a.grad.tolist(), mine.tolist()) == ([10.0, 12.0], [5.0, 6.0])

    def test_see_each_output_of_several_and_none_that_nothing_came_to(self):
        a, seen = leaf([1.0, 2.0, 3.0]), []
        for i, part in enumerate(parts := opgrad.unstack(a)):
            part.register_hook(listening(seen, i))
        parts[2].register_hook(lambda grad: grad * 10)
        (parts[0] * 4 + parts[2] * 5).backward()
        assert seen == [(0, 4.0), (2, 5.0)]
        assert a.grad.tolist() == [4.0, 0.0, 50.0]

    def test_see_pytorchs_convention_for_complex_numbers(self):
        z, seen = leaf([1 + 2j]), []
        w = z * 1
        w.register_hook(listening(seen))
        z.register_hook(lambda grad: grad * 1j)
        (w * opgrad.conj(w)).real.sum().backward()
        assert seen == [[2 + 4j]]
        assert z.grad.tolist() == [(2 + 4j) * 1j]

    def test_see_python_numbers_as_0d_tensors(self):
        a, seen = leaf(2.0), []
        a.register_hook(lambda grad: seen.append((type(grad), grad.shape, grad.dtype)))
        (a * 3).backward()
        assert seen == [(opgrad.Tensor, (), np.dtype("float64"))]

    def test_are_for_what_requires_grad(self):
        with pytest.raises(GraphError, match="register_hook: the tensor does not require grad"):
            opgrad.ones(2).register_hook(print)


class TestRetainedGradients:
    def test_are_those_after_the_hooks(self):
        b = leaf(2.0) * 1
        b.retain_grad()
        b.register_hook(lambda grad: grad * 10)
        b.grad_fn.register_prehook(lambda grads: (grads[0] + 1,))
        (b * 3).backward()
        assert (b.retains_grad, b.grad.item()) == (True, 31.0)

    def test_add_up_and_belong_to_nobody_else(self):
        b = leaf([1.0, 2.0]) * 1
        b.retain_grad()
        passed = opgrad.ones(2)
        for _ in range(2):
            b.backward(passed, retain_graph=True)
        assert (b.grad.tolist(), passed.tolist()) == ([2.0, 2.0], [1.0, 1.0])
        b.grad = None
        b.backward(passed)
        assert b.grad.tolist() == [1.0, 1.0]
        assert not np.shares_memory(b.grad.data, passed.data)

    def test_of_a_leaf_are_what_it_has_anyway(self):
        a = leaf(2.0)
        a.retain_grad()
        (a * 3).backward()
        assert (a.retains_grad, a.grad.item()) == (False, 3.0)

    def test_are_retained_by_backward_into_inputs(self):
        a = leaf(2.0)
        b = a * 3
        (b * b).backward(inputs=[b])
        assert (b.retains_grad, b.grad.item(), a.grad) == (True, 12.0, None)

    def test_are_for_what_requires_grad(self):
        with pytest.raises(GraphError, match="retain_grad: the tensor does not require grad"):
            opgrad.ones(2).retain_grad()

    def test_do_not_keep_the_tensor(self):
        b = leaf(2.0) * 1
        c = b * 3
        b.retain_grad()
        gone = weakref.ref(b)
        del b
        assert gone() is None
        c.backward()


class TestHooksAfterAccumulation:
    def test_see_the_leaf_with_its_new_gradient(self):
        a, seen = leaf(2.0), []
        a.register_post_accumulate_grad_hook(
            lambda tensor: seen.append((tensor is a, tensor.grad.item()))
        )
        for _ in range(2):
            (a * 3).backward()
        assert seen == [(True, 3.0), (True, 6.0)]

    def test_may_be_the_optimizer(self):
        a = leaf([1.0, 2.0])

        def step(tensor):
            with opgrad.no_grad():
                tensor -= 0.5 * tensor.grad
            tensor.grad = None

        a.register_post_accumulate_grad_hook(step)
        (a * a).sum().backward()
        assert (a.tolist(), a.grad) == ([0.0, 0.0], None)

    def test_are_not_called_by_grad(self):
        a, seen = leaf(2.0), []
        a.register_post_accumulate_grad_hook(seen.append)
        opgrad.autograd.grad(a * 3, a)
        assert seen == []
        (a * 3).backward(inputs=a)
        assert seen == [a]

    def test_record_nothing_in_an_ordinary_pass(self, lib):
        a = lib.tensor([1.0, 2.0], requires_grad=True)
        a.register_post_accumulate_grad_hook(lambda tensor: tensor.sub_(0.1 * tensor.grad))
        (a * a).sum().backward()
        assert a.tolist() == pytest.approx([0.8, 1.6])

    # PyTorch warns of a reference cycle, which is not what this is about.
    @pytest.mark.filterwarnings("ignore:Using backward:UserWarning")
    @pytest.mark.parametrize("create_graph", [False, True])
    def test_record_if_the_pass_does_and_so_do_the_hooks_of_the_leafs_node(self, lib, create_graph):
        a, seen = lib.tensor(3.0, requires_grad=True), []
        b = a**2
        a.register_post_accumulate_grad_hook(lambda _: seen.append(lib.is_grad_enabled()))
        (end, _), *_ = b.grad_fn.next_functions
        end.register_hook(lambda *_: seen.append(lib.is_grad_enabled()))
        lib.autograd.backward(b, inputs=[a], create_graph=create_graph)
        assert seen == [create_graph] * 2

    def test_are_for_leaves(self):
        with pytest.raises(GraphError, match=r"only leaves .*MulBackward0.*use register_hook"):
            (leaf(2.0) * 3).register_post_accumulate_grad_hook(print)


class TestNodeHooks:
    def test_before_it_see_and_replace_the_gradients_of_its_outputs(self):
        a, seen = leaf(3.0), []
        b = a * 2
        b.grad_fn.register_prehook(listening(seen))
        b.grad_fn.register_prehook(lambda grads: (grads[0] * 10,))
        b.backward()
        assert (seen, a.grad.item()) == ([(1.0,)], 20.0)

    def test_after_it_see_those_of_its_inputs_too_and_replace_them(self):
        a, b, seen = leaf(3.0), leaf(4.0), []
        product = a * b
        product.grad_fn.register_hook(listening(seen, "after"))
        product.grad_fn.register_hook(lambda inputs, outputs: (inputs[0] * 10, None))
        product.backward()
        assert seen == [("after", (4.0, 3.0), (1.0,))]
        assert (a.grad.item(), b.grad.item()) == (40.0, 3.0)

    def test_after_it_see_gradients_of_the_inputs_shapes_and_dtypes(self):
        a, b = leaf([1.0, 2.0, 3.0], dtype="float32"), leaf([[1.0], [2.0]])
        seen = []
        product = a * b
        product.grad_fn.register_hook(
            lambda inputs, outputs: seen.append([(each.shape, str(each.dtype)) for each in inputs])
        )
        product.sum().backward()
        assert seen == [[((3,), "float32"), ((2, 1), "float64")]]

    def test_see_none_where_nothing_flows(self):
        a, seen = leaf([1.0, 2.0]), []
        parts = opgrad.unstack(a)
        node = parts[0].grad_fn
        node.register_prehook(listening(seen, "before"))
        (scaled := parts[1] * 3).grad_fn.register_hook(listening(seen, "after"))
        scaled.backward()
        assert seen == [("after", (3.0, None), (1.0,)), ("before", (None, 3.0))]

    def test_may_fill_in_a_gradient_that_nothing_came_with(self):
        a = leaf([1.0, 2.0])
        parts = opgrad.unstack(a)
        parts[0].grad_fn.register_prehook(lambda grads: (opgrad.tensor(7.0), None))
        (parts[1] * 3).backward()
        assert a.grad.tolist() == [7.0, 3.0]

    def test_are_called_with_complex_numbers_in_pytorchs_convention(self):
        z, seen = leaf([1 + 2j]), []
        product = z * 1j
        product.grad_fn.register_hook(listening(seen, "after"))
        product.backward(opgrad.tensor([1 + 1j]))
        assert seen == [("after", ([(1 + 1j) * -1j], None), ([1 + 1j],))]
        assert z.grad.tolist() == [(1 + 1j) * -1j]

    def test_of_an_accumulator_stand_around_the_accumulation(self):
        a, seen = leaf(2.0), []
        node = accumulator(a)
        node.register_prehook(lambda grads: (grads[0] * 10,))
        node.register_hook(lambda inputs, outputs: seen.append((inputs, shown(outputs), a.grad)))
        (a * 3).backward()
        assert seen == [((), (30.0,), a.grad)]

    def test_are_not_called_by_calling_the_node(self):
        a, seen = leaf(2.0), []
        b = a * 3
        b.register_hook(seen.append)
        b.grad_fn.register_hook(lambda *_: seen.append(1))
        b.grad_fn(opgrad.tensor(1.0))
        assert seen == []


class TestOrder:
    @pytest.fixture
    def seen(self):
        return []

    @pytest.fixture
    def tensors(self, seen):
        """A leaf and two results, with every kind of hook at each."""

        def note(what):
            return lambda *_: seen.append(what)

        a = leaf([1.0, 2.0])
        b = a * 3
        c = (b * b).sum()
        for name, tensor in {"a": a, "b": b}.items():
            node = accumulator(a) if tensor is a else tensor.grad_fn
            node.register_hook(note(f"{name} after"))
            node.register_prehook(note(f"{name} before"))
            tensor.register_hook(note(f"{name} tensor"))
        a.register_post_accumulate_grad_hook(note("a accumulated"))
        return a, b, c

    B = ("b tensor", "b before", "b after")
    A = ("a tensor", "a before", "a accumulated", "a after")

    def test_is_tensor_before_run_accumulated_after(self, tensors, seen):
        tensors[2].backward()
        assert tuple(seen) == self.B + self.A

    def test_of_grad_is_the_same_but_what_does_not_run_is_looked_at_only(self, tensors, seen):
        a, b, c = tensors
        opgrad.autograd.grad(c, [a, b], retain_graph=True)
        assert tuple(seen) == (*self.B, "a tensor")
        seen.clear()
        opgrad.autograd.grad(c, b)
        assert seen == ["b tensor"]

    def test_of_backward_into_leaves_is_that_of_backward(self, tensors, seen):
        a, _, c = tensors
        c.backward(inputs=[a])
        assert tuple(seen) == self.B + self.A

    def test_of_grad_lets_hooks_change_what_is_returned(self, tensors):
        a, b, c = tensors
        b.register_hook(lambda grad: grad * 10)
        a.register_hook(lambda grad: grad + 1)
        of_a, of_b = opgrad.autograd.grad(c, [a, b])
        assert (of_a.tolist(), of_b.tolist()) == ([181.0, 361.0], [60.0, 120.0])


class TestHandles:
    def test_remove_a_hook_once_and_for_all(self):
        a, seen = leaf(2.0), []
        handle = a.register_hook(listening(seen))
        (a * 3).backward()
        handle.remove()
        handle.remove()
        (a * 3).backward()
        assert seen == [3.0]

    def test_remove_it_at_the_end_of_a_block_even_after_an_error(self):
        a, seen = leaf(2.0), []
        handle = a.register_hook(listening(seen))
        with suppress(ZeroDivisionError), handle:
            (a * 3).backward()
            1 / 0  # noqa: B018
        (a * 3).backward()
        assert seen == [3.0]

    def test_leave_the_other_hooks(self):
        a, seen = leaf(2.0), []
        same = listening(seen)
        first, _ = a.register_hook(same), a.register_hook(same)
        first.remove()
        (a * 3).backward()
        assert seen == [3.0]

    def test_remove_during_a_pass(self):
        a, seen = leaf(2.0), []
        b = a * 1
        handles = [b.register_hook(listening(seen, "b")), a.register_hook(listening(seen, "a"))]

        def remove(grad):
            for handle in handles:
                handle.remove()

        (c := b * 3).register_hook(remove)
        c.backward()
        assert (seen, a.grad.item()) == ([], 3.0)

    def test_of_a_hook_may_remove_itself(self):
        a, seen = leaf(2.0), []

        def once(grad):
            seen.append(grad.item())
            handle.remove()

        handle = a.register_hook(once)
        for _ in range(3):
            (a * 3).backward()
        assert seen == [3.0]

    @pytest.mark.parametrize("register", ["register_hook", "register_prehook"])
    def test_remove_hooks_of_nodes(self, register):
        b, seen = leaf(2.0) * 3, []
        getattr(b.grad_fn, register)(lambda *_: seen.append(1)).remove()
        b.backward()
        assert seen == []

    def test_outlive_what_they_are_of(self):
        handle = leaf(2.0).register_hook(print)
        gc.collect()
        handle.remove()


class TestWrongReturnValues:
    @pytest.mark.parametrize(
        ("returned", "error", "message"),
        [
            (1.0, TypeError, "MulBackward0: a hook returned a float in the place of a gradient"),
            (np.ones(2), TypeError, "a hook returned a ndarray .*; return a tensor, or None"),
            (opgrad.ones(3), GraphError, r"returned float64 \(3,\) .*; return float64 \(2,\)"),
            (opgrad.ones(()), GraphError, r"returned float64 \(\) .*; return float64 \(2,\)"),
            (opgrad.ones(2, dtype="float32"), GraphError, r"returned float32 \(2,\) .*float64"),
        ],
    )
    def test_of_a_tensor_hook(self, returned, error, message):
        b = leaf([1.0, 2.0]) * 3
        b.register_hook(lambda grad: returned)
        with pytest.raises(error, match=message):
            b.sum().backward()

    @pytest.mark.parametrize(("register", "count"), [("register_prehook", 1), ("register_hook", 2)])
    def test_of_a_nodes_hook(self, register, count):
        for returned, error, message in [
            (opgrad.ones(2), TypeError, f"returned a Tensor; return a tuple of {count}, or None"),
            ((None,) * 3, GraphError, f"returned 3 gradients; return a tuple of {count}"),
            ((opgrad.ones(5),) + (None,) * (count - 1), GraphError, r"returned float64 \(5,\)"),
            ((2.0,) + (None,) * (count - 1), TypeError, "a hook returned a float"),
        ]:
            b = leaf([1.0, 2.0]) * 3
            getattr(b.grad_fn, register)(lambda *_, returned=returned: returned)
            with pytest.raises(error, match=f"MulBackward0: .*{message}"):
                b.sum().backward()


class TestWhatHasNoGradient:
    @pytest.mark.parametrize("given", [3, None, np.ones(2)], ids=str)
    def test_is_refused_by_name(self, given):
        message = f"register_multi_grad_hook: got a {type(given).__name__}; expected a tensor"
        with pytest.raises(TypeError, match=message):
            register_multi_grad_hook([leaf(1.0), given], print)


class TestErrorsInHooks:
    @pytest.mark.parametrize(
        ("register", "kind"),
        [
            (lambda a, b, hook: b.register_hook(hook), "tensor hook of output 0 of MulB"),
            (lambda a, b, hook: b.grad_fn.register_prehook(hook), "pre-hook of MulB"),
            (lambda a, b, hook: b.grad_fn.register_hook(hook), "post-hook of MulB"),
            (lambda a, b, hook: a.register_hook(hook), "tensor hook of output 0 of Acc"),
            (
                lambda a, b, hook: a.register_post_accumulate_grad_hook(hook),
                "post-accumulate-grad hook of AccumulateGrad, of a leaf of float64 ()",
            ),
            (lambda a, b, hook: accumulator(a).register_hook(hook), "post-hook of AccumulateGrad"),
            (lambda a, b, hook: register_multi_grad_hook([a, b], hook), "tensor hook of output 0"),
        ],
    )
    @pytest.mark.parametrize("create_graph", [False, True])
    def test_are_the_callers_and_leave_the_modes_as_they_were(self, register, kind, create_graph):
        a = leaf(2.0)
        b = a * 3
        error = KeyError("mine")

        def fail(*_):
            raise error

        register(a, b, fail)
        with opgrad.set_grad_enabled(not create_graph):
            with pytest.raises(KeyError, match="mine") as caught:
                b.backward(create_graph=create_graph)
            assert opgrad.is_grad_enabled() is not create_graph
        assert caught.value is error
        assert any(f"raised in a {kind}" in note for note in error.__notes__)
        at_a_call = "of Mul" in kind
        assert any("to see where mul was called" in note for note in error.__notes__) == at_a_call
        (leaf(1.0) * 2).backward()


class TestHooksUnderCreateGraph:
    def test_are_recorded(self):
        x = leaf(2.0)
        y = x**2
        y.register_hook(lambda grad: grad * x)
        (dx,) = opgrad.autograd.grad(y, x, create_graph=True)  # 2 x * x
        assert dx.item() == 8
        assert opgrad.autograd.grad(dx, x)[0].item() == 8  # 4 x

    def test_of_nodes_are_too(self):
        x = leaf(2.0)
        y = x**3
        y.grad_fn.register_hook(lambda inputs, outputs: (inputs[0] * x,))
        y.grad_fn.register_prehook(lambda grads: (grads[0] * x,))
        (dx,) = opgrad.autograd.grad(y, x, create_graph=True)  # 3 x**2 * x * x
        assert opgrad.autograd.grad(dx, x)[0].item() == 12 * 2**3

    def test_are_not_without(self):
        x, seen = leaf(2.0), []
        y = x**2
        y.register_hook(lambda grad: seen.append((grad * x).requires_grad))
        y.backward(retain_graph=True)
        y.backward(create_graph=True)
        assert seen == [False, True]

    def test_keep_a_gradient_that_has_a_history(self):
        x = leaf(2.0)
        y = x**2
        y.retain_grad()
        (y * y).backward(create_graph=True)  # 2 y
        assert opgrad.autograd.grad(y.grad, x)[0].item() == 2 * 2 * 2


class TestMultiGradHooks:
    def test_for_all_are_called_once_a_pass_when_the_last_gradient_is_there(self):
        a, b, seen = leaf(2.0), leaf(3.0), []
        c = a * b
        register_multi_grad_hook([a, b, c], lambda grads: seen.append(list(map(shown, grads))))
        for _ in range(2):
            (c * 1 + a).backward(retain_graph=True)
        assert seen == [[4.0, 2.0, 1.0]] * 2

    @pytest.mark.parametrize("used", [0, 1])
    def test_for_all_have_none_for_an_output_that_nothing_depends_on(self, used):
        seen = []
        parts, b = opgrad.unstack(leaf([2.0, 3.0])), leaf(5.0)
        register_multi_grad_hook([*parts, b], lambda grads: seen.append(list(map(shown, grads))))
        (parts[used] * b).backward()
        expected = [None, None, 2.0 + used]
        expected[used] = 5.0
        assert seen == [expected]

    def test_for_all_have_none_for_what_a_pass_does_not_reach(self):
        a, b, seen = leaf(2.0), leaf(3.0), []
        register_multi_grad_hook([a, b], lambda grads: seen.append(list(map(shown, grads))))
        (a * 5).backward()
        (a * b).backward(inputs=[b])
        assert seen == [[5.0, None], [None, 2.0]]

    def test_for_any_are_called_with_the_first(self):
        a, b, seen = leaf(2.0), leaf(3.0), []
        c = a * b
        register_multi_grad_hook([a, c], listening(seen), mode="any")
        for _ in range(2):
            (c * 7).backward(retain_graph=True)
        assert seen == [7.0, 7.0]

    def test_do_not_change_the_gradients(self):
        a = leaf(2.0)
        register_multi_grad_hook([a], lambda grads: opgrad.tensor(100.0), mode="any")
        (a * 3).backward()
        assert a.grad.item() == 3

    def test_have_one_handle(self):
        a, b, seen = leaf(2.0), leaf(3.0), []
        handle = register_multi_grad_hook([a, b], seen.append)
        handle.remove()
        (a * b).backward()
        assert seen == []

    @pytest.mark.parametrize("mode", ["all", "any"])
    def test_keep_passes_of_several_threads_apart(self, mode):
        a, b, seen = leaf(2.0), leaf(3.0), []
        register_multi_grad_hook([a, b], seen.append, mode=mode)
        at_once = threading.Barrier(4)

        def work():
            at_once.wait()
            for _ in range(50):
                (a * b).backward()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(seen) == 200
        assert (a.grad.item(), b.grad.item()) == (600.0, 400.0)

    def test_work_in_a_pass_that_starts_inside_one(self):
        a, b, seen = leaf(2.0), leaf(3.0), []
        register_multi_grad_hook([a, b], lambda grads: seen.append(list(map(shown, grads))))
        inner = a * b * 10
        (c := a * 1).register_hook(lambda grad: inner.backward())
        (c * b).backward()
        assert seen == [[30.0, 20.0], [3.0, 2.0]]

    def test_refuse_another_mode_and_what_requires_no_grad(self):
        with pytest.raises(ValueError, match="mode is 'some'; expected 'all' or 'any'"):
            register_multi_grad_hook([leaf(1.0)], print, mode="some")
        with pytest.raises(GraphError, match="register_multi_grad_hook: the tensor does not"):
            register_multi_grad_hook([leaf(1.0), opgrad.ones(1)], print)


class TestReferences:
    @pytest.fixture(autouse=True)
    def _without_collector(self):
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    @pytest.mark.parametrize("backward", [False, True])
    def test_a_graph_with_hooks_is_gone_with_the_last_name_for_it(self, backward):
        a = leaf([1.0, 2.0])
        b = a * 3
        handles = [
            a.register_hook(lambda grad: None),
            b.register_hook(lambda grad: None),
            b.grad_fn.register_prehook(lambda grads: None),
            b.grad_fn.register_hook(lambda inputs, outputs: None),
            a.register_post_accumulate_grad_hook(lambda tensor: None),
            register_multi_grad_hook([a, b], lambda grads: None),
        ]
        b.retain_grad()
        alive = [weakref.ref(each) for each in (a, b, b.grad_fn, accumulator(a))]
        c = b.sum()
        if backward:
            c.backward()
        del a, b, c, handles
        assert [each() for each in alive] == [None] * 4

    def test_a_pass_with_hooks_leaves_nothing_to_collect(self):
        a = leaf([1.0, 2.0])
        register_multi_grad_hook([a], lambda grads: None)
        gc.collect()
        for _ in range(10):
            (a * a).sum().backward()
        assert gc.collect() == 0
