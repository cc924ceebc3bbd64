"""Runs the recipes of a model for generations that their caller begins: whose caches are whose is never inferred."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from duca_compile.capture import autocast
from duca_compile.generations.draw_tokens import RandomTokens, sent_weights
from duca_compile.generations.own_results import delivered, layout
from duca_compile.generations.trajectory import Cache
from duca_compile.graph.signature import Signature
from duca_compile.methods.base import FULL, Method, Place, even
from duca_compile.methods.check import require_int
from duca_compile.plan.step_plan import Selection, Slot, StepPlan
from duca_compile.programs.convention import Convention

Run = Callable[[Sequence[Any]], Sequence[Any]]
"""A compiled graph: its inputs in order, and its results in order. Caches among the inputs may be written to."""


@dataclass(frozen=True)
class StepForm:
    """What the graph of one recipe takes and leaves, in the order of its signature: what running needs."""

    signature: Signature
    reads: tuple[Slot, ...]
    writes: tuple[Slot, ...]
    draws: tuple[Selection, ...]

    @staticmethod
    def of(step: StepPlan) -> "StepForm":
        return StepForm(step.signature, step.reads, step.writes, step.draws)

    @property
    def history(self) -> int:
        """How many stored values a forecast combines, at most."""
        return max((slot.history for slot in self.reads), default=1)


@dataclass(frozen=True, eq=False, repr=False)
class Program:
    """The recipes of one model, for calls like one example; `start` begins a generation.

    `steps` and `runs` are by recipe, `same` names recipes that do the same as one of these, and which one.
    `dataclasses.replace(program, runs=...)` runs graphs that somebody else has compiled. `held`: the tensors that the
    graphs take beside the call's own, by the name of the input: the model's weights. `autocast`: devices on which it is
    off while they run. `seed`: of the tokens drawn.
    """

    method: Method
    seed: int
    steps: Mapping[str, StepForm]
    runs: Mapping[str, Run]
    convention: Convention
    held: Mapping[str, Any]
    autocast: tuple[str, ...]
    same: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(self.steps)}>"

    def start(self, steps: int | None = None, seed: int | None = None) -> "Generation":
        """A generation of so many `steps`, with caches of its own; they go with it.

        Without `steps` nothing tells how far it has come, and where the schedule asks for that, full steps lie in even
        cycles. `seed`: of the tokens that steps recompute, where they do; by default the method's.

        Raises `OptionError` where `steps` is no whole number of at least 1.
        """
        if steps is not None:
            require_int("steps", steps, at_least=1)
        return Generation(self, steps, self.seed if seed is None else seed)

    def sequence(self, steps: int) -> list[str]:
        """The recipes that a generation of so many steps runs."""
        return [self.name_of(recipe) for recipe in even(self.method, steps)]

    def name_of(self, recipe: str) -> str:
        """By which it is among the `steps`."""
        return self.same.get(recipe, recipe)


class Generation:
    """Called with the model's arguments once for each denoising step, in order, it returns what the model would.

    `recipes`: those that have run, in order. A step that raised counts for nothing, and the one after it is full.
    """

    def __init__(self, program: Program, steps: int | None, seed: int) -> None:
        self.program = program
        self.steps = steps
        self.recipes: list[str] = []
        self._clock = program.method.start()
        drawing = {name: form.draws for name, form in program.steps.items() if form.signature.draws}
        self._cache = Cache({name: RandomTokens(draws, seed) for name, draws in drawing.items()})
        self._full = 0

    @property
    def bytes(self) -> int:
        """What its caches take."""
        return self._cache.bytes

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises `ValueError` for a call unlike the example, and where the generation's steps are done."""
        now = len(self.recipes)
        if now == self.steps:
            raise ValueError(f"this generation has had its last step, of {self.steps}; start another one")
        given = self.program.convention.taken(args, kwargs, self.program.held)
        turn = self._clock.next(Place(now, now - self._full, self._progress(now), self._progress(self._full)))
        recipe = self.program.name_of(turn) if self._cache.kept else FULL
        try:
            results = self._run(recipe, given)
        except BaseException:
            self._cache.empty()
            raise
        self.recipes.append(recipe)
        self._full = now if recipe == FULL else self._full
        return self.program.convention.returned(results)

    def _progress(self, step: int) -> float | None:
        return None if self.steps is None else step / self.steps

    def _run(self, recipe: str, call: Sequence[Any]) -> Sequence[Any]:
        form, cache = self.program.steps[recipe], self._cache
        if not form.reads:
            cache.make_room(begins=False)
        inputs = form.signature.pack((), call, *self._added(recipe, form))
        with torch.no_grad(), autocast.off(self.program.autocast):
            found = self.program.runs[recipe](inputs)
        results, stored = form.signature.own(found), form.signature.stored(found)
        if stored:
            cache.put(form.writes, stored, len(self.recipes))
        if form.reads:
            return delivered(results, cache.layout, cache.memory)
        cache.layout = layout(results)
        return results

    def _added(self, recipe: str, form: StepForm) -> tuple[Sequence[Tensor], ...]:
        """What the graph takes besides the call's own inputs: caches, drawn tokens, weights of a history."""
        self._cache.hand_over()
        reads = self._cache.take(form.reads)
        draws = self._cache.draws[recipe].draw(reads[0].device) if form.signature.draws else []
        return reads, draws, [self._weights(form, reads[0].device)] if form.history > 1 else []

    def _weights(self, form: StepForm, device: torch.device) -> Tensor:
        slot = next(slot for slot in form.reads if slot.history > 1)
        weights = self.program.method.weights(self._cache.kept[slot.key].calls, len(self.recipes))
        return sent_weights(weights, form.history, device)
