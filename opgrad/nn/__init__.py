"""Functions for networks, under their familiar names."""

from opgrad.nn import functional

__all__ = ["functional"]
