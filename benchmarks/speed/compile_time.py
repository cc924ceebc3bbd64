"""Time to first result, all modes compiled, beside plain `torch.compile`, each from an empty cache of Inductor's.

Each way runs in a process of its own, in turn, on DiT-XL/2's blocks at width 96: sizes do not matter here. *CPU* counts
the seconds of all its processes, the C++ compiler's among them; *kernels* are the distinct C++ sources that Inductor
wrote; *full* and *conservative* are a step's time. *Warm* is a second process with the cache of the first; its ratios are
to plain's second process.
"""

import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch._inductor.compile_fx import compile_fx

from cycle import CYCLE
from duca_compile import torch_private
from models.architectures import dit
from models.shapes import next_latents
from speed.section import Parts
from speed.setting import Setting

PLAIN = "plain"
ONE_BLOCK = "plain, 1 block"
"""What no way of compiling the rest can save."""
CALLABLES = "duca, a callable per block"
"""A compiled callable for each distinct block, called from an outer graph that is not compiled."""
OPTIONS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    ONE_BLOCK: {},
    "duca": {},
    "duca, not outlined": {"outline": False},
    CALLABLES: {},
}
WAYS = tuple(OPTIONS)
WARM = ", warm"
Figures = dict[str, float]


def compile_time(setting: Setting, ways: Sequence[str], warm: bool) -> Parts:
    setting.need_cpu()
    depth = 1 if setting.tiny else setting.depth or 28
    asked = [way for way in WAYS if way in {PLAIN, *ways}]
    runs: dict[str, list[Figures]] = {}
    for turn in range(setting.rounds or 1):
        for way in asked:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
                for name in (way, f"{way}{WARM}")[: warm + 1]:
                    runs.setdefault(name, []).append(in_a_process(way, depth, cache, setting.inner))
        yield "depth", {"blocks": depth, "rounds": turn + 1}
        yield from (
            (name, told(found, runs[PLAIN + (WARM if name.endswith(WARM) else "")])) for name, found in runs.items()
        )


def told(runs: Sequence[Figures], plain: Sequence[Figures]) -> dict[str, float]:
    ratios = {
        f"{of}_ratio": statistics.median(run[of] / beside[of] for run, beside in zip(runs, plain, strict=True))
        for of in ("seconds", "cpu")
    }
    return {**ratios, **{name: statistics.median(run[name] for run in runs) for name in runs[0]}}


def in_a_process(way: str, depth: int, cache: str, inner: Any) -> Figures:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(first_results, way, depth, cache, inner).result()
    kernels = sum("torch/csrc/inductor/cpp_prefix.h" in path.read_text() for path in Path(cache).rglob("*.main.cpp"))
    return {**found, "kernels": float(kernels)}


@torch.no_grad()
def first_results(way: str, depth: int, cache: str, inner: Any) -> Figures:
    """In a process that has compiled nothing: seconds until all is compiled, and milliseconds of the steps after it."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    ours = way not in (PLAIN, ONE_BLOCK)
    if way == CALLABLES:
        torch_private.inner_compiler = lambda inner, changes: callable_per_block
    subject = dit(2, width=96, depth=1 if way == ONE_BLOCK else depth, heads=4).subject("cpu", torch.float32)
    options = {"method": "duca", "strict": True, "inner": inner, **OPTIONS[way]}
    how: dict[str, Any] = {"backend": "duca", "options": options} if ours else {"backend": inner}
    run, x, spent = torch.compile(subject.model, **how), subject.latents, _cpu()

    def seconds(step: int) -> float:
        nonlocal x
        began = time.perf_counter()
        x = next_latents(x, run(**subject.call(x, 900.0 - step)))
        return time.perf_counter() - began

    compiling = [seconds(step) for step in range(3 if ours else 1)]
    torch._inductor.async_compile.shutdown_compile_workers()
    cpu = _cpu() - spent
    times = compiling + [seconds(step) for step in range(len(compiling), 3 * CYCLE)]
    full, conservative = (1e3 * statistics.median(times[CYCLE + at :: CYCLE]) for at in (0, 1))
    return {"seconds": sum(compiling), "cpu": cpu, "full_ms": full, "conservative_ms": conservative}


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
