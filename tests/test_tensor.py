"""`Tensor`: its data, its place in the graph, and what Python and NumPy may do with it."""

from __future__ import annotations

import copy
import math
import operator
import pickle
import re
import weakref

import numpy as np
import pytest

import opgrad
from opgrad import GraphError


def leaf(values, dtype=None):
    return opgrad.tensor(values, dtype=dtype, requires_grad=True)


class TestDataAndShape:
    @pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2)])
    @pytest.mark.parametrize("dtype", ["float64", "float32", "int8", "bool", "complex64"])
    def test_are_those_of_the_array(self, shape, dtype):
        array = np.ones(shape, dtype)
        t = opgrad.tensor(array)
        assert (t.shape, t.ndim, t.size, t.dtype) == (shape, array.ndim, array.size, array.dtype)
        assert t.numel() == array.size
        assert t.device == "cpu"
        assert type(t.data) is np.ndarray
        np.testing.assert_array_equal(t.data, array)

    @pytest.mark.parametrize("shape", [(), (3,)])
    def test_data_shares_memory_and_is_unknown_to_the_graph(self, shape):
        a = opgrad.ones(shape, requires_grad=True)
        a.data[...] = 5
        assert a.data is a.data
        assert (a.detach().numpy() == 5).all()
        assert a.is_leaf

    def test_data_of_a_0d_result_can_be_written_to(self):
        result = opgrad.tensor(3.0) * 2
        result.data[...] = 5
        assert result.item() == 5

    def test_data_can_be_replaced_by_the_like_of_it(self):
        a = leaf([1.0, 2.0])
        a.data = np.array([3.0, 4.0])
        (a * a).sum().backward()
        np.testing.assert_array_equal(a.grad.numpy(), [6, 8])
        a.data -= 0.5 * a.grad.data
        np.testing.assert_array_equal(a.data, [0, 0])
        a.data = opgrad.tensor([5.0, 6.0])
        np.testing.assert_array_equal(a.data, [5, 6])

    @pytest.mark.parametrize("value", [np.ones(3), np.ones(2, "float32"), 1.0, [1, 2]])
    def test_data_of_another_shape_or_dtype_is_refused(self, value):
        match = r"data: got .*; expected the tensor's own dtype and shape, float64 \(2,\)"
        with pytest.raises(ValueError, match=match):
            leaf([1.0, 2.0]).data = value

    def test_transposes_are_recorded(self):
        a = opgrad.rand(2, 3, 4, requires_grad=True)
        assert a.T.shape == (4, 3, 2)
        assert a.mT.shape == (2, 4, 3)
        (a.mT * np.arange(24.0).reshape(2, 4, 3)).sum().backward()
        np.testing.assert_array_equal(a.grad.numpy(), np.arange(24.0).reshape(2, 4, 3).mT)

    @pytest.mark.parametrize("sizes", [(3, 2), ((3, 2),), (-1, 2), ([3, 2],)])
    def test_reshape_takes_sizes_or_a_tuple(self, sizes):
        assert opgrad.ones(2, 3).reshape(*sizes).shape == (3, 2)

    @pytest.mark.parametrize("axes", [(2, 0, 1), ((2, 0, 1),)])
    def test_transpose_takes_axes_or_a_tuple(self, axes):
        assert opgrad.ones(2, 3, 4).transpose(*axes).shape == (4, 2, 3)
        assert opgrad.ones(2, 3, 4).transpose().shape == (4, 3, 2)


class TestItem:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [(3, 3), (2.5, 2.5), (True, True), (1j, 1j), ([[1.5]], 1.5), (np.float32(0.5), 0.5)],
    )
    def test_is_the_one_element_as_a_python_number(self, data, expected):
        made = opgrad.tensor(data).item()
        assert made == expected
        assert type(made) is type(expected)

    def test_needs_no_detaching(self):
        assert (leaf(2.0) * 3).item() == 6

    @pytest.mark.parametrize("shape", [(2,), (0,), (2, 3)])
    def test_of_more_or_fewer_elements_is_refused(self, shape):
        match = rf"item: .* shape {re.escape(str(shape))}; expected exactly one"
        with pytest.raises(ValueError, match=match):
            opgrad.ones(shape).item()

    def test_tolist_gives_nested_lists(self):
        assert opgrad.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
        assert opgrad.tensor(1.5).tolist() == 1.5
        assert leaf([1.0]).tolist() == [1.0]


