"""A small class-conditional diffusion transformer (DiT, arXiv 2212.09748) with adaLN-Zero conditioning."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class TimestepEmbedder(nn.Module):
    """Sinusoidal features of the timestep `[B]`, then a two-layer MLP: `[B, width]`."""

    rates: Tensor

    def __init__(self, width: int, frequencies: int = 128) -> None:
        super().__init__()
        self.register_buffer("rates", torch.exp(-math.log(10_000) * torch.arange(frequencies) / frequencies), False)
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None].float() * self.rates
        features = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.mlp(features.to(self.rates.dtype))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_ratio * width), nn.GELU(approximate="tanh"), nn.Linear(mlp_ratio * width, width)
        )
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
        x = x + gate1.unsqueeze(1) * self.attn(modulate(self.norm1(x), shift1, scale1))
        x = x + gate2.unsqueeze(1) * self.mlp(modulate(self.norm2(x), shift2, scale2))
        return x


class FinalLayer(nn.Module):
    def __init__(self, width: int, out_features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.linear = nn.Linear(width, out_features)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.modulation(c).chunk(2, dim=-1)
        return self.linear(modulate(self.norm(x), shift, scale))


def grid_position_embedding(width: int, side: int) -> Tensor:
    """Fixed sine-cosine embedding of a `side x side` grid: `[1, side * side, width]`."""
    rates = torch.exp(-math.log(10_000) * torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * rates
    axis = torch.cat([angles.sin(), angles.cos()], dim=-1)
    rows = axis[:, None].expand(side, side, -1)
    columns = axis[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=-1).reshape(1, side * side, width)


class DiT(nn.Module):
    """Predicts the diffusion target for an image `x [B, channels, size, size]` at timestep `t [B]` and label `y [B]`.

    Label `classes` is the empty label of classifier-free guidance. The prediction has the shape of `x`.
    """

    def __init__(
        self,
        size: int = 28,
        patch: int = 2,
        channels: int = 1,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.channels, self.patch, self.side = channels, patch, size // patch
        self.embed = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.register_buffer("positions", grid_position_embedding(width, self.side), False)
        self.time = TimestepEmbedder(width)
        self.label = nn.Embedding(classes + 1, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.final = FinalLayer(width, patch * patch * channels)
        self.initialise()

    def initialise(self) -> None:
        """adaLN-Zero: every block starts as the identity, the output as zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.label.weight, std=0.02)
        for block in self.blocks:
            nn.init.zeros_(block.get_parameter("modulation.1.weight"))
        nn.init.zeros_(self.final.get_parameter("modulation.1.weight"))
        nn.init.zeros_(self.final.linear.weight)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.positions
        c = self.time(t) + self.label(y)
        for block in self.blocks:
            tokens = block(tokens, c)
        return self.unpatchify(self.final(tokens, c))

    def unpatchify(self, tokens: Tensor) -> Tensor:
        batch = tokens.shape[0]
        grid = tokens.reshape(batch, self.side, self.side, self.patch, self.patch, self.channels)
        return grid.permute(0, 5, 1, 3, 2, 4).reshape(batch, self.channels, self.side * self.patch, -1)
