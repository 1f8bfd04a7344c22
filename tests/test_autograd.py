"""What the functions of `opgrad.autograd` take, and what they say of anything else.

Where a test takes `lib` it states what opgrad and PyTorch have in common, and runs on both.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import opgrad
from opgrad import autograd
from opgrad.autograd.graph import GradientEdge, increment_version


def leaf(*values):
    return opgrad.tensor(list(values), requires_grad=True)


X = leaf(1.0, 2.0)
Y = X * 2
NODE = Y.grad_fn

#: Calls, and what is said to be wrong.
NO_TENSORS = {
    "a number to start at": (lambda: autograd.backward(3.0), "backward: tensors[0] is 3.0"),
    "a string to start at": (lambda: autograd.backward("ab"), "backward: tensors[0] is str"),
    "nothing to start at": (lambda: autograd.backward(None), "backward: tensors[0] is None"),
    "one of two to start at": (lambda: autograd.backward([Y, 3]), "backward: tensors[1] is 3"),
    "a number as output": (lambda: autograd.grad(3, X), "grad: outputs[0] is 3"),
    "an array": (lambda: autograd.grad(Y, [np.ones(2)]), "grad: inputs[0] is float64 (2,)"),
    "a string": (lambda: autograd.grad(Y, "x"), "grad: inputs[0] is str"),
    "a list in a list": (lambda: autograd.grad(Y, [[X]]), "grad: inputs[0] is list"),
    "a tuple for an edge": (lambda: autograd.grad(Y, (NODE, 0)), "grad: inputs[0] is MulBackward0"),
    "tuples for edges": (lambda: autograd.grad(Y, [X, (NODE, 0)]), "grad: inputs[1] is tuple"),
    "a number to add to": (lambda: Y.backward(inputs=[3.0]), "backward: inputs[0] is 3.0"),
    "a number, alone": (lambda: Y.backward(inputs=3), "backward: inputs[0] is 3"),
}


@pytest.mark.parametrize("case", NO_TENSORS)
def test_what_is_no_tensor_is_named(case):
    call, wrong = NO_TENSORS[case]
    what_to_do = "expected a tensor that requires grad, or an edge from opgrad.autograd.graph.get_"
    with pytest.raises(TypeError, match="^" + re.escape(f"{wrong}; {what_to_do}")):
        call()


@pytest.mark.parametrize("given", [(None, 0), ("x", 0), (NODE, 1), (NODE, -1), (NODE, "0")])
def test_an_edge_has_to_be_a_place_in_a_graph(given):
    with pytest.raises(ValueError, match=r"GradientEdge.* is no place in a graph; .*get_gradient"):
        autograd.grad(Y, GradientEdge(*given))


def test_there_has_to_be_something_to_differentiate_with_respect_to(lib):
    y = lib.tensor([1.0], requires_grad=True) * 2
    for call in (lambda: lib.autograd.grad(y, []), lambda: y.backward(inputs=[])):
        with pytest.raises((RuntimeError, ValueError), match="empty"):
            call()


def test_batched_gradients_of_what_is_unused_are_zeros_of_its_shape(lib):
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    unused = lib.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    dx, zeros = lib.autograd.grad(
        x * 2, [x, unused], lib.eye(2), is_grads_batched=True, materialize_grads=True
    )
    assert (dx.tolist(), zeros.tolist()) == ([[2, 0], [0, 2]], [[0, 0, 0]])


@pytest.mark.parametrize(
    ("given", "got"), [(3, "3"), ("ab", "str"), ([X, None], "None"), (None, "None")], ids=str
)
def test_only_tensors_have_a_version_to_increment(given, got):
    before = X._version
    with pytest.raises(TypeError, match=rf"^increment_version: got {got}; expected a tensor, or s"):
        increment_version(given)
    assert X._version == before
