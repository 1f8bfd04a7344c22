"""The whole Jacobian of a function, row by row or column by column, and the Hessian."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from opgrad import creation
from opgrad.recording import Recording, insist_on_function
from opgrad.registry import calls
from opgrad.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def jacrev(
    func: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Return the function that gives the Jacobian of `func`, by a backward pass for each row.

    Parameters
    ----------
    func : callable
        The function.
    argnums : int or sequence of int
        Which positional arguments to differentiate with respect to.
    has_aux : bool
        `func` returns a pair, of which the second part is not differentiated; the Jacobian's
        function then returns a pair as well.

    Returns
    -------
    callable
        Takes the arguments of `func`. Gives the Jacobian of shape ``(*output.shape,
        *argument.shape)``; where `func` returns several arrays, or has several arguments in a
        tree or by `argnums`, the output's tree with the arguments' tree at each leaf.

    Raises
    ------
    TypeError, ValueError
        When called: as for `grad`, or if a complex result depends on a real argument, of which
        the backward pass gives the real part alone.

    Examples
    --------
    >>> import numpy as np
    >>> from opgrad import func
    >>> func.jacrev(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    return _jacobian("jacrev", func, argnums, has_aux, _by_rows)


def jacfwd(
    func: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Return the function that gives the Jacobian of `func`, by a forward pass for each column.

    Parameters
    ----------
    func, argnums, has_aux
        As for `jacrev`.

    Returns
    -------
    callable
        As from `jacrev`.

    Raises
    ------
    TypeError, ValueError
        When called: as for `grad`, or if a real result depends on a complex argument, in which
        it has no derivative.

    Examples
    --------
    >>> import numpy as np
    >>> from opgrad import func
    >>> func.jacfwd(lambda x: x.sum() * x)(np.array([1.0, 2.0]))
    array([[4., 1.],
           [2., 5.]])
    """
    return _jacobian("jacfwd", func, argnums, has_aux, _by_columns)


def jacobian(
    func: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Return the function that gives the Jacobian of `func`, in the cheaper direction.

    Forward as `jacfwd` if the arguments have fewer elements than the results, else backward as
    `jacrev`; where only the arguments or only the results are complex, in the one direction that
    loses no part of the derivatives.

    Parameters
    ----------
    func, argnums, has_aux
        As for `jacrev`.

    Returns
    -------
    callable
        As from `jacrev`.

    Raises
    ------
    TypeError, ValueError
        As for `jacrev`.

    Examples
    --------
    >>> import numpy as np
    >>> from opgrad import func
    >>> func.jacobian(lambda a, x: a * x, argnums=(0, 1))(2.0, np.array([3.0, 5.0]))
    (array([3., 5.]), array([[2., 0.],
           [0., 2.]]))
    """
    return _jacobian("jacobian", func, argnums, has_aux, _cheaper)


def hessian(func: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Return the function that gives the Hessian of `func`: the Jacobian of its Jacobian.

    Parameters
    ----------
    func, argnums
        As for `jacrev`; the arguments are real.

    Returns
    -------
    callable
        Takes the arguments of `func`; gives the second derivatives, for one argument in shape
        ``(*output.shape, *argument.shape, *argument.shape)``.

    Raises
    ------
    TypeError, ValueError
        When called: as for `grad`, or if an argument is complex.

    Examples
    --------
    >>> import numpy as np
    >>> from opgrad import func
    >>> func.hessian(lambda x: x[0] ** 2 * x[1])(np.array([3.0, 5.0]))
    array([[10.,  6.],
           [ 6.,  0.]])
    """
    slope = _jacobian("hessian", func, argnums, False, _by_rows)
    return _jacobian("hessian", slope, argnums, False, _by_real_rows)


def _jacobian(
    name: str,
    func: Callable[..., Any],
    argnums: int | Sequence[int],
    has_aux: bool,
    table: Callable[[Recording], list[list[Tensor]]],
) -> Callable[..., Any]:
    """Make the function whose blocks, by output and input, a `table` gives."""
    insist_on_function(name, func, argnums)

    @functools.wraps(func)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        recording = Recording(name, func, args, kwargs, argnums, has_aux)
        found = recording.like_value(map(recording.like_arguments, table(recording)))
        return (found, recording.aux) if has_aux else found

    return jacobian


def _by_rows(recording: Recording) -> list[list[Tensor]]:
    inputs, outputs = recording.inputs, recording.outputs
    table = []
    for i, output in enumerate(outputs):
        if output.dtype.kind == "c" and any(x.dtype.kind != "c" for x in inputs):
            _refuse(recording, "complex", "real", "jacfwd")
        rows = [recording.pull(_only(i, unit, outputs)) for unit in _units(output)]
        if output.dtype.kind == "c":  # a gradient is the conjugate of the derivative
            rows = [[calls.conj(each) for each in row] for row in rows]
        table.append([_block([row[k] for row in rows], 0, output, x) for k, x in enumerate(inputs)])
    return table


def _by_columns(recording: Recording) -> list[list[Tensor]]:
    inputs, outputs = recording.inputs, recording.outputs
    table: list[list[Tensor]] = [[] for _ in outputs]
    for i, x in enumerate(inputs):
        if x.dtype.kind == "c" and any(output.dtype.kind != "c" for output in outputs):
            _refuse(recording, "real", "complex", "jacrev")
        columns = [recording.push(_only(i, unit, inputs)) for unit in _units(x)]
        for k, output in enumerate(outputs):
            table[k].append(_block([column[k] for column in columns], -1, output, x))
    return table


def _by_real_rows(recording: Recording) -> list[list[Tensor]]:
    if any(x.dtype.kind == "c" for x in recording.inputs):
        msg = f"{recording.name}: an argument is complex; expected real ones. hvp takes both"
        raise TypeError(msg)
    return _by_rows(recording)


def _cheaper(recording: Recording) -> list[list[Tensor]]:
    inputs, outputs = recording.inputs, recording.outputs
    complex_input, complex_output = (
        any(each.dtype.kind == "c" for each in tensors) for tensors in (inputs, outputs)
    )
    forward = sum(x.size for x in inputs) < sum(output.size for output in outputs)
    if complex_input != complex_output:
        forward = complex_output
    return _by_columns(recording) if forward else _by_rows(recording)


def _refuse(recording: Recording, result: str, argument: str, instead: str) -> NoReturn:
    msg = (
        f"{recording.name}: func returned {result} numbers for {argument} arguments, of whose "
        f"derivatives this direction would lose a part; use {instead}"
    )
    raise TypeError(msg)


def _units(like: Tensor) -> Iterator[Tensor]:
    """Give the arrays which are one in one place and zero elsewhere, place by place."""
    for i in range(like.size):
        unit = np.zeros(like.size, like.dtype)
        unit[i] = 1
        unit = unit.reshape(like.shape)
        yield Tensor(unit if unit.ndim else unit[()])


def _only(index: int, value: Tensor, among: Sequence[Tensor]) -> list[Tensor | None]:
    return [value if i == index else None for i in range(len(among))]


def _block(parts: list[Tensor], axis: int, output: Tensor, x: Tensor) -> Tensor:
    """Join the rows or columns of the derivatives of one output with respect to one input."""
    shape = (*output.shape, *x.shape)
    if not parts:
        return creation.zeros(shape, dtype=np.result_type(output.dtype, x.dtype))
    return calls.reshape(calls.stack(parts, axis=axis), shape)  # type: ignore[no-any-return]  # a call by name
