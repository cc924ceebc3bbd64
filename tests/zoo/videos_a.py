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


def anyflow_far() -> nn.Module:
    from diffusers.models.transformers.transformer_anyflow_far import AnyFlowFARTransformer3DModel

    return AnyFlowFARTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=24, freq_dim=32,
        ffn_dim=48, num_layers=3, rope_max_seq_len=32, chunk_partition=(1, 2),
    )  # fmt: skip


def consisid() -> nn.Module:
    from diffusers import ConsisIDTransformer3DModel

    return ConsisIDTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=24,
        text_embed_dim=24, num_layers=4, sample_width=8, sample_height=8, sample_frames=9, max_text_seq_length=6,
        use_rotary_positional_embeddings=True, is_train_face=True, cross_attn_dim_head=8, cross_attn_num_heads=2,
        LFE_id_dim=12, LFE_vit_dim=8, LFE_depth=2, LFE_dim_head=8, LFE_num_heads=2, LFE_num_id_token=2,
        LFE_num_querie=4, LFE_output_dim=21, LFE_ff_mult=2, LFE_num_scale=2,
    )  # fmt: skip


def cosmos3() -> nn.Module:
    from diffusers.models.transformers.transformer_cosmos3 import Cosmos3OmniTransformer

    return Cosmos3OmniTransformer(
        head_dim=16, hidden_size=32, intermediate_size=48, latent_channel=4, num_attention_heads=2,
        num_hidden_layers=3, num_key_value_heads=1, patch_latent_dim=16, vocab_size=16, rope_axes_dim=[4, 2, 2],
    )  # fmt: skip


def helios() -> nn.Module:
    from diffusers.models.transformers.transformer_helios import HeliosTransformer3DModel

    return HeliosTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=24, freq_dim=32,
        ffn_dim=48, num_layers=3, rope_dim=(4, 6, 6),
    )  # fmt: skip


def framepack() -> nn.Module:
    from diffusers import HunyuanVideoFramepackTransformer3DModel

    return HunyuanVideoFramepackTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2, num_single_layers=3,
        num_refiner_layers=2, text_embed_dim=24, pooled_projection_dim=20, rope_axes_dim=(4, 6, 6),
        has_image_proj=True, image_proj_dim=20, has_clean_x_embedder=True,
    )  # fmt: skip


def kandinsky6() -> nn.Module:
    from diffusers.models.transformers.transformer_kandinsky6 import Kandinsky6Transformer3DModel

    return Kandinsky6Transformer3DModel(
        in_visual_dim=4, out_visual_dim=4, in_text_dim=24, in_text_dim2=20, time_dim=24, model_dim=32, ff_dim=48,
        num_text_blocks=2, num_visual_blocks=3, axes_dims=(4, 6, 6), visual_cond=False, in_audio_dim=6,
        out_audio_dim=6, model_dim_a=16, ff_dim_a=24,
    )  # fmt: skip


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


def _anyflow_far_call(t: float) -> dict[str, Any]:
    """The second chunk, two frames, after a first one of one frame."""
    caches = {layer: {"full_cache": noise(2, 2, 2, 48, 16, seed=layer), "compressed_cache": noise(2, 2, 2, 4, 16)}
              for layer in range(3)}  # fmt: skip
    return {
        **_video(t), "hidden_states": noise(2, 2, 4, 8, 8), "timestep": torch.full((2, 2), t),
        "r_timestep": torch.full((2, 2), t - 20), "chunk_partition": [1, 2], "kv_cache": caches,
        "kv_cache_flag": {"num_cached_chunks": 1, "is_cache_step": False},
    }  # fmt: skip


def _cosmos3_call(t: float) -> dict[str, Any]:
    """6 tokens of text, then 2 frames of 4 x 4, of which the first is given."""
    places = torch.arange(6, 38)
    positions = torch.cat([torch.arange(6).expand(3, 6), torch.cartesian_prod(*map(torch.arange, (2, 4, 4))).T], 1)
    return {
        "input_ids": torch.arange(6), "text_indexes": torch.arange(6), "position_ids": positions, "und_len": 6,
        "sequence_length": 38, "vision_tokens": [noise(1, 4, 2, 8, 8)], "vision_token_shapes": [(2, 4, 4)],
        "vision_sequence_indexes": places, "vision_mse_loss_indexes": places[16:],
        "vision_timesteps": torch.full((16,), t), "vision_noisy_frame_indexes": [torch.tensor([1])],
    }  # fmt: skip


