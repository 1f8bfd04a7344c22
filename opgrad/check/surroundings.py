"""What an operator finds and has to leave as it was: the settings of the process it runs in."""

from __future__ import annotations

import gc
import os
import pickle
import random
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from opgrad.dtypes import get_default_dtype, set_default_dtype
from opgrad.modes import is_grad_enabled, is_inference_mode_enabled, set_grad_enabled
from opgrad.registry import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Setting:
    """Something that one operator could change for all others.

    Attributes
    ----------
    name : str
        What it is called.
    read, write : callable
        Return the value, to be compared with ``==``; and put one back.
    grown : callable, optional
        Tells of the values before and after whether something was only added, which modules may do
        when they are imported.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    grown: Callable[[Any, Any], bool] = lambda before, now: False


#: The file of this process's own in the place of standard output, if it has one.
_output: list[IO[bytes]] = []


def keep_output() -> None:
    """Keep standard output of this process to itself: even what is written past ``sys.stdout``."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the process runs
    _output.append(file)
    os.dup2(file.fileno(), 1)


def _written() -> int:
    """Return how much was written there; -1 if that cannot be, as it was closed."""
    try:
        return os.fstat(1).st_size if _output else 0
    except OSError:
        return -1


def _set_written(size: int) -> None:
    os.dup2(_output[0].fileno(), 1)
    os.truncate(1, size)
    os.lseek(1, size, os.SEEK_SET)


def _folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # it was removed
        return ""


def _environment() -> dict[Any, Any]:
    # Without decoding every name and value, which would take most of the time of a comparison.
    return dict(getattr(os.environ, "_data", os.environ))


def _set_environment(values: dict[Any, Any]) -> None:
    before = {os.fsdecode(name): os.fsdecode(value) for name, value in values.items()}
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _set_path(values: tuple[str, ...]) -> None:
    sys.path[:] = values


def _streams() -> tuple[Any, ...]:
    return sys.stdin, sys.stdout, sys.stderr


def _set_streams(values: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = values


def _set_modes(values: tuple[bool, bool]) -> None:
    set_grad_enabled(values[0])


def _around() -> tuple[Any, ...]:
    return tuple(each.plugin for each in registry.plugins.hook.around_call.get_hookimpls())


def _set_around(plugins: tuple[Any, ...]) -> None:
    for each in _around():
        if each not in plugins:
            registry.unregister_plugin(each)


def _set_collecting(value: bool) -> None:
    (gc.enable if value else gc.disable)()


def _set_names(names: list[str]) -> None:
    registry.unblock(*{*names}.difference(registry.names()))
    registry.block(*{*registry.names()}.difference(names))


def _numpys() -> bytes:
    return pickle.dumps(np.random.get_state(legacy=False))  # noqa: NPY002 - the one that all share


def _set_numpys(state: bytes) -> None:
    np.random.set_state(pickle.loads(state))  # noqa: NPY002 - likewise


def _filters() -> tuple[Any, ...]:
    return tuple(warnings.filters)


def _set_filters(values: tuple[Any, ...]) -> None:
    warnings.filters[:] = values  # type: ignore[index]  # a list, whatever its annotation says


def _has_all(before: Sequence[Any], now: Sequence[Any]) -> bool:
    return {*before} <= {*now}


#: Those that can be read in microseconds.
USUAL = (
    Setting("the current folder", _folder, os.chdir),
    Setting("os.environ", _environment, _set_environment, lambda a, b: a.items() <= b.items()),
    Setting("sys.path", lambda: tuple(sys.path), _set_path, _has_all),
    Setting("sys.stdin, sys.stdout or sys.stderr", _streams, _set_streams),
    Setting("standard output (by writing to it past sys.stdout)", _written, _set_written),
    Setting("NumPy's handling of errors", np.geterr, lambda before: np.seterr(**before)),
    Setting(
        "NumPy's print options", np.get_printoptions, lambda before: np.set_printoptions(**before)
    ),
    Setting("the default dtype", get_default_dtype, set_default_dtype),
    Setting(
        "whether operations are recorded",
        lambda: (is_grad_enabled(), is_inference_mode_enabled()),
        _set_modes,
    ),
    Setting("what runs around every call", _around, _set_around),
    Setting("whether garbage is collected", gc.isenabled, _set_collecting),
)

#: Those that loading an operator has to leave alone.
LOADING = (*USUAL, Setting("which operators are blocked", registry.names, _set_names))

#: Those that are read with care: in four threads, filters may be put back in the wrong order.
SHARED = (
    Setting("the state of np.random", _numpys, _set_numpys),
    Setting("the state of random", random.getstate, random.setstate),
    Setting("which warnings are shown", _filters, _set_filters, _has_all),
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The values of some settings at one moment.

    Examples
    --------
    >>> before = Surroundings.now()
    >>> os.environ["ACME_THREADS"] = "4"
    >>> before.restored()
    ['os.environ']
    >>> "ACME_THREADS" in os.environ, before.restored()
    (False, [])
    """

    settings: Sequence[Setting]
    values: Sequence[Any]
    modules: int

    @classmethod
    def now(cls, settings: Sequence[Setting] = USUAL) -> Self:
        """Read some settings."""
        return cls(settings, [each.read() for each in settings], len(sys.modules))

    def restored(self, *, keep_grown: bool = False) -> list[str]:
        """Put back what was changed, and name it.

        Parameters
        ----------
        keep_grown : bool
            Leave what modules have added that were imported meanwhile. It is never named, but by
            default it is put back like the rest.
        """
        changed = []
        imported = len(sys.modules) > self.modules
        for setting, before in zip(self.settings, self.values, strict=True):
            now = setting.read()
            if now != before:
                grown = imported and setting.grown(before, now)
                if not grown:
                    changed.append(setting.name)
                if not (grown and keep_grown):
                    setting.write(before)
        return changed
