"""How a tensor prints, rule by rule.

The literals are what PyTorch 2.13 prints for the same numbers, with ``opgrad.`` for ``torch.``;
the tests of parity at the end compare the two directly.
"""

from __future__ import annotations

import textwrap
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opgrad.printing import tensor_format, tensor_repr

nan, inf = np.nan, np.inf


def show(data, dtype=None, *, default="float64", **state):
    return tensor_repr(np.asarray(data, dtype), default_dtype=np.dtype(default), **state)


def text(literal):
    return textwrap.dedent(literal).strip()


class TestFloats:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (3.0, "tensor(3.)"),
            ([1, 1000], "tensor([   1., 1000.])"),
            ([0, -0.0], "tensor([0., -0.])"),
            (1e8, "tensor(100000000.)"),
        ],
    )
    def test_print_a_bare_point_if_all_are_integral(self, data, expected):
        assert show(data, float) == expected

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (0.5, "tensor(0.5000)"),
            ([1, 1.5, -20], "tensor([  1.0000,   1.5000, -20.0000])"),
            ([99999.5, 500], "tensor([99999.5000,   500.0000])"),
            ([1e-4, 0.05], "tensor([0.0001, 0.0500])"),
        ],
    )
    def test_print_four_decimals_otherwise(self, data, expected):
        assert show(data) == expected

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            ([1, 1001], "tensor([1.0000e+00, 1.0010e+03])"),
            ([1e8 + 1], "tensor([1.0000e+08])"),
            ([9e-5], "tensor([9.0000e-05])"),
            ([0, -9e-5], "tensor([ 0.0000e+00, -9.0000e-05])"),
            ([1e300, 1e-300], "tensor([1.0000e+300, 1.0000e-300])"),
        ],
    )
    def test_print_an_exponent_if_spread_beyond_1000_or_above_1e8_or_below_1e_4(
        self, data, expected
    ):
        assert show(data, float) == expected

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            ([0, nan], "tensor([0., nan])"),
            ([1, -inf, nan], "tensor([1., -inf, nan])"),
            ([1, 0.5, nan, -inf], "tensor([1.0000, 0.5000,    nan,   -inf])"),
            ([0.5, -0.0], "tensor([0.5000, -0.0000])"),
            (-inf, "tensor(-inf)"),
        ],
    )
    def test_neither_nan_nor_inf_nor_zero_counts_for_style_and_width(self, data, expected):
        assert show(data, float) == expected

    def test_of_lower_precision_print_by_the_same_rules(self):
        assert show([0.1], "float32") == "tensor([0.1000], dtype=opgrad.float32)"
        assert (
            show([1.5, 65504], "float16")
            == "tensor([1.5000e+00, 6.5504e+04], dtype=opgrad.float16)"
        )


class TestIntegersAndBools:
    @pytest.mark.parametrize(
        ("data", "dtype", "expected"),
        [
            (7, "int64", "tensor(7)"),
            ([1, -200], "int64", "tensor([   1, -200])"),
            ([255, 0], "uint8", "tensor([255,   0], dtype=opgrad.uint8)"),
            (2**64 - 1, "uint64", "tensor(18446744073709551615, dtype=opgrad.uint64)"),
            (True, "bool", "tensor(True)"),
            ([True, False], "bool", "tensor([ True, False])"),
        ],
    )
    def test_print_plainly_and_right_justified(self, data, dtype, expected):
        assert show(data, dtype) == expected


class TestComplex:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (1 + 2j, "tensor(1.+2.j)"),
            ([1 + 2j, complex(-3.5, -0.0)], "tensor([ 1.0000+2.j, -3.5000-0.j])"),
            ([1e-9 + 2j], "tensor([1.0000e-09+2.j])"),
            ([complex(nan, -inf), 2.5 + 1j], "tensor([   nan-infj, 2.5000+1.j])"),
        ],
    )
    def test_each_part_has_its_own_style(self, data, expected):
        assert show(data) == expected

    def test_imaginary_parts_are_not_justified(self):
        assert show([1.5 - 2j, -20.25 + 100j]) == "tensor([  1.5000-2.j, -20.2500+100.j])"


