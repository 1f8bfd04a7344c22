"""The questions that the verifier asks, one function for each, in the order of the files below.

A probe takes an operator and one of its author's cases and yields findings; its docstring says
what a failure of it has found. To add some, write a module with a function ``opgrad_probes``,
marked with `opgrad.hookimpl`, that returns them, and name it in the entry-point group
``opgrad.probes``.
"""

from opgrad.check.probes import (
    constants,
    contract,
    derivatives,
    domain,
    examples,
    kinks,
    purity,
    shapes,
    storage,
    tangents,
    traces,
)

MODULES = (
    derivatives,
    shapes,
    constants,
    storage,
    kinks,
    domain,
    tangents,
    contract,
    purity,
    traces,
    examples,
)
