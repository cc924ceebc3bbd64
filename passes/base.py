"""What every pass is, and how a pass builds nodes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sympy
from torch import Tensor, fx

from duca_compile import ir, torch_private
from duca_compile.plan import Plan

CACHE = "cache_"
FRESH = "fresh_"


@dataclass(frozen=True)
class PassResult:
    """How often a pass applied, and (node, reason) where it could not."""

    count: int
    refusals: tuple[tuple[str, str], ...] = ()


class Pass(Protocol):
    def run(self, gm: fx.GraphModule, plan: Plan) -> PassResult:
        """Rewrites `gm` in place."""


def named(graph: fx.Graph) -> dict[str, fx.Node]:
    return {node.name: node for node in graph.nodes}


def emit(
    graph: fx.Graph, target: Callable[..., Any], args: Sequence[Any], kwargs: Any = None, name: str = ""
) -> fx.Node:
    """A call whose fake value is computed at once, so that later passes can ask for its shape.

    A symbolic size among the arguments becomes the nodes that compute it.
    """
    given: Any = fx.node.map_aggregate(tuple(args), lambda part: _size(graph, part))
    node = graph.create_node("call_function", target, given, kwargs or {}, name=name or None)
    fake_args, fake_kwargs = fx.map_arg((given, kwargs or {}), lambda operand: ir.value(operand))
    modes = [value.fake_mode for value in _tensors((fake_args, fake_kwargs)) if hasattr(value, "fake_mode")]
    with modes[0]:
        node.meta["val"] = target(*fake_args, **fake_kwargs)
    return node


def _size(graph: fx.Graph, part: Any) -> Any:
    if not isinstance(part, sympy.Expr):
        return part
    return torch_private.size_node(part, ir.symbols(graph))


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [found for part in tree for found in _tensors(part)] if isinstance(tree, (list, tuple)) else []


def add_input(graph: fx.Graph, name: str, value: Tensor) -> fx.Node:
    """One more graph input, after those there are."""
    last = ir.placeholders(graph)[-1]
    with graph.inserting_after(last):
        node = graph.create_node("placeholder", name, name=name)
    node.meta["val"] = value
    return node
