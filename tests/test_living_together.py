"""Distributions beside one another: a bad one breaks nothing but its own names."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import threading

import pytest

import opgrad
from opgrad import requirements
from opgrad.check import verify
from opgrad.naming import wrong_names
from opgrad.registry import Registry, RegistryError
from opgrad.registry import registry as installed

#: A module with an operator that multiplies by `factor`; `extra` is more of its class.
SCALE = """
from opgrad import Case, Operator, hookimpl
{before}

class Scale(Operator):
    {extra}

    @hookimpl
    def forward(self, x, /):
        return {factor} * x

    @hookimpl
    def backward(self, grad):
        return {factor} * grad

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))

scale = Scale()
"""

TRAP = "raise AssertionError('imported')"


def scale(factor=3, *, before="", extra="pass"):
    return SCALE.format(factor=factor, before=before, extra=extra)


@pytest.fixture
def registry(site):
    """A registry of its own, which no variable of the environment reaches."""
    return Registry(environment={})


def refusal(registry, name):
    with pytest.raises(RegistryError) as caught:
        registry.load(name)
    return str(caught.value)


def run(site, *command, **environment):
    """Run Python with a folder to find distributions in."""
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        env={**os.environ, "PYTHONPATH": str(site.path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


class TestABadPluginBreaksNothingButItself:
    @pytest.fixture(autouse=True)
    def good(self, site):
        site.install("good", operators={"good.scale": "good_ops:scale"}, good_ops=scale(2))

    def install(self, site, source):
        site.install("bad", "6.6", operators={"bad.scale": "bad_ops:scale"}, bad_ops=source)

    def others_work(self, registry):
        return registry.load("good.scale")(3.0).item() == 6.0 and registry.load("mul")(2, 3) == 6

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("1 / 0", "ZeroDivisionError: division by zero"),
            ("raise SystemExit(3)", "SystemExit: 3"),
            ("import sys; sys.exit('I leave')", "SystemExit: I leave"),
            ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
            ("def f(:", "SyntaxError"),
            ("class Odd(BaseException): pass\nscale = None", "is a NoneType"),
        ],
    )
    def test_by_raising_at_import(self, site, registry, source, said):
        self.install(site, source)
        assert said in (got := refusal(registry, "bad.scale"))
        assert "bad 6.6 (bad_ops:scale)" in got
        assert self.others_work(registry)

    def test_by_printing_at_import(self, site):
        self.install(site, scale(before="print('hello from', __name__)"))
        report = verify("bad.scale")
        assert not report.passed
        (finding,) = [each for each in report.findings if each.counts_against]
        assert finding.probe == "load"
        assert "prints when it is imported, first of all 'hello from bad_ops'" in finding.message

    def test_by_hanging_at_import(self, site, tmp_path):
        self.install(site, "import time; time.sleep(600)")
        file = tmp_path / "found.json"
        options = ("--time-limit", "3", "--jobs", "2", "--json", str(file))
        done = run(site, "-m", "opgrad.check", "bad.scale", "good.scale", "exp", *options)
        assert done.returncode == 1
        reports = {each["operator"]: each for each in json.loads(file.read_text())["reports"]}
        assert reports["good.scale"]["passed"]
        assert reports["exp"]["passed"]
        assert not reports["bad.scale"]["passed"]

    def test_by_hanging_at_import_it_is_not_imported_by_using_others(self, site):
        self.install(site, "import time; time.sleep(600)")
        code = (
            "import opgrad; print(opgrad.ops.good.scale(opgrad.exp(0.0)).item(), dir(opgrad.ops))"
        )
        assert run(site, "-c", code).stdout.startswith("2.0 [")

    def test_by_a_module_that_is_shadowed_by_pythons_own(self, site, registry):
        site.install("bad", operators={"bad.mean": "json:scale"}, json=scale())
        assert "no attribute 'scale'" in refusal(registry, "bad.mean")
        assert self.others_work(registry)

    def test_by_a_module_that_is_shadowed_by_a_file_that_raises(self, site, registry, tmp_path):
        self.install(site, scale())
        site.path.joinpath("bad_ops.py").write_text("raise ValueError('mine')")
        got = refusal(registry, "bad.scale")
        assert f"fails to import: ValueError: mine, in {site.path / 'bad_ops.py'}. Other" in got

    def test_by_a_prefix_that_is_a_module_of_opgrads(self, site):
        site.install("bad", operators={"nn.scale": "bad_ops:scale"}, bad_ops=scale(5))
        nn = "import opgrad; print(opgrad.nn.__name__, opgrad.ops.nn.scale(2.0).item())"
        assert run(site, "-c", nn).stdout.split() == ["opgrad.nn", "10.0"]

    def test_by_a_prefix_that_is_an_operator(self, site, registry):
        site.install("bad", operators={"good.scale.x": "bad_ops:scale"}, bad_ops=TRAP)
        assert "has the prefix 'good.scale', which is itself" in refusal(registry, "good.scale.x")
        assert self.others_work(registry)

    @pytest.mark.parametrize(
        "answer", ["return np.array([True, False])", "return True", "raise ZeroDivisionError"]
    )
    def test_by_an_equality_of_its_own(self, site, registry, answer):
        extra = f"__hash__ = None\n    def __eq__(self, other): {answer}"
        self.install(site, scale(before="import numpy as np", extra=extra))
        assert "Scale defines __eq__" in refusal(registry, "bad.scale")
        assert self.others_work(registry)

    def test_by_an_equality_of_a_plugin_that_is_no_operator(self, registry):
        class Tracer:
            def __eq__(self, other):
                return [True, False]

            __hash__ = None

        with pytest.raises(RegistryError, match="Tracer defines __eq__"):
            registry.register_plugin(Tracer())
        assert self.others_work(registry)


class TestMetadata:
    @pytest.fixture(autouse=True)
    def good(self, site):
        site.install("good", operators={"good.scale": "good_ops:scale"}, good_ops=scale(2))

    def test_that_is_no_text_leaves_the_others(self, site):
        site.install("bad", operators={"bad.scale": "bad_ops:scale"}, bad_ops=scale(3))
        (site.path / "bad-1.0.dist-info" / "METADATA").write_bytes(b"Name: b\xe4d\nVersion: 1\n")
        code = "import opgrad as o; print(o.ops.good.scale(1.0), *dir(o.ops)[:2], o.exp(0.0))"
        assert run(site, "-c", code).stdout.split() == ["tensor(2.)", "abs", "add", "tensor(1.)"]

    def test_of_entry_points_that_cannot_be_read_is_left_out_with_a_warning(self, site):
        site.install("bad", operators={"bad.scale": "bad_ops:scale"}, bad_ops=scale(3))
        (site.path / "bad-1.0.dist-info" / "entry_points.txt").write_bytes(b"[a]\nb\xe4 = c:d\n")
        code = "import opgrad as o; print(o.ops.good.scale(1.0), o.exp(0.0))"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(site.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["tensor(2.)", "tensor(1.)"]
        assert "RuntimeWarning: the entry points of bad cannot be read, and are left" in done.stderr

    @pytest.mark.parametrize("text", ["Version: 1\n", "Name: bad\n", ""])
    def test_that_lacks_name_or_version_is_no_error(self, site, registry, text):
        site.install("bad", operators={"bad.scale": "bad_ops:scale"}, bad_ops=scale(3))
        (site.path / "bad-1.0.dist-info" / "METADATA").write_text(text)
        registry.rescan()
        assert registry.load("bad.scale")(1.0).item() == 3.0
        assert str(registry.entry("bad.scale")).startswith(("bad", "bad-1.0.dist-info"))


class TestNamesThatAreNone:
    @pytest.fixture(autouse=True)
    def good(self, site):
        site.install("good", operators={"good.scale": "good_ops:scale"}, good_ops=scale(2))

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("mul", "evil:x", "needs a prefix: bare names belong to opgrad"),
            ("good", "evil:x", "needs a prefix: bare names belong to opgrad"),
            ("evil._hidden", "evil:x", "'_hidden' is no attribute; expected identifiers"),
            ("evil.lambda", "evil:x", "'lambda' is no attribute"),
            ("evil.a b", "evil:x", "'a b' is no attribute"),
            ("evil..y", "evil:x", "'' is no attribute"),
            ("evil.y", "evil:x:y", "points at 'evil:x:y'; expected 'module:object'"),
            ("evil.y", "not a name", "points at 'not a name'; expected 'module:object'"),
        ],
    )
    def test_are_errors_of_their_own_and_claim_nothing(self, site, name, value, said):
        site.install("evil", operators={name: value}, evil=TRAP)
        own = Registry(environment={})
        (entry,) = [e for e in own.entries()[name] if e.distribution == "evil"]
        assert said in next(iter(wrong_names(entry, own.entries())))
        assert own.load("mul")(2.0, 3.0).item() == 6.0
        assert own.load("good.scale")(1.0).item() == 2.0
        assert opgrad.ops.good.scale(1.0).item() == 2.0

    def test_of_overrides_without_a_base_are_no_prefixes(self, site):
        site.install("evil", overrides={"good": "evil:x"}, evil=TRAP)
        assert Registry(environment={}).load("good.scale")(1.0).item() == 2.0
        assert opgrad.ops.good.scale(1.0).item() == 2.0

    @pytest.mark.parametrize(
        ("group", "name"),
        [("operators", "compute"), ("overrides", "compute"), ("operators", "e vil.compute")],
    )
    @pytest.mark.parametrize("distributions", [["evil"], ["evil", "worse"]])
    def test_are_no_attributes_of_anything(self, site, group, name, distributions):
        for each in distributions:
            site.install(each, **{group: {name: "evil:x"}}, evil=TRAP)
        for place in (opgrad, opgrad.ops, opgrad.ones(1)):
            assert not hasattr(place, "compute")
            assert getattr(place, "compute", None) is None
            assert "compute" not in dir(opgrad.ops)
        assert not hasattr(opgrad.ones(1), "compute_")
        with pytest.raises(RegistryError, match=r"of evil 1\.0|evil 1\.0 \(evil:x\) overrides"):
            installed.load(name)

    @pytest.mark.parametrize("place", [opgrad, opgrad.ops, opgrad.ones(1)])
    def test_are_attribute_errors_that_say_why(self, site, place):
        site.install("evil", operators={"compute": "evil:x"}, evil=TRAP)
        with pytest.raises(AttributeError, match=r"'compute' of evil 1.0 .* needs a prefix"):
            place.compute  # noqa: B018 - it is the look that fails

    def test_leave_a_method_of_the_same_name(self, site):
        source = scale(3, extra="method = True")
        site.install("evil", operators={"wave": "evil:x"}, evil=TRAP)
        site.install("acme", operators={"acme.wave": "acme_ops:scale"}, acme_ops=source)
        assert opgrad.ones(1).wave().tolist() == [3.0]

    def test_the_remedy_of_a_clash_is_never_opgrad_itself(self, site):
        site.install("opgrad-copy", operators={"mul": "evil:x"}, evil=TRAP)
        site.install("one", overrides={"mul": "evil:x"})
        site.install("two", overrides={"mul": "evil:x"})
        got = refusal(Registry(environment={}), "mul")
        assert "both override 'mul'" in got
        assert got.rpartition("OPGRAD_DISABLE=")[2] in ("one.", "two.")


class TestAnOperatorOfAnothers:
    def test_under_a_second_name_leaves_the_first(self, site):
        source = "from opgrad_plugins.shape import stack"
        site.install("evil", operators={"evil.stack": "evil_ops:stack"}, evil_ops=source)
        for names in (("evil.stack", "stack"), ("stack", "evil.stack")):
            own = Registry(environment={})
            made = [own.load(name) for name in names]
            assert [each.name for each in made] == list(names)
            assert all(each([1.0, 2.0]).tolist() == [1.0, 2.0] for each in made)

    def test_that_is_broken_does_not_hide_a_method(self, site):
        source = scale(3, extra="method = True")
        site.install("good", operators={"good.wave": "good_ops:scale"}, good_ops=source)
        site.install("evil", operators={"evil.wave": "evil_ops:scale"}, evil_ops="1 / 0")
        assert opgrad.ones(1).wave().tolist() == [3.0]

    def test_that_is_broken_makes_no_tensor_raise_when_it_is_looked_at(self, site):
        site.install("evil", operators={"evil.iloc": "evil_ops:scale"}, evil_ops="1 / 0")
        assert not hasattr(opgrad.ones(1), "iloc")
        with pytest.raises(AttributeError, match=r"no method 'iloc' that can be used: .*ZeroDiv"):
            opgrad.ones(1).iloc()

    @pytest.mark.parametrize("source", ["raise SystemExit(7)", scale(3, extra="aliases = None")])
    def test_that_overrides_leaves_the_aliases_of_all(self, site, source):
        site.install("evil", overrides={"log": "evil_ops:scale"}, evil_ops=source)
        own = Registry(environment={})
        assert own.load("multiply").name == "mul"
        with pytest.raises(opgrad.UnknownOperatorError):
            own.load("nope")

    def test_whose_attributes_raise_is_an_error_of_its_own(self, site, registry):
        extra = "aliases = property(lambda self: 1 / 0)"
        points = {"acme.bad": "bad_ops:scale", "acme.good": "good_ops:scale"}
        site.install("acme", operators=points, bad_ops=scale(extra=extra), good_ops=scale(2))
        assert "ZeroDivisionError" in refusal(registry, "acme.bad")
        assert registry.load("acme.good")(1.0).item() == 2.0
        with pytest.raises(opgrad.UnknownOperatorError, match="Of an operator that is out no"):
            registry.load("acme.nope")

    def test_that_is_blocked_is_named_where_an_alias_is_not_found(self, registry):
        registry.block("mul")
        with pytest.raises(opgrad.UnknownOperatorError, match=r"no alias is known: .*'mul'"):
            registry.load("multiply")
        said = [
            r"'zyxwv'\. Of an operator that",
            r"'expp'; did you mean 'exp'\? Of an operator that",
        ]
        for name, start in zip(["zyxwv", "expp"], said, strict=True):
            with pytest.raises(opgrad.UnknownOperatorError, match=start):
                registry.load(name)


class TestMethods:
    def test_of_third_parties_have_the_last_part_of_the_name(self, site):
        source = scale(3, extra="method = True")
        site.install("acme", operators={"acme.triple": "acme_ops:scale"}, acme_ops=source)
        x = opgrad.tensor([1.0, 2.0], requires_grad=True)
        out = x.triple()
        out.sum().backward()
        assert (out.tolist(), x.grad.tolist()) == ([3.0, 6.0], [3.0, 3.0])
        assert "triple" in dir(x)

    def test_may_be_applied_in_place(self, site):
        source = scale(3, extra="method = True")
        site.install("acme", operators={"acme.triple": "acme_ops:scale"}, acme_ops=source)
        x = opgrad.tensor([1.0, 2.0])
        assert x.triple_() is x
        assert x.tolist() == [3.0, 6.0]

    def test_are_not_there_for_operators_that_do_not_say_so(self, site):
        site.install("acme", operators={"acme.triple": "acme_ops:scale"}, acme_ops=scale())
        with pytest.raises(AttributeError, match="no attribute 'triple'"):
            opgrad.ones(2).triple()

    @pytest.mark.parametrize("name", ["exp", "backward", "shape", "item", "where"])
    def test_that_tensors_have_already_are_an_error_of_that_operator(self, site, registry, name):
        source = scale(3, extra="method = True")
        site.install("acme", operators={f"acme.{name}": "acme_ops:scale"}, acme_ops=source)
        got = refusal(registry, f"acme.{name}")
        assert f"says `method = True`, but tensors have {name!r} already" in got
        assert opgrad.exp(opgrad.zeros(1)).exp().ndim == 1

    def test_that_two_offer_are_an_error_with_both(self, site):
        source = scale(3, extra="method = True")
        site.install("acme", operators={"acme.triple": "acme_ops:scale"}, acme_ops=source)
        site.install("other", "2", operators={"other.triple": "o_ops:scale"}, o_ops=source)
        with pytest.raises(RegistryError, match=r"acme 1.0 .* and other 2 .*OPGRAD_DISABLE=other"):
            opgrad.ones(2).triple()
        with installed.blocked("other.triple"):
            assert opgrad.ones(2).triple().tolist() == [3.0, 3.0]


class TestAliases:
    @pytest.mark.parametrize(
        ("aliases", "said"),
        [
            ("('a', 'b', 'a')", "has the alias 'a' twice"),
            ("('not a name',)", "has the alias 'not a name'; expected a name"),
            ("('other',)", "has the alias 'other', and 'acme.other' is an operator of acme 1.0"),
        ],
    )
    def test_that_are_wrong_are_an_error_of_that_operator(self, site, registry, aliases, said):
        source = scale(3, extra=f"aliases = {aliases}")
        points = {"acme.triple": "acme_ops:scale", "acme.other": "fine_ops:scale"}
        site.install("acme", operators=points, acme_ops=source, fine_ops=scale(4))
        assert said in refusal(registry, "acme.triple")
        assert registry.load("acme.other")(1.0).item() == 4.0

    def test_of_two_operators_are_an_error_with_both(self, site, registry):
        source = scale(3, extra="aliases = ('both',)")
        points = {"acme.triple": "one_ops:scale", "acme.again": "two_ops:scale"}
        site.install("acme", operators=points, one_ops=source, two_ops=source)
        got = refusal(registry, "acme.both")
        for part in ("'acme.both' is claimed twice", "'acme.triple'", "'acme.again'", "acme 1.0"):
            assert part in got
        assert registry.load("acme.triple")(1.0).item() == 3.0


class TestRequirements:
    def install(self, site, *requires, source=TRAP):
        points = {"acme.triple": "acme_ops:scale"}
        site.install("acme", "2.5", operators=points, requires=requires, acme_ops=source)

    @pytest.mark.parametrize(
        ("requirement", "installed"),
        [("opgrad>=99", "opgrad"), ("numpy<2", "numpy"), ("NumPy ==1.26.*", "NumPy")],
    )
    def test_that_are_not_met_are_told_before_anything_is_imported(
        self, site, registry, requirement, installed
    ):
        from importlib.metadata import version

        self.install(site, requirement)
        got = refusal(registry, "acme.triple")
        assert "operator 'acme.triple' of acme 2.5" in got
        assert "is not imported: acme requires" in got
        assert f"and {installed} {version(installed)} is installed" in got

    def test_of_what_is_not_installed_are_told(self, site, registry):
        self.install(site, "not-there>=1")
        assert "acme requires not-there>=1, which is not installed" in refusal(
            registry, "acme.triple"
        )

    def test_that_are_none_are_told(self, site, registry):
        self.install(site, "numpy >>> 2")
        assert "'numpy >>> 2', which is no requirement" in refusal(registry, "acme.triple")

    @pytest.mark.parametrize(
        "requirement",
        ["numpy>=2", "opgrad", "not-there; extra == 'all'", "not-there; python_version < '3'"],
    )
    def test_that_are_met_or_do_not_apply_are_not_told(self, site, registry, requirement):
        self.install(site, requirement, source=scale(3))
        assert registry.load("acme.triple")(1.0).item() == 3.0

    @pytest.mark.parametrize(
        ("requirement", "module", "install"),
        [
            ("not-there>=1.5", "not_there", "pip install 'not-there>=1.5'"),
            ("Not.There", "not_there", "pip install Not.There"),
            (
                'not_there (>=1,<2) ; extra == "all"',
                "not_there.inner",
                "pip install 'not_there>=1,<2'",
            ),
            ("not-there[fast]~=1.0", "not_there", "pip install 'not-there[fast]~=1.0'"),
        ],
    )
    def test_of_what_an_import_lacks_are_told_with_what_to_install(
        self, site, registry, monkeypatch, requirement, module, install
    ):
        monkeypatch.setattr(requirements, "readable", lambda: False)
        self.install(site, "numpy", requirement, source=f"import {module}")
        got = refusal(registry, "acme.triple")
        assert "fails to import: ModuleNotFoundError: No module named 'not_there'" in got
        assert f"acme requires {requirement!r}, which is not installed: `{install}`" in got
        assert "repair" not in got
        assert got.endswith("or block it with OPGRAD_DISABLE=acme.triple.")

    @pytest.mark.parametrize("module", ["not_there", "numpy.not_there"])
    def test_that_an_import_does_not_lack_are_not_told(self, site, registry, module):
        self.install(site, "numpy", source=f"import {module}")
        assert "repair or uninstall acme" in refusal(registry, "acme.triple")

    @pytest.mark.parametrize(
        ("requires", "named"),
        [
            (["opgrad>=99"], "opgrad>=99"),
            (
                ["scipy>=1", "NumPy (<3) ; python_version > '3'", "opgrad~=1.0"],
                "NumPy<3, opgrad~=1.0",
            ),
            (["opgrad", "numpy", "scipy>=1"], None),
            (["numpy>=2; extra == 'all'"], None),
            ([], None),
        ],
    )
    def test_that_nobody_asks_about_are_told(self, site, monkeypatch, requires, named):
        self.install(site, *requires)
        assert requirements.unasked("acme") is None
        monkeypatch.setattr(requirements, "readable", lambda: False)
        told = "is not compared with what is installed, which takes `pip install opgrad[plugins]`"
        assert requirements.unasked("acme") == (named and f"{named} {told}")
        assert requirements.unasked("opgrad") is None

    def test_cannot_be_read_without_packaging(self, site, registry, monkeypatch):
        monkeypatch.setitem(sys.modules, "packaging.requirements", None)
        requirements.readable.cache_clear()
        self.install(site, "opgrad>=99", source=scale(3))
        assert not requirements.readable()
        assert registry.load("acme.triple")(1.0).item() == 3.0
        monkeypatch.undo()
        requirements.readable.cache_clear()


class TestAnOperatorIsNoPrefix:
    def test_what_is_asked_below_it_is_an_error_that_says_so(self):
        with pytest.raises(AttributeError) as error:
            opgrad.ops.exp.soft  # noqa: B018 - it is the look that fails
        assert str(error.value) == (
            "'Exp' object has no attribute 'soft'; 'exp' is an operator, and no prefix of others "
            "such as 'exp.soft'"
        )
        assert (error.value.name, error.value.obj) == ("soft", opgrad.ops.exp)

    def test_no_other_error_of_an_attribute_is_hidden(self):
        class Odd(type(opgrad.ops.exp)):
            @property
            def broken(self):
                raise AttributeError(name="of its own")

        with pytest.raises(AttributeError) as error:
            Odd().broken  # noqa: B018 - it is the look that fails
        assert error.value.name == "of its own"
        assert not hasattr(Odd(), "_nothing")
        assert copy.copy(opgrad.ops.exp)(0.0).item() == 1.0
        assert copy.deepcopy(opgrad.ops.exp).name == "exp"


class TestBlockedByTheEnvironment:
    def test_what_is_not_there_is_a_warning_with_the_nearest_once(self):
        own = Registry(environment={"OPGRAD_DISABLE": "sigmiod,mul"})
        with pytest.warns(RuntimeWarning) as caught:
            assert "mul" not in own.names()
        own.rescan()
        assert "sigmoid" in own.names()
        (warning,) = caught
        assert str(warning.message) == (
            "OPGRAD_DISABLE names 'sigmiod', and no operator or distribution of that name is "
            "installed here, so that it blocks nothing; did you mean 'sigmoid'?"
        )

    def test_what_is_there_is_none(self, site):
        site.install("Acme_Ops", operators={"acme.f": "acme_trap:f"}, acme_trap=TRAP)
        site.install("fast", overrides={"exp": "acme_trap:f"})
        listed = "acme.f, exp@fast, acme-ops,,fast"
        assert "acme.f" not in Registry(environment={"OPGRAD_DISABLE": listed}).names()

    def test_it_is_told_by_the_program(self, site):
        command = [sys.executable, "-c", "import opgrad; print(opgrad.exp(0.0))"]
        environment = {**os.environ, "OPGRAD_DISABLE": "sigmiod"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "tensor(1.)\n"
        assert done.stderr.count("RuntimeWarning: OPGRAD_DISABLE names 'sigmiod'") == 1


class TestBlockedInAWithStatement:
    def test_an_operator_is_blocked_and_comes_back(self):
        with installed.blocked("exp"), pytest.raises(RegistryError, match=r"'exp' .* is blocked"):
            opgrad.exp(0.0)
        assert opgrad.exp(0.0).item() == 1.0

    def test_a_distribution_is(self, site, registry):
        site.install("acme", operators={"acme.triple": "acme_ops:scale"}, acme_ops=scale())
        with registry.blocked("acme"):
            assert "acme.triple" not in registry.names()
        assert "acme.triple" in registry.names()

    def test_an_override_gives_way_to_its_base(self, site, registry):
        source = scale(-1).replace("forward(self, x, /)", "forward(self, x, /, *, xp)")
        site.install("fast", overrides={"exp": "fast_ops:scale"}, fast_ops=source)
        assert registry.load("exp")(2.0).item() == -2.0
        with registry.blocked("fast"):
            assert registry.load("exp")(0.0).item() == 1.0
        assert registry.load("exp")(2.0).item() == -2.0

    def test_a_distribution_is_whatever_way_its_name_is_written(self, site):
        points = {"acme.triple": "acme_ops:scale"}
        site.install("Acme_Ops", operators=points, acme_ops=scale())
        assert "acme.triple" not in Registry(environment={"OPGRAD_DISABLE": "acme-ops"}).names()
        with installed.blocked("ACME.ops"):
            assert "acme.triple" not in installed.names()

    @pytest.mark.parametrize("name", ["expp", "acme.alias", "no-such-distribution"])
    def test_what_is_not_there_is_an_error(self, registry, name):
        with pytest.raises(ValueError, match=f"block: {name!r} is neither an operator"):
            registry.block(name)
        with pytest.raises(ValueError, match=r"neither"), registry.blocked(name):
            pass

    def test_an_alias_is_an_error_with_the_operators_name(self, registry):
        said = "block: 'absolute' is an alias; an operator is blocked by its name, 'abs'"
        for block in (registry.block, lambda name: registry.blocked(name).__enter__()):
            with pytest.raises(ValueError, match=f"^{said}$"):
                block("absolute")

    def test_what_might_be_an_alias_of_others_imports_nothing_of_theirs(self, site, registry):
        site.install("acme", operators={"acme.triple": "acme_trap:f"}, acme_trap=TRAP)
        with pytest.raises(ValueError, match=r"neither .*; did you mean 'acme.triple'\?$"):
            registry.block("acme.tripel")
        assert site.imported() == []

    @pytest.mark.parametrize("name", [3, None, ["exp"]])
    def test_what_is_no_name_is_an_error(self, registry, name):
        said = rf"block got {re.escape(repr(name))}; expected names of operators or distributions"
        with pytest.raises(TypeError, match=said):
            registry.block(name)
        with pytest.raises(TypeError, match=said), registry.blocked("exp", name):
            pass
        assert "exp" in registry.names()

    def test_several_statements_count(self, registry):
        with registry.blocked("exp"):
            with registry.blocked("exp"):
                pass
            registry.unblock("exp")
            assert "exp" not in registry.names()
        assert "exp" in registry.names()

    def test_it_comes_back_after_an_exception(self, registry):
        with pytest.raises(ZeroDivisionError), registry.blocked("exp"):
            raise ZeroDivisionError
        assert "exp" in registry.names()

    def test_what_was_blocked_before_stays_so(self, registry):
        registry.block("exp")
        with registry.blocked("exp", "log"):
            assert not {"exp", "log"} & {*registry.names()}
        assert "exp" not in registry.names()
        assert "log" in registry.names()

    def test_it_holds_in_other_threads(self):
        said = []
        with installed.blocked("exp"):
            thread = threading.Thread(target=lambda: said.append("exp" in installed.names()))
            thread.start()
            thread.join()
        assert said == [False]
