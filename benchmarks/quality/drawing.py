"""The figure of quality: decibels against FLOPs, to each sampler's own 50 steps and to the images that all approach."""

import math

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import decibels
from quality.rows import EXACT, OURS, PLACED, SOLVERS, WITNESSES, Found, Outcome, Row

Lines = dict[str, list[Row]]
COLUMNS = 3


def figure(found: Found, samplers: list[str]) -> Figure:
    exact = found.get(Row.computed(*EXACT))
    count = len(samplers) + (exact is not None)
    rows = math.ceil(count / COLUMNS)
    drawn = Figure(figsize=(4.2 * COLUMNS, 4 * rows), layout="constrained")
    panels = drawn.subplots(rows, COLUMNS, sharey=True, squeeze=False).flatten()
    whole = found[Row.own("DDIM")]
    for axis, sampler in zip(panels, samplers, strict=False):
        own = found[Row.own(sampler)]
        draw(axis, lines_to_own(sampler), found, own, own)
        axis.set(title=sampler, ylabel="PSNR to its own 50 steps (dB)")
    if exact is not None:
        last = panels[count - 1]
        draw(last, lines_to_exact(), found, exact, whole)
        last.set(title="to the images that all approach", ylabel="PSNR to these (dB)")
    for axis in panels[count:]:
        axis.remove()
    return drawn


def lines_to_own(sampler: str) -> Lines:
    return {
        "presets": [Row.cached(sampler, name) for name in OURS],
        "DuCa": [Row.cached(sampler, name) for name in ("duca, N = 3", "duca, N = 5")],
        "fewer steps": [Row.computed(sampler, steps) for steps in WITNESSES[sampler][1:]],
    }


def lines_to_exact() -> Lines:
    fewer = {f"fewer steps of {solver}": lines_to_own(solver)["fewer steps"] for solver in SOLVERS}
    placed = {f"our steps alone by {solver}": [Row.placed(solver, name) for name in PLACED] for solver in SOLVERS}
    return {"presets over DDIM": lines_to_own("DDIM")["presets"], **fewer, **placed}


def draw(axis: Axes, lines: Lines, found: Found, wanted: Outcome, whole: Outcome) -> None:
    """What is not found is left out."""
    for label, rows in lines.items():
        there = [found[row] for row in rows if row in found]
        if there:
            away = [near(torch.cat(each.images), wanted) for each in there]
            axis.plot([whole.flops / each.flops for each in there], away, "o-", label=label)
    axis.set(xlabel="times fewer FLOPs")
    axis.grid(alpha=0.3)
    many = len(lines) > 3
    axis.legend(fontsize="x-small" if many else "small", loc="upper right" if many else "lower left")


def near(images: torch.Tensor, wanted: Outcome) -> float:
    count = min(len(images), len(torch.cat(wanted.images)))
    return float(decibels(images[:count], wanted.first(count)).mean())
