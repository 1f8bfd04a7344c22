"""What pytest cannot collect where an optional framework is not installed."""

from __future__ import annotations

from importlib.util import find_spec

#: These import their framework at once, and so would the collection of their examples.
collect_ignore = [f"opgrad/bridge/{name}.py" for name in ("torch", "jax") if not find_spec(name)]
