"""Writing in place: values, histories, views, and the protection of what a backward still needs."""

from __future__ import annotations

import gc
import operator
import weakref

import numpy as np
import pytest

import opgrad
from opgrad.autograd import GraphError, grad


def leaf(values, **options):
    return opgrad.tensor(values, requires_grad=True, **options)


def gradient(output, x):
    return grad(output, x)[0].tolist()


A, B = np.array([[0.5, 2.0], [-3.0, 4.0]]), np.array([1.5, 0.5])

#: In-place methods with what they do out of place.
METHODS = {
    "add_": (lambda x, y: x.add_(y), lambda x, y: x + y),
    "sub_": (lambda x, y: x.sub_(y), lambda x, y: x - y),
    "mul_": (lambda x, y: x.mul_(y), lambda x, y: x * y),
    "div_": (lambda x, y: x.div_(y), lambda x, y: x / y),
    "pow_": (lambda x, y: x.pow_(2), lambda x, y: x**2),
    "+=": (operator.iadd, lambda x, y: x + y),
    "-=": (operator.isub, lambda x, y: x - y),
    "*=": (operator.imul, lambda x, y: x * y),
    "/=": (operator.itruediv, lambda x, y: x / y),
    "**=": (lambda x, y: operator.ipow(x, 3), lambda x, y: x**3),
    "exp_": (lambda x, y: x.exp_(), lambda x, y: opgrad.exp(x)),
    "tanh_": (lambda x, y: x.tanh_(), lambda x, y: opgrad.tanh(x)),
    "neg_": (lambda x, y: x.neg_(), lambda x, y: -x),
    "clamp_": (lambda x, y: x.clamp_(-1, 3), lambda x, y: x.clamp(-1, 3)),
    "copy_": (lambda x, y: x.copy_(y), lambda x, y: x * 0 + y),
    "fill_": (lambda x, y: x.fill_(y[0]), lambda x, y: x * 0 + y[0]),
    "fill_ by a number": (lambda x, y: x.fill_(7), lambda x, y: x * 0 + y * 0 + 7),
    "zero_": (lambda x, y: x.zero_(), lambda x, y: x * 0 + y * 0),
}


@pytest.mark.parametrize(("write", "apply"), METHODS.values(), ids=METHODS)
class TestMethods:
    def test_return_the_tensor_with_the_result_in_the_same_memory(self, write, apply):
        x = opgrad.tensor(A.copy())
        memory = x.data
        assert write(x, opgrad.tensor(B)) is x
        assert x.data is memory
        np.testing.assert_array_equal(memory, apply(opgrad.tensor(A), opgrad.tensor(B)).data)
        assert (x.requires_grad, x._version) == (False, 1)

    def test_are_recorded_as_the_same_out_of_place(self, write, apply):
        def derivatives(change):
            a, b = leaf(A), leaf(B)
            made = change(a * 1.0, b)
            loss = (made * made).sum() + (a * b).sum()
            firsts = grad(loss, [a, b], create_graph=True)
            seconds = grad(sum((each * each).sum() for each in firsts), [a, b])
            return [each.detach().numpy() for each in (made, *firsts, *seconds)]

        for got, expected in zip(derivatives(write), derivatives(apply), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-14)

    def test_give_a_view_and_its_base_one_history(self, write, apply):
        def derivatives(change):
            a, b = leaf(np.stack([A, A + 1])), leaf(B)
            made = change(a * 1.0, b)
            loss = (made**3).sum() + (a[0] * b).sum()
            return [each.detach().numpy() for each in (made, *grad(loss, [a, b]))]

        def through_a_view(base, y):
            write(base[1], y)
            return base

        def apart(x, y):
            return opgrad.stack([x[0], apply(x[1], y)])

        for got, expected in zip(derivatives(through_a_view), derivatives(apart), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-14)


#: Indices, for an array of shape (4, 3), with shapes of values that fit.
KEYS = {
    "an integer": (1, [(3,), (1,), ()]),
    "a negative integer": (-1, [(3,)]),
    "one element": ((2, 1), [()]),
    "a slice": (slice(1, 3), [(2, 3), (3,), (2, 1), (1, 2, 3)]),
    "a slice with a step": (slice(None, None, 2), [(2, 3)]),
    "a slice with a negative step": (slice(None, None, -2), [(2, 3)]),
    "slices": ((slice(None, 2), slice(1, None)), [(2, 2), ()]),
    "an empty slice": (slice(0), [(0, 3), ()]),
    "an ellipsis": ((..., 0), [(4,), ()]),
    "everything": (..., [(4, 3), (3,)]),
    "newaxis": ((None, slice(2)), [(1, 2, 3), (2, 3)]),
    "a list": ([0, 2], [(2, 3), (3,)]),
    "lists": (([0, 3], [1, 1]), [(2,), ()]),
    "an array": (np.array([[0, 1], [3, 2]]), [(2, 2, 3)]),
    "a mask": (np.array([True, False, True, True]), [(3, 3), (3,)]),
    "a mask of all": (np.arange(12).reshape(4, 3) % 3 == 1, [(4,), ()]),
    "a mixture": ((slice(None), [0, 2]), [(4, 2), (2,)]),
}


