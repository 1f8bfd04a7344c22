"""What one number of an array, or of a derivative, is called: ``d output[2, 1] / d x[0]``.

The numbers of an array are counted as `comparing` lays them out: all real parts, row by row, and
then all imaginary ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]


def element(name: str, array: Array, at: int) -> str:
    """Return what one number of an array is called.

    Parameters
    ----------
    name : str
        The array's name.
    array : ndarray
        The array.
    at : int
        Which of its numbers.

    Examples
    --------
    >>> import numpy as np
    >>> element("x", np.zeros((3, 4)), 9)
    'x[2, 1]'
    >>> element("z", np.zeros(2, complex), 3)
    'z[1].imag'
    """
    imaginary, flat = divmod(at, array.size)
    indices = ", ".join(str(int(each)) for each in np.unravel_index(flat, array.shape))
    part = (".real", ".imag")[imaginary] if array.dtype.kind == "c" else ""
    return name + (f"[{indices}]" if indices else "") + part


def parts(array: Array) -> int:
    """Return how many numbers an array has, a complex one counting as two."""
    return 2 * array.size if array.dtype.kind == "c" else array.size


@dataclass(frozen=True, slots=True)
class Places:
    """What the entries of a Jacobian are called.

    Attributes
    ----------
    outputs : sequence of ndarray
        The outputs, whose numbers are its rows.
    x : ndarray
        The input, whose numbers are its columns.
    name : str
        What the input is called: nothing, or a number, where it has no name of its own.
    output_names : sequence of str
        What the outputs are called; by default "output".
    """

    outputs: Sequence[Array]
    x: Array
    name: str
    output_names: Sequence[str] = ()

    def entry(self, row: int, column: int) -> str:
        """Name the derivative of one number of the outputs by one of the input."""
        return f"d {self._output(row)} / d {element(self._input, self.x, column)}"

    def row(self, row: int) -> str:
        """Name the derivative of one number of the outputs as the input moves in a direction."""
        return f"d {self._output(row)} along a direction in {self._input}"

    def column(self, column: int) -> str:
        """Name the derivative of the weighted outputs by one number of the input."""
        return f"d {WEIGHTED} / d {element(self._input, self.x, column)}"

    def slope(self) -> str:
        """Name the derivative of the weighted outputs as the input moves in a direction."""
        return f"d {WEIGHTED} along a direction in {self._input}"

    @property
    def _input(self) -> str:
        return f"inputs[{self.name}]" if self.name.isdigit() else self.name or "x"

    def _output(self, row: int) -> str:
        several = len(self.outputs) > 1
        usual = [f"outputs[{k}]" if several else "output" for k in range(len(self.outputs))]
        for name, output in zip(self.output_names or usual, self.outputs, strict=True):
            if row < parts(output):
                return element(name, output, row)
            row -= parts(output)
        raise IndexError(row)


#: What is differentiated where one slope stands for all of the outputs.
WEIGHTED = "sum(grad * output)"
