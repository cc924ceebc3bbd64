"""A generation whose steps run on several streams of a device: none uses memory that another one still needs."""

import gc
from collections.abc import Sequence
from typing import Any

import pytest

import duca_compile
from duca_compile import torch_private
from duca_compile.generations.tracker import Tracker
from duca_compile.runtime import fixed_memory
from helpers import compiled
from streams import Device, device
from tiny import Tiny, tiny_call

METHODS: list[dict[str, Any]] = [
    {"cache_ratio": 0.5},
    {"cache_ratio": 0.5, "order": "aggressive-first"},
    {"cache_ratio": 0.5, "cycle": 3, "forecast": 1},
    {"method": "taylorseer", "cycle": 3, "order": 2},
    {"method": "forecast-stack"},
    {"method": "teacache"},
]


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read of a call lies on the host: the stand-in does not see it."""
    for name in ("visit", "produced"):
        monkeypatch.setattr(Tracker, name, _on_the_host(getattr(Tracker, name)))


def _on_the_host(function: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch_private.unseen():
            return function(*args, **kwargs)

    return run


def generation(fast: Any, on: Device, order: Sequence[int]) -> list[list[str]]:
    """A step on each of the streams in this order; whom each waited for."""
    waited = []
    with torch_private.unseen():
        calls = [tiny_call(0.5 - 0.01 * step) for step in range(len(order))]
    for at, call in zip(order, calls, strict=True):
        on.now = on.streams[at]
        on.now.waited.clear()
        fast(*call)
        waited.append(on.now.waited[:])
    return waited


@pytest.mark.parametrize("options", METHODS)
@pytest.mark.parametrize("order", [(0, 1, 1, 2, 0, 1, 2, 2, 0, 0, 1, 1), (0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1)])
def test_caches_go_from_stream_to_stream(
    options: dict[str, Any], order: Sequence[int], monkeypatch: pytest.MonkeyPatch, unread: None
) -> None:
    fast = compiled(Tiny().eval(), **options)
    with device(monkeypatch, "one", "two", "three") as on:
        generation(fast, on, order)
    assert on.faults == []


def test_a_stream_is_waited_for_where_it_changes(monkeypatch: pytest.MonkeyPatch, unread: None) -> None:
    """For what the tracker picked of the last output, and for the caches."""
    fast = compiled(Tiny().eval(), cache_ratio=0.5)
    with device(monkeypatch, "one", "two") as on:
        assert generation(fast, on, (0, 0, 1, 0, 0, 1)) == [[], [], ["one"] * 2, ["two"] * 2, [], ["one"] * 2]


@pytest.mark.parametrize("options", METHODS[2:4])
def test_memory_of_the_last_generation_goes_to_the_stream_of_the_next(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, unread: None
) -> None:
    """Where it stays in place, as for CUDA graphs."""
    monkeypatch.setattr(torch_private, "inner_compiler", lambda name, changes: lambda gm, inputs: gm.forward)
    monkeypatch.setattr(torch_private, "records_cuda_graphs", lambda changes, inputs: True)
    monkeypatch.setattr(torch_private, "cuda_graphed_functions", lambda: None)
    fast = compiled(Tiny().eval(), inner="inductor", inductor_mode="reduce-overhead", outline=False, **options)
    with device(monkeypatch, "one", "two", "three") as on:
        for order in ((0, 0, 0, 0), (1, 2, 1, 1), (2, 2, 2, 0)):
            with duca_compile.session():
                generation(fast, on, order)
            gc.collect()
    assert on.faults == []
    (memory,) = (each for each in fixed_memory._all if each._spare)
    assert len(memory._spare) == 1, "there was one set for all of them"


def test_programs_hand_their_caches_over(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"inner": "eager", "method": "duca", **METHODS[0]}
    program = duca_compile.rewrite(Tiny().eval(), *tiny_call(), options=given)
    with device(monkeypatch, "one", "two") as on:
        begun = program.start()
        generation(begun, on, (0, 1, 1, 0, 1, 0, 1))
    assert on.faults == []
    assert len({*begun.recipes}) == 3
