"""Caches live under a budget, and no longer than they are of use."""

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

import duca_compile
from duca_compile import DucaWarning, Mode
from duca_compile.runtime import registry
from helpers import Generation, compiled, ours
from zoo.core import example_dit

F, C, A = Mode.FULL, Mode.CONSERVATIVE, Mode.AGGRESSIVE
ONE = (2 * 2 + 1) * 2 * 16 * 32 * 4
"""Bytes of one generation: two features in each of three blocks and the stream, `[2, 16, 32]` in fp32."""


def generations(model: nn.Module, count: int, **options: Any) -> list[Generation]:
    fast = compiled(model, **options)
    return [Generation(model, fast, torch.tensor([at, 2])) for at in range(count)]


def test_the_least_recently_used_generation_makes_room() -> None:
    model = example_dit()
    one, two, three = generations(model, 3, cache_budget=2 * ONE)
    assert [one.mode(900.0), two.mode(900.0), one.mode(880.0), three.mode(900.0)] == [F, F, C, F]
    held = duca_compile.stats(model)
    assert held.trajectories == 2
    assert held.bytes == held.peak_bytes == 2 * ONE
    assert one.mode(860.0) is A
    assert [two.mode(880.0), two.mode(860.0)] == [F, C]


def test_a_budget_too_small_for_one_generation_is_said_once() -> None:
    model = example_dit()
    (one,) = generations(model, 1, cache_budget=ONE - 1)
    with pytest.warns(DucaWarning, match=rf"take {ONE:,} bytes, more than cache_budget") as caught:
        assert one.modes([900.0, 880.0, 860.0]) == [F, F, F]
    assert len(ours(caught)) == 1
    assert duca_compile.stats(model).bytes == 0


def test_graphs_of_one_model_share_its_budget() -> None:
    model = example_dit()
    fast = compiled(model, cache_budget=ONE, strict=False, dynamic=False)
    labels = torch.tensor([1, 2])
    both = Generation(model, fast, labels)
    assert both.modes([900.0, 880.0]) == [F, C]
    other = torch.tensor([3])
    fast(torch.randn(1, 1, 8, 8), torch.tensor([900.0]), other)
    assert duca_compile.stats(model).graphs == 2
    assert duca_compile.stats(model).bytes == ONE / 2
    assert both.mode(860.0) is F


def test_a_full_step_lets_go_of_the_caches_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = example_dit()
    (one,) = generations(model, 1, cycle=2)
    one.modes([900.0, 880.0])
    (graph,) = registry.graphs(model)
    inside: list[int] = []
    run = graph.recipes[F]._run
    assert run is not None

    def watched(*inputs: Any) -> Any:
        inside.append(duca_compile.stats(model).bytes)
        return run(*inputs)

    monkeypatch.setattr(graph.recipes[F], "_run", watched)
    assert one.mode(860.0) is F
    assert inside == [0]


def test_caches_die_with_the_model() -> None:
    model = example_dit()
    (one,) = generations(model, 1)
    one.modes([900.0, 880.0])
    (tracker,) = registry.trackers(model)
    caches = [weakref.ref(cache) for trajectory in tracker.live for cache in trajectory.caches.values()]
    assert caches
    del model, one
    gc.collect()
    assert not any(cache() for cache in caches)


def soak(generations: int) -> list[int]:
    """Bytes held after each generation, every one under a prompt of its own, every third aborted."""
    model = example_dit()
    fast, held = compiled(model), []
    for number in range(generations):
        one = Generation(model, fast, torch.tensor([number % 10, 2]))
        one.modes([900.0, 880.0, 860.0, 840.0] if number % 3 else [900.0, 880.0])
        held.append(duca_compile.stats(model).bytes)
        del one
        assert duca_compile.stats(model).bytes == 0
    assert duca_compile.stats(model).peak_bytes == ONE
    return held


@pytest.mark.parametrize("count", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_memory_is_flat_over_many_generations(count: int) -> None:
    assert set(soak(count)) == {ONE}
