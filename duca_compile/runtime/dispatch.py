"""Runs one compiled graph per denoising step and keeps the caches between steps."""

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from duca_compile.capture.capture import Capture
from duca_compile.generations import budget, recording
from duca_compile.generations.draw_tokens import sent_weights
from duca_compile.generations.own_results import delivered, layout, owned
from duca_compile.generations.trajectory import Cache
from duca_compile.plan.plan import Plan
from duca_compile.plan.step_plan import StepPlan
from duca_compile.refusal import DucaWarning, warn_fallback, warnings_after
from duca_compile.runtime import fixed_memory
from duca_compile.runtime.arguments import Arguments
from duca_compile.runtime.compiled import CompiledPlain, CompiledRecipe
from duca_compile.runtime.compiled_graph import CompiledGraph
from duca_compile.runtime.failures import Failures, is_out_of_memory, release
from duca_compile.runtime.fixed_memory import FixedMemory
from duca_compile.runtime.probe import CompiledProbe
from duca_compile.runtime.steps import Step, Steps, forecast_weights
from duca_compile.runtime.timing import timed

log = logging.getLogger("duca_compile")


class Dispatcher:
    """Has the signature Dynamo expects: its graph's inputs in, its results out."""

    def __init__(
        self,
        captured: Capture,
        plan: Plan,
        recipes: dict[str, CompiledRecipe],
        plain: CompiledPlain,
        steps: Steps,
        memory: FixedMemory | None = None,
        flops: Mapping[str, int] | None = None,
        probe: CompiledProbe | None = None,
    ) -> None:
        self.graph = CompiledGraph(plan, Arguments(captured, plan.facts.inputs), recipes, flops or {}, probe=probe)
        self._constants = captured.constants
        self._viewed = captured.viewed
        self._flatten = captured.flatten
        self._memory = memory
        self._plain = plain
        self._steps = steps
        self._given_up = False
        self._failures = Failures()
        self._recipe: str | None = None
        self._lock = threading.RLock()

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        with self._lock, warnings_after(), self._flatten.as_in_graph():
            if self._given_up:
                self._steps.stand_aside()
                return tuple(self._plain(args))
            try:
                return self._step(args)
            except DucaWarning:  # the user's filters make an error of it
                self._steps.clear()
                raise
            except Exception as error:
                if self.graph.plan.options.strict or self._steps.is_begun:
                    raise
                failed = error
            return self._instead(failed, args)

    def _instead(self, error: Exception, args: Sequence[Any]) -> tuple[Any, ...]:
        """The result of a step that failed with `error`, by another way.

        Where memory was short, the step is tried once more without the caches of all other generations, computed whole,
        unless other processes take it too. Else, or if that fails too, the plain graph runs. Where that fails as well,
        the fault lies in the call, and is the caller's to see; it says nothing about ours.
        """
        self._steps.clear()
        recipe, unusable = self._recipe, self._recipe is not None and not self.graph.recipes[self._recipe].is_compiled
        if is_out_of_memory(error):
            log.warning("a step ran out of memory; it runs again without the other generations' caches", exc_info=error)
            release(error)
            budget.free_all()
            fixed_memory.free_all()
        again = is_out_of_memory(error) and not self._steps.is_joint
        found = self._once_more(args) if again else tuple(self._plain(args))
        end = self._failures.last(recipe, error, unusable)
        if end is not None:
            self._given_up = True
            self._steps.clear()
            warn_fallback(end)
        release(error)
        return found

    def _once_more(self, args: Sequence[Any]) -> tuple[Any, ...]:
        try:
            return self._step(args)
        except DucaWarning:
            raise
        except Exception as error:
            log.warning("it failed again, and runs as the plain graph", exc_info=error)
            release(error)
        self._steps.clear()
        return tuple(self._plain(args))

    def _step(self, args: Sequence[Any]) -> tuple[Any, ...]:
        self._recipe = None
        flat = self._flatten(args)
        step = self._steps.next(self.graph, flat)
        if step is None:
            return tuple(self._plain(args))
        self._recipe = step.recipe
        try:
            found = self._run(step, flat)
        except BaseException:
            step.abandon()
            raise
        self._failures.passed(step.recipe)
        return found

    def _run(self, step: Step, args: Sequence[Any]) -> tuple[Any, ...]:
        plan, cache = self.graph.step(step.recipe), step.cache
        fixed = [] if cache is None else self._taken_over(plan, cache)
        in_place = [each for slot in fixed for each in slot]
        added: tuple[Sequence[Tensor], ...] = () if cache is None else self._added(plan, step, cache, in_place)
        run, given = self.graph.recipes[step.recipe], plan.signature.pack(self._constants, args, *added)
        self._steps.ready(run, given)
        with timed(run, given):
            found = run(given)
        results = tuple(plan.signature.own(found))
        stored: Sequence[Tensor] = plan.signature.stored(found)
        if self._memory is not None and cache is not None:
            results = owned(results, [args[at] for at in self._viewed])
        step.produced(results)
        if cache is None:
            return results
        if fixed:
            cache.put_in_place(plan.writes, fixed, step.call)
        elif stored:
            cache.put(plan.writes, stored, step.call)
        if not plan.is_complete:
            return delivered(results, cache.layout, cache.memory)
        cache.layout = layout(results)
        self.graph.held_bytes = cache.bytes
        recording.note(cache, results)
        step.stored()
        return results

    def _taken_over(self, plan: StepPlan, cache: Cache) -> list[list[Tensor]]:
        """The fixed memory that the step writes to, if it does; the current stream takes over what is held."""
        if self._memory is not None:
            return self._memory.of(cache, plan)
        cache.hand_over()
        return []

    def _added(
        self, plan: StepPlan, step: Step, cache: Cache, memory: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], ...]:
        """What the step's graph takes besides the call's own inputs: caches, drawn tokens, weights, memory."""
        reads = cache.take(plan.reads)
        draws = cache.draws[plan.name].draw(reads[0].device) if plan.signature.draws else []
        combined = forecast_weights(plan, step)
        weights = [sent_weights(combined, plan.history, reads[0].device)] if combined else []
        return reads, draws, weights, memory, step.carried
