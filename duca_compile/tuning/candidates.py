"""Schedules worth trying: so many full steps, placed in some way."""

import itertools
from collections.abc import Sequence

from duca_compile.methods.schedules import full_steps_before


def candidates(changes: Sequence[float], full_steps: int) -> dict[str, tuple[int, ...]]:
    """Full steps, by how they are placed. `changes`: how much each step but the first changes of what is forecast."""
    steps = len(changes) + 1
    dense = [full_steps_before(at / steps) for at in range(steps)]
    measures = {
        "even": [1.0] * (steps - 1),
        "dense ends": [after - before for before, after in itertools.pairwise(dense)],
        "equal change": changes,
        "equal root of change": [change**0.5 for change in changes],
    }
    return {name: equal_shares(measure, full_steps) for name, measure in measures.items()}


def equal_shares(measure: Sequence[float], count: int) -> tuple[int, ...]:
    """`count` steps between which the measure adds up to as much each time, to the nearest step; the first is one."""
    passed = [0.0, *itertools.accumulate(measure)]
    whole = passed[-1] * len(passed) / len(measure)
    found = [0]
    for at in range(1, count):
        nearest = min(range(len(passed)), key=lambda step: abs(passed[step] - whole * at / count))
        found.append(min(max(nearest, found[-1] + 1), len(passed) - count + at))
    return tuple(found)
