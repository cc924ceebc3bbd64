"""Exact polynomials through values on a grid."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import sympy

Point = tuple[int, ...]


def interpolate(values: Mapping[Point, Any], grid: Sequence[Sequence[int]], symbols: Sequence[sympy.Symbol]) -> Any:
    """The polynomial of degree `len(grid[i]) - 1` in `symbols[i]` that takes `values` at the points of the grid.

    Rational arithmetic throughout; one axis after the other, values turn into coefficients of its powers.
    """
    indices = list(product(*(range(len(axis)) for axis in grid)))
    found = {index: sympy.sympify(values[_at(grid, index)]) for index in indices}
    for place, axis in enumerate(grid):
        to_powers = sympy.Matrix(len(axis), len(axis), lambda row, power, axis=axis: axis[row] ** power).inv()
        found = {
            index: sum(to_powers[index[place], row] * found[_moved(index, place, row)] for row in range(len(axis)))
            for index in indices
        }
    monomials = {index: sympy.prod(symbol**power for symbol, power in zip(symbols, index)) for index in indices}
    return sympy.Add(*(found[index] * monomials[index] for index in indices))


def affine(vectors: Sequence[Point], values: Sequence[Any]) -> list[Any]:
    """`[a, b1, b2, ...]` with `a + b . vector = value` for all vectors, which are affinely independent."""
    system = sympy.Matrix([[1, *vector] for vector in vectors])
    return list(system.LUsolve(sympy.Matrix(values)))


def independent(vectors: Sequence[Point]) -> list[int] | None:
    """The first vectors that are affinely independent and span all their dimensions; None if they do not."""
    rows = sympy.Matrix([[1, *vector] for vector in vectors])
    pivots = rows.T.rref()[1]
    return list(pivots) if len(pivots) == rows.cols else None


def _at(grid: Sequence[Sequence[int]], index: Point) -> Point:
    return tuple(axis[at] for axis, at in zip(grid, index, strict=True))


def _moved(index: Point, place: int, to: int) -> Point:
    return (*index[:place], to, *index[place + 1 :])
