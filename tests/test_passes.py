"""Each pass: the graph before and after, how often it applied, why it did not, and that the numbers hold."""

from typing import Any

import pytest
import torch
from expecttest import assert_expected_inline
from torch import fx

from duca_compile.graph import ir
from duca_compile.methods.duca import Mode
from duca_compile.passes import rewrite
from duca_compile.passes.base import Pass, PassResult
from duca_compile.passes.cut_stream import CutStream
from duca_compile.passes.declare_inputs import DeclareInputs
from duca_compile.passes.drop_dead_code import DropDeadCode
from duca_compile.passes.narrow_linears import NarrowLinears
from duca_compile.passes.recompute_tokens import RecomputeTokens
from duca_compile.passes.reuse_features import ReuseFeatures
from duca_compile.passes.spec import SpecError, check
from duca_compile.passes.store_values import StoreValues, _is_cut
from duca_compile.refusal import Refusal
from graphs import Drawing
from helpers import Captured, captured, captured_core, concrete_inputs
from tiny import Tiny, tiny_call

aten = torch.ops.aten
F, C, A = Mode


def tiny(**options: Any) -> Captured:
    torch.manual_seed(0)
    return captured(Tiny().eval(), *tiny_call(), options=options)


def after(found: Captured, mode: str, *passes: Pass) -> tuple[str, list[PassResult], fx.GraphModule]:
    """The IR without the weights' inputs, after the passes of a step."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(found.capture.gm.graph, {}))
    gm = fx.GraphModule(found.capture.gm, graph)
    results = [each.run(gm, found.plan.steps[mode]) for each in passes]
    gm.recompile()
    check(gm, "the test")
    return ir.render(gm.graph, only=lambda node: node.name not in found.capture.state), results, gm


def test_the_captured_graph() -> None:
    text, _, _ = after(tiny(), F)
    assert_expected_inline(
        text,
        """\
%arg0_1: f32[1] = input
%arg2_1: f32[1, 10, 2] = input
%unsqueeze: f32[1, 1] = unsqueeze.default(%arg0_1, 1)
%sin: f32[1, 1] = sin.default(%unsqueeze)
%linear: f32[1, 2] = linear.default(%sin, %arg1_1)
%unsqueeze_1: f32[1, 1, 2] = unsqueeze.default(%linear, 1)
%transpose: f32[1, 2, 10] = transpose.int(%arg2_1, 1, 2)
%linear_1: f32[1, 2, 10] = linear.default(%transpose, %arg3_1)
%transpose_1: f32[1, 10, 2] = transpose.int(%linear_1, 1, 2)
%mul: f32[1, 10, 2] = mul.Tensor(%unsqueeze_1, %transpose_1)
%add: f32[1, 10, 2] = add.Tensor(%arg2_1, %mul)
%linear_2: f32[1, 10, 2] = linear.default(%add, %arg4_1)
%relu: f32[1, 10, 2] = relu.default(%linear_2)
%mul_1: f32[1, 10, 2] = mul.Tensor(%unsqueeze_1, %relu)
%add_1: f32[1, 10, 2] = add.Tensor(%add, %mul_1)
%linear_3: f32[1, 10, 2] = linear.default(%add_1, %arg5_1)
return [%linear_3]""",
    )


def test_store_values_returns_features_and_stream() -> None:
    text, (result,), _ = after(tiny(), F, StoreValues())
    assert result == PassResult(3)
    assert_expected_inline(
        last_lines(text, 3),
        """\
%linear_3: f32[1, 10, 2] = linear.default(%add_1, %arg5_1)
%clone_default: f32[1, 10, 2] = clone.default(%transpose_1, memory_format=torch.contiguous_format)
return [%linear_3, %clone_default, %relu, %add_1]""",
    )


def test_store_values_copies_what_shares_memory_with_a_result() -> None:
    class Returns(Tiny):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> Any:
            gate = self.clock(t[:, None].sin())[:, None]
            feature = self.mlp(x)
            return self.leave(x + gate * feature), feature

    found = captured(Returns().eval(), *tiny_call(), options={"order": "conservative"})
    full = rewrite(found.capture.gm, found.plan.steps[Mode.FULL])[0]
    results = full(*[torch.randn(node.meta["val"].shape) for node in ir.placeholders(found.capture.gm.graph)])
    pointers = [tensor.data_ptr() for tensor in results]
    assert len(set(pointers)) == len(pointers) == 3


def test_a_full_step_of_flux_copies_nothing_it_stores_but_the_image() -> None:
    """Attention is kept where its heads lie in a row, and of the last stream what the final layer reads."""
    found = captured_core("FLUX")
    full, _ = rewrite(found.capture.gm, found.plan.steps[F])
    results: Any = full.graph.output_node().args[0]
    made = [(slot.value, node.name) for slot, node in zip(found.plan.slots, results[1:], strict=True)]
    assert {name for name, _ in made if "linear" not in name} == {"permute_11", "permute_15", "permute_19", "slice_9"}
    assert [pair for pair in made if pair[0] != pair[1]] == [("slice_9", "clone_default")]
    text = ir.render(full.graph, only=lambda node: node.name in ("clone_default", "layer_norm_11"))
    assert_expected_inline(
        text,
        """\
