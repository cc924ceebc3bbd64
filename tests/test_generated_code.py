"""What Inductor makes of each mode, in counts: they do not drift with the machine, and grow when something gets dearer.

They hold on torch 2.11 to 2.15, but for a buffer that 2.11 saves.
"""

import pytest
import torch

import duca_compile
from dit import DiT
from duca_compile import Mode
from duca_compile.releases import RELEASE
from helpers import of_duca
from inductor_code import DEPTH, Code, counted, generated
from zoo.case import noise, randomise


@pytest.mark.slow
def test_code_of_a_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomise(DiT(size=8, width=32, depth=DEPTH, heads=2))
    x, labels = noise(2, 1, 8, 8), torch.tensor([1, 2])
    with generated(monkeypatch) as found:
        plain, cached = (
            torch.compile(model),
            torch.compile(model, backend="duca", options=of_duca({"cache_ratio": 0.5})),
        )
        plain(x, torch.full((2,), 900.0), labels)
        for step in range(3):
            x = x - 0.05 * cached(x, torch.full((2,), 880.0 - 20 * step), labels)
    assert duca_compile.stats(model).steps == dict.fromkeys(Mode, 1)
    want, full, conservative, aggressive = map(counted, found)
    assert want.blocks == 0
    assert full.kernels <= want.kernels, "no more kernels to compile than without us"
    ends = 1 if RELEASE == (2, 11) else 2
    assert full == Code(kernels=10, blocks=1, calls=DEPTH, buffers=ends + 3 * DEPTH)
    assert conservative == Code(kernels=11, blocks=1, calls=DEPTH - 1, buffers=DEPTH), (
        "one sum a block: no cache is copied"
    )
    assert aggressive == Code(kernels=5, blocks=0, calls=0, buffers=1), "the final norm"


def test_flops_of_each_mode() -> None:
    """By hand: a block on T of 16 tokens at width 32, a batch of 2, 2 FLOPs a multiply-add; all else is the same."""
    model = randomise(DiT(size=8, width=32, depth=DEPTH, heads=2))
    call = (noise(2, 1, 8, 8), torch.full((2,), 900.0), torch.tensor([1, 2]))
    (graph,) = duca_compile.explain(model, *call, duca_options={"method": "duca", "cache_ratio": 0.5}).graphs
    rest = graph.flops[Mode.AGGRESSIVE]
    attention, mlp = 2 * 2 * 16 * (4 * 32 * 32 + 2 * 16 * 32), 2 * 2 * 16 * 8 * 32 * 32
    modulation = 2 * 2 * 32 * 32
    patches = 2 * 2 * 16 * 4 * 32
    assert graph.flops[Mode.FULL] - rest == patches + DEPTH * (attention + mlp + 6 * modulation)
    assert graph.flops[Mode.CONSERVATIVE] - rest == patches + DEPTH * (mlp // 2 + 4 * modulation)


def test_a_step_is_one_launch() -> None:
    launches = []

    def counting(gm: torch.fx.GraphModule, inputs: list[object]) -> object:
        def run(*args: object) -> object:
            launches.append(gm)
            return gm(*args)

        return run

    model = randomise(DiT(size=8, width=32, depth=2, heads=2))
    fast = torch.compile(model, backend="duca", options={"method": "duca", "inner": counting, "strict": True})
    x, labels = noise(2, 1, 8, 8), torch.tensor([1, 2])
    for step in range(10):
        x = x - 0.05 * fast(x, torch.full((2,), 900.0 - 20 * step), labels)
        assert len(launches) == step + 1
    assert len(set(launches)) == 3