class TestBracketsAndLines:
    def test_axes_are_nested_brackets_with_blank_lines_between_matrices(self):
        assert show(np.arange(16.0).reshape(2, 2, 2, 2)) == text("""
            tensor([[[[ 0.,  1.],
                      [ 2.,  3.]],

                     [[ 4.,  5.],
                      [ 6.,  7.]]],


                    [[[ 8.,  9.],
                      [10., 11.]],

                     [[12., 13.],
                      [14., 15.]]]])
        """)

    def test_a_row_wraps_at_column_80(self):
        assert show(np.arange(26) + 0.5) == text("""
            tensor([ 0.5000,  1.5000,  2.5000,  3.5000,  4.5000,  5.5000,  6.5000,  7.5000,
                     8.5000,  9.5000, 10.5000, 11.5000, 12.5000, 13.5000, 14.5000, 15.5000,
                    16.5000, 17.5000, 18.5000, 19.5000, 20.5000, 21.5000, 22.5000, 23.5000,
                    24.5000, 25.5000])
        """)

    def test_complex_rows_wrap_by_the_width_of_both_parts_without_the_j(self):
        assert show(np.full(12, 1 + 1j)) == text("""
            tensor([1.+1.j, 1.+1.j, 1.+1.j, 1.+1.j, 1.+1.j, 1.+1.j, 1.+1.j, 1.+1.j, 1.+1.j, 1.+1.j,
                    1.+1.j, 1.+1.j])
        """)

    def test_the_layout_in_memory_does_not_show(self):
        reverse, transpose = np.arange(6)[::-1], np.arange(6).reshape(3, 2).T
        assert show(reverse) == "tensor([5, 4, 3, 2, 1, 0])"
        assert show(transpose) == "tensor([[0, 2, 4],\n        [1, 3, 5]])"


class TestSummary:
    def test_starts_beyond_1000_elements(self):
        assert "..." not in show(np.arange(1000))
        assert show(np.arange(1001)) == "tensor([   0,    1,    2,  ...,  998,  999, 1000])"

    def test_shortens_every_axis_longer_than_6(self):
        assert show(np.arange(1400).reshape(7, 200)) == text("""
            tensor([[   0,    1,    2,  ...,  197,  198,  199],
                    [ 200,  201,  202,  ...,  397,  398,  399],
                    [ 400,  401,  402,  ...,  597,  598,  599],
                    ...,
                    [ 800,  801,  802,  ...,  997,  998,  999],
                    [1000, 1001, 1002,  ..., 1197, 1198, 1199],
                    [1200, 1201, 1202,  ..., 1397, 1398, 1399]])
        """)

    def test_leaves_shorter_axes_whole(self):
        assert show(np.arange(1002).reshape(6, 167)) == text("""
            tensor([[   0,    1,    2,  ...,  164,  165,  166],
                    [ 167,  168,  169,  ...,  331,  332,  333],
                    [ 334,  335,  336,  ...,  498,  499,  500],
                    [ 501,  502,  503,  ...,  665,  666,  667],
                    [ 668,  669,  670,  ...,  832,  833,  834],
                    [ 835,  836,  837,  ...,  999, 1000, 1001]])
        """)
        assert show(np.arange(1002).reshape(2, 501)) == text("""
            tensor([[   0,    1,    2,  ...,  498,  499,  500],
                    [ 501,  502,  503,  ...,  999, 1000, 1001]])
        """)
        assert show(np.arange(1002).reshape(501, 2)) == text("""
            tensor([[   0,    1],
                    [   2,    3],
                    [   4,    5],
                    ...,
                    [ 996,  997],
                    [ 998,  999],
                    [1000, 1001]])
        """)

    def test_the_dots_wrap_like_an_element(self):
        data = np.arange(1001) / 7
        assert show(data) == text("""
            tensor([0.0000e+00, 1.4286e-01, 2.8571e-01,  ..., 1.4257e+02, 1.4271e+02,
                    1.4286e+02])
        """)

    def test_only_what_is_shown_decides_the_style(self):
        data = np.ones(1001)
        data[500] = 1e-9
        assert show(data) == "tensor([1., 1., 1.,  ..., 1., 1., 1.])"

    def test_only_what_is_shown_is_read(self):
        eight_terabytes = np.broadcast_to(1.5, (10**6, 10**6))
        assert show(eight_terabytes).count("1.5000") == 36