%clone_default: f32[2, 16, 32] = clone.default(%slice_9, memory_format=torch.contiguous_format)
%layer_norm_11: f32[2, 16, 32] = layer_norm.default(%clone_default, [32], None, None, 1e-06)""",
    )
    inputs = concrete_inputs(found)
    want, got = found.capture.gm(*inputs), full(*inputs)
    assert torch.equal(want[0], got[0])
    assert not {each.untyped_storage().data_ptr() for each in got[1:]} & {got[0].untyped_storage().data_ptr()}
    assert [each.untyped_storage().nbytes() for each in got] == [each.nbytes for each in got]


def test_a_slice_that_a_product_reads_stays_where_it_lies() -> None:
    """Of rows that lie otherwise a product may round otherwise, and a full step is the plain model's bit for bit."""
    drawn = Drawing()
    part = drawn.call(aten.slice.Tensor, drawn.x, 1, 2, 8, size=(2, 6, 4))
    drawn.call(aten.gelu.default, part, size=(2, 6, 4))
    assert _is_cut(part)
    drawn.linear(part)
    assert not _is_cut(part)


def test_declare_inputs_adds_caches_then_indices() -> None:
    text, (result,), gm = after(tiny(), C, DeclareInputs())
    assert result == PassResult(3)
    assert [node.name for node in ir.placeholders(gm.graph)][-3:] == [
        "cache_transpose_1",
        "cache_relu",
        "selected_for_branch_1",
    ]
    assert_expected_inline(
        "\n".join(line for line in text.splitlines() if "input" in line),
        """\
%arg0_1: f32[1] = input
%arg2_1: f32[1, 10, 2] = input
%cache_transpose_1: f32[1, 10, 2] = input
%cache_relu: f32[1, 10, 2] = input
%selected_for_branch_1: i64[1] = input""",
    )


def test_reuse_features_replaces_the_feature_and_nothing_else() -> None:
    text, (_, result), _ = after(tiny(), C, DeclareInputs(), ReuseFeatures())
    assert result == PassResult(1)
    assert_expected_inline(
        text,
        """\
%arg0_1: f32[1] = input
%arg2_1: f32[1, 10, 2] = input
%cache_transpose_1: f32[1, 10, 2] = input
%cache_relu: f32[1, 10, 2] = input
%selected_for_branch_1: i64[1] = input
%unsqueeze: f32[1, 1] = unsqueeze.default(%arg0_1, 1)
%sin: f32[1, 1] = sin.default(%unsqueeze)
%linear: f32[1, 2] = linear.default(%sin, %arg1_1)
%unsqueeze_1: f32[1, 1, 2] = unsqueeze.default(%linear, 1)
%transpose: f32[1, 2, 10] = transpose.int(%arg2_1, 1, 2)
%linear_1: f32[1, 2, 10] = linear.default(%transpose, %arg3_1)
%transpose_1: f32[1, 10, 2] = transpose.int(%linear_1, 1, 2)
%mul: f32[1, 10, 2] = mul.Tensor(%unsqueeze_1, %cache_transpose_1)
%add: f32[1, 10, 2] = add.Tensor(%arg2_1, %mul)
%linear_2: f32[1, 10, 2] = linear.default(%add, %arg4_1)
%relu: f32[1, 10, 2] = relu.default(%linear_2)
%mul_1: f32[1, 10, 2] = mul.Tensor(%unsqueeze_1, %relu)
%add_1: f32[1, 10, 2] = add.Tensor(%add, %mul_1)
%linear_3: f32[1, 10, 2] = linear.default(%add_1, %arg5_1)
return [%linear_3]""",
    )


