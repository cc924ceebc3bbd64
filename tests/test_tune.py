"""`tune`: schedules found by generating, and kept in a file."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from dit import DiT
from duca_compile import DucaWarning, OptionError, Options, Refused, Tuned
from duca_compile.generations.recording import Likeness, Recording
from duca_compile.generations.trajectory import Cache
from duca_compile.methods.base import FULL
from duca_compile.methods.forecast_stack import ForecastStack
from duca_compile.methods.taylorseer import TaylorSeer
from duca_compile.plan.step_plan import Slot
from duca_compile.tuning.candidates import candidates, equal_shares
from duca_compile.tuning.forecast_error import fitted_slope, forecast_error
from duca_compile.tuning.least_error import least_error
from duca_compile.tuning.moves import listed, moves, next_move
from duca_compile.tuning.tune import psnr
from helpers import STEPS
from zoo.case import noise, randomise
from zoo.core import example_dit

LABELS = torch.tensor([1, 2])
EAGER: dict[str, Any] = {"inner": "eager"}


def generate(model: Any, seed: int = 0) -> Tensor:
    x = noise(2, 1, 8, 8, seed=seed)
    for t in STEPS:
        x = x - 0.05 * model(x, torch.full((2,), t), LABELS)
    return x


def three_blocks() -> nn.Module:
    return randomise(DiT(size=8, width=32, depth=3, heads=2))


@pytest.fixture(scope="module")
def tuned() -> Tuned:
    every = ("stack", "anchored", "order 2", "branches")
    return duca_compile.tune(
        generate, three_blocks(), speedups=(3, 5), forecasts=every, refine=3, options=EAGER, progress=False
    )


def test_every_trial_was_run_and_the_best_of_each_cost_is_chosen(tuned: Tuned) -> None:
    assert tuned.steps == len(STEPS)
    assert [trial.full_steps for trial in tuned.trials] == [17] * 5 + [10] * 5 + [17, 10] * 3 + [17] * 3 + [10] * 3
    assert [trial.forecast for trial in tuned.trials[10:16]] == ["anchored"] * 2 + ["order 2"] * 2 + ["branches"] * 2
    for trial in tuned.trials:
        assert trial.method.schedule == trial.schedule
        assert 0.6 * 50 / trial.full_steps < trial.speedup < 50 / trial.full_steps, "far from a full step, one is due"
        assert trial.quality > 20
    for trial in tuned.trials[:10:5]:
        assert trial.speedup == pytest.approx(50 / trial.full_steps, rel=0.1)
    for best in tuned.best:
        of_cost = [each for each in tuned.trials if each.full_steps == best.full_steps]
        cheap = max(each.speedup for each in of_cost)
        assert best.quality == max(each.quality for each in of_cost if each.speedup > 0.95 * cheap)
    assert len({trial.quality for trial in tuned.trials}) > 16, "they are all different"


def test_refined_trials_go_on_from_the_best(tuned: Tuned) -> None:
    for at in (16, 19):
        for number in range(at, at + 3):
            trial = tuned.trials[number]
            before = [each for each in tuned.trials[:number] if each.full_steps == trial.full_steps]
            cheap = 0.95 * max(each.speedup for each in before)
            best = max((each for each in before if each.speedup > cheap), key=lambda each: each.quality)
            assert trial.placed == "refined"
            assert trial.method in set(moves(best.method, tuned.steps))
            assert trial.method not in {each.method for each in before}


def test_the_best_placing_is_tried_at_another_slope(tuned: Tuned) -> None:
    for *placed, sloped in (tuned.trials[:5], tuned.trials[5:10]):
        best = max(placed, key=lambda trial: trial.quality)
        assert (sloped.placed, sloped.schedule) == (best.placed, best.schedule)
        assert {trial.method.slope for trial in placed} == {1.0} != {sloped.method.slope}
        assert sloped.quality != best.quality


def test_what_is_chosen_is_found_again(tuned: Tuned) -> None:
    assert tuned.at(2.9) is tuned.best[0]
    assert tuned.at() is tuned.at(5) is tuned.best[1]


def test_the_table_fits_a_terminal(tuned: Tuned) -> None:
    lines = str(tuned).splitlines()
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if "equal change" in line]) >= 2


def test_what_was_found_is_what_runs(tuned: Tuned, tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    tuned.save(path, speedup=5)
    tuned.draw(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    model = three_blocks()
    torch.compiler.reset()
    options: dict[str, Any] = {"tuned": path, **EAGER}
    fast = torch.compile(model, backend="duca", options={**options, "strict": True})
    with torch.no_grad():
        found, computed = generate(fast), generate(model)
    assert duca_compile.stats(model).steps[FULL] == 10
    assert psnr(found.double(), computed.double()) == pytest.approx(tuned.at(5).quality, abs=1e-3)
    assert Options.parse(options).method == tuned.at(5).method == tuned.options(5)["method"]


def test_a_file_is_refused_for_another_model(tuned: Tuned, tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    tuned.save(path)
    torch.compiler.reset()
    options: dict[str, Any] = {"tuned": path, **EAGER}
    fast = torch.compile(example_dit(), backend="duca", options=options)
    with pytest.warns(
        DucaWarning, match="made for 6 branches in 3 blocks; streams: 32 wide; this model has 4 branches"
    ):
        generate(fast)


def test_another_number_of_steps_is_said_once(tuned: Tuned, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "tuned.json"
    tuned.save(path)
    torch.compiler.reset()
    options: dict[str, Any] = {"tuned": path, **EAGER}
    fast = torch.compile(three_blocks(), backend="duca", options=options)
    for steps in (50, 28, 28):
        with torch.no_grad(), duca_compile.session(steps, steps=steps):
            for t in STEPS[:3]:
                fast(noise(2, 1, 8, 8), torch.full((2,), t), LABELS)
    (told,) = [str(each.message) for each in recwarn if issubclass(each.category, DucaWarning)]
    assert "tuned for generations of 50 steps, and this one has 28" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{}", "is not a file that duca_compile.tune has written"),
        ('{"format": 9}', "of format 9"),
    ],
)
def test_another_file_is_an_error_that_says_so(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(OptionError, match=message):
        Options.parse({"tuned": path})
    with pytest.raises(OptionError, match="give one of them"):
        Options.parse({"tuned": path, "preset": "fast"})


def test_a_metric_of_the_users_own() -> None:
    def likeness(images: Tensor, computed: Tensor) -> float:
        return -float((images - computed).abs().max())

    found = duca_compile.tune(
        generate, example_dit(), speedups=4, metric=likeness, refine=1, options=EAGER, progress=False
    )
    assert found.metric == "likeness"
    assert found.best == (max(found.trials, key=lambda trial: trial.quality),)


def test_a_compiled_model_is_tuned_as_the_module_that_it_is_of() -> None:
    model = example_dit()
    compiled: Any = torch.compile(model)
    found = duca_compile.tune(
        generate, compiled, speedups=4, forecasts=["stack"], refine=1, options=EAGER, progress=False
    )
    assert found.steps == 50
    model.compile(backend="eager")
    with pytest.raises(ValueError, match=r"compiled in place, by model.compile\(...\): give one that was not"):
        duca_compile.tune(generate, model, options=EAGER, progress=False)


def test_where_nothing_can_be_forecast_there_is_nothing_to_tune() -> None:
    class Plain(nn.Module):
        def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            return x * t.view(-1, 1, 1, 1).sin()

    with pytest.warns(DucaWarning), pytest.raises(Refused, match="nothing to tune"):
        duca_compile.tune(generate, Plain().eval(), options=EAGER, progress=False)
    with pytest.raises(ValueError, match="speedups must be numbers above 1, not 1"):
        duca_compile.tune(generate, Plain().eval(), speedups=1)


def along(path: Tensor) -> Tensor:
    """The inner products of a generation whose steps are these, `[steps, width]`."""
    return path.double() @ path.double().T


def of_steps(steps: int) -> Tensor:
    """They bend at both ends."""
    t = torch.linspace(0, 1, steps)[:, None]
    return torch.cat([t, (-8 * t).exp(), (8 * t - 8).exp(), torch.ones_like(t)], 1)


def test_candidates_have_as_many_full_steps_as_asked() -> None:
    likeness = Likeness(along(of_steps(50)), along(of_steps(50)))
    for count in (2, 7, 10, 25, 50):
        for name, full in candidates(likeness, count).items():
            assert full[0] == 0, name
            assert len(full) == count == len(set(full)), name
            assert list(full) == sorted(full), name
            assert ForecastStack(schedule=full).schedule == full
    assert equal_shares([1.0] * 9, 5) == (0, 2, 4, 6, 8)
    gaps = [after - before for before, after in itertools.pairwise(candidates(likeness, 6)["equal change"])]
    assert gaps[0] < max(gaps) > gaps[-1]
    with pytest.raises(Refused, match="up to 200 steps, not 201"):
        candidates(Likeness(torch.eye(201), torch.eye(201)), 7)


def error(path: Tensor, full: tuple[int, ...], slope: float = 1.0) -> float:
    """Written out step by step."""
    total = 0.0
    for at in range(len(path)):
        last, *before = [each for each in reversed(full) if each <= at]
        share = min(at - last, last - before[0]) / (last - before[0]) if before else 0.0
        share, other = share * slope, path[before[0]] if before else path[last]
        total += float((path[at] - path[last] - share * (path[last] - other)).square().sum())
    return total


def test_no_other_slope_forecasts_better() -> None:
    path, full = of_steps(9), (0, 2, 5)
    slope = fitted_slope(along(path), full)
    found = error(path, full, slope)
    assert all(found < error(path, full, slope + away) for away in (-0.05, 0.05))
    assert fitted_slope(along(path), range(9)) == 1.0, "nothing is forecast"
    there_and_back = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    assert fitted_slope(along(there_and_back), (0, 1)) == 0.0, "never backwards"


@pytest.mark.parametrize("full", [(0, 2, 5), (0, 1), (0, 3, 4, 8), tuple(range(9))])
def test_the_error_of_forecasts_is_told_by_inner_products(full: tuple[int, ...]) -> None:
    path = torch.randn(9, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for slope in (0.0, 0.7, 1.0):
        assert forecast_error(along(path), full, slope) == pytest.approx(error(path, full, slope), abs=1e-9)


def test_moves_are_small_and_the_most_promising_comes_first() -> None:
    path = of_steps(9)
    method = ForecastStack(schedule=(0, 1, 5))
    every = list(moves(method, 9))
    assert [each.schedule for each in every] == [(0, 2, 5), (0, 1, 4), (0, 1, 6), (0, 1, 5), (0, 1, 5)]
    assert [each.slope for each in every] == [1.0, 1.0, 1.0, 0.95, 1.05]
    tried: set[TaylorSeer] = {method}
    found = []
    while (move := next_move(method, tried, along(path))) is not None:
        tried.add(move)
        found.append(error(path, listed(move), move.slope))
    assert tried == {method, *every}
    assert found == sorted(found)
    assert {each.schedule for each in moves(ForecastStack(schedule=(0, 1, 2)), 3)} == {(0, 1, 2)}, "nowhere to go"


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_no_other_full_steps_forecast_better(count: int) -> None:
    path = torch.randn(9, 5, generator=torch.Generator().manual_seed(count)).cumsum(0)
    found = least_error(along(path), count)
    every = [(0, *others) for others in itertools.combinations(range(1, 9), count - 1)]
    best = min(every, key=lambda full: error(path, full))
    assert error(path, found) == pytest.approx(error(path, best), rel=1e-5)
    assert len(found) == count


def test_a_recording_is_of_the_longest_generation() -> None:
    cache = Cache()
    slot = Slot("stream", 2)
    seen = Recording()
    assert seen.mean() is None
    for step in range(4):
        cache.put([slot], [torch.full((2, 3), float(step + 1))], step)
        seen.note(cache, [None, torch.full((2,), 2.0)])
    likeness = seen.mean()
    assert likeness is not None
    assert likeness.steps == 4
    assert likeness.changes == pytest.approx([1 / 2, 1 / 3, 1 / 4])
    assert torch.allclose(likeness.output, torch.ones(4, 4, dtype=torch.float64))


def test_the_cheapest_of_a_quality(tuned: Tuned) -> None:
    of_the_stack = [trial for trial in tuned.trials if trial.forecast == "stack"]
    good, cheap = (max(of_the_stack[at : at + 5], key=lambda each: each.quality) for at in (0, 5))
    tuned = replace(tuned, best=(good, cheap))
    assert good.quality > cheap.quality
    assert tuned.at(quality=cheap.quality - 1) is cheap
    assert tuned.at(quality=cheap.quality + 0.01) is good
    assert tuned.at(quality=1000) is good, "none is as good"
    assert tuned.options(quality=0)["method"] == cheap.method
    with pytest.raises(ValueError, match="not both"):
        tuned.at(3, 30)


def test_a_metric_that_is_an_object_and_gives_a_tensor() -> None:
    class Nearness:
        def __call__(self, images: Tensor, computed: Tensor) -> Tensor:
            return -(images - computed).abs().max()

    found = duca_compile.tune(
        generate, example_dit(), speedups=4, metric=Nearness(), refine=1, options=EAGER, progress=False
    )
    assert found.metric == "Nearness"
    assert all(isinstance(trial.quality, float) for trial in found.trials)
