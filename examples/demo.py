"""Generates one grid of images twice from the same noise, plain and cached, and compares speed and quality.

python examples/demo.py
"""

import argparse
import contextlib
import os
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

import duca_compile
from classifier import trained_classifier
from duca_compile import Mode
from duca_compile.methods.duca import DuCa
from fashion import CLASSES
from sampling import initial_noise, sample, trained_dit

OUTPUT = Path(__file__).parents[1] / "output"


def main() -> None:
    args = parse_arguments()
    console = Console()
    labels = torch.arange(10).repeat(args.rows)
    noise = initial_noise(len(labels), args.seed)
    model = trained_dit()
    options = {"cycle": args.cycle, "cache_ratio": args.cache_ratio}

    plain = torch.compile(model)
    cached = torch.compile(model, backend="duca", options=options)
    with Progress(console=console) as progress:
        want, plain_first, plain_seconds = timed_run(progress, "torch.compile", plain, labels, noise, args)
        got, cached_first, cached_seconds = timed_run(progress, 'backend="duca"', cached, labels, noise, args)

    both = (torch.cat([noise, noise]), torch.zeros(2 * len(labels), dtype=torch.int64), torch.cat([labels, labels]))
    (graph,) = duca_compile.explain(model, *both, duca_options=options).graphs
    done = duca_compile.stats(model).steps
    steps = {mode: done[mode] - warm for mode, warm in warm_steps(args).items()}
    plain_flops = graph.flops[Mode.FULL] * args.steps
    cached_flops = sum(graph.flops[mode] * count for mode, count in steps.items() if count)
    table = Table(title=f"{len(labels)} images, {args.steps} DDIM steps, {torch.get_num_threads()} threads")
    for heading in ("", "torch.compile", 'backend="duca"', "ratio"):
        table.add_column(heading, justify="right" if heading else "left")
    for mode, count in steps.items():
        table.add_row(f"{mode.value} steps", str(args.steps if mode == Mode.FULL else 0), str(count), "")
    table.add_row("TFLOPs", *compared(plain_flops / 1e12, cached_flops / 1e12, ".2f"))
    table.add_row("seconds", *compared(plain_seconds, cached_seconds, ".1f"))
    table.add_row("seconds to compile and run a cycle", *compared(plain_first, cached_first, ".1f"))
    table.add_row("MiB of cache", "0", f"{graph.held_bytes / 2**20:.1f}", "")
    console.print(table)
    report_quality(console, want, got, labels)
    path = draw(want, got, args.rows, plain_seconds / cached_seconds)
    console.print(f"wrote {os.path.relpath(path)}")


def compared(plain: float, cached: float, form: str) -> tuple[str, str, str]:
    return f"{plain:{form}}", f"{cached:{form}}", f"{plain / cached:.2f}x"


def report_quality(console: Console, want: Tensor, got: Tensor, labels: Tensor) -> None:
    psnr = 10 * torch.log10(4 / (got - want).square().mean(dim=(1, 2, 3)))
    judge = trained_classifier()
    with torch.no_grad():
        plain, cached = judge(want)[0].argmax(1), judge(got)[0].argmax(1)
    agree, right = (plain == cached).float().mean(), [(guess == labels).float().mean() for guess in (plain, cached)]
    console.print(f"PSNR of cached against plain: {psnr.mean():.1f} dB (lowest {psnr.min():.1f})")
    console.print(f"classifier: {agree:.0%} agree; right label for {right[0]:.0%} plain, {right[1]:.0%} cached")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4, help="images per class")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cycle", type=int, default=5)
    parser.add_argument("--cache-ratio", type=float, default=0.9)
    return parser.parse_args()


def warm_steps(args: argparse.Namespace) -> dict[Mode, int]:
    """The steps that `timed_run` spends on compiling, of which the first `cycle` of a trajectory use every mode."""
    warm = duca_compile.Options(DuCa(cycle=args.cycle)).sequence(min(args.cycle, args.steps))
    return {mode: warm.count(mode) for mode in Mode}


def timed_run(
    progress: Progress, name: str, model: Any, labels: Tensor, noise: Tensor, args: argparse.Namespace
) -> tuple[Tensor, float, float]:
    """Images, seconds to the end of the first cycle (which compiles every graph), seconds of a whole run after that."""
    task = progress.add_task(f"{name}: compiling", total=args.cycle)

    class Enough(Exception):
        """Raised once every graph has run."""

    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        progress.update(task, advance=1)
        if seen == args.cycle:
            raise Enough

    began = time.perf_counter()
    with contextlib.suppress(Enough):
        sample(model, labels, noise, args.steps, on_step=count)
    compiling = time.perf_counter() - began
    task = progress.add_task(f"{name}: sampling", total=args.steps)
    began = time.perf_counter()
    images = sample(model, labels, noise, args.steps, on_step=lambda: progress.update(task, advance=1))
    return images, compiling, time.perf_counter() - began


def draw(want: Tensor, got: Tensor, rows: int, speed_up: float) -> Path:
    figure, axes = plt.subplots(1, 3, figsize=(15, 0.5 * rows + 1.4), layout="constrained")
    panels = (
        ("torch.compile", as_grid(want, rows), "gray", (-1, 1)),
        (f'backend="duca", {speed_up:.1f}x faster', as_grid(got, rows), "gray", (-1, 1)),
        ("absolute difference", as_grid((got - want).abs(), rows), "magma", (0, 1)),
    )
    for axis, (title, image, colours, limits) in zip(axes, panels, strict=True):
        shown = axis.imshow(image, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest")
        axis.set_title(title, fontsize=13)
        axis.set_xticks([14 + 28 * n for n in range(10)], CLASSES, rotation=40, ha="right", fontsize=9)
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    figure.colorbar(shown, ax=axes[2], shrink=0.8, label="of pixel range 2")
    OUTPUT.mkdir(exist_ok=True)
    path = OUTPUT / "demo.png"
    figure.savefig(path, dpi=130)
    return path


def as_grid(images: Tensor, rows: int) -> Tensor:
    """`[rows * 10, 1, 28, 28]` as one image, a column per class."""
    return images.reshape(rows, 10, 28, 28).permute(0, 2, 1, 3).reshape(rows * 28, 280)


if __name__ == "__main__":
    main()
