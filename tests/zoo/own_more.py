"""More models of our own: where the stream lies and how it is laid out, what calls the blocks, and what surrounds them.

`blocks` and `branches` are counted by hand from the architecture, as the comment beside each entry says.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from zoo.case import Case, noise
from zoo.own import (
    CHANNELS,
    HEADS,
    WIDTH,
    AdaLN,
    Attention,
    Block,
    Clock,
    Denoiser,
    Frame,
    Parts,
    heads,
    merged,
    mlp,
    modulate,
    norm,
    tokens,
    with_text,
)


class SpaceTime(Denoiser):
    """Blocks over the tokens of a frame, then over the frames of a token: the stream itself moves between the two."""

    frames = 3

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.within, self.across = Block(), Block()

        def forward(self, x: Tensor, clock: Tensor, frames: int) -> Tensor:
            """`x` is [batch * frames, tokens, width]."""
            total, count, width = x.shape
            batch = total // frames
            x = self.within(x, clock.repeat_interleave(frames, 0))
            x = x.reshape(batch, frames, count, width).permute(0, 2, 1, 3).reshape(batch * count, frames, width)
            x = self.across(x, clock.repeat_interleave(count, 0))
            return x.reshape(batch, count, frames, width).permute(0, 2, 1, 3).reshape(total, count, width)

    def __init__(self) -> None:
        super().__init__(SpaceTime.Block, depth=2)

    def forward(self, latents: Tensor, timestep: Tensor) -> Tensor:
        x, clock = self.enter(latents.flatten(0, 1)), self.embed(timestep)
        for block in self.blocks:
            x = block(x, clock, self.frames)
        return self.leave(x).view(latents.shape)


class GridBlock(Block):
    """The stream is [batch, height, width, features]; attention alone flattens it."""

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = self.ada(clock[:, None])
        y = self.attend(modulate(self.norm_a(x), shift_a, scale_a).flatten(1, 2)).view(x.shape)
        x = x + gate_a * y
        return x + gate_b * self.feed_forward(modulate(self.norm_b(x), shift_b, scale_b))


class Volume(Frame):
    """The stream is [batch, frames, height, width, features], and attends to itself and to a text."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ada, self.attend, self.cross, self.feed_forward = AdaLN(9), Attention(), Attention(), mlp()
            self.norms = nn.ModuleList(norm() for _ in range(3))

        def forward(self, x: Tensor, clock: Tensor, text: Tensor) -> Tensor:
            changes = self.ada(clock[:, None, None])
            y = modulate(self.norms[0](x), *changes[:2]).flatten(1, 3)
            x = x + changes[2] * self.attend(y).view(x.shape)
            y = modulate(self.norms[1](x), *changes[3:5]).flatten(1, 3)
            x = x + changes[5] * self.cross(y, text).view(x.shape)
            return x + changes[8] * self.feed_forward(modulate(self.norms[2](x), *changes[6:8]))

    def __init__(self) -> None:
        super().__init__(Volume.Block)

    def forward(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        x, clock = self.enter(latents), self.embed(timestep)
        for block in self.blocks:
            x = block(x, clock, text)
        return self.leave(x)


class ChannelsFirst(nn.Module):
    """The stream is an image [batch, features, height, width]; all projections are 1x1 convolutions."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ada = Columns(AdaLN(6))
            self.qkv, self.out = nn.Conv2d(WIDTH, 3 * WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1)
            self.up, self.down = nn.Conv2d(WIDTH, 64, 1), nn.Conv2d(64, WIDTH, 1)

        def attend(self, x: Tensor) -> Tensor:
            query, key, val = self.qkv(x).flatten(2).unflatten(1, (3, HEADS, -1)).transpose(-1, -2).unbind(1)
            return self.out(F.scaled_dot_product_attention(query, key, val).transpose(-1, -2).reshape(x.shape))

        def forward(self, x: Tensor, clock: Tensor) -> Tensor:
            changes = self.ada(clock)
            x = x + changes[2] * self.attend(modulate(channel_norm(x), *changes[:2]))
            return x + changes[5] * self.down(F.silu(self.up(modulate(channel_norm(x), *changes[3:5]))))

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(4, WIDTH, 1), nn.Conv2d(WIDTH, 4, 1)
        self.clock, self.blocks = Clock(), nn.ModuleList(ChannelsFirst.Block() for _ in range(3))

    def forward(self, latents: Tensor, timestep: Tensor) -> Tensor:
        x, clock = self.enter(latents), self.clock(timestep)
        for block in self.blocks:
            x = block(x, clock)
        return self.leave(x)


class Columns(nn.Module):
    """Modulations as [batch, width, 1, 1]."""

    def __init__(self, inner: AdaLN) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, clock: Tensor) -> tuple[Tensor, ...]:
        return tuple(change[..., None, None] for change in self.inner(clock))


def channel_norm(x: Tensor) -> Tensor:
    return x * (x.square().mean(1, keepdim=True) + 1e-6).rsqrt()


class TwoThenOne(Frame):
    """Image and text are two streams with attention in common, then one sequence."""

    class Double(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ada = nn.ModuleList(AdaLN(6) for _ in range(2))
            self.qkv = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))
            self.out = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
            self.feed_forward, self.norm = nn.ModuleList(mlp() for _ in range(2)), norm()

        def forward(self, streams: list[Tensor], clock: Tensor) -> list[Tensor]:
            changes = [ada(clock) for ada in self.ada]
            sides = list(zip(streams, changes, strict=True))
            read = [modulate(self.norm(x), *change[:2]) for x, change in sides]
            joint = torch.cat([qkv(x) for qkv, x in zip(self.qkv, read, strict=True)], dim=1)
            query, key, val = map(heads, joint.chunk(3, dim=-1))
            attended = merged(F.scaled_dot_product_attention(query, key, val))
            parts = attended.split([x.shape[1] for x in streams], dim=1)
            streams = [x + change[2] * out(part) for (x, change), out, part in zip(sides, self.out, parts, strict=True)]
            return [
                x + change[5] * feed_forward(modulate(self.norm(x), *change[3:5]))
                for x, change, feed_forward in zip(streams, changes, self.feed_forward, strict=True)
            ]

    def __init__(self) -> None:
        super().__init__(depth=2)
        self.doubles = nn.ModuleList(TwoThenOne.Double() for _ in range(2))

    def forward(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        streams, clock = [self.enter(latents), text], self.embed(timestep)
        for double in self.doubles:
            streams = double(streams, clock)
        x = torch.cat(streams, dim=1)
        for block in self.blocks:
            x = block(x, clock)
        return self.leave(x[:, : latents.shape[1]])


class RefinedText(Frame):
    """A transformer of its own refines the text, which then leads the sequence of the main blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.refiner = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, batch_first=True, norm_first=True), 2,
            enable_nested_tensor=False,
        )  # fmt: skip

    def forward(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        x, clock = torch.cat([self.refiner(text), self.enter(latents)], dim=1), self.embed(timestep)
        for block in self.blocks:
            x = block(x, clock)
        return self.leave(x[:, text.shape[1] :])


class TwoHeads(Frame):
    """Noise and log-variance from two heads, the second with a hidden layer and a norm that both share."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.ada = norm(), AdaLN(2)
        self.variance = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, CHANNELS))

    def forward(self, latents: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        x, clock = self.enter(latents), self.embed(timestep)
        for block in self.blocks:
            x = block(x, clock)
        x = modulate(self.norm(x), *self.ada(clock))
        return self.leave(x), self.variance(x)


class Packed(Frame):
    """Samples of unequal length, packed into one sequence [tokens, channels]; the mask keeps them apart."""

    class Block(Parts):
        def forward(self, x: Tensor, clock: Tensor, mask: Tensor) -> Tensor:
            shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = self.ada(clock)
            x = x + gate_a * self.attend(modulate(self.norm_a(x), shift_a, scale_a), mask=mask)
            return x + gate_b * self.feed_forward(modulate(self.norm_b(x), shift_b, scale_b))

    def __init__(self) -> None:
        super().__init__(Packed.Block)

    def forward(self, latents: Tensor, timestep: Tensor, starts: Tensor) -> Tensor:
        """`starts` are the first tokens of the samples and the end of the last, `timestep` one a sample."""
        sample = torch.bucketize(torch.arange(latents.shape[0]), starts[1:], right=True)
        mask, clock = sample[:, None] == sample, self.clock(timestep)[sample]
        x = self.enter(latents)
        for block in self.blocks:
            x = block(x, clock, mask)
        return self.leave(x)


class Dictionaries(nn.Module):
    """No class for a block: a dictionary of layers each, called by keyword from one loop."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = nn.ModuleDict({"enter": nn.Linear(CHANNELS, WIDTH), "leave": nn.Linear(WIDTH, CHANNELS)})
        self.clock = Clock()
        self.layers: Any = nn.ModuleList(
            nn.ModuleDict({
                "ada": AdaLN(9), "self": Attention(), "cross": Attention(context_width=24), "mlp": mlp(), "norm": norm(),
            })
            for _ in range(3)
        )  # fmt: skip

    def forward(self, *, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        x, clock = self.ends["enter"](input=latents), self.clock(timestep=timestep)[:, None]
        for layer in self.layers:
            changes = layer["ada"](clock=clock)
            for at, (name, given) in enumerate({"self": {}, "cross": {"context": text}, "mlp": {}}.items()):
                shift, scale, gate = changes[3 * at : 3 * at + 3]
                y = modulate(x=layer["norm"](input=x), shift=shift, scale=scale)
                x = x + gate * (layer[name](input=y) if name == "mlp" else layer[name](x=y, **given))
        return self.ends["leave"](input=x)


class Recurrent(Denoiser):
    """One block, applied three times."""

    def __init__(self) -> None:
        super().__init__(depth=1)

    def forward(self, latents: Tensor, timestep: Tensor) -> Tensor:
        x, clock = self.enter(latents), self.embed(timestep)
        for _ in range(3):
            x = self.blocks[0](x, clock)
        return self.leave(x)


class EinsumBlock(nn.Module):
    """Every product an einsum, over weights with an axis for the heads, and the softmax by hand."""

    def __init__(self, size: int = WIDTH // HEADS) -> None:
        super().__init__()
        self.ada, self.norm = AdaLN(6), norm()
        self.qkv = nn.Parameter(torch.empty(3, WIDTH, HEADS, size))
        self.out = nn.Parameter(torch.empty(HEADS, size, WIDTH))
        self.up, self.down = nn.Parameter(torch.empty(WIDTH, 64)), nn.Parameter(torch.empty(64, WIDTH))

    def attend(self, x: Tensor) -> Tensor:
        query, key, val = torch.einsum("bnd,cdhe->cbnhe", x, self.qkv)
        logits = torch.einsum("bqhe,bkhe->bhqk", query, key) / math.sqrt(query.shape[-1])
        weights = (logits - logits.amax(-1, keepdim=True)).exp()
        weights = weights / weights.sum(-1, keepdim=True)
        return torch.einsum("bhqk,bkhe,hed->bqd", weights, val, self.out)

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = self.ada(clock)
        x = x + gate_a * self.attend(modulate(self.norm(x), shift_a, scale_a))
        hidden = torch.einsum("bnd,dh->bnh", modulate(self.norm(x), shift_b, scale_b), self.up)
        return x + gate_b * torch.einsum("bnh,hd->bnd", F.gelu(hidden), self.down)


@torch.library.custom_op("flash_attn_test::_flash_attn_forward", mutates_args=())
def flash_attention(query: Tensor, key: Tensor, val: Tensor, softmax_scale: float) -> tuple[Tensor, Tensor]:
    """Stands for a kernel the compiler cannot see into: [batch, tokens, heads, features] and the log of the sums."""
    query, key, val = (side.transpose(1, 2) for side in (query, key, val))
    found = F.scaled_dot_product_attention(query, key, val, scale=softmax_scale)
    return found.transpose(1, 2).contiguous(), (query @ key.transpose(-1, -2) * softmax_scale).logsumexp(-1)


@flash_attention.register_fake
def _(query: Tensor, key: Tensor, val: Tensor, softmax_scale: float) -> tuple[Tensor, Tensor]:
    batch, count, number, _ = query.shape
    return query.new_empty(query.shape), query.new_empty(batch, number, count)


class FlashAttention(nn.Module):
    """Attention behind a custom op."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        query, key, val = self.qkv(x).unflatten(-1, (3, HEADS, -1)).unbind(-3)
        return self.out(flash_attention(query, key, val, query.shape[-1] ** -0.5)[0].flatten(2))


class FlexAttention(FlashAttention):
    """flex_attention with a score of its own: nearby tokens weigh more."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, val = map(heads, self.qkv(x).chunk(3, dim=-1))
        return self.out(merged(flex_attention(query, key, val, score_mod=nearby)))


class BlockMaskAttention(FlashAttention):
    """flex_attention under a block mask made in the forward pass: tokens attend within their half."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, val = map(heads, self.qkv(x).chunk(3, dim=-1))
        mask = create_block_mask(same_half, None, None, x.shape[1], x.shape[1], device=x.device)
        return self.out(merged(flex_attention(query, key, val, block_mask=mask)))


def nearby(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return score - (query - key).abs() / 4


def same_half(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return query // 8 == key // 8


class OtherAttention(Block):
    """The ordinary block with another self-attention."""

    def __init__(self, attention: type[nn.Module]) -> None:
        super().__init__()
        self.attend = attention()


class FilmBlock(nn.Module):
    """Shift and scale only; every sum is scaled back to unit variance."""

    def __init__(self) -> None:
        super().__init__()
        self.ada, self.norm_a, self.norm_b = AdaLN(4), norm(), norm()
        self.attend, self.feed_forward = Attention(), mlp()

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        shift_a, scale_a, shift_b, scale_b = self.ada(clock)
        x = (x + self.attend(modulate(self.norm_a(x), shift_a, scale_a))) / math.sqrt(2)
        return (x + self.feed_forward(modulate(self.norm_b(x), shift_b, scale_b))) / math.sqrt(2)


class MeanFlow(Frame):
    """The average velocity from `timestep` down to `until`: a clock for the time and one for the span."""

    def __init__(self) -> None:
        super().__init__()
        self.span = Clock()

    def forward(self, latents: Tensor, timestep: Tensor, until: Tensor) -> Tensor:
        x, clock = self.enter(latents), self.embed(timestep) + self.span(timestep - until)[:, None]
        for block in self.blocks:
            x = block(x, clock)
        return self.leave(x)


class Inpainting(Frame):
    """Tokens outside a mask keep their value in every block."""

    class Block(Parts):
        def forward(self, x: Tensor, clock: Tensor, mask: Tensor) -> Tensor:
            shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = self.ada(clock)
            y = gate_a * self.attend(modulate(self.norm_a(x), shift_a, scale_a))
            x = torch.where(mask, x + y, x)
            y = gate_b * self.feed_forward(modulate(self.norm_b(x), shift_b, scale_b))
            return torch.where(mask, x + y, x)

    def __init__(self) -> None:
        super().__init__(Inpainting.Block)

    def forward(self, latents: Tensor, timestep: Tensor, mask: Tensor) -> Tensor:
        x, clock = self.enter(latents), self.embed(timestep)
        for block in self.blocks:
            x = block(x, clock, mask[..., None])
        return self.leave(x)


class Modalities(Frame):
    """Every token looks its modulation up by its modality, in a table that the timestep moves."""

    class Block(Parts):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.empty(3, 6 * WIDTH))

        def forward(self, x: Tensor, clock: Tensor, modality: Tensor) -> Tensor:
            table = self.table + self.ada.project(F.silu(clock))
            rows = table.index_select(1, modality).chunk(6, dim=-1)
            x = x + rows[2] * self.attend(modulate(self.norm_a(x), *rows[:2]))
            return x + rows[5] * self.feed_forward(modulate(self.norm_b(x), *rows[3:5]))

    def __init__(self) -> None:
        super().__init__(Modalities.Block)

    def forward(self, latents: Tensor, timestep: Tensor, modality: Tensor) -> Tensor:
        x, clock = self.enter(latents), self.embed(timestep)
        for block in self.blocks:
            x = block(x, clock, modality)
        return self.leave(x)


class MixedStreams(Denoiser):
    """Attention writes to one stream and the MLP to another; each reads both, and learned scalars mix them."""

    class Block(Parts):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.read = nn.Parameter(torch.empty(2, 2)), nn.Parameter(torch.empty(2, 2))

        def forward(self, a: Tensor, b: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
            shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = self.ada(clock)
            both = self.norm_a(self.read[0, 0] * a + self.read[0, 1] * b)
            a = a + gate_a * self.attend(modulate(both, shift_a, scale_a))
            both = self.norm_b(self.read[1, 0] * a + self.read[1, 1] * b)
            b = b + gate_b * self.feed_forward(modulate(both, shift_b, scale_b))
            return self.mix[0, 0] * a + self.mix[0, 1] * b, self.mix[1, 0] * a + self.mix[1, 1] * b

    def __init__(self) -> None:
        super().__init__(MixedStreams.Block)

    def forward(self, latents: Tensor, timestep: Tensor) -> Tensor:
        a = b = self.enter(latents)
        clock = self.embed(timestep)
        for block in self.blocks:
            a, b = block(a, b, clock)
        return self.leave(a + b)


class HyperConnections(Denoiser):
    """Two copies of the stream: a body reads one mixture of them, and its result is added to others."""

    class Connection(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read, self.mix, self.write = (nn.Parameter(torch.empty(size)) for size in [(2,), (2, 2), (2,)])

    class Block(Block):
        def __init__(self) -> None:
            super().__init__()
            self.connections: Any = nn.ModuleList(HyperConnections.Connection() for _ in range(2))

        def forward(self, streams: Tensor, clock: Tensor) -> Tensor:
            """`streams` is [2, batch, tokens, width]."""
            changes, bodies = self.ada(clock), (self.attend, self.feed_forward)
            for at, (body, connection) in enumerate(zip(bodies, self.connections, strict=True)):
                shift, scale, gate = changes[3 * at : 3 * at + 3]
                x = torch.einsum("s,sbnd->bnd", connection.read, streams)
                y = gate * body(modulate(self.norm_a(x), shift, scale))
                mixed = torch.einsum("rs,sbnd->rbnd", connection.mix, streams)
                streams = mixed + connection.write[:, None, None, None] * y
            return streams

    def __init__(self) -> None:
        super().__init__(HyperConnections.Block)

    def forward(self, latents: Tensor, timestep: Tensor) -> Tensor:
        streams, clock = self.enter(latents).expand(2, -1, -1, -1), self.embed(timestep)
        for block in self.blocks:
            streams = block(streams, clock)
        return self.leave(streams.sum(0))


def _image(t: float) -> dict[str, Any]:
    return {"latents": noise(2, 4, 4, 4), "timestep": torch.full((2,), t)}


CASES: dict[str, Case] = {
    # per layer: attention and MLP over the tokens of a frame, then both over the frames of a token
    "space and time": Case(
        SpaceTime, lambda t: {"latents": noise(2, 3, 8, CHANNELS), "timestep": torch.full((2,), t)},
        branches=2 * 4, recomputed=2 * 2, blocks=2,
    ),
    # per block: attention, MLP
    "grid": Case(
        lambda: Denoiser(GridBlock), lambda t: {"latents": noise(2, 4, 4, CHANNELS), "timestep": torch.full((2,), t)},
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    # per block: self-attention, cross-attention, MLP; the last two are token-wise
    "volume": Case(
        Volume,
        lambda t: {
            "latents": noise(2, 2, 3, 4, CHANNELS), "timestep": torch.full((2,), t), "text": noise(2, 6, WIDTH, seed=1),
        },
        branches=3 * 3, recomputed=3 * 2, blocks=3,
    ),
    # per block: attention, MLP
    "channels first": Case(ChannelsFirst, _image, branches=3 * 2, recomputed=3, blocks=3),
    # double block: attention and MLP in both streams; single block: attention, MLP
    "two streams, then one": Case(
        TwoThenOne, with_text, branches=2 * 4 + 2 * 2, recomputed=2 * 2 + 2, blocks=2 + 2,
    ),
    # per main block: attention, MLP; the refiner never sees the latents
    "refined text": Case(RefinedText, with_text, branches=3 * 2, recomputed=3, blocks=3),
    # per block from here on, where nothing else is said: attention, MLP
    "two heads": Case(TwoHeads, tokens, branches=3 * 2, recomputed=3, blocks=3),
    "packed": Case(
        Packed,
        lambda t: {
            "latents": noise(24, CHANNELS), "timestep": torch.full((2,), t), "starts": torch.tensor([0, 10, 24]),
        },
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    # per layer: self-attention, cross-attention, MLP
    "dictionaries": Case(
        Dictionaries, lambda t: {**tokens(t), "text": noise(2, 6, 24, seed=1)},
        branches=3 * 3, recomputed=3 * 2, blocks=3,
    ),
    "one block three times": Case(Recurrent, tokens, branches=3 * 2, recomputed=3, blocks=3),
    "einsum": Case(lambda: Denoiser(EinsumBlock), tokens, branches=3 * 2, recomputed=3, blocks=3),
    "custom op": Case(
        lambda: Denoiser(lambda: OtherAttention(FlashAttention)), tokens,
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    "flex_attention": Case(
        lambda: Denoiser(lambda: OtherAttention(FlexAttention)), tokens,
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    "flex_attention, block mask": Case(
        lambda: Denoiser(lambda: OtherAttention(BlockMaskAttention)), tokens,
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    "FiLM, scaled sums": Case(lambda: Denoiser(FilmBlock), tokens, branches=3 * 2, recomputed=3, blocks=3),
    "mean flow": Case(
        MeanFlow, lambda t: {**tokens(t), "until": torch.zeros(2)}, branches=3 * 2, recomputed=3, blocks=3,
    ),
    "masked residual": Case(
        Inpainting, lambda t: {**tokens(t), "mask": (torch.arange(32).view(2, 16) % 3) > 0},
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    "gates by modality": Case(
        Modalities, lambda t: {**tokens(t), "modality": torch.arange(16) // 6},
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    # per block: attention into the first stream, MLP into the second
    "mixed streams": Case(MixedStreams, tokens, branches=3 * 2, recomputed=3, blocks=3),
    # per block: attention, MLP, each added to both copies at once
    "hyper-connections": Case(
        HyperConnections, tokens, branches=3 * 2, recomputed=3, blocks=3,
        refusal="no residual branch `x + gate * f(x)`",
    ),
}  # fmt: skip
