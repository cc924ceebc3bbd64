"""What several tests need: compiled models, captured graphs, generations, models that are odd, faults."""

import functools
import io
import warnings
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import duca_compile
from duca_compile import DucaWarning, Mode
from duca_compile.analysis.facts import Facts
from duca_compile.capture.capture import Capture
from duca_compile.methods.base import Action
from duca_compile.plan.options import Options
from duca_compile.plan.plan import Plan
from duca_compile.study import study
from zoo.case import noise, randomise
from zoo.core import CORE

STEPS = [float(t) for t in range(980, -20, -20)]
"""50 timesteps, as a 50-step sampler visits them."""


def compiled(model: Callable[..., Any], dynamic: bool | None = None, **options: Any) -> Any:
    """`model` under backend "duca" with `eager` inside, refusing to fall back."""
    given = of_duca({"inner": "eager", "strict": True, **options})
    return torch.compile(model, backend="duca", options=given, fullgraph=True, dynamic=dynamic)


def lenient(model: Callable[..., Any], dynamic: bool | None = None, **options: Any) -> Any:
    """As a user has it: falls back where the model cannot be accelerated."""
    return torch.compile(model, backend="duca", options=of_duca({"inner": "eager", **options}), dynamic=dynamic)


def of_duca(options: dict[str, Any] | None = None) -> dict[str, Any]:
    """The options, for DuCa unless they name another method: its three recipes use all passes."""
    options = options or {}
    return options if {"method", "preset"} & options.keys() else {"method": "duca", **options}


def first(result: Any) -> Tensor:
    tensor: Tensor = result[0] if isinstance(result, tuple) else result
    return tensor


def relative_error(got: Tensor, want: Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max())


def attention(q: Tensor, k: Tensor, v: Tensor, *given: Any) -> Tensor:
    """Of `[batch, tokens, heads, features]`, whatever else an operation is given."""
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).contiguous()


def seen_by_backend(model: Any, *args: Any) -> tuple[Any, Any]:
    found: list[Any] = []

    def collect(gm: Any, inputs: Any) -> Any:
        found.append((gm, inputs))
        return gm.forward

    torch.compile(model, backend=collect)(*args)
    (only,) = found
    return only


@dataclass(frozen=True)
class Captured:
    capture: Capture
    facts: Facts
    plan: Plan


def captured(model: nn.Module, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> Captured:
    """Capture, facts and plan of a model's only graph, be it that only a session could tell its steps apart."""
    found: list[Captured] = []

    def collect(gm: Any, inputs: Sequence[Any]) -> Callable[..., Any]:
        seen = study(gm, inputs, Options.parse(of_duca(options)))
        if seen.captured is None or seen.plan is None:
            seen.planned()
        else:
            found.append(Captured(seen.captured, seen.plan.facts, seen.plan))
        return gm.forward

    torch.compile(model, backend=collect, fullgraph=True)(*args, **kwargs)
    (only,) = found
    return only


@functools.cache
def captured_core(name: str) -> Captured:
    """One of the zoo's core models, with all options at their defaults."""
    case = CORE[name]
    return captured(randomise(case.build()), **case.call(500.0))


def concrete_inputs(found: Captured) -> list[Tensor]:
    """Real tensors for the captured graph's inputs, drawn at random but for integers and the timestep."""
    generator = torch.Generator().manual_seed(3)
    values = []
    for node in found.capture.gm.graph.find_nodes(op="placeholder"):
        fake = node.meta["val"]
        if fake.dtype.is_floating_point:
            values.append(torch.randn(fake.shape, generator=generator).to(fake.dtype) * 0.3)
        else:
            values.append(torch.ones(fake.shape, dtype=fake.dtype))
    return values


def caches(plan: Plan) -> tuple[str, ...]:
    """The values that are kept of branches."""
    return tuple(slot.value for slot in plan.slots if slot.small)


def frontier(plan: Plan) -> tuple[str, ...]:
    """The stream values that steps take which are cut."""
    return tuple(slot.value for slot in plan.slots if not slot.small)


def stored(plan: Plan, recipe: str) -> tuple[str, ...]:
    return tuple(slot.value for slot in plan.steps[recipe].writes)


def refreshed(plan: Plan) -> tuple[int, ...]:
    """The branches that recompute tokens in a step of some recipe."""
    found = [step.where(Action.REFRESH) for step in plan.steps.values()]
    return next((each for each in found if each), ())


def names(cases: Iterable[str], fast: Container[str]) -> list[Any]:
    """To be parametrised over; those that are not among the `fast` ones are slow."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in cases]


class Generation:
    """Samples with one compiled model, from noise at every turn of the timestep, and tells which modes its calls ran in."""

    def __init__(self, model: nn.Module, fast: Any, labels: Tensor, travel: float = -1.0, seed: int = 0) -> None:
        self.model, self.fast, self.labels, self.travel, self.seed = model, fast, labels, travel, seed
        self.x, self.last, self.output = noise(2, 1, 8, 8, seed=seed), torch.tensor(0.0), torch.zeros(2, 1, 8, 8)

    def modes(self, timesteps: Sequence[float | list[float]]) -> list[Mode]:
        return [self.mode(t) for t in timesteps]

    def mode(self, t: float | list[float]) -> Mode:
        before = duca_compile.stats(self.model).steps
        clock = torch.full((2,), t) if isinstance(t, float) else torch.tensor(t)
        self._move(clock)
        got = self.fast(self.x, clock, self.labels)
        after = duca_compile.stats(self.model).steps
        (mode,) = [mode for mode in Mode if after[mode] > before[mode]]
        if mode == Mode.FULL:
            assert torch.equal(got, self.model(self.x, clock, self.labels))
        self.last, self.output = clock, got[:, :1]
        return mode

    def _move(self, clock: Tensor) -> None:
        moved = float((clock - self.last).sum()) * self.travel
        if moved > 0:
            self.x = self.x - 0.05 * self.output
        elif moved < 0:
            self.seed += 10
            self.x = noise(2, 1, 8, 8, seed=self.seed)


class Timeless(nn.Module):
    """No timestep: nothing but a session that counts can tell its steps apart."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.mlp, self.leave = nn.Linear(6, 6), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(x.transpose(1, 2)).transpose(1, 2)
        return self.leave(x + self.mlp(x).relu())


class Wrapped(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Planted(Exception):
    """A fault of ours that a test brings about."""


def ours(caught: Iterable[warnings.WarningMessage]) -> list[str]:
    """What our warnings among these say."""
    return [str(warning.message) for warning in caught if issubclass(warning.category, DucaWarning)]


def takes_caches(gm: fx.GraphModule) -> bool:
    """Whether it is the graph of a CONSERVATIVE or AGGRESSIVE step."""
    return any(node.name.startswith("cache_") for node in gm.graph.find_nodes(op="placeholder"))


def third_step(model: nn.Module, fast: Any, edit: Callable[[], None]) -> Mode:
    """The mode of a generation's third step, before which the edit is made."""
    duca_compile.reset(model)
    labels = torch.tensor([1, 2])
    for step in range(3):
        if step == 2:
            edit()
        before = duca_compile.stats(model).steps
        fast(noise(2, 1, 8, 8), torch.full((2,), 900.0 - 20 * step), labels)
    after = duca_compile.stats(model).steps
    return next(mode for mode in Mode if after[mode] > before[mode])
