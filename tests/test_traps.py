"""pluggy's traps, one by one: what goes unnoticed there is an error here, or cannot happen.

These run with the lowest pluggy that is supported and with the newest.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import re
import subprocess
import sys

import pytest

import opgrad
from opgrad import Case, Operator, OperatorError, hookimpl
from opgrad.plugins import PluginManager
from opgrad.registry import Registry, RegistryError, registry

#: A module with an operator ``scale``; `hooks` is the rest of its class.
SCALE = """
from opgrad import Case, Operator, hookimpl

class Scale(Operator):
    @hookimpl
    def forward(self, x, /):
        return 3 * x

    @hookimpl
    def backward(self, grad):
        return 3 * grad

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))

scale = Scale()
"""


@pytest.fixture
def own(site):
    """A registry of its own, which no variable of the environment reaches."""
    return Registry(environment={})


def scale():
    scope = {}
    exec(SCALE, scope)
    return scope["scale"]


class TestAFailedValidation:
    @pytest.fixture
    def manager(self):
        return PluginManager("opgrad")

    def broken(self):
        """An operator whose hook was changed after its definition had been checked."""
        made = scale()
        hooks = dict(made.contract.hooks)
        type(made).backward = hookimpl(lambda self, gard: gard)
        object.__setattr__(made.contract, "hooks", {**hooks, "backward": made.backward})
        return made

    def test_leaves_nothing_registered(self, manager):
        with pytest.raises(Exception, match="gard"):
            manager.register_operator(self.broken(), "acme.scale")
        assert manager.get_plugin("acme.scale") is None
        assert manager.get_plugins() == set()
        assert not [name for name in vars(manager.hook) if name.startswith("acme")]

    def test_of_any_kind_leaves_nothing_registered(self, manager, monkeypatch):
        made = scale()

        def register(plugin, name):
            super(PluginManager, manager).register(plugin, name=name)
            raise RuntimeError

        monkeypatch.setattr(manager, "register", register)
        with pytest.raises(RuntimeError):
            manager.register_operator(made, "acme.scale")
        monkeypatch.undo()
        manager.register_operator(made, "acme.scale")
        assert manager.get_plugin("acme.scale") is made

    def test_removes_no_other_plugin_that_has_the_name(self, manager):
        first = scale()
        manager.register_operator(first, "acme.scale")
        with pytest.raises(ValueError, match="already registered"):
            manager.register(scale(), name="acme.scale")
        assert manager.get_plugin("acme.scale") is first


class TestAHook:
    def test_that_is_misspelt_is_an_error_at_the_definition(self):
        with pytest.raises(OperatorError, match="did you mean 'backward'"):
            Operator.define(lambda x, /: x, backwrad=lambda grad: grad, self_check=list)

    def test_of_a_plugin_that_is_misspelt_is_an_error_when_it_is_registered(self):
        class Misspelt:
            @hookimpl
            def around_cal(self, call):
                return call()

        with pytest.raises(RegistryError) as error:
            registry.register_plugin(Misspelt())
        got, line = str(error.value), inspect.getsourcelines(Misspelt.around_cal)[1]
        assert got.startswith(f"plugin {Misspelt.__qualname__} cannot be registered: ")
        assert f"Misspelt.around_cal, in {__file__}:{line}, is no hook; hooks are " in got
        assert got.endswith("opgrad_probes; did you mean 'around_call'?")
        assert opgrad.mul is opgrad.ops.mul.compiled

    @pytest.mark.parametrize("missing", ["forward", "backward", "self_check"])
    def test_that_is_missing_is_an_error_at_the_definition(self, missing):
        hooks = {
            "forward": lambda self, x, /: x,
            "backward": lambda self, grad: grad,
            "self_check": lambda self, rng: [Case(1.0)],
        }
        del hooks[missing]
        members = {name: hookimpl(each) for name, each in hooks.items()}
        with pytest.raises(OperatorError, match=missing):
            type("Probe", (Operator,), members)()

    def test_of_a_plugin_that_is_optional_is_left_to_who_knows_it(self, own):
        class Elsewhere:
            @hookimpl(optionalhook=True)
            def of_another_program(self):
                return 5

            @hookimpl
            def opgrad_probes(self):
                return []

        own.register_plugin(Elsewhere(), "elsewhere")
        assert own.plugins.has_plugin("elsewhere")

    def test_of_a_plugin_that_has_none_is_an_error(self):
        with pytest.raises(RegistryError, match=r"implements no hook.*around_call, opgrad_probes"):
            registry.register_plugin(object())

    def test_that_is_not_marked_is_an_error(self):
        class Unmarked:
            def around_call(self, call):
                return call()

        with pytest.raises(RegistryError, match="implements no hook"):
            registry.register_plugin(Unmarked())

    def test_that_takes_whatever_comes_is_an_error(self):
        with pytest.raises(OperatorError, match=r"Probe.backward takes \*args"):
            type("Probe", (Operator,), {
                "forward": hookimpl(lambda self, x, /: x),
                "backward": hookimpl(lambda self, *args: args[0]),
                "self_check": hookimpl(lambda self, rng: [Case(1.0)]),
            })()  # fmt: skip

    def test_of_a_plugin_that_takes_whatever_comes_is_an_error(self):
        class Greedy:
            @hookimpl
            def around_call(self, *args):
                return args[-1]()

        with pytest.raises(RegistryError, match=r"Greedy.around_call, in .*:\d+, takes \*args"):
            registry.register_plugin(Greedy())
        assert opgrad.mul is opgrad.ops.mul.compiled

    def test_that_is_found_by_getattr_alone_is_none(self):
        class Dynamic:
            def __getattr__(self, name):
                if name == "around_call":
                    return hookimpl(lambda call: call())
                raise AttributeError(name)

        with pytest.raises(RegistryError, match="implements no hook"):
            registry.register_plugin(Dynamic())

    def test_that_is_a_property_is_an_error_at_the_definition(self):
        with pytest.raises(OperatorError, match=r"Probe\.backward is not a hook yet"):
            type("Probe", (Operator,), {
                "forward": hookimpl(lambda self, x, /: x),
                "backward": property(lambda self: hookimpl(lambda grad: grad)),
                "self_check": hookimpl(lambda self, rng: [Case(1.0)]),
            })()  # fmt: skip

    def test_that_is_decorated_is_called_with_what_it_names(self, own):
        def logged(function):
            @functools.wraps(function)
            def hook(*args):
                calls.append(len(args))
                return function(*args)

            return hook

        calls = []
        made = type("Probe", (Operator,), {
            "forward": hookimpl(logged(lambda self, x, /: 3 * x)),
            "backward": hookimpl(logged(lambda self, grad, x: 3 * grad)),
            "self_check": hookimpl(lambda self, rng: [Case(1.0)]),
        })()  # fmt: skip
        own.plugins.register_operator(made, "acme.probe")
        x = opgrad.tensor(2.0, requires_grad=True)
        made(x).backward()
        assert (x.grad.item(), calls) == (3.0, [2, 3])


async def later(call):
    return call()


def generator(call):
    yield call()


class TestAroundCall:
    @pytest.mark.parametrize(
        ("function", "said"),
        [
            (lambda: 5, "does not take `call`, without which"),
            (lambda operator: 5, "does not take `call`, without which"),
            (lambda operator, call=None: 5, "does not take `call`, without which"),
            (
                lambda operator, cal: cal(),
                "names 'cal', which is not there to give; it may name operator, call; did you mean",
            ),
            (lambda *, call: call(), "takes call: hooks are called with what they name"),
            (later, "is a generator or a coroutine; write a plain function, which returns call()"),
            (generator, "is a generator or a coroutine; write a plain function"),
        ],
    )
    def test_that_cannot_do_the_call_is_an_error(self, function, said):
        with pytest.raises(RegistryError) as error:
            opgrad.around_call(function)
        where = f"{function.__qualname__}, in {__file__}:{function.__code__.co_firstlineno}"
        got = str(error.value)
        assert got.startswith(f"plugin around_call cannot be registered: {where}, {said}")
        assert not re.search("0x[0-9a-f]+", got)
        assert opgrad.mul is opgrad.ops.mul.compiled


class TestAClassInThePlaceOfAnInstance:
    def test_is_an_error_of_that_operator(self, site, own):
        site.install("acme", operators={"acme.scale": "acme_ops:Scale"}, acme_ops=SCALE)
        with pytest.raises(RegistryError, match=r"is a class, in .*acme_ops.py; expected an inst"):
            own.load("acme.scale")

    def test_is_an_error_of_a_plugin(self):
        class Tracer:
            @hookimpl
            def around_call(self, call):
                return call()

        with pytest.raises(RegistryError, match="Tracer is a class; register an instance"):
            registry.register_plugin(Tracer)
        assert opgrad.mul is opgrad.ops.mul.compiled


class TestABlockedName:
    def test_is_an_error_and_no_silent_none(self, own):
        own.plugins.set_blocked("exp")
        with pytest.raises(RegistryError, match=r"'exp' .* cannot be registered: .* blocked"):
            own.load("exp")

    def test_of_a_plugin_is_an_error_too(self, own):
        class Tracer:
            @hookimpl
            def around_call(self, call):
                return call()

        own.plugins.set_blocked("tracer")
        with pytest.raises(RegistryError, match=r"'tracer' cannot be registered: .* blocked"):
            own.register_plugin(Tracer(), "tracer")


class TestEntryPoints:
    def test_of_one_name_in_two_distributions_are_an_error_with_both(self, site, own):
        site.install("one", "1", operators={"acme.scale": "acme_ops:scale"}, acme_ops=SCALE)
        site.install("two", "2", operators={"acme.scale": "acme_ops:scale"})
        with pytest.raises(RegistryError, match=r"claimed twice: one 1 .* and two 2"):
            own.load("acme.scale")

    def test_of_a_module_that_fails_leave_the_others(self, site, own):
        points = {"acme.scale": "acme_ops:scale", "acme.aaa": "bad_ops:scale"}
        site.install("acme", operators=points, acme_ops=SCALE, bad_ops="1 / 0")
        with pytest.raises(RegistryError, match="ZeroDivisionError"):
            own.load("acme.aaa")
        assert own.load("acme.scale")(2.0).item() == 6.0

    def test_of_probes_that_fail_leave_the_others(self, site, own):
        good = "from opgrad import hookimpl\n@hookimpl\ndef opgrad_probes(): return []\n"
        probes = {"bad": "bad_probes", "good": "good_probes"}
        site.install("acme", probes=probes, bad_probes="1 / 0", good_probes=good)
        (complaint,) = own.load_plugins("opgrad.probes")
        assert "'bad'" in complaint
        assert own.plugins.has_plugin("opgrad.probes:good@acme")

    def test_that_are_listed_twice_count_once(self, site):
        site.install("acme", operators={"acme.scale": "acme_ops:scale"}, acme_ops=SCALE)
        points = [
            each
            for each in importlib.metadata.entry_points(group="opgrad.operators")
            if each.name == "acme.scale"
        ]
        doubled = Registry(lambda group: 2 * points if "operators" in group else [], {})
        assert doubled.load("acme.scale")(2.0).item() == 6.0


def test_nothing_is_registered_before_it_is_used():
    code = (
        "import opgrad; from opgrad.registry import registry as r; "
        "print(len(r.plugins.get_plugins())); opgrad.exp(0.0); print(len(r.plugins.get_plugins()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]
