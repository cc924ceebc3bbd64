"""Tables II and VI: FLUX.1-dev at 1024 x 1024, 50 steps."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from duca_compile.methods.base import FULL, Action, Recipe, always
from duca_compile.methods.delta_dit import DeltaDiT
from duca_compile.methods.duca import DuCa
from duca_compile.methods.fora import FORA
from duca_compile.methods.published import PUBLISHED
from paper.flops.row import UNCACHED, Beside, Extra, Row, preset, sequence

EMBEDDINGS = 2 * (4096 * 64 + 512 * 4096) * 3072
OF_DOUBLE, OF_SINGLE = 19 * 2 * 2 * 3072 * 6 * 3072, 38 * 2 * 3072 * 3 * 3072
"""Modulations of all blocks of a kind."""
UNREAD = "embeddings and modulations that nothing reads"
EXTRAS = (
    Extra("attentions' output projections of all tokens again", 19 * 2 * 4608 * 3072**2, ("conservative", "reuse")),
    Extra(UNREAD, OF_DOUBLE / 3, ("conservative",)),
    Extra(UNREAD, (OF_DOUBLE + OF_SINGLE) * 2 / 3, ("reuse", "no-token")),
    Extra(UNREAD, EMBEDDINGS + OF_SINGLE, ("aggressive",)),
)
HALVES = (*EXTRAS, Extra(UNREAD, OF_DOUBLE, ("aggressive",), stop=25))
"""Of DuCa, whose code adds up what each block added last in the aggressive steps of the first half."""
row = partial(Row, table="II", model="flux", base="3719.50", extras=EXTRAS)


def rows() -> Iterator[Row]:
    yield row(label="uncached, 50 steps", published="3719.50", method=UNCACHED)
    yield row(label="uncached, 20 steps", published="1487.80", method=UNCACHED, steps=20, printed=2.62)
    yield row(label="Delta-DiT, N = 2", published="2480.01", method=PUBLISHED["delta-dit-flux"])
    yield from delta_dit_3()
    yield row(label="FORA, N = 3", published="1320.07", method=FORA(3))
    yield teacache()
    yield row(label="ToCa, N = 5", published="1126.76", method=PUBLISHED["toca-flux"])
    for cycle, published in ((4, "1190.24"), (5, "1078.34"), (6, "917.32")):
        method = replace(preset("duca-flux"), cycle=cycle)
        yield row(label=f"DuCa, N = {cycle}", published=published, method=method, extras=HALVES)
    row_vi = partial(row, table="VI")
    alone = partial(DuCa, 4, 3, ratios="flux")
    yield row_vi(label="conservative alone, N = 4", published="1263.22", method=alone(order="conservative"))
    yield row_vi(label="aggressive alone, N = 4", published="1042.12", method=alone(order="aggressive"))


def teacache() -> Row:
    """Which steps are full depends on the images."""
    note = "the printed ratio is that of 1414.44 T, which 19 full steps give; 1114.44 T would be 3.34x"
    method, steps = PUBLISHED["teacache-flux"], [FULL] * 19 + ["skip"] * 31
    return row(label="TeaCache", published="1114.44", method=method, steps=steps, note=note, printed=2.63)


def delta_dit_3() -> Iterator[Row]:
    """In every second cached step the published code runs no block and adds up what each added last."""
    method = DeltaDiT(3, front=19, rear_share=1.0)
    steps = ["no-token" if at % 3 == 2 else name for at, name in enumerate(sequence(method, 50))]
    slip = Beside(method=method, more=(Recipe("no-token", always(Action.REUSE)),))
    yield row(label="Delta-DiT, N = 3", published="1686.76", method=slip, steps=steps)
    yield row(
        label="Delta-DiT, N = 3, by its rule", published="", method=method, note="two cached steps after each full one"
    )
