"""Which probes there are: opgrad's own, and those of plugins that implement `opgrad_probes`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeAlias

from opgrad.check import probes as own
from opgrad.check.findings import Finding
from opgrad.operator import Case, Operator
from opgrad.registry import registry

#: From an operator and one of its author's cases to what was found.
Probe: TypeAlias = Callable[[Operator, Case], Iterator[Finding]]


#: What was wrong with plugins that had probes to offer.
complaints: list[str] = []


@cache
def probes() -> dict[str, Probe]:
    """Return the probes by name, opgrad's own first."""
    for module in own.MODULES:
        registry.plugins.register(module)
    complaints.extend(registry.load_plugins("opgrad.probes"))
    # pluggy asks those that were registered last first.
    offers = reversed(registry.plugins.hook.opgrad_probes())
    return {probe.__name__: probe for offer in offers for probe in offer}
