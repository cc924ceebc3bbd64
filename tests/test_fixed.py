"""Caches in memory that stays, as CUDA graphs need it: the same steps, bit for bit, and nothing of a replay is kept."""

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, fx, nn
from torch._inductor import compile_fx
from torch._inductor import config as inductor_config

import duca_compile
from duca_compile import DucaWarning, Mode, torch_private
from duca_compile.runtime import fixed_memory
from helpers import compiled, first, ours
from tiny import Tiny, tiny_call
from zoo.case import calls
from zoo.every import ZOO

TIMES = [900.0, 880.0, 860.0, 840.0, 820.0, 800.0, 780.0]
OPTIONS: list[dict[str, Any]] = [
    {"cache_ratio": 0.5},
    {"cache_ratio": 0.5, "cache_dtype": torch.float8_e4m3fn},
    {"cache_ratio": 0.5, "order": "conservative"},
    {"method": "forecast-stack"},
    {"method": "taylorseer", "order": 2, "cycle": 2},
    {"cache_ratio": 0.5, "cycle": 3, "forecast": 1, "cache_dtype": torch.float8_e4m3fn},
]


class Lowered:
    """What Inductor gets of a graph, run as it is."""

    _boxed_call = True

    def __init__(self, names: Sequence[str]) -> None:
        self.inputs = names

    def lower(self, gm: fx.GraphModule, inputs: Sequence[Any], **given: Any) -> "Lowered":
        """In place of Inductor's own."""
        self.gm, self.static = gm, sorted(given["static_input_idxs"])
        return self

    def __call__(self, args: list[Any]) -> Any:
        return self.gm.forward(*args)


