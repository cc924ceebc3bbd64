"""What the default preset would be with one thing of it changed: paired differences to it, under each sampler.

    python benchmarks quality choices             # a quarter of an hour on 2 cores; writes the table of docs/measured.md
    python benchmarks quality choices --show      # shows it alone

The first row is the default itself: PSNR (pixel range 2) to the sampler's own 50 computed steps. The others are decibels
above it, from the same noise, with standard errors. All take as many full steps but for what rounding does to schedules.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import duca_compile
from duca_compile.methods import DEFAULT
from duca_compile.methods.base import FULL, Method
from duca_compile.methods.forecast_stack import ForecastStack
from duca_compile.methods.taylorseer import TaylorSeer
from face import pages
from face.block import Block, Page
from face.commands import parser
from face.draw import show
from face.origin import origin
from figures import decibels, spread
from quality.rows import STEPS, WITNESSES
from quality.samplers import SAMPLERS, trained
from quality.tuning import images

SEED = 700
assert isinstance(DEFAULT, ForecastStack)
CHOICES: dict[str, TaylorSeer] = {
    "held (order 0)": replace(DEFAULT, order=0),
    "order 2": replace(DEFAULT, order=2),
    "slope 0.9": replace(DEFAULT, slope=0.9),
    "slope 0.8": replace(DEFAULT, slope=0.8),
    "anchored": replace(DEFAULT, anchored=True),
    "every branch": TaylorSeer(cycle=DEFAULT.cycle, schedule=DEFAULT.schedule),
    "even cycles": replace(DEFAULT, schedule="even"),
    "dense start": replace(DEFAULT, schedule="dense-start"),
    "adaptive": replace(DEFAULT, schedule="adaptive"),
}
SHOWN = ("DDIM", "flow, shift 1", "flow, shift 3", "trained flow, shift 1", "trained flow, shift 3")


def main(arguments: Sequence[str]) -> None:
    asked = parser("quality choices", __doc__)
    asked.add_argument("--samples", type=int, default=50)
    asked.add_argument("--samplers", nargs="+", default=SHOWN, choices=tuple(WITNESSES), metavar="SAMPLER")
    asked.add_argument("--show", action="store_true", help="the page for readers stays as it is")
    given = asked.parse_args(arguments)
    columns = [measured(sampler, given.samples) for sampler in given.samplers]
    rows = list(zip(("the default", *CHOICES), *columns, strict=True))
    notes = (f"{given.samples} samples; in brackets the full steps, where they are not as many as the default's.",)
    block, of = Block("Choices", ("", *given.samplers), rows, notes, words=(0,)), origin("quality choices", arguments)
    if not given.show:
        pages.insert(pages.MEASURED, "choices", block, of)
    show(Page("Choices", of, [block]))


def measured(sampler: str, samples: int) -> list[str]:
    """The cells below a sampler."""
    computed, _ = generated(sampler, None, samples)
    found, usual = generated(sampler, DEFAULT, samples)
    default = decibels(found, computed)
    cells = [spread(default)]
    for name, method in CHOICES.items():
        made, full = generated(sampler, method, samples)
        cells.append(spread(decibels(made, computed) - default) + ("" if full == usual else f" ({full})"))
        print(f"{sampler}, {name}: {cells[-1]}", flush=True)
    return cells


@torch.no_grad()
def generated(sampler: str, method: Method | None, samples: int) -> tuple[Tensor, int]:
    """And how many of the steps were full."""
    torch.compiler.reset()
    model = trained(SAMPLERS[sampler])
    options = {"method": method, "strict": True}
    given: dict[str, Any] = {"backend": "duca", "options": options} if method else {}
    run = torch.compile(model, dynamic=False, **given)
    return images(sampler, run, samples, SEED), duca_compile.stats(model).steps[FULL] if method else STEPS
