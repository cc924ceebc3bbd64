"""Which tokens a CONSERVATIVE step recomputes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from duca_compile.plan.step_plan import Selection

AHEAD = 8
"""Steps drawn at once: the host asks torch for little at each step, and copies to a device once in as many."""
ALIGNED = 2
"""Indices in 16 bytes. Kernels are compiled for inputs that begin at such a place; others would be copied first."""


class RandomTokens:
    """Uniformly random tokens (paper IV-C), drawn afresh per step and input, the same for all samples of a batch.

    One draw covers all inputs: scores `U(0, 1)` of shape `[steps, inputs, tokens]`, of which each input gets the
    `count` largest, sorted by position. The generator lives on the CPU, so a seed means the same on every device.
    """

    def __init__(self, selections: Sequence[Selection], seed: int) -> None:
        self.selections = selections
        self.generator = torch.Generator("cpu").manual_seed(seed % 2**64)
        self.steps = 0
        """That tokens were drawn for."""
        self._ahead: list[list[Tensor]] = []
        self.drawn: Sequence[Tensor] = ()
        """Where all indices lie that were drawn together last, those that a step was given and those left."""

    def draw(self, device: torch.device) -> list[Tensor]:
        """Indices `[count]`, int64, for every input of each selection. `device` is the same at every call."""
        if not self._ahead:
            self.drawn = [self._draw_ahead(selection, device) for selection in self.selections]
            rows = [_rows(drawn, each) for drawn, each in zip(self.drawn, self.selections, strict=True)]
            self._ahead = [[index for steps in rows for index in steps[at]] for at in range(AHEAD)]
        self.steps += 1
        return self._ahead.pop()

    def _draw_ahead(self, selection: Selection, device: torch.device) -> Tensor:
        """Indices `[steps, inputs, count]`, padded so that each row begins at an aligned place."""
        scores = torch.rand(AHEAD, len(selection.inputs), selection.tokens, generator=self.generator, device="cpu")
        chosen = scores.topk(selection.count, sorted=False).indices.sort().values
        return sent(F.pad(chosen, (0, -selection.count % ALIGNED)), device)


def _rows(drawn: Tensor, selection: Selection) -> list[tuple[Tensor, ...]]:
    """The indices of every input, for each of the steps."""
    inputs, found = len(selection.inputs), drawn[..., : selection.count].flatten(0, 1).unbind()
    return [found[at * inputs : (at + 1) * inputs] for at in range(AHEAD)]


def sent_weights(weights: Sequence[float], history: int, device: torch.device) -> Tensor:
    """Those of a forecast, `[history]`: values that are not known weigh nothing."""
    return sent(torch.tensor([*weights, *[0.0] * (history - len(weights))]), device)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The same on a device, without the host waiting for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
