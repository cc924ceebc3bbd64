"""The call's arguments are told apart by what the graph does with them."""

import pytest
import torch
from torch import Tensor, nn

from helpers import captured
from zoo.case import randomise
from zoo.core import CORE

PARTS = {
    "example DiT": ("x", "t", ["y"]),
    "hand-written": ("latents", "timestep", []),
    "FLUX": (
        "hidden_states",
        "timestep",
        ["encoder_hidden_states", "guidance", "img_ids", "pooled_projections", "txt_ids"],
    ),
    "SD3": ("hidden_states", "timestep", ["encoder_hidden_states", "pooled_projections"]),
    "Wan": ("hidden_states", "timestep", ["encoder_hidden_states"]),
}


@pytest.mark.parametrize("name", PARTS)
def test_the_parts(name: str) -> None:
    case = CORE[name]
    inputs = captured(randomise(case.build()), **case.call(500.0)).facts.inputs
    latents, timestep, conditioning = PARTS[name]
    assert inputs.spelled[inputs.latents or ""] == latents
    assert inputs.spelled[inputs.timestep or ""] == timestep
    assert sorted(inputs.spelled[name] for name in inputs.conditioning) == conditioning


class TwoClocks(nn.Module):
    """Two sinusoidal embeddings, neither argument named for time."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(1, 8), nn.Linear(1, 8)

    def forward(self, x: Tensor, one: Tensor, two: Tensor) -> Tensor:
        gate = self.b(one[:, None].sin()) + self.c(two[:, None].sin())
        return self.a(x + gate[:, None] * self.a(x).relu())


def test_two_candidates_for_the_timestep_are_none() -> None:
    found = captured(TwoClocks().eval(), torch.randn(2, 4, 8), torch.rand(2), torch.rand(2))
    assert found.facts.inputs.timestep is None
