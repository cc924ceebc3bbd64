"""Attention backends of `diffusers` (`set_attention_backend`), with functions of their signatures in their packages'
place: operations that torch knows, as FlashAttention 2's and 3's are, and functions that Dynamo does not look into.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models import attention_dispatch
from torch import Tensor, nn

import duca_compile
from duca_compile import DucaWarning, Mode
from helpers import attention, compiled, first, lenient, ours
from zoo.case import calls
from zoo.core import CORE

LIBRARY = torch.library.Library("as_diffusers_calls", "FRAGMENT")
LIBRARY.define("flash_attn_func(Tensor q, Tensor k, Tensor v, float softmax_scale, bool causal) -> Tensor")
TIMES = [900.0, 880.0, 860.0, 840.0]


for _key in ("CPU", "Meta"):
    LIBRARY.impl("flash_attn_func", attention, _key)


def flash_attn_func(q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
    found: Tensor = torch.ops.as_diffusers_calls.flash_attn_func(q, k, v, q.shape[-1] ** -0.5, given["causal"])
    return found


def sageattn(q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
    assert given["tensor_layout"] == "NHD"
    return attention(q, k, v)


def flux(monkeypatch: pytest.MonkeyPatch, backend: str) -> nn.Module:
    for name in ("_CAN_USE_FLASH_ATTN", "_CAN_USE_SAGE_ATTN"):
        monkeypatch.setattr(attention_dispatch, name, True)
    monkeypatch.setattr(attention_dispatch, "flash_attn_func", flash_attn_func)
    monkeypatch.setattr(attention_dispatch, "sageattn", torch.compiler.disable(sageattn))
    registry = attention_dispatch._AttentionBackendRegistry
    monkeypatch.setattr(registry, "_active_backend", registry._active_backend)  # what is set next is set for all models
    model: Any = CORE["FLUX"].model()
    model.set_attention_backend(backend)
    return model


def steps(run: Callable[..., Any]) -> list[Tensor]:
    with torch.no_grad():
        return [first(run(**call)) for call in calls(CORE["FLUX"].call, TIMES)]


def flops(model: nn.Module) -> Any:
    torch._dynamo.reset()
    (graph,) = duca_compile.explain(model, **CORE["FLUX"].call(900.0), duca_options={"method": "duca"}).graphs
    return graph.flops


def test_an_operation_that_torch_knows_is_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    model = flux(monkeypatch, "flash")
    found, eager = steps(compiled(model)), steps(model)
    assert torch.equal(found[0], eager[0])
    assert duca_compile.stats(model).steps == {Mode.FULL: 1, Mode.CONSERVATIVE: 2, Mode.AGGRESSIVE: 1}
    assert flops(model) == flops(flux(monkeypatch, "native"))


def test_of_a_function_that_dynamo_does_not_look_into_is_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    """It splits the forward pass at each attention: results are right, and little is cached."""
    model = flux(monkeypatch, "sage")
    with pytest.warns(DucaWarning, match="accelerates this model only partly") as caught:
        found = steps(lenient(model))
    assert len(ours(caught)) == 1
    assert torch.equal(found[0], steps(model)[0])
