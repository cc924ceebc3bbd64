"""The speed-up against tokens, depth and batch: measured, promised by FLOPs, and predicted after a short calibration.

    python benchmarks scaling                      # about 10 minutes on 2 cores
    python benchmarks scaling --width 512 --seconds 20

A DiT with random weights (what it draws means nothing), fp32. At a few sizes that are measured for nothing else, the
rates of `duca_compile.calibration` are fitted; from them, and from the formulas of `duca_compile.cost_model`, come the
predictions at all other sizes. Every step is run twice in turn, plain `torch.compile` and cached, on the same latents;
a speed-up is that of a cycle of 5 steps, from the medians of the pairs' ratios, so that it holds where the machine's speed
drifts. For the same reason seconds are told by a fixed matrix product that is timed beside every pair of steps: a median of
the step's time over the product's, times the product's median over the whole run. Writes `results/scaling.md`, `.json` and `.png`.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import nn

from cycle import COUNTS, CYCLE
from duca_compile import Mode, cost_model
from duca_compile.cost_model.calibration import Calibration
from duca_compile.cost_model.model import CostModel
from face.block import Page
from face.commands import parser
from face.draw import show
from face.origin import origin
from face.pages import RESULTS, save
from scaling.measure import Yardstick, measure
from scaling.report import Measured, Predicted, Sizes, block, entry, figure

SWEEPS = {"tokens": (256, 576, 1024, 2304, 4096), "depth": (1, 2, 4, 8), "batch": (1, 2, 4, 8)}
CALIBRATED = (
    {"tokens": 144},
    {"tokens": 400},
    {"tokens": 1600},
    {"tokens": 3136},
    {"tokens": 400, "depth": 4, "batch": 1},
)
GRID = {"tokens": (16, 36, 64, 100), "width": (128, 192, 256, 320), "depth": (1, 2, 3), "batch": (2, 3, 1)}


def main(arguments: Sequence[str]) -> None:
    given = parsed(arguments)
    base = Sizes(SWEEPS["tokens"][0], given.width, given.depth, given.batch)
    sweeps = {name: [replace(base, **{name: value}) for value in SWEEPS[name]] for name in given.sweeps}
    calibrated = [replace(base, **changed) for changed in CALIBRATED]
    formulas = cost_model.fit(dit, GRID)
    every = dict.fromkeys([*calibrated, *(sizes for swept in sweeps.values() for sizes in swept)])
    with torch.no_grad():
        yardstick = Yardstick()
        told = {sizes: measure(sizes, given.seconds, yardstick) for sizes in track(every, "measuring")}
    unit = statistics.median(yardstick.found)
    measured = {sizes: found.times(unit) for sizes, found in told.items()}
    rates = calibrate(formulas, {sizes: measured[sizes] for sizes in calibrated})

    def predict(sizes: Sizes) -> Predicted:
        return predicted(formulas, rates, sizes)

    chosen = {"calibration": calibrated, **sweeps}
    data = {
        "flops": {mode: str(cost.flops) for mode, cost in formulas.costs.items()},
        "rates": asdict(rates),
        **{name: [entry(each, measured[each], predict(each)) for each in swept] for name, swept in chosen.items()},
    }
    of = origin("scaling", arguments)
    page = Page("Speed-up against sizes", of, [block(sweeps, measured, predict)], data=data)
    save(page, given.out, "scaling")
    title = f"DiT, random weights, float32; {of.machine}, torch {of.torch}"
    figure(sweeps, measured, predict, title).savefig(given.out / "scaling.png", dpi=150)
    show(page)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    found = parser("scaling", __doc__)
    found.add_argument("--width", type=int, default=384, help="a multiple of 64, the width of a head")
    found.add_argument("--depth", type=int, default=2)
    found.add_argument("--batch", type=int, default=2)
    found.add_argument("--seconds", type=float, default=8, help="for each size, after compiling; at least 3 cycles")
    found.add_argument("--sweeps", nargs="+", choices=tuple(SWEEPS), default=tuple(SWEEPS))
    found.add_argument("--out", type=Path, default=RESULTS)
    return found.parse_args(arguments)


def dit(**sizes: int) -> tuple[nn.Module, tuple[()], dict[str, Any]]:
    """Without memory: only its shapes are asked for."""
    subject = Sizes(**sizes).shape.subject("meta", torch.float32)
    return subject.model, (), subject.call(subject.latents, 900.0)


def calibrate(formulas: CostModel, measured: dict[Sizes, Measured]) -> Calibration:
    costs, seconds = [], []
    for sizes, found in measured.items():
        for mode in Mode:
            costs.append(formulas.cost(mode, **asdict(sizes)))
            seconds.append(found.seconds[mode])
        costs.append(formulas.cost(Mode.FULL, **asdict(sizes)))
        seconds.append(found.plain)
    return Calibration.fit(costs, seconds)


def predicted(formulas: CostModel, rates: Calibration, sizes: Sizes) -> Predicted:
    seconds = {mode: rates.seconds(formulas.cost(mode, **asdict(sizes))) for mode in Mode}
    cached = sum(COUNTS[mode] * seconds[mode] for mode in Mode) / CYCLE
    whole = {"cycle": CYCLE, "steps": 10 * CYCLE, **asdict(sizes)}
    return Predicted(
        seconds[Mode.FULL], cached, formulas.speedup(price=rates.seconds, **whole), formulas.speedup(**whole)
    )
