"""What `stats` tells in words, in JSON, and of whom."""

import functools
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from expecttest import assert_expected_inline
from torch import nn

import duca_compile
from duca_compile import Stats, explain, reset, stats
from duca_compile.methods.base import FULL
from duca_compile.runtime.compiled import CompiledRecipe
from duca_compile.runtime.timing import timed
from helpers import STEPS, Terminal, Timeless, compiled, lenient
from tiny import Tiny, tiny_call
from zoo.case import noise
from zoo.core import example_dit

LABELS = torch.tensor([1, 2])


def generate(fast: Any, steps: int = 50, batch: int = 2) -> None:
    x, labels = noise(batch, 1, 8, 8), LABELS if batch == 2 else LABELS[:batch]
    for t in STEPS[:steps]:
        x = x - 0.05 * fast(x, torch.full((batch,), t), labels)[:, :1]


def text_of(found: Stats) -> str:
    """Without what differs from run to run."""
    seconds = dict.fromkeys(found.compile_seconds, 0.25)
    return str(replace(found, compile_seconds=seconds))


def test_the_text() -> None:
    model = example_dit()
    fast = lenient(model)
    generate(fast)
    generate(fast, 5)
    found = stats(model)
    assert max(map(len, str(found).splitlines())) <= 80
    assert_expected_inline(
        text_of(found),
        """\
55 steps in 1 graph: 4.05x fewer FLOPs.

recipe       steps share compiled in
------------------------------------
full            11 20.0%      0.25 s
conservative    22 40.0%      0.25 s
aggressive      22 40.0%      0.25 s

caches        20 KiB in 1 trajectory
at most       20 KiB
full          9 steps: by the method
              2 steps: first of a generation
generations   2; fewer FLOPs: least 4.05x, median 4.05x, most 4.05x
started over  1 time, full out of turn: timestep jumped back\
""",
    )


def test_the_speed_up_is_the_one_foretold() -> None:
    model = example_dit()
    fast = lenient(model, preset="balanced")
    with duca_compile.session(steps=50):
        generate(fast)
    foretold = explain(fast, noise(2, 1, 8, 8), torch.full((2,), 900.0), LABELS).verdict.speedup
    assert stats(model).speedup == pytest.approx(foretold)


def test_of_several_graphs_the_least_is_told() -> None:
    model = example_dit()
    fast = lenient(model, dynamic=False)
    generate(fast)
    one = stats(model).speedup
    generate(fast, batch=1)
    found = stats(model)
    assert found.graphs == 2
    assert one is not None
    assert found.speedup is not None
    assert found.speedup <= one
    assert ": at least " in found.headline


@pytest.mark.parametrize("steps", [1, 3])
def test_of_a_split_forward_pass_it_is_not_known(steps: int) -> None:
    class Split(Tiny):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            x = super().forward(x, t)
            torch._dynamo.graph_break()
            return self.leave(x)

    model, (x, _) = Split().eval(), tiny_call()
    fast = lenient(model)
    for step in range(steps):
        fast(x, torch.full((1,), 0.5 - step / 50))
    found = stats(model)
    assert found.speedup is None
    assert found.notes[0] == "Dynamo split the forward pass into several graphs"
    assert (found.headline == "No step was accelerated so far.") == (steps == 1)


def test_what_has_not_run_says_so() -> None:
    model = example_dit()
    assert str(stats(model)) == 'Plain: not compiled with backend "duca", or not called yet.'
    assert str(stats(lenient(model))) == "Compiled, and not called yet."
    other: Any = torch.compile(model, backend="eager")
    assert stats(other).headline.startswith("Plain")
    model.compile(backend="duca")
    assert stats(model).headline == "Compiled, and not called yet."


