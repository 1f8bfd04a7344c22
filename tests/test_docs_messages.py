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

#: The files whose messages an author or a user of plugins may meet, or the functions in them.
FILES = {
    "around": (),
    "batched": ("_result",),
    "blocking": (),
    "contract": (),
    "defining": (),
    "engine": ("_misfit",),
    "entries": (),
    "fingerprint": (),
    "forward": ("_total",),
    "naming": (),
    "once": (),
    "operands": (),
    "operator": (),
    "plugins": (),
    "registry": (),
    "requirements": (),
    "trust": (),
}

#: These describe a value, for a place in a message.
DESCRIPTIONS = ("__repr__", "__str__", "_amount", "describe", "origin")

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
        return {plain(text) for text in texts if " " in text and re.search("[a-z]{2}", text)}

    def _said(self):
        for node in ast.walk(self.node):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("msg", "reason"):
                yield node.value
            elif isinstance(node, ast.Yield | ast.Return):
                several = isinstance(node.value, ast.Tuple | ast.List)
                yield from node.value.elts[:1] if several else [node.value]
            elif isinstance(node, ast.BoolOp):
                yield from (self._value(each) for each in node.values)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("s.append"):
                yield node.args[0]

    def _texts(self, node):
        """Return the texts that an expression may be; none if it is not written as text."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [node.value]
        if isinstance(node, ast.JoinedStr):
            return ["".join(parts) for parts in itertools.product(*map(self._part, node.values))]
        if isinstance(node, ast.IfExp):
            return self._texts(node.body) + self._texts(node.orelse)
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


def said_in(file):
    """Return the messages of one file, or of the functions in it that are asked about."""
    tree = ast.parse((ROOT / "opgrad" / f"{file}.py").read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    chosen = FILES[file] or {each.name for each in functions}.difference(DESCRIPTIONS)
    found = [Function(each).messages() for each in functions if each.name in chosen]
    return set().union(*found) - {IMPOSSIBLE}


def documented():
    """Return the messages of the page: its blocks of text, and the first cells of its tables."""
    blocks = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| (`+)(.+?)\1 +\|", PAGE, re.MULTILINE)
    return [plain(text) for text in (*blocks, *(text for _, text in cells))]


@pytest.mark.parametrize("file", FILES)
def test_every_message_of_the_program_is_explained(file):
    assert said_in(file) - set(documented()) == set()


def test_no_other_message_is():
    program = set().union(*map(said_in, FILES))
    assert set(documented()) - program == set()


def test_none_is_explained_twice():
    messages = documented()
    assert sorted(messages) == sorted(set(messages))


def test_a_message_that_is_met_is_found():
    with pytest.raises(OperatorError) as error:
        Operator.define(lambda x, /: x, backward=lambda slope: slope, self_check=lambda rng: [])
    expected = "{class}.{hook} names {argument}, which is not there to give{hint}; it may name {}"
    assert found(str(error.value)) == [plain(expected)]


def found(text):
    """Return the messages of the page that a text is, with values in their places."""
    patterns = {each: re.escape(each).replace(r"\{\}", ".*") for each in documented()}
    return [each for each, pattern in patterns.items() if re.fullmatch(pattern, text)]
