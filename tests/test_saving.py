"""Saved-tensor hooks: what calls save for their backward is packed, and unpacked when needed.

Where a test takes `lib` it states what opgrad and PyTorch have in common, and runs on both.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest

import opgrad
from opgrad import GraphError
from opgrad.autograd.graph import disable_saved_tensors_hooks, save_to_disk, saved_tensors_hooks
from opgrad.graph import recorders


@pytest.fixture(autouse=True)
def nobody_listens_afterwards():
    """Ordinary calls pay for saved-tensor hooks only while there are some."""
    yield
    assert recorders == []


def leaf(lib, *values):
    return lib.tensor(list(values), requires_grad=True)


def hooks(lib, pack, unpack):
    return lib.autograd.graph.saved_tensors_hooks(pack, unpack)


def as_list(lib, log=None):
    """Hooks that keep a list of numbers, and note the calls."""
    log = [] if log is None else log

    def pack(tensor):
        log.append(("pack", tensor.tolist()))
        return tensor.tolist()

    def unpack(packed):
        log.append(("unpack", packed))
        return lib.tensor(packed)

    return hooks(lib, pack, unpack)


def same(tensor):
    return tensor


class TestHooks:
    def test_see_each_saved_value_at_the_call_and_when_it_is_needed(self, lib):
        log = []
        x = leaf(lib, 1.0, 2.0)
        with as_list(lib, log):
            y = x**2
        assert log == [("pack", [1, 2])]
        y.sum().backward()
        assert log[1:] == [("unpack", [1, 2])]
        assert x.grad.tolist() == [2, 4]

    def test_get_tensors_of_saved_inputs_and_outputs_but_not_of_numbers(self, lib):
        seen = []
        x = leaf(lib, 1.0)
        with hooks(lib, lambda t: seen.append(type(t)) or t, same):
            lib.exp(x * 3) ** 2
        assert seen == [lib.Tensor, lib.Tensor]

    def test_see_whether_an_input_requires_grad(self, lib):
        seen = []
        with hooks(lib, lambda t: seen.append((t.requires_grad, t.is_leaf)) or t, same):
            leaf(lib, 1.0) * lib.tensor([2.0]) * leaf(lib, 3.0)
        assert (False, True) in seen
        assert (True, True) in seen
        assert (True, False) in seen

    def test_may_return_anything(self, lib):
        kept = {}
        x = leaf(lib, 1.0, 2.0)

        def pack(tensor):
            kept[len(kept)] = tensor.detach() + 0
            return len(kept) - 1

        with hooks(lib, pack, kept.__getitem__):
            y = (x * x * x).sum()
        y.backward()
        assert x.grad.tolist() == [3, 12]
        assert len(kept) == 4

    def test_are_called_again_at_each_pass(self, lib):
        log = []
        x = leaf(lib, 3.0)
        with as_list(lib, log):
            y = (x**2).sum()
        y.backward(retain_graph=True)
        y.backward()
        assert [what for what, _ in log] == ["pack", "unpack", "unpack"]
        assert x.grad.tolist() == [12]

    def test_keep_second_derivatives(self, lib):
        x = leaf(lib, 3.0)
        with as_list(lib):
            y = (x**3).sum()
            (dx,) = lib.autograd.grad(y, x, create_graph=True)
        (ddx,) = lib.autograd.grad(dx.sum(), x)
        assert (dx.tolist(), ddx.tolist()) == ([27], [18])

    def test_of_the_innermost_context_count(self, lib):
        outer, inner = [], []
        with as_list(lib, outer):
            with as_list(lib, inner):
                leaf(lib, 1.0) ** 2
            leaf(lib, 2.0) ** 2
        assert (outer, inner) == ([("pack", [2])], [("pack", [1])])

    def test_may_be_entered_again_while_they_are(self, lib):
        log = []
        context = as_list(lib, log)
        with context:
            with context:
                pass
            leaf(lib, 1.0) ** 2
        leaf(lib, 2.0) ** 2
        assert log == [("pack", [1])]

    def test_are_not_called_where_nothing_is_recorded(self, lib):
        log = []
        with lib.no_grad(), as_list(lib, log):
            leaf(lib, 1.0) ** 2
        assert log == []

    def test_are_called_for_what_a_backward_pass_saves_if_it_is_recorded(self, lib):
        log = []
        x = leaf(lib, 1.0)
        y = (x**3).sum()
        with as_list(lib, log):
            y.backward(retain_graph=True)
            assert log == []
            lib.autograd.grad(y, x, create_graph=True)
        assert log

    def test_are_called_with_recording_off(self, lib):
        seen = []

        def note(tensor):
            seen.append((tensor * 2).requires_grad)
            return tensor

        with hooks(lib, note, same):
            leaf(lib, 1.0) ** 2
        assert seen == [False]

    def test_are_called_when_a_saved_value_is_read(self):
        log = []
        x = leaf(opgrad, 2.0)
        with as_list(opgrad, log):
            node = (x * leaf(opgrad, 3.0)).grad_fn
        log.clear()
        value = node.saved.a
        assert log == [("unpack", [2])]
        assert value.grad_fn is None
        assert value.requires_grad, "it has its place in the graph"

    def test_pack_what_a_function_saves(self, lib):
        class Cube(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x, None)
                return x**3

            @staticmethod
            def backward(ctx, grad):
                return grad * 3 * ctx.saved_tensors[0] ** 2

        log = []
        x = leaf(lib, 2.0)
        with as_list(lib, log):
            y = Cube.apply(x).sum()
        assert log == [("pack", [2])]
        y.backward()
        assert x.grad.tolist() == [12]

    def test_pack_each_of_several_arrays_that_are_one_argument(self):
        class Product(opgrad.Operator):
            """The product of all."""

            variadic = True

            @opgrad.hookimpl
            def forward(self, xs, /):
                return np.prod(np.stack(xs), axis=0)

            @opgrad.hookimpl
            def backward(self, grad, xs, out):
                return tuple(grad * out / x for x in xs)

            @opgrad.hookimpl
            def self_check(self, rng):
                yield opgrad.Case(rng.normal(size=3), rng.normal(size=3))

        log = []
        a, b = leaf(opgrad, 2.0), leaf(opgrad, 3.0)
        with as_list(opgrad, log):
            y = Product()([a, b]).sum()
        assert sorted(log) == [("pack", [2]), ("pack", [3]), ("pack", [6])]
        y.backward()
        assert (a.grad.tolist(), b.grad.tolist()) == ([3], [2])

    def test_keep_scalars_scalars(self):
        x = opgrad.tensor(3.0, requires_grad=True)
        with as_list(opgrad):
            y = x**2
        assert type(y.grad_fn.arrays()[0]) is np.float64
        y.backward()
        assert x.grad.item() == 6

    @pytest.mark.parametrize("key", [[1, 0], [1, 1], ([1, 0], [0, 1]), (0, 1)], ids=str)
    def test_leave_an_index_as_it_is(self, lib, key):
        grads = []
        for context in (nullcontext(), hooks(lib, same, same)):
            x = lib.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
            with context:
                y = x[key].sum()
            y.backward()
            grads.append(x.grad.tolist())
        assert grads[0] == grads[1]


class TestWhatGoesWrong:
    def test_an_error_in_pack_hook_is_the_call_s(self, lib):
        def pack(tensor):
            raise KeyError(tensor.shape)

        with pytest.raises(KeyError), hooks(lib, pack, same):
            leaf(lib, 1.0) ** 2
        leaf(lib, 1.0) ** 2

    def test_pack_hook_must_not_write_to_its_tensor(self, lib):
        def pack(tensor):
            with lib.no_grad():
                return tensor.mul_(2)

        with pytest.raises(RuntimeError, match=r"pack.hook"), hooks(lib, pack, same):
            leaf(lib, 1.0) * lib.tensor([2.0])

    @pytest.mark.parametrize(
        ("unpacked", "got"),
        [
            (3, "3"),
            (None, "None"),
            (np.ones(3), r"float64 \(3,\)"),
            (np.ones(2, "float32"), r"float32 \(2,\)"),
        ],
    )
    def test_unpack_hook_must_give_what_was_packed(self, unpacked, got):
        with saved_tensors_hooks(same, lambda packed: unpacked):
            y = (leaf(opgrad, 1.0, 2.0) ** 2).sum()
        message = f"unpack_hook returned {got} for 'base' of PowBackward0; expected .* float64"
        with pytest.raises(GraphError, match=message):
            y.backward()

    def test_a_copy_is_safe_from_later_writes(self, lib):
        a = leaf(lib, 3.0)
        x = a * 1
        with as_list(lib):
            y = (x * x).sum()
        with lib.no_grad():
            x.mul_(2)
        y.backward()
        assert a.grad.tolist() == [6]

    def test_what_is_no_copy_is_checked_as_ever(self):
        x = leaf(opgrad, 3.0) * 1
        with saved_tensors_hooks(same, same):
            y = (x * x).sum()
        x.mul_(2)
        with pytest.raises(GraphError, match="'mul_' has written to that memory since"):
            y.backward()

    def test_freed_values_stay_freed(self, lib):
        with as_list(lib):
            y = (leaf(lib, 1.0) ** 2).sum()
        y.backward()
        with pytest.raises(RuntimeError, match="freed"):
            y.backward()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ((3, same), "saved_tensors_hooks: pack_hook is 3; expected a function"),
            ((same, None), "saved_tensors_hooks: unpack_hook is None; expected a function"),
        ],
    )
    def test_what_is_no_function_is_an_error_at_once(self, given, message):
        with pytest.raises(TypeError, match=message):
            saved_tensors_hooks(*given)


class TestDisabling:
    def test_refuses_hooks(self, lib):
        disabled = lib.autograd.graph.disable_saved_tensors_hooks("not in here")
        with disabled, pytest.raises(RuntimeError, match="not in here"), as_list(lib):
            pass
        with as_list(lib):
            pass

    def test_is_refused_where_there_are_some(self, lib):
        disabled = lib.autograd.graph.disable_saved_tensors_hooks("not in here")
        with as_list(lib), pytest.raises(RuntimeError, match="not in here"), disabled:
            pass

    def test_ends_with_an_exception(self):
        with pytest.raises(KeyError), disable_saved_tensors_hooks("not in here"):
            raise KeyError
        with as_list(opgrad):
            pass


class TestThreadsAndTasks:
    def test_threads_have_their_own(self):
        log = []
        entered, called = threading.Barrier(2), threading.Barrier(2)

        def with_hooks():
            with as_list(opgrad, log):
                entered.wait()
                called.wait()
                leaf(opgrad, 1.0) ** 2

        def without():
            entered.wait()
            leaf(opgrad, 2.0) ** 2
            called.wait()

        with ThreadPoolExecutor(2) as pool:
            for each in [pool.submit(with_hooks), pool.submit(without)]:
                each.result()
        assert log == [("pack", [1])]

    def test_tasks_have_their_own(self):
        log = []

        async def with_hooks(entered, called):
            with as_list(opgrad, log):
                entered.set()
                await called.wait()
                leaf(opgrad, 1.0) ** 2

        async def without(entered, called):
            await entered.wait()
            leaf(opgrad, 2.0) ** 2
            called.set()

        async def main():
            events = asyncio.Event(), asyncio.Event()
            await asyncio.gather(with_hooks(*events), without(*events))

        asyncio.run(main())
        assert log == [("pack", [1])]


class TestLifetime:
    def test_a_graph_whose_hooks_keep_the_tensors_dies_without_the_garbage_collector(self):
        gc.disable()
        try:
            with saved_tensors_hooks(same, same):
                y = opgrad.exp(leaf(opgrad, 1.0) ** 2)
            node = weakref.ref(y.grad_fn)
            del y
            assert node() is None
        finally:
            gc.enable()


class TestOnDisk:
    def test_values_are_in_files_until_the_backward_pass(self, tmp_path):
        x = opgrad.tensor(np.arange(1000.0), requires_grad=True)
        with save_to_disk(tmp_path):
            y = (opgrad.exp(-x) * x).sum()
        assert sorted(each.stat().st_size for each in tmp_path.iterdir()) == [8000] * 3
        y.backward()
        assert list(tmp_path.iterdir()) == []
        n = np.arange(1000.0)
        np.testing.assert_allclose(x.grad.numpy(), np.exp(-n) * (1 - n), rtol=1e-14)

    def test_they_are_mapped_not_read(self, tmp_path):
        x = opgrad.ones(1000, requires_grad=True)
        with save_to_disk(tmp_path):
            y = x * x
        array = y.grad_fn.arrays()[0]
        assert type(array) is np.ndarray
        assert isinstance(array.base, np.memmap)

    def test_files_go_when_the_graph_dies(self, tmp_path):
        with save_to_disk(tmp_path):
            y = opgrad.ones(1000, requires_grad=True) ** 2
        assert len(list(tmp_path.iterdir())) == 1
        del y
        assert list(tmp_path.iterdir()) == []

    def test_a_mapping_outlives_its_file(self, tmp_path):
        x = opgrad.tensor(np.arange(1000.0), requires_grad=True)
        with save_to_disk(tmp_path):
            y = x**2
        value = y.grad_fn.saved.base
        del y
        np.testing.assert_array_equal(value.data, np.arange(1000.0))

    def test_small_arrays_are_copied_in_memory(self, tmp_path):
        x = leaf(opgrad, 3.0)
        intermediate = x * 1
        with save_to_disk(tmp_path):
            y = (intermediate**2).sum()
        assert list(tmp_path.iterdir()) == []
        intermediate.zero_()
        y.backward()
        assert x.grad.tolist() == [6]

    def test_every_layout_and_dtype_comes_back(self, tmp_path):
        rng = np.random.default_rng(0)
        for data in (
            rng.normal(size=(50, 60)).T,
            rng.normal(size=(80, 60))[::2, ::-1],
            rng.normal(size=(50, 60)).astype("float32"),
            rng.normal(size=(50, 60)) + 1j,
        ):
            x = opgrad.asarray(data).requires_grad_()
            with save_to_disk(tmp_path):
                y = x**3
            (found,) = opgrad.autograd.grad(y, x, opgrad.ones_like(y))
            np.testing.assert_allclose(found.numpy(), 3 * np.conj(data) ** 2, rtol=1e-6)

    def test_a_directory_that_is_missing_is_an_error_at_once(self, tmp_path):
        with pytest.raises(NotADirectoryError, match=r"save_to_disk: directory is .*nowhere.*make"):
            save_to_disk(tmp_path / "nowhere")
        with pytest.raises(TypeError, match=r"save_to_disk: directory is 5; expected a path, or N"):
            save_to_disk(5)

    def test_by_default_files_are_with_the_system_s(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with save_to_disk():
            y = opgrad.ones(1000, requires_grad=True) ** 2
        assert len(list(tmp_path.iterdir())) == 1
        del y
