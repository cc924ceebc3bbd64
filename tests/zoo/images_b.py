"""The image transformers of diffusers from ERNIE-Image to NucleusMoE-Image (`core` and `broken` have some of them).

`branches`, `recomputed` and `blocks` are counted by hand from the source, as the comment beside each entry says.
"""

from typing import Any

import torch
from torch import Tensor, nn

from zoo.case import Case, noise


def ernie_image() -> nn.Module:
    from diffusers.models.transformers.transformer_ernie_image import ErnieImageTransformer2DModel

    return ErnieImageTransformer2DModel(
        hidden_size=32, num_attention_heads=2, num_layers=3, ffn_hidden_size=64, in_channels=4, out_channels=4,
        text_in_dim=24, rope_axes_dim=(4, 6, 6),
    )  # fmt: skip


def flux2() -> nn.Module:
    from diffusers import Flux2Transformer2DModel

    return Flux2Transformer2DModel(
        in_channels=8, num_layers=2, num_single_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, timestep_guidance_channels=32, axes_dims_rope=(4, 4, 4, 4),
    )  # fmt: skip


def _flux3(**other: Any) -> nn.Module:
    from diffusers.models.transformers.transformer_flux3 import Flux3Transformer2DModel

    return Flux3Transformer2DModel(
        in_channels=8, cond_in_channels=8, num_layers=2, num_single_layers=3, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=24, timestep_channels=32, axes_dims_rope=(4, 4, 4, 4), **other,
    )  # fmt: skip


def flux3() -> nn.Module:
    return _flux3()


def flux3_flow_map() -> nn.Module:
    return _flux3(flow_map=True)


def glm_image() -> nn.Module:
    from diffusers.models.transformers.transformer_glm_image import GlmImageTransformer2DModel

    return GlmImageTransformer2DModel(
        in_channels=4, out_channels=4, num_layers=3, attention_head_dim=16, num_attention_heads=2, text_embed_dim=24,
        time_embed_dim=32, condition_dim=8, prior_vq_quantizer_codebook_size=16,
    )  # fmt: skip


def hunyuan_image() -> nn.Module:
    from diffusers import HunyuanImageTransformer2DModel

    return HunyuanImageTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2, num_single_layers=3,
        num_refiner_layers=2, guidance_embeds=True, use_meanflow=True, text_embed_dim=24, rope_axes_dim=(8, 8),
    )  # fmt: skip


def ideogram4() -> nn.Module:
    from diffusers.models.transformers.transformer_ideogram4 import Ideogram4Transformer2DModel

    return Ideogram4Transformer2DModel(
        in_channels=8, num_layers=3, attention_head_dim=16, num_attention_heads=2, intermediate_size=64, adaln_dim=24,
        llm_features_dim=20, mrope_section=(4, 2, 2),
    )  # fmt: skip


_JOYIMAGE: dict[str, Any] = {
    "in_channels": 4, "hidden_size": 32, "num_attention_heads": 2, "text_dim": 24, "num_layers": 3,
    "rope_dim_list": [4, 6, 6],
}  # fmt: skip


def joyimage() -> nn.Module:
    from diffusers.models.transformers.transformer_joyimage import JoyImageEditTransformer3DModel

    return JoyImageEditTransformer3DModel(**_JOYIMAGE)


def joyimage_plus() -> nn.Module:
    from diffusers.models.transformers.transformer_joyimage_edit_plus import JoyImageEditPlusTransformer3DModel

    return JoyImageEditPlusTransformer3DModel(**_JOYIMAGE)


