"""Table V: Open-Sora 1.2, 51 frames of 480 x 854, 30 steps."""

from collections.abc import Iterator
from functools import partial

from duca_compile.methods.attention_kinds import CROSS, reusing
from duca_compile.methods.base import FULL
from duca_compile.methods.fora import FORA
from duca_compile.methods.published import PUBLISHED
from duca_compile.methods.selectors import RANDOM
from duca_compile.methods.toca import ToCa
from paper.flops.row import UNCACHED, Beside, Extra, Row, preset

CROSS_ATTENTION = 4 * 47700 * 11 * 1152 * 56
"""Scores and sums of all cross-attentions, each half of the batch with its own words."""
CAPTION, WORDS = 2 * 600 * (4096 + 1152) * 1152, 2 * 22 * 1152 * 2 * 1152 * 56
EMBEDDINGS, FINAL_NORM = 2 * 47700 * 16 * 1152 + 2 * 2 * 1152 * 6 * 1152, 5 * 47700 * 1152
"""Of the latents, and of the timestep for the blocks; and the only norm that it sees."""
BOTH_HALVES = Extra("cross-attention of each half to the words of both", CROSS_ATTENTION, (FULL,))
UNSEEN = Extra("cross-attention in a kernel that is not counted", -CROSS_ATTENTION, (FULL,))
UNREAD = "embeddings that nothing reads"
OF_DUCA = (
    UNSEEN,
    Extra(UNREAD, CAPTION, ("conservative", "reuse")),
    Extra(UNREAD, CAPTION + EMBEDDINGS + FINAL_NORM, ("aggressive",)),
)
OF_TOCA = (BOTH_HALVES, Extra(UNREAD, CAPTION + WORDS, ("conservative", "reuse")))
"""Its cross-attention of no token still projects the words."""
OF_FORA = (BOTH_HALVES, Extra(UNREAD, CAPTION + WORDS + FINAL_NORM, ("reuse",)))
row = partial(Row, table="V", model="opensora", base="3283.20", steps=30)
SOME_MLPS = "some MLPs are reused there, too, and where its window of timesteps lies is not told"
KEEPING_CROSS = reusing((CROSS,), gated=False)


def rows() -> Iterator[Row]:
    yield row(label="uncached, 30 steps", published="3283.20", method=UNCACHED, extras=OF_TOCA)
    yield row(label="uncached, 15 steps", published="1641.60", method=UNCACHED, steps=15, extras=OF_TOCA)
    yield from measured_elsewhere()
    yield row(label="FORA, N = 2", published="1751.32", method=FORA(2, warmup_steps=3), extras=OF_FORA)
    # No attention of it sees all tokens, so none scores them; by FLOPs, as many random ones are the same.
    for label, published, method, extras in (
        ("ToCa, N = 3", "1394.03", ToCa(3, 3, ratios="opensora", selector=RANDOM, staleness=0), OF_TOCA),
        ("DuCa, N = 3", "1315.62", preset("duca-opensora"), OF_DUCA),
    ):
        both = Beside(method=method, more=(KEEPING_CROSS,))
        yield row(label=label, published=published, method=both, steps=steps(label.startswith("ToCa")), extras=extras)


def measured_elsewhere() -> Iterator[Row]:
    for label, published, method, note in (
        ("Delta-DiT", "3166.47", None, "its setting is not told"),
        ("T-GATE", "2818.40", None, "its setting is not told"),
        ("PAB 246", "2657.70", PUBLISHED["pab-246"], SOME_MLPS),
        ("PAB 357", "2615.15", PUBLISHED["pab-357"], SOME_MLPS),
        ("PAB 579", "2558.25", PUBLISHED["pab-579"], SOME_MLPS),
    ):
        base = f"measured elsewhere, against an uncached 3230.24 T ({3230.24 / float(published):.2f}x)"
        yield row(label=label, published=published, method=method, note=f"{base}; {note}")


def steps(toca: bool) -> list[str]:
    """Cross-attention is due in one step of six, the rest in one of three, beside the first three."""
    cached = ("conservative", "conservative" if toca else "aggressive")
    in_turn = (FULL, *cached, KEEPING_CROSS.name, *cached)
    return [FULL] * 3 + [in_turn[step % 6] for step in range(3, 30)]
