"""The page on troubleshooting has the messages that the program has, each of them and no other.

They are read off the source. In the page, as here, ``{...}`` stands for a value; what stands
between the braces is free.
"""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import pytest

from opgrad import Operator, OperatorError

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")

#: Of these, an author or a user of plugins meets only what certain functions say.
PARTS = {
    "batched": ("_result",),
    "engine": ("_misfit",),
    "forward": ("_total",),
}

#: What is not read here, by reason: files and folders. All others are.
ELSEWHERE = {
    "of tensors, which everybody may meet, with plugins or without": (
        "__init__", "conversions", "copying", "creation", "differentiable", "dispatch", "drawing",
        "dtypes", "graph", "hooks", "inference", "inplace", "modes", "printing", "profiler",
        "saving", "serialization", "tensor", "views",
    ),
    "of functions that are differentiated, likewise": (
        "anomaly", "autograd", "batching", "draws", "func", "jacobians", "levels", "passes",
        "recomputing", "recording", "trees",
    ),
    "what the verifier finds in gradients, which docs/verifier.md explains": (
        "check/asking", "check/causes", "check/comparing", "check/curves", "check/elements",
        "check/equivalence", "check/mutants", "check/mutations", "check/overriding", "check/page",
        "check/probes", "check/selftest",
    ),
    "called by the verifier alone, with what it takes": ("check/numeric",),
    "it writes source, which is no message": ("calls",),
}  # fmt: skip

#: These describe a value, for a place in a message.
DESCRIPTIONS = (
    "__repr__", "__str__", "_amount", "_derivative", "_epitaph", "_reproducer", "_shadowed_by",
    "_source", "describe", "origin", "status", "told",
)  # fmt: skip

#: The place of the message among the arguments of what makes a finding or an error of it.
SAYING = {
    "Answer": 1, "ArgumentTypeError": 0, "Finding": 1, "RecordError": 0, "RefusalError": 0,
    "_refuse": 1, "add_note": 0, "failed": 0, "failure": 2,
}  # fmt: skip

#: Where nothing differs, nothing is said.
IMPOSSIBLE = "it was made without {}, here is none"


class Function:
    """A function of the program, and what it says."""

    def __init__(self, node):
        self.node = node
        self.values = {}
        for each in ast.walk(node):
            if isinstance(each, ast.Assign):
                self._assign(each.targets[0], each.value)

    def _assign(self, target, value):
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        values = [value]
        if isinstance(target, ast.Tuple):
            values = value.elts if isinstance(value, ast.Tuple) else [None] * len(names)
        for name, each in zip(names, values, strict=True):
            self.values.setdefault(ast.unparse(name), []).append(each)

    def messages(self):
        """Return what is assigned to ``msg``, yielded, returned or collected, as templates."""
        texts = (text for said in self._said() for text in self._texts(said))
        said = (re.sub(r"^opgrad[.\w]*: ", "", text) for text in texts)  # the program's name
        return {plain(text) for text in said if " " in text and re.search("[a-z]{2}", text)}

    def _said(self):
        for node in ast.walk(self.node):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("msg", "reason"):
                yield node.value
            elif isinstance(node, ast.Yield | ast.Return):
                several = isinstance(node.value, ast.Tuple | ast.List)
                yield from node.value.elts if several else [node.value]
            elif isinstance(node, ast.BoolOp):
                yield from (self._value(each) for each in node.values)
            elif isinstance(node, ast.Call):
                yield from self._told(ast.unparse(node.func), node.args)

    def _told(self, called, arguments):
        place = SAYING.get(called.rpartition(".")[2])
        if called.endswith(("s.append", "stderr.write")):
            place = 0
        if place is not None:
            yield from arguments[place : place + 1]

    def _texts(self, node):
        """Return the texts that an expression may be; none if it is not written as text."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [node.value]
        if isinstance(node, ast.JoinedStr):
            return ["".join(parts) for parts in itertools.product(*map(self._part, node.values))]
        if isinstance(node, ast.IfExp):
            return self._texts(node.body) + self._texts(node.orelse)
        if isinstance(node, ast.BinOp):
            return [text + "{}" for text in self._texts(node.left)]
        return []

    def _part(self, node):
        """Return what may stand in a part of a text: what a name stands for, if that is text."""
        if isinstance(node, ast.Constant):
            return [node.value]
        value = self._value(node.value)
        wholly = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
        texts = [text for each in wholly for text in self._texts(each)]
        return texts if len(texts) >= len(wholly) and all(texts) else ["{}"]

    def _value(self, name):
        values = self.values.get(ast.unparse(name), [None])
        return values[0] if len(values) == 1 else None


def plain(text):
    """Write all placeholders alike, quoted or not, and everything on one line."""
    return " ".join(re.sub(r"'\{[^{}]*\}'|\{[^{}]*\}", "{}", text).split())


def files():
    """Return every file that is read here, as a path without its end."""
    left_out = tuple(itertools.chain.from_iterable(ELSEWHERE.values()))
    found = (path.relative_to(ROOT / "opgrad") for path in (ROOT / "opgrad").rglob("*.py"))
    paths = sorted(path.with_suffix("") for path in found)
    return [path.as_posix() for path in paths if not any(map(path.is_relative_to, left_out))]


def said_in(file):
    """Return the messages of one file, or of the functions in it that are asked about."""
    tree = ast.parse((ROOT / "opgrad" / f"{file}.py").read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    chosen = PARTS.get(file) or {each.name for each in functions}.difference(DESCRIPTIONS)
    found = [Function(each).messages() for each in functions if each.name in chosen]
    return set().union(*found) - {IMPOSSIBLE}


def documented():
    """Return the messages of the page: its blocks of text, and the first cells of its tables."""
    blocks = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| (`+)(.+?)\1 +\|", PAGE, re.MULTILINE)
    return [plain(text) for text in (*blocks, *(text for _, text in cells))]


def test_nothing_is_left_out_that_is_not_there():
    for name in (*PARTS, *itertools.chain.from_iterable(ELSEWHERE.values())):
        path = ROOT / "opgrad" / name
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


@pytest.mark.parametrize("file", files())
def test_every_message_of_the_program_is_explained(file):
    assert said_in(file) - set(documented()) == set()


def test_no_other_message_is():
    program = set().union(*map(said_in, files()))
    assert set(documented()) - program == set()


def test_none_is_explained_twice():
    messages = documented()
    assert sorted(messages) == sorted(set(messages))


def test_a_message_that_is_met_is_found():
    with pytest.raises(OperatorError) as error:
        Operator.define(lambda x, /: x, backward=lambda slope: slope, self_check=lambda rng: [])
    expected = "{class}.{hook} names {argument}, which is not there to give; it may name {}{}"
    assert found(str(error.value)) == [plain(expected)]


def found(text):
    """Return the messages of the page that a text is, with values in their places."""
    patterns = {each: re.escape(each).replace(r"\{\}", ".*") for each in documented()}
    return [each for each, pattern in patterns.items() if re.fullmatch(pattern, text)]
