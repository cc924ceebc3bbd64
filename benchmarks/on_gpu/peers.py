"""`diffusers`' own FLUX under ours and under other caches, each compiled: whole trajectories in turn, where both are there."""

import importlib.util
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

import duca_compile
from comparison.methods import METHODS, Applied, Method, Schedule
from comparison.subjects import Subject, noise
from cycle import CYCLE
from on_gpu.section import LeftOut, Parts
from on_gpu.setting import Setting, in_turn, next_latents, relative_error
from on_gpu.shapes import timesteps
from subjects import SUBJECTS, flux_call

PLAIN, OURS = "plain, compiled", "duca-compile, compiled"
ROWS = (OURS, "cache-dit DBCache, compiled", "diffusers FirstBlockCache, compiled")
Run = Callable[[], Tensor]


def peers(setting: Setting) -> Parts:
    if importlib.util.find_spec("diffusers") is None:
        raise LeftOut("diffusers is not installed")
    schedule = Schedule(10 if setting.tiny else 20, CYCLE)
    methods = {method.key: method for method in METHODS}
    for name in ROWS:
        try:
            yield name, beside_plain(setting, methods[PLAIN], methods[name], schedule)
        except Exception as error:  # a peer's fault must not hide the others' figures
            if name == OURS:
                raise
            yield name, {"unsupported": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"}


def beside_plain(setting: Setting, plain: Method, method: Method, schedule: Schedule) -> dict[str, float]:
    """Compiled apart from all other rows: hooks of one make graphs of another compile anew."""
    torch._dynamo.reset()
    theirs, own = (prepared(setting, each, schedule) for each in (plain, method))
    seconds: dict[Run, list[float]] = {theirs: [], own: []}
    last: dict[Run, Tensor] = {}
    for turn in range(1 if setting.tiny else 3):
        for run in in_turn(turn, theirs, own):
            last[run], spent = setting.timed(run)
            seconds[run].append(spent.device)
    ratios = [mine / plain for mine, plain in zip(seconds[own], seconds[theirs], strict=True)]
    return {
        "ms": 1e3 * statistics.median(seconds[own]), "plain_ms": 1e3 * statistics.median(seconds[theirs]),
        "share": statistics.median(ratios), "least": min(ratios), "most": max(ratios),
        "error": relative_error(last[own], last[theirs]),
    }  # fmt: skip


def prepared(setting: Setting, method: Method, schedule: Schedule) -> Run:
    """A trajectory under this method, compiled: the first two have run."""
    subject = diffusers_flux(setting)
    applied: Applied = method.apply(subject, schedule, {})
    compiler = setting.plain if method.options is None else setting.cached
    compiled = compiler(applied.model)

    def trajectory() -> Tensor:
        if method.options is not None:
            duca_compile.reset(applied.model)
        with applied.generation() if method.options is None else nullcontext():
            return subject.sample(compiled, schedule.steps, applied.call)

    trajectory()
    trajectory()
    return trajectory


def diffusers_flux(setting: Setting) -> Subject:
    """Full width and few blocks; conditioning is made once."""
    torch.manual_seed(0)
    side, text = (4, 8) if setting.tiny else (64, 512)
    start = noise(1, side**2, 64).to(setting.device, setting.dtype)
    fixed = flux_call(side, text)(start, 980.0)
    if setting.tiny:
        fixed |= {"encoder_hidden_states": noise(1, text, 32), "pooled_projections": noise(1, 16)}

    def sample(run: Callable[..., Any], steps: int, on_step: Callable[[], Any]) -> Tensor:
        x = start
        for t in timesteps(steps):
            given = {"hidden_states": x, "timestep": torch.full((1,), t / 1000, device=x.device, dtype=x.dtype)}
            with on_step():
                output = run(**{**fixed, **given})[0]
            x = next_latents(x, output)
        return x

    model = _tiny_flux() if setting.tiny else SUBJECTS["flux"].model(2, setting.dtype, setting.device)
    for parameter in model.parameters():
        parameter.requires_grad_(False).normal_(std=0.02)
    return Subject("FLUX", "", model.eval(), sample, ("transformer_blocks", "single_transformer_blocks"))


def _tiny_flux() -> nn.Module:
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32,
        pooled_projection_dim=16, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
