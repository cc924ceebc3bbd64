"""How latents follow from step to step, by sampler: what the bounds in `duca_compile/generations/likeness.py` were read from.

    python benchmarks quality continuity

The trained example DiT, uncached, 4 images without guidance, the worst row of each step. *Turns*: how far the latents stand
off the last ones, as a share of their length. *Strays*: of that step, the share that neither they nor the outputs of the
last three steps explain. *Drifts*: how much nearer the latents are to the last step than to the one before it. *Goes on*:
how many calls after the first were taken for the next step. The last rows are no steps: the first call of another generation from other
noise, against every step that it could be taken to follow, at best.
"""

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import diffusers
import torch
from torch import Tensor

from duca_compile.generations import likeness
from duca_compile.generations.continuity import LEAP, START, Moment, Pace, pace
from duca_compile.generations.likeness import Stand
from duca_compile.generations.observe_call import pick
from face.block import Block, Page
from face.commands import parser
from face.draw import show
from face.origin import origin
from sampling import SCHEDULE, initial_noise, trained_dit

SPACED = {"beta_schedule": SCHEDULE["beta_schedule"], "prediction_type": SCHEDULE["prediction_type"]}
SAMPLERS: dict[str, Any] = {
    "DDIM": lambda **given: diffusers.DDIMScheduler(clip_sample=False, **given),
    "DDIM, clipped": diffusers.DDIMScheduler,
    "Euler": diffusers.EulerDiscreteScheduler,
    "DPM-Solver++ 2M": diffusers.DPMSolverMultistepScheduler,
    "DPM-Solver++ singlestep": diffusers.DPMSolverSinglestepScheduler,
    "UniPC": diffusers.UniPCMultistepScheduler,
    "DEIS": diffusers.DEISMultistepScheduler,
    "DDPM": diffusers.DDPMScheduler,
    "Euler ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "LCM": diffusers.LCMScheduler,
}
STEPS = (8, 20, 50)
STRENGTHS = (1.0, 0.8, 0.5, 0.2)
LABELS = torch.arange(4)
Travel = list[tuple[Moment, Stand]]
"""The moments of a generation, each with the stand that its call leaves behind."""


@torch.no_grad()
def travel(kind: Any, steps: int, image: Tensor | None = None, strength: float = 1.0, seed: int = 0) -> Travel:
    torch.manual_seed(seed)
    model, scheduler = trained_dit(), kind(**SPACED)
    scheduler.set_timesteps(steps)
    first = steps - int(steps * strength)
    times, x = scheduler.timesteps[first:], initial_noise(len(LABELS), seed)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    x = x * scheduler.init_noise_sigma if strength == 1 else scheduler.add_noise(image, x, times[:1])
    found = []
    for t in times:
        given = scheduler.scale_model_input(x, t)
        output = model(given, torch.full((len(LABELS),), float(t)), LABELS)
        moment = Moment((float(t),), (pick(given).double(),))
        found.append((moment, Stand(moment.latents, (pick(output, given).double(),))))
        x = scheduler.step(output, t, x).prev_sample
    return found


def measured(past: Sequence[Stand], now: Moment) -> tuple[float, float, float]:
    """Turn, stray and drift of the worst row."""
    latents = now.latents[0]
    assert latents is not None
    step, off = likeness.distance(latents, past[-1:], outputs=False), likeness.distance(latents, past)
    drift = likeness.distance(latents, past[-1:]) / likeness.distance(latents, past[-2:-1]) if len(past) > 1 else step
    return float(step.max()), float((off / step).max()), float(drift.max()) if len(past) > 1 else 0.0


def followed(moments: Travel) -> tuple[list[tuple[float, float, float]], int]:
    figures, count, last = [], 0, START
    stands = dict(moments)
    for number in range(1, len(moments)):
        before, (now, _) = moments[max(0, number - 3) : number], moments[number]
        judged = pace([moment for moment, _ in before], last, now, lambda moment: stands[moment].outputs)
        last = judged if isinstance(judged, Pace) else judged.pace
        count += isinstance(judged, Pace)
        figures.append(measured([stand for _, stand in before], now))
    return figures, count


def newcomers(steps: int, image: Tensor) -> list[tuple[float, float, float]]:
    """First calls of generations of the same image from other noise, against the steps of one that runs."""
    figures = []
    for running, strength in itertools.product(STRENGTHS, STRENGTHS):
        own = travel(SAMPLERS["DDIM"], steps, image, running)
        new, _ = travel(SAMPLERS["DDIM"], steps, image, strength, seed=5)[0]
        for number in range(1, len(own)):
            (before, _), (last, _) = own[number - 1 : number + 1]
            gap, leap = before.timesteps[0] - last.timesteps[0], last.timesteps[0] - new.timesteps[0]
            if 0 < leap <= LEAP * gap:
                figures.append(measured([stand for _, stand in own[max(0, number - 2) : number + 1]], new))
    return figures


def main(arguments: Sequence[str]) -> None:
    asked = parser("quality continuity", __doc__)
    asked.add_argument("--samplers", nargs="+", choices=tuple(SAMPLERS), default=tuple(SAMPLERS), metavar="SAMPLER")
    asked.add_argument("--steps", nargs="+", type=int, default=STEPS)
    given = asked.parse_args(arguments)
    warnings.simplefilter("ignore")
    rows: list[tuple[str, ...]] = []
    for name in given.samplers:
        for steps in given.steps:
            figures, count = followed(travel(SAMPLERS[name], steps))
            worst = (f"{max(each):.2f}" for each in zip(*figures, strict=True))
            rows.append((name, str(steps), *worst, f"{count} of {steps - 1}"))
    image = torch.cat([trained_image(label) for label in LABELS])
    for steps in given.steps:
        if figures := newcomers(steps, image):
            best = (f"{min(each):.2f}" for each in zip(*figures, strict=True))
            rows.append(("other noise, at best", str(steps), *best, "0"))
    block = Block("How latents follow", ("sampler", "steps", "turns", "strays", "drifts", "goes on"), rows)
    show(Page("Continuity", origin("quality continuity", arguments), [block]))


def trained_image(label: Tensor) -> Tensor:
    """One of the model's own, to start from."""
    scheduler, model, x = diffusers.DDIMScheduler(**SPACED), trained_dit(), initial_noise(1, 100 + int(label))
    scheduler.set_timesteps(20)
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(model(x, t.expand(1), label.reshape(1)), t, x).prev_sample
    return x.clamp(-1, 1)
