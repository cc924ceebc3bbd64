"""Writes out what tensors that wrap others do in a Dynamo graph, as plain ops over what they wrap.

A quantised weight decides in Python what each op does with it; so does a tensor that is spread over processes, whose
ops wait for these where they must. A capture before dispatch does not ask it; one after it sees the ops that it runs.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from duca_compile import torch_private
from duca_compile.capture.join_linears import join_linears
from duca_compile.capture.write_out import put, traced
from duca_compile.graph import ir
from duca_compile.refusal import Refused
from duca_compile.torch_private import Constant, Wrapping


def without_wrappers(gm: fx.GraphModule) -> fx.GraphModule:
    """A copy of a Dynamo graph that takes the `inner_tensors` of its inputs; the graph itself if all are plain.

    Raises `Refused` for wrappers that it cannot write out.

    before:  %weight = input                  (wraps data and scale)
             %linear = linear(%x, %weight)
    after:   %weight_data, %weight_scale = inputs
             %mul = mul(%weight_data, %weight_scale)
             %linear = linear(%x, %mul)
    """
    if not any(map(_is_made, gm.graph.nodes)):
        return gm
    copy = ir.copied(gm)
    apart: dict[fx.Node, _Parts] = {}
    for node in list(copy.graph.nodes):
        if node.op == "placeholder" and _is_made(node):
            apart[node] = _inputs(node)
        elif _is_made(node) or any(operand in apart for operand in node.all_input_nodes):
            _write_out(copy, node, apart)
    for node in reversed(apart):
        copy.graph.erase_node(node)
    copy.recompile()
    return copy


def _is_made(node: fx.Node) -> bool:
    """Whether it holds a tensor made of others, or the mesh of processes that such a one is made of."""
    held = torch_private.tree_leaves(torch_private.dynamo_value(node))
    return any(torch_private.is_wrapper(each) or torch_private.is_mesh(each) for each in held)


@dataclass(frozen=True)
class _Parts:
    """What a node holds, where wrappers are among it: plain `nodes`, how to wrap them, and in what to place these."""

    nodes: Sequence[fx.Node]
    wrappings: Sequence[Wrapping | Constant | None]
    tree: Any

    def value(self, tensors: Mapping[fx.Node, Tensor]) -> Any:
        plain = (tensors[node] for node in self.nodes)
        return torch_private.tree_unflatten(
            [wrapping.around(plain) if wrapping else next(plain) for wrapping in self.wrappings], self.tree
        )


def _inputs(node: fx.Node) -> _Parts:
    value = torch_private.dynamo_value(node)
    _refuse(node, value)
    nodes = []
    paths = () if torch_private.is_mesh(value) else torch_private.inner_paths(value)
    for path, tensor in zip(paths, torch_private.inner_tensors(value), strict=True):
        with node.graph.inserting_before(node):
            nodes.append(node.graph.placeholder(f"{node.name.removesuffix('_')}_{path.replace('.', '_')}"))
        nodes[-1].meta = {**node.meta}
        torch_private.set_dynamo_value(nodes[-1], tensor)
    return _Parts(nodes, *_wrappings(value))


def _wrappings(value: Any) -> tuple[list[Wrapping | Constant | None], Any]:
    leaves, tree = torch_private.tree_flatten(value)
    return list(map(Wrapping.of, leaves)), tree


def _write_out(gm: fx.GraphModule, node: fx.Node, apart: dict[fx.Node, _Parts]) -> None:
    """Puts plain ops in the place of the node, or, where it holds wrappers too, before it."""
    if node.op == "output":
        kinds = {type(torch_private.dynamo_value(each)).__name__ for each in node.all_input_nodes if each in apart}
        raise Refused(f"the forward pass returns a {', '.join(sorted(kinds))}; have it return plain tensors")
    if isinstance(node.target, torch_private.HigherOrderOperator):
        raise Refused(f"%{node.name} = {node.target} takes a function and a tensor made of others")
    operands = [apart[each].nodes if each in apart else [each] for each in node.all_input_nodes]
    taken = list(dict.fromkeys(each for nodes in operands for each in nodes))
    run = _Run(node, taken, apart)
    ops = traced(run, taken, nullcontext())
    join_linears(ops)
    nodes = put(gm, ops, taken, node)
    if run.wrappings == [None]:
        node.replace_all_uses_with(nodes[0])
    apart[node] = _Parts(nodes, run.wrappings, run.tree)


class _Run:
    """What a node does, as a function of plain tensors only that gives plain ones; then also what it wraps these in."""

    def __init__(self, node: fx.Node, taken: Sequence[fx.Node], apart: Mapping[fx.Node, _Parts]) -> None:
        self._node, self._taken, self._apart = node, taken, apart
        self.wrappings: list[Wrapping | Constant | None] = []
        self.tree: Any = None

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        plain = dict(zip(self._taken, tensors, strict=True))

        def operand(node: fx.Node) -> Any:
            return self._apart[node].value(plain) if node in self._apart else plain[node]

        result = _called(self._node)(*fx.map_arg(self._node.args, operand), **fx.map_arg(self._node.kwargs, operand))
        leaves, self.tree = torch_private.tree_flatten(result)
        for leaf in leaves:
            _refuse(self._node, leaf)
        self.wrappings = list(map(Wrapping.of, leaves))
        return [tensor for leaf in leaves for tensor in torch_private.inner_tensors(leaf)]


def _called(node: fx.Node) -> Callable[..., Any]:
    if node.op == "call_method":
        return lambda owner, *args, **kwargs: getattr(owner, str(node.target))(*args, **kwargs)
    assert callable(node.target)
    return node.target


def _refuse(node: fx.Node, value: Any) -> None:
    """Raises `Refused` for what cannot be taken apart and put together again."""
    if torch_private.is_mesh(value):
        return
    if not isinstance(value, Tensor):
        raise Refused(f"%{node.name} asks a tensor made of others for a {type(value).__name__}")
    if not torch_private.is_wrapper(value):
        return
    kind = type(value).__name__
    if torch_private.belongs_to_others(value):
        raise Refused(
            f"%{node.name} is a {kind}: what other processes hold of it, or have yet to send, is not told by a mesh; "
            "give plain tensors or DTensors"
        )
    if value.layout is not torch.strided or any(isinstance(dim, torch.SymInt) for dim in value.shape):
        raise Refused(f"%{node.name} is a {kind} of sizes that are not fixed; give plain tensors, or dynamic=False")
    for part in torch_private.inner(value).values():
        if not isinstance(part, Tensor) and not torch_private.is_mesh(part):
            raise Refused(f"%{node.name} is a {kind}, which holds a {type(part).__name__} beside tensors")
        _refuse(node, part)
