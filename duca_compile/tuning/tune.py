"""Finds where the full steps of a model's generations should lie, by generating."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from duca_compile import torch_private
from duca_compile.tuning.candidates import CANDIDATES, candidates
from duca_compile.tuning.forecast_error import fitted_slope
from duca_compile.tuning.forecasts import FORECASTS
from duca_compile.tuning.moves import next_move
from duca_compile.tuning.trials import Images, Metric, Trials
from duca_compile.tuning.tuned import Tuned


def tune(
    generate: Callable[[Any], Images],
    model: nn.Module,
    *,
    speedups: float | Sequence[float] = (3.0, 5.0, 7.0),
    metric: Metric | None = None,
    forecasts: Sequence[str] = ("stack", "anchored"),
    refine: int = 16,
    options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Tuned:
    """Tries schedules of full steps at these costs, and returns what came of them.

    `generate(compiled)` makes images (or videos, latents: a tensor or a list of them) with the compiled model that it
    is given in place of `model`, by your own code, from fixed seeds: every call the same images. What is best for 4 of
    them is not best for all: 16 are better. It is called once to compute them, with every step full. Then, for each of
    the `speedups`, the times fewer FLOPs that are wanted:

    - for each of four ways to place full steps, and with the best of these at the slope that would have served the
      computed generation best;
    - with the best of these for each other one of the `forecasts`: of the `stack`, `anchored` at its embedding, of
      `order 2`, or of all `branches`, which takes the memory of all their features;
    - `refine` times with one full step of the best of all moved by one, or its slope by 0.05, and on from there where
      that is better.

    The model is compiled anew for each forecast.

    `metric(images, computed)` says how good cached images are, more is better; without, it is the PSNR in dB over the
    range of the computed ones, the mean over all images. Metrics of `torchmetrics` fit, such as
    `torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=2.0)`. `options` are further ones of
    `torch.compile`, such as `inner` or `cache_dtype`.

    Raises `Refused` where nothing can be forecast, and `ValueError` for impossible speed-ups, forecasts or numbers of
    calls, and for a model that was compiled in place.
    """
    wanted = sorted([float(speedups)] if isinstance(speedups, (int, float)) else map(float, speedups))
    if not wanted or wanted[0] <= 1:
        raise ValueError(f"speedups must be numbers above 1, not {speedups!r}")
    first, *others = dict.fromkeys(forecasts)
    for name in (first, *others):
        if name not in FORECASTS:
            raise ValueError(f"forecasts are of {', '.join(FORECASTS)}, not {name!r}")
    if refine < 0:
        raise ValueError(f"refine is a number of calls, not {refine}")
    with Progress(console=Console(stderr=True), disable=not progress) as shown:
        count = 1 + (len(CANDIDATES) + 1 + len(others) + refine) * len(wanted)
        task = shown.add_task("computing all steps", total=count)
        trials = Trials(generate, _alone(model), options, metric or psnr, first, partial(shown.update, task))
        steps = trials.likeness.steps
        costs = tuple(dict.fromkeys(max(2, round(steps / speedup)) for speedup in wanted))
        _place(trials, costs, first)
        _try_others(trials, costs, others)
        _refine(trials, costs, refine)
    named = "PSNR (dB)" if metric is None else str(getattr(metric, "__name__", type(metric).__name__))
    return Tuned(steps, trials.looks, named, tuple(trials.all), tuple(map(trials.best, costs)))


def _place(trials: Trials, costs: Sequence[int], forecast: str) -> None:
    """In every way; then the best at the slope that would have served the computed generation best."""
    for cost in costs:
        for placed, schedule in candidates(trials.likeness, cost).items():
            trials.run(placed, replace(FORECASTS[forecast], schedule=schedule))
        best = trials.best(cost)
        slope = round(fitted_slope(trials.likeness.stream, best.schedule), 2)
        trials.run(best.placed, replace(best.method, slope=slope))


def _try_others(trials: Trials, costs: Sequence[int], forecasts: Sequence[str]) -> None:
    found = [trials.best(cost) for cost in costs]
    for forecast in forecasts:
        trials.compile(forecast)
        for best in found:
            method = replace(FORECASTS[forecast], schedule=best.schedule, slope=best.method.slope)
            trials.run(best.placed, method)


def _refine(trials: Trials, costs: Sequence[int], times: int) -> None:
    for cost in costs:
        trials.compile(trials.best(cost).forecast)
        for _ in range(times):
            move = next_move(trials.best(cost).method, trials.tried, trials.likeness.output)
            if move is not None:
                trials.run("refined", move)


def _alone(model: nn.Module) -> nn.Module:
    """What was compiled, as it is compiled anew here. Raises `ValueError` where that cannot be taken apart."""
    module: nn.Module = torch_private.original(model)
    is_plain: bool = torch_private.uncompiled(module) is module
    if not is_plain:
        raise ValueError("the model was compiled in place, by model.compile(...): give one that was not")
    return module


def psnr(images: Tensor, computed: Tensor) -> float:
    """In dB over the range of the computed ones: the mean over the first dimension."""
    peak = computed.max() - computed.min()
    error = (images - computed).square().flatten(1).mean(1).clamp_min(1e-20)
    return float((10 * torch.log10(peak**2 / error)).mean())
