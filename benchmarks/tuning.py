"""What `duca_compile.tune` is worth on the trained example DiT: tuned on a few images, measured on others.

    python benchmarks/tuning.py             # half an hour on 2 cores; writes the table of docs/measured.md

For each sampler of `quality.py` that the presets are drawn for: 16 images from noise of their own are tuned at 3, 5 and
7 times fewer FLOPs; what was best at each cost then makes 100 other images, and their PSNR (pixel range 2) to those of
50 computed steps stands beside that of the preset of about this cost. Differences are paired, with standard errors.
"""

import argparse
from typing import Any

import torch
from torch import Tensor

import duca_compile
from duca_compile.methods import PRESETS
from quality import DRAWN, MEASURED, decibels, insert, spread
from samplers import SAMPLERS
from sampling import initial_noise, trained_dit

STEPS = 50
TUNED_ON, SEED = 16, 500
COSTS = {"quality": 3.0, "balanced": 5.0, "fast": 7.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100, help="to measure on")
    parser.add_argument("--samplers", nargs="+", default=DRAWN, choices=DRAWN)
    args = parser.parse_args()
    lines = [
        f"Tuned on {TUNED_ON} images, measured on {args.samples} others; own (dB).",
        "",
        "| sampler | FLOPs | placed | full steps | tuned | preset | tuned over preset |",
        "|---|---:|---|---|---:|---:|---:|",
    ]
    for sampler in args.samplers:
        for line in measured(sampler, args.samples):
            print(line, flush=True)
            lines.append(line)
    insert(MEASURED, "tuning", "\n".join(lines))


def measured(sampler: str, samples: int) -> list[str]:
    model = trained_dit()

    def generate(compiled: Any) -> Tensor:
        return images(sampler, compiled, TUNED_ON, SEED)

    tuned = duca_compile.tune(generate, model, speedups=tuple(COSTS.values()), progress=False)
    torch.compiler.reset()
    with torch.no_grad():
        computed = images(sampler, torch.compile(model, dynamic=False), samples, 0)
        lines = []
        for preset, cost in COSTS.items():
            trial = tuned.at(cost)
            found = decibels(cached(sampler, {"method": trial.method}, samples), computed)
            usual = decibels(cached(sampler, {"method": PRESETS[preset]}, samples), computed)
            listed = " ".join(map(str, trial.method.schedule))
            lines.append(
                f"| {sampler} | {trial.speedup:.2f}x | {trial.name} | {listed} | {spread(found)} | {spread(usual)} "
                f"| {spread(found - usual)} |"
            )
    return lines


def cached(sampler: str, options: dict[str, Any], samples: int) -> Tensor:
    torch.compiler.reset()
    options = {**options, "strict": True}
    return images(sampler, torch.compile(trained_dit(), backend="duca", options=options, dynamic=False), samples, 0)


def images(sampler: str, compiled: Any, count: int, seed: int) -> Tensor:
    return SAMPLERS[sampler].images(compiled, initial_noise(count, seed), torch.arange(count) % 10, STEPS, None)


if __name__ == "__main__":
    main()
