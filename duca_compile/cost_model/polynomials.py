"""Exact polynomials through values on a grid."""

import operator
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
    return sympy.Add(*(found[index] * sympy.prod(map(operator.pow, symbols, index)) for index in indices))


def _at(grid: Sequence[Sequence[int]], index: Point) -> Point:
    return tuple(axis[at] for axis, at in zip(grid, index, strict=True))


def _moved(index: Point, place: int, to: int) -> Point:
    return (*index[:place], to, *index[place + 1 :])
