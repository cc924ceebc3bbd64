"""Streams lie in memory token after token, whatever the patches were cut by."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from duca_compile.graph import ir
from duca_compile.graph.emit import emit, set_value
from duca_compile.passes.base import SYMBOLIC, PassResult
from duca_compile.plan.step_plan import StepPlan

aten = torch.ops.aten


@dataclass(frozen=True)
class StraightenStreams:
    """A compiler lays out what it allocates as it likes, but what enters an outlined block as eager mode would.

    There the sums of a stream are laid out as its root is, and patches cut by a convolution are a transposed view.
    Results of the call keep their layout.

    before:  %transpose: f32[2, 16, 8] = transpose(%patches, 1, 2)
             %add = add(%transpose, %mul)
    after:   %transpose: f32[2, 16, 8] = transpose(%patches, 1, 2)
             %clone = clone(%transpose, memory_format=contiguous)
             %add = add(%clone, %mul)
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        if ir.symbols(gm.graph):
            return SYMBOLIC
        nodes = ir.named(gm.graph)
        roots = dict.fromkeys(nodes[stream.root] for stream in step.facts.streams if stream.root in nodes)
        bent = [root for root in roots if root.op == "call_function" and not ir.value(root).is_contiguous()]
        if bent:
            output = ir.output_node(gm.graph)
            results = list(output.args[0])  # type: ignore[arg-type]
            own = step.signature.own(results)
            layouts = [ir.value(result) if isinstance(result, fx.Node) else None for result in own]
            for root in bent:
                _straighten(gm.graph, root)
            _propagate(gm.graph, ir.descendants(bent) - set(bent))
            with gm.graph.inserting_before(output):
                own = [_laid_out(gm.graph, *pair) for pair in zip(own, layouts, strict=True)]
            output.args = ((*own, *results[len(own) :]),)
        return PassResult(len(bent))


def _straighten(graph: fx.Graph, root: fx.Node) -> None:
    with graph.inserting_after(root):
        straight = emit(graph, aten.clone.default, [root], {"memory_format": torch.contiguous_format})
    root.replace_all_uses_with(straight, delete_user_cb=lambda user: user is not straight)


def _propagate(graph: fx.Graph, moved: set[fx.Node]) -> None:
    """What eager mode makes of the new layout, down from the streams."""
    for node in graph.nodes:
        if node in moved and node.op == "call_function":
            set_value(node)


def _laid_out(graph: fx.Graph, result: Any, like: Any) -> Any:
    """The result in the layout it had; what is no tensor has none."""
    if not isinstance(like, Tensor) or ir.form(ir.value(result)) == ir.form(like):
        return result
    room = emit(graph, aten.new_empty_strided.default, [result, list(like.shape), list(like.stride())])
    return emit(graph, aten.copy.default, [room, result])
