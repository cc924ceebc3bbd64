"""Steps timed in pairs, plain and cached in turn, so that ratios hold where a machine's speed drifts."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from duca_compile.cli.subject import Subject
from duca_compile.generations.sessions import session
from duca_compile.methods.base import FULL
from duca_compile.plan.options import Options
from duca_compile.report.stats import reset, stats


@dataclass
class Pairs:
    """Seconds of steps by one recipe, and of the same calls plain."""

    cached: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The median of those of the pairs."""
        return statistics.median(ours / theirs for ours, theirs in zip(self.cached, self.plain, strict=True))

    @property
    def median_cached(self) -> float:
        return statistics.median(self.cached)

    @property
    def median_plain(self) -> float:
        return statistics.median(self.plain)


@dataclass(frozen=True)
class Measured:
    """`recipes` that ran, over a generation of so many `steps`. `compile_seconds` is of all recipes together;
    `plain_compile_seconds` of the first plain call, with Dynamo's capture. `cache_bytes`: the most held at once."""

    steps: int
    recipes: dict[str, Pairs]
    compile_seconds: float
    plain_compile_seconds: float
    cache_bytes: int

    @property
    def speedup(self) -> float:
        """Of a generation, by the ratios of its recipes."""
        return self.steps / sum(len(pairs.cached) * pairs.ratio for pairs in self.recipes.values())


def measured(subject: Subject, options: dict[str, Any], steps: int) -> Measured:
    """Every step is one call with the subject's arguments as they are, counted by a session; all recipes have run
    before."""
    parsed = Options.parse(options)
    given: dict[str, Any] = {"backend": parsed.inner}
    if parsed.inductor_config:
        given["options"] = parsed.inductor_config
    plain, cached = torch.compile(subject.model, **given), torch.compile(subject.model, backend="duca", options=options)
    with torch.no_grad():
        compile_plain = _timed(subject, plain)
        with session("warm", steps=steps):
            for _ in range(_warm(parsed, steps)):
                _timed(subject, cached)
        reset(subject.model)
        with session("timed", steps=steps):
            recipes = _recipes(subject, plain, cached, steps)
    seen = stats(subject.model)
    return Measured(steps, recipes, sum(seen.compile_seconds.values()), compile_plain, seen.peak_bytes)


def _recipes(subject: Subject, plain: Callable[..., Any], cached: Callable[..., Any], steps: int) -> dict[str, Pairs]:
    found: dict[str, Pairs] = {}
    for step in range(steps):
        before = stats(subject.model).steps
        seconds = {run: _timed(subject, run) for run in ((plain, cached) if step % 2 else (cached, plain))}
        recipe = next(iter(stats(subject.model).steps - before), FULL)
        pairs = found.setdefault(recipe, Pairs())
        pairs.cached.append(seconds[cached])
        pairs.plain.append(seconds[plain])
    return found


def _warm(options: Options, steps: int) -> int:
    """How many steps run every recipe at least once; all where the method decides at run time."""
    if options.method.probe is not None:
        return steps
    sequence = options.sequence(steps)
    return 1 + max(sequence.index(name) for name in set(sequence))


def _timed(subject: Subject, run: Callable[..., Any]) -> float:
    """Seconds of one call, until its device is done."""
    began = time.perf_counter()
    run(*subject.args, **subject.kwargs)
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter() - began
