"""Which memory was written to in place, and when.

An in-place write stamps the memory with the next sequence number. A value that a node saved is
stale if its memory was written after the node was made. All arrays on one piece of memory share
its stamp, since the stamp belongs to the array that owns the memory. Where nothing is ever
written in place nothing is kept here, and a backward pass looks no further.
"""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

#: Numbers nodes and writes downwards in the order of their time: the least is the latest.
next_sequence: Callable[[], int] = itertools.count(0, -1).__next__


class Stamp(NamedTuple):
    """The last write to a piece of memory."""

    owner: weakref.ref[Any]
    #: How many writes there were.
    version: int
    #: When the last one was, on the count of the nodes: downwards.
    sequence: int
    #: What wrote: the name of the in-place operation.
    writer: str


#: By the identity of the array that owns the memory.
stamps: dict[int, Stamp] = {}


def owner(array: Any) -> Any:
    """Return the array that owns the memory of an array."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def stamp(array: Any, writer: str, sequence: int) -> None:
    """Note that the memory of an array was written to, at some point in time."""
    memory = owner(array)
    key = id(memory)
    old = stamps.get(key)
    kept = old.owner if old else weakref.ref(memory, lambda _: stamps.pop(key, None))
    stamps[key] = Stamp(kept, version(array) + 1, sequence, writer)


def version(array: Any) -> int:
    """Return how many times the memory of an array was written to in place."""
    found = stamps.get(id(owner(array))) if isinstance(array, np.ndarray) else None
    return found.version if found else 0


def written_since(array: Any, sequence: int) -> Stamp | None:
    """Return the stamp of an array whose memory was written to after some point in time."""
    found = stamps.get(id(owner(array))) if isinstance(array, np.ndarray) else None
    return found if found and found.sequence < sequence else None
