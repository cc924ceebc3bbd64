"""The model that a command is about, with the arguments of one call."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from duca_compile import torch_private
from duca_compile.cli import diffusers_config
from duca_compile.cli.families import FAMILIES
from duca_compile.cli.named import named
from duca_compile.cli.unusable import Unusable

HOW = """A model is named in one of three ways.

  module:factory  a function without arguments, in a module that is installed
                  or lies in the current folder. It returns (model, args,
                  kwargs) or (model, inputs), where inputs are a tuple of
                  arguments, a dictionary of named ones, or one tensor.
  path            a config.json of a transformer of diffusers, the folder that
                  it lies in, or that of a pipeline: built with random weights,
                  or without any where only shapes matter.
  class           of diffusers, with its own defaults, built in the same way.
                  Inputs are made for these:
"""
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
_SHORT = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "fp64": "float64"}
RETURNS = "it must return (model, args, kwargs) or (model, inputs)"


@dataclass(frozen=True)
class Subject:
    """`model(*args, **kwargs)` is one call."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def is_on_meta(self) -> bool:
        """Whether something that the call reads has a shape alone."""
        leaves, _ = torch_private.tree_flatten((self.args, self.kwargs))
        tensors = [*self.model.parameters(), *self.model.buffers(), *leaves]
        return any(isinstance(each, Tensor) and each.is_meta for each in tensors)

    def on(self, device: torch.device | None, dtype: torch.dtype | None) -> "Subject":
        """The model and every tensor among the arguments; `dtype` is for those of floating point."""
        leaves, form = torch_private.tree_flatten((self.args, self.kwargs))
        moved = [_moved(leaf, device, dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        args, kwargs = torch_private.tree_unflatten(moved, form)
        return replace(self, model=_moved(self.model, device, dtype), args=args, kwargs=kwargs)


def _moved(given: Any, device: torch.device | None, dtype: torch.dtype | None) -> Any:
    """A module or a tensor. Nothing is asked of it that was not asked for: modules of diffusers warn of that."""
    moved = given if device is None else given.to(device)
    if dtype is None:
        return moved
    if isinstance(moved, nn.Module):
        return diffusers_config.cast(moved, dtype)
    return moved.to(dtype) if moved.is_floating_point() else moved


def add_model(parser: ArgumentParser) -> None:
    parser.add_argument("model", help="module:factory, or a config.json or a class of diffusers; see below")
    parser.add_argument("--device", help="such as cpu or cuda (default: where the model is)")
    parser.add_argument("--dtype", help="of weights and inputs, such as bfloat16 (default: the model's)")
    diffusers_config.add_sizes(parser)


def load(given: Namespace, without_weights: bool = False) -> Subject:
    """What `given.model` names. `without_weights`: only shapes are needed, where the user names no device."""
    device = _device(given.device)
    where = device or torch.device("meta" if without_weights else "cpu")
    return subject(given.model, diffusers_config.sizes(given), where).on(device, _dtype(given.dtype))


def subject(spec: str, sizes: dict[str, int | None], device: torch.device) -> Subject:
    """What `spec` names, in `eval()` mode. Sizes and the device are of what is built here."""
    if spec in FAMILIES:
        model, kwargs = diffusers_config.build(spec, {}, sizes, device)
        found = Subject(model, (), kwargs)
    elif is_path(spec):
        model, kwargs = diffusers_config.load(Path(spec), sizes, device)
        found = Subject(model, (), kwargs)
    elif ":" in spec:
        found = made(spec)
    else:
        ways = "module:factory, a config.json or its folder, or a class of diffusers that inputs are known for"
        raise Unusable(f"{spec!r} names no model: give {ways}: {', '.join(FAMILIES)}")
    found.model.eval()
    return found


def made(spec: str) -> Subject:
    """What the factory that `spec` names returns."""
    factory = named(spec)
    if isinstance(factory, nn.Module) or not callable(factory):
        raise Unusable(f"{spec} must be a function; {RETURNS}")
    match factory():
        case (nn.Module() as model, Tensor() as only):
            return Subject(model, (only,), {})
        case (nn.Module() as model, Mapping() as kwargs):
            return Subject(model, (), dict(kwargs))
        case (nn.Module() as model, Sequence() as args):
            return Subject(model, tuple(args), {})
        case (nn.Module() as model, Sequence() as args, Mapping() as kwargs):
            return Subject(model, tuple(args), dict(kwargs))
        case other:
            raise Unusable(f"{spec} returned {type(other).__name__}; {RETURNS}")


def is_path(spec: str) -> bool:
    return spec.endswith(".json") or Path(spec).is_dir()


def _device(name: str | None) -> torch.device | None:
    if name is None:
        return None
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise Unusable(f"device {name!r}: {str(error).splitlines()[0]}") from error
    return found


def _dtype(name: str | None) -> torch.dtype | None:
    if name is None:
        return None
    plain = name.removeprefix("torch.").lower()
    found = DTYPES.get(_SHORT.get(plain, plain))
    if found is None:
        raise Unusable(f"dtype {name!r} is none that layers compute in: {', '.join(DTYPES)}")
    return found