class NoBlocks(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu()


@pytest.mark.parametrize("around", [False, True])
def test_what_is_refused_says_why(around: bool) -> None:
    model = NoBlocks().eval()
    fast = lenient((lambda x: model(x)) if around else model)
    with pytest.warns(duca_compile.DucaWarning):
        fast(torch.randn(2, 3))
    assert_expected_inline(
        str(stats(fast)),
        """\
No step was accelerated so far.
not accelerated  no residual branch `x + gate * f(x)` on a stream of tokens was
                 found in this graph\
""",
    )


def test_a_cycle_of_one_says_so() -> None:
    model = example_dit()
    generate(lenient(model, cycle=1), 1)
    assert stats(model).notes == ("its options cache no step: it runs under the inner compiler alone",)


def test_json_has_the_fields() -> None:
    model = example_dit()
    generate(lenient(model), 6)
    found = stats(model)
    told = json.loads(found.to_json())
    assert told.pop("headline") == found.headline
    (generation,) = told.pop("last_generations")
    assert generation == vars(found.last_generations[0])
    assert told == {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(found).items()
        if name != "last_generations"
    }
    assert Counter(told["steps"]) == found.steps


def test_long_reasons_are_wrapped() -> None:
    found = Stats(
        1, Counter({FULL: 3, "a-recipe-" * 20: 2}), 1, {"a reason " * 30: 1}, 1, 5, 5, {FULL: 1.0}, notes=("x" * 300,)
    )
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    assert "x" * 300 in "".join(text.split())
    assert "a-recipe-" * 20 in "".join(line.split(" ")[0] for line in text.splitlines())


class Around:
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def call(self, *args: Any) -> Any:
        return self.model(*args)


@pytest.mark.parametrize("sort", ["module", "compiled", "pipeline", "function", "method", "partial", "partial of it"])
def test_it_is_asked_of_whatever_was_compiled(sort: str) -> None:
    model = example_dit()
    around: dict[str, Any] = {
        "function": lambda *args: model(*args),
        "method": Around(model).call,
        "partial": functools.partial(lambda model, *args: model(*args), model),
    }
    fast = lenient(around.get(sort, model))
    generate(fast, 5)
    given: dict[str, Any] = {
        "module": model,
        "pipeline": SimpleNamespace(components={"a": fast, "b": None, "c": nn.Linear(2, 2)}),
        "partial of it": functools.partial(fast, LABELS),
    }
    asked = given.get(sort, fast)
    assert stats(asked).steps[FULL] >= 1
    assert stats(asked).steps.total() == 5
    assert stats(asked).compiled == (sort not in ("module", "partial of it"))
    assert stats(asked).bytes > 0
    reset(asked)
    assert stats(model).bytes == 0


def test_a_global_that_an_attribute_is_named_like_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a script names its own model `model`, and a class of it has another one in `self.model`."""
    monkeypatch.setitem(globals(), "model", Tiny().eval())
    lenient(globals()["model"])(*tiny_call())
    fast = lenient(Around(example_dit()).call)
    generate(fast, 5)
    assert stats(fast).steps.total() == 5


def test_an_error_does_not_print_a_whole_model() -> None:
    with pytest.raises(TypeError, match=r"not \[Tiny\( .* \.\.\.$") as raised:
        stats([Tiny()])  # type: ignore[arg-type]
    assert len(str(raised.value)) < 200


def test_of_a_pipeline_all_modules_count_once() -> None:
    models = [example_dit(), Tiny().eval()]
    generate(lenient(models[0]), 5)
    lenient(models[1])(*tiny_call())
    found = stats(SimpleNamespace(components={"one": models[0], "same": models[0], "two": models[1]}))
    assert found.steps.total() == 6
    assert found.graphs == 2


@pytest.mark.parametrize("given", [3, None, "model", nn.Linear, {}, [nn.Linear(2, 2)], torch.zeros(2), len])
@pytest.mark.parametrize("ask", [stats, reset])
def test_anything_else_is_a_type_error(ask: Any, given: Any) -> None:
    with pytest.raises(TypeError, match=r"give (a|the) module"):
        ask(given)


def test_generations_are_told_apart() -> None:
    """By what each of them saved: a short one is computed more often."""
    model = example_dit()
    fast = compiled(model, method="fora", cycle=4)
    for steps in (4, 8, 8, 16, 16, 16):
        x = noise(2, 1, 8, 8)
        with duca_compile.session(object(), steps=steps):
            for step in range(steps if steps > 4 else 3):
                x = x - 0.05 * fast(x, torch.full((2,), 990.0 - 900 * step / steps), LABELS)
    told = duca_compile.stats(model)
    cost = (
        duca_compile.explain(model, x, torch.full((2,), 500.0), LABELS, duca_options={"method": "fora"}).graphs[0].flops
    )
    whole, short = (
        (full + cached) * cost["full"] / (full * cost["full"] + cached * cost["reuse"])
        for full, cached in ((1, 3), (1, 2))
    )
    assert told.generations == 6
    assert told.speedups == pytest.approx((short, whole, whole)), "those that there were, not values between them"
    assert [each.speedup for each in told.last_generations] == pytest.approx([short, *[whole] * 5])
    assert told.last_generations[0].full == {"first of a generation": 1}
    assert "generations" in str(told)
    assert json.loads(told.to_json())["generations"] == 6


def test_a_step_is_timed_until_the_devices_of_its_tensors_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    monkeypatch.setattr(torch.accelerator, "synchronize", done.append)
    run = CompiledRecipe("full", [], lambda gm, inputs: list)
    run._run = lambda *inputs: inputs
    with duca_compile.timing(), timed(run, [torch.ones(1), torch.ones(1, device="meta"), 3]):
        assert done == [torch.device("meta")]
    assert done == [torch.device("meta")] * 2
    assert run.timed == 1


def test_steps_are_timed_where_asked() -> None:
    model = example_dit()
    fast, x = compiled(model, method="fora"), noise(2, 1, 8, 8)
    for step, t in enumerate(STEPS[:10]):
        if step < 5:
            x = x - 0.05 * fast(x, torch.full((2,), t), LABELS)
            continue
        with duca_compile.timing():
            x = x - 0.05 * fast(x, torch.full((2,), t), LABELS)
    told = duca_compile.stats(model)
    assert told.step_seconds.keys() == {"full", "reuse"}
    assert all(0 < seconds < 10 for seconds in told.step_seconds.values())
    assert "a step takes" in str(told)


def test_of_many_generations_tenths_are_told() -> None:
    found = Stats(1, Counter({FULL: 20}), 0, {}, 1, 5, 5, {}, generations=12, speedups=(1.0, 2.0, 3.0))
    assert "12; fewer FLOPs: a tenth of them at most 1.00x" in str(found)


Sampler = Callable[[Any, torch.Tensor, int], None]


def under_noise(fast: Any, x: torch.Tensor, steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    for step in range(steps):
        output = fast(x, torch.full((2,), 1000 * (1 - step / steps)), LABELS)[:, :1]
        x = x - output / steps + 0.3 * torch.randn(x.shape, generator=generator)


def by_heun(fast: Any, x: torch.Tensor, steps: int) -> None:
    output = fast(x, torch.full((2,), 1000.0), LABELS)[:, :1]
    for step in range(1, steps):
        t = torch.full((2,), 1000 * (1 - step / steps))
        after = fast(x - output / steps, t, LABELS)[:, :1]
        x = x - (output + after) / 2 / steps
        output = fast(x, t, LABELS)[:, :1]


def upwards(fast: Any, x: torch.Tensor, steps: int) -> None:
    for step in range(steps):
        x = x - fast(x, torch.full((2,), 1000 * step / steps), LABELS)[:, :1] / steps


def under_new_conditioning(fast: Any, x: torch.Tensor, steps: int) -> None:
    for step in range(steps):
        x = x - fast(x, torch.full((2,), 1000 * (1 - step / steps)), LABELS.clone())[:, :1] / steps


@pytest.mark.filterwarnings("ignore::duca_compile.DucaWarning")
@pytest.mark.parametrize("sample", [under_noise, by_heun, upwards, under_new_conditioning])
def test_a_generation_that_starts_over_is_one(sample: Sampler) -> None:
    model = example_dit()
    fast = lenient(model, preset="balanced")
    sample(fast, noise(2, 1, 8, 8, seed=1), 50)
    sample(fast, noise(2, 1, 8, 8, seed=2), 20)
    found = stats(model)
    assert found.full["started over"] > 0
    assert found.generations == 2
    assert [sum(each.steps.values()) for each in found.last_generations] == (
        [99, 39] if sample is by_heun else [50, 20]
    )


@pytest.mark.parametrize("seeds", [(1, 1), (1, 2)])
def test_generations_side_by_side_are_two(seeds: tuple[int, int]) -> None:
    model = example_dit()
    fast = lenient(model, preset="balanced")
    runs = [(noise(2, 1, 8, 8, seed=seed), labels) for seed, labels in zip(seeds, (LABELS, LABELS + 1), strict=True)]
    for step in range(20):
        t = torch.full((2,), 1000 * (1 - step / 20))
        runs = [(x - fast(x, t, labels)[:, :1] / 20, labels) for x, labels in runs]
    assert [sum(each.steps.values()) for each in stats(model).last_generations] == [20, 20]


def all_equal(fast: Any) -> None:
    for _ in range(20):
        fast(noise(2, 1, 8, 8), torch.full((2,), 500.0), LABELS)


@pytest.mark.parametrize(
    ("run", "why", "told"),
    [
        (lambda fast: upwards(fast, noise(2, 1, 8, 8), 1), {"first of a generation": 1}, ""),
        (
            lambda fast: under_new_steps(fast, 8),
            {"the timestep moved too far": 7, "first of a generation": 1},
            "the timestep moves by more than 12 % of its way",
        ),
        (
            all_equal,
            {"called again at the same timestep": 19, "first of a generation": 1},
            "the model is called several times at one timestep",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::duca_compile.DucaWarning")
def test_why_steps_were_full(run: Callable[[Any], None], why: dict[str, int], told: str) -> None:
    """By reason, and with what was warned of: also where a function around the model is asked, or the model itself."""
    model = example_dit()
    around = lenient(lambda *args: model(*args), preset="balanced")
    run(around)
    for asked in (around, model):
        found = stats(asked)
        assert found.full == why
        assert sum(found.full.values()) == found.steps[FULL]
        assert told in " ".join(str(found).split())


def under_new_steps(fast: Any, steps: int) -> None:
    x = noise(2, 1, 8, 8)
    for step in range(steps):
        x = x - fast(x, torch.full((2,), 1000 * (1 - step / steps)), LABELS)[:, :1] / steps


@pytest.mark.filterwarnings("ignore::duca_compile.DucaWarning")
def test_without_a_timestep_the_reason_is_kept() -> None:
    model = Timeless().eval()
    lenient(model)(torch.randn(2, 6, 8))
    assert any("steps cannot be told apart" in note for note in stats(model).notes)


def test_models_of_one_class_that_share_a_graph_are_told_of() -> None:
    one, other = example_dit(), example_dit()
    generate(lenient(one), 5)
    assert stats(one).sharing == 0
    generate(lenient(other), 5)
    found = stats(one)
    assert found.sharing == (found.steps.total() > 5)
    assert ("1 other module of its class" in str(found)) == bool(found.sharing)


def test_it_is_shown_as_wide_as_the_terminal_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Stats(1, Counter({FULL: 3}), 0, {"a reason " * 30: 1}, 1, 5, 5, {FULL: 1.0})
    found.show()
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == str(found).splitlines()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    for name, value in {"COLUMNS": "120", "LINES": "30", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    found.show()
    assert [line.rstrip() for line in terminal.getvalue().splitlines()] == found.text(120).splitlines()
