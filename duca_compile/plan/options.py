"""The options of `torch.compile(model, backend="duca", options={...})`, validated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch

from duca_compile import torch_private
from duca_compile.methods import METHODS
from duca_compile.methods.base import FULL, Method, even
from duca_compile.methods.check import OptionError, nearest, require_bool, require_choice, require_int
from duca_compile.methods.duca import DuCa

SELECTIONS = ("branch", "step")
LARGEST_SEED = 2**64 - 1
CACHE_DTYPES = (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)


OF_DUCA = tuple(field.name for field in fields(DuCa))


@dataclass(frozen=True)
class Options:
    """How a trajectory is cached. The defaults are the paper's (DuCa, arXiv 2412.18911, sections IV-C and V).

    `cycle`, `order`, `warmup_steps` and `aggressive_depth` are DuCa's: those of another `method` are its own, which
    `parse` takes beside the others, such as `{"method": "taylorseer", "cycle": 6, "order": 1}`.
    """

    method: str | Method = "duca"
    """The caching method: `duca`, `fora`, `taylorseer`, `forecast-stack`, or a value, such as `TaylorSeer(order=2)`."""
    cycle: int = DuCa.cycle
    """N: one step in `cycle` is FULL, the `cycle - 1` after it are cached. 1 caches nothing."""
    cache_ratio: float = 0.9
    """R: the share of tokens that a CONSERVATIVE step takes from the cache; it recomputes `floor((1 - R) * tokens)`."""
    selection: str = "branch"
    """Tokens are drawn for every `branch` of a step (the paper's way), or once for a `step`: all branches of equally
    many tokens then recompute the same ones, and the host draws and hands over less."""
    order: str = DuCa.order
    """Which cached mode follows a FULL step; the two alternate. `conservative` and `aggressive` alone use one."""
    warmup_steps: int = DuCa.warmup_steps
    """The first `warmup_steps` steps of a trajectory are FULL; the last of them opens the first cycle."""
    aggressive_depth: str = DuCa.aggressive_depth
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
        self._require_method()
        require_int("seed", self.seed, at_least=0)
        if self.seed > LARGEST_SEED:
            raise OptionError(f"seed must be at most 2**64 - 1, as torch.Generator takes it, not {self.seed}")
        if isinstance(self.cache_ratio, bool) or not isinstance(self.cache_ratio, (int, float)):
            raise OptionError(f"cache_ratio must be a number from 0 to 1, not {self.cache_ratio!r}")
        if not 0 <= self.cache_ratio <= 1:
            raise OptionError(f"cache_ratio must lie from 0 to 1, not {self.cache_ratio}")
        require_choice("selection", self.selection, SELECTIONS)
        if self.outline is not None:
            require_bool("outline", self.outline)
        require_bool("strict", self.strict)
        if self.cache_dtype is not None and self.cache_dtype not in CACHE_DTYPES:
            listed = ", ".join(map(str, CACHE_DTYPES))
            raise OptionError(f"cache_dtype cannot be {self.cache_dtype!r}; it is None or one of {listed}")
        if self.cache_budget is not None:
            require_int("cache_budget", self.cache_budget, at_least=0)
        if not callable(self.inner):
            require_choice("inner", self.inner, inner_names())
        _require_inductors(self)

    @classmethod
    def parse(cls, values: Mapping[str, Any] | None) -> "Options":
        values = dict(values or {})
        own, method = [field.name for field in fields(cls)], values.get("method", "duca")
        kind = METHODS.get(method) if isinstance(method, str) and method != "duca" else None
        of_method = {field.name for field in fields(kind)} if kind else set()  # type: ignore[arg-type]
        known = list(dict.fromkeys([*(name for name in own if kind is None or name not in OF_DUCA), *of_method]))
        for name in values:
            if name not in known:
                of = f"of method={method!r} " if kind else ""
                raise OptionError(
                    f"unknown option {name!r}{nearest(name, known)}; the options {of}are {', '.join(known)}"
                )
        if kind is not None:
            values["method"] = kind(**{name: values.pop(name) for name in of_method & values.keys()})
        return cls(**values)

    def _require_method(self) -> None:
        if isinstance(self.method, str):
            require_choice("method", self.method, tuple(METHODS))
        elif not hasattr(self.method, "recipes"):
            raise OptionError(f"method must be the name of one, or a method, not {self.method!r}")
        changed = [name for name in OF_DUCA if getattr(self, name) != getattr(DuCa, name)]
        if self.method != "duca" and changed:
            raise OptionError(f"{changed[0]} is an option of method='duca'; give the other method its own")
        self.caching  # noqa: B018 - checks DuCa's options

    @cached_property
    def caching(self) -> Method:
        """The method as a value."""
        if self.method == "duca":
            return DuCa(**{name: getattr(self, name) for name in OF_DUCA})
        return METHODS[self.method]() if isinstance(self.method, str) else self.method

    def without_cuts(self) -> "Options | None":
        """The same for a model from which no stream can be cut; None where that is nothing."""
        method = self.caching.without_cuts()
        if method is None:
            return None
        if isinstance(method, DuCa):
            return replace(self, method="duca", **{name: getattr(method, name) for name in OF_DUCA})
        return replace(self, method=method)

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
    def recipes(self) -> tuple[str, ...]:
        """The names of those that a trajectory under these options can run."""
        return tuple(recipe.name for recipe in self.caching.recipes())

    def sequence(self, steps: int) -> list[str]:
        """The names of those that a generation of so many steps of one length runs."""
        return even(self.caching, steps)

    @property
    def are_cached(self) -> bool:
        """Whether any step is."""
        return self.recipes != (FULL,)


def inner_names() -> tuple[str, ...]:
    """Registered backends that can be the inner compiler: all but our own."""
    names: list[str] = torch.compiler.list_backends(exclude_tags=None)
    return tuple(name for name in names if name != "duca")


def _require_inductors(options: Options) -> None:
    """Its mode and options: known, of the right type, and for Inductor."""
    if options.inner != "inductor":
        for name in ("inductor_mode", "inductor_options"):
            if getattr(options, name) is not None:
                raise OptionError(f"{name} is for Inductor, and inner is {options.inner!r}")
    if options.inductor_mode is not None:
        require_choice("inductor_mode", options.inductor_mode, tuple(torch_private.inductor_modes()))
    if not isinstance(options.inductor_options, Mapping | None):
        raise OptionError(f"inductor_options must be a dictionary, not {options.inductor_options!r}")
    known = torch_private.inductor_options() if options.inductor_options else {}
    for name, value in (options.inductor_options or {}).items():
        if name not in known:
            hint = nearest(str(name), list(known)) or "; torch._inductor.list_options() lists them"
            raise OptionError(f"Inductor has no option {name!r}{hint}")
        kind = known[name]
        if kind is not None and not isinstance(value, kind):
            raise OptionError(f"Inductor's option {name!r} must be of type {kind.__name__}, not {value!r}")
