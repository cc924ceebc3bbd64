"""Conditioning made in inference mode, to which nobody counts the writes, where the host is to wait for no device."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from duca_compile import Mode
from duca_compile.generations import observe_call
from helpers import Generation, compiled
from zoo.case import noise
from zoo.core import example_dit

F, C, A = Mode.FULL, Mode.CONSERVATIVE, Mode.AGGRESSIVE
LATENTS = noise(2, 1, 8, 8)
STEPS = [980.0 - 20 * step for step in range(12)]
CYCLES = [F, C, A, C, A, F, C, A, C, A, F, C]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the tensors that are read of a device at once."""
    found: list[int] = []
    run = observe_call._Transfer.run

    def counted(self: observe_call._Transfer) -> None:
        found.extend([len(self._parts)] * bool(self._parts))
        run(self)

    monkeypatch.setattr(observe_call._Transfer, "run", counted)
    return found


class Unread(Generation):
    """One whose host waits for nothing, as a session counts its steps or their timesteps lie on the host."""

    def __init__(self, model: nn.Module, counted: bool) -> None:
        super().__init__(model, compiled(model), torch.tensor([1, 2]))
        self.session = {"key": "the only one", "steps": len(STEPS)} if counted else {"key": "the only one"}

    def modes(self, timesteps: Sequence[float | list[float]]) -> list[Mode]:
        with duca_compile.session(**self.session):
            return super().modes(timesteps)


@pytest.fixture(params=[True, False], ids=["counted", "timed on the host"])
def generation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unread]:
    """The host stands in for the device, but for timesteps where they are to lie on the host."""

    def on_host(tensor: Tensor) -> bool:
        return not request.param and tensor.dim() == 1 and tensor.is_floating_point()

    monkeypatch.setattr(observe_call, "on_host", on_host)
    with torch.inference_mode():
        yield Unread(example_dit(), request.param)


def test_steps_are_cached_and_only_full_ones_wait(generation: Unread, waits: list[int]) -> None:
    assert generation.modes(STEPS[:1]) == [F]
    assert len(waits) == 1
    assert generation.modes(STEPS[1:]) == CYCLES[1:]
    assert waits[1:] == [1, 1], "the labels at the second and the third full step"
    assert duca_compile.stats(generation.model).resets == {}


def test_what_is_written_in_place_is_seen_at_the_next_full_step(generation: Unread) -> None:
    assert generation.modes(STEPS[:3]) == CYCLES[:3]
    generation.labels[0] = 3
    assert generation.modes(STEPS[3:]) == CYCLES[3:]
    assert duca_compile.stats(generation.model).resets == {"other conditioning or weights": 1}


def test_what_is_written_between_generations_is_seen_at_once(generation: Unread) -> None:
    assert generation.modes(STEPS) == CYCLES
    generation.labels[0] = 3
    assert generation.modes(STEPS) == CYCLES
    assert sum(duca_compile.stats(generation.model).resets.values()) == 1


def test_no_forecast_combines_what_was_stored_under_other_conditioning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe_call, "on_host", lambda tensor: False)
    model = example_dit()
    fast = compiled(model, method="taylorseer", cycle=5, order=1)

    def outputs(key: str, timesteps: Sequence[float]) -> list[Tensor]:
        with duca_compile.session(key, steps=len(STEPS)):
            return [fast(LATENTS, torch.full((2,), t), labels) for t in timesteps]

    with torch.inference_mode():
        labels = torch.tensor([1, 2])
        outputs("rewritten", STEPS[:5])
        labels[0] = 3
        assert all(map(torch.equal, outputs("rewritten", STEPS[5:10]), outputs("begun with it", STEPS[5:10])))
