"""Models of our own, one structure each, in plain PyTorch: what stands between stream and feature, and the gate.

`blocks` and `branches` are counted by hand from the architecture, as the comment beside each entry says.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.case import Case, noise

WIDTH, HEADS, CHANNELS = 32, 2, 8


class Clock(nn.Module):
    """Sinusoidal embedding of timesteps of any shape, then an MLP."""

    rates: Tensor

    def __init__(self, width: int = WIDTH, bands: int = 8) -> None:
        super().__init__()
        self.register_buffer("rates", torch.exp(-math.log(10_000.0) * torch.arange(bands) / bands))
        self.learned = nn.Sequential(nn.Linear(2 * bands, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timestep: Tensor) -> Tensor:
        phases = timestep[..., None].float() * self.rates
        return self.learned(torch.cat([phases.cos(), phases.sin()], dim=-1))


class AdaLN(nn.Module):
    """`count` modulations from the embedded timestep."""

    def __init__(self, count: int, width: int = WIDTH) -> None:
        super().__init__()
        self.count = count
        self.project = nn.Linear(width, count * width)

    def forward(self, clock: Tensor) -> tuple[Tensor, ...]:
        return self.project(F.silu(clock)).chunk(self.count, dim=-1)


class Attention(nn.Module):
    """Attention of tokens among themselves, or to a context where one is given."""

    def __init__(self, width: int = WIDTH, context_width: int = WIDTH) -> None:
        super().__init__()
        self.to_q, self.to_kv = nn.Linear(width, width), nn.Linear(context_width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        key, val = self.to_kv(x if context is None else context).chunk(2, dim=-1)
        query, key, val = heads(self.to_q(x)), heads(key), heads(val)
        return self.out(merged(F.scaled_dot_product_attention(query, key, val, attn_mask=mask)))


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(-3, -2)


def merged(x: Tensor) -> Tensor:
    return x.transpose(-3, -2).flatten(-2)


def mlp(width: int = WIDTH) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(approximate="tanh"), nn.Linear(2 * width, width))


def norm(width: int = WIDTH) -> nn.LayerNorm:
    return nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


class Parts(nn.Module):
    """Of the ordinary block."""

    attend: nn.Module

    def __init__(self, feed_forward: Callable[[], nn.Module] = mlp) -> None:
        super().__init__()
        self.ada, self.norm_a, self.norm_b = AdaLN(6), norm(), norm()
        self.attend, self.feed_forward = Attention(), feed_forward()


class Block(Parts):
    """The ordinary block: attention and a feed-forward network, each behind AdaLN and under a gate."""

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = self.ada(clock)
        x = x + gate_a * self.attend(modulate(self.norm_a(x), shift_a, scale_a))
        return x + gate_b * self.feed_forward(modulate(self.norm_b(x), shift_b, scale_b))


class Frame(nn.Module):
    """Blocks between two projections, and what embeds the timestep."""

    def __init__(self, block: Callable[[], nn.Module] = Block, depth: int = 3) -> None:
        super().__init__()
        self.enter, self.clock, self.leave = nn.Linear(CHANNELS, WIDTH), Clock(), nn.Linear(WIDTH, CHANNELS)
        self.blocks = nn.ModuleList(block() for _ in range(depth))

    def embed(self, timestep: Tensor) -> Tensor:
        """[batch, 1, width], or [batch, tokens, width] where every token has a timestep of its own."""
        return self.clock(timestep if timestep.ndim > 1 else timestep[:, None])


class Denoiser(Frame):
    """Tokens in, tokens out, through blocks that see the embedded timestep."""

    def forward(self, latents: Tensor, timestep: Tensor) -> Tensor:
        x, clock = self.enter(latents), self.embed(timestep)
        for block in self.blocks:
            x = block(x, clock)
        return self.leave(x)


def tokens(t: float) -> dict[str, Any]:
    """16 tokens, a timestep a sample."""
    return {"latents": noise(2, 16, CHANNELS), "timestep": torch.full((2,), t)}


def with_text(t: float) -> dict[str, Any]:
    return {**tokens(t), "text": noise(2, 6, WIDTH, seed=1)}


class ParallelBlock(nn.Module):
    """Attention and MLP side by side, one projection into both and one out of both."""

    def __init__(self) -> None:
        super().__init__()
        self.ada, self.norm, self.norm_q, self.norm_k = AdaLN(3), norm(), nn.RMSNorm(16), nn.RMSNorm(16)
        self.into, self.out = nn.Linear(WIDTH, 5 * WIDTH), nn.Linear(3 * WIDTH, WIDTH)

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        shift, scale, gate = self.ada(clock)
        query, key, val, hidden = self.into(modulate(self.norm(x), shift, scale)).split(3 * [WIDTH] + [2 * WIDTH], -1)
        query, key = self.norm_q(heads(query)), self.norm_k(heads(key))
        attended = merged(F.scaled_dot_product_attention(query, key, heads(val)))
        return x + gate * self.out(torch.cat([attended, F.gelu(hidden)], dim=-1))


class LongSkips(Denoiser):
    """A U of blocks: the second half reads, joined by a linear layer, what the first half left."""

    def __init__(self) -> None:
        super().__init__(depth=5)
        self.join = nn.ModuleList(nn.Linear(2 * WIDTH, WIDTH) for _ in range(2))

    def forward(self, latents: Tensor, timestep: Tensor) -> Tensor:
        x, clock, left = self.enter(latents), self.embed(timestep), []
        for block in self.blocks[:2]:
            x = block(x, clock)
            left.append(x)
        x = self.blocks[2](x, clock)
        for join, block in zip(self.join, self.blocks[3:], strict=True):
            x = block(join(torch.cat([x, left.pop()], dim=-1)), clock)
        return self.leave(x)


class SandwichBlock(nn.Module):
    """A norm before and a norm after each body, the gate a tanh, no shift."""

    def __init__(self) -> None:
        super().__init__()
        self.ada, self.attend, self.feed_forward = AdaLN(4), Attention(), mlp()
        self.before_a, self.after_a, self.before_b, self.after_b = (nn.RMSNorm(WIDTH, eps=1e-5) for _ in range(4))

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        scale_a, gate_a, scale_b, gate_b = self.ada(clock)
        x = x + gate_a.tanh() * self.after_a(self.attend(self.before_a(x) * (1 + scale_a)))
        return x + gate_b.tanh() * self.after_b(self.feed_forward(self.before_b(x) * (1 + scale_b)))


class PostNormBlock(nn.Module):
    """Bodies that read the bare stream; the norm and the modulation follow them."""

    def __init__(self) -> None:
        super().__init__()
        self.ada, self.norm_a, self.norm_b = AdaLN(6), norm(), norm()
        self.attend, self.feed_forward = Attention(), mlp()

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = self.ada(clock)
        x = x + gate_a * modulate(self.norm_a(self.attend(x)), shift_a, scale_a)
        return x + gate_b * modulate(self.norm_b(self.feed_forward(x)), shift_b, scale_b)


class TimeToken(Denoiser):
    """No modulation and no gate: the timestep is a token of the sequence."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm_a, self.norm_b = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.attend, self.feed_forward = Attention(), mlp()

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.attend(self.norm_a(x))
            return x + self.feed_forward(self.norm_b(x))

    def __init__(self) -> None:
        super().__init__(TimeToken.Block)

    def forward(self, latents: Tensor, timestep: Tensor) -> Tensor:
        x = torch.cat([self.embed(timestep), self.enter(latents)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.leave(x[:, 1:])


class FrameBlock(Block):
    """Every frame has a timestep: the stream is unfolded into frames where it meets modulation and gate."""

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        frames = (clock.shape[1], -1)
        shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = self.ada(clock[:, :, None])
        y = modulate(self.norm_a(x).unflatten(1, frames), shift_a, scale_a).flatten(1, 2)
        x = x + (self.attend(y).unflatten(1, frames) * gate_a).flatten(1, 2)
        y = modulate(self.norm_b(x).unflatten(1, frames), shift_b, scale_b).flatten(1, 2)
        return x + (self.feed_forward(y).unflatten(1, frames) * gate_b).flatten(1, 2)


class DenseExperts(nn.Module):
    """Every expert computes every token; the routing weights of all but the best two are zero."""

    def __init__(self, experts: int = 4) -> None:
        super().__init__()
        self.route = nn.Linear(WIDTH, experts)
        self.up = nn.Parameter(torch.empty(experts, WIDTH, 48))
        self.down = nn.Parameter(torch.empty(experts, 48, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        odds = self.route(x).softmax(-1)
        best, chosen = odds.topk(2, dim=-1)
        weights = torch.zeros_like(odds).scatter(-1, chosen, best / best.sum(-1, keepdim=True))
        hidden = F.silu(torch.einsum("bnd,edh->bneh", x, self.up))
        return torch.einsum("bneh,ehd,bne->bnd", hidden, self.down, weights)


class RoutedExperts(nn.Module):
    """Every expert computes only the tokens routed to it: how many depends on the data, so Dynamo breaks the graph."""

    def __init__(self, experts: int = 4) -> None:
        super().__init__()
        self.route, self.experts = nn.Linear(WIDTH, experts), nn.ModuleList(mlp() for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        weights, chosen = self.route(flat).softmax(-1).topk(2, dim=-1)
        found = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            rows, rank = (chosen == number).nonzero(as_tuple=True)
            found = found.index_add(0, rows, weights[rows, rank, None] * expert(flat[rows]))
        return found.view_as(x)


class MixFeedForward(nn.Module):
    """Tokens become a grid, and a gated network of convolutions, one of them 3x3 by channel, works on it."""

    def __init__(self, hidden: int = 48) -> None:
        super().__init__()
        self.up, self.down = nn.Conv2d(WIDTH, 2 * hidden, 1), nn.Conv2d(hidden, WIDTH, 1, bias=False)
        self.depthwise = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        side = math.isqrt(x.shape[1])
        grid = F.silu(self.up(x.transpose(1, 2).unflatten(2, (side, side))))
        content, gate = self.depthwise(grid).chunk(2, dim=1)
        return self.down(content * F.silu(gate)).flatten(2).transpose(1, 2)


class MixDenoiser(Frame):
    """Blocks of self-attention, cross-attention without a gate, and a convolutional feed-forward network."""

    class Block(Parts):
        def __init__(self) -> None:
            super().__init__(MixFeedForward)
            self.cross = Attention()

        def forward(self, x: Tensor, clock: Tensor, text: Tensor) -> Tensor:
            shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = self.ada(clock)
            x = x + gate_a * self.attend(modulate(self.norm_a(x), shift_a, scale_a))
            x = x + self.cross(x, text)
            return x + gate_b * self.feed_forward(modulate(self.norm_b(x), shift_b, scale_b))

    def __init__(self) -> None:
        super().__init__(MixDenoiser.Block, depth=2)

    def forward(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        x, clock = self.enter(latents), self.embed(timestep)
        for block in self.blocks:
            x = block(x, clock, text)
        return self.leave(x)


class LinearAttentionBlock(Block):
    """Attention without softmax: keys and values are summed into one small matrix a head."""

    def __init__(self) -> None:
        super().__init__()
        self.attend, self.qkv = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = self.ada(clock)
        query, key, val = map(heads, self.qkv(modulate(self.norm_a(x), shift_a, scale_a)).chunk(3, dim=-1))
        query, key, val = query.relu(), key.relu(), F.pad(val, (0, 1), value=1.0)
        found = query @ (key.transpose(-1, -2) @ val)
        x = x + gate_a * self.attend(merged(found[..., :-1] / (found[..., -1:] + 1e-6)))
        return x + gate_b * self.feed_forward(modulate(self.norm_b(x), shift_b, scale_b))


class WindowBlock(Block):
    """Attention within 2x2 windows of a 4x4 grid, shifted by one in every second block."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift

    def windowed(self, x: Tensor) -> Tensor:
        grid = x.unflatten(1, (4, 4)).roll((-self.shift, -self.shift), dims=(1, 2))
        windows = grid.unflatten(2, (2, 2)).unflatten(1, (2, 2)).transpose(2, 3)
        attended = self.attend(windows.reshape(-1, 4, WIDTH)).view(windows.shape)
        return attended.transpose(2, 3).reshape(grid.shape).roll((self.shift, self.shift), dims=(1, 2)).flatten(1, 2)

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = self.ada(clock)
        x = x + gate_a * self.windowed(modulate(self.norm_a(x), shift_a, scale_a))
        return x + gate_b * self.feed_forward(modulate(self.norm_b(x), shift_b, scale_b))


def shifted_windows() -> nn.Module:
    shifts = iter([0, 1])
    return Denoiser(lambda: WindowBlock(next(shifts)), depth=2)


CASES: dict[str, Case] = {
    # a block is one branch, and its MLP half is token-wise
    "parallel attention and MLP": Case(lambda: Denoiser(ParallelBlock), tokens, branches=3, recomputed=3, blocks=3),
    # per block: attention, MLP; three runs of blocks, each a stream of its own after a join
    "long skips": Case(LongSkips, tokens, branches=5 * 2, recomputed=5, blocks=5),
    # per block from here on: attention, MLP
    "sandwich norm": Case(lambda: Denoiser(SandwichBlock), tokens, branches=3 * 2, recomputed=3, blocks=3),
    "post-norm": Case(lambda: Denoiser(PostNormBlock), tokens, branches=3 * 2, recomputed=3, blocks=3),
    "timestep as a token": Case(TimeToken, tokens, branches=3 * 2, recomputed=3, blocks=3),
    "timestep a token": Case(
        Denoiser,
        lambda t: {"latents": noise(2, 16, CHANNELS), "timestep": torch.full((2, 16), t) * (torch.arange(16) >= 4)},
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    "timestep a frame": Case(
        lambda: Denoiser(FrameBlock),
        lambda t: {"latents": noise(2, 18, CHANNELS), "timestep": torch.full((2, 3), t) * torch.tensor([0.0, 0.5, 1.0])},
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    # per block: attention, experts; routing and experts work token by token
    "dense experts": Case(
        lambda: Denoiser(lambda: Block(DenseExperts)), tokens, branches=3 * 2, recomputed=3, blocks=3,
    ),
    "routed experts": Case(
        lambda: Denoiser(lambda: Block(RoutedExperts), depth=2), tokens, branches=2 * 2, recomputed=2, blocks=2,
        graphs=5, partly="the experts that each token chose run outside of the graphs, so these hold their sum alone",
    ),
    # per block: attention, cross-attention, convolutions; only cross-attention is token-wise
    "convolution in the feed-forward": Case(MixDenoiser, with_text, branches=2 * 3, recomputed=2, blocks=2),
    # per block from here on: attention, MLP
    "linear attention": Case(
        lambda: Denoiser(LinearAttentionBlock), tokens, branches=3 * 2, recomputed=3, blocks=3,
    ),
    "shifted windows": Case(shifted_windows, tokens, branches=2 * 2, recomputed=2, blocks=2),
}  # fmt: skip
