"""The hooks that opgrad calls, and the markers that declare and implement them.

Every operator is a pluggy plugin. Its own hooks (``forward``, ``backward`` or
``backward_<input>``, ``batch``, ``self_check`` ...) have signatures that only the operator knows,
so their specifications are built from its ``forward`` when it is registered: see
`plugins.hookspec_of`.
The hooks below are the same for everybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opgrad.operator import Operator

#: Marks a method of an operator, or a function of a plugin, as the implementation of a hook.
hookimpl = pluggy.HookimplMarker("opgrad")

#: Marks a function as the specification of a hook.
hookspec = pluggy.HookspecMarker("opgrad")


@hookspec
def opgrad_probes() -> Iterable[Callable[..., Any]]:  # type: ignore[empty-body]  # a specification
    """Return further probes for the verifier; see `opgrad.check.probes`."""


@hookspec
def around_call(operator: Operator, call: Callable[[], Any]) -> Any:
    """Run around every call of every operator, for profilers and tracers.

    Parameters
    ----------
    operator : Operator
        The operator that is being called.
    call : callable
        Does the call, and returns what the operator returns. Call it exactly once and hand its
        result on.

    Notes
    -----
    The hook is woven into the operators only while a plugin implements it. With several plugins,
    the one registered last is outermost.
    """
