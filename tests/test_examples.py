"""The trained example: small enough to ship, and still itself under the cache."""

from pathlib import Path

import pytest
import torch

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
