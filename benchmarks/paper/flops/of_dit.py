"""Table IV: DiT-XL/2 at 256 x 256, 50 DDIM steps."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from duca_compile.analysis.facts import Branch, Facts
from duca_compile.methods.base import FULL, Action, Recipe, always
from duca_compile.methods.delta_dit import DeltaDiT
from duca_compile.methods.duca import DuCa
from duca_compile.methods.fora import FORA
from paper.flops.row import UNCACHED, Beside, Extra, Row, preset, sequence

HALF, VAIN = "half-full", "in-vain"
"""What runs in place of some full steps: the first block in full, and the others conservatively or not at all.

The published code decides in every block what a step does, and in a full step the first block sets the threshold. Where
the step, counted down, is no multiple of the new one, the other 27 blocks run as in a cached step.
"""
MODULATIONS = 28 * 6 * 2 * 1152**2
"""At one per multiply-add, as the published code counts them."""
UNREAD = "modulations that nothing reads"
EXTRAS = (
    Extra("norms of all tokens", 28 * 2 * 512 * 1152, (FULL, "conservative", "reuse", "without", HALF)),
    Extra(UNREAD, MODULATIONS / 3, ("conservative", HALF)),
    Extra(UNREAD, MODULATIONS / 3, ("conservative", HALF), stop=12),  # where the rule leaves no token
    Extra(UNREAD, MODULATIONS * 2 / 3, ("reuse",)),
    Extra("a block that nothing reads", 474_705_624_064 / 28, (VAIN,)),
)
row = partial(Row, table="IV", model="dit", base="23.74", extras=EXTRAS)


def rows() -> Iterator[Row]:
    for steps, published in ((50, "23.74"), (25, "11.87"), (20, "9.49"), (17, "8.07")):
        yield row(label=f"uncached, {steps} steps", published=published, method=UNCACHED, steps=steps)
    yield row(label="FORA, N = 3", published="8.57", method=FORA(3, warmup_steps=2))
    yield row(label="Delta-DiT, N = 2", published="18.04", method=DeltaDiT(2, warmup_steps=2))
    yield row(label="Delta-DiT, N = 3", published="16.14", method=DeltaDiT(3, warmup_steps=2), printed=1.92)
    toca, duca = preset("toca-dit"), preset("duca-dit")
    yield from as_published("ToCa (a), N = 4", "8.73", replace(toca, cycle=4), {42: HALF, 30: HALF, 8: HALF})
    yield from as_published("ToCa (b), N = 3", "10.23", toca, {45: HALF, 32: HALF})
    yield from as_published("DuCa (a), N = 3", "8.76", replace(duca, order="aggressive-last"), {45: VAIN, 32: HALF})
    yield from as_published("DuCa (b), N = 3", "9.58", duca, {45: HALF, 32: VAIN})


def as_published(label: str, published: str, method: DuCa, instead: Mapping[int, str]) -> Iterator[Row]:
    """`instead`: what runs in place of full steps, by their number counted down. The rule varies from step to step."""
    method = replace(method, levels=50)
    more = {step: _instead(step, name, method) for step, name in instead.items()}
    steps = [more[49 - at].name if 49 - at in more else name for at, name in enumerate(sequence(method, 50))]
    yield row(label=label, published=published, method=Beside(method=method, more=tuple(more.values())), steps=steps)
    yield row(label=f"{label}, by its rule", published="", method=method, note="with its full steps full")


def _instead(step: int, name: str, method: DuCa) -> Recipe:
    if name == VAIN:
        return Recipe(f"{name}-{step}", always(Action.SKIP), cut=True)
    conservative = next(each for each in method.recipes() if each.name.startswith("conservative"))
    refresh = replace(conservative.refresh, left=step / 50)
    return Recipe(f"{name}-{step}", _after_first_block(Action.REFRESH), refresh=refresh)


def _after_first_block(action: Action) -> Callable[[int, Branch, Facts], Action]:
    return lambda at, branch, facts: Action.COMPUTE if at in facts.blocks[0] else action
