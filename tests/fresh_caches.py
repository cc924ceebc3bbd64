"""Cached steps with the inputs of the full step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from duca_compile import Mode
from duca_compile.passes import lower, rewrite
from helpers import Captured, caches, concrete_inputs, relative_error, stored


def check_fresh_caches(found: Captured, args: Sequence[Any] | None = None) -> None:
    """Caches that are not stale must give the full result, whichever tokens are chosen: CONSERVATIVE recomputes what the
    cache holds already, and AGGRESSIVE feeds the final layer what FULL fed it."""
    values = concrete_inputs(found) if args is None else [*found.capture.constants, *args]
    plan = found.plan

    def fresh() -> list[Any]:
        return [value.clone() if isinstance(value, Tensor) else value for value in values]

    def run(mode: Mode, *extra: Tensor) -> list[Any]:
        """The same with blocks outlined as without."""
        flat = rewrite(found.capture.gm, plan.steps[mode])[0]
        outlined = lower(flat, plan.steps[mode])[0](*fresh(), *[each.clone() for each in extra])
        results = list(flat(*fresh(), *[each.clone() for each in extra]))
        for result, same in zip(results, outlined, strict=True):
            if isinstance(result, Tensor):
                assert result.stride() == same.stride()
                assert torch.equal(same, result) or relative_error(same.double(), result.double()) < 1e-5
        return results

    full = run(Mode.FULL)
    own = len(full) - len(stored(plan, Mode.FULL))
    kept, streams = full[own:][: len(caches(plan))], full[own:][len(caches(plan)) :]
    indices = [torch.randperm(chosen.tokens)[: chosen.count] for chosen in plan.draws for _ in chosen.inputs]
    again = run(Mode.CONSERVATIVE, *kept, *indices)
    skipped = run(Mode.AGGRESSIVE, *streams)
    for result, recomputed, reused in zip(full[:own], again, skipped, strict=False):
        if result.is_floating_point():
            assert relative_error(recomputed, result) < 1e-5
            assert relative_error(reused, result) < 1e-6, "some kernels round by the layout of their inputs"
