"""What a method's probe takes out of the graph of every recipe: it runs first, and hands over what it has computed."""

import operator
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, fx

from duca_compile.analysis.facts import Facts
from duca_compile.graph import ir
from duca_compile.methods.base import Probe
from duca_compile.refusal import Refused

CARRIED = "carried_"
BEFORE = "value_before"


@dataclass(frozen=True)
class Probing:
    """`value`: what is compared from step to step, and `since_full`: with that of the last FULL step. `carried`: values
    that the graphs of the recipes take from the probe's instead of computing them."""

    value: str
    carried: tuple[str, ...]
    since_full: bool

    @property
    def inputs(self) -> tuple[str, ...]:
        """Of those graphs, for what is carried."""
        return tuple(CARRIED + name for name in self.carried)


def probing(graph: fx.Graph, facts: Facts, probe: Probe) -> Probing:
    """Raises `Refused` where the probe could not hand over what it has computed."""
    if ir.symbols(graph):
        raise Refused("method: it decides at run time, which needs fixed sizes: compile with dynamic=False")
    value = probe.value(graph, facts)
    own = _with_items(ir.ancestors([value], stop=lambda node: node.op == "placeholder"))
    carried = [
        node
        for node in graph.nodes
        if node in own and node.op != "placeholder" and (node is value or any(user not in own for user in node.users))
    ]
    for node in carried:
        if not isinstance(ir.value(node), Tensor):
            raise Refused(f"method: it decides at run time, and %{node.name} is no tensor that could be handed over")
    return Probing(value.name, tuple(node.name for node in carried), probe.since_full)


def _with_items(nodes: set[fx.Node]) -> set[fx.Node]:
    """And all results of those that have several."""
    return nodes | {user for node in nodes for user in _items(node)}


def _items(node: fx.Node) -> Iterator[fx.Node]:
    return (user for user in node.users if user.target is operator.getitem)
