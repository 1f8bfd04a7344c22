"""The functions that make tensors: their dtypes, shapes, memory and history."""

from __future__ import annotations

import numpy as np
import pytest

import opgrad
from opgrad import GraphError

FLOATING = ["float16", "float32", "float64"]


@pytest.fixture(params=["float32", "float64"])
def default(request):
    """Run the test with each of these as the default dtype."""
    before = opgrad.get_default_dtype()
    opgrad.set_default_dtype(request.param)
    yield np.dtype(request.param)
    opgrad.set_default_dtype(before)


class TestDefaultDtype:
    def test_is_float64_as_in_numpy(self):
        assert opgrad.get_default_dtype() == opgrad.float64

    @pytest.mark.parametrize(
        "make",
        [
            lambda: opgrad.tensor(1.5),
            lambda: opgrad.tensor([1, 2.5]),
            lambda: opgrad.tensor([]),
            lambda: opgrad.asarray([1.5]),
            lambda: opgrad.zeros(2),
            lambda: opgrad.ones(2),
            lambda: opgrad.full((2,), 1.5),
            lambda: opgrad.arange(0.5, 3),
            lambda: opgrad.arange(0, 3, 0.5),
            lambda: opgrad.linspace(0, 1, 3),
            lambda: opgrad.eye(2),
            lambda: opgrad.zeros_like([1.5]),
            lambda: opgrad.rand(2),
            lambda: opgrad.randn(2),
        ],
    )
    def test_is_what_python_floats_and_fillings_get(self, default, make):
        assert make().dtype == default

    @pytest.mark.parametrize(
        "make",
        [
            lambda: opgrad.tensor(1 + 2j),
            lambda: opgrad.tensor([1, 2j]),
            lambda: opgrad.full((2,), 1j),
            lambda: opgrad.linspace(0, 1j, 3),
        ],
    )
    def test_decides_the_complex_one_too(self, default, make):
        assert make().dtype == np.result_type(default, np.complex64)

    def test_does_not_touch_integers_and_bools(self, default):
        assert opgrad.tensor([1, 2]).dtype == opgrad.int64
        assert opgrad.tensor(True).dtype == opgrad.bool
        assert opgrad.arange(3).dtype == opgrad.int64
        assert opgrad.full((2,), 7).dtype == opgrad.int64

    @pytest.mark.parametrize("dtype", ["int8", "uint16", *FLOATING, "complex64", "bool"])
    def test_does_not_touch_arrays_scalars_and_tensors(self, default, dtype):
        array = np.ones(2, dtype)
        for make in (opgrad.tensor, opgrad.asarray, opgrad.zeros_like, opgrad.ones_like):
            assert make(array).dtype == dtype
            assert make(opgrad.tensor(array)).dtype == dtype
            assert make(array[0]).dtype == dtype
        assert opgrad.full((2,), array[0]).dtype == dtype
        assert opgrad.full((2,), opgrad.tensor(array[0])).dtype == dtype

    def test_gives_way_to_an_explicit_dtype(self, default):
        for dtype in ("int32", "float16", np.float64, opgrad.complex64, float):
            assert opgrad.tensor([1.5], dtype=dtype).dtype == np.dtype(dtype)
            assert opgrad.zeros(2, dtype=dtype).dtype == np.dtype(dtype)

    @pytest.mark.parametrize("dtype", ["int64", "complex128", "bool"])
    def test_must_be_floating(self, dtype):
        with pytest.raises(TypeError, match=rf"set_default_dtype: got {dtype}; expected .*float"):
            opgrad.set_default_dtype(dtype)
        assert opgrad.get_default_dtype() == opgrad.float64