class TestLeaves:
    def test_are_what_no_recorded_operation_made(self):
        a, constant = leaf(2.0), opgrad.tensor(3.0)
        for tensor, is_leaf, requires_grad in [
            (a, True, True),
            (constant, True, False),
            (constant * 2, True, False),
            (a * 2, False, True),
            ((a * 2).detach(), True, False),
        ]:
            assert (tensor.is_leaf, tensor.requires_grad) == (is_leaf, requires_grad)
            assert (tensor.grad_fn is None) is is_leaf
            assert tensor.grad is None

    def test_are_switched_by_requires_grad_which_returns_them(self):
        a = opgrad.tensor(2.0)
        assert a.requires_grad_() is a
        assert a.requires_grad
        assert a.requires_grad_(False) is a
        assert not a.requires_grad

    def test_are_switched_by_assignment_too(self):
        a = opgrad.tensor(2.0)
        a.requires_grad = True
        assert a.requires_grad_(True).requires_grad
        a.requires_grad = False
        assert not (a * 2).requires_grad

    def test_keep_their_gradient_when_switched_off_and_on(self):
        a = leaf(2.0)
        (a * a).backward()
        held = a.grad
        assert a.requires_grad_(False).grad is held
        assert a.requires_grad_(True).grad is held
        (a * a).backward()
        assert held.item() == 8
        gone = weakref.ref(held)
        del held
        a.grad = None
        assert gone() is None
        assert a.requires_grad_(False).grad is None
        assert a.requires_grad_(True).grad is None

    def test_only_can_be_switched_off(self):
        result = leaf(2.0) * 3
        assert result.requires_grad_() is result
        with pytest.raises(GraphError, match=r"requires_grad_: only leaves .*MulBackward0.*detach"):
            result.requires_grad_(False)

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
    def test_may_be_floating_or_complex(self, dtype):
        assert opgrad.ones(2, dtype=dtype).requires_grad_().requires_grad

    @pytest.mark.parametrize("dtype", ["bool", "int64", "uint8"])
    def test_may_not_be_anything_else(self, dtype):
        whole = opgrad.ones(2, dtype=dtype)
        with pytest.raises(TypeError, match=rf"requires_grad: .*{dtype}; only floating and compl"):
            whole.requires_grad = True
        assert whole.requires_grad_(False) is whole

    @pytest.mark.parametrize(
        "update", [operator.iadd, operator.isub, operator.imul, operator.itruediv]
    )
    def test_that_require_grad_are_not_updated_by_operators(self, update):
        a = leaf([2.0])
        with pytest.raises(GraphError, match=r"a leaf that requires grad, .*no_grad\(\)"):
            update(a, 2.0)
        assert a.item() == 2
        constant = opgrad.tensor([2.0])
        assert update(constant, 2.0).item() == update(np.array([2.0]), 2.0).item()


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda each: pickle.loads(pickle.dumps(each)),
}


def all_copies(test):
    return pytest.mark.parametrize("do", COPIES.values(), ids=COPIES)(test)


def deep_copies(test):
    return pytest.mark.parametrize("do", [COPIES["deepcopy"], COPIES["pickle"]])(test)


