"""FLUX and Wan as plain PyTorch has them, block for block and product for product, with random weights."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Clock(nn.Module):
    """Sinusoidal features of numbers `[B]`, then a two-layer MLP: `[B, width]`."""

    def __init__(self, width: int, features: int = 256) -> None:
        super().__init__()
        self.features = features
        self.up, self.down = nn.Linear(features, width), nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        half = self.features // 2
        rates = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
        angles = t[:, None].float() * rates
        features = torch.cat([angles.cos(), angles.sin()], -1)
        return self.down(F.silu(self.up(features.to(self.up.weight.dtype))))


def plain_norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)


def mlp(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """From `[B, heads, tokens, width of a head]` to `[B, tokens, width]`."""
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def angles(positions: Tensor, head: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of rotary embeddings `[tokens, head / 2]`, the axes of `positions [tokens, axes]` side by side."""
    axes = positions.shape[-1]
    share = head // 2 // axes
    sizes = [head // 2 - share * (axes - 1)] + [share] * (axes - 1)
    parts = [
        positions[:, axis, None] * 10_000.0 ** (-torch.arange(size, device=positions.device) / size)
        for axis, size in enumerate(sizes)
    ]
    found = torch.cat(parts, -1)
    return found.cos(), found.sin()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).to(x.dtype)


