"""The models that all methods of `peers` run, each with its sampler, noise and conditioning."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[..., Any]
Around = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Size:
    """`width` of the stream, number of blocks and side of the token grid of the models with random weights; `batch` is
    of the trained one."""

    width: int
    depth: int
    side: int
    batch: int


@dataclass(frozen=True)
class Sampled:
    """`sample(run, steps, on_step)` calls `run(**arguments)` once a step, `on_step()` around each call.

    `blocks` names the lists of blocks; `span` is the pixel range for PSNR, None for that of the uncached sample.
    """

    name: str
    shape: str
    model: nn.Module
    sample: Callable[[Run, int, Around], Tensor]
    blocks: tuple[str, ...]
    span: float | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of a first step."""
        found: list[dict[str, Any]] = []

        class Found(Exception):
            pass

        def catch(**arguments: Any) -> None:
            found.append(arguments)
            raise Found

        with suppress(Found):
            self.sample(catch, 1, nullcontext)
        return found[0]


def scaled(model: nn.Module) -> nn.Module:
    """Matrices scaled by their inputs, so that a block keeps the scale of its stream and no gate is zero."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) / math.sqrt(parameter[0].numel())
    return model.eval()


def noise(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def flow(start: Tensor, call: Callable[[Tensor, float], dict[str, Any]]) -> Callable[[Run, int, Around], Tensor]:
    """Euler's method along a flow from `start` at time 1 to time 0 in equal steps."""

    def sample(run: Run, steps: int, on_step: Around) -> Tensor:
        x = start
        for now, then in pairwise(torch.linspace(1, 0, steps + 1).tolist()):
            arguments = call(x, now)
            with on_step():
                output = run(**arguments)
            x = x + (then - now) * output[0][:, : x.shape[1]]
        return x

    return sample


def flux(size: Size) -> Sampled:
    from diffusers import FluxTransformer2DModel

    double = max(2, size.depth // 3)
    single, head = max(2, size.depth - double), 64
    model = FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=double, num_single_layers=single, attention_head_dim=head,
        num_attention_heads=size.width // head, joint_attention_dim=256, pooled_projection_dim=128, guidance_embeds=True,
        axes_dims_rope=(16, 24, 24),
    )  # fmt: skip
    grid = torch.cartesian_prod(*[torch.arange(extent) for extent in (1, size.side, size.side)]).float()
    text = 64
    fixed = {
        "encoder_hidden_states": noise(1, text, 256, seed=1), "pooled_projections": noise(1, 128, seed=2),
        "guidance": torch.full((1,), 3.5), "img_ids": grid, "txt_ids": torch.zeros(text, 3), "return_dict": False,
    }  # fmt: skip

    def call(x: Tensor, now: float) -> dict[str, Any]:
        return {"hidden_states": x.mT, "timestep": torch.full((1,), now), **fixed}

    def sample(run: Run, steps: int, on_step: Around) -> Tensor:
        return flow(noise(1, 64, size.side**2), call)(lambda **given: [run(**given)[0].mT], steps, on_step)

    shape = f"{double} double and {single} single blocks, width {size.width}, {size.side**2} + {text} tokens"
    return Sampled("FLUX", shape, scaled(model), sample, ("transformer_blocks", "single_transformer_blocks"))


def pixart(size: Size) -> Sampled:
    from diffusers import PixArtTransformer2DModel

    head = 64
    model = PixArtTransformer2DModel(
        num_attention_heads=size.width // head, attention_head_dim=head, in_channels=4, out_channels=8,
        num_layers=size.depth, sample_size=2 * size.side, patch_size=2, cross_attention_dim=size.width,
        caption_channels=256, use_additional_conditions=False,
    )  # fmt: skip
    fixed = {
        "encoder_hidden_states": noise(1, 64, 256, seed=1), "return_dict": False,
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }  # fmt: skip

    def call(x: Tensor, now: float) -> dict[str, Any]:
        return {"hidden_states": x, "timestep": torch.full((1,), 1000 * now), **fixed}

    shape = f"{size.depth} blocks, width {size.width}, {size.side**2} tokens"
    start = noise(1, 4, 2 * size.side, 2 * size.side)
    return Sampled("PixArt", shape, scaled(model), flow(start, call), ("transformer_blocks",))


def wan(size: Size) -> Sampled:
    from diffusers import WanTransformer3DModel

    head, frames, side = 64, 4, size.side // 2
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=size.width // head, attention_head_dim=head, in_channels=16,
        out_channels=16, text_dim=256, freq_dim=256, ffn_dim=4 * size.width, num_layers=size.depth, cross_attn_norm=True,
        rope_max_seq_len=64,
    )  # fmt: skip
    fixed = {"encoder_hidden_states": noise(1, 64, 256, seed=1), "return_dict": False}

    def call(x: Tensor, now: float) -> dict[str, Any]:
        return {"hidden_states": x, "timestep": torch.full((1,), 1000 * now), **fixed}

    shape = f"{size.depth} blocks, width {size.width}, {frames} x {side**2} tokens"
    start = noise(1, 16, frames, 2 * side, 2 * side)
    return Sampled("Wan", shape, scaled(model), flow(start, call), ("blocks",))


def trained(size: Size) -> Sampled:
    import sampling

    model, labels, start = sampling.trained_dit(), torch.arange(size.batch) % 10, sampling.initial_noise(size.batch, 0)

    def sample(run: Run, steps: int, on_step: Around) -> Tensor:
        def step(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            with on_step():
                return run(x=x, t=t, y=y)

        return sampling.sample(step, labels, start, steps, guidance=1)

    shape = f"6 blocks, width 192, {size.batch} x 196 tokens"
    return Sampled("trained DiT", shape, model, sample, ("blocks",), span=2.0)


SUBJECTS: dict[str, Callable[[Size], Sampled]] = {"FLUX": flux, "PixArt": pixart, "Wan": wan, "trained DiT": trained}


def build(name: str, size: Size) -> Sampled:
    """The same in every process."""
    torch.manual_seed(0)
    return SUBJECTS[name](size)
