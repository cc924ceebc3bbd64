"""The video transformers of diffusers from Kandinsky 6 SR to Wan VACE (`videos_a` has those before).

`branches`, `recomputed` and `blocks` are counted by hand from the source, as the comment beside each entry says.
"""

from typing import Any

import torch
from torch import Tensor, nn

from zoo.case import Case, noise


def kandinsky6_sr() -> nn.Module:
    from diffusers.models.transformers.transformer_kandinsky6_sr import Kandinsky6SRTransformer3DModel

    return Kandinsky6SRTransformer3DModel(
        in_visual_dim=4, out_visual_dim=4, time_dim=32, model_dim=32, ff_dim=64, num_visual_blocks=3,
        axes_dims=(4, 6, 6),
    )  # fmt: skip


def ltx() -> nn.Module:
    from diffusers import LTXVideoTransformer3DModel

    return LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32,
        num_layers=3, caption_channels=24,
    )  # fmt: skip


def _ltx2_config(**other: Any) -> dict[str, Any]:
    return {
        "in_channels": 8, "out_channels": 8, "num_attention_heads": 2, "attention_head_dim": 16,
        "cross_attention_dim": 32, "audio_in_channels": 6, "audio_out_channels": 6, "audio_num_attention_heads": 2,
        "audio_attention_head_dim": 8, "audio_cross_attention_dim": 16, "num_layers": 3, "caption_channels": 24,
        **other,
    }  # fmt: skip


def ltx2() -> nn.Module:
    from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel

    return LTX2VideoTransformer3DModel(**_ltx2_config())


def ltx2_3() -> nn.Module:
    from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel

    return LTX2VideoTransformer3DModel(
        **_ltx2_config(
            gated_attn=True, cross_attn_mod=True, audio_gated_attn=True, audio_cross_attn_mod=True,
            use_prompt_embeddings=False, perturbed_attn=True, rope_type="split",
        )
    )  # fmt: skip


def minimax_h3() -> nn.Module:
    from diffusers.models.transformers.transformer_minimax_h3 import MiniMaxH3Transformer3DModel

    return MiniMaxH3Transformer3DModel(
        num_attention_heads=2, attention_head_dim=16, hidden_size=24, num_layers=3, num_refiner_layers=2, ffn_dim=32,
        in_channels=2, audio_in_channels=6, text_dim=20, freq_dim=32, time_embed_hidden_dim=24, time_embed_dim=16,
        rope_freq_dim=2,
    )  # fmt: skip


def mochi() -> nn.Module:
    from diffusers import MochiTransformer3DModel

    return MochiTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, num_layers=3, pooled_projection_dim=24, in_channels=4,
        text_embed_dim=16, time_embed_dim=32, max_sequence_length=6,
    )  # fmt: skip


def motif_video() -> nn.Module:
    from diffusers.models.transformers.transformer_motif_video import MotifVideoTransformer3DModel

    return MotifVideoTransformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2, num_single_layers=3,
        text_embed_dim=24, rope_axes_dim=(4, 6, 6),
    )  # fmt: skip


def motif_video_decoder() -> nn.Module:
    from diffusers.models.transformers.transformer_motif_video import MotifVideoTransformer3DModel

    return MotifVideoTransformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2, num_single_layers=4,
        num_decoder_layers=2, text_embed_dim=24, image_embed_dim=20, rope_axes_dim=(4, 6, 6),
        enable_text_cross_attention_dual=True, enable_text_cross_attention_single=True,
    )  # fmt: skip


def sana_video() -> nn.Module:
    from diffusers import SanaVideoTransformer3DModel

    return SanaVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=3,
        num_cross_attention_heads=2, cross_attention_head_dim=16, cross_attention_dim=32, caption_channels=24,
        rope_max_seq_len=32,
    )  # fmt: skip


