"""A profile counts calls, measures forward and backward, and adds up what is saved.

Time is a clock of the test's own: each operator below takes as many ticks as it says.
"""

from __future__ import annotations

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import opgrad
from opgrad import Case, Operator, graph, hookimpl, profiler
from opgrad.profiler import profile
from opgrad.registry import RegistryError, registry

SECOND = 1_000_000_000


class Clock:
    def __init__(self):
        self.now = 0

    def spend(self, seconds):
        self.now += int(seconds * SECOND)


time = Clock()


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Let time pass where an operator says so, and not otherwise."""
    monkeypatch.setattr(profiler, "_now", lambda: time.now)


class Slow(Operator):
    """A product: two seconds forward, three and five back."""

    @hookimpl
    def forward(self, a, b, /):
        time.spend(2)
        return a * b

    @hookimpl
    def backward_a(self, grad, b):
        time.spend(3)
        return grad * b

    @hookimpl
    def backward_b(self, grad, a):
        time.spend(5)
        return grad * a

    @hookimpl
    def self_check(self, rng):
        yield Case(2.0, 3.0)


class Outer(Operator):
    """Takes a second beside what it calls, both ways."""

    @hookimpl
    def forward(self, x, /):
        time.spend(1)
        return slow(x, 2.0).data

    @hookimpl
    def backward(self, grad):
        time.spend(1)
        return slow(grad, 2.0) if isinstance(grad, opgrad.Tensor) else slow(grad, 2.0).data

    @hookimpl
    def self_check(self, rng):
        yield Case(2.0)


slow, outer = Slow(), Outer()


def leaf(values):
    return opgrad.tensor(values, requires_grad=True)


class TestTotals:
    def test_count_calls_and_measure_forward_and_backward(self):
        with profile() as prof:
            for _ in range(3):
                slow(leaf(2.0), leaf(3.0)).backward()
        total = prof.totals()["slow"]
        assert (total.calls, total.forward, total.backward, total.total) == (3, 6, 24, 30)

    def test_measure_only_the_gradients_that_are_asked_for(self):
        with profile() as prof:
            slow(leaf(2.0), 3.0).backward()
        assert prof.totals()["slow"].backward == 3

    def test_are_an_operators_own_and_together_all_the_time_there_was(self):
        start = time.now
        with profile() as prof:
            outer(leaf(2.0)).backward()
        totals = prof.totals()
        assert (totals["outer"].forward, totals["outer"].backward) == (1, 1)
        assert (totals["slow"].calls, totals["slow"].forward) == (2, 4)
        assert sum(each.total for each in totals.values()) == (time.now - start) / SECOND == 6

    @pytest.mark.parametrize("record", [False, True])
    def test_measure_a_backward_also_where_it_is_recorded(self, record):
        with profile() as prof:
            slow(leaf(2.0), leaf(3.0)).backward(create_graph=record)
        assert prof.totals()["slow"].backward == 8

    def test_measure_the_backward_of_what_was_called_before(self):
        result = slow(leaf(2.0), leaf(3.0))
        with profile() as prof:
            result.backward()
        assert prof.totals()["slow"] == (0, 0, 8, 8, 0)

    def test_go_by_the_operator_that_was_called_not_by_one_that_answered_for_it(self):
        a = leaf([1.0, 2.0])
        with profile() as prof:
            (a**3).sum().backward()
        assert set(prof.totals()) == {"pow", "sum"}
        assert prof.totals()["pow"].saved == a.data.nbytes

    def test_go_by_the_name_of_a_node_that_is_no_operators(self):
        a = leaf([1.0, 2.0]) * 1
        with profile() as prof:
            a[:1] = 3.0
            a.sum().backward()
        assert "CopySlices" in prof.totals()

    def test_go_on_in_a_second_block(self):
        prof = profile()
        for _ in range(2):
            with prof:
                slow(1.0, 2.0)
        assert prof.totals()["slow"].calls == 2

    def test_have_nothing_from_outside_the_block(self):
        slow(1.0, 2.0)
        with profile() as prof:
            pass
        slow(leaf(1.0), 2.0).backward()
        assert prof.totals() == {}

    def test_count_a_call_that_fails(self):
        with profile() as prof, pytest.raises(ValueError, match="matmul"):
            opgrad.matmul(np.ones((2, 3)), np.ones((2, 3)))
        assert prof.totals()["matmul"].calls == 1

    def test_are_of_all_threads(self):
        together = threading.Barrier(4)

        def work(_):
            together.wait()
            for _ in range(50):
                opgrad.exp(leaf(np.ones(3))).sum().backward()

        with profile() as prof, ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert prof.totals()["exp"] == (200, 0, 0, 0, 200 * 3 * 8)
        assert len({each.thread for each in prof._events}) == 4

    def test_do_not_mix_up_what_runs_in_one_thread_with_another(self):
        class Waits(Slow):
            @hookimpl
            def forward(self, a, b, /):
                inside.set()
                done.wait()
                return a * b

        inside, done, waits = threading.Event(), threading.Event(), Waits()
        with profile() as prof, ThreadPoolExecutor(1) as pool:
            running = pool.submit(waits, 1.0, 2.0)
            inside.wait()
            slow(1.0, 2.0)
            done.set()
            running.result()
        assert prof.totals()["slow"].forward == prof.totals()["waits"].forward == 2


class TestSavedBytes:
    @pytest.mark.parametrize(
        ("call", "saved"),
        [
            (lambda a: a + 1.0, 0),
            (opgrad.exp, 80),
            (lambda a: a * np.ones(10), 80),
            (lambda a: a * a, 160),
            (lambda a: a * np.broadcast_to(2.0, 10), 8),
            (lambda a: a * np.ones(1000)[:10], 80),
            (lambda a: a.detach() * 2, 0),
        ],
        ids=["none", "output", "input", "both", "broadcast", "part", "not recorded"],
    )
    def test_are_those_of_the_arrays_that_are_kept(self, call, saved):
        with profile() as prof:
            call(opgrad.ones(10, requires_grad=True))
        (total,) = prof.totals().values()
        assert total.saved == saved

    def test_do_not_depend_on_what_saved_tensor_hooks_make_of_them(self):
        hooks = opgrad.autograd.graph.saved_tensors_hooks
        with hooks(lambda tensor: None, lambda packed: packed), profile() as prof:
            opgrad.exp(opgrad.ones(10, requires_grad=True))
        assert prof.totals()["exp"].saved == 80


class TestBlock:
    @pytest.fixture(autouse=True)
    def nothing_stays(self):
        before = [*graph.recorders], [*graph.runners], registry.plugins.get_plugins()
        yield
        assert (graph.recorders, graph.runners) == before[:2]
        left = registry.plugins.get_plugins() - before[2]
        assert not any(isinstance(each, profile) for each in left)

    def test_leaves_nothing_behind(self):
        with profile():
            assert registry.plugins.hook.around_call.get_hookimpls()
        assert not registry.plugins.hook.around_call.get_hookimpls()
        assert opgrad.exp is opgrad.ops.exp.compiled

    @pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit])
    def test_leaves_nothing_behind_after_an_exception(self, error):
        with pytest.raises(error), profile():
            raise error

    def test_leaves_nothing_behind_where_it_cannot_begin(self, monkeypatch):
        def refuse(plugin):
            raise RegistryError

        monkeypatch.setattr(registry, "register_plugin", refuse)
        with pytest.raises(RegistryError):
            profile().__enter__()

    def test_may_be_inside_another(self):
        with profile() as whole:
            slow(1.0, 2.0)
            with profile() as part:
                slow(1.0, 2.0)
        assert (whole.totals()["slow"].calls, part.totals()["slow"].calls) == (2, 1)

    def test_is_not_entered_twice_at_once(self):
        with profile() as prof:
            with pytest.raises(RuntimeError, match="already running; make another"):
                prof.__enter__()
            slow(1.0, 2.0)
        assert prof.totals()["slow"].calls == 1

    def test_changes_no_result(self):
        def work():
            a = leaf([1.0, 2.0])
            (opgrad.exp(a) * a).sum().backward()
            return a.grad.data

        expected = work()
        with profile():
            np.testing.assert_array_equal(work(), expected)


# -------------------------------------------------------------------------------- table


@pytest.fixture
def prof():
    with profile() as prof:
        for _ in range(2):
            slow(leaf(np.ones(200)), np.ones(200)).sum().backward()
        outer(1.0)
        time.spend(100)
    return prof


class TestTable:
    def test_has_a_line_for_each_operator_and_is_what_is_printed(self, prof):
        assert str(prof) == prof.table()
        assert prof.table() == (
            "operator  calls  forward  backward   total    saved\n"
            "--------  -----  -------  --------  ------  -------\n"
            "slow          3    6.0 s     6.0 s  12.0 s  3.1 KiB\n"
            "outer         1    1.0 s    0.0 µs   1.0 s      0 B\n"
            "sum           2   0.0 µs    0.0 µs  0.0 µs      0 B"
        )

    @pytest.mark.parametrize(
        ("column", "first"),
        [("operator", "outer"), ("calls", "slow"), ("forward", "slow"), ("saved", "slow")],
    )
    def test_is_sorted_by_a_column(self, prof, column, first):
        lines = prof.table(sort_by=column).splitlines()[2:]
        assert lines[0].split()[0] == first
        numbers = [getattr(prof.totals()[line.split()[0]], column, 0) for line in lines]
        assert numbers == sorted(numbers, reverse=True)

    def test_cannot_be_sorted_by_what_it_has_not(self, prof):
        with pytest.raises(ValueError, match=r"sort_by is 'time'; expected one of operator, calls"):
            prof.table(sort_by="time")

    def test_of_nothing_has_its_heads(self):
        assert profile().table().splitlines()[0].split() == ["operator", *profiler.Total._fields]

    @pytest.mark.parametrize(
        ("seconds", "shown"),
        [(0, "0.0 µs"), (2e-7, "0.2 µs"), (0.0015, "1.5 ms"), (0.9, "900.0 ms"), (90, "90.0 s")],
    )
    def test_shows_times_in_the_unit_that_fits(self, seconds, shown):
        assert profiler._seconds(seconds) == shown

    @pytest.mark.parametrize(
        ("count", "shown"),
        [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (3 * 2**29, "1.5 GiB"),
            (2**53, "8192.0 TiB"),
        ],
    )
    def test_shows_sizes_in_the_unit_that_fits(self, count, shown):
        assert profiler._bytes(count) == shown

    def test_is_a_table_of_richs_for_rich(self, prof):
        console = pytest.importorskip("rich.console", reason="shows a table of rich's")
        shown = io.StringIO()
        console.Console(width=100, file=shown).print(prof)
        cells = [line.split() for line in shown.getvalue().splitlines()]
        assert [line.split() for line in prof.table().splitlines() if "--" not in line] == [
            line for line in cells if line and "─" not in line[0]
        ]


# -------------------------------------------------------------------------------- trace


class TestChromeTrace:
    @pytest.fixture
    def trace(self, prof, tmp_path):
        prof.export_chrome_trace(tmp_path / "trace.json")
        return json.loads((tmp_path / "trace.json").read_text("utf-8"))

    def test_has_every_call_and_every_backward_in_microseconds(self, trace):
        spans = [each for each in trace["traceEvents"] if each["ph"] == "X"]
        first, *_ = (each for each in spans if each["name"] == "slow backward")
        assert first["cat"] == "backward"
        assert (first["ts"], first["dur"]) == (2e6, 3e6)
        assert [each["name"] for each in spans].count("slow") == 3

    def test_has_what_the_format_asks_of_each_event(self, trace):
        for event in trace["traceEvents"]:
            assert {"ph", "name", "pid", "tid"} <= event.keys()
            assert event["ph"] in "XM"
            if event["ph"] == "X":
                assert event["ts"] >= 0 <= event["dur"]
                assert {event["tid"]} <= {
                    each["tid"] for each in trace["traceEvents"] if each["name"] == "thread_name"
                }

    def test_nests_what_is_inside(self, trace):
        spans = {each["name"]: each for each in trace["traceEvents"] if each["ph"] == "X"}
        inner, around = spans["slow"], spans["outer"]
        assert around["ts"] <= inner["ts"]
        assert inner["ts"] + inner["dur"] <= around["ts"] + around["dur"]

    def test_names_threads(self, trace):
        names = [each["args"]["name"] for each in trace["traceEvents"] if each["ph"] == "M"]
        assert names == [threading.main_thread().name]

    def test_of_nothing_is_one_too(self, tmp_path):
        profile().export_chrome_trace(tmp_path / "trace.json")
        assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"] == []

    def test_is_written_whole_or_not_at_all(self, prof, tmp_path, monkeypatch):
        path = tmp_path / "trace.json"
        path.write_text("before")

        def fail(*_):
            raise OSError

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(OSError):  # noqa: PT011 - any
            prof.export_chrome_trace(path)
        assert [each.name for each in tmp_path.iterdir()] == ["trace.json"]
        assert path.read_text() == "before"
