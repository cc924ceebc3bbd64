"""The ways to run a model that are compared: plain, ours, and the caches of `cache-dit` and of the hooks of `diffusers`.

All that cache get a schedule with as many full steps as ours, and the same ones wherever they can be told which.
"""

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import duca_compile
from duca_compile import Mode
from duca_compile.cost.flops import MISSING_IN_TORCH
from duca_compile.methods.duca import DuCa
from duca_compile.plan.options import Options
from models.sampled import Around, Sampled


class Unsupported(Exception):
    """A method cannot run this model; the message says why."""


@dataclass(frozen=True)
class Schedule:
    """`steps` of which one in `cycle` is full, as ours."""

    steps: int
    cycle: int

    @property
    def full(self) -> tuple[bool, ...]:
        return tuple(recipe == Mode.FULL for recipe in Options(DuCa(cycle=self.cycle)).sequence(self.steps))


@dataclass
class Applied:
    """A model with a cache on it: enter `generation()` around a trajectory and `call()` around each step."""

    model: nn.Module
    generation: Around = nullcontext
    call: Around = nullcontext
    notes: list[str] = field(default_factory=list)
    settings: dict[str, float] = field(default_factory=dict)
    """What was searched for, to be handed to the compiled row."""


Apply = Callable[[Sampled, Schedule, dict[str, float]], Applied]


@dataclass(frozen=True)
class Method:
    """`options` of backend "duca" where it is ours, whose cache is part of the compiled model."""

    name: str
    apply: Apply
    compiled: bool
    options: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        return f"{self.name}, {'compiled' if self.compiled else 'eager'}"


def plain(subject: Sampled, schedule: Schedule, settings: dict[str, float]) -> Applied:
    return Applied(subject.model)


def ours(subject: Sampled, schedule: Schedule, settings: dict[str, float]) -> Applied:
    return Applied(subject.model, generation=duca_compile.session)


def first_block(subject: Sampled, schedule: Schedule, settings: dict[str, float]) -> Applied:
    """The threshold is searched until as many steps are full as in ours; which ones, the method decides."""
    from diffusers.hooks import FirstBlockCacheConfig, HookRegistry, apply_first_block_cache
    from diffusers.models.cache_utils import CacheMixin

    model = subject.model
    try:
        apply_first_block_cache(model, FirstBlockCacheConfig(threshold=settings.get("threshold", 0.05)))
    except ValueError as unknown:
        raise Unsupported(str(unknown)) from unknown
    hooks = [hook for hook in hooks_of(model) if hasattr(hook, "threshold")]
    applied = Applied(
        model,
        generation=lambda: nullcontext(HookRegistry.check_if_exists_or_initialize(model).reset_stateful_hooks()),
        call=lambda: CacheMixin.cache_context(model, "cond"),
        settings=settings,
    )
    if not isinstance(model, CacheMixin):
        applied.notes.append(f"{type(model).__name__} has no cache_context(); that of CacheMixin was called on it")
    if settings:
        return applied
    wanted, low, high = sum(schedule.full), 0.0, 4.0
    tried: dict[float, int] = {}
    while len(tried) < 16 and wanted not in tried.values() and high > 1.02 * low:
        middle = (low * high) ** 0.5 if low else high / 4
        for hook in hooks:
            hook.threshold = middle
        tried[middle] = sum(full_steps(flops_per_step(applied, subject, schedule.steps)))
        low, high = (middle, high) if tried[middle] > wanted else (low, middle)
    best = min(tried, key=lambda threshold: (abs(tried[threshold] - wanted), -tried[threshold]))
    for hook in hooks:
        hook.threshold = best
    applied.settings = {"threshold": best}
    applied.notes.append(f"threshold {best:.4g}, searched for {wanted} full steps in {len(tried)} trajectories")
    return applied


