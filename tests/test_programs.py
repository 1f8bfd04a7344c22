"""Random programs do the same in opgrad and in PyTorch, step by step.

A program is a list of steps, each one an operation with the numbers of the tensors that it is
applied to. Both libraries carry it out side by side. After each step all that a user sees of every
tensor must agree: value, gradient, `is_leaf`, `requires_grad`, the name of the `grad_fn`; and so
must which steps raise. Where the two differ on purpose is in ``docs/differences.md`` and, here, in
`ONLY_IN_TORCH`, `ONLY_IN_OPGRAD` and `NAMES`.
"""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import opgrad

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch", reason="parity is tested against an installed PyTorch")
    before = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield torch
    torch.set_default_dtype(before[0])
    torch.set_num_threads(before[1])


# ------------------------------------------------------------------------------ the steps

# NumPy's indices that PyTorch has not, such as negative steps, are left out.
KEYS = [
    0,
    -1,
    slice(1, None),
    slice(None, None, 2),
    (slice(None), 0),
    (slice(None), slice(0, 1)),
    (..., None),
    (None, 0),
    (..., -1),
    ...,
    slice(None),
]
PLACES = [[0, 0], [1, 0], (slice(None), [1, 1])]
SHAPES = [(-1,), (3, 2), (6,), (2, 3), (1, 3), (3, 1), ()]
NUMBERS = [2.0, -0.5, 3, 0, 1]


def pick(options, n):
    return options[n % len(options)]


def mask(lib, x):
    return x.detach() > 0


#: What makes new tensors: from the library, two tensors, a number to choose with.
MAKING = {
    "sin": lambda lib, x, y, n: x.sin(),
    "cos": lambda lib, x, y, n: x.cos(),
    "tanh": lambda lib, x, y, n: x.tanh(),
    "sigmoid": lambda lib, x, y, n: x.sigmoid(),
    "neg": lambda lib, x, y, n: -x,
    "abs": lambda lib, x, y, n: abs(x),
    "square": lambda lib, x, y, n: x**2,
    "add": lambda lib, x, y, n: x + y,
    "sub": lambda lib, x, y, n: x - y,
    "mul": lambda lib, x, y, n: x * y,
    "scaled": lambda lib, x, y, n: x * pick(NUMBERS, n),
    "shifted": lambda lib, x, y, n: pick(NUMBERS, n) - x,
    "halved": lambda lib, x, y, n: x / 2,
    "div": lambda lib, x, y, n: x / (y * y + 1),
    "pow": lambda lib, x, y, n: (x * x + 0.5) ** y.tanh(),
    "maximum": lambda lib, x, y, n: lib.maximum(x, y),
    "where": lambda lib, x, y, n: lib.where(x > y, x, 2 * y),
    "clamp": lambda lib, x, y, n: x.clamp(-0.5, 0.5),
    "sum": lambda lib, x, y, n: x.sum() if n % 3 == 2 else x.sum(n % 3, keepdims=n > 4),
    "mean": lambda lib, x, y, n: x.mean() if n % 3 == 2 else x.mean(n % 3),
    "matmul": lambda lib, x, y, n: x @ y,
    "clone": lambda lib, x, y, n: x.clone(),
    "stack": lambda lib, x, y, n: lib.stack([x, y]),
    "index": lambda lib, x, y, n: x[pick(PLACES, n)],
    "masked": lambda lib, x, y, n: x[mask(lib, x)],
}

#: What looks at the memory of another tensor.
VIEWING = {
    "getitem": lambda lib, x, y, n: x[pick(KEYS, n)],
    "reshape": lambda lib, x, y, n: x.reshape(pick(SHAPES, n)),
    "T": lambda lib, x, y, n: lib.swapaxes(x, 0, 1),
    "squeeze": lambda lib, x, y, n: x.squeeze(),
    "expand_dims": lambda lib, x, y, n: expand_dims(lib, x, n % 2),
    "broadcast_to": lambda lib, x, y, n: lib.broadcast_to(x, (2, *x.shape)),
    "ravel": lambda lib, x, y, n: lib.ravel(x),
    "detach": lambda lib, x, y, n: x.detach(),
    "unbind": lambda lib, x, y, n: x.unbind(0),
    "split": lambda lib, x, y, n: x.split([1, x.shape[0] - 1]),
}

