"""Fails clearly when torch changes a private API that we lean on."""

from typing import Any

import torch
from torch import Tensor, nn

from duca_compile import ir, torch_private


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("shift", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x) + self.shift
        y += 1
        return torch.nn.functional.scaled_dot_product_attention(y, y, y)


def seen_by_backend(model: Any, *args: Any) -> tuple[Any, Any, Any]:
    found: list[Any] = []

    def collect(gm: Any, inputs: Any) -> Any:
        found.append((gm, inputs, torch_private.frame_module()))
        return gm.forward

    torch.compile(model, backend=collect)(*args)
    (only,) = found
    return only


def test_export_is_functional_pre_dispatch_aten() -> None:
    gm, inputs, _ = seen_by_backend(Small().eval(), torch.randn(2, 3, 4))
    exported, lifted, mutates = torch_private.export_functional(gm, inputs)
    packets = [str(ir.packet(node)) for node in exported.graph.nodes if node.op == "call_function"]
    assert "aten.linear" in packets
    assert "aten.scaled_dot_product_attention" in packets
    assert not any(packet.endswith("_") for packet in packets)
    assert (lifted, mutates) == ([], False)


def test_parameters_and_buffers_are_told_from_arguments() -> None:
    state: list[bool] = []

    def collect(gm: Any, inputs: Any) -> Any:
        state.extend(torch_private.is_module_state(node) for node in ir.placeholders(gm.graph))
        return gm.forward

    torch.compile(Small().eval(), backend=collect)(torch.randn(2, 3, 4))
    assert sorted(state) == [False, True, True, True]


def test_the_compiled_module_is_known_by_its_frame() -> None:
    model = Small().eval()
    assert seen_by_backend(model, torch.randn(2, 3, 4))[2] is model
    assert seen_by_backend(lambda x: x.sin(), torch.randn(3))[2] is None
    assert torch_private.frame_module() is None


def test_aten_calls_know_their_tags_and_schema() -> None:
    add = torch.ops.aten.add.Tensor
    assert isinstance(add, torch_private.OpOverload)
    assert torch.Tag.pointwise in add.tags
    assert torch.Tag.nondeterministic_seeded in torch.ops.aten.bernoulli.default.tags
    assert torch.ops.aten.relu_.default._schema.is_mutable
    assert torch.ops.aten.view.default._schema.returns[0].alias_info is not None


def test_inner_compilers_are_found() -> None:
    assert callable(torch_private.inner_compiler("inductor", None))
    assert callable(torch_private.inner_compiler("inductor", "max-autotune"))
    assert torch_private.inner_compiler(len, None) is len


def test_symbolic_sizes_become_expressions_and_nodes_again() -> None:
    def collect(gm: Any, inputs: Any) -> Any:
        exported, _, _ = torch_private.export_functional(gm, inputs)
        tensor = next(node for node in ir.placeholders(exported.graph) if ir.shape(node) is not None)
        tokens: Any = (ir.shape(tensor) or ())[0]
        assert (tokens * 6 // 6, torch_private.size_now(ir.value(tensor).shape[0])) == (tokens, 5)
        share = torch_private.floor_divide(tokens * 3, 4)
        assert torch_private.size(torch_private.symbolic_int(share, ir.value(tensor))) == share
        assert torch_private.guard_positive(share, ir.value(tensor))
        symbols = {ir.number(node): node for node in ir.placeholders(exported.graph) if ir.shape(node) is None}
        with exported.graph.inserting_before(ir.output_node(exported.graph)):
            node = torch_private.size_node(share, symbols)
        assert ir.number(node) == share
        seen.append(node)
        return gm.forward

    seen: list[Any] = []
    compiled = torch.compile(lambda x: x * 2, backend=collect, dynamic=True)
    compiled(torch.randn(5, 4))
    compiled(torch.randn(9, 4))
    assert len(seen) == 1, "asking about sizes must not make Dynamo compile anew"
