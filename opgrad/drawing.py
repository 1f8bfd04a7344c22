"""A picture of the graph: boxes for leaves, operators and results, in the language of Graphviz.

Values flow from the top down: from the leaves through the operators to the result. A `Drawing`
is the text of that picture; Graphviz's program ``dot`` lays it out when it is shown or saved.
"""

from __future__ import annotations

import html
import os
import reprlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opgrad.graph import AccumulateGrad, Edge, Metadata, Node, metadata_of
from opgrad.tensor import Tensor

_INK, _FAINT = "#24292f", "#6e7781"
_FONT = "Helvetica,Arial,sans-serif"
_GRAPH = {"bgcolor": "transparent", "nodesep": "0.3", "ranksep": "0.35"}
_NODE = {
    "shape": "box",
    "style": "rounded,filled",
    "fontname": _FONT,
    "fontsize": "13",
    "fontcolor": _INK,
    "height": "0.5",
    "margin": "0.16,0.07",
}
_EDGE = {
    "color": _FAINT,
    "fontname": _FONT,
    "fontsize": "10",
    "fontcolor": _FAINT,
    "arrowsize": "0.7",
}
#: What each kind of box looks like.
_BOXES = {
    "leaf": {"fillcolor": "#dcebf7", "color": "#7fa8c9"},
    "operator": {"fillcolor": "#f3f1ec", "color": "#b5aea0"},
    "result": {"fillcolor": "#dff0e0", "color": "#5f9a68", "penwidth": "2"},
    "saved": {
        "fillcolor": "#fdf6df",
        "color": "#d6bf7a",
        "shape": "note",
        "style": "filled",
        "fontsize": "10",
        "height": "0",
        "margin": "0.1,0.05",
    },
}
#: A leaf that is drawn for its own sake keeps its colour and gets the border of a result.
_LEAF_RESULT = _BOXES["result"] | {"fillcolor": _BOXES["leaf"]["fillcolor"]}
_THREAD = {"style": "dashed", "dir": "none", "color": _BOXES["saved"]["color"]}

#: What `Drawing.save` writes.
_SUFFIXES = (".svg", ".png", ".pdf", ".dot")
#: Beyond so many boxes a notebook shows text: `dot` would work on the picture for minutes.
_MOST_BOXES = 1000

_NO_PACKAGE = (
    "draw needs the Python package `graphviz`, which is not installed; "
    'install it with: pip install "opgrad[viz]"'
)
_NO_PROGRAM = """\
the graph cannot be laid out: Graphviz's program `dot` was not found on the PATH. Install Graphviz:
  Debian, Ubuntu   sudo apt install graphviz
  macOS            brew install graphviz
  conda            conda install -c conda-forge graphviz
  Windows          winget install graphviz
Until then the text of the picture is there: drawing.dot, or drawing.save("graph.dot")."""


class DrawingError(RuntimeError):
    """A drawing that cannot be laid out: ``dot`` is missing, or has failed."""


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
        kind = path.suffix.lower()
        if kind not in _SUFFIXES:
            msg = f"save: got path {str(path)!r}; expected it to end in {', '.join(_SUFFIXES)}"
            raise ValueError(msg)
        if not path.parent.is_dir():
            msg = f"save: there is no folder {str(path.parent)!r} to write {path.name!r} to"
            raise FileNotFoundError(msg)
        _write_whole(path, self.dot.encode() if kind == ".dot" else _laid_out(self.dot, kind[1:]))

    def __str__(self) -> str:
        return self.dot

    def _repr_svg_(self) -> str | None:
        return self._repr_mimebundle_().get("image/svg+xml")

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """Return what a notebook shows: the picture, or words that say why there is none."""
        if self.operators + self.leaves > _MOST_BOXES:
            return {"text/plain": f"{self!r} is too large to show; draw a part of it"}
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
    results = _tensors(tensor)
    called = _Names(names or {})
    nodes = _behind(results)
    ids = {node: f"n{index}" for index, node in enumerate(nodes)}
    graph = _graphviz().Digraph(graph_attr=_GRAPH, node_attr=_NODE, edge_attr=_EDGE)
    for node, box in ids.items():
        graph.node(box, _node_label(node, called), **_BOXES[_kind(node)])
        for edge in filter(None, node.edges):
            graph.edge(ids[edge[0]], box, _output_label(edge))
        if saved and (lines := list(_saved_lines(node, called))):
            _hang(graph, box, lines)
    for index, result in enumerate(results):
        _add_result(graph, f"r{index}", result, ids, called)
    operators = sum(_kind(node) == "operator" for node in nodes)
    constants = sum(result._edge is None for result in results)
    return Drawing(graph.source, operators, len(nodes) - operators + constants)


# ---------------------------------------------------------------------------- what is drawn


def _tensors(given: Any) -> list[Tensor]:
    """Return the tensors to draw, each once."""
    if isinstance(given, Tensor):
        return [given]
    if not isinstance(given, Iterable):
        msg = f"draw: argument 'tensor' is {type(given).__name__}; expected a tensor or several"
        raise TypeError(msg)
    each_once = {
        id(each): _checked(each, f"tensor[{index}]") for index, each in enumerate(given)
    }
    if not each_once:
        msg = "draw: argument 'tensor' is empty; expected one tensor or more"
        raise ValueError(msg)
    return list(each_once.values())


