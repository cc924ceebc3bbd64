"""Sizes that only the data decides, where Dynamo is told to capture them instead of breaking the graph."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import ShapeEnv

import duca_compile
from duca_compile import DucaWarning, Mode, torch_private
from fresh_caches import check_fresh_caches
from helpers import Captured, captured, compiled, first, lenient, stored
from tiny import Tiny, TinyParts, tiny_call
from zoo import own, videos_b
from zoo.case import Case, calls
from zoo.survey import survey


@pytest.fixture(autouse=True)
def capture_all() -> Iterator[None]:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_scalar_outputs=True, capture_dynamic_output_shape_ops=True):
        yield


CASES = {"routed experts": own.CASES["routed experts"], "Mochi": videos_b.CASES["Mochi"]}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name, marks=pytest.mark.slow if name == "Mochi" else ()) for name, case in CASES.items()],
)
def test_models_that_break_by_default_are_one_graph(case: Case) -> None:
    model = case.model()
    ((capture, plan, args),) = survey(model, case.call(500.0)).accelerated
    assert len(plan.branches) == case.branches
    check_fresh_caches(Captured(capture, plan.facts, plan), args)
    fast = compiled(model, cycle=3)
    with torch.no_grad():
        exact = [
            torch.equal(first(fast(**call)), first(model(**call)))
            for call in calls(case.call, [900.0, 880.0, 860.0, 840.0])
        ]
    assert exact == [True, False, False, True]
    assert duca_compile.stats(model).steps == {Mode.FULL: 2, Mode.CONSERVATIVE: 1, Mode.AGGRESSIVE: 1}


class Sparse(Tiny):
    """The MLP works on the tokens that a threshold picks, and the others keep what they are."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        gate = self.clock(t[:, None].sin())[:, None]
        x = x + gate * self.mix(x.transpose(1, 2)).transpose(1, 2)
        chosen = (x[..., 0] > 0).nonzero().unbind(-1)
        x = x + gate * torch.zeros_like(x).index_put(chosen, self.mlp(x[chosen]).relu())
        return self.leave(x)


def test_no_cache_holds_what_the_data_sizes() -> None:
    torch.manual_seed(0)
    found = captured(Sparse().eval(), *tiny_call())
    graph = found.capture.gm.graph
    sizes = [node.meta["val"].shape for node in graph.nodes if node.name in stored(found.plan, Mode.FULL)]
    assert sizes
    assert all(isinstance(size, int) for shape in sizes for size in shape)


def test_a_stream_that_the_data_sizes_is_none() -> None:
    class Packed(Tiny):
        def forward(self, x: Tensor, t: Tensor) -> Any:
            kept = x[0][(x[0, :, 0] > 0).nonzero()[:, 0]]
            return super().forward(x, t), kept + self.mlp(kept)

    found = captured(Packed().eval(), *tiny_call())
    assert [stream.shape for stream in found.facts.streams] == [(1, 10, 2)]


def test_what_only_the_data_answers_is_a_limitation_and_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that asks for the size of a reshape that `.item()` gave, and a capture that does."""

    class Reshapes(TinyParts):
        def forward(self, x: Tensor, t: Tensor, rows: Tensor) -> Tensor:
            x, count = self.denoised(x, t), int(rows.item())
            return x.reshape(count, -1).reshape(x.shape)

    def asks(gm: Any, inputs: Any) -> Any:
        if any("item" in str(node.target) for node in gm.graph.nodes):
            bool(ShapeEnv().create_unbacked_symint() == 5)
        return gm

    def both(gm: Any, *rest: Any) -> Any:
        return asks(gm, rest) and exported(gm, *rest)

    exported = torch_private.export_functional
    call = (*tiny_call(), torch.tensor(5))
    with torch.no_grad():
        compiled(Reshapes().eval())(*call)
        monkeypatch.setattr(torch_private, "export_functional", both)
        with pytest.warns(DucaWarning, match="size or value that only the data decides") as caught:
            lenient(Reshapes().eval())(*call)
        assert "fault" not in str(caught[0].message)
        monkeypatch.undo()
        torch._dynamo.reset()
        monkeypatch.setattr(
            "duca_compile.analysis.token_paths.rule", lambda *given: bool(ShapeEnv().create_unbacked_symint() == 5)
        )
        with pytest.raises(duca_compile.Refused, match=r"^%.* has a size or value that only the data decides"):
            lenient(Reshapes().eval(), strict=True)(*call)


def test_autocast_over_sizes_that_the_data_decides() -> None:
    class Resizes(TinyParts):
        def forward(self, x: Tensor, t: Tensor, rows: Tensor) -> Tensor:
            count = int(rows.item())
            small = torch.nn.functional.interpolate(x.reshape(1, 1, count, -1), size=(count, 4))
            return self.denoised(x + small.mean(), t)

    model, (x, t) = Resizes().eval(), tiny_call()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        fast = compiled(model)
        assert torch.equal(fast(x, t, torch.tensor(5)), model(x, t, torch.tensor(5)))
