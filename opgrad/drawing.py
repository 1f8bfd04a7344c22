"""A picture of the graph: boxes for leaves, operators and results, in the language of Graphviz.

Values flow from the top down, from the leaves through the operators to the results. A `Drawing`
is the text of that picture; Graphviz's program ``dot`` lays it out when it is shown or saved.
"""

from __future__ import annotations

import html
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opgrad.files import replacing
from opgrad.graph import AccumulateGrad, Edge, Node
from opgrad.tensor import Tensor
from opgrad.variable import Metadata, metadata_of

_INK, _FAINT = "#24292f", "#6e7781"
_FONT = {"fontname": "Helvetica,Arial,sans-serif"}
_SHEET = {
    # nslimit: where a leaf has hundreds of uses, `dot` would polish its layout for hours.
    "graph_attr": {"bgcolor": "transparent", "nodesep": "0.3", "ranksep": "0.35", "nslimit": "2"},
    "node_attr": _FONT
    | {"shape": "box", "style": "rounded,filled", "height": "0.5", "margin": "0.16,0.07"}
    | {"fontsize": "13", "fontcolor": _INK},
    "edge_attr": _FONT
    | {"fontsize": "10", "fontcolor": _FAINT, "color": _FAINT, "arrowsize": "0.7"},
}
_LEAF = {"fillcolor": "#dcebf7", "color": "#7fa8c9"}
_OPERATOR = {"fillcolor": "#f3f1ec", "color": "#b5aea0"}
_RESULT = {"fillcolor": "#dff0e0", "color": "#5f9a68", "penwidth": "2"}
_LEAF_RESULT = _RESULT | {"fillcolor": _LEAF["fillcolor"]}
_SAVED = {"fillcolor": "#fdf6df", "color": "#d6bf7a", "shape": "note", "style": "filled"}
_SAVED |= {"fontsize": "10", "height": "0", "margin": "0.1,0.05"}
_THREAD = {"style": "dashed", "dir": "none", "color": _SAVED["color"]}

#: What `Drawing.save` writes.
_SUFFIXES = (".svg", ".png", ".pdf", ".dot")
#: A notebook shows no more boxes than this: above it, `dot` soon works for minutes.
_MOST_BOXES = 500

_NO_PACKAGE = (
    "draw needs the Python package `graphviz`, which is not installed; "
    'install it with: pip install "opgrad[viz]"'
)
_TEXT_IS_THERE = 'The text of the picture is there: drawing.dot, or drawing.save("graph.dot").'
_NO_PROGRAM = f"""\
Graphviz's program `dot`, which lays the picture out, was not found on the PATH. To install it:
  Debian, Ubuntu   sudo apt install graphviz
  macOS            brew install graphviz
  conda            conda install -c conda-forge graphviz
  Windows          winget install graphviz
{_TEXT_IS_THERE}"""


class DrawingError(RuntimeError):
    """A drawing that cannot be laid out: Graphviz's program ``dot`` is missing or has failed."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A graph as a picture: an SVG in a notebook; ``str`` is its text in the DOT language.

    Attributes
    ----------
    dot : str
        The picture in the DOT language.
    operators, leaves : int
        How many of them are in it.
    """

    dot: str = field(repr=False)
    operators: int
    leaves: int

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file: the whole file, or nothing if that fails.

        Parameters
        ----------
        path : path_like
            Where to; the suffix says what: ``.svg``, ``.png``, ``.pdf``, or ``.dot`` for the text.

        Raises
        ------
        ValueError
            If the suffix is none of these.
        FileNotFoundError
            If there is no such folder.
        DrawingError
            If Graphviz's program ``dot`` is missing or fails; ``.dot`` is written without it.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in _SUFFIXES:
            msg = f"save: path is {str(path)!r}; it must end in one of {', '.join(_SUFFIXES)}"
            raise ValueError(msg)
        if not path.parent.is_dir():
            msg = f"save: path is {str(path)!r}, but there is no folder {str(path.parent)!r}"
            raise FileNotFoundError(msg)
        content = self.dot.encode() if suffix == ".dot" else _laid_out(self.dot, suffix[1:])
        with replacing(path) as scratch:
            scratch.write_bytes(content)

    def __str__(self) -> str:
        return self.dot

    def _repr_svg_(self) -> str | None:
        return self._repr_mimebundle_().get("image/svg+xml")

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """Return what a notebook shows: the picture, or words that say why there is none."""
        if self.operators + self.leaves > _MOST_BOXES:
            return {"text/plain": f"{self!r}, too large to show; save it, or draw a part of it"}
        try:
            svg = _laid_out(self.dot, "svg").decode()
        except (DrawingError, ImportError) as error:
            return {"text/plain": f"{error}\n\n{self.dot}"}
        return {"image/svg+xml": svg, "text/plain": repr(self)}


