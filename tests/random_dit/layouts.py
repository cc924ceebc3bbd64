"""What random models are made of: ways to lay out tokens, weights, and what bodies tell each other."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

HEADS = 2
EXPERTS = 3


@dataclass(frozen=True)
class Layout:
    """Tokens on a grid (of one dimension or more), features last or before them, with a batch dimension or without."""

    batch: int | None
    grid: tuple[int, ...]
    features_last: bool = True

    @property
    def tokens(self) -> int:
        return math.prod(self.grid)

    def size(self, features: int) -> tuple[int, ...]:
        sizes = (*self.grid, features) if self.features_last else (features, *self.grid)
        return sizes if self.batch is None else (self.batch, *sizes)

    @property
    def feature_dim(self) -> int:
        return -1 if self.features_last else -1 - len(self.grid)

    def flat(self, y: Tensor) -> Tensor:
        """As `[batch, tokens, features]`."""
        y = y.movedim(self.feature_dim, -1)
        return y[None] if self.batch is None else y.flatten(1, -2)

    def laid(self, y: Tensor) -> Tensor:
        """From `[batch, tokens, features]`."""
        if self.batch is None:
            return y[0]
        return y.unflatten(1, self.grid).movedim(-1, self.feature_dim)

    def over_tokens(self, e: Tensor) -> Tensor:
        """`[batch, features]`, or `[batch, tokens, features]` where it differs among tokens, to be broadcast."""
        if e.dim() == 3:
            return self.laid(e)
        if self.batch is None:
            return e
        ones = [1 for _ in self.grid]
        return e.reshape(len(e), *([*ones, -1] if self.features_last else [-1, *ones]))

    def linear(self, layer: nn.Linear, y: Tensor) -> Tensor:
        """In the input's precision; a convolution with a kernel of one token where features come first."""
        weight, bias = layer.weight.to(y.dtype), layer.bias.to(y.dtype)
        if self.features_last:
            return functional.linear(y, weight, bias)
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[len(self.grid) - 1]
        return convolve(y, weight.reshape(*weight.shape, *[1 for _ in self.grid]), bias)


@dataclass
class Heard:
    """What a body may read besides its own stream: conditioning `[batch, few, features]`, and values
    of other bodies, features as `[batch, tokens, features]`. `narrow` is the dtype of islands."""

    context: Tensor
    narrow: torch.dtype
    features: list[Tensor] = field(default_factory=list)
    hidden: Tensor | None = None
    in_place: bool = False


class Weights(nn.Module):
    """What any body may need on a stream of at most `tokens`; Dynamo captures what is used."""

    def __init__(self, features: int, tokens: int) -> None:
        super().__init__()
        wide = 2 * features
        self.q, self.k, self.v, self.o = (nn.Linear(features, features) for _ in range(4))
        self.up, self.gate, self.down = nn.Linear(features, wide), nn.Linear(features, wide), nn.Linear(wide, features)
        self.qkv = nn.Linear(features, 3 * features)
        self.joint_in, self.joint_out = nn.Linear(features, 3 * features + wide), nn.Linear(features + wide, features)
        self.conv = nn.Conv1d(wide, wide, 3, padding=1, groups=wide)
        self.pairs, self.across = nn.Linear(wide, wide), nn.Linear(tokens, tokens)
        self.router = nn.Linear(features, EXPERTS)
        self.experts = nn.ModuleList(nn.Linear(features, features) for _ in range(EXPERTS))
        self.modulate = nn.Linear(features, 3 * features)
        self.squeeze = nn.Linear(features, features)
        self.places = nn.Parameter(torch.zeros(tokens, features))
        self.mask = nn.Buffer(torch.arange(tokens) % 3 != 0)


FLAT = Layout(0, (0,))
"""Any `[batch, tokens, features]`: linear layers work on its last dimension."""
