"""Small questions about an FX graph, and the text form our tests and errors show."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor, fx

from duca_compile.torch_private import HigherOrderOperator, OpOverload, Size, forget_tensors, schema, size

_DTYPES = {
    torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.float64: "f64",
    torch.int64: "i64", torch.int32: "i32", torch.bool: "b8",
}  # fmt: skip


def value(node: fx.Node) -> Any:
    """What the node holds, as a fake tensor (or a tuple of them)."""
    return node.meta.get("val")


def shape(node: fx.Node) -> tuple[Size, ...] | None:
    """The node's shape; None if it holds no tensor. A symbolic size is a sympy expression, which adds and compares."""
    held = value(node)
    return sizes(held) if isinstance(held, Tensor) else None


def sizes(tensor: Tensor) -> tuple[Size, ...]:
    return tuple(size(dim) for dim in tensor.shape)


def form(tensor: Tensor) -> tuple[Any, ...]:
    """Sizes and strides: what follows a copy to another memory layout may need that layout."""
    return sizes(tensor), tuple(map(size, tensor.stride()))


def number(arg: Any) -> Any:
    """An argument that may be a node holding a symbolic size, as a number or expression."""
    held = value(arg) if isinstance(arg, fx.Node) else arg
    return size(held) if isinstance(held, torch.SymInt) else held


def symbols(graph: fx.Graph) -> dict[Any, fx.Node]:
    """Every symbolic size that the graph takes as an input, and that input."""
    return {number(node): node for node in placeholders(graph) if isinstance(value(node), torch.SymInt)}


def packet(node: fx.Node) -> Any:
    """The overload packet of an ATen call, such as `torch.ops.aten.add`, or a higher-order op; None for all else."""
    if isinstance(node.target, HigherOrderOperator):
        return node.target
    return node.target.overloadpacket if isinstance(node.target, OpOverload) else None


def is_mutable(node: fx.Node) -> bool:
    """Whether the node is an ATen call that writes to one of its operands."""
    return isinstance(node.target, OpOverload) and schema(node.target).is_mutable


def copied(gm: fx.GraphModule) -> fx.GraphModule:
    """A copy to be rewritten. It shares the attributes that its nodes name, so it is made once these are there."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(gm.graph, {}))
    copy = fx.GraphModule(gm, graph)
    copy.meta.update(gm.meta)
    forget_tensors(graph)
    return copy


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument by position or keyword."""
    if position < len(node.args):
        return node.args[position]
    return node.kwargs.get(name, default)


def operation(target: Any, args: Sequence[Any]) -> OpOverload | None:
    """What a call runs. One that writes to a tensor is handed to another, which has it write to a copy."""
    if isinstance(target, HigherOrderOperator):
        target = args[0] if len(args) == 1 else None
    return target if isinstance(target, OpOverload) else None


def given(op: OpOverload, args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, defaults among them."""
    arguments = schema(op).arguments
    defaults = {each.name: each.default_value for each in arguments if each.has_default_value()}
    return defaults | dict(zip((each.name for each in arguments), args, strict=False)) | dict(kwargs)


def owner(node: fx.Node) -> fx.Node:
    """The node that allocated the memory this one may view."""
    while node.op == "call_function" and node.all_input_nodes and _is_view(node):
        node = node.all_input_nodes[0]
    return node


def owners(graph: fx.Graph) -> dict[fx.Node, fx.Node]:
    """The `owner` of every node."""
    found: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        views = node.op == "call_function" and node.all_input_nodes and _is_view(node)
        found[node] = found[node.all_input_nodes[0]] if views else node
    return found


def computes(node: fx.Node) -> bool:
    """Whether the node is a call whose result has memory of its own."""
    return node.op == "call_function" and not (node.all_input_nodes and _is_view(node))


def _is_view(node: fx.Node) -> bool:
    if isinstance(node.target, OpOverload):
        return any(result.alias_info is not None for result in schema(node.target).returns)
    return getattr(node.target, "__name__", "") == "getitem"


def ancestors(starts: Iterable[fx.Node], stop: Callable[[fx.Node], bool] = lambda node: False) -> set[fx.Node]:
    """All nodes the starts are computed from, the starts among them; nothing above a node where `stop` holds."""
    return _closure(starts, lambda node: [] if stop(node) else node.all_input_nodes)


def descendants(starts: Iterable[fx.Node]) -> set[fx.Node]:
    """All nodes computed from the starts, the starts among them."""
    return _closure(starts, lambda node: node.users)


def _closure(starts: Iterable[fx.Node], beyond: Callable[[fx.Node], Iterable[fx.Node]]) -> set[fx.Node]:
    seen: set[fx.Node] = set()
    stack = list(starts)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(beyond(node))
    return seen


def named(graph: fx.Graph) -> dict[str, fx.Node]:
    """Its nodes by their names."""
    return {node.name: node for node in graph.nodes}


def output_node(graph: fx.Graph) -> fx.Node:
    node: fx.Node
    (node,) = graph.find_nodes(op="output")
    return node


def placeholders(graph: fx.Graph) -> list[fx.Node]:
    return graph.find_nodes(op="placeholder")


def source(node: fx.Node) -> str:
    """`file:line` of the call in the model's source."""
    lines = [line.strip() for line in str(node.meta.get("stack_trace") or "").splitlines() if "File" in line]
    if not lines:
        return "unknown"
    file, line = lines[-1].split(",")[:2]
    return f"{PurePath(file.split(chr(34))[1]).name}:{line.split()[-1]}"


def render(graph: fx.Graph, only: Callable[[fx.Node], bool] = lambda node: True) -> str:
    """The graph as text, a line per node: `%sum: f32[2, 16, 8] = add.Tensor(%x, %y)`."""
    return "\n".join(_lines(graph, only))


def _lines(graph: fx.Graph, only: Callable[[fx.Node], bool]) -> Iterator[str]:
    for node in graph.nodes:
        if not only(node):
            continue
        if node.op == "placeholder":
            yield f"%{node.name}: {_type(node)} = input"
        elif node.op == "output":
            yield f"return {_text(node.args[0])}"
        else:
            given = [_text(arg) for arg in node.args] + [f"{key}={_text(arg)}" for key, arg in node.kwargs.items()]
            yield f"%{node.name}: {_type(node)} = {_target(node)}({', '.join(given)})"


def _target(node: fx.Node) -> str:
    return (
        str(node.target).removeprefix("aten.") if packet(node) else getattr(node.target, "__name__", str(node.target))
    )


def _type(node: fx.Node) -> str:
    held = value(node)
    if not isinstance(held, Tensor):
        return type(held).__name__
    return f"{_DTYPES.get(held.dtype, str(held.dtype))}[{', '.join(map(str, held.shape))}]"


def _text(arg: Any) -> str:
    if isinstance(arg, fx.Node):
        return f"%{arg.name}"
    if isinstance(arg, (list, tuple)):
        return f"[{', '.join(map(_text, arg))}]"
    return str(arg)
