"""`diffusers`' own FLUX under ours and under other caches, each compiled: whole trajectories in turn, where both are there."""

import importlib.util
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

import duca_compile
from cycle import CYCLE
from figures import Ratios, relative_error
from models import of_diffusers
from models.sampled import Sampled
from models.shapes import next_latents, timesteps
from peers.methods import METHODS, Applied, Method, Schedule
from speed.section import LeftOut, Parts
from speed.setting import Setting, in_turn

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
    return {
        "ms": 1e3 * statistics.median(seconds[own]), "plain_ms": 1e3 * statistics.median(seconds[theirs]),
        **Ratios.of(seconds[own], seconds[theirs]).told, "error": relative_error(last[own], last[theirs]),
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


def diffusers_flux(setting: Setting) -> Sampled:
    """Full width and few blocks; conditioning is made once."""
    shape = of_diffusers.tiny_flux() if setting.tiny else of_diffusers.flux(2, side=64, text=512)
    subject = shape.subject(setting.device, setting.dtype)

    def sample(run: Callable[..., Any], steps: int, on_step: Callable[[], Any]) -> Tensor:
        x = subject.latents
        for t in timesteps(steps):
            given = subject.call(x, t)
            with on_step():
                output = run(**given)
            x = next_latents(x, output)
        return x

    return Sampled("FLUX", "", subject.model, sample, ("transformer_blocks", "single_transformer_blocks"))