def krea2() -> nn.Module:
    from diffusers.models.transformers.transformer_krea2 import Krea2Transformer2DModel

    return Krea2Transformer2DModel(
        in_channels=8, num_layers=3, attention_head_dim=16, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=64, timestep_embed_dim=32, text_hidden_dim=24, num_text_layers=3, text_num_attention_heads=2,
        text_num_key_value_heads=2, text_intermediate_size=32, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip


def longcat_image() -> nn.Module:
    from diffusers.models.transformers.transformer_longcat_image import LongCatImageTransformer2DModel

    return LongCatImageTransformer2DModel(
        in_channels=8, num_layers=2, num_single_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=24, axes_dims_rope=[4, 6, 6],
    )  # fmt: skip


def lumina2() -> nn.Module:
    from diffusers import Lumina2Transformer2DModel

    return Lumina2Transformer2DModel(
        in_channels=4, hidden_size=32, num_layers=3, num_refiner_layers=2, num_attention_heads=2, num_kv_heads=1,
        multiple_of=16, axes_dim_rope=(4, 6, 6), axes_lens=(32, 16, 16), cap_feat_dim=24,
    )  # fmt: skip


def nucleus_moe(grouped: bool) -> nn.Module:
    """`grouped`: all experts in one product, which is of `bfloat16`; by default each is called by itself."""
    from diffusers.models.transformers.transformer_nucleusmoe_image import NucleusMoEImageTransformer2DModel

    model = NucleusMoEImageTransformer2DModel(
        in_channels=8, out_channels=2, num_layers=6, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, axes_dims_rope=(4, 6, 6), num_experts=4, moe_intermediate_dim=16, capacity_factors=2.0,
        use_grouped_mm=grouped,
    )  # fmt: skip
    return model.to(torch.bfloat16) if grouped else model


def _ids(*columns: Tensor) -> Tensor:
    return torch.stack([column.float() for column in torch.broadcast_tensors(*columns)], -1)


def _grid_ids(side: int, start: int = 0) -> Tensor:
    """`[side * side, 4]`: image, row, column, none."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return _ids(torch.tensor(start), rows.flatten(), columns.flatten(), torch.tensor(0))


def _text_ids(length: int) -> Tensor:
    return _ids(torch.tensor(0), torch.tensor(0), torch.tensor(0), torch.arange(length))


def _flux_call(t: float) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 16, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
        "timestep": torch.full((2,), t / 1000), "img_ids": _grid_ids(4), "txt_ids": _text_ids(6), "return_dict": False,
    }  # fmt: skip


def _flux3_edit_call(t: float) -> dict[str, Any]:
    return {
        **_flux_call(t), "image_cond_hidden_states": noise(2, 16, 8, seed=2), "image_cond_ids": _grid_ids(4, 10),
        "target_timestep": torch.full((2,), (t - 20) / 1000),
    }  # fmt: skip


def _ideogram4_call(t: float) -> dict[str, Any]:
    """6 tokens of text, then 16 of the image."""
    indicator = torch.tensor([3] * 6 + [2] * 16).expand(2, 22)
    positions = torch.cat([_text_ids(6)[:, [3, 3, 3]], _grid_ids(4)[:, :3] + 65536]).long().expand(2, 22, 3)
    return {
        "hidden_states": noise(2, 22, 8), "timestep": torch.full((2,), t / 1000),
        "encoder_hidden_states": noise(2, 22, 20, seed=1), "position_ids": positions,
        "segment_ids": torch.zeros(2, 22, dtype=torch.long), "indicator": indicator, "return_dict": False,
    }  # fmt: skip


def _nucleus_moe_call(t: float, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "hidden_states": noise(2, 16, 8).to(dtype), "img_shapes": [(1, 4, 4)],
        "encoder_hidden_states": noise(2, 6, 24, seed=1).to(dtype), "timestep": torch.full((2,), t / 1000),
        "encoder_hidden_states_mask": torch.ones(2, 6, dtype=torch.bool), "return_dict": False,
    }  # fmt: skip


CASES: dict[str, Case] = {
    # per block: attention, MLP; the stream is [tokens, batch, width]
    "ERNIE-Image": Case(
        ernie_image,
        lambda t: {
            "hidden_states": noise(2, 4, 4, 4), "timestep": torch.full((2,), t), "text_bth": noise(2, 6, 24, seed=1),
            "text_lens": torch.tensor([6, 4]), "return_dict": False,
        },
        branches=3 * 2, recomputed=3, blocks=3,
    ),
    # per double block: attention and MLP for image and for text; per single block: parallel attention and MLP
    "FLUX.2": Case(
        flux2,
        lambda t: {**_flux_call(t), "guidance": torch.full((2,), 4.0)},
        branches=2 * 4 + 3, recomputed=2 * 2 + 3, blocks=2 + 3,
    ),
    # per image block: parallel attention and MLP; per single block: the same for image and for text, which the last
    # one's result is not made of. The text's own blocks, of the same kind, stand on the stream of the single ones
    "FLUX.3": Case(flux3, _flux_call, branches=2 * 2 + 3 * 2 - 1, recomputed=2 * 2 + 3 * 2 - 1, blocks=2 * 2 + 3),
    "FLUX.3, editing": Case(
        flux3_flow_map, _flux3_edit_call, branches=2 * 2 + 3 * 2 - 1, recomputed=2 * 2 + 3 * 2 - 1, blocks=2 * 2 + 3
    ),
    # per block: attention and MLP for image and for text; of the last block's text nothing is used. Breaks where it
    # picks the samples without a prior, then writes to them in place
    "GLM-Image": Case(
        glm_image,
        lambda t: {
            "hidden_states": noise(2, 4, 8, 8), "encoder_hidden_states": noise(2, 6, 24, seed=1),
            "prior_token_id": torch.arange(32).view(2, 16) % 16,
            "prior_token_drop": torch.tensor([[True], [False]]).expand(2, 16),
            "timestep": torch.full((2,), t), "target_size": torch.full((2, 2), 64.0),
            "crop_coords": torch.zeros(2, 2), "return_dict": False,
        },
        branches=3 * 4 - 2, recomputed=3 * 2 - 1, blocks=3, graphs=2,
    ),
    # per double block: attention and MLP for image and for text; per single block: parallel attention and MLP; per
    # block of the text's refiner, on the stream of the text: attention, MLP
    "HunyuanImage": Case(
        hunyuan_image,
        lambda t: {
            "hidden_states": noise(2, 4, 4, 4), "timestep": torch.full((2,), t),
            "encoder_hidden_states": noise(2, 6, 24, seed=1),
            "encoder_attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2]),
            "timestep_r": torch.full((2,), t - 20), "guidance": torch.full((2,), 3500.0), "return_dict": False,
        },
        branches=2 * 4 + 3 + 2 * 2, recomputed=2 * 2 + 3 + 2, blocks=2 + 3 + 2,
    ),
    # per block: attention, MLP, both with a norm behind and a tanh gate
    "Ideogram 4": Case(ideogram4, _ideogram4_call, branches=3 * 2, recomputed=3, blocks=3),
    # per block: attention and MLP for image and for text; of the last block's text nothing is used
    "JoyImage Edit": Case(
        joyimage,
        lambda t: {
            "hidden_states": noise(2, 2, 4, 1, 4, 4), "timestep": torch.full((2,), t),
            "encoder_hidden_states": noise(2, 6, 24, seed=1), "return_dict": False,
        },
        branches=3 * 4 - 2, recomputed=3 * 2 - 1, blocks=3,
    ),
    # per block: attention and MLP for image and for text; of the last block's text nothing is used
    "JoyImage Edit Plus": Case(
        joyimage_plus,
        lambda t: {
            "hidden_states": noise(2, 20, 4, 1, 2, 2), "timestep": torch.full((2,), t),
            "encoder_hidden_states": noise(2, 6, 24, seed=1), "encoder_hidden_states_mask": torch.ones(2, 6),
            "shape_list": [[(1, 4, 4), (1, 2, 2)], [(1, 4, 4)]], "return_dict": False,
        },
        branches=3 * 4 - 2, recomputed=3 * 2 - 1, blocks=3,
    ),
    # per block: attention, whose output is gated token by token, MLP. The blocks that fuse the text do not see latents
    "Krea 2": Case(
        krea2,
        lambda t: {
            "hidden_states": noise(2, 16, 8), "encoder_hidden_states": noise(2, 6, 3, 24, seed=1),
            "timestep": torch.full((2,), t / 1000), "position_ids": torch.cat([_text_ids(6), _grid_ids(4)])[:, :3],
            "encoder_attention_mask": torch.tensor([[True] * 6, [True] * 4 + [False] * 2]), "return_dict": False,
        },
        branches=3 * 2, recomputed=3 * 2, blocks=3,
    ),
    # per double block: attention and MLP for image and for text; per single block: parallel attention and MLP
    "LongCat-Image": Case(
        longcat_image,
        lambda t: {**_flux_call(t), "img_ids": _grid_ids(4)[:, :3], "txt_ids": _text_ids(6)[:, :3]},
        branches=2 * 4 + 3, recomputed=2 * 2 + 3, blocks=2 + 3,
    ),
    # per block, the latents' and the text's refiners' too: attention, MLP. Breaks: it reads the lengths of the texts
    "Lumina 2": Case(
        lumina2,
        lambda t: {
            "hidden_states": noise(2, 4, 8, 8), "timestep": torch.full((2,), t / 1000),
            "encoder_hidden_states": noise(2, 6, 24, seed=1),
            "encoder_attention_mask": torch.tensor([[True] * 6, [True] * 4 + [False] * 2]), "return_dict": False,
        },
        branches=7 * 2, recomputed=7, blocks=7, graphs=4,
    ),
    # per block: attention, MLP or, in two of them, experts, which choose among all tokens
    "NucleusMoE-Image": Case(
        lambda: nucleus_moe(grouped=True), lambda t: _nucleus_moe_call(t, torch.bfloat16),
        branches=6 * 2, recomputed=4, blocks=6,
    ),
    # the same
    "NucleusMoE-Image by default": Case(
        lambda: nucleus_moe(grouped=False), lambda t: _nucleus_moe_call(t, torch.float32),
        branches=6 * 2, recomputed=4, blocks=6, graphs=19,
        partly="the experts run outside of the graphs, so these hold their sum alone",
    ),
}  # fmt: skip
