"""One model, plain and cached, on the same latents: steps by mode, whole trajectories, compile time and the rest."""

import statistics
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._inductor.utils import fresh_cache

import duca_compile
from cycle import COUNTS, CYCLE
from duca_compile import DucaWarning, Mode
from duca_compile.report.graph_report import GraphReport
from figures import Ratios, relative_error
from models.shapes import Shape, next_latents, timesteps
from speed import launches, machine, peaks
from speed.pair import Pair
from speed.section import Parts
from speed.setting import Setting, Spent, first_steps, in_turn, ran, watched


def speed(setting: Setting, shape: Shape, mode: str | None = None, cycles: int = 6) -> Parts:
    """`mode` is Inductor's, of plain and ours alike. What is launched is told of a GPU; on a CPU tiny sizes try it."""
    subject = shape.subject(setting.device, setting.dtype)
    graph = foretold(shape, subject.model, subject.call(subject.latents, 980.0))
    yield (
        "foretold",
        {"model": shape.title, "dtype": str(setting.dtype).removeprefix("torch."), "steps": _figures(graph)},
    )
    torch._dynamo.reset()
    pair = Pair(setting, subject, setting.plain(subject.model, mode), setting.cached(subject.model, mode), graph)
    with told() as warned:
        yield "compile", compiling(pair)
        found = steps(pair, setting.cycles or (1 if setting.tiny else cycles), machine.measured(setting))
        yield "steps", found
        yield "cycle", cycle_of(found)
        if setting.trajectories:
            yield "trajectory", trajectory(pair, setting.trajectories)
            yield "counted trajectory", trajectory(pair, setting.trajectories, pair.counted)
        yield "memory", peaks.peaks(pair)
        if setting.on_gpu or setting.tiny:
            yield "launches", launches.launched(pair)
        if setting.on_gpu:
            yield "waits", launches.waits(pair)
            yield "counted waits", launches.waits(pair, pair.counted)
    if warned:
        yield "warnings", {"said": dict(Counter(warned))}


def foretold(shape: Shape, model: torch.nn.Module, given: dict[str, Any]) -> GraphReport:
    graphs = duca_compile.explain(model, **given, duca_options={"method": "duca", "cycle": CYCLE}).graphs
    if len(graphs) != 1 or graphs[0].plan is None:
        raise RuntimeError(f"{shape.title}: {len(graphs)} graphs, not accelerated: {graphs[0].refusal}")
    return graphs[0]


def _figures(graph: GraphReport) -> dict[str, dict[str, float]]:
    return {
        mode: {"gflops": flops / 1e9, "mib_read": (graph.weight_bytes[mode] + graph.cache_bytes[mode]) / 2**20}
        for mode, flops in graph.flops.items()
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


def steps(pair: Pair, cycles: int, rates: machine.Rates) -> dict[str, Any]:
    """Every step twice in turn on the same latents, after a cycle to warm up."""
    times: dict[str, Times] = defaultdict(Times)
    duca_compile.reset(pair.model)
    x = pair.subject.latents
    for step, t in enumerate(first_steps(CYCLE * (cycles + 1))):
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
    return _by_mode(pair.graph, times, rates)


def _by_mode(graph: GraphReport, times: dict[str, Times], rates: machine.Rates) -> dict[str, Any]:
    whole = graph.flops[Mode.FULL]
    plain = times["plain"].figures
    found: dict[str, Any] = {"plain": {**plain, "tflops_per_s": whole / plain["ms"] / 1e9}}
    for mode in (mode for mode in Mode if mode.value in times):
        own = times[mode.value]
        floor = rates.floor(graph.flops[mode], graph.weight_bytes[mode] + graph.cache_bytes[mode])
        shares = {**Ratios(own.ratios).told, "promised": graph.flops[mode] / whole}
        found[mode.value] = {**own.figures, **shares, "floor_ms": 1e3 * floor}
    return found


def cycle_of(found: dict[str, Any]) -> dict[str, float]:
    """Of a cycle whose steps take what they did: how many times as fast as plain, and as its FLOPs promise."""
    speedup, promised = (
        CYCLE / sum(COUNTS[mode] * found[mode.value][share] for mode in Mode) for share in ("share", "promised")
    )
    return {"speedup": speedup, "promised": promised, "of_promised": speedup / promised}


def trajectory(
    pair: Pair, rounds: int, around: Callable[[int], AbstractContextManager[Any]] = nullcontext
) -> dict[str, Any]:
    """As a sampler runs them, without a wait between steps of ours but those that `around(steps)`, a context, leaves; a
    median of ratios. *Promised* is the speed-up in FLOPs."""
    count = pair.setting.steps
    spent: dict[Any, list[Spent]] = {pair.plain: [], pair.cached: []}
    latents: dict[Any, Tensor] = {}
    before = duca_compile.stats(pair.model).steps
    for turn in range(rounds):
        for run in in_turn(turn, pair.plain, pair.cached):
            duca_compile.reset(pair.model)
            with around(count):
                latents[run], found = pair.setting.timed(partial(sampled, pair, run, count))
            spent[run].append(found)
    after = duca_compile.stats(pair.model).steps
    modes = {mode: (after[mode] - before[mode]) // rounds for mode in Mode}
    ratios = Ratios.of(*([each.device for each in spent[run]] for run in (pair.plain, pair.cached)))
    promised = count * pair.graph.flops[Mode.FULL] / sum(modes[mode] * pair.graph.flops[mode] for mode in Mode)
    return {
        "steps": dict(modes),
        "plain_ms": 1e3 * statistics.median(each.device for each in spent[pair.plain]),
        "cached_ms": 1e3 * statistics.median(each.device for each in spent[pair.cached]),
        "cached_host_ms": 1e3 * statistics.median(each.host for each in spent[pair.cached]),
        "speedup": ratios.median, "least": min(ratios.found), "most": max(ratios.found), "promised": promised,
        "of_promised": ratios.median / promised, "latents_off": relative_error(latents[pair.cached], latents[pair.plain]),
    }  # fmt: skip


def sampled(pair: Pair, run: Callable[..., Tensor], count: int) -> Tensor:
    x = pair.subject.latents
    for t in timesteps(count):
        x = next_latents(x, run(**pair.subject.call(x, t)))
    return x
