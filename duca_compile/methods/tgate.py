"""T-GATE (arXiv 2404.02747): cross-attention is computed in the first steps only, self-attention now and then."""

from dataclasses import dataclass

from duca_compile.methods.attention_kinds import CROSS, SELF, all_reusing, name_of
from duca_compile.methods.base import COMPLETE, FULL, Held, Place, Recipe
from duca_compile.methods.check import require_int


@dataclass(frozen=True)
class TGate(Held):
    """The defaults are the published ones for PixArt in 25 steps.

    What it also does is a pipeline's to do, and not done here: to drop the pass without a prompt after the gate step,
    and to keep the mean of both passes there.
    """

    gate_step: int = 10
    """From this step on, cross-attention is reused."""
    self_interval: int = 5
    """Before the gate step, one self-attention in so many is computed,"""
    warmup_steps: int = 2
    """after so many steps that compute all."""
    late_interval: int = 1
    """From the gate step on, one self-attention in so many is computed."""

    def __post_init__(self) -> None:
        for name in ("gate_step", "self_interval", "warmup_steps", "late_interval"):
            require_int(name, getattr(self, name), at_least=1)

    def recipes(self) -> tuple[Recipe, ...]:
        return COMPLETE, *all_reusing((SELF, CROSS), gated=False)

    def start(self) -> "TGate":
        return self

    def next(self, place: Place) -> str:
        step = place.step
        if step < self.gate_step:
            return FULL if step < self.warmup_steps or step % self.self_interval == 0 else name_of((SELF,))
        return name_of((SELF, CROSS) if step % self.late_interval else (CROSS,))

    def without_cuts(self) -> "TGate":
        return self
