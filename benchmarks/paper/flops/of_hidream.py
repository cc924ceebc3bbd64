"""Table III: HiDream-I1-Full at 1024 x 1024, 50 steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from duca_compile.analysis.facts import Facts
from duca_compile.methods.duca import DuCa
from duca_compile.methods.pab import PAB
from duca_compile.methods.refresh import Refresh
from paper.flops.row import UNCACHED, Extra, Row

EMBEDDINGS = 2 * 49 * 256 * 4096 * 2560 + 2 * 8192 * 64 * 2560
NORMS, MODULATIONS = 4 * 2 * 4480 * 2560 * 48, 2 * 2 * 2560 * 2560 * (16 * 6 + 32 * 3)
"""Of all attentions."""
EXTRAS = (
    Extra("embeddings that nothing reads", EMBEDDINGS, ("aggressive",)),
    Extra("norms and modulations that nothing reads", NORMS + MODULATIONS, ("reuse",)),
)
row = partial(Row, table="III", model="hidream", base="7780.0", extras=EXTRAS)


def rows() -> Iterator[Row]:
    yield row(label="uncached, 50 steps", published="7780.0", method=UNCACHED)
    yield row(label="PAB, N = 8", published="5962.0", method=PAB(8, 8, 1, window=(0.0, 1.0)))
    yield row(label="ToCa, N = 4", published="2540.1", method=ByStreamsDuCa(4, order="conservative"))
    for cycle, published in ((3, "2873.4"), (4, "2197.3")):
        yield row(
            label=f"DuCa, N = {cycle}", published=published, method=ByStreamsDuCa(cycle, order="aggressive-first")
        )


@dataclass(frozen=True)
class ByStreams(Refresh):
    """0.4 of the share of tokens in blocks that keep the text apart, 1.6 of it in those of one joined stream."""

    def share(self, at: int, facts: Facts) -> Fraction:
        block = next(block for block in facts.blocks if at in block)
        joined = len({facts.branches[branch].stream for branch in block}) == 1
        return super().share(at, facts) * Fraction(8 if joined else 2, 5)


@dataclass(frozen=True)
class ByStreamsDuCa(DuCa):
    @property
    def _refresh(self) -> Refresh:
        return ByStreams(self.cache_ratio, self.selection, self.seed)
