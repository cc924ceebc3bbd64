"""The models of the paper at their published sizes, on torch's meta device: shapes without weights or memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dit import DiT
from models import of_diffusers
from stdit3 import STDiT3

Call = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """`build` gives a model and the keyword arguments of a call, both on the meta device."""

    title: str
    build: Callable[[], tuple[nn.Module, Call]]


def dit() -> tuple[nn.Module, Call]:
    """256 tokens; a batch of two for guidance. As in the published code, the prediction has 8 channels."""
    model = DiT(size=32, patch=2, channels=4, width=1152, depth=28, heads=16, classes=1000)
    return model, {"x": torch.empty(2, 4, 32, 32), "t": torch.empty(2), "y": torch.zeros(2, dtype=torch.long)}


def pixart(words: int = 20) -> tuple[nn.Module, Call]:
    """256 tokens, a batch of two, and the words of a prompt without padding."""
    from diffusers import PixArtTransformer2DModel

    model = PixArtTransformer2DModel(sample_size=32, caption_channels=4096, use_additional_conditions=False)
    return model, {
        "hidden_states": torch.empty(2, 4, 32, 32), "encoder_hidden_states": torch.empty(2, words, 4096),
        "timestep": torch.zeros(2, dtype=torch.long), "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        "return_dict": False,
    }  # fmt: skip


def flux() -> tuple[nn.Module, Call]:
    """1024 x 1024: 4,096 image tokens, and 512 of text; guidance is an input."""
    subject = of_diffusers.flux(19, side=64, text=512).subject("meta", torch.float32)
    return subject.model, subject.call(subject.latents, 900.0)


def hidream() -> tuple[nn.Module, Call]:
    """1024 x 1024: 4,096 image tokens; 128 of text by T5 and twice 128 by Llama; a batch of two for guidance."""
    from diffusers import HiDreamImageTransformer2DModel

    model = HiDreamImageTransformer2DModel(
        patch_size=2, in_channels=16, caption_channels=[4096, 4096], axes_dims_rope=(64, 32, 32),
        llama_layers=[*range(32), *[31] * 16],
    )  # fmt: skip
    for block in (*model.double_stream_blocks, *model.single_stream_blocks):
        block.block.ff_i = Experts(2560, hidden=6912, shared=3584)
    return model, {
        "hidden_states": torch.empty(2, 4096, 64), "hidden_states_masks": torch.empty(2, 4096),
        "img_ids": torch.empty(2, 4096, 3), "img_sizes": [(64, 64), (64, 64)], "timesteps": torch.empty(2),
        "encoder_hidden_states_t5": torch.empty(2, 128, 4096),
        "encoder_hidden_states_llama3": torch.empty(32, 2, 128, 4096), "pooled_embeds": torch.empty(2, 2048),
        "return_dict": False,
    }  # fmt: skip


class Experts(nn.Module):
    """HiDream's experts as one graph: of `x [B, tokens, width]`, `active` of the `routed` ones, and a shared one.

    `diffusers` asks the host how many tokens each expert got, which ends a graph. Here each token multiplies with the
    weights of its own experts, looked up by their number: the same sum, and no product more. It is for counting: on a
    device the weights would be copied for every token.
    """

    def __init__(self, width: int, hidden: int, shared: int, routed: int = 4, active: int = 2) -> None:
        super().__init__()
        self.active, self.width, self.hidden = active, width, hidden
        self.gate = nn.Linear(width, routed, bias=False)
        self.into = nn.Embedding(routed, 2 * hidden * width)
        self.back = nn.Embedding(routed, hidden * width)
        self.shared_into = nn.Linear(width, 2 * shared, bias=False)
        self.shared_back = nn.Linear(shared, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.gate(x).softmax(-1).topk(self.active, dim=-1)
        into = self.into(chosen).unflatten(-1, (2 * self.hidden, self.width))
        back = self.back(chosen).unflatten(-1, (self.width, self.hidden))
        found = torch.einsum("bteh,btedh->bted", swish(torch.einsum("btd,btehd->bteh", x, into)), back)
        return (found * weight[..., None]).sum(-2) + self.shared_back(swish(self.shared_into(x)))


def swish(x: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return F.silu(left) * right


def stdit3() -> tuple[nn.Module, Call]:
    """51 frames of 480 x 854: 15 x 30 x 53 tokens; a batch of two for guidance, each with 11 words of 300."""
    return STDiT3(), {
        "x": torch.empty(2, 4, 15, 60, 106), "t": torch.empty(2), "text": torch.empty(2, 300, 4096), "words": 11,
        "fps": torch.empty(2),
    }  # fmt: skip


SUBJECTS = {
    "dit": Subject("DiT-XL/2, 256 x 256", dit),
    "pixart": Subject("PixArt-alpha, 256 x 256", pixart),
    "flux": Subject("FLUX.1-dev, 1024 x 1024", flux),
    "hidream": Subject("HiDream-I1-Full, 1024 x 1024", hidream),
    "opensora": Subject("Open-Sora 1.2, 51 frames of 480 x 854", stdit3),
}


def build(name: str) -> tuple[nn.Module, Call]:
    with torch.device("meta"):
        model, call = SUBJECTS[name].build()
    return model.eval(), call
