"""The unchanged backend on architectures it has never been told about."""

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from duca_compile import Mode
from duca_compile.graph import ir
from duca_compile.passes import rewrite
from fresh_caches import check_fresh_caches
from helpers import (
    captured,
    captured_core,
    compiled,
    first,
    refreshed,
)
from tiny import Tiny, TinyParts
from zoo.case import calls, noise, randomise
from zoo.core import CORE

STREAMS = {"SD3": 2, "FLUX": 3, "Latte": 4}
"""Where there are several: text and image, the two joined, or one that changes its layout."""


@pytest.mark.parametrize("name", CORE)
def test_every_branch_is_found(name: str) -> None:
    case, found = CORE[name], captured_core(name)
    assert len(found.facts.branches) == case.branches
    assert sum(branch.path is not None for branch in found.facts.branches) == case.recomputed
    assert len(found.facts.streams) == STREAMS.get(name, 1)
    assert len(found.facts.blocks) == case.blocks
    assert [found.facts.inputs.spelled[name] for name in found.facts.inputs.timesteps] in (["t"], ["timestep"])


@pytest.mark.parametrize("name", CORE)
def test_full_steps_are_exact_and_every_mode_runs(name: str) -> None:
    case = CORE[name]
    model = randomise(case.build())
    fast = compiled(model, cycle=3)
    modes = []
    for call in calls(case.call, [900.0, 880.0, 860.0, 840.0]):
        got, want = first(fast(**call)), first(model(**call))
        modes.append(torch.equal(got, want))
        assert got.shape == want.shape
        assert got.isfinite().all()
    assert modes == [True, False, False, True]
    assert duca_compile.stats(model).steps == {Mode.FULL: 2, Mode.CONSERVATIVE: 1, Mode.AGGRESSIVE: 1}


@pytest.mark.parametrize(
    ("name", "cache_ratio", "depth"),
    [
        pytest.param(name, *how, marks=() if name == "DiT" or how == (0.6, "all") else pytest.mark.slow)
        for name in CORE
        for how in ((0.0, "all"), (0.6, "all"), (1.0, "all"), (0.6, "all-but-last"))
    ],
)
def test_a_cached_step_with_the_inputs_of_the_full_step_changes_nothing(
    name: str, cache_ratio: float, depth: str
) -> None:
    case = CORE[name]
    options = {"cache_ratio": cache_ratio, "aggressive_depth": depth}
    check_fresh_caches(captured(randomise(case.build()), options=options, **case.call(500.0)))


