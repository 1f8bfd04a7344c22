"""Whether operations are recorded: `no_grad`, `enable_grad`, `set_grad_enabled`.

Inference mode is kept here, too, for its sake nothing is recorded; see `inference`. So is what
modes have in common: `Outer` and `InForce`.
"""

from __future__ import annotations

import functools
import inspect
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeAlias, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")


class Outer(Generic[_T]):
    """What the blocks of a mode that were entered go back to, the innermost last.

    It is here, and not on the modes, because threads and tasks may share those.
    """

    __slots__ = ("_stack",)

    def __init__(self, name: str) -> None:
        self._stack: ContextVar[tuple[_T, ...]] = ContextVar(name, default=())

    def push(self, before: _T) -> None:
        """Note what was before a block was entered."""
        self._stack.set((*self._stack.get(), before))

    def pop(self) -> _T:
        """Return what to go back to at the end of a block."""
        *outer, before = self._stack.get()
        self._stack.set(tuple(outer))
        return before

    def entered(self) -> tuple[_T, ...]:
        """Return what all blocks go back to that are entered just now."""
        return self._stack.get()


class InForce:
    """Something for all threads that lasts as long as one of them, at least, is in a mode.

    Parameters
    ----------
    begin, end : callable
        Called when the first comes into the mode, and when the last has left it.
    """

    __slots__ = ("_begin", "_count", "_end", "_lock")

    def __init__(self, begin: Callable[[], Any], end: Callable[[], Any]) -> None:
        self._begin = begin
        self._end = end
        self._count = 0
        self._lock = threading.RLock()  # again by the same thread: `__del__` may come at any moment

    def add(self, step: int) -> None:
        """Count one more in the mode, or with -1 one less."""
        with self._lock:
            self._count += step
            if self._count == step == 1:
                self._begin()
            elif self._count == 0:
                self._end()


_grad_enabled: ContextVar[bool] = ContextVar("opgrad_grad_enabled", default=True)

_inference: ContextVar[bool] = ContextVar("opgrad_inference", default=False)

#: Its mode, and before it: whether operations were recorded, and whether it was inference mode.
_Block: TypeAlias = "tuple[GradMode, bool, bool]"

_outer: Outer[_Block] = Outer("opgrad_outer_modes")

#: The read on the hot path: the variable's own method, without a Python frame around it.
grad_enabled = _grad_enabled.get

in_inference = _inference.get


def is_grad_enabled() -> bool:
    """Tell whether operations are being recorded, in this thread and task.

    Examples
    --------
    >>> import opgrad
    >>> with opgrad.no_grad():
    ...     opgrad.is_grad_enabled()
    False
    """
    return grad_enabled()


def is_inference_mode_enabled() -> bool:
    """Tell whether this thread and task is in inference mode.

    Examples
    --------
    >>> import opgrad
    >>> with opgrad.inference_mode():
    ...     opgrad.is_inference_mode_enabled()
    True
    """
    return in_inference()


def _switch(enabled: bool, inference: bool) -> None:
    """Switch recording on or off; in inference mode it stays off."""
    _inference.set(inference)
    _grad_enabled.set(enabled and not inference)


