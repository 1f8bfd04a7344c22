"""The steps of random programs, and how opgrad and PyTorch carry them out; for `test_programs`."""

from __future__ import annotations

from collections import defaultdict
from contextlib import nullcontext

import numpy as np

import opgrad

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
NUMBERS = [2.0, -0.5, 3, 0, 1, 2j]


def pick(options, n):
    return options[n % len(options)]


def mask(lib, x):
    return lib.real(x.detach()) > 0


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
    "where": lambda lib, x, y, n: lib.where(mask(lib, x - y), x, 2 * y),
    "clamp": lambda lib, x, y, n: x.clamp(-0.5, 0.5),
    "sum": lambda lib, x, y, n: x.sum() if n % 3 == 2 else x.sum(n % 3, keepdims=n > 4),
    "mean": lambda lib, x, y, n: x.mean() if n % 3 == 2 else x.mean(n % 3),
    "matmul": lambda lib, x, y, n: x @ y,
    "clone": lambda lib, x, y, n: x.clone(),
    "conj": lambda lib, x, y, n: x.conj() * 1,  # which by itself is a view in PyTorch
    "cast": lambda lib, x, y, n: cast(lib, x, pick(["complex128", "float64"], n)),
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
    "real": lambda lib, x, y, n: lib.real(x),
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

FUNCTIONS = MAKING | VIEWING | WRITING

#: What a hook makes of a gradient.
CHANGES = [None, lambda grad: grad * 2, lambda grad: grad * grad]

#: What a hook does with a leaf that has got its gradient.
LEARNING = [
    lambda leaf: None,
    lambda leaf: leaf.sub_(0.1 * leaf.grad),
    lambda leaf: setattr(leaf, "grad", None),
]


def shown(tensor):
    """Return the values without asking for memory that is shared, which would make it so."""
    return None if tensor is None else np.asarray(tensor.tolist())


def dtype(tensor):
    return None if tensor is None else str(tensor.dtype).removeprefix("torch.")


def cast(lib, x, to):
    return x.astype(to) if lib is opgrad else x.to(getattr(lib, to), copy=True)


def expand_dims(lib, x, axis):
    return lib.expand_dims(x, axis) if lib is opgrad else x.unsqueeze(axis)


def changed(grads, n):
    """Return what a hook returns in the place of some gradients, of which some may be missing."""
    change = pick(CHANGES, n)
    return change and tuple(None if each is None else change(each) for each in grads)


def without_zeros(grads):
    """Return gradients; None for those of several outputs that PyTorch has None for."""
    return [each if each is not None and shown(each).any() else None for each in grads]


