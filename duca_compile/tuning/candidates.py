"""Schedules worth trying: so many full steps, placed in some way."""

import itertools
from collections.abc import Sequence

from duca_compile.generations.recording import Likeness
from duca_compile.methods.schedules import full_steps_before
from duca_compile.refusal import Refused
from duca_compile.tuning.least_error import LONGEST, least_error

CANDIDATES = ("dense ends", "equal change", "least error, stream", "least error, output")


def candidates(likeness: Likeness, full_steps: int) -> dict[str, tuple[int, ...]]:
    """Full steps, by how they are placed."""
    if likeness.steps > LONGEST:
        raise Refused(f"tune is for generations of up to {LONGEST} steps, not {likeness.steps}")
    dense = [full_steps_before(at / likeness.steps) for at in range(likeness.steps)]
    placed = (
        equal_shares([after - before for before, after in itertools.pairwise(dense)], full_steps),
        equal_shares(likeness.changes, full_steps),
        least_error(likeness.stream, full_steps),
        least_error(likeness.output, full_steps),
    )
    return dict(zip(CANDIDATES, placed, strict=True))


def equal_shares(measure: Sequence[float], count: int) -> tuple[int, ...]:
    """`count` steps between which the measure adds up to as much each time, to the nearest step; the first is one."""
    passed = [0.0, *itertools.accumulate(measure)]
    whole = passed[-1] * len(passed) / len(measure)
    found = [0]
    for at in range(1, count):
        nearest = min(range(len(passed)), key=lambda step: abs(passed[step] - whole * at / count))
        found.append(min(max(nearest, found[-1] + 1), len(passed) - count + at))
    return tuple(found)
