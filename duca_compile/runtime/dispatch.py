"""Runs one compiled graph per denoising step and keeps the caches between steps."""

import logging
import threading
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from duca_compile.capture.capture import Capture
from duca_compile.generations import budget
from duca_compile.generations.own_results import delivered, layout, owned
from duca_compile.generations.trajectory import Cache
from duca_compile.plan.modes import Mode
from duca_compile.plan.plan import Plan
from duca_compile.refusal import DucaWarning, warn_fallback, warnings_after
from duca_compile.runtime import fixed_memory
from duca_compile.runtime.arguments import Arguments
from duca_compile.runtime.compiled import CompiledMode, CompiledPlain
from duca_compile.runtime.compiled_graph import CompiledGraph
from duca_compile.runtime.failures import Failures, is_out_of_memory, release
from duca_compile.runtime.fixed_memory import FixedMemory
from duca_compile.runtime.steps import Step, Steps

log = logging.getLogger("duca_compile")


class Dispatcher:
    """Has the signature Dynamo expects: the captured graph's own inputs in, its results out."""

    def __init__(
        self,
        captured: Capture,
        plan: Plan,
        modes: dict[Mode, CompiledMode],
        plain: CompiledPlain,
        steps: Steps,
        memory: FixedMemory | None = None,
    ) -> None:
        self.graph = CompiledGraph(plan, Arguments(captured, plan.facts.inputs), modes)
        self._constants = captured.constants
        self._memory = memory
        self._stored = {mode: 0 if plan.fixed else len(plan.stored(mode)) for mode in modes}
        self._plain = plain
        self._steps = steps
        self._given_up = False
        self._failures = Failures()
        self._mode: Mode | None = None
        self._lock = threading.RLock()

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        with self._lock, warnings_after():
            if self._given_up:
                return tuple(self._plain(args))
            try:
                return self._step(args)
            except DucaWarning:  # the user's filters make an error of it
                self._steps.clear()
                raise
            except Exception as error:
                if self.graph.plan.options.strict:
                    raise
                failed = error
            return self._instead(failed, args)

    def _instead(self, error: Exception, args: Sequence[Any]) -> tuple[Any, ...]:
        """The result of a step that failed with `error`, by another way.

        Where memory was short, the step is tried once more without the caches of all other generations, computed whole.
        Else, or if that fails too, the plain graph runs. Where that fails as well, the fault lies in the call, and is
        the caller's to see; it says nothing about ours.
        """
        self._steps.clear()
        mode, unusable = self._mode, self._mode is not None and not self.graph.modes[self._mode].is_compiled
        if is_out_of_memory(error):
            log.warning("a step ran out of memory; it runs again without the other generations' caches", exc_info=error)
            release(error)
            budget.free_all()
            fixed_memory.free_all()
            found = self._once_more(args)
        else:
            found = tuple(self._plain(args))
        end = self._failures.last(mode, error, unusable)
        if end is not None:
            self._given_up = True
            self._steps.clear()
            warn_fallback(end)
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
        self._mode = None
        step = self._steps.next(self.graph, args)
        if step is None:
            return tuple(self._plain(args))
        self._mode = step.mode
        try:
            found = self._run(step, args)
        except BaseException:
            step.abandon()
            raise
        self._failures.passed(step.mode)
        return found

    def _run(self, step: Step, args: Sequence[Any]) -> tuple[Any, ...]:
        mode, cache = step.mode, step.cache
        extra = () if cache is None else self._extra(mode, cache)
        found = self.graph.modes[mode]([*self._constants, *args, *extra])
        own = len(found) - self._stored[mode]
        results = tuple(found[:own])
        stored: Sequence[Tensor] = found[own:]
        if self._memory is not None and cache is not None:
            results, stored = owned(results), self._memory.of(cache)
        step.produced(results)
        if cache is None:
            return results
        if mode is Mode.FULL:
            cache.fill(stored[: len(self.graph.plan.caches)], stored[len(self.graph.plan.caches) :], layout(results))
            self.graph.held_bytes = cache.bytes
            cache.used.by_current(stored)
            step.stored()
            return results
        if mode is Mode.CONSERVATIVE and self._memory is None:
            cache.advance(stored)
        return delivered(results, cache.layout, cache.memory)

    def _extra(self, mode: Mode, cache: Cache) -> Sequence[Tensor]:
        """What the mode's graph takes besides the call's own inputs."""
        extra: Sequence[Tensor] = cache.frontier
        if mode is Mode.FULL:
            extra = () if self._memory is None else self._memory.of(cache)
        elif mode is Mode.CONSERVATIVE:
            written = () if self._memory is None else cache.frontier
            extra = [*cache.features, *cache.selector.draw(cache.features[0].device), *written]
        if extra:
            cache.used.hand_over(extra)
        return extra