@pytest.mark.parametrize(
    ("key", "shape"),
    [(key, shape) for key, shapes in KEYS.values() for shape in shapes],
    ids=[f"{name}-{shape}" for name, (_, shapes) in KEYS.items() for shape in shapes],
)
class TestAssignmentToAnIndex:
    def test_writes_what_numpy_writes(self, key, shape):
        rng = np.random.default_rng(0)
        before, value = rng.normal(size=(4, 3)), rng.normal(size=shape)
        for given in (value, value.tolist() if shape == () else opgrad.tensor(value)):
            expected, x = before.copy(), opgrad.tensor(before.copy())
            expected[key] = value
            memory = x.data
            x[key] = given
            assert x.data is memory
            np.testing.assert_array_equal(memory, expected)

    def test_gives_each_gradient_to_what_stands_there(self, key, shape):
        rng = np.random.default_rng(1)
        a, value, weight = leaf(rng.normal(size=(4, 3))), leaf(rng.normal(size=shape)), None
        x = a * 2
        x[key] = value * 3
        weight = rng.normal(size=(4, 3))
        of_a, of_value = grad((x * weight).sum(), [a, value])
        kept = np.ones((4, 3))
        kept[key] = 0
        np.testing.assert_allclose(of_a.numpy(), kept * weight * 2)
        # The value's place by place: what becomes of the sum if one element is raised by one.
        for place in np.ndindex(shape):
            change, one = np.zeros((4, 3)), np.zeros(shape)
            one[place] = 3
            change[key] = one
            assert of_value.numpy()[place] == pytest.approx((change * weight).sum())


class TestAssignment:
    def test_of_the_last_of_repeated_places_stands_and_has_the_gradient(self):
        value, x = leaf([1.0, 2.0, 3.0]), opgrad.zeros(2)
        x[[0, 0, 1]] = value
        assert x.tolist() == [2.0, 3.0]
        assert gradient((x * opgrad.tensor([10.0, 20.0])).sum(), value) == [0.0, 10.0, 20.0]

    def test_casts_to_the_dtype(self):
        x = opgrad.zeros(2, dtype="float32")
        x[0] = leaf(1 / 3)
        x[1:] = np.array([2])
        assert x.dtype == "float32"
        assert x.tolist() == [np.float32(1 / 3), 2.0]

    def test_by_a_mask_or_index_that_is_a_tensor(self):
        x = opgrad.tensor([-1.0, 2.0, -3.0])
        x[x < 0] = 0
        x[opgrad.tensor([1])] = 5
        x[opgrad.tensor(2)] = 7
        assert x.tolist() == [0.0, 5.0, 7.0]

    def test_keeps_its_index_as_it_was(self):
        index, a, x = np.array([0, 1]), leaf([1.0, 2.0]), opgrad.zeros(3)
        x[index] = a
        loss = (x * opgrad.tensor([1.0, 10.0, 100.0])).sum()
        index[:] = 2
        assert gradient(loss, a) == [1.0, 10.0]

    def test_to_an_element_of_an_element(self):
        a, x = leaf(5.0), opgrad.zeros(2, 2)
        x[0][1] = a
        x[1, 0] += 2 * a
        assert x.tolist() == [[0.0, 5.0], [10.0, 0.0]]
        assert gradient(x.sum(), a) == 3

    def test_to_a_0d_tensor(self):
        a, x = leaf(5.0), opgrad.tensor(1.0)
        x[...] = a * 2
        x[()] += 1
        assert (x.item(), gradient(x, a)) == (11.0, 2.0)

    def test_in_a_loop_is_differentiable(self):
        a, x = leaf(2.0), opgrad.zeros(6)
        x[0] = a
        for i in range(1, 6):
            x[i] = x[i - 1] * a
        assert x.tolist() == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
        assert gradient(x[5], a) == 6 * 2**5


def element(x, key):
    """Return an element, and of an array one that can be written to."""
    return x[(*np.atleast_1d(key), ...)] if isinstance(x, np.ndarray) else x[key]


#: Ways to look at a tensor of shape (2, 3), as functions of tensors and of arrays.
VIEWS = {
    "element": lambda x: element(x, (1, 2)),
    "row": lambda x: x[0],
    "reversed columns": lambda x: x[:, ::-1],
    "every second": lambda x: x[0, ::2],
    "new axis": lambda x: x[None, :, 1:],
    "reshape": lambda x: x.reshape(3, 2),
    "flat": lambda x: x.reshape(-1),
    "transpose": lambda x: x.T,
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "squeeze": lambda x: x[:1].squeeze(),
    "expand_dims": lambda x: (np if isinstance(x, np.ndarray) else opgrad).expand_dims(x, 1),
    "view of a view": lambda x: x.T[1:].reshape(2, 2)[0],
    "element of a view of a view": lambda x: element(x.T[1:][0], 1),
}