class TestCopies:
    @all_copies
    @pytest.mark.parametrize("requires_grad", [False, True])
    @pytest.mark.parametrize(
        "array",
        [
            np.array(2.5),
            np.array([1.0, np.nan], "float32"),
            np.zeros((0, 3)),
            np.array([[1 + 2j]]),
            np.arange(6.0).reshape(2, 3).T,
            np.arange(6.0)[::-2],
        ],
        ids=str,
    )
    def test_of_a_leaf_have_its_values_and_require_grad_as_it_does(self, do, array, requires_grad):
        a = opgrad.asarray(array).requires_grad_(requires_grad)
        b = do(a)
        assert b is not a
        assert type(b) is opgrad.Tensor
        assert (b.dtype, b.is_leaf, b.requires_grad) == (a.dtype, True, requires_grad)
        np.testing.assert_array_equal(b.detach().numpy(), array, strict=True)

    @all_copies
    @pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint8", "float16", "complex64"])
    def test_keep_the_dtype(self, do, dtype):
        assert do(opgrad.ones(3, dtype=dtype)).dtype == np.dtype(dtype)

    @all_copies
    def test_have_gradients_of_their_own_from_then_on(self, do):
        a = leaf([1.0, 2.0])
        b = do(a)
        (b * 3).sum().backward()
        assert a.grad is None
        np.testing.assert_array_equal(b.grad.data, [3, 3])

    def test_that_are_shallow_share_memory_and_have_no_gradient(self):
        a = leaf([1.0, 2.0])
        (a * a).sum().backward()
        b = copy.copy(a)
        with opgrad.no_grad():
            b.zero_()
        assert a.tolist() == [0, 0]
        assert a._version == b._version == 1
        assert b.grad is None

    def test_that_are_shallow_share_memory_also_without_axes(self):
        a = opgrad.tensor(3.0)
        copy.copy(a).zero_()
        assert a.item() == 0

    def test_that_are_deep_have_a_copy_of_the_gradient(self):
        a = leaf([1.0, 2.0])
        (a * a).sum().backward()
        b = copy.deepcopy(a)
        assert b.grad.tolist() == a.grad.tolist()
        b.grad.zero_()
        assert a.grad.tolist() == [2, 4]

    def test_that_are_deep_have_a_copy_of_a_gradient_without_requiring_any(self):
        a = opgrad.ones(2)
        a.grad = opgrad.ones(2)
        assert copy.deepcopy(a).grad.tolist() == [1, 1]

    def test_that_are_pickled_have_no_gradient(self):
        a = leaf([1.0, 2.0])
        (a * a).sum().backward()
        assert pickle.loads(pickle.dumps(a)).grad is None

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_are_pickled_with_every_protocol(self, protocol):
        assert pickle.loads(pickle.dumps(leaf([1.0, 2.0]), protocol)).tolist() == [1, 2]

    @deep_copies
    def test_of_one_tensor_in_two_places_are_one(self, do):
        a = leaf([1.0, 2.0])
        first, second = do([a, a])
        assert first is second

    def test_of_a_tensor_and_its_gradient_belong_together(self):
        a = leaf([1.0, 2.0])
        (a * a).sum().backward()
        b, grad = copy.deepcopy([a, a.grad])
        assert b.grad is grad

    @pytest.mark.parametrize("memory", ["C", "F"])
    @pytest.mark.parametrize(
        "look",
        [
            lambda x: x[1:],
            lambda x: x[1:, ::2][:, 1],
            lambda x: x[::-1, ::-1],
            lambda x: x.T,
            lambda x: x[1, 2],
        ],
        ids=["part", "part of a part", "backwards", "transposed", "element"],
    )
    def test_that_are_deep_of_a_tensor_and_its_view_share_memory(self, look, memory):
        base = opgrad.asarray(np.arange(12.0).reshape(3, 4).copy(order=memory))
        view = look(base)
        made, looking = copy.deepcopy([base, view])
        assert looking.tolist() == view.tolist()
        made.fill_(7)
        np.testing.assert_array_equal(looking.data, np.full(view.shape, 7.0))
        assert float(view.data.flat[0]) != 7

    def test_that_are_deep_of_a_view_alone_are_what_it_shows(self):
        assert copy.deepcopy(opgrad.arange(6.0)[2:5]).tolist() == [2, 3, 4]

    def test_that_are_deep_of_a_view_of_an_array_with_gaps_are_what_it_shows(self):
        base = opgrad.asarray(np.arange(12.0).reshape(3, 4)[:, ::2])
        made, looking = copy.deepcopy([base, base[1:]])
        assert (made.tolist(), looking.tolist()) == (base.tolist(), base[1:].tolist())

    def test_that_are_deep_of_a_view_whose_data_was_assigned_are_what_it_shows(self):
        base = opgrad.zeros(4)
        view = base[1:]
        view.data = np.ones(3)
        assert copy.deepcopy([base, view])[1].tolist() == [1, 1, 1]

    def test_that_are_pickled_of_a_view_are_no_larger_than_what_it_shows(self):
        base = opgrad.zeros(100_000)
        assert len(pickle.dumps(base[5:7])) < 1000
        made, looking = pickle.loads(pickle.dumps([base, base[5:7]]))
        made.fill_(7.0)
        assert looking.tolist() == [0, 0]

    def test_have_none_of_the_hooks(self):
        a = leaf(2.0)
        a.register_hook(lambda grad: grad * 100)
        for do in COPIES.values():
            b = do(a)
            b.backward()
            assert b.grad.item() == 1

    @all_copies
    def test_of_a_result_would_lose_its_history(self, do):
        with pytest.raises(GraphError, match=r"only leaves .*MulBackward0.*clone\(\).*detach\(\)"):
            do(leaf(2.0) * 2)


