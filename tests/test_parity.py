"""What opgrad and PyTorch have in common, stated as programs that run on both.

A program takes the library, ``opgrad`` or ``torch``, and returns what a user sees: tensors,
numbers, names, flags, in any nesting. Both must return the same.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import opgrad

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch", reason="parity is tested against an installed PyTorch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


def assert_same(ours, theirs):
    if isinstance(ours, tuple | list):
        for our, their in zip(ours, theirs, strict=True):
            assert_same(our, their)
    elif hasattr(ours, "requires_grad"):
        assert facts(ours) == facts(theirs)
        assert_same(ours.detach().numpy(), theirs.detach().numpy())
    elif isinstance(ours, np.ndarray):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)
    else:
        assert ours == theirs


def facts(tensor):
    """Return what there is to know of a tensor beside its data."""
    node = tensor.grad_fn and tensor.grad_fn.name()
    return tensor.requires_grad, tensor.is_leaf, tuple(tensor.shape), node


def leaf(lib, data):
    return lib.tensor(data, requires_grad=True)


PROGRAMS = []
FAILURES = []


def same(program):
    PROGRAMS.append(program)
    return program


def fails(program):
    FAILURES.append(program)
    return program


def by_name(program):
    return program.__name__


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
class TestPrograms:
    # The lists are complete when the module has been read: see the end.
    def test_do_the_same(self, torch, program):
        assert_same(program(opgrad), program(torch))

    def test_fail_in_both(self, torch, failure):
        with pytest.raises((RuntimeError, TypeError, ValueError, IndexError)):
            failure(torch)
        with pytest.raises((RuntimeError, TypeError, ValueError, IndexError)):
            failure(opgrad)


def pytest_generate_tests(metafunc):
    for name, programs in [("program", PROGRAMS), ("failure", FAILURES)]:
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, programs, ids=by_name)


# ------------------------------------------------------------------------- accumulation


@same
def gradients_add_up_in_the_same_tensor(lib):
    a = leaf(lib, [3.0, 4.0])
    (a * a).sum().backward()
    first = a.grad
    (a**3).sum().backward()
    return a.grad, a.grad is first


@same
def a_gradient_set_to_none_starts_anew(lib):
    a = leaf(lib, [3.0])
    (a * a).backward()
    first, a.grad = a.grad, None
    (a * a).backward()
    return first, a.grad, a.grad is first


@same
def an_assigned_gradient_is_added_to(lib):
    a = leaf(lib, [3.0])
    a.grad = given = lib.tensor([10.0])
    (a * a).backward()
    return given, a.grad is given


@same
def the_gradient_passed_in_stays_as_it_is(lib):
    a, passed = leaf(lib, [3.0, 4.0]), lib.tensor([1.0, 2.0])
    for _ in range(2):
        (a + 0).backward(passed)
    return a.grad, passed


@same
def results_have_no_gradient(lib):
    a = leaf(lib, [3.0])
    middle = a * a
    (middle * 2).backward()
    return a.grad, middle.grad


@same
def a_leaf_is_its_own_gradient_function(lib):
    a = leaf(lib, 3.0)
    a.backward()
    a.backward()
    return a.grad


@same
def one_element_of_any_shape_needs_no_gradient(lib):
    grads = []
    for shape in [(), (1,), (1, 1)]:
        a = lib.ones(shape, requires_grad=True)
        (a * 3).backward()
        grads.append(a.grad)
    return grads


@same
def several_outputs_go_back_at_once(lib):
    a = leaf(lib, [1.0, 2.0])
    lib.autograd.backward([a * 2, (a * a).sum()], [lib.tensor([1.0, 10.0]), None])
    return a.grad


@same
def one_output_takes_its_gradient_alone_or_in_a_sequence(lib):
    a, passed = leaf(lib, [1.0, 2.0]), lib.tensor([1.0, 10.0])
    lib.autograd.backward(a * 2, passed)
    lib.autograd.backward(a * 2, [passed])
    lib.autograd.backward([a * 2], passed)
    return a.grad, lib.autograd.grad(a * 2, a, passed), lib.autograd.grad([a * 2], [a], (passed,))


@same
def backward_works_under_no_grad(lib):
    a = leaf(lib, 3.0)
    result = a * a
    with lib.no_grad():
        result.backward()
    return a.grad


@same
def inputs_limit_a_pass(lib):
    a, b, c = leaf(lib, 2.0), leaf(lib, 3.0), leaf(lib, 4.0)
    (a * b).backward(inputs=[a, c])
    (a * b).backward(inputs=b)
    (a * a).backward(inputs=[a, a])
    return a.grad, b.grad, c.grad


@same
def inputs_may_be_results(lib):
    a = leaf(lib, 3.0)
    middle = a * a
    for _ in range(2):
        (middle * middle).backward(inputs=[middle], retain_graph=True)
    return a.grad, middle.grad


@same
def a_leaf_that_is_switched_off_gathers_nothing(lib):
    a = leaf(lib, 2.0)
    result = a * a
    result.backward(retain_graph=True)
    a.requires_grad_(False)
    result.backward(retain_graph=True)
    off = a.grad.clone()
    a.requires_grad_()
    result.backward()
    return off, a.grad


# ---------------------------------------------------------------------- freed and retained


@same
def what_saved_nothing_can_be_walked_twice(lib):
    a = leaf(lib, [1.0, 2.0])
    result = (a + a - 3).reshape(2, 1).sum()
    result.backward()
    result.backward()
    return a.grad


@same
def a_retained_graph_can_be_walked_again(lib):
    a = leaf(lib, [1.0, 2.0])
    result = (a * a).exp().sum()
    result.backward(retain_graph=True)
    result.backward()
    return a.grad


@same
def a_limited_pass_frees_only_what_it_walks(lib):
    a = leaf(lib, 3.0)
    below = a * a
    above = below * below
    lib.autograd.grad(above, below)
    below.backward()
    return a.grad


@same
def a_pass_may_stop_before_what_is_freed(lib):
    a = leaf(lib, 3.0)
    below = a * a
    above = below * below
    below.backward()
    return lib.autograd.grad(above, below)


@fails
def a_freed_graph(lib):
    result = leaf(lib, 3.0) ** 2
    result.backward()
    result.backward()


@fails
def a_graph_freed_in_spite_of_create_graph(lib):
    a = leaf(lib, 3.0)
    result = a * a
    lib.autograd.grad(result, a, create_graph=True, retain_graph=False)
    result.backward()


@fails
def a_freed_node_called_by_hand(lib):
    result = leaf(lib, 3.0) ** 2
    result.backward()
    result.grad_fn(lib.tensor(1.0))


# ------------------------------------------------------------------------ higher orders


@same
def gradients_of_gradients(lib):
    x, seen = leaf(lib, [2.0, 3.0]), []
    result = x**5
    for _ in range(4):
        (result,) = lib.autograd.grad(result.sum(), x, create_graph=True)
        seen.append(result)
    return seen


@same
def a_recorded_backward(lib):
    x = leaf(lib, [2.0])
    (x**3).backward(create_graph=True)
    first, x.grad = x.grad, None
    first.backward()
    return first.requires_grad, first.detach(), x.grad


@same
def a_plain_pass_into_a_recorded_gradient(lib):
    x = leaf(lib, [2.0])
    (x**3).backward(create_graph=True)
    recorded = x.grad
    (x**3).backward()
    return x.grad is recorded, recorded.item(), recorded.requires_grad


@same
def create_graph_wins_over_no_grad(lib):
    x = leaf(lib, 2.0)
    result = x**3
    with lib.no_grad():
        (first,) = lib.autograd.grad(result, x, create_graph=True)
    return first.requires_grad, lib.autograd.grad(first, x)


@same
def gradients_with_respect_to_what_was_passed_in(lib):
    x, passed = leaf(lib, [2.0, 3.0]), leaf(lib, [1.0, 1.0])
    (first,) = lib.autograd.grad(x**2, x, passed, create_graph=True)
    return lib.autograd.grad(first, [x, passed], lib.tensor([1.0, 10.0]))


# ------------------------------------------------------------------------- autograd.grad


@same
def grad_of_leaves_results_and_the_output_itself(lib):
    a = leaf(lib, 2.0)
    middle = a * a
    result = middle * 3
    return lib.autograd.grad(result, [result, middle, a, a]), a.grad


@same
def grad_of_an_unused_input(lib):
    a, unused = leaf(lib, 2.0), leaf(lib, [1.0, 2.0])
    return [
        lib.autograd.grad(a * a, [a, unused], allow_unused=True),
        lib.autograd.grad(a * a, [a, unused], materialize_grads=True),
    ]


@fails
def grad_of_an_unused_input_that_is_not_allowed(lib):
    lib.autograd.grad(leaf(lib, 2.0) * 2, leaf(lib, 3.0))


@fails
def grad_of_an_input_without_a_graph(lib):
    lib.autograd.grad(leaf(lib, 2.0) * 2, lib.tensor(3.0), allow_unused=True)


@fails
def grad_with_materialized_but_forbidden_unused_inputs(lib):
    a = leaf(lib, 2.0)
    lib.autograd.grad(a * a, a, allow_unused=False, materialize_grads=True)


@fails
def grad_with_too_few_gradients(lib):
    a = leaf(lib, [2.0])
    lib.autograd.grad([a * 2, a * 3], a, [lib.tensor([1.0])])


# ---------------------------------------------------------------------------- bad input


@fails
def backward_of_several_elements(lib):
    (leaf(lib, [1.0, 2.0]) * 2).backward()


@fails
def backward_of_no_elements(lib):
    lib.ones(0, requires_grad=True).backward()


@fails
def backward_of_a_complex_number(lib):
    (leaf(lib, 1j) * 2).backward()


@fails
def backward_with_a_gradient_of_another_shape(lib):
    (leaf(lib, [1.0, 2.0]) * 2).backward(lib.ones(3))


@fails
def backward_with_a_complex_gradient_of_a_real_output(lib):
    (leaf(lib, [1.0]) * 2).backward(lib.tensor([1j]))


@fails
def backward_without_a_graph(lib):
    lib.tensor(1.0).backward()


@fails
def backward_of_what_was_detached(lib):
    (leaf(lib, 1.0) * 2).detach().backward()


@fails
def backward_into_no_inputs(lib):
    (leaf(lib, 1.0) * 2).backward(inputs=[])


@fails
def grad_required_of_integers(lib):
    lib.tensor([1], requires_grad=True)


@fails
def grad_required_of_bools_later(lib):
    lib.tensor([True]).requires_grad_()


@fails
def a_result_that_shall_not_require_grad(lib):
    (leaf(lib, 1.0) * 2).requires_grad_(False)


@fails
def shapes_that_do_not_broadcast(lib):
    lib.ones(2, 3) * lib.ones(4)


@fails
def matrices_that_do_not_fit(lib):
    lib.ones(2, 3) @ lib.ones(2, 3)


@fails
def a_leaf_updated_in_place(lib):
    a = leaf(lib, 1.0)
    a += 1


@fails
def a_leaf_set_to_zero(lib):
    leaf(lib, 1.0).zero_()


@fails
def numpy_of_what_requires_grad(lib):
    leaf(lib, 1.0).numpy()


@fails
def an_array_of_what_requires_grad(lib):
    np.asarray(leaf(lib, 1.0) * 2)


@fails
def a_gradient_of_another_shape(lib):
    leaf(lib, 1.0).grad = lib.ones(2)


@fails
def a_gradient_of_another_dtype(lib):
    leaf(lib, 1.0).grad = lib.tensor(1.0, dtype=lib.float32)


@fails
def a_gradient_that_is_no_tensor(lib):
    leaf(lib, 1.0).grad = 1.0


@fails
def a_tensor_as_its_own_gradient(lib):
    a = leaf(lib, 1.0)
    a.grad = a


@fails
def the_item_of_several(lib):
    lib.ones(2).item()


@fails
def the_truth_of_several(lib):
    bool(lib.ones(2))


@fails
def the_length_of_a_number(lib):
    len(lib.tensor(1.0))


@fails
def iteration_over_a_number(lib):
    iter(lib.tensor(1.0))


@fails
def an_index_that_is_not_whole(lib):
    [1, 2][lib.tensor(1.0)]


@fails
def a_default_dtype_that_is_not_floating(lib):
    lib.set_default_dtype(lib.int64)


@fails
def random_integers_without_bounds(lib):
    lib.rand(2, dtype=lib.int64)


# -------------------------------------------------------------------------------- nodes


@same
def names_of_nodes(lib):
    a = leaf(lib, [0.5])
    results = [a + 1, a - 1, 2 * a, a / 2, -a, a**2, a**a, a.exp(), a.log(), a.sqrt()]
    results += [a.sin(), a.cos(), a.tanh(), a.sigmoid(), abs(a), a.sum(), a.mean(), a.clone()]
    return [result.grad_fn.name() for result in results]


@same
def shown_nodes(lib):
    a = leaf(lib, [3.0])
    node = (5 * a**2).grad_fn
    texts = [repr(node), repr(node.next_functions), repr((a * 2).grad_fn.next_functions)]
    return [re.sub("0x[0-9a-f]+", "0x...", text) for text in texts]


@same
def where_gradients_go(lib):
    a, b = leaf(lib, [3.0]), leaf(lib, [4.0])
    product = a * b
    total = product + 1
    (end, number), _ = product.grad_fn.next_functions
    return [
        total.grad_fn.next_functions[0] == (product.grad_fn, 0),
        total.grad_fn.next_functions[1],
        [type(end).__name__, number, end.variable is a, end.next_functions],
        product.grad_fn.next_functions[0][0] is (a * 2).grad_fn.next_functions[0][0],
        [len(each.grad_fn.next_functions) for each in (a * 2, a + 2, a**2, a**a, a.sum())],
    ]


@same
def nodes_called_by_hand(lib):
    a, b = leaf(lib, [3.0]), lib.tensor([4.0])
    one = lib.tensor([1.0])
    return [(5 * a).grad_fn(one), (a**2).grad_fn(one), (a * b).grad_fn(one), (a * a).grad_fn(one)]


@same
def nodes_called_by_hand_do_not_sum(lib):
    node = (leaf(lib, [[3.0], [4.0]]) * leaf(lib, [1.0, 2.0, 5.0])).grad_fn
    return node(lib.ones(2, 3))


@same
def nodes_called_by_hand_give_real_inputs_the_real_part(lib):
    x, z = leaf(lib, [2.0, 3.0]), leaf(lib, [1 + 2j, 3 - 1j])
    return [each.detach() for each in (x * z).grad_fn(lib.tensor([1 + 1j, 2j]))]


@same
def nodes_called_by_hand_under_no_grad(lib):
    node = (leaf(lib, [3.0]) ** 2).grad_fn
    with lib.no_grad():
        return node(lib.tensor([1.0]))


@same
def leaves_called_by_hand(lib):
    a, passed = leaf(lib, [3.0]), lib.tensor([1.0])
    node = (a * 2).grad_fn.next_functions[0][0]
    returned = node(passed), node(passed)
    return returned, a.grad, passed


@fails
def a_node_called_with_too_much(lib):
    one = lib.tensor(1.0)
    (leaf(lib, 3.0) ** 2).grad_fn(one, one)


@fails
def a_node_called_with_a_number(lib):
    (leaf(lib, 3.0) ** 2).grad_fn(1.0)


# --------------------------------------------------------------------- leaves and modes


@same
def leaves_and_results(lib):
    a, constant = leaf(lib, [2.0]), lib.tensor([3.0])
    return a, constant, constant * 2, a * 2, (a * 2).detach(), a.clone(), a > 1, a.detach().clone()


@same
def switching_requires_grad(lib):
    a = lib.tensor([2.0])
    steps = [a.requires_grad_() is a, a.requires_grad, (a * 2).requires_grad_().requires_grad]
    a.requires_grad = False
    return steps, a, a * 2, (a * 2).requires_grad_(False)


@same
def detached_tensors_share_memory(lib):
    a = leaf(lib, [2.0, 3.0])
    result = a * 2
    result.detach().zero_()
    a.detach().zero_()
    return a, result


@same
def zero_under_no_grad(lib):
    a = leaf(lib, [2.0, 3.0])
    with lib.no_grad():
        returned = a.zero_() is a
    return returned, a


@same
def modes(lib):
    a = leaf(lib, [2.0])
    results = []
    with lib.no_grad():
        results.append(a * 2)
        with lib.enable_grad():
            results.append(a * 2)
        results.append(lib.ones(1, requires_grad=True))
        results.append(lib.is_grad_enabled())
    with lib.set_grad_enabled(False):
        results.append(a * 2)
    lib.set_grad_enabled(False)
    results.append(a * 2)
    lib.set_grad_enabled(True)
    results.append(lib.is_grad_enabled())
    return results


@same
def modes_as_decorators(lib):
    off = lib.no_grad()(lib.is_grad_enabled)
    off_bare = lib.no_grad(lib.is_grad_enabled)
    off_too = lib.set_grad_enabled(False)(lib.is_grad_enabled)
    on = lib.enable_grad()(lib.is_grad_enabled)
    with lib.no_grad():
        inside = on(), lib.is_grad_enabled()
    return off(), off_bare(), off_too(), lib.is_grad_enabled(), inside


@same
def a_mode_as_decorator_of_a_generator(lib):
    @lib.no_grad()
    def generator():
        received = yield lib.is_grad_enabled()
        yield received, lib.is_grad_enabled()

    steps = generator()
    return next(steps), lib.is_grad_enabled(), steps.send("sent"), lib.is_grad_enabled()


# --------------------------------------------------------------- values, dtypes, Python


@same
def python_numbers_do_not_promote(lib):
    a = lib.ones(2, dtype=lib.float32, requires_grad=True)
    return a * 2.5, a / 3, a**2, a + True, (2 - a).detach(), (2**a).detach(), (2 / a).detach()


@same
def gradients_have_the_dtype_of_their_leaf(lib):
    a, b = lib.ones(2, dtype=lib.float32, requires_grad=True), leaf(lib, [3.0, 4.0])
    (a * b).sum().backward()
    return a.grad, b.grad


@same
def a_gradient_of_another_precision_is_cast(lib):
    a = lib.ones(2, dtype=lib.float32, requires_grad=True)
    (a * 2).backward(lib.tensor([1.0, 2.0]))
    return a.grad


@same
def constructors(lib):
    return [
        lib.tensor([1, 2]), lib.tensor([1.5]), lib.tensor(True), lib.tensor(1j), lib.tensor([]),
        lib.zeros(2, 3), lib.ones((2, 3)), lib.full((2,), 7), lib.full((2,), 0.5), lib.arange(3),
        lib.arange(0.5, 2), lib.arange(1, 7, 2), lib.eye(2), lib.eye(2, 3), lib.linspace(0, 1, 5),
        lib.zeros_like(lib.tensor([1])), lib.ones_like(lib.ones(2, dtype=lib.float32)),
        lib.full_like(lib.tensor([1.0]), 7), lib.zeros(2, requires_grad=True),
    ]  # fmt: skip


@same
def defaults_of_dtype(lib):
    before = lib.get_default_dtype()
    lib.set_default_dtype(lib.float32)
    try:
        return lib.tensor([1.5]), lib.tensor(1j), lib.zeros(1), lib.arange(0.5, 2), lib.tensor([1])
    finally:
        lib.set_default_dtype(before)


@same
def comparisons(lib):
    a, b = leaf(lib, [1.0, 2.0, 3.0]), leaf(lib, [2.0, 2.0, 2.0])
    some = a == b, a != b, a < b, a <= 2, 2 > a, a >= b  # noqa: SIM300 - on the right, too
    return some, a == "text", a != None  # noqa: E711 - the operator is what is compared


@same
def python_protocols(lib):
    a = lib.tensor([[1.0, 2.0], [3.0, 4.0]])
    return [
        len(a), list(a), 3.0 in a, 5.0 in a, bool(lib.tensor([2.0])), int(lib.tensor(-2.7)),
        [10, 20, 30][lib.tensor(1)], float(lib.tensor([2.5])), complex(lib.tensor(1.5)),
        f"{lib.tensor(2 / 3):.2f}", f"{lib.tensor(1.5)}", hash(a) == hash(a), len({a, a}),
        a.item() if a.numel() == 1 else a.tolist(), a[0, 1].item(), (+a) is a, a.ndim,
    ]  # fmt: skip


@same
def conversions_to_numpy(lib):
    a = lib.tensor([1.0, 2.0])
    array = a.numpy()
    array[0] = 5
    return a, np.asarray(a), np.asarray(lib.tensor(1.5)), np.asarray(leaf(lib, [1.0]).detach())


@same
def indexing(lib):
    a = leaf(lib, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    picked = [a[0], a[-1, 1:], a[..., 0], a[:, None], a[a > 2], a[[0, 0, 1]], a[lib.tensor([1, 0])]]
    sum(each.sum() for each in picked).backward()
    return [each.detach() for each in picked], a.grad


@same
def transposes(lib):
    a = lib.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    return a.T, a.mT, a.reshape(3, 2), a.reshape((6,)), a.reshape(-1, 2)


# ------------------------------------------------------------------- where slopes are chosen


@same
def slopes_at_kinks_and_singular_points(lib):
    grads = []
    for function in [
        abs,
        lambda x: x**0,
        lambda x: x**2,
        lambda x: lib.maximum(x, lib.zeros(3)),
        lambda x: lib.maximum(x, x),
        lib.sign,
        lambda x: lib.where(x > 0, x, 2 * x),
        lib.sqrt,
        lib.log,
        lib.max,
    ]:
        x = leaf(lib, [0.0, 0.0, 1.0])
        with np.errstate(divide="ignore"):
            function(x).sum().backward()
        grads.append(x.grad)
    return grads


@same
def slopes_of_powers_at_zero(lib):
    x, y = leaf(lib, [0.0, 0.0, 2.0]), leaf(lib, [0.0, 2.0, 0.0])
    (x**y).sum().backward()
    return x.grad, y.grad


# --------------------------------------------------------------------- complex numbers


@same
def complex_gradients(lib):
    grads = []
    for loss in [
        lambda z: abs(z) ** 2,
        lambda z: lib.real(z * z.conj()),
        lib.real,
        lib.imag,
        lambda z: lib.real(z * z * z),
        lambda z: lib.imag(z * (1 - 2j)),
        abs,
    ]:
        z = leaf(lib, [3 + 4j, -3j])
        loss(z).sum().backward()
        grads.append(z.grad)
    return grads


@same
def complex_gradients_of_real_leaves(lib):
    x, z = leaf(lib, [2.0, 3.0]), leaf(lib, [1 + 2j, 3 - 1j])
    (abs(x * z) ** 2).sum().backward()
    return x.grad, z.grad


@same
def complex_gradients_passed_in(lib):
    z, passed = leaf(lib, [1 + 2j, 3 - 1j]), lib.tensor([1 - 1j, 2j])
    result = z * z
    by_hand = [each.detach() for each in result.grad_fn(passed)]
    return by_hand, lib.autograd.grad(result, z, passed)


# ---------------------------------------------------------------- the network of the notebook


@same
def binary_cross_entropy(lib):
    logits, target = leaf(lib, [[0.5, -1.5, 30.0]]), leaf(lib, [[0.0, 1.0, 0.25]])
    weight, pos_weight = lib.tensor([1.0, 2.0, 3.0]), lib.tensor([0.5, 1.0, 2.0])
    loss = lib.nn.functional.binary_cross_entropy_with_logits
    seen = []
    for reduction in ("mean", "sum"):
        result = loss(logits, target, weight, pos_weight=pos_weight, reduction=reduction)
        seen += [result.detach(), *lib.autograd.grad(result, [logits, target])]
    return seen


# ------------------------------------------------------------------- any program at all

UNARY = ["sin", "cos", "tanh", "sigmoid", "neg", "abs"]
BINARY = ["add", "sub", "mul", "maximum", "where"]
SHAPES = [(), (3,), (2, 1), (2, 3)]

#: A step makes a value of those before it: (what is done, which of them, or along which axis).
STEPS = st.one_of(
    st.tuples(st.sampled_from(UNARY), st.integers(0, 99), st.just(0)),
    st.tuples(st.sampled_from(BINARY), st.integers(0, 99), st.integers(0, 99)),
    st.tuples(st.sampled_from(["sum", "mean"]), st.integers(0, 99), st.sampled_from([0, 1, -1])),
)


def carried_out(lib, steps, leaves):
    """Carry out the steps, and return a smooth scalar that depends on all their values."""
    values = list(leaves)
    for name, first, second in steps:
        a = values[first % len(values)]
        if name in UNARY:
            made = getattr(lib, name)(a)
        elif name == "where":
            b = values[second % len(values)]
            made = lib.where(a > b, a, 2 * b)
        elif name in BINARY:
            made = getattr(lib, name)(a, values[second % len(values)])
        else:
            made = getattr(lib, name)(
                lib.reshape(a * lib.ones(2, 3), (2, 3)), second, keepdims=True
            )
        values.append(lib.tanh(made))
    return sum((value * value).sum() * (i + 1) / 10 for i, value in enumerate(values))


class TestAnyProgram:
    @given(steps=st.lists(STEPS, max_size=12), seed=st.integers(0, 2**32 - 1))
    @settings(max_examples=200, deadline=None)
    def test_has_the_value_and_the_derivatives_that_it_has_in_torch(self, torch, steps, seed):
        rng = np.random.default_rng(seed)
        data = [rng.normal(size=shape) for shape in SHAPES]
        directions = [rng.normal(size=shape) for shape in SHAPES]
        ours, theirs = (derivatives(lib, steps, data, directions) for lib in (opgrad, torch))
        for got, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-11)


def derivatives(lib, steps, data, directions):
    """Return the value, its gradients, and the Hessian times the directions."""
    leaves = [leaf(lib, each) for each in data]
    result = carried_out(lib, steps, leaves)
    result.backward(retain_graph=True)
    grads = lib.autograd.grad(result, leaves, create_graph=True)
    along = sum((each * lib.tensor(v)).sum() for each, v in zip(grads, directions, strict=True))
    seconds = lib.autograd.grad(along, leaves, materialize_grads=True)
    return [each.detach().numpy() for each in (result, *(a.grad for a in leaves), *grads, *seconds)]
