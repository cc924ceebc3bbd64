"""PixArt-alpha at 256 x 256, 20 steps: the paper names it and prints no figure; the setting is that of its code."""

from collections.abc import Iterator
from functools import partial

from duca_compile.methods.published import PUBLISHED
from paper.flops.row import UNCACHED, Row

row = partial(Row, table="", model="pixart", base="", published="", steps=20)


def rows() -> Iterator[Row]:
    note = "the paper prints no figure; prompts of 20 tokens"
    yield row(label="uncached, 20 steps", method=UNCACHED, note=note)
    yield row(label="DuCa, N = 3", method=PUBLISHED["duca-pixart"], note=note)
