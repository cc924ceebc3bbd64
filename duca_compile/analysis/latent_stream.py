"""Of the stream that carries the latents: what its first branches read and change."""

import math

from torch import fx

from duca_compile.analysis.facts import Branch, Facts
from duca_compile.analysis.order import multiplies
from duca_compile.graph import ir
from duca_compile.refusal import Refused


def branches_of_latents(graph: fx.Graph, facts: Facts) -> tuple[int, ...]:
    """The positions of the branches on the first stream that depends on the latents; on the largest where it is not
    known what they are."""
    latents = ir.descendants(node for node in ir.placeholders(graph) if node.name in facts.inputs.latents)
    names = {node.name for node in latents}
    found = next((stream for stream in facts.streams if stream.root in names), None)
    chosen = found or max(facts.streams, key=lambda stream: math.prod(stream.shape))
    return tuple(at for at, branch in enumerate(facts.branches) if branch.stream == chosen.index)


def modulated_input(graph: fx.Graph, facts: Facts) -> fx.Node:
    """What the first branch of the latents' stream multiplies first: the stream, normalised and modulated."""
    first = facts.branches[branches_of_latents(graph, facts)[0]]
    body = _body(graph, first)
    for node in body:
        if multiplies(node):
            read = [operand for operand in node.all_input_nodes if operand in body]
            if read:
                return read[0]
    raise Refused(f"method: branch {first.sum} has no modulated input that could be compared from step to step")


def _body(graph: fx.Graph, branch: Branch) -> list[fx.Node]:
    names = set(branch.body)
    return [node for node in graph.nodes if node.name in names]
