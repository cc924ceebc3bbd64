"""Weights that are made of other tensors, as torchao's quantised ones: the model is accelerated as it is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing._internal.two_tensor import TwoTensor

import duca_compile
from duca_compile import DucaWarning, Mode, torch_private
from duca_compile.capture.flatten import Flatten
from duca_compile.capture.unwrap import without_wrappers
from duca_compile.graph import ir
from duca_compile.refusal import Refused
from duca_compile.runtime.split.call_tensors import leaves
from helpers import captured, compiled, lenient, ours, relative_error, seen_by_backend, third_step
from quantised import Int8, int8, linears, quantised, unwrapped
from zoo.case import noise
from zoo.core import example_dit

X, T, Y = noise(2, 1, 8, 8), torch.full((2,), 900.0), torch.tensor([1, 2])


def steps(fast: Any, x: Tensor = X, y: Tensor = Y) -> list[Tensor]:
    """Of a generation: full, conservative, aggressive, conservative, aggressive, full."""
    return [fast(x, torch.full((len(x),), 900.0 - 20 * step), y) for step in range(6)]


def test_a_quantised_model_is_accelerated() -> None:
    model, plain = quantised(example_dit()), unwrapped(quantised(example_dit()))
    got, want = steps(compiled(model)), steps(compiled(plain))
    assert duca_compile.stats(model).steps == {Mode.FULL: 2, Mode.CONSERVATIVE: 2, Mode.AGGRESSIVE: 2}
    assert torch.equal(got[0], model(X, T, Y))
    assert torch.equal(got[5], model(X, T - 100, Y))
    for one, other in zip(got, want, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("options", [{"preset": "balanced"}, {"method": "fora"}, {"cache_dtype": torch.bfloat16}])
def test_by_other_methods(options: dict[str, Any]) -> None:
    model, plain = quantised(example_dit()), unwrapped(quantised(example_dit()))
    for one, other in zip(steps(compiled(model, **options)), steps(compiled(plain, **options)), strict=True):
        assert torch.equal(one, other)


def test_under_inductor() -> None:
    """Of 2.11 and 2.12, it writes C++ that does not compile where one token alone is recomputed: these are several."""
    model = quantised(example_dit())
    got = steps(compiled(model, inner="inductor", outline=False, cache_ratio=0.5))
    want = steps(compiled(model, cache_ratio=0.5))
    assert duca_compile.stats(model).steps[Mode.FULL] == 4
    torch._dynamo.reset()
    assert torch.equal(got[0], torch.compile(model, fullgraph=True)(X, T, Y))
    for one, other in zip(got, want, strict=True):
        assert relative_error(one, other) < 1e-5


def test_the_graph_and_its_costs_are_those_of_plain_tensors() -> None:
    model, plain = quantised(example_dit()), unwrapped(quantised(example_dit()))
    found, same = (captured(each, X, T, Y).capture for each in (model, plain))
    ops, others = (
        [node.target for node in each.gm.graph.nodes if node.op == "call_function"] for each in (found, same)
    )
    assert sorted(map(str, ops)) == sorted(map(str, others))
    assert len(found.state) == len(same.state)
    (report,), (other,) = (duca_compile.explain(each, X, T, Y).graphs for each in (model, plain))
    assert report.refusal is None
    assert report.flops == other.flops
    assert report.weight_bytes == other.weight_bytes
    assert report.held_bytes == other.held_bytes


def one_number(weight: Int8) -> None:
    weight.data8.data[0, 0] += 3


def counted(weight: Int8) -> None:
    weight.scale.mul_(1.5)


def a_row_of_scales(weight: Int8) -> None:
    weight.scale.data[:4] = 0.5


def other_data(weight: Int8) -> None:
    weight.data8 = weight.data8 + 1


def other_memory(weight: Int8) -> None:
    weight.scale.data = weight.scale * 2


@pytest.mark.parametrize("edit", [one_number, counted, a_row_of_scales, other_data, other_memory])
def test_the_step_after_an_edit_of_an_inner_tensor_is_full(edit: Callable[[Int8], None]) -> None:
    model = quantised(example_dit())
    fast, weight = compiled(model), linears(model)[3].weight
    assert isinstance(weight, Int8)
    assert third_step(model, fast, lambda: None) == Mode.AGGRESSIVE
    assert third_step(model, fast, lambda: edit(weight)) == Mode.FULL
    assert torch.equal(fast(X, T, Y), model(X, T, Y))


def test_another_parameter_is_seen() -> None:
    model = quantised(example_dit())
    fast, layer = compiled(model), linears(model)[3]

    def swap() -> None:
        layer.weight = nn.Parameter(int8(torch.randn(layer.weight.shape)), requires_grad=False)

    assert third_step(model, fast, swap) == Mode.FULL
    assert torch.equal(fast(X, T, Y), model(X, T, Y))


def test_a_plain_parameter_in_its_place_is_seen() -> None:
    model = quantised(example_dit())
    fast, layer = compiled(model), linears(model)[3]
    steps(fast)
    assert isinstance(layer.weight, Int8)
    layer.weight = nn.Parameter(layer.weight.dequantised(), requires_grad=False)
    assert torch.equal(fast(X, T, Y), model(X, T, Y))


class Scaled(nn.Module):
    """A step before a DiT that Dynamo breaks at, between its graphs or within the first."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        x = x + 0.1 * self.first(x)
        torch._dynamo.graph_break()
        x = self.inner(x, t, y)[:, :1]
        torch._dynamo.graph_break()
        return self.last(x)