def sana_wm() -> nn.Module:
    from diffusers.models.transformers.transformer_sana_wm import SanaWMTransformer3DModel

    return SanaWMTransformer3DModel(
        in_channels=4, num_layers=4, hidden_size=32, num_attention_heads=2, softmax_every_n=2, linear_head_dim=16,
        chunk_plucker_channels=6, caption_channels=24, image_size=32,
    )  # fmt: skip


def sana_wm_refiner() -> nn.Module:
    from diffusers.models.transformers.transformer_sana_wm_refiner import SanaWMLTX2RefinerTransformer3DModel

    return SanaWMLTX2RefinerTransformer3DModel(**_ltx2_config())


def _wan_config(**other: Any) -> dict[str, Any]:
    return {
        "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4,
        "out_channels": 4, "text_dim": 24, "freq_dim": 32, "ffn_dim": 48, "num_layers": 3, "cross_attn_norm": True,
        "rope_max_seq_len": 32, **other,
    }  # fmt: skip


def skyreels_v2() -> nn.Module:
    from diffusers import SkyReelsV2Transformer3DModel

    return SkyReelsV2Transformer3DModel(**_wan_config(in_channels=8, image_dim=20, added_kv_proj_dim=32))


def skyreels_v2_forcing() -> nn.Module:
    from diffusers import SkyReelsV2Transformer3DModel

    return SkyReelsV2Transformer3DModel(**_wan_config(inject_sample_info=True))


def temporal() -> nn.Module:
    from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel

    return TransformerTemporalModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=16, num_layers=2, norm_num_groups=4
    )


def wan_i2v() -> nn.Module:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(**_wan_config(in_channels=8, image_dim=20, added_kv_proj_dim=32))


def wan_ti2v() -> nn.Module:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(**_wan_config())


def wan_animate() -> nn.Module:
    from diffusers import WanAnimateTransformer3DModel

    return WanAnimateTransformer3DModel(
        **_wan_config(in_channels=12, num_layers=4, image_dim=20, added_kv_proj_dim=32), latent_channels=4,
        motion_encoder_channel_sizes={"4": 8, "8": 8}, motion_encoder_size=8, motion_style_dim=12, motion_dim=4,
        motion_encoder_dim=12, face_encoder_hidden_dim=16, face_encoder_num_heads=2, inject_face_latents_blocks=2,
    )  # fmt: skip


def wan_animate_2() -> nn.Module:
    from diffusers.models.transformers.transformer_wan_animate_2 import WanAnimate2Transformer3DModel

    return WanAnimate2Transformer3DModel(
        text_len=6, in_dim=8, dim=32, ffn_dim=48, freq_dim=32, text_dim=24, out_dim=4, num_heads=2, num_layers=3
    )


def wan_vace() -> nn.Module:
    from diffusers import WanVACETransformer3DModel

    return WanVACETransformer3DModel(**_wan_config(), vace_layers=[0, 2], vace_in_channels=6)


def _coordinates(frames: int, height: int, width: int) -> Tensor:
    """Start and end of every token on each axis, as (batch, axes, tokens, 2)."""
    axes = [torch.arange(n).float() for n in (frames, height, width) if n]
    starts = torch.cartesian_prod(*axes).view(-1, len(axes)).T
    return torch.stack([starts, starts + 1], dim=-1)[None].repeat(2, 1, 1, 1)


def _ltx2_call(t: float, text: int, audio_text: int, **other: Any) -> dict[str, Any]:
    timestep = torch.full((2,), t)
    return {
        "hidden_states": noise(2, 12, 8), "audio_hidden_states": noise(2, 5, 6, seed=1),
        "encoder_hidden_states": noise(2, 6, text, seed=2),
        "audio_encoder_hidden_states": noise(2, 6, audio_text, seed=3), "timestep": timestep, "sigma": timestep,
        "encoder_attention_mask": torch.ones(2, 6), "audio_encoder_attention_mask": torch.ones(2, 6),
        "num_frames": 3, "height": 2, "width": 2, "fps": 24.0, "audio_num_frames": 5,
        "video_coords": _coordinates(3, 2, 2), "audio_coords": _coordinates(5, 0, 0), "return_dict": False, **other,
    }  # fmt: skip


