"""`profile`: how often operators are called, how long they take, and what they save."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from opgrad.blame import operator_name
from opgrad.files import replacing
from opgrad.graph import AccumulateGrad, recorders, runners
from opgrad.hookspecs import hookimpl
from opgrad.registry import registry
from opgrad.stamps import owner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opgrad.graph import Edge, Node, Run
    from opgrad.operator import Operator

_now = time.perf_counter_ns


class Total(NamedTuple):
    """What a profile says of one operator.

    Attributes
    ----------
    calls : int
        How many times it was called.
    forward, backward : float
        Seconds spent in its calls, and in the backward of its calls.
    total : float
        Their sum.
    saved : int
        Bytes of the arrays that its calls kept for backward.
    """

    calls: int
    forward: float
    backward: float
    total: float
    saved: int


class _Event(NamedTuple):
    """A call, or its backward, that has come to its end; times in nanoseconds."""

    operator: str
    phase: str
    thread: tuple[int, str]
    start: int
    duration: int
    #: Without what ran inside it.
    own: int


class _Span:
    """What is running; `inside` is how long other things ran in it."""

    __slots__ = ("inside", "operator")

    def __init__(self, operator: Operator | None) -> None:
        self.operator = operator
        self.inside = 0


class _Thread(threading.local):
    """What is running in a thread, the innermost last."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self.spans: list[_Span] = []
        self.identity = next(self._numbers), threading.current_thread().name