@pytest.mark.parametrize("look", VIEWS.values(), ids=VIEWS)
class TestViews:
    def test_share_memory_and_version_with_their_base(self, look):
        x = opgrad.tensor(np.arange(6.0).reshape(2, 3))
        view = look(x)
        np.testing.assert_array_equal(view.numpy(), look(x.numpy()))
        view.add_(10)
        expected = np.arange(6.0).reshape(2, 3)
        look(expected)[...] += 10
        np.testing.assert_array_equal(x.numpy(), expected)
        x.mul_(2)
        np.testing.assert_array_equal(view.numpy(), look(expected * 2))
        assert x._version == view._version == 2
        assert np.shares_memory(view.data, x.data)

    def test_rewrite_the_history_of_their_base(self, look):
        a, weight = leaf(np.arange(1.0, 7).reshape(2, 3)), np.arange(6.0).reshape(2, 3) + 1
        x = a * 1
        look(x).pow_(3)
        got = grad((x * weight).sum(), a, create_graph=True)[0]
        expected, slope, curve = (np.ones((2, 3)) for _ in range(3))
        look(slope)[...] = 3 * look(a.detach().numpy()) ** 2
        np.testing.assert_allclose(got.detach().numpy(), slope * weight)
        curve[:] = 0
        look(curve)[...] = 6 * look(a.detach().numpy())
        np.testing.assert_allclose(grad(got.sum(), a)[0].numpy(), curve * weight)
        assert x.grad_fn.name() == "CopySlices"
        del expected

    def test_have_their_history_rewritten_by_their_base(self, look):
        a = leaf(np.arange(1.0, 7).reshape(2, 3))
        x = a * 1
        view = look(x)
        before = view.grad_fn
        x.mul_(3)
        assert view.grad_fn is not before
        expected = np.zeros((2, 3))
        look(expected)[...] = 3
        np.testing.assert_array_equal(grad(view.sum(), a)[0].numpy(), expected)

    def test_see_what_other_views_write(self, look):
        a = leaf(np.arange(1.0, 7).reshape(2, 3))
        x = a * 1
        view, other = look(x), x.reshape(6)
        other.mul_(3)
        expected = np.zeros((2, 3))
        look(expected)[...] = 3
        np.testing.assert_array_equal(view.detach().numpy(), look(a.detach().numpy() * 3))
        np.testing.assert_array_equal(grad(view.sum(), a)[0].numpy(), expected)

    def test_of_what_has_no_history_give_it_one(self, look):
        a, x = leaf(2.0), opgrad.ones(2, 3)
        view, later = look(x), x.reshape(6)
        view.mul_(a)
        assert x.requires_grad
        assert later.requires_grad
        assert gradient(later.sum(), a) == view.size

    def test_follow_writes_that_are_not_recorded(self, look):
        a = leaf(np.arange(1.0, 7).reshape(2, 3))
        view = look(a)
        with opgrad.no_grad():
            a.mul_(10)
        np.testing.assert_array_equal(view.detach().numpy(), look(a.detach().numpy()))
        expected = np.zeros((2, 3))
        look(expected)[...] = 1
        np.testing.assert_array_equal(grad(view.sum(), a)[0].numpy(), expected)

    def test_of_a_leaf_are_not_written_to(self, look):
        a = leaf(np.ones((2, 3)))
        view = look(a)
        with pytest.raises(GraphError, match=r"mul_: .* a view of a leaf that requires grad"):
            view.mul_(2)
        assert (a.tolist(), a._version) == ([[1.0] * 3] * 2, 0)
        with opgrad.no_grad():
            view.mul_(2)
        assert a._version == 1
        assert a.is_leaf
        assert a.detach().numpy().sum() == 6 + view.size


class TestSeveralOutputs:
    @pytest.mark.parametrize(
        "parts",
        [opgrad.unstack, lambda x: opgrad.split(x, 1), lambda x: opgrad.chunk(x, 3)],
        ids=["unstack", "split", "chunk"],
    )
    @pytest.mark.parametrize("shape", [(3,), (3, 2)])
    def test_are_views_each(self, parts, shape):
        a = leaf(np.arange(1.0, 1 + np.prod(shape)).reshape(shape))
        x = a * 1
        first, second, third = parts(x)
        second.mul_(5)
        first.add_(second.reshape(first.shape))
        np.testing.assert_array_equal(x[1].detach().numpy(), a.detach().numpy()[1] * 5)
        slopes = [np.full(shape[1:], value).tolist() for value in (1.0, 10.0, 1.0)]
        assert grad(x.sum(), a, retain_graph=True)[0].tolist() == slopes
        x.mul_(2)
        assert gradient(third.sum(), a)[2] == np.full(shape[1:], 2.0).tolist()


class TestScalars:
    def test_are_written_to_in_a_memory_that_then_stays(self):
        x = opgrad.tensor([1.0, 2.0]).sum()
        x.add_(1)
        memory = x.data
        x.mul_(2)
        assert (memory.item(), x.item(), x._version) == (8.0, 8.0, 2)

    def test_that_look_at_an_element_write_to_it_and_follow_it(self):
        x = opgrad.tensor([1.0, 2.0])
        element = x[1]
        element.mul_(5)
        assert x.tolist() == [1.0, 10.0]
        x.add_(1)
        assert element.item() == 11
        element.data[...] = 3
        assert x.tolist() == [2.0, 3.0]

    def test_share_with_what_is_made_of_them(self):
        x = opgrad.tensor([1.0, 2.0])[0] * 3
        wide, deep = x.reshape(1), x.reshape(1, 1)
        wide.add_(1)
        assert (x.item(), deep.item()) == (4.0, 4.0)
        x.mul_(2)
        assert (wide.item(), deep.item()) == (8.0, 8.0)
        x.detach().zero_()
        assert wide.item() == 0

    def test_that_look_at_an_element_share_with_what_is_made_of_them(self):
        x = opgrad.tensor([1.0, 2.0])
        x[0].reshape(1).mul_(5)
        assert x.tolist() == [5.0, 2.0]

    def test_saved_for_a_backward_are_copies(self):
        a = leaf(3.0)
        x = a * 1
        y = x * x
        x.add_(100)
        assert gradient(y, a) == 6

    def test_have_second_derivatives(self):
        a = leaf(3.0)
        x = a * 1
        x.mul_(a)
        x.pow_(2)  # a**4
        (slope,) = grad(x, a, create_graph=True)
        assert (slope.item(), gradient(slope, a)) == (4 * 3**3, 12 * 3**2)


