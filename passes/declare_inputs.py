"""Gives a mode's graph the inputs that carry caches and selected tokens from the dispatcher."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from duca_compile import torch_private
from duca_compile.graph import ir
from duca_compile.passes.base import CACHE, PassResult, add_inputs, kept_inputs, named
from duca_compile.passes.small_caches import kept
from duca_compile.plan.modes import Mode
from duca_compile.plan.plan import Plan, Selection


@dataclass(frozen=True)
class DeclareInputs:
    """Later passes find a cache by its name, `cache_` + the name of the value it holds.

    before:  %x: f32[2, 16, 8] = input
    after:   %x: f32[2, 16, 8] = input
             %cache_linear_4: f32[2, 16, 8] = input
             %selected_for_branch_1: i64[1] = input
    """

    mode: Mode

    def run(self, gm: fx.GraphModule, plan: Plan) -> PassResult:
        nodes = named(gm.graph)
        selections = {name: selection for selection in plan.selections for name in selection.inputs}
        added = {}
        for name in plan.extra_inputs(self.mode):
            if name in selections:
                added[name] = _indices(selections[name], like=ir.value(nodes[plan.branches[0].sum]))
            else:
                value = ir.value(nodes[name])
                dtype = kept(value.dtype, plan) if self.mode is Mode.CONSERVATIVE else value.dtype
                added[CACHE + name] = _as_stored(value, dtype)
        for at, (name, stored) in enumerate(zip(kept_inputs(plan, self.mode), plan.stored(self.mode), strict=False)):
            value = ir.value(nodes[stored])
            small = self.mode is Mode.FULL and at < len(plan.caches)
            added[name] = _as_stored(value, kept(value.dtype, plan) if small else value.dtype)
        add_inputs(gm.graph, added)
        return PassResult(len(added))


def _as_stored(value: Any, dtype: torch.dtype) -> Tensor:
    """Caches are contiguous, whatever the value they hold was."""
    with value.fake_mode:
        return torch.empty_like(value, dtype=dtype, memory_format=torch.contiguous_format)


def _indices(chosen: Selection, like: Any) -> Tensor:
    """A fake tensor for the selected tokens, on the device of the fake tensor `like`."""
    count = chosen.count
    if not isinstance(count, int):
        count = torch_private.symbolic_int(count, like)
    with like.fake_mode:
        return torch.empty(count, dtype=torch.int64, device=like.device)
