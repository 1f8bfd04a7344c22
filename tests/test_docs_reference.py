"""The reference for authors and the program agree, in both directions."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pluggy
import pytest

import opgrad
from opgrad import Case, Operator, OperatorError, hookimpl, hookspecs
from opgrad.entries import GROUP, OVERRIDES, Entry
from opgrad.registry import Registry

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")


def section(title):
    """Return what stands under a heading, down to the next."""
    return re.search(rf"^#+ {title}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def table(head, text=PAGE):
    """Return the cells of the first table in a text whose first head is the given one."""
    lines = re.search(rf"^\| {head} .*\n\|[- |]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [line.strip("|").split(" | ") for line in lines[1].splitlines()]
    return [[cell.strip() for cell in row] for row in rows]


def code(cell):
    """Return what stands in backticks in a cell."""
    return re.findall("`(.*?)`", cell)


def firsts(*head):
    """Return what stands in the first cells of a table."""
    return [name for first, *_ in table(*head) for name in code(first)]


def written(name, function):
    """Write a signature without self and annotations."""
    given = inspect.signature(function).parameters.values()
    kept = [each.replace(annotation=each.empty) for each in given if each.name != "self"]
    return f"{name}{inspect.Signature(kept)}"


# ---------------------------------------------------------------------------------- the hooks

SIGNATURES = {code(name)[0]: code(signature)[0] for name, signature in table("Hook")}
INPUTS = {"a, b, /": {}, "x, /": {}, "arrays, /": {"variadic": True}}


def operator(inputs, residuals=(), **hooks):
    """Define an operator with some inputs; a hook is what stands behind its name."""
    arguments = {"forward": f"(self, {inputs}, axis=None, *, xp)", "self_check": "(self, rng)"}
    members = {**INPUTS[inputs], "residuals": residuals}
    for name, signature in (arguments | hooks).items():
        parameters = signature.strip("()")
        members[name] = hookimpl(eval(f"lambda {parameters}: None"))
    return type("Sample", (Operator,), members)()


def complaint(*arguments, **hooks):
    with pytest.raises(OperatorError) as error:
        operator(*arguments, **hooks)
    return str(error.value)


def names(signature):
    """Return the arguments of a documented signature, other than self."""
    return re.search(r"\((.*)\)", signature)[1].split(", ")[1:]


@pytest.mark.parametrize("hook", sorted(SIGNATURES.keys() - {"forward"}))
def test_a_hook_may_name_what_is_documented_and_nothing_else(hook):
    each = {name: SIGNATURES[name].removeprefix(name) for name in ("backward_a", "backward_b")}
    others = {} if hook == "backward" else each
    if hook.startswith("jvp"):
        others |= {"jvp_a": "(self, tangent)", "jvp_b": "(self, tangent)"}
    said = complaint("a, b, /", ("mask",), **others | {hook: "(self, nonsense)"})
    offered = said.partition("it may name ")[2].split(", ")
    assert sorted(names(SIGNATURES[hook])) == sorted(offered)


def test_the_documented_hooks_make_an_operator_together():
    hooks = {name: each.removeprefix(name) for name, each in SIGNATURES.items()}
    del hooks["backward"]  # it stands for those of single inputs
    made = operator("a, b, /", ("mask",), **hooks)
    assert made.contract.hooks.keys() == hooks.keys()
    assert str(inspect.signature(made)) == "(a, b, /, axis=None)"


@pytest.mark.parametrize("row", table("Inputs"), ids=lambda row: row[0])
def test_the_hooks_that_there_are_depend_on_the_inputs(row):
    said = complaint(code(row[0])[0], backward_nonsense="(self, grad)")
    names = said.partition("hooks are ")[2].partition(";")[0]
    assert code(row[1]) == names.split(", ")


def test_the_signature_of_every_hook_is_documented():
    rows = {code(inputs)[0]: code(hooks) for inputs, hooks in table("Inputs")}
    assert sorted(SIGNATURES) == sorted(rows["a, b, /"])


def test_every_name_that_a_hook_may_name_is_explained():
    kinds = {"a": "<input>", "b": "<input>", "axis": "<parameter>", "mask": "<residual>"}
    kinds |= {"a_shape": "<input>_shape", "b_shape": "<input>_shape"}
    hooks = [each for name, each in SIGNATURES.items() if name != "forward"]
    used = {kinds.get(name, name) for each in hooks for name in names(each)}
    assert sorted(firsts("Name", section("What a hook may name"))) == sorted(used)


def test_the_hooks_of_plugins_have_the_documented_signatures():
    specified = {
        written(name, each)
        for name, each in vars(hookspecs).items()
        if hasattr(each, "opgrad_spec")
    }
    assert set(firsts("Hook", section("Hooks for plugins"))) == specified


def test_the_markers_are_those_that_there_are():
    kinds = pluggy.HookimplMarker | pluggy.HookspecMarker
    there = [name for name, each in vars(hookspecs).items() if isinstance(each, kinds)]
    assert firsts("Marker") == [f"opgrad.hookspecs.{name}" for name in there]
    assert hookspecs.hookimpl is opgrad.hookimpl


# ---------------------------------------------------------------------------------- the class


def test_the_attributes_of_an_operator_have_the_documented_defaults():
    documented = {code(name)[0]: code(default)[0] for name, default, _ in table("Attribute")}
    declared = [name for name in vars(Operator)["__annotations__"] if name in vars(Operator)]
    assert documented == {name: repr(getattr(Operator, name)) for name in declared}


def test_so_have_its_methods():
    declared = vars(Operator).keys() - vars(Operator)["__annotations__"].keys()
    members = {name: vars(Operator)[name] for name in declared if not name.startswith("_")}
    expected = {
        written(name, getattr(Operator, name)) if callable(getattr(Operator, name)) else name
        for name in members
    }
    assert set(firsts("Member")) == expected


def test_an_instance_has_the_documented_attributes():
    annotated = vars(Operator)["__annotations__"].keys() - vars(Operator).keys()
    said = re.search(r"An instance has (.*?)\n\n", PAGE, re.DOTALL)[1]
    assert set(code(said)) == annotated


def test_a_case_has_the_documented_signature():
    assert f"`{written('Case', Case)}`" in PAGE


# --------------------------------------------------------------------- groups and variables


def sources():
    paths = [*ROOT.glob("opgrad/**/*.py"), *ROOT.glob("opgrad_plugins/**/*.py")]
    return [path.read_text(encoding="utf-8") for path in (*paths, ROOT / "opgrad_pytest.py")]


def test_the_groups_of_entry_points_are_those_that_are_read():
    others = {
        group for text in sources() for group in re.findall(r"\.load_plugins\(\"(.*)\"", text)
    }
    assert set(firsts("Group")) == {GROUP, OVERRIDES, *others}


def test_the_variables_of_the_environment_are_those_that_are_read():
    found = {name for text in sources() for name in re.findall(r"\bOPGRAD_[A-Z_]+\b", text)}
    assert set(firsts("Variable")) == found


# ------------------------------------------------------------------------------- the registry


REGISTRY = {code(name)[0]: what for name, what in table("Name", section("The registry"))}


def test_the_registry_has_the_documented_names():
    tree = ast.parse((ROOT / "opgrad" / "registry.py").read_text(encoding="utf-8"))
    defined = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            defined.update(re.findall(r"\w+", ast.unparse(node.targets[0])))
    assert REGISTRY.keys() == {name for name in defined if not name.startswith("_")}


def test_its_methods_have_the_documented_signatures():
    methods = {
        written(name, each)
        for name, each in vars(Registry).items()
        if inspect.isfunction(each) and not name.startswith("_")
    }
    assert set(firsts("Method")) == methods


def test_an_entry_has_the_documented_fields():
    told = re.search(r"of the class `opgrad.entries.Entry`: (.*?)\n\n", PAGE, re.DOTALL)[1]
    assert set(code(told)) == set(Entry.__dataclass_fields__)
