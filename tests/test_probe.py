"""What a method's probe computes before each step: it changes nothing, and nothing of it is lost or changed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from duca_compile import explain
from helpers import compiled
from zoo.case import calls, noise
from zoo.core import CORE

STEPS = 8
METHODS: list[dict[str, Any]] = [{"method": "teacache"}, {"method": "first-block"}]


class Mixer(nn.Module):
    """Its stream begins with the latents themselves, and a branch with a view of them; it may count its calls in an argument."""

    def __init__(self, counts: bool = False) -> None:
        super().__init__()
        self.counts = counts
        self.clock = nn.Linear(8, 8)
        self.mixes, self.mlps = (nn.ModuleList(nn.Linear(size, size) for _ in range(2)) for size in (6, 8))

    def forward(self, x: Tensor, t: Tensor, seen: Tensor) -> Tensor:
        if self.counts:
            seen.add_(1)
        phases = t[:, None] * torch.arange(1, 5) / 4
        clock = self.clock(torch.cat([phases.sin(), phases.cos()], -1))[:, None]
        for mix, mlp in zip(self.mixes, self.mlps, strict=True):
            x = x + mix(x.transpose(1, 2)).transpose(1, 2)
            x = x + mlp(x * (1 + clock)).relu()
        return x


def generation(fast: Any, in_place: bool) -> tuple[list[Tensor], Tensor]:
    x, seen, found = noise(2, 6, 8), torch.zeros(1), []
    with duca_compile.session(steps=STEPS):
        for step in range(STEPS):
            found.append(fast(x, torch.full((2,), 900.0 - 20 * step), seen).clone())
            moved = x - 0.2 * found[-1]
            x = x.copy_(moved) if in_place else moved
    return found, seen


def test_latents_may_be_updated_in_place() -> None:
    """The value of the step before is not compared with itself."""
    fast = compiled(Mixer().eval(), method="teacache", threshold=0.3)
    assert all(map(torch.equal, generation(fast, in_place=True)[0], generation(fast, in_place=False)[0]))
    steps = duca_compile.stats(fast).steps
    assert min(steps["full"], steps["skip"]) > 2


@pytest.mark.parametrize("options", METHODS, ids=str)
def test_arguments_are_written_to_once_a_step(options: dict[str, Any]) -> None:
    assert generation(compiled(Mixer(counts=True).eval(), **options), in_place=False)[1] == STEPS


@pytest.mark.parametrize("options", METHODS, ids=str)
def test_what_is_decided_at_run_time_is_not_foretold(options: dict[str, Any], tmp_path: Path) -> None:
    """But that it accelerates, and the bytes that it keeps."""
    case = CORE["example DiT"]
    model = case.model()
    report = explain(model, duca_options=options, **case.call(500.0))
    assert report.verdict.outcome == ("wholly" if options["method"] == "teacache" else "partly")
    assert "decided at run time" in report.verdict.headline
    assert json.loads(report.to_json())["sequence"] == []
    assert report.verdict.flops is report.verdict.speedup is None
    report.to_html(tmp_path / "report.html")
    fast = compiled(model, **options)
    for given in calls(case.call, [900.0, 880.0]):
        fast(**given)
    assert duca_compile.stats(fast).bytes == report.verdict.cache_bytes
    few = explain(model, duca_options=options, steps=4, **case.call(500.0)).verdict
    assert (few.outcome, len(few.sequence)) == ("not", 4)
