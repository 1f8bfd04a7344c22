"""What nobody holds is gone at once, however deep; and threads do not get in each other's way."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import opgrad
from opgrad import Case, Operator, hookimpl
from opgrad.autograd import detect_anomaly, grad, register_multi_grad_hook
from opgrad.profiler import profile


def leaf(values):
    return opgrad.tensor(values, requires_grad=True)


def nodes(tensor):
    """Return weak references to all nodes of a tensor's graph but those at its leaves."""
    found, unseen = set(), [tensor.grad_fn]
    while unseen:
        node = unseen.pop()
        if node is not None and node not in found and node.next_functions:
            found.add(node)
            unseen += [each for each, _ in node.next_functions]
    return [weakref.ref(node) for node in found]


# ----------------------------------------------------------------- without reference cycles


def with_a_tensor_hook(a):
    middle = a * 2
    middle.register_hook(lambda grad: grad * 3)
    return middle * a


def with_a_hook_that_holds_its_own_handle(a):
    middle = a * 2
    handles = []
    handles.append(middle.register_hook(lambda grad: handles[0].remove()))
    return middle * a


def with_hooks_of_nodes(a):
    result = a * a
    result.grad_fn.register_prehook(lambda grads: None)
    result.grad_fn.register_hook(lambda grads, outputs: None)
    return result


def with_hooks_of_the_leaf(a):
    a.register_hook(lambda grad: None)
    a.register_post_accumulate_grad_hook(lambda leaf: None)
    return a * a


def with_a_hook_of_several(a):
    first, second = a * 2, a * 3
    register_multi_grad_hook([first, second], lambda grads: None)
    return first * second


def with_a_retained_gradient(a):
    middle = a * a
    middle.retain_grad()
    return middle * a


def with_views(a):
    middle = a * a
    return middle[1:] * middle.reshape(2, 1)[:1] + middle.T


def with_a_write(a):
    middle = a * a
    middle += a
    middle.mul_(2.0)
    return middle * a


def with_a_write_to_a_view(a):
    middle = a * a
    view = middle[1:]
    view *= 3.0
    middle[0] = view[0] * 2
    return middle * middle


def with_a_write_to_what_has_views(a):
    middle = a * 1
    view, element = middle[:1], middle[1]
    middle *= a
    return view * element + middle


def with_a_recorded_backward(a):
    (first,) = grad((a**3).sum(), a, create_graph=True)
    (second,) = grad(first.sum(), a, create_graph=True)
    return first * second


def with_a_gradient_that_is_recorded(a):
    (a**3).sum().backward(create_graph=True)
    result, a.grad = a.grad * 2, None
    return result


class Twice(Operator):
    @hookimpl
    def forward(self, x, /):
        return x * 2, x * 3

    @hookimpl
    def backward(self, grad, x):
        return grad[0] * 2 + grad[1] * 3

    @hookimpl
    def self_check(self, rng):
        yield Case(2.0)


def with_several_outputs(a):
    double, triple = Twice()(a)
    return double * triple


def with_a_checkpoint(a):
    return opgrad.func.checkpoint(lambda x: opgrad.exp(x) * x, a) * a


def with_packed_values(a):
    hooks = opgrad.autograd.graph.saved_tensors_hooks
    with hooks(lambda tensor: tensor.clone(), lambda packed: packed):
        return opgrad.exp(a) * a


def with_anomaly_mode(a):
    with detect_anomaly():
        return with_a_recorded_backward(a)


def with_a_profile(a):
    with profile():
        return opgrad.exp(a) ** 2


GRAPHS = [value for name, value in list(globals().items()) if name.startswith("with_")]