@pytest.mark.parity
@pytest.mark.parametrize("do", COPIES.values(), ids=COPIES)
def test_copies_keep_what_pytorchs_do(do):
    torch = pytest.importorskip("torch", reason="parity is tested against an installed PyTorch")

    def facts(lib):
        a = lib.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        (a * a).sum().backward()
        base = lib.zeros(4)
        b, grad, again, made, view, element = do_all([a, a.grad, a, base, base[1:], base[0]])
        made.fill_(7.0)
        with lib.no_grad():
            b.zero_()
        return (
            [(x.tolist(), x.requires_grad, x.is_leaf) for x in (a, b, made, view, element)],
            None if b.grad is None else b.grad.tolist(),
            b.grad is grad,
            b is again,
        )

    def do_all(tensors):
        return [do(each) for each in tensors] if do is copy.copy else do(tensors)

    assert facts(opgrad) == facts(torch)


class TestDetachAndClone:
    @pytest.mark.parametrize("shape", [(), (3,)])
    def test_detach_shares_memory_and_has_no_history(self, shape):
        a = opgrad.ones(shape, requires_grad=True)
        for tensor in (a, a * 2):
            detached = tensor.detach()
            assert not detached.requires_grad
            assert np.shares_memory(detached.data, tensor.data)
            detached.zero_()
            assert (tensor.data == 0).all()

    def test_detach_stops_the_gradient(self):
        a = leaf(3.0)
        (a.detach() * a).backward()
        assert a.grad.item() == 3

    @pytest.mark.parametrize("shape", [(), (3,)])
    def test_clone_copies_and_is_recorded(self, shape):
        a = opgrad.ones(shape, requires_grad=True)
        cloned = a.clone()
        assert not np.shares_memory(cloned.data, a.data)
        assert cloned.grad_fn.name() == "CloneBackward0"
        cloned.backward(np.full(shape, 7.0))
        assert (a.grad.data == 7).all()


class TestGrad:
    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            (opgrad.ones(3), GraphError, r"grad: got shape \(3,\).*expected .*shape \(2,\)"),
            (opgrad.ones(2, dtype="float32"), GraphError, r"dtype float32; expected .*float64"),
            (np.ones(2), TypeError, "grad: got a ndarray; expected a Tensor or None"),
            (1.0, TypeError, "grad: got a float; expected a Tensor or None"),
        ],
    )
    @pytest.mark.parametrize("tensor", [leaf([1.0, 2.0]), opgrad.ones(2), leaf([1.0, 2.0]) * 2])
    def test_must_have_shape_and_dtype_of_the_tensor(self, tensor, value, error, message):
        with pytest.raises(error, match=message):
            tensor.grad = value
        assert tensor.grad is None

    def test_is_not_the_tensor_itself(self):
        a = leaf([1.0, 2.0])
        with pytest.raises(GraphError, match="a tensor cannot be its own gradient"):
            a.grad = a

    @pytest.mark.parametrize("tensor", [leaf([1.0, 2.0]), opgrad.ones(2), leaf([1.0, 2.0]) * 2])
    def test_can_be_assigned_and_removed(self, tensor):
        given = opgrad.ones(2)
        tensor.grad = given
        assert tensor.grad is given
        tensor.grad = None
        assert tensor.grad is None


class TestZero:
    @pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
    def test_is_written_in_place(self, shape):
        t = opgrad.ones(shape)
        memory = t.data
        assert t.zero_() is t
        assert (memory == 0).all()

    def test_keeps_the_dtype(self):
        assert opgrad.ones(2, dtype="float32").zero_().dtype == opgrad.float32

    def test_of_a_leaf_that_requires_grad_needs_no_grad(self):
        a = leaf([1.0, 2.0])
        with pytest.raises(GraphError, match=r"zero_: .*a leaf that requires grad.*no_grad\(\)"):
            a.zero_()
        with opgrad.no_grad():
            assert (a.zero_().data == 0).all()


