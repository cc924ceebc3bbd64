"""Options + facts -> one plan for each recipe: what it does with every branch, which values it takes and leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeVar

import torch
from torch import fx

from duca_compile import torch_private
from duca_compile.analysis.anchors import Cut, anchored
from duca_compile.analysis.facts import Branch, Facts
from duca_compile.graph import ir
from duca_compile.methods import name_of
from duca_compile.methods.base import FULL, Action, Recipe
from duca_compile.plan.choice import choice
from duca_compile.plan.options import Options
from duca_compile.plan.probing import Probing, probing
from duca_compile.plan.step_plan import Selection, Slot, StepPlan, with_writes
from duca_compile.refusal import Refused
from duca_compile.torch_private import Size

aten = torch.ops.aten

Item = TypeVar("Item")


@dataclass(frozen=True)
class Plan:
    """`steps`: one plan for each recipe, the complete one first. `same`: recipes that do the same as one of these, and
    which one, as where this model has none of the branches that only they reuse. `uncut`: why no step is cut although
    `options` as given asked for it; empty where they are or none was asked."""

    steps: Mapping[str, StepPlan]
    same: Mapping[str, str] = field(default_factory=dict)
    uncut: str = ""

    @property
    def probing(self) -> Probing | None:
        """What the recipes' graphs take over from that of a probe; None where the method has none."""
        return self.steps[FULL].probing

    def name_of(self, recipe: str) -> str:
        """By which it is among the `steps`."""
        return self.same.get(recipe, recipe)

    def step(self, recipe: str) -> StepPlan:
        return self.steps[self.name_of(recipe)]

    def with_same(self, found: Mapping[str, Item]) -> dict[str, Item]:
        """What was found of the `steps`, of all recipes."""
        return {**found, **{name: found[other] for name, other in self.same.items() if other in found}}

    @property
    def facts(self) -> Facts:
        return self.steps[FULL].facts

    @property
    def options(self) -> Options:
        return self.steps[FULL].options

    @property
    def branches(self) -> tuple[Branch, ...]:
        return self.facts.branches

    @property
    def slots(self) -> tuple[Slot, ...]:
        """All that is kept between steps."""
        return self.steps[FULL].writes

    @property
    def scored_by_attention(self) -> int:
        """How many branches choose tokens by a softmax map, for which full steps write their attention out."""
        scored = [step for step in self.steps.values() if step.recipe.refresh.selector.startswith("attention")]
        return max((len(step.choices) for step in scored), default=0)

    @property
    def draws(self) -> tuple[Selection, ...]:
        """What the first of the recipes draws that recompute tokens."""
        return next((step.draws for step in self.steps.values() if step.draws), ())

    @property
    def seed(self) -> int:
        """Of those draws."""
        return next((step.recipe.refresh.seed for step in self.steps.values() if step.draws), 0)

    def in_fixed_memory(self) -> "Plan":
        """The same with caches in memory that stays."""
        return replace(self, steps={name: replace(step, fixed=True) for name, step in self.steps.items()})


class _Uncut(Refused):
    """The result reads what only the blocks compute."""


def make_plan(graph: fx.Graph, facts: Facts, options: Options, whole: bool = False) -> Plan:
    """Raises `Refused` where no stream can be cut from this graph although the method asks for it.

    Of a `whole` forward pass, the steps that are not cut then remain, if the method has such. The parts of one that is
    split take their steps together, by recipes that they all have.
    """
    if not whole and (options.method.probe or any(recipe.needs_all for recipe in options.method.recipes())):
        raise Refused(f"method: {name_of(options.method)!r} decides for the model as a whole, which must be one graph")
    try:
        return _plan(graph, facts, options)
    except _Uncut as refused:
        without = options.without_cuts() if whole else None
        if without is None:
            raise
        return replace(_plan(graph, facts, without), uncut=str(refused))


def _plan(graph: fx.Graph, facts: Facts, options: Options) -> Plan:
    steps, same = list[StepPlan](), dict[str, str]()
    for recipe in options.method.recipes():
        step = _reading(graph, facts, options, recipe)
        other = next((known for known in steps if known.does_the_same_as(step)), None)
        if other is None:
            steps.append(step)
        else:
            same[step.name] = other.name
    found = with_writes(graph, steps)
    if options.method.probe is not None:
        probed = probing(graph, facts, options.method.probe)
        found = {name: replace(step, probing=probed) for name, step in found.items()}
    return Plan(found, same)