class Run:
    """What a program has made so far in one of the libraries."""

    def __init__(self, lib, leaves):
        self.lib = lib
        self.tensors = []
        self.versions = []
        self.add([lib.tensor(each, requires_grad=i > 1) for i, each in enumerate(leaves)])
        self.viewed = set()
        self.seen = None
        self.packing = False
        self.handles = []
        self.nodes = []
        self.changing = defaultdict(set)
        self.awaited = set()
        self.calls = defaultdict(list)

    def attempt(self, step):
        """Carry out one step, and look at what there is then; return the error if one raises."""
        self.calls.clear()
        self.seen = None
        try:
            self.do(step)
            self.seen = self.facts()
        except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
            return error
        return None

    def pair(self, step):
        """Return the two tensors of a step, whose numbers count from the latest."""
        _, _, i, j, _ = step
        return [self.tensors[-1 - each % len(self.tensors)] for each in (i, j)]

    def do(self, step):
        recorded, kind, _, _, n = step
        x, y = self.pair(step)
        # A view that is made under no_grad requires no grad, in PyTorch it does and is a leaf.
        with self.lib.set_grad_enabled(recorded or kind in VIEWING), self.region():
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
        x.backward(x.detach() + 1, retain_graph=n % 2 == 0, create_graph=n % 5 == 0)

    def backward_to(self, x, y, n):
        x.backward(x.detach() + 1, retain_graph=n % 2 == 0, inputs=[y])

    def backward_of_two(self, x, y, n):
        grads = [x.detach() + 1, y.detach() + 1]
        self.lib.autograd.backward([x, y], grads, retain_graph=n % 2 == 0)

    def backward_of_all(self, x, y, n):
        self.squares().backward(retain_graph=True)

    def squares(self):
        return sum(self.lib.real(each * each.conj()).sum() for each in self.tensors)

    def gradient(self, x, y, n):
        """Have the gradient of one tensor with respect to another, and to a leaf.

        In PyTorch they may share memory with each other.
        """
        grads = self.lib.autograd.grad(
            x,
            self.ends(y, n),
            x.detach() + 1,
            retain_graph=n % 2 == 0,
            create_graph=n % 4 < 2,
            materialize_grads=n > 4,
        )
        self.add([each.clone() for each in grads])

    def ends(self, y, n):
        return [y, self.tensors[4]] if n % 3 else [y]

    def everything(self, x, y, n):
        """Have the gradients of all there is, with respect to the leaves, and those of them."""
        leaves = [each for each in self.tensors if each.is_leaf and each.requires_grad]
        grads = self.lib.autograd.grad(
            self.squares(), leaves, create_graph=True, materialize_grads=True
        )
        again = sum(self.lib.real(each * (each + 1)).sum() for each in grads)
        seconds = self.lib.autograd.grad(again, leaves, materialize_grads=True)
        self.add([each.clone() for each in (*grads, *seconds)])

    # ------------------------------------------------------------------------------- hooks

    def region(self):
        """Return the context of a step: one that packs what is saved, or none."""
        packs = self.lib.autograd.graph.saved_tensors_hooks
        return (
            packs(lambda saved: saved.clone(), lambda kept: kept) if self.packing else nullcontext()
        )

    def pack(self, x, y, n):
        self.packing = not self.packing

    def node(self, x):
        """Return the node where the gradient of a tensor arrives, a leaf's too."""
        return self.lib.autograd.graph.get_gradient_edge(x).node

    def place(self, tensors):
        """Return among which calls those of a hook have an order.

        They are those at one leaf, and all at results. PyTorch comes to a leaf at another time, and
        so to the last of several tensors.
        """
        if not any(each.is_leaf for each in tensors):
            return "results"
        if len(tensors) > 1:
            return f"hook {len(self.handles)}"
        return next(f"leaf {i}" for i, each in enumerate(self.tensors) if each is tensors[0])

    def hooked(self, register, tensors, look):
        """Register a hook; `look` returns the gradients that it sees, and what the hook returns."""
        number, place = len(self.handles), self.place(tensors)

        def hook(*given):
            seen, returned = look(*given)
            if any(each is not None for each in seen):  # in PyTorch there may be none at all
                self.calls[place].append((number, [shown(each) for each in seen]))
            return returned

        self.handles.append(register(hook))
        # In PyTorch a leaf's node is gone, and its hooks are, if nobody holds it.
        self.nodes += [self.node(each) for each in tensors]

    def hook(self, x, y, n):
        """Register a hook of a tensor: one that looks, or one that changes the gradient."""
        self.changing["hook"] |= {self.node(x)} if pick(CHANGES, n) else set()
        self.hooked(x.register_hook, [x], lambda grad: ([grad], (changed([grad], n) or [None])[0]))

    def prehook(self, x, y, n):
        """Register such a hook of a node, to be called before it runs."""
        node = self.node(x)
        self.changing["prehook"] |= {node} if pick(CHANGES, n) else set()
        self.hooked(node.register_prehook, [x], lambda grads: (grads, changed(grads, n)))

    def posthook(self, x, y, n):
        """Register one to be called after it, with the gradients of its inputs and its outputs."""

        def look(grads, outputs):
            flowing = [each for each in grads if each is not None]  # PyTorch has fewer places
            return [*flowing, *without_zeros(outputs)], changed(grads, n)

        self.hooked(self.node(x).register_hook, [x], look)

    def after_accumulation(self, x, y, n):
        """Register a hook of a leaf: one that looks, learns, or throws the gradient away."""

        def look(leaf):
            return [leaf.grad], pick(LEARNING, n)(leaf)

        x = x if n == 9 else self.tensors[2 + n // 3]
        self.hooked(x.register_post_accumulate_grad_hook, [x], look)

    def hook_of_all(self, x, y, n):
        tensors = [x, y] if n > 2 else [x, y, self.tensors[2 + n]]
        self.multi_hook(tensors, "all", lambda grads: (grads, None))
        self.awaited |= {self.node(each) for each in tensors}

    def hook_of_any(self, x, y, n):
        self.multi_hook([x, y], "any", lambda grad: ([grad], None))

    def multi_hook(self, tensors, mode, look):
        register = self.lib.autograd.graph.register_multi_grad_hook
        self.hooked(lambda fn: register(tensors, fn, mode=mode), tensors, look)

    def unhook(self, x, y, n):
        for handle in self.handles[n % 2 :: 2]:
            handle.remove()

    def facts(self):
        """Return what a user sees of each tensor."""
        return [
            (
                each.grad_fn and each.grad_fn.name(),
                shown(each),
                shown(each.grad),
                dtype(each),
                dtype(each.grad),
                tuple(each.shape),
                each.requires_grad,
                each.is_leaf,
                each.retains_grad,
                each._version - version,
                each.grad is not None and each.grad.requires_grad,
            )
            for each, version in zip(self.tensors, self.versions, strict=True)
        ]