class TestPythonOperators:
    A, B = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.5, 2.0])

    @pytest.mark.parametrize(
        "apply",
        [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul],
    )
    def test_of_two_are_numpys_whichever_side_is_a_tensor(self, apply):
        expected = apply(self.A, self.B)
        a, b = leaf(self.A), leaf(self.B)
        for made in (apply(a, b), apply(a, self.B), apply(self.A, b)):
            assert isinstance(made, opgrad.Tensor)
            assert made.requires_grad
            np.testing.assert_allclose(made.data, expected, rtol=1e-15)

    @pytest.mark.parametrize(
        "apply", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
    )
    @pytest.mark.parametrize("number", [2, 0.5, np.float64(1.5), np.int64(3), True])
    def test_with_a_number_work_on_both_sides(self, apply, number):
        for made, expected in [
            (apply(leaf(self.B), number), apply(self.B, number)),
            (apply(number, leaf(self.B)), apply(number, self.B)),
        ]:
            assert isinstance(made, opgrad.Tensor)
            np.testing.assert_allclose(made.data, expected, rtol=1e-15)

    def test_of_one_are_numpys(self):
        a = leaf([-1.0, 2.0])
        np.testing.assert_array_equal((-a).data, [1, -2])
        np.testing.assert_array_equal(abs(a).data, [1, 2])
        assert +a is a

    @pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
    @pytest.mark.parametrize("shape", [(), (2,)])
    @pytest.mark.parametrize("number", [2, 0.5, True, np.float64(2), np.int64(2), np.float64(0.5)])
    @pytest.mark.parametrize(
        "apply", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
    )
    def test_with_a_number_keep_the_dtype(self, apply, number, shape, dtype):
        t = opgrad.ones(shape, dtype=dtype, requires_grad=True)
        assert apply(t, number).dtype == dtype
        assert apply(number, t).dtype == dtype

    def test_of_two_dtypes_promote_as_numpy_does(self):
        for left, right in [("float32", "float64"), ("int64", "float32"), ("float32", "complex64")]:
            made = opgrad.ones(2, dtype=left) * opgrad.ones(2, dtype=right)
            assert made.dtype == np.result_type(left, right)

    @pytest.mark.parametrize("other", ["text", None, [1.0], object(), np.array(["a"])])
    def test_refuse_what_is_no_number(self, other):
        for apply in (operator.add, operator.mul, operator.lt, operator.matmul):
            with pytest.raises(TypeError):
                apply(leaf([1.0]), other)
            with pytest.raises(TypeError):
                apply(other, leaf([1.0]))

    def test_leave_the_word_to_an_operand_that_knows_better(self):
        class Knows:
            def __radd__(self, other):
                return "radd"

            def __eq__(self, other):
                return "eq"

            __hash__ = None

        assert leaf([1.0]) + Knows() == "radd"
        assert (leaf([1.0]) == Knows()) == "eq"


class TestComparisons:
    @pytest.mark.parametrize(
        "apply",
        [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge],
    )
    def test_are_boolean_and_have_no_gradient(self, apply):
        data = np.array([1.0, 2.0, 3.0])
        for other in (leaf([2.0, 2.0, 2.0]), 2, 2.0, np.full(3, 2.0), np.float64(2)):
            for made, expected in [
                (apply(leaf(data), other), apply(data, 2)),
                (apply(other, leaf(data)), apply(2, data)),
            ]:
                assert isinstance(made, opgrad.Tensor)
                assert made.dtype == opgrad.bool
                assert not made.requires_grad
                assert made.grad_fn is None
                np.testing.assert_array_equal(made.data, expected)

    def test_of_0d_tensors_are_0d(self):
        made = opgrad.tensor(1.0) < opgrad.tensor(2.0)
        assert (made.shape, made.dtype, made.item()) == ((), opgrad.bool, True)

    @pytest.mark.parametrize("other", [None, "text", [1.0, 2.0], object()])
    def test_for_equality_with_anything_else_are_plain_false(self, other):
        assert (leaf([1.0, 2.0]) == other) is False
        assert (leaf([1.0, 2.0]) != other) is True

    def test_leave_tensors_hashable_by_identity(self):
        a, b = leaf([1.0, 2.0]), leaf([1.0, 2.0])
        assert hash(a) != hash(b)
        assert {a: "a", b: "b"}[a] == "a"
        assert len({a, b, a}) == 2


