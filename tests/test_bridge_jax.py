"""opgrad's operators as JAX's functions, and JAX's functions as opgrad's operators."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
from bridging import (
    KINDS,
    accumulated,
    carried_out,
    cases_of_family,
    counted,
    expected,
    once,
    opaque,
    parity,
    rectified,
    shown,
    with_arrays,
)
from planting import Floor

import opgrad
from opgrad import Case, GraphError, Operator, OperatorError, hookimpl
from opgrad.check import verify

jax = pytest.importorskip("jax", reason="the bridge to JAX needs an installed JAX")

import jax.numpy as jnp  # noqa: E402 - likewise
from jax.test_util import check_grads  # noqa: E402

from opgrad.bridge.jax import operator, wrap  # noqa: E402

pytestmark = pytest.mark.parity


@pytest.fixture(autouse=True)
def double():
    """Compute with 64 bits, which JAX does only when it is told to."""
    with jax.enable_x64(True):
        yield


def checked(function, *arrays):
    """Have JAX check first and second derivatives, backward and compiled."""
    check_grads(jax.jit(function), arrays, order=2, modes=["rev"])


class Convolved(Operator):
    """The product of a matrix's rows with a vector, called back, and with two inputs."""

    @hookimpl
    def forward(self, x, weight, /):
        return np.einsum("...i,i->...", x, weight)

    @hookimpl
    def backward_x(self, grad, weight):
        return grad[..., None] * weight

    @hookimpl
    def backward_weight(self, grad, x):
        return grad[..., None] * x

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=(3, 2)), rng.normal(size=2))


convolved = Convolved()


# ------------------------------------------------------------------------------------ the way out


@pytest.mark.parametrize(("op", "case"), cases_of_family("elementwise") + KINDS, ids=shown)
def test_jax_confirms_the_derivatives_of(op, case):
    function, arrays = with_arrays(op, case, wrap(op), jnp.asarray)
    checked(function, *arrays)


@pytest.mark.parametrize(("op", "case"), cases_of_family("elementwise") + KINDS, ids=shown)
def test_values_are_those_of_opgrad(op, case):
    function, arrays = with_arrays(op, case, wrap(op), jnp.asarray)
    wanted = [each for each in expected(op, case) if each.dtype.kind == "f"]
    for got, want in zip(function(*map(jnp.asarray, arrays)), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14, atol=1e-15, strict=True)


#: opgrad's name, what JAX calls the same function, shapes for its arguments, and parameters.
SAME = {
    "exp": (jnp.exp, [(3, 2)], {}),
    "sigmoid": (jax.nn.sigmoid, [(3, 2)], {}),
    "logaddexp": (jnp.logaddexp, [(3, 2), (2,)], {}),
    "div": (jnp.divide, [(3, 1), (2,)], {}),
    "pow": (jnp.power, [(3,), (3,)], {}),
    "prod": (jnp.prod, [(3, 2)], {"axis": 0}),
    "std": (jnp.std, [(3, 2)], {"axis": 0}),
    "matmul": (jnp.matmul, [(4, 2, 3), (3, 2)], {}),
}


