"""Samplers as generators: each yields latents and timestep of an evaluation, and is sent the model's output."""

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

Sampler = Generator[tuple[Tensor, Tensor], Tensor, None]

SCHEDULE = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
NAMES = ("DDIM", "Heun", "DPM-Solver++ 2M", "DPM-Solver++ SDE", "UniPC", "Euler ancestral", "restart")


def scheduler(name: str) -> Any:
    import diffusers

    if name in ("DDIM", "restart"):
        return diffusers.DDIMScheduler(**SCHEDULE, clip_sample=False, timestep_spacing="trailing")
    if name == "Heun":
        return diffusers.HeunDiscreteScheduler(**SCHEDULE)
    if name == "UniPC":
        return diffusers.UniPCMultistepScheduler(**SCHEDULE)
    if name == "Euler ancestral":
        return diffusers.EulerAncestralDiscreteScheduler(beta_schedule="linear", prediction_type="v_prediction")
    kind = "dpmsolver++" if name.endswith("2M") else "sde-dpmsolver++"
    return diffusers.DPMSolverMultistepScheduler(**SCHEDULE, algorithm_type=kind)


def sample(name: str, steps: int, strength: float, image: Tensor, seed: int) -> Sampler:
    """Denoises `image` from `strength` of the way on, or noise from all the way."""
    chance = torch.Generator().manual_seed(seed)
    noise = torch.randn(image.shape, generator=chance)
    plan = scheduler(name)
    plan.set_timesteps(steps)
    begin = steps - max(2, round(steps * strength))
    begin = 2 * begin if name == "Heun" else begin
    if hasattr(plan, "set_begin_index"):
        plan.set_begin_index(begin)
    times = plan.timesteps[begin:]
    x = plan.add_noise(image, noise, times[:1]) if strength < 1 else noise * plan.init_noise_sigma
    turn = len(times) // 2 if name == "restart" else -1
    for at, t in enumerate([*times[: turn + 2], *times[turn:]] if turn > 0 else times):
        if at == turn + 2 and turn > 0:
            x = plan.add_noise(x, torch.randn(x.shape, generator=chance), t.reshape(1))
        output = yield plan.scale_model_input(x, t), t
        given = {} if name in ("Heun", "UniPC") else {"generator": chance}
        x = plan.step(output, t, x, **given).prev_sample
