"""Nodes as users see them: names, edges, saved values by name, and places for gradients.

Where a test takes `lib` it states what opgrad and PyTorch have in common, and runs on both.
"""

from __future__ import annotations

import weakref

import numpy as np
import pytest

import opgrad
from opgrad import GraphError


def leaf(lib, *values):
    return lib.tensor(list(values), requires_grad=True)


def edge_of(lib, tensor):
    return lib.autograd.graph.get_gradient_edge(tensor)


def grads(lib, *args, **options):
    return [each.tolist() for each in lib.autograd.grad(*args, **options)]


class TestNames:
    def test_of_the_graph_are_those_of_pytorch(self):
        graph = opgrad.autograd.graph
        assert set(graph.__all__) >= {
            "GradientEdge",
            "Node",
            "disable_saved_tensors_hooks",
            "get_gradient_edge",
            "increment_version",
            "register_multi_grad_hook",
            "saved_tensors_hooks",
        }
        assert all(hasattr(graph, name) for name in graph.__all__)

    def test_every_grad_fn_is_a_node(self, lib):
        assert isinstance((leaf(lib, 1.0) * 2).grad_fn, lib.autograd.graph.Node)


class TestSavedValues:
    def test_have_the_names_that_the_backward_uses(self):
        a, b = leaf(opgrad, 2.0), leaf(opgrad, 3.0)
        saved = (a * b).grad_fn.saved
        assert (saved.a.tolist(), saved.b.tolist()) == ([2], [3])
        assert (a**3).grad_fn.saved.exponent == 3

    def test_that_are_inputs_have_their_place_in_the_graph(self):
        a = leaf(opgrad, 2.0)
        base = ((a * 2) ** 3).grad_fn.saved.base
        assert base.grad_fn is not None
        assert grads(opgrad, base.sum(), a) == [[2]]

    def test_that_are_a_leaf_share_its_gradient(self):
        a = leaf(opgrad, 2.0)
        base = (a**3).grad_fn.saved.base
        (a * 5).sum().backward()
        assert base.is_leaf
        assert base.grad.tolist() == [5]

    def test_that_are_outputs_have_theirs(self):
        a = leaf(opgrad, 0.0)
        out = opgrad.exp(a)
        assert out.grad_fn.saved.out.grad_fn is out.grad_fn
        assert grads(opgrad, out.grad_fn.saved.out.sum(), a) == [[1]]

    def test_share_memory_with_what_was_saved(self):
        a = leaf(opgrad, 2.0)
        assert np.shares_memory((a**3).grad_fn.saved.base.data, a.data)

    def test_that_no_gradient_needs_are_none(self):
        assert (leaf(opgrad, 2.0) * 3).grad_fn.saved.a is None

    def test_are_listed(self):
        node = (leaf(opgrad, 2.0) ** 3).grad_fn
        assert node.names == ("base", "exponent")
        assert set(node.names) <= set(dir(node.saved))
        assert repr(node.saved) == "Saved(base=tensor([2.], requires_grad=True), exponent=3)"

    def test_of_another_name_are_not_there(self):
        saved = (leaf(opgrad, 2.0) ** 3).grad_fn.saved
        assert not hasattr(saved, "nothing")
        with pytest.raises(
            AttributeError, match=r"PowBackward0 has saved no 'bass', but base, exp"
        ):
            _ = saved.bass

    def test_that_were_written_to_are_an_error(self):
        a = leaf(opgrad, 2.0) * 1
        node = (a**3).grad_fn
        a.zero_()
        with pytest.raises(GraphError, match=r"PowBackward0 saved 'base', .* 'zero_' has written"):
            _ = node.saved.base


class TestAfterFreeing:
    @pytest.fixture
    def a(self, lib):
        return leaf(lib, 2.0)

    @pytest.fixture
    def node(self, a):
        y = a**3
        y.sum().backward()
        return y.grad_fn

    def test_saved_values_are_gone(self):
        y = leaf(opgrad, 2.0) ** 3
        y.sum().backward()
        with pytest.raises(GraphError, match="freed"):
            _ = y.grad_fn.saved.base
        with pytest.raises(GraphError, match="freed"):
            _ = y.grad_fn.saved.exponent
        assert repr(y.grad_fn.saved) == "<Saved, freed by a backward pass>"

    def test_the_rest_is_there(self, node, a):
        assert node.name() == "PowBackward0"
        (end, output_nr), *_ = node.next_functions
        assert end.variable is a
        assert output_nr == 0

    def test_hooks_can_be_registered_and_removed(self, node):
        node.register_hook(lambda *_: None).remove()
        node.register_prehook(lambda *_: None).remove()

    def test_what_saved_nothing_can_be_gone_through_again(self, lib):
        a = leaf(lib, 2.0)
        y = (a + 1).sum()
        y.backward()
        y.backward()
        assert a.grad.tolist() == [2]

    def test_gradient_edges_are_valid(self, lib):
        a = leaf(lib, 2.0)
        b = a * 1
        edge = edge_of(lib, b)
        (b**2).sum().backward()
        assert grads(lib, (b**3).sum(), edge) == [[12]]


