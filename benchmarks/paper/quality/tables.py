"""The tables, of samples that are made where they are not there."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from duca_compile.methods.base import Method
from duca_compile.methods.magcache import MagCache
from face.block import Block
from figures import decibels, spread
from paper.flops.total import described
from paper.quality import matching
from paper.quality.generate import Bench, errors, made
from paper.quality.settings import (
    CYCLES,
    ERRORS,
    METHODS,
    ORDERS,
    RATIOS,
    SELECTORS_PART,
    UNCACHED,
    N,
    Setting,
    compared,
    cycles,
    orders,
    ratios,
    selectors,
)

OWN = "PSNR (dB)"


def near(bench: Bench, setting: Setting) -> Tensor:
    """Of each image: decibels to the uncached one."""
    return decibels(made(bench, setting).images, made(bench, UNCACHED).images)


def cells(bench: Bench, setting: Setting) -> tuple[str, ...]:
    done = made(bench, setting)
    return f"{done.full:.0f}", f"{done.speedup:.2f}x", spread(near(bench, setting))


def beside(bench: Bench, settings: Sequence[Setting]) -> list[tuple[str, ...]]:
    """Each with how far it is from the last one, image by image."""
    last = near(bench, settings[-1])
    told = [spread(near(bench, each) - last) for each in settings[:-1]]
    return [(each.name, *cells(bench, each), off) for each, off in zip(settings, [*told, ""], strict=True)]


def of_selectors(bench: Bench) -> Block:
    note = f"Table I: N = {N}, R = 0.9, conservative steps alone, {bench.samples} samples, one image a generation."
    headings = ("tokens that are recomputed", "full steps", "FLOPs", OWN, "over no token (dB)")
    return Block("Which tokens are recomputed", headings, beside(bench, selectors()), (note,))


def of_orders(bench: Bench) -> Block:
    note = f"Table VI: N = {N}, R = 0.9, random tokens, {bench.samples} samples."
    headings = ("steps between full ones", "full steps", "FLOPs", OWN, "over conservative only (dB)")
    return Block("Conservative and aggressive steps", headings, beside(bench, orders()), (note,))


def of_cycles(bench: Bench) -> Block:
    rows = [(each.name, *cells(bench, each)) for each in cycles()]
    note = f"Figure 7, left: DuCa, R = 0.9, {bench.samples} samples."
    return Block("The length of a cycle", ("N", "full steps", "FLOPs", OWN), rows, (note,))


def of_ratios(bench: Bench) -> Block:
    rows = [(each.name, *cells(bench, each)) for each in ratios()]
    note = f"Figure 7, right: DuCa, N = 5, {bench.samples} samples."
    return Block("The share of tokens from the cache", ("R", "full steps", "FLOPs", OWN), rows, (note,))


def of_methods(bench: Bench) -> Block:
    rows = [(f"{cost:.0f}x", each.name, setting(each), *cells(bench, each)) for cost, each in matching.settings(bench)]
    note = (
        f"{bench.samples} samples. Of each method the setting whose FLOPs are nearest to a cost, or that it can reach."
    )
    headings = ("cost", "method", "setting", "full steps", "FLOPs", OWN)
    return Block("All methods at matched FLOPs", headings, rows, (note,), words=(0, 1, 2))


def setting(each: Setting) -> str:
    """As options; a list of ratios is not told, and thresholds are to three digits."""
    if each.method is None:
        return ""
    method: Method = replace(each.method, ratios=()) if isinstance(each.method, MagCache) else each.method
    told = ", ".join(described(method).split(", ")[1:])
    return re.sub(r"\d+\.\d{4,}", lambda found: f"{float(found[0]):.3g}", told)


def of_errors(bench: Bench) -> Block:
    rows = []
    for each in compared():
        found = errors(bench, each)
        rows.append((each.name, f"{sum(found) / len(found):.2%}", f"{max(found):.2%}", *cells(bench, each)[1:]))
    note = f"Figure 2: N = {N}; of what the model predicts at a step, over the steps; 8 samples."
    headings = ("method", "mean error of a step", "largest", "FLOPs", OWN)
    return Block("The error of each step", headings, rows, (note,))


BLOCKS: Mapping[str, Callable[[Bench], Block]] = {
    SELECTORS_PART: of_selectors, ORDERS: of_orders, CYCLES: of_cycles, RATIOS: of_ratios, METHODS: of_methods,
    ERRORS: of_errors,
}  # fmt: skip
