"""Which keywords of a call that we are given with a model are ours, and whether it is a model at all."""

import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from torch import nn

from duca_compile import torch_private


def shortly(given: Any) -> str:
    """Its `repr`, in one line: that of a model has a hundred."""
    return textwrap.shorten(repr(given), 60, placeholder=" ...")


def is_pipeline(given: Any) -> bool:
    """As those of diffusers: it has `components` by name, and is no module itself."""
    return not isinstance(given, nn.Module) and isinstance(getattr(given, "components", None), Mapping)


def require_model(model: Any) -> None:
    """Raises `TypeError` for what is no model that could be called, such as a pipeline or a class."""
    if is_pipeline(model):
        raise TypeError(
            f"{type(model).__name__} is a pipeline; give the model that denoises in it, such as its `transformer`, and "
            "the arguments of one of that model's calls"
        )
    if isinstance(model, type) or not callable(model):
        raise TypeError(
            f"give a module, or a function that calls one, and the arguments of one call; not {shortly(model)}"
        )


def takes(model: Any, keyword: str) -> bool:
    """Whether the model's own forward pass names a parameter so; those that it takes as `**kwargs` have no name."""
    called = torch_private.original(model)
    try:
        parameters = inspect.signature(called.forward if isinstance(called, nn.Module) else called).parameters
    except (TypeError, ValueError):
        return False
    return keyword in parameters


def refuse_ambiguous(model: Any, keyword: str, instead: str) -> None:
    """Raises `TypeError` where a keyword that is ours is a parameter of the model, too. `instead`: what to do."""
    if takes(model, keyword):
        name = type(torch_private.original(model)).__name__
        raise TypeError(
            f"`{keyword}` may be meant for duca or for {name}, which has a parameter of that name; {instead}"
        )
