"""An architecture at given sizes, and a model of it with all that a generation gives it."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

Call = Callable[[Tensor, float], dict[str, Any]]


@dataclass(frozen=True)
class Subject:
    """A model, its first latents, the arguments that stay over a generation, and those that `moving(x, t)` makes anew."""

    title: str
    model: nn.Module
    latents: Tensor
    fixed: dict[str, Any]
    moving: Call

    def call(self, x: Tensor, t: float) -> dict[str, Any]:
        return self.moving(x, t) | self.fixed

    def on(self, device: str, dtype: torch.dtype) -> "Subject":
        """A copy of it; positions keep their type."""
        model = copy.deepcopy(self.model).to(device, dtype)
        fixed = moved(self.fixed, device, dtype)
        return replace(self, model=model, latents=self.latents.to(device, dtype), fixed=fixed)


@dataclass(frozen=True)
class Shape:
    title: str
    build: Callable[[], nn.Module]
    latents: tuple[int, ...]
    fixed: Callable[[torch.Generator], dict[str, Any]]
    moving: Call

    def subject(self, device: str, dtype: torch.dtype) -> Subject:
        """Weights are drawn where they stay; latents and conditioning are the same on every device."""
        torch.manual_seed(0)
        with torch.device(device):
            model = self.build().to(dtype).eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
        drawn = torch.Generator().manual_seed(1)
        latents = torch.randn(self.latents, generator=drawn).to(device, dtype)
        return Subject(self.title, model, latents, moved(self.fixed(drawn), device, dtype), self.moving)


def moved(fixed: dict[str, Any], device: str, dtype: torch.dtype) -> dict[str, Any]:
    def move(name: str, value: Tensor) -> Tensor:
        cast = value.is_floating_point() and not name.endswith("ids")
        return value.to(device, dtype if cast else value.dtype)

    return {name: move(name, value) if isinstance(value, Tensor) else value for name, value in fixed.items()}


def timesteps(count: int) -> Iterator[float]:
    """So far apart that bfloat16 tells 50 of them from each other."""
    return (980.0 - 900.0 * step / count for step in range(count))


def first(result: Any) -> Tensor:
    """Of what a model gives, the prediction."""
    return result[0] if isinstance(result, tuple) else result


def next_latents(x: Tensor, result: Any) -> Tensor:
    """What a sampler would make of an output of random weights: a small step."""
    return x - 0.01 * first(result)


def grid(*extents: int) -> Tensor:
    """Positions `[tokens, axes]`."""
    return torch.cartesian_prod(*(torch.arange(float(extent)) for extent in extents))
