"""`opgrad.draw`: what stands in a picture, how it is shown, and how it is saved.

The pictures are read back from their DOT text; where Graphviz's program `dot` is installed, its
own reading of them is compared too.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from graphviz import Source

import opgrad
from opgrad import Case, Operator, hookimpl
from opgrad.drawing import DrawingError

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz's `dot` is missing")
needs_sh = pytest.mark.skipif(os.name != "posix", reason="the stand-in for `dot` is a shell script")


@dataclass
class Read:
    """A picture as its DOT text describes it."""

    boxes: dict[str, list[str]] = field(default_factory=dict)
    looks: dict[str, str] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    labels: dict[tuple[str, str], str | None] = field(default_factory=dict)

    @property
    def titles(self):
        return [lines[0] for box, lines in self.boxes.items() if not box.endswith("_saved")]

    @property
    def flows(self):
        """The edges by the titles of their boxes, without the threads to saved values."""
        names = {box: lines[0] for box, lines in self.boxes.items()}
        return [(names[a], names[b]) for a, b in self.edges if not b.endswith("_saved")]

    def saved(self, title):
        (box,) = (box for box, lines in self.boxes.items() if lines[0] == title)
        assert (box, f"{box}_saved") in self.edges
        return self.boxes[f"{box}_saved"]


def read(drawing):
    picture = Read()
    for line in map(str.strip, drawing.dot.splitlines()):
        if edge := re.fullmatch(r"(\w+) -> (\w+) \[(?:label=(\w+) )?.*\]", line):
            picture.edges.append(edge.group(1, 2))
            picture.labels[edge.group(1, 2)] = edge[3]
        elif box := re.fullmatch(r"(\w+) \[label=<(.*)> (color=.*)\]", line):
            lines = re.sub(r"<(?!BR).*?>", "", box[2])
            picture.boxes[box[1]] = [html.unescape(part) for part in re.split("<BR.*?/>", lines)]
            picture.looks[box[1]] = box[3]
            if box[1].endswith("_saved"):
                assert picture.boxes[box[1]].pop() == ""
    return picture


def leaf(*shape, dtype=opgrad.float64):
    return opgrad.ones(*shape, dtype=dtype, requires_grad=True)


class Halves(Operator):
    """The first two elements, and the rest."""

    @hookimpl
    def forward(self, x, /):
        return x[:2], x[2:]

    @hookimpl
    def backward(self, grad, xp):
        return xp.concat(grad)

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=5))


halves = Halves()


@pytest.fixture
def network():
    """A layer of tanh units below a sigmoid cross-entropy."""
    x, y = opgrad.ones(4, 3, dtype=opgrad.float32), opgrad.zeros(4, 2, dtype=opgrad.float32)
    w, b = leaf(3, 2, dtype=opgrad.float32), leaf(2, dtype=opgrad.float32)
    h = opgrad.tanh(opgrad.matmul(x, w) + b)
    loss = opgrad.nn.functional.binary_cross_entropy_with_logits(h, y)
    return {"x": x, "y": y, "w": w, "b": b, "h": h, "loss": loss}


@pytest.fixture
def drawing():
    a = opgrad.tensor([3.0], requires_grad=True)
    return opgrad.draw(5 * a**2, names={"a": a})


@pytest.fixture
def without_dot(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


class TestStructure:
    def test_leaf_operators_and_result_follow_each_other(self, drawing):
        picture = read(drawing)
        assert picture.boxes == {
            "n0": ["a", "(1,) float64"],
            "n1": ["pow_scalar", "(1,) float64"],
            "n2": ["mul", "(1,) float64"],
            "r0": ["result", "(1,) float64"],
        }
        assert picture.edges == [("n0", "n1"), ("n1", "n2"), ("n2", "r0")]

    def test_edges_run_from_each_input_in_order(self, network):
        assert read(opgrad.draw(network["loss"], names=network)).flows == [
            ("w", "matmul"),
            ("matmul", "add"),
            ("b", "add"),
            ("add", "tanh"),
            ("tanh", "binary_cross_entropy_with_logits"),
            ("binary_cross_entropy_with_logits", "loss"),
        ]

    def test_boxes_are_numbered_from_the_first_input_to_the_result(self):
        a, b, c = leaf(), leaf(), leaf()
        drawing = opgrad.draw(opgrad.exp(c) - b * a, names={"a": a, "b": b, "c": c})
        assert read(drawing).titles == ["c", "exp", "b", "a", "mul", "sub", "result"]

    def test_every_node_of_the_graph_has_one_box_and_every_edge_an_arrow(self):
        a, b = leaf(2, 3), leaf(3)
        result = (a * b + opgrad.exp(a) * a).sum() - (b * b).mean()
        nodes, waiting = {}, [result.grad_fn]
        while waiting:
            node = waiting.pop()
            if node not in nodes:
                nodes[node] = [source for source, _ in node.next_functions if source is not None]
                waiting += nodes[node]
        picture = read(opgrad.draw(result))
        drawn = Counter(picture.titles) - Counter(["result"])
        assert drawn == Counter(node.operator.name if node.operator else "leaf" for node in nodes)
        assert len(picture.edges) == sum(map(len, nodes.values())) + 1

    def test_an_input_that_occurs_twice_has_two_arrows(self):
        a = leaf()
        assert read(opgrad.draw(a * a)).edges == [("n0", "n1"), ("n0", "n1"), ("n1", "r0")]

    def test_constant_inputs_are_not_drawn(self):
        a = leaf(3)
        assert read(opgrad.draw(a + opgrad.ones(3) + 2)).titles == ["leaf", "add", "add", "result"]

    def test_drawing_does_not_depend_on_what_was_computed_before(self):
        def picture():
            a, b = leaf(2), leaf(2)
            return opgrad.draw((a * b).sum() + a.sum(), saved=True).dot

        first = picture()
        leaf() * leaf()
        assert picture() == first

    def test_outputs_are_numbered_where_there_are_several(self):
        low, high = halves(leaf(5))
        result = low.sum() * high
        picture = read(opgrad.draw(result))
        assert picture.boxes["n1"] == ["halves", "0: (2,) float64", "1: (3,) float64"]
        assert picture.flows[1:3] == [("halves", "sum"), ("sum", "mul")]
        numbered = {edge: label for edge, label in picture.labels.items() if label}
        assert numbered == {("n1", "n2"): "0", ("n1", "n3"): "1"}

    def test_a_graph_of_100000_nodes_is_drawn_without_recursion(self):
        a = result = leaf()
        for _ in range(50_000):
            result = result * 1.0 + a
        drawing = opgrad.draw(result)
        assert (drawing.operators, drawing.leaves) == (100_000, 1)
        assert drawing.dot.count(" -> ") == 150_001

    def test_the_repr_counts_instead_of_quoting_the_text(self, drawing):
        assert repr(drawing) == "Drawing(operators=2, leaves=1)"
        assert str(drawing) == drawing.dot


class TestResults:
    def test_several_results_share_their_graph(self):
        a = leaf(2)
        total, mean = (2 * a).sum(), opgrad.mean(a)
        picture = read(opgrad.draw([total, mean], names={"total": total, "mean of a": mean}))
        assert picture.titles == ["leaf", "mul", "sum", "mean", "total", "mean of a"]

    def test_a_result_inside_the_graph_of_another_gets_its_box_too(self):
        a = leaf()
        inner = a * 2
        outer = inner + 1
        picture = read(opgrad.draw((inner, outer)))
        assert ("n1", "r0") in picture.edges
        assert ("n1", "n2") in picture.edges

    def test_an_output_of_several_says_which_one_it_is(self):
        _, high = halves(leaf(5))
        assert read(opgrad.draw(high)).labels["n1", "r0"] == "1"

    def test_one_that_is_given_twice_is_drawn_once(self):
        result = leaf() * 2
        assert opgrad.draw([result, result]) == opgrad.draw(result)

    def test_a_leaf_is_a_box_by_itself(self):
        w = leaf(2, 3, dtype=opgrad.float32)
        drawing = opgrad.draw(w, names={"w": w})
        picture = read(drawing)
        assert picture.boxes == {"n0": ["w", "(2, 3) float32"]}
        assert picture.edges == []
        assert (drawing.operators, drawing.leaves) == (0, 1)

    @pytest.mark.parametrize(("names", "title"), [({}, "constant"), ({"x": ...}, "x")])
    def test_a_constant_is_a_box_by_itself(self, names, title):
        x = opgrad.ones(3, dtype=opgrad.int64)
        picture = read(opgrad.draw(x, names=dict.fromkeys(names, x)))
        assert picture.boxes == {"r0": [title, "(3,) int64"]}

    def test_results_differ_from_everything_else(self, network):
        looks = read(opgrad.draw(network["loss"], saved=True)).looks
        alike = {look for box, look in looks.items() if box != "r0"}
        assert "penwidth=2" in looks["r0"]
        assert not any("penwidth" in look for look in alike)
        assert len(alike) == 3  # leaves, operators, saved values

    def test_a_leaf_that_is_a_result_has_a_results_border(self):
        w = leaf()
        assert "penwidth=2" in read(opgrad.draw([w, w * 2])).looks["n0"]


class TestNames:
    def test_stand_on_leaves_and_results_and_within(self, network):
        boxes = read(opgrad.draw(network["loss"], names=network)).boxes.values()
        assert ["w", "(3, 2) float32"] in boxes
        assert ["tanh", "h (4, 2) float32"] in boxes
        assert ["loss", "() float32"] in boxes
        assert ["binary_cross_entropy_with_logits", "() float32"] in boxes

    def test_of_tensors_that_are_not_in_the_picture_are_left_out(self, drawing):
        a, other = opgrad.tensor([3.0], requires_grad=True), leaf()
        again = opgrad.draw(5 * a**2, names={"a": a, "other": other, "x": opgrad.ones(3)})
        assert again == drawing

    def test_a_leaf_whose_tensor_is_gone_is_drawn_as_ever(self):
        result = leaf(2) * 2
        assert read(opgrad.draw(result)).boxes["n0"] == ["leaf", "(2,) float64"]

    @needs_dot
    @pytest.mark.parametrize("name", ["<b>&amp;", '"', r"\N", r"\Gamma", "é∂😀", "a\\", "n0 -> n1"])
    def test_are_shown_letter_by_letter(self, name):
        a = leaf()
        shown = texts(opgrad.draw(a * 2, names={name: a}))
        assert name in shown

    @needs_dot
    def test_may_be_empty(self):
        a = leaf()
        assert "mul" in texts(opgrad.draw(a * 2, names={"": a}))


class TestSavedValues:
    def test_are_drawn_on_request_only(self, network):
        assert "_saved" not in opgrad.draw(network["loss"]).dot

    def test_are_told_by_name_shape_and_dtype_or_as_the_number(self):
        a = opgrad.tensor([3.0], requires_grad=True)
        picture = read(opgrad.draw(5 * a**2, saved=True))
        assert picture.saved("pow_scalar") == ["base (1,) float64", "exponent = 2"]
        assert picture.saved("mul") == ["b = 5"]

    def test_are_all_that_a_node_holds_but_none(self, network):
        node = network["loss"].grad_fn
        held = [n for n, v in zip(node.names, node.arrays(), strict=True) if v is not None]
        lines = read(opgrad.draw(network["loss"], saved=True)).saved(node.operator.name)
        assert [line.split()[0] for line in lines] == held

    def test_carry_the_name_of_the_tensor_that_they_are(self, network):
        picture = read(opgrad.draw(network["loss"], saved=True, names=network))
        assert "a = x (4, 3) float32" in picture.saved("matmul")
        assert "target = y (4, 2) float32" in picture.saved("binary_cross_entropy_with_logits")
        assert picture.saved("tanh") == ["out = h (4, 2) float32"]

    def test_of_0d_are_numbers_to_six_digits(self):
        a = opgrad.tensor(1 / 3, requires_grad=True)
        assert read(opgrad.draw(opgrad.exp(a) * 2j, saved=True)).saved("mul") == ["b = 0+2j"]
        assert read(opgrad.draw(opgrad.exp(a), saved=True)).saved("exp") == ["out = 1.39561"]

    def test_that_are_long_are_shortened_to_one_line(self):
        a = leaf(9, 9)
        key = (list(range(9)) * 9, np.arange(81) % 9)
        (line,) = (e for e in read(opgrad.draw(a[key], saved=True)).saved("getitem") if "key" in e)
        assert "\n" not in line
        assert len(line) < 80

    def test_that_a_backward_has_freed_are_said_to_be_so(self, network):
        network["loss"].backward()
        picture = read(opgrad.draw(network["loss"], saved=True))
        assert picture.saved("tanh") == ["freed by a backward pass"]

    def test_nothing_hangs_on_an_operator_that_saves_nothing(self):
        assert "_saved" not in opgrad.draw(leaf(2) + leaf(2), saved=True).dot


class TestArguments:
    @pytest.mark.parametrize("value", [3.0, None])
    def test_what_is_no_tensor_is_refused(self, value):
        kind = type(value).__name__
        with pytest.raises(TypeError, match=f"draw: tensor is {kind}; expected a tensor or a seq"):
            opgrad.draw(value)

    def test_a_sequence_with_something_else_is_refused(self):
        with pytest.raises(TypeError, match=r"draw: tensor\[1\] is ndarray; expected a tensor"):
            opgrad.draw([leaf(), np.ones(3)])

    def test_an_empty_sequence_is_refused(self):
        with pytest.raises(ValueError, match="draw: tensor is an empty sequence"):
            opgrad.draw([])

    def test_a_name_for_something_else_is_refused(self):
        with pytest.raises(TypeError, match=r"draw: names\['w'\] is list; expected a tensor"):
            opgrad.draw(leaf(), names={"w": [1.0]})

    def test_nothing_is_loaded_before_the_first_drawing(self):
        code = "import sys, opgrad; print(*{'graphviz', 'opgrad.drawing'} & set(sys.modules))"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert ran.stdout.strip() == b""

    def test_without_the_package_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "graphviz", None)
        with pytest.raises(ImportError, match=r'pip install "opgrad\[viz\]"') as caught:
            opgrad.draw(leaf())
        assert caught.value.name == "graphviz"


def svg(drawing):
    return ET.fromstring(drawing._repr_svg_())


def texts(drawing):
    """The lines of text in the picture, without invisible spaces."""
    found = svg(drawing).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(each.itertext()).replace("\u200b", "").replace("\xa0", " ") for each in found]


def heights(drawing):
    """How high `dot` puts each box."""
    lines = Source(drawing.dot).pipe("plain", encoding="utf-8").splitlines()
    return {part[1]: float(part[3]) for part in map(str.split, lines) if part[0] == "node"}


@needs_dot
class TestLayout:
    def test_the_svg_is_well_formed_and_holds_every_box_and_edge(self, network):
        drawing = opgrad.draw(network["loss"], saved=True, names=network)
        groups = Counter(
            each.get("class") for each in svg(drawing).iter("{http://www.w3.org/2000/svg}g")
        )
        picture = read(drawing)
        assert groups["node"] == len(picture.boxes)
        assert groups["edge"] == len(picture.edges)
        assert {line for box in picture.boxes.values() for line in box} == set(texts(drawing))

    def test_values_flow_from_the_top_down(self, network):
        drawing = opgrad.draw(network["loss"])
        height = heights(drawing)
        picture = read(drawing)
        assert set(height) == set(picture.boxes)
        assert all(height[above] > height[below] for above, below in picture.edges)

    def test_saved_values_stand_beside_their_operator(self, network):
        drawing = opgrad.draw(network["loss"], saved=True)
        height = heights(drawing)
        threads = [edge for edge in read(drawing).edges if edge[1].endswith("_saved")]
        assert len(threads) == 3
        assert all(height[operator] == height[saved] for operator, saved in threads)

    def test_a_leaf_with_a_hundred_uses_is_laid_out(self):
        a = result = leaf()
        for _ in range(100):
            result = result * 2.0 + a
        assert len(heights(opgrad.draw(result))) == 202


class TestNotebook:
    @needs_dot
    def test_shows_an_svg(self, drawing):
        formatter = pytest.importorskip("IPython.core.formatters").DisplayFormatter()
        shown, _ = formatter.format(drawing)
        assert shown["image/svg+xml"] == drawing._repr_svg_()
        assert shown["text/plain"] == repr(drawing)

    def test_shows_the_text_and_what_to_install_if_dot_is_missing(self, drawing, without_dot):
        assert drawing._repr_svg_() is None
        shown = drawing._repr_mimebundle_(include=None, exclude=None)
        assert set(shown) == {"text/plain"}
        assert "apt install graphviz" in shown["text/plain"]
        assert drawing.dot in shown["text/plain"]

    def test_shows_the_text_if_the_package_has_gone(self, drawing, monkeypatch):
        monkeypatch.setitem(sys.modules, "graphviz", None)
        assert drawing.dot in drawing._repr_mimebundle_()["text/plain"]

    def test_shows_no_graph_that_would_take_minutes_to_lay_out(self):
        result = leaf()
        for _ in range(600):
            result = result * 1.0
        shown = opgrad.draw(result)._repr_mimebundle_()
        assert set(shown) == {"text/plain"}
        assert "too large to show" in shown["text/plain"]
        assert len(shown["text/plain"]) < 200


class TestSave:
    @needs_dot
    @pytest.mark.parametrize(
        ("suffix", "start"),
        [("svg", b"<?xml"), ("png", b"\x89PNG\r\n"), ("pdf", b"%PDF"), ("SVG", b"<?xml")],
    )
    def test_writes_the_picture_that_the_suffix_names(self, drawing, tmp_path, suffix, start):
        drawing.save(tmp_path / f"graph.{suffix}")
        assert (tmp_path / f"graph.{suffix}").read_bytes().startswith(start)
        assert len(list(tmp_path.iterdir())) == 1

    def test_writes_the_text_even_without_dot(self, network, tmp_path, without_dot):
        drawing = opgrad.draw(network["loss"], names={"∂w": network["w"]})
        drawing.save(str(tmp_path / "graph.dot"))
        assert (tmp_path / "graph.dot").read_text("utf-8") == drawing.dot

    def test_into_the_present_folder(self, drawing, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        drawing.save("graph.dot")
        assert Path("graph.dot").is_file()

    @pytest.mark.parametrize("name", ["graph.jpg", "graph"])
    def test_refuses_other_suffixes_and_names_its_own(self, drawing, tmp_path, name):
        with pytest.raises(ValueError, match=rf"{name}'; .* in one of \.svg, \.png, \.pdf, \.dot"):
            drawing.save(tmp_path / name)
        assert not list(tmp_path.iterdir())

    def test_names_a_folder_that_is_not_there(self, drawing, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"save: path is .* no folder .*nowhere"):
            drawing.save(tmp_path / "nowhere" / "graph.dot")

    @pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
    def test_without_dot_says_how_to_install_it(self, drawing, tmp_path, without_dot, suffix):
        with pytest.raises(DrawingError) as caught:
            drawing.save(tmp_path / f"graph.{suffix}")
        message = str(caught.value)
        assert "`dot`" in message
        for system in ("apt install", "brew install", "conda install", "winget install"):
            assert system in message
        assert "drawing.dot" in message
        assert not list(tmp_path.iterdir())

    @needs_sh
    def test_if_dot_fails_says_what_it_said_and_leaves_the_old_file(
        self, drawing, tmp_path, monkeypatch
    ):
        stand_in = tmp_path / "bin" / "dot"
        stand_in.parent.mkdir()
        stand_in.write_text("#!/bin/sh\necho half a picture\necho out of paper >&2\nexit 3\n")
        stand_in.chmod(0o755)
        monkeypatch.setenv("PATH", f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}")
        old = tmp_path / "graph.svg"
        old.write_text("old")
        with pytest.raises(DrawingError, match="`dot` failed with 3 and said: out of paper"):
            drawing.save(old)
        assert old.read_text() == "old"
        assert sorted(each.name for each in tmp_path.iterdir()) == ["bin", "graph.svg"]

    def test_if_the_disk_is_full_leaves_the_old_file(self, drawing, tmp_path, monkeypatch):
        def half(self, content):
            with self.open("wb") as file:
                file.write(content[: len(content) // 2])
            raise OSError(28, "No space left on device")

        old = tmp_path / "graph.dot"
        old.write_text("old")
        monkeypatch.setattr(Path, "write_bytes", half)
        with pytest.raises(OSError, match="No space left"):
            drawing.save(old)
        assert old.read_text() == "old"
        assert list(tmp_path.iterdir()) == [old]

    def test_replaces_the_file_in_one_step(self, drawing, tmp_path, monkeypatch):
        steps = []
        replace = Path.replace

        def watched(self, target):
            steps.append((self.parent, self.read_text(), Path(target).read_text()))
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", watched)
        old = tmp_path / "graph.dot"
        old.write_text("old")
        drawing.save(old)
        assert steps == [(tmp_path, drawing.dot, "old")]
        assert old.read_text() == drawing.dot
