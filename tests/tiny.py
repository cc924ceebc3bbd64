"""The smallest model with one branch of each sort, for tests that read whole graphs."""

import torch
from torch import Tensor, nn


class TinyParts(nn.Module):
    """Tokens mixed by a linear layer over them, then an MLP; one gate from the timestep for both."""

    leave: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.clock = nn.Linear(1, 2, bias=False)
        self.mix = nn.Linear(10, 10, bias=False)
        self.mlp = nn.Linear(2, 2, bias=False)
        self.leave = nn.Linear(2, 2, bias=False)

    def denoised(self, x: Tensor, t: Tensor) -> Tensor:
        gate = self.clock(t[:, None].sin())[:, None]
        x = x + gate * self.mix(x.transpose(1, 2)).transpose(1, 2)
        x = x + gate * self.mlp(x).relu()
        return self.leave(x)


class Tiny(TinyParts):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.denoised(x, t)


def tiny_call(t: float = 0.5) -> tuple[Tensor, Tensor]:
    return torch.randn(1, 10, 2, generator=torch.Generator().manual_seed(0)), torch.full((1,), t)
