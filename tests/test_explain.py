"""The report: what it says of a model, and that its figures are right."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from expecttest import assert_expected_inline
from torch import Tensor, nn

import duca_compile
from duca_compile import DucaWarning, Mode, Options, explain
from duca_compile.methods.duca import DuCa
from duca_compile.refusal import ISSUES
from helpers import lenient, ours
from tiny import Tiny, tiny_call
from zoo.case import noise
from zoo.core import example_dit
from zoo.every import ZOO

CALL = (noise(2, 1, 8, 8), torch.full((2,), 900.0), torch.tensor([1, 2]))


def test_flops_are_two_per_multiply_add() -> None:
    """Counted by hand for the example DiT: 2 samples, 16 tokens, width 32, 2 blocks, MLP ratio 4."""
    (graph,) = explain(example_dit(), *CALL, duca_options={"method": "duca"}).graphs
    batch, tokens, width, depth = 2, 16, 32, 2
    embed = 2 * batch * tokens * width * 4
    time = 2 * batch * (256 * width + width * width)
    final = 2 * batch * (width * 2 * width + tokens * width * 4)
    modulation = 2 * batch * width * 6 * width * depth
    attention = 2 * batch * tokens * 4 * width * width * depth + 2 * 2 * batch * tokens * tokens * width * depth
    mlp = 2 * batch * 8 * width * width * depth
    assert graph.flops[Mode.FULL] == embed + time + final + modulation + attention + mlp * tokens
    assert graph.flops[Mode.CONSERVATIVE] == embed + time + final + modulation * 4 // 6 + mlp * 1, (
        "the shift and scale of attention are not computed"
    )
    assert graph.flops[Mode.AGGRESSIVE] == time + final


def test_cache_bytes_are_those_held() -> None:
    model = example_dit()
    (graph,) = explain(model, *CALL, duca_options={"method": "duca"}).graphs
    fast = torch.compile(model, backend="duca", options={"method": "duca", "inner": "eager"})
    fast(*CALL)
    assert graph.held_bytes == duca_compile.stats(model).bytes == (2 * 2 + 1) * 2 * 16 * 32 * 4
    assert graph.cache_bytes == {Mode.FULL: 0, Mode.CONSERVATIVE: 4 * 4096, Mode.AGGRESSIVE: 4096}


def test_caches_that_no_mode_reads_are_not_stored() -> None:
    (graph,) = explain(example_dit(), *CALL, duca_options={"method": "duca", "order": "aggressive"}).graphs
    assert graph.held_bytes == 2 * 16 * 32 * 4


def test_the_text() -> None:
    torch.manual_seed(0)
    text = str(explain(Tiny().eval(), *tiny_call(), duca_options={"method": "duca"}))
    assert_expected_inline(
        text,
        """\
Accelerated wholly: 3.11x fewer FLOPs over 50 steps.
  steps    10 full, 20 conservative, 20 aggressive
  FLOPs    9.08 kFLOPs a generation, 28.2 kFLOPs plain
  cache    240 B for each generation
  peak     328 B in a full step, caches included, beside weights; the model
           alone 168 B
  refused  nothing

latents       x
timestep      t
conditioning  none
stream 0      [1, 10, 2] from arg2_1, 2 branches

1 block, 2 branches
block branch and source stream kind   full    conservative aggressive
---------------------------------------------------------------------
0     add               0      mixing compute reuse        skip
      tiny.py:21
      add_1             0      MLP    compute 1/10 tokens  skip
      tiny.py:22

cost per step; one trajectory holds 240 B of cache
recipe           FLOPs share of full weights read cache read
------------------------------------------------------------
full         564 FLOPs        100.0%        440 B        0 B
conservative  92 FLOPs         16.3%         40 B      160 B
aggressive    80 FLOPs         14.2%         16 B       80 B

peak            beside weights, a full step takes 328 B, the model alone 168 B
not token-wise  mixing of block 0: linear mixes tokens on every path\
""",
    )


def test_a_refusal_is_shown_with_its_reason_and_what_to_do() -> None:
    text = str(explain(torch.nn.Linear(3, 3).eval(), torch.randn(2, 3)))
    assert_expected_inline(
        text,
        """\
Not accelerated: every step is the model's own.
  refused     no residual branch `x + gate * f(x)` on a stream of tokens was
              found in this graph
  what to do  Compile the whole transformer: neither one of its blocks nor the
              pipeline around it. The project's page docs/models.md lists the
              structures that are found.\