@pytest.mark.parametrize("which", [0, 4, -1])
def test_split_forward_passes(which: int) -> None:
    """The first and the last part have no branch and run as they are: edits of their weights are seen, too."""
    model, plain = quantised(Scaled(example_dit())).eval(), unwrapped(quantised(Scaled(example_dit()))).eval()
    plain.load_state_dict(_plain_state(model))
    fast, other = lenient(model, strict=True), lenient(plain, strict=True)
    for one, two in zip(steps(fast), steps(other), strict=True):
        assert torch.equal(one, two)
    assert duca_compile.stats(model).steps[Mode.AGGRESSIVE]
    weight = linears(model)[which].weight
    assert isinstance(weight, Int8)
    assert third_step(model, fast, lambda: None) == Mode.AGGRESSIVE
    assert third_step(model, fast, lambda: one_number(weight)) == Mode.FULL


def _plain_state(model: nn.Module) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Int8):
            stem = name.removesuffix("weight")
            state |= {f"{stem}data8": tensor.data8, f"{stem}scale": tensor.scale}
        else:
            state[name] = tensor
    return state


@pytest.mark.parametrize("dynamic", [True, None])
def test_symbolic_sizes(dynamic: bool | None) -> None:
    model, plain = quantised(example_dit()), unwrapped(quantised(example_dit()))
    fast, other = compiled(model, dynamic=dynamic), compiled(plain, dynamic=dynamic)
    for batch in (2, 3, 5):
        x, y = noise(batch, 1, 8, 8), torch.arange(batch)
        for one, two in zip(steps(fast, x, y), steps(other, x, y), strict=True):
            assert torch.equal(one, two)
    assert duca_compile.stats(model).graphs == duca_compile.stats(plain).graphs < 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype) -> None:
    model = quantised(example_dit())
    fast = compiled(model)
    with torch.autocast("cpu", dtype):
        got = steps(fast)
        assert torch.equal(got[0], model(X, T, Y))
        (report,) = duca_compile.explain(fast, X, T, Y).graphs
        (plain,) = duca_compile.explain(compiled(unwrapped(quantised(example_dit()))), X, T, Y).graphs
        assert report.flops == plain.flops
    assert duca_compile.stats(model).steps[Mode.AGGRESSIVE] == 2


def test_inference_mode() -> None:
    with torch.inference_mode():
        model = quantised(example_dit())
        got = steps(compiled(model))
        assert torch.equal(got[0], model(X, T, Y))
    assert duca_compile.stats(model).steps[Mode.AGGRESSIVE] == 2


def test_one_weight_in_two_layers_and_one_scale_in_two_weights() -> None:
    model = quantised(example_dit())
    first, second = model.get_submodule("blocks.0.attn.proj"), model.get_submodule("blocks.1.attn.proj")
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    second.weight = first.weight
    first, second = model.get_submodule("blocks.0.attn.qkv"), model.get_submodule("blocks.1.attn.qkv")
    assert isinstance(first.weight, Int8)
    assert isinstance(second.weight, Int8)
    second.weight.scale = first.weight.scale
    assert torch.equal(steps(compiled(model))[0], model(X, T, Y))
    torch._dynamo.reset()
    assert relative_error(steps(compiled(model, inner="inductor"))[0], model(X, T, Y)) < 1e-5


