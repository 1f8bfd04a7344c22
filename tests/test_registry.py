"""How operators are found, loaded, overridden and blocked, and what goes wrong with one of them."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import itertools
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pluggy
import pytest

import opgrad
from opgrad import hookimpl
from opgrad.entries import Entry
from opgrad.registry import Namespace, Registry, RegistryError, UnknownOperatorError
from opgrad.registry import registry as installed

VERSION = importlib.metadata.version("opgrad")

#: A module with an operator ``scale`` that multiplies by `factor`.
SCALE = """
from opgrad import Case, Operator, hookimpl

class Scale(Operator):
    factor = {factor}

    @hookimpl
    def forward(self, x, /):
        return self.factor * x

    @hookimpl
    def backward(self, grad):
        return self.factor * grad

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))

scale = Scale()
"""

#: A module with an operator ``matmul`` whose forward alone is its own: it gives `sign` times it.
FAST = """
from opgrad import hookimpl
from opgrad_plugins.linalg import Matmul

class FastMatmul(Matmul):
    @hookimpl
    def forward(self, a, b, /, *, xp):
        return {sign} * xp.matmul(a, b)

matmul = FastMatmul()
"""

#: A module that must not be imported.
TRAP = "raise AssertionError('imported')"


def scale(factor):
    return SCALE.format(factor=factor)


def fast(sign=1):
    return FAST.format(sign=sign)


@pytest.fixture
def registry(site):
    """A registry of its own, which no variable of the environment reaches."""
    return Registry(environment={})


def run(code, site=None):
    """Run code in an interpreter of its own; return what it prints."""
    path = [str(site.path)] if site else []
    lines = ["import sys", f"sys.path[:0] = {path}", code]
    command = [sys.executable, "-W", "error", "-c", "\n".join(lines)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def message(error, function, *args):
    """Return the message of the error that a call raises."""
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


class TestNothingIsImported:
    @pytest.mark.parametrize(
        "code",
        [
            "import opgrad",
            "import opgrad; opgrad.registry.registry.entries()",
            "import opgrad; opgrad.registry.registry.names()",
            "import opgrad; dir(opgrad); dir(opgrad.ops); dir(opgrad.ops.acme)",
            "import opgrad; opgrad.registry.registry.entry('mul')",
            "import opgrad; opgrad.registry.block('mul')",
            "from opgrad.check.__main__ import main; main(['--list'])",
            "import opgrad; opgrad.func, opgrad.profiler, opgrad.save, opgrad.draw",
            "import opgrad; opgrad.autograd.Function, opgrad.autograd.graph.save_to_disk",
        ],
    )
    def test_by_importing_opgrad_or_listing(self, site, code):
        site.install("acme", operators={"acme.f": "acme_trap:f"}, acme_trap=TRAP)
        ask = "print([name for name in sys.modules if name.startswith(('opgrad_plugins', 'acme'))])"
        assert run(f"{code}\n{ask}", site).splitlines()[-1] == "[]"

    def test_by_the_command_that_lists(self, site):
        site.install("acme", "2.5", operators={"acme.f": "acme_trap:f"}, acme_trap=TRAP)
        code = (
            "import runpy; sys.argv[1:] = ['--list']\n"
            "try: runpy.run_module('opgrad.check', run_name='__main__')\n"
            "except SystemExit as end: print('code', end.code)\n"
            "print([name for name in sys.modules if name.startswith(('opgrad_plugins', 'acme'))])"
        )
        lines = run(code, site).splitlines()
        assert lines[-2:] == ["code 0", "[]"]
        (line,) = [line for line in lines if "acme.f" in line]
        assert "2.5" in line

    def test_of_the_other_operators_by_using_one(self):
        code = (
            "import opgrad; opgrad.exp\n"
            "print([name in sys.modules for name in"
            " ('opgrad_plugins.elementwise', 'opgrad_plugins.linalg')])"
        )
        assert run(code) == "[True, False]\n"


class TestEntries:
    def test_say_where_an_operator_comes_from(self, site, registry):
        site.install("acme-ops", "3.1", operators={"acme.f": "acme_trap:f"}, acme_trap=TRAP)
        entry = registry.entry("acme.f")
        assert (entry.distribution, entry.version) == ("acme-ops", "3.1")
        assert entry.value == "acme_trap:f"
        assert str(entry) == "acme-ops 3.1 (acme_trap:f)"

    def test_are_there_for_each_of_opgrads_own(self, registry):
        declared = importlib.metadata.distribution("opgrad").entry_points.select(
            group="opgrad.operators"
        )
        assert set(registry.names()) >= {point.name for point in declared} > {"add", "matmul"}

    def test_that_are_seen_twice_count_once(self):
        point = importlib.metadata.EntryPoint("f", "m:f", "opgrad.operators")
        twice = Registry(lambda group: [point, point] if group == point.group else [], {})
        assert len(twice.entries()["f"]) == 1

    def test_are_read_anew_by_rescan(self, site, registry):
        assert "acme.f" not in registry.names()
        site.install("acme", operators={"acme.f": "acme_trap:f"}, acme_trap=TRAP)
        assert "acme.f" not in registry.names()
        registry.rescan()
        assert "acme.f" in registry.names()


class TestNames:
    def test_load_at_first_use_and_stay(self):
        assert opgrad.ops.mul is opgrad.ops.mul
        assert isinstance(opgrad.ops.mul, opgrad.Operator)
        assert opgrad.ops.mul(2.0, 3.0).item() == opgrad.mul(2.0, 3.0).item() == 6.0

    def test_of_a_third_party_carry_its_prefix(self, site):
        site.install("acme", operators={"acme.triple": "acme_ops:scale"}, acme_ops=scale(3))
        assert opgrad.ops.acme.triple(opgrad.tensor([1.0, 2.0])).tolist() == [3.0, 6.0]
        assert opgrad.acme.triple(opgrad.tensor([1.0, 2.0])).tolist() == [3.0, 6.0]
        assert opgrad.ops.acme.triple.name == "acme.triple"
        assert "acme" in dir(opgrad.ops)
        assert dir(opgrad.ops.acme) == ["triple"]

    def test_may_have_prefixes_in_prefixes(self, site):
        points = {"acme.nn.triple": "acme_ops:scale"}
        site.install("acme", operators=points, acme_ops=scale(3))
        assert opgrad.ops.acme.nn.triple(2.0).item() == 6.0
        assert dir(opgrad.ops.acme) == ["nn"]

    def test_are_not_hidden_by_a_prefix_that_is_like_them(self, site):
        site.install("acme", operators={"mul.triple": "acme_trap:f"}, acme_trap=TRAP)
        assert opgrad.mul(2.0, 3.0).item() == 6.0
        got = message(RegistryError, installed.load, "mul.triple")
        assert "has the prefix 'mul', which is itself an operator, of opgrad" in got

    def test_of_the_operator_stand_in_its_errors(self, site):
        site.install("acme", operators={"acme.triple": "acme_ops:scale"}, acme_ops=scale(3))
        assert message(TypeError, opgrad.ops.acme.triple, "a").startswith("acme.triple: ")

    @pytest.mark.parametrize("alias", ["multiply", "subtract", "divide", "power", "absolute"])
    def test_have_aliases(self, alias):
        name = {"multiply": "mul", "subtract": "sub", "divide": "div", "power": "pow"}
        assert getattr(opgrad.ops, alias) is getattr(opgrad.ops, name.get(alias, "abs"))

    def test_of_numpys_functions_are_among_the_aliases(self):
        a = opgrad.tensor([1.0, 2.0], requires_grad=True)
        product = np.multiply(a, np.asarray([3.0, 4.0]))
        product.sum().backward()
        assert product.tolist() == [3.0, 8.0]
        assert a.grad.tolist() == [3.0, 4.0]

    def test_of_a_third_partys_aliases_carry_its_prefix(self, site, registry):
        source = scale(3).replace("factor = 3", "factor = 3; aliases = ('thrice',)")
        site.install("acme", operators={"acme.triple": "acme_ops:scale"}, acme_ops=source)
        assert registry.load("acme.thrice") is registry.load("acme.triple")
        with pytest.raises(UnknownOperatorError):
            registry.load("thrice")

    def test_that_are_unknown_are_errors_with_the_nearest(self):
        assert "'matmull'; did you mean 'matmul'?" in message(
            UnknownOperatorError, installed.load, "matmull"
        )

    def test_that_are_like_no_other_are_errors_without(self, registry):
        assert "did you mean" not in message(UnknownOperatorError, registry.load, "zyxwv")

    def test_that_are_unknown_are_no_attributes(self):
        assert not hasattr(opgrad, "matmull")
        assert not hasattr(opgrad.ops, "matmull")
        assert not hasattr(opgrad.tensor(1.0), "matmull")
        with pytest.raises(ImportError):
            from opgrad import matmull  # noqa: F401

    def test_without_any_operators_are_errors_that_say_how_to_install(self):
        empty = Registry(lambda _group: (), {})
        assert empty.names() == []
        got = message(UnknownOperatorError, empty.load, "mul")
        assert "no operators are installed" in got
        assert "pip install ." in got


class TestWhatIsBrokenBreaksOnlyItsOwnName:
    @pytest.fixture(autouse=True)
    def others_still_work(self, registry):
        yield
        registry.rescan()
        assert registry.load("mul") is opgrad.ops.mul

    def test_a_module_that_fails_to_import(self, site, registry):
        source = "import a_module_that_is_not_there"
        points = {"acme.f": "acme_broken:f", "acme.triple": "acme_ops:scale"}
        site.install("acme", "2.5", operators=points, acme_broken=source, acme_ops=scale(3))
        got = message(RegistryError, registry.load, "acme.f")
        for part in ("'acme.f'", "acme 2.5", "acme_broken:f", "a_module_that_is_not_there"):
            assert part in got
        assert "OPGRAD_DISABLE=acme.f" in got
        assert registry.load("acme.triple")(1.0).item() == 3.0

    def test_a_name_that_the_module_lacks(self, site, registry):
        site.install("acme", operators={"acme.f": "acme_ops:g"}, acme_ops=scale(3))
        assert "no attribute 'g'" in message(RegistryError, registry.load, "acme.f")

    def test_a_definition_that_does_not_keep_the_contract(self, site, registry):
        source = scale(3).replace("backward(self, grad)", "backward(self, gard)")
        site.install("acme", operators={"acme.f": "acme_ops:scale"}, acme_ops=source)
        assert "did you mean 'grad'" in message(RegistryError, registry.load, "acme.f")

    @pytest.mark.parametrize(
        ("value", "kind"),
        [("acme_ops:Scale", "is a class"), ("acme_ops:Scale.factor", "a int")],
    )
    def test_what_is_not_an_instance_of_an_operator(self, site, registry, value, kind):
        site.install("acme", "2.5", operators={"acme.f": value}, acme_ops=scale(3))
        got = message(RegistryError, registry.load, "acme.f")
        assert kind in got
        assert f"acme 2.5 ({value})" in got
        assert "expected an instance" in got

    def test_a_name_in_two_distributions(self, site, registry):
        site.install("acme", "2.5", operators={"shared.f": "acme_trap:f"}, acme_trap=TRAP)
        site.install("zenith", "0.7", operators={"shared.f": "zenith_trap:f"}, zenith_trap=TRAP)
        got = message(RegistryError, registry.load, "shared.f")
        assert "acme 2.5 (acme_trap:f)" in got
        assert "zenith 0.7 (zenith_trap:f)" in got

    def test_either_of_the_two_may_be_blocked(self, site, registry):
        site.install("acme", operators={"shared.f": "acme_ops:scale"}, acme_ops=scale(3))
        other = scale(5).replace("self, x, /", "self, y, /").replace("factor * x", "factor * y")
        site.install("zenith", operators={"shared.f": "zenith_ops:scale"}, zenith_ops=other)
        for blocked, factor in [("zenith", 3.0), ("acme", 5.0), ("zenith", 3.0)]:
            registry.block(blocked)
            assert registry.load("shared.f")(1.0).item() == factor
            registry.unblock(blocked)

    def test_a_bare_name_that_is_not_opgrads(self, site, registry):
        site.install("acme", "2.5", operators={"triple": "acme_trap:f"}, acme_trap=TRAP)
        got = message(RegistryError, registry.load, "triple")
        for part in ("acme 2.5", "needs a prefix", "'acme_trap.triple'", "'opgrad.overrides'"):
            assert part in got

    def test_one_object_under_two_names_is_two_operators(self, site, registry):
        points = {"acme.triple": "acme_ops:scale", "acme.thrice": "acme_ops:scale"}
        site.install("acme", operators=points, acme_ops=scale(3))
        for name in points:
            assert registry.load(name).name == name
            assert registry.load(name)(2.0).item() == 6.0
        assert registry.load("acme.triple").name == "acme.triple"

    def test_an_operator_that_a_plugin_took_the_name_of(self, registry):
        plugin = SimpleNamespace(around_call=hookimpl(lambda call: call()))
        registry.register_plugin(plugin, "add")
        assert "already registered" in message(RegistryError, registry.load, "add")
        registry.unregister_plugin(plugin)
        assert registry.load("add") is opgrad.ops.add

    def test_a_module_that_uses_operators_while_another_thread_loads_it(self, site, monkeypatch):
        begun, wanted, shared = threading.Event(), threading.Event(), Registry(environment={})
        meeting = SimpleNamespace(begun=begun, wanted=wanted, registry=shared)
        monkeypatch.setitem(sys.modules, "meeting", meeting)
        meet = "import meeting; meeting.begun.set(); meeting.wanted.wait(); "
        source = meet + "meeting.registry.load('exp')" + scale(3)
        site.install("acme", operators={"acme.triple": "acme_ops:scale"}, acme_ops=source)
        load = Entry.load

        def load_once_wanted(entry):
            if entry.name == "acme.triple":
                wanted.set()
            return load(entry)

        monkeypatch.setattr(Entry, "load", load_once_wanted)
        importing = threading.Thread(target=lambda: __import__("acme_ops"), daemon=True)
        importing.start()
        begun.wait()
        loading = threading.Thread(target=lambda: shared.load("acme.triple"), daemon=True)
        loading.start()
        for thread in (importing, loading):
            thread.join(timeout=30)
            assert not thread.is_alive()
        assert shared.load("acme.triple")(1.0).item() == 3.0


class TestOverrides:
    def test_replace_every_hook_of_the_base(self, site):
        base = opgrad.ops.matmul
        site.install("fast-ops", overrides={"matmul": "fast_ops:matmul"}, fast_ops=fast(-1))
        assert opgrad.ops.matmul is not base
        a = opgrad.tensor([[1.0, 2.0]], requires_grad=True)
        out = a @ opgrad.tensor([[3.0], [4.0]])
        assert out.tolist() == [[-11.0]]
        assert out.grad_fn.operator is opgrad.ops.matmul

    def test_are_plugins_named_after_their_distribution(self, site, registry):
        site.install("fast-ops", overrides={"matmul": "fast_ops:matmul"}, fast_ops=fast())
        operator = registry.load("matmul")
        assert registry.entry("matmul").plugin == "matmul@fast-ops"
        assert registry.plugins.get_name(operator) == "matmul@fast-ops"
        assert not registry.plugins.has_plugin("matmul")
        assert operator.name == "matmul"

    @pytest.mark.parametrize("blocked", ["matmul@fast-ops", "fast-ops"])
    def test_that_are_blocked_bring_the_base_back(self, site, registry, blocked):
        base = opgrad.ops.matmul
        site.install("fast-ops", overrides={"matmul": "fast_ops:matmul"}, fast_ops=fast())
        override = registry.load("matmul")
        registry.block(blocked)
        assert registry.load("matmul") is base
        assert registry.plugins.get_name(base) == "matmul"
        registry.unblock(blocked)
        assert registry.load("matmul") is override

    def test_are_blocked_with_the_operator_itself(self, site, registry):
        site.install("fast-ops", overrides={"matmul": "fast_trap:matmul"}, fast_trap=TRAP)
        registry.block("matmul")
        assert "blocked" in message(RegistryError, registry.load, "matmul")

    def test_that_are_two_are_an_error_with_both(self, site, registry):
        site.install("fast-ops", "1.2", overrides={"matmul": "fast_trap:f"}, fast_trap=TRAP)
        site.install("gpu", "0.3", overrides={"matmul": "gpu_trap:f"}, gpu_trap=TRAP)
        got = message(RegistryError, registry.load, "matmul")
        assert "fast-ops 1.2 (fast_trap:f)" in got
        assert "gpu 0.3 (gpu_trap:f)" in got
        assert "override" in got

    def test_of_nothing_are_an_error_with_the_nearest(self, site, registry):
        site.install("fast-ops", "1.2", overrides={"matmull": "fast_trap:f"}, fast_trap=TRAP)
        got = message(RegistryError, registry.load, "matmull")
        assert "fast-ops 1.2 (fast_trap:f)" in got
        assert "name the operator that it replaces, or install the distribution that has it" in got
        assert got.endswith("; did you mean 'matmul'?")

    def test_may_replace_a_third_partys(self, site, registry):
        site.install("acme", operators={"acme.f": "acme_ops:scale"}, acme_ops=scale(3))
        site.install("fast-ops", overrides={"acme.f": "fast_ops:scale"}, fast_ops=scale(5))
        assert registry.load("acme.f")(1.0).item() == 5.0


class TestBlocking:
    @pytest.mark.parametrize("listed", ["acme.f", "acme-ops", "mul, acme.f", ",acme.f,"])
    def test_by_the_environment_before_anything_is_imported(self, site, listed):
        site.install("acme-ops", operators={"acme.f": "acme_trap:f"}, acme_trap=TRAP)
        registry = Registry(environment={"OPGRAD_DISABLE": listed})
        assert "acme.f" not in registry.names()
        got = message(RegistryError, registry.load, "acme.f")
        for part in ("'acme.f'", "acme-ops 1.0", "blocked", "OPGRAD_DISABLE"):
            assert part in got
        assert site.imported() == []

    def test_by_the_environment_leaves_other_names(self, site):
        registry = Registry(environment={"OPGRAD_DISABLE": "mul"})
        assert "mul" not in registry.names()
        assert registry.load("add") is opgrad.ops.add

    def test_of_a_distribution_imports_nothing_of_it_even_for_an_alias(self, site):
        site.install("acme", operators={"acme.f": "acme_trap:f"}, acme_trap=TRAP)
        site.install("fast-ops", overrides={"matmul": "fast_trap:f"}, fast_trap=TRAP)
        registry = Registry(environment={"OPGRAD_DISABLE": "acme,fast-ops"})
        with pytest.raises(UnknownOperatorError):
            registry.load("acme.alias")
        assert registry.load("multiply") is opgrad.ops.mul
        assert registry.load("matmul").name == "matmul"
        assert site.imported() == []

    def test_of_autoload_leaves_opgrads_own(self, site):
        site.install("acme", operators={"acme.f": "acme_trap:f"}, acme_trap=TRAP)
        site.install("fast-ops", overrides={"matmul": "fast_trap:f"}, fast_trap=TRAP)
        for value in ("", "0"):
            without = Registry(environment={"OPGRAD_DISABLE_PLUGIN_AUTOLOAD": value})
            assert "acme.f" in without.names()
        registry = Registry(environment={"OPGRAD_DISABLE_PLUGIN_AUTOLOAD": "1"})
        owners = {registry.entry(name).distribution for name in registry.names()}
        assert owners == {"opgrad"}
        assert "OPGRAD_DISABLE_PLUGIN_AUTOLOAD" in message(RegistryError, registry.load, "acme.f")
        assert registry.load("matmul").name == "matmul"
        assert site.imported() == []

    def test_from_code_and_back(self):
        operator = opgrad.ops.mul
        opgrad.registry.block("mul")
        try:
            for use in (lambda: opgrad.mul, lambda: opgrad.ops.mul, lambda: opgrad.tensor(1.0) * 2):
                assert "blocked" in message(RegistryError, use)
            assert opgrad.ops.add(1.0, 2.0).item() == 3.0
        finally:
            opgrad.registry.unblock("mul")
        assert opgrad.ops.mul is operator
        assert (opgrad.tensor(3.0) * 2).item() == 6.0

    def test_from_code_by_distribution(self, site, registry):
        site.install("acme-ops", operators={"acme.f": "acme_ops:scale"}, acme_ops=scale(3))
        assert registry.load("acme.f")(1.0).item() == 3.0
        registry.block("acme-ops")
        assert "blocked" in message(RegistryError, registry.load, "acme.f")
        registry.unblock("acme-ops")
        assert registry.load("acme.f")(1.0).item() == 3.0


class TestPluggy:
    def test_knows_each_operator_as_a_plugin(self, registry):
        operator = registry.load("mul")
        assert registry.plugins.get_plugin("mul") is operator
        callers = registry.plugins.get_hookcallers(operator)
        hooks = ("forward", "backward_a", "backward_b", "jvp_a", "jvp_b", "batch", "self_check")
        assert {caller.name for caller in callers} == {f"mul.{hook}" for hook in hooks}

    def test_knows_only_what_was_used(self, registry):
        registry.load("mul")
        assert [name for name, _ in registry.plugins.list_name_plugin()] == ["mul"]

    def test_has_a_specification_made_of_the_signature(self, registry):
        registry.load("sum")
        backward = getattr(registry.plugins.hook, "sum.backward")
        offered = {"grad", "out", "xp", "needs", "x_shape", "x", "axis", "keepdims"}
        assert set(backward.spec.argnames) == offered

    def test_has_a_specification_of_the_jvp_with_the_tangent(self, registry):
        registry.load("sum")
        jvp = getattr(registry.plugins.hook, "sum.jvp")
        assert {"tangent", "xp", "x_shape", "axis", "keepdims"} <= set(jvp.spec.argnames)

    def test_can_call_the_hooks(self, registry):
        registry.load("mul")
        assert getattr(registry.plugins.hook, "mul.forward")(xp=np, a=2, b=3) == 6

    def test_forgets_an_operator_that_is_blocked(self, registry):
        registry.load("mul")
        registry.block("mul")
        assert registry.plugins.list_name_plugin() == []
        assert not hasattr(registry.plugins.hook, "mul.forward")

    def test_is_left_as_it_was_by_a_validation_that_fails(self, site, registry):
        # pluggy refuses a wrapper that is no generator, after it has taken `backward`.
        source = scale(3).replace("@hookimpl", "@hookimpl(wrapper=True)", 1)
        site.install("acme", "2.5", operators={"acme.f": "acme_ops:scale"}, acme_ops=source)
        for _ in range(2):
            got = message(RegistryError, registry.load, "acme.f")
            assert "'acme.f' of acme 2.5 (acme_ops:scale) cannot be registered" in got
            assert registry.plugins.list_name_plugin() == []
            hooks = [name for name in vars(registry.plugins.hook) if name.startswith("acme")]
            assert hooks == []

    def test_checks_a_hook_against_the_specification(self, site, registry):
        operator = opgrad.ops.mul
        module = opgrad.plugins.hookspec_of(operator, "mul")
        plugins = pluggy.PluginManager("opgrad")
        plugins.add_hookspecs(module)

        class Misspelt:
            @opgrad.hookimpl(specname="mul.backward_a")
            def backward_a(self, grad, bb):
                return grad * bb

        with pytest.raises(pluggy.PluginValidationError, match="bb"):
            plugins.register(Misspelt())

    def test_is_never_called_by_an_operator_or_a_backward(self):
        opgrad.ops.mul(1.0, 2.0)
        seen = []
        undo = installed.plugins.add_hookcall_monitoring(
            lambda name, *_: seen.append(name), lambda *_: None
        )
        try:
            a = opgrad.tensor([1.0, 2.0], requires_grad=True)
            (a * a).sum().backward(create_graph=True)
            assert a.grad.tolist() == [2.0, 4.0]
            assert seen == []
            getattr(installed.plugins.hook, "mul.forward")(xp=np, a=2, b=3)
            assert seen == ["mul.forward"]
        finally:
            undo()


class TestRegisterPlugin:
    def test_refuses_an_operator(self, registry):
        got = message(RegistryError, registry.register_plugin, opgrad.ops.mul)
        assert "operator mul" in got
        assert "'opgrad.operators'" in got

    @pytest.mark.parametrize(
        ("name", "function", "what"),
        [
            ("around_cal", lambda operator, call: call(), "around_cal"),
            ("around_call", lambda operator, cal: cal(), "cal"),
        ],
    )
    def test_refuses_what_is_misspelt_and_leaves_nothing(self, registry, name, function, what):
        plugin = SimpleNamespace(**{name: opgrad.hookimpl(function)})
        got = message(RegistryError, registry.register_plugin, plugin, "tracer")
        assert "'tracer'" in got
        assert what in got
        assert registry.plugins.list_name_plugin() == []
        assert registry.plugins.hook.around_call.get_hookimpls() == []

    def test_refuses_a_wrapper(self, registry):
        @opgrad.hookimpl(wrapper=True)
        def around_call(operator, call):
            return (yield)

        plugin = SimpleNamespace(around_call=around_call)
        assert "plain function" in message(RegistryError, registry.register_plugin, plugin)
        assert registry.plugins.hook.around_call.get_hookimpls() == []


class TestNamespace:
    def test_forgets_what_it_found_when_something_changes(self, registry):
        names = Namespace(registry, lambda operator: operator)
        assert names.mul is opgrad.ops.mul
        registry.block("mul")
        assert "blocked" in message(RegistryError, getattr, names, "mul")
        assert "mul" not in dir(names)

    def test_has_no_private_attributes(self, registry):
        assert not hasattr(Namespace(registry, lambda operator: operator), "_mul")


# ------------------------------------------------------------------ which file imports which

PACKAGES = {
    name: Path(importlib.util.find_spec(name).origin).parent
    for name in ("opgrad", "opgrad_plugins")
}
FILES = {
    ".".join((name, *path.relative_to(folder).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for name, folder in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
}


def is_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def import_statements(node, *, deep):
    """Give the imports under a node; those in functions only if `deep`, those for types never."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if not is_for_types(child) and (deep or not function):
            yield from import_statements(child, deep=deep)


