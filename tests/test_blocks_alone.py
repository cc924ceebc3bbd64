"""What was compiled is a part of the model: there is nothing to accelerate in it, and the reason says what to compile."""

import warnings
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from duca_compile import DucaWarning, Mode, session
from helpers import lenient, ours
from tiny import Tiny
from zoo.case import Call, calls, noise, randomise
from zoo.core import CORE

TIMES = [900.0, 880.0, 860.0, 840.0]


def run(model: nn.Module, call: Call, counted: bool) -> list[str]:
    """The reasons that a user sees."""
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        for given in calls(call, TIMES):
            with session("request", steps=4) if counted else nullcontext():
                model(**given)
    return ours(caught)


@pytest.mark.parametrize("counted", [False, True])
def test_repeated_blocks_say_to_compile_the_model(counted: bool) -> None:
    model: Any = randomise(CORE["FLUX"].build())
    model.compile_repeated_blocks(backend="duca", options={"inner": "eager"})
    reasons = run(model, CORE["FLUX"].call, counted)
    assert len(reasons) >= 2, "of double blocks and of single ones"
    assert all("compile the whole model instead" in reason for reason in reasons)
    assert not duca_compile.stats(model).steps.total()


@pytest.mark.parametrize("name", ["PixArt", pytest.param("Wan", marks=pytest.mark.slow)])
def test_blocks_compiled_one_by_one_say_so_too(name: str) -> None:
    model: Any = randomise(CORE[name].build())
    for block in model.transformer_blocks if name == "PixArt" else model.blocks:
        block.compile(backend="duca", options={"inner": "eager"})
    reasons = run(model, CORE[name].call, counted=True)
    assert reasons
    assert all("compile the whole model instead" in reason for reason in reasons)


class Encoder(nn.Module):
    """A part that ends by a norm of its own, so that it looks like a model without a timestep."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.norm = nn.Linear(10, 10), nn.LayerNorm(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.mix(x.transpose(1, 2)).transpose(1, 2))


class Holds(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.part = Encoder()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return super().forward(self.part(x), t)


def test_a_submodule_without_a_timestep_says_so() -> None:
    model = Holds().eval()
    model.part.compile(backend="duca", options={"inner": "eager"})
    (reason,) = run(model, lambda t: {"x": noise(1, 10, 2), "t": torch.full((1,), t)}, counted=False)
    assert "which is a part of Holds" in reason
    assert "compile the whole model instead" in reason


def test_a_denoiser_within_a_pipeline_is_no_block() -> None:
    class Pipeline(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.denoiser = Tiny()

        def forward(self, x: Tensor) -> Tensor:
            for t in (0.5, 0.49, 0.48):
                x = x - 0.01 * self.denoiser(x, torch.full((1,), t))
            return x

    pipeline = Pipeline().eval()
    pipeline.denoiser.compile(backend="duca", options={"inner": "eager", "strict": True})
    with torch.no_grad():
        pipeline(noise(1, 10, 2))
    assert duca_compile.stats(pipeline).steps[Mode.FULL] == 1


def test_a_wrapped_model_is_not_a_part_of_itself() -> None:
    with torch.no_grad(), pytest.warns(DucaWarning, match="steps cannot be told apart") as caught:
        lenient(Encoder().eval())(noise(1, 10, 2))
    assert "a part of" not in str(caught[0].message)
