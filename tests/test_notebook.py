"""The notebook ``examples/autograd.ipynb``: what each of its cells shows.

It is run from top to bottom, and what is stored in it must be what running it shows. To store
its outputs anew after a change, run this file: ``python tests/test_notebook.py``.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree as ET

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "autograd.ipynb"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

#: The text that each code cell shows, with addresses as "0x..."; the last cell shows the picture.
SHOWN = {
    "import": None,
    "leaf": "tensor([3.], requires_grad=True)",
    "result": "tensor([45.], grad_fn=<MulBackward0>)",
    "backward": "tensor([30.])",
    "accumulate": "tensor([60.])",
    "zero": "tensor([0.])",
    "grad-fn": "<MulBackward0 object at 0x...>",
    "next-functions": "((<PowBackward0 object at 0x...>, 0), (None, 0))",
    "mul-by-hand": "(tensor([5.]), None)",
    "pow-by-hand": "tensor([6.], grad_fn=<MulBackward0>)",
    # The numbers are PyTorch's for the same w and b, which are the first of NumPy's default_rng(0).
    "network": "tensor(1.6281, grad_fn=<BinaryCrossEntropyWithLogitsBackward0>)",
    "network-w-grad": (
        "tensor([[0.4113, 0.3914],\n"
        "        [0.4113, 0.3914],\n"
        "        [0.4113, 0.3914]])"
    ),
    "network-b-grad": "tensor([0.4113, 0.3914])",
    "rows": (
        "tensor([[True, True],\n"
        "        [True, True],\n"
        "        [True, True]])"
    ),
    "no-grad": "False",
    "detach": "False",
}  # fmt: skip

#: What the picture shows: the boxes that its arrows connect, by their titles.
ARROWS = {
    ("w", "matmul"),
    ("matmul", "add"),
    ("b", "add"),
    ("add", "binary_cross_entropy_with_logits"),
    ("binary_cross_entropy_with_logits", "loss"),
}

SVG = "image/svg+xml"
IN_SVG = {"svg": "http://www.w3.org/2000/svg"}

needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None, reason="Graphviz's program `dot` is not installed"
)


# ------------------------------------------------------------------------- running the notebook


def run(notebook, home):
    """Run a notebook in a kernel of this Python, however Jupyter is set up on the machine.

    What Jupyter and IPython keep for a user, their settings for example, they look for in `home`.
    """
    folders = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    settings = {**dict.fromkeys(folders, str(home)), "JUPYTER_PATH": "", "PYTHONSTARTUP": ""}
    # A cell that fails shows its error; the test of that cell compares it with the table.
    client = NotebookClient(
        notebook, kernel_name="python3", allow_errors=True, record_timing=False, timeout=300
    )
    with (
        mock.patch.dict(os.environ, settings),
        # ZeroMQ needs a loop with a selector, which on Windows is not the default.
        asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner,
    ):
        runner.run(client.async_execute())
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def read():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    return run(read(), tmp_path_factory.mktemp("jupyter"))


# ----------------------------------------------------------------------- what is compared of it


def shown(notebook, cell_id):
    """Return the outputs of a cell, without what differs from run to run."""
    (cell,) = (each for each in notebook.cells if each.id == cell_id)
    return [
        {**output, "data": {mime: comparable(mime, text) for mime, text in output.data.items()}}
        if "data" in output
        else output
        for output in cell.outputs
    ]


def comparable(mime, text):
    return arrows(text) if mime == SVG else re.sub(r"0x[0-9a-fA-F]+", "0x...", text)


def boxes(svg):
    """Return what is written in each box of a picture, line by line, by the box's name."""
    nodes = ET.fromstring(svg).iterfind(".//svg:g[@class='node']", IN_SVG)
    return {
        node.findtext("svg:title", namespaces=IN_SVG): [
            "".join(line.itertext()) for line in node.iterfind("svg:text", IN_SVG)
        ]
        for node in nodes
    }


def arrows(svg):
    """Return a picture as the pairs of titles that its arrows connect, wherever they are drawn."""
    titles = {name: lines[0] for name, lines in boxes(svg).items()}
    edges = ET.fromstring(svg).iterfind(".//svg:g[@class='edge']/svg:title", IN_SVG)
    return {tuple(titles[name] for name in edge.text.split("->")) for edge in edges}


def result(number, text):
    """Return the outputs of a code cell that shows the value of its last line, and no more."""
    output = nbformat.v4.new_output(
        "execute_result", {"text/plain": text}, execution_count=number, metadata={}
    )
    return [output]


# ------------------------------------------------------------------------------------ the tests


class TestRunning:
    @pytest.mark.parametrize(("number", "cell"), [*enumerate(SHOWN, start=1)])
    def test_shows_what_the_table_says(self, fresh, number, cell):
        text = SHOWN[cell]
        assert shown(fresh, cell) == ([] if text is None else result(number, text))

    def test_leaves_no_cell_out(self, fresh):
        code = [cell.id for cell in fresh.cells if cell.cell_type == "code"]
        assert code == [*SHOWN, "picture"]

    @needs_dot
    def test_draws_the_graph(self, fresh):
        (output,) = shown(fresh, "picture")
        assert output["data"][SVG] == ARROWS

    @needs_dot
    def test_describes_the_leaves_in_the_picture(self, fresh):
        (cell,) = (each for each in fresh.cells if each.id == "picture")
        written = boxes(cell.outputs[0].data[SVG]).values()
        assert ["w", "(3, 2) float64"] in written
        assert ["b", "(2,) float64"] in written


class TestStored:
    @pytest.mark.parametrize("cell", [*SHOWN, pytest.param("picture", marks=needs_dot)])
    def test_shows_what_running_shows(self, fresh, cell):
        assert shown(read(), cell) == shown(fresh, cell)

    def test_carries_no_metadata_but_the_kernel(self):
        stored = read()
        assert stored.metadata == METADATA
        assert [cell.metadata for cell in stored.cells] == [{}] * len(stored.cells)

    def test_was_run_in_order_in_a_fresh_kernel(self):
        counts = [cell.execution_count for cell in read().cells if cell.cell_type == "code"]
        assert counts == [*range(1, len(SHOWN) + 2)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        nbformat.write(run(read(), home), NOTEBOOK)
