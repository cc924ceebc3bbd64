"""Runs one compiled graph per denoising step and keeps the caches between steps."""

import threading
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from duca_compile.arguments import Arguments
from duca_compile.capture import Capture
from duca_compile.compiled import CompiledMode, CompiledPlain
from duca_compile.modes import Mode
from duca_compile.plan import Plan
from duca_compile.refusal import warn_fallback
from duca_compile.results import delivered, layout
from duca_compile.steps import Step, Steps


class Dispatcher:
    """Has the signature Dynamo expects: the captured graph's own inputs in, its results out."""

    def __init__(
        self, captured: Capture, plan: Plan, modes: dict[Mode, CompiledMode], plain: CompiledPlain, steps: Steps
    ) -> None:
        self.plan = plan
        self.modes = modes
        self.arguments = Arguments(captured, plan.facts.inputs)
        self._constants = captured.constants
        self._stored = {mode: len(plan.stored(mode)) for mode in modes}
        self._plain = plain
        self._steps = steps
        self._given_up = False
        self.held_bytes = 0
        """What the cache of one trajectory takes; 0 before the first full step."""
        self._lock = threading.RLock()

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        with self._lock:
            if self._given_up:
                return tuple(self._plain(args))
            try:
                return self._step(args)
            except Exception as error:
                if self.plan.options.strict:
                    raise
                return self._instead(error, args)

    def _instead(self, error: Exception, args: Sequence[Any]) -> tuple[Any, ...]:
        """The plain graph's result. Where that fails too, the fault lies in the call, and is the caller's to see."""
        self._steps.clear()
        found = tuple(self._plain(args))
        self._given_up = True
        warn_fallback(error)
        return found

    def _step(self, args: Sequence[Any]) -> tuple[Any, ...]:
        step = self._steps.next(self, args)
        if step is None:
            return tuple(self._plain(args))
        try:
            return self._run(step, args)
        except BaseException:
            step.abandon()
            raise

    def _run(self, step: Step, args: Sequence[Any]) -> tuple[Any, ...]:
        mode, cache = step.mode, step.cache
        extra: Sequence[Tensor] = ()
        if cache is not None and mode is Mode.CONSERVATIVE:
            extra = [*cache.features, *cache.selector.draw(cache.features[0].device)]
        elif cache is not None and mode is Mode.AGGRESSIVE:
            extra = cache.frontier
        found = self.modes[mode]([*self._constants, *args, *extra])
        own = len(found) - self._stored[mode]
        results, stored = tuple(found[:own]), found[own:]
        step.produced(results)
        if cache is None:
            return results
        if mode is Mode.FULL:
            cache.fill(stored[: len(self.plan.caches)], stored[len(self.plan.caches) :], layout(results))
            self.held_bytes = cache.bytes
            step.stored()
            return results
        if mode is Mode.CONSERVATIVE:
            cache.advance(stored)
        return delivered(results, cache.layout, cache.memory)