class TestStaleValues:
    def test_are_found_and_the_error_says_who_saved_who_wrote_and_what_to_do(self):
        a = leaf([1.0, 2.0])
        x = a * 1
        y = opgrad.sin(x)
        x.mul_(2)
        message = r"SinBackward0 saved 'x', float64 of shape \(2,\).*'mul_' has written.*clone\(\)"
        with pytest.raises(GraphError, match=message):
            y.sum().backward()

    @pytest.mark.parametrize(
        ("write", "writer"),
        [
            (lambda x: x.add_(1), "add_"),
            (lambda x: operator.isub(x, 1), "sub_"),
            (lambda x: x.copy_(opgrad.ones(2)), "copy_"),
            (lambda x: x.__setitem__(0, 5), r"x\[key\] = value"),
            (lambda x: x.__setitem__([0], 5), r"x\[key\] = value"),
            (lambda x: x[:1].zero_(), "zero_"),
            (lambda x: x.reshape(2, 1).T.fill_(2), "fill_"),
            (lambda x: x.detach().zero_(), "zero_"),
            (lambda x: x.detach()[1:].exp_(), "exp_"),
        ],
    )
    @pytest.mark.parametrize("recorded", [False, True])
    def test_are_found_whichever_way_they_were_written(self, write, writer, recorded):
        a = leaf([1.0, 2.0])
        x = a * 1
        y = x * x
        with opgrad.set_grad_enabled(recorded):
            write(x)
        with pytest.raises(GraphError, match=f"MulBackward0 saved 'b'.*'{writer}' has written"):
            y.sum().backward()

    def test_are_found_in_what_was_saved_of_a_view(self):
        a = leaf([1.0, 2.0, 3.0])
        x = a * 1
        y = x[:2] * x[1:]
        x[0] = 5
        with pytest.raises(GraphError, match="MulBackward0 saved"):
            y.sum().backward()

    def test_are_found_in_outputs(self):
        y = opgrad.exp(leaf([1.0, 2.0]))
        y.add_(1)
        with pytest.raises(GraphError, match=r"ExpBackward0 saved 'out'.*'add_'"):
            y.sum().backward()

    def test_are_found_in_outputs_written_in_place(self):
        x = leaf([1.0, 2.0]) * 1
        x.exp_()
        x.add_(1)
        with pytest.raises(GraphError, match=r"ExpBackward0 saved 'out'.*'add_'"):
            x.sum().backward()

    def test_are_found_with_create_graph_and_by_nodes_called_by_hand(self):
        x = leaf([1.0, 2.0]) * 1
        y = x * x
        x.add_(1)
        with pytest.raises(GraphError, match="saved"):
            y.sum().backward(create_graph=True)
        with pytest.raises(GraphError, match="saved"):
            y.grad_fn(opgrad.ones(2))

    def test_of_parameters_are_found(self):
        w, x = leaf([1.0, 2.0]), leaf([3.0, 4.0])
        loss = (w * x).sum()
        with opgrad.no_grad():
            w.sub_(1)
        with pytest.raises(GraphError, match=r"MulBackward0 saved 'a'.*'sub_'"):
            loss.backward()

    @pytest.mark.parametrize(
        "use",
        [
            lambda x: x + 1,  # saves nothing
            lambda x: x.clone() * x.clone(),
            lambda x: x * opgrad.ones(2),  # saves the other
            lambda x: x.sum() * 2,
        ],
    )
    def test_are_none_where_nothing_of_it_was_saved(self, use):
        a = leaf([1.0, 2.0])
        x = a * 1
        y = use(x)
        x.add_(1)
        y.sum().backward()

    def test_are_none_where_it_was_saved_after_the_write(self):
        a = leaf([1.0, 2.0])
        x = a * 1
        x.add_(1)
        y = x * x
        assert gradient(y.sum(), a) == [4.0, 6.0]

    def test_are_none_in_other_memory(self):
        a = leaf([1.0, 2.0])
        x = a * 1
        y, other = x * x, x.clone()
        other.zero_()
        assert gradient(y.sum(), a) == [2.0, 4.0]

    def test_of_the_write_itself_are_what_was_there_before(self):
        a = leaf([1.0, 2.0])
        x = a * 1
        x.mul_(x)
        assert gradient(x.sum(), a) == [2.0, 4.0]

    def test_of_the_write_itself_include_what_shares_its_memory(self):
        a = leaf([[1.0, 2.0], [3.0, 4.0]])
        x = a * 1
        x.mul_(x.T)
        assert x.tolist() == [[1.0, 6.0], [6.0, 16.0]]
        assert gradient(x.sum(), a) == [[2.0, 6.0], [4.0, 8.0]]

    def test_of_the_write_itself_are_safe_while_saved_values_are_packed(self):
        a, packed = leaf([1.0, 2.0]), []
        x = a * 1
        with opgrad.autograd.graph.saved_tensors_hooks(
            lambda tensor: packed.append(tensor) or tensor, lambda tensor: tensor
        ):
            x.mul_(x)
            x.exp_()
        assert len(packed) == 3
        expected = [2 * np.exp(1.0), 4 * np.exp(4.0)]
        assert gradient(x.sum(), a) == pytest.approx(expected)

    def test_are_not_looked_for_once_the_memory_is_gone(self):
        from opgrad.stamps import stamps

        before = len(stamps)
        for _ in range(100):
            opgrad.ones(3).add_(1)
        assert len(stamps) == before


