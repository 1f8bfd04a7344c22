"""``opgrad.func.checkpoint`` and random numbers: the second call draws those of the first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import opgrad
from opgrad import GraphError
from opgrad.func import checkpoint

#: How each method of NumPy's generator is called that draws.
ARGUMENTS = {
    "random": (3,),
    "uniform": (1.0, 2.0, 3),
    "integers": (0, 100, 3),
    "bytes": (5,),
    "choice": (10, 3),
    "permutation": (5,),
    "permuted": (np.arange(5),),
    "beta": (1.0, 2.0, 3),
    "binomial": (10, 0.5, 3),
    "chisquare": (2.0, 3),
    "dirichlet": ([1.0, 2.0],),
    "exponential": (1.0, 3),
    "f": (1.0, 2.0, 3),
    "gamma": (1.0, 2.0, 3),
    "geometric": (0.5, 3),
    "gumbel": (0.0, 1.0, 3),
    "hypergeometric": (5, 5, 3, 3),
    "laplace": (0.0, 1.0, 3),
    "logistic": (0.0, 1.0, 3),
    "lognormal": (0.0, 1.0, 3),
    "logseries": (0.5, 3),
    "multinomial": (10, [0.5, 0.5]),
    "multivariate_hypergeometric": ([5, 5], 3),
    "multivariate_normal": ([0.0, 0.0], np.eye(2)),
    "negative_binomial": (3, 0.5, 3),
    "noncentral_chisquare": (1.0, 2.0, 3),
    "noncentral_f": (1.0, 2.0, 3.0, 3),
    "normal": (0.0, 1.0, 3),
    "pareto": (1.0, 3),
    "poisson": (5.0, 3),
    "power": (1.0, 3),
    "rayleigh": (1.0, 3),
    "standard_cauchy": (3,),
    "standard_exponential": (3,),
    "standard_gamma": (1.0, 3),
    "standard_normal": (3,),
    "standard_t": (2.0, 3),
    "triangular": (0.0, 1.0, 2.0, 3),
    "vonmises": (0.0, 1.0, 3),
    "wald": (1.0, 2.0, 3),
    "weibull": (1.0, 3),
    "zipf": (2.0, 3),
}


@pytest.fixture(autouse=True)
def generator():
    """Return the generator, seeded."""
    return opgrad.manual_seed(3)


def leaf(values=1.0):
    return opgrad.tensor(values, requires_grad=True)


def both_calls(draw, between=lambda: None):
    """Return what a function draws in the two calls of a checkpoint."""
    drawn = []
    y = checkpoint(lambda x: drawn.append(draw()) or x * 2, leaf())
    between()
    y.backward()
    first, second = drawn
    return first, second


def assert_repeated(draw):
    first, second = both_calls(draw, between=lambda: opgrad.rand(7))
    assert_array_equal(second, first)
    assert np.any(np.asarray(draw()) != first), "drawn anew, it is something else"


class TestAreRepeated:
    @pytest.mark.parametrize(
        "draw",
        [
            lambda: opgrad.rand(5).data,
            lambda: opgrad.randn(5).data,
            lambda: opgrad.rand(5, dtype="complex64").data,
            lambda: opgrad.randn(5, dtype="complex128").data,
            lambda: opgrad.rand_like(opgrad.ones(5)).data,
            lambda: opgrad.randn_like(opgrad.ones(5)).data,
        ],
        ids=["rand", "randn", "rand complex", "randn complex", "rand_like", "randn_like"],
    )
    def test_of_every_function_that_draws(self, draw):
        assert_repeated(draw)

    @pytest.mark.parametrize("method", ARGUMENTS)
    def test_of_every_method_of_the_generator(self, generator, method):
        def draw(source=generator):
            calls = [getattr(source, method)(*ARGUMENTS[method]) for _ in range(20)]
            return [np.frombuffer(each, "u1") if method == "bytes" else each for each in calls]

        first, second = both_calls(draw)
        source = np.random.default_rng(3)
        assert_array_equal(first, draw(source))
        assert_array_equal(second, first)
        assert_array_equal(draw(), draw(source))

    def test_of_a_shuffle(self, generator):
        def draw():
            generator.shuffle(cards := np.arange(50))
            return cards

        assert_repeated(draw)

    def test_of_all_methods_that_there_are(self):
        public = {name for name in vars(np.random.Generator) if not name.startswith("_")}
        assert public == {*ARGUMENTS, "shuffle", "bit_generator", "spawn"}

    def test_of_draws_of_all_kinds_in_their_order(self, generator):
        def draw():
            kinds = (
                opgrad.rand,
                opgrad.randn,
                lambda n: opgrad.tensor(generator.integers(9, size=n)),
            )
            return np.concatenate([kinds[i % 3](i).data for i in range(1, 10)])

        assert_repeated(draw)

    def test_so_that_gradients_are_those_of_the_value(self):
        x = leaf(np.ones(5))
        y = checkpoint(lambda x: x * opgrad.randn(5) * opgrad.rand(5), x)
        opgrad.rand(3)
        y.sum().backward()
        assert_array_equal(x.grad.data, y.data)

    def test_at_every_backward_pass(self):
        x = leaf(np.ones(5))
        y = checkpoint(lambda x: x**2 * opgrad.randn(5), x)
        (once,) = opgrad.autograd.grad(y.sum(), x, create_graph=True)
        (twice,) = opgrad.autograd.grad(once.sum(), x, retain_graph=True)
        (again,) = opgrad.autograd.grad(y.sum(), x)
        for each in (once, twice, again):
            assert_array_equal(each.data, 2 * y.data)

    def test_of_a_draw_that_failed(self):
        def draw():
            first = opgrad.rand(3).data
            with pytest.raises(ValueError, match="negative dimensions"):
                opgrad.rand(-1)
            return [first, opgrad.rand(3).data]

        assert_repeated(draw)

    def test_of_a_draw_that_failed_at_last(self):
        def draw():
            first = opgrad.rand(3).data
            with pytest.raises(ValueError, match="negative dimensions"):
                opgrad.rand(-1)
            return first

        assert_repeated(draw)


def nested(call, x):
    """Draw random numbers in a call, in calls inside of it, and around them."""

    def inner(x):
        return x * opgrad.randn(4) * opgrad.rand(4)

    def outer(x):
        y = call(inner, x) * opgrad.randn(4)
        return call(inner, y + opgrad.rand(4)) * opgrad.rand(4)

    return call(outer, x * opgrad.rand(4)) * opgrad.rand(4)


def without(func, *args):
    return func(*args)


class TestNested:
    def test_are_repeated(self):
        found = []
        for call in (without, checkpoint):
            opgrad.manual_seed(5)
            x = leaf(np.ones(4))
            y = nested(call, x)
            opgrad.rand(3)
            y.sum().backward()
            found.append([y.detach().numpy(), x.grad.numpy(), opgrad.rand(2).numpy()])
        for mine, expected in zip(*found, strict=True):
            assert_array_equal(mine, expected)

    def test_are_repeated_where_the_call_makes_a_backward_pass(self):
        def slope(call):
            def outer(x):
                y = call(lambda x: x**2 * opgrad.randn(4), x).sum() * opgrad.rand()
                (dx,) = opgrad.autograd.grad(y, x, create_graph=True)
                return dx * opgrad.rand(4)

            opgrad.manual_seed(5)
            x = leaf(np.ones(4))
            y = call(outer, x * 1)
            after = opgrad.rand(2)
            y.sum().backward()
            return y, x.grad, after, opgrad.rand(2)

        for mine, expected in zip(slope(checkpoint), slope(without), strict=True):
            assert_array_equal(mine.detach().numpy(), expected.detach().numpy())


class TestTheGeneratorOfTheProcess:
    def test_goes_on_as_without_a_checkpoint(self):
        x = leaf(np.ones(5))
        y = checkpoint(lambda x: x * opgrad.randn(5), x)
        after = opgrad.randn(2)
        y.sum().backward()
        going_on = opgrad.randn(2)
        expected = np.random.default_rng(3)
        assert_array_equal(y.data, expected.standard_normal(5))
        assert_array_equal([*after.data, *going_on.data], expected.standard_normal(4))

    def test_is_left_alone_by_the_second_call(self, generator):
        states = []

        def f(x):
            states.append(generator.bit_generator.state)
            y = x * opgrad.rand()
            states.append(generator.bit_generator.state)
            return y

        y = checkpoint(f, leaf())
        opgrad.rand(3)
        last = generator.bit_generator.state
        y.backward()
        assert states[0] != states[1]
        assert states[2] == states[3] == generator.bit_generator.state == last

    def test_is_seeded_by_the_first_call_alone(self):
        seeded = []

        def draw():
            before = opgrad.rand(2).data
            seeded.append(opgrad.manual_seed(8))
            return [before, opgrad.rand(2).data, seeded[-1].random(2)]

        first, second = both_calls(draw, between=lambda: opgrad.rand(1))
        expected = np.random.default_rng(8)
        assert_array_equal(second, first)
        assert_array_equal(first[1:], expected.random((2, 2)))
        assert_array_equal(opgrad.rand(3).data, expected.random(4)[1:])

    def test_is_drawn_from_after_a_first_call_that_fails(self, generator):
        def fail(x):
            opgrad.rand(2)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            checkpoint(fail, leaf())
        assert_array_equal(opgrad.rand(2).data, np.random.default_rng(3).random(4)[2:])

    def test_is_drawn_from_after_a_second_call_that_fails(self):
        fail = iter([False, True])

        def f(x):
            y = x * opgrad.rand(2)
            if next(fail):
                raise ZeroDivisionError
            return y

        y = checkpoint(f, leaf())
        with pytest.raises(ZeroDivisionError):
            y.sum().backward()
        assert_array_equal(opgrad.rand(2).data, np.random.default_rng(3).random(4)[2:])


class TestOtherThreads:
    """They share the generator; what they draw is neither repeated nor in the way."""

    def test_may_draw_between_the_draws_of_the_first_call(self):
        with ThreadPoolExecutor(1) as pool:
            others = iter([pool.submit, lambda *_: None])

            def draw():
                other = next(others)
                before = opgrad.rand(3).data
                other(lambda: opgrad.rand(7).data).result() if other == pool.submit else None
                return [before, opgrad.rand(3).data]

            first, second = both_calls(draw)
        assert_array_equal(second, first)
        assert_array_equal(
            np.ravel(first), np.random.default_rng(3).random(13)[[0, 1, 2, 10, 11, 12]]
        )

    def test_may_draw_between_the_draws_of_the_second_call(self):
        drawn = []
        with ThreadPoolExecutor(1) as pool:

            def draw():
                before = opgrad.rand(3).data
                drawn.append(pool.submit(lambda: opgrad.rand(2).data).result())
                return [before, opgrad.rand(3).data]

            first, second = both_calls(draw)
        drawn.append(opgrad.rand(2).data)
        assert_array_equal(second, first)
        assert_array_equal(
            np.ravel(drawn), np.random.default_rng(3).random(12)[[3, 4, 8, 9, 10, 11]]
        )

    def test_may_use_checkpoints_too(self):
        def work(_):
            x = leaf(np.ones(50))
            y = checkpoint(lambda x: x * opgrad.rand(50) * opgrad.randn(50), x)
            y.sum().backward()
            return np.array_equal(x.grad.data, y.data)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(400)))

    def test_never_draw_the_same_numbers(self):
        drawn = []

        def work(_):
            checkpoint(lambda x: drawn.append(opgrad.rand(3).data) or x * 1, leaf())

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(200)))
        expected = np.random.default_rng(3).random((200, 3))
        assert_array_equal(sorted(map(tuple, drawn)), sorted(map(tuple, expected)))


class TestADifferentNumberOfDraws:
    @staticmethod
    def gradients(*counts):
        """Draw so many times in the calls, one after the other, and make a backward pass."""
        remaining = iter(counts)
        x = leaf()
        y = checkpoint(lambda x: x * sum((opgrad.rand(2) for _ in range(next(remaining))), 1.0), x)
        y.sum().backward()
        return x.grad

    def test_that_is_greater_at_the_second_call_is_refused(self):
        message = (
            r"checkpoint: .* second call.* drew random numbers 3 times, after 2 at .* Draw them"
        )
        with pytest.raises(GraphError, match=message):
            self.gradients(2, 3)

    def test_that_is_none_at_the_first_call_is_refused(self):
        with pytest.raises(GraphError, match=r"checkpoint: .* 1 times, after 0"):
            self.gradients(0, 1)

    def test_that_is_less_at_the_second_call_is_refused(self):
        with pytest.raises(GraphError, match=r"checkpoint: .* 1 times, after 2 at .* Draw them"):
            self.gradients(2, 1)

    def test_that_is_none_at_the_second_call_repeats_nothing_wrong(self):
        kept = []

        def lazy(x):
            kept[:] = kept or [opgrad.randn(3)]
            return (x * kept[0]).sum()

        x = leaf(np.ones(3))
        checkpoint(lazy, x).backward()
        assert_array_equal(x.grad.data, kept[0].data)

    def test_leaves_the_generator_as_it_is(self):
        with pytest.raises(GraphError):
            self.gradients(1, 2)
        assert_array_equal(opgrad.rand(2).data, np.random.default_rng(3).random(4)[2:])
