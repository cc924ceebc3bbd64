"""By which recipe a graph runs, and on which caches, where it is the whole forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from duca_compile import torch_private
from duca_compile.generations import budget, diffusers_context
from duca_compile.generations.budget import Budget
from duca_compile.generations.tracker import Tracker
from duca_compile.generations.trajectory import Cache, Trajectory
from duca_compile.methods.base import FULL
from duca_compile.plan.options import Options
from duca_compile.plan.step_plan import StepPlan
from duca_compile.refusal import COUNT_THEM, Refused, note_once, warn_once
from duca_compile.runtime import registry
from duca_compile.runtime.compiled import CompiledRecipe
from duca_compile.runtime.compiled_graph import CompiledGraph
from duca_compile.runtime.probe import NOTHING

_ONLY = "the only graph"
NO_CLOCK = (
    "no input that feeds a sinusoidal timestep embedding was found; steps cannot be told apart, and all are computed. "
    f"If the timestep is a Python number, give it as a tensor. {COUNT_THEM}"
)


@dataclass
class Step:
    """Run by `recipe`. Without a `cache`, it is FULL and nothing is kept. This one tells nobody what came of it.

    `call` numbers the steps of a trajectory; forecasts combine what was stored from its call `since` on. `carried` is
    what the step's graph takes over from the method's probe.
    """

    recipe: str
    cache: Cache | None
    call: int = 0
    since: int = 0
    carried: Sequence[Tensor] = ()

    def produced(self, results: Sequence[Any]) -> None:
        """To be called with the results."""

    def stored(self) -> None:
        """To be called after a FULL step has filled the cache."""

    def abandon(self) -> None:
        """To be called when the step fails: its trajectory's caches can no longer be trusted."""


@dataclass(kw_only=True)
class OwnStep(Step):
    """A step of `trajectory`, over `latents`."""

    tracker: Tracker
    trajectory: Trajectory
    latents: Sequence[Tensor]

    def produced(self, results: Sequence[Any]) -> None:
        self.tracker.produced(results, self.latents)

    def stored(self) -> None:
        self.tracker.settle(self.trajectory)

    def abandon(self) -> None:
        self.tracker.abandon(self.trajectory)


class Steps:
    """`is_joint`: whether other processes take each step too; `is_begun`: whether they wait for this one already."""

    is_joint = False
    is_begun = False

    def next(self, graph: CompiledGraph, args: Sequence[Any]) -> Step | None:
        """None where the graph is to run as it is."""
        raise NotImplementedError

    def ready(self, run: CompiledRecipe, given: Sequence[Any]) -> None:
        """To be called before the recipe of the step runs on what it is `given`."""

    def stand_aside(self) -> None:
        """To be called where the graph runs as it is and no step was asked for."""

    def clear(self) -> None:
        """To be called where caches can no longer be trusted."""


class OwnSteps(Steps):
    """The graph is the whole forward pass: the step is told by the graph's own inputs."""

    def __init__(self, budget: Budget) -> None:
        self.tracker = Tracker(budget)

    def next(self, graph: CompiledGraph, args: Sequence[Any]) -> OwnStep | None:
        given, options = graph.arguments.given(args), graph.plan.options
        visit = self.tracker.visit(given, diffusers_context.entered())
        if visit is None:
            if options.strict:
                raise Refused(NO_CLOCK)
            warn_once(self, Refused(NO_CLOCK))
            return None
        trajectory = visit.trajectory
        cache = trajectory.caches.get(_ONLY)
        if cache is None:
            registry.add(graph, self.tracker, given.weights)
            trajectory.step = min(trajectory.step, 0)
            cache = trajectory.caches[_ONLY] = graph.new_cache(args, graph.plan.seed)
        note_other_steps(trajectory, options, self)
        probed = graph.probe.run(args, cache) if graph.probe else NOTHING
        about = options.method, graph.held_bytes, graph.plan.same, probed.distance
        recipe = self.tracker.begin(visit, *about)
        if graph.probe:
            graph.probe.keep(probed, cache, recipe == FULL)
        step = (recipe, cache, trajectory.calls, trajectory.drifted, probed.carried)
        return OwnStep(*step, tracker=self.tracker, trajectory=trajectory, latents=given.latents)

    def start_over(self, graph: CompiledGraph, args: Sequence[Any], step: OwnStep) -> OwnStep:
        """The step that has begun is FULL, and on a cache of its own: nothing that was kept before is used again."""
        trajectory = step.trajectory
        self.tracker.start_over(trajectory, graph.plan.options.method, graph.held_bytes)
        cache = trajectory.caches[_ONLY] = graph.new_cache(args, graph.plan.seed)
        return replace(step, recipe=FULL, cache=cache)

    def clear(self) -> None:
        self.tracker.clear()


def forecast_weights(plan: StepPlan, step: Step) -> tuple[float, ...]:
    """Of what a forecast combines: nothing of before fresh noise was added, but the last value as it is."""
    slot = next((slot for slot in plan.reads if slot.history > 1), None)
    if slot is None or step.cache is None:
        return ()
    last, *before = step.cache.kept[slot.key].calls
    stored = [last, *(call for call in before if call >= step.since)]
    return plan.options.method.weights(stored, step.call) if last >= step.since else (1.0,)


def note_other_steps(trajectory: Trajectory, options: Options, who: object) -> None:
    """Tells `who`, once, of a generation that is told to have other steps than its method was tuned for."""
    tuned, total = options.made_for_steps, trajectory.total
    if tuned and total and total != tuned:
        note_once(
            who,
            f"duca runs a method that was tuned for generations of {tuned} steps, and this one has {total}: its full "
            "steps belong elsewhere. Call duca_compile.tune with as many steps, or give a preset",
        )


def budget_of(options: Options) -> Budget:
    """The one budget of the `torch.compile` whose call is running."""
    call = torch_private.root_call()
    return budget.of(call and call.owner, options.cache_budget)