class TestVersions:
    def test_count_the_writes_to_the_memory(self):
        x = opgrad.zeros(2, 3)
        view, cut = x[0], x.detach()
        view.add_(1)
        x[1, 1] = 2
        cut.mul_(3)
        with opgrad.no_grad():
            x += 1
        assert x._version == view._version == cut._version == x[1, 1]._version == 4
        assert x.clone()._version == (x * 1)._version == 0

    def test_are_not_raised_by_a_write_that_fails(self):
        x = opgrad.zeros(2)
        with pytest.raises(ValueError, match="add_"):
            x.add_(opgrad.ones(3, 2))
        assert x._version == 0


class TestLeaves:
    @pytest.mark.parametrize(
        "write",
        [
            lambda a: a.add_(1),
            lambda a: a.copy_(opgrad.ones(2)),
            lambda a: a.__setitem__(0, 1.0),
            lambda a: a.__setitem__([0], 1.0),
            lambda a: a.reshape(1, 2).zero_(),
            lambda a: a[0].zero_(),
        ],
    )
    def test_that_require_grad_are_not_written_to_while_recording(self, write):
        a = leaf([5.0, 6.0])
        with pytest.raises(GraphError, match=r"leaf that requires grad.*no_grad\(\).*clone\(\)"):
            write(a)
        assert (a.tolist(), a._version, a.is_leaf) == ([5.0, 6.0], 0, True)
        with opgrad.no_grad():
            write(a)
        assert (a._version, a.is_leaf, a.requires_grad) == (1, True, True)

    def test_are_what_optimizers_write_to(self):
        w = leaf([1.0, 2.0])
        memory = w.data
        for _ in range(3):
            (w * w).sum().backward()
            with opgrad.no_grad():
                w -= 0.25 * w.grad
            w.grad.zero_()
        assert w.data is memory
        assert w.is_leaf
        assert w.tolist() == [0.125, 0.25]

    def test_that_require_no_grad_get_a_history(self):
        a, x = leaf([1.0, 2.0]), opgrad.ones(2)
        x.mul_(a)
        assert (x.is_leaf, x.grad_fn.name()) == (False, "MulBackward0")
        assert gradient(x.sum(), a) == [1.0, 1.0]

    def test_are_free_to_be_written_to_through_detach(self):
        a = leaf([1.0, 2.0])
        a.detach().mul_(2)
        assert (a.tolist(), a._version) == ([2.0, 4.0], 1)

    def test_keep_their_gradient(self):
        a = leaf([1.0, 2.0])
        (a * 3).sum().backward()
        with opgrad.no_grad():
            a.zero_()
        assert a.grad.tolist() == [3.0, 3.0]


class TestWritesThatAreNotRecorded:
    def test_leave_the_history(self):
        a = leaf([1.0, 2.0])
        x = a * 3
        node = x.grad_fn
        with opgrad.no_grad():
            x.mul_(2)
        assert x.grad_fn is node
        assert x.tolist() == [6.0, 12.0]
        assert gradient(x.sum(), a) == [3.0, 3.0]

    def test_may_use_what_requires_grad(self):
        a, x = leaf([1.0, 2.0]), opgrad.ones(2)
        with opgrad.no_grad():
            x.mul_(a)
            x[0] = a[1]
        assert (x.tolist(), x.requires_grad) == ([2.0, 2.0], False)

    def test_to_a_view_made_outside(self):
        a = leaf([1.0, 2.0])
        view = a[:1]
        with opgrad.no_grad():
            view.zero_()
        assert a.tolist() == [0.0, 2.0]


class TestViewsMadeWhereNothingIsRecorded:
    def test_have_no_history_and_get_none(self):
        a = leaf([1.0, 2.0])
        x = a * 1
        with opgrad.no_grad():
            view = x[:1]
        x.mul_(2)
        assert (view.tolist(), view.requires_grad) == ([2.0], False)

    def test_are_not_written_to_while_recording(self):
        x = leaf([1.0, 2.0]) * 1
        with opgrad.no_grad():
            view = x[:1]
        with pytest.raises(
            GraphError, match=r"mul_: .* a view that was made where nothing is reco"
        ):
            view.mul_(2)
        assert x.tolist() == [1.0, 2.0]
        with opgrad.no_grad():
            view.mul_(2)
        assert x.tolist() == [2.0, 2.0]


