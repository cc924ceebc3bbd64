"""One row of one model in a process of its own, which keeps its model compiled and waits for orders."""

import json
import os
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import duca_compile
from duca_compile import Mode, torch_private
from models.sampled import Sampled, Size, build
from peers.methods import METHODS, Applied, Schedule, Unsupported, flops_per_step, full_steps

WARM_UPS = 4


@dataclass(frozen=True)
class Order:
    """What a worker is started with. `settings` were found by the eager row of the same method."""

    subject: str
    method: str
    size: Size
    schedule: Schedule
    threads: int
    inductor: bool = True
    settings: dict[str, float] = field(default_factory=dict)


@dataclass
class Facts:
    """What one row is, but for its times. Launches and graphs are None where nothing is compiled."""

    shape: str = ""
    unsupported: str | None = None
    notes: list[str] = field(default_factory=list)
    settings: dict[str, float] = field(default_factory=dict)
    full: int = 0
    cached: int = 0
    same_steps: bool = True
    flops_share: float = 1.0
    launches_full: float | None = None
    launches_cached: float | None = None
    graphs: int | None = None
    first_seconds: float = 0.0
    compile_seconds: float | None = None
    peak_bytes: int = 0
    sample: Any = None
    span: float | None = None


class Launches:
    """Inductor as a backend that counts the graphs it compiles and the calls of them; without it, graphs run as they are."""

    def __init__(self, inductor: bool) -> None:
        self.inductor = inductor
        self.graphs = 0
        self.calls = 0

    def __call__(self, gm: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        from torch._inductor.compile_fx import compile_fx

        self.graphs += 1
        compiled: Any = compile_fx(gm, inputs) if self.inductor else gm.forward

        def run(*given: Any) -> Any:
            self.calls += 1
            return compiled(*given)

        return run


class Row:
    """A model with a method on it. `trajectory` gives the sample and the launches of each step."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.method = next(method for method in METHODS if method.key == order.method)
        self.schedule = order.schedule
        self.subject: Sampled = build(order.subject, order.size)
        self.launches = Launches(order.inductor)
        self.facts = Facts(self.subject.shape, span=self.subject.span)
        self.whole = sum(flops_per_step(Applied(self.subject.model), self.subject, 1))
        self.applied = self.method.apply(self.subject, order.schedule, order.settings)
        self.facts.notes, self.facts.settings = self.applied.notes, self.applied.settings
        self.run: Callable[..., Any] = self.applied.model
        if self.method.compiled and self.method.options is None:
            self.run = torch.compile(self.applied.model, backend=self.launches)
        elif self.method.options is not None:
            options = {"method": "duca", "cycle": order.schedule.cycle, "strict": True, **self.method.options}
            if order.inductor:  # as users have it: a function as `inner` would get no outlined blocks
                torch_private.inner_compiler = lambda inner, changes: self.launches
            else:
                options["inner"] = self.launches
            self.run = torch.compile(self.applied.model, backend="duca", options=options)

    def trajectory(self, steps: int, on_step: Callable[[], object] = lambda: None) -> Tensor:
        def run(**arguments: Any) -> Any:
            output = self.run(**arguments)
            on_step()
            return output

        with torch.no_grad(), self.applied.generation():
            return self.subject.sample(run, steps, self.applied.call)

    def prepare(self) -> None:
        """From nothing compiled to nothing left to compile."""
        steps, facts = self.schedule.steps, self.facts
        first: list[float] = []
        spent: list[float] = []
        graphs = -1
        while len(spent) < WARM_UPS and graphs < self.launches.graphs:
            graphs, began = self.launches.graphs, time.perf_counter()
            self.trajectory(steps, lambda: first.append(time.perf_counter()))
            if not spent:
                facts.first_seconds = first[0] - began
            spent.append(time.perf_counter() - began)
        if self.method.compiled:
            steady = [self.seconds(steps) for _ in range(2)]
            facts.graphs = self.launches.graphs
            facts.compile_seconds = sum(spent) - len(spent) * statistics.median(steady)
            if graphs < facts.graphs:
                facts.notes.append(f"compiles anew after {WARM_UPS} trajectories")

    def seconds(self, steps: int) -> float:
        began = time.perf_counter()
        self.trajectory(steps)
        return time.perf_counter() - began

    def measure(self) -> None:
        facts, steps = self.facts, self.schedule.steps
        if self.method.options is None:
            flops = flops_per_step(self.applied, self.subject, steps)
            full, facts.flops_share = full_steps(flops), sum(flops) / (steps * self.whole)
        else:
            full = self.our_steps()
        facts.full, facts.cached = sum(full), steps - sum(full)
        facts.same_steps = tuple(full) == self.schedule.full
        calls = [self.launches.calls]
        facts.sample = self.trajectory(steps, lambda: calls.append(self.launches.calls)).numpy()
        if self.method.compiled:
            launched = [after - before for before, after in pairwise(calls)]
            facts.launches_full = statistics.mean(count for count, one in zip(launched, full, strict=True) if one)
            if 0 in launched:
                bare = f"{launched.count(0)} of {steps} steps"
                facts.notes.append(f"{bare} launch no compiled graph: Dynamo met its recompile_limit")
            if facts.cached:
                cached = [count for count, one in zip(launched, full, strict=True) if not one]
                facts.launches_cached = statistics.mean(cached)
        facts.peak_bytes = self.peak_bytes()

    def our_steps(self) -> list[bool]:
        model, found = self.subject.model, []
        counted = duca_compile.stats(model).steps
        before = [counted]
        self.trajectory(self.schedule.steps, lambda: before.append(duca_compile.stats(model).steps))
        for earlier, later in pairwise(before):
            found.append(next(mode for mode in Mode if later[mode] > earlier[mode]))
        asked = {"method": "duca", "cycle": self.schedule.cycle, **(self.method.options or {})}
        again = build(self.order.subject, self.order.size)
        (graph,) = duca_compile.explain(again.model, **again.arguments, duca_options=asked).graphs
        spent = sum(graph.flops[mode] for mode in found)
        self.facts.flops_share = spent / (len(found) * graph.flops[Mode.FULL])
        count = {mode: found.count(mode) for mode in Mode}
        self.facts.notes.append(
            f"{count[Mode.CONSERVATIVE]} conservative and {count[Mode.AGGRESSIVE]} aggressive steps"
        )
        return [mode == Mode.FULL for mode in found]

    def peak_bytes(self) -> int:
        """Most bytes held at once of what torch's allocator gave during one trajectory; what it freed of before is not told."""
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            self.trajectory(self.schedule.steps)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            profiler.export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
        changes = [(event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"]
        held = peak = 0
        for _, change in sorted(changes, key=lambda change: change[0]):
            held += change
            peak = max(peak, held)
        return peak


def work(pipe: Connection, order: Order) -> None:
    """Prepares the row, then answers until None: `("time", steps)` with seconds and the number of graphs compiled by then,
    `("sample", steps)` with the sample."""
    torch.set_num_threads(order.threads)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        try:
            row = Row(order)
            row.prepare()
            row.measure()
        except Exception as error:
            if not isinstance(error, Unsupported):  # a peer's fault or ours: let it be seen
                traceback.print_exc()
            pipe.send(asdict(Facts(unsupported=reason(error))))
            return
        pipe.send(asdict(row.facts))
        while (asked := pipe.recv()) is not None:
            what, steps = asked
            pipe.send((row.seconds(steps), row.launches.graphs) if what == "time" else row.trajectory(steps).numpy())


def reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    first = text[0] if text else ""
    return first if isinstance(error, Unsupported) else f"{type(error).__name__}: {first}"
