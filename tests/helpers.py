"""What several tests need: compiled models, recorded token indices, captured graphs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from duca_compile.capture import Capture
from duca_compile.facts import Facts
from duca_compile.options import Options
from duca_compile.plan import Plan
from duca_compile.study import study

STEPS = [float(t) for t in range(980, -20, -20)]
"""50 timesteps, as a 50-step sampler visits them."""


def compiled(model: nn.Module, dynamic: bool | None = None, **options: Any) -> Any:
    """`model` under backend "duca" with `eager` inside, refusing to fall back."""
    given = {"inner": "eager", "strict": True, **options}
    return torch.compile(model, backend="duca", options=given, fullgraph=True, dynamic=dynamic)


def lenient(model: nn.Module, dynamic: bool | None = None, **options: Any) -> Any:
    """As a user has it: falls back where the model cannot be accelerated."""
    return torch.compile(model, backend="duca", options={"inner": "eager", **options}, dynamic=dynamic)


def first(result: Any) -> Tensor:
    tensor: Tensor = result[0] if isinstance(result, tuple) else result
    return tensor


def relative_error(got: Tensor, want: Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max())


@dataclass(frozen=True)
class Captured:
    capture: Capture
    facts: Facts
    plan: Plan


def captured(model: nn.Module, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> Captured:
    """Capture, facts and plan of a model's only graph, be it that only a session could tell its steps apart."""
    found: list[Captured] = []

    def collect(gm: Any, inputs: Sequence[Any]) -> Callable[..., Any]:
        seen = study(gm, inputs, Options.parse(options))
        if seen.captured is None or seen.plan is None:
            seen.planned()
        else:
            found.append(Captured(seen.captured, seen.plan.facts, seen.plan))
        return gm.forward

    torch.compile(model, backend=collect, fullgraph=True)(*args, **kwargs)
    (only,) = found
    return only
