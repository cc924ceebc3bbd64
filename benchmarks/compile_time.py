"""Time to first result, all modes compiled, beside plain `torch.compile`, each from an empty cache of Inductor's.

    python benchmarks/compile_time.py                    # DiT-XL/2's 28 blocks at width 96: sizes do not matter here
    python benchmarks/compile_time.py --depth 57 --rounds 3
    python benchmarks/compile_time.py --warm --ways plain duca      # and once more, on what the first process compiled

Each way runs in a process of its own, in turn. *CPU* counts the seconds of all its processes, the C++ compiler's among
them; *kernels* are the distinct C++ sources that Inductor wrote; *full* and *conservative* are a step's time. Ways:

- plain, and plain for a single block: what no way of compiling the rest can save;
- ours; ours without outlining; and ours with a compiled callable for each distinct block, called from an outer graph
  that is not compiled, in place of the calls of a subgraph in one graph.

*warm* is a second process with the cache of the first; its ratios are to plain's second process.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import torch
from rich.console import Console
from rich.table import Table
from torch import fx
from torch._inductor.compile_fx import compile_fx

from cycle import CYCLE
from dit import DiT
from duca_compile import torch_private

DUCA: dict[str, Any] = {"backend": "duca", "options": {"method": "duca", "strict": True}}
CALLABLES = "duca, a callable per block"
ONE_BLOCK = "plain, 1 block"
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    ONE_BLOCK: {},
    "duca": DUCA,
    "duca, not outlined": {"backend": "duca", "options": {"method": "duca", "strict": True, "outline": False}},
    CALLABLES: DUCA,
}
WAYS = tuple(OPTIONS)
WARM = ", warm"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, help="what one of the processes runs")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="which ways beside plain")
    parser.add_argument("--warm", action="store_true", help="each way once more, in a second process")
    given = parser.parse_args()
    if given.way:
        print(json.dumps(first_results(given.way, given.depth)))
        return
    ways = [way for way in WAYS if way in {"plain", *given.ways}]
    found: dict[str, list[dict[str, float]]] = {
        f"{way}{warm}": [] for way in ways for warm in ("", WARM)[: given.warm + 1]
    }
    for _ in range(given.rounds):
        for way in ways:
            with tempfile.TemporaryDirectory() as cache:
                for name in (way, f"{way}{WARM}")[: given.warm + 1]:
                    found[name].append(_in_a_process(way, given.depth, cache))
    Console(width=110).print(_table(found, given.depth))


def _in_a_process(way: str, depth: int, cache: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way, "--depth", str(depth)]
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    kernels = sum("torch/csrc/inductor/cpp_prefix.h" in path.read_text() for path in Path(cache).rglob("*.main.cpp"))
    return {**json.loads(done.stdout.splitlines()[-1]), "kernels": kernels}


def first_results(way: str, depth: int) -> dict[str, float]:
    torch.manual_seed(0)
    if way == ONE_BLOCK:
        depth = 1
    elif way == CALLABLES:
        torch_private.inner_compiler = lambda inner, changes: callable_per_block
    model = DiT(size=32, patch=2, channels=4, width=96, depth=depth, heads=4).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.02)
    x, labels = torch.randn(2, 4, 32, 32), torch.tensor([1, 10])
    spent = _cpu()
    with torch.no_grad():
        run = torch.compile(model, **OPTIONS[way])

        def seconds(step: int) -> float:
            nonlocal x
            began = time.perf_counter()
            x = x - 0.01 * run(x, torch.full((2,), 900.0 - step), labels)
            return time.perf_counter() - began

        compiling = [seconds(step) for step in range(3 if "duca" in way else 1)]
        torch._inductor.async_compile.shutdown_compile_workers()
        cpu = _cpu() - spent
        times = compiling + [seconds(step) for step in range(len(compiling), 3 * CYCLE)]
    full, conservative = (statistics.median(times[CYCLE + at :: CYCLE]) for at in (0, 1))
    return {"seconds": sum(compiling), "cpu": cpu, "full": full, "conservative": conservative}


def callable_per_block(gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    """Runs the outer graph in Python, and each distinct block as compiled by Inductor at its first call."""
    blocks: dict[str, Any] = {}

    def run_block(name: str, *args: Any) -> Any:
        if name not in blocks:
            blocks[name] = compile_fx(getattr(gm, name), list(args))
        return blocks[name](*args)

    for node in gm.graph.nodes:
        if node.target is torch_private.invoke_subgraph:
            node.target, node.args = run_block, node.args[1:]
    gm.graph.eliminate_dead_code()
    gm.recompile()
    return gm.forward


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _table(found: dict[str, list[dict[str, float]]], depth: int) -> Table:
    table = Table(title=f"DiT, {depth} blocks; {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    for heading in ("way", "time / plain", "CPU / plain", "kernels", "seconds", "full, ms", "conservative, ms"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for way, runs in found.items():
        pairs = list(zip(runs, found[f"plain{WARM}" if way.endswith(WARM) else "plain"], strict=True))
        ratios = [statistics.median(run[of] / plain[of] for run, plain in pairs) for of in ("seconds", "cpu")]
        seconds = statistics.median(run["seconds"] for run in runs)
        steps = [f"{1e3 * statistics.median(run[mode] for run in runs):.1f}" for mode in ("full", "conservative")]
        cells = (*(f"{ratio:.2f}" for ratio in ratios), f"{runs[0]['kernels']:.0f}", f"{seconds:.0f}")
        table.add_row(way, *cells, *(steps if "duca" in way else (steps[0], "")))
    return table


if __name__ == "__main__":
    main()