#: What writes in place.
WRITING = {
    "add_": lambda lib, x, y, n: x.add_(y),
    "sub_": lambda lib, x, y, n: x.sub_(y),
    "mul_": lambda lib, x, y, n: x.mul_(y),
    "+=": lambda lib, x, y, n: x.__iadd__(pick(NUMBERS, n)),
    "*=": lambda lib, x, y, n: x.__imul__(pick(NUMBERS, n)),
    "/=": lambda lib, x, y, n: x.__itruediv__(2),
    "pow_": lambda lib, x, y, n: x.pow_(2),
    "sin_": lambda lib, x, y, n: x.sin_(),
    "tanh_": lambda lib, x, y, n: x.tanh_(),
    "clamp_": lambda lib, x, y, n: x.clamp_(-0.5, 0.5),
    "copy_": lambda lib, x, y, n: x.copy_(y),
    "fill_": lambda lib, x, y, n: x.fill_(pick(NUMBERS, n)),
    "zero_": lambda lib, x, y, n: x.zero_(),
    "setitem": lambda lib, x, y, n: x.__setitem__(pick(KEYS, n), y),
    "set number": lambda lib, x, y, n: x.__setitem__(pick(KEYS, n), 0.5),
    "set mask": lambda lib, x, y, n: x.__setitem__(mask(lib, x), 0.5),
    "set list": lambda lib, x, y, n: x.__setitem__([1, 0], y),
}


def shown(tensor):
    """Return the values without asking for memory that is shared, which would make it so."""
    return None if tensor is None else np.asarray(tensor.tolist(), float)


def memory(tensor):
    """Return where the memory of a tensor begins; PyTorch's."""
    return tensor.untyped_storage().data_ptr()


def root(tensor):
    """Return the tensor that another is a view of; PyTorch's."""
    return tensor if tensor._base is None else tensor._base


def expand_dims(lib, x, axis):
    return lib.expand_dims(x, axis) if lib is opgrad else x.unsqueeze(axis)


class Run:
    """What a program has made so far in one of the libraries."""

    def __init__(self, lib, leaves):
        self.lib = lib
        self.tensors = []
        self.versions = []
        self.add([lib.tensor(each, requires_grad=i < 3) for i, each in enumerate(leaves)])
        self.viewed = set()
        self.handles = []
        self.seen_by_hooks = defaultdict(list)

    def attempt(self, step):
        """Carry out one step, and look at what there is then; return the error if one raises."""
        try:
            self.do(step)
            self.facts()
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            return error
        return None

    def pair(self, step):
        _, _, i, j, _ = step
        return [self.tensors[each % len(self.tensors)] for each in (i, j)]

    def avoids(self, step):
        """Tell, of PyTorch's run, whether a step does what the two libraries do differently."""
        x, y = self.pair(step)
        if step[1] in {"add_", "sub_", "mul_"}:
            # PyTorch reads what it has just written, and saves the operand as it lies in memory;
            # opgrad reads it before, and saves a copy.
            return memory(x) == memory(y)
        if step[1] == "backward_to":
            return not y.is_leaf  # of which PyTorch runs the node, too
        # A write, by way of a detached tensor, to what a 0-d tensor is a view of: in opgrad that is
        # a copy, and follows only the tensor that it is a view of.
        return step[1] in {*WRITING, "descend"} and any(
            each.ndim == 0 and memory(each) == memory(x) and root(each) is not root(x)
            for each in self.tensors
        )

    def do(self, step):
        recorded, kind, _, _, n = step
        x, y = self.pair(step)
        # A view that is made under no_grad requires no grad, in PyTorch it does and is a leaf.
        with self.lib.set_grad_enabled(recorded or kind in VIEWING):
            if kind in FUNCTIONS:
                made = FUNCTIONS[kind](self.lib, x, y, n)
                self.viewed |= {id(x)} if kind in VIEWING else set()
                self.add(made if kind not in WRITING else [])
            else:
                getattr(self, kind)(x, y, n)

    def add(self, made):
        made = made if isinstance(made, tuple | list) else [made]
        self.tensors += made
        self.versions += [each._version for each in made]  # not 0 in sums that PyTorch adds up

    def hook(self, x, y, n):
        """Register a hook that looks, or that scales the gradient."""
        number = len(self.handles)

        def seeing(grad):
            if grad is None:
                return None  # in PyTorch, for those of several outputs that no gradient came to
            self.seen_by_hooks[number].append(shown(grad))
            return [None, grad * 2, grad * grad][n % 3]

        self.handles.append(x.register_hook(seeing))

    def unhook(self, x, y, n):
        for handle in self.handles[n % 2 :: 2]:
            handle.remove()

    def retain_grad(self, x, y, n):
        x.retain_grad()

    def no_gradient(self, x, y, n):
        x.grad = None

    def leaf(self, x, y, n):
        self.add(x.detach().clone().requires_grad_(n % 2 == 0))

    def no_leaf(self, x, y, n):
        if id(x) not in self.viewed:  # a view of it goes on requiring grad in PyTorch
            x.requires_grad_(False)

    def descend(self, x, y, n):
        with self.lib.no_grad():
            x -= 0.1 * x.grad

    def backward(self, x, y, n):
        x.backward(self.lib.ones_like(x), retain_graph=n % 2 == 0, create_graph=n % 5 == 0)

    def backward_to(self, x, y, n):
        x.backward(self.lib.ones_like(x), retain_graph=n % 2 == 0, inputs=[y])

    def backward_of_two(self, x, y, n):
        grads = [self.lib.ones_like(x), self.lib.ones_like(y)]
        self.lib.autograd.backward([x, y], grads, retain_graph=n % 2 == 0)

    def gradient(self, x, y, n):
        """Have the gradient of one tensor with respect to another, and to a leaf.

        In PyTorch they may share memory with each other.
        """
        grads = self.lib.autograd.grad(
            x,
            [y, self.tensors[0]] if n % 3 else [y],
            self.lib.ones_like(x),
            retain_graph=n % 2 == 0,
            create_graph=n % 4 < 2,
            materialize_grads=n > 4,
        )
        self.add([each.clone() for each in grads])

    def everything(self, x, y, n):
        """Have the gradients of all there is, with respect to the leaves, and those of them."""
        leaves = [each for each in self.tensors if each.is_leaf and each.requires_grad]
        loss = sum((each * each).sum() for each in self.tensors)
        grads = self.lib.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
        again = sum((each * (each + 1)).sum() for each in grads)
        seconds = self.lib.autograd.grad(again, leaves, materialize_grads=True)
        self.add([*grads, *seconds])

    def facts(self):
        """Return what a user sees of each tensor."""
        return [
            (
                each.grad_fn and each.grad_fn.name(),
                shown(each),
                shown(each.grad),
                tuple(each.shape),
                each.requires_grad,
                each.is_leaf,
                each.retains_grad,
                each._version - version,
                each.grad is not None and each.grad.requires_grad,
            )
            for each, version in zip(self.tensors, self.versions, strict=True)
        ]


