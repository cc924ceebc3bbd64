"""FLUX and Wan as `diffusers` has them, which is asked for only when a model is built."""

import torch
from torch import nn

from models.shapes import Shape, grid


def flux(depth: int, side: int = 32, text: int = 128, heads: int = 24) -> Shape:
    """Two single blocks for each double block, as FLUX.1 has them; it has 19 and 38, and 24 heads."""

    def build() -> nn.Module:
        from diffusers import FluxTransformer2DModel

        return FluxTransformer2DModel(
            num_layers=depth, num_single_layers=2 * depth, num_attention_heads=heads, guidance_embeds=True
        )

    return Shape(
        f"diffusers' FLUX, {depth} + {2 * depth} blocks, width {128 * heads}, {side**2:,} + {text} tokens",
        build,
        (1, side**2, 64),
        lambda drawn: {
            "guidance": torch.full((1,), 3.5),
            "pooled_projections": torch.randn(1, 768, generator=drawn),
            "encoder_hidden_states": torch.randn(1, text, 4096, generator=drawn),
            "txt_ids": torch.zeros(text, 3),
            "img_ids": grid(1, side, side),
            "return_dict": False,
        },
        lambda x, t: {"hidden_states": x, "timestep": torch.full((1,), t / 1000, device=x.device, dtype=x.dtype)},
    )


def tiny_flux() -> Shape:
    def build() -> nn.Module:
        from diffusers import FluxTransformer2DModel

        return FluxTransformer2DModel(
            num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32,
            pooled_projection_dim=16, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
        )  # fmt: skip

    shape = flux(2, side=4, text=8)
    small = {"encoder_hidden_states": torch.zeros(1, 8, 32), "pooled_projections": torch.zeros(1, 16)}
    return Shape("diffusers' FLUX, tiny", build, shape.latents, lambda drawn: shape.fixed(drawn) | small, shape.moving)


def wan(depth: int) -> Shape:
    """Wan 1.3B has 30 blocks."""

    def build() -> nn.Module:
        from diffusers import WanTransformer3DModel

        return WanTransformer3DModel(num_attention_heads=12, attention_head_dim=128, ffn_dim=8960, num_layers=depth)

    return Shape(
        f"diffusers' Wan 1.3B, {depth} blocks, 768 tokens",
        build,
        (1, 16, 3, 32, 32),
        lambda drawn: {"encoder_hidden_states": torch.randn(1, 64, 4096, generator=drawn), "return_dict": False},
        lambda x, t: {"hidden_states": x, "timestep": torch.full((1,), t, device=x.device)},
    )
