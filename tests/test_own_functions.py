"""Weights that run Python of their own in place of torch's functions, as those of GGUF and bitsandbytes do."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import duca_compile
from duca_compile import DucaWarning, Mode
from helpers import compiled, lenient, third_step
from quantised import Int8, int8, linears, quantised
from zoo.case import noise
from zoo.core import example_dit

X, T, Y = noise(2, 1, 8, 8), torch.full((2,), 900.0), torch.tensor([1, 2])
SCALE = 1 / 64


class Packed(nn.Parameter):
    """Whole numbers, which a layer unpacks to the weight that they stand for."""

    def __new__(cls, data: Tensor) -> "Packed":
        return Tensor._make_subclass(cls, data, False)

    def unpacked(self) -> Tensor:
        return Tensor._make_subclass(Tensor, self, False).to(torch.float32) * SCALE

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs or {})


class Unpacking(Packed):
    """They unpack themselves in a linear layer."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.linear:
            return super().__torch_function__(func, types, args, kwargs or {})
        x, weight, bias = args
        return F.linear(x, weight.unpacked(), bias)


class Unpacks(nn.Linear):
    weight: Packed

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.unpacked(), self.bias)


def packed(kind: type[Packed]) -> nn.Module:
    """A model with packed weights in the MLPs of its blocks."""
    model = example_dit()
    for block in model.get_submodule("blocks").children():
        mlp = block.get_submodule("mlp")
        for name, layer in mlp.named_children():
            if isinstance(layer, nn.Linear):
                setattr(mlp, name, unpacks(layer, kind))
    return model.eval()


def unpacks(layer: nn.Linear, kind: type[Packed]) -> nn.Linear:
    made = (nn.Linear if kind is Unpacking else Unpacks)(layer.in_features, layer.out_features)
    made.weight, made.bias = kind((layer.weight / SCALE).round().to(torch.int8)), layer.bias
    return made


def unpacked(model: nn.Module) -> nn.Module:
    """The same model with plain weights."""
    plain = example_dit()
    plain.load_state_dict(
        {
            name: parameter.unpacked() if isinstance(parameter, Packed) else parameter
            for name, parameter in model.named_parameters()
        },
        strict=False,
    )
    return plain


def steps(fast: Any) -> list[Tensor]:
    with torch.no_grad():
        return [fast(X, T - 20 * step, Y) for step in range(6)]


@pytest.mark.parametrize("options", [{}, {"preset": "balanced"}])
@pytest.mark.parametrize("kind", [Packed, Unpacking])
def test_steps_are_those_of_plain_weights(kind: type[Packed], options: dict[str, Any]) -> None:
    model = packed(kind)
    plain = unpacked(model)
    for one, other in zip(steps(compiled(model, **options)), steps(compiled(plain, **options)), strict=True):
        assert torch.equal(one, other)
    found, same = duca_compile.stats(model), duca_compile.stats(plain)
    assert found.steps == same.steps
    assert found.bytes == same.bytes
    assert 0 < found.steps[Mode.FULL] < 6


@pytest.mark.parametrize("kind", [Packed, Unpacking])
def test_under_inductor(kind: type[Packed]) -> None:
    """Of 2.11 and 2.12, it writes C++ that does not compile where one token alone is recomputed: these are several."""
    model = packed(kind)
    (full, *_) = steps(compiled(model, inner="inductor", outline=False, cache_ratio=0.5))
    assert duca_compile.stats(model).steps[Mode.AGGRESSIVE]
    torch._dynamo.reset()
    with torch.no_grad():
        assert torch.equal(full, torch.compile(model, fullgraph=True)(X, T, Y))


def one_number(weight: Tensor) -> None:
    weight.data[0, 0] += 3


def counted(weight: Tensor) -> None:
    weight.mul_(2)


