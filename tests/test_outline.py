"""Equal blocks become one subgraph, called once for each: what is found, what is not, and that the numbers hold."""

import operator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from expecttest import assert_expected_inline
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from duca_compile.graph import ir
from duca_compile.graph.repeats import find_repeats
from duca_compile.methods.duca import Mode
from duca_compile.passes import lower, rewrite
from duca_compile.passes.hoist_slices import HoistSlices
from duca_compile.passes.outline_blocks import OutlineBlocks
from duca_compile.passes.straighten_streams import StraightenStreams
from duca_compile.torch_private import invoke_subgraph
from helpers import Captured, captured, captured_core
from zoo.case import noise
from zoo.core import example_dit

CALL = (noise(2, 1, 8, 8), torch.full((2,), 900.0), torch.tensor([1, 2]))


class Blocks(nn.Module):
    """An MLP a block, each with a row of a table of gates, or all with the same; the stream itself is the result."""

    def __init__(self, depth: int = 3, table: bool = False, convolution: bool = False) -> None:
        super().__init__()
        self.clock = nn.Linear(1, 4 * depth if table else 4)
        self.mlps = nn.ModuleList(nn.Linear(4, 4) for _ in range(depth))
        self.table = table
        self.embed = nn.Conv1d(4, 4, 1) if convolution else None

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.embed is not None:
            x = self.embed(x.transpose(1, 2)).transpose(1, 2)
        gates = self.clock(t[:, None].sin()).unflatten(1, (-1, 4))
        for at, mlp in enumerate(self.mlps):
            x = x + gates[:, at if self.table else 0, None] * mlp(x).relu()
        return x


def blocks(cache_ratio: float = 0.9, **given: Any) -> Captured:
    torch.manual_seed(0)
    options = {"cache_ratio": cache_ratio}
    return captured(Blocks(**given).eval(), noise(1, 6, 4), torch.full((1,), 0.5), options=options)


def calls(gm: fx.GraphModule) -> list[str]:
    return [str(node.args[1]) for node in gm.graph.nodes if node.target is invoke_subgraph]


def region(gm: fx.GraphModule) -> fx.Graph:
    """Of the only subgraph."""
    inner = gm.get_submodule("region_0")
    assert isinstance(inner, fx.GraphModule)
    return inner.graph


def outlined(found: Captured, mode: Mode) -> tuple[fx.GraphModule, dict[str, Any]]:
    return lower(rewrite(found.capture.gm, found.plan.steps[mode])[0], found.plan.steps[mode])


def test_a_full_step_calls_one_block_for_all() -> None:
    found = blocks()
    gm, results = outlined(found, Mode.FULL)
    assert results["OutlineBlocks"].count == 1
    assert_expected_inline(
        ir.render(gm.graph, only=lambda node: node.name not in found.capture.state),
        """\
%arg0_1: f32[1] = input
%arg5_1: f32[1, 6, 4] = input
%unsqueeze: f32[1, 1] = unsqueeze.default(%arg0_1, 1)
%sin: f32[1, 1] = sin.default(%unsqueeze)
%linear: f32[1, 4] = linear.default(%sin, %arg1_1, %arg2_1)
%view: f32[1, 1, 4] = reshape.default(%linear, [1, 1, 4])
%region_0: NoneType = region_0()
%invoke_subgraph: tuple = invoke_subgraph(%region_0, region_0, %view, %arg5_1, %arg3_1, %arg4_1)
%getitem: f32[1, 6, 4] = getitem(%invoke_subgraph, 0)
%getitem_1: f32[1, 6, 4] = getitem(%invoke_subgraph, 1)
%invoke_subgraph_1: tuple = invoke_subgraph(%region_0, region_0, %view, %getitem_1, %arg6_1, %arg7_1)
%getitem_2: f32[1, 6, 4] = getitem(%invoke_subgraph_1, 0)
%getitem_3: f32[1, 6, 4] = getitem(%invoke_subgraph_1, 1)
%invoke_subgraph_2: tuple = invoke_subgraph(%region_0, region_0, %view, %getitem_3, %arg8_1, %arg9_1)
%getitem_4: f32[1, 6, 4] = getitem(%invoke_subgraph_2, 0)
%getitem_5: f32[1, 6, 4] = getitem(%invoke_subgraph_2, 1)
%clone_default: f32[1, 6, 4] = clone.default(%getitem_5, memory_format=torch.contiguous_format)
return [%getitem_5, %getitem, %getitem_2, %getitem_4, %clone_default]""",
    )
    assert_expected_inline(
        ir.render(region(gm)),
        """\
%input_0: f32[1, 1, 4] = input
%input_1: f32[1, 6, 4] = input
%input_2: f32[4, 4] = input
%input_3: f32[4] = input
%select: f32[1, 4] = select.int(%input_0, 1, 0)
%unsqueeze_1: f32[1, 1, 4] = unsqueeze.default(%select, 1)
%linear_1: f32[1, 6, 4] = linear.default(%input_1, %input_2, %input_3)
%relu: f32[1, 6, 4] = relu.default(%linear_1)
%mul: f32[1, 6, 4] = mul.Tensor(%unsqueeze_1, %relu)
%add: f32[1, 6, 4] = add.Tensor(%input_1, %mul)
return [%relu, %add]""",
    )


