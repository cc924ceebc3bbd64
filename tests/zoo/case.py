"""What an entry of the zoo is: a tiny denoising transformer, one call of it, and what there is to find in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """`call(t)` gives the keyword arguments of a call at timestep `t`.

    `branches`, `recomputed` and `blocks` are counted by hand from the architecture, over all graphs: residual
    additions `x + gate * f(x)` of the repeated blocks, those of them whose body works token by token somewhere between
    stream and feature (so that a conservative step recomputes tokens), and the blocks. `streams` is checked where given.
    `graphs` is how many pieces Dynamo makes of the forward pass. `refusal` is part of the reason where the model
    cannot be accelerated.
    """

    build: Callable[[], nn.Module]
    call: Callable[[float], dict[str, Any]]
    branches: int
    recomputed: int
    blocks: int
    streams: int | None = None
    graphs: int = 1
    refusal: str | None = None


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that let every branch matter: adaLN-Zero starts with gates and output at zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.ndim < 2 else 0.15)
    return model.eval()


def noise(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))
