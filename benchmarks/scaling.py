"""The speed-up against tokens, depth and batch: measured, promised by FLOPs, and predicted after a short calibration.

    python benchmarks/scaling.py                      # about 10 minutes on 2 cores
    python benchmarks/scaling.py --width 512 --seconds 20

A DiT with random weights (what it draws means nothing), fp32. At a few sizes that are measured for nothing else, the
rates of `duca_compile.calibration` are fitted; from them, and from the formulas of `duca_compile.cost_model`, come the
predictions at all other sizes. Every step is run twice in turn, plain `torch.compile` and cached, on the same latents;
a speed-up is that of a cycle of 5 steps, from the medians of the pairs' ratios, so that it holds where the machine's speed
drifts. For the same reason seconds are told by a fixed matrix product that is timed beside every pair of steps: a median of
the step's time over the product's, times the product's median over the whole run. Writes `results/scaling.json` and `results/scaling.png`.
"""

import argparse
import json
import math
import platform
import statistics
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

import duca_compile
from cycle import COUNTS, CYCLE
from dit import DiT
from duca_compile import Mode, Options, cost_model
from duca_compile.cost_model.calibration import Calibration
from duca_compile.cost_model.model import CostModel
from duca_compile.methods.duca import DuCa
from scaling_report import Measured, Predicted, Sizes, entry, figure, table

RESULTS = ROOT / "benchmarks/results"
SWEEPS = {"tokens": (256, 576, 1024, 2304, 4096), "depth": (1, 2, 4, 8), "batch": (1, 2, 4, 8)}
CALIBRATED = (
    {"tokens": 144},
    {"tokens": 400},
    {"tokens": 1600},
    {"tokens": 3136},
    {"tokens": 400, "depth": 4, "batch": 1},
)
GRID = {"tokens": (16, 36, 64, 100), "width": (128, 192, 256, 320), "depth": (1, 2, 3), "batch": (2, 3, 1)}


def main() -> None:
    given = arguments()
    base = Sizes(SWEEPS["tokens"][0], given.width, given.depth, given.batch)
    sweeps = {name: [replace(base, **{name: value}) for value in values] for name, values in SWEEPS.items()}
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

    Console(width=120).print(table(sweeps, measured, predict))
    machine = f"{platform.machine()}, {torch.get_num_threads()} cores, torch {torch.__version__}, fp32"
    report = {
        "machine": machine,
        "flops": {mode: str(cost.flops) for mode, cost in formulas.costs.items()},
        "rates": asdict(rates),
        **{
            name: [entry(sizes, measured[sizes], predict(sizes)) for sizes in chosen]
            for name, chosen in {"calibration": calibrated, **sweeps}.items()
        },
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scaling.json").write_text(json.dumps(report, indent=1) + "\n")
    figure(sweeps, measured, predict, f"DiT, random weights; {machine}").savefig(RESULTS / "scaling.png", dpi=150)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=384, help="a multiple of 64, the width of a head")
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8, help="for each size, after compiling; at least 3 cycles")
    return parser.parse_args()


def dit(**sizes: int) -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]:
    """Without memory: only its shapes are asked for."""
    with torch.device("meta"):
        return model_of(Sizes(**sizes)), call_of(Sizes(**sizes)), {}


def model_of(sizes: Sizes) -> nn.Module:
    side = 2 * math.isqrt(sizes.tokens)
    heads = sizes.width // 64
    return DiT(size=side, channels=4, width=sizes.width, depth=sizes.depth, heads=heads).eval()


def call_of(sizes: Sizes) -> tuple[Tensor, ...]:
    side, batch = 2 * math.isqrt(sizes.tokens), sizes.batch
    return torch.randn(batch, 4, side, side), torch.full((batch,), 900.0), torch.arange(batch) % 10


class Yardstick:
    """A product whose time is taken beside whatever is measured."""

    def __init__(self) -> None:
        self.found: list[float] = []
        self._source, self._weights = torch.randn(512, 1152), [torch.randn(1152, 1152) for _ in range(8)]

    def time(self) -> float:
        began = time.perf_counter()
        for weight in self._weights:
            nn.functional.linear(self._source, weight)
        self.found.append(time.perf_counter() - began)
        return self.found[-1]


def measure(sizes: Sizes, budget: float, yardstick: Yardstick) -> Measured:
    """In times of the yardstick."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = model_of(sizes)
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
    x, clock, labels = call_of(sizes)
    plain = torch.compile(model, dynamic=False)
    cached = torch.compile(
        model, dynamic=False, backend="duca", options={"method": "duca", "cycle": CYCLE, "strict": True}
    )
    seconds: list[float] = []
    ratios: dict[Mode, list[float]] = {mode: [] for mode in Mode}
    own: dict[Mode, list[float]] = {mode: [] for mode in Mode}
    began, step = time.perf_counter(), 0
    while step < 4 * CYCLE or step % CYCLE or time.perf_counter() - began < budget:
        both, outputs, beside = {}, {}, [yardstick.time()]
        for run in (plain, cached) if step % 2 else (cached, plain):
            since = time.perf_counter()
            outputs[run] = run(x, clock - step, labels)
            both[run] = time.perf_counter() - since
            beside.append(yardstick.time())
        if step >= CYCLE:
            mode = Mode(Options(DuCa(cycle=CYCLE)).sequence(step + 1)[-1])
            unit = statistics.median(beside)
            seconds.append(both[plain] / unit)
            own[mode].append(both[cached] / unit)
            ratios[mode].append(both[cached] / both[plain])
        step += 1
        began = time.perf_counter() if step == CYCLE else began
        x = x - 0.01 * outputs[cached]  # latents made of other outputs would be another generation
    assert all(duca_compile.stats(model).steps.values())
    return Measured(statistics.median(seconds), {mode: statistics.median(found) for mode, found in own.items()}, ratios)


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


if __name__ == "__main__":
    main()
