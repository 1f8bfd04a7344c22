"""Random programs do the same in opgrad and in PyTorch, step by step.

A program is a list of steps, each one an operation with the numbers of the tensors that it is
applied to. Both libraries carry it out side by side. After each step all that a user sees of every
tensor must agree: value, gradient, their dtypes, `is_leaf`, `requires_grad`, the name of the
`grad_fn`; and so must which steps raise, and which hooks are called, in which order, with what.
Where the two differ on purpose is in ``docs/differences.md`` and, here, in `ONLY_IN_TORCH`,
`ONLY_IN_OPGRAD`, `NAMES` and `DIFFERENT`.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import CHANGES, FUNCTIONS, MAKING, VIEWING, WRITING, Run, dtype, pick

import opgrad

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:Use of .* on expanded tensors is deprecated"),
    pytest.mark.filterwarnings("ignore:Casting complex values to real"),
    pytest.mark.filterwarnings("ignore:Mean of empty slice"),  # NumPy's, and opgrad's; the
    pytest.mark.filterwarnings("ignore:invalid value encountered in .*divide"),  # next likewise
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


PASSES = [
    "backward",
    "backward_to",
    "backward_of_two",
    "backward_of_all",
    "gradient",
    "everything",
]
HOOKS = ["hook", "prehook", "posthook", "after_accumulation", "hook_of_all", "hook_of_any"]
HOOKING = [*HOOKS, "unhook", "retain_grad"]
OTHER = [*HOOKING, "pack", "no_gradient", "leaf", "no_leaf", "descend", *PASSES]

ANY = {*FUNCTIONS, *OTHER}

NUMBER = st.integers(0, 9)


def steps(*kinds):
    """Return the steps of some kinds: whether it is recorded, the kind, two tensors, a number."""
    recorded = st.sampled_from([True, True, True, True, False])
    return st.tuples(recorded, st.sampled_from(kinds), NUMBER, NUMBER, NUMBER)


def programs(*kinds, after=(), last=()):
    """Return lists of steps of some kinds; then of others, if there are any."""
    parts = [st.lists(st.one_of(*kinds), min_size=3, max_size=14 - 4 * bool(after))]
    parts += [st.lists(st.one_of(*each), min_size=2, max_size=6) for each in (after, last) if each]
    return st.tuples(*parts).map(lambda lists: [step for each in lists for step in each])


#: What most of the steps of a program are about.
PROGRAMS = {
    "anything": programs(steps(*MAKING), steps(*VIEWING), steps(*WRITING), steps(*OTHER)),
    "writes": programs(steps(*MAKING), steps(*VIEWING), *[steps(*WRITING)] * 3, steps(*PASSES)),
    "views": programs(steps(*MAKING), *[steps(*VIEWING)] * 3, *[steps(*WRITING)] * 2),
    "hooks": programs(
        steps(*MAKING),
        steps(*MAKING),
        steps(*VIEWING, *WRITING),
        after=[steps(*HOOKS), steps(*HOOKING)],
        last=[steps(*PASSES), steps(*HOOKING), steps(*MAKING, *WRITING)],
    ),
    "packs": programs(
        steps(*MAKING), steps(*WRITING, *VIEWING), steps(*PASSES), steps("pack"), steps(*PASSES)
    ),
}

#: How close values have to be, where the least precise of the leaves has this dtype.
CLOSE = {"float64": 1e-9, "complex128": 1e-9, "float32": 2e-3, "complex64": 2e-3, "int64": 0}
FLOATS = st.sampled_from([*CLOSE][:-1])

#: The dtypes of the leaves, of which the first two require no grad: the same, or one for each.
DTYPES = st.one_of(
    FLOATS.map(lambda one: [one] * 5),
    st.tuples(*[st.sampled_from([*CLOSE])] * 2, FLOATS, FLOATS, FLOATS),
)

# ------------------------------------------------------------ where the two differ on purpose

#: What PyTorch says where it refuses what opgrad does, or knows to be safe; and, where it may say
#: so with good reason, too, the steps after which it has none.
ONLY_IN_TORCH = {
    "output of a function that returns multiple views": ANY,  # opgrad keeps track of each
    r"modified by an inplace operation: \[\S+ \[\]\]": ANY,  # a scalar is a copy
    "is output 0 of Pow1": ANY,  # not saved where only the base requires grad
    "refer to a single memory location": ANY,  # opgrad reads all before it writes
    "moved into the graph interior": ANY,  # opgrad leaves the gradient where the leaf had it
    "A leaf node was passed to _will_engine_execute_node": ANY,  # in grad(), which opgrad supports
    "Expected isFloatingType": ANY,  # a gradient of which it does not take the real part
    "backward through the graph a second time": {"index", "masked", "set list", "set mask"},
}

#: What opgrad says where PyTorch goes on.
ONLY_IN_OPGRAD = {
    "is an expanded view": ANY,  # PyTorch fills them
    "is read-only": ANY,  # PyTorch writes to parts of them
    "a tuple of 0": ANY,  # unbind of no parts
    "is a part of complex numbers": ANY,  # PyTorch writes to them
}

#: PyTorch's names of nodes that opgrad has other names for.
VIEWS = ["Getitem", "Reshape", "View", "Transpose", "Squeeze", "ExpandDims", "BroadcastTo", "Real"]
NAMES = {
    "torch::autograd::CopySlices": [
        "CopySlices",
        "CopyBackwards",  # of x[1:] = y that is all of x
        "IndexPutBackward0",  # of x[mask] = y for a 0-d x
    ],
    "torch::autograd::CopyBackwards": ["CopyBackwards"],
    "FillBackward3": ["FillBackward3", "CopyBackwards"],  # of x[...] = y for a 0-d y
} | {
    f"{theirs}Backward{variant}": [f"{our}Backward0" for our in ours]
    for theirs, variant, ours in [
        ("AsStrided", 0, VIEWS),  # of a view that was made again after a write
        ("Select", 0, ["Getitem", "Real"]),
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
        ("ToCopy", 0, ["Astype"]),
        *[(name, 0, [name, "Astype"]) for name in ("Add", "Sub", "Mul")],  # a write that casts
    ]
}


def memory(tensor):
    """Return where the memory of a tensor begins."""
    return tensor.untyped_storage().data_ptr()


def root(tensor):
    """Return the tensor that another is a view of."""
    return tensor if tensor._base is None else tensor._base


def leads_to(node, ends):
    """Tell whether a node, if a gradient comes to it, hands one on to some others."""
    unseen = [node]
    for each in unseen:
        unseen += [after for after, _ in each.next_functions if after and after not in unseen]
    return any(each in ends for each in unseen[1:])


def operand_shares_memory(run, x, y, n):
    """PyTorch reads what it has just written, and saves the operand as it lies in memory.

    opgrad reads it before, and saves a copy.
    """
    return memory(x) == memory(y)


def promotes_otherwise(run, x, y, n):
    """The dtype is NumPy's; PyTorch's knows dimensions, and floats beside which integers do."""
    theirs = str(run.lib.result_type(x, y)).removeprefix("torch.")
    return theirs != np.result_type(dtype(x), dtype(y))


def dtypes_differ(run, x, y, n):
    """What PyTorch does for one dtype only."""
    return x.dtype != y.dtype


def is_complex(run, x, y, n):
    """What NumPy has an order of, PyTorch has none of; and a sigmoid, that opgrad has not."""
    return x.is_complex() or y.is_complex()


def is_real(run, x, y, n):
    """In PyTorch this is the tensor itself."""
    return not x.is_complex()


def is_whole(run, x, y, n):
    """What PyTorch has for floats only."""
    return not x.is_complex() and not x.is_floating_point()


def loses_imaginary(run, x, y, n):
    """A write of complex numbers to real ones."""
    return y.is_complex() and not x.is_complex()


def exponent_is_zero(run, x, y, n):
    """The derivative of x**y by x has one by y, 1 / x, that PyTorch takes for 0."""
    return (y == 0).any()


def number_is_a_view(run, x, y, n):
    """A write, by way of a detached tensor, to what a 0-d tensor is a view of.

    In opgrad that is a copy, and follows only the tensor that it is a view of.
    """
    return any(
        each.ndim == 0 and memory(each) == memory(x) and root(each) is not root(x)
        for each in run.tensors
    )


def view_is_hooked(run, x, y, n):
    """A write to a view, of which PyTorch then passes over the node, and those on the way to it."""
    node, end = x.grad_fn, root(x).grad_fn
    while node and node is not end and node not in run.nodes:
        node = node.next_functions[0][0] if node.next_functions else None
    return x is not root(x) and node in run.nodes and node is not end


def copy_is_a_view(run, x, y, n):
    """What PyTorch has to copy before it is flat is a view, though of what nobody else sees."""
    return not x.is_contiguous()


def end_is_inside(run, x, y, n):
    """A pass to a result, of which PyTorch runs the node, too."""
    return not y.is_leaf


def changed_before_retained(run, x, y, n):
    """What is retained is the gradient after the node's pre-hooks, in PyTorch before them."""
    retained = [run.node(each) for each in run.tensors if each.retains_grad]
    return x.requires_grad and pick(CHANGES, n) and run.node(x) in retained


