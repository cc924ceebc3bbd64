"""Weights of 8-bit integers and a scale for each row, as torchao's: a tensor made of others."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duca_compile.torch_private import tree_flatten, tree_unflatten

aten = torch.ops.aten


class Int8(Tensor):
    """`data * scale`, or its transpose, in every op but those that only hand it on."""

    data8: Tensor
    scale: Tensor
    is_transposed: bool

    @staticmethod
    def __new__(cls, data8: Tensor, scale: Tensor, is_transposed: bool = False) -> "Int8":
        size = data8.shape[::-1] if is_transposed else data8.shape
        made: Any = Tensor._make_wrapper_subclass(cls, size, dtype=scale.dtype, device=data8.device)
        made.data8, made.scale, made.is_transposed = data8, scale, is_transposed
        assert isinstance(made, cls)
        return made

    def __tensor_flatten__(self) -> tuple[list[str], Any]:
        return ["data8", "scale"], self.is_transposed

    @classmethod
    def __tensor_unflatten__(cls, inner: dict[str, Tensor], context: Any, size: Any, stride: Any) -> "Int8":
        return cls(inner["data8"], inner["scale"], context)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Int8({tuple(self.shape)})"

    def dequantised(self) -> Tensor:
        made = self.data8.to(self.scale.dtype) * self.scale
        return made.t() if self.is_transposed else made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        if func is aten.detach.default:
            return cls(args[0].data8, args[0].scale, args[0].is_transposed)
        if func is aten.t.default:
            return cls(args[0].data8, args[0].scale, not args[0].is_transposed)
        if func is aten._to_copy.default:
            return cls(args[0].data8, func(args[0].scale, **kwargs), args[0].is_transposed)
        leaves, tree = tree_flatten((args, kwargs or {}))
        plain = [leaf.dequantised() if isinstance(leaf, Int8) else leaf for leaf in leaves]
        args, kwargs = tree_unflatten(plain, tree)
        return func(*args, **kwargs)


class Dequantises(nn.Module):
    """What a linear layer over an `Int8` computes, with plain tensors."""

    data8: Tensor
    scale: Tensor

    def __init__(self, weight: Int8, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("data8", weight.data8)
        self.register_buffer("scale", weight.scale)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.data8.to(self.scale.dtype) * self.scale, self.bias)


def int8(weight: Tensor) -> Int8:
    scale = weight.detach().abs().amax(1, keepdim=True).clamp_min(1e-6) / 127
    return Int8((weight.detach() / scale).round().to(torch.int8), scale)


def linears(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def quantised(model: nn.Module) -> nn.Module:
    """With all weights of linear layers quantised, in place."""
    for layer in linears(model):
        layer.weight = nn.Parameter(int8(layer.weight), requires_grad=False)
    return model


def unwrapped(model: nn.Module) -> nn.Module:
    """A quantised model with plain tensors, in place."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                assert isinstance(child.weight, Int8)
                setattr(module, name, Dequantises(child.weight, child.bias))
    return model