def test_a_function_around_the_model_finds_its_graphs() -> None:
    model = quantised(example_dit())
    steps(compiled(lambda x, t, y: model(x, t, y)))
    assert duca_compile.stats(model).steps[Mode.FULL] == 2
    duca_compile.reset(model)
    assert not duca_compile.stats(model).bytes


class Conditioned(nn.Module):
    """Its prompt may be made of two tensors, and so are two weights."""

    def __init__(self) -> None:
        super().__init__()
        self.dit = example_dit()
        self.shift = nn.Linear(8, 8)

    def forward(self, x: Tensor, t: Tensor, y: Tensor, prompt: Any) -> Tensor:
        made: Any = self.shift(prompt)
        return self.dit(x + made.a + made.b, t, y)


def two(seed: int) -> TwoTensor:
    return TwoTensor(noise(8, 8, seed=seed), noise(8, 8, seed=seed + 1))


def test_arguments_and_results_of_ops_that_are_wrappers() -> None:
    model = Conditioned().eval()
    model.shift.weight = nn.Parameter(two(3), requires_grad=False)
    fast, prompt = compiled(model), two(5)

    def mode(step: int) -> Mode:
        before = duca_compile.stats(model).steps
        got, t = fast(X, T - 20 * step, Y, prompt), T - 20 * step
        (found,) = (duca_compile.stats(model).steps - before).keys()
        assert found != Mode.FULL or torch.equal(got, model(X, t, Y, prompt))
        return Mode(found)

    assert [mode(step) for step in range(3)] == [Mode.FULL, Mode.CONSERVATIVE, Mode.AGGRESSIVE]
    prompt.b[0] += 1
    assert mode(3) == Mode.FULL, "the prompt is another one"
    assert mode(4) == Mode.CONSERVATIVE
    model.shift.weight.b[0] += 1  # type: ignore[attr-defined]
    assert mode(5) == Mode.FULL


def test_wrapped_arguments_of_a_split_forward_pass() -> None:
    class Split(Conditioned):
        def forward(self, x: Tensor, t: Tensor, y: Tensor, prompt: Any) -> Tensor:
            x = super().forward(x, t, y, prompt)
            torch._dynamo.graph_break()
            return x * 2

    model, prompt = Split().eval(), two(5)
    fast = lenient(model, strict=True)
    got = [fast(X, T - 20 * step, Y, prompt) for step in range(4)]
    assert torch.equal(got[1], model(X, T - 20, Y, prompt))
    assert duca_compile.stats(model).steps[Mode.CONSERVATIVE] == 1
    prompt.b[0] += 1
    assert torch.equal(fast(X, T - 80, Y, prompt), model(X, T - 80, Y, prompt))


def test_how_a_wrapped_argument_is_made_is_among_its_values() -> None:
    weight = int8(noise(4, 4))
    seen, names = leaves({"prompt": weight}), ["wrapping", "type", "data8", "scale"]
    assert [leaf.path[1] for leaf in seen] == names
    assert seen[2].value is weight.data8
    weight.is_transposed = True
    assert leaves({"prompt": weight})[0].value != seen[0].value


def test_wrappers_of_wrappers() -> None:
    model = Conditioned().eval()
    prompt = TwoTensor(two(1), two(3))

    class Deep(Conditioned):
        def forward(self, x: Tensor, t: Tensor, y: Tensor, prompt: Any) -> Tensor:
            made: Any = self.shift(prompt)
            return self.dit(x + made.a.b + made.b.a, t, y)

    model = Deep().eval()
    fast = compiled(model)
    assert torch.equal(fast(X, T, Y, prompt), model(X, T, Y, prompt))
    fast(X, T - 20, Y, prompt)
    prompt.a.b[0] += 1
    assert torch.equal(fast(X, T - 40, Y, prompt), model(X, T - 40, Y, prompt))


