"""Image models, first half: from AuraFlow to CogView4, and the transformers inside U-Nets.

`blocks` and `branches` are counted by hand from the architecture, as the comment beside each entry says.

Left out: DualTransformer2DModel is no ModelMixin and only sits inside the U-Net of a deprecated pipeline; Bria's
`guidance_embeds` cannot be built (its guidance embedding lacks an argument); Transformer2DModel with patches and
`norm_type="ada_norm"` cannot be run (it asks an `nn.Embedding` for the class labels too).
"""

from typing import Any

import torch
from torch import Tensor, nn

from zoo.case import Case, noise
from zoo.core import dit_call


class Hosted(nn.Module):
    """A channels-first transformer where pipelines have it: inside a convolutional net, which brings the time."""

    def __init__(self, transformer: nn.Module, channels: int, modulated: bool = False) -> None:
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps
        from diffusers.models.normalization import AdaLayerNormSingle

        super().__init__()
        self.transformer = transformer
        self.enter, self.leave = nn.Conv2d(4, channels, 3, padding=1), nn.Conv2d(channels, 4, 3, padding=1)
        self.phases, self.clock = Timesteps(32, True, 0), TimestepEmbedding(32, channels)
        self.modulation = AdaLayerNormSingle(channels) if modulated else None

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        x = self.enter(sample) + self.clock(self.phases(timestep))[:, :, None, None]
        modulation = None if self.modulation is None else self.modulation(timestep, hidden_dtype=x.dtype)[0]
        x = self.transformer(
            x, encoder_hidden_states=encoder_hidden_states, timestep=modulation, return_dict=False
        )[0]  # fmt: skip
        return self.leave(x)


def auraflow() -> nn.Module:
    from diffusers import AuraFlowTransformer2DModel

    return AuraFlowTransformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_mmdit_layers=2, num_single_dit_layers=3, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=24, caption_projection_dim=32, out_channels=4, pos_embed_max_size=16,
    )  # fmt: skip


def hunyuan_dit() -> nn.Module:
    from diffusers import HunyuanDiT2DModel

    return HunyuanDiT2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, patch_size=2, sample_size=8, hidden_size=32,
        num_layers=6, cross_attention_dim=24, cross_attention_dim_t5=16, pooled_projection_dim=20, text_len=4,
        text_len_t5=6,
    )  # fmt: skip


def lumina_next() -> nn.Module:
    from diffusers import LuminaNextDiT2DModel

    return LuminaNextDiT2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=32, num_layers=3, num_attention_heads=2, num_kv_heads=1,
        multiple_of=16, cross_attention_dim=24,
    )  # fmt: skip


def kandinsky_prior() -> nn.Module:
    from diffusers import PriorTransformer

    return PriorTransformer(
        num_attention_heads=2, attention_head_dim=16, num_layers=3, embedding_dim=24, num_embeddings=6
    )


def shap_e_prior() -> nn.Module:
    from diffusers import PriorTransformer

    return PriorTransformer(
        num_attention_heads=2, attention_head_dim=16, num_layers=3, embedding_dim=24, num_embeddings=16,
        additional_embeddings=0, time_embed_act_fn="gelu", norm_in_type="layer", encoder_hid_proj_type=None,
        added_emb_type=None, time_embed_dim=64, embedding_proj_dim=20, clip_embed_dim=48,
    )  # fmt: skip


def sana(**options: Any) -> nn.Module:
    from diffusers import SanaTransformer2DModel

    return SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=3,
        num_cross_attention_heads=2, cross_attention_head_dim=16, cross_attention_dim=32, caption_channels=24,
        sample_size=4, patch_size=1, **options,
    )  # fmt: skip


def sana_sprint() -> nn.Module:
    return sana(guidance_embeds=True, qk_norm="rms_norm_across_heads")


def transformer_2d_single() -> nn.Module:
    from diffusers import Transformer2DModel

    return Transformer2DModel(
        num_attention_heads=3, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=3, sample_size=8,
        patch_size=2, cross_attention_dim=48, caption_channels=24, attention_bias=True, norm_type="ada_norm_single",
        norm_elementwise_affine=False, norm_eps=1e-6, activation_fn="gelu-approximate", use_additional_conditions=True,
    )  # fmt: skip


def transformer_2d_zero() -> nn.Module:
    from diffusers import Transformer2DModel

    return Transformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=3, sample_size=8,
        patch_size=2, attention_bias=True, norm_type="ada_norm_zero", norm_elementwise_affine=False,
        activation_fn="gelu-approximate", num_embeds_ada_norm=10,
    )  # fmt: skip