def draw(
    tensor: Tensor | Iterable[Tensor],
    *,
    saved: bool = False,
    names: Mapping[str, Tensor] | None = None,
) -> Drawing:
    """Draw the graph that made a tensor.

    Parameters
    ----------
    tensor : Tensor or sequence of Tensor
        The result, or several; drawn at the bottom, with a thick border. A tensor that no
        recorded operation made is a box by itself.
    saved : bool
        Hang on each operator what it has saved for its backward, constant inputs among it.
    names : dict of str to Tensor, optional
        What to call tensors in the picture: ``names={"w": w}``. Those that do not occur in it
        are left out.

    Returns
    -------
    Drawing
        The picture. A notebook shows it; ``.save("graph.svg")`` writes it to a file.

    Raises
    ------
    ImportError
        If the package ``graphviz`` is not installed; the extra ``viz`` brings it.
    TypeError
        If something other than a tensor is given.
    ValueError
        If `tensor` is an empty sequence.

    Examples
    --------
    >>> import opgrad
    >>> a = opgrad.tensor([3.], requires_grad=True)
    >>> opgrad.draw(5 * a**2, names={"a": a})
    Drawing(operators=2, leaves=1)
    """
    results = _several(tensor)
    named = {name: _checked(each, f"names[{name!r}]") for name, each in (names or {}).items()}
    picture = _Picture(results, named)
    for node in picture.boxes:
        picture.add(node)
        if saved:
            picture.add_saved(node)
    for index, result in enumerate(results):
        picture.add_result(f"r{index}", result)
    return Drawing(picture.graph.source, picture.operators, picture.leaves)


def _several(given: Any) -> list[Tensor]:
    """Return the tensors to draw, each once."""
    if isinstance(given, Tensor):
        return [given]
    if not isinstance(given, Iterable):
        msg = f"draw: tensor is {type(given).__name__}; expected a tensor or a sequence of tensors"
        raise TypeError(msg)
    tensors = {id(each): _checked(each, f"tensor[{index}]") for index, each in enumerate(given)}
    if not tensors:
        msg = "draw: tensor is an empty sequence; expected one tensor or more"
        raise ValueError(msg)
    return list(tensors.values())


