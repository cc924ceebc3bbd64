"""Finds where the full steps of a model's generations should lie, by generating."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor, nn

from duca_compile.generations.recording import Likeness, Recording, recording
from duca_compile.methods.base import FULL
from duca_compile.methods.cycles import CycleClock
from duca_compile.methods.forecast_stack import ForecastStack
from duca_compile.plan.tuned_file import portrait
from duca_compile.refusal import Refused
from duca_compile.report.stats import reset, stats
from duca_compile.runtime import registry
from duca_compile.tuning.candidates import candidates
from duca_compile.tuning.tuned import Trial, Tuned

log = logging.getLogger("duca_compile")
Images = Tensor | Sequence[Tensor]
Metric = Callable[[Tensor, Tensor], float | Tensor]
NOTHING_TO_TUNE = (
    "nothing of the generation can be forecast, so that there is nothing to tune; "
    "duca_compile.explain(model, ...) says what was found and what was not"
)


@dataclass(frozen=True)
class _Trials(ForecastStack):
    """The `last` of them is under way. All share their graphs, and so does the generation whose every step is full."""

    last: list[ForecastStack] = field(default_factory=lambda: [ForecastStack(schedule=tuple(range(10_000)))])

    def start(self) -> CycleClock:
        return self.last[-1].start()


def tune(
    generate: Callable[[Any], Images],
    model: nn.Module,
    *,
    speedups: float | Sequence[float] = (3.0, 5.0, 7.0),
    metric: Metric | None = None,
    options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Tuned:
    """Tries schedules of full steps at these costs, and returns what came of them.

    `generate(compiled)` makes images (or videos, latents: a tensor or a list of them) with the compiled model that it
    is given in place of `model`, by your own code, from fixed seeds: every call the same images. A few are enough. It
    is called once to compute them, with every step full, and four times for each of the `speedups`, the times fewer
    FLOPs that are wanted. `metric(images, computed)` says how good cached images are, more is better; without, it is
    the PSNR in dB over the range of the computed ones, the mean over all images. Metrics of `torchmetrics` fit, such as
    `torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=2.0)`. `options` are further ones of
    `torch.compile`, such as `inner` or `cache_dtype`.

    Raises `Refused` where nothing can be forecast, and `ValueError` for impossible speed-ups.
    """
    wanted = sorted([float(speedups)] if isinstance(speedups, (int, float)) else map(float, speedups))
    if not wanted or wanted[0] <= 1:
        raise ValueError(f"speedups must be numbers above 1, not {speedups!r}")
    method, measure, trials = _Trials(), metric or psnr, list[Trial]()
    run = partial(_generated, generate, model, _compiled(model, method, options))
    with Progress(disable=not progress) as shown:
        task = shown.add_task("computing all steps", total=1 + 4 * len(wanted))
        with recording() as seen:
            computed, _ = run()
        likeness, looks = _learned(seen, model)
        shown.advance(task)
        for full_steps in dict.fromkeys(max(2, round(likeness.steps / speedup)) for speedup in wanted):
            for name, schedule in candidates(likeness, full_steps).items():
                shown.update(task, description=f"{full_steps} full steps, {name}")
                method.last.append(ForecastStack(schedule=schedule))
                images, speedup = run()
                trials.append(Trial(name, method.last[-1], full_steps, speedup, float(measure(images, computed))))
                shown.advance(task)
    costs = dict.fromkeys(trial.full_steps for trial in trials)
    best = tuple(max(_of_cost(trials, cost), key=lambda each: each.quality) for cost in costs)
    named = "PSNR (dB)" if metric is None else str(getattr(metric, "__name__", type(metric).__name__))
    return Tuned(likeness.steps, looks, named, tuple(trials), best)


def _of_cost(trials: Sequence[Trial], full_steps: int) -> list[Trial]:
    return [trial for trial in trials if trial.full_steps == full_steps]


def psnr(images: Tensor, computed: Tensor) -> float:
    """In dB over the range of the computed ones: the mean over the first dimension."""
    peak = computed.max() - computed.min()
    error = (images - computed).square().flatten(1).mean(1).clamp_min(1e-20)
    return float((10 * torch.log10(peak**2 / error)).mean())


def _compiled(model: nn.Module, method: ForecastStack, options: Mapping[str, Any] | None) -> Any:
    torch.compiler.reset()
    given: dict[str, Any] = {**(options or {}), "method": method}
    return torch.compile(model, backend="duca", options=given)


def _generated(generate: Callable[[Any], Images], model: nn.Module, compiled: Any) -> tuple[Tensor, float]:
    """The images, and by how many times fewer FLOPs."""
    reset(model)
    before = stats(model).steps
    with torch.no_grad():
        images = _together(generate(compiled))
    after = stats(model).steps
    return images, _saved({name: after[name] - before[name] for name in after}, model)


def _together(images: Images) -> Tensor:
    found = images if isinstance(images, Tensor) else torch.cat([each.flatten(1) for each in images])
    return found.detach().double().cpu()


def _saved(steps: Mapping[str, int], model: nn.Module) -> float:
    costs = [graph.flops for graph in registry.graphs(model) if graph.flops]
    total: dict[str, int] = {name: sum(cost.get(name, 0) for cost in costs) for name in steps}
    spent = sum(total[name] * count for name, count in steps.items())
    return sum(steps.values()) * total.get(FULL, 0) / spent if spent else 1.0


def _learned(seen: Recording, model: nn.Module) -> tuple[Likeness, str]:
    """How alike steps are, and what the model looks like."""
    likeness = seen.mean()
    if likeness is None or likeness.steps < 3:
        raise Refused(NOTHING_TO_TUNE)
    looks = "; and ".join(dict.fromkeys(portrait(graph.plan.facts) for graph in registry.graphs(model)))
    log.info("a generation's %d steps change by %s", likeness.steps, [round(each, 4) for each in likeness.changes])
    return likeness, looks
