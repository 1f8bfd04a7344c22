"""Operators as pluggy plugins, each with hooks and specifications of its own."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from opgrad.hookspecs import hookspec
from opgrad.operator import Operator

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        _check_equality(operator)
        self._registering = name
        self.add_hookspecs(hookspec_of(operator, name))
        try:
            self.register(operator, name=name)
        except (pluggy.PluginValidationError, ValueError):
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

    def register_whole(self, plugin: Any, name: str | None) -> None:
        """Register a plugin all of whose hooks can be called as they are, or leave nothing."""
        _check_equality(plugin)
        try:
            self.register(plugin, name=name)
            self.check_pending()
            for each in self.hook.around_call.get_hookimpls():
                if each.wrapper or each.hookwrapper:
                    msg = "around_call is given `call`: write a plain function, not a wrapper"
                    raise pluggy.PluginValidationError(each.plugin, msg)
        except pluggy.PluginValidationError:
            if self.is_registered(plugin):
                self.unregister(plugin)
            raise

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        """Name an operator's hooks after it, as in ``mul.forward``."""
        if not isinstance(plugin, Operator):
            return super().parse_hookimpl_opts(plugin, name)
        if name not in plugin.contract.hooks:
            return None
        options = dict(plugin.contract.hooks[name].opgrad_impl)  # type: ignore[attr-defined]  # set by hookimpl
        options["specname"] = f"{self._registering}.{name}"
        return options


def _check_equality(plugin: Any) -> None:
    """Refuse what does not say by a bool whether it equals something else: pluggy asks that."""
    own = any("__eq__" in vars(each) for each in type(plugin).__mro__[:-1])
    if own and (isinstance(plugin, Operator) or not isinstance(plugin == object(), bool)):
        msg = (
            f"{type(plugin).__qualname__} defines __eq__, by which it might pass for another "
            "plugin; leave it out, so that plugins are told apart by identity"
        )
        raise ValueError(msg)


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