def vq_diffusion() -> nn.Module:
    from diffusers import Transformer2DModel

    return Transformer2DModel(
        num_attention_heads=2, attention_head_dim=16, num_layers=3, cross_attention_dim=24, attention_bias=True,
        sample_size=4, num_vector_embeds=20, activation_fn="geglu-approximate", num_embeds_ada_norm=1000,
        norm_type="ada_norm",
    )  # fmt: skip


def transformer_2d_hosted() -> nn.Module:
    from diffusers import Transformer2DModel

    inner = Transformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=32, num_layers=3, norm_num_groups=8,
        cross_attention_dim=24, use_linear_projection=True,
    )  # fmt: skip
    return Hosted(inner, 32)


def transformer_2d_single_hosted() -> nn.Module:
    from diffusers import Transformer2DModel

    inner = Transformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=32, num_layers=3, norm_num_groups=8,
        cross_attention_dim=24, norm_type="ada_norm_single", norm_elementwise_affine=False,
    )  # fmt: skip
    return Hosted(inner, 32, modulated=True)


def dreamlite(**options: Any) -> nn.Module:
    from diffusers.models.transformers.transformer_2d_dreamlite import DreamLiteTransformer2DModel

    inner = DreamLiteTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=32, num_layers=3, norm_num_groups=8,
        cross_attention_dim=24, use_linear_projection=True, qk_norm="rms_norm", ff_mult=3, **options,
    )  # fmt: skip
    return Hosted(inner, 32)


def dreamlite_cross() -> nn.Module:
    return dreamlite(use_self_attention=False)


def bria() -> nn.Module:
    from diffusers import BriaTransformer2DModel

    return BriaTransformer2DModel(
        patch_size=1, in_channels=8, num_layers=2, num_single_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip


def bria_fibo() -> nn.Module:
    from diffusers import BriaFiboTransformer2DModel

    return BriaFiboTransformer2DModel(
        patch_size=1, in_channels=8, num_layers=2, num_single_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, axes_dims_rope=[4, 4, 8], text_encoder_dim=12,
    )  # fmt: skip


def bria_fibo2() -> nn.Module:
    from diffusers.models.transformers.transformer_bria_fibo2 import BriaFibo2Transformer2DModel

    return BriaFibo2Transformer2DModel(
        in_channels=4, patch_size=2, dim=32, n_layers=4, n_refiner_layers=2, n_heads=2, cap_feat_dim=24,
        injection_layer_ids=(1, 3), perceiver_num_layers=2, min_num_gist_tokens=4, max_num_gist_tokens=8, gist_step=4,
        gist_min_text_len=4, gist_max_text_len=16, axes_dims=(4, 6, 6), axes_lens=(16, 8, 8),
    )  # fmt: skip


def chroma() -> nn.Module:
    from diffusers import ChromaTransformer2DModel

    return ChromaTransformer2DModel(
        patch_size=1, in_channels=8, num_layers=2, num_single_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, axes_dims_rope=(4, 4, 8), approximator_num_channels=16, approximator_hidden_dim=32,
        approximator_layers=2,
    )  # fmt: skip


def cogview3plus() -> nn.Module:
    from diffusers import CogView3PlusTransformer2DModel

    return CogView3PlusTransformer2DModel(
        patch_size=2, in_channels=4, num_layers=3, attention_head_dim=16, num_attention_heads=2, out_channels=4,
        text_embed_dim=24, time_embed_dim=16, condition_dim=8, pos_embed_max_size=8, sample_size=8,
    )  # fmt: skip


def cogview4() -> nn.Module:
    from diffusers import CogView4Transformer2DModel

    return CogView4Transformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=16, num_attention_heads=2,
        text_embed_dim=24, time_embed_dim=16, condition_dim=8, pos_embed_max_size=8, sample_size=8,
        rope_axes_dim=(8, 8),
    )  # fmt: skip


def _mask(batch: int, tokens: int) -> Tensor:
    """All tokens, but the last one of the first sample."""
    return torch.ones(batch, tokens).index_put((torch.tensor(0), torch.tensor(tokens - 1)), torch.tensor(0.0))


def _hunyuan_call(t: float) -> dict[str, Any]:
    phases = noise(16, 16, seed=3)
    return {
        "hidden_states": noise(2, 4, 8, 8), "timestep": torch.full((2,), t),
        "encoder_hidden_states": noise(2, 4, 24, seed=1), "text_embedding_mask": _mask(2, 4).long(),
        "encoder_hidden_states_t5": noise(2, 6, 16, seed=2), "text_embedding_mask_t5": _mask(2, 6).long(),
        "image_meta_size": torch.tensor([[64.0, 64, 64, 64, 0, 0]] * 2), "style": torch.zeros(2, dtype=torch.long),
        "image_rotary_emb": (phases.cos(), phases.sin()), "return_dict": False,
    }  # fmt: skip