@pytest.mark.parametrize("name", SAME)
def test_value_and_two_gradients_are_those_of_jaxs_own(name):
    theirs, shapes, parameters = SAME[name]
    rng = np.random.default_rng(0)
    data = [jnp.asarray(rng.uniform(0.5, 2, shape)) for shape in shapes]
    every = tuple(range(len(data)))

    def derivatives(function):
        def total(*arrays):
            return (function(*arrays, **parameters) ** 2).sum()

        def slope(*arrays):
            return sum((each**2).sum() for each in jax.grad(total, every)(*arrays))

        return [total(*data), *jax.grad(total, every)(*data), *jax.grad(slope, every)(*data)]

    for got, want in zip(derivatives(wrap(name)), derivatives(theirs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["mul", "exp", "abs", "div"])
def test_complex_gradients_follow_jaxs_convention(name):
    data = jnp.asarray([[1 + 2j, 0.5 - 1j], [2 - 0.5j, -1 + 1j]])
    theirs = {"mul": jnp.multiply, "exp": jnp.exp, "abs": jnp.abs, "div": jnp.divide}[name]
    count = len(inspect.signature(wrap(name)).parameters)

    def gradients(function):
        def total(*arrays):
            out = function(*arrays)
            return (out * out.conj()).real.sum() + out.real.sum()

        return jax.grad(total, tuple(range(count)))(*data[:count])

    np.testing.assert_allclose(gradients(wrap(name)), gradients(theirs), rtol=1e-13)
    checked(wrap(name), *data[:count])


@pytest.mark.parametrize("power", [2, 3])
def test_derivatives_have_any_order_traced_or_called_back(power):
    def traced(x):
        return wrap("pow")(x, power)

    def called_back(x):
        return wrap(accumulated)(x[None], power=power)[0]

    for function in (traced, called_back):
        slope = function
        wanted, factor = power, 0.3 ** (power - 1)
        for order in range(1, power + 1):
            slope = jax.grad(slope)
            assert float(jax.jit(slope)(0.3)) == pytest.approx(wanted * factor, rel=1e-12)
            wanted, factor = wanted * (power - order), factor / 0.3


@pytest.mark.parametrize(("op", "back"), [("tanh", False), ("std", False), (accumulated, True)])
def test_what_jax_can_trace_it_traces_and_what_not_it_calls_back(op, back):
    def total(x):
        return wrap(op)(x).sum()

    def slope(x):
        return jax.grad(total)(x).sum()

    for function in (total, jax.grad(total), jax.grad(slope)):
        assert ("pure_callback" in str(jax.make_jaxpr(function)(jnp.ones(3)))) is back


@pytest.mark.parametrize("wrapped", [wrap("tanh"), wrap(accumulated)])
def test_vmap_and_jit_nest(wrapped):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))

    def total(x):
        return (wrapped(x) ** 2).sum()

    one_by_one = jnp.stack([jax.grad(total)(each) for each in x])
    np.testing.assert_allclose(jax.vmap(jax.grad(total))(x), one_by_one, rtol=1e-13)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(total)))(x), one_by_one, rtol=1e-13)
    batched = jax.grad(lambda x: jax.vmap(total)(x).sum())
    np.testing.assert_allclose(batched(x), one_by_one, rtol=1e-13)


def test_several_inputs_are_called_back_with_the_right_ones():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(3, 2)), rng.normal(size=2)
    checked(wrap(convolved), x, weight)
    check_grads(wrap(convolved), (x, weight), order=2, modes=["rev"])  # as it stands
    np.testing.assert_allclose(wrap(convolved)(x, weight), x @ weight, rtol=1e-14)
    per_row = jax.vmap(wrap(convolved), in_axes=(0, None))(x, weight)
    np.testing.assert_allclose(per_row, x @ weight, rtol=1e-14)


@pytest.mark.parametrize("wrapped", [wrap("exp"), wrap(accumulated)])
@pytest.mark.parametrize("enabled", [False, True])
def test_dtypes_are_those_that_jax_has_enabled(wrapped, enabled):
    with jax.enable_x64(enabled):
        x = jnp.asarray(np.ones(3))
        assert x.dtype == (np.float64 if enabled else np.float32)
        assert wrapped(x).dtype == x.dtype
        slope = jax.jit(jax.grad(lambda x: jax.grad(lambda x: wrapped(x).sum())(x).sum()))(x)
        assert slope.dtype == x.dtype
        assert wrap("argmax")(x).dtype == (np.int64 if enabled else np.int32)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3)])
def test_arrays_without_axes_or_elements(shape):
    x = jnp.ones(shape)
    np.testing.assert_array_equal(
        jax.grad(lambda x: wrap("square")(x).sum())(x), 2 * np.ones(shape)
    )


