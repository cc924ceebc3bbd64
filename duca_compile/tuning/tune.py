"""Finds where the full steps of a model's generations should lie, by generating."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from duca_compile import torch_private
from duca_compile.generations.recording import Likeness, Recording, recording
from duca_compile.methods.base import FULL, Method
from duca_compile.plan.tuned_file import portrait
from duca_compile.refusal import Refused
from duca_compile.report.stats import reset, stats
from duca_compile.runtime import registry
from duca_compile.tuning.candidates import CANDIDATES, candidates
from duca_compile.tuning.forecasts import FORECASTS, trials_of
from duca_compile.tuning.slope import fitted_slope
from duca_compile.tuning.tuned import Trial, Tuned

log = logging.getLogger("duca_compile")
Images = Tensor | Sequence[Tensor]
Metric = Callable[[Tensor, Tensor], float | Tensor]
NOTHING_TO_TUNE = (
    "nothing of the generation can be forecast, so that there is nothing to tune; "
    "duca_compile.explain(model, ...) says what was found and what was not"
)


EVERY_STEP = tuple(range(10_000))


def tune(
    generate: Callable[[Any], Images],
    model: nn.Module,
    *,
    speedups: float | Sequence[float] = (3.0, 5.0, 7.0),
    metric: Metric | None = None,
    forecasts: Sequence[str] = ("stack", "anchored"),
    options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Tuned:
    """Tries schedules of full steps at these costs, and returns what came of them.

    `generate(compiled)` makes images (or videos, latents: a tensor or a list of them) with the compiled model that it
    is given in place of `model`, by your own code, from fixed seeds: every call the same images. A few are enough. It
    is called once to compute them, with every step full, and for each of the `speedups`, the times fewer FLOPs that are
    wanted, once for each of four ways to place full steps; with the best of these, once more at the slope that would
    have served the computed generation best, and for each other one of the `forecasts`: of the `stack`, `anchored` at
    its embedding, of `order 2`, or of all `branches`, which takes the memory of all their features. Each of these
    compiles the model anew.

    `metric(images, computed)` says how good cached images are, more is better; without, it is the PSNR in dB over the
    range of the computed ones, the mean over all images. Metrics of `torchmetrics` fit, such as
    `torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=2.0)`. `options` are further ones of
    `torch.compile`, such as `inner` or `cache_dtype`.

    Raises `Refused` where nothing can be forecast, and `ValueError` for impossible speed-ups or forecasts, and
    for a model that was compiled in place.
    """
    wanted = sorted([float(speedups)] if isinstance(speedups, (int, float)) else map(float, speedups))
    if not wanted or wanted[0] <= 1:
        raise ValueError(f"speedups must be numbers above 1, not {speedups!r}")
    first, *others = dict.fromkeys(forecasts)
    for name in (first, *others):
        if name not in FORECASTS:
            raise ValueError(f"forecasts are of {', '.join(FORECASTS)}, not {name!r}")
    model, measure, trials = _alone(model), metric or psnr, list[Trial]()
    count = 1 + (len(CANDIDATES) + 1 + len(others)) * len(wanted)
    with Progress(console=Console(stderr=True), disable=not progress) as shown:
        task = shown.add_task("computing all steps", total=count)
        tried = trials_of(first, EVERY_STEP)
        run = partial(_generated, generate, model, _compiled(model, tried, options))
        with recording() as seen:
            computed, _ = run()
        shown.advance(task)
        likeness, looks = _learned(seen, model)
        costs = tuple(dict.fromkeys(max(2, round(likeness.steps / speedup)) for speedup in wanted))

        def one(name: str, placed: str, schedule: tuple[int, ...], slope: float = 1.0) -> None:
            shown.update(task, description=f"{len(schedule)} full steps, {placed}, {name}")
            tried.last.append(replace(FORECASTS[name], schedule=schedule, slope=slope))
            images, speedup = run()
            quality = float(measure(images, computed))
            trials.append(Trial(placed, name, tried.last[-1], schedule, speedup, quality))
            shown.advance(task)

        for cost in costs:
            for placed, schedule in candidates(likeness, cost).items():
                one(first, placed, schedule)
            best = _best(trials, cost)
            one(first, best.placed, best.schedule, round(fitted_slope(likeness.stream, best.schedule), 2))
        found = [_best(trials, cost) for cost in costs]
        for name in others:
            tried = trials_of(name, EVERY_STEP)
            run = partial(_generated, generate, model, _compiled(model, tried, options))
            for trial in found:
                one(name, trial.placed, trial.schedule, trial.method.slope)
    named = "PSNR (dB)" if metric is None else str(getattr(metric, "__name__", type(metric).__name__))
    return Tuned(likeness.steps, looks, named, tuple(trials), tuple(_best(trials, cost) for cost in costs))


def _best(trials: Sequence[Trial], full_steps: int) -> Trial:
    """Of those of this cost."""
    return max((trial for trial in trials if trial.full_steps == full_steps), key=lambda each: each.quality)


def psnr(images: Tensor, computed: Tensor) -> float:
    """In dB over the range of the computed ones: the mean over the first dimension."""
    peak = computed.max() - computed.min()
    error = (images - computed).square().flatten(1).mean(1).clamp_min(1e-20)
    return float((10 * torch.log10(peak**2 / error)).mean())


def _alone(model: nn.Module) -> nn.Module:
    """What was compiled, as it is compiled anew here. Raises `ValueError` where that cannot be taken apart."""
    module: nn.Module = torch_private.original(model)
    is_plain: bool = torch_private.uncompiled(module) is module
    if not is_plain:
        raise ValueError("the model was compiled in place, by model.compile(...): give one that was not")
    return module


def _compiled(model: nn.Module, method: Method, options: Mapping[str, Any] | None) -> Any:
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