class TestEmpty:
    @pytest.mark.parametrize(
        ("shape", "dtype", "expected"),
        [
            (0, "float64", "tensor([])"),
            ((0, 3), "float64", "tensor([], size=(0, 3))"),
            ((2, 0), "float32", "tensor([], size=(2, 0), dtype=opgrad.float32)"),
        ],
    )
    def test_prints_its_size_unless_1d(self, shape, dtype, expected):
        assert show(np.zeros(shape, dtype)) == expected

    @pytest.mark.parametrize("dtype", ["int64", "bool", "complex128"])
    def test_prints_a_dtype_that_its_elements_would_have_told(self, dtype):
        assert show(np.zeros(0, dtype)) == f"tensor([], dtype=opgrad.{dtype})"
        assert show(np.zeros(1, dtype)).count("dtype") == 0


class TestSuffixes:
    @pytest.mark.parametrize(
        ("dtype", "default", "expected"),
        [
            ("float64", "float64", "tensor([1.])"),
            ("complex128", "float64", "tensor([1.+0.j])"),
            ("float64", "float32", "tensor([1.], dtype=opgrad.float64)"),
            ("complex128", "float32", "tensor([1.+0.j], dtype=opgrad.complex128)"),
            ("float32", "float32", "tensor([1.])"),
            ("complex64", "float32", "tensor([1.+0.j])"),
            ("complex64", "float64", "tensor([1.+0.j], dtype=opgrad.complex64)"),
            ("int64", "float32", "tensor([1])"),
            ("int32", "float64", "tensor([1], dtype=opgrad.int32)"),
            ("bool", "float32", "tensor([True])"),
        ],
    )
    def test_dtype_unless_it_is_implied(self, dtype, default, expected):
        assert show([1], dtype, default=default) == expected

    def test_requires_grad_for_a_leaf(self):
        assert show([3.0], requires_grad=True) == "tensor([3.], requires_grad=True)"

    @pytest.mark.parametrize("requires_grad", [True, False])
    def test_grad_fn_takes_the_place_of_requires_grad(self, requires_grad):
        shown = show([45.0], grad_fn="MulBackward0", requires_grad=requires_grad)
        assert shown == "tensor([45.], grad_fn=<MulBackward0>)"

    def test_come_in_the_order_size_dtype_grad(self):
        assert show(np.zeros((0, 2)), "float32", requires_grad=True) == (
            "tensor([], size=(0, 2), dtype=opgrad.float32, requires_grad=True)"
        )

    def test_follow_the_last_line(self):
        assert show([[1.0], [2.0]], requires_grad=True) == text("""
            tensor([[1.],
                    [2.]], requires_grad=True)
        """)

    def test_move_to_a_new_line_where_they_would_pass_column_80(self):
        assert show(np.zeros(12), requires_grad=True) == (
            "tensor([0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0.], requires_grad=True)"
        )
        assert show(np.zeros(13), requires_grad=True) == text("""
            tensor([0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0.],
                   requires_grad=True)
        """)
        assert show(np.zeros(13), "float32", requires_grad=True) == text("""
            tensor([0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0.],
                   dtype=opgrad.float32, requires_grad=True)
        """)


