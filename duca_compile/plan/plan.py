"""Options + facts -> what each mode does with every branch, and which values travel between steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import sympy
import torch
from torch import fx

from duca_compile import torch_private
from duca_compile.analysis.facts import Branch, Facts
from duca_compile.graph import ir
from duca_compile.plan.modes import Mode
from duca_compile.plan.options import Options
from duca_compile.refusal import Refused


@dataclass(frozen=True)
class Selection:
    """Branches that draw the same number of tokens, each into an input of its own, or all into one: indices `[count]`.

    One input of all rows would put the number of its row into the code of every branch, and equal branches would not
    be equal to a compiler. `tokens` and `count` are expressions where sizes are symbolic.
    """

    tokens: int
    count: int
    branches: tuple[int, ...]
    shared: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(self.input_of, self.branches)))

    def input_of(self, branch: int) -> str:
        """The input that holds the tokens that the branch recomputes."""
        return f"selected_from_branch_{self.branches[0]}" if self.shared else f"selected_for_branch_{branch}"

    def at(self, symbols: Mapping[Any, int]) -> "Selection":
        """The same with the numbers that the symbolic sizes of a call have."""
        tokens, count = (int(sympy.sympify(size).subs(symbols)) for size in (self.tokens, self.count))
        return replace(self, tokens=tokens, count=count)


@dataclass(frozen=True)
class Plan:
    """`caches`: values FULL stores for CONSERVATIVE. `frontier`: stream values that enter the final layer.

    `fixed`: whether the caches lie in memory that stays, to which the graphs write, as CUDA graphs need it; else FULL
    returns them. `uncut`: why no step is AGGRESSIVE although `options` as given asked for it; empty where they are or
    none was asked.
    """

    facts: Facts
    options: Options
    recomputed: tuple[int, ...]
    selections: tuple[Selection, ...]
    caches: tuple[str, ...]
    frontier: tuple[str, ...]
    fixed: bool = False
    uncut: str = ""

    @property
    def branches(self) -> tuple[Branch, ...]:
        return self.facts.branches

    def action(self, branch: int, mode: Mode) -> str:
        """What `mode` does with a branch, in a word or two."""
        if mode is Mode.FULL:
            return "compute"
        if mode is Mode.AGGRESSIVE:
            return "compute" if branch in self.kept_in_aggressive else "skip"
        if branch not in self.recomputed:
            return "reuse"
        chosen = self.selection_of(branch)
        return f"{chosen.count}/{chosen.tokens} tokens"

    @property
    def kept_in_aggressive(self) -> tuple[int, ...]:
        return self.facts.blocks[-1] if self.options.aggressive_depth == "all-but-last" else ()

    def selection_of(self, branch: int) -> Selection:
        return next(selection for selection in self.selections if branch in selection.branches)

    def kept_in(self, dtype: torch.dtype) -> torch.dtype:
        """The type in which a cache keeps values of this type: its own, or a smaller one that the options name."""
        small = self.options.cache_dtype
        return small if small is not None and dtype.is_floating_point and small.itemsize < dtype.itemsize else dtype

    def extra_inputs(self, mode: Mode) -> tuple[str, ...]:
        """The values a mode's graph takes besides the call's own, in order."""
        if mode is Mode.CONSERVATIVE:
            return self.caches + tuple(name for selection in self.selections for name in selection.inputs)
        return self.frontier if mode is Mode.AGGRESSIVE else ()

    def stored(self, mode: Mode) -> tuple[str, ...]:
        """The values a mode's graph returns besides the call's own results, or writes to fixed memory, in order."""
        if mode is Mode.FULL:
            return self.caches + self.frontier
        return self.frontier if mode is Mode.CONSERVATIVE else ()


class _Uncut(Refused):
    """The result reads what only the blocks compute."""


def make_plan(graph: fx.Graph, facts: Facts, options: Options, whole: bool = False) -> Plan:
    """Raises `Refused` where AGGRESSIVE cannot be cut from this graph although the options ask for it.

    Of a `whole` forward pass, the cached steps are then all CONSERVATIVE, if the options ask for such, too. The parts
    of one that is split take their steps together, in modes that they all have.
    """
    try:
        return _plan(graph, facts, options)
    except _Uncut as refused:
        if not whole or Mode.CONSERVATIVE not in options.modes:
            raise
        plan = _plan(graph, facts, replace(options, order="conservative"))
        return replace(plan, uncut=str(refused))


def _plan(graph: fx.Graph, facts: Facts, options: Options) -> Plan:
    conservative = Mode.CONSERVATIVE in options.modes
    recomputed = tuple(
        index
        for index, branch in enumerate(facts.branches)
        if conservative and branch.path is not None and _any_fresh(graph, branch.path.place.tokens, options.cache_ratio)
    )
    caches = _caches(facts, recomputed) if conservative else ()
    frontier = _frontier(graph, facts, options) if Mode.AGGRESSIVE in options.modes else ()
    return Plan(facts, options, recomputed, _selections(facts, options, recomputed), caches, frontier)


def fresh_tokens(tokens: int, cache_ratio: float) -> int:
    """`floor((1 - R) * tokens)`, exactly."""
    fresh = 1 - exact(cache_ratio)
    share: int = torch_private.floor_divide(tokens * fresh.numerator, fresh.denominator)
    return share


def exact(cache_ratio: float) -> Fraction:
    """The fraction that the decimal number stands for: of 0.9, 9/10."""
    return Fraction(cache_ratio).limit_denominator(1_000_000)


def _any_fresh(graph: fx.Graph, tokens: int, cache_ratio: float) -> bool:
    count = fresh_tokens(tokens, cache_ratio)
    if isinstance(count, int):
        return count > 0
    like = next(ir.value(node) for node in ir.placeholders(graph) if ir.shape(node) is not None)
    return torch_private.guard_positive(count, like)


def _selections(facts: Facts, options: Options, recomputed: tuple[int, ...]) -> tuple[Selection, ...]:
    groups: dict[int, list[int]] = {}
    for index in recomputed:
        path = facts.branches[index].path
        assert path is not None
        groups.setdefault(path.place.tokens, []).append(index)
    shared = options.selection == "step"
    return tuple(
        Selection(tokens, fresh_tokens(tokens, options.cache_ratio), tuple(members), shared)
        for tokens, members in groups.items()
    )


def _caches(facts: Facts, recomputed: tuple[int, ...]) -> tuple[str, ...]:
    """Every feature, and the mixing values on the paths of recomputed branches; each once."""
    names: dict[str, None] = {}
    for index, branch in enumerate(facts.branches):
        names[branch.feature] = None
        if index in recomputed and branch.path is not None:
            names.update(dict.fromkeys([name for name, _ in branch.path.cached]))
            names.update(dict.fromkeys(branch.path.whole))
    return tuple(names)


def _frontier(graph: fx.Graph, facts: Facts, options: Options) -> tuple[str, ...]:
    """The last stream values, of the blocks that AGGRESSIVE skips, on every way to the results."""
    kept: tuple[int, ...] = ()
    if options.aggressive_depth == "all-but-last":
        if len(facts.blocks) < 2:
            raise Refused("aggressive_depth='all-but-last' needs at least two blocks")
        kept = facts.blocks[-1]
    skipped = [branch for index, branch in enumerate(facts.branches) if index not in kept]
    sums = {branch.sum for branch in skipped}
    reached = ir.ancestors([ir.output_node(graph)], stop=lambda node: node.name in sums)
    work = _work(graph, facts, skipped) & {node.name for node in reached}
    if work:
        raise _Uncut(f"AGGRESSIVE cannot skip the blocks: the result reads {min(work)}, inside a branch")
    return tuple(node.name for node in graph.nodes if node in reached and node.name in sums)


def _work(graph: fx.Graph, facts: Facts, branches: Sequence[Branch]) -> set[str]:
    """What the bodies compute of their own stream. The rest of them, as the modulation by another stream that a final
    layer may share, is computed anew at every step if the result reads it."""
    found: set[str] = set()
    for stream in facts.streams:
        held = {stream.root, *stream.sums}
        own = {node.name for node in ir.descendants([node for node in graph.nodes if node.name in held])}
        found |= {name for each in branches if each.stream == stream.index for name in each.body} & own
    return found
