"""Quality at a given cost on the trained example DiT: presets, methods, fewer steps; writes tables and a figure.

    python benchmarks/quality.py                         # an hour on 2 cores; run again to resume
    python benchmarks/quality.py --frechet 1000          # half an hour more: the rows of the second table
    python benchmarks/quality.py --report-only           # the pages from finished rows alone

Every row starts from the same noise and labels, class-conditional, in float32 through Inductor; without guidance but
where it is named. *Own*: PSNR (pixel range 2) to the sampler's own images, all of whose steps are computed, mean and
standard error over the images. *Exact*: to 100 steps of DPM-Solver++ 2M, which all these samplers approach. Image to
image starts from test images at half the noise. Fréchet distance is taken in the feature
space of `examples/classifier.py` against the 10,000 test images (arXiv 1706.08500 with another network, so only rows of
this table compare).
"""

import argparse
import platform
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))
import duca_compile
from classifier import trained_classifier
from fashion import load
from samplers import SAMPLERS, Guided
from sampling import initial_noise, trained_dit

RESULTS = Path(__file__).parent / "results"
README, MEASURED = ROOT / "README.md", ROOT / "docs" / "measured.md"
CHUNK = 100
CACHED: dict[str, dict[str, Any]] = {
    "preset quality": {"preset": "quality"},
    "preset balanced (default)": {"preset": "balanced"},
    "preset fast": {"preset": "fast"},
    "forecast-stack, even cycles of 5": {"method": "forecast-stack"},
    "taylorseer, N = 5": {"method": "taylorseer"},
    "fora, N = 5": {"method": "fora"},
    "duca, N = 3": {"method": "duca", "cycle": 3},
    "duca, N = 5": {"method": "duca"},
}
WITNESSES = {
    "DDIM": (50, 17, 10, 7),
    "flow, shift 1": (50, 17, 10, 7),
    "flow, shift 3": (50, 17, 10, 7),
    "DPM-Solver++ 2M": (20, 17, 10, 7),
    "UniPC": (20, 17, 10, 7),
    "DDIM, guidance in one batch": (50, 10),
    "DDIM, guidance in two calls": (50, 10),
    "DDIM from half the noise": (25, 5),
}
"""Samplers, each with the steps of its own images and of its rows of fewer steps."""
DRAWN = tuple(WITNESSES)[:3]
IN_ALL = ("preset quality", "preset balanced (default)", "preset fast", "duca, N = 5")
"""The cached rows of witnesses other than the first."""
FROM_NOISE = tuple(WITNESSES)[:5]
"""Those whose images have the exact ones as their limit."""
EXACT = ("DPM-Solver++ 2M", 100)


@dataclass(frozen=True)
class Row:
    sampler: str
    name: str
    steps: int

    @classmethod
    def computed(cls, sampler: str, steps: int) -> "Row":
        return cls(sampler, f"uncached, {steps} steps", steps)

    @classmethod
    def own(cls, sampler: str) -> "Row":
        """Whose images a witness's rows are compared with."""
        return cls.computed(sampler, WITNESSES[sampler][0])

    @classmethod
    def cached(cls, sampler: str, name: str) -> "Row":
        return cls(sampler, name, WITNESSES[sampler][0])

    @property
    def options(self) -> dict[str, Any] | None:
        return CACHED.get(self.name)


@dataclass
class Outcome:
    images: list[Tensor] = field(default_factory=list)
    flops: int = 0
    full_steps: int = 0
    held_bytes: int = 0


def rows() -> list[Row]:
    found = [Row.computed(*EXACT)]
    for sampler, (_, *fewer) in WITNESSES.items():
        found.append(Row.own(sampler))
        found += [Row.cached(sampler, name) for name in CACHED if sampler == "DDIM" or name in IN_ALL]
        found += [Row.computed(sampler, steps) for steps in fewer]
    return found


