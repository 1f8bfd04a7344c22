"""The operators that are installed: found without importing, loaded and registered at first use.

This is the only file that knows entry points. Scanning the metadata of what is installed gives
every operator's name, distribution and version. An operator's module is imported when its name
is first asked for; then the operator is registered with pluggy, which checks its hooks against
the specification that `plugins` builds from its own ``forward``. What goes wrong with one
operator is an error about that name and touches no other.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pluggy

from opgrad import hookspecs
from opgrad.attributes import Namespace
from opgrad.contract import nearest
from opgrad.naming import OWN, wrong_names, wrong_offers
from opgrad.operator import Operator, wrappers
from opgrad.plugins import PluginManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from importlib.metadata import Distribution, EntryPoint

GROUP = "opgrad.operators"
OVERRIDES = "opgrad.overrides"


class UnknownOperatorError(AttributeError):
    """No installed distribution has an operator of that name."""


class RegistryError(RuntimeError):
    """An operator is installed, and cannot be used: blocked, broken, or claimed twice."""


@cache
def _identity(dist: Distribution | None) -> tuple[str, str]:
    """Return name and version of a distribution; each look parses all of its metadata."""
    return ("?", "?") if dist is None else (dist.name, dist.version)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of some distribution's metadata that names an operator."""

    name: str
    value: str
    distribution: str
    version: str
    overrides: bool = False

    @classmethod
    def of(cls, point: EntryPoint) -> Entry:
        """Read an entry point, without importing what it points at."""
        return cls(point.name, point.value, *_identity(point.dist), point.group == OVERRIDES)

    @property
    def plugin(self) -> str:
        """The name under which pluggy knows it, and by which it can be blocked."""
        return f"{self.name}@{self.distribution}" if self.overrides else self.name

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.value})"

    def load(self) -> Any:
        """Import the object that the entry point names."""
        from importlib.metadata import EntryPoint

        return EntryPoint(self.name, self.value, GROUP).load()


def _installed(group: str) -> Iterable[EntryPoint]:
    # Half of what `import opgrad` would cost, and not needed before the first operator is.
    from importlib.metadata import entry_points

    return entry_points(group=group)


