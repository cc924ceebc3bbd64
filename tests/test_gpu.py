"""What a CUDA device must keep: Inductor's modes are right, and the host never waits. None of it has run on one yet.

The CPU stands in where there is none, in all but what CUDA alone has: its graphs, and its alarm for a host that waits.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from dit import DiT
from duca_compile import Mode
from duca_compile.generations import observe_call
from helpers import captured, compiled
from zoo.case import calls
from zoo.core import CORE, example_dit

TIMES = [980.0 - 20 * step for step in range(22)]
CALLS = calls(CORE["example DiT"].call, TIMES)
ON_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
MODES = ["reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
DEVICES = ["cpu", pytest.param("cuda", marks=ON_CUDA)]


class TimedOnTheHost(nn.Module):
    """Takes timesteps of the host's to the device of its weights."""

    def __init__(self, model: DiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        device = self.model.time.rates.device
        return self.model(x, t.to(device, non_blocking=True), y)


def moved(given: Sequence[dict[str, Any]], device: str, stay: str = "") -> list[dict[str, Any]]:
    """Each tensor of these calls once, but for the argument that is to stay on the host, in memory that is pinned."""
    known: dict[int, Tensor] = {}

    def move(name: str, held: Tensor) -> Tensor:
        if name == stay:
            return held.pin_memory() if device == "cuda" else held
        if id(held) not in known:
            known[id(held)] = held.to(device, copy=True)
        return known[id(held)]

    return [{name: move(name, held) for name, held in call.items()} for call in given]


def cached(model: nn.Module) -> int:
    steps = duca_compile.stats(model).steps
    return steps[Mode.CONSERVATIVE] + steps[Mode.AGGRESSIVE]


def run(fast: Any, given: Sequence[dict[str, Any]]) -> list[Tensor]:
    return [fast(**call) for call in given]


@pytest.mark.parametrize(
    ("device", "options"),
    [
        ("cpu", {}),
        *(pytest.param("cuda", {"inner": "inductor", "inductor_mode": mode}, marks=ON_CUDA) for mode in MODES),
    ],
)
def test_inductors_modes_cache_and_are_right(device: str, options: dict[str, Any]) -> None:
    model, given = example_dit().to(device), moved(CALLS, device)
    want = run(compiled(model, cache_ratio=0.5), given)
    torch._dynamo.reset()
    got = run(compiled(model, cache_ratio=0.5, **options), given)
    assert cached(model) >= 16
    for mine, theirs in zip(got, want, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("counted", [True, False])
def test_the_host_never_waits(counted: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a session that counts, or where the timestep lies on the host; but in the first calls, which compile."""
    model: nn.Module = example_dit().to(device) if counted else TimedOnTheHost(example_dit().to(device))
    given = moved(CALLS, device, stay="" if counted else "t")
    if device == "cpu":
        monkeypatch.setattr(observe_call, "on_host", lambda tensor: not counted and is_timestep(tensor))
    options: dict[str, Any] = {"inner": "inductor", "outline": False} if device == "cuda" else {}
    fast = compiled(model, **options)
    with duca_compile.session(steps=len(TIMES) if counted else None):
        run(fast, given[:6])
        with alarm(device, monkeypatch):
            run(fast, given[6:])
    assert cached(model) >= 16


def is_timestep(tensor: Tensor) -> bool:
    return tensor.dim() == 1 and tensor.is_floating_point()


@contextmanager
def alarm(device: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raises where the host waits for the device: of the CPU, where it would read what is to lie on a device."""
    if device == "cpu":
        with monkeypatch.context() as patch:
            patch.setattr(observe_call._Transfer, "run", _never)
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _never(transfer: observe_call._Transfer) -> None:
    assert not transfer._parts, "the host waits"


def test_a_timestep_that_the_model_takes_to_its_device_is_found() -> None:
    """No values are needed for that: the device has none."""
    call = {name: held if name == "t" else held.to("meta") for name, held in CALLS[0].items()}
    found = captured(TimedOnTheHost(example_dit().to("meta")), **call)
    assert found.facts.inputs.timesteps == found.capture.signature.call[1:2]