""",
    )


def test_kinds_of_branches() -> None:
    def kinds(name: str) -> list[str]:
        (graph,) = explain(ZOO[name].model(), **ZOO[name].call(500.0), duca_options={"method": "duca"}).graphs
        assert graph.plan is not None
        return [branch.kind for branch in graph.plan.branches]

    assert kinds("PixArt") == ["attention", "cross-attention", "MLP"] * 3
    assert kinds("parallel attention and MLP")[-1] == "attention + MLP"


def test_explaining_leaves_the_model_as_it_was() -> None:
    model = example_dit()
    explain(model, *CALL)
    assert duca_compile.stats(model).graphs == 0


def by_function(model: nn.Module, **how: Any) -> Any:
    return torch.compile(model, **how)


def in_place(model: nn.Module, **how: Any) -> Any:
    model.compile(**how)
    return model


def around(model: nn.Module, **how: Any) -> Any:
    return torch.compile(lambda *args: model(*args), **how)


OPTIONS = {"method": "duca", "cycle": 2, "cache_ratio": 0.5, "inner": "eager"}


@pytest.mark.parametrize(
    "compiled",
    [in_place, pytest.param(by_function, marks=pytest.mark.slow), pytest.param(around, marks=pytest.mark.slow)],
)
def test_the_options_of_a_compiled_model_are_those_explained(compiled: Callable[..., Any]) -> None:
    """Also where the compiled model has run before."""
    fast = compiled(example_dit(), backend="duca", options=OPTIONS)
    for _ in range(2):
        (graph,) = explain(fast, *CALL).graphs
        assert graph.plan is not None
        assert graph.plan.options == Options.parse(OPTIONS)
        fast(*CALL)
    (graph,) = explain(fast, *CALL, duca_options={"method": "duca", "cycle": 3}).graphs
    assert graph.plan is not None
    assert graph.plan.options == Options(DuCa(cycle=3))


def test_the_options_of_another_backend_are_none_of_ours() -> None:
    fast: Any = torch.compile(example_dit(), backend="eager", options={"cycle": 9})
    (graph,) = explain(fast, *CALL).graphs
    assert graph.plan is not None
    assert graph.plan.options == Options()


class Clockless(Tiny):
    """Nothing tells its steps apart."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x = x + self.mix(x.transpose(1, 2)).transpose(1, 2)
        return self.leave(x + t * self.mlp(x).relu())


@pytest.mark.parametrize("steps", [None, 2])
@pytest.mark.parametrize(
    "model", [lambda: Tiny().eval(), lambda: Clockless().eval(), lambda: nn.Linear(2, 2).eval(), Tiny]
)
def test_a_call_is_refused_where_the_backend_refuses_it(model: Callable[[], nn.Module], steps: int | None) -> None:
    """With the reason that the backend's warning gives."""
    wanted = model()
    args = tiny_call()[: 1 if isinstance(wanted, nn.Linear) else 2]
    with warnings.catch_warnings(record=True) as caught, duca_compile.session("a generation", steps=steps):
        warnings.simplefilter("always")
        (graph,) = explain(wanted, *args).graphs
        lenient(wanted)(*args)
    told = ours(caught)
    assert told == [f"duca does not accelerate this graph: {graph.refusal}"] * (graph.refusal is not None)
    assert (graph.refusal is None) == (duca_compile.stats(wanted).steps[Mode.FULL] == 1)


def test_a_fault_is_told_as_the_backend_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise RuntimeError("a planted fault")

    monkeypatch.setattr("duca_compile.analysis.analyse.find_blocks", fail)
    with pytest.warns(DucaWarning, match="a planted fault; this is a fault of duca"):
        lenient(example_dit())(*CALL)
    (graph,) = explain(example_dit(), *CALL, duca_options={"method": "duca"}).graphs
    assert graph.refusal == f"RuntimeError: a planted fault; this is a fault of duca, please report it at {ISSUES}"


class Turned(nn.Module):
    """Blocks whose scale lies in memory in another order than its sizes say: one that a subgraph would fix."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 8)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(3)])

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        scale = self.embed(timestep.sin()[:, None, None].expand(-1, 10, 1)).transpose(1, 2).contiguous().transpose(1, 2)
        for block in self.blocks:
            x = x + block(x * scale)
        return x


def test_what_a_pass_leaves_as_it_is_is_shown() -> None:
    call = noise(2, 10, 8), torch.tensor([500.0, 500.0])
    report = explain(Turned().eval(), *call, duca_options={"method": "duca"})
    told = "OutlineBlocks: %transpose_1, which it reads, is laid out in another order"
    assert report.graphs[0].left == {told: 2}, "in full and conservative steps"
    assert f"left as it is, in 2 places: {told}" in " ".join(str(report).split())