class TestSequences:
    def test_have_the_length_of_the_first_axis(self):
        assert len(opgrad.ones(2, 3)) == 2
        assert len(opgrad.ones(0, 3)) == 0

    def test_iterate_over_the_first_axis_and_are_recorded(self):
        a = leaf([[1.0, 2.0], [3.0, 4.0]])
        first, second = a
        (first * 10 + second).sum().backward()
        np.testing.assert_array_equal(a.grad.numpy(), [[10, 10], [1, 1]])
        assert [row.tolist() for row in reversed(a)] == [[3, 4], [1, 2]]

    def test_contain_what_equals_an_element(self):
        t = leaf([[1.0, 2.0], [3.0, 4.0]])
        for value in (2.0, 4, np.float64(2), np.array([9.0, 4.0]), opgrad.tensor(3.0), t):
            assert value in t
        for value in (5.0, np.array([4.0, 3.0]), "text", None):
            assert value not in t
        assert 2 in opgrad.tensor(2)

    @pytest.mark.parametrize("do", [len, iter, list])
    def test_are_not_0d(self, do):
        with pytest.raises(TypeError, match="0-d tensor"):
            do(opgrad.tensor(1.0))

    @pytest.mark.parametrize(
        "key",
        [0, -1, slice(None, None, -1), (..., 0), None, [0, 0, 1], (slice(1), [1, 1]), ()],
    )
    def test_are_indexed_as_arrays_are(self, key):
        array = np.arange(6.0).reshape(2, 3)
        a = leaf(array)
        np.testing.assert_array_equal(a[key].data, array[key])
        a[key].sum().backward()
        counts = np.zeros((2, 3))
        np.add.at(counts, key, 1)
        np.testing.assert_array_equal(a.grad.numpy(), counts)

    def test_are_indexed_by_tensors_too(self):
        array = np.arange(6.0).reshape(2, 3)
        a = leaf(array)
        np.testing.assert_array_equal(a[a > 2].data, array[array > 2])
        rows, columns = opgrad.tensor([0, 1]), opgrad.tensor([2, 0])
        np.testing.assert_array_equal(a[rows, columns].data, [2, 3])
        np.testing.assert_array_equal(a[opgrad.tensor(1)].data, array[1])

    def test_end_where_their_index_does(self):
        with pytest.raises(IndexError, match=r"getitem: .*got x: float64 \(2,\)"):
            opgrad.ones(2)[2]
        assert [t.item() for t in opgrad.tensor([1.0, 2.0])] == [1, 2]


class TestPythonNumbers:
    @pytest.mark.parametrize(("data", "expected"), [(0.0, False), ([[2.0]], True), (False, False)])
    def test_bool_is_that_of_the_one_element(self, data, expected):
        assert bool(opgrad.tensor(data)) is expected

    @pytest.mark.parametrize("shape", [(2,), (0,)])
    def test_bool_of_more_or_fewer_is_refused(self, shape):
        with pytest.raises(ValueError, match="expected exactly one element"):
            bool(opgrad.ones(shape))

    def test_int_truncates(self):
        assert int(opgrad.tensor(-2.7)) == -2
        assert int(opgrad.tensor([3])) == 3

    def test_index_is_for_whole_0d_numbers_only(self):
        assert ["a", "b", "c"][opgrad.tensor(1)] == "b"
        assert list(range(opgrad.tensor(3))) == [0, 1, 2]
        for other in (opgrad.tensor(1.0), opgrad.tensor([1]), opgrad.tensor(True)):
            with pytest.raises(TypeError, match="only a 0-d integer tensor can be an index"):
                operator.index(other)

    def test_float_and_complex_take_the_one_element(self):
        assert float(opgrad.tensor([2.5])) == 2.5
        assert complex(opgrad.tensor(1 + 2j)) == 1 + 2j
        assert math.sqrt(opgrad.tensor(4.0)) == 2

    @pytest.mark.parametrize("convert", [float, complex])
    def test_float_and_complex_warn_that_the_gradient_is_lost(self, convert):
        with pytest.warns(
            UserWarning, match=rf"{convert.__name__}\(\) .*item\(\) or detach"
        ) as seen:
            assert convert(leaf(2.5)) == 2.5
        assert seen[0].filename == __file__

    @pytest.mark.parametrize(
        ("data", "spec", "expected"),
        [
            (2 / 3, ".2f", "0.67"),
            (2 / 3, "8.3f", "   0.667"),
            (1234.5, ".1e", "1.2e+03"),
            (7, "03d", "007"),
            (1.5, "", "1.5"),
            ([1.0, 2.0], "", "tensor([1., 2.])"),
        ],
    )
    def test_format_is_that_of_the_number(self, data, spec, expected):
        assert format(opgrad.tensor(data), spec) == expected

    def test_format_works_for_what_requires_grad(self):
        assert f"{leaf(2.0) * 3:.1f}" == "6.0"

    def test_format_of_several_numbers_takes_no_specification(self):
        with pytest.raises(TypeError, match=r"'\.2f' .*got shape \(1,\)"):
            format(opgrad.tensor([1.0]), ".2f")


class TestRepr:
    @pytest.mark.parametrize(
        ("make", "expected"),
        [
            (lambda: opgrad.tensor([3.0]), "tensor([3.])"),
            (lambda: leaf([3.0]), "tensor([3.], requires_grad=True)"),
            (lambda: 5 * leaf([3.0]) ** 2, "tensor([45.], grad_fn=<MulBackward0>)"),
            (lambda: leaf(3.0, "float32"), "tensor(3., dtype=opgrad.float32, requires_grad=True)"),
            (lambda: leaf([3.0]) > 2, "tensor([True])"),
            (lambda: opgrad.zeros(0, 3), "tensor([], size=(0, 3))"),
        ],
    )
    def test_tells_what_the_numbers_do_not(self, make, expected):
        assert repr(make()) == str(make()) == expected


