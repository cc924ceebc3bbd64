"""The video transformers of diffusers from CogVideoX to Kandinsky 6 (`videos_b` has those after).

`branches`, `recomputed` and `blocks` are counted by hand from the source, as the comment beside each entry says.
"""

from typing import Any

import torch
from torch import Tensor, nn

from zoo.case import Case, noise


def cogvideox() -> nn.Module:
    from diffusers import CogVideoXTransformer3DModel

    return CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=24,
        text_embed_dim=24, num_layers=3, sample_width=8, sample_height=8, sample_frames=9, max_text_seq_length=6,
        use_rotary_positional_embeddings=True,
    )  # fmt: skip


def allegro() -> nn.Module:
    from diffusers import AllegroTransformer3DModel

    return AllegroTransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, in_channels=4, out_channels=4, num_layers=3,
        cross_attention_dim=48, sample_height=8, sample_width=8, sample_frames=2, caption_channels=24,
    )  # fmt: skip


def anyflow() -> nn.Module:
    from diffusers.models.transformers.transformer_anyflow import AnyFlowTransformer3DModel

    return AnyFlowTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=24, freq_dim=32,
        ffn_dim=48, num_layers=3, rope_max_seq_len=32,
    )  # fmt: skip


def chronoedit() -> nn.Module:
    from diffusers.models.transformers.transformer_chronoedit import ChronoEditTransformer3DModel

    return ChronoEditTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=8, out_channels=4, text_dim=24, freq_dim=32,
        ffn_dim=48, num_layers=3, image_dim=20, added_kv_proj_dim=32, rope_max_seq_len=32,
    )  # fmt: skip


def _cosmos(**other: Any) -> nn.Module:
    from diffusers import CosmosTransformer3DModel

    return CosmosTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=3, text_embed_dim=24,
        adaln_lora_dim=8, max_size=(8, 16, 16), concat_padding_mask=False, **other,
    )  # fmt: skip


def cosmos1() -> nn.Module:
    return _cosmos(extra_pos_embed_type="learnable")


def cosmos2() -> nn.Module:
    return _cosmos(extra_pos_embed_type=None)


def easyanimate() -> nn.Module:
    from diffusers import EasyAnimateTransformer3DModel

    return EasyAnimateTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, patch_size=2, sample_width=8,
        sample_height=8, num_layers=3, mmdit_layers=2, time_embed_dim=24, text_embed_dim=24,
    )  # fmt: skip


def _hunyuan_video(**other: Any) -> nn.Module:
    from diffusers import HunyuanVideoTransformer3DModel

    return HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2, num_single_layers=3,
        num_refiner_layers=2, text_embed_dim=24, pooled_projection_dim=20, rope_axes_dim=(4, 6, 6), **other,
    )  # fmt: skip


def hunyuan_video() -> nn.Module:
    return _hunyuan_video()


def hunyuan_video_replace() -> nn.Module:
    return _hunyuan_video(guidance_embeds=False, image_condition_type="token_replace")


def kandinsky5() -> nn.Module:
    from diffusers import Kandinsky5Transformer3DModel

    return Kandinsky5Transformer3DModel(
        in_text_dim=24, in_text_dim2=20, time_dim=24, model_dim=32, ff_dim=48, num_visual_blocks=3, axes_dims=(4, 6, 6)
    )


def _rope(tokens: int, width: int) -> tuple[Tensor, Tensor]:
    angles = noise(tokens, width, seed=9)
    return angles.cos(), angles.sin()


def _video(t: float) -> dict[str, Any]:
    """Latents `[batch, channels, frames, height, width]`: 2 x 4 x 4 tokens in patches of 1 x 2 x 2."""
    return {
        "hidden_states": noise(2, 4, 2, 8, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "timestep": torch.full((2,), t), "return_dict": False,
    }  # fmt: skip


def _allegro_call(t: float) -> dict[str, Any]:
    angles = noise(4, 8, seed=9)
    frames, rows, columns = torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(4)).T.contiguous()
    freqs = (angles.cos(), angles.sin())
    return {
        **_video(t), "encoder_hidden_states": noise(2, 1, 6, 24, seed=1),
        "attention_mask": torch.ones(2, 2, 8, 8), "encoder_attention_mask": torch.ones(2, 6),
        "image_rotary_emb": ((freqs,) * 3, tuple(axis[None] for axis in (frames, rows, columns))),
    }  # fmt: skip


