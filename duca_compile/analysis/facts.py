"""What the analyses found. Facts name nodes, never hold them, so they stay true for every copy of the graph."""

from collections.abc import Mapping
from dataclasses import dataclass

from duca_compile.analysis.token_rules import Place
from duca_compile.graph.signature import Signature
from duca_compile.refusal import Refusal
from duca_compile.torch_private import Size


@dataclass(frozen=True)
class Inputs:
    """The call's own arguments by their part in denoising. `latents` or `timesteps` is empty where not recognised.

    `spelled` gives the name that an argument has in the model's source.
    """

    latents: tuple[str, ...]
    timesteps: tuple[str, ...]
    conditioning: tuple[str, ...]
    spelled: Mapping[str, str]


@dataclass(frozen=True)
class TokenPath:
    """How to recompute a feature at selected tokens only.

    `compute` are the token-wise ops to run on the selection, in order; `live` the values gathered as this step has
    them; `cached` the mixing values gathered from the last FULL step; `whole` the cached values read without gathering.
    `same` names, for what only slices or joins along the tokens, the value whose tokens it hands on as they are.
    `sliced` names, for all else in `compute`, the operands that the op reads at its tokens: it reads the others whole.
    """

    place: Place
    compute: tuple[tuple[str, Place], ...]
    live: tuple[tuple[str, Place], ...]
    cached: tuple[tuple[str, Place], ...]
    whole: tuple[str, ...]
    same: tuple[tuple[str, str], ...]
    sliced: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Branch:
    """One residual addition `sum = skip + gate * feature`; `body` are the nodes between stream values and feature.

    `addend`: what is added to the skip, the gated feature."""

    sum: str
    skip: str
    addend: str
    feature: str
    gates: tuple[str, ...]
    stream: int
    kind: str
    source: str
    body: tuple[str, ...]
    fingerprint: int
    shape: tuple[Size, ...]
    path: TokenPath | None
    refusal: str | None
    """Why CONSERVATIVE reuses the feature whole; None where `path` says how to recompute tokens."""


@dataclass(frozen=True)
class Stream:
    """A residual chain: `root` is the value before its first branch, `sums` the values after each."""

    index: int
    root: str
    sums: tuple[str, ...]
    shape: tuple[Size, ...]


@dataclass(frozen=True)
class Facts:
    """Everything the plan needs to know. `refusals` are additions that look like branches and why they are none."""

    signature: Signature
    inputs: Inputs
    streams: tuple[Stream, ...]
    branches: tuple[Branch, ...]
    blocks: tuple[tuple[int, ...], ...]
    refusals: tuple[Refusal, ...]