class TestConversionToNumpy:
    @pytest.mark.parametrize("shape", [(), (3,)])
    @pytest.mark.parametrize("convert", [np.asarray, opgrad.Tensor.numpy])
    def test_shares_memory(self, convert, shape):
        t = opgrad.ones(shape)
        array = convert(t)
        assert type(array) is np.ndarray
        assert np.shares_memory(array, t.data)
        array[...] = 5
        assert (t.data == 5).all()

    def test_copies_and_casts_if_told_to(self):
        t = opgrad.ones(2)
        assert not np.shares_memory(np.array(t), t.data)
        assert np.asarray(t, dtype="float32").dtype == np.float32
        with pytest.raises(ValueError, match="avoid copy"):
            np.asarray(t, dtype="float32", copy=False)

    @pytest.mark.parametrize(
        "convert",
        [
            np.asarray,
            np.array,
            opgrad.Tensor.numpy,
            lambda t: np.asarray([t, t]),
            lambda t: np.testing.assert_array_equal(t, 1),
        ],
    )
    @pytest.mark.parametrize("make", [lambda: leaf([1.0]), lambda: leaf([1.0]) * 2])
    def test_of_what_requires_grad_is_refused(self, convert, make):
        match = r"requires grad would lose the gradient silently; use detach\(\)"
        with pytest.raises(GraphError, match=match):
            convert(make())
        with opgrad.no_grad(), pytest.raises(GraphError, match=match):
            convert(leaf([1.0]))


class TestNumpyProtocols:
    X = np.array([[0.5, 1.5], [2.5, 3.5]])

    @pytest.mark.parametrize(
        "function",
        [np.exp, np.log, np.sqrt, np.sin, np.cos, np.tanh, np.negative, np.abs, np.sign],
    )
    def test_ufuncs_of_one_are_recorded(self, function):
        made = function(leaf(self.X))
        assert isinstance(made, opgrad.Tensor)
        assert made.requires_grad
        np.testing.assert_array_equal(made.data, function(self.X))

    @pytest.mark.parametrize(
        "function",
        [
            np.add,
            np.subtract,
            np.multiply,
            np.divide,
            np.power,
            np.maximum,
            np.matmul,
            np.logaddexp,
        ],
    )
    def test_ufuncs_of_two_are_recorded_whichever_is_a_tensor(self, function):
        expected = function(self.X, self.X.T)
        for args in [
            (leaf(self.X), leaf(self.X.T)),
            (leaf(self.X), self.X.T),
            (self.X, leaf(self.X.T)),
        ]:
            made = function(*args)
            assert made.requires_grad
            np.testing.assert_array_equal(made.data, expected)

    def test_ufuncs_give_the_gradient(self):
        a = leaf(self.X)
        np.multiply(np.exp(a), self.X).sum().backward()
        np.testing.assert_allclose(a.grad.numpy(), np.exp(self.X) * self.X, rtol=1e-15)

    @pytest.mark.parametrize("function", [np.equal, np.less, np.greater_equal])
    def test_ufuncs_that_compare_are_not_recorded(self, function):
        made = function(leaf(self.X), self.X.T)
        assert not made.requires_grad
        np.testing.assert_array_equal(made.data, function(self.X, self.X.T))

    @pytest.mark.parametrize(
        "function",
        [
            np.sum,
            lambda x: np.sum(x, axis=0),
            lambda x: np.mean(x, axis=1, keepdims=True),
            lambda x: np.max(x, axis=0),
            lambda x: np.reshape(x, (4,)),
            np.transpose,
            lambda x: np.where(np.array([True, False]), x, 0),
            lambda x: np.broadcast_to(x, (3, 2, 2)),
            lambda x: np.expand_dims(x, 1),
            np.real,
        ],
    )
    def test_functions_are_recorded(self, function):
        made = function(leaf(self.X))
        assert made.requires_grad
        np.testing.assert_array_equal(made.data, function(self.X))

    def test_arrays_and_scalars_on_the_left_give_tensors(self):
        a = leaf(self.X)
        for made in (self.X * a, self.X @ a, self.X - a, np.float64(2) * a, np.float64(2) ** a):
            assert isinstance(made, opgrad.Tensor)
            assert made.requires_grad

    @pytest.mark.parametrize("shape", [(), (2,)])
    def test_a_numpy_scalar_does_not_widen_float32(self, shape):
        t = opgrad.ones(shape, dtype="float32", requires_grad=True)
        for made in (
            np.float64(2) * t,
            t * np.float64(2),
            np.float64(2) - t,
            np.multiply(np.float64(2), t),
            np.maximum(t, np.float64(2)),
            np.float64(2) ** t,
        ):
            assert made.dtype == opgrad.float32

    def test_shape_ndim_and_size_are_known_to_numpy(self):
        a = leaf(self.X)
        assert (np.shape(a), np.ndim(a), np.size(a), np.size(a, 0)) == ((2, 2), 2, 4, 2)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (np.add.reduce, "np.add: only the plain call works .* 'reduce'"),
            (lambda a: np.add(a, a, out=np.zeros((2, 2))), r"np.add: .*\['out'\]"),
            (lambda a: operator.iadd(np.zeros((2, 2)), a), r"np.add: .*\['out'\]"),
            (lambda a: np.exp(a, where=True), r"np.exp: .*\['where'\]"),
            (np.spacing, "spacing"),
            (np.sort_complex, "sort_complex"),
        ],
    )
    def test_what_has_no_operator_is_refused(self, call, message):
        with pytest.raises(TypeError, match=message):
            call(leaf(self.X))

    def test_the_array_api_namespace_is_opgrad(self):
        assert leaf(self.X).__array_namespace__() is opgrad
        assert leaf(self.X).__array_namespace__(api_version="2024.12") is opgrad


