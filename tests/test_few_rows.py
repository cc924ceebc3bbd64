"""Linear layers over few rows: which are rewritten, and that they compute what `linear` does."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duca_compile.graph import ir
from duca_compile.kernels import few_row_linear
from duca_compile.methods.duca import Mode
from duca_compile.passes import lower, rewrite
from duca_compile.passes.few_row_linears import FEW, FewRowLinears
from helpers import Captured, captured
from zoo.case import noise

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN")


class Wide(nn.Module):
    """An MLP over `tokens` tokens, gated by the timestep."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.clock, self.mlp = nn.Linear(1, 4, dtype=dtype), nn.Linear(4, 4, bias=False, dtype=dtype)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.clock(t[:, None].sin().to(x.dtype))[:, None] * self.mlp(x).relu()


def wide(tokens: int, dtype: torch.dtype = torch.float32) -> Captured:
    call = (noise(1, tokens, 4).to(dtype), torch.full((1,), 0.5))
    return captured(Wide(dtype).eval(), *call, options={"cache_ratio": 0.5})


@needs_onednn
@pytest.mark.parametrize("rows", [(1,), (2,), (2, 2), (5,), (3, 7), (2, 50)])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("intel", [True, False])
def test_the_op_is_a_linear_layer(
    rows: tuple[int, ...], has_bias: bool, intel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_row_linear, "on_intel", lambda: intel)
    source, weight = noise(*rows, 24), noise(16, 24, seed=1)
    bias = noise(16, seed=2) if has_bias else None
    sliced = noise(40, 24, seed=3)[8:24]
    for given in (weight, sliced):
        found = few_row_linear.linear(source, given, bias)
        assert torch.allclose(found, F.linear(source, given, bias), rtol=1e-4, atol=1e-5)
        assert found.is_contiguous()
    transposed = noise(24, *rows).movedim(0, -1)
    assert torch.allclose(
        few_row_linear.linear(transposed, weight, bias), F.linear(transposed, weight, bias), 1e-4, 1e-5
    )


@needs_onednn
@pytest.mark.parametrize(("rows", "width"), [((2, 3), 0), ((50,), 0), ((0, 7), 24), ((0,), 0)])
@pytest.mark.parametrize("intel", [True, False])
def test_sizes_of_0_are_a_linear_layers(
    rows: tuple[int, ...], width: int, intel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_row_linear, "on_intel", lambda: intel)
    source, weight, bias = noise(*rows, width), noise(16, width, seed=1), noise(16, seed=2)
    for given in (bias, None):
        assert torch.equal(few_row_linear.linear(source, weight, given), F.linear(source, weight, given))


@needs_onednn
def test_the_op_is_what_a_compiler_needs() -> None:
    torch.library.opcheck(few_row_linear.linear, (noise(2, 3, 8), noise(4, 8, seed=1), noise(4, seed=2)))


@needs_onednn
@pytest.mark.parametrize("mode", [Mode.CONSERVATIVE, Mode.FULL])
def test_cached_steps_use_it_and_full_ones_do_not(mode: Mode) -> None:
    found = wide(tokens=8)
    gm, _ = lower(rewrite(found.capture.gm, found.plan.steps[mode])[0], found.plan.steps[mode])
    uses = len(gm.graph.find_nodes(op="call_function", target=few_row_linear.linear))
    assert uses == (2 if mode == Mode.CONSERVATIVE else 0)


@needs_onednn
def test_many_rows_stay() -> None:
    found = wide(tokens=4 * FEW)
    gm = rewrite(found.capture.gm, found.plan.steps[Mode.CONSERVATIVE])[0]
    assert FewRowLinears().run(gm, found.plan.steps[Mode.CONSERVATIVE]).count == 1, (
        "the gate of the one sample, not the MLP"
    )
    assert "linear.default(%index_select_default" in ir.render(gm.graph)


@needs_onednn
def test_other_types_stay() -> None:
    found = wide(tokens=8, dtype=torch.bfloat16)
    assert (
        FewRowLinears()
        .run(rewrite(found.capture.gm, found.plan.steps[Mode.CONSERVATIVE])[0], found.plan.steps[Mode.CONSERVATIVE])
        .count
        == 0
    )


def test_without_onednn_all_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duca_compile.torch_private.has_onednn", lambda: False)
    found = wide(tokens=8)
    result = FewRowLinears().run(
        rewrite(found.capture.gm, found.plan.steps[Mode.CONSERVATIVE])[0], found.plan.steps[Mode.CONSERVATIVE]
    )
    assert (result.count, result.refusals) == (0, (("graph", "this build of torch is without oneDNN"),))
