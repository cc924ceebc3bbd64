"""Image, audio and protein transformers: OmniGen to Z-Image, ACE-Step to Stable Audio 3, RFD4-Proteina.

`blocks` and `branches` are counted by hand from the architecture, as the comment beside each entry says.

Left out: `MiniMaxMusic3RVQDepthDecoder`, which predicts audio codes one after the other and denoises nothing.
"""

from typing import Any

import torch
from torch import nn

from zoo.case import Case, noise
from zoo.core import sd3_call


def omnigen() -> nn.Module:
    from diffusers import OmniGenTransformer2DModel

    return OmniGenTransformer2DModel(
        in_channels=4, patch_size=2, hidden_size=32, num_attention_heads=2, num_key_value_heads=2, intermediate_size=48,
        num_layers=3, pad_token_id=0, vocab_size=20, max_position_embeddings=64, original_max_position_embeddings=64,
        rope_scaling={"short_factor": [1.0] * 8, "long_factor": [1.0] * 8}, pos_embed_max_size=8, time_step_dim=16,
    )  # fmt: skip


def ovis_image() -> nn.Module:
    from diffusers import OvisImageTransformer2DModel

    return OvisImageTransformer2DModel(
        in_channels=8, out_channels=8, num_layers=2, num_single_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip


def prx(**options: Any) -> nn.Module:
    from diffusers import PRXTransformer2DModel

    return PRXTransformer2DModel(
        in_channels=4, patch_size=2, context_in_dim=24, hidden_size=32, mlp_ratio=2.0, num_heads=2, depth=3,
        axes_dim=[8, 8], **options,
    )  # fmt: skip


def qwen_image(**options: Any) -> nn.Module:
    from diffusers import QwenImageTransformer2DModel

    return QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, axes_dims_rope=(4, 6, 6), **options,
    )  # fmt: skip


def qwen_image_21() -> nn.Module:
    from diffusers import QwenImage21Transformer2DModel

    return QwenImage21Transformer2DModel(
        patch_size=1, in_channels=8, out_channels=8, num_layers=3, attention_head_dim=16, num_attention_heads=2,
        context_in_dim=24, mlp_ratio=2, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip


def sd35() -> nn.Module:
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, caption_projection_dim=32, pooled_projection_dim=20, out_channels=4,
        pos_embed_max_size=8, dual_attention_layers=(0, 1), qk_norm="rms_norm",
    )  # fmt: skip


def z_image(**options: Any) -> nn.Module:
    from diffusers import ZImageTransformer2DModel

    return ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=3, n_refiner_layers=2, n_heads=2, n_kv_heads=2, cap_feat_dim=24,
        axes_dims=[4, 6, 6], axes_lens=[256, 32, 32], **options,
    )  # fmt: skip


def ace_step() -> nn.Module:
    from diffusers import AceStepTransformer1DModel

    return AceStepTransformer1DModel(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, in_channels=24, audio_acoustic_hidden_dim=8, patch_size=2, sliding_window=4, encoder_hidden_size=24,
    )  # fmt: skip


def minimax_music3() -> nn.Module:
    from diffusers import MiniMaxMusic3Transformer1DModel

    return MiniMaxMusic3Transformer1DModel(
        in_channels=8, condition_dim=24, num_layers=3, num_attention_heads=2, attention_head_dim=16, ff_inner_dim=48,
        rotary_dim=8, fourier_embedding_dim=16,
    )  # fmt: skip


def stable_audio() -> nn.Module:
    from diffusers import StableAudioDiTModel

    return StableAudioDiTModel(
        sample_size=16, in_channels=8, num_layers=3, attention_head_dim=16, num_attention_heads=2,
        num_key_value_attention_heads=1, out_channels=8, cross_attention_dim=16, time_proj_dim=16,
        global_states_input_dim=20, cross_attention_input_dim=24,
    )  # fmt: skip


def stable_audio_3() -> nn.Module:
    from diffusers import StableAudio3DiTModel

    return StableAudio3DiTModel(
        io_channels=8, embed_dim=32, depth=3, num_heads=2, cond_token_dim=24, global_cond_dim=20, local_add_cond_dim=9,
        timestep_features_dim=16, ff_mult=2.0, num_memory_tokens=4,
    )  # fmt: skip


def t5_film() -> nn.Module:
    from diffusers.models.transformers.t5_film_transformer import T5FilmDecoder

    return T5FilmDecoder(input_dims=8, targets_length=16, d_model=32, num_layers=3, num_heads=2, d_kv=16, d_ff=48)