@functools.cache
def imports(module, *, deep=True):
    """Return the modules and names that a module imports, as pairs ("opgrad.graph", "Node")."""
    return tuple(read_imports(module, deep=deep))


def read_imports(module, *, deep):
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    for statement in import_statements(tree, deep=deep):
        if isinstance(statement, ast.Import):
            yield from ((alias.name, "") for alias in statement.names)
            continue
        source = statement.module or ""
        if statement.level:
            source = importlib.util.resolve_name("." * statement.level + source, package)
        for alias in statement.names:
            inner = f"{source}.{alias.name}"
            yield (inner, "") if inner in FILES else (source, alias.name)


@functools.cache
def needs(module):
    """Return all modules that are imported when a module is, as long as they are opgrad's."""
    found, new = set(), {module}
    while new:
        found |= new
        new = {
            name for each in new for name, _ in imports(each, deep=False) if name in FILES
        } - found
    return found - {module}


CORE = [name for name in FILES if name.partition(".")[0] == "opgrad"]
OPERATORS = [name for name in FILES if name.partition(".")[0] == "opgrad_plugins"]


class TestImportsRunOneWay:
    @pytest.mark.parametrize("module", CORE)
    def test_opgrad_never_imports_an_operator(self, module):
        assert [name for name, _ in imports(module) if name.startswith("opgrad_plugins")] == []

    @pytest.mark.parametrize("module", OPERATORS)
    def test_operators_import_what_a_third_party_could(self, module):
        for name, what in imports(module):
            root = name.partition(".")[0]
            if root == "opgrad":
                assert (name, what) == ("opgrad", what)
                assert what in opgrad.__all__
            else:
                assert root in {"opgrad_plugins", "numpy", *sys.stdlib_module_names}

    @pytest.mark.parametrize("module", CORE)
    def test_opgrad_needs_numpy_and_pluggy_alone(self, module):
        roots = {name.partition(".")[0] for name, _ in imports(module, deep=False)}
        assert roots <= {"opgrad", "numpy", "pluggy", *sys.stdlib_module_names}

    @pytest.mark.parametrize(
        "module", [name for name in CORE if not name.startswith("opgrad.check")]
    )
    def test_the_verifier_stands_on_top(self, module):
        assert [name for name, _ in imports(module) if name.startswith("opgrad.check")] == []

    @pytest.mark.parametrize("module", [name for name in CORE if name != "opgrad.entries"])
    def test_only_one_file_knows_entry_points(self, module):
        assert {what for _, what in imports(module)}.isdisjoint({"EntryPoint", "entry_points"})

    @pytest.mark.parametrize(
        ("upper", "lower"),
        [
            *itertools.pairwise(["tensor", "registry", "operator", "calls", "graph"]),
            ("engine", "graph"),
        ],
    )
    def test_from_the_top_room_down(self, upper, lower):
        assert f"opgrad.{lower}" in {name for name, _ in imports(f"opgrad.{upper}", deep=False)}
        assert f"opgrad.{upper}" not in needs(f"opgrad.{lower}")

    @pytest.mark.parametrize("module", FILES)
    def test_never_in_a_circle(self, module):
        assert all(module not in needs(other) for other in needs(module) - {module})

    def test_the_engine_knows_no_operators(self):
        upper = {f"opgrad.{name}" for name in ("calls", "operator", "registry", "tensor")}
        assert needs("opgrad.engine").isdisjoint(upper)