def retained_after_change(run, x, y, n):
    """Likewise."""
    return x.requires_grad and not x.is_leaf and run.node(x) in run.changing["prehook"]


def end_is_changed(run, x, y, n):
    """What `grad` returns of a node that it runs is the gradient after hooks, in PyTorch before."""
    nodes = {run.node(each) for each in run.ends(y, n) if each.requires_grad}
    changed = run.changing["hook"] | run.changing["prehook"]
    return any(leads_to(each, nodes) for each in nodes & changed)


def node_is_another(run, x, y, n):
    """What one node does are several in PyTorch; and stack has gradients of constants, too."""
    return x.grad_fn and x.grad_fn.name() in {*NAMES, "StackBackward0"}


def first_is_another(run, x, y, n):
    """PyTorch passes over what requires no grad, and comes to leaves at another time.

    Of several outputs of a node it comes to those first that there is no gradient of.
    """
    return any(not each.grad_fn or len(each.grad_fn._input_metadata) > 1 for each in (x, y))


def root_is_awaited(run, x, y, n):
    """PyTorch does not count the root among what a pass reaches, if there is only one."""
    return x.requires_grad and run.node(x) in run.awaited


#: What makes one dtype of two.
PROMOTING = {"add", "sub", "mul", "div", "pow", "maximum", "where", "stack", "add_", "sub_", "mul_"}

