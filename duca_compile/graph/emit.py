"""How nodes are added to a graph."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy
from torch import fx

from duca_compile import torch_private
from duca_compile.graph import ir


def emit(
    graph: fx.Graph,
    target: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    name: str = "",
) -> fx.Node:
    """A call whose fake value is computed at once, so that later passes can ask for its shape.

    A symbolic size among the arguments becomes the nodes that compute it.
    """
    given: Any = fx.node.map_aggregate(tuple(args), lambda part: _size(graph, part))
    node = graph.create_node("call_function", target, given, dict(kwargs or {}), name=name or None)
    set_value(node)
    return node


def set_value(node: fx.Node) -> None:
    """The fake value of a call, from those of its operands."""
    target: Any = node.target
    args, kwargs = fx.map_arg((node.args, node.kwargs), ir.value)
    with torch_private.fake_modes((args, kwargs)):
        node.meta["val"] = target(*args, **kwargs)


def _size(graph: fx.Graph, part: Any) -> Any:
    size = torch_private.whole(part)
    return torch_private.size_node(size, ir.symbols(graph)) if isinstance(size, sympy.Expr) else size
