"""Errors and nan in a backward say where they come from: operator, hook, input, forward call."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

import opgrad
from opgrad import Case, GraphError, Operator, graph, hookimpl
from opgrad.autograd import (
    Function,
    detect_anomaly,
    grad,
    is_anomaly_check_nan_enabled,
    is_anomaly_enabled,
    set_detect_anomaly,
)


def leaf(values):
    return opgrad.tensor(values, requires_grad=True)


def notes(error):
    return "\n".join(error.value.__notes__)


def here(call):
    """Return how a traceback shows a line of a function in this file, by what is in the line."""
    lines, start = inspect.getsourcelines(call)
    return f'File "{Path(__file__)}", line {start + len(lines) - 1}, in {call.__name__}'


class Fails(Operator):
    """A product whose backward for `b` is wrong."""

    def __init__(self, formula):
        self.formula = formula

    @hookimpl
    def forward(self, a, b, /):
        return a * b

    @hookimpl
    def backward_a(self, grad, b):
        return grad * b

    @hookimpl
    def backward_b(self, grad, a):
        return self.formula(grad, a)

    @hookimpl
    def self_check(self, rng):
        yield Case(2.0, 3.0)


class FailsForward(Operator):
    """A function whose jvp hook is wrong."""

    @hookimpl
    def forward(self, a, /):
        return a * 2

    @hookimpl
    def backward(self, grad):
        return grad * 2

    @hookimpl
    def jvp_a(self, tangent):
        return divide_by_zero(tangent, None)

    @hookimpl
    def self_check(self, rng):
        yield Case(2.0)


class FailsForAll(Operator):
    """The same, with one hook."""

    def __init__(self, formula):
        self.formula = formula

    @hookimpl
    def forward(self, a, b, /):
        return a * b

    @hookimpl
    def backward(self, grad, a, b):
        return grad * b, self.formula(grad, a)

    @hookimpl
    def self_check(self, rng):
        yield Case(2.0, 3.0)


def divide_by_zero(grad, a):
    raise ZeroDivisionError


def nan(grad, a):
    return grad * a * np.nan


def square_root(x):
    return opgrad.sqrt(x)


def product(operator, a, b):
    return operator(a, b)


# ---------------------------------------------------------------------------- exceptions


class TestAnErrorInABackward:
    def test_says_which_hook_of_which_operator_raised_it_and_for_which_input(self):
        with pytest.raises(ZeroDivisionError) as raised:
            Fails(divide_by_zero)(leaf(2.0), leaf(3.0)).backward()
        assert "raised in fails.backward_b, for input 'b'; " in notes(raised)

    def test_says_so_of_a_hook_for_all_inputs(self):
        with pytest.raises(ZeroDivisionError) as raised:
            FailsForAll(divide_by_zero)(leaf(2.0), leaf(3.0)).backward()
        assert "raised in fails_for_all.backward, for input 'a', 'b'; " in notes(raised)

    def test_says_which_line_called_the_operator_and_how_to_find_more(self):
        with pytest.raises(ZeroDivisionError) as raised:
            product(Fails(divide_by_zero), leaf(2.0), leaf(3.0)).backward()
        assert "; fails was called here (to see from where, do forward and " in notes(raised)
        assert "`with opgrad.autograd.detect_anomaly():`" in notes(raised)
        assert notes(raised).endswith(f"{here(product)}\n    return operator(a, b)")

    def test_says_so_of_a_function(self):
        class Halve(Function):
            @staticmethod
            def forward(ctx, a, b):
                return a * b

            @staticmethod
            def backward(ctx, grad):
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as raised:
            product(Halve.apply, leaf(2.0), leaf(3.0)).backward()
        assert here(product) in notes(raised)

    def test_says_so_of_an_operator_that_is_once_differentiable(self):
        class FailsOnce(Fails):
            once_differentiable = True

        with pytest.raises(ZeroDivisionError) as raised:
            product(FailsOnce(divide_by_zero), leaf(2.0), leaf(3.0)).backward()
        assert here(product) in notes(raised)

    def test_says_how_to_find_the_call_of_one_of_opgrads_own(self):
        root = square_root(leaf([1.0]) * 1)
        result = root * 2
        root.detach().zero_()
        with pytest.raises(GraphError, match=r"'zero_' has written") as raised:
            result.sum().backward()
        assert "to see where sqrt was called, do forward and backward inside" in notes(raised)

    def test_says_so_where_tangents_are_carried_forward(self):
        fails, ones = Fails(divide_by_zero), (np.ones(2), np.ones(2))
        with pytest.raises(ZeroDivisionError) as raised:
            opgrad.func.jvp(fails, ones, ones)
        assert "raised in fails.backward_b, for input 'b'; fails was called here (" in notes(raised)
        with detect_anomaly(), pytest.raises(ZeroDivisionError) as raised:
            opgrad.func.jvp(lambda a, b: product(fails, a, b), ones, ones)
        assert here(product) in notes(raised)

    def test_says_so_of_a_jvp_hook(self):
        with pytest.raises(ZeroDivisionError) as raised:
            opgrad.func.jvp(FailsForward(), (np.ones(2),), (np.ones(2),))
        assert (
            "raised in fails_forward.jvp_a, for input 'a'; fails_forward was called here ("
            in notes(raised)
        )

    @pytest.mark.parametrize("record", [False, True])
    def test_is_the_error_itself_with_one_note(self, record):
        error = KeyError("mine")

        def formula(grad, a):
            raise error

        with pytest.raises(KeyError) as raised:
            Fails(formula)(leaf(2.0), leaf(3.0)).backward(create_graph=record)
        assert raised.value is error
        assert len(error.__notes__) == 1

    def test_says_so_too_where_a_node_is_called_by_hand(self):
        result = Fails(divide_by_zero)(leaf(2.0), leaf(3.0))
        with pytest.raises(ZeroDivisionError) as raised:
            result.grad_fn(opgrad.tensor(1.0))
        assert "raised in fails.backward_b, for input 'b'; " in notes(raised)

    def test_says_so_of_a_backward_that_was_recorded(self):
        calls = []

        def formula(grad, a):
            calls.append(grad)
            return divider(grad, a)

        divider = Fails(divide_by_zero)
        (first,) = grad(Fails(formula)(leaf(2.0), b := leaf(3.0)), b, create_graph=True)
        assert len(calls) == 1
        with pytest.raises(ZeroDivisionError) as raised:
            first.backward()
        assert "raised in fails.backward_b" in notes(raised)

    def test_names_both_where_one_backward_calls_another(self):
        def formula(grad, a):
            Fails(divide_by_zero)(leaf(2.0), leaf(3.0)).backward()

        with pytest.raises(ZeroDivisionError) as raised:
            FailsForAll(formula)(leaf(2.0), leaf(3.0)).backward()
        inner, outer = raised.value.__notes__
        assert inner.startswith("raised in fails.backward_b")
        assert outer.startswith("raised in fails_for_all.backward")

    def test_shows_the_forward_in_anomaly_mode_without_the_lines_of_opgrad(self):
        with pytest.raises(ZeroDivisionError) as raised, detect_anomaly():
            product(Fails(divide_by_zero), leaf(2.0), leaf(3.0)).backward()
        assert "fails.backward_b, for input 'b'; fails was called here" in notes(raised)
        assert here(product) in notes(raised)
        assert "return operator(a, b)" in notes(raised)
        assert str(Path(opgrad.__file__).parent) not in notes(raised)
        assert "<call of" not in notes(raised)
        assert "to see from where" not in notes(raised)

    def test_shows_the_forward_of_a_saved_value_that_was_written_to(self):
        with detect_anomaly():
            root = square_root(leaf([1.0]) * 1)
            result = root * 2
            root.detach().zero_()
            with pytest.raises(GraphError, match=r"'zero_' has written") as raised:
                result.sum().backward()
        assert "raised in the backward of sqrt; sqrt was called here" in notes(raised)
        assert here(square_root) in notes(raised)

    @pytest.mark.parametrize("gradient", [lambda grad, a: "mine", lambda grad, a: [1.0]])
    def test_shows_the_forward_where_a_gradient_does_not_fit(self, gradient):
        a, b = leaf(2.0), leaf(3.0)
        with detect_anomaly(), pytest.raises(GraphError, match=r"fails\.backward_b re") as raised:
            product(Fails(gradient), a, b).backward()
        assert here(product) in notes(raised)


# ---------------------------------------------------------------------------------- nan


class TestNan:
    def test_is_an_error_that_names_operator_hook_and_input(self):
        with pytest.raises(GraphError) as raised, detect_anomaly():
            Fails(nan)(leaf(2.0), leaf(3.0)).backward()
        assert str(raised.value) == (
            "fails.backward_b gave nan in 1 of 1 elements of the gradient of input 'b'"
        )

    def test_shows_where_the_forward_was_called(self):
        with pytest.raises(GraphError) as raised, detect_anomaly():
            (square_root(leaf([0.0, 1.0, 0.0])) * 0).sum().backward()
        assert "sqrt.backward gave nan in 2 of 3 elements" in str(raised.value)
        assert "sqrt was called here (most recent call last)" in notes(raised)
        assert here(square_root) in notes(raised)
        assert "return opgrad.sqrt(x)" in notes(raised)

    def test_says_so_if_the_forward_was_called_outside(self):
        result = (square_root(leaf([0.0])) * 0).sum()
        with (
            pytest.raises(GraphError, match=r"sqrt\.backward gave nan") as raised,
            detect_anomaly(),
        ):
            result.backward()
        assert "do forward and backward inside" in notes(raised)

    @pytest.mark.parametrize(
        "go_back",
        [
            grad,
            lambda result, a: result.backward(create_graph=True),
            lambda result, a: result.backward(inputs=[a]),
        ],
        ids=["grad", "create_graph", "inputs"],
    )
    def test_is_found_in_every_kind_of_pass(self, go_back):
        a = leaf([0.0])
        with detect_anomaly(), pytest.raises(GraphError, match=r"sqrt\.backward gave nan"):
            go_back((square_root(a) * 0).sum(), a)

    def test_of_a_second_derivative_shows_the_call_whose_backward_it_is(self):
        def cube(x):
            return x**1.5

        x = leaf(0.0)
        with detect_anomaly():
            (first,) = grad(cube(x), x, create_graph=True)
            with pytest.raises(GraphError) as raised:
                (first * 0).backward()
        shown, of, parent = notes(raised).partition("\nin the backward of: pow")
        assert of
        assert here(cube) in parent
        assert here(cube) not in shown

    def test_is_found_in_the_sum_over_broadcast_axes(self):
        x = leaf([1.0])
        with (
            detect_anomaly(),
            pytest.raises(GraphError, match=r"mul\.backward_a gave nan in 1 of 1"),
        ):
            (x * np.array([np.inf, -np.inf])).backward(np.ones(2))

    def test_is_found_in_complex_numbers(self):
        with pytest.raises(GraphError, match="gave nan in 1 of 2"), detect_anomaly():
            (leaf([1j, 2j]) * np.array([complex(0, np.nan), 1])).backward(np.ones(2))

    def test_in_a_gradient_that_nobody_asked_for_is_none(self):
        a, b = leaf(2.0), leaf(3.0)
        with detect_anomaly():
            (result,) = grad(FailsForAll(nan)(a, b), a)
        assert result.item() == 3

    def test_is_left_alone_outside(self):
        a = leaf([0.0])
        (square_root(a) * 0).sum().backward()
        assert np.isnan(a.grad.item())

    @pytest.mark.parametrize("mode", [detect_anomaly, lambda **kw: set_detect_anomaly(True, **kw)])
    def test_is_left_alone_where_it_is_not_looked_for(self, mode):
        a = leaf([0.0])
        with mode(check_nan=False):
            (square_root(a) * 0).sum().backward()
        assert np.isnan(a.grad.item())

    def test_is_not_what_infinity_is(self):
        a = leaf([0.0])
        with detect_anomaly():
            square_root(a).sum().backward()
        assert a.grad.item() == np.inf


# -------------------------------------------------------------------------------- modes


def state():
    return is_anomaly_enabled(), is_anomaly_check_nan_enabled()


class TestAnomalyMode:
    def test_is_off_at_first(self):
        assert state() == (False, False)

    @pytest.mark.parametrize("mode", [detect_anomaly, lambda: set_detect_anomaly(True)])
    def test_is_on_inside_the_block(self, mode):
        with mode():
            assert state() == (True, True)
        assert state() == (False, False)

    def test_nests(self):
        with detect_anomaly():
            with set_detect_anomaly(True, check_nan=False):
                assert state() == (True, False)
                with set_detect_anomaly(False):
                    assert state() == (False, False)
                assert state() == (True, False)
            assert state() == (True, True)

    def test_is_switched_by_a_call(self):
        set_detect_anomaly(True)
        assert state() == (True, True)
        set_detect_anomaly(False)
        assert state() == (False, False)

    def test_goes_back_after_an_exception(self):
        with pytest.raises(KeyError), detect_anomaly():
            raise KeyError
        assert state() == (False, False)

    def test_may_be_entered_again_by_the_same_object(self):
        mode = detect_anomaly()
        with mode, mode:
            assert state() == (True, True)
        assert state() == (False, False)

    def test_is_each_threads_own(self):
        seen = []
        with detect_anomaly():
            thread = contextvars.Context().run(
                threading.Thread, target=lambda: seen.append((state(), leaf(2.0) * 3))
            )
            contextvars.Context().run(thread.start)
            thread.join()
        ((found, result),) = seen
        assert found == (False, False)
        with pytest.raises(GraphError) as raised, detect_anomaly():
            result.backward(np.array(np.nan))
        assert "to see where mul was called" in notes(raised)

    def test_is_each_tasks_own(self):
        async def on(entered, leave):
            with detect_anomaly():
                entered.set()
                await leave.wait()
                assert state() == (True, True)

        async def main():
            entered, leave = asyncio.Event(), asyncio.Event()
            task = asyncio.create_task(on(entered, leave))
            await entered.wait()
            assert state() == (False, False)
            leave.set()
            await task

        asyncio.run(main())

    def test_watches_no_node_when_nobody_has_it(self):
        before = [*graph.recorders], [*graph.runners]
        with detect_anomaly():
            assert len(graph.recorders) == len(before[0]) + 1
            with detect_anomaly():
                assert len(graph.recorders) == len(before[0]) + 1
        assert (graph.recorders, graph.runners) == before

    def test_watches_none_after_a_thread_that_had_it_ended(self):
        before = [*graph.recorders]
        thread = threading.Thread(target=set_detect_anomaly, args=(True,))
        thread.start()
        thread.join()
        assert graph.recorders == before

    def test_keeps_no_node_alive(self):
        gc.collect()
        gc.disable()
        try:
            with detect_anomaly():
                a = leaf(2.0)
                (first,) = grad(a * a * a, a, create_graph=True)
                gone = weakref.ref(first.grad_fn)
                del first
                assert gone() is None
        finally:
            gc.enable()

    def test_that_is_left_on_does_not_disturb_the_end_of_the_program(self):
        code = "import opgrad; opgrad.autograd.set_detect_anomaly(True); opgrad.ones(1)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stderr == b""

    def test_takes_its_name_from_autograd(self):
        for each in ("detect_anomaly", "set_detect_anomaly", "is_anomaly_enabled"):
            assert each in opgrad.autograd.__all__


# ------------------------------------------------------------------------------- parity


PROGRAMS = {
    "nan": lambda lib, x: (lib.sqrt(x) * 0).sum(),
    "inf": lambda lib, x: lib.sqrt(x).sum(),
    "fine": lambda lib, x: (x * 2).sum(),
    "nan from broadcasting": lambda lib, x: (x[1:] * lib.tensor([np.inf, -np.inf])).sum(),
    "nan given": lambda lib, x: (x * 2).sum() * np.nan,
}


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.filterwarnings("ignore:Error detected in")
@pytest.mark.parametrize("check_nan", [False, True])
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_the_same_programs_raise_as_in_pytorch(program, check_nan):
    torch = pytest.importorskip("torch", reason="parity is tested against an installed PyTorch")

    def raises(lib):
        x = lib.tensor([0.0, 1.0], requires_grad=True)
        try:
            with np.errstate(all="ignore"), lib.autograd.detect_anomaly(check_nan=check_nan):
                program(lib, x).backward()
        except RuntimeError:
            return True
        return False

    assert raises(opgrad) is raises(torch)
