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
from dataclasses import dataclass
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
_BOXES["leaf result"] = _BOXES["result"] | {"fillcolor": _BOXES["leaf"]["fillcolor"]}
_THREAD = {"style": "dashed", "dir": "none", "color": _BOXES["saved"]["color"]}

#: What `Drawing.save` writes.
_SUFFIXES = (".svg", ".png", ".pdf", ".dot")
#: Beyond so many boxes a notebook shows text: `dot` would work on the picture for minutes.
_MOST_BOXES = 2000

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


@dataclass(frozen=True, slots=True, repr=False)
class Drawing:
    """A graph as a picture: an SVG in a notebook, and ``str`` is its text in the DOT language.

    Attributes
    ----------
    dot : str
        The picture in the DOT language.
    operators, leaves : int
        How many of them there are.
    """

    dot: str
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
            msg = f"save: path {str(path)!r} must end in one of {', '.join(_SUFFIXES)}"
            raise ValueError(msg)
        _write_whole(path, self.dot.encode() if kind == ".dot" else _laid_out(self.dot, kind[1:]))

    def __str__(self) -> str:
        return self.dot

    def __repr__(self) -> str:
        return f"<Drawing of {self.operators} operators and {self.leaves} leaves>"

    def _repr_svg_(self) -> str | None:
        return self._repr_mimebundle_().get("image/svg+xml")

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """Return what a notebook shows: the picture, or else words that say why there is none."""
        if self.operators + self.leaves > _MOST_BOXES:
            hint = "too large to show here; save it with .save(), or draw a part of it"
            return {"text/plain": f"{self!r}: {hint}"}
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
        recorded operation made is drawn alone.
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
    <Drawing of 2 operators and 1 leaves>
    """
    results = _tensors(tensor)
    called = {} if names is None else dict(names)
    for name, each in called.items():
        _check(each, f"names[{name!r}]")
    sketch = _Sketch(called)
    return sketch.drawing(results, saved=saved)
