"""The figure of quality: a sampler in each panel, decibels to its own 50 steps against FLOPs."""

import torch
from matplotlib.figure import Figure

from figures import decibels
from quality.rows import OURS, WITNESSES, Found, Row


def figure(found: Found, samplers: list[str]) -> Figure:
    drawn = Figure(figsize=(4 * len(samplers), 4), layout="constrained")
    panels = drawn.subplots(1, len(samplers), sharey=True, squeeze=False)[0]
    lines = {"presets": OURS, "DuCa": ("duca, N = 3", "duca, N = 5")}
    for axis, sampler in zip(panels, samplers, strict=True):
        whole = found[Row.own(sampler)]
        shown = {label: [Row.cached(sampler, name) for name in names] for label, names in lines.items()}
        shown["fewer steps"] = [Row.computed(sampler, steps) for steps in WITNESSES[sampler][1:]]
        for label, rows in shown.items():
            there = [found[row] for row in rows if row in found]
            away = [
                float(decibels(torch.cat(each.images), whole.first(len(torch.cat(each.images)))).mean())
                for each in there
            ]
            axis.plot([whole.flops / each.flops for each in there], away, "o-", label=label)
        axis.set(title=sampler, xlabel="times fewer FLOPs")
        axis.grid(alpha=0.3)
    panels[0].set_ylabel("PSNR to the 50 steps (dB)")
    panels[0].legend()
    return drawn