def _reading(graph: fx.Graph, facts: Facts, options: Options, recipe: Recipe) -> StepPlan:
    """The step, without what it writes."""
    actions = [recipe.decide(at, branch, facts) for at, branch in enumerate(facts.branches)]
    for at, branch in enumerate(facts.branches):
        if actions[at] is Action.REFRESH and not _can_refresh(graph, branch, recipe.refresh.share(at, facts)):
            actions[at] = Action.FORECAST if recipe.history > 1 else Action.REUSE
    refreshed = [at for at, action in enumerate(actions) if action is Action.REFRESH]
    cut = _cut(graph, facts, actions, recipe) if recipe.cut else ()
    choices = {at: found for at in refreshed if (found := choice(graph, facts, at, recipe.refresh)) is not None}
    scores = dict.fromkeys(name for each in choices.values() for name in each.kept)
    reads = (
        *_of_branches(facts, actions, recipe),
        *(Slot(each.kept, recipe.history, small=False) for each in cut),
        *(Slot(name, small=False) for name in scores),
    )
    if len({slot.value for slot in reads}) < len(reads):
        raise Refused(f"method: the recipe {recipe.name!r} takes a stream from the cache that its branches read, too")
    selections = _selections(facts, recipe, refreshed, bool(choices))
    return StepPlan(recipe, facts, options, tuple(actions), reads, selections, cut=cut, choices=choices)


def _can_refresh(graph: fx.Graph, branch: Branch, share: Fraction) -> bool:
    return branch.path is not None and _any_fresh(graph, branch.path.place.tokens, share)


def _of_branches(facts: Facts, actions: Sequence[Action], recipe: Recipe) -> list[Slot]:
    """Features, and the mixing values on the paths of branches that recompute tokens; each once."""
    longest: dict[str, int] = {}
    for branch, action in zip(facts.branches, actions, strict=True):
        read: list[str] = [branch.feature] if action in (Action.REFRESH, Action.FORECAST) else []
        if action is Action.REUSE:
            read = [branch.addend if recipe.gated else branch.feature]
        if action is Action.REFRESH and branch.path is not None:
            read += [*(name for name, _ in branch.path.cached), *branch.path.whole]
        for name in read:
            longest[name] = max(1 if action is Action.REUSE else recipe.history, longest.get(name, 1))
    return [Slot(name, history) for name, history in longest.items()]


def fresh_tokens(tokens: Size, share: Fraction) -> Size:
    """`floor(share * tokens)`, exactly."""
    return torch_private.floor_divide(tokens * share.numerator, share.denominator)


def _any_fresh(graph: fx.Graph, tokens: Size, share: Fraction) -> bool:
    count = fresh_tokens(tokens, share)
    if isinstance(count, int):
        return count > 0
    like = next(ir.value(node) for node in ir.placeholders(graph) if ir.shape(node) is not None)
    return torch_private.guard_positive(count, like)


def _selections(facts: Facts, recipe: Recipe, refreshed: Sequence[int], scored: bool) -> tuple[Selection, ...]:
    """Branches of one share, not of one count, draw together: which do is then the same where sizes are symbolic."""
    groups: dict[tuple[Size, Fraction], list[int]] = {}
    for index in refreshed:
        path = facts.branches[index].path
        assert path is not None
        groups.setdefault((path.place.tokens, recipe.refresh.share(index, facts)), []).append(index)
    shared = recipe.refresh.selection == "step"
    return tuple(
        Selection(tokens, fresh_tokens(tokens, share), tuple(members), shared, scored)
        for (tokens, share), members in groups.items()
    )


def _cut(graph: fx.Graph, facts: Facts, actions: Sequence[Action], recipe: Recipe) -> tuple[Cut, ...]:
    """At the last stream values, of the skipped branches, on every way to the results, or at what is read of one."""
    skipped = [branch for branch, action in zip(facts.branches, actions, strict=True) if action is Action.SKIP]
    if not skipped:
        raise Refused(f"method: the recipe {recipe.name!r} skips some of several blocks, and this model has too few")
    sums = {branch.sum for branch in skipped}
    reached = ir.ancestors([ir.output_node(graph)], stop=lambda node: node.name in sums)
    work = _work(graph, facts, skipped) & {node.name for node in reached}
    if work:
        raise _Uncut(f"no step can skip the blocks: the result reads {min(work)}, inside a branch")
    ends = [node for node in graph.nodes if node in reached and node.name in sums]
    if not recipe.anchored:
        return tuple(Cut(node.name, node.name) for node in map(_read_of, ends))
    nodes = ir.named(graph)
    skips = {nodes[branch.sum]: nodes[branch.skip] for branch in skipped}
    return tuple(anchored(node, skips) for node in ends)


def _read_of(stream: fx.Node) -> fx.Node:
    """The stream, or the slice of it that alone is read: of one with text in front, the image's tokens."""
    while len(stream.users) == 1 and ir.packet(next(iter(stream.users))) is aten.slice:
        stream = next(iter(stream.users))
    return stream


def _work(graph: fx.Graph, facts: Facts, branches: Sequence[Branch]) -> set[str]:
    """What the bodies compute of their own stream. The rest of them, as the modulation by another stream that a final
    layer may share, is computed anew at every step if the result reads it."""
    found: set[str] = set()
    for stream in facts.streams:
        held = {stream.root, *stream.sums}
        own = {node.name for node in ir.descendants([node for node in graph.nodes if node.name in held])}
        found |= {name for each in branches if each.stream == stream.index for name in each.body} & own
    return found
