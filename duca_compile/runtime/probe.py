"""Runs a method's probe before each step: what a step's recipe depends on, where the data decides it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from duca_compile.generations.trajectory import Cache
from duca_compile.graph.signature import Signature
from duca_compile.plan.probing import Probing
from duca_compile.runtime.compiled import CompiledRecipe


class Probed(NamedTuple):
    """`distance` of the value from that of a step before, relative to it; None where there was none. `carried`: what
    the step's graph takes over."""

    distance: float | None = None
    value: Tensor | None = None
    carried: Sequence[Tensor] = ()


NOTHING = Probed()


@dataclass(frozen=True)
class CompiledProbe:
    probing: Probing
    signature: Signature
    constants: Sequence[Tensor]
    compiled: CompiledRecipe
    like: tuple[tuple[int, ...], torch.dtype, torch.device]
    """Size, type and device of the value."""

    def run(self, args: Sequence[Any], cache: Cache) -> Probed:
        """The host waits for the distance, once."""
        size, dtype, device = self.like
        before = cache.probed if cache.probed is not None else torch.ones(size, dtype=dtype, device=device)
        cache.hand_over()
        distance, value, *carried = self.compiled(self.signature.pack(self.constants, args, [before]))
        known = cache.probed is not None
        return Probed(float(distance) if known else None, value, carried)

    def keep(self, found: Probed, cache: Cache, is_full: bool) -> None:
        """For the comparison at the next step."""
        if is_full or not self.probing.since_full:
            cache.probed = found.value