@pytest.fixture
def without_collector():
    """Leave every reference cycle where it is."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
class TestThereIsNoReferenceCycle:
    @pytest.mark.parametrize("build", GRAPHS)
    def test_in_a_graph_that_is_dropped(self, build):
        a = leaf([1.0, 2.0])
        result = build(a)
        alive = [weakref.ref(a), weakref.ref(result), *nodes(result)]
        del a, result
        assert [each() for each in alive if each() is not None] == []

    @pytest.mark.parametrize("build", GRAPHS)
    @pytest.mark.parametrize(
        "options", [{}, {"retain_graph": True}, {"create_graph": True}], ids=str
    )
    def test_in_a_graph_that_a_pass_went_through(self, build, options):
        a = leaf([1.0, 2.0])
        result = build(a)
        result.sum().backward(**options)
        alive = [weakref.ref(a), weakref.ref(result), weakref.ref(a.grad), *nodes(result)]
        alive += nodes(a.grad) if a.grad.grad_fn else []
        if build is with_a_checkpoint and a.grad.grad_fn:
            a.grad = None  # its graph has a call that can be repeated, which holds its argument
        del a, result
        assert [each() for each in alive if each() is not None] == []

    def test_in_a_view_and_what_it_is_a_view_of(self):
        base = opgrad.zeros(4)
        view = base[1:][1:]
        alive = weakref.ref(base)
        del base
        assert alive() is not None
        del view
        assert alive() is None

    def test_in_what_has_a_view(self):
        base = opgrad.zeros(4)
        gone = weakref.ref(base[1:])
        assert gone() is None

    def test_in_a_pass_that_failed(self):
        a = leaf([1.0, 2.0])
        result = a * 2
        result.register_hook(lambda grad: grad[:1])
        alive = nodes(result)
        with pytest.raises(RuntimeError, match="a hook returned float64"):
            (result * 3).sum().backward()
        del result
        assert [each() for each in alive if each() is not None] == []

    def test_in_copies(self):
        a = leaf([1.0, 2.0])
        (a * a).sum().backward()
        alive = [weakref.ref(f(a)) for f in (copy.copy, copy.deepcopy)]
        alive.append(weakref.ref(pickle.loads(pickle.dumps(a))))
        assert [each() for each in alive] == [None] * 3

    def test_in_a_profile(self):
        with profile() as prof:
            opgrad.exp(leaf(1.0)).backward()
        gone = weakref.ref(prof)
        del prof
        assert gone() is None


# --------------------------------------------------------------------------- constant memory


class TestTraining:
    STEPS = 10_000

    def steps(self, count):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(4, 3)), rng.normal(size=4)
        w, b = leaf(np.zeros(3)), leaf(0.0)
        w.register_hook(lambda grad: grad * 1.0)
        for step in range(count):
            error = x @ w + b - y
            error[0] = error[1] * 2.0
            loss = (error * error).mean()
            loss.backward()
            with opgrad.no_grad():
                w -= 0.01 * w.grad
                b -= 0.01 * b.grad
            w.grad = None
            b.grad.zero_()
            yield step

    @pytest.mark.usefixtures("without_collector")
    def test_takes_the_same_memory_after_thousands_of_steps_as_after_some(self):
        steps = self.steps(self.STEPS)
        for _ in range(self.STEPS // 2):
            next(steps)
        tracemalloc.start()
        for _ in range(500):  # so that what comes and goes has come
            next(steps)
        early, _ = tracemalloc.get_traced_memory()
        for _ in steps:
            pass
        late, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # Of 4,500 steps: less than a byte each.
        assert late - early < 4_000


# -------------------------------------------------------------------------------- deep graphs


def chain(a, count):
    result = a
    for _ in range(count):
        result = result * 1.0
    return result


def chain_of_views(a, count):
    result = a
    for _ in range(count):
        result = result[:]
    return result


def chain_of_writes(a, count):
    result = a * 1.0
    for _ in range(count):
        result += 0.0
    return result


def chain_of_writes_to_a_view(a, count):
    result = a * 1.0
    view = result[:1]
    for _ in range(count):
        view *= 1.0
    return result


def chain_of_assignments(a, count):
    result = a * 1.0
    for _ in range(count):
        result[:1] = result[1:]
    return result


def chain_with_hooks(a, count):
    result = a
    for _ in range(count):
        result = result * 1.0
        result.register_hook(lambda grad: None)
    return result


DEEP = [
    (chain, 1_000_000),
    (chain_of_views, 200_000),
    (chain_of_writes, 100_000),
    (chain_of_writes_to_a_view, 10_000),
    (chain_of_assignments, 10_000),
    (chain_with_hooks, 50_000),
]


def ends(result):
    """Return a function that tells which of a graph's latest node and its earliest are alive."""
    last = first = result.grad_fn
    while first.next_functions[0][0].next_functions:
        first = first.next_functions[0][0]
    references = [weakref.ref(last), weakref.ref(first)]
    return lambda: [node for each in references if (node := each()) is not None]