def _framepack_call(t: float) -> dict[str, Any]:
    return {
        **_hunyuan_call(t), "image_embeds": noise(2, 5, 20, seed=3), "guidance": torch.full((2,), 6000.0),
        "indices_latents": torch.arange(5, 7), "latents_clean": noise(2, 4, 1, 8, 8, seed=4),
        "indices_latents_clean": torch.arange(1), "latents_history_2x": noise(2, 4, 2, 8, 8, seed=5),
        "indices_latents_history_2x": torch.arange(1, 3),
        "latents_history_4x": noise(2, 4, 4, 8, 8, seed=6), "indices_latents_history_4x": torch.arange(1, 5),
    }  # fmt: skip


CASES: dict[str, Case] = {
    # per block: attention and MLP for video and for text; of the last block's text the MLP's result is not used, while
    # the attention's still stands in the sequence that both share in the MLP
    "CogVideoX": Case(
        cogvideox,
        lambda t: {**_video(t), "hidden_states": noise(2, 2, 4, 8, 8), "image_rotary_emb": _rope(32, 16)},
        branches=3 * 4 - 1, recomputed=3 * 2 - 1, blocks=3,
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
    # the same of one frame: there is no rest
    "HunyuanVideo, one frame of an image": Case(
        hunyuan_video_replace,
        lambda t: {**_hunyuan_call(t), "hidden_states": noise(2, 4, 1, 8, 8)},
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
    # per block: self-attention, cross-attention, MLP; keys and values of earlier frames come with the call
    "AnyFlow FAR": Case(anyflow_far, _anyflow_far_call, branches=3 * 3, recomputed=3 * 2, blocks=3),
    # per block: attention and MLP for video and for text; after every second: cross-attention to the face
    "ConsisID": Case(
        consisid,
        lambda t: {
            **_video(t), "hidden_states": noise(2, 2, 4, 8, 8), "image_rotary_emb": _rope(32, 16),
            "id_cond": noise(2, 12, seed=2), "id_vit_hidden": [noise(2, 5, 8, seed=3), noise(2, 5, 8, seed=4)],
        },
        branches=4 * 4 + 2, recomputed=4 * 2 + 2, blocks=2,
    ),
    # per block: attention and MLP for what is given and for what is generated
    "Cosmos 3": Case(cosmos3, _cosmos3_call, branches=3 * 4, recomputed=3 * 2, blocks=3),
    # per block: self-attention, cross-attention, for the frames but not for their history, MLP
    "Helios": Case(
        helios,
        lambda t: {
            **_video(t), "indices_hidden_states": torch.arange(1, 3).expand(2, 2),
            "indices_latents_history_short": torch.zeros(2, 1), "latents_history_short": noise(2, 4, 1, 8, 8, seed=2),
        },
        branches=3 * 3, recomputed=3 * 2, blocks=3,
    ),
    # as HunyuanVideo. Breaks: it reads the lengths of the texts
    "FramePack": Case(
        framepack, _framepack_call, branches=2 * 4 + 3 + 2 * 2, recomputed=2 * 2 + 3 + 2, blocks=2 + 3 + 2, graphs=7
    ),
    # per block, for video and for audio: self-attention, cross-attention to text and to the other one, MLP. The text's
    # own blocks do not see the latents
    "Kandinsky 6": Case(
        kandinsky6,
        lambda t: {
            **_video(t), "hidden_states": noise(2, 2, 8, 8, 4), "pooled_projections": noise(2, 20, seed=2),
            "audio_hidden_states": noise(2, 10, 6, seed=3),
        },
        branches=3 * 8, recomputed=3 * 4, blocks=3,
    ),
}  # fmt: skip