class TestFormat:
    @pytest.mark.parametrize(
        ("data", "spec", "expected"),
        [
            (2 / 3, ".3f", "0.667"),
            (3.0, "", "3.0"),
            (1 + 2j, ".1f", "1.0+2.0j"),
            (42, ">5", "   42"),
            (True, "", "True"),
        ],
    )
    def test_of_a_0d_tensor_is_that_of_its_number(self, data, spec, expected):
        assert tensor_format(np.asarray(data), spec) == expected

    def test_of_any_other_without_specification_is_left_to_repr(self):
        assert tensor_format(np.ones(1), "") == ""

    def test_of_any_other_with_specification_is_refused(self):
        with pytest.raises(TypeError, match=r"'\.2f' .* shape \(\).* got shape \(2, 3\)\. .*one"):
            tensor_format(np.ones((2, 3)), ".2f")


WHOLE = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
INEXACT = ["float16", "float32", "float64", "complex64", "complex128"]

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=12) | st.sampled_from(
    [(1000,), (1001,), (7, 143), (6, 200), (200, 6), (3, 7, 50), (7, 3, 60), (6, 6, 6, 6)]
)

EDGES = st.sampled_from([0, -0.0, nan, inf, -inf, 1, 1000, 1001, 1e8, 1e8 + 1, 1e-4, 9e-5])

FAMILIES = [
    st.integers(-2000, 2000).map(float),
    st.integers(-(10**9), 10**9).map(float),
    st.floats(-10, 10).map(lambda x: round(x, 3)),
    st.floats(),
    EDGES,
    EDGES | st.floats(0.5, 100),
]


@st.composite
def arrays(draw):
    """Any shape, dtype and kind of numbers; a large array repeats a few of them."""
    dtype = np.dtype(draw(st.sampled_from(WHOLE + INEXACT)))
    if dtype.name in WHOLE:
        numbers = draw(st.lists(hnp.from_dtype(dtype), min_size=1, max_size=30))
    else:
        family = draw(st.sampled_from(FAMILIES))
        numbers = draw(st.lists(family, min_size=2, max_size=30))
    if dtype.kind == "c":
        numbers = [complex(*pair) for pair in pairwise(numbers)]
    with np.errstate(over="ignore"):  # beyond the range of the smaller dtypes: inf
        return np.resize(np.array(numbers, dtype), draw(SHAPES))


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="parity is tested against an installed PyTorch")


@pytest.fixture(scope="module", params=["float64", "float32"])
def default(torch, request):
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, request.param))
    yield request.param
    torch.set_default_dtype(before)


@pytest.mark.parity
class TestParity:
    @given(data=arrays(), grad=st.booleans())
    @settings(max_examples=300, deadline=None)
    def test_any_array_prints_as_in_torch(self, torch, default, data, grad):
        grad = grad and data.dtype.name in INEXACT
        expected = torch.from_numpy(data.copy()).requires_grad_(grad)
        assert show(data, default=default, requires_grad=grad) == spelt_ours(expected)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("length", [0, 1, 9, 12, 13, 18, 19])
    def test_suffixes_move_where_they_move_in_torch(self, torch, default, dtype, length):
        data = np.zeros(length, dtype)
        for letters in range(1, 60):
            result = identity(torch, "F" * letters).apply(torch.from_numpy(data).requires_grad_())
            shown = show(data, default=default, grad_fn=f"{'F' * letters}Backward")
            assert shown == spelt_ours(result)


def spelt_ours(tensor):
    return repr(tensor).replace("torch.", "opgrad.")


def identity(torch, name):
    """Make the identity as an operator of PyTorch whose node is called ``<name>Backward``."""
    methods = {"forward": lambda ctx, x: x.clone(), "backward": lambda ctx, grad: grad}
    return type(name, (torch.autograd.Function,), {k: staticmethod(f) for k, f in methods.items()})
