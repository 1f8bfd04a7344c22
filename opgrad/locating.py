"""Where Python would import a module from; nothing is imported to tell."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec


def specs(module: str) -> Iterator[ModuleSpec]:
    """Yield the specs of the packages on the way to a module, and its own at last.

    What is imported already is where it was imported from, wherever it would be found now.

    Parameters
    ----------
    module : str
        Its name. If it is not found, there are fewer specs than parts of the name.

    Examples
    --------
    >>> [spec.name for spec in specs("importlib.metadata")]
    ['importlib', 'importlib.metadata']
    >>> [spec.name for spec in specs("importlib.nothing")]
    ['importlib']
    """
    inside: Sequence[str] | None = None
    for name in accumulate(module.split("."), "{}.{}".format):
        spec = _spec(name, inside)
        if spec is None:
            return
        yield spec
        inside = list(spec.submodule_search_locations or ())


def _spec(name: str, inside: Sequence[str] | None) -> ModuleSpec | None:
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    try:
        if inside is None:
            return find_spec(name)
        # The last part alone: of a name with dots Python wants the parent imported.
        return PathFinder.find_spec(name.rpartition(".")[2], inside)
    except (ImportError, ValueError):  # no name that a module can have
        return None
