"""What a graph must satisfy after every pass. A violation is our bug, so it is an exception that shows the IR."""

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.methods.base import Action
from duca_compile.plan.step_plan import CACHE, KEPT, StepPlan


class SpecError(AssertionError):
    """A pass broke the graph; the message holds the offending lines."""


def check(gm: fx.GraphModule, after: str) -> None:
    """Well-formed, every tensor has a known shape, nothing is written to but caches and what the forward writes to."""
    try:
        gm.graph.lint()
    except RuntimeError as error:
        raise SpecError(f"after {after}: {error}\n{ir.render(gm.graph)}") from error
    for node in gm.graph.nodes:
        if node.op == "call_function" and ir.value(node) is None:
            raise SpecError(f"after {after}: no shape is known for\n{_excerpt(node)}")
        if ir.is_mutable(node) and not _may_write(node):
            raise SpecError(f"after {after}: only caches and inputs may be written to\n{_excerpt(node)}")


def check_signature(gm: fx.GraphModule, step: StepPlan) -> None:
    """The inputs that a step's graph takes are those that it will be passed, and no body is left that it leaves out."""
    want, have = step.signature.inputs, tuple(node.name for node in ir.placeholders(gm.graph))
    if have != want:
        raise SpecError(f"{step.name}: the inputs are {have}, not {want}")
    left = {node.name for node in gm.graph.nodes if node.op == "call_function"}
    for at, branch in enumerate(step.branches):
        gone = {Action.SKIP: branch.sum, Action.REUSE: step.reused(at), Action.FORECAST: branch.feature}
        name = gone.get(step.actions[at])
        if name in left - {slot.value for slot in step.writes}:
            raise SpecError(f"{step.name}: branch {branch.sum} is to {step.told(at)}, and {name} is still computed")


def _may_write(node: fx.Node) -> bool:
    target = node.args[0]
    if isinstance(target, fx.Node) and ir.packet(target) is torch.ops.aten.view:
        target = target.args[0]
    if not isinstance(target, fx.Node) or target.op != "placeholder":
        return False
    return ir.packet(node) is torch.ops.aten.copy_ or target.name.startswith((CACHE, KEPT))


def _excerpt(node: fx.Node) -> str:
    near = {node, *node.all_input_nodes, *node.users}
    return ir.render(node.graph, only=lambda other: other in near)