def pyramid(subject: Sampled, schedule: Schedule, settings: dict[str, float]) -> Applied:
    """Each attention is computed in the full steps of ours and taken from its cache in between."""
    from diffusers.hooks import HookRegistry, PyramidAttentionBroadcastConfig, apply_pyramid_attention_broadcast

    always = (-1, 1_000_000)
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=schedule.cycle, spatial_attention_timestep_skip_range=always,
        cross_attention_block_skip_range=schedule.cycle, cross_attention_timestep_skip_range=always,
        current_timestep_callback=lambda: 500,
    )  # fmt: skip
    apply_pyramid_attention_broadcast(subject.model, config)
    count = require_hooks(subject.model, "none of its modules is an attention of diffusers")
    reset = HookRegistry.check_if_exists_or_initialize(subject.model).reset_stateful_hooks
    return Applied(subject.model, lambda: nullcontext(reset()), notes=[f"caches {count} attentions, computes all else"])


def taylor_seer(subject: Sampled, schedule: Schedule, settings: dict[str, float]) -> Applied:
    """Predicts the output of each attention; all else is computed at every step."""
    patterns = r"^(\w*blocks\.\d+\.attn\d*)$"
    found = [name for name, _ in subject.model.named_modules() if re.fullmatch(patterns, name)]
    default = any(re.fullmatch(r"^(single_transformer_|transformer_|)blocks.*attn", name) for name in found)
    notes = [f"predicts {len(found)} attentions, computes all else"]
    if not default:
        notes.append("its default patterns match no module of this model; names given")
    return _taylor_seer(subject, schedule, notes, cache_identifiers=None if default else [patterns])


def taylor_seer_lite(subject: Sampled, schedule: Schedule, settings: dict[str, float]) -> Applied:
    """Skips all blocks in a cached step and predicts what the last layer gives."""
    last = next(name for name in ("proj_out", "proj_out_2", "final") if hasattr(subject.model, name))
    if last == "proj_out":
        return _taylor_seer(subject, schedule, ["lite: predicts proj_out"], use_lite_mode=True)
    notes = [f"lite mode looks for proj_out alone; {last} named to it instead"]
    blocks = [rf"^{name}\.\d+$" for name in subject.blocks]
    return _taylor_seer(subject, schedule, notes, skip_predict_identifiers=blocks, cache_identifiers=[f"^{last}$"])


def _taylor_seer(subject: Sampled, schedule: Schedule, notes: list[str], **config: Any) -> Applied:
    from diffusers.hooks import HookRegistry, TaylorSeerCacheConfig, apply_taylorseer_cache
    from diffusers.models.cache_utils import CacheMixin

    interval, before = taylor_interval(schedule)
    model = subject.model
    apply_taylorseer_cache(
        model,
        TaylorSeerCacheConfig(
            cache_interval=interval, disable_cache_before_step=before, taylor_factors_dtype=torch.float32, **config
        ),
    )
    require_hooks(model, "its patterns match no module")
    reset = HookRegistry.check_if_exists_or_initialize(model).reset_stateful_hooks
    notes.append(f"cache_interval {interval}, disable_cache_before_step {before}, order 1")
    return Applied(model, lambda: nullcontext(reset()), lambda: CacheMixin.cache_context(model, "cond"), notes)


def taylor_interval(schedule: Schedule) -> tuple[int, int]:
    """Interval and first steps that give the number of full steps of ours, the interval nearest to ours first."""
    wanted = sum(schedule.full)
    for interval in sorted(range(1, schedule.steps + 1), key=lambda interval: abs(interval - schedule.cycle)):
        for before in (1, 2, 3):
            full = [step < before or (step - before - 1) % interval == 0 for step in range(schedule.steps)]
            if sum(full) == wanted:
                return interval, before
    raise Unsupported(f"no interval gives {wanted} full steps of {schedule.steps}")


def dual_block(subject: Sampled, schedule: Schedule, settings: dict[str, float]) -> Applied:
    """DBCache, F1B0, with our full steps as its mask; cached steps compute the first block. Its own limits of recompiling."""
    return _cache_dit(subject, schedule, calibrator=False)