def longcat_audio(**options: Any) -> nn.Module:
    from diffusers import LongCatAudioDiTTransformer

    return LongCatAudioDiTTransformer(
        dit_dim=32, dit_depth=3, dit_heads=2, dit_text_dim=24, latent_dim=8, ff_mult=2.0, **options
    )


def rfd4_proteina() -> nn.Module:
    from diffusers import RFD4ProteinaTransformer

    return RFD4ProteinaTransformer(
        nlayers=4, token_dim=32, nheads=2, dim_cond=16, pair_repr_dim=16, latent_dim=8, token_type_emb_dim=8,
        cath_emb_dim=4, t_emb_dim=16, seq_sep_dim=8, xt_pair_dist_dim=8, tri_mult_c=8, num_sequence_classes=10,
    )  # fmt: skip


def _omnigen_call(t: float) -> dict[str, Any]:
    causal = torch.ones(23, 23).tril().long()
    causal[7:, 7:] = 1
    return {
        "hidden_states": noise(2, 4, 8, 8), "timestep": torch.full((2,), t / 1000),
        "input_ids": torch.arange(1, 13).view(2, 6), "input_img_latents": [], "input_image_sizes": {},
        "attention_mask": causal.expand(2, 23, 23), "position_ids": torch.arange(23).expand(2, 23),
        "return_dict": False,
    }  # fmt: skip


def _ovis_image_call(t: float) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 16, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "timestep": torch.full((2,), t / 1000),
        "img_ids": torch.cartesian_prod(*[torch.arange(n) for n in (1, 4, 4)]).float(),
        "txt_ids": torch.zeros(6, 3), "return_dict": False,
    }  # fmt: skip


def _prx_call(t: float) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 4, 8, 8), "timestep": torch.full((2,), t / 1000),
        "encoder_hidden_states": noise(2, 6, 24, seed=1), "attention_mask": torch.arange(6) < torch.tensor([[6], [4]]),
        "return_dict": False,
    }  # fmt: skip


def _qwen_image_call(t: float, images: int = 1, **more: Any) -> dict[str, Any]:
    """`images` of 4 x 4 tokens in the sequence, the first of which is to be denoised."""
    return {
        "hidden_states": noise(2, 16 * images, 16), "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "timestep": torch.full((2,), t / 1000), "img_shapes": [[(1, 4, 4)] * images] * 2, "return_dict": False, **more,
    }  # fmt: skip


def _qwen_image_21_call(t: float, cached: bool) -> dict[str, Any]:
    from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21KVCache

    call = {
        "hidden_states": noise(2, 16, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "timestep": torch.full((2,), t / 1000), "img_shapes": [[(1, 4, 4)]] * 2,
        "img_mask": (torch.arange(10) >= 6).expand(2, 10), "return_dict": False,
    }  # fmt: skip
    if cached:
        cache = QwenImage21KVCache(3)
        for at, layer in enumerate(cache.layer_caches):
            layer.store(noise(2, 6, 2, 16, seed=2 + at), noise(2, 6, 2, 16, seed=5 + at))
        call |= {"kv_cache": cache, "kv_cache_mode": "cached"}
    return call


def _z_image_omni_call(t: float) -> dict[str, Any]:
    captions = [[noise(size, 24, seed=size) for size in sizes] for sizes in ((5, 7, 3), (5, 9, 3))]
    return {
        "x": [[noise(4, 1, 8, 16, seed=3), noise(4, 1, 8, 16, seed=seed)] for seed in (0, 1)],
        "t": torch.full((2,), 1 - t / 1000), "cap_feats": captions,
        "siglip_feats": [[noise(4, 4, 20, seed=4), None] for _ in range(2)], "image_noise_mask": [[0, 1], [0, 1]],
        "return_dict": False,
    }  # fmt: skip


def _ace_step_call(t: float) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 16, 8), "timestep": torch.full((2,), t / 1000),
        "timestep_r": torch.full((2,), t / 1000), "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "context_latents": noise(2, 16, 16, seed=2), "return_dict": False,
    }  # fmt: skip


def _stable_audio_call(t: float) -> dict[str, Any]:
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    return {
        "hidden_states": noise(2, 8, 16), "timestep": torch.full((1,), t / 1000),
        "encoder_hidden_states": noise(2, 6, 24, seed=1), "global_hidden_states": noise(2, 1, 20, seed=2),
        "rotary_embedding": get_1d_rotary_pos_embed(8, 17, use_real=True, repeat_interleave_real=False),
        "return_dict": False,
    }  # fmt: skip


