"""The options of `torch.compile(model, backend="duca", options={...})`, validated."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from duca_compile import torch_private
from duca_compile.plan.modes import Mode


class OptionError(ValueError):
    """An option that is unknown or impossible; the message names the nearest valid one."""


ORDERS: dict[str, tuple[Mode, Mode]] = {
    "conservative-first": (Mode.CONSERVATIVE, Mode.AGGRESSIVE),
    "aggressive-first": (Mode.AGGRESSIVE, Mode.CONSERVATIVE),
    "conservative": (Mode.CONSERVATIVE, Mode.CONSERVATIVE),
    "aggressive": (Mode.AGGRESSIVE, Mode.AGGRESSIVE),
}
DEPTHS = ("all", "all-but-last")
SELECTIONS = ("branch", "step")
LARGEST_SEED = 2**64 - 1
CACHE_DTYPES = (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)


@dataclass(frozen=True)
class Options:
    """How a trajectory is cached. The defaults are the paper's (DuCa, arXiv 2412.18911, sections IV-C and V)."""

    cycle: int = 5
    """N: one step in `cycle` is FULL, the `cycle - 1` after it are cached. 1 caches nothing."""
    cache_ratio: float = 0.9
    """R: the share of tokens that a CONSERVATIVE step takes from the cache; it recomputes `floor((1 - R) * tokens)`."""
    selection: str = "branch"
    """Tokens are drawn for every `branch` of a step (the paper's way), or once for a `step`: all branches of equally
    many tokens then recompute the same ones, and the host draws and hands over less."""
    order: str = "conservative-first"
    """Which cached mode follows a FULL step; the two alternate. `conservative` and `aggressive` alone use one."""
    warmup_steps: int = 1
    """The first `warmup_steps` steps of a trajectory are FULL; the last of them opens the first cycle."""
    aggressive_depth: str = "all"
    """AGGRESSIVE skips `all` blocks, or `all-but-last` (equation 3 read literally)."""
    seed: int = 0
    """Seeds the random choice of tokens; every trajectory draws the same sequence."""
    cache_dtype: torch.dtype | None = None
    """Keep features in this type where it is smaller than the model's, such as `torch.bfloat16` or
    `torch.float8_e4m3fn`: fewer bytes, rounded. None keeps what the model computes. The stream that AGGRESSIVE steps
    take is always kept as it is."""
    cache_budget: int | None = None
    """The most bytes that the caches of one compiled model may take, over all its generations; the least recently used
    go first. None sets no limit in bytes. At most 8 generations keep caches at once, whatever the budget."""
    inner: str | Callable[..., Any] = "inductor"
    """The compiler that each mode's graph goes to: a registered backend's name, or a backend function."""
    inductor_mode: str | None = None
    """What `torch.compile` takes as its `mode`, which it does not take beside options: "reduce-overhead"."""
    inductor_options: Mapping[str, Any] | None = None
    """What `torch.compile` takes as its `options` for Inductor: {"max_autotune": True}. They win over the mode's.

    Where a mode or an option asks for CUDA graphs, each mode's graph is recorded for each trajectory that keeps caches
    at once, over caches in memory that stays where it is. They stay off for a forward pass that is split and for
    symbolic sizes, which is said once."""
    outline: bool | None = None
    """Compile each distinct block once and call it for all of its kind. Where `inner` is Inductor; else blocks stay.
    None does so on CPUs: on a GPU a block that is called fuses with neither neighbour, which costs launches."""
    strict: bool = False
    """Raise instead of falling back to the inner compiler when a model cannot be accelerated."""

    def __post_init__(self) -> None:
        _require_int("cycle", self.cycle, at_least=1)
        _require_int("warmup_steps", self.warmup_steps, at_least=1)
        _require_int("seed", self.seed, at_least=0)
        if self.seed > LARGEST_SEED:
            raise OptionError(f"seed must be at most 2**64 - 1, as torch.Generator takes it, not {self.seed}")
        if isinstance(self.cache_ratio, bool) or not isinstance(self.cache_ratio, (int, float)):
            raise OptionError(f"cache_ratio must be a number from 0 to 1, not {self.cache_ratio!r}")
        if not 0 <= self.cache_ratio <= 1:
            raise OptionError(f"cache_ratio must lie from 0 to 1, not {self.cache_ratio}")
        _require_choice("selection", self.selection, SELECTIONS)
        _require_choice("order", self.order, tuple(ORDERS))
        _require_choice("aggressive_depth", self.aggressive_depth, DEPTHS)
        if self.outline is not None:
            _require_bool("outline", self.outline)
        _require_bool("strict", self.strict)
        if self.cache_dtype is not None and self.cache_dtype not in CACHE_DTYPES:
            listed = ", ".join(map(str, CACHE_DTYPES))
            raise OptionError(f"cache_dtype cannot be {self.cache_dtype!r}; it is None or one of {listed}")
        if self.cache_budget is not None:
            _require_int("cache_budget", self.cache_budget, at_least=0)
        if not callable(self.inner):
            _require_choice("inner", self.inner, inner_names())
        _require_inductors(self)

    @classmethod
    def parse(cls, values: Mapping[str, Any] | None) -> "Options":
        known = [field.name for field in fields(cls)]
        for name in values or {}:
            if name not in known:
                raise OptionError(f"unknown option {name!r}{_nearest(name, known)}; the options are {', '.join(known)}")
        return cls(**(values or {}))

    def in_mode(self, mode: str | None) -> "Options":
        """Under `torch.compile`'s own `mode`. Raises `OptionError` where `inductor_mode` is another one."""
        if mode in (None, "default", self.inductor_mode):
            return self
        if self.inductor_mode is not None:
            raise OptionError(f"mode={mode!r} and the option inductor_mode={self.inductor_mode!r} differ; give one")
        return replace(self, inductor_mode=mode)

    @property
    def inductor_config(self) -> dict[str, Any]:
        """What Inductor's configuration is changed to."""
        mode = torch_private.inductor_modes()[self.inductor_mode or "default"]
        return {**mode, **(self.inductor_options or {})}

    @property
    def cached_modes(self) -> tuple[Mode, Mode]:
        """The modes at odd and at even distance after a FULL step."""
        return ORDERS[self.order]

    @property
    def modes(self) -> frozenset[Mode]:
        """Every mode that a trajectory under these options can run."""
        if self.cycle == 1:
            return frozenset({Mode.FULL})
        used = self.cached_modes[: self.cycle - 1]
        return frozenset({Mode.FULL, *used})

    def mode_at(self, step: int) -> Mode:
        """The mode of step `step`, counted from 0 at the start of a trajectory."""
        since_warmup = step - (self.warmup_steps - 1)
        position = since_warmup % self.cycle
        if since_warmup <= 0 or position == 0:
            return Mode.FULL
        return self.cached_modes[(position - 1) % 2]


