"""Option `cache_dtype`: what is kept smaller, how near the results stay, and that Inductor copies no cache for it."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from dit import DiT
from duca_compile import Mode
from helpers import compiled, first, of_duca, relative_error
from inductor_code import DEPTH, Code, counted, generated
from tiny import Tiny
from zoo.case import calls, noise, randomise
from zoo.every import ZOO

TIMES = [900.0, 880.0, 860.0, 840.0]
FEWEST_BITS = {torch.bfloat16: 8, torch.float16: 11, torch.float8_e4m3fn: 4, torch.float8_e5m2: 3}
"""Of a significand, the implicit one included."""


def generation(model: nn.Module, given: list[dict[str, Any]], **options: Any) -> list[Tensor]:
    torch._dynamo.reset()
    fast = compiled(model, cycle=4, **options)
    return [first(fast(**call)) for call in given]


FAST = {("long skips", torch.float8_e4m3fn), *itertools.product(["example DiT"], FEWEST_BITS), ("grid", torch.bfloat16)}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(*both, id=f"{both[0]}-{both[1]}", marks=() if both in FAST else pytest.mark.slow)
        for both in itertools.product(["example DiT", "FLUX", "grid", "channels first", "long skips"], FEWEST_BITS)
    ],
)
def test_caches_are_smaller_and_results_near(name: str, dtype: torch.dtype) -> None:
    model, given = ZOO[name].model(), calls(ZOO[name].call, TIMES)
    want = generation(model, given)
    exact = duca_compile.stats(model).bytes
    got = generation(model, given, cache_dtype=dtype)
    assert duca_compile.stats(model).steps[Mode.CONSERVATIVE] == 2
    (graph,) = duca_compile.explain(model, **given[0], duca_options={"method": "duca", "cache_dtype": dtype}).graphs
    held = duca_compile.stats(model).bytes
    assert held == graph.held_bytes
    frontier = graph.cache_bytes[Mode.AGGRESSIVE]
    assert held - frontier == (exact - frontier) * dtype.itemsize // 4
    assert torch.equal(got[0], want[0]), "a full step computes with what it computed"
    errors = [relative_error(*pair) for pair in zip(got, want, strict=True)]
    assert 0 < max(errors) < 2 ** (1 - FEWEST_BITS[dtype])


def test_values_beyond_the_smaller_types_range_become_its_largest() -> None:
    model = Tiny().eval()
    with torch.no_grad():
        model.mlp.weight.fill_(1e6)
    x, t = noise(1, 10, 2).abs(), torch.full((1,), 0.9)
    fast = compiled(model, cache_dtype=torch.float8_e4m3fn, order="conservative")
    found = [fast(x - 0.01 * step, t - 0.01 * step) for step in range(2)]
    assert all(result.isfinite().all() for result in found)


def test_a_type_that_is_not_smaller_changes_nothing() -> None:
    model, given = ZOO["example DiT"].model(), calls(ZOO["example DiT"].call, TIMES)
    half = model.bfloat16()
    given = [
        {name: each.bfloat16() if each.is_floating_point() else each for name, each in call.items()} for call in given
    ]
    want = generation(half, given)
    assert all(map(torch.equal, generation(half, given, cache_dtype=torch.float16), want))


@pytest.mark.slow
def test_code_of_a_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conservative step still copies no cache; what a FULL one keeps is apart from what it uses."""
    model = randomise(DiT(size=8, width=32, depth=DEPTH, heads=2))
    x, labels = noise(2, 1, 8, 8), torch.tensor([1, 2])
    options = {"cache_ratio": 0.5, "cache_dtype": torch.float8_e4m3fn}
    with generated(monkeypatch) as found:
        cached = torch.compile(model, backend="duca", options=of_duca(options))
        for step in range(2):
            x = x - 0.05 * cached(x, torch.full((2,), 880.0 - 20 * step), labels)
    assert duca_compile.stats(model).steps[Mode.CONSERVATIVE] == 1
    full, conservative = map(counted, found)
    assert full.buffers <= 2 + (3 + 2) * DEPTH, "two features a block in 8 bits"
    assert conservative == Code(kernels=12, blocks=1, calls=DEPTH - 1, buffers=DEPTH)
