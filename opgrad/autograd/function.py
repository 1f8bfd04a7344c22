"""`Function`: an operation with a backward of its own, written for one program.

It is PyTorch's interface, for code that is ported. An operator that is to stay is better written
as a plugin, which names what it needs and is verified.
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from opgrad import inplace
from opgrad.autograd.context import Context
from opgrad.autograd.recorded import FunctionNode, SavedValue
from opgrad.graph import GraphError
from opgrad.levels import levels
from opgrad.modes import grad_enabled, no_grad
from opgrad.once import ended
from opgrad.operands import describe
from opgrad.trees import leaves, rebuild
from opgrad.variable import Variable, is_differentiable, kind_now, metadata_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Function:
    """An operation that says itself how it is differentiated: subclass it, call ``apply``.

    Methods are static. What they get and return are tensors: forward runs without recording, and
    what it makes of its inputs is taken as it is; backward is recorded where a pass is, so that
    there are second derivatives.

    Notes
    -----
    An output is copied, unless `Context.mark_dirty` names it, if anything but the context's saved
    tensors holds it or its memory: an input, another output, something that forward encloses.
    Gradients are in PyTorch's convention for complex numbers. Tensors inside of lists or other
    objects are no inputs: no gradient reaches them.

    Examples
    --------
    >>> import opgrad
    >>> class Cube(opgrad.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x**3
    ...
    ...     @staticmethod
    ...     def backward(ctx, grad):
    ...         (x,) = ctx.saved_tensors
    ...         return grad * 3 * x**2
    >>> x = opgrad.tensor([1.0, 2.0], requires_grad=True)
    >>> y = Cube.apply(x)
    >>> y
    tensor([1., 8.], grad_fn=<CubeBackward>)
    >>> y.sum().backward()
    >>> x.grad
    tensor([ 3., 12.])
    """

    _node_type: ClassVar[type[FunctionNode]]
    #: The names of forward's arguments, without the context.
    _parameters: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        attributes = {"__slots__": (), "__module__": cls.__module__, "function": cls}
        names = [
            each.name
            for each in inspect.signature(cls.forward).parameters.values()
            if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]
        cls._parameters = tuple(names if cls._separate() else names[1:])
        cls._node_type = type(f"{cls.__name__}Backward", (FunctionNode,), attributes)

    @classmethod
    def _names(cls, count: int) -> list[str]:
        """Return the names of so many arguments."""
        more = range(count - len(cls._parameters))
        return [*cls._parameters, *(f"args[{i}]" for i in more)][:count]

    @classmethod
    def _separate(cls) -> bool:
        """Tell whether forward is not given the context."""
        return cls.setup_context is not Function.setup_context

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the outputs: a tensor, or a tuple of which some are.

        Parameters
        ----------
        *args, **kwargs
            A `Context`, unless there is a `setup_context`; then what ``apply`` is given.
        """
        msg = (
            "a Function needs a static method forward(ctx, ...), or forward(...) and setup_context"
        )
        raise NotImplementedError(msg)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Any, ...], output: Any) -> None:
        """Save what backward needs; where it is defined, forward is not given the context.

        Parameters
        ----------
        ctx : Context
            What to save it in.
        inputs : tuple
            The arguments of forward.
        output : Tensor or tuple
            What forward returned.
        """

    @staticmethod
    def backward(ctx: Context, *grads: Any) -> Any:
        """Compute the gradients of the inputs.

        Parameters
        ----------
        ctx : Context
            What forward has left.
        *grads : Tensor or None
            The gradient of each output; None for outputs that are no tensors.

        Returns
        -------
        Tensor, tuple or None
            One for each argument of ``apply``, of its shape or of one that it broadcasts to; None
            for arguments that are no tensors, and where no gradient flows.
        """
        msg = "a Function whose gradient is asked for needs a static method backward(ctx, *grads)"
        raise NotImplementedError(msg)

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Call forward, and record the call where an argument requires grad.

        Parameters
        ----------
        *args, **kwargs
            What forward takes, without the context. Only tensors given by position or by the name
            of an argument that has one are differentiated.

        Returns
        -------
        Tensor or tuple
            What forward returns.

        Raises
        ------
        GraphError
            If an output is an array, or a tensor marked as dirty is not both input and output, or
            is a leaf that requires grad.
        """
        if levels() and any(getattr(x, "_hidden", False) for _, x in leaves((args, kwargs))):
            from opgrad.batched import looped

            return looped(cls.apply, *args, **kwargs)
        separate = cls._separate()
        if kwargs:
            bound = inspect.signature(cls.forward).bind(*[None] * (not separate), *args, **kwargs)
            args, kwargs = bound.args[not separate :], bound.kwargs
            _refuse_tensors(cls, kwargs)
        ctx = Context(args)
        with no_grad():
            if separate:
                made = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, made)
            else:
                made = cls.forward(ctx, *args, **kwargs)
        kind, several = type(made), isinstance(made, tuple | list)
        made = list(made) if several else [made]  # one that nobody else holds, for `_references`
        outputs = _recorded(cls, ctx, args, made, several)
        return kind(outputs) if several else outputs[0]


def _refuse_tensors(cls: type[Function], kwargs: dict[str, Any]) -> None:
    for name, each in kwargs.items():
        if isinstance(each, Variable) and each._edge is not None:
            msg = (
                f"{cls.__qualname__}: argument {name!r} is for its name only and requires grad, "
                "and only arguments with a position have a gradient; pass a detach() of it"
            )
            raise GraphError(msg)


def _recorded(
    cls: type[Function], ctx: Context, args: Sequence[Any], outputs: Sequence[Any], several: bool
) -> list[Any]:
    """Return what forward returned with its place in the graph."""
    _check(cls, ctx, args, outputs)
    arrays = _arrays(ctx, outputs)
    ctx._outputs = [array is not None for array in arrays]
    edges = tuple(each._read()[1] for each in args if isinstance(each, Variable))
    node: FunctionNode | None = None
    if any(edges) and grad_enabled():
        metadata = [_NO_TENSOR if array is None else metadata_of(array) for array in arrays]
        saved = _saved(cls, ctx, args, outputs, arrays)
        node = cls._node_type(ctx, edges, saved, metadata if several else metadata[0])
    constants, dirty = ctx._constants, ctx._dirty
    # What a node keeps alive must not keep the tensors alive that the node belongs to.
    ctx._to_save = ctx._constants = ctx._dirty = ()
    made = []
    for index, (output, array) in enumerate(zip(outputs, arrays, strict=True)):
        if array is None:
            made.append(output)
            continue
        flows = is_differentiable(array.dtype) and not _among(output, constants)
        result = kind_now()(array, (node, index) if node is not None and flows else None)
        if _among(output, dirty):
            result = inplace.overwrite(output, result, cls.__qualname__)
        made.append(result)
    return made


#: What stands in a node's metadata for an output that is not a tensor.
_NO_TENSOR = ((), np.dtype(float))


def _among(tensor: Any, tensors: Sequence[Any]) -> bool:
    return any(tensor is each for each in tensors)


def _check(cls: type[Function], ctx: Context, args: Sequence[Any], outputs: Sequence[Any]) -> None:
    where = cls.__qualname__
    for index, each in enumerate(outputs):
        if isinstance(each, np.ndarray | np.generic):
            msg = (
                f"{where}.forward returned an array, {describe(each)}, as output {index}, which no "
                "gradient can reach; return opgrad.asarray() of it"
            )
            raise GraphError(msg)
    for each in ctx._dirty:
        if not _among(each, args) or not _among(each, outputs):
            msg = (
                f"{where}: mark_dirty was given {describe(each)}, which is not both an argument "
                "and an output; forward has to return what it writes to"
            )
            raise GraphError(msg)
        inplace.check_target(where, each)


def _arrays(ctx: Context, outputs: Sequence[Any]) -> list[Any]:
    """Return the arrays of the outputs, copied where somebody else holds them or their memory."""
    held = _references(outputs)  # before more names for them are made here

    def own(output: Any, held: tuple[int, int]) -> Any:
        if not isinstance(output, Variable):
            return None
        array, saved = output._data, [*ctx._to_save, *ctx._constants]
        if not isinstance(array, np.ndarray) or _among(output, ctx._dirty):
            return array
        known = sum(each is output for each in saved)
        fresh = array.base is None and held == (_FRESH[0] + known, _FRESH[1])
        return array if fresh else array.copy()

    return [own(*each) for each in zip(outputs, held, strict=True)]


def _references(outputs: Sequence[Any]) -> list[tuple[int, int]]:
    """Return the reference counts of tensors and of their arrays."""
    return [
        (sys.getrefcount(each), sys.getrefcount(each._data) if isinstance(each, Variable) else 0)
        for each in outputs
    ]


#: Those of a tensor that only a list holds; measured, as they differ among Python versions.
_FRESH = _references([Variable(np.zeros(1))])[0]


def _saved(
    cls: type[Function],
    ctx: Context,
    args: Sequence[Any],
    outputs: Sequence[Any],
    arrays: Sequence[Any],
) -> list[SavedValue]:
    """Return what a node saves: the context, and the tensors with their origins."""
    named = [
        (name, each)
        for name, each in zip(cls._names(len(args)), args, strict=True)
        if isinstance(each, Variable)
    ]
    known = {
        id(each): SavedValue(name, each._data, ("input", index))
        for index, (name, each) in enumerate(named)
    }
    for index, (output, array) in enumerate(zip(outputs, arrays, strict=True)):
        if array is not None and (id(output) not in known or _among(output, ctx._dirty)):
            origin = ("own", None) if _among(output, ctx._constants) else ("output", index)
            known[id(output)] = SavedValue(f"out{index}", array, origin)
    saved = [SavedValue("ctx", ctx, None)]
    for number, each in enumerate(ctx._to_save):
        if each is None:
            saved.append(SavedValue(f"saved{number}", None, None))
        else:
            own = SavedValue(f"saved{number}", each._data, ("own", each._edge))
            saved.append(known.get(id(each), own))
    return saved


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Say of a backward that it is not itself differentiated, and may compute as it likes.

    A second derivative through it is an error, where PyTorch may leave it out silently.

    Examples
    --------
    >>> import opgrad
    >>> from opgrad.autograd.function import once_differentiable
    >>> class Twice(opgrad.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return x * 2
    ...
    ...     @staticmethod
    ...     @once_differentiable
    ...     def backward(ctx, grad):
    ...         return grad * 2
    """

    @functools.wraps(backward)
    def once(ctx: Context, *grads: Any) -> Any:
        with no_grad():
            if any(each is not None and each._hidden for each in grads):
                from opgrad.batched import each_by_itself

                returned = each_by_itself(functools.partial(backward, ctx), *grads)
            else:
                returned = backward(ctx, *grads)
        node = None if ctx._node is None else ctx._node()
        if node is None or not grad_enabled():
            return returned
        edges = (*node.edges, *(each._edge for each in grads if each is not None))
        return rebuild(returned, (ended(node.name(), edges, each) for _, each in leaves(returned)))

    return once
