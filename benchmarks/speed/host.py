"""What a step costs the host beside its graph: choosing recipe and caches, and handing on the results.

Two ways to leave the graphs out: on a GPU they do nothing, and give what they gave the first time (`host`); on the
smallest model, with one thread, they run and their time is taken off (`guard`). Beside ours stands what `torch.compile`
itself takes to find the graph, as with any backend.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

import duca_compile
from cycle import CYCLE
from duca_compile.backend import duca
from models.shapes import Shape, first, timesteps
from models.sizes import SMALLEST
from speed.section import Parts
from speed.setting import Setting, ran, watched

FINDING = "torch.compile"


class Timer:
    """`last`: seconds that the last call of the functions it has timed took."""

    last = 0.0

    def timed(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            began = time.perf_counter()
            found = run(*args, **named)
            self.last = time.perf_counter() - began
            return found

        return timed


def once(run: Callable[..., Any]) -> Callable[..., Any]:
    """Runs at its first call, and gives its results at all others."""
    results: list[Any] = []

    def ran_once(*args: Any) -> Any:
        if not results:
            results.append(run(*args))
        return results[0]

    return ran_once


def host(setting: Setting, shape: Shape) -> Parts:
    times = list(timesteps(CYCLE * (4 if setting.tiny else 20)))
    yield from beside_graphs(setting, shape, times, 2 * CYCLE, once, lambda x, output: x * 0.999)


def guard(setting: Setting) -> Parts:
    count = 4 * CYCLE if setting.tiny else 5000
    times = [9000.0 - step for step in range(count)]
    with one_thread():
        yield from beside_graphs(
            setting, SMALLEST, times, count // 50, lambda run: run, lambda x, output: x - 0.001 * output
        )


def beside_graphs(
    setting: Setting,
    shape: Shape,
    times: Sequence[float],
    warm: int,
    graph: Callable[[Callable[..., Any]], Callable[..., Any]],
    after: Callable[[Any, Any], Any],
) -> Parts:
    """Of all steps but the first `warm`; `graph` makes of a graph what runs in its place, `after` the next latents."""
    subject = shape.subject(setting.device, setting.dtype)
    whole, calls, graphs = Timer(), Timer(), Timer()

    def inner(gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        return graphs.timed(graph(gm.forward))

    def backend(gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        return calls.timed(duca(gm, inputs, options={"method": "duca", "cycle": CYCLE, "inner": inner, "strict": True}))

    run = whole.timed(torch.compile(subject.model, dynamic=False, backend=backend))
    own: dict[str, list[float]] = defaultdict(list)
    in_all: dict[str, list[float]] = defaultdict(list)
    x = subject.latents
    for step, t in enumerate(times):
        given = subject.call(x, t)
        setting.wait()
        with watched(subject.model) as seen:
            output = run(**given)
        if step >= warm:
            own[ran(seen).value].append(calls.last - graphs.last)
            own[FINDING].append(whole.last - calls.last)
            in_all[ran(seen).value].append(whole.last - graphs.last)
        x = after(x, first(output))
    yield "us", {name: told(found) for name, found in own.items()}
    yield "with torch.compile", {name: 1e6 * statistics.median(found) for name, found in in_all.items()}
    yield "of", {"model": shape.title, "weights": len(list(subject.model.parameters()))}
    yield "resets", {"by reason": duca_compile.stats(subject.model).resets}


def told(seconds: Sequence[float]) -> dict[str, float]:
    """In microseconds."""
    found = sorted(1e6 * each for each in seconds)
    named = zip(("fastest", "median", "nine_in_ten"), (0, 0.5, 0.9), strict=True)
    return {"steps": len(found), **{name: found[int(at * (len(found) - 1))] for name, at in named}}


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