class TestRetainedGradients:
    def test_go_with_the_tensor(self):
        a = leaf([1.0, 2.0])
        x = a * 1
        x.retain_grad()
        x.mul_(3)
        (x * 5).sum().backward()
        assert (x.retains_grad, x.grad.tolist()) == (True, [5.0, 5.0])

    def test_go_with_base_and_view(self):
        a = leaf([1.0, 2.0])
        x = a * 1
        view = x[:1]
        for each in (x, view):
            each.retain_grad()
        view.mul_(3)
        (x.sum() + 10 * view.sum()).backward()
        assert x.grad.tolist() == [11.0, 1.0]
        assert view.grad.tolist() == [10.0]

    def test_leave_hooks_where_they_were(self):
        a, seen = leaf([1.0, 2.0]), []
        x = a * 1
        x.register_hook(lambda grad: seen.append(grad.tolist()))
        x.mul_(3)
        x.register_hook(lambda grad: seen.append(grad.tolist()))
        x.sum().backward()
        assert seen == [[1.0, 1.0], [3.0, 3.0]]


class TestRefusals:
    """Whatever is refused leaves everything as it was."""

    @pytest.mark.parametrize(
        ("make", "write", "error", "message"),
        [
            (
                lambda: leaf([1.0, 2.0]) * 1,
                lambda x: x.add_(opgrad.ones(3, 2)),
                ValueError,
                r"add_: the result has shape \(3, 2\), .* own, \(2,\); operate out of place",
            ),
            (
                lambda: leaf([1.0, 2.0]) * 1,
                lambda x: x.add_(opgrad.ones(3)),
                ValueError,
                r"add: .*a: float64 \(2,\), b: float64 \(3,\)",
            ),
            (
                lambda: opgrad.tensor([1, 2]),
                lambda x: x.add_(0.5),
                TypeError,
                r"add_: the result is float64 \(2,\), which a tensor of dtype int64 cannot keep",
            ),
            (
                lambda: opgrad.tensor([1, 2]),
                lambda x: operator.itruediv(x, 2),
                TypeError,
                "div_: .*cannot keep; cast one of the two",
            ),
            (
                lambda: leaf([1.0, 2.0]) * 1,
                lambda x: x.mul_(1j),
                TypeError,
                "mul_: the result is complex128 .* float64 cannot keep",
            ),
            (
                lambda: leaf([1.0, 2.0]) * 1,
                lambda x: x.copy_(opgrad.tensor([1j, 2])),
                TypeError,
                "assign: a complex value does not fit into float64",
            ),
            (
                lambda: leaf([1.0, 2.0]) * 1,
                lambda x: x.__setitem__(slice(None), opgrad.ones(3)),
                ValueError,
                r"^x\[key\] = value: the value has shape \(3,\), and .* shape \(2,\); pass a value",
            ),
            (
                lambda: leaf([1.0, 2.0]) * 1,
                lambda x: x.__setitem__([0, 1, 1], opgrad.ones(2)),
                ValueError,
                r"^x\[key\] = value: the value has shape \(2,\), and .* shape \(3,\); pass a value",
            ),
            (
                lambda: leaf([[1.0, 2.0]]) * 1,
                lambda x: x.copy_(opgrad.ones(2, 2)),
                ValueError,
                r"^copy_: the value has shape \(2, 2\), and .* shape \(1, 2\); pass a value",
            ),
            (
                lambda: leaf([1.0, 2.0]) * 1,
                lambda x: x.copy_(opgrad.ones(1, 2)),
                ValueError,
                r"^copy_: the value has shape \(1, 2\), and .* shape \(2,\).*with no more axes",
            ),
            (
                lambda: leaf([1.0, 2.0]) * 1,
                lambda x: x.__setitem__(5, 1.0),
                IndexError,
                "getitem: .*index 5 is out of bounds",
            ),
            (
                lambda: leaf([1.0, 2.0]) * 1,
                lambda x: x.fill_(opgrad.ones(2)),
                ValueError,
                r"fill: the value has shape \(2,\)",
            ),
            (
                lambda: leaf([1.0, 2.0]) * 1,
                lambda x: x.add_("one"),
                TypeError,
                "add: argument 'b' is str",
            ),
        ],
    )
    def test_leave_value_history_and_version(self, make, write, error, message):
        x = make()
        before = x.tolist(), x._version, x.grad_fn
        with pytest.raises(error, match=message):
            write(x)
        assert (x.tolist(), x._version, x.grad_fn) == before

    @pytest.mark.parametrize(
        "expand",
        [
            lambda x: opgrad.broadcast_to(x, (2, 3)),
            lambda x: x.expand(2, -1),
            lambda x: opgrad.broadcast_to(x, (2, 3)).T[1:],
        ],
    )
    def test_of_a_view_that_repeats_elements(self, expand):
        base = opgrad.tensor([1.0, 2.0, 3.0])
        view = expand(base)
        with pytest.raises(GraphError, match=r"zero_: .*an expanded view.*write to a clone\(\)"):
            view.zero_()
        with pytest.raises(GraphError, match="an expanded view"):
            view += 1
        assert (base.tolist(), base._version) == ([1.0, 2.0, 3.0], 0)
        view.clone().zero_()

    def test_of_memory_that_is_read_only(self):
        array = np.array([1.0, 2.0])
        array.flags.writeable = False
        x = opgrad.asarray(array)
        for write in (lambda: x.add_(1), lambda: x.__setitem__(0, 1), x[:1].zero_):
            with pytest.raises(GraphError, match=r"the tensor of shape .* is read-only.*clone\(\)"):
                write()
        assert (x.tolist(), x._version) == ([1.0, 2.0], 0)
        x.clone().add_(1)

    def test_of_a_part_of_complex_numbers_with_a_history(self):
        z = leaf([1 + 2j]) * 1
        with pytest.raises(GraphError, match=r"a part of complex numbers.*write to the complex"):
            z.real.mul_(2)
        assert z.tolist() == [1 + 2j]
        with opgrad.no_grad():
            z.imag.mul_(2)
        assert z.tolist() == [1 + 4j]

    def test_of_a_part_of_complex_numbers_by_what_has_a_history(self):
        z = opgrad.tensor([1 + 2j])
        z.real.mul_(3)
        z.imag.fill_(5)
        with pytest.raises(GraphError, match="a part of complex numbers"):
            z.imag.mul_(leaf([2.0]))
        assert (z.tolist(), z.requires_grad) == ([3 + 5j], False)

    def test_of_an_operator_that_fails(self):
        x = leaf([[1.0, 2.0]]) * 1
        node = x.grad_fn
        with pytest.raises(ValueError, match="clamp"):
            x.clamp_(opgrad.ones(3), 5)
        assert x.grad_fn is node


