"""The default: forecasts of the stack, with full steps closer together at both ends."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

import duca_compile
from duca_compile.methods.base import FULL
from duca_compile.passes import rewrite
from eager_methods import LABELS, EagerStack, hold
from helpers import STEPS, captured, compiled, concrete_inputs, lenient, relative_error
from zoo.case import calls, generation, noise, randomise
from zoo.core import CORE, example_dit
from zoo.every import ZOO

DEFAULT: dict[str, Any] = {"preset": "balanced"}
TRIED = ("example DiT", "hand-written", "PixArt", "SD3")
"""By default."""
TIMES = [900.0, 880.0, 860.0, 840.0, 820.0, 800.0, 780.0, 760.0]


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in TRIED else pytest.mark.slow) for name in CORE])
def test_a_forecast_is_the_aggressive_step_of_the_combined_streams(name: str) -> None:
    case = CORE[name]
    model, call = randomise(case.build()), case.call(500.0)
    forecast = captured(model, options={"method": "forecast-stack"}, **call)
    held = captured(model, options={"method": "duca", "order": "aggressive"}, **call)
    slots, given = forecast.plan.steps["forecast"].reads, concrete_inputs(forecast)
    nodes = {node.name: node for node in forecast.capture.gm.graph.nodes}
    last, before = ([torch.randn(nodes[slot.value].meta["val"].shape) for slot in slots] for _ in range(2))
    both = [each for pair in zip(last, before, strict=True) for each in pair]
    step = rewrite(forecast.capture.gm, forecast.plan.steps["forecast"])[0]
    got = step(*given, *both, torch.tensor([1.4, -0.4]))
    combined = [1.4 * now - 0.4 * then for now, then in zip(last, before, strict=True)]
    want = rewrite(held.capture.gm, held.plan.steps["aggressive"])[0](*given, *combined)
    for one, other in zip(tensors(got), tensors(want), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in TRIED else pytest.mark.slow) for name in ZOO])
def test_full_steps_are_exact_and_forecasts_run(name: str) -> None:
    case = ZOO[name]
    model = case.model()
    fast, exact = lenient(model, **DEFAULT), []
    steps_of_it = calls(case.call, TIMES)
    with generation(steps_of_it):
        for call in steps_of_it:
            got, want = list(tensors(fast(**call))), list(tensors(model(**call)))
            exact.append(all(map(torch.equal, got, want)))
            assert [(each.shape, each.isfinite().all().item()) for each in got] == [(each.shape, True) for each in want]
    steps = duca_compile.stats(model).steps
    if case.refusal:
        assert all(exact)
        return
    assert steps[FULL] >= 2
    assert steps["forecast"] >= 2
    assert sum(exact) >= steps[FULL]


def test_under_a_sampler_that_adds_noise_values_are_held() -> None:
    model = example_dit()
    fast, slow = compiled(model, **DEFAULT), EagerStack(model, hold)
    x, cached = noise(2, 1, 8, 8), 0
    for at, t in enumerate(STEPS):
        before = duca_compile.stats(model).steps[FULL]
        got, time = fast(x, torch.full((2,), t), LABELS), torch.full((2,), t)
        is_full = duca_compile.stats(model).steps[FULL] > before
        assert relative_error(got, slow.step(0 if is_full else 1, x, time, LABELS)) < 1e-5, at
        cached += not is_full
        x = x - 0.05 * got + 0.2 * noise(2, 1, 8, 8, seed=at + 1)
    assert cached > 10
    assert duca_compile.stats(model).held == cached


@pytest.mark.parametrize("dynamic", [None, True])
def test_sizes_that_change(dynamic: bool | None) -> None:
    model = example_dit()
    fast = compiled(model, dynamic=dynamic, **DEFAULT)
    x = {rows: noise(rows, 1, 8, 8) for rows in (2, 3)}
    labels = {rows: torch.arange(rows) for rows in x}
    for t in STEPS[:12]:
        for rows in x:
            x[rows] = x[rows] - 0.05 * fast(x[rows], torch.full((rows,), t), labels[rows])
    steps = duca_compile.stats(model).steps
    learned = dynamic is None  # the second size is when a graph of all sizes takes over from that of the first
    assert steps[FULL] == 2 * 3 + learned
    assert steps["forecast"] == 2 * 9 - learned
    assert duca_compile.stats(model).held == 0


def tensors(results: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(results) if isinstance(leaf, Tensor))