def refusal(model: nn.Module, *args: Any) -> str:
    with pytest.warns(DucaWarning) as caught:
        got = lenient(model)(*args)
    want = model(*args)
    assert type(got) is type(want)
    assert torch.equal(got, want) if type(got) is Tensor else torch.equal(got.a, want.a)
    (message,) = ours(caught)
    return message


def test_a_result_that_is_a_wrapper_is_refused() -> None:
    model = example_dit()
    layer = model.get_submodule("blocks.0.attn.proj")
    layer.weight = nn.Parameter(TwoTensor(layer.weight.detach(), layer.weight.detach().clone()), requires_grad=False)  # type: ignore
    assert "the forward pass returns a TwoTensor" in refusal(model, X, T, Y)


class Pooled(Conditioned):
    def forward(self, x: Tensor, t: Tensor, y: Tensor, prompt: Any) -> Tensor:
        made: Any = self.shift(prompt)
        return self.dit(x + made.a.mean(0) + made.b.mean(0), t, y)


def test_a_wrapper_of_symbolic_sizes_is_refused() -> None:
    prompt = two(5)
    torch._dynamo.mark_dynamic(prompt, 0)
    assert "%l_prompt_ is a TwoTensor of sizes that are not fixed" in refusal(Pooled().eval(), X, T, Y, prompt)


def test_what_another_process_has_yet_to_send_is_refused() -> None:
    from torch.distributed._functional_collectives import AsyncCollectiveTensor

    graph = torch.fx.Graph()
    node = graph.placeholder("prompt")
    torch_private.set_dynamo_value(node, AsyncCollectiveTensor(noise(8, 8)))
    graph.output(graph.call_function(torch.add, (node, 1)))
    with pytest.raises(Refused, match="%prompt is a AsyncCollectiveTensor: what other processes hold of it"):
        without_wrappers(torch.fx.GraphModule({}, graph))


def assert_full_step_is_exact(model: nn.Module) -> None:
    fast, prompt = compiled(model), noise(8, 8)
    assert torch.equal(fast(X, T, Y, prompt), model(X, T, Y, prompt))


def test_a_checkpointed_block() -> None:
    class Checkpointed(Conditioned):
        def forward(self, x: Tensor, t: Tensor, y: Tensor, prompt: Any) -> Tensor:
            return torch.utils.checkpoint.checkpoint(self.dit, x + prompt, t, y, use_reentrant=False)

    assert_full_step_is_exact(quantised(Checkpointed().eval()))


def test_autocast_inside_of_the_forward() -> None:
    class Mixed(Conditioned):
        def forward(self, x: Tensor, t: Tensor, y: Tensor, prompt: Any) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                x = self.dit(x + prompt, t, y)[:, :1]
            return self.shift(x.float())

    assert_full_step_is_exact(quantised(Mixed().eval()))


def test_what_the_forward_writes_to_a_part_of_an_argument() -> None:
    class Writes(Conditioned):
        def forward(self, x: Tensor, t: Tensor, y: Tensor, prompt: Any) -> Tensor:
            prompt.a.add_(1)
            made: Any = self.shift(prompt)
            return self.dit(x + made.a + made.b, t, y)

    model = Writes().eval()
    one, other = two(3), two(3)
    with pytest.warns(DucaWarning, match="writes to a tensor that it is given a second time"):
        got = lenient(model)(X, T, Y, one)
    assert torch.equal(got, model(X, T, Y, other))
    assert torch.equal(one.a, other.a)


def test_a_weight_that_the_forward_changes_is_refused() -> None:
    class Changes(Conditioned):
        def forward(self, x: Tensor, t: Tensor, y: Tensor, prompt: Any) -> Tensor:
            self.shift.weight.mul_(1.0)
            made: Any = self.shift(x + prompt)
            return self.dit(made.a + made.b, t, y)

    model = Changes().eval()
    model.shift.weight = nn.Parameter(two(3), requires_grad=False)
    assert "changes one of its buffers in place" in refusal(model, X, T, Y, noise(8, 8))


def test_another_way_to_read_the_parts_is_seen() -> None:
    model = quantised(example_dit())
    fast, layer = compiled(model), model.get_submodule("blocks.0.attn.proj")
    assert isinstance(layer.weight, Int8)
    steps(fast)
    layer.weight.is_transposed = True
    assert torch.equal(fast(X, T, Y), model(X, T, Y))


