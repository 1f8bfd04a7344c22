"""The functions that make tensors: from data, filled with a value, ranges, random numbers."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from opgrad import dtypes
from opgrad.draws import draws_now, is_repeated
from opgrad.levels import refuse_in_vmap
from opgrad.registry import calls
from opgrad.tensor import Tensor
from opgrad.variable import is_differentiable, kind_now

if TYPE_CHECKING:
    from opgrad.dtypes import DTypeLike
    from opgrad.randomness import Generator

Shape = int | Sequence[int]

_generator: Generator | None = None


def tensor(data: Any, *, dtype: DTypeLike = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor, a leaf, from a copy of `data`.

    Parameters
    ----------
    data : array_like
        Numbers, nested sequences of numbers, an array or a tensor.
    dtype : dtype_like, optional
        By default that of an array, the default dtype for Python floats, int64 for ints.
    requires_grad : bool
        Whether operations on it are recorded.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        If `data` is not numeric, or grad is required of an integer dtype.

    Examples
    --------
    >>> import opgrad
    >>> opgrad.tensor([3.], requires_grad=True)
    tensor([3.], requires_grad=True)
    """
    if isinstance(data, Tensor) and data.requires_grad:
        msg = "tensor: the copy has no history; say data.detach().clone(), or clone() to keep it"
        warnings.warn(msg, UserWarning, stacklevel=2)
    return _finish(_numeric(data, dtype, copy=True), requires_grad)


def asarray(obj: Any, /, *, dtype: DTypeLike = None, copy: bool | None = None) -> Tensor:
    """Return `obj` as a tensor: itself if it is one, sharing memory if it is an array.

    Parameters
    ----------
    obj : array_like
        Numbers, nested sequences of numbers, an array or a tensor, which keeps its history.
    dtype : dtype_like, optional
        What to cast to, as a recorded operation.
    copy : bool, optional
        True: always copy. False: never, and raise ValueError where that cannot be.

    Examples
    --------
    >>> import numpy, opgrad
    >>> opgrad.asarray(numpy.arange(3))
    tensor([0, 1, 2])
    """
    if not isinstance(obj, Tensor):
        return kind_now()(_numeric(obj, dtype, copy=copy))
    if dtype is not None and np.dtype(dtype) != obj.dtype:
        if copy is False:
            msg = f"asarray: cannot make {np.dtype(dtype)} of {obj.dtype} without a copy"
            raise ValueError(msg)
        return calls.astype(obj, dtype)  # type: ignore[no-any-return]  # a call by name
    return obj.clone() if copy else obj


def _numeric(data: Any, dtype: DTypeLike, copy: bool | None) -> Any:
    if isinstance(data, Tensor):
        data = data._data
    if dtype is None and not hasattr(data, "dtype"):
        dtype = dtypes.default_dtype_of(data)
    made = np.array(data, dtype=dtype, copy=copy)
    if made.dtype.kind not in "biufc":
        msg = f"no tensor can be made of data of dtype {made.dtype}; expected booleans or numbers"
        raise TypeError(msg)
    return made


def _finish(data: Any, requires_grad: bool) -> Tensor:
    """Make a leaf from fresh memory; 0-d data stays a scalar until somebody wants to share it."""
    made = kind_now()(data[()] if data.ndim == 0 else data)
    return made.requires_grad_() if requires_grad else made


def _shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """Read ``zeros(2, 3)`` and ``zeros((2, 3))`` alike."""
    sizes = shape[0] if len(shape) == 1 and np.iterable(shape[0]) else shape
    try:
        return tuple(map(operator.index, sizes))
    except TypeError:
        msg = f"shape: got {sizes!r}; expected whole numbers, or one tuple of them"
        raise TypeError(msg) from None


def _or_default(dtype: DTypeLike) -> np.dtype[Any]:
    return dtypes.get_default_dtype() if dtype is None else np.dtype(dtype)


