"""Trees: dicts, lists and tuples of anything, in any nesting; None is a tree without leaves.

Functions of trees of arrays are what the transforms of `func` work on. A leaf is named by its
path, which reads as the expression that picks it: ``['w'][0]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def children(tree: Any) -> list[tuple[Any, Any]] | None:
    """Return the keys and values of a tree's top; None for a leaf."""
    if tree is None:
        return []
    if isinstance(tree, dict):
        return list(tree.items())
    return list(enumerate(tree)) if isinstance(tree, list | tuple) else None


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Give each leaf, with its path before it.

    Examples
    --------
    >>> list(leaves({"w": [1.0, 2.0], "b": None}))
    [("['w'][0]", 1.0), ("['w'][1]", 2.0)]
    """
    inner = children(tree)
    if inner is None:
        yield path, tree
        return
    for key, child in inner:
        yield from leaves(child, f"{path}[{key!r}]")


def rebuild(tree: Any, values: Iterator[Any]) -> Any:
    """Return a tree of the same form with other leaves, in the order of `leaves`.

    Examples
    --------
    >>> rebuild({"w": [1.0, 2.0], "b": None}, iter("xy"))
    {'w': ['x', 'y'], 'b': None}
    """
    inner = children(tree)
    if inner is None:
        return next(values)
    made = [rebuild(child, values) for _, child in inner]
    if tree is None:
        return None
    if isinstance(tree, dict):
        return dict(zip(tree, made, strict=True))
    return type(tree)(*made) if hasattr(tree, "_fields") else type(tree)(made)


def aligned(like: Any, tree: Any, name: str) -> list[tuple[str, Any]]:
    """Return the leaves of `tree` in the order of those of `like`, which has the same form.

    Parameters
    ----------
    like, tree : tree
        Dicts may differ in their order, lists and tuples stand for each other.
    name : str
        What a message calls `tree`.

    Raises
    ------
    ValueError
        If one has a leaf where the other has none.
    """
    given = {f"{name}{path}": leaf for path, leaf in leaves(tree)}
    wanted = [f"{name}{path}" for path, _ in leaves(like)]
    missing, spare = sorted({*wanted} - {*given}), sorted({*given} - {*wanted})
    if missing or spare:
        faults = [f"{each} is missing" for each in missing]
        faults += [f"{each} has no counterpart" for each in spare]
        msg = f"{name} has another form than expected: {', '.join(faults)}"
        raise ValueError(msg)
    return [(path, given[path]) for path in wanted]
