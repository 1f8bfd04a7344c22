"""Which probes there are: opgrad's own, and those of plugins that implement `opgrad_probes`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from opgrad.check import probes as own
from opgrad.check.findings import Finding
from opgrad.entries import Entry, installed
from opgrad.operator import Case, Operator
from opgrad.registry import registry

if TYPE_CHECKING:
    import pluggy

#: From an operator and one of its author's cases to what was found.
Probe: TypeAlias = Callable[[Operator, Case], Iterator[Finding]]

#: What was wrong with plugins that had probes to offer.
complaints: list[str] = []

#: Where the probes of plugins come from, by name: distribution, version and module.
sources: dict[str, str] = {}

GROUP = "opgrad.probes"


@cache
def probes() -> dict[str, Probe]:
    """Return the probes by name, opgrad's own first.

    No plugin can replace a probe: the later of two with one name is left out, with a complaint.
    """
    for module in own.MODULES:
        registry.plugins.register(module)
    complaints[:] = registry.load_plugins("opgrad.probes")
    found = {probe.__name__: probe for module in own.MODULES for probe in module.opgrad_probes()}
    # In an order that does not depend on what was installed first.
    hooks = registry.plugins.hook.opgrad_probes.get_hookimpls()
    for hook in sorted(hooks, key=lambda each: each.plugin_name):
        if not any(hook.plugin is module for module in own.MODULES):
            source = _source(hook.plugin_name)
            for probe in _offered(hook, source):
                name = getattr(probe, "__name__", None)
                if not callable(probe) or not isinstance(name, str):
                    complaints.append(f"{source} offers {probe!r} as a probe, which is no function")
                elif name in found:
                    there = sources.get(name, "opgrad")
                    complaints.append(
                        f"the probe {name!r} of {source} is left out: {there} has one of that name"
                    )
                else:
                    found[name], sources[name] = probe, source
    return found


def _offered(hook: pluggy.HookImpl, source: str) -> list[Any]:
    """Return what a plugin offers as probes."""
    try:
        offer: Any = hook.function()
        return list(offer)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a broken plugin must break itself alone
        complaints.append(
            f"the probes of {source} are left out: its opgrad_probes raises "
            f"{type(error).__name__}: {error}"
        )
        return []


def _source(plugin: str) -> str:
    """Say where the plugin of a name comes from."""
    for entry in map(Entry.of, installed(GROUP)):
        if plugin == f"{GROUP}:{entry.name}@{entry.distribution}":
            return str(entry)
    return f"the plugin {plugin!r}"
