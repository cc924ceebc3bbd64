"""Bytes that caches take on a CPU, and the peak of a cycle with and without them: foretold by `explain`, and measured.

Bytes are what torch allocates, by its own profiler, over one cycle after warming up that begins without a cache. *Held*
is what is allocated at its end and was not at its start, over the same of the plain model. *Over plain* is the peak over
the plain model's; both lie in a full step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

import duca_compile
from cycle import CYCLE
from models.shapes import Subject, next_latents
from speed.section import Parts
from speed.setting import Setting, first_steps

OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {"method": "duca"},
    "order: conservative": {"method": "duca", "order": "conservative"},
    "order: aggressive": {"method": "duca", "order": "aggressive"},
    "cache_dtype: 8 bits": {"method": "duca", "cache_dtype": torch.float8_e4m3fn},
}
SHAPES = ("dit2", "flux", "wan")


class Taken(NamedTuple):
    """Bytes over those at a cycle's start: at most, and at its end."""

    peak: int
    left: int


def allocations(setting: Setting, chosen: Sequence[str], models: Sequence[str] = SHAPES) -> Parts:
    """Two blocks deep, where nothing else is asked for."""
    setting.need_cpu()
    shapes = (setting if setting.depth or setting.tiny else replace(setting, depth=2)).measured
    for each in models:
        subject = shapes[each].subject("cpu", setting.dtype)
        plain = cycle(subject, setting.plain(subject.model))
        for name in chosen:
            found = taken(setting, subject, plain, {"cycle": CYCLE, **OPTIONS[name]})
            yield f"{each}, {name}", {"name": each, "model": subject.title, "options": name, "of": dict(found)}


def taken(
    setting: Setting, subject: Subject, plain: Taken, options: dict[str, Any]
) -> Iterator[tuple[str, dict[str, float]]]:
    """MiB foretold and taken."""
    given = subject.call(subject.latents, 900.0)
    (graph,) = duca_compile.explain(subject.model, **given, duca_options=options).graphs
    compiled = torch.compile(
        subject.model, dynamic=False, backend="duca", options={**options, "strict": True, "inner": setting.inner}
    )
    cached = cycle(subject, compiled)
    yield "held", _mib(graph.held_bytes, cached.left - plain.left)
    yield "peak, plain", _mib(graph.plain_step_bytes, plain.peak)
    yield "peak", _mib(graph.full_step_bytes, cached.peak)
    yield "peak over plain", _mib(graph.full_step_bytes - graph.plain_step_bytes, cached.peak - plain.peak)


def _mib(foretold: float, measured: float) -> dict[str, float]:
    return {"foretold_mib": foretold / 2**20, "measured_mib": measured / 2**20}


def cycle(subject: Subject, run: Callable[..., Any]) -> Taken:
    """The second of two cycles, from a start without a cache; what Dynamo compiled before counts to its limit no more."""
    torch._dynamo.reset()
    x = subject.latents
    for step, t in enumerate(first_steps(2 * CYCLE)):
        given = subject.call(x, t)
        if step == CYCLE:
            duca_compile.reset(subject.model)
            watch = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            watch.start()
        x = next_latents(x, run(**given))
    watch.stop()
    held = highest = 0
    for event in _allocations(watch):
        held += event
        highest = max(highest, held)
    return Taken(highest, held)


def _allocations(watch: Any) -> list[int]:
    """Bytes allocated, and freed as negative numbers, in order."""
    found = [each for each in watch.profiler.kineto_results.events() if each.name() == "[memory]"]
    return [each.nbytes() for each in sorted(found, key=lambda each: each.start_ns())]