@pytest.mark.parametrize("make", [lambda f: f, jax.jit])
def test_gradients_that_nobody_asks_for_have_no_part_in_the_others(make):
    # The derivative by the exponent is the logarithm of a negative number.
    three = jnp.array(3.0)
    slope = jax.grad(lambda x: wrap("pow")(x, three))
    assert make(jax.grad(slope))(-1.5) == -9.0
    assert make(jax.grad(jax.grad(slope)))(-1.5) == 6.0


def test_static_parameters_are_those_of_the_call():
    key, x = np.array([0, 1]), jnp.zeros(3)
    _, back = jax.vjp(lambda x: wrap("getitem")(x, key), x)
    write = jax.jit(lambda x: wrap("setitem")(x, 1.0, key))
    assert write(x).tolist() == [1.0, 1.0, 0.0]
    key[:] = 2
    assert write(x).tolist() == [1.0, 1.0, 0.0]
    assert back(jnp.ones(2))[0].tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("op", ["exp", accumulated])
def test_the_mode_that_opgrad_is_in_does_not_matter(op):
    slope = jax.grad(lambda x: wrap(op)(x * x).sum())
    wanted = slope(jnp.array([2.0]))
    with opgrad.inference_mode():
        assert slope(jnp.array([2.0])).tolist() == wanted.tolist() != [0.0]


def test_integer_outputs_have_no_gradient():
    x = jnp.asarray([1.5, 2.5])
    half, bit = wrap(parity)(x)
    assert bit.tolist() == [1, 0]
    assert jax.grad(lambda x: wrap(parity)(x)[0].sum())(x).tolist() == [0.5, 0.5]
    assert half.tolist() == [0.75, 1.25]
    assert jax.grad(lambda x: (wrap("greater")(x, 2.0) * x).sum())(x).tolist() == [0.0, 1.0]


def test_an_operator_without_gradients_gives_constants():
    assert float(jax.grad(lambda x: wrap(Floor())(x) * x)(2.5)) == 2.0


def test_numbers_alone_give_an_array():
    assert float(wrap("exp")(0.0)) == 1.0


def test_static_parameters_may_be_arrays_of_jax():
    assert wrap("getitem")(jnp.arange(3.0), jnp.asarray([2, 0])).tolist() == [2.0, 0.0]


def test_residuals_reach_the_backward():
    x = jnp.asarray([0.5, -1.0, 3.0])
    slope = jax.vmap(jax.grad(wrap(rectified)))(x)
    assert slope.tolist() == [1.0, 0.0, 6.0]


def test_it_looks_like_the_operator():
    clamp = wrap("clamp")
    assert clamp.__name__ == "clamp"
    assert inspect.signature(clamp) == inspect.signature(opgrad.ops.clamp)
    assert clamp(jnp.asarray([0.0, 5.0]), max=1).tolist() == [0.0, 1.0]


def test_a_kink_has_the_declared_second_derivative_too():
    def spread(x):
        return wrap("std")(x)

    x = jnp.ones(3)
    assert jax.grad(spread)(x).tolist() == [0.0, 0.0, 0.0]
    assert np.isfinite(jax.jacrev(jax.grad(spread))(x)).all()


# ------------------------------------------------------------------------------------ its refusals


@pytest.mark.parametrize("make", [lambda op: op, jax.jit])
def test_a_second_derivative_through_once_differentiable_is_refused(make):
    class CalledBack(type(once)):
        @hookimpl
        def forward(self, x, /):
            return np.power(x, 3), 3 * x**2

    for op in (once, CalledBack()):
        slope = jax.grad(make(wrap(op)))
        assert float(slope(2.0)) == 12.0
        with pytest.raises(GraphError, match="the operator says once_differentiable"):
            jax.grad(slope)(2.0)