def dual_block_taylor(subject: Sampled, schedule: Schedule, settings: dict[str, float]) -> Applied:
    """The same with the TaylorSeer calibrator at its defaults (order 1)."""
    return _cache_dit(subject, schedule, calibrator=True)


def _cache_dit(subject: Sampled, schedule: Schedule, calibrator: bool) -> Applied:
    import cache_dit

    model = subject.model
    cache_dit.set_compile_configs(descent_tuning=False)
    config = cache_dit.DBCacheConfig(
        Fn_compute_blocks=1, Bn_compute_blocks=0, enable_separate_cfg=False, num_inference_steps=schedule.steps,
        steps_computation_mask=[int(full) for full in schedule.full], steps_computation_policy="static",
    )  # fmt: skip
    extra = {"calibrator_config": cache_dit.TaylorSeerCalibratorConfig()} if calibrator else {}
    notes = ["F1B0, our full steps as steps_computation_mask"]
    if type(model).__module__.startswith("diffusers"):
        cache_dit.enable_cache(model, cache_config=config, **extra)
    else:
        adapter = cache_dit.BlockAdapter(
            transformer=model, blocks=getattr(model, subject.blocks[0]), blocks_name=subject.blocks[0],
            forward_pattern=cache_dit.ForwardPattern.Pattern_3, check_forward_pattern=False,
        )  # fmt: skip
        cache_dit.enable_cache(adapter, cache_config=config, **extra)
        notes.append("through a hand-written BlockAdapter")
    refresh = {"cache_config": config, **extra}
    return Applied(model, lambda: nullcontext(cache_dit.refresh_context(model, **refresh)), notes=notes)


def hooks_of(model: nn.Module) -> list[Any]:
    registries: list[Any] = [module._diffusers_hook for module in model.modules() if hasattr(module, "_diffusers_hook")]
    return [hook for registry in registries for hook in registry.hooks.values()]


def require_hooks(model: nn.Module, reason: str) -> int:
    count = len(hooks_of(model))
    if not count:
        raise Unsupported(reason)
    return count


def flops_per_step(applied: Applied, subject: Sampled, steps: int) -> list[int]:
    """FLOPs of each step of one trajectory, uncompiled: what a step's cache saves shows in them."""
    found: list[int] = []

    def run(**arguments: Any) -> Any:
        with FlopCounterMode(display=False, custom_mapping=MISSING_IN_TORCH) as counter:
            output = applied.model(**arguments)
        found.append(counter.get_total_flops())
        return output

    with torch.no_grad(), applied.generation():
        subject.sample(run, steps, applied.call)
    return found


def full_steps(flops: list[int]) -> list[bool]:
    """The first step of a trajectory is full in every method."""
    return [step > 0.98 * flops[0] for step in flops]


METHODS: tuple[Method, ...] = (
    Method("plain", plain, compiled=True),
    Method("plain", plain, compiled=False),
    Method("duca-compile", ours, compiled=True, options={}),
    Method("duca-compile, aggressive only", ours, compiled=True, options={"order": "aggressive"}),
    Method("duca-compile, one selection a step", ours, compiled=True, options={"selection": "step"}),
    Method("duca-compile, 8-bit caches", ours, compiled=True, options={"cache_dtype": torch.float8_e4m3fn}),
    *(
        Method(name, apply, compiled)
        for name, apply in (
            ("cache-dit DBCache", dual_block),
            ("cache-dit DBCache + TaylorSeer", dual_block_taylor),
            ("diffusers FirstBlockCache", first_block),
            ("diffusers PyramidAttentionBroadcast", pyramid),
            ("diffusers TaylorSeer", taylor_seer),
            ("diffusers TaylorSeer lite", taylor_seer_lite),
        )
        for compiled in (False, True)
    ),
)