def test_a_conservative_step_is_cut_where_it_writes_to_a_cache() -> None:
    found = blocks(depth=4, cache_ratio=0.5)
    gm, _ = outlined(found, Mode.CONSERVATIVE)
    assert calls(gm) == ["region_0"] * 3
    writes = [node.target is torch.ops.aten.index_copy_.default for node in gm.graph.nodes]
    assert sum(writes) == 4, "none of them is inside of a block"


@pytest.mark.parametrize(("outline", "count"), [(None, 0), (False, 0), (True, 3)])
def test_on_a_gpu_blocks_are_outlined_only_if_asked(outline: bool | None, count: int) -> None:
    found = blocks()
    gm = rewrite(found.capture.gm, found.plan.steps[Mode.FULL])[0]
    step = replace(found.plan.steps[Mode.FULL], options=replace(found.plan.options, outline=outline))
    assert len(calls(lower(gm, step)[0])) == (0 if outline is False else 3)
    with FakeTensorMode():
        for node in gm.graph.nodes:
            if isinstance(ir.value(node), Tensor):
                node.meta["val"] = torch.empty_strided(*ir.form(ir.value(node)), device="cuda")
    assert len(calls(lower(gm, step)[0])) == count


def test_an_aggressive_step_has_nothing_to_outline() -> None:
    gm, results = outlined(blocks(), Mode.AGGRESSIVE)
    assert calls(gm) == []
    assert results["OutlineBlocks"].count == 0


def test_a_subgraph_returns_no_view() -> None:
    """Inductor of torch 2.13 reads a result that is a view with an offset at twice that offset."""
    found = captured(example_dit(), *CALL, options={"cache_ratio": 0.5})
    gm, _ = outlined(found, Mode.CONSERVATIVE)
    assert calls(gm)
    returned = ir.output_node(region(gm)).all_input_nodes
    assert [ir.owner(node) for node in returned] == returned
    crossing = [node for node in gm.graph.nodes if node.target is torch.ops.aten.split.Tensor]
    assert crossing, "the gate, a slice of what the subgraph returns, is cut outside of it"


@pytest.mark.parametrize(("name", "full"), [("FLUX", 5), ("PixArt", 3), ("Latte", 0), ("SD3", 2)])
def test_each_distinct_block_is_there_once(name: str, full: int) -> None:
    """FLUX has two kinds of blocks, the last of SD3 lacks half, and Latte has one over space and one over time here."""
    found = captured_core(name)
    gm, results = outlined(found, Mode.FULL)
    assert len(calls(gm)) == full
    assert len(set(calls(gm))) == results["OutlineBlocks"].count == {"FLUX": 2, "Latte": 0}.get(name, 1)


def test_blocks_that_read_rows_of_one_table_are_equal() -> None:
    found = blocks(table=True)
    gm = rewrite(found.capture.gm, found.plan.steps[Mode.FULL])[0]
    assert HoistSlices().run(ir.copied(gm), found.plan.steps[Mode.FULL]).count == 3
    assert len(calls(lower(gm, found.plan.steps[Mode.FULL])[0])) == 3
    assert OutlineBlocks().run(ir.copied(gm), found.plan.steps[Mode.FULL]).count == 0, (
        "without hoisting, no two are equal"
    )