class Tangled(Tiny):
    """Bodies that read another branch's feature, a mean over tokens, and tokens flattened together with the batch."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        gate = self.clock(t[:, None].sin())[:, None]
        feature = self.mlp(x).relu()
        x = x + gate * feature
        x = x + gate * self.leave(self.clock(x.mean(2, keepdim=True)) * feature)
        pooled = self.mlp(x).mean(1, keepdim=True)
        x = x + gate * self.mlp(x * pooled)
        flat = x.reshape(-1, 2) + x.new_ones(10, 2).cumsum(0).repeat(len(x), 1)
        x = x + gate * self.mlp(flat).reshape(x.shape)
        return self.leave(x)


@pytest.mark.parametrize("cache_ratio", [0.0, 0.6])
def test_bodies_that_read_each_other(cache_ratio: float) -> None:
    found = captured(Tangled().eval(), noise(3, 10, 2), torch.full((3,), 0.5), options={"cache_ratio": cache_ratio})
    assert len(refreshed(found.plan)) == 4
    pooled = found.facts.branches[2].path
    assert pooled is not None
    assert len(pooled.whole) == 1
    flattened = found.facts.branches[3].path
    assert flattened is not None
    assert {at.outer for _, at in flattened.compute + flattened.live} == {1, 3}
    check_fresh_caches(found)


class Joined(TinyParts):
    """Two streams that go through one MLP as one sequence, and come back as two."""

    def forward(self, x: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        gate = self.clock(t[:, None].sin())[:, None]
        y = self.leave(y + self.mlp(x).mean(1, keepdim=True))
        for _ in range(2):
            x = x + gate * self.mix(x.transpose(1, 2)).transpose(1, 2)
            both = self.mlp(torch.cat([x, y], 1)).relu()
            of_x, of_y = both.split([10, 6], 1)
            x, y = x + gate * of_x, y + gate * of_y
        return self.leave(x), self.leave(y)


@pytest.mark.parametrize("cache_ratio", [0.0, 0.6])
def test_streams_joined_and_parted_in_one_body(cache_ratio: float) -> None:
    arguments = noise(3, 10, 2), noise(3, 6, 2, seed=1), torch.full((3,), 0.5)
    found = captured(Joined().eval(), *arguments, options={"cache_ratio": cache_ratio})
    chosen = [selection.count for selection in found.plan.draws]
    assert [found.plan.steps[Mode.CONSERVATIVE].told(index) for index in range(6)] == [
        "reuse", f"{chosen[0]}/10 tokens", f"{chosen[1]}/6 tokens",
    ] * 2  # fmt: skip
    check_fresh_caches(found)


@pytest.mark.parametrize("name", CORE)
def test_the_aggressive_graph_holds_no_block(name: str) -> None:
    found = captured_core(name)
    graph = rewrite(found.capture.gm, found.plan.steps[Mode.AGGRESSIVE])[0].graph
    left = {node.name for node in graph.nodes}
    bodies = {node for branch in found.facts.branches for node in branch.body}
    assert not left & bodies
    assert not left & {branch.sum for branch in found.facts.branches}


def test_flux_double_and_single_blocks_follow_the_paper() -> None:
    """Section 3 of the published behaviour: attention reused whole in double blocks, MLPs token by token in each stream;
    single blocks take the attention output from the cache and recompute the rest for tokens of the joined sequence."""
    case = CORE["FLUX"]
    found = captured(randomise(case.build()), options={"cache_ratio": 0.5}, **case.call(500.0))
    plan = found.plan
    double = [plan.steps[Mode.CONSERVATIVE].told(index) for index in found.facts.blocks[0]]
    assert sorted(double) == ["3/6 tokens", "8/16 tokens", "reuse", "reuse"]
    for block in found.facts.blocks[2:]:
        (single,) = block
        assert plan.steps[Mode.CONSERVATIVE].told(single) == "11/22 tokens"
        path = found.facts.branches[single].path
        assert path is not None
        cached = {node.name: node for node in found.capture.gm.graph.nodes}[path.cached[0][0]]
        assert len(path.cached) == 1
        assert "attention" in str(ir.owner(cached).target)
        assert cached.meta["val"].is_contiguous()


class Grid(nn.Module):
    """Tokens on a grid `[batch, height, width, features]`, or with the features first and 1x1 convolutions for linears.

    Per block: attention over all tokens, an MLP with a position bias that varies along the height alone.
    """

    def __init__(self, channels_first: bool) -> None:
        super().__init__()
        self.channels_first = channels_first
        self.clock, self.qkv, self.out = nn.Linear(8, 3 * 16), nn.Conv2d(16, 48, 1), nn.Conv2d(16, 16, 1)
        self.up, self.down, self.bias = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 16, 1), nn.Parameter(torch.zeros(16, 4, 1))

    def along(self, layer: nn.Conv2d, x: Tensor) -> Tensor:
        return layer(x) if self.channels_first else nn.functional.linear(x, layer.weight.flatten(1), layer.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        ends, bias = (
            ((-1, 48, 1, 1), self.bias) if self.channels_first else ((-1, 1, 1, 48), self.bias.permute(1, 2, 0))
        )
        dim = 1 if self.channels_first else -1
        shift, scale, gate = self.clock((t[:, None] * torch.arange(8)).sin()).view(ends).chunk(3, dim)
        for _ in range(2):
            qkv = self.along(self.qkv, x)
            flat = qkv.flatten(2).transpose(1, 2) if self.channels_first else qkv.flatten(1, 2)
            query, key, value = flat.chunk(3, -1)
            mixed = nn.functional.scaled_dot_product_attention(query, key, value)
            x = x + gate * self.along(
                self.out, mixed.transpose(1, 2).reshape(x.shape) if self.channels_first else mixed.view(x.shape)
            )
            x = x + gate * self.along(self.down, self.along(self.up, x * (1 + scale) + shift + bias).relu())
        return self.along(self.out, x)


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("cache_ratio", [0.0, 0.6])
def test_tokens_on_a_grid(channels_first: bool, cache_ratio: float) -> None:
    model = randomise(Grid(channels_first))
    x = noise(2, 16, 4, 5) if channels_first else noise(2, 4, 5, 16)
    found = captured(model, x, torch.full((2,), 0.5), options={"cache_ratio": cache_ratio})
    actions = [found.plan.steps[Mode.CONSERVATIVE].told(index) for index in range(4)]
    assert actions == ["reuse", f"{found.plan.draws[0].count}/20 tokens"] * 2
    check_fresh_caches(found)