class Heads(nn.Module):
    """Queries, keys and values, the first two normalised: `[B, heads, tokens, width of a head]`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm, self.k_norm = (nn.RMSNorm(width // heads, eps=1e-6) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.q_norm(q), self.k_norm(k), v


class FluxStream(nn.Module):
    """What a double block has once for the image and once for the text."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 6 * width)
        self.norm1, self.norm2 = plain_norm(width), plain_norm(width)
        self.heads, self.out = Heads(width, heads), nn.Linear(width, width)
        self.mlp = mlp(width, 4 * width)

    def modulate(self, c: Tensor) -> tuple[Tensor, ...]:
        return self.modulation(F.silu(c))[:, None].chunk(6, -1)

    def before(self, x: Tensor, parts: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        return self.heads(self.norm1(x) * (1 + parts[1]) + parts[0])

    def after(self, x: Tensor, mixed: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
        x = x + parts[2] * self.out(mixed)
        return x + parts[5] * self.mlp(self.norm2(x) * (1 + parts[4]) + parts[3])


class FluxDouble(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.image, self.text = FluxStream(width, heads), FluxStream(width, heads)

    def forward(self, x: Tensor, y: Tensor, c: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        x_parts, y_parts = self.image.modulate(c), self.text.modulate(c)
        x_heads, y_heads = self.image.before(x, x_parts), self.text.before(y, y_parts)
        q, k, v = (torch.cat(pair, 2) for pair in zip(y_heads, x_heads, strict=True))
        mixed = attend(rotated(q, cos, sin), rotated(k, cos, sin), v)
        y_mixed, x_mixed = mixed[:, : y.shape[1]], mixed[:, y.shape[1] :]
        return self.image.after(x, x_mixed, x_parts), self.text.after(y, y_mixed, y_parts)


class FluxSingle(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.modulation = plain_norm(width), nn.Linear(width, 3 * width)
        self.heads, self.up = Heads(width, heads), nn.Linear(width, 4 * width)
        self.out = nn.Linear(5 * width, width)

    def forward(self, x: Tensor, c: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(F.silu(c))[:, None].chunk(3, -1)
        y = self.norm(x) * (1 + scale) + shift
        q, k, v = self.heads(y)
        mixed = attend(rotated(q, cos, sin), rotated(k, cos, sin), v)
        return x + gate * self.out(torch.cat([mixed, F.gelu(self.up(y), approximate="tanh")], -1))


class Flux(nn.Module):
    """Blocks with two streams, then blocks with one. FLUX.1 has 19 and 38 of them, width 3072 and 24 heads."""

    def __init__(self, width: int, heads: int, double: int, single: int, text: int = 4096, pooled: int = 768) -> None:
        super().__init__()
        self.head = width // heads
        self.image, self.text = nn.Linear(64, width), nn.Linear(text, width)
        self.time, self.guidance = Clock(width), Clock(width)
        self.pooled = nn.Sequential(nn.Linear(pooled, width), nn.SiLU(), nn.Linear(width, width))
        self.doubles = nn.ModuleList(FluxDouble(width, heads) for _ in range(double))
        self.singles = nn.ModuleList(FluxSingle(width, heads) for _ in range(single))
        self.norm, self.modulation = plain_norm(width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, 64)

    def forward(
        self, hidden_states: Tensor, timestep: Tensor, guidance: Tensor, pooled: Tensor, text: Tensor, ids: Tensor
    ) -> Tensor:
        """Latents `[B, tokens, 64]`, timestep and guidance `[B]`; `ids [text and image tokens, 3]` says where each is."""
        cos, sin = angles(ids, self.head)
        c = self.time(timestep * 1000) + self.guidance(guidance * 1000) + self.pooled(pooled)
        x, y = self.image(hidden_states), self.text(text)
        for block in self.doubles:
            x, y = block(x, y, c, cos, sin)
        joint = torch.cat([y, x], 1)
        for block in self.singles:
            joint = block(joint, c, cos, sin)
        shift, scale = self.modulation(F.silu(c))[:, None].chunk(2, -1)
        return self.out(self.norm(joint[:, y.shape[1] :]) * (1 + scale) + shift)


class WanBlock(nn.Module):
    """Attention over the video, attention to the text without a gate, and an MLP."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 6, width))
        self.norm1, self.norm2, self.norm3 = plain_norm(width), nn.LayerNorm(width, eps=1e-6), plain_norm(width)
        self.heads, self.out = Heads(width, heads), nn.Linear(width, width)
        self.query, self.key_value, self.text_out = (nn.Linear(width, size * width) for size in (1, 2, 1))
        self.mlp = mlp(width, hidden)

    def forward(self, x: Tensor, text: Tensor, parts: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.table + parts).chunk(6, 1)
        q, k, v = self.heads(self.norm1(x) * (1 + scale1) + shift1)
        x = x + gate1 * self.out(attend(rotated(q, cos, sin), rotated(k, cos, sin), v))
        q = self.query(self.norm2(x)).unflatten(-1, (self.heads.heads, -1)).transpose(1, 2)
        k, v = self.key_value(text).unflatten(-1, (2, self.heads.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.text_out(attend(q, k, v))
        return x + gate2 * self.mlp(self.norm3(x) * (1 + scale2) + shift2)


class Wan(nn.Module):
    """Wan 2.1 1.3B has 30 blocks, width 1536, 12 heads and 8960 hidden features; patches are of 1 x 2 x 2."""

    def __init__(self, width: int, heads: int, hidden: int, depth: int, text: int = 4096) -> None:
        super().__init__()
        self.head = width // heads
        self.patches = nn.Conv3d(16, width, (1, 2, 2), (1, 2, 2))
        self.text = nn.Sequential(nn.Linear(text, width), nn.GELU(approximate="tanh"), nn.Linear(width, width))
        self.time, self.modulation = Clock(width), nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(WanBlock(width, heads, hidden) for _ in range(depth))
        self.norm, self.table = plain_norm(width), nn.Parameter(torch.randn(1, 2, width))
        self.out = nn.Linear(width, 64)

    def forward(self, hidden_states: Tensor, timestep: Tensor, text: Tensor, ids: Tensor) -> Tensor:
        """Latents `[B, 16, frames, height, width]`, timestep `[B]`, text `[B, words, features]`, `ids [tokens, 3]`."""
        cos, sin = angles(ids, self.head)
        patches = self.patches(hidden_states)
        batch, _, frames, height, width = patches.shape
        x, y, c = patches.flatten(2).transpose(1, 2), self.text(text), self.time(timestep)
        parts = self.modulation(F.silu(c)).unflatten(-1, (6, -1))
        for block in self.blocks:
            x = block(x, y, parts, cos, sin)
        shift, scale = (self.table + c[:, None]).chunk(2, 1)
        x = self.out(self.norm(x) * (1 + scale) + shift).view(batch, frames, height, width, 2, 2, 16)
        return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(hidden_states.shape)
