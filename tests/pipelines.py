"""Pipelines of `diffusers` from tiny random components, each with the scheduler that its model comes with."""

from collections.abc import Callable
from typing import Any

import torch

from zoo.case import randomise
from zoo.core import flux, pixart, sd3

WORDS = ("a", "cat", "dog", "blue", "red", "on", "the", "moon")


def tokenizer(length: int = 12) -> Any:
    """Words of a fixed list, in memory: no file and no hub."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: at for at, word in enumerate(("<pad>", "</s>", "<unk>", *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=length
    )


def t5(width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=16, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)).eval()


def umt5(width: int) -> Any:
    from transformers import UMT5Config, UMT5EncoderModel

    return UMT5EncoderModel(UMT5Config(vocab_size=16, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)).eval()


def clip(width: int, projection: int | None = None) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=16, hidden_size=width, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, projection_dim=projection or width, eos_token_id=1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def vae(channels: int = 4) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels, norm_num_groups=4, layers_per_block=1, shift_factor=0.0, scaling_factor=1.0,
        use_quant_conv=False, use_post_quant_conv=False,
    ).eval()  # fmt: skip


def dit() -> tuple[Any, dict[str, Any]]:
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    transformer = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=3, sample_size=8,
        patch_size=2, num_embeds_ada_norm=1000,
    )  # fmt: skip
    return DiTPipeline(randomise(transformer), vae(), DDIMScheduler()), {}


def pixart_alpha() -> tuple[Any, dict[str, Any]]:
    from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline

    pipe = PixArtAlphaPipeline(tokenizer(), t5(24), vae(), randomise(pixart()), DPMSolverMultistepScheduler())
    given = {
        "height": 16,
        "width": 16,
        "use_resolution_binning": False,
        "clean_caption": False,
        "max_sequence_length": 12,
    }
    return pipe, given


def stable_diffusion_3() -> tuple[Any, dict[str, Any]]:
    from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

    pipe = StableDiffusion3Pipeline(
        randomise(sd3()), FlowMatchEulerDiscreteScheduler(shift=3.0), vae(), clip(10, 10), tokenizer(77), clip(10, 10),
        tokenizer(77), t5(24), tokenizer(),
    )  # fmt: skip
    return pipe, {"height": 16, "width": 16, "max_sequence_length": 12}


def flux_1() -> tuple[Any, dict[str, Any]]:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

    transformer: Any = randomise(flux())
    config = transformer.config
    pipe = FluxPipeline(
        FlowMatchEulerDiscreteScheduler(), vae(config.in_channels // 4), clip(config.pooled_projection_dim), tokenizer(77),
        t5(config.joint_attention_dim), tokenizer(), transformer,
    )  # fmt: skip
    return pipe, {"height": 16, "width": 16, "max_sequence_length": 12}


def wan() -> tuple[Any, dict[str, Any]]:
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel

    coder = AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16, out_channels=16, text_dim=24,
        freq_dim=256, ffn_dim=32, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=32,
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    pipe = WanPipeline(tokenizer(), umt5(24), coder.eval(), scheduler, randomise(transformer))
    return pipe, {"height": 16, "width": 16, "num_frames": 5, "max_sequence_length": 12}


def ltx() -> tuple[Any, dict[str, Any]]:
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )

    coder = AutoencoderKLLTXVideo(
        in_channels=3, out_channels=3, latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1), spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False), decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4, upsample_factor=(1,) * 4, timestep_conditioning=False, patch_size=1, patch_size_t=1,
        encoder_causal=True, decoder_causal=False,
    )  # fmt: skip
    transformer = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32, num_layers=2,
        caption_channels=24,
    )  # fmt: skip
    pipe = LTXPipeline(FlowMatchEulerDiscreteScheduler(), coder.eval(), t5(24), tokenizer(), randomise(transformer))
    return pipe, {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 12}


PIPELINES: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "DiT": dit,
    "PixArt-alpha": pixart_alpha,
    "Stable Diffusion 3": stable_diffusion_3,
    "FLUX": flux_1,
    "Wan": wan,
    "LTX": ltx,
}


def generate(pipe: Any, given: dict[str, Any], prompt: str, **more: Any) -> torch.Tensor:
    """Images or frames after 10 steps. The pipeline for DiT takes classes, here the prompts' numbers of letters."""
    asked: dict[str, Any] = (
        {"class_labels": [len(prompt)]} if type(pipe).__name__ == "DiTPipeline" else {"prompt": prompt}
    )
    asked |= {"num_inference_steps": 10, "generator": torch.Generator().manual_seed(0), "output_type": "pt"}
    found: torch.Tensor = pipe(**given, **asked, **more, return_dict=False)[0]
    return found
