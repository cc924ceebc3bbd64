"""Small compiled models over which latents evolve as in real sampling, and every way in which weights change."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sequences.samplers import LEVELS
from zoo.case import noise, randomise

_VARIANCE = 0.25
"""Of the images around the mean that a prompt stands for."""
_LEARNT = 0.3
"""How much the network adds to the exact estimate of the clean image."""


class Small(nn.Module):
    """The exact denoiser of images around a mean that the context stands for, and two blocks of cross-attention and MLP
    that add to it: `[B, 16, 16]` latents, `[B, 3, 8]` context, `[B, 3, 8]` pooled.

    Its predictions hold the noise of its latents, as those of trained models do; `kind` says what it predicts.
    """

    mean: Tensor
    shares: Tensor

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.clock, self.enter, self.leave = nn.Linear(4, 8), nn.Linear(16, 8), nn.Linear(8, 16)
        self.mix = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.mlp = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.register_buffer("mean", noise(24, 256, seed=7) / 24**0.5)
        self.register_buffer("shares", _shares(kind))

    def forward(self, x: Tensor, t: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        given, mean, learnt = self.shares[:, t.long().clamp(0, 1000)][..., None, None]
        mean = mean * (context.to(x.dtype).flatten(1) @ self.mean).view_as(x)
        return given * x + mean + learnt * self.learnt(x, t, context.to(x.dtype), pooled.to(x.dtype))

    def learnt(self, x: Tensor, t: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        time = (t[:, None] * torch.tensor([0.01, 0.02, 0.04, 0.08])).sin().to(x.dtype)
        gate = (self.clock(time) + pooled.mean(1))[:, None]
        x = self.enter(x)
        for mix, mlp in zip(self.mix, self.mlp, strict=True):
            given = torch.cat([x, context], 1)
            x = x + gate * nn.functional.scaled_dot_product_attention(mix(x), given, given)
            x = x + gate * mlp(x).relu()
        return self.leave(x)


def _shares(kind: str) -> Tensor:
    """Of latents, mean and network in a prediction, at each timestep from 0 to 1000: `[3, 1001]`."""
    if kind == "flow":
        sigma = torch.arange(1001).double() / 1000
        alpha = 1 - sigma
    else:
        levels = torch.cat([LEVELS, LEVELS[-1:]])
        alpha, sigma = levels.sqrt(), (1 - levels).sqrt()
    sigma = sigma.clamp_min(0.02)
    kept = alpha * _VARIANCE / (alpha**2 * _VARIANCE + sigma**2)
    of_latents, of_image = {
        "eps": (1 / sigma, -alpha / sigma),
        "v": (alpha / sigma, -(alpha**2) / sigma - sigma),
        "x0": (0 * sigma, 1 + 0 * sigma),
        "flow": (1 / sigma, -alpha / sigma - 1),
    }[kind]
    return torch.stack([of_latents + of_image * kept, of_image * (1 - alpha * kept), of_image * _LEARNT]).float()


def state(index: int) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in randomise(Small("x0"), index).named_parameters()}


def _in_place(model: nn.Module, state: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(state[name])


def _fused(model: nn.Module, state: dict[str, Tensor]) -> None:
    """As peft fuses a LoRA: the version counter does not see it."""
    for name, parameter in model.named_parameters():
        parameter.data += state[name] - parameter.data


def _averaged(model: nn.Module, state: dict[str, Tensor]) -> None:
    """As an EMA is copied to a model."""
    for name, parameter in model.named_parameters():
        parameter.data.copy_(state[name])


def _swapped(model: nn.Module, state: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.data = state[name].to(parameter.dtype).clone()


def _replaced(model: nn.Module, state: dict[str, Tensor]) -> None:
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))
    _in_place(model, state)


CHANGES: dict[str, Callable[[nn.Module, dict[str, Tensor]], Any]] = {
    "in place": _in_place,
    "fused": _fused,
    "averaged": _averaged,
    "swapped": _swapped,
    "replaced": _replaced,
    "loaded": lambda model, state: model.load_state_dict(state, strict=False),
}
