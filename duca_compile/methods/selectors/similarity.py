"""Tokens by how alike the stream and the branch's stored feature are: their cosine."""

from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.graph.emit import emit
from duca_compile.methods.selectors.base import Seen

aten = torch.ops.aten


@dataclass(frozen=True)
class Similarity:
    kept: bool = False

    def score(self, seen: Seen) -> fx.Node:
        graph = seen.graph
        stream, feature = (
            emit(graph, aten._to_copy.default, [seen.by_token(each)], {"dtype": torch.float32})
            for each in (seen.stream, seen.feature)
        )
        return emit(graph, aten.cosine_similarity.default, [stream, feature, -1])