def test_a_gradient_that_the_operator_lacks_is_refused():
    def chosen(condition):
        return wrap("where")(condition, 1.0, jnp.ones(2)).sum()

    assert float(chosen(jnp.asarray([1.0, 0.0]))) == 2.0
    with pytest.raises(GraphError, match=r"where: the operator has no gradient.*stop_gradient"):
        jax.grad(chosen)(jnp.asarray([1.0, 0.0]))


class OnlySmall(type(accumulated)):
    """Refuses the numbers that shapes are found out with."""

    @hookimpl
    def forward(self, x, /, power=1, reverse=False):
        if not (np.asarray(x) < 0).all():
            msg = "x is not negative"
            raise ValueError(msg)
        return np.asarray(x)


class Ragged(type(accumulated)):
    """Has a shape that depends on the numbers."""

    @hookimpl
    def forward(self, x, /, power=1, reverse=False):
        return np.asarray(x)[np.asarray(x) > 0.7]


def test_an_operator_that_refuses_the_numbers_to_find_shapes_with_says_so():
    assert wrap(OnlySmall())(-jnp.ones(2)).tolist() == [-1.0, -1.0]
    with pytest.raises(ValueError, match=r"^only_small: x is not negative ") as raised:
        jax.jit(wrap(OnlySmall()))(-jnp.ones(2))
    note = raised.value.__notes__[0]  # JAX adds one that tells of tracebacks
    assert re.match(r"JAX could not trace only_small,.* with other numbers .*float64 \(2,\)", note)


class Bell(Operator):
    """Checks a static parameter."""

    expects = "a positive width"

    @hookimpl
    def forward(self, x, /, width=1.0, *, xp):
        if not width > 0:
            msg = f"the width is {width!r}"
            raise ValueError(msg)
        return xp.exp(-((x / width) ** 2) / 2)

    @hookimpl
    def backward(self, grad, x, out, width):
        return -grad * out * x / width**2

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3), width=2.0)


@pytest.mark.parametrize(
    "make", [lambda f: f, jax.jit, jax.vmap, lambda f: jax.grad(lambda x: f(x).sum())]
)
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: wrap(Bell())(x, width=0),
            r"^bell: the width is 0 \(got x: float64 \(.*\); expected a positive width\)",
        ),
        (lambda x: wrap("sum")(x, axis=7), "^sum: axis 7 is out of bounds .*expected axes that"),
        (
            lambda x: wrap("matmul")(x[..., None], jnp.ones(3)),
            r"^matmul: .*\(got a: .*, b: float64 \(3,\); expected the last axis of a",
        ),
    ],
)
def test_an_error_of_the_operators_is_raised_as_it_is(make, function, message):
    with pytest.raises(ValueError, match=message):
        make(function)(jnp.ones((2, 2)))


def test_it_says_nothing_of_other_numbers_where_it_was_called_with_those_given():
    with pytest.raises(ValueError, match="the width is 0") as raised:
        wrap(Bell())(jnp.ones(2), width=0)
    assert "other numbers" not in "".join(getattr(raised.value, "__notes__", []))


def test_shapes_that_depend_on_numbers_are_refused():
    message = r"ragged: the result is float64 \(1,\), and for other numbers"
    with pytest.raises(Exception, match=message):
        jax.jit(wrap(Ragged()))(jnp.asarray([0.0, 0.0, 0.0, 1.0])).block_until_ready()


def test_dtypes_that_depend_on_numbers_are_refused():
    @Operator.define(backward=lambda grad, out: grad / (2 * out), self_check=matrices)
    def root(x, /):
        return np.emath.sqrt(np.asarray(x))

    assert wrap(root)(jnp.array([-4.0])).tolist() == [2j]
    with pytest.raises(Exception, match=r"root: the result is complex128 \(1,\).*it was float64"):
        jax.jit(wrap(root))(jnp.array([-4.0])).block_until_ready()


