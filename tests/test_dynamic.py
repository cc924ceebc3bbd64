"""Symbolic sizes: one graph per mode for all of them, and the results of static ones."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import duca_compile
from duca_compile import Mode, Options
from duca_compile.backend import prepare
from duca_compile.plan import Plan
from helpers import compiled, first, relative_error
from zoo.case import noise, randomise
from zoo.core import CORE, example_dit, flux

TIMES = [900.0, 880.0, 860.0, 840.0]
OPTIONS = {"cycle": 3, "cache_ratio": 0.5}


def steps(model: Any, call: dict[str, Any], scale: float = 1.0) -> list[Tensor]:
    """A trajectory of FULL, CONSERVATIVE, AGGRESSIVE and FULL steps that share every tensor but the timestep."""
    clock = next(name for name in ("t", "timestep") if name in call)
    times = [(torch.full_like(call[clock], t * scale)) for t in TIMES]
    return [first(model(**{**call, clock: t})).clone() for t in times]


@pytest.mark.parametrize("name", CORE)
def test_symbolic_sizes_give_the_results_of_static_ones(name: str) -> None:
    model, call = randomise(CORE[name].build()), CORE[name].call(900.0)
    options = {"inner": "eager", "strict": True, **OPTIONS}
    got = steps(torch.compile(model, backend="duca", dynamic=True, options=options), call)
    assert duca_compile.stats(model).steps == {Mode.FULL: 2, Mode.CONSERVATIVE: 1, Mode.AGGRESSIVE: 1}
    torch._dynamo.reset()
    want = steps(torch.compile(model, backend="duca", dynamic=False, options=options), call)
    assert [torch.equal(a, b) for a, b in zip(got, want, strict=True)] == [True] * 4


def flux_call(side: int, text: int, batch: int) -> dict[str, Any]:
    grid = torch.cartesian_prod(*[torch.arange(size) for size in (1, side, side)]).float()
    return {
        "hidden_states": noise(batch, side * side, 8), "encoder_hidden_states": noise(batch, text, 24, seed=1),
        "pooled_projections": noise(batch, 20, seed=2), "timestep": torch.full((batch,), 0.9),
        "guidance": torch.full((batch,), 3.5), "img_ids": grid, "txt_ids": torch.zeros(text, 3), "return_dict": False,
    }  # fmt: skip


def symbolic(model: nn.Module, backend: Any = "duca", **options: Any) -> Any:
    return torch.compile(model, backend=backend, fullgraph=True, dynamic=True, options=options or None)


def test_other_resolutions_batches_and_texts_need_no_other_graph() -> None:
    model = randomise(flux())
    fast = symbolic(model, inner="eager", strict=True, **OPTIONS)
    calls = [flux_call(4, 6, 2), flux_call(5, 6, 2), flux_call(6, 9, 3), flux_call(7, 11, 4)]
    counters.clear()
    got = [steps(fast, call, 0.001) for call in calls]
    assert counters["stats"]["unique_graphs"] == 1
    assert duca_compile.stats(model).steps == {Mode.FULL: 8, Mode.CONSERVATIVE: 4, Mode.AGGRESSIVE: 4}
    for call, results in zip(calls, got, strict=True):
        torch._dynamo.reset()
        static = torch.compile(
            model, backend="duca", dynamic=False, options={"inner": "eager", "strict": True, **OPTIONS}
        )
        want = steps(static, call, 0.001)
        assert [torch.equal(a, b) for a, b in zip(results, want, strict=True)] == [True] * 4


def test_a_second_batch_size_stays_accelerated() -> None:
    """Dynamo makes a size symbolic by itself when a second one arrives: two graphs, and none for the third batch."""
    model = example_dit()
    fast = compiled(model, **OPTIONS)
    counters.clear()
    for batch in (2, 3, 4):
        steps(fast, {"x": noise(batch, 1, 8, 8), "t": torch.zeros(batch), "y": torch.arange(batch)})
    assert counters["stats"]["unique_graphs"] == 2
    assert duca_compile.stats(model).steps[Mode.FULL] == 3 * 2


def test_sizes_belong_to_the_trajectory() -> None:
    """Two requests of different resolution, interleaved on one graph: each goes its own way."""
    model = randomise(flux())
    fast = symbolic(model, inner="eager", strict=True, **OPTIONS)
    calls = [flux_call(4, 6, 2), flux_call(5, 6, 2)]
    counters.clear()
    alone = [steps(fast, call, 0.001) for call in calls]
    duca_compile.reset(model)
    together: list[list[Tensor]] = [[], []]
    for t in TIMES:
        for call, results in zip(calls, together, strict=True):
            results.append(first(fast(**{**call, "timestep": torch.full((2,), t * 0.001)})).clone())
    assert counters["stats"]["unique_graphs"] == 1
    for a, b in zip(alone, together, strict=True):
        assert [torch.equal(one, other) for one, other in zip(a, b, strict=True)] == [True] * 4


def plans(model: nn.Module, calls: list[dict[str, Any]], **options: Any) -> list[Plan]:
    found = []

    def ask(gm: Any, inputs: Any) -> Any:
        found.append(prepare(gm, inputs, Options.parse(options))[1])
        return gm.forward

    plain = symbolic(model, backend=ask)
    for call in calls:
        plain(**call)
    return found


def test_token_counts_stay_symbolic() -> None:
    (plan,) = plans(randomise(flux()), [flux_call(4, 6, 2)], cache_ratio=0.75)
    image = next(chosen for chosen in plan.selections if len(plan.branches[chosen.branches[0]].shape) == 3)
    symbols = dict.fromkeys(image.tokens.free_symbols, 64)  # type: ignore[attr-defined]
    concrete = image.at(symbols)
    assert concrete.count == concrete.tokens // 4
    assert concrete.tokens >= 64


def test_too_few_tokens_to_recompute_any_are_another_graph() -> None:
    """At R = 0.9 nine tokens recompute none and sixteen one: the plans differ, so the guard on the count tells them apart."""
    found = plans(randomise(flux()), [flux_call(4, 12, 2), flux_call(3, 12, 2)], cache_ratio=0.9)
    assert len(found[0].recomputed) > len(found[1].recomputed)


@pytest.mark.slow
def test_through_inductor() -> None:
    model = randomise(flux())
    fast = symbolic(model, strict=True, **OPTIONS)
    calls = [flux_call(4, 6, 2), flux_call(6, 9, 3)]
    counters.clear()
    got = [steps(fast, call, 0.001) for call in calls]
    assert counters["stats"]["unique_graphs"] == 1
    for call, results in zip(calls, got, strict=True):
        torch._dynamo.reset()
        want = steps(compiled(model, **OPTIONS), call, 0.001)
        assert max(relative_error(a, b) for a, b in zip(results, want, strict=True)) < 1e-4