FUNCTIONS = MAKING | VIEWING | WRITING
PASSES = ["backward", "backward_to", "backward_of_two", "gradient", "everything"]
HOOKING = ["hook", "unhook", "retain_grad"]
OTHER = [*HOOKING, "no_gradient", "leaf", "no_leaf", "descend", *PASSES]

ANY = {*FUNCTIONS, *OTHER}

NUMBER = st.integers(0, 9)


def steps(*kinds):
    """Return the steps of some kinds: whether it is recorded, the kind, two tensors, a number."""
    recorded = st.sampled_from([True, True, True, True, False])
    return st.tuples(recorded, st.sampled_from(kinds), NUMBER, NUMBER, NUMBER)


def programs(*steps):
    return st.lists(st.one_of(*steps), min_size=3, max_size=14)


#: What most of the steps of a program are about.
PROGRAMS = {
    "anything": programs(steps(*MAKING), steps(*VIEWING), steps(*WRITING), steps(*OTHER)),
    "writes": programs(steps(*MAKING), steps(*VIEWING), *[steps(*WRITING)] * 3, steps(*PASSES)),
    "views": programs(steps(*MAKING), *[steps(*VIEWING)] * 3, *[steps(*WRITING)] * 2),
    "hooks": programs(steps(*MAKING), *[steps(*HOOKING, *PASSES)] * 2, steps(*WRITING)),
}

# ------------------------------------------------------------ where the two differ on purpose

#: What PyTorch says where it refuses what opgrad does, or knows to be safe; and, where it may say
#: so with good reason, too, the steps after which it has none.
ONLY_IN_TORCH = {
    "output of a function that returns multiple views": ANY,  # opgrad keeps track of each
    r"modified by an inplace operation: \[torch.DoubleTensor \[\]\]": ANY,  # a scalar is a copy
    "is output 0 of Pow1": ANY,  # not saved where only the base requires grad
    "refer to a single memory location": ANY,  # opgrad reads all before it writes
    "moved into the graph interior": ANY,  # opgrad leaves the gradient where the leaf had it
    "backward through the graph a second time": {"index", "masked", "set list", "set mask"},
}