def test_residuals_that_are_numbers_must_not_depend_on_numbers():
    assert jax.jit(wrap(counted))(jnp.ones(2)).tolist() == [2.0, 2.0]
    message = "counted: the residual count is 1, and for other numbers of the same shapes 2"
    with pytest.raises(Exception, match=message):
        jax.jit(wrap(counted))(jnp.asarray([1.0, -1.0])).block_until_ready()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: wrap("exp")("x"),
            TypeError,
            "exp: argument 'x' is of type str; expected a jax.Array or a number",
        ),
        (
            lambda: wrap("exp")(jnp.ones(2, jnp.bfloat16)),
            TypeError,
            "exp: argument 'x' is of dtype bfloat16, which NumPy lacks",
        ),
        (
            lambda: wrap("stack")(jnp.ones(2)),
            TypeError,
            "stack: argument 'arrays' is .*expected a list or tuple",
        ),
        (
            lambda: jax.jit(lambda n: wrap("sum")(jnp.ones(2), axis=n))(0),
            TypeError,
            "sum: the static parameter 'axis' is traced by JAX.*static_argnames",
        ),
        (
            lambda: wrap("sum")(jnp.ones(2), axsi=0),
            TypeError,
            r"^sum: got an .* 'axsi'; it is called as sum\(x, .*; did you mean 'axis'\?$",
        ),
        (
            lambda: jax.grad(lambda x: wrap(opaque)(x).sum())(jnp.ones(2)),
            TypeError,
            "opaque: JAX hands residuals on as arrays, and note is none",
        ),
        (lambda: wrap(Operator), TypeError, r"'operator' is <class .*an instance"),
    ],
)
def test_arguments_that_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ------------------------------------------------------------------------------------- the way in


def log_cosh(x):
    """The logarithm of the hyperbolic cosine."""
    return jnp.log(jnp.cosh(x))


def weighted(x, weight, *, axis=-1):
    """A sum with weights, and something beside it."""
    return (x * jnp.sin(weight)).sum(axis), x**2


def matrices(rng):
    yield Case(rng.normal(size=(3, 2)))
    yield Case(rng.normal(size=()))


def pairs(rng):
    yield Case(rng.normal(size=(2, 2)), rng.normal(size=2), axis=0)
    yield Case(rng.normal(size=2) + 1j, rng.normal(size=2), axis=0)


def assert_passes(op):
    report = verify(op)
    assert report.passed, report


@pytest.mark.parametrize("compiled", [False, True])
def test_a_function_becomes_an_operator_that_the_verifier_passes(compiled):
    op = operator(jax.jit(log_cosh) if compiled else log_cosh, self_check=matrices)
    assert (op.name, str(inspect.signature(op))) == ("log_cosh", "(x, /)")
    assert type(op).__doc__ == log_cosh.__doc__
    x = opgrad.tensor([0.5], requires_grad=True)
    op(x).backward()
    assert x.grad.item() == pytest.approx(np.tanh(0.5), rel=1e-14)
    assert_passes(op)


def test_a_function_of_several_arguments_and_outputs():
    assert_passes(operator(weighted, self_check=pairs))


def test_the_verifier_fails_a_function_with_a_wrong_gradient():
    @jax.custom_vjp
    def wrong(x):
        return log_cosh(x)

    wrong.defvjp(lambda x: (log_cosh(x), x), lambda x, grad: (-grad * jnp.tanh(x),))
    report = verify(operator(wrong, self_check=matrices, name="wrong", inputs=["x"]))
    assert not report.passed
    assert "first_order" in {each.probe for each in report.findings if each.status == "FAIL"}


def test_derivatives_of_what_came_in_have_any_order():
    op = operator(jnp.exp, self_check=matrices, inputs=["x"])
    x = opgrad.tensor(0.3, requires_grad=True)
    y = op(x)
    for _ in range(4):
        (y,) = opgrad.autograd.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(np.exp(0.3), rel=1e-14)


