"""Symbolic sizes as sympy expressions, expressions as graph nodes, and guards on them.

- `SymInt.node`; `optimization_hint`, `free_unbacked_symbols`, `ShapeEnv.create_symintnode`, `evaluate_expr` and
  `guarding_hint_or_throw` of `torch.fx.experimental.symbolic_shapes` (2.11 calls both hints `size_hint`);
  `torch.utils._sympy`.
- `GuardOnDataDependentSymNode`, `DataDependentOutputException`, `DynamicOutputShapeException`: what is raised where a
  size or value that only the data decides is asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import sympy
import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.fx.experimental import symbolic_shapes
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, free_unbacked_symbols
from torch.utils._sympy.functions import FloorDiv
from torch.utils._sympy.interp import sympy_interp
from torch.utils._sympy.reference import PythonReferenceAnalysis

from duca_compile.releases import RELEASE
from duca_compile.torch_private.causes import causes

_SHAPES: Any = symbolic_shapes
Size: TypeAlias = int | sympy.Expr
"""Of a dimension, or made of such: an expression where it is symbolic."""


def is_data_dependent_error(error: BaseException) -> bool:
    """Whether it was raised, or caused, by a question about a size or value that only the data answers."""
    kinds = (GuardOnDataDependentSymNode, DataDependentOutputException, DynamicOutputShapeException)
    return any(isinstance(each, kinds) for each in causes(error))


def size(held: int | torch.SymInt) -> Size:
    """A number, or a sympy expression where symbolic. Expressions compare by structure, so asking adds no guard."""
    if isinstance(held, int):
        return held
    return whole(held.node.expr)


def whole(expression: Size) -> Size:
    """A size as a number where no symbol is left in it: what is divided out of symbolic ones is an expression still."""
    return int(expression) if isinstance(expression, sympy.Expr) and expression.is_number else expression


def size_now(held: int | torch.SymInt) -> int:
    """The size that this call has, without a guard: only for guesses that may be wrong for another call."""
    hint = _SHAPES.size_hint if RELEASE == (2, 11) else _SHAPES.optimization_hint
    return int(hint(held, fallback=1))


def is_data_dependent(sizes: Sequence[Any]) -> bool:
    """Whether one of the sizes is known only when the graph runs, as the number of tokens that an expert gets."""
    return bool(free_unbacked_symbols([size for size in sizes if isinstance(size, sympy.Expr)]))


def floor_divide(dividend: Size, divisor: int) -> Size:
    """`dividend // divisor` of whole numbers or symbolic sizes."""
    return whole(FloorDiv(dividend, divisor)) if isinstance(dividend, sympy.Expr) else dividend // divisor


def symbolic_int(expression: Size, like: Tensor) -> torch.SymInt:
    """The expression as a size in the shape environment of the fake tensor `like`."""
    shapes: Any = like.fake_mode.shape_env  # type: ignore[attr-defined]
    hint = shapes.size_hint if RELEASE == (2, 11) else shapes.guarding_hint_or_throw
    found: torch.SymInt = shapes.create_symintnode(expression, hint=int(hint(expression)))
    return found


def guard_positive(expression: Size, like: Tensor) -> bool:
    """Whether the expression is at least 1 for the sizes at hand; Dynamo compiles anew for sizes where it differs."""
    return bool(like.fake_mode.shape_env.evaluate_expr(sympy.Ge(expression, 1)))  # type: ignore[attr-defined]


def size_node(expression: sympy.Expr, symbols: Mapping[sympy.Symbol, fx.Node]) -> fx.Node:
    """Nodes that compute the expression, at the graph's insertion point, from the nodes that hold its symbols."""
    graph = next(iter(symbols.values())).graph
    tracer = fx.proxy.GraphAppendingTracer(graph)
    known = set(graph.nodes)
    proxies = {symbol: fx.Proxy(node, tracer) for symbol, node in symbols.items()}
    found: fx.Node = sympy_interp(PythonReferenceAnalysis, proxies, expression).node
    for node in graph.nodes:
        if node not in known:
            node.meta["val"] = node.target(*fx.map_arg(node.args, lambda operand: operand.meta["val"]))
    return found
