"""Latency of each mode beside plain `torch.compile`, against what its FLOPs promise and what the machine could do.

    python benchmarks/latency.py                                  # DiT-XL/2 at full width, 4 blocks, float32: a minute
    python benchmarks/latency.py --depth 28 --bfloat16            # as the paper has it
    python benchmarks/latency.py --model flux --depth 2 --bfloat16

Random weights. Every step is run twice in turn, plain and cached, on the same latents; a figure is the median of the
pairs' ratios, so that it holds where the machine's speed drifts. *Promised* is the step's FLOPs over a full one's. *Over
the roofline* is the step's time over the larger of its FLOPs at the measured rate of a matrix product and its bytes, of
weights and caches, at the measured rate of reading memory.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()

import torch
from rich.console import Console
from rich.table import Table

import duca_compile
from cycle import COUNTS, CYCLE
from duca_compile import Mode
from subjects import SUBJECTS, Subject, first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(SUBJECTS), default="dit")
    parser.add_argument("--depth", type=int, default=4, help="blocks; of FLUX double ones, with twice as many single")
    parser.add_argument("--cycles", type=int, default=4, help="of 5 steps each, after one to warm up")
    parser.add_argument("--bfloat16", action="store_true")
    given = parser.parse_args()
    with torch.no_grad():
        dtype = torch.bfloat16 if given.bfloat16 else torch.float32
        Console(width=120).print(modes(SUBJECTS[given.model], given.depth, given.cycles, dtype))


def modes(subject: Subject, depth: int, cycles: int, dtype: torch.dtype) -> Table:
    torch.manual_seed(0)
    model, x = subject.model(depth, dtype), subject.latents().to(dtype)
    fixed = subject.arguments(x, 900.0)
    (graph,) = duca_compile.explain(model, **fixed, duca_options={"method": "duca", "cycle": CYCLE}).graphs
    plain = torch.compile(model)
    cached = torch.compile(model, backend="duca", options={"method": "duca", "cycle": CYCLE, "strict": True})
    ratios: dict[Mode, list[float]] = {mode: [] for mode in Mode}
    spent: dict[Mode, list[float]] = {mode: [] for mode in Mode}
    for step in range(CYCLE * (cycles + 1)):
        given = subject.step(x, step, fixed)
        seconds, outputs, mode = {}, {}, Mode.FULL
        for run in (plain, cached) if step % 2 else (cached, plain):
            before = duca_compile.stats(model).steps
            began = time.perf_counter()
            outputs[run] = first(run(**given))
            seconds[run] = time.perf_counter() - began
            after = duca_compile.stats(model).steps
            mode = next((each for each in Mode if after[each] > before[each]), mode)
        if step >= CYCLE:
            ratios[mode].append(seconds[cached] / seconds[plain])
            spent[mode].append(seconds[cached])
        x = x - 0.01 * outputs[cached]  # latents made of other outputs would be another generation
    roofline = _roofline(graph, dtype)
    title = (
        f"{subject.title}, {depth} of {subject.depth} blocks, random weights, {str(dtype).removeprefix('torch.')}; "
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    return _table(title, graph, ratios, spent, roofline, duca_compile.stats(model).peak_bytes)


def _roofline(graph: Any, dtype: torch.dtype) -> dict[Mode, float]:
    """Seconds that each mode takes at least, by the measured rates of this machine."""
    source, weights = torch.randn(512, 1152, dtype=dtype), [torch.randn(4608, 1152, dtype=dtype) for _ in range(8)]
    product = _median(lambda: [torch.nn.functional.linear(source, weight) for weight in weights])
    rate = 8 * 2 * 512 * 1152 * 4608 / product
    large = torch.ones(2**27)
    bandwidth = large.nbytes / _median(large.sum)
    moved = {mode: graph.weight_bytes[mode] + graph.cache_bytes[mode] for mode in Mode}
    return {mode: max(graph.flops[mode] / rate, moved[mode] / bandwidth) for mode in Mode}


def _median(run: Callable[[], Any]) -> float:
    found = []
    for _ in range(12):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return statistics.median(found[2:])


def _table(
    title: str,
    graph: Any,
    ratios: dict[Mode, list[float]],
    spent: dict[Mode, list[float]],
    roofline: dict[Mode, float],
    held: int,
) -> Table:
    medians = {mode: statistics.median(found) for mode, found in ratios.items()}
    shares = {mode: graph.flops[mode] / graph.flops[Mode.FULL] for mode in Mode}
    speedups = [CYCLE / sum(COUNTS[mode] * share[mode] for mode in Mode) for share in (medians, shares)]
    table = Table(
        title=title,
        caption=f"a cycle of {CYCLE}: {speedups[0]:.2f}x in time, {speedups[1]:.2f}x in FLOPs, "
        f"{speedups[0] / speedups[1]:.0%} of what they promise; "
        f"caches {held / 2**20:.1f} MiB, foretold {graph.held_bytes / 2**20:.1f} MiB",
    )
    headings = ("mode", "pairs", "time / plain", "from", "to", "promised", "GFLOPs", "MiB read", "over the roofline")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "mode" else "right")
    for mode, found in ratios.items():
        row = (medians[mode], min(found), max(found), shares[mode])
        read = (graph.weight_bytes[mode] + graph.cache_bytes[mode]) / 2**20
        over = statistics.median(spent[mode]) / roofline[mode]
        cells = (f"{graph.flops[mode] / 1e9:.2f}", f"{read:.0f}", f"{over:.2f}x")
        table.add_row(mode.value, str(len(found)), *(f"{value:.2%}" for value in row), *cells)
    return table


if __name__ == "__main__":
    main()
