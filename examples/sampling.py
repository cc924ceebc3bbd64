"""Class-conditional sampling with classifier-free guidance, and the trained example model."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from dit import DiT

WEIGHTS = Path(__file__).parent / "weights" / "dit.pt"
EMPTY_LABEL = 10
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "clip_sample": True,
}


FLOW_WEIGHTS = WEIGHTS.with_name("dit_flow.pt")


def flow_dit() -> DiT:
    """Narrower, so that the weights of both models stay small."""
    return DiT(width=160, heads=5)


def trained_dit() -> DiT:
    """Predicts the velocity of a diffusion (arXiv 2202.00512) under the cosine schedule."""
    return _trained(DiT(), WEIGHTS)


def trained_flow_dit() -> DiT:
    """Predicts `noise - image` for `(1 - s) image + s noise` at the timestep `1000 s` (arXiv 2209.03003)."""
    return _trained(flow_dit(), FLOW_WEIGHTS)


def _trained(model: DiT, weights: Path) -> DiT:
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


def initial_noise(count: int, seed: int) -> Tensor:
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def sample(
    model: Callable[[Tensor, Tensor, Tensor], Tensor],
    labels: Tensor,
    noise: Tensor,
    steps: int = 50,
    guidance: float = 1.25,
    dtype: torch.dtype = torch.float32,
    on_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Images `[n, 1, 28, 28]` in [-1, 1], as `denoised` makes them."""
    x = noise
    for x in denoised(model, labels, noise, steps, guidance, dtype):  # noqa: B007 - the last one is used
        on_step()
    return x.clamp(-1, 1)


@torch.no_grad()
def denoised(
    model: Callable[[Tensor, Tensor, Tensor], Tensor],
    labels: Tensor,
    noise: Tensor,
    steps: int = 50,
    guidance: float = 1.25,
    dtype: torch.dtype = torch.float32,
) -> Iterator[Tensor]:
    """Latents `[n, 1, 28, 28]` after each step of DDIM with classifier-free guidance (arXiv 2207.12598).

    Both halves of the guidance run as one batch of `2 n`; a guidance of 1 is none, and runs a batch of `n`.
    """
    scheduler = DDIMScheduler(**SCHEDULE)
    scheduler.set_timesteps(steps)
    halves = 1 if guidance == 1 else 2
    given = torch.cat([labels, torch.full_like(labels, EMPTY_LABEL)]) if halves == 2 else labels
    x = noise
    for t in scheduler.timesteps:
        output = model(x.repeat(halves, 1, 1, 1).to(dtype), t.expand(len(given)), given).float()
        conditional, unconditional = output[: len(x)], output[-len(x) :]
        x = scheduler.step(unconditional + guidance * (conditional - unconditional), t, x).prev_sample
        yield x
