"""Methods written out by hand for the example DiT, for the compiled ones to be held against."""

from collections.abc import Callable

import torch
from torch import Tensor

from dit import Block, DiT, modulate

LABELS = torch.tensor([1, 2])
Values = list[Tensor]
Forecast = Callable[[Values, int], Tensor]
"""Of the values at the last full steps, the last one first, so many steps after the last one."""


def hold(values: Values, ahead: int) -> Tensor:
    return values[0]


def taylor(order: int, cycle: int) -> Forecast:
    """arXiv 2503.06923, equation 5: finite differences over full steps that lie `cycle` apart."""

    def forecast(values: Values, ahead: int) -> Tensor:
        share = ahead / cycle
        found = values[0]
        if order > 0 and len(values) > 1:
            found = found + share * (values[0] - values[1])
        if order > 1 and len(values) > 2:
            found = found + share**2 / 2 * (values[0] - 2 * values[1] + values[2])
        return found

    return forecast


class EagerBranches:
    """Every branch's feature is forecast; gates and modulation are those of the step at hand."""

    def __init__(self, model: DiT, forecast: Forecast) -> None:
        self.model, self.forecast = model, forecast
        self.values: list[tuple[Values, Values]] = [([], []) for _ in model.blocks]

    def step(self, ahead: int, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """`ahead` steps after a full one; 0 of that."""
        h, c = embedded(self.model, x, t, y)
        for block, values in zip(self.model.blocks, self.values, strict=True):
            assert isinstance(block, Block)
            h = self._branches(block, values, ahead, h, c)
        return self.model.unpatchify(self.model.final(h, c))

    def _branches(self, block: Block, values: tuple[Values, Values], ahead: int, h: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation(c)[:, None].chunk(6, dim=-1)
        if not ahead:
            values[0].insert(0, block.attn(modulate(block.norm1(h), scale=scale1[:, 0], shift=shift1[:, 0])))
        h = h + gate1 * self.forecast(values[0], ahead)
        if not ahead:
            values[1].insert(0, block.mlp(modulate(block.norm2(h), scale=scale2[:, 0], shift=shift2[:, 0])))
        return h + gate2 * self.forecast(values[1], ahead)


class EagerStack:
    """No block runs: the stream after the last one is forecast."""

    def __init__(self, model: DiT, forecast: Forecast) -> None:
        self.model, self.forecast = model, forecast
        self.values: Values = []

    def step(self, ahead: int, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        h, c = embedded(self.model, x, t, y)
        if not ahead:
            for block in self.model.blocks:
                h = block(h, c)
            self.values.insert(0, h)
        return self.model.unpatchify(self.model.final(self.forecast(self.values, ahead), c))


def embedded(model: DiT, x: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return model.embed(x).flatten(2).transpose(1, 2) + model.positions, model.time(t) + model.label(y)
