"""Groups branches into blocks: the longest periodic repetition of equal structure."""

from collections.abc import Sequence

LONGEST_BLOCK = 16
"""Branches in one block; the largest known has 8 (two streams, each with two attentions and two MLPs)."""


def find_blocks(fingerprints: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Blocks as tuples of branch indices. Branches that repeat nothing, side by side, form one block."""
    blocks: list[tuple[int, ...]] = []
    single: list[int] = []
    at = 0
    while at < len(fingerprints):
        period, repeats = _repetition(fingerprints, at)
        if repeats < 2:
            single.append(at)
            at += 1
            continue
        if single:
            blocks.append(tuple(single))
            single = []
        for block in range(repeats):
            start = at + block * period
            blocks.append(tuple(range(start, start + period)))
        at += period * repeats
    if single:
        blocks.append(tuple(single))
    return tuple(blocks)


def _repetition(fingerprints: Sequence[int], at: int) -> tuple[int, int]:
    """(period, repeats) at `at` that covers the most branches; of equal cover the shortest period."""
    best = (1, 1)
    for period in range(1, min(LONGEST_BLOCK, (len(fingerprints) - at) // 2) + 1):
        unit = fingerprints[at : at + period]
        repeats = 1
        while fingerprints[at + repeats * period : at + (repeats + 1) * period] == unit:
            repeats += 1
        if repeats > 1 and period * repeats > best[0] * best[1]:
            best = (period, repeats)
    return best