#: What is left out of programs: steps of these kinds, where this is so of PyTorch's run.
DIFFERENT = [
    ({"add_", "sub_", "mul_", "set list"}, operand_shares_memory),
    (PROMOTING, promotes_otherwise),
    ({"matmul", "set list"}, dtypes_differ),
    ({"maximum", "clamp", "clamp_", "sigmoid"}, is_complex),
    ({"real"}, is_real),
    ({"mean"}, is_whole),
    ({"copy_", "setitem", "set list"}, loses_imaginary),
    ({"pow"}, exponent_is_zero),
    ({*WRITING, "descend"}, number_is_a_view),
    (WRITING, view_is_hooked),
    ({"ravel"}, copy_is_a_view),
    ({"backward_to"}, end_is_inside),
    ({"prehook"}, changed_before_retained),
    ({"retain_grad"}, retained_after_change),
    ({"gradient"}, end_is_changed),
    ({"posthook"}, node_is_another),
    ({"hook_of_any"}, first_is_another),
    ({"backward", "backward_to", "gradient"}, root_is_awaited),
]


def differs(run, step):
    """Tell, of PyTorch's run, whether a step does what the two libraries do differently."""
    return any(
        step[1] in kinds and is_so(run, *run.pair(step), step[4]) for kinds, is_so in DIFFERENT
    )


# ------------------------------------------------------------------------------- the tests


def assert_same_arrays(ours, theirs, close):
    for our, their in zip(ours, theirs, strict=True):
        assert (our is None) == (their is None)
        if our is not None:
            assert our.shape == their.shape
            if not (our == their).all():  # faster, and mostly so
                np.testing.assert_allclose(our, their, rtol=close, atol=close)


def assert_same_facts(ours, theirs, close):
    pairs = zip(*(run.seen or run.facts() for run in (ours, theirs)), strict=True)
    for number, (our, their) in enumerate(pairs):
        assert our[0] in NAMES.get(their[0], [their[0]]), f"tensor {number}: {our[0]}, {their[0]}"
        assert_same_arrays(our[1:3], their[1:3], close)
        assert our[3:] == their[3:], f"tensor {number}: {our}, {their}"
    assert ours.calls.keys() == theirs.calls.keys()
    for place, calls in ours.calls.items():
        assert [number for number, _ in calls] == [number for number, _ in theirs.calls[place]]
        for (_, our), (_, their) in zip(calls, theirs.calls[place], strict=True):
            assert_same_arrays(our, their, close)


def excused(error, excuses, kinds):
    """Tell whether an error is one that only one of the two libraries raises."""
    return error and any(
        re.search(said, str(error)) and kinds & after for said, after in excuses.items()
    )


def large(run):
    """Tell whether numbers have grown so that rounding might show."""
    return any(not (abs(each.detach()) < 1e4).all() for each in run.tensors)


def drawn(rng, size, kind):
    """Return random numbers of a dtype: from -1 to 1, or to 2 if they are whole."""
    numbers = rng.uniform(-1, 1, size)
    if kind.startswith("complex"):
        numbers = numbers + 1j * rng.uniform(-1, 1, size)
    return np.asarray(np.rint(2 * numbers) if kind == "int64" else numbers, kind)


def compare(torch, program, dtypes, seed):
    """Carry out a program in both libraries, as far as it goes."""
    rng = np.random.default_rng(seed)
    sizes = [(1, 3), (2, 3), (), (3,), (2, 3)]
    leaves = [drawn(rng, *each) for each in zip(sizes, dtypes, strict=True)]
    close = max(CLOSE[each] for each in dtypes)
    ours, theirs = Run(opgrad, leaves), Run(torch, leaves)
    last = [(True, kind, 0, 0, 0) for kind in ("backward_of_all", "everything")]
    for step in [*program, *last]:
        if differs(theirs, step):
            continue
        our_error, their_error = ours.attempt(step), theirs.attempt(step)
        kinds = {kind for _, kind, *_ in program}
        if excused(our_error, ONLY_IN_OPGRAD, kinds) or excused(their_error, ONLY_IN_TORCH, kinds):
            return
        if (our_error is None) != (their_error is None):
            pytest.fail(f"{step}: opgrad {our_error!r}, torch {their_error!r}")
        if their_error and step[1] in PASSES:
            return  # a pass that raised has done part of its work
        assert_same_facts(ours, theirs, close)
        if large(theirs):
            return


@pytest.mark.parametrize("about", PROGRAMS)
@given(data=st.data())
@settings(
    max_examples=440,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_any_program_does_the_same(torch, about, data):
    program, dtypes, seed = data.draw(st.tuples(PROGRAMS[about], DTYPES, st.integers(0, 99)))
    compare(torch, program, dtypes, seed)