#: What opgrad says where PyTorch goes on.
ONLY_IN_OPGRAD = {
    "is an expanded view": ANY,  # PyTorch fills them
    "is read-only": ANY,  # PyTorch writes to parts of them
    "a tuple of 0": ANY,  # unbind of no parts
}

#: PyTorch's names of nodes that opgrad has other names for.
VIEWS = ["Getitem", "Reshape", "View", "Transpose", "Squeeze", "ExpandDims", "BroadcastTo"]
NAMES = {
    "torch::autograd::CopySlices": ["CopySlices", "IndexPutBackward0"],  # of 0-d x[mask] = y
    "torch::autograd::CopyBackwards": ["CopyBackwards", "CopySlices"],  # of x[...] = y
    "FillBackward3": ["FillBackward3", "CopySlices"],  # likewise, of a 0-d y
} | {
    f"{theirs}Backward{variant}": [f"{our}Backward0" for our in ours]
    for theirs, variant, ours in [
        ("AsStrided", 0, VIEWS),  # of a view that was made again after a write
        ("Select", 0, ["Getitem"]),
        ("Slice", 0, ["Getitem"]),
        ("Alias", 0, ["Getitem"]),
        ("Index", 0, ["Getitem"]),
        ("Unsqueeze", 0, ["Getitem", "ExpandDims"]),
        ("View", 0, ["Reshape", "View"]),
        ("UnsafeView", 0, ["Reshape", "Matmul"]),
        ("ReshapeAlias", 0, ["Reshape"]),
        ("Expand", 0, ["BroadcastTo"]),
        ("Squeeze", 1, ["Squeeze"]),
        ("Squeeze", 4, ["Matmul"]),
        ("Mv", 0, ["Matmul"]),
        ("Dot", 0, ["Matmul"]),
        ("Mm", 0, ["Matmul"]),
        ("Bmm", 0, ["Matmul"]),
        ("Sum", 1, ["Sum"]),
        ("Mean", 1, ["Mean"]),
        ("Rsub", 1, ["Sub"]),
    ]
}


# ------------------------------------------------------------------------------- the tests


def assert_same_arrays(ours, theirs):
    for our, their in zip(ours, theirs, strict=True):
        assert (our is None) == (their is None)
        if our is not None:
            assert our.shape == their.shape
            np.testing.assert_allclose(our, their, rtol=1e-9, atol=1e-9)


def assert_same_facts(ours, theirs):
    for number, (our, their) in enumerate(zip(ours.facts(), theirs.facts(), strict=True)):
        assert our[0] in NAMES.get(their[0], [their[0]]), f"tensor {number}: {our[0]}, {their[0]}"
        assert_same_arrays(our[1:3], their[1:3])
        assert our[3:] == their[3:], f"tensor {number}: {our}, {their}"
    assert ours.seen_by_hooks.keys() == theirs.seen_by_hooks.keys()
    for number, seen in ours.seen_by_hooks.items():
        assert_same_arrays(seen, theirs.seen_by_hooks[number])


def excused(error, excuses, kinds):
    """Tell whether an error is one that only one of the two libraries raises."""
    return error and any(
        re.search(said, str(error)) and kinds & after for said, after in excuses.items()
    )


def large(run):
    """Tell whether numbers have grown so that rounding might show."""
    return any(not (abs(each.detach()) < 1e4).all() for each in run.tensors)


def compare(torch, program, seed=0):
    """Carry out a program in both libraries, as far as it goes."""
    rng = np.random.default_rng(seed)
    leaves = [rng.uniform(-1, 1, size) for size in [(2, 3), (3,), (), (2, 3), (1, 3)]]
    ours, theirs = Run(opgrad, leaves), Run(torch, leaves)
    for step in [*program, (True, "everything", 0, 0, 0)]:
        if theirs.avoids(step):
            continue
        our_error, their_error = ours.attempt(step), theirs.attempt(step)
        kinds = {kind for _, kind, *_ in program}
        if excused(our_error, ONLY_IN_OPGRAD, kinds) or excused(their_error, ONLY_IN_TORCH, kinds):
            return
        if (our_error is None) != (their_error is None):
            pytest.fail(f"{step}: opgrad {our_error!r}, torch {their_error!r}")
        if their_error and step[1] in PASSES:
            return  # a pass that raised has done part of its work
        assert_same_facts(ours, theirs)
        if large(theirs):
            return


@pytest.mark.parametrize("about", PROGRAMS)
@given(data=st.data())
@settings(
    max_examples=600,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_any_program_does_the_same(torch, about, data):
    compare(torch, data.draw(PROGRAMS[about]), seed=data.draw(st.integers(0, 99)))