def _checked(value: Any, argument: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    msg = f"draw: {argument} is {type(value).__name__}; expected a tensor"
    raise TypeError(msg)


def _behind(tensors: Iterable[Tensor]) -> Iterator[Node]:
    """Yield the nodes that tensors were made by: each once, after those of its inputs."""
    done = set()
    waiting = _nodes(each._edge for each in tensors)[::-1]
    while waiting:
        node = waiting[-1]
        missing = [each for each in _nodes(node.edges) if each not in done]
        if missing:
            waiting += missing[::-1]
            continue
        waiting.pop()
        if node not in done:
            done.add(node)
            yield node


def _nodes(edges: Iterable[Edge | None]) -> list[Node]:
    return [edge[0] for edge in edges if edge is not None]


# ------------------------------------------------------------------------------ the picture


class _Picture:
    """A picture in the making."""

    __slots__ = ("boxes", "ends", "graph", "leaves", "names", "operators")

    def __init__(self, results: Sequence[Tensor], named: Mapping[str, Tensor]) -> None:
        self.graph = _graphviz().Digraph(**_SHEET)
        self.boxes = {node: f"n{index}" for index, node in enumerate(_behind(results))}
        self.ends = {each._edge for each in results}
        self.operators = self.leaves = 0
        # By edge, and by the id of the data: what a node has saved is no longer a tensor.
        self.names: dict[Edge | int | None, str] = {}
        for name, each in named.items():
            self.names[each._edge] = self.names[id(each._data)] = name

    def add(self, node: Node) -> None:
        """Draw a leaf, or an operator and the edges to it."""
        if isinstance(node, AccumulateGrad):
            self._add_leaf(node)
        else:
            self._add_operator(node)

    def _add_leaf(self, leaf: AccumulateGrad) -> None:
        self.leaves += 1
        edge = leaf, 0
        label = _label(self.names.get(edge, "leaf"), [_describe(leaf.metadata)])
        look = _LEAF_RESULT if edge in self.ends else _LEAF
        self.graph.node(self.boxes[leaf], label, **look)

    def _add_operator(self, node: Node) -> None:
        self.operators += 1
        title = node.operator.name if node.operator else node.name()
        lines = [self._output((node, output_nr)) for output_nr in range(len(node.outputs()))]
        self.graph.node(self.boxes[node], _label(title, lines), **_OPERATOR)
        for edge in node.edges:
            if edge is not None:
                self._connect(edge, self.boxes[node])

    def _output(self, edge: Edge) -> str:
        """Say what an output is called, and of what shape and dtype it is."""
        node, output_nr = edge
        # The name of a result stands in its own box.
        name = "" if edge in self.ends else self.names.get(edge, "")
        number = f"{output_nr}:" if len(node.outputs()) > 1 else ""
        return " ".join(filter(None, (number, name, _describe(node.outputs()[output_nr]))))

    def _connect(self, edge: Edge, box: str) -> None:
        node, output_nr = edge
        number = str(output_nr) if len(node.outputs()) > 1 else None
        # Operators stand below each other, leaves beside them.
        weight = "1" if isinstance(node, AccumulateGrad) else "8"
        self.graph.edge(self.boxes[node], box, number, weight=weight)

    def add_saved(self, node: Node) -> None:
        """Draw what a node has saved, beside it."""
        freed = node._saved is None
        lines = ["freed by a backward pass"] if freed else list(self._saved(node))
        if lines:
            box = self.boxes[node]
            rank = _graphviz().Digraph(graph_attr={"rank": "same"})
            rank.node(f"{box}_saved", _note(lines), **_SAVED)
            rank.edge(box, f"{box}_saved", **_THREAD)
            self.graph.subgraph(rank)

    def _saved(self, node: Node) -> Iterator[str]:
        for name, value in zip(node.names, node.arrays(), strict=True):
            if value is None:
                continue
            called = " = ".join(filter(None, (name, self.names.get(id(value)))))
            if getattr(value, "shape", ()):
                yield f"{called} {_describe(metadata_of(value))}"
            else:
                yield f"{called} = {_short(value)}"

    def add_result(self, box: str, result: Tensor) -> None:
        """Draw a result, unless it is a leaf, which has its box."""
        edge = result._edge
        if edge is not None and isinstance(edge[0], AccumulateGrad):
            return
        title = self.names.get(edge or id(result._data), "result" if edge else "constant")
        self.graph.node(box, _label(title, [_describe(metadata_of(result._data))]), **_RESULT)
        if edge is None:
            self.leaves += 1
        else:
            self._connect(edge, box)


def _describe(metadata: Metadata) -> str:
    shape, dtype = metadata
    return f"{shape} {dtype}"


def _short(value: Any) -> str:
    """Write a value that is no array: a number to six digits, anything else within one line."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float | complex):
        return f"{value:.6g}"
    return " ".join(reprlib.repr(value).split())


def _label(title: str, lines: Iterable[str]) -> str:
    """Write the label of a box in Graphviz's HTML: a bold title, and small lines below it."""
    small = "".join(f'<BR/><FONT POINT-SIZE="10">{_escape(line)}</FONT>' for line in lines)
    return f"<<B>{_escape(title)}</B>{small}>"


def _note(lines: Iterable[str]) -> str:
    """Write the label of what is saved: lines from the left."""
    return "<" + "".join(f'{_escape(line)}<BR ALIGN="LEFT"/>' for line in lines) + ">"


def _escape(text: str) -> str:
    # An invisible space keeps Graphviz from reading \N, \G, ... as its own escapes; an empty
    # bold text is a syntax error to it.
    return html.escape(text, quote=False).replace("\\", "\\&#8203;") or " "


# --------------------------------------------------------------------------------- Graphviz


def _graphviz() -> Any:
    try:
        import graphviz
    except ImportError as error:
        raise ImportError(_NO_PACKAGE, name="graphviz") from error
    return graphviz


def _laid_out(dot: str, kind: str) -> bytes:
    """Have the program ``dot`` make the picture."""
    graphviz = _graphviz()
    try:
        picture: bytes = graphviz.Source(dot).pipe(format=kind, quiet=True)
    except graphviz.ExecutableNotFound as error:
        raise DrawingError(_NO_PROGRAM) from error
    except graphviz.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip() or "nothing"
        msg = (
            f"Graphviz's program `dot` failed with {error.returncode} and said: {said}\n"
            + _TEXT_IS_THERE
        )
        raise DrawingError(msg) from error
    return picture
