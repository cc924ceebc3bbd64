"""Generates one grid of images from the same noise plain, by DuCa and by the default, and compares speed and quality.

python examples/demo.py
"""

import argparse
import contextlib
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

import duca_compile
from classifier import trained_classifier
from fashion import CLASSES
from sampling import initial_noise, sample, trained_dit

OUTPUT = Path(__file__).parents[1] / "output"
PLAIN, DUCA, DEFAULT = "plain", "DuCa", "default"
OPTIONS: dict[str, dict[str, Any]] = {DUCA: {"method": "duca"}, DEFAULT: {}}
WARM = 5
"""Steps in which every graph is used, and so compiled."""


@dataclass(frozen=True)
class Run:
    """`compiling`: seconds to the end of the first steps; `seconds` of a whole run after that, with its `steps`."""

    images: Tensor
    compiling: float
    seconds: float
    steps: Counter[str]
    flops: float
    held_bytes: int


def main() -> None:
    args = parse_arguments()
    console = Console(width=80)
    labels = torch.arange(10).repeat(args.rows)
    noise = initial_noise(len(labels), args.seed)
    with Progress(console=console) as progress:
        runs = {name: run(name, labels, noise, args.steps, progress) for name in (PLAIN, *OPTIONS)}
    console.print(f"{len(labels)} images, {args.steps} DDIM steps, {torch.get_num_threads()} threads")
    console.print(table(runs, labels))
    path = draw(runs, args.rows)
    console.print(f"wrote {os.path.relpath(path)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4, help="images per class")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def run(name: str, labels: Tensor, noise: Tensor, steps: int, progress: Progress) -> Run:
    """Samples twice: some steps to compile all graphs, then a whole generation."""
    model = trained_dit()
    compiled = torch.compile(model) if name == PLAIN else torch.compile(model, backend="duca", options=OPTIONS[name])
    began = time.perf_counter()
    warm(compiled, labels, noise, steps, progress, name)
    compiling, before = time.perf_counter() - began, duca_compile.stats(model).steps
    task = progress.add_task(f"{name}: sampling", total=steps)
    began = time.perf_counter()
    images = sample(compiled, labels, noise, steps, on_step=lambda: progress.update(task, advance=1))
    seconds = time.perf_counter() - began
    done = duca_compile.stats(model).steps
    counts = Counter({"full": steps}) if name == PLAIN else Counter({each: done[each] - before[each] for each in done})
    return Run(images, compiling, seconds, counts, *cost(name, model, labels, counts))


class _Enough(Exception):
    """Raised once every graph has run."""


def warm(model: Any, labels: Tensor, noise: Tensor, steps: int, progress: Progress, name: str) -> None:
    task, seen = progress.add_task(f"{name}: compiling", total=WARM), 0

    def count() -> None:
        nonlocal seen
        seen += 1
        progress.update(task, advance=1)
        if seen == WARM:
            raise _Enough

    with contextlib.suppress(_Enough):
        sample(model, labels, noise, steps, on_step=count)


def cost(name: str, model: nn.Module, labels: Tensor, steps: Counter[str]) -> tuple[float, int]:
    """FLOPs of the steps, and the bytes of cache that a generation holds."""
    both = (torch.zeros(2 * len(labels), 1, 28, 28), torch.zeros(2 * len(labels)), torch.cat([labels, labels]))
    (graph,) = duca_compile.explain(model, *both, duca_options=OPTIONS.get(name)).graphs
    flops = sum(graph.flops[recipe] * count for recipe, count in steps.items() if count)
    return flops, 0 if name == PLAIN else graph.held_bytes


def table(runs: dict[str, Run], labels: Tensor) -> Table:
    plain, judge = runs[PLAIN], trained_classifier()
    found = Table(*("", "torch.compile", 'method="duca"', "default"), box=None)
    for column in found.columns[1:]:
        column.justify = "right"
    with torch.no_grad():
        guesses = [judge(each.images)[0].argmax(1) for each in runs.values()]
    every = list(runs.values())
    rows = {
        "full steps": [str(each.steps["full"]) for each in every],
        "cached steps": [str(each.steps.total() - each.steps["full"]) for each in every],
        "TFLOPs": [compared(each.flops / 1e12, plain.flops / 1e12, ".2f") for each in every],
        "seconds": [compared(each.seconds, plain.seconds, ".1f") for each in every],
        "seconds to compile": [f"{each.compiling:.1f}" for each in every],
        "MiB of cache": [f"{each.held_bytes / 2**20:.1f}" for each in every],
        "PSNR to plain (dB)": ["", *(f"{decibels(each, plain).mean():.1f}" for each in every[1:])],
        "lowest of an image": ["", *(f"{decibels(each, plain).min():.1f}" for each in every[1:])],
        "same class seen": ["", *(f"{(guess == guesses[0]).float().mean():.0%}" for guess in guesses[1:])],
        "right class seen": [f"{(guess == labels).float().mean():.0%}" for guess in guesses],
    }
    for name, cells in rows.items():
        found.add_row(name, *cells)
    return found


def compared(value: float, plain: float, form: str) -> str:
    return f"{value:{form}}" if value == plain else f"{value:{form}} ({plain / value:.2f}x)"


def decibels(cached: Run, plain: Run) -> Tensor:
    """PSNR of each image, pixel range 2."""
    return 10 * torch.log10(4 / (cached.images - plain.images).square().mean(dim=(1, 2, 3)))


def draw(runs: dict[str, Run], rows: int) -> Path:
    plain = runs[PLAIN]
    figure, axes = plt.subplots(2, 3, figsize=(15, rows + 2.2), layout="constrained", sharex=True)
    titles = {
        PLAIN: f"torch.compile, {plain.seconds:.0f} s",
        DUCA: f'method="duca", {plain.seconds / runs[DUCA].seconds:.1f}x faster',
        DEFAULT: f'backend="duca", {plain.seconds / runs[DEFAULT].seconds:.1f}x faster',
    }
    for (name, each), above, below in zip(runs.items(), *axes, strict=True):
        show(above, as_grid(each.images, rows), "gray", (-1, 1), titles[name])
        if each is not plain:
            away = f"difference: {decibels(each, plain).mean():.1f} dB"
            shown = show(below, as_grid((each.images - plain.images).abs(), rows), "magma", (0, 1), away)
    axes[0, 0].tick_params(labelbottom=True)
    axes[1, 0].set_axis_off()
    scale = axes[1, 0].inset_axes((0.25, 0.5, 0.5, 0.1))
    figure.colorbar(shown, cax=scale, orientation="horizontal", label="difference, of pixel range 2")
    OUTPUT.mkdir(exist_ok=True)
    path = OUTPUT / "demo.png"
    figure.savefig(path, dpi=110)
    return path


def show(axis: Axes, image: Tensor, colours: str, limits: tuple[float, float], title: str) -> Any:
    shown = axis.imshow(image, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    axis.set_title(title, fontsize=13)
    axis.set_xticks([14 + 28 * n for n in range(10)], CLASSES, rotation=40, ha="right", fontsize=9)
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return shown


def as_grid(images: Tensor, rows: int) -> Tensor:
    """`[rows * 10, 1, 28, 28]` as one image, a column per class."""
    return images.reshape(rows, 10, 28, 28).permute(0, 2, 1, 3).reshape(rows * 28, 280)


if __name__ == "__main__":
    main()
