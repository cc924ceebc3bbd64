"""What an entry of the zoo is: a tiny denoising transformer, one call of it, and what there is to find in it."""

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import duca_compile

Call = Callable[[float], dict[str, Any]]
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Case:
    """`call(t)` gives the keyword arguments of a call at timestep `t`.

    `branches`, `recomputed` and `blocks` are counted by hand from the architecture: residual additions
    `x + gate * f(x)` of the repeated blocks, those of them whose body works token by token somewhere between stream and
    feature (so that a conservative step recomputes tokens), and the blocks: the units that repeat, which are two of the
    source's blocks where only every second one has a certain branch. `graphs`: into how many Dynamo splits the forward.
    """

    build: Callable[[], nn.Module]
    call: Call
    branches: int
    recomputed: int
    blocks: int
    graphs: int = 1
    refusal: str = ""
    """Why it cannot be accelerated; empty where it can."""
    partly: str = ""
    """Why less is found than there is; empty where all is."""

    def model(self) -> nn.Module:
        """With random weights, after a first call: some models make tables of positions then."""
        found = randomise(self.build())
        with torch.no_grad():
            found(**self.call(500.0))
        return found


def calls(call: Call, timesteps: Sequence[float]) -> list[dict[str, Any]]:
    """Calls that share every tensor but the timestep, as a sampling loop makes them."""
    shared = call(timesteps[0])
    moved = [{name: given for name, given in call(t).items() if _is_moved(given, shared[name])} for t in timesteps]
    return [{**shared, **each} for each in moved]


def generation(given: list[dict[str, Any]]) -> AbstractContextManager[object]:
    """Around these calls: a session that counts where a timestep rises, since their latents stay, and nothing but
    latents made of the last outputs proves that rising ones are of one generation."""
    moved = [(before, after) for before, after in itertools.pairwise(given) if _rises(before, after)]
    return duca_compile.session(steps=len(given)) if moved else nullcontext()


def _rises(before: dict[str, Any], after: dict[str, Any]) -> bool:
    pairs = [(before[name], after[name]) for name in after if _is_moved(after[name], before[name])]
    return any(bool((new > old).any()) for old, new in pairs)


def _is_moved(given: object, before: object) -> bool:
    """Only timesteps differ between two calls of an entry."""
    return isinstance(given, Tensor) and isinstance(before, Tensor) and not torch.equal(given, before)


def randomise(model: Model, seed: int = 0) -> Model:
    """Weights that let every branch matter: adaLN-Zero starts with gates and output at zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        weights = torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.ndim < 2 else 0.15)
        parameter.data = weights.to(parameter.dtype)
    return model.eval()


def noise(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))