def inner_names() -> tuple[str, ...]:
    """Registered backends that can be the inner compiler: all but our own."""
    names: list[str] = torch.compiler.list_backends(exclude_tags=None)
    return tuple(name for name in names if name != "duca")


def _require_int(name: str, value: object, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise OptionError(f"{name} must be a whole number of at least {at_least}, not {value!r}")


def _require_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise OptionError(f"{name} must be True or False, not {value!r}")


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(
            f"{name} cannot be {value!r}{_nearest(str(value), choices)}; it is one of {', '.join(choices)}"
        )


def _require_inductors(options: Options) -> None:
    """Its mode and options: known, of the right type, and for Inductor."""
    if options.inner != "inductor":
        for name in ("inductor_mode", "inductor_options"):
            if getattr(options, name) is not None:
                raise OptionError(f"{name} is for Inductor, and inner is {options.inner!r}")
    if options.inductor_mode is not None:
        _require_choice("inductor_mode", options.inductor_mode, tuple(torch_private.inductor_modes()))
    if not isinstance(options.inductor_options, Mapping | None):
        raise OptionError(f"inductor_options must be a dictionary, not {options.inductor_options!r}")
    known = torch_private.inductor_options() if options.inductor_options else {}
    for name, value in (options.inductor_options or {}).items():
        if name not in known:
            hint = _nearest(str(name), list(known)) or "; torch._inductor.list_options() lists them"
            raise OptionError(f"Inductor has no option {name!r}{hint}")
        kind = known[name]
        if kind is not None and not isinstance(value, kind):
            raise OptionError(f"Inductor's option {name!r} must be of type {kind.__name__}, not {value!r}")


def _nearest(word: str, choices: list[str] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