@pytest.mark.parametrize("edit", [one_number, counted])
@pytest.mark.parametrize("kind", [Packed, Unpacking])
def test_the_step_after_an_edit_is_full(kind: type[Packed], edit: Callable[[Tensor], None]) -> None:
    model = packed(kind)
    fast, weight = compiled(model), model.get_parameter("blocks.0.mlp.0.weight")
    with torch.no_grad():
        assert third_step(model, fast, lambda: None) == Mode.AGGRESSIVE
        assert third_step(model, fast, lambda: edit(weight)) == Mode.FULL
        assert torch.equal(fast(X, T, Y), model(X, T, Y))


class Split(nn.Module):
    """Packed weights before and after the graphs that are cached."""

    def __init__(self, kind: type[Packed]) -> None:
        super().__init__()
        self.inner = packed(kind)
        self.first, self.last = unpacks(nn.Linear(8, 8), kind), unpacks(nn.Linear(8, 8), kind)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        x = x + 0.1 * self.first(x)
        torch._dynamo.graph_break()
        x = self.inner(x, t, y)[:, :1]
        torch._dynamo.graph_break()
        result: Tensor = self.last(x)
        return result


@pytest.mark.parametrize("kind", [Packed, Unpacking])
def test_split_forward_passes(kind: type[Packed]) -> None:
    model = Split(kind).eval()
    fast = lenient(model, strict=True)
    with torch.no_grad():
        assert torch.equal(steps(fast)[0], model(X, T, Y))
        assert duca_compile.stats(model).steps[Mode.AGGRESSIVE]
        weight = model.get_parameter("last.weight")
        assert third_step(model, fast, lambda: None) == Mode.AGGRESSIVE
        assert third_step(model, fast, lambda: one_number(weight)) == Mode.FULL


def test_beside_weights_that_are_made_of_others() -> None:
    """Dynamo then runs the Python of neither class."""
    model, plain = packed(Packed), unpacked(packed(Packed))
    for each in (model, plain):
        attention = linears(each.get_submodule("blocks.0"))[0]
        attention.weight = nn.Parameter(int8(attention.weight), requires_grad=False)
    for one, other in zip(steps(compiled(model)), steps(compiled(plain)), strict=True):
        assert torch.equal(one, other)


def test_a_tensor_made_of_such_is_refused() -> None:
    model = quantised(example_dit())
    weight = linears(model)[3].weight
    assert isinstance(weight, Int8)
    weight.data8 = Packed(weight.data8)
    with pytest.warns(DucaWarning, match="is a Int8 made of a Packed, which runs Python in place of torch's functions"):
        got = lenient(model)(X, T, Y)
    assert torch.equal(got, model(X, T, Y))


@torch._dynamo.allow_in_graph  # type: ignore[untyped-decorator]
def _constructed(x: Tensor) -> Tensor:
    return torch.Tensor(x)


def test_what_no_capture_sees_is_refused() -> None:
    class Hides(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, _constructed(self.weight), self.bias)

    model = example_dit()
    mlp = model.get_submodule("blocks.0.mlp")
    layer = linears(mlp)[0]
    hides = Hides(layer.in_features, layer.out_features)
    hides.load_state_dict(layer.state_dict())
    setattr(mlp, "0", hides)
    with torch.no_grad():
        with pytest.warns(DucaWarning, match="is made of others in a way that no capture sees"):
            got = lenient(model)(X, T, Y)
        assert torch.equal(got, model(X, T, Y))


def test_weights_that_are_given_other_memory_are_refused() -> None:
    """As bitsandbytes does in 8 bits."""

    class HandsOn(nn.Linear):
        kept: Tensor

        def forward(self, x: Tensor) -> Tensor:
            result = F.linear(x, self.kept, self.bias)
            self.weight.data = self.kept
            return result

    model = example_dit()
    mlp = model.get_submodule("blocks.0.mlp")
    layer = linears(mlp)[0]
    made = HandsOn(layer.in_features, layer.out_features)
    made.register_buffer("kept", layer.weight.detach())
    setattr(mlp, "0", made)
    with torch.no_grad():
        with pytest.warns(DucaWarning, match="puts a weight or another tensor into other memory"):
            got = lenient(model)(X, T, Y)
        assert torch.equal(got, model(X, T, Y))
