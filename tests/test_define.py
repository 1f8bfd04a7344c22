"""Operators that are defined by functions, without a class statement: `Operator.define`."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import opgrad
from opgrad import Case, Operator, OperatorError
from opgrad.check import verify
from opgrad.check.mutants import mutants
from opgrad.hookspecs import hookimpl
from opgrad.plugins import PluginManager


def backward(grad, x, beta, xp):
    return grad / (1 + xp.exp(-beta * x))


def cases(rng):
    yield Case(rng.normal(size=3))
    yield Case(rng.normal(size=(2, 3)), beta=2.0)


def forward(x, /, beta=1.0, *, xp):
    """Smooth positive part."""
    return xp.logaddexp(0.0, beta * x) / beta


@pytest.fixture
def softplus():
    def soft_plus(x, /, beta=1.0, *, xp):
        """Smooth positive part."""
        return xp.logaddexp(0.0, beta * x) / beta

    return Operator.define(backward=backward, self_check=cases, aliases=("sp",))(soft_plus)


class TestTheOperator:
    def test_has_the_functions_name_and_docstring(self, softplus):
        assert softplus.name == softplus.function.__name__ == "soft_plus"
        assert inspect.getdoc(softplus) == softplus.function.__doc__ == "Smooth positive part."

    def test_has_the_functions_signature(self, softplus):
        assert str(inspect.signature(softplus)) == "(x, /, beta=1.0)"

    def test_has_nodes_named_after_it(self, softplus):
        out = softplus(opgrad.tensor(0.0, requires_grad=True))
        assert out.grad_fn.name() == "SoftPlusBackward0"

    def test_is_an_instance_of_a_subclass_in_the_functions_module(self, softplus):
        assert isinstance(softplus, Operator)
        assert type(softplus).__module__ == __name__

    def test_has_the_attributes_that_are_given(self, softplus):
        assert softplus.aliases == ("sp",)

    def test_has_values_and_gradients_of_every_order(self, softplus):
        x = opgrad.tensor([0.0, 1.0], requires_grad=True)
        y = softplus(x, beta=2.0)
        np.testing.assert_allclose(y.detach().data, np.log1p(np.exp([0.0, 2.0])) / 2)
        (g,) = opgrad.autograd.grad(y.sum(), x, create_graph=True)
        s = 1 / (1 + np.exp([0.0, -2.0]))
        np.testing.assert_allclose(g.detach().data, s)
        (h,) = opgrad.autograd.grad(g.sum(), x)
        np.testing.assert_allclose(h.data, 2 * s * (1 - s))

    def test_saves_what_its_backward_names(self, softplus):
        node = softplus(opgrad.tensor([1.0], requires_grad=True), beta=3.0).grad_fn
        assert node.names == ("x", "beta")

    def test_is_verified(self, softplus):
        assert verify(softplus).passed

    @pytest.mark.parametrize("at", range(3))
    def test_is_found_wrong_where_it_is(self, at):
        wrong = [
            lambda grad, x, beta, xp: grad / (1 + xp.exp(beta * x)),
            lambda grad, x, beta, xp: beta * grad / (1 + xp.exp(-beta * x)),
            lambda grad, x, beta, xp: grad / (1 + xp.exp(-x)),
        ]
        assert not verify(Operator.define(forward, backward=wrong[at], self_check=cases)).passed

    def test_may_be_made_without_the_decorator(self):
        made = Operator.define(forward, backward=backward, self_check=cases)
        assert made.name == "forward"
        assert made(0.0).item() == np.log(2.0)

    def test_may_be_given_forward_by_its_name(self):
        made = Operator.define(forward=forward, backward=backward, self_check=cases)
        assert made(0.0).item() == np.log(2.0)

    def test_may_set_what_a_family_has_beside(self):
        class Family(Operator):
            scale = 1.0

        made = Family.define(forward, backward=backward, self_check=cases, scale=2.0)
        assert made.scale == 2.0

    def test_may_have_a_family_as_its_base(self):
        class Family(Operator):
            expects = "what families expect"

            @hookimpl
            def self_check(self, rng):
                return cases(rng)

        made = Family.define(forward, backward=backward)
        assert isinstance(made, Family)
        assert verify(made).passed

    def test_may_have_a_reference(self):
        right = Operator.define(
            forward,
            backward=backward,
            self_check=cases,
            reference=lambda x, beta=1.0: np.log(1 + np.exp(beta * x)) / beta,
        )
        wrong = Operator.define(
            forward, backward=backward, self_check=cases, reference=lambda x, beta=1.0: x
        )
        assert verify(right, only=["matches_reference"]).passed
        assert not verify(wrong, only=["matches_reference"]).passed

    def test_registers_with_pluggy_as_any_other(self, softplus):
        manager = PluginManager("opgrad")
        manager.register_operator(softplus, "acme.soft_plus")
        assert manager.get_plugin("acme.soft_plus") is softplus
        (case, *_) = getattr(manager.hook, "acme.soft_plus.self_check")(
            rng=np.random.default_rng(0)
        )
        assert case.inputs[0].shape == (3,)

    def test_has_mutants_with_and_without_the_text_of_its_hooks(self, softplus):
        kinds = {each.mutation for each in mutants(softplus)}
        by_lambda = Operator.define(
            forward, backward=lambda grad, x, beta, xp: grad / (1 + xp.exp(-beta * x)),
            self_check=cases,
        )  # fmt: skip
        assert kinds - {each.mutation for each in mutants(by_lambda)} == {"dropped term"}


class TestADefinition:
    @pytest.mark.parametrize(
        ("members", "said"),
        [
            ({"self_check": cases}, "Forward lacks a backward hook"),
            ({"backward": backward}, "Forward declares no self_check"),
            (
                {"backwards": backward},
                "'backwards' is neither a hook nor .*; did you mean 'backward'",
            ),
            ({"backward_y": backward}, "Forward.backward_y: there is no such hook"),
            ({"function": backward}, "'function' is neither a hook nor an attribute"),
            ({"compiled": backward}, "'compiled' is neither a hook nor an attribute"),
            ({"aliases": "square"}, r"Forward.aliases is 'square'; expected a tuple of names"),
            ({"aliases": None}, r"Forward.aliases is None; expected a tuple of names"),
            ({"residuals": "mask"}, r"Forward.residuals is 'mask'; expected a tuple of names"),
            ({"once_differentiable": "no"}, r"is 'no'; expected True or False"),
            ({"domain": {"x": 5}}, r"Forward.domain is {'x': 5}; expected a mapping from inputs"),
            ({"domain": [1]}, r"Forward.domain is \[1\]; expected a mapping"),
            ({"overloads": [1]}, r"Forward.overloads is \[1\]; expected a mapping"),
            ({"node_name": 5}, r"Forward.node_name is 5; expected a text"),
            ({"reference": 5}, r"Forward.reference is 5; expected a method"),
            ({"forward": backward}, "forward: forward is given twice"),
            ({"alias": ("a",)}, "'alias' is neither a hook .*; did you mean 'aliases'"),
            ({"self_check": [Case(1.0)]}, r"the hook self_check is \[.*expected a function"),
        ],
    )
    def test_that_does_not_keep_the_contract_is_an_error(self, members, said):
        with pytest.raises(OperatorError, match=said):
            Operator.define(forward, **members)

    def test_that_misspells_an_argument_names_the_nearest(self):
        with pytest.raises(OperatorError, match="did you mean 'beta'"):
            Operator.define(forward, backward=lambda grad, bata: grad, self_check=cases)

    def test_of_what_is_no_function_is_an_error(self):
        with pytest.raises(OperatorError, match=r"Operator.define got <ufunc 'exp'> as forward"):
            Operator.define(np.exp, backward=backward, self_check=cases)