def _lumina_call(t: float) -> dict[str, Any]:
    from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina

    return {
        "hidden_states": noise(2, 4, 8, 8), "timestep": torch.full((2,), 1 - t / 1000),
        "encoder_hidden_states": noise(2, 6, 24, seed=1), "encoder_mask": _mask(2, 6).long(),
        "image_rotary_emb": get_2d_rotary_pos_embed_lumina(16, 8, 8),
        "cross_attention_kwargs": {"base_sequence_length": 9}, "return_dict": False,
    }  # fmt: skip


def _sana_call(t: float) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 4, 4, 4), "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "timestep": torch.full((2,), t), "encoder_attention_mask": _mask(2, 6), "return_dict": False,
    }  # fmt: skip


def _bria_call(t: float) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 16, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "timestep": torch.full((2,), t), "txt_ids": torch.zeros(6, 3),
        "img_ids": torch.cartesian_prod(*[torch.arange(n) for n in (1, 4, 4)]).float(), "return_dict": False,
    }  # fmt: skip


def _hosted_call(t: float) -> dict[str, Any]:
    return {
        "sample": noise(2, 4, 4, 4),
        "timestep": torch.full((2,), t),
        "encoder_hidden_states": noise(2, 6, 24, seed=1),
    }


def _cogview_call(t: float) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 4, 8, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "timestep": torch.full((2,), t), "original_size": torch.full((2, 2), 64.0),
        "target_size": torch.full((2, 2), 64.0), "crop_coords": torch.zeros(2, 2), "return_dict": False,
    }  # fmt: skip