class TestMetadata:
    def test_is_shape_and_dtype_of_the_output(self):
        assert (leaf(opgrad, 1.0, 2.0) * 2).grad_fn.metadata == ((2,), np.dtype(float))

    def test_of_several_outputs_is_a_list(self):
        first, _ = opgrad.split(leaf(opgrad, 1.0, 2.0, 3.0), [1, 2])
        shapes = [shape for shape, _ in first.grad_fn.outputs()]
        assert shapes == [(1,), (2,)]


class TestGradientEdges:
    def test_are_of_a_node_and_an_output(self, lib):
        a = leaf(lib, 1.0, 2.0, 3.0)
        b = a * 2
        edge = edge_of(lib, b)
        assert edge.node is b.grad_fn
        assert edge.output_nr == 0
        assert edge_of(lib, a).node is b.grad_fn.next_functions[0][0]

    def test_know_which_of_several_outputs_it_is(self, lib):
        _, second = lib.split(leaf(lib, 1.0, 2.0, 3.0), [1, 2])
        assert edge_of(lib, second).output_nr == 1
        assert edge_of(lib, second).node is second.grad_fn

    def test_need_a_gradient(self, lib):
        with pytest.raises(RuntimeError):
            edge_of(lib, lib.tensor([1.0]))

    def test_stand_for_an_input_of_grad(self, lib):
        a = leaf(lib, 2.0)
        b = a * 3
        y = (b * b).sum()
        edge = edge_of(lib, b)
        assert grads(lib, y, edge, retain_graph=True) == [[12]]
        assert grads(lib, y, (edge, a)) == [[12], [36]]

    def test_stand_for_an_output_of_grad(self, lib):
        a = leaf(lib, 2.0, 3.0)
        edge = edge_of(lib, a * a)
        assert grads(lib, edge, a, grad_outputs=lib.tensor([1.0, 10.0])) == [[4, 60]]

    def test_of_one_element_need_no_gradient(self, lib):
        a = leaf(lib, 2.0, 3.0)
        assert grads(lib, edge_of(lib, (a * a).sum()), a) == [[4, 6]]

    def test_of_several_elements_do(self, lib):
        a = leaf(lib, 2.0, 3.0)
        with pytest.raises(RuntimeError):
            lib.autograd.grad(edge_of(lib, a * a), a)

    def test_of_the_wrong_shape_are_refused(self, lib):
        a = leaf(lib, 2.0, 3.0)
        with pytest.raises(RuntimeError):
            lib.autograd.grad(edge_of(lib, a * a), a, grad_outputs=lib.ones(3))

    def test_stand_for_inputs_of_backward(self, lib):
        a, b = leaf(lib, 2.0), leaf(lib, 3.0)
        (a * b).sum().backward(inputs=edge_of(lib, a))
        (a * b).sum().backward(inputs=[edge_of(lib, b)])
        lib.autograd.backward((a * b).sum(), inputs=[edge_of(lib, b)])
        assert (a.grad.tolist(), b.grad.tolist()) == ([3], [4])

    def test_stand_for_the_root_of_backward(self, lib):
        a = leaf(lib, 2.0)
        lib.autograd.backward(edge_of(lib, a * a), lib.tensor([10.0]))
        assert a.grad.tolist() == [40]

    def test_of_unused_inputs_are_materialized(self):
        a, b = leaf(opgrad, 2.0), leaf(opgrad, 3.0, 4.0)
        found = grads(opgrad, a.sum(), (a, edge_of(opgrad, b)), materialize_grads=True)
        assert found == [[1], [0, 0]]

    def test_do_not_keep_the_tensor(self):
        a = leaf(opgrad, 1.0, 2.0, 3.0)
        b = a * 2
        edge, memory = edge_of(opgrad, b), weakref.ref(b.data)
        loss = (b + 1).sum()
        del b
        assert memory() is None
        assert grads(opgrad, loss, edge) == [[1, 1, 1]]

    def test_are_places_whose_complex_gradients_follow_the_convention(self, lib):
        z = lib.tensor([1 + 2j], requires_grad=True)
        w = z * 1
        assert grads(lib, (w * w.conj()).real.sum(), edge_of(lib, w)) == [[2 + 4j]]


class TestIncrementVersion:
    def test_counts_a_write_that_nobody_saw(self, lib):
        x, y = lib.ones(2), lib.ones(2)
        lib.autograd.graph.increment_version(x)
        lib.autograd.graph.increment_version([x, y])
        assert (x._version, y._version) == (2, 1)

    def test_makes_saved_values_stale(self, lib):
        x = leaf(lib, 2.0) * 1
        y = (x * x).sum()
        lib.autograd.graph.increment_version(x)
        with pytest.raises(RuntimeError, match=r"increment_version|inplace operation"):
            y.backward()
