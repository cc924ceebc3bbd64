"""Products of rows with quantised weights: their tokens and FLOPs, by torch's ops and by those of libraries."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import duca_compile
from duca_compile.analysis.token_rules import Place, rule
from duca_compile.cost.flops import Executed, count, operations
from duca_compile.graph import op_sets
from duca_compile.graph.emit import emit
from helpers import captured
from zoo.case import noise
from zoo.core import example_dit

aten = torch.ops.aten
ROWS, INNER, COLUMNS = 6, 32, 64
PRODUCT = 2 * ROWS * INNER * COLUMNS
NAME = "quantised_products.gemm_4bit"
X, T, Y = noise(2, 1, 8, 8), torch.full((2,), 900.0), torch.tensor([1, 2])


@torch.library.custom_op("quantised_products::gemm_4bit", mutates_args=())
def gemm_4bit(A: Tensor, B: Tensor, shapeB: list[int], bias: Tensor | None = None) -> Tensor:
    return nn.functional.linear(A, B.view(shapeB).to(A.dtype) / 64, bias)


@gemm_4bit.register_fake
def _(A: Tensor, B: Tensor, shapeB: list[int], bias: Tensor | None = None) -> Tensor:
    return A.new_empty((*A.shape[:-1], shapeB[0]))


class Gemm(nn.Module):
    packed: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("packed", (layer.weight.detach() * 64).to(torch.int8).view(-1, 1))
        self.size, self.bias = list(layer.weight.shape), layer.bias

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = gemm_4bit(x, self.packed, self.size, self.bias)
        return result


def in_blocks() -> nn.Module:
    """A model whose MLPs are products of a library."""
    model = example_dit()
    for block in model.get_submodule("blocks").children():
        mlp = block.get_submodule("mlp")
        for name, layer in list(mlp.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(mlp, name, Gemm(layer))
    return model.requires_grad_(False)


@pytest.fixture
def is_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    op_sets.PRODUCTS_BY_NAME.add(NAME)
    yield
    op_sets.PRODUCTS_BY_NAME.remove(NAME)


def test_a_product_of_a_library_is_recomputed_token_by_token_and_counted(is_known: None) -> None:
    model, plain = in_blocks(), example_dit()
    found, same = captured(model, X, T, Y), captured(plain, X, T, Y)
    assert found.plan.steps["conservative"].actions == same.plan.steps["conservative"].actions
    (report,), (other,) = (duca_compile.explain(each, X, T, Y).graphs for each in (model, plain))
    assert report.flops == other.flops


def test_one_that_is_not_known_mixes_tokens() -> None:
    model, plain = in_blocks(), example_dit()
    found, same = captured(model, X, T, Y), captured(plain, X, T, Y)
    assert found.plan.steps["conservative"].actions != same.plan.steps["conservative"].actions


CALLS: dict[str, tuple[Any, ...]] = {
    "int": (
        aten._int_mm.default,
        torch.ones(ROWS, INNER, dtype=torch.int8),
        torch.ones(INNER, COLUMNS, dtype=torch.int8),
    ),
    "8 bits": (
        aten._weight_int8pack_mm.default,
        torch.ones(ROWS, INNER),
        torch.ones(COLUMNS, INNER, dtype=torch.int8),
        torch.ones(COLUMNS),
    ),
    "4 bits": (
        aten._weight_int4pack_mm_for_cpu.default,
        torch.ones(ROWS, INNER),
        torch.ones(COLUMNS, INNER // 2, dtype=torch.uint8),
        INNER,
        torch.ones(1, COLUMNS, 2),
    ),
    "scaled": (
        aten._scaled_mm.default,
        torch.ones(ROWS, INNER).to(torch.float8_e4m3fn),
        torch.ones(COLUMNS, INNER).to(torch.float8_e4m3fn).t(),
        torch.ones(()),
        torch.ones(()),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_their_flops_are_those_of_a_product(name: str) -> None:
    op, *args = CALLS[name]
    assert count(operations(graph_of(op, args)[0])) == (PRODUCT, 0)
    with Executed() as executed:
        op(*args)
    assert executed.flops == PRODUCT


@pytest.mark.parametrize("name", CALLS)
def test_rows_are_tokens_and_columns_are_none_that_are_recomputed(name: str) -> None:
    op, *args = CALLS[name]
    _, node = graph_of(op, args)
    assert rule(node, Place(0, ROWS)) == {node.args[0]: Place(0, ROWS)}
    columns = rule(node, Place(1, COLUMNS))
    assert columns is None or node.args[0] not in columns


def test_a_scale_of_all_tokens_mixes_them_and_one_for_each_does_not() -> None:
    rows = torch.ones(ROWS, INNER)
    _, of_all = graph_of(aten.amax.default, [rows, [0, 1], True])
    _, of_each = graph_of(aten.amax.default, [rows, [1], True])
    assert rule(of_all, Place(0, 1)) is None
    assert rule(of_each, Place(0, ROWS)) == {of_each.args[0]: Place(0, ROWS)}


def graph_of(op: Any, args: list[Any]) -> tuple[fx.GraphModule, fx.Node]:
    graph, given = fx.Graph(), []
    for at, arg in enumerate(args):
        given.append(graph.placeholder(f"operand_{at}") if isinstance(arg, Tensor) else arg)
        if isinstance(arg, Tensor):
            given[-1].meta["val"] = arg
    node = emit(graph, op, given)
    graph.output((node,))
    return fx.GraphModule(nn.Module(), graph), node