def _stable_audio_3_call(t: float, **more: Any) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 8, 16), "timestep": torch.full((2,), t / 1000),
        "encoder_hidden_states": noise(2, 6, 24, seed=1), "global_hidden_states": noise(2, 20, seed=2),
        "encoder_attention_mask": torch.arange(6) < torch.tensor([[6], [4]]), "return_dict": False, **more,
    }  # fmt: skip


def _t5_film_call(t: float) -> dict[str, Any]:
    return {
        "encodings_and_masks": [
            (noise(2, 6, 32, seed=1), torch.arange(6) < torch.tensor([[6], [4]])),
            (noise(2, 8, 32, seed=2), torch.ones(2, 8, dtype=torch.bool)),
        ],
        "decoder_input_tokens": noise(2, 16, 8), "decoder_noise_time": torch.full((2,), t / 1000),
    }  # fmt: skip


def _longcat_audio_call(t: float) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 16, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "encoder_attention_mask": torch.arange(6) < torch.tensor([[6], [4]]), "timestep": torch.full((2,), t / 1000),
        "attention_mask": torch.ones(2, 16, dtype=torch.bool), "latent_cond": torch.zeros(2, 16, 8),
        "return_dict": False,
    }  # fmt: skip


def _rfd4_proteina_call(t: float, chirality: bool) -> dict[str, Any]:
    tokens, ones = torch.arange(12).expand(2, 12), torch.ones(2, 12)
    atom_wise = {
        f"condition_{name}_1_atom": torch.zeros(2, 12, 37)
        for name in ("hbond", "pistack", "pication", "saltbridge", "hydrophobic", "metal-coord")
    }
    conditioning = {
        "is_in_context_conditioning": ones == 0, "supports_local_latent": ones == 1, **atom_wise,
        "token_bond_path_length": (tokens[:, :, None] - tokens[:, None]).abs(), "molecule_iid": tokens // 6,
        "molecule_entity_id": tokens // 6, "condition_index-group_1_token": tokens // 4,
    }  # fmt: skip
    if chirality:
        frames, owners = torch.full((2, 12, 6, 5), -1), torch.full((2, 12, 6), -1)
        frames[:, 2, 0], owners[:, 2, 0] = torch.tensor([2, 3, 1, 4, 5]), 2 * 6
        conditioning |= {
            "chirality": noise(2, 12, 18, seed=2),
            "chiral_frame_atoms": frames,
            "chiral_slot_owner": owners,
        }
    return {
        "bb_ca": noise(2, 12, 3), "local_latents": noise(2, 12, 8, seed=1), "bb_ca_time": torch.full((2,), t / 1000),
        "local_latents_time": torch.full((2,), t / 2000), "padding_mask": ones == 1, "token_type": tokens * 0,
        "atom37_mask": torch.ones(2, 12, 37), "conditioning": conditioning, "return_dict": False,
    }  # fmt: skip


