"""Recipes as graphs and files: what they compute is what the compiled model computes, and calls unlike it are refused."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from dit import DiT
from duca_compile import OptionError, Program, Refused, Rewritten
from duca_compile.graph import ir
from duca_compile.methods.base import FULL
from duca_compile.methods.taylorseer import TaylorSeer
from helpers import Timeless, compiled, relative_error
from packages import InMemory
from serving.load import small_dit
from zoo.case import noise

STEPS = 12
METHODS: dict[str, dict[str, Any]] = {
    "default": {},
    "duca": {"method": "duca"},
    "step": {"method": "duca", "selection": "step", "forecast": 1, "seed": 3},
    "fora": {"method": "fora", "schedule": [0, 2, 7]},
    "taylorseer": {"method": "taylorseer", "order": 2, "cache_dtype": torch.bfloat16},
    "nothing": {"cycle": 1},
}
EXAMPLE = (noise(2, 1, 28, 28), torch.full((2,), 900.0), torch.tensor([1, 10]))


MODEL = small_dit()


@pytest.fixture
def model() -> DiT:
    return MODEL


@functools.cache
def of_method(name: str) -> Rewritten:
    return rewritten(MODEL, **METHODS[name])


def rewritten(model: Any, **options: Any) -> Rewritten:
    return duca_compile.rewrite(model, *EXAMPLE, options={"inner": "eager", **options})


def trajectory(run: Callable[..., Tensor], steps: int = STEPS, seed: int = 1) -> list[Tensor]:
    """What the model gives at each step; the timestep is the same number twice, in one place."""
    x, found = noise(2, 1, 28, 28, seed=seed), list[Tensor]()
    for step in range(steps):
        found.append(run(x, torch.tensor(980.0 - 80 * step).expand(2), EXAMPLE[2]))
        x = x - 0.05 * found[-1]
    return found


def by_backend(model: nn.Module, **options: Any) -> list[Tensor]:
    fast = torch.compile(model, backend="duca", options={"strict": True, **options})
    with duca_compile.session(steps=STEPS):
        return trajectory(fast)


def same(got: Sequence[Tensor], want: Sequence[Tensor]) -> bool:
    return len(got) == len(want) and all(map(torch.equal, got, want))


@pytest.mark.parametrize("name", METHODS)
def test_a_generation_is_that_of_the_compiled_model_bit_for_bit(model: DiT, name: str) -> None:
    want = by_backend(model, inner="eager", **METHODS[name])
    program = of_method(name)
    generation = program.start(STEPS)
    assert same(trajectory(generation), want)
    assert generation.recipes == program.sequence(STEPS)
    assert (generation.bytes > 0) == (len(program.recipes) > 1)


@pytest.mark.parametrize("form", [torch.fx.symbolic_trace, lambda model: torch.export.export(model, EXAMPLE)])
def test_graph_modules_and_exported_programs_are_rewritten_too(model: DiT, form: Any) -> None:
    program = rewritten(form(model), method="duca")
    assert same(trajectory(program.start(STEPS)), trajectory(of_method("duca").start(STEPS)))


def test_each_graph_takes_what_its_signature_names() -> None:
    program = of_method("step")
    for name, recipe in program.recipes.items():
        assert tuple(node.name for node in ir.placeholders(recipe.graph.graph)) == recipe.signature.inputs
        assert (recipe.signature.returned > 0) == (name != "aggressive")
        assert program.steps[name].history == recipe.step.history
    conservative = program.recipes["conservative"].signature
    assert all((conservative.reads, conservative.draws, conservative.weights))
    program.start()(*EXAMPLE)
    assert all("val" in node.meta for node in program.recipes[FULL].graph.graph.nodes if node.op != "output")
    assert repr(program) == "<Rewritten: full, conservative, aggressive>"


def test_generations_keep_to_themselves() -> None:
    program = of_method("duca")
    alone = [trajectory(program.start(STEPS), seed=seed) for seed in (1, 2)]
    generations = [program.start(STEPS), program.start(STEPS)]
    x, found = [noise(2, 1, 28, 28, seed=seed) for seed in (1, 2)], [list[Tensor](), list[Tensor]()]
    for step in range(STEPS):
        for at, generation in enumerate(generations):
            found[at].append(generation(x[at], torch.full((2,), 980.0 - 80 * step), EXAMPLE[2]))
            x[at] = x[at] - 0.05 * found[at][-1]
    assert all(map(same, found, alone))


def test_a_seed_draws_other_tokens() -> None:
    first, again, other = (trajectory(of_method("step").start(STEPS, seed)) for seed in (None, 3, 5))
    assert same(first, again)
    assert not same(first, other)


def test_without_steps_full_ones_lie_in_even_cycles() -> None:
    program = of_method("default")
    generation = program.start()
    trajectory(generation)
    assert [at for at, name in enumerate(generation.recipes) if name == FULL] == [0, 5, 10]
    with pytest.raises(OptionError, match="steps"):
        program.start(0)


def test_a_generation_ends_with_its_steps() -> None:
    generation = of_method("default").start(1)
    generation(*EXAMPLE)
    with pytest.raises(ValueError, match="this generation has had its last step, of 1; start another one"):
        generation(*EXAMPLE)


def test_calls_unlike_the_example_are_refused(model: DiT) -> None:
    x, t, labels = EXAMPLE
    generation = of_method("default").start()
    with pytest.raises(
        ValueError, match=r"argument 0 is a float32 tensor \[3, 1, 28, 28\] on cpu, not a float32 tensor"
    ):
        generation(noise(3, 1, 28, 28), t, labels)
    with pytest.raises(ValueError, match="argument 1 is a float64"):
        generation(x, t.double(), labels)
    with pytest.raises(ValueError, match="other arguments"):
        generation(x, t, y=labels)
    with pytest.raises(ValueError, match="argument 2 is None"):
        generation(x, t, None)
    assert not generation.recipes
    with pytest.raises(Refused, match="an argument is a set"):
        duca_compile.rewrite(model, x, t, {1})


class Doubled(nn.Module):
    """Takes a number and a tensor by name, and gives a dictionary with None in it."""

    def __init__(self, model: DiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor, scale: float, *, labels: Tensor) -> dict[str, Any]:
        return {"twice": self.model(x, t, labels) * scale, "none": None}


def test_arguments_and_results_are_in_what_the_model_has_them_in(model: DiT) -> None:
    x, t, labels = EXAMPLE
    program = duca_compile.rewrite(Doubled(model), x, t, 2.0, labels=labels, options={"inner": "eager"})
    found = program.start()(x, t, 2.0, labels=labels)
    assert found["none"] is None
    assert torch.equal(found["twice"], model(x, t, labels) * 2)
    with pytest.raises(ValueError, match=r"argument 2 is 3.0, not 2.0"):
        program.start()(x, t, 3.0, labels=labels)


def test_one_tensor_given_twice_is_two_arguments(model: DiT) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor, y: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            return self.model(x - 0.5 * y, t, labels)

    x, t, labels = EXAMPLE
    program = duca_compile.rewrite(Two(), x, x, t, labels, options={"inner": "eager"})
    assert torch.equal(program.start()(x, 0 * x, t, labels), model(x, t, labels))


def test_weights_are_the_model_s_own() -> None:
    model = small_dit()
    program = rewritten(model)
    model.get_parameter("final.linear.bias").add_(1)
    assert torch.equal(program.start()(*EXAMPLE), model(*EXAMPLE))


def test_a_step_that_failed_is_followed_by_a_full_one(model: DiT) -> None:
    program = of_method("duca")

    def fails(inputs: Sequence[Any]) -> Sequence[Any]:
        raise ArithmeticError

    broken = replace(program, runs={**program.runs, "conservative": fails}).start(STEPS)
    broken(*EXAMPLE)
    with pytest.raises(ArithmeticError):
        broken(*EXAMPLE)
    assert broken.bytes == 0
    assert torch.equal(broken(*EXAMPLE), model(*EXAMPLE))
    assert broken.recipes == [FULL, FULL]


def test_a_model_without_a_timestep_is_counted() -> None:
    model, x = Timeless().eval(), torch.randn(1, 6, 8)
    program = duca_compile.rewrite(model, x, options={"inner": "eager", "method": "fora"})
    generation = program.start()
    for _ in range(3):
        generation(x)
    assert generation.recipes == [FULL, "reuse", "reuse"]


def test_what_cannot_be_accelerated_is_refused() -> None:
    with pytest.raises(Refused, match="residual"):
        duca_compile.rewrite(nn.Linear(3, 3).eval(), torch.randn(2, 3))


def test_a_call_that_the_model_does_not_take_is_told_in_its_words(model: DiT) -> None:
    with pytest.raises(TypeError, match="missing 2 required positional arguments: 't' and 'y'"):
        duca_compile.rewrite(model, EXAMPLE[0])
    with pytest.raises(RuntimeError, match=r"size|shape"):
        duca_compile.rewrite(nn.Linear(3, 3).eval(), torch.randn(2, 4))


def test_a_model_may_be_rewritten_and_compiled_any_number_of_times(model: DiT) -> None:
    """Dynamo counts what it captures of a function, and gives up after some."""
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        for cycle in (1, 2):
            rewritten(model, cycle=cycle)
        trajectory(compiled(model, method="duca"), 2)


@pytest.mark.parametrize("name", METHODS)
def test_a_manifest_says_all_that_running_needs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, program = InMemory(monkeypatch), of_method(name)
    program.save(tmp_path / "new" / "folder")
    loaded = duca_compile.load(tmp_path / "new" / "folder")
    assert type(loaded) is Program
    assert (loaded.method, loaded.seed, loaded.steps) == (program.method, program.seed, program.steps)
    assert loaded.convention == program.convention
    assert {path.stem for path in files.graphs} == set(program.recipes)
    got, want = trajectory(loaded.start(STEPS)), trajectory(program.start(STEPS))
    assert max(map(relative_error, got, want)) < (1e-2 if "cache_dtype" in METHODS[name] else 1e-5)


@dataclass
class Output:
    sample: Tensor


torch.utils._pytree.register_dataclass(Output)


class InADataclass(Doubled):
    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Output:  # type: ignore[override]
        return Output(self.model(x, t, labels))


def test_what_no_file_can_name_is_not_saved(model: DiT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(TaylorSeer):
        pass

    files = InMemory(monkeypatch)
    with pytest.raises(Refused, match=r"the method Own is none of duca, .*: a file cannot name it"):
        rewritten(model, method=Own()).save(tmp_path)
    program = rewritten(InADataclass(model))
    assert torch.equal(program.start()(*EXAMPLE).sample, model(*EXAMPLE))
    with pytest.raises(Refused, match="return_dict=False"):
        program.save(tmp_path)
    assert not files.graphs
    assert not list(tmp_path.iterdir())


def test_packages_of_another_release_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    InMemory(monkeypatch)
    of_method("default").save(tmp_path)
    told = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**told, "torch": "2.0.0"}))
    with pytest.raises(ValueError, match=r"compiled by torch 2.0.0, and this is"):
        duca_compile.load(tmp_path)


@pytest.mark.parametrize("manifest", [None, "", "{}", "[]"])
def test_a_folder_that_holds_no_program_is_told(manifest: str | None, tmp_path: Path) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(ValueError, match="is no folder that a program was saved in"):
        duca_compile.load(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "duca"])
def test_packages_give_what_the_compiled_model_gives(model: DiT, name: str, tmp_path: Path) -> None:
    """To the rounding of code that Inductor has generated in another form: blocks are not outlined."""
    program = rewritten(model, **{**METHODS[name], "inner": "inductor"})
    program.save(tmp_path)
    want = by_backend(model, **METHODS[name])
    assert same(trajectory(program.start(STEPS)), want)
    loaded = duca_compile.load(tmp_path)
    generation = loaded.start(STEPS)
    got = trajectory(generation)
    assert generation.recipes == loaded.sequence(STEPS)
    assert max(map(relative_error, got, want)) < 1e-5
