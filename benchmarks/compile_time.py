"""Time to first result, all modes compiled, beside plain `torch.compile`, each from an empty cache of Inductor's.

    python benchmarks/compile_time.py                    # DiT-XL/2's 28 blocks at width 96: sizes do not matter here
    python benchmarks/compile_time.py --depth 57 --rounds 3

Each way runs in a process of its own, in turn. *CPU* counts the seconds of all its processes, the C++ compiler's among
them; *kernels* are the distinct C++ sources that Inductor wrote. Ways: plain; ours; ours without outlining; and every
outlined block as a function that is compiled by itself, driven by Python.
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

from dit import DiT

WAYS = ("plain", "duca", "duca, not outlined", "duca, a function a block")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, help="what one of the processes runs")
    given = parser.parse_args()
    if given.way:
        print(json.dumps(first_results(given.way, given.depth)))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(given.rounds):
        for way in WAYS:
            found[way].append(_in_a_process(way, given.depth))
    Console(width=110).print(_table(found, given.depth))


def _in_a_process(way: str, depth: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, "--way", way, "--depth", str(depth)]
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        kernels = sum(
            "torch/csrc/inductor/cpp_prefix.h" in path.read_text() for path in Path(cache).rglob("*.main.cpp")
        )
    return {**json.loads(done.stdout.splitlines()[-1]), "kernels": kernels}


def first_results(way: str, depth: int) -> dict[str, float]:
    torch.manual_seed(0)
    model = DiT(size=32, patch=2, channels=4, width=96, depth=depth, heads=4).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.02)
    x, labels = torch.randn(2, 4, 32, 32), torch.tensor([1, 10])
    began, spent = time.perf_counter(), _cpu()
    with torch.no_grad():
        run = torch.compile(model) if way == "plain" else _ours(model, way)
        for step in range(1 if way == "plain" else 3):
            x = x - 0.01 * run(x, torch.full((2,), 900.0 - step), labels)
    seconds = time.perf_counter() - began
    torch._inductor.async_compile.shutdown_compile_workers()
    return {"seconds": seconds, "cpu": _cpu() - spent}


def _ours(model: torch.nn.Module, way: str) -> Callable[..., Any]:
    if way == "duca, a function a block":
        from duca_compile import backend

        backend.torch_private.inner_compiler = lambda inner, mode: _function_a_block  # type: ignore[assignment]
    return torch.compile(model, backend="duca", options={"strict": True, "outline": way != "duca, not outlined"})


def _function_a_block(gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    """Every outlined block, and all ops between two of them, compiled by itself; Python calls one after the other."""
    from torch._inductor.compile_fx import compile_fx
    from torch.fx.passes.split_module import split_module

    from duca_compile.torch_private import invoke_subgraph

    parts: dict[fx.Node, int] = {}
    part = 0
    for node in gm.graph.nodes:
        is_block = node.target is invoke_subgraph
        part += is_block
        parts[node] = part
        part += is_block
    calls = {at: node.args[1] for node, at in parts.items() if node.target is invoke_subgraph}
    pieces = split_module(gm, gm, lambda node: parts[node], keep_original_order=True)
    compiled: dict[Any, Callable[..., Any]] = {}

    class Driver(fx.Interpreter):
        def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
            key = calls.get(int(str(target).removeprefix("submod_")), target)
            if key not in compiled:
                compiled[key] = compile_fx(getattr(pieces, str(target)), list(args))
            results = compiled[key](*args)
            return results[0] if _returns_one(getattr(pieces, str(target))) else tuple(results)

    return Driver(pieces).run


def _returns_one(piece: fx.GraphModule) -> bool:
    (output,) = piece.graph.find_nodes(op="output")
    return isinstance(output.args[0], fx.Node)


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _table(found: dict[str, list[dict[str, float]]], depth: int) -> Table:
    table = Table(title=f"DiT, {depth} blocks; {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    for heading in ("way", "time / plain", "CPU / plain", "kernels", "seconds"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for way, runs in found.items():
        pairs = list(zip(runs, found["plain"], strict=True))
        ratios = [statistics.median(run[of] / plain[of] for run, plain in pairs) for of in ("seconds", "cpu")]
        seconds = statistics.median(run["seconds"] for run in runs)
        table.add_row(way, *(f"{ratio:.2f}" for ratio in ratios), f"{runs[0]['kernels']:.0f}", f"{seconds:.0f}")
    return table


if __name__ == "__main__":
    main()