def test_recompute_tokens_gathers_computes_and_writes_back() -> None:
    text, (_, result), _ = after(tiny(), C, DeclareInputs(), RecomputeTokens())
    assert result == PassResult(1, (Refusal("add", "linear mixes tokens on every path"),))
    assert_expected_inline(
        text,
        """\
%arg0_1: f32[1] = input
%arg2_1: f32[1, 10, 2] = input
%cache_transpose_1: f32[1, 10, 2] = input
%cache_relu: f32[1, 10, 2] = input
%selected_for_branch_1: i64[1] = input
%unsqueeze: f32[1, 1] = unsqueeze.default(%arg0_1, 1)
%sin: f32[1, 1] = sin.default(%unsqueeze)
%linear: f32[1, 2] = linear.default(%sin, %arg1_1)
%unsqueeze_1: f32[1, 1, 2] = unsqueeze.default(%linear, 1)
%transpose: f32[1, 2, 10] = transpose.int(%arg2_1, 1, 2)
%linear_1: f32[1, 2, 10] = linear.default(%transpose, %arg3_1)
%transpose_1: f32[1, 10, 2] = transpose.int(%linear_1, 1, 2)
%mul: f32[1, 10, 2] = mul.Tensor(%unsqueeze_1, %transpose_1)
%add: f32[1, 10, 2] = add.Tensor(%arg2_1, %mul)
%linear_2: f32[1, 10, 2] = linear.default(%add, %arg4_1)
%relu: f32[1, 10, 2] = relu.default(%linear_2)
%index_select_default: f32[1, 1, 2] = index_select.default(%add, 1, %selected_for_branch_1)
%linear_default: f32[1, 1, 2] = linear.default(%index_select_default, %arg4_1)
%relu_default: f32[1, 1, 2] = relu.default(%linear_default)
%fresh_relu: f32[1, 10, 2] = index_copy_.default(%cache_relu, 1, %selected_for_branch_1, %relu_default)
%mul_1: f32[1, 10, 2] = mul.Tensor(%unsqueeze_1, %fresh_relu)
%add_1: f32[1, 10, 2] = add.Tensor(%add, %mul_1)
%linear_3: f32[1, 10, 2] = linear.default(%add_1, %arg5_1)
return [%linear_3]""",
    )


def test_recompute_tokens_refuses_where_no_token_is_fresh() -> None:
    found = tiny(cache_ratio=0.95)
    _, (_, result), _ = after(found, C, DeclareInputs(), RecomputeTokens())
    assert result.count == 0
    assert ("add_1", "no token is recomputed at this cache ratio") in result.refusals


def test_recompute_tokens_moves_only_the_selected_tokens() -> None:
    found = tiny(cache_ratio=0.7)
    gm = rewrite(found.capture.gm, found.plan.steps[Mode.CONSERVATIVE])[0]
    values = [torch.randn(node.meta["val"].shape) for node in ir.placeholders(found.capture.gm.graph)]
    mixed, mlp, chosen = torch.randn(1, 10, 2), torch.randn(1, 10, 2), torch.tensor([1, 4, 7])
    written = mlp.clone()
    gm(*values, mixed, written, chosen)
    moved = (written != mlp).any(dim=2)[0].nonzero().flatten().tolist()
    assert set(moved) <= {1, 4, 7}
    assert moved


def test_cut_stream_feeds_the_final_layer_from_the_cache() -> None:
    text, results, _ = after(tiny(), A, DeclareInputs(), CutStream(), DropDeadCode())
    assert results[1] == PassResult(1)
    assert_expected_inline(
        text,
        """\
%arg0_1: f32[1] = input
%arg2_1: f32[1, 10, 2] = input
%cache_add_1: f32[1, 10, 2] = input
%linear_3: f32[1, 10, 2] = linear.default(%cache_add_1, %arg5_1)
return [%linear_3]""",
    )


def test_drop_dead_code_keeps_writes_and_inputs() -> None:
    found = tiny()
    before, _, _ = after(found, C, DeclareInputs(), RecomputeTokens(), ReuseFeatures())
    text, results, gm = after(found, C, DeclareInputs(), RecomputeTokens(), ReuseFeatures(), DropDeadCode())
    assert results[-1].count == len(before.splitlines()) - len(text.splitlines())
    assert sum(node.target is aten.index_copy_.default for node in gm.graph.nodes) == 1
    assert_expected_inline(
        text,
        """\
%arg0_1: f32[1] = input
%arg2_1: f32[1, 10, 2] = input
%cache_transpose_1: f32[1, 10, 2] = input
%cache_relu: f32[1, 10, 2] = input
%selected_for_branch_1: i64[1] = input
%unsqueeze: f32[1, 1] = unsqueeze.default(%arg0_1, 1)
%sin: f32[1, 1] = sin.default(%unsqueeze)
%linear: f32[1, 2] = linear.default(%sin, %arg1_1)
%unsqueeze_1: f32[1, 1, 2] = unsqueeze.default(%linear, 1)
%mul: f32[1, 10, 2] = mul.Tensor(%unsqueeze_1, %cache_transpose_1)
%add: f32[1, 10, 2] = add.Tensor(%arg2_1, %mul)
%index_select_default: f32[1, 1, 2] = index_select.default(%add, 1, %selected_for_branch_1)
%linear_default: f32[1, 1, 2] = linear.default(%index_select_default, %arg4_1)
%relu_default: f32[1, 1, 2] = relu.default(%linear_default)
%fresh_relu: f32[1, 10, 2] = index_copy_.default(%cache_relu, 1, %selected_for_branch_1, %relu_default)
%mul_1: f32[1, 10, 2] = mul.Tensor(%unsqueeze_1, %fresh_relu)
%add_1: f32[1, 10, 2] = add.Tensor(%add, %mul_1)
%linear_3: f32[1, 10, 2] = linear.default(%add_1, %arg5_1)
return [%linear_3]""",
    )
    assert DropDeadCode().run(gm, found.plan.steps[Mode.CONSERVATIVE]) == PassResult(0)