class profile:  # noqa: N801 - a function to its users, as in PyTorch
    """Measure what operators do inside a ``with`` block, in every thread.

    ``print(prof)`` shows a table, and ``rich.print(prof)`` a coloured one. Times are an operator's
    own: what is spent in another operator that it calls is counted there. An array that several
    calls save counts for each of them.

    Notes
    -----
    An operator that was bound to a name before the block, as by ``from opgrad import exp``, is
    called past the profiler by that name; its backward is measured.

    Examples
    --------
    >>> import opgrad
    >>> x = opgrad.ones(100, requires_grad=True)
    >>> with opgrad.profiler.profile() as prof:
    ...     for _ in range(3):
    ...         opgrad.exp(x).sum().backward()
    >>> prof.totals()["exp"].calls
    3
    >>> print(prof.table(sort_by="saved"))
    operator  calls  forward  backward  total  saved
    --------  -----  ...
    exp           3  ...  2.3 KiB
    sum           3  ...  0 B
    """

    def __init__(self) -> None:
        self._events: list[_Event] = []
        self._saved: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._thread = _Thread()
        self._running = False
        #: The operator that was called, for nodes of one that answers in its place.
        self._called: weakref.WeakKeyDictionary[Node, str] = weakref.WeakKeyDictionary()

    def __enter__(self) -> Self:
        if self._running:
            msg = "profile: this profile is already running; make another one for an inner block"
            raise RuntimeError(msg)
        registry.register_plugin(self)
        recorders.insert(0, self._note)  # before saved-tensor hooks pack anything
        runners.append(self._run)
        self._running = True
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        runners.remove(self._run)
        recorders.remove(self._note)
        registry.unregister_plugin(self)

    # ------------------------------------------------------------------------- measuring

    @hookimpl
    def around_call(self, operator: Operator, call: Callable[[], Any]) -> Any:
        """Measure a call of an operator; see `hookspecs.around_call`."""
        return self._timed(operator.name, "forward", operator, call)

    def _run(self, node: Node, _needs: Sequence[Edge | None], run: Run) -> Any:
        name = self._called.get(node) or operator_name(node)
        return self._timed(name, "backward", None, run)

    def _timed(
        self, name: str, phase: str, operator: Operator | None, run: Callable[[], Any]
    ) -> Any:
        thread = self._thread
        spans, span = thread.spans, _Span(operator)
        spans.append(span)
        start = _now()
        try:
            return run()
        finally:
            duration = _now() - start
            spans.pop()
            if spans:
                spans[-1].inside += duration
            own = duration - span.inside
            self._events.append(_Event(name, phase, thread.identity, start, duration, own))

    def _note(self, node: Node) -> None:
        """Count what a new node saves."""
        if isinstance(node, AccumulateGrad):
            return
        spans = self._thread.spans
        called = spans[-1].operator if spans else None
        if called is not None and node.operator in called.overloads.values():
            self._called[node] = called.name
        name = self._called.get(node) or operator_name(node)
        with self._lock:
            self._saved[name] += _size(node._saved)

    # --------------------------------------------------------------------------- results

    def totals(self) -> dict[str, Total]:
        """Return what was measured, by operator.

        Returns
        -------
        dict of str to Total
            What the graph has beside calls of operators is there by the names of its nodes.

        Examples
        --------
        >>> import opgrad
        >>> x = opgrad.ones(100, requires_grad=True)
        >>> with opgrad.profiler.profile() as prof:
        ...     y = opgrad.exp(opgrad.exp(x))
        >>> found = prof.totals()["exp"]
        >>> found.calls, found.saved, found.forward > 0, found.backward
        (2, 1600, True, 0.0)
        """
        events = list(self._events)
        calls = Counter(each.operator for each in events if each.phase == "forward")
        times: Counter[tuple[str, str]] = Counter()
        for each in events:
            times[each.operator, each.phase] += each.own
        found = {}
        for name in dict.fromkeys([*(each.operator for each in events), *self._saved]):
            forward, backward = times[name, "forward"] / 1e9, times[name, "backward"] / 1e9
            both = forward + backward
            found[name] = Total(calls[name], forward, backward, both, self._saved[name])
        return found

    def table(self, sort_by: str = "total") -> str:
        """Return a table with a line for each operator, as plain text.

        Parameters
        ----------
        sort_by : {"total", "operator", "calls", "forward", "backward", "saved"}
            The column to sort by; numbers from the largest down.

        Returns
        -------
        str
            A line of heads, one of dashes, and those of the operators.

        Raises
        ------
        ValueError
            If there is no such column.

        Examples
        --------
        >>> import opgrad
        >>> with opgrad.profiler.profile() as prof:
        ...     total = opgrad.ones(3).exp().sum()
        >>> print(prof.table(sort_by="operator"))
        operator  calls  forward  backward  total  saved
        --------  -----  ...
        exp           1  ...  0 B
        sum           1  ...  0 B
        """
        rows = [_HEADS, *self._rows(sort_by)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, tuple("-" * width for width in widths))
        return "\n".join("  ".join(map(_aligned, row, widths, _HEADS)) for row in rows)

    def __str__(self) -> str:
        return self.table()

    def __rich__(self) -> Any:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE, pad_edge=False)
        for head in _HEADS:
            table.add_column(head, justify="left" if head == "operator" else "right")
        for row in self._rows("total"):
            table.add_row(*row)
        return table

    def _rows(self, sort_by: str) -> list[tuple[str, ...]]:
        if sort_by not in _HEADS:
            msg = f"table: sort_by is {sort_by!r}; expected one of {', '.join(_HEADS)}"
            raise ValueError(msg)
        lines = sorted(self.totals().items())
        if sort_by != "operator":
            lines.sort(key=lambda line: getattr(line[1], sort_by), reverse=True)
        return [
            (name, str(calls), *map(_seconds, times), _bytes(saved))
            for name, (calls, *times, saved) in lines
        ]

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write every call and every backward, for chrome://tracing or Perfetto to show.

        Parameters
        ----------
        path : str or path-like
            A JSON file, which is written whole or not at all.

        Raises
        ------
        FileNotFoundError, IsADirectoryError
            If there is no such folder, or the path is one itself.

        Examples
        --------
        >>> import json, opgrad, pathlib, tempfile
        >>> with opgrad.profiler.profile() as prof:
        ...     total = opgrad.ones(3).sum()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "trace.json")
        ...     prof.export_chrome_trace(path)
        ...     trace = json.loads(path.read_text())
        >>> [event["name"] for event in trace["traceEvents"] if event["ph"] == "X"]
        ['sum']
        """
        events, pid = list(self._events), os.getpid()
        begin = min((each.start for each in events), default=0)
        names: list[dict[str, Any]] = [
            {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}
            for tid, name in sorted({each.thread for each in events})
        ]
        spans: list[dict[str, Any]] = [
            {
                "ph": "X",
                "name": each.operator if each.phase == "forward" else f"{each.operator} backward",
                "cat": each.phase,
                "pid": pid,
                "tid": each.thread[0],
                "ts": (each.start - begin) / 1e3,
                "dur": each.duration / 1e3,
            }
            for each in events
        ]
        trace = {"traceEvents": names + spans, "displayTimeUnit": "ns"}
        with replacing(path) as scratch:
            scratch.write_text(json.dumps(trace), encoding="utf-8")


def _size(saved: Any) -> int:
    """Return how many bytes saved values take: what a broadcast array repeats, once."""
    if isinstance(saved, tuple):
        return sum(map(_size, saved))
    size: int = getattr(saved, "nbytes", 0)
    return min(size, owner(saved).nbytes) if isinstance(saved, np.ndarray) else size


# ----------------------------------------------------------------------------- the table

_HEADS = ("operator", *Total._fields)


def _aligned(cell: str, width: int, head: str) -> str:
    return cell.ljust(width) if head == "operator" else cell.rjust(width)


def _seconds(time: float) -> str:
    units = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
    size, unit = next((each for each in units if time >= each[0]), units[-1])
    return f"{time / size:.1f} {unit}"


def _bytes(count: int) -> str:
    exponent = min(max(count.bit_length() - 1, 0) // 10, 4)
    unit = ("B", "KiB", "MiB", "GiB", "TiB")[exponent]
    return f"{count / 1024**exponent:.{1 if exponent else 0}f} {unit}"
