"""Gives a step's graph the inputs that carry caches and selected tokens from the dispatcher."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from duca_compile import torch_private
from duca_compile.graph import ir
from duca_compile.passes.base import PassResult, add_inputs
from duca_compile.passes.small_caches import kept
from duca_compile.plan.probing import CARRIED
from duca_compile.plan.step_plan import WEIGHTS, Selection, Slot, StepPlan


@dataclass(frozen=True)
class DeclareInputs:
    """Later passes find a cache by its name, `cache_` + the name of the value it holds.

    before:  %x: f32[2, 16, 8] = input
    after:   %x: f32[2, 16, 8] = input
             %cache_linear_4: f32[2, 16, 8] = input
             %selected_for_branch_1: i64[1] = input
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        nodes = ir.named(gm.graph)
        like = ir.value(nodes[step.branches[0].sum])
        added: dict[str, Tensor] = {}
        for slot in step.reads:
            added |= dict.fromkeys(slot.inputs, _stored(nodes, slot, step))
        for selection in step.draws:
            added |= {name: _indices(selection, like) for name in selection.inputs}
        if step.history > 1:
            added[WEIGHTS] = _weights(step.history, like)
        for slot in step.writes if step.fixed else ():
            added |= dict.fromkeys(step.kept_of(slot), _stored(nodes, slot, step))
        for name in step.probing.carried if step.probing else ():
            added[CARRIED + name] = ir.value(nodes[name])
        add_inputs(gm.graph, added)
        return PassResult(len(added))


def _stored(nodes: dict[str, fx.Node], slot: Slot, step: StepPlan) -> Tensor:
    """Caches are contiguous, whatever the value they hold was."""
    value = ir.value(nodes[slot.value])
    dtype = kept(value.dtype, step) if slot.small else value.dtype
    with value.fake_mode:
        return torch.empty_like(value, dtype=dtype, memory_format=torch.contiguous_format)


def _weights(history: int, like: Any) -> Tensor:
    with like.fake_mode:
        return torch.empty(history, dtype=torch.float32, device=like.device)


def _indices(chosen: Selection, like: Any) -> Tensor:
    """A fake tensor for the selected tokens, on the device of the fake tensor `like`."""
    count = chosen.count
    if not isinstance(count, int):
        count = torch_private.symbolic_int(count, like)
    with like.fake_mode:
        return torch.empty(count, dtype=torch.int64, device=like.device)