class TestAttributes:
    def test_operators_that_say_so_are_methods(self):
        a = leaf([1.0, 2.0])
        np.testing.assert_array_equal(a.exp().data, np.exp([1.0, 2.0]))
        np.testing.assert_array_equal(a.multiply(3).data, [3, 6])
        assert a.sum(axis=0, keepdims=True).shape == (1,)

    @pytest.mark.parametrize("name", ["where", "scatter_add", "no_such_thing", "_private"])
    def test_anything_else_is_an_attribute_error(self, name):
        a = leaf([1.0])
        with pytest.raises(AttributeError, match=f"a Tensor has no attribute '{name}'"):
            getattr(a, name)
        assert not hasattr(a, name)

    def test_cannot_be_added(self):
        with pytest.raises(AttributeError):
            leaf([1.0]).anything = 1

    def test_are_listed(self):
        assert {"grad", "backward", "exp", "sum"} <= set(dir(leaf([1.0])))


def test_dlpack_shares_memory_and_refuses_to_lose_a_gradient():
    plain = opgrad.tensor([1.0, 2.0])
    assert np.shares_memory(np.from_dlpack(plain), plain.data)
    with pytest.raises(opgrad.GraphError, match="detach"):
        np.from_dlpack(opgrad.ones(2, requires_grad=True))


class TestViewAndExpand:
    def test_view_shares_memory_in_another_shape(self):
        a = opgrad.arange(6.0)
        for b in (a.view(2, 3), a.view((2, 3)), a.view(-1, 3)):
            assert b.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
            assert np.shares_memory(a.data, b.data)

    def test_view_of_no_axes_is_one_too(self):
        a = opgrad.tensor(2.0)
        b = a.view(1, 1)
        b.mul_(3.0)
        assert (a.item(), b.shape) == (6.0, (1, 1))

    def test_view_never_copies(self):
        a = opgrad.ones((2, 3)).T
        with pytest.raises(ValueError, match=r"view: .*\(3, 2\).*without a copy; use reshape\(\)"):
            a.view(6)

    def test_expand_repeats_axes_of_size_one(self):
        a = leaf([[1.0], [2.0]])
        for b in (a.expand(2, 3), a.expand((2, -1)).expand(-1, 3)):
            assert b.tolist() == [[1.0] * 3, [2.0] * 3]
        b.sum().backward()
        assert a.grad.tolist() == [[3.0], [3.0]]


def test_numpys_split_is_not_taken_for_pytorchs():
    # np.split(x, 2) makes two parts, split(x, 2) parts of two.
    with pytest.raises(TypeError, match=r"no implementation found for 'numpy\.split'"):
        np.split(opgrad.ones(6), 2)


def test_an_array_that_is_written_to_from_a_tensor_is_told_how():
    p = leaf([1.0, 2.0])
    (p * p).sum().backward()
    with pytest.raises(TypeError, match=r"np\.subtract: .*p\.grad\.data.*no_grad\(\)"):
        p.data -= 0.1 * p.grad
    p.data -= 0.1 * p.grad.data
    np.testing.assert_allclose(p.data, [0.8, 1.6], rtol=1e-15)
