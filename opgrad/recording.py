"""One call of a function, recorded on inputs of its own: what the transforms of `func` begin with.

The function is given tensors that nobody else has, so that nothing of the caller's is touched.
Where an argument requires grad itself the input is a clone of it, and derivatives flow on into the
graph around the transform; that is how transforms nest. What a transform returns is part of that
graph only as far as somebody outside can still ask for a gradient; otherwise it is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import autograd, creation
from opgrad.batched import detached, hidden_again, innermost, lifted, rewrapped, shown
from opgrad.forward import push
from opgrad.graph import AccumulateGrad
from opgrad.levels import insist_on_running, levels
from opgrad.modes import enable_grad, is_grad_enabled
from opgrad.operands import describe
from opgrad.registry import calls
from opgrad.stamps import next_sequence
from opgrad.tensor import Tensor
from opgrad.trees import aligned, leaves, rebuild
from opgrad.variable import is_differentiable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


_repeated: ContextVar[tuple[int, ...]] = ContextVar("opgrad_repeated", default=())

#: Returns when the calls were first made that are being repeated, the outermost first.
first_calls = _repeated.get


@contextmanager
def repeating(first: tuple[int, ...]) -> Iterator[None]:
    """Run a block in which an `Input` is active that was so when calls were first made."""
    token = _repeated.set(first)
    try:
        yield
    finally:
        _repeated.reset(token)


class Input(AccumulateGrad):
    """The end of the graph at an input which a transform made.

    While the function runs it is a leaf as any other. Afterwards nobody has it, and what depends
    on it and no other leaf depends on nothing, but where a call is repeated that was first made
    while the function ran.
    """

    __slots__ = ("_end",)

    def __init__(self, variable: Tensor) -> None:
        super().__init__(variable)
        self._end: float = -math.inf  # time counts downwards

    def end(self) -> None:
        """Say that the function has returned."""
        self._end = next_sequence()

    @property
    def active(self) -> bool:
        """Whether it is a leaf as any other."""
        return self._end == -math.inf or any(
            self._end < first < self.sequence for first in first_calls()
        )


class Recording:
    """A call of a function of trees of arrays, to be differentiated in either direction.

    Parameters
    ----------
    name : str
        The transform's, for messages.
    func : callable
        The function.
    args, kwargs
        What it is called with.
    argnums : int or sequence of int
        Which positional arguments to differentiate with respect to.
    has_aux : bool
        Whether it returns a pair of which only the first part is differentiated.

    Attributes
    ----------
    primals : tuple
        The arguments to differentiate with respect to, as given.
    inputs, outputs : list of Tensor
        The leaves of what the function got in their place, and of what it returned.
    aux : object
        What it returned beside.
    plain : bool
        Whether no tensor is among `primals`: results are then arrays.
    """

    __slots__ = (
        "_levels",
        "_lives",
        "_single",
        "_value",
        "aux",
        "inputs",
        "name",
        "outputs",
        "plain",
        "primals",
    )

    def __init__(
        self,
        name: str,
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        argnums: int | Sequence[int],
        has_aux: bool = False,
    ) -> None:
        self.name = name
        #: The calls of vmap whose examples the inputs stand for.
        self._levels = levels()
        self._single = not isinstance(argnums, Sequence)
        chosen = _chosen(name, argnums, len(args))
        self.primals = tuple(args[i] for i in chosen)
        self.plain = not any(isinstance(leaf, Tensor) for _, leaf in leaves(self.primals))
        value = self._called(func, args, kwargs, chosen)
        self._value, aux = self._parted(value) if has_aux else (value, None)
        self.outputs = [
            self._tensor(f"what func returned{path}", leaf) for path, leaf in leaves(self._value)
        ]
        beside = [leaf for _, leaf in leaves(aux)]
        self._lives = lives(each for each in (*self.outputs, *beside) if isinstance(each, Tensor))
        self.aux = rebuild(aux, map(self.settled, beside))

    def _called(
        self,
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        chosen: Sequence[int],
    ) -> Any:
        with enable_grad():
            self.inputs = [
                self._input(f"argument {i}{path}", leaf)
                for i in chosen
                for path, leaf in leaves(args[i])
            ]
            given, made = list(args), iter(self.inputs)
            for i in chosen:
                given[i] = rebuild(args[i], made)
            value = func(*given, **kwargs)
        for each in self.inputs:
            if each._edge is not None and isinstance(each._edge[0], Input):
                each._edge[0].end()
        return value

    def _parted(self, value: Any) -> tuple[Any, Any]:
        if isinstance(value, tuple) and len(value) == 2:
            return value
        msg = f"{self.name}: func returned {describe(value)}; with has_aux, expected (value, aux)"
        raise TypeError(msg)

    def _tensor(self, where: str, value: Any) -> Tensor:
        return tensor_of(f"{self.name}: {where}", value)

    def _input(self, where: str, value: Any) -> Tensor:
        given = self._tensor(where, value)
        if not is_differentiable(given.dtype):
            msg = (
                f"{self.name}: {where} is {describe(value)}; only floating and complex numbers can "
                "be differentiated with respect to. Convert it, for example with .astype(float)"
            )
            raise TypeError(msg)
        if given.requires_grad:
            return lifted(given.clone())
        if not isinstance(value, Tensor):
            # The recording outlives the call, in which alone the caller's array stays as it is.
            given = Tensor(given._data.copy())
        given = lifted(given)
        data = innermost(given)._data
        made = Tensor(data[()] if data.ndim == 0 else data)
        made._edge = (Input(made), 0)
        return rewrapped(given, made)

    # ------------------------------------------------------------------- what is given to it

    def like_outputs(self, name: str, tree: Any) -> list[Tensor]:
        """Return the leaves of a tree of cotangents, as tensors that fit the outputs."""
        return self._like(self._value, self.outputs, name, tree)

    def like_inputs(self, name: str, trees: Any) -> list[Tensor]:
        """Return the leaves of a tuple of trees of tangents, as tensors that fit the inputs.

        For one argument they are those of the tree itself.
        """
        like = self.primals[0] if self._single else self.primals
        return self._like(like, self.inputs, name, trees)

    def _like(self, like: Any, tensors: list[Tensor], name: str, tree: Any) -> list[Tensor]:
        for level in self._levels:
            insist_on_running(level)
        pairs = aligned(like, tree, f"{self.name}: {name}")
        return [
            self._fitting(path, each, tensor)
            for (path, each), tensor in zip(pairs, tensors, strict=True)
        ]

    def _fitting(self, path: str, value: Any, like: Tensor) -> Tensor:
        made = self._tensor(path.removeprefix(f"{self.name}: "), value)
        if made.shape != like.shape:
            msg = f"{path} has shape {made.shape}; expected {like.shape}, as what it belongs to"
            raise ValueError(msg)
        if made.dtype.kind == "c" and like.dtype.kind != "c":
            msg = f"{path} is complex, and what it belongs to is {like.dtype}; pass a real one"
            raise TypeError(msg)
        return made if made.dtype == like.dtype else calls.astype(made, like.dtype)

    # ---------------------------------------------------------------------- what it gives

    def pull(self, cotangents: Sequence[Tensor | None], *, keep: bool = True) -> list[Tensor]:
        """Return the gradients of the inputs, for those of the outputs: one backward pass."""
        pairs = [
            (output, each)
            for output, each in zip(self.outputs, cotangents, strict=True)
            if each is not None and output.requires_grad
        ]
        if not pairs or not self.inputs:
            return [creation.zeros_like(each) for each in self.inputs]
        record = is_grad_enabled() and (self._lives or lives(each for _, each in pairs))
        grads = autograd.grad(
            [output for output, _ in pairs],
            self.inputs,
            [each for _, each in pairs],
            retain_graph=keep or record,
            create_graph=record,
            allow_unused=True,
        )
        return [
            creation.zeros_like(x) if each is None else each
            for x, each in zip(self.inputs, grads, strict=True)
        ]

    def push(self, tangents: Sequence[Tensor | None]) -> list[Tensor]:
        """Return what the outputs change by, for what the inputs do: one forward pass."""
        pairs = zip(self.inputs, tangents, strict=True)
        known = {
            x._edge: shown(each, self._levels) for x, each in pairs if x._edge and each is not None
        }
        record = is_grad_enabled() and (self._lives or lives(known.values()))
        # Where only the tangents differ among the examples of vmap, the formulas get tensors, too.
        with_tensors = record or any(each._hidden for each in known.values())
        given = {edge: each if with_tensors else each._data for edge, each in known.items()}
        edges = [output._edge for output in self.outputs if output._edge]
        with np.errstate(all="ignore"):  # as in a backward pass
            found = iter(push(edges, given, record=with_tensors))
        changes = [self._change(x, next(found) if x._edge else None) for x in self.outputs]
        return changes if record else list(map(detached, changes))

    def _change(self, output: Tensor, tangent: Any) -> Tensor:
        if tangent is None:
            return creation.zeros_like(output)
        made = tangent if isinstance(tangent, Tensor) else Tensor(tangent.copy())
        return hidden_again(made, self._levels)

    def settled(self, result: Any) -> Any:
        """Return a result as the caller gets it: cut off where nothing depends on it any more."""
        if not isinstance(result, Tensor) or (is_grad_enabled() and lives([result])):
            return result
        return plain(result) if self.plain and not result._hidden else detached(result)

    def value(self) -> Any:
        """Return what the function returned."""
        return self.like_value(self.outputs if self._lives else map(detached, self.outputs))

    def like_value(self, results: Iterable[Any]) -> Any:
        """Return results for the outputs as a tree of the form that the function returned."""
        return rebuild(self._value, map(self.settled, results))

    def like_arguments(self, results: Iterable[Any]) -> Any:
        """Return results for the inputs as a tree for the one argument, or a tuple for several."""
        trees = rebuild(self.primals, map(self.settled, results))
        return trees[0] if self._single else trees


def tensor_of(where: str, value: Any, *, copy: bool | None = None) -> Tensor:
    """Return a leaf of what a function is given or returns as a tensor.

    Raises
    ------
    TypeError
        If none can be made of it; says `where` it is.
    """
    try:
        return creation.asarray(value, copy=copy)
    except (TypeError, ValueError) as error:
        msg = (
            f"{where} is {describe(value)}; expected a tensor, an array or a number, or a dict, "
            "list or tuple of them"
        )
        raise TypeError(msg) from error


def insist_on_function(name: str, func: Any, argnums: Any = 0) -> None:
    """Refuse to transform what is no function, or with respect to what is no place."""
    if not callable(func):
        msg = f"{name}: func is {describe(func)}; expected a function, to be transformed"
        raise TypeError(msg)
    for each in argnums if isinstance(argnums, Sequence) else [argnums]:
        if not isinstance(each, int | np.integer) or isinstance(each, bool):
            msg = (
                f"{name}: argnums is {argnums!r}; expected the place of a positional argument, an "
                "int such as 0 for the first, or a tuple of them"
            )
            raise TypeError(msg)


def _chosen(name: str, argnums: int | Sequence[int], count: int) -> list[int]:
    """Return the places of the arguments that are named, all counted from the front."""
    wanted = list(argnums) if isinstance(argnums, Sequence) else [argnums]
    if any(not -count <= each < count for each in wanted):
        msg = (
            f"{name}: argnums is {argnums}, but func was called with {count} positional "
            "arguments; what is differentiated is given by position"
        )
        raise ValueError(msg)
    chosen = [each % count for each in wanted]
    if len({*chosen}) < len(chosen):
        msg = f"{name}: argnums is {argnums}, which names an argument twice; name each once"
        raise ValueError(msg)
    return chosen


def lives(tensors: Iterable[Tensor]) -> bool:
    """Tell whether somebody can ask for a gradient with respect to what tensors depend on."""
    unseen = [each._edge[0] for each in tensors if each._edge is not None]
    seen = set(unseen)
    while unseen:
        node = unseen.pop()
        if isinstance(node, AccumulateGrad) and getattr(node, "active", True):
            return True
        new = {edge[0] for edge in node.edges if edge is not None} - seen
        seen |= new
        unseen += new
    return False


def plain(tensor: Tensor) -> Any:
    """Return the values of a tensor as an array of its own, or a scalar where there are no axes."""
    made = np.array(tensor._data)
    return made if made.ndim else made[()]
