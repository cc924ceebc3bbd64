"""`duca_compile::linear`: a linear layer for few rows on a CPU, as an op that compilers call as it is.

Inductor would fuse oneDNN's own op with what follows, into a function that it then cannot trace in an outlined block.
"""

import torch
from torch import Tensor

from duca_compile.torch_private import onednn_linear

SKINNY = 4
"""Rows up to which the weight is better the left operand, read row by row."""
LIBRARY = torch.library.Library("duca_compile", "DEF")  # type: ignore[no-untyped-call]
LIBRARY.define("linear(Tensor input, Tensor weight, Tensor? bias) -> Tensor")  # type: ignore[no-untyped-call]


@torch.library.impl(LIBRARY, "linear", "CPU")
def _on_cpu(source: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if source.numel() <= SKINNY * weight.shape[1]:
        columns = source.reshape(-1, weight.shape[1]).t()
        product = weight @ columns if bias is None else torch.addmm(bias.unsqueeze(1), weight, columns)
        return product.t().reshape(*source.shape[:-1], weight.shape[0]).contiguous()
    found: Tensor = onednn_linear()(source, weight, bias, "none", [], "")
    return found


@torch.library.impl(LIBRARY, "linear", "Meta")
def _shape(source: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return source.new_empty(*source.shape[:-1], weight.shape[0])


linear = torch.ops.duca_compile.linear.default
