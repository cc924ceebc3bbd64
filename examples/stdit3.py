"""A video diffusion transformer whose blocks attend within frames and along time in turns: STDiT3, as of Open-Sora 1.2.

Written from a description of it (https://github.com/hpcaitech/Open-Sora, `opensora/models/stdit`), in plain PyTorch.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dit import TimestepEmbedder, grid_position_embedding


class SelfAttention(nn.Module):
    """Over the last but one dimension of `[..., tokens, width]`, with normalised queries and keys."""

    rates: Tensor

    def __init__(self, width: int, heads: int, rotary: bool) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        size = width // heads
        self.q_norm, self.k_norm = nn.RMSNorm(size), nn.RMSNorm(size)
        self.register_buffer("rates", torch.exp(-math.log(10_000) * torch.arange(size // 2) / (size // 2)), False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-2, -4).unbind(-2)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary:
            q, k = self.turned(q), self.turned(k)
        return self.proj(F.scaled_dot_product_attention(q, k, v).movedim(-3, -2).flatten(-2))

    def turned(self, x: Tensor) -> Tensor:
        """By an angle that grows with the position (rotary embedding)."""
        angles = torch.arange(x.shape[-2], device=x.device)[:, None] * self.rates
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class CrossAttention(nn.Module):
    """Of `x [B, tokens, width]` to `text [B, words, width]`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q(x), *self.kv(text).chunk(2, dim=-1))
        )
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """Attends within each frame, or, `temporal`, along time at each place; then to the text; then an MLP."""

    def __init__(self, width: int, heads: int, temporal: bool) -> None:
        super().__init__()
        self.temporal = temporal
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = SelfAttention(width, heads, rotary=temporal)
        self.cross = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.table = nn.Parameter(torch.randn(6, width) / width**0.5)

    def forward(self, x: Tensor, modulation: Tensor, text: Tensor, frames: int) -> Tensor:
        """`x [B, frames * places, width]`, `modulation [B, 6, width]`."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.table + modulation).chunk(6, dim=1)
        x = x + gate1 * self.attend(self.norm1(x) * (1 + scale1) + shift1, frames)
        x = x + self.cross(x, text)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)

    def attend(self, x: Tensor, frames: int) -> Tensor:
        grid = x.unflatten(1, (frames, -1))
        if not self.temporal:
            return self.attn(grid).flatten(1, 2)
        return self.attn(grid.transpose(1, 2)).transpose(1, 2).flatten(1, 2)


class STDiT3(nn.Module):
    """Predicts velocity and variance of latents `x [B, channels, frames, height, width]` at timestep `t [B]`.

    `text [B, L, text_width]` is the embedded prompt, of which the first `words` are no padding; `fps [B]`. The patch is
    1 x 2 x 2, and a prediction has twice the channels. `depth`: of pairs, a spatial and a temporal block.
    """

    def __init__(
        self, channels: int = 4, width: int = 1152, depth: int = 28, heads: int = 16, text_width: int = 4096
    ) -> None:
        super().__init__()
        self.embed = nn.Conv3d(channels, width, kernel_size=(1, 2, 2), stride=(1, 2, 2))
        self.time, self.fps = TimestepEmbedder(width), TimestepEmbedder(width)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.caption = nn.Sequential(nn.Linear(text_width, width), nn.GELU(approximate="tanh"), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads, temporal) for _ in range(depth) for temporal in (False, True))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.leave = nn.Linear(width, 4 * 2 * channels)

    def forward(self, x: Tensor, t: Tensor, text: Tensor, words: int, fps: Tensor) -> Tensor:
        grid = self.embed(x)
        width, frames, rows, columns = grid.shape[1:]
        side = max(rows, columns)
        places = grid_position_embedding(width, side).to(x).unflatten(1, (side, side))[:, :rows, :columns]
        tokens = (grid.flatten(3).permute(0, 2, 3, 1) + places.reshape(1, 1, -1, width)).flatten(1, 2)
        clock, prompt = self.time(t) + self.fps(fps), self.caption(text)[:, :words]
        modulation = self.modulation(clock).unflatten(-1, (6, width))
        for block in self.blocks:
            tokens = block(tokens, modulation, prompt, frames)
        shift, scale = (self.table + clock[:, None]).chunk(2, dim=1)
        out = self.leave(self.norm(tokens) * (1 + scale) + shift)
        return (
            out.reshape(len(x), frames, rows, columns, 2, 2, -1).permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)
        )
