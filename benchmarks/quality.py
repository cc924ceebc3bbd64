"""Quality and cost of caching on the trained example DiT; writes the table of `docs/measured.md`, and a short one of the README.

    python benchmarks/quality.py                 # half an hour on 2 cores; run again to resume
    python benchmarks/quality.py --samples 100   # a quick look

Every row starts from the same noise and labels, class-conditional, without guidance. Fréchet distance is taken in the feature space of `examples/classifier.py`
against the 10,000 test images (arXiv 1706.08500 with another network, so only rows of this table compare).
PSNR is against the uncached 50-step samples, pixel range 2.
"""

import argparse
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))
import duca_compile
from classifier import trained_classifier
from duca_compile import Mode
from fashion import load
from sampling import initial_noise, sample, trained_dit

RESULTS = Path(__file__).parent / "results"
README, MEASURED = ROOT / "README.md", ROOT / "docs" / "measured.md"
CHUNK = 100


@dataclass(frozen=True)
class Row:
    name: str
    steps: int = 50
    options: dict[str, Any] | None = None


@dataclass
class Outcome:
    images: list[Tensor] = field(default_factory=list)
    flops: int = 0
    modes: dict[str, int] = field(default_factory=dict)


ROWS = (
    Row("uncached, 50 steps"),
    *(Row(f"DuCa, N = {n}", options={"cycle": n}) for n in (3, 4, 5, 6)),
    Row("conservative only, N = 5", options={"cycle": 5, "order": "conservative"}),
    Row("aggressive only, N = 5", options={"cycle": 5, "order": "aggressive"}),
    *(Row(f"uncached, {steps} steps", steps=steps) for steps in (25, 20, 17, 15)),
)
IN_SHORT = (
    "uncached, 50 steps",
    *(f"DuCa, N = {n}" for n in (3, 4, 5)),
    *(f"uncached, {steps} steps" for steps in (25, 17, 15)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--report-only", action="store_true", help="write the table from finished rows alone")
    args = parser.parse_args()
    folder = ROOT / "output" / f"quality-{args.dtype}-{args.samples}"
    folder.mkdir(parents=True, exist_ok=True)
    columns = (
        TextColumn("{task.description:28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        for row in () if args.report_only else ROWS:
            generate(row, args.samples, getattr(torch, args.dtype), folder, progress)
    write_report(folder, args.samples, args.dtype)


def generate(row: Row, samples: int, dtype: torch.dtype, folder: Path, progress: Progress) -> None:
    """Samples a row chunk by chunk; finished chunks are kept in its file."""
    path = folder / f"{row.name}.pt"
    done = Outcome(**torch.load(path)) if path.exists() else Outcome()
    task = progress.add_task(row.name, total=samples // CHUNK, completed=len(done.images))
    model = trained_dit().to(dtype)
    options = {"cycle": 1, "strict": True, **(row.options or {})}
    torch.compiler.reset()
    compiled = (
        torch.compile(model)
        if row.options is None
        else torch.compile(model, backend=duca_compile.duca, options=options)
    )
    for chunk in range(len(done.images), samples // CHUNK):
        labels = torch.arange(CHUNK) % 10
        began = time.perf_counter()
        images = sample(compiled, labels, initial_noise(CHUNK, seed=chunk), row.steps, guidance=1, dtype=dtype)
        if not done.flops:
            done.modes = steps_per_mode(row, compiled)
            done.flops = flops(row, model, options, done.modes, dtype)
        done.images.append(images)
        torch.save(vars(done), path)
        progress.console.print(f"{row.name}: chunk {chunk + 1} in {time.perf_counter() - began:.0f} s")
        progress.update(task, advance=1)


def steps_per_mode(row: Row, compiled: Any) -> dict[str, int]:
    if row.options is None:
        return {"full": row.steps}
    return dict(duca_compile.stats(compiled).steps)


def flops(row: Row, model: Any, options: dict[str, Any], modes: dict[str, int], dtype: torch.dtype) -> int:
    """FLOPs of one sample, 2 per multiply-add, the denoiser alone."""
    x, t, y = torch.zeros(1, 1, 28, 28, dtype=dtype), torch.zeros(1, dtype=torch.int64), torch.tensor([0])
    (graph,) = duca_compile.explain(model, x, t, y, duca_options=options).graphs
    assert graph.refusal is None, graph.refusal
    return sum(graph.flops[Mode(name)] * count for name, count in modes.items() if count)


def write_report(folder: Path, samples: int, dtype: str) -> None:
    judge = trained_classifier()
    real, _ = judged(judge, load("t10k")[0])
    labels = torch.arange(CHUNK).repeat(samples // CHUNK) % 10
    outcomes = {
        row.name: Outcome(**torch.load(folder / f"{row.name}.pt"))
        for row in ROWS
        if (folder / f"{row.name}.pt").exists()
    }
    finished = {name: found for name, found in outcomes.items() if len(found.images) == samples // CHUNK}
    reference = finished[ROWS[0].name]
    want = torch.cat(reference.images)
    head = [
        f"{samples:,} samples a row, DDIM, conditional without guidance, {dtype}; {platform.machine()}, CPU, torch {torch.__version__}.",
        "",
        "| | full / conservative / aggressive | GFLOPs a sample | FLOPs speed-up | Fréchet distance ↓ | class accuracy ↑ | PSNR (dB) ↑ |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines = {}
    for name, found in finished.items():
        images = torch.cat(found.images)
        features, guesses = judged(judge, images)
        accuracy = (guesses == labels).float().mean().item()
        counts = " / ".join(str(found.modes.get(mode.value, 0)) for mode in Mode)
        psnr = "" if found is reference else f"{mean_psnr(images, want):.1f}"
        lines[name] = (
            f"| {name} | {counts} | {found.flops / 1e9:.1f} | {reference.flops / found.flops:.2f}x "
            f"| {frechet(features, real):.2f} | {accuracy:.1%} | {psnr} |"
        )
    table = "\n".join([*head, *lines.values()])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "quality.md").write_text(table + "\n")
    insert(MEASURED, table)
    insert(README, "\n".join([*head, *(line for name, line in lines.items() if name in IN_SHORT)]))
    print(table)


def insert(page: Path, table: str) -> None:
    """Between the page's two marks."""
    before, _, rest = page.read_text().partition("<!-- quality -->")
    _, _, after = rest.partition("<!-- /quality -->")
    page.write_text(f"{before}<!-- quality -->\n{table}\n<!-- /quality -->{after}")


@torch.no_grad()
def judged(judge: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features `[n, 128]` and guessed labels `[n]`."""
    parts = [judge(part) for part in images.split(500)]
    return torch.cat([features for _, features in parts]), torch.cat([logits.argmax(1) for logits, _ in parts])


def mean_psnr(images: Tensor, want: Tensor) -> float:
    error = (images - want).square().mean(dim=(1, 2, 3))
    return float((10 * torch.log10(4 / error)).mean())


def frechet(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of two Gaussians fitted to features `[n, d]`."""
    a, b = a.double(), b.double()
    product = torch.cov(a.T) @ torch.cov(b.T)
    root_trace = torch.linalg.eigvals(product).real.clamp(min=0).sqrt().sum()
    spread = torch.trace(torch.cov(a.T)) + torch.trace(torch.cov(b.T)) - 2 * root_trace
    return float((a.mean(0) - b.mean(0)).square().sum() + spread)


if __name__ == "__main__":
    main()