class Modulated(Tiny):
    """One linear layer makes shift, scale and gate of both branches."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = torch.nn.Linear(1, 12)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.clock(t[:, None].sin())[:, None].chunk(6, -1)
        x = x + gate1 * self.mix((x * scale1 + shift1).transpose(1, 2)).transpose(1, 2)
        x = x + gate2 * self.mlp(x * scale2 + shift2).relu()
        return self.leave(x)


def test_narrow_linears_drops_the_rows_nobody_reads() -> None:
    torch.manual_seed(0)
    found = captured(Modulated().eval(), *tiny_call())
    before = DeclareInputs(), RecomputeTokens(), ReuseFeatures(), DropDeadCode()
    _, _, wide = after(found, C, *before)
    text, results, narrow = after(found, C, *before, NarrowLinears(), DropDeadCode())
    assert results[-2].count == 1
    assert_expected_inline(
        "\n".join(line for line in text.splitlines() if "slice" in line or "unsq" in line),
        """\
%unsqueeze: f32[1, 1] = unsqueeze.default(%arg0_1, 1)
%sin: f32[1, 1] = sin.default(%unsqueeze)
%slice_tensor: f32[8, 1] = slice.Tensor(%arg1_1, 0, 4, 12)
%slice_tensor_1: f32[8] = slice.Tensor(%arg2_1, 0, 4, 12)
%linear_default_1: f32[1, 8] = linear.default(%sin, %slice_tensor, %slice_tensor_1)
%unsqueeze_default: f32[1, 1, 8] = unsqueeze.default(%linear_default_1, 1)
%slice_tensor_2: f32[1, 1, 2] = slice.Tensor(%unsqueeze_default, -1, 0, 2)
%slice_tensor_3: f32[1, 1, 2] = slice.Tensor(%unsqueeze_default, -1, 2, 4)
%slice_tensor_4: f32[1, 1, 2] = slice.Tensor(%unsqueeze_default, -1, 4, 6)
%slice_tensor_5: f32[1, 1, 2] = slice.Tensor(%unsqueeze_default, -1, 6, 8)
%mul_1: f32[1, 10, 2] = mul.Tensor(%slice_tensor_2, %cache_transpose_1)
%mul_tensor: f32[1, 1, 2] = mul.Tensor(%index_select_default, %slice_tensor_4)
%add_tensor: f32[1, 1, 2] = add.Tensor(%mul_tensor, %slice_tensor_3)
%mul_3: f32[1, 10, 2] = mul.Tensor(%slice_tensor_5, %fresh_relu)""",
    )
    values = [torch.randn(node.meta["val"].shape) for node in ir.placeholders(found.capture.gm.graph)]
    extra = [torch.randn(1, 10, 2), torch.randn(1, 10, 2)]
    torch.testing.assert_close(
        narrow(*values, extra[0], extra[1].clone(), torch.tensor([3])),
        wide(*values, extra[0], extra[1].clone(), torch.tensor([3])),
    )


def test_narrow_linears_leaves_alone_what_is_read_whole() -> None:
    found = tiny()
    _, results, _ = after(found, C, NarrowLinears())
    assert results[0].count == 0


def test_the_spec_rejects_a_write_to_an_argument() -> None:
    _, _, gm = after(tiny(), F)
    x = next(node for node in ir.placeholders(gm.graph) if node.meta["argument"] == "x")
    output = ir.output_node(gm.graph)
    with gm.graph.inserting_before(output):
        write = gm.graph.call_function(aten.relu_.default, (x,))
    write.meta["val"] = x.meta["val"]
    with pytest.raises(SpecError, match=r"only caches and inputs may be written to\n(.|\n)*relu_"):
        check(gm, "the test")


def test_the_spec_rejects_a_value_without_a_shape() -> None:
    _, _, gm = after(tiny(), F)
    next(node for node in gm.graph.nodes if node.op == "call_function").meta.pop("val")
    with pytest.raises(SpecError, match="no shape is known"):
        check(gm, "the test")


def last_lines(text: str, count: int) -> str:
    return "\n".join(text.splitlines()[-count:])