def _minimax_call(t: float) -> dict[str, Any]:
    text, video, audio = torch.arange(17).split([4, 8, 5])
    tags = torch.tensor([1] * 4 + [0] * 8 + [2] * 5)
    levels = torch.tensor([1] * 4 + [2] * 4 + [1] * 4 + [0] * 5)
    return {
        "hidden_states": noise(2, 8, 8), "audio_hidden_states": noise(2, 5, 6, seed=1),
        "encoder_hidden_states": noise(2, 4, 20, seed=2), "timestep": torch.tensor([0.9 * t / 1000, t / 1000, 1.0]),
        "timestep_indices": levels, "token_tags": tags,
        "position_ids": torch.arange(17)[:, None] // torch.tensor([4, 2, 1]) % torch.tensor([5, 2, 2]),
        "video_indices": video, "audio_indices": audio, "text_indices": text, "return_dict": False,
    }  # fmt: skip


def _motif_call(t: float, **other: Any) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 9, 2, 8, 8), "timestep": torch.full((2,), t),
        "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "encoder_attention_mask": torch.arange(6) < torch.tensor([[4], [6]]), **other, "return_dict": False,
    }  # fmt: skip


def _sana_wm_call(t: float) -> dict[str, Any]:
    pose = torch.eye(4).repeat(2, 3, 1, 1)
    pose[:, :, :3, 3] = 0.1 * torch.arange(3)[:, None]
    lens = torch.tensor([4.0, 4.0, 2.0, 2.0]).expand(2, 3, 4)
    return {
        "hidden_states": noise(2, 4, 3, 4, 4), "timestep": torch.full((2, 1, 3), t) * (torch.arange(3) > 0),
        "encoder_hidden_states": noise(2, 1, 6, 24, seed=1),
        "mask": (torch.arange(6) < torch.tensor([[4], [6]])).long(),
        "data_info": {"img_hw": torch.tensor([[32.0, 32.0]])},
        "camera_conditions": torch.cat([pose.flatten(2), lens], dim=-1), "chunk_plucker": noise(2, 6, 3, 4, 4, seed=2),
        "return_dict": False,
    }  # fmt: skip


def _sana_wm_refiner_call(t: float) -> dict[str, Any]:
    from diffusers.models.transformers.transformer_sana_wm_refiner import SanaWMRefinerKVCache

    angles = noise(1, 20, 16, seed=3).repeat_interleave(2, dim=-1)
    sink, active = angles.split([8, 12], dim=1)
    cache = SanaWMRefinerKVCache(3)
    cache.sink_pe = (sink.cos(), sink.sin())
    for i, layer in enumerate(cache.layer_caches):
        layer.store_sink(noise(1, 8, 32, seed=4 + i), noise(1, 8, 32, seed=7 + i))
        layer.store_history(noise(1, 4, 32, seed=10 + i), noise(1, 4, 32, seed=13 + i))
    return {
        "hidden_states": noise(1, 12, 8), "encoder_hidden_states": noise(1, 6, 24, seed=1),
        "timestep": torch.full((1, 12), t), "video_rotary_emb": (active.cos(), active.sin()),
        "encoder_attention_mask": torch.ones(1, 6), "kv_cache": cache, "kv_cache_mode": "inject", "return_dict": False,
    }  # fmt: skip


def _wan_call(t: float, channels: int = 4, **other: Any) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, channels, 3, 8, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "timestep": torch.full((2,), t), **other, "return_dict": False,
    }  # fmt: skip