class TestTensor:
    @pytest.mark.parametrize(
        "data",
        [3, 2.5, True, 1j, [1, 2], (1.5, 2), [[1], [2]], [], [[]], range(3), np.float32(1)],
    )
    def test_holds_what_numpy_would(self, data):
        made = opgrad.tensor(data)
        expected = np.array(data)
        assert (made.shape, made.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(made.numpy(), expected)
        assert made.is_leaf

    @pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
    def test_copies_an_array(self, shape):
        array = np.ones(shape)
        made = opgrad.tensor(array)
        array[...] = 7
        assert (made.numpy() == 1).all()

    def test_copies_a_tensor(self):
        first = opgrad.tensor([1.0, 2.0])
        second = opgrad.tensor(first)
        first.zero_()
        np.testing.assert_array_equal(second.numpy(), [1, 2])

    def test_warns_that_a_copy_has_no_history(self):
        a = opgrad.ones(2, requires_grad=True)
        with pytest.warns(UserWarning, match=r"tensor: .*detach\(\)\.clone\(\)"):
            copy = opgrad.tensor(a * 2)
        assert not copy.requires_grad

    def test_stacks_tensors_that_require_no_grad(self):
        made = opgrad.tensor([opgrad.tensor([1.0, 2.0]), opgrad.tensor([3.0, 4.0])])
        np.testing.assert_array_equal(made.numpy(), [[1, 2], [3, 4]])

    def test_refuses_to_lose_the_gradient_of_those_that_do(self):
        with pytest.raises(GraphError, match="requires grad would lose the gradient"):
            opgrad.tensor([opgrad.ones((), requires_grad=True), opgrad.ones(())])

    @pytest.mark.parametrize("data", ["text", [None], [object()], np.array(["a"]), {"a": 1}])
    def test_refuses_what_is_no_number(self, data):
        with pytest.raises(TypeError, match=r"data of dtype .*; expected booleans or numbers"):
            opgrad.tensor(data)

    @pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
    @pytest.mark.parametrize(
        "make",
        [
            lambda dtype: opgrad.tensor([1], dtype=dtype, requires_grad=True),
            lambda dtype: opgrad.ones(2, dtype=dtype, requires_grad=True),
            lambda dtype: opgrad.arange(2, dtype=dtype, requires_grad=True),
            lambda dtype: opgrad.zeros_like([1.0], dtype=dtype, requires_grad=True),
            lambda dtype: opgrad.zeros(2, dtype=dtype).requires_grad_(),
        ],
    )
    def test_refuses_grad_where_there_is_none(self, make, dtype):
        match = rf"requires_grad: .* dtype is {dtype}; only floating and complex.*opgrad\.float64"
        with pytest.raises(TypeError, match=match):
            make(dtype)


class TestAsarray:
    def test_returns_a_tensor_as_it_is(self):
        a = opgrad.ones(2, requires_grad=True)
        result = a * 2
        assert opgrad.asarray(a) is a
        assert opgrad.asarray(result) is result
        assert opgrad.asarray(result, dtype=result.dtype, copy=False) is result

    @pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
    def test_shares_the_memory_of_an_array(self, shape):
        array = np.ones(shape)
        made = opgrad.asarray(array)
        array[...] = 7
        assert (made.numpy() == 7).all()
        assert np.shares_memory(made.data, array)

    def test_copies_an_array_if_told_to(self):
        array = np.ones(3)
        assert not np.shares_memory(opgrad.asarray(array, copy=True).data, array)

    @pytest.mark.parametrize("dtype", ["float32", None])
    @pytest.mark.parametrize("copy", [True, None])
    def test_keeps_the_graph_through_a_cast_or_copy(self, copy, dtype):
        a = opgrad.tensor([1.0, 2.0], requires_grad=True)
        made = opgrad.asarray(a, dtype=dtype, copy=copy)
        assert np.shares_memory(made.data, a.data) is (copy is dtype is None)
        (made * 3).sum().backward()
        np.testing.assert_array_equal(a.grad.numpy(), [3, 3])
        assert a.grad.dtype == opgrad.float64

    def test_refuses_a_cast_without_a_copy(self):
        with pytest.raises(ValueError, match="asarray: cannot make float32 of float64 without"):
            opgrad.asarray(opgrad.ones(2), dtype="float32", copy=False)
        with pytest.raises(ValueError, match="avoid copy"):
            opgrad.asarray([1.0], copy=False)

    def test_refuses_what_is_no_number(self):
        with pytest.raises(TypeError, match="expected booleans or numbers"):
            opgrad.asarray("text")


class TestShapes:
    MAKERS = (opgrad.zeros, opgrad.ones, opgrad.rand, opgrad.randn)

    @pytest.mark.parametrize("make", MAKERS)
    @pytest.mark.parametrize(
        ("given", "shape"),
        [
            ((), ()),
            (((),), ()),
            ((3,), (3,)),
            (((3,),), (3,)),
            ((2, 3), (2, 3)),
            (((2, 3),), (2, 3)),
            (([2, 3],), (2, 3)),
            ((np.array([2, 3]),), (2, 3)),
            ((np.int64(2), opgrad.tensor(3)), (2, 3)),
            ((0, 3), (0, 3)),
        ],
    )
    def test_are_numbers_or_one_tuple(self, make, given, shape):
        assert make(*given).shape == shape

    @pytest.mark.parametrize(("given", "shape"), [(3, (3,)), ((), ()), ([2, 3], (2, 3))])
    def test_of_full_are_a_number_or_a_tuple(self, given, shape):
        assert opgrad.full(given, 1.0).shape == shape

    @pytest.mark.parametrize("make", MAKERS)
    @pytest.mark.parametrize("given", [(2.5,), ((2, 3.5),), ("ab",), (None,), ((2, 3), 4)])
    def test_that_are_no_whole_numbers_are_refused(self, make, given):
        with pytest.raises(TypeError, match=r"shape: got .*; expected whole numbers"):
            make(*given)

    @pytest.mark.parametrize("make", MAKERS)
    def test_below_zero_are_refused(self, make):
        with pytest.raises(ValueError, match="negative dimensions"):
            make(-1)


class TestValues:
    @pytest.mark.parametrize("dtype", [None, "float32", "int16", "complex64"])
    def test_are_those_of_numpy(self, dtype):
        for made, expected in [
            (opgrad.zeros(2, 3, dtype=dtype), np.zeros((2, 3), dtype)),
            (opgrad.ones(2, 3, dtype=dtype), np.ones((2, 3), dtype)),
            (opgrad.full((2,), 1.5, dtype=dtype), np.full((2,), 1.5, dtype)),
            (opgrad.arange(5, dtype=dtype), np.arange(5, dtype=dtype)),
            (opgrad.arange(2, 9, 3, dtype=dtype), np.arange(2, 9, 3, dtype=dtype)),
            (opgrad.arange(5, 0, -2, dtype=dtype), np.arange(5, 0, -2, dtype=dtype)),
            (opgrad.linspace(0, 4, 5, dtype=dtype), np.linspace(0, 4, 5, dtype=dtype)),
            (opgrad.eye(3, dtype=dtype), np.eye(3, dtype=dtype or float)),
            (opgrad.eye(2, 4, k=1, dtype=dtype), np.eye(2, 4, 1, dtype=dtype or float)),
        ]:
            assert (made.shape, made.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_array_equal(made.numpy(), expected)

    def test_of_a_range_are_exact_at_both_ends(self):
        np.testing.assert_array_equal(opgrad.linspace(0, 1, 11).numpy(), np.linspace(0, 1, 11))
        without_end = opgrad.linspace(0, 1, 10, endpoint=False).numpy()
        np.testing.assert_array_equal(without_end, np.linspace(0, 1, 10, endpoint=False))
        np.testing.assert_array_equal(opgrad.linspace(0, 2j, 3).numpy(), [0, 1j, 2j])

    def test_to_fill_with_may_be_a_tensor_without_history(self):
        np.testing.assert_array_equal(opgrad.full((2,), opgrad.tensor(1.5)).numpy(), [1.5, 1.5])
        made = opgrad.full_like([1.0, 2.0], opgrad.tensor(1.5))
        np.testing.assert_array_equal(made.numpy(), [1.5, 1.5])
        with pytest.raises(GraphError, match="requires grad would lose the gradient"):
            opgrad.full((2,), opgrad.tensor(1.5, requires_grad=True))

    def test_can_be_leaves(self):
        for made in (
            opgrad.zeros(2, requires_grad=True),
            opgrad.ones(2, requires_grad=True),
            opgrad.full((2,), 1.5, requires_grad=True),
            opgrad.arange(2.0, requires_grad=True),
            opgrad.linspace(0, 1, 2, requires_grad=True),
            opgrad.eye(2, requires_grad=True),
            opgrad.zeros_like([1.0], requires_grad=True),
            opgrad.ones_like([1.0], requires_grad=True),
            opgrad.full_like([1.0], 2, requires_grad=True),
            opgrad.rand(2, requires_grad=True),
            opgrad.randn(2, requires_grad=True),
            opgrad.rand_like([1.0], requires_grad=True),
            opgrad.randn_like([1.0], requires_grad=True),
        ):
            assert made.requires_grad
            assert made.is_leaf


LIKE = {
    "zeros_like": opgrad.zeros_like,
    "ones_like": opgrad.ones_like,
    "full_like": lambda x, **kwargs: opgrad.full_like(x, 2.5, **kwargs),
    "rand_like": opgrad.rand_like,
    "randn_like": opgrad.randn_like,
}


@pytest.mark.parametrize("make", LIKE.values(), ids=LIKE)
class TestLike:
    @pytest.mark.parametrize("dtype", [*FLOATING, "complex64"])
    def test_takes_shape_and_dtype_from_a_tensor_or_an_array(self, make, dtype):
        array = np.ones((2, 3), dtype)
        for given in (array, opgrad.tensor(array)):
            made = make(given)
            assert (made.shape, made.dtype) == ((2, 3), np.dtype(dtype))

    def test_takes_them_from_python_numbers(self, make):
        made = make([[1.5, 2.5]])
        assert (made.shape, made.dtype) == ((1, 2), opgrad.float64)

    def test_takes_another_dtype(self, make):
        assert make(opgrad.ones(2), dtype="float32").dtype == opgrad.float32

    def test_shares_neither_memory_nor_history(self, make):
        a = opgrad.ones(2, requires_grad=True)
        made = make(a * 2)
        assert not made.requires_grad
        made.data[...] = 9
        np.testing.assert_array_equal(a.data, [1, 1])


def test_what_like_fills_in():
    like = opgrad.tensor([[1, 2]])
    np.testing.assert_array_equal(opgrad.zeros_like(like).numpy(), [[0, 0]])
    np.testing.assert_array_equal(opgrad.ones_like(like).numpy(), [[1, 1]])
    np.testing.assert_array_equal(opgrad.full_like(like, 7).numpy(), [[7, 7]])


class TestRandomNumbers:
    @pytest.mark.parametrize("make", [opgrad.rand, opgrad.randn])
    def test_follow_from_the_seed(self, make):
        opgrad.manual_seed(1)
        first, second = make(3, 2).numpy(), make(3, 2).numpy()
        assert (first != second).all()
        opgrad.manual_seed(1)
        np.testing.assert_array_equal(make(3, 2).numpy(), first)
        np.testing.assert_array_equal(make(3, 2).numpy(), second)
        opgrad.manual_seed(2)
        assert (make(3, 2).numpy() != first).all()

    def test_are_those_of_numpys_generator(self):
        opgrad.manual_seed(7)
        expected = np.random.default_rng(7)
        np.testing.assert_array_equal(opgrad.rand(3).numpy(), expected.random(3))
        np.testing.assert_array_equal(opgrad.randn(3).numpy(), expected.standard_normal(3))

    def test_come_from_the_generator_that_manual_seed_returns(self):
        generator = opgrad.manual_seed(7)
        state = generator.bit_generator.state
        first = opgrad.rand(3).numpy()
        generator.bit_generator.state = state
        np.testing.assert_array_equal(opgrad.rand(3).numpy(), first)

    @pytest.mark.parametrize("dtype", [*FLOATING, "complex64", "complex128"])
    def test_uniform_ones_are_at_least_0_and_less_than_1_after_rounding(self, dtype):
        opgrad.manual_seed(0)
        numbers = opgrad.rand(100_000, dtype=dtype).numpy()
        for part in [numbers] if dtype in FLOATING else [numbers.real, numbers.imag]:
            assert part.min() >= 0
            assert part.max() < 1
            assert part.astype(float).mean() == pytest.approx(1 / 2, abs=0.01)
            assert part.astype(float).var() == pytest.approx(1 / 12, abs=0.01)

    @pytest.mark.parametrize("dtype", FLOATING)
    def test_normal_ones_have_mean_0_and_variance_1(self, dtype):
        opgrad.manual_seed(0)
        numbers = opgrad.randn(100_000, dtype=dtype).numpy().astype(float)
        assert numbers.mean() == pytest.approx(0, abs=0.02)
        assert numbers.var() == pytest.approx(1, abs=0.02)

    def test_complex_normal_ones_share_the_variance_between_their_parts(self):
        opgrad.manual_seed(0)
        numbers = opgrad.randn(100_000, dtype="complex128").numpy()
        assert numbers.real.var() == pytest.approx(1 / 2, abs=0.01)
        assert numbers.imag.var() == pytest.approx(1 / 2, abs=0.01)
        assert np.mean(numbers.real * numbers.imag) == pytest.approx(0, abs=0.01)

    @pytest.mark.parametrize("dtype", ["int64", "bool"])
    @pytest.mark.parametrize("make", [opgrad.rand, opgrad.randn])
    def test_are_not_whole(self, make, dtype):
        with pytest.raises(TypeError, match=rf"{make.__name__}: got dtype {dtype}; expected a fl"):
            make(2, dtype=dtype)
        like = opgrad.rand_like if make is opgrad.rand else opgrad.randn_like
        with pytest.raises(TypeError, match=rf"{make.__name__}: got dtype {dtype}; expected a fl"):
            like(opgrad.zeros(2, dtype=dtype))


class TestRangesOfTensors:
    """Ends that are tensors count as the numbers that they are."""

    def test_linspace(self):
        for found in (
            opgrad.linspace(0, opgrad.tensor(3.0), 4),
            opgrad.linspace(opgrad.tensor(0), opgrad.tensor(3.0), 4),
            np.linspace(0, opgrad.tensor(3.0), 4),
        ):
            np.testing.assert_array_equal(found.data, np.linspace(0, 3, 4))

    def test_arange(self):
        found = opgrad.arange(opgrad.tensor(1), opgrad.tensor(4.5), opgrad.tensor(0.5))
        np.testing.assert_array_equal(found.data, np.arange(1, 4.5, 0.5))

    def test_of_what_requires_grad_are_refused(self):
        with pytest.raises(opgrad.GraphError, match="requires grad"):
            opgrad.linspace(0, opgrad.tensor(3.0, requires_grad=True), 4)

    def test_of_examples_are_refused_but_in_a_loop(self):
        f = opgrad.func.vmap(lambda a: opgrad.linspace(0, a, 4))
        with pytest.raises(opgrad.BatchError, match="loop=True"):
            f(np.ones(2))
        found = opgrad.func.vmap(lambda a: opgrad.linspace(0, a, 4), loop=True)(np.array([1.0, 3]))
        np.testing.assert_array_equal(found, [np.linspace(0, 1, 4), np.linspace(0, 3, 4)])
