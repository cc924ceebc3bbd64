"""The architectures that every test of the whole way runs on.

`blocks` and `branches` are counted by hand from the architecture, as the comment beside each entry says.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dit import DiT
from zoo.case import Case, noise, randomise


class HandWritten(nn.Module):
    """Two blocks written out by hand, submodules called by keyword, the gate a tanh, the MLP gated (SwiGLU)."""

    def __init__(self, width: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.enter, self.leave = nn.Linear(8, width), nn.Linear(width, 8)
        self.clock = nn.Linear(16, width)
        self.norm_a, self.norm_b = nn.RMSNorm(width), nn.RMSNorm(width)
        self.norm_c, self.norm_d = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv_a, self.out_a = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.qkv_b, self.out_b = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up_a, self.side_a, self.down_a = nn.Linear(width, 64), nn.Linear(width, 64), nn.Linear(64, width)
        self.up_b, self.side_b, self.down_b = nn.Linear(width, 64), nn.Linear(width, 64), nn.Linear(64, width)
        self.gates = nn.Linear(width, 4 * width)

    def attend(self, qkv: Tensor) -> Tensor:
        batch, tokens, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        q, k, v = qkv.view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5).softmax(-1)
        return (weights @ v).transpose(1, 2).reshape(batch, tokens, width)

    def forward(self, *, latents: Tensor, timestep: Tensor) -> Tensor:
        rates = torch.arange(8) / 8.0
        phases = timestep[:, None] * rates
        clock = self.clock(input=torch.cat([phases.sin(), phases.cos()], dim=-1))
        one, two, three, four = (gate[:, None].tanh() for gate in self.gates(input=clock).chunk(4, dim=-1))
        x = self.enter(input=latents)
        x = x + self.out_a(input=self.attend(self.qkv_a(input=self.norm_a(x)))) * one
        y = self.norm_b(x)
        x = x + self.down_a(input=torch.nn.functional.silu(self.up_a(input=y)) * self.side_a(input=y)) * two
        x = self.out_b(input=self.attend(self.qkv_b(input=self.norm_c(x)))) * three + x
        y = self.norm_d(x)
        x = self.down_b(input=torch.nn.functional.silu(self.up_b(input=y)) * self.side_b(input=y)) * four + x
        return self.leave(input=x)


def example_dit() -> DiT:
    return randomise(DiT(size=8, width=32, depth=2, heads=2))


def dit_transformer() -> nn.Module:
    from diffusers import DiTTransformer2DModel

    return DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=3,
        sample_size=8, patch_size=2, num_embeds_ada_norm=10,
    )  # fmt: skip


def pixart() -> nn.Module:
    from diffusers import PixArtTransformer2DModel

    return PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=3, sample_size=8,
        patch_size=2, cross_attention_dim=32, caption_channels=24, use_additional_conditions=False,
    )  # fmt: skip


def sd3() -> nn.Module:
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, caption_projection_dim=32, pooled_projection_dim=20, out_channels=4,
        pos_embed_max_size=8,
    )  # fmt: skip


def flux() -> nn.Module:
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        patch_size=1, in_channels=8, num_layers=2, num_single_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=20, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip


def wan() -> nn.Module:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=24,
        freq_dim=32, ffn_dim=48, num_layers=3, cross_attn_norm=True, rope_max_seq_len=32,
    )  # fmt: skip


def latte() -> nn.Module:
    from diffusers import LatteTransformer3DModel

    return LatteTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        patch_size=2, cross_attention_dim=32, caption_channels=24, video_length=3, attention_bias=True,
        norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6, activation_fn="gelu-approximate",
    )  # fmt: skip


def dit_call(t: float) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 4, 8, 8), "timestep": torch.full((2,), int(t)),
        "class_labels": torch.tensor([1, 2]), "return_dict": False,
    }  # fmt: skip


def sd3_call(t: float) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 4, 8, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "pooled_projections": noise(2, 20, seed=2), "timestep": torch.full((2,), t), "return_dict": False,
    }  # fmt: skip


def flux_call(t: float, side: int = 4, text: int = 6, batch: int = 2) -> dict[str, Any]:
    grid = torch.cartesian_prod(*[torch.arange(size) for size in (1, side, side)]).float()
    return {
        "hidden_states": noise(batch, side * side, 8), "encoder_hidden_states": noise(batch, text, 24, seed=1),
        "pooled_projections": noise(batch, 20, seed=2), "timestep": torch.full((batch,), t / 1000),
        "guidance": torch.full((batch,), 3.5), "img_ids": grid, "txt_ids": torch.zeros(text, 3), "return_dict": False,
    }  # fmt: skip


CORE: dict[str, Case] = {
    # per block: attention, MLP; the MLP alone is token-wise
    "example DiT": Case(
        example_dit,
        lambda t: {"x": noise(2, 1, 8, 8), "t": torch.full((2,), t), "y": torch.tensor([1, 2])},
        branches=2 * 2, recomputed=2, blocks=2,
    ),
    "hand-written": Case(
        HandWritten, lambda t: {"latents": noise(2, 16, 8), "timestep": torch.full((2,), t)}, branches=2 * 2, recomputed=2, blocks=2,
    ),
    "DiT": Case(
        dit_transformer,
        dit_call,
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    # per block: self-attention, cross-attention, MLP; the last two are token-wise in the image
    "PixArt": Case(
        pixart,
        lambda t: {
            "hidden_states": noise(2, 4, 8, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
            "timestep": torch.full((2,), int(t)), "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
            "return_dict": False,
        },
        branches=3 * 3, recomputed=6, blocks=3,
    ),
    # per block: attention and MLP in both streams; the last block has no text MLP and no text attention output
    "SD3": Case(
        sd3,
        sd3_call,
        branches=2 * 4 + 2, recomputed=2 * 2 + 1, blocks=3,
    ),
    # double block: attention and MLP in both streams; single block: one branch for attention and MLP together
    "FLUX": Case(flux, flux_call, branches=2 * 4 + 3, recomputed=2 * 2 + 3, blocks=2 + 3),
    # per block: self-attention, cross-attention, MLP
    "Wan": Case(
        wan,
        lambda t: {
            "hidden_states": noise(2, 4, 3, 8, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
            "timestep": torch.full((2,), t), "return_dict": False,
        },
        branches=3 * 3, recomputed=6, blocks=3,
    ),
    # per layer: a spatial block (self-attention, cross-attention, MLP) and a temporal one (self-attention, MLP);
    # the stream changes its layout between them
    "Latte": Case(
        latte,
        lambda t: {
            "hidden_states": noise(2, 4, 3, 8, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
            "timestep": torch.full((2,), int(t)), "return_dict": False,
        },
        branches=2 * (3 + 2), recomputed=2 * (2 + 1), blocks=2,
    ),
}  # fmt: skip
FEW = ("example DiT", "FLUX", "Latte")
"""One stream; two, which join; and one that changes its layout between space and time."""
