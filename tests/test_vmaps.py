"""`vmap` in a captured forward, as plain ops."""

from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.nn.attention.flex_attention import flex_attention

from duca_compile import torch_private
from duca_compile.capture.capture import capture
from duca_compile.capture.vmap import without_vmap
from duca_compile.cost import flops
from duca_compile.refusal import Refused
from helpers import compiled, seen_by_backend
from zoo.case import calls
from zoo.own_more import CASES


def written_out(forward: Any, *args: Tensor, dynamic: bool = False) -> fx.GraphModule:
    """Checks that the graph without vmap computes the same."""
    found = []

    def compare(gm: fx.GraphModule, inputs: Any) -> Any:
        found.append(without_vmap(gm))
        return found[-1].forward

    torch._dynamo.reset()
    with torch.no_grad():
        assert torch.equal(torch.compile(forward, backend=compare, dynamic=dynamic)(*args), forward(*args))
    (gm,) = found
    assert not torch_private.vmaps(gm.graph)
    return gm


def table(a: Tensor, b: Tensor) -> Tensor:
    """Two nested vmaps, and what stands before and after them."""
    rows, columns = torch.arange(a.shape[0]), torch.arange(b.shape[0])
    inner = torch.vmap(lambda row, column: a[row] * b[column] + row, (None, 0))
    return torch.vmap(inner, (0, None))(rows, columns).cos()


@pytest.mark.parametrize("dynamic", [False, True])
def test_nested_vmaps_become_batched_ops(dynamic: bool) -> None:
    written_out(table, torch.randn(5), torch.randn(7), dynamic=dynamic)


def test_writes_inside_stay() -> None:
    def mark(index: Tensor) -> Tensor:
        row = index.new_zeros(4)
        row[index] = 1
        return row

    written_out(lambda x: torch.vmap(mark)(x) * 2, torch.tensor([2, 0, 3]))


def test_constants_inside_stay() -> None:
    written_out(lambda x: torch.vmap(lambda row: row * torch.tensor([1.0, 2.0, 3.0]))(x), torch.randn(4, 3))


def test_autocast_around_the_call_casts_inside() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        written_out(lambda x, y: torch.vmap(lambda row: row @ y)(x), torch.randn(3, 4, 4), torch.randn(4, 4))


def test_autocast_of_the_forward_is_refused() -> None:
    def forward(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.vmap(torch.sin)(x)

    gm, _ = seen_by_backend(forward, torch.randn(3, 4))
    with pytest.raises(Refused, match="vmap in a forward that turns autocast on"):
        without_vmap(gm)


def test_a_graph_without_vmap_is_left_alone() -> None:
    gm = fx.symbolic_trace(torch.nn.Linear(2, 2))
    assert without_vmap(gm) is gm


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", ["flex_attention", pytest.param("flex_attention, block mask", marks=pytest.mark.slow)])
def test_flex_attention_is_cached(name: str, dynamic: bool) -> None:
    model = CASES[name].model()
    fast = compiled(model, dynamic=dynamic, cycle=3)
    steps = [900.0, 880.0, 860.0, 840.0]
    same = [torch.equal(fast(**call), model(**call)) for call in calls(CASES[name].call, steps)]
    assert same == [True, False, False, True]


def test_flex_attention_under_autocast_is_cached() -> None:
    case = CASES["flex_attention"]
    model = case.model()
    fast = compiled(model, cycle=3)
    with torch.autocast("cpu", torch.bfloat16):
        plain = torch.compile(model, backend="eager")
        same = [torch.equal(fast(**call), plain(**call)) for call in calls(case.call, [900.0, 880.0, 860.0, 840.0])]
    assert same == [True, False, False, True]


def test_flops_of_flex_attention_are_those_of_dense_attention() -> None:
    size = (2, 2, 16, 8)
    q, k, v = torch.randn(size), torch.randn(size), torch.randn(size)

    def counted(attend: Any) -> int:
        gm, inputs = seen_by_backend(lambda q, k, v: attend(q, k, v).sin(), q, k, v)
        return sum(flops.count(flops.operations(capture(gm, inputs).gm)))

    assert (
        counted(flex_attention)
        == counted(torch.nn.functional.scaled_dot_product_attention)
        == 2 * 2 * 2 * 2 * 16 * 16 * 8
    )
