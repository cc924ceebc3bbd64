"""One residual addition of a random model: norm, modulation, body, gate."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from random_dit.bodies import BODIES
from random_dit.layouts import Heard, Layout, Weights

NORMS = ("layer", "rms", "by hand", "none", "post", "sandwich")
MODULATIONS = ("scale and shift", "shift", "scale", "split in two ways", "none")
ISLANDS = ("none", "residual in float64", "body in bfloat16")
WHERE = ("image", "both", "joint")


@dataclass(frozen=True)
class Part:
    """One residual addition. `where`: to the image stream, to both streams by two bodies, or to both by one body over
    the two joined, its result sliced."""

    body: str
    norm: str
    modulation: str
    gate: str
    island: str
    where: str
    in_place: bool


@dataclass(frozen=True)
class Stream:
    """`e` is the timestep's embedding, `[batch, features]` or `[batch, tokens, features]`."""

    x: Tensor
    layout: Layout
    e: Tensor


class PartModule(nn.Module):
    """One residual addition, to one stream."""

    def __init__(self, part: Part, features: int, tokens: int) -> None:
        super().__init__()
        self.part, self.weights = part, Weights(features, tokens)

    def prepared(self, stream: Stream) -> tuple[Tensor, Tensor]:
        """The body's input, normalised and modulated, and the gate."""
        layout, how = stream.layout, self.part.modulation
        chunks = self.weights.modulate(stream.e)
        kind = {"sandwich": "rms", "post": "none"}.get(self.part.norm, self.part.norm)
        y = normalised(stream.x, kind, layout)
        shift, scale, gate = (layout.over_tokens(e) for e in chunks.chunk(3, -1))
        if how == "split in two ways":
            y = y * (1 + layout.over_tokens(chunks.chunk(2, -1)[0][..., -1:]))
        if how in ("scale and shift", "scale"):
            y = y * (1 + scale)
        if how in ("scale and shift", "shift"):
            y = y + shift
        return y, gate

    def feature(self, y: Tensor, layout: Layout, heard: Heard) -> Tensor:
        inner = y.to(heard.narrow) if self.part.island == "body in bfloat16" else y
        heard.in_place = self.part.in_place
        feature = BODIES[self.part.body](self.weights, inner, layout, heard).to(y.dtype)
        heard.features.append(layout.flat(feature))
        return normalised(feature, "rms", layout) if self.part.norm == "sandwich" else feature

    def added(self, stream: Stream, feature: Tensor, gate: Tensor) -> Stream:
        x, dtype = stream.x, stream.x.dtype
        if self.part.island == "residual in float64":
            x, feature = x.double(), feature.double()
        if self.part.in_place and self.part.gate == "vector":
            x += gate * feature
        else:
            x = GATES[self.part.gate](x, feature, gate.to(x.dtype), self, stream)
        x = x.to(dtype)
        return replace(stream, x=normalised(x, "layer", stream.layout) if self.part.norm == "post" else x)

    def forward(self, stream: Stream, heard: Heard) -> Stream:
        y, gate = self.prepared(stream)
        return self.added(stream, self.feature(y, stream.layout, heard), gate)

    def over_all_tokens(self, table: Tensor, stream: Stream) -> Tensor:
        """Rows of a table, one a token, laid out as the stream is."""
        layout = stream.layout
        return layout.laid(table[: layout.tokens].expand(layout.batch or 1, -1, -1))

    def from_stream(self, stream: Stream) -> Tensor:
        """A gate by squeeze and excitation."""
        layout = stream.layout
        return layout.over_tokens(self.weights.squeeze(layout.flat(stream.x).mean(1)).sigmoid())

    def where(self, then: Tensor, stream: Stream) -> Tensor:
        mask = self.over_all_tokens(self.weights.mask[:, None].expand(-1, stream.e.shape[-1]), stream)
        return torch.where(mask, then, torch.zeros_like(then))


def normalised(x: Tensor, kind: str, layout: Layout) -> Tensor:
    if kind == "none":
        return x
    y = x.movedim(layout.feature_dim, -1)
    if kind == "layer":
        y = functional.layer_norm(y, y.shape[-1:])
    elif kind == "rms":
        y = functional.rms_norm(y, y.shape[-1:])
    else:
        y = (y - y.mean(-1, keepdim=True)) * torch.rsqrt(y.var(-1, keepdim=True) + 1e-5)
    return y.movedim(-1, layout.feature_dim)


Gate = Callable[[Tensor, Tensor, Tensor, PartModule, Stream], Tensor]
GATES: dict[str, Gate] = {
    "none": lambda x, f, g, w, s: x + f,
    "vector": lambda x, f, g, w, s: x + g * f,
    "swapped": lambda x, f, g, w, s: f * g + x,
    "tanh": lambda x, f, g, w, s: x + g.tanh() * f,
    "one minus": lambda x, f, g, w, s: x + (1 - g.sigmoid()) * f,
    "per token": lambda x, f, g, w, s: x + (g + w.over_all_tokens(w.weights.places, s)).sigmoid() * f,
    "clamped sum": lambda x, f, g, w, s: (x + g * f).clamp(-3, 3),
    "clamped body": lambda x, f, g, w, s: x + (g * f).clamp(-1, 1),
    "addcmul": lambda x, f, g, w, s: torch.addcmul(x, g, f),
    "addcmul with a value": lambda x, f, g, w, s: torch.addcmul(x, f, g.expand_as(f), value=0.5),
    "alpha": lambda x, f, g, w, s: torch.add(x, g * f, alpha=0.5),
    "alpha on the stream": lambda x, f, g, w, s: torch.add(g * f, x, alpha=0.9),
    "constant": lambda x, f, g, w, s: x + 0.7 * f,
    "divided": lambda x, f, g, w, s: x + f / 1.4,
    "where on the gate": lambda x, f, g, w, s: x + w.where(g, s) * f,
    "where on the body": lambda x, f, g, w, s: x + w.where(g * f, s),
    "from the stream": lambda x, f, g, w, s: x + w.from_stream(s) * f,
    "twice": lambda x, f, g, w, s: (x + g * f) * (x + g.tanh() * f).sigmoid(),
    "subtracted": lambda x, f, g, w, s: x - g * f,
    "lerp": lambda x, f, g, w, s: torch.lerp(x, f, g.sigmoid().expand_as(f)),
}
