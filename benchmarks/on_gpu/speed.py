"""One model, plain and cached, on the same latents: steps by mode, whole trajectories, compile time and the rest."""

import statistics
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._inductor.utils import fresh_cache

import duca_compile
from cycle import CYCLE
from duca_compile import DucaWarning, Mode
from duca_compile.report.graph_report import GraphReport
from on_gpu import launches, memory
from on_gpu.pair import Pair
from on_gpu.section import Parts
from on_gpu.setting import Setting, Spent, first_steps, in_turn, next_latents, ran, relative_error, watched
from on_gpu.shapes import Shape, timesteps


def speed(setting: Setting, shape: Shape, mode: str | None = None, cycles: int = 6) -> Parts:
    """`mode` is Inductor's, of plain and ours alike."""
    subject = shape.subject(setting.device, setting.dtype)
    graph = foretold(shape, subject.model, subject.call(subject.latents, 980.0))
    yield "foretold", {"model": shape.title, **_figures(graph)}
    torch._dynamo.reset()
    pair = Pair(setting, subject, setting.plain(subject.model, mode), setting.cached(subject.model, mode), graph)
    with told() as warned:
        yield "compile", compiling(pair)
        yield "steps", steps(pair, 1 if setting.tiny else cycles)
        yield "trajectory", trajectory(pair, 1 if setting.tiny else 3)
        yield "memory", memory.peaks(pair)
        yield "launches", launches.launched(pair)
        if setting.on_gpu:
            yield "waits", launches.waits(pair)
    if warned:
        yield "warnings", {"said": dict(Counter(warned))}


def foretold(shape: Shape, model: torch.nn.Module, given: dict[str, Any]) -> GraphReport:
    graphs = duca_compile.explain(model, **given, duca_options={"method": "duca", "cycle": CYCLE}).graphs
    if len(graphs) != 1 or graphs[0].plan is None:
        raise RuntimeError(f"{shape.title}: {len(graphs)} graphs, not accelerated: {graphs[0].refusal}")
    return graphs[0]


def _figures(graph: GraphReport) -> dict[str, Any]:
    return {
        "gflops": {mode: flops / 1e9 for mode, flops in graph.flops.items()},
        "mib_read": {mode: (graph.weight_bytes[mode] + graph.cache_bytes[mode]) / 2**20 for mode in graph.flops},
    }


@contextmanager
def told() -> Iterator[list[str]]:
    """Our warnings, in the list once the block is left."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    said += [str(each.message).splitlines()[0] for each in caught if issubclass(each.category, DucaWarning)]


def compiling(pair: Pair) -> dict[str, Any]:
    """Seconds to the end of a first step of plain and of a first cycle of ours, each from empty caches of Inductor's."""

    def plain_step() -> None:
        pair.plain(**pair.subject.call(pair.subject.latents, 979.0))

    def cycle() -> None:
        x = pair.subject.latents
        for t in first_steps(CYCLE, pair.setting.steps):
            x = next_latents(x, pair.cached(**pair.subject.call(x, t)))

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as caches:
        plain = _seconds_from_nothing(pair, caches, plain_step)
        cached = _seconds_from_nothing(pair, caches, cycle)
    modes = duca_compile.stats(pair.model).compile_seconds
    return {"plain_s": plain, "cached_s": cached, "modes_s": dict(modes)}


def _seconds_from_nothing(pair: Pair, caches: str, run: Callable[[], Any]) -> float:
    with fresh_cache(dir=caches, delete=False):
        began = time.perf_counter()
        run()
        pair.setting.wait()
        return time.perf_counter() - began


@dataclass
class Times:
    """Of the steps of one kind; `ratios` to the plain step of the same latents."""

    spent: list[Spent] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, float]:
        return {
            "ms": 1e3 * statistics.median(each.device for each in self.spent),
            "host_ms": 1e3 * statistics.median(each.host for each in self.spent),
            "count": len(self.spent),
        }

    @property
    def shares(self) -> dict[str, float]:
        return {"share": statistics.median(self.ratios), "least": min(self.ratios), "most": max(self.ratios)}


def steps(pair: Pair, cycles: int) -> dict[str, Any]:
    """Every step twice in turn on the same latents, after a cycle to warm up."""
    times: dict[str, Times] = defaultdict(Times)
    duca_compile.reset(pair.model)
    x = pair.subject.latents
    for step, t in enumerate(timesteps(CYCLE * (cycles + 1))):
        given, spent, after = pair.subject.call(x, t), {}, x
        with watched(pair.model) as seen:
            for run in in_turn(step, pair.plain, pair.cached):
                output, spent[run] = pair.setting.timed(partial(run, **given))
                if run is pair.cached:  # at once: under CUDA graphs the next run may write over it
                    after = next_latents(x, output)
        if step >= CYCLE:
            times["plain"].spent.append(spent[pair.plain])
            own = times[ran(seen).value]
            own.spent.append(spent[pair.cached])
            own.ratios.append(spent[pair.cached].device / spent[pair.plain].device)
        x = after
    return _by_mode(pair.graph, times)


def _by_mode(graph: GraphReport, times: dict[str, Times]) -> dict[str, Any]:
    whole = graph.flops[Mode.FULL]
    plain = times["plain"].figures
    found: dict[str, Any] = {"plain": {**plain, "tflops_per_s": whole / plain["ms"] / 1e9}}
    for mode in (mode for mode in Mode if mode.value in times):
        own = times[mode.value]
        found[mode.value] = {**own.figures, **own.shares, "promised": graph.flops[mode] / whole}
    return found


def trajectory(pair: Pair, rounds: int) -> dict[str, Any]:
    """As a sampler runs them, without a wait between steps; a median of ratios. *Promised* is the speed-up in FLOPs."""
    count = pair.setting.steps
    spent: dict[Any, list[Spent]] = {pair.plain: [], pair.cached: []}
    latents: dict[Any, Tensor] = {}
    before = duca_compile.stats(pair.model).steps
    for turn in range(rounds):
        for run in in_turn(turn, pair.plain, pair.cached):
            duca_compile.reset(pair.model)
            latents[run], found = pair.setting.timed(partial(sampled, pair, run, count))
            spent[run].append(found)
    after = duca_compile.stats(pair.model).steps
    modes = {mode: (after[mode] - before[mode]) // rounds for mode in Mode}
    ratios = [theirs.device / ours.device for theirs, ours in zip(spent[pair.plain], spent[pair.cached], strict=True)]
    speedup = statistics.median(ratios)
    promised = count * pair.graph.flops[Mode.FULL] / sum(modes[mode] * pair.graph.flops[mode] for mode in Mode)
    return {
        "steps": dict(modes),
        "plain_ms": 1e3 * statistics.median(each.device for each in spent[pair.plain]),
        "cached_ms": 1e3 * statistics.median(each.device for each in spent[pair.cached]),
        "cached_host_ms": 1e3 * statistics.median(each.host for each in spent[pair.cached]),
        "speedup": speedup, "least": min(ratios), "most": max(ratios), "promised": promised,
        "of_promised": speedup / promised, "latents_off": relative_error(latents[pair.cached], latents[pair.plain]),
    }  # fmt: skip


def sampled(pair: Pair, run: Callable[..., Tensor], count: int) -> Tensor:
    x = pair.subject.latents
    for t in timesteps(count):
        x = next_latents(x, run(**pair.subject.call(x, t)))
    return x