def test_several_outputs_may_be_a_named_tuple():
    determinant = operator(jnp.linalg.slogdet, self_check=matrices, name="determinant")
    a = opgrad.tensor([[2.0, 1.0], [0.5, 3.0]], requires_grad=True)
    determinant(a)[1].backward()
    np.testing.assert_allclose(a.grad.numpy(), np.linalg.inv(a.detach().numpy()).T)


def test_there_and_back_again():
    cube = wrap(operator(lambda x: x**3, self_check=matrices, name="cube"))
    assert jax.jit(cube)(2.0) == 8.0
    assert jax.jit(jax.grad(jax.grad(cube)))(jnp.array(2.0)) == 12.0
    assert jax.vmap(jax.grad(cube))(jnp.array([1.0, 2.0])).tolist() == [3.0, 12.0]


def test_dtypes_stay_with_64_bits_or_without():
    op = operator(jnp.multiply, self_check=pairs, inputs=["a", "b"], name="product")
    with jax.enable_x64(False):
        for dtype in (np.float32, np.float64, np.complex64, np.complex128):
            x = opgrad.tensor(np.ones(2, dtype), requires_grad=True)
            y = op(x, 2.0)
            assert y.dtype == dtype
            (slope,) = opgrad.autograd.grad(abs(y).sum(), x)
            assert (slope.dtype, slope.tolist()) == (dtype, [2.0, 2.0])


def test_single_precision_enables_no_64_bits():
    op = operator(lambda x, y: x + y * jnp.arange(2.0), self_check=pairs, name="line")
    with jax.enable_x64(False):
        for dtype in (np.float32, np.complex64):
            assert op(opgrad.tensor(np.ones(2, dtype)), 2.0).dtype == dtype


def test_it_serves_as_an_entry_point(site):
    site.install(
        "acme-ops",
        operators={"acme.log_cosh": "acme_jax:log_cosh"},
        acme_jax="""
            import jax.numpy as jnp
            from opgrad import Case
            from opgrad.bridge.jax import operator

            def log_cosh(x):
                return jnp.log(jnp.cosh(x))

            log_cosh = operator(log_cosh, self_check=lambda rng: [Case(rng.normal(size=3))])
        """,
    )
    assert_passes("acme.log_cosh")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: operator(log_cosh, self_check=matrices, inputs=["y"]),
            "operator log_cosh: there is no argument 'y' to be an input.*there are x",
        ),
        (
            lambda: operator(lambda *arrays: arrays[0], self_check=matrices, name="first"),
            r"operator first: the function's signature does not tell.*inputs=\('x', 'y'\)",
        ),
        (lambda: operator(lambda x: x, self_check=matrices), "'name' is '<lambda>'"),
        (
            lambda: operator(3, self_check=matrices),
            r"^operator: argument 'function' is 3; expected a function of JAX's arrays",
        ),
    ],
)
def test_definitions_that_are_refused(make, message):
    with pytest.raises(OperatorError, match=message):
        make()


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: None, "of type NoneType"),
        (lambda x: (x, "y"), "of type str"),
        (lambda x: {"y": x}, "of type dict"),
        (lambda x: np.asarray([None]), "of dtype object"),
        (lambda x: x.astype(jnp.bfloat16), "of dtype bfloat16"),
    ],
)
def test_functions_that_return_something_else_are_refused(function, what):
    made = operator(function, self_check=matrices, name="odd")
    expected = f"^odd: what the function returned is {what}; expected .*jax.Array.*got x: float64"
    with pytest.raises(TypeError, match=expected):
        made(np.ones((2, 2)))


def test_functions_may_return_numpys_arrays_and_numbers():
    made = operator(lambda x: (np.ones(2), 3.5), self_check=matrices, name="constants")
    assert [each.tolist() for each in made(np.ones((2, 2)))] == [[1.0, 1.0], 3.5]


@pytest.mark.parametrize("title", ["An operator in JAX", "A function of JAX as an operator"])
def test_the_documentation_shows_what_happens(title):
    said, done = carried_out(title)
    assert done == said