class Told(TwoTensor):
    """Beside tensors it holds what is none."""

    def __tensor_flatten__(self) -> tuple[list[str], Any]:
        return ["a", "b", "note"], None

    note = "of no use"


def test_parts_that_are_no_tensors_are_refused() -> None:
    graph = torch.fx.Graph()
    node = graph.placeholder("weight")
    torch_private.set_dynamo_value(node, Told(X, X))
    graph.output(graph.call_function(torch.add, (node, 1)))
    with pytest.raises(Refused, match="%weight is a Told, which holds a str beside tensors"):
        without_wrappers(torch.fx.GraphModule({}, graph))


def test_a_stream_of_wrappers() -> None:
    class Unwraps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dit = example_dit()

        def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            made: Any = self.dit(x, t, y)
            return made.a + made.b

    model = Unwraps().eval()
    layer = linears(model)[5]
    layer.weight = nn.Parameter(TwoTensor(layer.weight.detach(), -layer.weight.detach()), requires_grad=False)
    got = steps(compiled(model))
    assert torch.equal(got[0], model(X, T, Y))
    assert duca_compile.stats(model).steps[Mode.AGGRESSIVE] == 2


JOINED = """\
%l_self_parameters_weight_data8: torch.int8[4, 8] = input
%l_self_parameters_weight_scale: f32[4, 1] = input
%l_x_: f32[2, 3, 8] = input
%_to_copy: f32[4, 8] = _to_copy.default(%l_self_parameters_weight_data8, dtype=torch.float32)
%mul: f32[4, 8] = mul.Tensor(%_to_copy, %l_self_parameters_weight_scale)
%linear_default: f32[2, 3, 4] = linear.default(%l_x_, %mul)
return [%linear_default]"""


def written_out(model: nn.Module, *args: Any) -> torch.fx.GraphModule:
    """What the only graph of the model becomes; it takes plain tensors."""
    gm, inputs = seen_by_backend(model, *args)
    plain = without_wrappers(gm)
    got, want = plain(*Flatten.like(inputs)(inputs)), gm(*inputs)
    assert all(map(torch.equal, got, want))
    for node in plain.graph.nodes:
        node.meta["val"] = node.meta.get("example_value")
    return plain


def test_what_is_written_out() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(int8(noise(4, 8)), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight)

    model = One()
    assert ir.render(written_out(model, noise(2, 3, 8)).graph) == JOINED


def test_plain_weights_leave_the_graph_as_it_is() -> None:
    gm, inputs = seen_by_backend(nn.Linear(8, 4), noise(2, 3, 8))
    assert without_wrappers(gm) is gm
    assert Flatten.like(inputs)(inputs) is inputs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 3, 8), (2, 2, 3, 8), (1, 1, 8), (0, 8)])
def test_linear_layers_stay_one_op(shape: tuple[int, ...], bias: bool) -> None:
    model = nn.Linear(8, 4, bias=bias)
    model.weight = nn.Parameter(int8(model.weight), requires_grad=False)
    x = noise(*shape)
    graph = written_out(model, x).graph
    assert [node for node in graph.nodes if ir.packet(node) is torch.ops.aten.linear]
    if len(shape) > 1:
        written_out(model, x.mT.contiguous().mT)


def test_other_products_stay_what_they_are() -> None:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(int8(noise(8, 4)), requires_grad=False)

        def forward(self, x: Tensor, added: Tensor) -> Tensor:
            return x @ self.weight + torch.addmm(added, x, self.weight) + torch.addmm(added, x, self.weight, beta=2)

    graph = written_out(Products(), noise(3, 8), noise(3, 4)).graph
    packets = [ir.packet(node) for node in graph.nodes]
    assert (packets.count(torch.ops.aten.mm), packets.count(torch.ops.aten.addmm)) == (1, 2)


def test_the_parts_of_a_call_are_the_very_tensors() -> None:
    weights = [int8(noise(4, 8)) for _ in range(300)]
    flatten = Flatten.like(weights)
    assert flatten.spread(range(300))[:4] == [0, 0, 1, 1]
    flat = flatten(weights)
    assert len(flat) == 600
    assert flat[0] is weights[0].data8
