"""Finds what draws random numbers in a captured graph: its ops say so, the mode of a module does not."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.refusal import Random
from duca_compile.torch_private import OpOverload, schema, tree_leaves

_RATES = ("p", "dropout", "dropout_p")
_SWITCHES = ("train", "training")


def refuse_random(gm: fx.GraphModule) -> None:
    """Raises `Random` where a result depends on numbers that the graph draws: a cached step would repeat old ones."""
    for node, op in _draws(gm):
        told = f"%{node.name} ({op.overloadpacket}, {ir.source(node)}) draws random numbers at every call"
        if {argument.name for argument in schema(op).arguments} & {*_RATES[1:], *_SWITCHES}:
            raise Random(f"{told}: the model, or a part of it, is in training mode; call model.eval()")
        raise Random(f"{told}, and cached steps would repeat old ones; if it is for training, call model.eval()")


def trains(gm: fx.GraphModule) -> bool:
    """Whether an op works as in training, such as a batch normalisation by the statistics of its batch."""
    ops = (node for node in gm.graph.nodes if isinstance(node.target, OpOverload))
    return any(_given(node).get(name) is True for node in ops for name in _SWITCHES)


def _draws(gm: fx.GraphModule) -> Iterator[tuple[fx.Node, OpOverload]]:
    """The nodes that results depend on and that draw, they or the functions they take; each with the op that does."""
    written = [node for node in gm.graph.nodes if ir.is_mutable(node)]
    live = ir.ancestors([ir.output_node(gm.graph), *written])
    for node in gm.graph.nodes:
        if node not in live:
            continue
        if isinstance(node.target, OpOverload):
            if _is_random(node.target) and not _is_off(_given(node)):
                yield node, node.target
            continue
        handed = tree_leaves((node.args, node.kwargs))
        yield from ((node, op) for op in handed if isinstance(op, OpOverload) and _is_random(op))
        body = getattr(gm, str(node.target), None) if node.op == "get_attr" else None
        if isinstance(body, fx.GraphModule):
            yield from _draws(body)


def _is_random(op: OpOverload) -> bool:
    return torch.Tag.nondeterministic_seeded in op.tags


def _is_off(given: Mapping[str, Any]) -> bool:
    """A dropout that drops nothing draws nothing that matters."""
    return any(given.get(name) is False for name in _SWITCHES) or any(given.get(name) == 0 for name in _RATES)


def _given(node: fx.Node) -> dict[str, Any]:
    return ir.given(node.target, node.args, node.kwargs)  # type: ignore[arg-type]
