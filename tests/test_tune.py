"""`tune`: schedules found by generating, and kept in a file."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from dit import DiT
from duca_compile import DucaWarning, OptionError, Options, Refused, Tuned
from duca_compile.methods.base import FULL
from duca_compile.methods.forecast_stack import ForecastStack
from duca_compile.tuning.candidates import candidates, equal_shares
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
    return duca_compile.tune(generate, three_blocks(), speedups=(3, 5), options=EAGER, progress=False)


def test_every_trial_was_run_and_the_best_of_each_cost_is_chosen(tuned: Tuned) -> None:
    assert tuned.steps == len(STEPS)
    assert [trial.full_steps for trial in tuned.trials] == [17] * 4 + [10] * 4
    for trial in tuned.trials:
        assert len(trial.method.schedule) == trial.full_steps
        assert trial.speedup == pytest.approx(50 / trial.full_steps, rel=0.1)
        assert trial.quality > 20
    for best in tuned.best:
        assert best.quality == max(each.quality for each in tuned.trials if each.full_steps == best.full_steps)
    assert tuned.at(2.9) is tuned.best[0]
    assert tuned.at() is tuned.at(5) is tuned.best[1]


def test_the_table_fits_a_terminal(tuned: Tuned) -> None:
    lines = str(tuned).splitlines()
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if "equal change" in line]) == 2


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

    found = duca_compile.tune(generate, example_dit(), speedups=4, metric=likeness, options=EAGER, progress=False)
    assert found.metric == "likeness"
    assert found.best == (max(found.trials, key=lambda trial: trial.quality),)


def test_where_nothing_can_be_forecast_there_is_nothing_to_tune() -> None:
    class Plain(nn.Module):
        def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            return x * t.view(-1, 1, 1, 1).sin()

    with pytest.warns(DucaWarning), pytest.raises(Refused, match="nothing to tune"):
        duca_compile.tune(generate, Plain().eval(), options=EAGER, progress=False)
    with pytest.raises(ValueError, match="speedups must be numbers above 1, not 1"):
        duca_compile.tune(generate, Plain().eval(), speedups=1)


def test_candidates_have_as_many_full_steps_as_asked() -> None:
    changes = [1.0 / (1 + step) for step in range(49)]
    for count in (2, 7, 10, 25, 50):
        for name, full in candidates(changes, count).items():
            assert full[0] == 0, name
            assert len(full) == count == len(set(full)), name
            assert list(full) == sorted(full), name
            assert ForecastStack(schedule=full).schedule == full
    assert equal_shares([1.0] * 9, 5) == (0, 2, 4, 6, 8)
    assert candidates(changes, 7)["equal change"][:4] == (0, 1, 2, 4)