class TestDtypes:
    def test_stay_as_they_are(self):
        x = opgrad.ones(2, dtype="float32")
        x.add_(opgrad.ones(2, dtype="float64") / 3)
        x += 1
        x *= np.float64(2)
        assert x.dtype == "float32"

    def test_are_cast_in_the_backward_too(self):
        a, b = leaf([1.0, 2.0], dtype="float32"), leaf([3.0, 4.0])
        x = a * 1
        x.mul_(b)
        (x * x).sum().backward()  # 2 x b, 2 x a
        assert (a.grad.dtype, b.grad.dtype) == ("float32", "float64")
        assert a.grad.tolist() == [2 * 3 * 3, 2 * 8 * 4]
        assert b.grad.tolist() == [2 * 3 * 1, 2 * 8 * 2]

    def test_of_integers_and_bools_are_written_to(self):
        whole, truth = opgrad.tensor([1, 2]), opgrad.tensor([True, False])
        whole += 1
        whole[0] = 7
        truth[1] = True
        assert (whole.tolist(), truth.tolist()) == ([7, 3], [True, True])

    def test_complex_numbers_have_their_gradient(self):
        a, z = leaf([2.0]), leaf([1 + 2j])
        x = z * 1
        x.mul_(a)
        (x * opgrad.conj(x)).real.sum().backward()
        assert z.grad.tolist() == [2 * 4 * (1 + 2j)]
        assert a.grad.tolist() == [2 * 2 * 5]


class TestSharedArrays:
    def test_see_what_is_written(self):
        array = np.array([1.0, 2.0])
        x = opgrad.asarray(array)
        x.add_(1)
        x[0] = 7
        assert array.tolist() == [7.0, 3.0]
        array[1] = 5
        assert x.tolist() == [7.0, 5.0]

    def test_of_two_tensors_share_a_version(self):
        array = np.array([1.0, 2.0])
        x, y = opgrad.asarray(array), opgrad.asarray(array[:1])
        product = x * leaf([3.0, 4.0])
        y.zero_()
        assert (x._version, x.tolist()) == (1, [0.0, 2.0])
        with pytest.raises(GraphError, match=r"MulBackward0 saved 'a'.*'zero_'"):
            product.sum().backward()

    def test_may_overlap_with_what_is_written(self):
        x = opgrad.tensor([1.0, 2.0, 3.0, 4.0])
        x[1:] = x[:-1]
        assert x.tolist() == [1.0, 1.0, 2.0, 3.0]
        x.copy_(x[::-1])
        assert x.tolist() == [3.0, 2.0, 1.0, 1.0]


class TestPasses:
    def test_through_a_write_to_a_view_free_it(self):
        a = leaf([1.0, 2.0])
        x = opgrad.zeros(3)
        x[1:] = a
        loss = x.sum()
        loss.backward(retain_graph=True)
        loss.backward()
        assert a.grad.tolist() == [2.0, 2.0]
        with pytest.raises(GraphError, match=r"CopySlices: .*already been freed"):
            loss.backward()

    @pytest.mark.parametrize("key", [..., slice(None), (slice(0, 2), ...)], ids=str)
    def test_through_a_write_to_all_there_is_do_not(self, lib, key):
        a, x = lib.tensor([1.0, 2.0], requires_grad=True), lib.zeros(2)
        x[key] = a
        loss = x.sum()
        for _ in range(3):
            loss.backward()
        assert a.grad.tolist() == [3.0, 3.0]
        assert x.grad_fn.name().endswith("CopyBackwards")

    def test_through_a_write_to_all_in_another_order_free_it(self):
        a, x = leaf([1.0, 2.0]), opgrad.zeros(2)
        x[::-1] = a
        assert gradient((x * opgrad.tensor([1.0, 10.0])).sum(), a) == [10.0, 1.0]
        assert x.grad_fn.name() == "CopySlices"

    def test_through_a_write_to_all_of_a_view_have_the_gradients_of_its_base(self):
        a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0, 5.0])
        x = b * 1
        view = x[1:]
        view[...] = a
        assert x.tolist() == [3.0, 1.0, 2.0]
        loss = (x * opgrad.tensor([1.0, 10.0, 100.0])).sum()
        assert [each.tolist() for each in grad(loss, [a, b])] == [[10.0, 100.0], [1.0, 0.0, 0.0]]

    def test_give_none_or_zeros_for_what_was_written_over(self):
        a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
        x = a * 1
        x[...] = b
        assert gradient(x.sum(), b) == [1.0, 1.0]
        x = a * 1
        x[...] = b
        assert gradient(x.sum(), a) == [0.0, 0.0]

    def test_of_a_million_writes_need_no_recursion(self):
        a, x = leaf(1.0), opgrad.zeros(2)
        x[0] = a
        for _ in range(20_000):
            x[1:].add_(x[:1])
        x.sum().backward()
        assert a.grad.item() == 20_001
        del x


