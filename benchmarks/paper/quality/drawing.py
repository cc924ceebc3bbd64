"""Figures 2 and 7, and all methods: decibels against FLOPs."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure

from paper.quality import matching
from paper.quality.generate import Bench, errors, made
from paper.quality.settings import Setting, compared, cycles, ratios
from paper.quality.tables import near

MARKS = "os^vDPX*<>hd"
COLOURS = colormaps["tab20"]


def of_errors(bench: Bench) -> Figure:
    drawn = Figure(figsize=(8, 4), layout="constrained")
    axis = drawn.subplots()
    for each in compared():
        steps = [(at, found) for at, found in enumerate(errors(bench, each)) if found > 1e-5]
        axis.plot(*zip(*steps, strict=True), ".-", linewidth=1, label=each.name)
    axis.set(xlabel="step", ylabel="L2 error of what is predicted", yscale="log")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, ncols=2)
    return drawn


def of_sweeps(bench: Bench) -> Figure:
    drawn = Figure(figsize=(8, 3.5), layout="constrained")
    for axis, settings, name in zip(drawn.subplots(1, 2, sharey=True), (cycles(), ratios()), ("N", "R"), strict=True):
        _sweep(bench, axis, settings, name)
    return drawn


def _sweep(bench: Bench, axis: Any, settings: Sequence[Setting], name: str) -> None:
    at = [float(each.name) for each in settings]
    found = [near(bench, each) for each in settings]
    errors_of = [float(each.std()) / len(each) ** 0.5 for each in found]
    axis.errorbar(at, [float(each.mean()) for each in found], errors_of, fmt="o-", color="tab:blue", capsize=3)
    axis.set(xlabel=name)
    axis.set_ylabel("PSNR to uncached (dB)", color="tab:blue")
    axis.grid(alpha=0.3)
    other = axis.twinx()
    other.plot(at, [1 / made(bench, each).speedup for each in settings], "s--", color="tab:orange")
    other.set_ylabel("share of the FLOPs", color="tab:orange")
    other.set_ylim(bottom=0)


def of_methods(bench: Bench) -> Figure:
    drawn = Figure(figsize=(9, 5), layout="constrained")
    axis = drawn.subplots()
    axis.set_prop_cycle(color=[COLOURS(number) for number in range(len(MARKS))])
    by_name = sorted((each for _, each in matching.settings(bench)), key=lambda each: each.name)
    for mark, (name, settings) in zip(MARKS, groupby(by_name, key=lambda each: each.name), strict=False):
        points = [(made(bench, each).speedup, float(near(bench, each).mean())) for each in settings]
        axis.plot(*zip(*sorted(points), strict=True), f"{mark}-", linewidth=1, label=name)
    axis.set(xlabel="times fewer FLOPs", ylabel="PSNR to uncached (dB)")
    axis.grid(alpha=0.3)
    drawn.legend(fontsize=8, loc="outside right upper")
    return drawn


FIGURES: Mapping[str, Callable[[Bench], Figure]] = {"errors": of_errors, "sweeps": of_sweeps, "methods": of_methods}
