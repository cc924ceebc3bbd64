"""What a call of the model was given, sorted by its part in denoising."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Given:
    """`sizes`: those of the call, and whatever else must be equal in two calls of one generation. `numbers`: arguments
    that may change from step to step. `names`: of conditioning tensors, then of numbers, as the model has them.
    """

    timesteps: Sequence[Tensor] = ()
    latents: Sequence[Tensor] = ()
    conditioning: Sequence[Tensor] = ()
    weights: Sequence[Tensor] = ()
    sizes: tuple[Hashable, ...] = ()
    numbers: tuple[Hashable, ...] = ()
    names: Sequence[str] = ()