class TestReferences:
    @pytest.fixture(autouse=True)
    def _without_collector(self):
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    @pytest.mark.parametrize("backward", [False, True])
    @pytest.mark.parametrize("shape", [(3,), (2, 3)])
    def test_what_was_written_to_is_gone_with_the_last_name_for_it(self, backward, shape):
        a = opgrad.ones(shape, requires_grad=True)
        x = a * 1
        view = x[0]
        view.mul_(2)
        x.sub_(view)
        x[1:] = x[:-1] * 3
        x[[0]] = 5
        x.retain_grad()
        alive = [weakref.ref(each) for each in (a, x, view, x.data, x.grad_fn, view.grad_fn)]
        if backward:
            x.sum().backward()
        del a, x, view
        assert [each() for each in alive] == [None] * 6

    def test_views_are_gone_before_their_base(self):
        x = opgrad.ones(3)
        for _ in range(1000):
            x[1:].add_(1)
        assert len(x._views) < 64

    def test_a_view_keeps_its_base(self):
        x = leaf([1.0, 2.0, 3.0]) * 1
        view = x[1:]
        alive = weakref.ref(x)
        del x
        assert alive() is not None
        view.mul_(2)
        del view
        assert alive() is None


class TestParametersThatArePartsOfABuffer:
    """A view can be made a leaf; what is written beside it, or through it, leaves it one."""

    @pytest.mark.parametrize("through", ["the part", "its neighbour", "the whole"])
    def test_stay_leaves_whatever_is_written(self, through):
        whole = opgrad.zeros(4)
        part, neighbour = whole[:2].requires_grad_(), whole[2:].requires_grad_()
        with opgrad.no_grad():
            {"the part": part, "its neighbour": neighbour, "the whole": whole}[through].add_(1.0)
        for each in (part, neighbour):
            assert (each.requires_grad, each.is_leaf) == (True, True)
            (each * 3.0).sum().backward()
            assert each.grad.tolist() == [3.0, 3.0]

    def test_are_not_written_to_while_recording(self):
        part = opgrad.zeros(4)[:2].requires_grad_()
        with pytest.raises(GraphError, match=r"add_: .*leaf that requires grad"):
            part.add_(1.0)

    def test_learn_like_any_others(self):
        target = np.array([1.0, -2.0, 0.5, 3.0])
        whole = opgrad.zeros(4)
        parts = [whole[:1].requires_grad_(), whole[1:].requires_grad_()]
        for _ in range(50):
            loss = sum(
                ((part - goal) ** 2).sum()
                for part, goal in zip(parts, (target[:1], target[1:]), strict=True)
            )
            loss.backward()
            with opgrad.no_grad():
                for part in parts:
                    part -= 0.25 * part.grad
                    part.grad = None
        np.testing.assert_allclose(whole.data, target, rtol=1e-12)


class TestHistoriesThatAWriteLeavesAlone:
    def test_those_of_views_of_what_was_switched_off(self):
        x = leaf([1.0, 2.0])
        view = x[:]
        x.requires_grad_(False)
        x.add_(0.0)
        assert view.requires_grad

    def test_those_that_views_made_under_no_grad_do_not_have(self):
        base = opgrad.zeros(2)
        with opgrad.no_grad():
            view = base[:]
        base.add_(leaf([1.0, 2.0]))
        assert (view.requires_grad, view.tolist()) == (False, [1.0, 2.0])


class TestDataThatIsAssigned:
    """It is other memory: what looked at the old one goes on doing so."""

    def test_to_a_view_leaves_the_base(self):
        x = opgrad.tensor([1.0, 2.0, 3.0])
        view = x[1:]
        view.data = np.zeros(2)
        view.add_(1.0)
        assert (view.tolist(), x.tolist()) == ([1.0, 1.0], [1.0, 2.0, 3.0])

    def test_to_a_base_leaves_the_views(self):
        x = opgrad.tensor([1.0, 2.0, 3.0])
        view = x[1:]
        x.data = np.zeros(3)
        view.add_(1.0)
        assert (view.tolist(), x.tolist()) == ([3.0, 4.0], [0.0, 0.0, 0.0])


class TestAccumulation:
    def test_counts_as_a_write_where_a_call_has_saved_the_gradient(self):
        x, w = leaf([1.0, 1.0]), leaf([1.0, 1.0])
        x.sum().backward()
        loss = (w * x.grad).sum()
        x.sum().backward()
        with pytest.raises(GraphError, match=r"saved 'b'.*'backward\(\)' has written"):
            loss.backward()
