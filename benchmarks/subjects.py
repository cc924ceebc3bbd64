"""Published architectures at full width and reduced depth, with random weights: what they draw means nothing."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Subject:
    """`call(latents, t)` gives the keyword arguments of a call at timestep `t`; `depth` is that of the real model."""

    title: str
    depth: int
    build: Callable[[int], nn.Module]
    latents: Callable[[], Tensor]
    call: Callable[[Tensor, float], dict[str, Any]]

    def model(self, depth: int, dtype: torch.dtype, device: str = "cpu") -> nn.Module:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                model = self.build(depth)
        finally:
            torch.set_default_dtype(before)
        if device == "cpu":
            for parameter in model.parameters():
                parameter.data.normal_(std=0.02)
        return model.eval()

    def arguments(self, latents: Tensor, t: float) -> dict[str, Any]:
        """Conditioning in the latents' type, so that every step gets equal values."""
        torch.manual_seed(1)
        return self.call(latents, t)

    def step(self, latents: Tensor, step: int, fixed: dict[str, Any]) -> dict[str, Any]:
        """The arguments of step `step`, 15 apart: bfloat16 tells these timesteps from each other.

        What a sampler does not change are the tensors of `fixed`, the arguments of another call.
        """
        given = self.arguments(latents, 980.0 - 15 * step)
        return {name: fixed[name] if _same(value, fixed[name]) else value for name, value in given.items()}


def _same(value: Any, other: Any) -> bool:
    return not isinstance(value, Tensor) or torch.equal(value, other)


def _dit(depth: int) -> nn.Module:
    from dit import DiT

    return DiT(size=32, patch=2, channels=4, width=1152, depth=depth, heads=16)


def _flux(depth: int) -> nn.Module:
    """Two single blocks for each double block, as FLUX.1 has them."""
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(num_layers=depth, num_single_layers=2 * depth, guidance_embeds=True)


def flux_call(side: int, text: int) -> Callable[[Tensor, float], dict[str, Any]]:
    rows = torch.arange(float(side))
    grid = torch.stack(torch.meshgrid(torch.zeros(1), rows, rows, indexing="ij"), -1).reshape(-1, 3)

    def call(latents: Tensor, t: float) -> dict[str, Any]:
        like: dict[str, Any] = {"dtype": latents.dtype, "device": latents.device}
        return {
            "hidden_states": latents,
            "timestep": torch.full((1,), t / 1000, **like),
            "guidance": torch.full((1,), 3.5, **like),
            "pooled_projections": torch.randn(1, 768, **like),
            "encoder_hidden_states": torch.randn(1, text, 4096, **like),
            "txt_ids": torch.zeros(text, 3, device=latents.device),
            "img_ids": grid.to(latents.device),
            "return_dict": False,
        }

    return call


def _wan(depth: int) -> nn.Module:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(num_attention_heads=12, attention_head_dim=128, ffn_dim=8960, num_layers=depth)


def _wan_call(latents: Tensor, t: float) -> dict[str, Any]:
    text = torch.randn(1, 64, 4096, dtype=latents.dtype)
    return {
        "hidden_states": latents,
        "timestep": torch.full((1,), t),
        "encoder_hidden_states": text,
        "return_dict": False,
    }


SUBJECTS = {
    "dit": Subject(
        "DiT-XL/2, 256 tokens, a batch of 2",
        28,
        _dit,
        lambda: torch.randn(2, 4, 32, 32),
        lambda latents, t: {"x": latents, "t": torch.full((2,), t), "y": torch.tensor([1, 10])},
    ),
    "flux": Subject("FLUX.1, 1,024 + 128 tokens", 19, _flux, lambda: torch.randn(1, 1024, 64), flux_call(32, 128)),
    "wan": Subject("Wan 1.3B, 768 tokens", 30, _wan, lambda: torch.randn(1, 16, 3, 32, 32), _wan_call),
}


def first(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    return result[0] if isinstance(result, tuple) else result