def _hunyuan_call(t: float) -> dict[str, Any]:
    return {
        **_video(t), "encoder_attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2]),
        "pooled_projections": noise(2, 20, seed=2),
    }  # fmt: skip


CASES: dict[str, Case] = {
    # per block: attention and MLP for video and for text; of the last block's text nothing is used
    "CogVideoX": Case(
        cogvideox,
        lambda t: {**_video(t), "hidden_states": noise(2, 2, 4, 8, 8), "image_rotary_emb": _rope(32, 16)},
        branches=3 * 4 - 2, recomputed=3 * 2 - 1, blocks=3,
    ),
    # per block: self-attention, cross-attention, MLP
    "Allegro": Case(allegro, _allegro_call, branches=3 * 3, recomputed=3 * 2, blocks=3),
    # per block: self-attention, cross-attention, MLP; a timestep per frame
    "AnyFlow": Case(
        anyflow,
        lambda t: {
            **_video(t), "hidden_states": noise(2, 2, 4, 8, 8), "timestep": torch.full((2, 2), t),
            "r_timestep": torch.full((2, 2), t - 20),
        },
        branches=3 * 3, recomputed=3 * 2, blocks=3,
    ),
    # per block: self-attention, cross-attention to text and image, MLP
    "ChronoEdit": Case(
        chronoedit,
        lambda t: {
            **_video(t), "hidden_states": noise(2, 8, 2, 8, 8),
            "encoder_hidden_states_image": noise(2, 5, 20, seed=2),
        },
        branches=3 * 3, recomputed=3 * 2, blocks=3,
    ),
    # per block: self-attention, cross-attention, MLP; positions are added to the stream before each block
    "Cosmos 1": Case(cosmos1, _video, branches=3 * 3, recomputed=3 * 2, blocks=3),
    # per block: self-attention, cross-attention, MLP; a timestep per frame
    "Cosmos 2": Case(
        cosmos2,
        lambda t: {**_video(t), "timestep": torch.full((2, 1, 2, 1, 1), t)},
        branches=3 * 3, recomputed=3 * 2, blocks=3,
    ),
    # per block: attention and MLP for video and for text; of the last block's text nothing is used
    "EasyAnimate": Case(easyanimate, _video, branches=3 * 4 - 2, recomputed=3 * 2 - 1, blocks=3),
    # per double block: attention and MLP for video and for text; per single block: parallel attention and MLP; per
    # block of the text's refiner, on the stream of the text: attention, MLP
    "HunyuanVideo": Case(
        hunyuan_video,
        lambda t: {**_hunyuan_call(t), "guidance": torch.full((2,), 6000.0)},
        branches=2 * 4 + 3 + 2 * 2, recomputed=2 * 2 + 3 + 2, blocks=2 + 3 + 2,
    ),
    # as HunyuanVideo, with other gates for the first frame than for the rest
    "HunyuanVideo, image to video": Case(
        hunyuan_video_replace, _hunyuan_call,
        branches=2 * 4 + 3 + 2 * 2, recomputed=2 * 2 + 3 + 2, blocks=2 + 3 + 2,
    ),
    # per block: self-attention, cross-attention, MLP. The text's own blocks do not see the latents
    "Kandinsky 5": Case(
        kandinsky5,
        lambda t: {
            **_video(t), "hidden_states": noise(2, 2, 8, 8, 4), "pooled_projections": noise(2, 20, seed=2),
            "visual_rope_pos": [torch.arange(2), torch.arange(4), torch.arange(4)], "text_rope_pos": torch.arange(6),
        },
        branches=3 * 3, recomputed=3 * 2, blocks=3,
    ),
}  # fmt: skip
