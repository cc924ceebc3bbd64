"""How the tokens of a branch are chosen by scores: what is kept for that between steps.

Scores of full steps, and how long each token has waited, go into the captured graph as nodes of their own, like any
value that is kept; where no step needs them, they are dead.
"""

from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.analysis.facts import Facts
from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.methods.refresh import Refresh
from duca_compile.methods.selectors import selector
from duca_compile.methods.selectors.base import Seen
from duca_compile.torch_private import Size

aten = torch.ops.aten


@dataclass(frozen=True)
class Choice:
    """Of one branch. `score`: what is kept of its score, empty where that is of the step at hand. `waiting`: what holds
    how many steps each token of the branches of equally many tokens has waited, a row for each; this one's is `row`;
    empty where that does not count."""

    score: str
    waiting: str
    row: int

    @property
    def kept(self) -> tuple[str, ...]:
        return tuple(name for name in (self.score, self.waiting) if name)


def choice(graph: fx.Graph, facts: Facts, at: int, refresh: Refresh) -> Choice | None:
    """None where the host draws. Raises `Refused` where the selector cannot score this branch."""
    chosen = selector(refresh.selector)
    if chosen is None:
        return None
    nodes, branch = ir.named(graph), facts.branches[at]
    seen = Seen(graph, facts, at, nodes[branch.skip], nodes[branch.feature])
    score = f"{refresh.selector.removesuffix('-min').replace('-', '_')}_of_branch_{at}"
    if not chosen[0].kept:
        score = ""
    elif score not in nodes:
        with graph.inserting_before(nodes[branch.feature].next):
            emit(graph, aten.mean.dim, [unit_length(graph, chosen[0].score(seen)), [0]], name=score)
    if not refresh.staleness:
        return Choice(score, "", 0)
    rows = _of_equally_many(facts, seen.tokens)
    waiting = f"waiting_from_branch_{rows[0]}"
    if waiting not in nodes:
        given = [nodes[branch.feature], [len(rows), seen.tokens]]
        with graph.inserting_before(ir.output_node(graph)):
            emit(graph, aten.new_zeros.default, given, {"dtype": torch.float32}, name=waiting)
    return Choice(score, waiting, rows.index(at))


def _of_equally_many(facts: Facts, tokens: Size) -> list[int]:
    """The branches that work token by token on so many."""
    return [at for at, each in enumerate(facts.branches) if each.path is not None and each.path.place.tokens == tokens]


def unit_length(graph: fx.Graph, scores: fx.Node) -> fx.Node:
    """Those of each sample, `[batch, tokens]`, divided by their root of summed squares."""
    length = emit(graph, aten.linalg_vector_norm.default, [scores, 2, [1], True])
    return emit(graph, aten.div.Tensor, [scores, emit(graph, aten.clamp_min.default, [length, 1e-12])])
