"""A small FLUX whose blocks are quantised by the packages themselves, where these are installed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import duca_compile
from duca_compile import Mode
from helpers import compiled, first
from zoo.case import randomise
from zoo.core import flux, flux_call

Make = Callable[[nn.Linear], nn.Module]


def gguf() -> Make:
    library = pytest.importorskip("gguf")
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter

    kind = library.GGMLQuantizationType.Q8_0

    def make(layer: nn.Linear) -> nn.Module:
        made = GGUFLinear(layer.in_features, layer.out_features, bias=True, compute_dtype=torch.float32)
        data = library.quants.quantize(layer.weight.detach().numpy(), kind)
        made.weight, made.bias = GGUFParameter(torch.from_numpy(data), quant_type=kind), layer.bias
        return made

    return make


def bitsandbytes_4bit() -> Make:
    library: Any = pytest.importorskip("bitsandbytes").nn

    def make(layer: nn.Linear) -> nn.Module:
        made = library.Linear4bit(layer.in_features, layer.out_features, compute_dtype=torch.float32, quant_type="nf4")
        made.weight = library.Params4bit(layer.weight.data, quant_type="nf4", blocksize=32, module=made)
        made.bias = layer.bias
        return made.to("cpu")

    return make


def quanto() -> Make:
    library = pytest.importorskip("optimum.quanto")

    def make(layer: nn.Linear) -> nn.Module:
        made = library.QLinear.from_module(layer, weights=library.qint8)
        made.freeze()
        return made

    return make


@pytest.mark.parametrize("options", [{}, {"preset": "balanced"}])
@pytest.mark.parametrize("quantiser", [gguf, bitsandbytes_4bit, quanto])
def test_steps_are_cached_and_a_full_one_is_the_quantised_models(
    quantiser: Callable[[], Make], options: dict[str, Any]
) -> None:
    make, model = quantiser(), randomise(flux())
    for part in model.get_submodule("transformer_blocks"), model.get_submodule("single_transformer_blocks"):
        for module in list(part.modules()):
            for name, layer in module.named_children():
                if type(layer) is nn.Linear:
                    setattr(module, name, make(layer))
    model = model.eval().requires_grad_(False)
    fast, call = compiled(model, **options), flux_call(900.0)
    with torch.no_grad():
        want = first(model(**call))
        assert torch.equal(first(fast(**call)), want)
        for step in range(1, 5):
            fast(**flux_call(900.0 - 20 * step))
    assert 0 < duca_compile.stats(model).steps[Mode.FULL] < 5
