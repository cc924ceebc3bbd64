"""What one recipe's graph takes, does and leaves behind: all that passes, dispatcher and costs ask of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import sympy
import torch
from torch import fx

from duca_compile.analysis.anchors import Cut
from duca_compile.analysis.facts import Branch, Facts
from duca_compile.graph import ir
from duca_compile.graph.signature import Signature
from duca_compile.methods.base import Action, Recipe
from duca_compile.plan.choice import Choice
from duca_compile.plan.options import Options
from duca_compile.plan.probing import Probing
from duca_compile.refusal import Refused
from duca_compile.torch_private import Size

CACHE = "cache_"
EARLIER = "earlier_{}_"
KEPT = "kept_"
WEIGHTS = "history_weights"
Key = tuple[str, bool]
"""Of a slot: its value, and whether it is small."""


@dataclass(frozen=True)
class Selection:
    """Branches that draw the same number of tokens, each into an input of its own, or all into one: indices `[count]`.

    One input of all rows would put the number of its row into the code of every branch, and equal branches would not
    be equal to a compiler.
    """

    tokens: Size
    count: Size
    branches: tuple[int, ...]
    shared: bool = False
    scored: bool = False
    """Whether scores decide in the graph: nothing is drawn then."""

    @property
    def inputs(self) -> tuple[str, ...]:
        return () if self.scored else tuple(dict.fromkeys(map(self.input_of, self.branches)))

    def input_of(self, branch: int) -> str:
        """The input, or the value, that holds the tokens that the branch recomputes."""
        return f"selected_from_branch_{self.branches[0]}" if self.shared else f"selected_for_branch_{branch}"

    def at(self, symbols: Mapping[Any, int]) -> "Selection":
        """The same with the numbers that the symbolic sizes of a call have."""
        tokens, count = (int(sympy.sympify(size).subs(symbols)) for size in (self.tokens, self.count))
        return replace(self, tokens=tokens, count=count)


@dataclass(frozen=True)
class Slot:
    """A value that is kept between steps, the last `history` of it. `small`: in the type that `cache_dtype` names."""

    value: str
    history: int = 1
    small: bool = True

    @property
    def key(self) -> Key:
        """What is kept in different types is kept twice."""
        return self.value, self.small

    @property
    def inputs(self) -> tuple[str, ...]:
        """Of a graph that reads it, the last value first."""
        return (CACHE + self.value, *(EARLIER.format(age) + self.value for age in range(1, self.history)))


@dataclass(frozen=True)
class StepPlan:
    """`reads` and `writes` are slots of the cache, `draws` what the tokens to recompute are drawn from.

    `actions`: one of each branch. `choices`: how scores decide which tokens a branch recomputes, by its position.
    `cut`: where streams are read instead of computed. `fixed`: whether `writes` go to memory that stays, as CUDA graphs
    need it; else they are results after the call's own. `probing`: what the graph of a probe, which runs before, hands
    over.
    """

    recipe: Recipe
    facts: Facts
    options: Options
    actions: tuple[Action, ...]
    reads: tuple[Slot, ...] = ()
    draws: tuple[Selection, ...] = ()
    writes: tuple[Slot, ...] = ()
    cut: tuple[Cut, ...] = ()
    fixed: bool = False
    choices: Mapping[int, Choice] = field(default_factory=dict)
    probing: Probing | None = None
    _selection_of: Mapping[int, Selection] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        chosen = {branch: selection for selection in self.draws for branch in selection.branches}
        object.__setattr__(self, "_selection_of", chosen)

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def branches(self) -> tuple[Branch, ...]:
        return self.facts.branches

    def does_the_same_as(self, other: "StepPlan") -> bool:
        """Whatever the names of the recipes."""
        mine, theirs = ((each.actions, each.reads, each.draws, each.cut) for each in (self, other))
        return mine == theirs and self.recipe.refresh == other.recipe.refresh

    @property
    def is_complete(self) -> bool:
        """Whether it needs nothing of another step."""
        return not self.reads

    @property
    def written(self) -> frozenset[Key]:
        return frozenset(slot.key for slot in self.writes)

    @cached_property
    def history(self) -> int:
        """How many stored values a forecast combines, at most."""
        return max((slot.history for slot in self.reads), default=1)

    def kept_of(self, slot: Slot) -> tuple[str, ...]:
        """The inputs in whose memory the graph leaves what it writes to a slot, the one of the oldest value first:
        AOTAutograd writes to inputs in their order, and each value must have moved on before its memory is written to.
        """
        last = f"{KEPT}{self.writes.index(slot)}"
        return (*(f"{last}_{age}_earlier" for age in range(slot.history - 1, 0, -1)), last)

    @cached_property
    def signature(self) -> Signature:
        return replace(
            self.facts.signature,
            reads=tuple(name for slot in self.reads for name in slot.inputs),
            draws=tuple(name for selection in self.draws for name in selection.inputs),
            weights=(WEIGHTS,) if self.history > 1 else (),
            carried=self.probing.inputs if self.probing else (),
            memory=tuple(name for slot in self.writes for name in self.kept_of(slot)) if self.fixed else (),
            returned=0 if self.fixed else len(self.writes),
        )

    def where(self, action: Action) -> tuple[int, ...]:
        return tuple(at for at, taken in enumerate(self.actions) if taken is action)

    def selection_of(self, branch: int) -> Selection:
        return self._selection_of[branch]

    def kept_in(self, dtype: torch.dtype) -> torch.dtype:
        """The type in which a small slot keeps values of this type: its own, or a smaller one that the options name."""
        small = self.options.cache_dtype
        return small if small is not None and dtype.is_floating_point and small.itemsize < dtype.itemsize else dtype

    def reused(self, branch: int) -> str:
        """The value of the branch that a `REUSE` takes from the cache."""
        found = self.branches[branch]
        return found.addend if self.recipe.gated else found.feature

    @property
    def replaced(self) -> frozenset[str]:
        """The captured values that the step does not compute, or not of all tokens: another one stands for each."""
        features = (Action.FORECAST, Action.REFRESH)
        taken = [branch.feature for branch, done in zip(self.branches, self.actions, strict=True) if done in features]
        return frozenset([*map(self.reused, self.where(Action.REUSE)), *taken, *(cut.value for cut in self.cut)])

    def told(self, branch: int) -> str:
        """What becomes of a branch, in a word or two."""
        action = self.actions[branch]
        if action is Action.REFRESH:
            chosen = self.selection_of(branch)
            return f"{chosen.count}/{chosen.tokens} tokens"
        return action.name.lower()


def with_writes(graph: fx.Graph, steps: Sequence[StepPlan]) -> dict[str, StepPlan]:
    """Each step writes what others read, the longest history of it, and its results need: one that is cut, nothing.
    The complete one computes all of it, needed or not.

    Raises `Refused` where values that one forecast combines are stored at different steps: its weights are of one age.
    """
    wanted: dict[Key, Slot] = {}
    for slot in (slot for step in steps for slot in step.reads):
        known = wanted.get(slot.key)
        wanted[slot.key] = slot if known is None or known.history < slot.history else known
    found = {step.name: replace(step, writes=_writes(graph, step, wanted)) for step in steps}
    for step in found.values():
        past = [slot.key for slot in step.reads if slot.history > 1]
        writers = {tuple(each.name for each in found.values() if key in each.written) for key in past}
        if len(writers) > 1:
            raise Refused(f"method: what the recipe {step.name!r} forecasts from is stored at different steps")
    return found


def _writes(graph: fx.Graph, step: StepPlan, wanted: Mapping[Key, Slot]) -> tuple[Slot, ...]:
    if step.is_complete:
        return tuple(wanted.values())
    if step.cut:
        return ()
    own, replaced = {slot.key for slot in step.reads}, step.replaced
    needed = ir.ancestors([ir.output_node(graph)], stop=lambda node: node.name in replaced)
    computed = {node.name for node in needed} - replaced
    return tuple(slot for slot in wanted.values() if slot.key not in own and slot.value in computed)
