"""A mode's block around a `yield`, in a generator that is decorated with a mode itself."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

import opgrad
from opgrad import enable_grad, inference_mode, no_grad, set_grad_enabled


def modes(lib=opgrad):
    """Return whether operations are recorded, and whether it is inference mode."""
    return lib.is_grad_enabled(), lib.is_inference_mode_enabled()


RECORDING, OFF, INFERENCE = (True, False), (False, False), (False, True)


@pytest.fixture(autouse=True)
def modes_are_restored():
    """Every test begins, and has to end, in the modes that Python starts with."""
    assert modes() == RECORDING
    yield
    left = modes()
    set_grad_enabled(True)
    assert left == RECORDING


class TestOfAGenerator:
    """It is the generator's, from step to step, and never its caller's."""

    def test_is_not_its_callers(self, lib):
        @lib.no_grad()
        def generator():
            with lib.enable_grad():
                yield modes(lib)
                yield

        steps = generator()
        assert next(steps) == RECORDING
        assert modes(lib) == RECORDING
        with lib.no_grad():
            next(steps)
            assert modes(lib) == OFF
        assert modes(lib) == RECORDING
        with lib.no_grad():
            assert next(steps, "stopped") == "stopped"
            assert modes(lib) == OFF
        assert modes(lib) == RECORDING

    def test_that_switches_inference_mode_off_is_not_its_callers(self, lib):
        @lib.inference_mode()
        def generator():
            with lib.inference_mode(False):
                yield modes(lib)
            yield modes(lib)

        steps = generator()
        assert next(steps) == RECORDING
        assert modes(lib) == RECORDING
        assert next(steps) == INFERENCE
        assert modes(lib) == RECORDING
        steps.close()
        assert modes(lib) == RECORDING

    @pytest.mark.parametrize(
        ("decorate", "block", "inside", "outside"),
        [
            (no_grad, enable_grad, RECORDING, OFF),
            (enable_grad, no_grad, OFF, RECORDING),
            (enable_grad, lambda: set_grad_enabled(False), OFF, RECORDING),
            (inference_mode, lambda: inference_mode(False), RECORDING, INFERENCE),
            (enable_grad, inference_mode, INFERENCE, RECORDING),
        ],
    )
    def test_holds_in_it_until_it_is_left(self, decorate, block, inside, outside):
        @decorate()
        def generator():
            with block():
                yield modes()
                yield modes()
                with decorate():
                    yield inside
                yield modes()
            yield modes()

        seen = [(each, modes()) for each in generator()]
        assert seen == [(each, RECORDING) for each in [inside] * 4 + [outside]]

    def test_holds_there_whatever_the_modes_of_its_callers(self):
        @no_grad
        def generator():
            with enable_grad():
                yield modes()
                yield modes()
                yield modes()
            yield modes()

        steps = generator()
        with inference_mode():
            assert next(steps) == INFERENCE, "where enable_grad has no effect"
        with no_grad():
            assert next(steps) == RECORDING
        with inference_mode():
            assert next(steps) == INFERENCE
        assert next(steps) == OFF

    def test_goes_back_to_what_the_generator_switched_to_before_it(self, lib):
        @lib.no_grad()
        def generator():
            lib.set_grad_enabled(True)
            with lib.no_grad():
                yield
            yield modes(lib)

        steps = generator()
        next(steps)
        assert modes(lib) == RECORDING
        assert next(steps) == RECORDING
        assert modes(lib) == RECORDING

    def test_goes_back_to_recording_though_it_was_entered_in_inference_mode(self, lib):
        @lib.enable_grad()
        def generator():
            with lib.no_grad():
                yield
            yield modes(lib)

        steps = generator()
        with lib.inference_mode():
            next(steps)
        assert next(steps) == RECORDING

    def test_is_left_when_the_generator_is_closed(self, lib):
        seen = []

        @lib.inference_mode()
        def generator():
            try:
                with lib.inference_mode(False), lib.no_grad():
                    yield
            finally:
                seen.append(modes(lib))

        steps = generator()
        next(steps)
        with lib.no_grad():
            steps.close()
            assert modes(lib) == OFF
        assert seen == [INFERENCE]
        assert modes(lib) == RECORDING

    def test_is_left_by_what_is_thrown_into_it(self, lib):
        @lib.no_grad()
        def generator():
            try:
                with lib.enable_grad():
                    yield
            except KeyError:
                yield modes(lib)
            with lib.enable_grad():
                yield

        steps = generator()
        next(steps)
        assert steps.throw(KeyError) == OFF
        assert modes(lib) == RECORDING
        next(steps)
        with lib.no_grad():
            with pytest.raises(ZeroDivisionError):
                steps.throw(ZeroDivisionError)
            assert modes(lib) == OFF
        assert modes(lib) == RECORDING

    def test_is_each_generators_own_where_several_take_turns(self, lib):
        @lib.no_grad()
        def recording():
            with lib.enable_grad():
                yield
                yield
            yield modes(lib)

        @lib.enable_grad()
        def not_recording():
            with lib.no_grad():
                yield
            yield modes(lib)
            yield

        first, second, third = recording(), not_recording(), recording()
        seen = [(next(steps), modes(lib)) for steps in (first, second, third, first)]
        assert seen == [(None, RECORDING)] * 4
        assert (next(second), modes(lib)) == (RECORDING, RECORDING)
        assert (next(first), modes(lib)) == (OFF, RECORDING)
        first.close()
        assert next(second) is None
        assert next(third) is None
        assert next(third) == OFF

    def test_is_each_generators_own_where_one_steps_through_another(self, lib):
        @lib.no_grad()
        def inner():
            with lib.enable_grad():
                yield modes(lib)
            yield modes(lib)

        @lib.enable_grad()
        def outer():
            with lib.no_grad():
                steps = inner()
                yield next(steps), modes(lib)
                yield from steps
            yield modes(lib)

        assert list(outer()) == [(RECORDING, OFF), OFF, RECORDING]

    def test_is_the_generators_in_another_thread_too(self):
        @no_grad
        def generator():
            with enable_grad():
                yield modes()
                yield modes()
            yield modes()

        steps = generator()
        with ThreadPoolExecutor(1) as pool:
            seen = [pool.submit(next, steps).result(), next(steps), pool.submit(modes).result()]
            seen += [pool.submit(next, steps).result(), pool.submit(modes).result()]
        assert seen == [RECORDING, RECORDING, RECORDING, OFF, RECORDING]

    def test_of_inference_mode_makes_no_inference_tensors_between_the_steps(self):
        @enable_grad
        def generator():
            with inference_mode():
                yield opgrad.ones(2) * 2
                yield opgrad.ones(2) * 2

        for made in generator():
            assert made.is_inference()
            assert not (opgrad.ones(2) * 2).is_inference()


class TestOfAnAsyncGenerator:
    def test_holds_in_it_and_not_in_its_caller(self):
        @no_grad
        async def generator():
            with enable_grad():
                yield modes()
                await asyncio.sleep(0)
                yield modes()
            yield modes()

        async def main():
            seen = [(each, modes()) async for each in generator()]
            return [*seen, modes()]

        there = (RECORDING, RECORDING, OFF)
        assert asyncio.run(main()) == [*((each, RECORDING) for each in there), RECORDING]

    def test_of_inference_mode_likewise(self):
        @inference_mode
        async def generator():
            with inference_mode(False):
                yield modes()
                yield modes()
            yield modes()

        async def main():
            with no_grad():
                return [(each, modes()) async for each in generator()]

        there = (RECORDING, RECORDING, INFERENCE)
        assert asyncio.run(main()) == [(each, OFF) for each in there]

    def test_is_left_when_it_is_closed_and_by_what_is_thrown_into_it(self):
        seen = []

        @no_grad
        async def generator():
            try:
                with enable_grad():
                    yield
            except KeyError:
                yield modes()
            finally:
                seen.append(modes())

        async def main():
            thrown, closed = generator(), generator()
            await anext(thrown)
            await anext(closed)
            seen.append(modes())
            seen.append(await thrown.athrow(KeyError))
            seen.append(modes())
            await closed.aclose()
            seen.append(modes())
            await thrown.aclose()
            seen.append(modes())

        asyncio.run(main())
        assert seen == [RECORDING, OFF, RECORDING, OFF, RECORDING, OFF, RECORDING]

    def test_is_each_generators_own_where_tasks_take_turns(self):
        @no_grad
        async def generator():
            with enable_grad():
                yield modes()
                yield modes()
            yield modes()

        async def step_through(mode):
            with mode:
                seen = []
                async for each in generator():
                    seen.append((each, modes()))
                    await asyncio.sleep(0)
                return seen

        async def main():
            return await asyncio.gather(step_through(enable_grad()), step_through(no_grad()))

        first, second = asyncio.run(main())
        assert first == [(each, RECORDING) for each in (RECORDING, RECORDING, OFF)]
        assert second == [(each, OFF) for each in (RECORDING, RECORDING, OFF)]