def test_a_stream_of_transposed_patches_is_straightened_and_results_keep_their_layout() -> None:
    found = blocks(convolution=True)
    flat = rewrite(found.capture.gm, found.plan.steps[Mode.FULL])[0]
    gm, results = lower(flat, found.plan.steps[Mode.FULL])
    assert results["StraightenStreams"].count == 1
    assert len(calls(gm)) == 3
    values = [torch.randn(node.meta["val"].shape) for node in ir.placeholders(flat.graph)]
    want, have = flat(*values), gm(*values)
    assert want[0].stride() == have[0].stride() == (24, 1, 6)
    assert all(torch.allclose(a, b) for a, b in zip(want, have, strict=True))


def test_a_block_over_values_in_another_order_stays() -> None:
    found = blocks(convolution=True)
    result = OutlineBlocks().run(rewrite(found.capture.gm, found.plan.steps[Mode.FULL])[0], found.plan.steps[Mode.FULL])
    assert result.count == 0
    assert [reason.split(", ", 1)[1] for _, reason in result.refusals] == [
        "which it reads, is laid out in another order"
    ]


def test_straight_streams_stay_as_they_are() -> None:
    found = blocks()
    assert StraightenStreams().run(ir.copied(found.capture.gm), found.plan.steps[Mode.FULL]).count == 0


def test_symbolic_sizes_stay() -> None:
    model = Blocks().eval()
    x, t = noise(1, 6, 4), torch.full((1,), 0.5)
    torch._dynamo.mark_dynamic(x, 1)
    found = captured(model, x, t)
    assert OutlineBlocks().run(found.capture.gm, found.plan.steps[Mode.FULL]).refusals == (
        ("graph", "its sizes are symbolic"),
    )


def test_streams_of_symbolic_sizes_are_not_straightened_for_nothing() -> None:
    model = Blocks(convolution=True).eval()
    x, t = noise(1, 6, 4), torch.full((1,), 0.5)
    torch._dynamo.mark_dynamic(x, 1)
    found = captured(model, x, t)
    flat = rewrite(found.capture.gm, found.plan.steps[Mode.FULL])[0]
    gm, results = lower(flat, found.plan.steps[Mode.FULL])
    assert results["StraightenStreams"].refusals == (("graph", "its sizes are symbolic"),)
    assert ir.render(gm.graph) == ir.render(flat.graph)


TOKENS = st.lists(st.integers(0, 3), max_size=6)


@given(before=TOKENS, unit=st.lists(st.integers(0, 3), min_size=1, max_size=6), count=st.integers(2, 5), after=TOKENS)
def test_what_repeats_is_found(before: list[int], unit: list[int], count: int, after: list[int]) -> None:
    tokens = before + unit * count + after
    found = find_repeats(tokens)
    assert max(repeat.saved for repeat in found) >= len(unit) * (count - 1)
    for repeat in found:
        assert repeat.saved > 0
        for at in range(repeat.start, repeat.stop - repeat.period):
            assert tokens[at] == tokens[at + repeat.period]
    assert all(one.stop <= other.start for one, other in pairwise(found))


def test_a_block_that_takes_a_piece_of_a_list_stays() -> None:
    class Pieces(Blocks):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            gates = self.clock(t[:, None].sin())[:, None].split(2, dim=-1)
            for mlp in self.mlps:
                x = x + torch.cat([gates[1], gates[0]], dim=-1) * mlp(x).relu()
            return x

    torch.manual_seed(0)
    found = captured(Pieces().eval(), noise(1, 6, 4), torch.full((1,), 0.5))
    gm = rewrite(found.capture.gm, found.plan.steps[Mode.FULL])[0]
    assert len(calls(lower(gm, found.plan.steps[Mode.FULL])[0])) == 3
    for piece in gm.graph.find_nodes(op="call_function", target=operator.getitem):
        for user in list(piece.users):
            with gm.graph.inserting_before(user):
                user.replace_input_with(piece, gm.graph.node_copy(piece))
    lowered, results = lower(gm, found.plan.steps[Mode.FULL])
    assert calls(lowered) == []
    assert [reason for _, reason in results["OutlineBlocks"].refusals] == ["%split, which it reads, is no tensor"]
