"""What a selector is: it scores the tokens of a branch, and those of the highest scores are recomputed."""

from typing import NamedTuple, Protocol

import torch
from torch import fx

from duca_compile.analysis.facts import Branch, Facts
from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.refusal import Refused
from duca_compile.torch_private import Size

aten = torch.ops.aten


class Seen(NamedTuple):
    """Of one branch, the one at this position: `stream` is what it adds to, `feature` what it adds, of the step at
    hand for a score that is kept, else as the cache has it."""

    graph: fx.Graph
    facts: Facts
    at: int
    stream: fx.Node
    feature: fx.Node

    @property
    def branch(self) -> Branch:
        return self.facts.branches[self.at]

    @property
    def tokens(self) -> Size:
        assert self.branch.path is not None
        return self.branch.path.place.tokens

    def by_token(self, node: fx.Node) -> fx.Node:
        """A value of the stream's form as `[batch, tokens, features]`."""
        path, size = self.branch.path, ir.shape(node) or ()
        assert path is not None
        if path.place.dims != range(1, len(size) - 1):
            raise Refused(f"method: the tokens of branch {self.branch.sum} do not lie between samples and features")
        if len(size) == 3:
            return node
        return emit(self.graph, aten.reshape.default, [node, [size[0], self.tokens, size[-1]]])


class Selector(Protocol):
    """Adds to the graph what scores tokens, and may raise `Refused`. `kept`: the score is of the last FULL step, and
    its nodes go into the captured graph; else it is of the step at hand."""

    @property
    def kept(self) -> bool: ...

    def score(self, seen: Seen) -> fx.Node:
        """Of each token, `[batch, tokens]`, float32."""
