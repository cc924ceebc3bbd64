"""Table III: HiDream-I1-Full at 1024 x 1024, 50 steps."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from duca_compile.methods.pab import PAB
from duca_compile.methods.toca import ToCa
from paper.flops.row import UNCACHED, Extra, Row, preset

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
    yield row(label="ToCa, N = 4", published="2540.1", method=ToCa(4, ratios="hidream"))
    for cycle, published in ((3, "2873.4"), (4, "2197.3")):
        method = replace(preset("duca-hidream"), cycle=cycle)
        yield row(label=f"DuCa, N = {cycle}", published=published, method=method)
