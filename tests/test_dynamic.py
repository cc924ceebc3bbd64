"""Symbolic sizes: one graph per mode for all of them, and the results of static ones."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import duca_compile
from duca_compile import Mode, Options
from duca_compile.plan.plan import Plan
from duca_compile.study import study
from helpers import compiled, first, of_duca, refreshed, relative_error
from zoo.case import Call, calls, noise, randomise
from zoo.core import CORE, example_dit, flux, flux_call

TIMES = [900.0, 880.0, 860.0, 840.0]
OPTIONS: dict[str, Any] = {"cycle": 3, "cache_ratio": 0.5}
RAN = {Mode.FULL: 2, Mode.CONSERVATIVE: 1, Mode.AGGRESSIVE: 1}


def steps(model: Any, call: Call) -> list[Tensor]:
    """A trajectory of FULL, CONSERVATIVE, AGGRESSIVE and FULL steps."""
    return [first(model(**given)).clone() for given in calls(call, TIMES)]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "hand-written" else pytest.mark.slow) for name in CORE]
)
def test_symbolic_sizes_give_the_results_of_static_ones(name: str) -> None:
    model, call = randomise(CORE[name].build()), CORE[name].call
    got = steps(compiled(model, dynamic=True, **OPTIONS), call)
    assert duca_compile.stats(model).steps == RAN
    torch._dynamo.reset()
    want = steps(compiled(model, dynamic=False, **OPTIONS), call)
    assert [torch.equal(a, b) for a, b in zip(got, want, strict=True)] == [True] * 4


def test_branches_of_unequal_shares_draw_the_same_tokens_as_with_static_sizes() -> None:
    """Also where the numbers of their tokens come out equal: of sixteen, 6.4 and 6.5 are 6."""
    model, options = example_dit(), {"ratios": "dit", "cache_ratio": 0.8, "order": "conservative"}
    got, want = (steps(compiled(model, dynamic=sizes, **options), CORE["example DiT"].call) for sizes in (True, False))
    assert duca_compile.stats(model).steps[Mode.CONSERVATIVE] == 6
    assert all(map(torch.equal, got, want))


def sized(side: int, text: int, batch: int) -> Call:
    return partial(flux_call, side=side, text=text, batch=batch)


@pytest.mark.slow
def test_other_resolutions_batches_and_texts_need_no_other_graph() -> None:
    model = randomise(flux())
    fast = compiled(model, dynamic=True, **OPTIONS)
    sizes = [sized(4, 6, 2), sized(5, 6, 2), sized(6, 9, 3), sized(7, 11, 4)]
    counters.clear()
    got = [steps(fast, call) for call in sizes]
    assert counters["stats"]["unique_graphs"] == 1
    assert duca_compile.stats(model).steps == {Mode.FULL: 8, Mode.CONSERVATIVE: 4, Mode.AGGRESSIVE: 4}
    for call, results in zip(sizes, got, strict=True):
        torch._dynamo.reset()
        want = steps(compiled(model, dynamic=False, **OPTIONS), call)
        assert [torch.equal(a, b) for a, b in zip(results, want, strict=True)] == [True] * 4


def test_a_second_batch_size_stays_accelerated() -> None:
    """Dynamo makes a size symbolic by itself when a second one arrives: two graphs, and none for the third batch."""
    model = example_dit()
    fast = compiled(model, **OPTIONS)
    counters.clear()
    for batch in (2, 3, 4):
        steps(fast, core_call("example DiT", batch))
    assert counters["stats"]["unique_graphs"] == 2
    assert duca_compile.stats(model).steps[Mode.FULL] == 3 * 2


def core_call(name: str, batch: int = 2, side: int = 8, text: int = 6) -> Call:
    """A call of a core model: samples, height and width of the latents, and tokens of the text, where it has any."""
    images, prompt = partial(noise, batch, 4), partial(noise, batch, text, 24, seed=1)

    def call(t: float) -> dict[str, Any]:
        times, steps = torch.full((batch,), t), torch.full((batch,), int(t))
        if name == "example DiT":
            return {"x": noise(batch, 1, side, side), "t": times, "y": torch.arange(batch)}
        if name == "hand-written":
            return {"latents": noise(batch, 2 * side, 8), "timestep": times}
        if name == "FLUX":
            return flux_call(t, side // 2, text, batch)
        given: dict[str, Any] = {"hidden_states": images(side, side), "timestep": steps, "return_dict": False}
        if name == "DiT":
            return given | {"class_labels": torch.arange(batch)}
        if name == "PixArt":
            sizes = {"resolution": None, "aspect_ratio": None}
            return given | {"encoder_hidden_states": prompt(), "added_cond_kwargs": sizes}
        if name == "SD3":
            given["pooled_projections"] = noise(batch, 20, seed=2)
        else:
            given["hidden_states"] = images(3, side, side)
        return given | {"encoder_hidden_states": prompt(), "timestep": steps if name == "Latte" else times}

    return call


CHANGES: dict[str, dict[str, int]] = {
    "more samples": {"batch": 3},
    "one sample": {"batch": 1},
    "larger": {"side": 12},
    "smaller": {"side": 4},
    "longer text": {"text": 9},
    "all": {"batch": 4, "side": 12, "text": 9},
}
FAST = ("PixArt", "more samples")
FIXED_SIZE = ("example DiT",)
"""Whose table of positions is made for one size of the latents."""
TEXTLESS = ("example DiT", "hand-written", "DiT")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param(name, change, marks=[] if (name, change) == FAST else pytest.mark.slow)
        for name in CORE
        for change, to in CHANGES.items()
        if not (name in FIXED_SIZE and "side" in to) and not (name in TEXTLESS and list(to) == ["text"])
    ],
)
def test_sizes_that_change_keep_a_core_model_accelerated(name: str, change: str) -> None:
    """Static sizes first, then what Dynamo makes symbolic by itself, and then the first sizes again."""
    model = randomise(CORE[name].build())
    fast, other = compiled(model, **OPTIONS), core_call(name, **CHANGES[change])
    want = steps(fast, core_call(name))
    got = steps(fast, other)
    again = steps(fast, core_call(name))
    assert duca_compile.stats(model).steps == {mode: 3 * count for mode, count in RAN.items()}
    torch._dynamo.reset()
    static = steps(compiled(model, dynamic=False, **OPTIONS), other)
    assert [torch.equal(a, b) for a, b in zip(got, static, strict=True)] == [True] * 4
    assert [torch.equal(a, b) for a, b in zip(again, want, strict=True)] == [True] * 4


@pytest.mark.parametrize("name", ["hand-written", pytest.param("FLUX", marks=pytest.mark.slow)])
def test_sizes_belong_to_the_trajectory(name: str) -> None:
    """Two requests of different resolution, interleaved on one graph: each goes its own way."""
    model = randomise(CORE[name].build())
    fast = compiled(model, dynamic=True, **OPTIONS)
    sizes = [core_call(name, side=8), core_call(name, side=10)]
    counters.clear()
    alone = [steps(fast, call) for call in sizes]
    duca_compile.reset(model)
    together: list[list[Tensor]] = [[], []]
    for pair in zip(*(calls(call, TIMES) for call in sizes), strict=True):
        for given, results in zip(pair, together, strict=True):
            results.append(first(fast(**given)).clone())
    assert counters["stats"]["unique_graphs"] == 1
    for a, b in zip(alone, together, strict=True):
        assert [torch.equal(one, other) for one, other in zip(a, b, strict=True)] == [True] * 4


def plans(model: nn.Module, sizes: list[Call], **options: Any) -> list[Plan]:
    found = []

    def ask(gm: Any, inputs: Any) -> Any:
        found.append(study(gm, inputs, Options.parse(of_duca(options))).planned()[1])
        return gm.forward

    plain = torch.compile(model, backend=ask, fullgraph=True, dynamic=True)
    for call in sizes:
        plain(**call(TIMES[0]))
    return found


def test_token_counts_stay_symbolic() -> None:
    (plan,) = plans(randomise(CORE["hand-written"].build()), [core_call("hand-written")], cache_ratio=0.75)
    image = next(chosen for chosen in plan.draws if len(plan.branches[chosen.branches[0]].shape) == 3)
    tokens: Any = image.tokens
    symbols = dict.fromkeys(tokens.free_symbols, 64)
    concrete = image.at(symbols)
    assert concrete.count == concrete.tokens // 4
    assert concrete.tokens >= 64


@pytest.mark.slow
def test_too_few_tokens_to_recompute_any_are_another_graph() -> None:
    """At R = 0.9 nine tokens recompute none and sixteen one: the plans differ, so the guard on the count tells them apart."""
    found = plans(randomise(flux()), [sized(4, 12, 2), sized(3, 12, 2)], cache_ratio=0.9)
    assert len(refreshed(found[0])) > len(refreshed(found[1]))


@pytest.mark.slow
def test_through_inductor() -> None:
    model = randomise(flux())
    fast = compiled(model, dynamic=True, inner="inductor", **OPTIONS)
    sizes = [sized(4, 6, 2), sized(6, 9, 3)]
    counters.clear()
    got = [steps(fast, call) for call in sizes]
    assert counters["stats"]["unique_graphs"] == 1
    for call, results in zip(sizes, got, strict=True):
        torch._dynamo.reset()
        want = steps(compiled(model, **OPTIONS), call)
        assert max(relative_error(a, b) for a, b in zip(results, want, strict=True)) < 1e-4
