"""FORA, TaylorSeer and the forecast of the stack against each written out by hand, step by step."""

from typing import Any

import pytest
import torch

import duca_compile
from eager_methods import LABELS, EagerBranches, EagerStack, Forecast, hold, taylor
from helpers import STEPS, compiled, relative_error
from zoo.case import noise
from zoo.core import example_dit

CASES: list[tuple[dict[str, Any], type[EagerBranches] | type[EagerStack], Forecast]] = [
    ({"method": "fora"}, EagerBranches, hold),
    ({"method": "fora", "cycle": 3}, EagerBranches, hold),
    ({"method": "taylorseer", "order": 0}, EagerBranches, hold),
    ({"method": "taylorseer"}, EagerBranches, taylor(1, 5)),
    ({"method": "taylorseer", "order": 2, "cycle": 4}, EagerBranches, taylor(2, 4)),
    ({"method": "forecast-stack", "order": 0}, EagerStack, hold),
    ({"method": "forecast-stack"}, EagerStack, taylor(1, 5)),
    ({"method": "forecast-stack", "order": 2, "cycle": 6}, EagerStack, taylor(2, 6)),
]


@pytest.mark.parametrize(("options", "kind", "forecast"), CASES, ids=[str(options) for options, _, _ in CASES])
def test_fifty_steps_agree(
    options: dict[str, Any], kind: type[EagerBranches] | type[EagerStack], forecast: Forecast
) -> None:
    model = example_dit()
    fast, slow, cycle = compiled(model, **options), kind(model, forecast), options.get("cycle", 5)
    x = noise(2, 1, 8, 8)
    for at, t in enumerate(STEPS):
        got = fast(x, torch.full((2,), t), LABELS)
        assert relative_error(got, slow.step(at % cycle, x, torch.full((2,), t), LABELS)) < 1e-5, at
        x = x - 0.05 * got
    steps = duca_compile.stats(model).steps
    assert steps["full"] == len(range(0, len(STEPS), cycle))
    assert sum(steps.values()) == len(STEPS)
    assert len(steps) == 2
