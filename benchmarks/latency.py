"""Latency of each mode beside plain `torch.compile`, against what its FLOPs promise.

    python benchmarks/latency.py                          # DiT-XL/2 at full width, 4 blocks, fp32
    python benchmarks/latency.py --depth 28 --bfloat16    # as the paper has it; an hour on 2 cores
    python benchmarks/latency.py --guard                  # what a step costs the host beside its graph, by mode

DiT-XL/2 (width 1152, 16 heads, 256 tokens, a batch of 2 for guidance) with random weights: what it draws means nothing.
Every step is run twice in turn, plain and cached, on the same latents; a figure is the median of the pairs' ratios, so
that it holds where the machine's speed drifts. *Promised* is the step's FLOPs over a full one's. Both compile from an
empty cache of Inductor's.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))
os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, fx, nn

import duca_compile
from dit import DiT
from duca_compile import Mode
from duca_compile.backend import duca

CYCLE = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--cycles", type=int, default=4, help="of 5 steps each, after one to warm up")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--guard", action="store_true")
    given = parser.parse_args()
    with torch.no_grad():
        table = guard() if given.guard else modes(given.depth, given.cycles, given.bfloat16)
    Console(width=110).print(table)


def randomised(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
    return model.eval()


def modes(depth: int, cycles: int, half: bool) -> Table:
    dtype = torch.bfloat16 if half else torch.float32
    torch.manual_seed(0)
    model = randomised(DiT(size=32, patch=2, channels=4, width=1152, depth=depth, heads=16)).to(dtype)
    x, labels = torch.randn(2, 4, 32, 32, dtype=dtype), torch.tensor([1, 10])
    report = duca_compile.explain(model, x, torch.full((2,), 900.0), labels, duca_options={"cycle": CYCLE})
    (graph,) = report.graphs
    plain = torch.compile(model)
    cached = torch.compile(model, backend="duca", options={"cycle": CYCLE, "strict": True})
    compiling = {run: _first(run, steps, x, labels) for run, steps in ((plain, 1), (cached, 3))}
    duca_compile.reset(model)
    ratios: dict[Mode, list[float]] = {mode: [] for mode in Mode}
    for step in range(CYCLE * (cycles + 1)):
        clock = torch.full((2,), 900.0 - step)
        seconds, mode = {}, Mode.FULL
        for run in (plain, cached) if step % 2 else (cached, plain):
            before = duca_compile.stats(model).steps
            began = time.perf_counter()
            output = run(x, clock, labels)
            seconds[run] = time.perf_counter() - began
            after = duca_compile.stats(model).steps
            mode = next((each for each in Mode if after[each] > before[each]), mode)
        if step >= CYCLE:
            ratios[mode].append(seconds[cached] / seconds[plain])
        x = x - 0.01 * output
    return _table(depth, dtype, graph, ratios, compiling[cached] / compiling[plain], model)


def _first(run: Callable[..., Tensor], steps: int, x: Tensor, labels: Tensor) -> float:
    """Seconds until the first result of each graph."""
    began = time.perf_counter()
    for step in range(steps):
        run(x, torch.full((2,), 950.0 - step), labels)
    return time.perf_counter() - began


def _table(
    depth: int, dtype: torch.dtype, graph: Any, ratios: dict[Mode, list[float]], compiling: float, model: nn.Module
) -> Table:
    medians = {mode: statistics.median(found) for mode, found in ratios.items()}
    shares = {mode: graph.flops[mode] / graph.flops[Mode.FULL] for mode in Mode}
    count = {Mode.FULL: 1, Mode.CONSERVATIVE: 2, Mode.AGGRESSIVE: 2}
    speedups = [CYCLE / sum(count[mode] * share[mode] for mode in Mode) for share in (medians, shares)]
    held = duca_compile.stats(model).peak_bytes
    table = Table(
        title=f"DiT-XL/2, {depth} of 28 blocks, random weights, {dtype}; {platform.machine()}, torch {torch.__version__}",
        caption=f"a cycle of {CYCLE}: {speedups[0]:.2f}x in time, {speedups[1]:.2f}x in FLOPs, "
        f"{speedups[0] / speedups[1]:.0%} of what they promise; compiling all modes takes {compiling:.2f} times as long "
        f"as the plain graph; caches {held / 2**20:.1f} MiB, foretold {graph.held_bytes / 2**20:.1f} MiB",
    )
    for heading in ("mode", "pairs", "time / plain", "from", "to", "promised"):
        table.add_column(heading, justify="left" if heading == "mode" else "right")
    for mode, found in ratios.items():
        row = (medians[mode], min(found), max(found), shares[mode])
        table.add_row(mode.value, str(len(found)), *(f"{value:.2%}" for value in row))
    return table


def guard() -> Table:
    """Host time of our part of a step, on the smallest model: all that a call of the backend takes but its graph's run."""
    torch.set_num_threads(1)
    model = randomised(DiT(size=8, width=32, depth=2, heads=2))
    calls, graphs = Timer(), Timer()

    def inner(gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        return graphs.timed(gm.forward)

    def backend(gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        return calls.timed(duca(gm, inputs, options={"cycle": CYCLE, "inner": inner, "strict": True}))

    fast = torch.compile(model, backend=backend)
    x, labels = torch.randn(2, 1, 8, 8), torch.tensor([1, 2])
    spent: dict[Mode, list[int]] = {mode: [] for mode in Mode}
    for step in range(5000):
        before = duca_compile.stats(model).steps
        x = x - 0.001 * fast(x, torch.full((2,), 9000.0 - step), labels)
        after = duca_compile.stats(model).steps
        mode = next(each for each in Mode if after[each] > before.get(each, 0))
        spent[mode].append(calls.last - graphs.last)
    assert not duca_compile.stats(model).resets, "or these would not be the steps of one generation"
    table = Table(title=f"host time of a step beside its graph; {len(list(model.parameters()))} weights, one thread")
    for heading in ("mode", "steps", "fastest", "median", "nine in ten"):
        table.add_column(heading, justify="left" if heading == "mode" else "right")
    for mode, found in spent.items():
        found = sorted(found[100:])
        figures = (f"{found[int(at * (len(found) - 1))] / 1e3:.0f} us" for at in (0, 0.5, 0.9))
        table.add_row(mode.value, str(len(found)), *figures)
    return table


class Timer:
    """`last`: nanoseconds that the last call of the functions it has timed took."""

    last = 0

    def timed(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            began = time.perf_counter_ns()
            found = run(*args)
            self.last = time.perf_counter_ns() - began
            return found

        return timed


if __name__ == "__main__":
    main()
