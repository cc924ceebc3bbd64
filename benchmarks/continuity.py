"""How far latents turn from step to step, by sampler: what the bounds in `duca_compile/continuity.py` were read from.

The trained example DiT, uncached, 8 images without guidance. *Turn*: the sine of the angle between the latents of two
calls, infinite beyond a right angle. *Grows*: by how much more they turn than at the call before, at most, where they turn
by more than the bound that is always allowed. *Goes on*: at how many of the calls after the first that could be told.
"""

import itertools
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import diffusers
import torch
from rich.console import Console
from rich.table import Table

from duca_compile.continuity import START, STILL, Moment, Pace, pace
from duca_compile.observation import pick
from sampling import SCHEDULE, initial_noise, trained_dit

SPACED = {"beta_schedule": SCHEDULE["beta_schedule"], "prediction_type": SCHEDULE["prediction_type"]}
SAMPLERS: dict[str, Any] = {
    "DDIM": diffusers.DDIMScheduler,
    "Euler": diffusers.EulerDiscreteScheduler,
    "Heun": diffusers.HeunDiscreteScheduler,
    "DPM-Solver++ 2M": diffusers.DPMSolverMultistepScheduler,
    "DPM-Solver++ singlestep": diffusers.DPMSolverSinglestepScheduler,
    "UniPC": diffusers.UniPCMultistepScheduler,
    "DEIS": diffusers.DEISMultistepScheduler,
    "DDPM": diffusers.DDPMScheduler,
    "Euler ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "LCM": diffusers.LCMScheduler,
}
STEPS = (8, 20, 50)


@torch.no_grad()
def travel(kind: Any, steps: int) -> tuple[list[float], int]:
    """The furthest turn of a row at each call after the first, and how many calls went on."""
    torch.manual_seed(0)
    model, labels, scheduler = trained_dit(), torch.arange(8), kind(**SPACED)
    scheduler.set_timesteps(steps)
    x = initial_noise(8, 0) * scheduler.init_noise_sigma
    turned, followed, outputs, last = [], 0, [], START
    before: Moment | None = None
    for t in scheduler.timesteps:
        given = scheduler.scale_model_input(x, t)
        now = Moment((float(t),), (pick(given),))
        if before is not None:
            found = pace(before, last, now, outputs[-6:])
            last = found if isinstance(found, Pace) else found.pace
            followed += isinstance(found, Pace)
            turned += [max(turns) for turns in last.turns if turns is not None]
        before = now
        output = model(given, torch.full((8,), float(t)), labels)
        outputs.append(pick(output, given))
        x = scheduler.step(output, t, x).prev_sample
    return turned, followed


def main() -> None:
    table = Table(title="turns of the latents", caption="of the calls after the first")
    for heading in ("sampler", "steps", "first turn", "largest", "last", "grows", "goes on"):
        table.add_column(heading, justify="left" if heading == "sampler" else "right")
    for name, kind in SAMPLERS.items():
        for steps in STEPS:
            turned, followed = travel(kind, steps)
            growth = [after / before for before, after in itertools.pairwise(turned) if before > STILL < after < 1]
            row = (turned[0], max(turned), turned[-1], max(growth, default=1.0))
            calls = steps - 1 if name != "Heun" else 2 * steps - 2
            table.add_row(name, str(steps), *(f"{value:.2f}" for value in row), f"{followed} of {calls}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
