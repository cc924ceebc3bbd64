"""DiT-XL/2, FLUX and Wan 1.3B in plain PyTorch, at any sizes."""

import torch

from dit import DiT
from models.networks import Flux, Wan
from models.shapes import Shape, grid


def dit(batch: int, size: int = 32, width: int = 1152, depth: int = 28, heads: int = 16) -> Shape:
    """DiT-XL/2 by default. `size` is of the latents, of which 2 x 2 make a token."""
    return Shape(
        f"DiT, {depth} blocks, width {width}, {(size // 2) ** 2:,} tokens, a batch of {batch}",
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
            "ids": torch.cat([torch.zeros(text, 3), grid(1, side, side)]),
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
        lambda drawn: {"text": torch.randn(1, text, words, generator=drawn), "ids": grid(frames, height, across)},
        lambda x, t: {"hidden_states": x, "timestep": torch.full((1,), t, device=x.device)},
    )
