"""The trained example: small enough to ship, and still itself under the cache."""

from pathlib import Path

import pytest
import torch

import ahead_of_time
import inner_compiler
import own_backend
import recipe_graphs
from classifier import accuracy, trained_classifier
from fashion import FOLDER, load
from sampling import initial_noise, sample, trained_dit

WEIGHTS = Path(__file__).parents[1] / "examples" / "weights"


def test_the_weights_are_small_halves() -> None:
    files = [WEIGHTS / "dit.pt", WEIGHTS / "classifier.pt"]
    assert sum(file.stat().st_size for file in files) < 16 * 2**20
    for file in files:
        types = {value.dtype for value in torch.load(file, weights_only=True).values()}
        assert types <= {torch.float16, torch.int64}


@pytest.mark.skipif(not FOLDER.exists(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_the_classifier_is_right_for_91_percent_of_the_test_images() -> None:
    images, labels = load("t10k")
    assert accuracy(trained_classifier(), images[:2000], labels[:2000]) >= 0.91


@pytest.mark.slow
def test_cached_samples_keep_their_class() -> None:
    model, judge = trained_dit(), trained_classifier()
    labels, noise = torch.arange(20) % 10, initial_noise(20, seed=0)
    plain = sample(model, labels, noise, guidance=1)
    fast = torch.compile(model, backend="duca", options={"strict": True, "inner": "eager"})
    cached = sample(fast, labels, noise, guidance=1)
    agreement = (judge(plain)[0].argmax(1) == judge(cached)[0].argmax(1)).float().mean()
    assert agreement >= 0.8


def test_the_example_of_an_inner_compiler(capsys: pytest.CaptureFixture[str]) -> None:
    inner_compiler.main(steps=10)
    told = capsys.readouterr().out
    assert "10 steps in 1 graph" in told
    assert told.count("are linear layers") == 2


def test_the_example_of_an_own_backend(capsys: pytest.CaptureFixture[str]) -> None:
    own_backend.main(steps=10)
    told = capsys.readouterr().out
    assert told.count("  a graph of") == 3
    assert "10 steps in 1 graph" in told


def test_the_example_of_recipe_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    recipe_graphs.main(steps=10, inner="eager")
    told = capsys.readouterr().out
    assert "aggressive: " in told
    assert "full, conservative, aggressive, conservative, aggressive, full" in told


@pytest.mark.slow
def test_the_example_of_compiling_ahead_of_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        ahead_of_time.main(tmp_path / "dit", steps=10)
    told = capsys.readouterr().out
    assert told.count("compiled in") == 1
    assert told.count("<Program: full, forecast> loaded in") == 2
