"""Bytes that torch's allocator gives on the device, beside what `explain` foretells. Only held ones on the CPU."""

from typing import Any

import torch
from torch import Tensor

import duca_compile
from models.shapes import next_latents
from speed.pair import Pair
from speed.setting import first_steps, ran, watched

MIB = 2**20


def peaks(pair: Pair) -> dict[str, Any]:
    """Of a plain step, and of a first step of each mode, over what was allocated before it; a full one from no cache."""
    duca_compile.reset(pair.model)
    before, found = _allocated(pair), {}
    if pair.setting.on_gpu:
        given = pair.subject.call(pair.subject.latents, 979.0)
        found["plain_mib"] = _peak(pair, lambda: pair.plain(**given)) / MIB
    x = pair.subject.latents
    for t in first_steps(3, pair.setting.steps):
        given = pair.subject.call(x, t)
        outputs: list[Tensor] = []
        with watched(pair.model) as seen:
            peak = _peak(pair, lambda given=given, outputs=outputs: outputs.append(pair.cached(**given)))
        if pair.setting.on_gpu:
            found[f"{ran(seen).value}_mib"] = peak / MIB
        x = next_latents(x, outputs.pop())
    held = duca_compile.stats(pair.model).bytes
    if pair.setting.on_gpu:
        del given
        found["allocated_after_mib"] = (_allocated(pair) - before) / MIB
    foretold = pair.graph
    return {
        **found,
        "held_mib": held / MIB, "held_foretold_mib": foretold.held_bytes / MIB,
        "plain_foretold_mib": foretold.plain_step_bytes / MIB, "full_foretold_mib": foretold.full_step_bytes / MIB,
        "weights_mib": sum(parameter.nbytes for parameter in pair.model.parameters()) / MIB,
    }  # fmt: skip


def _allocated(pair: Pair) -> int:
    pair.setting.wait()
    return torch.cuda.memory_allocated() if pair.setting.on_gpu else 0


def _peak(pair: Pair, run: Any) -> int:
    before = _allocated(pair)
    if pair.setting.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    run()
    pair.setting.wait()
    return torch.cuda.max_memory_allocated() - before if pair.setting.on_gpu else 0
