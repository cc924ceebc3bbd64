"""Generations of one model, each by a method of its own, and how good they are."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from duca_compile.generations.recording import Likeness, Recording, recording
from duca_compile.methods.base import FULL
from duca_compile.methods.taylorseer import TaylorSeer
from duca_compile.plan.tuned_file import portrait
from duca_compile.refusal import Refused
from duca_compile.report.stats import reset, stats
from duca_compile.runtime import registry
from duca_compile.tuning.forecasts import trials_of
from duca_compile.tuning.moves import listed
from duca_compile.tuning.tuned import Trial

log = logging.getLogger("duca_compile")
Images = Tensor | Sequence[Tensor]
Metric = Callable[[Tensor, Tensor], float | Tensor]
NOTHING_TO_TUNE = (
    "nothing of the generation can be forecast, so that there is nothing to tune; "
    "duca_compile.explain(model, ...) says what was found and what was not"
)
EVERY_STEP = tuple(range(10_000))


class Trials:
    """The generations of one model, of which the first has every step computed."""

    def __init__(
        self,
        generate: Callable[[Any], Images],
        model: nn.Module,
        options: Mapping[str, Any] | None,
        measure: Metric,
        forecast: str,
        show: Callable[..., None],
    ) -> None:
        self._generate, self._model, self._options, self._measure, self._show = generate, model, options, measure, show
        self.all: list[Trial] = []
        self.compile(forecast)
        with recording() as seen:
            self._computed, _ = self._generated()
        self.likeness, self.looks = _learned(seen, model)
        show(advance=1)

    def compile(self, forecast: str) -> None:
        """For trials of this form, all of which share graphs."""
        self._forecast, self._under_way = forecast, trials_of(forecast, EVERY_STEP)
        torch.compiler.reset()
        options = {**(self._options or {}), "method": self._under_way}
        self._compiled = torch.compile(self._model, backend="duca", options=options)

    def run(self, placed: str, method: TaylorSeer) -> None:
        """One trial, of the form that was compiled for."""
        self._show(description=f"{len(listed(method))} full steps, {placed}, {self._forecast}")
        self._under_way.last.append(method)
        images, speedup = self._generated()
        quality = float(self._measure(images, self._computed))
        self.all.append(Trial(placed, self._forecast, method, speedup, quality))
        self._show(advance=1)

    @property
    def tried(self) -> set[TaylorSeer]:
        return {trial.method for trial in self.all}

    def best(self, full_steps: int) -> Trial:
        """Of those of this cost; not those that are far dearer than others, as a full step was due far from one."""
        of_cost = [trial for trial in self.all if trial.full_steps == full_steps]
        most = max(trial.speedup for trial in of_cost)
        return max((trial for trial in of_cost if trial.speedup > 0.95 * most), key=lambda each: each.quality)

    def _generated(self) -> tuple[Tensor, float]:
        """The images, and by how many times fewer FLOPs."""
        reset(self._model)
        before = stats(self._model).steps
        with torch.no_grad():
            images = _together(self._generate(self._compiled))
        after = stats(self._model).steps
        return images, _saved({name: after[name] - before[name] for name in after}, self._model)


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
