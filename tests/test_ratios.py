"""Rules of the published code: how many tokens, in which step, and which steps are full."""

import math
from typing import Any

import pytest
import torch

import duca_compile
from duca_compile import Options
from duca_compile.methods.base import Action
from duca_compile.methods.check import OptionError
from duca_compile.methods.ratios import layer_of
from duca_compile.plan.plan import Plan
from helpers import captured, compiled
from zoo.case import noise, randomise
from zoo.core import CORE, example_dit

STEPS = 50


def counted_down(names: list[str], prefix: str) -> list[int]:
    return [STEPS - 1 - step for step, name in enumerate(names) if name.startswith(prefix)]


@pytest.mark.parametrize(("cycle", "full"), [(3, 20), (4, 17)])
def test_force_fresh_is_the_published_schedule(cycle: int, full: int) -> None:
    """18 + 2 and 14 + 3 of 50, of which the published code decides 2 and 3 block by block."""
    names = Options.parse({"method": "duca", "cycle": cycle, "schedule": "force-fresh"}).sequence(STEPS)
    assert len(counted_down(names, "full")) == full
    assert counted_down(names, "full")[:3] == ([49, 45, 44] if cycle == 3 else [49, 48, 42])
    assert counted_down(names, "full")[-1] == 0


def test_the_last_step_before_a_full_one_is_conservative() -> None:
    options = {"method": "duca", "cycle": 3, "schedule": "force-fresh", "order": "conservative-last"}
    names = Options.parse(options).sequence(STEPS)
    assert names[:10] == ["full", "conservative", "aggressive", "conservative", "full", "full", "conservative",
                          "aggressive", "conservative", "full"]  # fmt: skip
    assert (names.count("conservative"), names.count("aggressive")) == (22, 8)
    swapped = Options.parse({**options, "order": "aggressive-last"}).sequence(STEPS)
    assert (swapped.count("conservative"), swapped.count("aggressive")) == (8, 22)


def test_each_level_recomputes_as_many_tokens_as_its_steps_ask_for() -> None:
    """Of DiT's rule, step by step and layer by layer, as in the published code."""
    options = {"method": "duca", "ratios": "dit", "levels": STEPS, "cache_ratio": 0.95, "order": "conservative"}
    plan = of_core("DiT", options)
    names = Options.parse(options).sequence(STEPS)
    seen = 0
    for down, name in zip(reversed(range(STEPS)), names, strict=True):
        if name == "full":
            continue
        step = plan.steps[name]
        for layer, at in enumerate((1, 3, 5)):
            share = 0.05 * (3 - 4 * down / STEPS) * (0.8 + 0.4 * layer / 27) * 2.5
            count = math.floor(min(max(share, 0), 1) * 16 + 1e-9)
            told = step.actions[at].name if not count else f"{step.selection_of(at).count}"
            assert told == (str(count) if count else "REUSE"), (down, layer)
            seen = max(seen, count)
    assert seen == 4


def test_blocks_of_one_and_of_two_streams_have_factors_of_their_own() -> None:
    plan = of_core("FLUX", {"method": "duca", "ratios": "flux", "cache_ratio": 0.5})
    step = plan.steps["conservative"]
    for at in step.where(Action.REFRESH):
        factor = 0.4 if plan.branches[at].kind == "MLP" else 1.6
        share = min(0.5 * (1.5 - layer_of(plan.facts, at) / 27) * factor, 1)
        assert step.selection_of(at).count == math.floor(share * int(step.selection_of(at).tokens)), at
    assert [layer_of(plan.facts, block[0]) for block in plan.facts.blocks] == [0, 1, 0, 1, 2]


def test_levels_run_one_after_another() -> None:
    model = example_dit()
    fast = compiled(model, method="duca", levels=3, ratios="dit", cache_ratio=0.6, order="conservative")
    x, labels = noise(2, 1, 8, 8), torch.tensor([1, 2])
    with duca_compile.session("one", steps=12):
        for step in range(12):
            x = x - 0.05 * fast(x, torch.full((2,), 1000.0 - 80 * step), labels)
    steps = duca_compile.stats(model).steps
    assert steps == {"full": 3, "conservative-1": 3, "conservative-2": 3, "conservative-3": 3}


@pytest.mark.parametrize("name", ["DiT", "PixArt", "FLUX"])
def test_a_level_that_recomputes_nothing_computes_nothing_for_others(name: str) -> None:
    """What those take of it is of the last full step: scores of attention, and what mixes tokens."""
    options = {"method": "toca", "ratios": "dit", "levels": 4, "cache_ratio": 0.5}
    plan = of_core(name, options)
    first = plan.steps["conservative-1"]
    assert not first.where(Action.REFRESH)
    assert plan.steps["conservative-4"].where(Action.REFRESH)
    assert not first.writes
    case = CORE[name]
    (graph,) = duca_compile.explain(case.model(), duca_options=options, **case.call(500.0)).graphs
    assert graph.flops["conservative-1"] < graph.flops["conservative-4"]


def test_back_from_a_full_step_needs_to_know_it_ahead() -> None:
    with pytest.raises(OptionError, match="known ahead"):
        Options.parse({"method": "duca", "order": "conservative-last", "schedule": "adaptive"})


def of_core(name: str, options: dict[str, Any]) -> Plan:
    case = CORE[name]
    return captured(randomise(case.build()), options=options, **case.call(500.0)).plan
