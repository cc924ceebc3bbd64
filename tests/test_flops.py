"""FLOPs counted without running a graph are those that torch counts in running it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode

from duca_compile import explain
from duca_compile.capture.capture import capture
from duca_compile.cost import flops
from duca_compile.cost.flops import Executed
from duca_compile.graph import ir
from helpers import Wrapped
from zoo.case import noise
from zoo.core import CORE, example_dit
from zoo.survey import executed


class Products(nn.Module):
    """Of every kind that has FLOPs, one of them three times."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.convolution = nn.Linear(8, 8), nn.Conv1d(8, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.linear(x).relu()
        x = torch.einsum("bnd,bmd->bnm", x, x) @ x
        x = nn.functional.scaled_dot_product_attention(x, x, x)
        return self.convolution(x.transpose(1, 2))


def counted(model: nn.Module, *args: Tensor, sizes: dict[int, int], dynamic: bool = False) -> int:
    """`sizes`: what the sizes of the capture are taken to be instead."""
    found: list[int] = []

    def collect(gm: Any, inputs: Any) -> Any:
        taken = capture(gm, inputs)
        symbols = {symbol: sizes[int(ir.value(node).node.hint)] for symbol, node in ir.symbols(taken.gm.graph).items()}
        found.append(sum(flops.count(flops.operations(taken.gm), symbols)))
        return gm.forward

    torch.compile(model, backend=collect, dynamic=dynamic, fullgraph=True)(*args)
    (only,) = found
    return only


def by_torch(model: nn.Module, *args: Tensor) -> int:
    with FlopCounterMode(display=False, custom_mapping=flops.MISSING_IN_TORCH) as counter:
        model(*args)
    return counter.get_total_flops()


def test_a_graph_costs_what_torch_counts() -> None:
    model = Products().eval()
    assert counted(model, noise(2, 6, 8), sizes={}) == by_torch(model, noise(2, 6, 8)) > 0


def test_symbolic_sizes_cost_what_they_are_at_the_call() -> None:
    model = Products().eval()
    got = counted(model, noise(3, 6, 8), sizes={3: 5, 6: 11}, dynamic=True)
    assert got == by_torch(model, noise(5, 11, 8))


def test_sizes_that_only_data_tells_are_unknown() -> None:
    def chosen(x: Tensor) -> Tensor:
        return x[x[:, 0] > 0] @ x.T

    with (
        torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True),
        pytest.raises(Exception, match="known only when"),
    ):
        counted(Wrapped(chosen), noise(4, 8), sizes={})


def test_what_runs_is_counted_and_compiled_all_the_same() -> None:
    model = Products().eval()
    fast = torch.compile(model, backend="eager")
    counters.clear()
    for inference in (False, True):
        with torch.inference_mode(inference), Executed() as counter:
            fast(noise(2, 6, 8))
        assert counter.flops == by_torch(model, noise(2, 6, 8))
    assert counters["stats"]["unique_graphs"] >= 1


def test_tensors_made_of_others_run_as_ever() -> None:
    nested = torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(3, 4)], layout=torch.jagged)
    with Executed() as counter:
        got = nn.functional.linear(nested, torch.ones(5, 4))
    assert got.values().tolist() == [[4.0] * 5] * 5
    assert counter.unknown


@pytest.mark.parametrize(
    ("a", "b", "products"),
    [
        ((6, 4), (2, 4, 8), 6 * 4 * 8),
        ((4, 6), (6, 8), 4 * 6 * 8),
        ((2, 4, 6), (6, 8), 4 * 6 * 8),
        ((2, 4, 6), (2, 6, 8), 2 * 4 * 6 * 8),
    ],
)
def test_grouped_products(a: tuple[int, ...], b: tuple[int, ...], products: int) -> None:
    """By hand: each row, column or part of a sum is multiplied in its own group alone."""
    assert flops._grouped_product(a, b) == 2 * products


def test_a_step_of_one_graph_executes_what_explain_counts() -> None:
    """So the figures of the zoo, which are of executed steps, are those of `explain` where nothing runs outside."""
    model, call = example_dit(), CORE["example DiT"].call
    (graph,) = explain(model, **call(900.0), duca_options={"method": "duca"}).graphs
    torch._dynamo.reset()
    assert executed(model, call) == graph.flops