class Registry:
    """Finds, loads, blocks and overrides operators.

    Parameters
    ----------
    scan : callable, optional
        Returns the entry points of a group; by default those of everything installed.
    environment : mapping, optional
        Where ``OPGRAD_DISABLE`` and ``OPGRAD_DISABLE_PLUGIN_AUTOLOAD`` are read.
    """

    def __init__(
        self,
        scan: Callable[[str], Iterable[EntryPoint]] = _installed,
        environment: dict[str, str] | os._Environ[str] = os.environ,
    ) -> None:
        self._scan = scan
        self._environment = environment
        self._lock = threading.RLock()
        self._entries: dict[str, list[Entry]] | None = None
        self._aliases: dict[str, dict[str, list[str]]] = {}
        self._loaded: dict[str, Operator] = {}
        self._blocked: set[str] = set()
        self._listeners: list[Callable[[], None]] = []
        self.plugins = PluginManager("opgrad")
        self.plugins.add_hookspecs(hookspecs)

    # ------------------------------------------------------------------------ what there is

    def entries(self) -> dict[str, list[Entry]]:
        """Return every entry of the metadata by operator name; imports nothing."""
        if self._entries is None:
            with self._lock:
                found: dict[str, list[Entry]] = {}
                for group in (GROUP, OVERRIDES):
                    # An editable install can show one line twice: keep the first.
                    for entry in dict.fromkeys(map(Entry.of, self._scan(group))):
                        found.setdefault(entry.name, []).append(entry)
                self._entries = found
        return self._entries

    def names(self) -> list[str]:
        """Return the names of the operators that are installed and not blocked, sorted."""
        return sorted(name for name in self.entries() if self._candidates(name))

    def entry(self, name: str) -> Entry:
        """Return where the operator of that name comes from: its override, if it has one.

        Raises
        ------
        UnknownOperatorError, RegistryError
            If there is none, or more than one claims the name, or it is blocked.
        """
        candidates = self._candidates(name)
        if not candidates:
            self._raise_missing(name)
        for overrides in (True, False):
            claims = [entry for entry in candidates if entry.overrides is overrides]
            if len(claims) > 1:
                what = "override" if overrides else "are called"
                msg = (
                    f"operator {name!r} is claimed twice: {claims[0]} and {claims[1]} both {what} "
                    f"{name!r}. Uninstall one, or block it with "
                    f"OPGRAD_DISABLE={claims[1].distribution}."
                )
                raise RegistryError(msg)
        chosen = next((each for each in candidates if each.overrides), candidates[0])
        for fault in wrong_names(chosen, self.entries()):
            raise RegistryError(fault)
        return chosen

    def _candidates(self, name: str) -> list[Entry]:
        blocked = self._blocked | self._blocked_outside()
        only_own = self._is_set("OPGRAD_DISABLE_PLUGIN_AUTOLOAD")
        found = [
            entry
            for entry in self.entries().get(name, [])
            if not blocked.intersection((entry.plugin, entry.distribution))
            and not (only_own and entry.distribution != OWN)
        ]
        return found if name not in blocked else []

    def _is_set(self, variable: str) -> bool:
        return self._environment.get(variable, "0") not in ("", "0")

    def _blocked_outside(self) -> set[str]:
        listed = self._environment.get("OPGRAD_DISABLE", "").split(",")
        return {name.strip() for name in listed if name.strip()}

    def _raise_missing(self, name: str) -> None:
        if name in self.entries():
            sources = " and ".join(str(entry) for entry in self.entries()[name])
            msg = (
                f"operator {name!r} of {sources} is blocked, by OPGRAD_DISABLE, "
                "OPGRAD_DISABLE_PLUGIN_AUTOLOAD or opgrad.registry.block"
            )
            raise RegistryError(msg)
        if not self.entries():
            msg = (
                f"no operator {name!r}: no operators are installed at all. Install opgrad "
                "itself, for example with `pip install .` in its folder."
            )
            raise UnknownOperatorError(msg, name=name)
        hint = nearest(name, self.names())
        msg = f"no installed distribution has an operator {name!r}{hint}"
        raise UnknownOperatorError(msg, name=name)

    # ------------------------------------------------------------------------------ loading

    def load(self, name: str) -> Operator:
        """Return the operator of that name or alias, importing and registering it if need be.

        Raises
        ------
        UnknownOperatorError
            If no installed distribution has it; the message names the nearest.
        RegistryError
            If it is blocked, claimed twice, fails to import, or is not a sound operator.
        """
        loaded = self._loaded.get(name)
        if loaded is not None:
            return loaded
        if name not in self.entries():
            name = self._alias(name)
        while name not in self._loaded:
            entry = self.entry(name)
            # Without the lock: the import may wait for another thread's, which may want the lock.
            operator = self._import(entry)
            with self._lock:
                if name not in self._loaded and self.entry(name) == entry:
                    self._loaded[name] = self._register(entry, operator)
        return self._loaded[name]

    def _register(self, entry: Entry, operator: Operator) -> Operator:
        try:
            self.plugins.register_operator(operator, entry.plugin)
        except (pluggy.PluginValidationError, ValueError) as error:
            msg = f"operator {entry.name!r} of {entry} cannot be registered: {error}"
            raise RegistryError(msg) from error
        operator.name = entry.name
        return operator

    def admit(self, entry: Entry) -> None:
        """Refuse, before anything of theirs is imported, what can be known not to do."""
        if entry.distribution not in (OWN, "?"):
            from opgrad.requirements import unmet

            if complaints := unmet(entry.distribution):
                msg = (
                    f"operator {entry.name!r} of {entry} is not imported: {entry.distribution} "
                    f"requires {'; '.join(complaints)}. Install what it requires, or a version of "
                    f"{entry.distribution} that requires what is there."
                )
                raise RegistryError(msg)
        if self._is_set("OPGRAD_REQUIRE_VERIFIED"):
            from opgrad.trust import complaint

            if reason := complaint(entry.distribution, entry.name, entry.value):
                msg = f"operator {entry.name!r} of {entry} is not verified: {reason}"
                raise RegistryError(msg)

    def _import(self, entry: Entry) -> Operator:
        self.admit(entry)
        try:
            operator = entry.load()
        except (Exception, SystemExit) as error:
            msg = (
                f"operator {entry.name!r} of {entry} fails to import: "
                f"{type(error).__name__}: {error}. Other operators are not affected; repair or "
                f"uninstall {entry.distribution}, or block it with OPGRAD_DISABLE={entry.plugin}."
            )
            raise RegistryError(msg) from error
        if not isinstance(operator, Operator):
            kind = "a class" if isinstance(operator, type) else f"a {type(operator).__name__}"
            msg = (
                f"operator {entry.name!r} of {entry} is {kind}; expected an instance of a "
                "subclass of opgrad.Operator. Let the entry point name the instance."
            )
            raise RegistryError(msg)
        for fault in wrong_offers(entry, operator, self.entries()):
            msg = f"operator {entry.name!r} of {entry} {fault}"
            raise RegistryError(msg)
        return operator

    def method(self, name: str) -> Operator | None:
        """Return the operator that is a tensor's method of that name; None if there is none.

        It is that of the bare name, or else one with a prefix: those whose last part is the name
        are loaded to see.

        Raises
        ------
        RegistryError
            If there is more than one.
        """
        try:
            operator = self.load(name)
        except UnknownOperatorError:
            pass
        else:
            return operator if operator.method else None
        found = [each for each in self.names() if each.endswith(f".{name}")]
        offered = [each for each in map(self.load, found) if each.method]
        if len(offered) > 1:
            one, other = (self.entry(each.name) for each in offered[:2])
            msg = (
                f"tensors have two methods {name!r}: {one} and {other} both offer one. Block one "
                f"with OPGRAD_DISABLE={other.name}, or call the operators."
            )
            raise RegistryError(msg)
        return offered[0] if offered else None

    def base_entry(self, name: str) -> Entry | None:
        """Return where the operator comes from that an override stands in for."""
        found = self._candidates(name)
        overridden = any(each.overrides for each in found)
        return next((each for each in found if overridden and not each.overrides), None)

    def base(self, name: str) -> tuple[Entry, Operator] | None:
        """Return what an override stands in for, imported and not registered."""
        entry = self.base_entry(name)
        return (entry, self._import(entry)) if entry else None

    def _alias(self, name: str) -> str:
        """Return the operator that has `name` among its aliases, or `name` itself.

        Aliases are written on the operators, so this imports those with the same prefix, once.
        """
        prefix = name.rpartition(".")[0]
        aliases = self._aliases.get(prefix)
        if aliases is None:
            aliases = {}
            for alias, owner in self._read_aliases(prefix):
                aliases.setdefault(alias, []).append(owner)
            self._aliases[prefix] = aliases
        owners = aliases.get(name, [name])
        if len(owners) > 1:
            one, other = owners[:2]
            msg = (
                f"alias {name!r} is claimed twice: by {one!r} of {self.entry(one)} and by "
                f"{other!r} of {self.entry(other)}. Use their names, or block one with "
                f"OPGRAD_DISABLE={other}."
            )
            raise RegistryError(msg)
        return owners[0]

    def _read_aliases(self, prefix: str) -> Iterator[tuple[str, str]]:
        for name in self.names():
            if name.rpartition(".")[0] == prefix:
                try:
                    operator = self._import(self.entry(name))
                except RegistryError:
                    continue  # it has no aliases; asking for it by name says what is wrong
                for alias in operator.aliases:
                    yield f"{prefix}.{alias}".removeprefix("."), name

    # ------------------------------------------------------------------- blocking and hooks

    def block(self, *names: str) -> None:
        """Block operators, by their names, their plugin names or their distributions."""
        self._change(lambda: self._blocked.update(names))

    def unblock(self, *names: str) -> None:
        """Undo `block`."""
        self._change(lambda: self._blocked.difference_update(names))

    @contextmanager
    def blocked(self, *names: str) -> Iterator[None]:
        """Block operators, as `block` does, inside a ``with`` statement, in all threads.

        Examples
        --------
        >>> import opgrad
        >>> with opgrad.registry.blocked("exp"):
        ...     opgrad.exp(0.0)
        Traceback (most recent call last):
        ...
        opgrad.registry.RegistryError: operator 'exp' of opgrad ... is blocked, by ...
        """
        new = {*names} - self._blocked
        self.block(*new)
        try:
            yield
        finally:
            self.unblock(*new)

    def register_plugin(self, plugin: Any, name: str | None = None) -> None:
        """Register a plugin that implements hooks which are not an operator's: `around_call`.

        Raises
        ------
        RegistryError
            If it is an operator, or has a hook that is misspelt or takes what is not there.
        """
        if isinstance(plugin, Operator):
            msg = f"{plugin!r} is an operator; name it in an entry point of the group {GROUP!r}"
            raise RegistryError(msg)
        try:
            self._change(lambda: self.plugins.register_whole(plugin, name))
        except (pluggy.PluginValidationError, ValueError) as error:
            msg = f"plugin {name or plugin!r} cannot be registered: {error}"
            raise RegistryError(msg) from error

    def load_plugins(self, group: str) -> list[str]:
        """Register what the entry points of a group name; return what went wrong with which.

        Parameters
        ----------
        group : str
            The group, such as ``"opgrad.probes"``. Its plugins are registered once.
        """
        complaints = []
        for entry in dict.fromkeys(map(Entry.of, self._scan(group))):
            if self.plugins.has_plugin(f"{group}:{entry.name}"):
                continue
            try:
                self.register_plugin(entry.load(), f"{group}:{entry.name}")
            except Exception as error:  # noqa: BLE001 - a broken plugin must break itself alone
                complaints.append(f"{group} {entry.name!r} of {entry} is left out: {error}")
        return complaints

    def unregister_plugin(self, plugin: Any) -> None:
        """Undo `register_plugin`."""
        self._change(lambda: self.plugins.unregister(plugin))

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have a function called whenever a name may have come to mean something else."""
        self._listeners.append(listener)

    def rescan(self) -> None:
        """Forget the metadata that was read, after something was installed or removed."""
        from opgrad.trust import forget as forget_attestations

        def forget() -> None:
            self._entries = None
            forget_attestations()

        self._change(forget)

    def _change(self, change: Callable[[], Any]) -> None:
        with self._lock:
            change()
            self.plugins.unregister_operators()
            self._loaded.clear()
            self._aliases.clear()
            wrappers[:] = map(_by_name, self.plugins.hook.around_call.get_hookimpls())
            for listener in self._listeners:
                listener()


def _by_name(hook: pluggy.HookImpl) -> Callable[[Operator, Callable[[], Any]], Any]:
    """Return an `around_call` hook as a function of both arguments, whichever it names."""

    def around_call(operator: Operator, call: Callable[[], Any]) -> Any:
        given = {"operator": operator, "call": call}
        return hook.function(*[given[name] for name in hook.argnames])

    return around_call


# --------------------------------------------------------------------- names as attributes

#: The registry of everything that is installed.
registry = Registry()
block, unblock, blocked = registry.block, registry.unblock, registry.blocked


#: The operators by name.
ops = Namespace(registry, lambda operator: operator)

#: The functions that apply them: what tensors' methods and ``opgrad.mul`` are.
calls = Namespace(registry, lambda operator: operator.function)
