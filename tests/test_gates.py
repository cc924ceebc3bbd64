"""What lies between a feature and its addition is gate, however it is written: cached steps apply it anew.

The oracle caches by hand, before the gate: at a full step it keeps what each body computes, later it puts that under
the gates of the step at hand.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from duca_compile.graph import ir
from duca_compile.methods.duca import Mode
from duca_compile.passes import rewrite
from helpers import caches, captured, relative_error
from zoo.case import noise, randomise
from zoo.survey import survey

BATCH, FRAMES, PLACES, WIDTH = 2, 3, 4, 8
TOKENS = FRAMES * PLACES


class Gates:
    """Of one branch at one timestep: `now` and `given` [batch, 1, width], for tokens where `mask` [batch, tokens, 1] is
    set and where it is not; `frames` [batch, frames, 1, width]."""

    def __init__(self, parts: tuple[Tensor, ...], mask: Tensor) -> None:
        self.now, self.given, frames = parts
        self.mask = mask
        self.frames = torch.stack([frames * (1 + 0.1 * at) for at in range(FRAMES)], 1)


Way = Callable[[Tensor, Tensor, Gates], Tensor]
"""`x + gate * f(x)`, given `x`, `f(x)` and the gates."""


class Gated(nn.Module):
    """Two blocks of token mixing and an MLP, each added in the way given."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self.way = way
        self.clock, self.mix = nn.Linear(4, 3 * WIDTH), nn.Linear(TOKENS, TOKENS)
        self.enter, self.leave, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.up, self.down = nn.Linear(WIDTH, 16), nn.Linear(16, WIDTH)
        self.kept: list[Tensor] | None = None
        self.reads = False

    def feature(self, at: int, value: Tensor) -> Tensor:
        if self.kept is None:
            return value
        if not self.reads:
            self.kept.append(value)
        return self.kept[at]

    def forward(self, x: Tensor, timestep: Tensor, mask: Tensor) -> Tensor:
        phases = timestep[:, None] * torch.tensor([0.001, 0.003, 0.01, 0.03])
        parts = self.clock(phases.sin())[:, None].chunk(3, -1)
        gates = Gates(parts, mask)
        x = self.enter(x)
        for block in range(2):
            mixed = self.out(self.mix(x.transpose(1, 2)).transpose(1, 2))
            x = self.way(x, self.feature(2 * block, mixed), gates)
            x = self.way(x, self.feature(2 * block + 1, self.down(self.up(x).relu())), gates)
        return self.leave(x)


def in_frames(x: Tensor) -> Tensor:
    return x.reshape(BATCH, FRAMES, PLACES, WIDTH)


def selected(mask: Tensor, x: Tensor, given: Tensor) -> Tensor:
    """Frame by frame, as video models choose between what is denoised and what is given."""
    return torch.where(mask.unflatten(1, (FRAMES, -1))[:, :, :1], in_frames(x), in_frames(given)).flatten(1, 2)


WAYS: dict[str, Way] = {
    "product": lambda x, f, g: x + g.now * f,
    "where": lambda x, f, g: x + torch.where(g.mask, g.now * f, f * g.given),
    "where in where": lambda x, f, g: x + torch.where(g.mask, g.now * f, torch.where(g.mask.flip(1), f * g.given, f)),
    "where of sums": lambda x, f, g: torch.where(g.mask, x + g.now * f, g.given * f + x),
    "where by frames": lambda x, f, g: x + selected(g.mask, g.now * f, g.given * f),
    "where, or nothing": lambda x, f, g: x + torch.where(g.mask, g.now * f, 0.0),
    "a gate a frame": lambda x, f, g: x + (g.frames * in_frames(f)).reshape(x.shape),
    "a gate a frame, unflattened": lambda x, f, g: x + (f.unflatten(1, (FRAMES, -1)) * g.frames).flatten(1, 2),
    "a gate a frame, frames last": lambda x, f, g: (
        x + (in_frames(f).transpose(1, 2) * g.frames.transpose(1, 2)).transpose(1, 2).reshape(x.shape)
    ),
    "frames as samples": lambda x, f, g: x + (f.reshape(-1, PLACES, WIDTH) * g.frames.flatten(0, 1)).reshape(x.shape),
    "features first": lambda x, f, g: x + (f.transpose(1, 2) * g.now.transpose(1, 2)).transpose(1, 2),
    "lerp": lambda x, f, g: x + torch.lerp(g.given * f, g.now * f, g.mask.float()),
    "addcmul": lambda x, f, g: x + torch.addcmul(g.given * f, g.mask.float(), (g.now - g.given) * f),
    "two parts": lambda x, f, g: x + (g.now * f - (f / 2) * g.given),
    "pieces": lambda x, f, g: x + torch.cat([(g.given * f[:, :5]).clamp(-9, 9), (g.now * f[:, 5:]).clamp(-9, 9)], 1),
    "masked": lambda x, f, g: x + (-(g.now * f)).masked_fill(g.mask, 0.0),
    "divided, cast": lambda x, f, g: x + (f.double() / (2 + g.now.double())).float() * g.given,
}


