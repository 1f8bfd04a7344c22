"""Inference mode: nothing is recorded, and what is made stays out of every graph.

Where a test takes `lib` it states what opgrad and PyTorch have in common, and runs on both.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import opgrad
from opgrad import GraphError, inference_mode, is_grad_enabled, is_inference_mode_enabled
from opgrad.graph import recorders
from opgrad.operands import NUMPY_TYPES, at_once


@pytest.fixture(autouse=True)
def mode_is_restored():
    """Every test ends in the mode that Python starts with, in which calls do not ask for it."""
    yield
    assert is_grad_enabled()
    assert not is_inference_mode_enabled()
    assert at_once == NUMPY_TYPES


def leaf(lib, *values):
    return lib.tensor(list(values), requires_grad=True)


def made_inside(lib):
    with lib.inference_mode():
        return lib.tensor([2.0, 3.0])


class TestInside:
    def test_nothing_is_recorded(self, lib):
        a = leaf(lib, 1.0)
        with lib.inference_mode():
            assert lib.is_inference_mode_enabled()
            assert not lib.is_grad_enabled()
            assert not (a * 2).requires_grad
        assert not lib.is_inference_mode_enabled()
        assert lib.is_grad_enabled()
        assert (a * 2).requires_grad

    def test_enable_grad_changes_nothing(self, lib):
        a = leaf(lib, 1.0)
        with lib.inference_mode(), lib.enable_grad():
            assert not (a * 2).requires_grad

    def test_it_can_be_switched_off(self, lib):
        a = leaf(lib, 1.0)
        with lib.inference_mode(), lib.inference_mode(False):
            out = a * 2
            assert not lib.is_inference_mode_enabled()
            assert lib.is_grad_enabled()
        assert out.requires_grad
        assert not out.is_inference()

    def test_off_switches_recording_on(self, lib):
        with lib.no_grad(), lib.inference_mode(False):
            assert lib.is_grad_enabled()

    def test_what_is_made_is_for_inference(self, lib):
        a = leaf(lib, 1.0, 2.0)
        with lib.inference_mode():
            made = [
                lib.tensor([1.0]),
                lib.zeros(2),
                lib.arange(3),
                a * 2,
                lib.exp(a),
                a.sum(),
                a > 1,
                (a * 2)[0],
                a.clone(),
                *lib.split(a * 2, [1, 1]),
            ]
        assert [each.is_inference() for each in made] == [True] * len(made)

    def test_views_and_detached_tensors_are_what_their_memory_is(self, lib):
        a, x = leaf(lib, 1.0, 2.0), made_inside(lib)
        with lib.inference_mode():
            ours = [a[:1], a.reshape(2, 1), a.detach()]
        theirs = [x[:1], x[0], x.reshape(2, 1), x.detach(), x[:1][0]]
        assert [each.is_inference() for each in ours] == [False] * 3
        assert [each.is_inference() for each in theirs] == [True] * 5

    def test_leaves_may_require_grad(self, lib):
        with lib.inference_mode():
            assert lib.ones(2, requires_grad=True).requires_grad
            assert lib.ones(2).requires_grad_().requires_grad

    def test_in_place_operations_change_values_only(self, lib):
        x, y = lib.ones(2), made_inside(lib)
        with lib.inference_mode():
            x.mul_(2)
            y.add_(x)
        assert not x.is_inference()
        assert (x.tolist(), y.tolist()) == ([2, 2], [4, 5])

    def test_tensors_print_as_ever(self):
        assert repr(made_inside(opgrad)) == "tensor([2., 3.])"


class TestOutside:
    def test_tensors_cannot_be_saved_for_a_backward(self, lib):
        a, x = leaf(lib, 1.0, 1.0), made_inside(lib)
        for call in (lambda: a * x, lambda: x * a, lambda: a * x[0], lambda: a * x.reshape(2)):
            with pytest.raises(RuntimeError, match=r"(?i)inference"):
                call()

    def test_the_error_names_operator_and_value(self):
        message = r"MulBackward0 has to save 'b', float64 \(2,\), .* made in inference mode"
        with pytest.raises(GraphError, match=message):
            leaf(opgrad, 1.0, 1.0) * made_inside(opgrad)

    def test_scalars_cannot_either(self):
        with inference_mode():
            x = opgrad.tensor(2.0)
        with pytest.raises(GraphError, match="inference"):
            opgrad.tensor(3.0, requires_grad=True) * x

    def test_neither_can_they_by_a_function_or_in_a_list(self, lib):
        class Times(lib.autograd.Function):
            @staticmethod
            def forward(ctx, a, x):
                ctx.save_for_backward(x)
                return a * x

        with pytest.raises(RuntimeError, match=r"(?i)inference"):
            Times.apply(leaf(lib, 1.0, 1.0), made_inside(lib))

    def test_not_even_packed(self, lib):
        hooks = lib.autograd.graph.saved_tensors_hooks(lambda x: x.tolist(), lib.tensor)
        with hooks, pytest.raises(RuntimeError, match=r"(?i)inference"):
            leaf(lib, 1.0, 1.0) * made_inside(lib)

    def test_operations_that_save_nothing_are_recorded(self, lib):
        a = leaf(lib, 1.0, 1.0)
        out = a + made_inside(lib)
        assert out.tolist() == [3, 4]
        out.sum().backward()
        assert a.grad.tolist() == [1, 1]

    def test_operations_that_are_not_recorded_are_free(self, lib):
        x = made_inside(lib)
        assert (x * x).tolist() == [4, 9]
        assert not (x * x).is_inference()
        with lib.no_grad():
            assert (leaf(lib, 1.0, 1.0) * x).tolist() == [2, 3]

    def test_a_clone_is_an_ordinary_tensor(self, lib):
        a, x = leaf(lib, 1.0, 1.0), made_inside(lib).clone()
        assert not x.is_inference()
        assert (a * x).requires_grad
        assert x.requires_grad_().requires_grad

    def test_requires_grad_cannot_be_set(self, lib):
        x = made_inside(lib)
        with pytest.raises(RuntimeError, match=r"(?i)inference"):
            x.requires_grad_()
        with pytest.raises(RuntimeError, match=r"(?i)inference"):
            x.requires_grad = True
        assert not x.requires_grad_(False).requires_grad

    def test_they_cannot_be_written_to_in_place(self, lib):
        x = made_inside(lib)
        for write in (lambda: x.mul_(2), x.zero_, lambda: x[:1].add_(1)):
            with pytest.raises(RuntimeError, match=r"(?i)inference"):
                write()
        with pytest.raises(RuntimeError, match=r"(?i)inference"):
            x[0] = 1
        if lib is opgrad:  # PyTorch has written by then
            assert x.tolist() == [2, 3]

    def test_what_they_are_written_into_stays_ordinary(self, lib):
        a = leaf(lib, 1.0, 1.0)
        b = a * 1
        b.add_(made_inside(lib))
        assert not b.is_inference()
        assert b.requires_grad

    def test_a_backward_pass_inside_is_not_recorded_even_when_asked_to_be(self, lib):
        a = leaf(lib, 3.0)
        out = a**3
        with lib.inference_mode():
            (grad,) = lib.autograd.grad(out, a, create_graph=True)
        assert grad.item() == 27.0
        assert not grad.requires_grad

    def test_backward_passes_inside_add_to_ordinary_gradients(self):
        a = leaf(opgrad, 3.0)
        y = (a * a).sum()
        with inference_mode():
            y.backward()
        (a * a).sum().backward()
        assert a.grad.tolist() == [12]


class TestBlocks:
    def test_end_with_an_exception(self):
        with pytest.raises(KeyError), inference_mode():
            raise KeyError

    def test_nest_with_the_other_modes(self):
        seen = []
        with opgrad.no_grad():
            with inference_mode():
                with opgrad.set_grad_enabled(True), inference_mode():
                    seen.append((is_grad_enabled(), is_inference_mode_enabled()))
                seen.append((is_grad_enabled(), is_inference_mode_enabled()))
            seen.append((is_grad_enabled(), is_inference_mode_enabled()))
        assert seen == [(False, True), (False, True), (False, False)]

    def test_can_be_entered_again_while_they_are(self):
        mode = inference_mode()
        with mode:
            with mode, inference_mode(False), mode:
                assert is_inference_mode_enabled()
            assert is_inference_mode_enabled()

    def test_decorate_functions_with_and_without_parentheses(self, lib):
        @lib.inference_mode()
        def one():
            return lib.is_inference_mode_enabled()

        @lib.inference_mode
        def two():
            return lib.is_inference_mode_enabled()

        @lib.inference_mode(mode=False)
        def three():
            return lib.is_inference_mode_enabled(), lib.is_grad_enabled()

        assert (one(), two(), three()) == (True, True, (False, True))
        assert not lib.is_inference_mode_enabled()

    def test_decorate_generators_and_coroutines(self):
        @inference_mode
        def generator():
            yield is_inference_mode_enabled()

        @inference_mode
        async def coroutine():
            await asyncio.sleep(0)
            return is_inference_mode_enabled()

        for inside in generator():
            assert inside
            assert not is_inference_mode_enabled()
        assert asyncio.run(coroutine())

    def test_belong_to_a_thread(self):
        inside, done = threading.Barrier(2), threading.Barrier(2)

        def with_mode():
            with inference_mode():
                inside.wait()
                done.wait()
                return opgrad.ones(1).is_inference()

        def without():
            inside.wait()
            seen = opgrad.ones(1).is_inference(), (opgrad.ones(1) * 2).is_inference()
            done.wait()
            return seen, (leaf(opgrad, 1.0) * 2).requires_grad

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.submit(with_mode), pool.submit(without)
            assert first.result()
            assert second.result() == ((False, False), True)

    def test_belong_to_a_task(self):
        async def with_mode(inside, done):
            with inference_mode():
                inside.set()
                await done.wait()
                return (opgrad.ones(1) * 2).is_inference()

        async def without(inside, done):
            await inside.wait()
            seen = (opgrad.ones(1) * 2).is_inference()
            done.set()
            return seen

        async def main():
            events = asyncio.Event(), asyncio.Event()
            return await asyncio.gather(with_mode(*events), without(*events))

        assert asyncio.run(main()) == [True, False]


class TestCost:
    def test_calls_are_watched_only_while_they_are_given_inference_tensors(self):
        a = leaf(opgrad, 1.0, 1.0)
        x = made_inside(opgrad)
        assert recorders == []
        y = a + x
        assert len(recorders) == 1
        del x, y
        gc.collect()
        _ = a * a
        assert recorders == []
