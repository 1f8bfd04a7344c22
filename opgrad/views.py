"""Which tensors look at the memory of others."""

from __future__ import annotations

import math
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from opgrad.modes import grad_enabled
from opgrad.stamps import owner
from opgrad.variable import Variable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Step(NamedTuple):
    """A call of a view operator, to be repeated on other sources."""

    operator: Any
    others: tuple[Any, ...]
    parameters: dict[str, Any]
    #: Which of several outputs is the view.
    output_nr: int | None

    def __call__(self, source: Any) -> Any:
        """Return the same view of another source."""
        made = self.operator.compiled(source, *self.others, **self.parameters)
        return made if self.output_nr is None else made[self.output_nr]


class View(NamedTuple):
    """How a tensor looks at memory: at whose, and by what call."""

    source: Any
    step: Step
    #: Whether operations were being recorded.
    recorded: bool


def linker(operator: Any) -> Callable[..., Any]:
    """Make the function that notes which results of a view operator share memory with its input."""

    def link(made: Any, source: Any, others: tuple[Any, ...], parameters: dict[str, Any]) -> Any:
        if type(made) is tuple:
            for i, each in enumerate(made):
                note(each, source, others, parameters, i)
        else:
            note(made, source, others, parameters, None)
        return made

    def note(made: Any, source: Any, *call: Any) -> None:
        if not isinstance(source, Variable.kind):
            return
        if isinstance(source._data, np.generic) and type(made._data) is np.ndarray:
            # A scalar is shared by becoming an array.
            made._data = Step(operator, *call)(source.data)._data
        # A scalar is a copy of one element, which its tensor is still to follow.
        if not (isinstance(made._data, np.generic) or shares(made._data, source._data)):
            return
        made._view = View(source, Step(operator, *call), grad_enabled())
        if made.__class__ is not source.__class__:  # what is for inference is so by its memory
            made.__class__ = source.__class__
        try:
            views = _read_views(source)
        except AttributeError:
            views = _first_views(source)
        views.append(weakref.ref(made))
        count = len(views)
        if count >= 16 and count & (count - 1) == 0:  # now and then, so that it costs little
            with _lock:
                for gone in [each for each in views if each() is None]:
                    views.remove(gone)  # in place: other threads may be appending

    return link


def shares(data: Any, whole: Any) -> bool:
    """Tell whether two arrays look at the same memory."""
    if type(data) is not np.ndarray:
        return False
    return data.base is whole or owner(data) is owner(whole)


_lock = threading.RLock()  # again by the same thread: `__del__` may come at any moment

# The slots' own methods: tensors look a missing attribute up among the operators.
_slots: Any = Variable
_read_view, _read_views = _slots._view.__get__, _slots._views.__get__


def _first_views(source: Any) -> list[weakref.ref[Any]]:
    """Return where the views of a tensor are noted, which was not there yet."""
    with _lock:
        try:
            views: list[weakref.ref[Any]] = _read_views(source)
        except AttributeError:
            views = source._views = []
    return views


def view_of(tensor: Any) -> View | None:
    """Return how a tensor looks at another's memory; None if its memory is its own."""
    try:
        view: View = _read_view(tensor)
    except AttributeError:
        return None
    return view


def cut(tensor: Any) -> None:
    """Forget what a tensor looks at, and what looks at it: its memory is another from now on."""
    for each in (tensor, *views_of(tensor)):
        if view_of(each) is not None:
            del each._view
    if views_of(tensor):
        tensor._views = []


def views_of(source: Any) -> list[Any]:
    """Return the tensors that look at another's memory and are still there."""
    try:
        views = _read_views(source)
    except AttributeError:
        return []
    return [view for each in views if (view := each()) is not None]


def way(tensor: Any) -> tuple[Any, list[Step]]:
    """Return the tensor whose memory it is, and the calls that lead from there to a tensor."""
    steps: list[Step] = []
    while (view := view_of(tensor)) is not None:
        tensor = view.source
        steps.append(view.step)
    return tensor, steps[::-1]


def places(shape: tuple[int, ...], steps: Sequence[Step]) -> Any:
    """Return where in an array of that shape, in C order, each element of a view of it is."""
    found: Any = np.arange(math.prod(shape)).reshape(shape)
    for step in steps:
        found = step(found)._data
    return found


def shared(tensor: Any) -> Any:
    """Return an array in the place of a scalar: if that was a copy of an element, the element."""
    view = view_of(tensor)
    if view is None:
        return np.asarray(tensor._data)
    whole = view.source.data
    part = view.step(whole)._data
    if type(part) is np.ndarray:
        return part
    place = np.unravel_index(int(places(whole.shape, [view.step])), whole.shape)
    return whole[(*place, ...)]
