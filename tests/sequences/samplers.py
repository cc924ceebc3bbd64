"""Samplers as generators: each yields an evaluation of the denoiser, and is sent what the model makes of it.

Latents lie at `alpha * image + sigma * noise` as the model is given them. Whatever a model predicts is a linear function
of them and of the clean image, so every sampler can run over every kind of model.
"""

import copy
import itertools
from collections.abc import Generator
from functools import lru_cache
from typing import Any, NamedTuple

import diffusers
import torch
from torch import Tensor

SCHEDULE: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
}
LEVELS = torch.linspace(SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5, 1000).double().square()
LEVELS = (1 - LEVELS).cumprod(0)
"""The squared share of the image at each timestep of a model that was trained with added noise of equal total variance."""

DIFFUSION = (
    "DDIM", "DDPM", "Heun", "Euler", "DPM-Solver++ 2M", "DPM-Solver++ SDE", "UniPC", "Euler ancestral", "restart",
)  # fmt: skip
FLOW = ("flow", "flow Heun", "flow SDE")
KINDS = ("eps", "v", "x0", "flow")
"""What models predict: the noise, the velocity, the image, or the noise less the image."""


class Evaluation(NamedTuple):
    """`x`: latents as the model gets them, `[B, ...]`; they hold `alpha` of image and `sigma` of noise. `t`: the timestep,
    which falls from 1000 to 0."""

    x: Tensor
    t: float
    alpha: float
    sigma: float


Sampler = Generator[Evaluation, Tensor, None]
"""Is sent the estimate of the clean image, float64, shaped as `x`."""


def predicts(kind: str, image: Tensor, at: Evaluation, x: Tensor) -> Tensor:
    """What a model of this kind predicts for `x` where it takes `image` for the clean one."""
    if kind == "x0":
        return image
    noise = (x - at.alpha * image) / at.sigma
    return {"eps": noise, "v": at.alpha * noise - at.sigma * image, "flow": noise - image}[kind]


def image_of(kind: str, output: Tensor, at: Evaluation, x: Tensor) -> Tensor:
    """The clean image that a prediction of this kind for `x` tells."""
    if kind == "x0":
        return output
    if kind == "eps":
        return (x - at.sigma * output) / at.alpha
    if kind == "v":
        return at.alpha * x - at.sigma * output
    return (x - at.sigma * output) / (at.alpha + at.sigma)


def sample(name: str, steps: int, skip: int, image: Tensor, seed: int) -> tuple[int, Sampler]:
    """How many evaluations there will be, and the sampler: from noise alone, or, where the first `skip` of `steps` steps
    are left out, from noise over `image`."""
    chance = torch.Generator().manual_seed(seed)
    noise = torch.randn(image.shape, generator=chance)
    begun = image, skip, noise, chance
    return _flow(name, steps, *begun) if name in FLOW else _diffusion(name, steps, *begun)


def _diffusion(
    name: str, steps: int, image: Tensor, skip: int, noise: Tensor, chance: torch.Generator
) -> tuple[int, Sampler]:
    plan = copy.deepcopy(_scheduler(name, steps))
    begin = 2 * skip if name == "Heun" else skip
    if hasattr(plan, "set_begin_index"):
        plan.set_begin_index(begin)
    times = plan.timesteps[begin:]
    x = plan.add_noise(image, noise, times[:1]) if skip else noise * plan.init_noise_sigma
    turn = len(times) // 2 if name == "restart" else -1
    visited = [*times[: turn + 2], *times[turn:]] if turn > 0 else list(times)
    takes_chance = {} if name in ("Heun", "UniPC", "Euler") else {"generator": chance}

    def run(x: Tensor) -> Sampler:
        for index, t in enumerate(visited):
            if index == turn + 2 and turn > 0:
                x = plan.add_noise(x, torch.randn(x.shape, generator=chance), t.reshape(1))
            share = float(LEVELS[min(999, max(0, int(t)))])
            at = Evaluation(plan.scale_model_input(x, t), float(t), share**0.5, (1 - share) ** 0.5)
            clean = yield at
            output = predicts("v", clean, at, at.x.double()).to(x.dtype)
            x = plan.step(output, t, x, **takes_chance).prev_sample

    return len(visited), run(x)


@lru_cache
def _scheduler(name: str, steps: int) -> Any:
    plan = _scheduler_of(name)
    plan.set_timesteps(steps)
    return plan


def _scheduler_of(name: str) -> Any:
    if name in ("DDIM", "restart"):
        return diffusers.DDIMScheduler(**SCHEDULE, clip_sample=False, timestep_spacing="trailing")
    if name == "DDPM":
        return diffusers.DDPMScheduler(**SCHEDULE, clip_sample=False, timestep_spacing="trailing")
    if name in ("Heun", "Euler", "Euler ancestral"):
        kind = {"Heun": "HeunDiscrete", "Euler": "EulerDiscrete", "Euler ancestral": "EulerAncestralDiscrete"}[name]
        return getattr(diffusers, kind + "Scheduler")(**SCHEDULE)
    if name == "UniPC":
        return diffusers.UniPCMultistepScheduler(**SCHEDULE)
    kind = "dpmsolver++" if name.endswith("2M") else "sde-dpmsolver++"
    return diffusers.DPMSolverMultistepScheduler(**SCHEDULE, algorithm_type=kind)


def _flow(
    name: str, steps: int, image: Tensor, skip: int, noise: Tensor, chance: torch.Generator
) -> tuple[int, Sampler]:
    """Rectified flow: `x` at level `s` is `(1 - s) * image + s * noise`."""
    even = torch.linspace(1, 1 / steps, steps)[skip:]
    levels = [float(level) for level in 3 * even / (1 + 2 * even)] + [0.0]

    def at(x: Tensor, level: float) -> Evaluation:
        return Evaluation(x, 1000 * level, 1 - level, level)

    def run(x: Tensor) -> Sampler:
        for level, after in itertools.pairwise(levels):
            now = at(x, level)
            clean = yield now
            flow = predicts("flow", clean, now, x.double())
            if name == "flow SDE":
                fresh = torch.randn(x.shape, generator=chance)
                x = ((1 - after) * clean + after * fresh).to(x.dtype)
                continue
            ahead = (x + (after - level) * flow).to(x.dtype)
            if name == "flow Heun" and after > 0:
                then = at(ahead, after)
                clean = yield then
                flow = (flow + predicts("flow", clean, then, ahead.double())) / 2
                ahead = (x + (after - level) * flow).to(x.dtype)
            x = ahead

    first = levels[0] if skip else 1.0
    calls = len(levels) - 1
    return (2 * calls - 1 if name == "flow Heun" else calls), run((1 - first) * image + first * noise)
