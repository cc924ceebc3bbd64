"""By which recipe a graph runs where it waits for other processes: all of them by the same, over the same caches."""

import weakref
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from duca_compile.generations.budget import Budget
from duca_compile.generations.trajectory import Cache
from duca_compile.methods.base import FULL
from duca_compile.refusal import Refused, note_once
from duca_compile.runtime.agreement import Agreement, Outcome, Vote
from duca_compile.runtime.compiled import CompiledRecipe
from duca_compile.runtime.compiled_graph import CompiledGraph
from duca_compile.runtime.steps import OwnStep, OwnSteps, Step, Steps, forecast_weights

UNLIKE = (
    "duca computes every step of this model: the processes that run it together have graphs that do not match, as "
    "where they were given other options or arguments of other kinds; give all of them the same"
)


class AgreedSteps(Steps):
    """Each process chooses by its own inputs. Where all chose the same recipe, over values that they stored in the same
    steps, with the same tokens and weights, it runs; else all take a full step, on caches of none of the steps before.
    Where one of them cannot take part in a step, all run the graph as it is.

    What fails once a step has been agreed on is raised: the other processes wait for it already.
    """

    is_joint = True

    def __init__(self, budget: Budget, agreement: Agreement, graphs: Hashable) -> None:
        """`graphs`: what the graphs of all recipes make processes wait for, and when."""
        self._own = OwnSteps(budget)
        self._agreement = agreement
        self._graphs = graphs
        self._number = 0
        self._numbers: weakref.WeakKeyDictionary[Cache, dict[int, int]] = weakref.WeakKeyDictionary()
        """By cache, the vote before each call that stored what it holds."""
        self._compiles = False

    def next(self, graph: CompiledGraph, args: Sequence[Any]) -> Step | None:
        self.is_begun = False
        try:
            step = self._own.next(graph, args)
            vote = None if step is None else self._vote(graph, step)
        except Exception:
            self.stand_aside()
            raise
        self.is_begun = True
        if step is None or vote is None:
            self.stand_aside()
            return None
        outcome = self._agreement.vote(vote)
        self._number, self._compiles = outcome.number, outcome.compiles
        return self._agreed(graph, args, step, outcome)

    def _agreed(self, graph: CompiledGraph, args: Sequence[Any], step: OwnStep, outcome: Outcome) -> Step | None:
        if outcome.plain:
            if not outcome.alike:
                note_once(self, UNLIKE)
            self._own.tracker.computes(step.trajectory)
            return None
        if not outcome.is_one:
            step = self._own.start_over(graph, args, step)
        assert step.cache is not None
        known = self._numbers.get(step.cache, {})
        held = {call for kept in step.cache.kept.values() for call in kept.calls}
        self._numbers[step.cache] = {call: known[call] for call in held & known.keys()} | {step.call: outcome.number}
        return step

    def _vote(self, graph: CompiledGraph, step: OwnStep) -> Vote:
        plan, cache = graph.step(step.recipe), step.cache
        assert cache is not None
        numbers: Mapping[int, int] = self._numbers.get(cache, {})
        kept = sorted((key, [numbers.get(call) for call in held.calls]) for key, held in cache.kept.items())
        drawn = sorted((recipe, tokens.steps) for recipe, tokens in cache.draws.items())
        compiles = not (graph.recipes[step.recipe].is_compiled and graph.recipes[FULL].is_compiled)
        chosen = step.recipe, str(kept), str(drawn), forecast_weights(plan, step)
        return Vote(chosen, self._graphs, compiles, self._number)

    def ready(self, run: CompiledRecipe, given: Sequence[Any]) -> None:
        """Where one of the processes has to compile first, all wait, and run the graph as it is if that fails."""
        if not self._compiles:
            return
        failed = None
        try:
            if not run.is_compiled:
                run.compile(given)
        except Exception as error:
            failed = error
        if not self._agreement.all_succeeded(failed is None):
            self.is_begun = False
            raise failed or Refused("a recipe does not compile in another process; see the message that it gave")

    def stand_aside(self) -> None:
        self._agreement.stand_aside()

    def clear(self) -> None:
        self._own.clear()