def _checked(value: Any, argument: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    msg = f"draw: {argument} is {type(value).__name__}; expected a tensor"
    raise TypeError(msg)


class _Names:
    """What the user calls tensors: found by their place in the graph, or by their data."""

    __slots__ = ("_by_data", "_by_edge")

    def __init__(self, names: Mapping[str, Tensor]) -> None:
        tensors = {name: _checked(each, f"names[{name!r}]") for name, each in names.items()}
        self._by_edge = {each._edge: name for name, each in tensors.items()}
        # The data itself is kept, so that no other object can get its id.
        self._by_data = {id(each._data): (name, each._data) for name, each in tensors.items()}

    def of_edge(self, edge: Edge) -> str:
        return self._by_edge.get(edge, "")

    def of_data(self, data: Any) -> str:
        return self._by_data.get(id(data), ("", None))[0]


def _behind(tensors: Iterable[Tensor]) -> list[Node]:
    """Return the nodes that tensors were made by, in the order in which they were made."""
    waiting = [each._edge for each in tensors]
    found = set()
    while waiting:
        edge = waiting.pop()
        if edge is not None and edge[0] not in found:
            found.add(edge[0])
            waiting += edge[0].edges
    return sorted(found, key=lambda node: node.sequence)


def _kind(node: Node) -> str:
    return "leaf" if isinstance(node, AccumulateGrad) else "operator"


# ------------------------------------------------------------------------ boxes and threads


def _add_result(graph: Any, box: str, result: Tensor, ids: Mapping[Node, str], called: _Names) -> None:
    """Add the box of a result; a leaf has one already, which gets a result's border."""
    edge = result._edge
    if edge is not None and _kind(edge[0]) == "leaf":
        graph.node(ids[edge[0]], **_LEAF_RESULT)
        return
    name = called.of_data(result._data) if edge is None else called.of_edge(edge)
    title = name or ("constant" if edge is None else "result")
    graph.node(box, _label(title, [_describe(metadata_of(result._data))]), **_BOXES["result"])
    if edge is not None:
        graph.edge(ids[edge[0]], box, _output_label(edge))


def _hang(graph: Any, box: str, lines: Iterable[str]) -> None:
    """Add the saved values of an operator beside it."""
    with graph.subgraph(graph_attr={"rank": "same"}) as beside:
        beside.node(f"{box}_saved", _label("", lines), **_BOXES["saved"])
        beside.edge(box, f"{box}_saved", **_THREAD)


def _node_label(node: Node, called: _Names) -> str:
    outputs = [_describe(each, called.of_edge((node, i))) for i, each in enumerate(node.outputs())]
    if isinstance(node, AccumulateGrad):
        return _label(called.of_edge((node, 0)) or "leaf", [_describe(node.metadata)])
    if len(outputs) > 1:
        outputs = [f"{index}: {each}" for index, each in enumerate(outputs)]
    return _label(node.operator.name if node.operator else node.name(), outputs)


def _output_label(edge: Edge) -> str | None:
    """Say which output flows along an edge, where there are several."""
    node, output_nr = edge
    return str(output_nr) if len(node.outputs()) > 1 else None


def _saved_lines(node: Node, called: _Names) -> Iterator[str]:
    """Say what a node has saved: name, shape and dtype of each array, all else as it is."""
    if node.saved is None:
        yield "saved values are freed"
        return
    for name, value in zip(node.names, node.saved, strict=True):
        if value is None:
            continue
        known = called.of_data(value)
        shown = _describe(metadata_of(value)) if hasattr(value, "shape") else _short(value)
        yield " = ".join(filter(None, (name, known, shown)))


def _describe(metadata: Metadata, name: str = "") -> str:
    shape, dtype = metadata
    return f"{name} {shape} {dtype}".lstrip()


def _short(value: Any) -> str:
    return " ".join(reprlib.repr(value).split())


def _label(title: str, lines: Iterable[str]) -> str:
    """Write a label in Graphviz's HTML: a bold title, and small lines below it."""
    rows = [f"<B>{_escape(title)}</B>"] if title else []
    rows += [f'<FONT POINT-SIZE="10">{_escape(line)}</FONT>' for line in lines]
    return f"<{'<BR/>'.join(rows)}>"


def _escape(text: str) -> str:
    # A backslash, too, means something in a label.
    return html.escape(text, quote=False).replace("\\", "&#92;")


# --------------------------------------------------------------------------------- Graphviz


def _graphviz() -> Any:
    try:
        import graphviz
    except ImportError as error:
        raise ImportError(_NO_PACKAGE, name="graphviz") from error
    return graphviz


def _laid_out(dot: str, kind: str) -> bytes:
    """Have the program `dot` make a picture."""
    graphviz = _graphviz()
    try:
        picture: bytes = graphviz.Source(dot).pipe(format=kind, quiet=True)
    except graphviz.ExecutableNotFound as error:
        raise DrawingError(_NO_PROGRAM) from error
    except graphviz.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip()
        msg = (
            f"Graphviz's program `dot` could not make the {kind}, and ended with "
            f"{error.returncode}: {said or 'no message'}. The text of the picture is there: "
            'drawing.dot, or drawing.save("graph.dot").'
        )
        raise DrawingError(msg) from error
    return picture


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file that nobody ever sees half written."""
    unfinished = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
