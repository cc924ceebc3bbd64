"""Random tiny diffusion transformers: a specification, and the one module that carries out any of them."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from random_dit.layouts import Heard, Layout
from random_dit.parts import Part, PartModule, Stream, normalised

CONTEXT = 3
"""Conditioning tokens."""
LONG_SKIPS = ("none", "add", "concat")
RELAYOUTS = ("none", "flat", "folded")
RETURNS = ("one", "stream", "both streams", "early", "clock", "feature")


@dataclass(frozen=True)
class Spec:
    """`joined_from` is the block from which on both streams are one sequence; none, if there is no such block.
    `relayout`: what becomes of the image stream's layout after the first block. `folded` tokens are in the batch."""

    layout: Layout
    features: int
    clock_per_token: bool
    blocks: tuple[tuple[Part, ...], ...]
    shared: bool
    joined_from: int
    relayout: str
    long_skip: str
    control: bool
    embeds: bool
    returns: str
    seed: int


class RandomModel(nn.Module):
    """Weights follow the seed. `narrow` is the dtype of bfloat16 islands: a twin can run in one wide dtype throughout."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec, self.narrow = spec, torch.bfloat16
        features, layout = spec.features, spec.layout
        self.text = Layout(layout.batch or 1, (CONTEXT,))
        self.both = Layout(layout.batch or 1, (CONTEXT + layout.tokens,))
        self.phases = nn.Buffer(torch.exp(-torch.arange(features // 2) * 1.0))
        self.clock, self.enter, self.enter_text = (nn.Linear(features, features) for _ in range(3))
        self.hint, self.leave = (nn.Linear(features, features) for _ in range(2))
        self.merge, self.last = nn.Linear(2 * features, features), nn.Linear(features, 2 * features)
        self.places = nn.Parameter(torch.zeros(layout.size(features)[layout.batch is not None :]))
        made = [[self._pair(part) for part in block] for block in spec.blocks]
        self.pairs = nn.ModuleList(nn.ModuleList(pair for pair in block) for block in made)

    def _pair(self, part: Part) -> nn.ModuleList:
        return nn.ModuleList(PartModule(part, self.spec.features, self.both.tokens) for _ in range(2))

    def forward(self, x: Tensor, t: Tensor, context: Tensor, control: Tensor) -> Any:
        layout, spec = self.spec.layout, self.spec
        phases = t[..., None] * self.phases
        e = functional.silu(self.clock(torch.cat([phases.sin(), phases.cos()], -1)))
        x = self.places + (layout.linear(self.enter, x) if spec.embeds else x)
        once = e if e.dim() == 2 else e.mean(1)
        image, text = Stream(x, layout, e), Stream(self.enter_text(context), self.text, once)
        heard = Heard(context, self.narrow)
        saved, early = image.x, image.x
        for at in range(len(spec.blocks)):
            if at == 1:
                image = self._relaid(image)
            if at == spec.joined_from and self._beside(image):
                image = self._joined(text, image)
            if image.layout is layout:
                x = image.x + layout.linear(self.hint, control) if spec.control else image.x
                image = replace(image, x=self._skipped(x, saved) if at == len(spec.blocks) - 1 > 0 else x)
            image, text = self._block(at, image, text, heard)
            early = image.x if at == 0 else early
        image = Stream(self._back(image), layout, e)
        return self._results(image, {"both streams": text.x, "early": early, "feature": heard.features[-1]})

    def _relaid(self, image: Stream) -> Stream:
        """Flattened, or every second part of the tokens moved into the batch."""
        layout, e = image.layout, image.e
        batch = layout.batch or 1
        if self.spec.relayout == "none" or layout is self.both:
            return image
        if self.spec.relayout == "flat" or layout.tokens % 2:
            return Stream(layout.flat(image.x), Layout(batch, (layout.tokens,)), e)
        folded = layout.flat(image.x).reshape(2 * batch, -1, self.spec.features)
        e = e.repeat_interleave(2, 0) if e.dim() == 2 else e.reshape(folded.shape)
        return Stream(folded, Layout(2 * batch, (layout.tokens // 2,)), e)

    def _back(self, image: Stream) -> Tensor:
        """The image stream's value as it was laid out at first."""
        layout, x = self.spec.layout, image.x
        if image.layout is layout:
            return x
        x = x[:, CONTEXT:] if image.layout is self.both else x
        return layout.laid(x.reshape(layout.batch or 1, layout.tokens, -1))

    def _beside(self, image: Stream) -> bool:
        """Whether the text stream has the image stream's batch and is not part of it."""
        return image.layout is not self.both and image.layout.batch in (None, self.text.batch)

    def _skipped(self, x: Tensor, saved: Tensor) -> Tensor:
        if self.spec.long_skip == "concat":
            layout = self.spec.layout
            return layout.linear(self.merge, torch.cat([x, saved], layout.feature_dim))
        return x + saved if self.spec.long_skip == "add" else x

    def _joined(self, text: Stream, image: Stream) -> Stream:
        layout, e = image.layout, image.e
        longer = e if e.dim() == 2 else torch.cat([text.e[:, None].expand(-1, CONTEXT, -1), e], 1)
        return Stream(torch.cat([text.x, layout.flat(image.x)], 1), self.both, longer)

    def _block(self, at: int, image: Stream, text: Stream, heard: Heard) -> tuple[Stream, Stream]:
        same = self.spec.shared and self.spec.blocks[at] == self.spec.blocks[0]
        pairs: Any = self.pairs[0 if same else at]
        for part, (mine, other) in zip(self.spec.blocks[at], pairs, strict=True):
            if part.where == "joint" and self._beside(image):
                y, _ = mine.prepared(self._joined(text, image))
                feature = mine.feature(y, self.both, heard)
                of_text, of_image = feature[:, :CONTEXT], image.layout.laid(feature[:, CONTEXT:])
                image = mine.added(image, of_image, mine.prepared(image)[1])
                text = other.added(text, of_text, other.prepared(text)[1])
            else:
                image = mine(image, heard)
                if part.where == "both" and self._beside(image):
                    text = other(text, heard)
        return image, text

    def _results(self, image: Stream, extra: dict[str, Tensor]) -> Any:
        layout, x = image.layout, image.x
        shift, scale = (layout.over_tokens(piece) for piece in self.last(image.e).chunk(2, -1))
        result = layout.linear(self.leave, normalised(x, "layer", layout) * (1 + scale) + shift)
        extra = {**extra, "stream": x, "clock": image.e}
        return result if self.spec.returns == "one" else (result, extra[self.spec.returns])


def random_model(spec: Spec) -> RandomModel:
    """In eval mode, with weights of the spec's seed that let every branch matter."""
    generator = torch.Generator().manual_seed(spec.seed)
    model = RandomModel(spec)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
    return model.eval()


def random_call(spec: Spec, seed: int) -> dict[str, Tensor]:
    """Latents, timestep, conditioning and control signal; the last two are the same for all seeds."""
    layout, batch = spec.layout, spec.layout.batch or 1
    moving, fixed = (torch.Generator().manual_seed(number) for number in (seed, spec.seed))
    times = (batch, layout.tokens) if spec.clock_per_token else (batch,)
    return {
        "x": torch.randn(layout.size(spec.features), generator=moving),
        "t": torch.rand(times, generator=moving) * 3,
        "context": torch.randn(batch, CONTEXT, spec.features, generator=fixed),
        "control": torch.randn(layout.size(spec.features), generator=fixed),
    }