FRECHET = (Row.own("DDIM"), *(Row.cached("DDIM", name) for name in IN_ALL))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100, help="a multiple of 100")
    parser.add_argument("--frechet", type=int, default=0, help="samples of each row of the second table")
    parser.add_argument("--report-only", action="store_true")
    args = parser.parse_args()
    folder = ROOT / "output" / "quality"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = dict.fromkeys(rows(), args.samples // CHUNK)
    wanted |= {row: max(args.frechet // CHUNK, wanted[row]) for row in FRECHET}
    for row, chunks in wanted.items() if not args.report_only else ():
        generate(row, chunks, folder)
    write_report(folder)


def generate(row: Row, chunks: int, folder: Path) -> None:
    """Samples a row chunk by chunk; finished chunks are kept in its file."""
    done = load_row(row, folder)
    if len(done.images) >= chunks:
        return
    torch.compiler.reset()
    model, labels = trained_dit(), torch.arange(CHUNK) % 10
    given: dict[str, Any] = (
        {} if row.options is None else {"backend": "duca", "options": {"strict": True, **row.options}}
    )
    compiled = torch.compile(model, dynamic=False, **given)
    for chunk in range(len(done.images), chunks):
        began = time.perf_counter()
        with torch.no_grad():
            noise = initial_noise(CHUNK, seed=chunk)
            done.images.append(SAMPLERS[row.sampler].images(compiled, noise, labels, row.steps, source(row, chunk)))
        if not done.flops:
            count_cost(row, model, done)
        torch.save(vars(done), path_of(row, folder))
        print(f"{row.sampler}, {row.name}: chunk {chunk + 1} in {time.perf_counter() - began:.0f} s", flush=True)


def count_cost(row: Row, model: Any, done: Outcome) -> None:
    """FLOPs of one sample, 2 per multiply-add, the denoiser alone, after one generation."""
    sampler = SAMPLERS[row.sampler]
    calls = sampler.calls if isinstance(sampler, Guided) else 1
    rows = 2 if isinstance(sampler, Guided) and calls == 1 else 1
    x, t, y = torch.zeros(1, 1, 28, 28), torch.zeros(1), torch.tensor([0])
    (graph,) = duca_compile.explain(model, x, t, y, duca_options=row.options).graphs
    assert graph.refusal is None, graph.refusal
    steps = duca_compile.stats(model).steps if row.options else {"full": calls * row.steps}
    done.flops = rows * sum(graph.flops[name] * count for name, count in steps.items() if count)
    done.full_steps = steps["full"] // calls
    done.held_bytes = calls * rows * graph.held_bytes if row.options else 0


def source(row: Row, chunk: int) -> Tensor | None:
    """The images that image to image starts from."""
    return load("t10k")[0][chunk * CHUNK :][:CHUNK] if "from half" in row.sampler else None


def path_of(row: Row, folder: Path) -> Path:
    return folder / f"{row.sampler}, {row.name}.pt"


def load_row(row: Row, folder: Path) -> Outcome:
    path = path_of(row, folder)
    return Outcome(**torch.load(path)) if path.exists() else Outcome()


def write_report(folder: Path) -> None:
    found = {row: outcome for row in rows() if (outcome := load_row(row, folder)).images}
    RESULTS.mkdir(exist_ok=True)
    long = table(found, found)
    (RESULTS / "quality.md").write_text(long + "\n")
    insert(MEASURED, "quality", long)
    insert(README, "quality", table([row for row in found if is_short(row)], found))
    second = {row: load_row(row, folder) for row in FRECHET}
    if all(len(each.images) > 1 for each in second.values()):
        insert(MEASURED, "frechet", frechet_table(second))
    draw(found)
    print(long)


def is_short(row: Row) -> bool:
    """Whether the README has it, too."""
    names = IN_ALL if row.sampler == "DDIM" else (IN_ALL[1], IN_ALL[3])
    return row.sampler in DRAWN and row.name in (*names, "uncached, 10 steps")


def table(shown: Iterable[Row], found: dict[Row, Outcome]) -> str:
    exact = torch.cat(found[rows()[0]].images)
    lines = [
        f"{len(exact)} samples a row, float32; {platform.machine()}, CPU, torch {torch.__version__}.",
        "",
        "| sampler | | full steps | FLOPs | cache a sample (MiB) | own (dB) | exact (dB) |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in shown:
        done, own = found[row], found.get(Row.own(row.sampler))
        images, once = torch.cat(done.images)[: len(exact)], found[Row.own("DDIM")].flops
        near = "" if own is None or own is done else spread(decibels(images, torch.cat(own.images)[: len(exact)]))
        held = f"{done.held_bytes / 2**20:.2f}" if done.held_bytes else ""
        compared = row.sampler in FROM_NOISE and row != Row.computed(*EXACT)
        far = spread(decibels(images, exact)) if compared else ""
        lines.append(
            f"| {row.sampler} | {row.name} | {done.full_steps} | {once / done.flops:.2f}x | {held} | {near} | {far} |"
        )
    return "\n".join(lines)


def frechet_table(found: dict[Row, Outcome]) -> str:
    judge = trained_classifier()
    real, _ = judged(judge, load("t10k")[0])
    count = min(len(each.images) for each in found.values())
    labels = torch.arange(CHUNK).repeat(count) % 10
    want = torch.cat(found[FRECHET[0]].images[:count])
    lines = [
        f"{count * CHUNK:,} samples a row, DDIM, without guidance, float32.",
        "",
        "| | full steps | FLOPs | Fréchet distance ↓ | class accuracy ↑ | own (dB) ↑ |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row, done in found.items():
        images = torch.cat(done.images[:count])
        features, guesses = judged(judge, images)
        accuracy = (guesses == labels).float().mean().item()
        near = "" if row is FRECHET[0] else spread(decibels(images, want))
        speed = found[FRECHET[0]].flops / done.flops
        distance = frechet(features, real)
        lines.append(f"| {row.name} | {done.full_steps} | {speed:.2f}x | {distance:.2f} | {accuracy:.1%} | {near} |")
    return "\n".join(lines)


def insert(page: Path, mark: str, text: str) -> None:
    """Between the page's two marks."""
    before, _, rest = page.read_text().partition(f"<!-- {mark} -->")
    _, _, after = rest.partition(f"<!-- /{mark} -->")
    page.write_text(f"{before}<!-- {mark} -->\n{text}\n<!-- /{mark} -->{after}")


def draw(found: dict[Row, Outcome]) -> None:
    """Each witness in a panel: decibels to its own 50 steps, against FLOPs."""
    figure, axes = plt.subplots(1, len(DRAWN), figsize=(12, 4), sharey=True, layout="constrained")
    lines = {
        "presets": ["preset quality", "preset balanced (default)", "preset fast"],
        "DuCa": ["duca, N = 3", "duca, N = 5"],
    }
    for axis, sampler in zip(axes, DRAWN, strict=True):
        whole = found[Row.own(sampler)]
        shown = {label: [Row.cached(sampler, name) for name in names] for label, names in lines.items()}
        shown["fewer steps"] = [Row.computed(sampler, steps) for steps in WITNESSES[sampler][1:]]
        for label, drawn in shown.items():
            there = [row for row in drawn if row in found]
            away = [decibels(torch.cat(found[row].images), torch.cat(whole.images)).mean() for row in there]
            axis.plot([whole.flops / found[row].flops for row in there], away, "o-", label=label)
        axis.set(title=sampler, xlabel="times fewer FLOPs")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("PSNR to the 50 steps (dB)")
    axes[0].legend()
    figure.savefig(RESULTS / "quality.png", dpi=110)


@torch.no_grad()
def judged(judge: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features `[n, 128]` and guessed labels `[n]`."""
    parts = [judge(part) for part in images.split(500)]
    return torch.cat([features for _, features in parts]), torch.cat([logits.argmax(1) for logits, _ in parts])


def decibels(images: Tensor, want: Tensor) -> Tensor:
    """PSNR of each image, pixel range 2."""
    return 10 * torch.log10(4 / (images - want).square().mean(dim=(1, 2, 3)))


def spread(values: Tensor) -> str:
    return f"{values.mean():.1f} ± {values.std() / len(values) ** 0.5:.1f}"


def frechet(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of two Gaussians fitted to features `[n, d]`."""
    a, b = a.double(), b.double()
    product = torch.cov(a.T) @ torch.cov(b.T)
    root_trace = torch.linalg.eigvals(product).real.clamp(min=0).sqrt().sum()
    spread_of_both = torch.trace(torch.cov(a.T)) + torch.trace(torch.cov(b.T)) - 2 * root_trace
    return float((a.mean(0) - b.mean(0)).square().sum() + spread_of_both)


if __name__ == "__main__":
    main()
