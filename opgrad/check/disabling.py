"""What is blocked while the verifier runs, in this process and in its workers."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opgrad.blocking import unknown
from opgrad.registry import registry
from opgrad.trust import variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DISABLED = "OPGRAD_DISABLE"


@contextmanager
def disabled(names: Sequence[str]) -> Iterator[None]:
    """Block operators or distributions for a while.

    It holds in every process that is started meanwhile, through ``OPGRAD_DISABLE``. The registry
    loads anew what it had loaded, both meanwhile and afterwards.

    Parameters
    ----------
    names : sequence of str
        Names of operators, of plugins, or of distributions.

    Raises
    ------
    ValueError
        If nothing that is installed has such a name.
    """
    for name, hint in unknown(names, registry.entries()):
        msg = f"nothing to disable: no operator or distribution is called {name!r}{hint}"
        raise ValueError(msg)
    before = os.environ.get(DISABLED, "")
    with variable(DISABLED, ",".join([*names, before])), registry.blocked(*names):
        yield
