"""The notebook ``examples/autograd.ipynb``: what each of its cells shows.

It is run from top to bottom, and what is stored in it must be what running it shows. To store
its outputs anew after a change, run this file: ``python tests/test_notebook.py``.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "autograd.ipynb"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SVG = "image/svg+xml"
SVG_TEXT = "{http://www.w3.org/2000/svg}text"

#: The text that each code cell shows, with addresses as "0x...".
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
    # The numbers are PyTorch's for the same w and b; those are NumPy's default_rng(0).
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


def run(notebook, home):
    """Run a notebook in a kernel of this Python, whatever Jupyter is set up to do on the machine.

    Everything that Jupyter and IPython read or write for the user, they get in `home`.
    """
    folders = ["IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"]
    environment = {**dict.fromkeys(folders, str(home)), "JUPYTER_PATH": "", "PYTHONSTARTUP": ""}
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    with (
        mock.patch.dict(os.environ, environment),
        # ZeroMQ needs a loop with a selector, which is not the default on Windows.
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


def code_cells(notebook):
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def outputs_of(cell):
    """Return a cell's outputs without what differs from run to run."""
    return [{**output, "data": comparable(output.get("data", {}))} for output in cell.outputs]


def comparable(data):
    """Write addresses as ``0x...``; of a picture take what is written in it, wherever that is."""
    return {
        mime: words(text) if mime == SVG else re.sub(r"0x[0-9a-fA-F]+", "0x...", text)
        for mime, text in data.items()
    }


def words(svg):
    return sorted("".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(SVG_TEXT))


def result(count, text):
    """Return the outputs of a cell that shows the value of its last line and nothing else."""
    return [
        {
            "output_type": "execute_result",
            "execution_count": count,
            "metadata": {},
            "data": {"text/plain": text},
        }
    ]


class TestEachCell:
    @pytest.mark.parametrize(("cell", "text"), SHOWN.items())
    def test_shows(self, fresh, cell, text):
        count = [*SHOWN].index(cell) + 1
        expected = [] if text is None else result(count, text)
        assert outputs_of(code_cells(fresh)[cell]) == expected

    def test_is_in_the_table_or_is_the_picture(self):
        assert list(code_cells(read())) == [*SHOWN, "picture"]

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz's dot is missing")

class TestThePicture:
    @needs_dot
    def test_names_leaves_and_operators(self, fresh):
        (output,) = outputs_of(code_cells(fresh)["picture"])
        assert output["data"][SVG] == []


class TestTheStoredNotebook:
    @pytest.mark.parametrize("cell", SHOWN)
    def test_shows_what_running_it_shows(self, fresh, cell):
        stored = code_cells(read())[cell]
        assert outputs_of(stored) == outputs_of(code_cells(fresh)[cell])
