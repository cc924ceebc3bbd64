"""Runs one compiled graph per denoising step and keeps the caches between steps."""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from duca_compile import ir, registry
from duca_compile.capture import Capture
from duca_compile.compiled import CompiledMode, CompiledPlain
from duca_compile.modes import Mode
from duca_compile.plan import Plan
from duca_compile.refusal import warn_fallback
from duca_compile.results import delivered, layout
from duca_compile.selection import RandomTokens
from duca_compile.trajectory import Tracker, Trajectory


class Dispatcher:
    """Has the signature Dynamo expects: the captured graph's own inputs in, its results out."""

    def __init__(self, captured: Capture, plan: Plan, graphs: dict[Mode, CompiledMode], plain: CompiledPlain) -> None:
        self.plan = plan
        self.graphs = graphs
        self._plain = plain
        self._given_up = False
        self.steps: Counter[Mode] = Counter()
        self.tracker = Tracker(self._selector)
        self._constants = captured.constants
        inputs = plan.facts.inputs
        offset = len(captured.constants)
        own = ir.placeholders(captured.gm.graph)[offset:]
        position = {node.name: at for at, node in enumerate(own)}
        self._timesteps = [position[name] for name in inputs.timesteps]
        numbers = {node.name for node in own if _is_number(node)} - {*inputs.timesteps}
        self._numbers = [position[name] for name in sorted(numbers)]
        self._symbols = {symbol: self._numbers.index(at) for symbol, at in captured.symbols.items()}
        self._conditioning = [position[name] for name in inputs.conditioning if name not in numbers]
        self._weights = [position[name] for name in sorted(captured.state & position.keys() - numbers)]
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
        self.tracker.clear()
        found = tuple(self._plain(args))
        self._given_up = True
        warn_fallback(error)
        return found

    def _step(self, args: Sequence[Any]) -> tuple[Any, ...]:
        weights = [args[at] for at in self._weights]
        numbers = tuple(_number(args[at]) for at in self._numbers)
        visit = self.tracker.visit(
            [args[at] for at in self._timesteps], [args[at] for at in self._conditioning], weights, numbers
        )
        if visit.trajectory.step == 0:
            registry.add(self, weights)
        mode = Mode.FULL if visit.repeated else self.plan.options.mode_at(visit.trajectory.step)
        try:
            found = self._run(mode, visit.trajectory, args)
        except BaseException:
            self.tracker.forget(visit.trajectory, "an exception left the step unfinished")
            raise
        self.steps[mode] += 1
        return found

    def _selector(self, numbers: tuple[float, ...]) -> RandomTokens:
        sizes = {symbol: int(numbers[at]) for symbol, at in self._symbols.items()}
        return RandomTokens([chosen.at(sizes) for chosen in self.plan.selections], self.plan.options.seed)

    def _run(self, mode: Mode, trajectory: Trajectory, args: Sequence[Any]) -> tuple[Any, ...]:
        extra: list[Tensor] = []
        if mode is Mode.CONSERVATIVE:
            extra = [*trajectory.caches, *trajectory.selector.draw(_device(trajectory.caches))]
        elif mode is Mode.AGGRESSIVE:
            extra = trajectory.frontier
        found = self.graphs[mode]([*self._constants, *args, *extra])
        own = len(found) - len(self.plan.stored(mode))
        results, stored = tuple(found[:own]), found[own:]
        if mode is Mode.FULL:
            trajectory.keep(stored[: len(self.plan.caches)], stored[len(self.plan.caches) :])
            trajectory.layout = layout(results)
            return results
        if mode is Mode.CONSERVATIVE:
            trajectory.keep(trajectory.caches, stored)
        return delivered(results, trajectory.layout, trajectory.memory)

    def reset(self) -> None:
        with self._lock:
            self.tracker.clear()


def _is_number(node: fx.Node) -> bool:
    """A size, or a number that Dynamo wraps into a new tensor at every call: known by value, not by identity."""
    held = ir.value(node)
    return not isinstance(held, Tensor) or (held.dim() == 0 and held.device.type == "cpu")


def _number(given: Any) -> float:
    found: float = given.item() if isinstance(given, Tensor) else given
    return found


def _device(tensors: Sequence[Tensor]) -> torch.device:
    return tensors[0].device
