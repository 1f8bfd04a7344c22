"""The operators that are installed: found without importing, loaded and registered at first use.

The metadata of what is installed (`entries`) gives every operator's name, distribution and
version. An operator's module is imported when its name is first asked for; then the operator is
registered with pluggy, which checks its hooks against the specification that `plugins` builds
from its own ``forward``. What goes wrong with one operator is an error about that name and
touches no other.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

import pluggy

from opgrad import hookspecs
from opgrad.attributes import Namespace
from opgrad.blocking import Blocked, check_known, is_set
from opgrad.contract import nearest
from opgrad.entries import GROUP, OVERRIDES, Entry, installed
from opgrad.naming import OWN, is_operator, misnamed, wrong_names, wrong_offers
from opgrad.operator import Operator, wrappers
from opgrad.plugins import PluginManager, origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from importlib.metadata import EntryPoint


class UnknownOperatorError(AttributeError):
    """No installed distribution has an operator of that name."""


class RegistryError(RuntimeError):
    """An operator is installed, and cannot be used: blocked, broken, or claimed twice."""


class _MisnamedError(RegistryError, UnknownOperatorError):
    """What is installed under a name cannot be reached by it: it is no attribute of anything."""


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
        scan: Callable[[str], Iterable[EntryPoint]] = installed,
        environment: dict[str, str] | os._Environ[str] = os.environ,
    ) -> None:
        self._scan = scan
        self._environment = environment
        self._lock = threading.RLock()
        self._entries: dict[str, list[Entry]] | None = None
        self._aliases: dict[str, dict[str, list[str]]] = {}
        self._loaded: dict[str, Operator] = {}
        self._blocked = Blocked(environment)
        self._unread: dict[str, list[str]] = {}
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
                self._blocked.warn(found)
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
        for fault in wrong_names(candidates[0], self.entries()):  # one's is everyone's
            raise _MisnamedError(fault)
        for overrides in (True, False):
            claims = [entry for entry in candidates if entry.overrides is overrides]
            if len(claims) > 1:
                what = "override" if overrides else "are called"
                theirs = next(each for each in claims[::-1] if each.distribution != OWN)
                msg = (
                    f"operator {name!r} is claimed twice: {claims[0]} and {claims[1]} both {what} "
                    f"{name!r}. Uninstall one, or block it with "
                    f"OPGRAD_DISABLE={theirs.distribution}."
                )
                raise RegistryError(msg)
        return next((each for each in candidates if each.overrides), candidates[0])

    def _candidates(self, name: str) -> list[Entry]:
        """Return what a name may mean: what is misnamed, only if there is nothing else."""
        found = [each for each in self.entries().get(name, ()) if not self._blocked.hides(each)]
        return [each for each in found if not misnamed(each)] or found

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
        if unread := self._unread.get(name.rpartition(".")[0]):
            more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
            msg = (
                f"no installed distribution has an operator {name!r}{hint or '.'} Of an operator "
                f"that is out no alias is known: {unread[0]}{more}"
            )
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
        if self._is_anothers(entry, operator):
            operator = copy(operator)
            vars(operator).pop("compiled", None)
        try:
            self.plugins.register_operator(operator, entry.plugin)
        except Exception as error:
            msg = f"operator {entry.name!r} of {entry} cannot be registered: {error}"
            raise RegistryError(msg) from error
        operator.name = entry.name
        return operator

    def _is_anothers(self, entry: Entry, operator: Operator) -> bool:
        """Tell whether an entry names what is another operator: it gets one of its own then."""
        home, there = (each.partition(".")[0] for each in (type(operator).__module__, entry.value))
        opgrads = home == "opgrad_plugins" and there != home
        return opgrads or any(each is operator for _, each in self.plugins.list_name_plugin())

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
        if is_set(self._environment, "OPGRAD_REQUIRE_VERIFIED"):
            from opgrad.trust import complaint

            if reason := complaint(entry.distribution, entry.name, entry.value):
                msg = f"operator {entry.name!r} of {entry} is not verified: {reason}"
                raise RegistryError(msg)

    def _import(self, entry: Entry) -> Operator:
        self.admit(entry)
        try:
            operator = entry.load()
            is_operator, faults = isinstance(operator, Operator), []
            if is_operator:
                faults = list(wrong_offers(entry, operator, self.entries()))
        except (Exception, SystemExit) as error:
            from opgrad.requirements import remedy

            msg = (
                f"operator {entry.name!r} of {entry} fails to import: "
                f"{type(error).__name__}: {error}{entry.origin()}. Other operators are not "
                f"affected; {remedy(entry.distribution, error)}, or block it with "
                f"OPGRAD_DISABLE={entry.plugin}."
            )
            raise RegistryError(msg) from error
        if not is_operator:
            kind = "a class" if isinstance(operator, type) else f"a {type(operator).__name__}"
            msg = (
                f"operator {entry.name!r} of {entry} is {kind}{entry.origin()}; expected an "
                "instance of a subclass of opgrad.Operator. Let the entry point name the instance."
            )
            raise RegistryError(msg)
        for fault in faults:
            msg = f"operator {entry.name!r} of {entry} {fault}"
            raise RegistryError(msg)
        made: Operator = operator
        return made

    def method(self, name: str) -> Operator | None:
        """Return the operator that is a tensor's method of that name; None if there is none.

        It is that of the bare name, or else one with a prefix: those whose last part is the name
        are loaded to see.

        Raises
        ------
        RegistryError
            If there is more than one.
        """
        offered: list[Operator] = []
        errors: list[RegistryError] = []
        try:
            operator = self.load(name)
        except _MisnamedError as error:
            errors.append(error)
        except UnknownOperatorError:
            pass
        else:
            return operator if operator.method else None
        for each in self.names():
            if each.endswith(f".{name}"):
                try:
                    offered += [self.load(each)] * self.load(each).method
                except RegistryError as error:
                    errors.append(error)
        if len(offered) > 1:
            one, other = (self.entry(each.name) for each in offered[:2])
            msg = (
                f"tensors have two methods {name!r}: {one} and {other} both offer one. Block one "
                f"with OPGRAD_DISABLE={other.name}, or call the operators."
            )
            raise RegistryError(msg)
        if errors and not offered:
            msg = f"a Tensor has no method {name!r} that can be used: {errors[0]}"
            raise UnknownOperatorError(msg, name=name)
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
        self._unread[prefix] = unread = []
        for name in self.entries():
            if name.rpartition(".")[0] == prefix and is_operator(name, self.entries()):
                try:  # an override has the names of what it overrides
                    operator = self._import(self.base_entry(name) or self.entry(name))
                except RegistryError as error:  # asking for it by name says so, too
                    unread.append(str(error))
                    continue
                for alias in operator.aliases:
                    yield f"{prefix}.{alias}".removeprefix("."), name

    # ------------------------------------------------------------------- blocking and hooks

    def block(self, *names: str) -> None:
        """Block operators, by their names, their plugin names or their distributions.

        Raises
        ------
        TypeError, ValueError
            If something is no name, or there is nothing of that name.
        """
        check_known(names, self.entries(), self._alias)
        self._change(lambda: self._blocked.add(names))

    def unblock(self, *names: str) -> None:
        """Undo `block`."""
        self._change(lambda: self._blocked.remove(names))

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
        check_known(names, self.entries(), self._alias)
        self._change(lambda: self._blocked.count(names, 1))
        try:
            yield
        finally:
            self._change(lambda: self._blocked.count(names, -1))

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
            what = repr(name) if name else getattr(plugin, "__name__", type(plugin).__qualname__)
            msg = f"plugin {what} cannot be registered: {error}"
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
            name = f"{group}:{entry.name}@{entry.distribution}"
            if self.plugins.has_plugin(name):
                continue
            try:
                self.register_plugin(entry.load(), name)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - it breaks itself alone
                what = f"{group} {entry.name!r} of {entry}"
                complaints.append(f"{what} is left out: {type(error).__name__}: {error}")
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
            self._unread.clear()
            wrappers[:] = map(_by_name, self.plugins.hook.around_call.get_hookimpls())
            for listener in self._listeners:
                listener()


def _by_name(hook: pluggy.HookImpl) -> Callable[[Operator, Callable[[], Any]], Any]:
    """Return an `around_call` hook as a function of both arguments, whichever it names."""

    def around_call(operator: Operator, call: Callable[[], Any]) -> Any:
        given = {"operator": operator, "call": call}
        result = hook.function(*[given[name] for name in hook.argnames])
        if result is None:
            msg = (
                f"around_call: {origin(hook.function)}, returned None for operator "
                f"{operator.name!r}; return what call() gives"
            )
            raise TypeError(msg)
        return result

    return around_call


# --------------------------------------------------------------------- names as attributes

#: The registry of everything that is installed.
registry = Registry()
block, unblock, blocked = registry.block, registry.unblock, registry.blocked


#: The operators by name.
ops = Namespace(registry, lambda operator: operator)

#: The functions that apply them: what tensors' methods and ``opgrad.mul`` are.
calls = Namespace(registry, lambda operator: operator.function)