CASES: dict[str, Case] = {
    # joint block: attention and MLP in both streams; single block: attention, then MLP. The sum after attention is
    # read by the MLP alone: the MLP adds to what came into the block
    "AuraFlow": Case(
        auraflow,
        lambda t: {
            "hidden_states": noise(2, 4, 8, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
            "timestep": torch.full((2,), t / 1000), "return_dict": False,
        },
        branches=2 * 4 + 3 * 2, recomputed=2 * 2 + 3, blocks=2 + 3,
    ),
    # per block: self-attention, cross-attention, MLP; the last two blocks begin with a long skip, which is no branch
    "HunyuanDiT": Case(hunyuan_dit, _hunyuan_call, branches=6 * 3, recomputed=6 * 2, blocks=6),
    # per block: self- and cross-attention together (token-wise by way of the cross-attention's queries), MLP
    "Lumina-Next": Case(lumina_next, _lumina_call, branches=3 * 2, recomputed=3 * 2, blocks=3),
    # per block: attention, MLP; the time is a token, not a modulation
    "Kandinsky prior": Case(
        kandinsky_prior,
        lambda t: {
            "hidden_states": noise(2, 24), "timestep": torch.tensor(int(t)), "proj_embedding": noise(2, 24, seed=1),
            "encoder_hidden_states": noise(2, 6, 24, seed=2), "attention_mask": _mask(2, 6).bool(),
            "return_dict": False,
        },
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    # per block: attention, MLP; the time is a token, the latents are a sequence
    "Shap-E prior": Case(
        shap_e_prior,
        lambda t: {
            "hidden_states": noise(2, 16, 24), "timestep": torch.tensor(int(t)),
            "proj_embedding": noise(2, 20, seed=1), "return_dict": False,
        },
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    # per block: linear self-attention, cross-attention, gated convolution; the cross-attention alone is token-wise
    "Sana": Case(sana, _sana_call, branches=3 * 3, recomputed=3, blocks=3),
    # as Sana, with guidance embedded beside the time and norms on queries and keys
    "Sana Sprint": Case(
        sana_sprint,
        lambda t: {**_sana_call(t / 1000), "guidance": torch.full((2,), 0.45)},
        branches=3 * 3, recomputed=3, blocks=3,
    ),
    # per block: self-attention, cross-attention, MLP; sizes are embedded beside the time
    "Transformer2D ada_norm_single": Case(
        transformer_2d_single,
        lambda t: {
            "hidden_states": noise(2, 4, 8, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
            "timestep": torch.full((2,), int(t)), "encoder_attention_mask": _mask(2, 6),
            "added_cond_kwargs": {
                "resolution": torch.full((2, 2), 64.0), "aspect_ratio": torch.full((2, 1), 1.0)
            },
            "return_dict": False,
        },
        branches=3 * 3, recomputed=3 * 2, blocks=3,
    ),
    # per block: attention, MLP; each block embeds the time itself
    "Transformer2D ada_norm_zero": Case(
        transformer_2d_zero,
        dit_call,
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    # per block: self-attention, cross-attention, MLP; latents are classes, and the time is looked up in a table
    "VQ-Diffusion": Case(
        vq_diffusion,
        lambda t: {
            "hidden_states": torch.arange(2 * 16).view(2, 16) % 20, "encoder_hidden_states": noise(2, 6, 24, seed=1),
            "timestep": torch.tensor(int(t)), "return_dict": False,
        },
        branches=3 * 3, recomputed=3 * 2, blocks=3,
    ),
    # per block: self-attention, cross-attention, MLP; around all blocks one long skip, which is no branch
    "Transformer2D in a U-Net": Case(
        transformer_2d_hosted, _hosted_call, branches=3 * 3, recomputed=3 * 2, blocks=3,
    ),
    # as above, with 1x1 convolutions at both ends, and modulated by a projection that the host makes
    "Transformer2D ada_norm_single in a U-Net": Case(
        transformer_2d_single_hosted, _hosted_call, branches=3 * 3, recomputed=3 * 2, blocks=3,
    ),
    # per block: self-attention, cross-attention, MLP; around all blocks one long skip, which is no branch
    "DreamLite": Case(dreamlite, _hosted_call, branches=3 * 3, recomputed=3 * 2, blocks=3),
    # per block: cross-attention, MLP; in place of self-attention the stream itself is normalised
    "DreamLite without self-attention": Case(
        dreamlite_cross, _hosted_call, branches=3 * 2, recomputed=3 * 2, blocks=3,
    ),
    # double block: attention and MLP in both streams; single block: one branch for attention and MLP together
    "Bria": Case(bria, _bria_call, branches=2 * 4 + 3, recomputed=2 * 2 + 3, blocks=2 + 3),
    # as Bria; before each block, half of the text stream's channels are replaced by a layer of the text encoder
    "Bria FIBO": Case(
        bria_fibo,
        lambda t: {
            **_bria_call(t), "text_encoder_layers": [noise(2, 6, 12, seed=2 + layer) for layer in range(5)],
            "joint_attention_kwargs": {"attention_mask": _mask(2, 22).bool()[:, None, None, :]},
        },
        branches=2 * 4 + 3, recomputed=2 * 2 + 3, blocks=2 + 3,
    ),
    # refiner block on the latents: attention, MLP; main block: attention, cross-attention in every second one, MLP;
    # the Perceiver reads the text alone and does not count; what repeats is a pair of main blocks
    "Bria FIBO 2": Case(
        bria_fibo2,
        lambda t: {
            "hidden_states": noise(2, 4, 8, 8), "timestep": torch.full((2,), t / 1000),
            "encoder_hidden_states": noise(2, 3, 6, 24, seed=1), "return_dict": False,
        },
        branches=2 * 2 + 4 * 2 + 2, recomputed=2 + 4 + 2, blocks=2 + 4 // 2,
    ),
    # as above; the refiner too reads tokens of a clean image, and modulates noisy and clean ones differently
    "Bria FIBO 2 edit": Case(
        bria_fibo2,
        lambda t: {
            "hidden_states": noise(2, 4, 8, 8), "timestep": torch.full((2,), t / 1000),
            "encoder_hidden_states": noise(2, 3, 6, 24, seed=1), "context_latents": [noise(2, 4, 8, 8, seed=2)],
            "return_dict": False,
        },
        branches=2 * 2 + 4 * 2 + 2, recomputed=2 + 4 + 2, blocks=2 + 4 // 2,
    ),
    # double block: attention and MLP in both streams; single block: one branch for attention and MLP together; the
    # approximator's residuals see the time alone and do not count
    "Chroma": Case(
        chroma,
        lambda t: {**_bria_call(t / 1000), "attention_mask": _mask(2, 22)},
        branches=2 * 4 + 3, recomputed=2 * 2 + 3, blocks=2 + 3,
    ),
    # per block: attention and MLP in both streams, the MLP on both at once; the last text MLP is never read
    "CogView3-Plus": Case(cogview3plus, _cogview_call, branches=3 * 4 - 1, recomputed=3 * 2 - 1, blocks=3),
    # per block: attention and MLP in both streams; in the last block neither is read of the text stream
    "CogView4": Case(cogview4, _cogview_call, branches=2 * 4 + 2, recomputed=2 * 2 + 1, blocks=3),
}  # fmt: skip
