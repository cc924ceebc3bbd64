"""The arguments of one call of transformers of diffusers, made from their configurations: one line for each class."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

Config = Mapping[str, Any]


class Sizes(NamedTuple):
    """Of one call: samples, rows (and columns) of latents, latent frames, tokens of text."""

    batch: int
    side: int
    frames: int
    text: int


@dataclass(frozen=True)
class Family:
    """`inputs` gives named arguments; `side`, `frames` and `text` are of what the model usually makes.

    `config` completes the class's own defaults where these alone are no model.
    """

    inputs: Callable[[Config, Sizes], dict[str, Any]]
    side: int
    frames: int = 1
    text: int = 512
    config: Config = field(default_factory=dict)


def _clock(sizes: Sizes, scale: float = 1.0) -> dict[str, Any]:
    """Halfway of a generation. `scale`: of timesteps that run from 1000 to 0."""
    return {"timestep": torch.full((sizes.batch,), 500.0 * scale), "return_dict": False}


def _image(config: Config, sizes: Sizes) -> Tensor:
    return torch.randn(sizes.batch, config["in_channels"], sizes.side, sizes.side)


def _video(config: Config, sizes: Sizes) -> Tensor:
    return torch.randn(sizes.batch, config["in_channels"], sizes.frames, sizes.side, sizes.side)


def _packed(config: Config, sizes: Sizes) -> Tensor:
    """Two by two latents are one token."""
    return torch.randn(sizes.batch, (sizes.side // 2) ** 2, config["in_channels"])


def _text(sizes: Sizes, width: int) -> dict[str, Tensor]:
    return {"encoder_hidden_states": torch.randn(sizes.batch, sizes.text, width)}


def _guidance(config: Config, sizes: Sizes, scale: float) -> dict[str, Tensor]:
    return {"guidance": torch.full((sizes.batch,), scale)} if config["guidance_embeds"] else {}


def _places(sizes: Sizes) -> dict[str, Tensor]:
    rows = torch.arange(float(sizes.side // 2))
    grid = torch.stack(torch.meshgrid(torch.zeros(1), rows, rows, indexing="ij"), -1).reshape(-1, 3)
    return {"img_ids": grid, "txt_ids": torch.zeros(sizes.text, 3)}


def _dit(config: Config, sizes: Sizes) -> dict[str, Any]:
    labels = torch.zeros(sizes.batch, dtype=torch.long)
    return {"hidden_states": _image(config, sizes), "class_labels": labels, **_clock(sizes)}


def _pixart(config: Config, sizes: Sizes) -> dict[str, Any]:
    size = {"resolution": torch.full((sizes.batch, 2), 1024.0), "aspect_ratio": torch.ones(sizes.batch, 1)}
    text = _text(sizes, config["caption_channels"])
    return {"hidden_states": _image(config, sizes), **text, "added_cond_kwargs": size, **_clock(sizes)}


def _sd3(config: Config, sizes: Sizes) -> dict[str, Any]:
    pooled = torch.randn(sizes.batch, config["pooled_projection_dim"])
    text = _text(sizes, config["joint_attention_dim"])
    return {"hidden_states": _image(config, sizes), **text, "pooled_projections": pooled, **_clock(sizes)}


def _auraflow(config: Config, sizes: Sizes) -> dict[str, Any]:
    text = _text(sizes, config["joint_attention_dim"])
    return {"hidden_states": _image(config, sizes), **text, **_clock(sizes, 0.001)}


def _sana(config: Config, sizes: Sizes) -> dict[str, Any]:
    text, guidance = _text(sizes, config["caption_channels"]), _guidance(config, sizes, 0.45)
    return {"hidden_states": _image(config, sizes), **text, **guidance, **_clock(sizes)}


def _flux(config: Config, sizes: Sizes) -> dict[str, Any]:
    pooled = {"pooled_projections": torch.randn(sizes.batch, config["pooled_projection_dim"])}
    return {**_chroma(config, sizes), **pooled, **_guidance(config, sizes, 3.5)}


def _chroma(config: Config, sizes: Sizes) -> dict[str, Any]:
    text = _text(sizes, config["joint_attention_dim"])
    return {"hidden_states": _packed(config, sizes), **text, **_places(sizes), **_clock(sizes, 0.001)}


def _qwen(config: Config, sizes: Sizes) -> dict[str, Any]:
    text, side = _text(sizes, config["joint_attention_dim"]), sizes.side // 2
    shapes = {"img_shapes": [[(1, side, side)]] * sizes.batch}
    return {"hidden_states": _packed(config, sizes), **text, **shapes, **_clock(sizes, 0.001)}


def _wan(config: Config, sizes: Sizes) -> dict[str, Any]:
    return {"hidden_states": _video(config, sizes), **_text(sizes, config["text_dim"]), **_clock(sizes)}


def _ltx(config: Config, sizes: Sizes) -> dict[str, Any]:
    grid = {"num_frames": sizes.frames, "height": sizes.side, "width": sizes.side}
    tokens = torch.randn(sizes.batch, sizes.frames * sizes.side**2, config["in_channels"])
    text = {**_text(sizes, config["caption_channels"]), "encoder_attention_mask": torch.ones(sizes.batch, sizes.text)}
    return {"hidden_states": tokens, **text, **grid, "rope_interpolation_scale": (0.32, 32, 32), **_clock(sizes)}


def _cogvideox(config: Config, sizes: Sizes) -> dict[str, Any]:
    tokens = sizes.frames * (sizes.side // config["patch_size"]) ** 2
    angles = torch.randn(tokens, config["attention_head_dim"])
    rotary = {"image_rotary_emb": (angles, angles)} if config["use_rotary_positional_embeddings"] else {}
    video = {"hidden_states": _video(config, sizes).transpose(1, 2)}
    return {**video, **_text(sizes, config["text_embed_dim"]), **rotary, **_clock(sizes)}


def _hunyuan_video(config: Config, sizes: Sizes) -> dict[str, Any]:
    text = _text(sizes, config["text_embed_dim"])
    mask = torch.ones(sizes.batch, sizes.text, dtype=torch.long)
    pooled = torch.randn(sizes.batch, config["pooled_projection_dim"])
    given = {"encoder_attention_mask": mask, "pooled_projections": pooled, **_guidance(config, sizes, 6000.0)}
    return {"hidden_states": _video(config, sizes), **text, **given, **_clock(sizes)}


FAMILIES: dict[str, Family] = {
    "AuraFlowTransformer2DModel": Family(_auraflow, side=128, text=256),
    "ChromaTransformer2DModel": Family(_chroma, side=128),
    "CogVideoXTransformer3DModel": Family(_cogvideox, side=60, frames=13, text=226),
    "DiTTransformer2DModel": Family(_dit, side=32),
    "FluxTransformer2DModel": Family(_flux, side=128, config={"guidance_embeds": True}),
    "HunyuanVideoTransformer3DModel": Family(_hunyuan_video, side=60, frames=13, text=256),
    "LTXVideoTransformer3DModel": Family(_ltx, side=16, frames=21, text=128),
    "PixArtTransformer2DModel": Family(_pixart, side=128, text=300, config={"caption_channels": 4096}),
    "QwenImageTransformer2DModel": Family(_qwen, side=128),
    "SD3Transformer2DModel": Family(_sd3, side=128, text=333),
    "SanaTransformer2DModel": Family(_sana, side=32, text=300),
    "WanTransformer3DModel": Family(_wan, side=60, frames=21),
}
"""By the name of the class, with the sizes that its pipeline has by default (squares where that has none)."""
