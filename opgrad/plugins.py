"""Operators as pluggy plugins, each with hooks and specifications of its own."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from opgrad.contract import nearest
from opgrad.declared import wrong_equality
from opgrad.hookspecs import hookspec
from opgrad.operator import Operator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from opgrad.contract import Contract


class PluginManager(pluggy.PluginManager):
    """Gives each hook of an operator its own specification, ``mul.forward`` and so on."""

    _registering: str

    def register_operator(self, operator: Operator, name: str) -> None:
        """Register an operator under a name, with hooks that are called after it.

        Raises
        ------
        pluggy.PluginValidationError, ValueError
            If a hook takes what its specification lacks, or a plugin of that name is there
            already. Nothing stays registered then.
        """
        self._registering = name
        self.add_hookspecs(hookspec_of(operator, name))
        try:
            self._register(operator, name)
        except BaseException:
            self._drop(operator, name)
            raise

    def unregister_operators(self) -> None:
        """Unregister every operator, and forget the specifications of its hooks."""
        for name, plugin in self.list_name_plugin():
            if isinstance(plugin, Operator):
                self._drop(plugin, name)

    def _drop(self, operator: Operator, name: str) -> None:
        # By name, since a plugin is not found by `==`; and pluggy before 1.7 leaves a plugin
        # registered that fails its validation.
        if self.get_plugin(name) is operator:
            self.unregister(name=name)
        for hook in [each for each in vars(self.hook) if each.rpartition(".")[0] == name]:
            delattr(self.hook, hook)

    def _register(self, plugin: Any, name: str | None) -> None:
        if self.register(plugin, name=name) is None:
            msg = f"the name {name or plugin!r} is blocked in pluggy; use opgrad.registry.block"
            raise ValueError(msg)

    def register_whole(self, plugin: Any, name: str | None) -> None:
        """Register a plugin all of whose hooks can be called as they are, or leave nothing.

        Raises
        ------
        pluggy.PluginValidationError, ValueError
            If it has no hook, or one that is misspelt or could not be called.
        """
        for complaint in self._complaints(plugin):
            raise ValueError(complaint)
        try:
            self._register(plugin, name)
        except pluggy.PluginValidationError:
            if self.is_registered(plugin):
                self.unregister(plugin)
            raise

    def _complaints(self, plugin: Any) -> Iterator[str]:
        """Say what pluggy lets pass, and nobody would notice, or calls by its address."""
        if not isinstance(plugin == object(), bool):
            yield f"{type(plugin).__qualname__} {next(wrong_equality(plugin))}"
        if isinstance(plugin, type):
            yield f"{plugin.__qualname__} is a class; register an instance of it"
        marked = {name: self.parse_hookimpl_opts(plugin, name) for name in dir(plugin)}
        hooks = {name: options for name, options in marked.items() if options is not None}
        if not hooks:
            yield (
                "it implements no hook; mark a method or function with @opgrad.hookimpl that is "
                "called as one of them: around_call, opgrad_probes"
            )
        for name, options in hooks.items():
            yield from self._wrong_hook(
                options.get("specname") or name, getattr(plugin, name), options
            )

    def _wrong_hook(
        self, name: str, function: Callable[..., Any], options: Mapping[str, Any]
    ) -> Iterator[str]:
        what, caller = origin(function), getattr(self.hook, name, None)
        if caller is None or caller.spec is None:
            hooks = [
                each for each, hook in vars(self.hook).items() if hook.spec and "." not in each
            ]
            if not options.get("optionalhook"):
                yield f"{what}, is no hook; hooks are {', '.join(hooks)}{nearest(name, hooks)}"
            return
        names, known = [], caller.spec.argnames
        for each in inspect.signature(function).parameters.values():
            if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.KEYWORD_ONLY):
                yield f"{what}, takes {each}: hooks are called with what they name, by position"
            if each.default is each.empty:
                names.append(each.name)
        for argument in names:
            if argument not in known:
                yield (
                    f"{what}, names {argument!r}, which is not there to give; it may name "
                    f"{', '.join(known)}{nearest(argument, known)}"
                )
        if name == "around_call":
            yield from _wrong_around(what, function, names, options)

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        """Name an operator's hooks after it, as in ``mul.forward``."""
        if not isinstance(plugin, Operator):
            return super().parse_hookimpl_opts(plugin, name)
        if name not in plugin.contract.hooks:
            return None
        options = dict(plugin.contract.hooks[name].opgrad_impl)  # type: ignore[attr-defined]  # set by hookimpl
        options["specname"] = f"{self._registering}.{name}"
        return options


def _wrong_around(
    what: str, function: Callable[..., Any], names: Collection[str], options: Mapping[str, Any]
) -> Iterator[str]:
    if options.get("wrapper") or options.get("hookwrapper"):
        yield f"{what}, is given `call`: write a plain function, not a wrapper"
    if "call" not in names:
        yield f"{what}, does not take `call`, without which no operator would be called; name it"
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(kind(function) for kind in kinds):
        yield f"{what}, is a generator or a coroutine; write a plain function, which returns call()"


def origin(function: Callable[..., Any]) -> str:
    """Say which function it is, and where it was written."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    where = f", in {code.co_filename}:{code.co_firstlineno}" if code else ""
    return f"{getattr(function, '__qualname__', repr(function))}{where}"


def hookspec_of(operator: Operator, plugin: str) -> ModuleType:
    """Build the hook specifications of an operator from the signature of its ``forward``.

    Parameters
    ----------
    operator : Operator
        The operator; its inputs, parameters and residuals are what its backward may name.
    plugin : str
        The name of the plugin, with which the names of its hooks begin.

    Returns
    -------
    module
        One function for each hook that the operator may have, as pluggy takes them.
    """
    contract: Contract = operator.contract
    offered = dict.fromkeys(contract.offered(operator))
    derivatives = {"backward": offered, "jvp": {"tangent": None, **offered}}
    arguments: dict[str, Iterable[str]] = {
        "forward": ("xp", *contract.inputs, *contract.parameters),
        "self_check": ("rng",),
        "batch": contract.for_batch(),
        **{name: derivatives[name.partition("_")[0]] for name in contract.derivatives()},
    }
    module = ModuleType(f"hooks of {plugin}")
    for name, names in arguments.items():
        # pluggy reads a specification's arguments off the code object, so they must be real.
        spec = eval(f"lambda {', '.join(names)}: None")
        setattr(module, f"{plugin}.{name}", hookspec(spec, firstresult=True))
    return module
