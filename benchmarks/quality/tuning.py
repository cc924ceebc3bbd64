"""What `duca_compile.tune` is worth on the trained example DiT: tuned on a few images, measured on others.

    python benchmarks quality tuning             # an hour on 2 cores; writes the table of docs/measured.md
    python benchmarks quality tuning --show --samplers 'trained flow, shift 3'    # shows it alone

For each sampler that the presets were made on: 16 images from noise of their own are tuned at 3, 3.8, 5 and 7 times
fewer FLOPs; what was best at each cost then makes 100 other images, and their PSNR (pixel range 2) to those of 50
computed steps stands beside that of the preset of about this cost, where there is one. Differences are paired, with
standard errors.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import duca_compile
from duca_compile.methods import PRESETS
from face import pages
from face.block import Block, Page
from face.commands import parser
from face.draw import show
from face.origin import origin
from figures import decibels, spread
from quality.rows import DRAWN, STEPS, WITNESSES
from quality.samplers import SAMPLERS, trained
from sampling import initial_noise

TUNED_ON, SEED = 16, 500
COSTS = {3.0: "quality", 3.8: None, 5.0: "balanced", 7.0: "fast"}
"""Times fewer FLOPs, and the preset of about this cost."""


HEADINGS = ("sampler", "FLOPs", "placed", "full steps", "tuned", "preset", "tuned over preset")
Cells = tuple[str, ...]


def main(arguments: Sequence[str]) -> None:
    asked = parser("quality tuning", __doc__)
    asked.add_argument("--samples", type=int, default=100, help="to measure on")
    asked.add_argument("--samplers", nargs="+", default=DRAWN, choices=tuple(WITNESSES), metavar="SAMPLER")
    asked.add_argument("--show", action="store_true", help="the page for readers stays as it is")
    given = asked.parse_args(arguments)
    rows: list[Cells] = []
    for sampler in given.samplers:
        for row in measured(sampler, given.samples):
            print(" | ".join(row), flush=True)
            rows.append(row)
    note = f"Tuned on {TUNED_ON} images, measured on {given.samples} others; own (dB)."
    block, of = Block("Tuned", HEADINGS, rows, (note,), words=(0, 2, 3)), origin("quality tuning", arguments)
    if not given.show:
        pages.insert(pages.MEASURED, "tuning", block, of)
    show(Page("Tuned", of, [block]))


def measured(sampler: str, samples: int) -> list[Cells]:
    model = trained(SAMPLERS[sampler])

    def generate(compiled: Any) -> Tensor:
        return images(sampler, compiled, TUNED_ON, SEED)

    tuned = duca_compile.tune(generate, model, speedups=tuple(COSTS), progress=False)
    torch.compiler.reset()
    with torch.no_grad():
        computed = images(sampler, torch.compile(model, dynamic=False), samples, 0)
        rows: list[Cells] = []
        for cost, preset in COSTS.items():
            trial = tuned.at(cost)
            found = decibels(cached(sampler, {"method": trial.method}, samples), computed)
            listed = " ".join(map(str, trial.method.schedule))
            row = (sampler, f"{trial.speedup:.2f}x", f"{trial.placed}; {trial.told}", listed, spread(found))
            rows.append((*row, *_beside(found, sampler, preset, samples, computed)))
    return rows


def _beside(found: Tensor, sampler: str, preset: str | None, samples: int, computed: Tensor) -> Cells:
    if preset is None:
        return "", ""
    usual = decibels(cached(sampler, {"method": PRESETS[preset]}, samples), computed)
    return spread(usual), spread(found - usual)


def cached(sampler: str, options: dict[str, Any], samples: int) -> Tensor:
    torch.compiler.reset()
    options = {**options, "strict": True}
    return images(
        sampler, torch.compile(trained(SAMPLERS[sampler]), backend="duca", options=options, dynamic=False), samples, 0
    )


def images(sampler: str, compiled: Any, count: int, seed: int) -> Tensor:
    return SAMPLERS[sampler].images(compiled, initial_noise(count, seed), torch.arange(count) % 10, STEPS, None)