class GradMode:
    """A context manager and decorator that switches recording on or off and back again."""

    __slots__ = ("_enabled",)

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled

    def __enter__(self) -> None:
        self._enter(grad_enabled())

    def _enter(self, previous: bool) -> None:
        _outer.push((self, previous, in_inference()))
        _switch(self._enabled, self._inference())

    def _inference(self) -> bool:
        """Tell whether it is inference mode inside: by default as it is outside."""
        return in_inference()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _, enabled, inference = _outer.pop()
        _inference.set(inference)
        _grad_enabled.set(enabled)

    def _for_blocks(self) -> GradMode:
        """Return the mode without what it does beside its blocks."""
        return self

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return `function`, or a generator or coroutine function, with this mode inside it."""
        wrapper = next(wrap for applies, wrap in _WRAPPERS if applies(function))
        in_mode: Callable[_P, _R] = wrapper(self._for_blocks(), function)
        return functools.update_wrapper(in_mode, function)


class _Steps:
    """The modes of a generator, in force while it makes a step and not in its caller in between.

    They are the one that it is decorated with and those whose blocks it is inside of. At the end of
    a step all are left, and at the next one they are entered again.
    """

    __slots__ = ("_around", "_blocks", "_mode")

    def __init__(self, mode: GradMode) -> None:
        self._mode = mode
        self._blocks: Sequence[_Block] = ()

    def __enter__(self) -> None:
        self._mode.__enter__()
        self._around = len(_outer.entered())
        for mode, enabled, inference in self._blocks:
            if not inference:  # in which recording is off, whatever it was switched to
                _switch(enabled, in_inference())
            mode.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._blocks = _outer.entered()[self._around :]
        for mode, *_ in reversed(self._blocks):
            mode.__exit__(kind, error, traceback)
        self._mode.__exit__(kind, error, traceback)


def _in_generator(mode: GradMode, function: Callable[..., Any]) -> Callable[..., Any]:
    """Apply a mode to each step of a generator."""

    def in_mode(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        steps, step, value = _Steps(mode), generator.send, None
        while True:
            try:
                with steps:
                    made = step(value)
            except StopIteration as stop:
                return stop.value
            try:
                step, value = generator.send, (yield made)
            except GeneratorExit:
                with steps:
                    generator.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it is the generator's to handle
                step, value = generator.throw, error

    return in_mode


def _in_async_generator(mode: GradMode, function: Callable[..., Any]) -> Callable[..., Any]:
    """Apply a mode to each step of an async generator."""

    async def in_mode(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        steps, step, value = _Steps(mode), generator.asend, None
        while True:
            try:
                with steps:
                    made = await step(value)
            except StopAsyncIteration:
                return
            try:
                step, value = generator.asend, (yield made)
            except GeneratorExit:
                with steps:
                    await generator.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 - it is the generator's to handle
                step, value = generator.athrow, error

    return in_mode


def _in_coroutine(mode: GradMode, function: Callable[..., Any]) -> Callable[..., Any]:
    async def in_mode(*args: Any, **kwargs: Any) -> Any:
        with mode:
            return await function(*args, **kwargs)

    return in_mode


def _in_call(mode: GradMode, function: Callable[..., Any]) -> Callable[..., Any]:
    def in_mode(*args: Any, **kwargs: Any) -> Any:
        with mode:
            return function(*args, **kwargs)

    return in_mode


#: How a function is decorated, by what it is; the first that applies.
_WRAPPERS: tuple[tuple[Callable[[Any], bool], Callable[..., Any]], ...] = (
    (inspect.isgeneratorfunction, _in_generator),
    (inspect.isasyncgenfunction, _in_async_generator),
    (inspect.iscoroutinefunction, _in_coroutine),
    (callable, _in_call),
)


@overload
def no_grad() -> GradMode: ...
@overload
def no_grad(function: Callable[_P, _R]) -> Callable[_P, _R]: ...
def no_grad(function: Callable[..., Any] | None = None) -> Any:
    """Do not record operations: results do not require grad.

    Works as a context manager and, with or without parentheses, as a decorator; nests; is
    isolated per thread and per async task; is undone on every exception.

    Examples
    --------
    >>> import opgrad
    >>> a = opgrad.ones(2, requires_grad=True)
    >>> with opgrad.no_grad():
    ...     b = a * 2
    >>> b.requires_grad
    False
    """
    mode = GradMode(enabled=False)
    return mode if function is None else mode(function)


@overload
def enable_grad() -> GradMode: ...
@overload
def enable_grad(function: Callable[_P, _R]) -> Callable[_P, _R]: ...
def enable_grad(function: Callable[..., Any] | None = None) -> Any:
    """Record operations, also inside `no_grad`; used like `no_grad`.

    Examples
    --------
    >>> import opgrad
    >>> a = opgrad.ones(2, requires_grad=True)
    >>> with opgrad.no_grad(), opgrad.enable_grad():
    ...     b = a * 2
    >>> b.requires_grad
    True
    """
    mode = GradMode(enabled=True)
    return mode if function is None else mode(function)


class set_grad_enabled(GradMode):  # noqa: N801 - a function to its users, as in PyTorch
    """Switch recording on or off, at once; as a context manager, until the block ends.

    Parameters
    ----------
    mode : bool
        Whether operations are recorded from now on.

    Examples
    --------
    >>> import opgrad
    >>> with opgrad.set_grad_enabled(False):
    ...     opgrad.is_grad_enabled()
    False
    >>> opgrad.is_grad_enabled()
    True
    """

    __slots__ = ("_outer",)

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        self._outer = grad_enabled()
        _switch(self._enabled, in_inference())

    def __enter__(self) -> None:
        self._enter(self._outer)

    def _for_blocks(self) -> GradMode:
        return GradMode(self._enabled)

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return `function` with this mode around each call; outside them nothing changes."""
        _grad_enabled.set(self._outer)
        return super().__call__(function)