class Replay(Lowered):
    """The same as a CUDA graph would: over the addresses that it was recorded with, into one set of results."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.recorded: dict[tuple[int, ...], list[Tensor]] = {}

    @property
    def stays(self) -> list[str]:
        return [self.inputs[at] for at in self.static]

    @property
    def written(self) -> list[str]:
        named = dict(zip(self.gm.graph.find_nodes(op="placeholder"), self.inputs, strict=True))
        copies = self.gm.graph.find_nodes(op="call_function", target=torch.ops.aten.copy_.default)
        return [named[copy.args[0]] for copy in copies]

    def __call__(self, args: list[Any]) -> list[Any]:
        where = tuple(args[at].data_ptr() for at in self.static)
        found = super().__call__(args)
        kept = self.recorded.setdefault(where, [result.clone() for result in found])
        for mine, result in zip(kept, found, strict=True):
            mine.copy_(result)
        return kept


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[Replay]:
    """Every graph that is compiled where CUDA graphs are asked for; all are lowered."""
    made: list[Replay] = []
    real = torch_private.inner_compiler

    def inner(name: Any, changes: Any) -> Callable[..., Any]:
        def run(gm: fx.GraphModule, inputs: Sequence[Any]) -> Any:
            is_recorded = changes.get(torch_private.CUDA_GRAPHS)
            names = [node.name for node in gm.graph.find_nodes(op="placeholder")]
            lowered = Replay(names) if is_recorded else Lowered(names)
            made.extend([lowered] if isinstance(lowered, Replay) else [])
            with (
                mock.patch.object(compile_fx, "_compile_fx_inner", lowered.lower),
                inductor_config.patch(force_disable_caches=True),
            ):
                return real("inductor", {})(gm, inputs)

        return run

    monkeypatch.setattr(torch_private, "inner_compiler", inner)
    monkeypatch.setattr(
        torch_private, "records_cuda_graphs", lambda changes, inputs: changes.get(torch_private.CUDA_GRAPHS)
    )
    monkeypatch.setattr(torch_private, "cuda_graphed_functions", lambda: sum(bool(each.recorded) for each in made))
    return made


def recorded(model: nn.Module, **options: Any) -> Any:
    given = {"inner": "inductor", "inductor_mode": "reduce-overhead", "outline": False, **options}
    return compiled(model, **given)


def generation(fast: Any, given: list[dict[str, Any]]) -> list[Tensor]:
    return [first(fast(**call)) for call in given]


def cases() -> Iterator[Any]:
    for at, options in enumerate(OPTIONS):
        yield pytest.param("example DiT", options)
        yield pytest.param("grid", options, marks=() if at == 3 else pytest.mark.slow)
        yield pytest.param("FLUX", options, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "options"), cases())
def test_steps_are_the_same_as_without(name: str, options: dict[str, Any], replays: list[Replay]) -> None:
    model, given = ZOO[name].model(), calls(ZOO[name].call, TIMES)
    want = generation(compiled(model, inner="inductor", outline=False, **options), given)
    torch._dynamo.reset()
    got = generation(recorded(model, **options), given)
    steps = duca_compile.stats(model).steps
    assert steps[Mode.FULL] == len(range(0, len(TIMES), options.get("cycle", 5)))
    assert sum(steps.values()) == len(TIMES)
    assert all(map(torch.equal, got, want)), "also those of earlier steps: none lies in a graph's own memory"
    assert len(replays) == len({mode for mode, count in steps.items() if count})
    assert {len(each.recorded) for each in replays} == {1}, "every address stays"


@pytest.mark.slow
def test_inductor_moves_histories_along(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = ZOO["example DiT"].model(), calls(ZOO["example DiT"].call, TIMES)
    want = generation(compiled(model, inner="inductor", method="taylorseer", order=2, cycle=2), given)
    monkeypatch.setattr(torch_private, "records_cuda_graphs", lambda changes, inputs: True)
    torch._dynamo.reset()
    with pytest.warns(DucaWarning, match="Inductor makes none"):
        got = generation(recorded(model, method="taylorseer", order=2, cycle=2), given)
    assert duca_compile.stats(model).steps["forecast"] == 3
    assert all(torch.allclose(mine, plain, atol=1e-5) for mine, plain in zip(got, want, strict=True))


def test_what_stays_is_declared(replays: list[Replay]) -> None:
    generation(
        recorded(Tiny().eval(), cache_ratio=0.5),
        [dict(zip("xt", tiny_call(0.9 - 0.02 * step), strict=True)) for step in range(3)],
    )
    full, conservative, aggressive = (each.stays for each in replays)
    weights = [name for name in full if not name.startswith("kept_")]
    assert len(weights) == 4
    assert [name for name in full if name not in weights] == ["kept_0", "kept_1", "kept_2"]
    assert {*conservative} == {*weights, "cache_transpose_1", "cache_relu", "kept_0"}
    assert len(aggressive) == len(weights) + 1
    assert [each.written for each in replays] == [["kept_0", "kept_1", "kept_2"], ["cache_relu", "kept_0"], []]


def test_where_inductor_records_nothing_it_is_said_once(replays: list[Replay], monkeypatch: pytest.MonkeyPatch) -> None:
    given = [dict(zip("xt", tiny_call(0.9 - 0.02 * step), strict=True)) for step in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        generation(recorded(Tiny().eval()), given)
    torch._dynamo.reset()
    monkeypatch.setattr(torch_private, "cuda_graphed_functions", lambda: 0)
    with pytest.warns(DucaWarning, match="Inductor makes none.*max-autotune-no-cudagraphs") as caught:
        generation(recorded(Tiny().eval()), given)
    assert len(ours(caught)) == 1


def test_of_a_history_each_value_moves_on_before_its_memory_is_written_to(replays: list[Replay]) -> None:
    """Writes to inputs are put in the order of the inputs when a graph is lowered."""
    fast = recorded(Tiny().eval(), method="taylorseer", order=2)
    fast(*tiny_call(0.9))
    (full,) = replays
    oldest_first = ["kept_0_2_earlier", "kept_0_1_earlier", "kept_0"]
    assert full.written[:3] == oldest_first
    assert {*full.written} <= {*full.stays}


def test_the_next_generation_runs_what_is_recorded(replays: list[Replay]) -> None:
    """In memory of one that is gone; beside it in memory of its own."""
    model = Tiny().eval()
    fast = recorded(model, cache_ratio=0.5)
    steps = [tiny_call(0.9 - 0.02 * step) for step in range(3)]

    def sample(seed: int) -> list[Tensor]:
        noise = torch.randn(1, 10, 2, generator=torch.Generator().manual_seed(seed))
        return [fast(x + noise, t) for x, t in steps]

    with duca_compile.session():
        alone = sample(1)
    gc.collect()
    with duca_compile.session():
        assert all(map(torch.equal, sample(1), alone))
        assert {len(each.recorded) for each in replays} == {1}
        with duca_compile.session():
            other = sample(2)
        assert {len(each.recorded) for each in replays} == {2}
    duca_compile.reset(model)
    gc.collect()
    for _ in range(2):
        with duca_compile.session():
            assert all(map(torch.equal, sample(2), other))
            with duca_compile.session():
                assert all(map(torch.equal, sample(1), alone))
        duca_compile.reset(model)
        gc.collect()
    assert {len(each.recorded) for each in replays} == {2}
    (memory,) = (each for each in fixed_memory._all if each._spare)
    assert len(memory._spare) == 2
    fixed_memory.free_all()
    assert not memory._spare


def test_a_failed_step_leaves_nothing_that_is_read(replays: list[Replay]) -> None:
    model = Tiny().eval()
    fast = recorded(model, strict=False, cache_ratio=0.5)
    x, t = tiny_call(0.9)
    fast(x, t)
    forward = replays[0].gm.forward
    fails = [True]

    def failing(*args: Any) -> Any:
        found = forward(*args)
        if fails.pop():
            raise ValueError
        return found

    replays[0].gm.forward = failing
    duca_compile.reset(model)
    fast(x, t)
    replays[0].gm.forward = forward
    fast(x, t - 0.02)
    assert duca_compile.stats(model).steps[Mode.CONSERVATIVE] == 0