def shallow(work):
    """Do the work where Python's stack and the machine's are small; return what it returns."""
    before, limit = threading.stack_size(256 * 1024), sys.getrecursionlimit()
    try:
        with ThreadPoolExecutor(1, initializer=lambda: sys.setrecursionlimit(150)) as pool:
            return pool.submit(work).result()
    finally:
        threading.stack_size(before)
        sys.setrecursionlimit(limit)


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize(("build", "count"), DEEP, ids=[build.__name__ for build, _ in DEEP])
class TestADeepGraph:
    def test_needs_no_recursion_from_beginning_to_end(self, build, count):
        def work():
            a = leaf([1.0, 2.0])
            result = build(a, count)
            alive = ends(result)
            result.sum().backward()
            del result
            return a.grad.tolist(), alive()

        gradient, alive = shallow(work)
        assert np.isfinite(gradient).all()
        assert alive == []

    def test_needs_none_where_it_is_dropped_in_the_middle(self, build, count):
        def work():
            a = leaf([1.0, 2.0])
            middle = build(a, count // 4)
            result = build(middle, count // 4)
            alive = ends(result)
            del middle
            assert len(alive()) == 2
            del a, result
            return alive()

        assert shallow(work) == []


@pytest.mark.usefixtures("without_collector")
class TestDeepDerivatives:
    def test_a_recorded_backward_of_a_deep_graph_needs_no_recursion(self):
        def work():
            a, b = leaf(2.0), leaf(1.0)
            result = a * a
            for _ in range(100_000):
                result = result * b
            (first,) = grad(result, a, create_graph=True)
            del result
            alive = nodes(first)
            assert len(alive) > 100_000
            (second,) = grad(first, a)
            del first
            return second.item(), [each() for each in alive if each() is not None]

        assert shallow(work) == (2, [])

    def test_a_write_to_what_has_views_of_views_needs_none(self):
        def work():
            base = opgrad.zeros(2)
            view = chain_of_views(base, 20_000)
            base.fill_(1.0)
            view.fill_(2.0)
            return view.tolist(), base.tolist(), view._version

        assert shallow(work) == ([2, 2], [2, 2], 2)

    def test_a_write_to_what_is_recorded_and_has_views_of_views_needs_none(self):
        def work():
            a = leaf([1.0, 2.0])
            base = a * 1.0
            view = chain_of_views(base, 5_000)
            base *= 3.0
            view.sum().backward()
            return a.grad.tolist()

        assert shallow(work) == [3, 3]


# ------------------------------------------------------------------------------------ threads


THREADS, ROUNDS = 8, 50
#: What all threads add up with the numbers 1 to 8; whole, so that the order does not matter.
TOTAL = ROUNDS * sum(range(1, THREADS + 1))


@pytest.fixture
def quick_turns():
    """Have threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work, rounds=ROUNDS):
    """Do the work in all threads, from the same moment on, with a number of each one's own."""
    barrier = threading.Barrier(THREADS)

    def started(number):
        barrier.wait()
        for _ in range(rounds):
            work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(started, range(1, THREADS + 1)))


@pytest.mark.usefixtures("quick_turns")
class TestThreadsThatShareLeaves:
    """Every thread's gradients arrive, each once: sums of whole numbers are exact."""

    def test_give_the_exact_sum(self):
        a, b = leaf(np.ones(100)), leaf(2.0)
        in_threads(lambda number: (a * b * number).sum().backward())
        np.testing.assert_array_equal(a.grad.data, np.full(100, 2 * TOTAL))
        assert b.grad.item() == 100 * TOTAL

    def test_give_the_exact_sum_with_hooks_that_replace_gradients(self):
        a = leaf(np.ones(100))
        a.register_hook(lambda grad: grad * 2)

        def work(number):
            middle = a * number
            middle.register_hook(lambda grad: grad * 3)
            result = middle.sum()
            result.grad_fn.register_prehook(lambda grads: (grads[0] * 5,))
            result.backward()

        in_threads(work)
        np.testing.assert_array_equal(a.grad.data, np.full(100, 30 * TOTAL))

    def test_call_the_hooks_after_accumulation_once_for_each_pass(self):
        a = leaf(np.ones(3))
        called = []
        a.register_post_accumulate_grad_hook(called.append)
        in_threads(lambda number: (a * number).sum().backward())
        assert len(called) == THREADS * ROUNDS
        assert all(each is a for each in called)
        np.testing.assert_array_equal(a.grad.data, np.full(3, TOTAL))

    def test_call_a_hook_of_several_once_for_each_pass(self):
        a, b = leaf(np.ones(3)), leaf(np.ones(3))
        called = []
        register_multi_grad_hook([a, b], lambda grads: called.append([g.data[0] for g in grads]))
        in_threads(lambda number: (a * number + b * (2 * number)).sum().backward())
        assert sorted(called) == [[i, 2 * i] for i in range(1, THREADS + 1) for _ in range(ROUNDS)]

    def test_may_register_and_remove_hooks_meanwhile(self):
        a = leaf(np.ones(3))
        called = []

        def work(number):
            handle = a.register_hook(lambda grad: called.append(number))
            (a * number).sum().backward()
            handle.remove()

        in_threads(work)
        np.testing.assert_array_equal(a.grad.data, np.full(3, TOTAL))
        assert all(called.count(number) >= ROUNDS for number in range(1, THREADS + 1))
        assert a.grad_fn is None

    def test_may_all_register_the_first_hook_of_a_leaf(self):
        for _ in range(ROUNDS):
            a, called = leaf(1.0), []
            in_threads(
                lambda number, a=a, called=called: a.register_hook(lambda _: called.append(number)),
                rounds=1,
            )
            a.backward()
            assert sorted(called) == [*range(1, THREADS + 1)]

    def test_may_take_views_and_write_to_what_is_their_own(self):
        a = leaf(np.ones(6))

        def work(number):
            own = a[::2] * number
            own[0] = own[1] * 2
            own += a[1::2]
            own.sum().backward()

        in_threads(work)
        expected = np.array(
            [0, ROUNDS * THREADS, 3 * TOTAL, ROUNDS * THREADS, TOTAL, ROUNDS * THREADS]
        )
        np.testing.assert_array_equal(a.grad.data, expected)

    def test_may_all_take_views_of_one_tensor_and_all_of_them_follow_it(self):
        for _ in range(ROUNDS):
            base, held = opgrad.zeros(4), []
            in_threads(lambda _, base=base, held=held: held.append(base[0]), rounds=3)
            base.fill_(7.0)
            assert {each.item() for each in held} == {7.0}

    def test_give_the_exact_sum_in_anomaly_mode_and_under_a_profile(self):
        a = leaf(np.ones(100))

        def work(number):
            with detect_anomaly():
                (a * number).sum().backward()

        with profile() as prof:
            in_threads(work, rounds=5)
        np.testing.assert_array_equal(a.grad.data, np.full(100, TOTAL // 10))
        assert prof.totals()["mul"].calls == 5 * THREADS

    def test_give_the_exact_sum_where_the_backward_is_recorded(self):
        a = leaf(np.ones(10))

        def work(number):
            (first,) = grad((a * a * number).sum(), a, create_graph=True)
            first.sum().backward()

        in_threads(work)
        np.testing.assert_array_equal(a.grad.data, np.full(10, 2 * TOTAL))
