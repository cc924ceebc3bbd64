"""First-block caching: the first blocks are computed at every step, and tell whether the rest has to be.

As FBCache of ParaAttention has it, and DBCache of cache-dit, which computes some of the last blocks, too.
"""

from dataclasses import dataclass

from torch import fx

from duca_compile.analysis.anchors import anchored
from duca_compile.analysis.facts import Branch, Facts
from duca_compile.analysis.latent_stream import branches_of_latents
from duca_compile.graph import ir
from duca_compile.methods.base import COMPLETE, FULL, Action, Held, Place, Probe, Recipe
from duca_compile.methods.check import require_at_least_0, require_int
from duca_compile.refusal import Refused


@dataclass(frozen=True)
class FirstBlock(Held):
    """How far the other blocks moved the stream is kept, and added to what the first ones make of it."""

    threshold: float = 0.08
    """How far what the first blocks add to the stream may be from that of the last full step, as a share of that."""
    front: int = 1
    """How many blocks are computed first."""
    back: int = 0
    """How many of the last blocks are computed at every step, too."""
    longest: int = 0
    """The most cached steps in a row; 0 sets no limit."""
    warmup_steps: int = 1
    """The first steps of a generation, which are full."""

    def __post_init__(self) -> None:
        require_at_least_0("threshold", self.threshold)
        for name, least in (("front", 1), ("back", 0), ("longest", 0), ("warmup_steps", 1)):
            require_int(name, getattr(self, name), at_least=least)

    @property
    def probe(self) -> Probe:  # type: ignore[override]
        return Probe(self._first_change, since_full=True)

    def recipes(self) -> tuple[Recipe, ...]:
        return COMPLETE, Recipe("skip", self._decide, cut=True, anchored=True, part=True)

    def start(self) -> "FirstBlock":
        return self

    def next(self, place: Place) -> str:
        far = place.distance is None or place.distance >= self.threshold
        late = self.longest and place.since > self.longest
        return FULL if place.step < self.warmup_steps or far or late else "skip"

    def without_cuts(self) -> None:
        return None

    def _decide(self, at: int, branch: Branch, facts: Facts) -> Action:
        skipped = facts.blocks[self.front : len(facts.blocks) - self.back]
        return Action.SKIP if any(at in block for block in skipped) else Action.COMPUTE

    def _first_change(self, graph: fx.Graph, facts: Facts) -> fx.Node:
        """Of the latents' stream, over the first blocks."""
        first = {at for block in facts.blocks[: self.front] for at in block}
        nodes = ir.named(graph)
        skips = {nodes[facts.branches[at].sum]: nodes[facts.branches[at].skip] for at in first}
        own = [at for at in branches_of_latents(graph, facts) if at in first]
        if not own:
            raise Refused(f"method: the first {self.front} blocks do not change the latents; give a larger `front`")
        kept = anchored(nodes[facts.branches[own[-1]].sum], skips).kept
        return ir.named(graph)[kept]
