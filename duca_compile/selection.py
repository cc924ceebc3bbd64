"""Which tokens a CONSERVATIVE step recomputes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from duca_compile.plan import Selection


class RandomTokens:
    """Uniformly random tokens (paper IV-C), drawn afresh per step and per branch, the same for all samples of a batch.

    One draw per step covers all branches: scores `U(0, 1)` of shape `[branches, tokens]`, of which each branch keeps
    the `count` largest, sorted by position. The generator lives on the CPU, so a seed means the same on every device.
    """

    def __init__(self, selections: Sequence[Selection], seed: int) -> None:
        self.selections = selections
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, device: torch.device) -> list[Tensor]:
        """Indices `[count]`, int64, for every branch of each selection."""
        drawn: list[Tensor] = []
        for selection in self.selections:
            scores = torch.rand(len(selection.branches), selection.tokens, generator=self.generator)
            drawn += scores.topk(selection.count, dim=1).indices.sort(dim=1).values.to(device).unbind()
        return drawn