@pytest.mark.parametrize("way", WAYS)
def test_cached_steps_apply_the_gates_of_the_step_at_hand(way: str) -> None:
    """Over three cached steps, each with other latents and another timestep."""
    model = randomise(Gated(WAYS[way]))
    mask = (torch.arange(BATCH * FRAMES) % 3 > 0).repeat_interleave(PLACES).view(BATCH, TOKENS, 1)
    steps = [(noise(BATCH, TOKENS, WIDTH, seed=at), torch.full((BATCH,), 900.0 - 40 * at), mask) for at in range(4)]
    found = survey(model, dict(zip(("x", "timestep", "mask"), steps[0], strict=True)), cache_ratio=1.0)
    ((capture, plan, given),) = found.accelerated
    assert [branch.shape for branch in plan.branches] == [(BATCH, TOKENS, WIDTH)] * 4
    assert len(plan.facts.streams) == 1
    full, cached = (rewrite(capture.gm, plan.steps[mode])[0] for mode in (Mode.FULL, Mode.CONSERVATIVE))

    def at(step: Sequence[Tensor]) -> list[Any]:
        """The graph's inputs at a step."""
        moved = {id(first): now for first, now in zip(steps[0], step, strict=True)}
        return [*capture.constants, *(moved.get(id(each), each) for each in given)]

    with torch.no_grad():
        model.kept = []
        result, *kept = full(*at(steps[0]))
        assert relative_error(result, model(*steps[0])) < 1e-6
        model.reads = True
        for step in steps[1:]:
            got = cached(*at(step), *kept[: len(caches(plan))])[0]
            assert relative_error(got, model(*step)) < 1e-5


def features(way: Way) -> list[str]:
    model = randomise(Gated(way))
    mask = torch.ones(BATCH, TOKENS, 1) > 0
    found = captured(model, noise(BATCH, TOKENS, WIDTH), torch.full((BATCH,), 900.0), mask)
    names = {node.name: str(ir.packet(node)) for node in found.capture.gm.graph.nodes}
    return [names[branch.feature] for branch in found.facts.branches]


@pytest.mark.parametrize(
    ("way", "feature"),
    [
        pytest.param(lambda x, f, g: x + f * g.now * f.sigmoid(), "mul", id="a gate of its own"),
        pytest.param(lambda x, f, g: x + torch.where(f > 0, f * g.now, f), "where", id="chosen by itself"),
        pytest.param(lambda x, f, g: x + torch.lerp(f, f * g.now, f.sigmoid()), "lerp", id="blended by itself"),
        pytest.param(lambda x, f, g: x + g.now * (f * f), "mul", id="squared"),
        pytest.param(lambda x, f, g: x + torch.where(g.mask, f * g.now, f.flip(2)), "where", id="two values"),
        pytest.param(lambda x, f, g: x + f * g.now * x.sigmoid(), "mul", id="a gate of the stream"),
        pytest.param(lambda x, f, g: x + g.now * f.mean(1, keepdim=True).expand(x.shape), "expand", id="a mean"),
        pytest.param(lambda x, f, g: x + f.reshape(-1, WIDTH).reshape(x.shape), "reshape", id="views without a gate"),
        pytest.param(
            lambda x, f, g: x + (f.reshape(BATCH, TOKENS, 2, -1) * 0.5).reshape(x.shape),
            "reshape",
            id="a scale in views",
        ),
    ],
)
def test_what_is_no_gate_stays_in_the_feature(way: Way, feature: str) -> None:
    assert set(features(way)) == {f"aten.{feature}"}