def _wan_animate_2_call(t: float) -> dict[str, Any]:
    from diffusers.models.transformers.transformer_wan_animate_2 import WanAnimate2KVCache

    cache = WanAnimate2KVCache(3)
    for i, layer in enumerate(cache.layer_caches):
        layer.store(noise(1, 32, 2, 16, seed=4 + i), noise(1, 32, 2, 16, seed=7 + i))
    return {
        "hidden_states": [noise(4, 3, 8, 8)], "timestep": torch.full((1,), t),
        "encoder_hidden_states": [noise(5, 24, seed=1)], "condition_latents": [noise(4, 3, 8, 8, seed=2)],
        "kv_cache": cache, "kv_cache_mode": "cached", "seq_len": 48,
        "encoder_hidden_states_image": noise(1, 5, 1280, seed=3), "reference_grid_sizes": torch.tensor([[2, 4, 4]]),
        "origin_len": 5, "origin_area": [64, 64], "return_dict": False,
    }  # fmt: skip


CASES: dict[str, Case] = {
    # per block: attention (block-sparse, by flex attention), MLP
    "Kandinsky 6 SR": Case(
        kandinsky6_sr,
        lambda t: {"hidden_states": noise(2, 2, 8, 8, 9), "timestep": torch.full((2,), t), "return_dict": False},
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    # per block: self-attention, cross-attention, MLP
    "LTX": Case(
        ltx,
        lambda t: {
            "hidden_states": noise(2, 12, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
            "timestep": torch.full((2,), t), "encoder_attention_mask": torch.ones(2, 6), "num_frames": 3, "height": 2,
            "width": 2, "rope_interpolation_scale": (8 / 24, 32, 32), "return_dict": False,
        },
        branches=3 * 3, recomputed=6, blocks=3,
    ),
    # per block, in both the video and the audio stream: self-attention, cross-attention to the text, cross-attention to
    # the other stream, MLP; the first and the third read other tokens that change
    "LTX-2": Case(ltx2, lambda t: _ltx2_call(t, 24, 24), branches=3 * 8, recomputed=3 * 4, blocks=3),
    # as LTX-2; the text is modulated by the timestep in every block, and attention heads are gated token by token,
    # which gives self-attention (and attention to the other stream) a token-wise way as well
    "LTX-2.3": Case(
        ltx2_3, lambda t: _ltx2_call(t, 32, 16, use_cross_timestep=True), branches=3 * 8, recomputed=3 * 8, blocks=3,
    ),
    # per block: attention, MLP, over video, audio and text rows in one stream; the refiner sees only text; three noise
    # levels in one call: audio, video, a given frame
    "MiniMax H3": Case(minimax_h3, _minimax_call, branches=3 * 2, recomputed=3, blocks=3),
    # per block: attention and MLP in both streams; the last block only in the video stream
    "Mochi": Case(
        mochi,
        lambda t: {
            "hidden_states": noise(2, 4, 2, 8, 8), "encoder_hidden_states": noise(2, 6, 16, seed=1),
            "timestep": torch.full((2,), t), "encoder_attention_mask": torch.arange(6) < torch.tensor([[4], [6]]),
            "return_dict": False,
        },
        branches=2 * 4 + 2, recomputed=2 * 2 + 1, blocks=3, graphs=28,
        partly="attention looks for the text tokens of each sample outside of the graphs, so they hold its sum alone",
    ),
    # double block: attention and MLP in both streams; single block: one branch for attention and MLP together
    "Motif-Video": Case(motif_video, _motif_call, branches=2 * 4 + 3, recomputed=2 * 2 + 3, blocks=2 + 3),
    # double block: as above and, in the video, a cross-attention whose queries are what the attention gave and whose
    # text moves with the latents, so nothing token-wise; single block: the same inside its one branch; the last two
    # single blocks decode from the patches once more
    "Motif-Video decoder": Case(
        motif_video_decoder, lambda t: _motif_call(t, image_embeds=noise(2, 3, 20, seed=2)), branches=2 * 5 + 4,
        recomputed=2 * 2 + 4, blocks=2 + 4,
    ),
    # per block: linear attention, cross-attention, convolutions; only cross-attention is token-wise
    "Sana-Video": Case(
        sana_video,
        lambda t: {
            "hidden_states": noise(2, 4, 3, 8, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
            "timestep": torch.full((2,), t), "encoder_attention_mask": torch.ones(2, 6), "return_dict": False,
        },
        branches=3 * 3, recomputed=3, blocks=3,
    ),
    # per block: attention (recurrent over the frames in two, softmax in two), cross-attention, convolutions; the first
    # is gated token by token and so token-wise as well as the second; the camera's rays are added, from no stream; a
    # recurrent and a softmax block are the unit that repeats
    "SANA-WM": Case(sana_wm, _sana_wm_call, branches=4 * 3, recomputed=4 * 2, blocks=4 // 2),
    # per block: self-attention to a cache, too, cross-attention, MLP
    "SANA-WM refiner": Case(
        sana_wm_refiner, _sana_wm_refiner_call, branches=3 * 3, recomputed=6, blocks=3
    ),
    # per block: self-attention, cross-attention to text and image, MLP
    "SkyReels-V2": Case(
        skyreels_v2, lambda t: _wan_call(t, 8, encoder_hidden_states_image=noise(2, 5, 20, seed=2)), branches=3 * 3,
        recomputed=6, blocks=3,
    ),
    # per block: self-attention, cross-attention, MLP; the timestep is told per frame
    "SkyReels-V2 diffusion forcing": Case(
        skyreels_v2_forcing,
        lambda t: {
            "hidden_states": noise(1, 4, 3, 8, 8), "encoder_hidden_states": noise(1, 6, 24, seed=1),
            "timestep": torch.full((1, 3), t), "enable_diffusion_forcing": True, "fps": [1],
            "return_dict": False,
        },
        branches=3 * 3, recomputed=6, blocks=3,
    ),
    # a layer of UNets (two self-attentions and an MLP per block), which sees no timestep
    "temporal transformer": Case(
        temporal, lambda t: {"hidden_states": noise(6, 16, 2, 2), "num_frames": 3, "return_dict": False}, branches=0,
        recomputed=0, blocks=0, refusal="timestep",
    ),
    # per block: self-attention, cross-attention to text and image, MLP
    "Wan I2V": Case(
        wan_i2v, lambda t: _wan_call(t, 8, encoder_hidden_states_image=noise(2, 5, 20, seed=2)), branches=3 * 3,
        recomputed=6, blocks=3,
    ),
    # as Wan, but every token has its own timestep
    "Wan TI2V": Case(
        wan_ti2v, lambda t: _wan_call(t) | {"timestep": torch.full((2, 48), t) * (torch.arange(48) >= 16)},
        branches=3 * 3, recomputed=6, blocks=3,
    ),
    # per block: self-attention, cross-attention to text and image, MLP; after every second block a cross-attention of
    # each frame to its face, which folds the frames into the batch and so is not recomputed; two blocks are what repeats
    "Wan Animate": Case(
        wan_animate,
        lambda t: _wan_call(
            t, 12, encoder_hidden_states_image=noise(2, 5, 20, seed=2), pose_hidden_states=noise(2, 4, 2, 8, 8, seed=3),
            face_pixel_values=noise(2, 3, 5, 8, 8, seed=4),
        ),
        branches=4 * 3 + 2, recomputed=4 * 2, blocks=4 // 2,
    ),
    # per block: self-attention (flex attention to a cache, too), cross-attention to text and image, MLP
    "Wan Animate 2": Case(
        wan_animate_2, _wan_animate_2_call, branches=3 * 3, recomputed=6, blocks=3, graphs=46,
        partly="self-attention reads its sizes from tensors, outside of the graphs, so these hold its sum alone",
    ),
    # per block, the two control blocks as well: self-attention, cross-attention, MLP; the control adds are no branches
    "Wan VACE": Case(
        wan_vace,
        lambda t: _wan_call(
            t, control_hidden_states=noise(2, 6, 3, 8, 8, seed=2), control_hidden_states_scale=torch.ones(2)
        ),
        branches=(3 + 2) * 3, recomputed=(3 + 2) * 2, blocks=3 + 2,
    ),
}  # fmt: skip
