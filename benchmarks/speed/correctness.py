"""Each step of two cycles against the same step of uncompiled graphs on the CPU in float32.

Both are given the latents of the reference, so that errors do not add up. *Full against plain* stands on the device; the
*plain* model against the CPU tells what the type alone costs.
"""

from collections import defaultdict
from typing import Any

import torch

from cycle import CYCLE
from duca_compile import Mode
from figures import relative_error
from models.shapes import Shape, next_latents
from speed.section import Parts
from speed.setting import Setting, first_steps, ran, watched

REFERENCE = Setting("cpu", inner="eager")


def correctness(setting: Setting) -> Parts:
    torch.backends.cudnn.allow_tf32 = False  # or convolutions, of patches say, are no float32 on a GPU
    for name, shape in setting.checked.items():
        yield name, against_cpu(setting, shape, torch.float32)
    yield "dit2, bf16", against_cpu(setting, setting.checked["dit2"], torch.bfloat16)


def against_cpu(setting: Setting, shape: Shape, dtype: torch.dtype) -> dict[str, Any]:
    """`worst` relative error of each mode."""
    torch._dynamo.reset()
    reference = shape.subject("cpu", torch.float32)
    subject = reference.on(setting.device, dtype)
    wanted, got, plain = REFERENCE.cached(reference.model), setting.cached(subject.model), setting.plain(subject.model)
    errors: dict[str, list[float]] = defaultdict(list)
    x = reference.latents
    for t in first_steps(2 * CYCLE + 1):
        given = subject.call(x.to(setting.device, dtype), t)
        with watched(reference.model) as expected, watched(subject.model) as seen:
            true, output = wanted(**reference.call(x, t)), got(**given)
        if ran(seen) is not ran(expected):
            raise RuntimeError(f"a step is {ran(seen).value} here and {ran(expected).value} on the CPU")
        errors[ran(seen).value].append(relative_error(output, true))
        if seen.mode == Mode.FULL:
            whole = plain(**given)
            errors["full against plain"].append(relative_error(output, whole))
            errors["plain"].append(relative_error(whole, true))
        x = next_latents(x, true)
    return {"model": shape.title, "worst": {name: max(found) for name, found in errors.items()}}
