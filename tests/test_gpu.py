"""On a CUDA device; left out where there is none. None of it has run on one yet."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from duca_compile import Mode
from helpers import compiled
from zoo.case import calls
from zoo.every import ZOO

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TIMES = [980.0 - 20 * step for step in range(22)]


def on_gpu() -> tuple[nn.Module, list[dict[str, Any]]]:
    model, given = ZOO["example DiT"].model().cuda(), calls(ZOO["example DiT"].call, TIMES)
    return model, [{name: held.cuda() for name, held in call.items()} for call in given]


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"])
def test_inductors_modes_cache_and_are_right(mode: str) -> None:
    model, given = on_gpu()
    want = run(compiled(model, cache_ratio=0.5), given)
    torch._dynamo.reset()
    got = run(compiled(model, inner="inductor", inductor_mode=mode, cache_ratio=0.5), given)
    steps = duca_compile.stats(model).steps
    assert steps[Mode.CONSERVATIVE] + steps[Mode.AGGRESSIVE] >= 16
    for mine, theirs in zip(got, want, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-3)


def run(fast: Any, given: list[dict[str, Any]]) -> list[Tensor]:
    return [fast(**call) for call in given]


def timed_on_the_host(call: dict[str, Any]) -> dict[str, Any]:
    return {name: held.cpu() if held.dim() == 1 and held.is_floating_point() else held for name, held in call.items()}


@pytest.mark.parametrize("counted", [True, False])
def test_the_host_never_waits(counted: bool) -> None:
    """In a session that counts, or where the timestep lies on the host; but in the first call, which compiles."""
    model, given = on_gpu()
    given = given if counted else [timed_on_the_host(call) for call in given]
    fast = compiled(model, inner="inductor", outline=False)
    with duca_compile.session(steps=len(TIMES)) if counted else duca_compile.session():
        run(fast, given[:6])
        torch.cuda.set_sync_debug_mode("error")
        try:
            run(fast, given[6:])
        finally:
            torch.cuda.set_sync_debug_mode("default")
