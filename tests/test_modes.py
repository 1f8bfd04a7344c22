"""Whether operations are recorded: `no_grad`, `enable_grad`, `set_grad_enabled`."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import opgrad
from opgrad import enable_grad, is_grad_enabled, no_grad, set_grad_enabled

MODES = {
    "no_grad": (no_grad, False),
    "enable_grad": (enable_grad, True),
    "set_grad_enabled(False)": (lambda: set_grad_enabled(False), False),
    "set_grad_enabled(True)": (lambda: set_grad_enabled(True), True),
}

every_mode = pytest.mark.parametrize(("mode", "enabled"), MODES.values(), ids=MODES)
in_both = pytest.mark.parametrize("outside", [True, False])


@pytest.fixture(autouse=True)
def mode_is_restored():
    """Every test begins, and has to end, in the mode that Python starts with."""
    assert is_grad_enabled()
    yield
    left_on = is_grad_enabled()
    set_grad_enabled(True)
    assert left_on


def recorded():
    """Tell whether an operation is recorded just now."""
    return (opgrad.ones(2, requires_grad=True) * 2).requires_grad


class TestRecording:
    def test_is_on_from_the_start(self):
        assert is_grad_enabled()
        assert recorded()

    @every_mode
    def test_follows_the_mode(self, mode, enabled):
        with mode():
            assert is_grad_enabled() is enabled
            assert recorded() is enabled

    def test_off_gives_results_that_are_leaves_without_a_graph(self):
        a = opgrad.ones(2, requires_grad=True)
        with no_grad():
            result = a * 2
        assert result.is_leaf
        assert result.grad_fn is None
        assert result.requires_grad_().grad_fn is None

    def test_off_still_makes_leaves_that_require_grad(self):
        with no_grad():
            a = opgrad.ones(2, requires_grad=True)
            b = opgrad.ones(2).requires_grad_()
        assert a.requires_grad
        assert b.requires_grad

    def test_off_cuts_the_gradient(self):
        a = opgrad.tensor(3.0, requires_grad=True)
        with no_grad():
            factor = a * a
        (factor * a).backward()
        assert a.grad.item() == 9


class TestContextManager:
    @every_mode
    @in_both
    def test_restores_what_was_before(self, mode, enabled, outside):
        with set_grad_enabled(outside):
            with mode():
                assert is_grad_enabled() is enabled
            assert is_grad_enabled() is outside

    @every_mode
    @in_both
    def test_restores_it_after_an_exception(self, mode, enabled, outside):
        with set_grad_enabled(outside):
            with pytest.raises(KeyError), mode():
                raise KeyError
            assert is_grad_enabled() is outside

    def test_nests(self):
        seen = []
        with no_grad():
            seen.append(is_grad_enabled())
            with enable_grad():
                seen.append(is_grad_enabled())
                with no_grad():
                    seen.append(is_grad_enabled())
                seen.append(is_grad_enabled())
            seen.append(is_grad_enabled())
        seen.append(is_grad_enabled())
        assert seen == [False, True, False, True, False, True]

    def test_can_be_entered_again_also_while_it_is_entered(self):
        mode = no_grad()
        for _ in range(2):
            with mode:
                with enable_grad(), mode:
                    assert not is_grad_enabled()
                assert not is_grad_enabled()
            assert is_grad_enabled()

    def test_restores_after_an_exception_inside_an_operator(self):
        a = opgrad.ones(2, 3, requires_grad=True)
        with pytest.raises(ValueError, match="mul"), no_grad():
            a * opgrad.ones(4)

    def test_restores_after_an_exception_inside_a_backward_pass(self):
        a = opgrad.ones(2, requires_grad=True)
        result = (a * a).sum()
        result.backward()
        with no_grad():
            with pytest.raises(opgrad.GraphError):
                result.backward(create_graph=True)
            assert not is_grad_enabled()


class TestCall:
    @in_both
    def test_of_set_grad_enabled_acts_at_once_and_until_the_next(self, outside):
        set_grad_enabled(not outside)
        set_grad_enabled(outside)
        assert is_grad_enabled() is outside
        assert recorded() is outside
        set_grad_enabled(True)

    def test_of_set_grad_enabled_inside_a_block_ends_with_the_block(self):
        with enable_grad():
            set_grad_enabled(False)
            assert not is_grad_enabled()
        assert is_grad_enabled()

    def test_of_set_grad_enabled_may_be_made_before_its_block(self):
        mode = set_grad_enabled(False)
        assert not is_grad_enabled()
        with mode:
            assert not is_grad_enabled()
        assert is_grad_enabled()

    def test_of_no_grad_and_enable_grad_alone_does_nothing(self):
        no_grad()
        assert is_grad_enabled()
        with no_grad():
            enable_grad()
            assert not is_grad_enabled()


class TestDecorator:
    @pytest.mark.parametrize(
        "decorator", [lambda: no_grad, no_grad, lambda: set_grad_enabled(False)]
    )
    def test_works_with_and_without_parentheses(self, decorator):
        @decorator()
        def decorated():
            return is_grad_enabled(), recorded()

        assert is_grad_enabled(), "decorating by itself changes nothing"
        assert decorated() == (False, False)
        assert is_grad_enabled()

    @pytest.mark.parametrize("decorate", [enable_grad, enable_grad()])
    def test_switches_on_inside_off(self, decorate):
        decorated = decorate(is_grad_enabled)
        with no_grad():
            assert decorated()
            assert not is_grad_enabled()

    def test_passes_arguments_and_result_and_keeps_name_and_signature(self):
        @no_grad()
        def scale(x, *, by=2):
            """Scale it."""
            return x * by

        assert scale(3, by=5) == 15
        assert scale.__name__ == "scale"
        assert scale.__doc__ == "Scale it."
        assert str(inspect.signature(scale)) == "(x, *, by=2)"

    def test_restores_after_an_exception(self):
        @no_grad
        def fail():
            raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert is_grad_enabled()

    def test_allows_recursion(self):
        @no_grad()
        def countdown(n):
            return [is_grad_enabled()] + (countdown(n - 1) if n else [])

        assert countdown(3) == [False] * 4
        assert is_grad_enabled()

    def test_works_on_methods(self):
        class Model:
            @no_grad()
            def predict(self):
                return is_grad_enabled()

        assert Model().predict() is False

    def test_of_a_generator_holds_while_it_runs_and_only_then(self):
        @no_grad()
        def generator():
            received = yield is_grad_enabled()
            try:
                yield received, is_grad_enabled()
            except KeyError:
                yield "caught", is_grad_enabled()
            return "returned"

        steps = generator()
        assert next(steps) is False
        assert is_grad_enabled()
        assert steps.send("sent") == ("sent", False)
        assert steps.throw(KeyError) == ("caught", False)
        assert is_grad_enabled()
        with pytest.raises(StopIteration) as stopped:
            next(steps)
        assert stopped.value.value == "returned"

    def test_of_a_generator_lets_it_clean_up_when_it_is_closed(self):
        seen = []

        @no_grad()
        def generator():
            try:
                yield
            finally:
                seen.append(is_grad_enabled())

        steps = generator()
        next(steps)
        steps.close()
        assert seen == [False]
        assert is_grad_enabled()

    def test_of_a_coroutine_holds_until_it_is_done(self):
        @no_grad()
        async def coroutine():
            before = is_grad_enabled()
            await asyncio.sleep(0)
            return before, is_grad_enabled()

        async def main():
            result = await coroutine()
            return result, is_grad_enabled()

        assert asyncio.run(main()) == ((False, False), True)

    def test_of_an_async_generator_holds_while_it_runs_and_only_then(self):
        @no_grad()
        async def generator():
            received = yield is_grad_enabled()
            await asyncio.sleep(0)
            try:
                yield received, is_grad_enabled()
            except KeyError:
                yield "caught", is_grad_enabled()

        async def main():
            steps = generator()
            seen = [await anext(steps), is_grad_enabled()]
            seen += [await steps.asend("sent"), is_grad_enabled()]
            seen += [await steps.athrow(KeyError), is_grad_enabled()]
            return [*seen, await anext(steps, "stopped")]

        assert asyncio.run(main()) == [
            False, True, ("sent", False), True, ("caught", False), True, "stopped"
        ]  # fmt: skip

    def test_of_an_async_generator_lets_it_clean_up_when_it_is_closed(self):
        seen = []

        @no_grad()
        async def generator():
            try:
                yield
            finally:
                await asyncio.sleep(0)
                seen.append(is_grad_enabled())

        async def main():
            steps = generator()
            await anext(steps)
            await steps.aclose()
            return is_grad_enabled()

        assert asyncio.run(main())
        assert seen == [False]

    def test_of_an_async_generator_is_undone_when_it_fails(self):
        @no_grad()
        async def generator():
            yield
            raise KeyError

        async def main():
            steps = generator()
            await anext(steps)
            with pytest.raises(KeyError):
                await anext(steps)
            return is_grad_enabled()

        assert asyncio.run(main())


class TestThreads:
    def test_start_with_recording_on(self):
        with no_grad(), ThreadPoolExecutor(1) as pool:
            assert pool.submit(is_grad_enabled).result()
            assert not is_grad_enabled()

    def test_do_not_see_each_others_modes(self):
        inside, done = threading.Barrier(2), threading.Barrier(2)

        def switched_off():
            with no_grad():
                inside.wait()
                done.wait()
                return is_grad_enabled()

        def left_on():
            inside.wait()
            seen = is_grad_enabled(), recorded()
            done.wait()
            return seen

        with ThreadPoolExecutor(2) as pool:
            off, on = pool.submit(switched_off), pool.submit(left_on)
            assert on.result() == (True, True)
            assert off.result() is False

    def test_may_share_one_mode_object(self):
        shared = no_grad()
        entered, left = threading.Barrier(2), threading.Barrier(2)

        def started_on():
            with shared:
                entered.wait()
            left.wait()
            return is_grad_enabled()

        def started_off():
            set_grad_enabled(False)
            with shared:
                entered.wait()
                left.wait()
            return is_grad_enabled()

        with ThreadPoolExecutor(2) as pool:
            on, off = pool.submit(started_on), pool.submit(started_off)
            assert on.result() is True
            assert off.result() is False


class TestTasks:
    def test_do_not_see_each_others_modes(self):
        async def switched_off(inside, done):
            with no_grad():
                inside.set()
                await done.wait()
                return is_grad_enabled()

        async def left_on(inside, done):
            await inside.wait()
            seen = is_grad_enabled(), recorded()
            done.set()
            return seen

        async def main():
            events = asyncio.Event(), asyncio.Event()
            return await asyncio.gather(switched_off(*events), left_on(*events))

        assert asyncio.run(main()) == [False, (True, True)]

    def test_start_in_the_mode_that_they_were_made_in(self):
        async def seen():
            return is_grad_enabled()

        async def main():
            with no_grad():
                task = asyncio.create_task(seen())
            return await task, await asyncio.create_task(seen())

        assert asyncio.run(main()) == (False, True)