CASES: dict[str, Case] = {
    # per block: attention, MLP; positions and masks that depend on data break the graph before the blocks
    "OmniGen": Case(omnigen, _omnigen_call, branches=3 * 2, recomputed=3, blocks=3, graphs=4),
    # double block: attention and MLP in both streams; single block: one branch for attention and MLP together
    "Ovis-Image": Case(ovis_image, _ovis_image_call, branches=2 * 4 + 3, recomputed=2 * 2 + 3, blocks=2 + 3),
    # per block: attention of the image to text and image, MLP; the text is no stream
    "PRX": Case(prx, _prx_call, branches=3 * 2, recomputed=3, blocks=3),
    # the same; height and width are embedded like the timestep, but are constants
    "PRX-7B": Case(
        lambda: prx(bottleneck_size=12, resolution_embeds=True), _prx_call,
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    # per block: attention and MLP in both streams; the text that leaves the last block is not used, so that block has
    # no text attention output and no text MLP
    "Qwen-Image": Case(
        qwen_image,
        lambda t: _qwen_image_call(t, encoder_hidden_states_mask=torch.arange(6) < torch.tensor([[6], [4]])),
        branches=2 * 4 + 2, recomputed=2 * 2 + 1, blocks=3,
    ),
    # the same; tokens of the given image have the modulation of timestep 0
    "Qwen-Image-Edit": Case(
        lambda: qwen_image(zero_cond_t=True), lambda t: _qwen_image_call(t, images=2),
        branches=2 * 4 + 2, recomputed=2 * 2 + 1, blocks=3,
    ),
    # the same
    "Qwen-Image-Layered": Case(
        lambda: qwen_image(use_additional_t_cond=True, use_layer3d_rope=True),
        lambda t: _qwen_image_call(t, images=3, additional_t_cond=torch.tensor([0, 0])),
        branches=2 * 4 + 2, recomputed=2 * 2 + 1, blocks=3,
    ),
    # per block: attention, MLP of one joint stream; masks that depend on data break the graph before the blocks
    "Qwen-Image 2.1": Case(
        qwen_image_21, lambda t: _qwen_image_21_call(t, cached=False), branches=3 * 2, recomputed=3, blocks=3,
        graphs=9,
    ),
    # the same; the stream is the image alone, keys and values of the text come from the cache
    "Qwen-Image 2.1 cached": Case(
        qwen_image_21, lambda t: _qwen_image_21_call(t, cached=True), branches=3 * 2, recomputed=3, blocks=3,
        graphs=8,
    ),
    # per block: attention and MLP in both streams and, but for the last, a second attention of the image alone;
    # the last block has no text MLP and no text attention output
    "SD3.5": Case(
        sd35,
        sd3_call,
        branches=2 * 5 + 2, recomputed=2 * 2 + 1, blocks=3,
    ),
    # per block: attention, MLP; two blocks refine the image alone, three see image and text in one stream
    "Z-Image": Case(
        z_image,
        lambda t: {
            "x": [noise(4, 1, 8, 16), noise(4, 1, 8, 16, seed=1)], "t": torch.full((2,), 1 - t / 1000),
            "cap_feats": [noise(6, 24, seed=2), noise(9, 24, seed=3)], "return_dict": False,
        },
        branches=(2 + 3) * 2, recomputed=2 + 3, blocks=2 + 3,
    ),
    # the same; tokens of given images have the modulation of another timestep
    "Z-Image-Omni": Case(
        lambda: z_image(siglip_feat_dim=20), _z_image_omni_call,
        branches=(2 + 3) * 2, recomputed=2 + 3, blocks=2 + 3,
    ),
    # per block: self-attention, cross-attention, MLP; the last two are token-wise
    "ACE-Step": Case(ace_step, _ace_step_call, branches=3 * 3, recomputed=6, blocks=3),
    # per block: attention, MLP; the timestep is a token; the 1x1 convolutions before and after the blocks are none
    "MiniMax-Music3": Case(
        minimax_music3,
        lambda t: {
            "hidden_states": noise(2, 8, 16), "timestep": torch.full((2,), t / 1000),
            "encoder_hidden_states": noise(2, 16, 24, seed=1), "return_dict": False,
        },
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    # per block: self-attention, cross-attention, MLP; the timestep is a token; 1x1 convolutions as above
    "Stable Audio": Case(stable_audio, _stable_audio_call, branches=3 * 3, recomputed=6, blocks=3),
    # per block: differential self-attention, differential cross-attention, MLP; 1x1 convolutions as above
    "Stable Audio 3": Case(stable_audio_3, _stable_audio_3_call, branches=3 * 3, recomputed=6, blocks=3),
    # the same; between cross-attention and MLP, an embedding of the given audio is added to some of the tokens
    "Stable Audio 3 inpainting": Case(
        stable_audio_3, lambda t: _stable_audio_3_call(t, local_add_cond=noise(2, 9, 16, seed=3)),
        branches=3 * 3, recomputed=6, blocks=3,
    ),
    # per layer: self-attention, cross-attention, MLP
    "T5-FiLM": Case(t5_film, _t5_film_call, branches=3 * 3, recomputed=6, blocks=3),
    # per block: self-attention, cross-attention, MLP; the text's convolutions and the long skip do not count
    "LongCat-AudioDiT": Case(longcat_audio, _longcat_audio_call, branches=3 * 3, recomputed=6, blocks=3),
    # the same
    "LongCat-AudioDiT local": Case(
        lambda: longcat_audio(adaln_type="local", cross_attn_norm=True), _longcat_audio_call,
        branches=3 * 3, recomputed=6, blocks=3,
    ),
    # two trunk layers, each: attention, MLP; then a pair update: outer product of the tokens, two triangle
    # multiplications, MLP. An attention and a triangle multiplication are token-wise at their end, the product with a
    # sigmoid gate that each token (pair) computes for itself; the outer product reads two tokens for each pair.
    "RFD4-Proteina": Case(
        rfd4_proteina, lambda t: _rfd4_proteina_call(t, chirality=False),
        branches=4 * 2 + 2 * 4, recomputed=4 * 2 + 2 * 3, blocks=2,
    ),
    # the same
    "RFD4-Proteina chirality": Case(
        rfd4_proteina, lambda t: _rfd4_proteina_call(t, chirality=True),
        branches=4 * 2 + 2 * 4, recomputed=4 * 2 + 2 * 3, blocks=2, graphs=4,
    ),
}  # fmt: skip
