"""What is measured: models at their published sizes, the same at sizes for a check against the CPU, and tiny ones."""

import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import torch
from torch import Tensor, nn

from dit import DiT
from on_gpu.models import Flux, Wan

Call = Callable[[Tensor, float], dict[str, Tensor]]


@dataclass(frozen=True)
class Subject:
    """A model, its first latents, the arguments that stay over a generation, and those that `moving(x, t)` makes anew."""

    title: str
    model: nn.Module
    latents: Tensor
    fixed: dict[str, Tensor]
    moving: Call

    def call(self, x: Tensor, t: float) -> dict[str, Tensor]:
        return self.moving(x, t) | self.fixed

    def on(self, device: str, dtype: torch.dtype) -> "Subject":
        """A copy of it; positions keep their type."""
        fixed = {name: value.to(device, _dtype(name, value, dtype)) for name, value in self.fixed.items()}
        model = copy.deepcopy(self.model).to(device, dtype)
        return replace(self, model=model, latents=self.latents.to(device, dtype), fixed=fixed)


@dataclass(frozen=True)
class Shape:
    title: str
    build: Callable[[], nn.Module]
    latents: tuple[int, ...]
    fixed: Callable[[torch.Generator], dict[str, Tensor]]
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
        fixed = {name: value.to(device, _dtype(name, value, dtype)) for name, value in self.fixed(drawn).items()}
        return Subject(self.title, model, latents, fixed, self.moving)


def _dtype(name: str, value: Tensor, dtype: torch.dtype) -> torch.dtype:
    return dtype if value.is_floating_point() and name != "ids" else value.dtype


def timesteps(count: int) -> Iterator[float]:
    """So far apart that bfloat16 tells 50 of them from each other."""
    return (980.0 - 900.0 * step / count for step in range(count))


def dit(batch: int, size: int = 32, width: int = 1152, depth: int = 28, heads: int = 16) -> Shape:
    return Shape(
        f"DiT, {depth} blocks, width {width}, {(size // 2) ** 2} tokens, a batch of {batch}",
        lambda: DiT(size=size, patch=2, channels=4, width=width, depth=depth, heads=heads, classes=1000),
        (batch, 4, size, size),
        lambda drawn: {"y": torch.arange(batch)},
        lambda x, t: {"x": x, "t": torch.full((batch,), t, device=x.device)},
    )


def flux(
    double: int, single: int, side: int = 64, text: int = 512, width: int = 3072, heads: int = 24, words: int = 4096
) -> Shape:
    return Shape(
        f"FLUX, {double} + {single} blocks, width {width}, {side**2:,} + {text} tokens",
        lambda: Flux(width, heads, double, single, text=words),
        (1, side**2, 64),
        lambda drawn: {
            "guidance": torch.full((1,), 3.5),
            "pooled": torch.randn(1, 768, generator=drawn),
            "text": torch.randn(1, text, words, generator=drawn),
            "ids": torch.cat([torch.zeros(text, 3), _grid(1, side, side)]),
        },
        lambda x, t: {"hidden_states": x, "timestep": torch.full((1,), t / 1000, device=x.device, dtype=x.dtype)},
    )


def wan(
    depth: int, frames: int = 21, height: int = 30, across: int = 52, width: int = 1536, heads: int = 12,
    hidden: int = 8960, text: int = 512, words: int = 4096,
) -> Shape:  # fmt: skip
    return Shape(
        f"Wan, {depth} blocks, width {width}, {frames * height * across:,} tokens",
        lambda: Wan(width, heads, hidden, depth, text=words),
        (1, 16, frames, 2 * height, 2 * across),
        lambda drawn: {"text": torch.randn(1, text, words, generator=drawn), "ids": _grid(frames, height, across)},
        lambda x, t: {"hidden_states": x, "timestep": torch.full((1,), t, device=x.device)},
    )


def _grid(*extents: int) -> Tensor:
    return torch.cartesian_prod(*(torch.arange(float(extent)) for extent in extents))


PUBLISHED = {"dit2": dit(2), "dit16": dit(16), "flux": flux(3, 6), "short flux": flux(1, 1), "wan": wan(4)}
"""Widths and tokens as published; blocks of FLUX and Wan are fewer, which a step's shares hardly depend on."""

FOR_A_CHECK = {
    "dit2": dit(2, size=16, width=256, depth=4, heads=4),
    "flux": flux(2, 2, side=16, text=64, width=256, heads=4, words=128),
    "wan": wan(3, frames=3, height=8, across=8, width=256, heads=4, hidden=512, text=32, words=128),
}

TINY = {
    "dit2": dit(2, size=8, width=32, depth=1, heads=2),
    "dit16": dit(16, size=8, width=32, depth=1, heads=2),
    "flux": flux(1, 1, side=4, text=8, width=32, heads=2, words=16),
    "short flux": flux(1, 1, side=4, text=8, width=32, heads=2, words=16),
    "wan": wan(1, frames=2, height=4, across=2, width=32, heads=2, hidden=64, text=8, words=16),
}