def zeros(*shape: Any, dtype: DTypeLike = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor of zeros; the shape is given as numbers or as one tuple.

    Examples
    --------
    >>> import opgrad
    >>> opgrad.zeros(2)
    tensor([0., 0.])
    """
    return _finish(np.zeros(_shape(shape), _or_default(dtype)), requires_grad)


def ones(*shape: Any, dtype: DTypeLike = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor of ones; the shape is given as numbers or as one tuple.

    Examples
    --------
    >>> import opgrad
    >>> opgrad.ones((1, 2))
    tensor([[1., 1.]])
    """
    return _finish(np.ones(_shape(shape), _or_default(dtype)), requires_grad)


def full(
    shape: Shape, fill_value: Any, *, dtype: DTypeLike = None, requires_grad: bool = False
) -> Tensor:
    """Make a tensor with `fill_value` everywhere.

    Examples
    --------
    >>> import opgrad
    >>> opgrad.full((2,), 0.5)
    tensor([0.5000, 0.5000])
    """
    value = _numeric(_fill(fill_value), dtype, None)
    return _finish(np.full(_shape((shape,)), value, value.dtype), requires_grad)


def _fill(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value


def arange(
    start: Any,
    /,
    stop: Any = None,
    step: Any = 1,
    *,
    dtype: DTypeLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor of evenly spaced numbers from `start`, by default 0, up to before `stop`.

    Examples
    --------
    >>> import opgrad
    >>> opgrad.arange(3)
    tensor([0, 1, 2])
    """
    first, last = (0, start) if stop is None else (start, stop)
    chosen = dtypes.default_dtype_of([first, last, step]) if dtype is None else dtype
    return _finish(np.arange(first, last, step, dtype=chosen), requires_grad)


def linspace(
    start: Any,
    stop: Any,
    /,
    num: int,
    *,
    dtype: DTypeLike = None,
    endpoint: bool = True,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor of `num` evenly spaced numbers from `start` to `stop`.

    Examples
    --------
    >>> import opgrad
    >>> opgrad.linspace(0, 1, 3)
    tensor([0.0000, 0.5000, 1.0000])
    """
    start, stop = _fill(start), _fill(stop)
    chosen = dtypes.default_dtype_of([0.0, start, stop]) if dtype is None else dtype
    return _finish(np.linspace(start, stop, num, dtype=chosen, endpoint=endpoint), requires_grad)


def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: DTypeLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Make a matrix with ones on its `k`-th diagonal and zeros elsewhere.

    Examples
    --------
    >>> import opgrad
    >>> opgrad.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    return _finish(np.eye(n_rows, n_cols, k, dtype=_or_default(dtype)), requires_grad)


def _like(x: Any) -> Any:
    return x._like() if isinstance(x, Tensor) else _numeric(x, None, None)


def zeros_like(x: Any, /, *, dtype: DTypeLike = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor of zeros with the shape, and by default the dtype, of `x`."""
    return _finish(np.zeros_like(_like(x), dtype=dtype), requires_grad)


def ones_like(x: Any, /, *, dtype: DTypeLike = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor of ones with the shape, and by default the dtype, of `x`."""
    return _finish(np.ones_like(_like(x), dtype=dtype), requires_grad)


def full_like(
    x: Any, /, fill_value: Any, *, dtype: DTypeLike = None, requires_grad: bool = False
) -> Tensor:
    """Make a tensor of `fill_value` with the shape, and by default the dtype, of `x`."""
    like, value = _like(x), _fill(fill_value)
    return _finish(np.full_like(like, value, dtype=dtype), requires_grad)


def _random() -> np.random.Generator:
    """Return the process's generator; NumPy loads its random module only when it is asked for."""
    generator = _generator or manual_seed(None)
    return generator if draws_now() else generator._plain


def rand(*shape: Any, dtype: DTypeLike = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor of random numbers, uniform in [0, 1); of complex ones, both parts are."""
    chosen = _continuous("rand", dtype)
    # In these steps all numbers below 1 are exact, so that none is rounded up to it.
    steps = 2.0 ** (np.finfo(chosen).nmant + 1)

    def draw(sizes: tuple[int, ...]) -> Any:
        return np.floor(_random().random(sizes) * steps) / steps

    return _finish(_drawn(draw, _shape(shape), chosen), requires_grad)


def randn(*shape: Any, dtype: DTypeLike = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor of random numbers, normal with mean 0 and variance 1.

    Complex numbers have half of the variance in each part.

    Examples
    --------
    >>> import opgrad
    >>> _ = opgrad.manual_seed(0)
    >>> opgrad.randn(3, 2).shape
    (3, 2)
    """
    chosen = _continuous("randn", dtype)
    spread = 0.5**0.5 if chosen.kind == "c" else 1

    def draw(sizes: tuple[int, ...]) -> Any:
        return spread * _random().standard_normal(sizes)

    return _finish(_drawn(draw, _shape(shape), chosen), requires_grad)


def _continuous(name: str, dtype: DTypeLike) -> np.dtype[Any]:
    chosen = _or_default(dtype)
    if not is_differentiable(chosen):
        msg = f"{name}: got dtype {chosen}; expected a floating or complex one"
        raise TypeError(msg)
    return chosen


def _drawn(
    draw: Callable[[tuple[int, ...]], Any], sizes: tuple[int, ...], dtype: np.dtype[Any]
) -> Any:
    refuse_in_vmap("random numbers", "they would be the same for all examples")
    numbers = draw(sizes) + 1j * draw(sizes) if dtype.kind == "c" else draw(sizes)
    return np.asarray(numbers, dtype)


def rand_like(x: Any, /, *, dtype: DTypeLike = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor of uniform random numbers with the shape, and by default the dtype, of `x`."""
    like = _like(x)
    chosen = like.dtype if dtype is None else dtype
    return rand(like.shape, dtype=chosen, requires_grad=requires_grad)


def randn_like(x: Any, /, *, dtype: DTypeLike = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor of normal random numbers with the shape, and by default the dtype, of `x`."""
    like = _like(x)
    chosen = like.dtype if dtype is None else dtype
    return randn(like.shape, dtype=chosen, requires_grad=requires_grad)


def manual_seed(seed: int | None) -> Generator:
    """Start the random numbers of `rand` and `randn` anew; returns their generator.

    Parameters
    ----------
    seed : int or None
        The same numbers follow the same seed; None takes one from the system.
    """
    global _generator  # noqa: PLW0603 - one generator for the process, as in PyTorch
    from opgrad.randomness import Generator

    generator = Generator(np.random.PCG64(seed))
    if not is_repeated():
        _generator = generator
    return generator
