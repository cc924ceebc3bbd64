"""Conservative steps that forecast the tokens which they do not recompute."""

import pytest
import torch

from duca_compile import Mode
from duca_compile.passes import rewrite
from helpers import captured, concrete_inputs
from zoo.case import randomise
from zoo.core import CORE

TRIED = ("example DiT", "PixArt", "SD3")
"""By default."""
OPTIONS = {"method": "duca", "order": "conservative", "cache_ratio": 0.5}


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in TRIED else pytest.mark.slow) for name in CORE])
def test_it_is_the_conservative_step_over_the_combined_caches(name: str) -> None:
    """All that the step takes is combined: features, and the mixing values that fresh tokens are computed from."""
    case = CORE[name]
    model, call = randomise(case.build()), case.call(500.0)
    held = captured(model, options=OPTIONS, **call)
    forecast = captured(model, options={**OPTIONS, "forecast": 1}, **call)
    step, plain = forecast.plan.steps[Mode.CONSERVATIVE], held.plan.steps[Mode.CONSERVATIVE]
    assert [slot.value for slot in step.reads] == [slot.value for slot in plain.reads]
    assert {slot.history for slot in step.reads} == {2}
    nodes = {node.name: node for node in held.capture.gm.graph.nodes}
    last, before = ([torch.randn(nodes[slot.value].meta["val"].shape) for slot in step.reads] for _ in range(2))
    drawn = [torch.randperm(each.tokens)[: each.count].sort().values for each in step.draws for _ in each.inputs]
    both, given = [each for pair in zip(last, before, strict=True) for each in pair], concrete_inputs(forecast)
    kept = [each.clone() for each in both]
    got = rewrite(forecast.capture.gm, step)[0](*given, *both, *drawn, torch.tensor([1.4, -0.4]))
    combined = [1.4 * now - 0.4 * then for now, then in zip(last, before, strict=True)]
    want = rewrite(held.capture.gm, plain)[0](*given, *combined, *drawn)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert all(map(torch.equal, both, kept)), "the caches stay as they are"
