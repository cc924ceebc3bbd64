"""Transformers whose routing or masks depend on data, so that Dynamo splits their forward pass."""

from typing import Any

import torch
from torch import nn

from zoo.case import Case, noise


def hidream(experts: int) -> nn.Module:
    from diffusers import HiDreamImageTransformer2DModel

    return HiDreamImageTransformer2DModel(
        patch_size=2, in_channels=4, num_layers=2, num_single_layers=3, attention_head_dim=16, num_attention_heads=2,
        caption_channels=[24, 20], text_emb_dim=12, num_routed_experts=experts, num_activated_experts=2,
        axes_dims_rope=(8, 4, 4), max_resolution=(8, 8), llama_layers=[0, 1, 2, 3, 4],
    )  # fmt: skip


def hunyuan_video_15() -> nn.Module:
    from diffusers import HunyuanVideo15Transformer3DModel

    return HunyuanVideo15Transformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=3,
        num_refiner_layers=1, text_embed_dim=24, text_embed_2_dim=20, image_embed_dim=12, rope_axes_dim=(4, 6, 6),
        target_size=16, task_type="t2v",
    )  # fmt: skip


def _hidream_call(t: float) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 4, 8, 8), "timesteps": torch.full((2,), t),
        "encoder_hidden_states_t5": noise(2, 3, 24, seed=1), "encoder_hidden_states_llama3": noise(5, 2, 4, 20, seed=2),
        "pooled_embeds": noise(2, 12, seed=3), "return_dict": False,
    }  # fmt: skip


def _hunyuan_video_15_call(t: float) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 9, 2, 4, 4), "timestep": torch.full((2,), t),
        "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "encoder_attention_mask": (torch.arange(6) < torch.tensor([[6], [4]])).long(),
        "encoder_hidden_states_2": noise(2, 3, 20, seed=2),
        "encoder_attention_mask_2": (torch.arange(3) < torch.tensor([[3], [2]])).long(),
        "image_embeds": torch.zeros(2, 5, 12), "return_dict": False,
    }  # fmt: skip


CASES: dict[str, Case] = {
    # double block: attention and MLP in both streams; single block: attention, MLP
    "HiDream without experts": Case(
        lambda: hidream(0), _hidream_call, branches=2 * 4 + 3 * 2, recomputed=2 * 2 + 3, blocks=2 + 3
    ),
    # the same, the image's MLP (in single blocks the only one) a mixture of experts
    "HiDream": Case(
        lambda: hidream(4), _hidream_call, branches=2 * 4 + 3 * 2, recomputed=2 * 2 + 3, blocks=2 + 3, graphs=49,
        partly="the experts that each token chose run outside of the graphs, so these hold their sum alone",
    ),
    # block, a graph by itself: attention and MLP in both streams; the text's refiner, too, is a graph that does not show
    # whether it reads latents: attention, MLP
    "HunyuanVideo-1.5": Case(
        hunyuan_video_15, _hunyuan_video_15_call, branches=3 * 4 + 2, recomputed=3 * 2 + 1, blocks=3 + 1, graphs=5,
    ),
}  # fmt: skip
