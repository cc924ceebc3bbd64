"""Which attention of a block has a branch's tokens among its keys, and where."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import fx

from duca_compile.analysis.facts import Facts
from duca_compile.graph import ir
from duca_compile.refusal import Refused
from duca_compile.torch_private import Size

aten = torch.ops.aten


class Attended(NamedTuple):
    """`keys` and `values` are `[batch, heads, sequence, features]`; the branch's tokens are those from `start` on.

    `part`: the keys of these tokens alone, before they were joined with others, or else all keys.
    """

    attention: fx.Node
    keys: fx.Node
    values: fx.Node
    start: Size
    tokens: Size
    part: fx.Node


def attended(graph: fx.Graph, facts: Facts, at: int) -> Attended:
    """For the branch at this position: the last attention of its block, its own included, over its stream's tokens.

    Raises `Refused` where there is none: where the block's attentions are over other tokens, or are not PyTorch's.
    """
    branch = facts.branches[at]
    assert branch.path is not None
    tokens, block = branch.path.place.tokens, next(block for block in facts.blocks if at in block)
    inside = {name for each in block if each <= at for name in facts.branches[each].body}
    streams = _streams(graph, facts)
    for node in reversed(graph.nodes):
        if node.name not in inside or ir.packet(node) is not aten.scaled_dot_product_attention:
            continue
        keys, values = node.args[1:3]
        assert isinstance(keys, fx.Node)
        assert isinstance(values, fx.Node)
        found = _place(keys, tokens, branch.stream, streams)
        if found is not None:
            return Attended(node, keys, values, found[0], tokens, found[1])
    raise Refused(
        f"method: no attention before branch {branch.sum} has all its tokens among its keys, by which `selector` would "
        "score them: take 'similarity' or 'random'"
    )


def _streams(graph: fx.Graph, facts: Facts) -> dict[fx.Node, int]:
    """The values of all streams, and which one's each is."""
    of_name = {name: stream.index for stream in facts.streams for name in (stream.root, *stream.sums)}
    return {node: of_name[node.name] for node in graph.nodes if node.name in of_name}


def _place(keys: fx.Node, tokens: Size, stream: int, streams: Mapping[fx.Node, int]) -> tuple[Size, fx.Node] | None:
    """Where the tokens of the stream begin in the sequence of keys, and their own part of these; None where they are no
    part of them."""
    size = ir.shape(keys) or ()
    read = _read(keys, streams)
    if len(size) != 4 or stream not in read:
        return None
    if size[2] == tokens and read == {stream}:
        return 0, keys
    for node in sorted(ir.ancestors([keys], stop=streams.__contains__), reverse=True):
        if ir.packet(node) is aten.cat and isinstance(node.args[0], (list, tuple)):
            dim = ir.argument(node, 1, "dim", 0) % len(ir.shape(node) or (0,))
            parts = [part for part in node.args[0] if isinstance(part, fx.Node)]
            lengths = [(ir.shape(part) or ())[dim] for part in parts]
            own = [
                _read(part, streams) == {stream} and length == tokens
                for part, length in zip(parts, lengths, strict=True)
            ]
            if sum(lengths) == size[2] and own.count(True) == 1:
                return sum(lengths[: own.index(True)]), parts[own.index(True)]
    return None


def _read(node: fx.Node, streams: Mapping[fx.Node, int]) -> set[int]:
    """The streams that a value is computed from at once, not by way of others."""
    return {streams[each] for each in ir.ancestors([node], stop=streams.__contains__) if each in streams}
