"""The options of `torch.compile(model, backend="duca", options={...})`, validated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch

from duca_compile import torch_private
from duca_compile.methods import DEFAULT, METHODS, PRESETS, name_of
from duca_compile.methods.base import FULL, Method, even
from duca_compile.methods.check import OptionError, nearest, require_bool, require_choice, require_int
from duca_compile.plan import tuned_file
from duca_compile.plan.spellings import CACHE_DTYPES, OTHER_NAMES, bytes_of, dtype_of

OF_A_TUNED_FILE = ("made_for", "made_for_steps")
"""Fields of `Options` that no user gives."""


@dataclass(frozen=True)
class Options:
    """How a model is cached and compiled.

    `parse` takes the options of the `method` beside the others, such as `{"method": "duca", "cycle": 4}`; in place of a
    method `preset`: `quality`, `balanced` or `fast`; or `tuned`: a file that `duca_compile.tune` has written. It also
    takes texts for a type and for bytes: `{"cache_dtype": "bfloat16", "cache_budget": "1.5 GiB"}`.
    """

    method: Method = DEFAULT
    """The caching method: `forecast-stack` (the default, as of the preset `balanced`), `duca`, `fora`, `taylorseer`, or
    a value, such as `TaylorSeer(order=2)`."""
    cache_dtype: torch.dtype | None = None
    """Keep features in this type where it is smaller than the model's, such as `torch.bfloat16` or
    `torch.float8_e4m3fn`: fewer bytes, rounded. None keeps what the model computes. The stream that AGGRESSIVE steps
    take is always kept as it is."""
    cache_budget: int | None = None
    """The most bytes that the caches of one compiled model may take, over all its generations; the least recently used
    go first. None sets no limit in bytes. At most 8 generations keep caches at once, whatever the budget."""
    inner: str | Callable[..., Any] = "inductor"
    """The compiler that each recipe's graph goes to: a registered backend's name, or a backend function."""
    inductor_mode: str | None = None
    """What `torch.compile` takes as its `mode`, which it does not take beside options: "reduce-overhead"."""
    inductor_options: Mapping[str, Any] | None = None
    """What `torch.compile` takes as its `options` for Inductor: {"max_autotune": True}. They win over the mode's.

    Where a mode or an option asks for CUDA graphs, each recipe's graph is recorded for each trajectory that keeps
    caches at once, over caches in memory that stays where it is. They stay off for a forward pass that is split and for
    symbolic sizes, which is said once."""
    outline: bool | None = None
    """Compile each distinct block once and call it for all of its kind. Where `inner` is Inductor; else blocks stay.
    None does so on CPUs: on a GPU a block that is called fuses with neither neighbour, which costs launches."""
    made_for: str = ""
    """Of a method that `tune` found: what the model looks like that it is for; another one is refused."""
    made_for_steps: int = 0
    """Of such a method: of how many steps the generations are that it is for; another number is said once."""
    strict: bool = False
    """Raise instead of falling back to the inner compiler when a model cannot be accelerated."""

    def __post_init__(self) -> None:
        if isinstance(self.method, str):
            require_choice("method", self.method, tuple(METHODS))
            object.__setattr__(self, "method", METHODS[self.method]())
        if not hasattr(self.method, "recipes"):
            raise OptionError(f"method must be the name of one, or a method, not {self.method!r}")
        if self.outline is not None:
            require_bool("outline", self.outline)
        require_bool("strict", self.strict)
        if self.cache_dtype is not None and self.cache_dtype not in CACHE_DTYPES:
            listed = ", ".join(map(str, CACHE_DTYPES))
            told = f"cache_dtype cannot be {self.cache_dtype!r}; it is None or one of {listed}, or the name of one"
            raise OptionError(told)
        if self.cache_budget is not None:
            require_int("cache_budget", self.cache_budget, at_least=0)
        if not callable(self.inner):
            _require_registered(self.inner)
        _require_inductors(self)

    @classmethod
    def parse(cls, values: Mapping[str, Any] | None) -> "Options":
        values = _by_name(values)
        base, tuned = _method(values)
        of_method = _names(base)
        shared = [field.name for field in fields(cls) if field.name not in OF_A_TUNED_FILE]
        known = list(dict.fromkeys([*shared, *of_method, "preset", "tuned"]))
        for name in values:
            if name not in known:
                raise OptionError(_unknown(name, base, known))
        own = {name: values.pop(name) for name in of_method if name in values}
        values["cache_dtype"] = dtype_of(values.get("cache_dtype"))
        values["cache_budget"] = bytes_of("cache_budget", values.get("cache_budget"))
        try:
            values["method"] = replace(base, **own) if own else base  # type: ignore[type-var]
            values["method"].recipes()
        except OptionError as error:
            raise OptionError(f"{error} (method={name_of(base)!r})") from None
        return cls(**values, **tuned)

    def without_cuts(self) -> "Options | None":
        """The same for a model from which no stream can be cut; None where that is nothing."""
        method = self.method.without_cuts()
        return None if method is None else replace(self, method=method)

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
        return tuple(recipe.name for recipe in self.method.recipes())

    def sequence(self, steps: int) -> list[str]:
        """The names of those that a generation of so many steps of one length runs."""
        return even(self.method, steps)

    @property
    def are_cached(self) -> bool:
        """Whether any step is."""
        return self.recipes != (FULL,)


def _by_name(values: Mapping[str, Any] | None) -> dict[str, Any]:
    if not isinstance(values, Mapping | None):
        raise OptionError(f"options must be a dictionary, such as {{'preset': 'fast'}}, not {values!r}")
    for name in values or {}:
        if not isinstance(name, str):
            raise OptionError(f"the name of an option must be a text, not {name!r}")
    return dict(values or {})


def _method(values: dict[str, Any]) -> tuple[Method, dict[str, Any]]:
    """What `method`, `preset` or `tuned` names, which are taken out of `values`; of a tuned one, what it is for."""
    named = {name: values.pop(name, None) for name in ("method", "preset", "tuned")}
    method, preset, tuned = named.values()
    if sum(each is not None for each in named.values()) > 1:
        given = ", ".join(f"{name}={each!r}" for name, each in named.items() if each is not None)
        raise OptionError(f"{given}: each names a method with its options; give one of them")
    if preset is not None:
        require_choice("preset", preset, tuple(PRESETS))
        return PRESETS[preset], {}
    if tuned is not None:
        found = tuned_file.read(tuned)
        return found.method, {"made_for": found.portrait, "made_for_steps": found.steps}
    return DEFAULT if method is None else Options(method=method).method, {}


def _names(method: Method) -> tuple[str, ...]:
    """Of its options."""
    return tuple(field.name for field in fields(method)) if is_dataclass(method) else ()


def _unknown(name: str, method: Method, known: Sequence[str]) -> str:
    others = [other for other, kind in METHODS.items() if name in _names(kind())]
    if others:
        listed = " and ".join(f"method={other!r}" for other in others)
        return f"{name} is no option of method={name_of(method)!r}, but of {listed}; name the method you want"
    other = OTHER_NAMES.get(name.lower())
    hint = f" (did you mean {other!r}?)" if other else nearest(name, known)
    return f"unknown option {name!r}{hint}; the options of method={name_of(method)!r} are {', '.join(known)}"


def _require_registered(inner: object) -> None:
    """Any backend but our own. Those that torch lists for users are told, and those that only capture."""
    names = [name for name in torch.compiler.list_backends(exclude_tags=None) if name != "duca"]
    if inner not in names:
        usual = [name for name in torch.compiler.list_backends() if name in names]
        listed = ", ".join([*usual, "eager", "aot_eager"])
        told = f"it is a function or a registered backend, such as {listed}; a package may register its own on import"
        raise OptionError(f"inner cannot be {inner!r}{nearest(str(inner), names)}; {told}")


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
