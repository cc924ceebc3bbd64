"""`duca_compile::linear`: a linear layer for few rows on a CPU, as an op that compilers call as it is.

Inductor would fuse oneDNN's own op with what follows, into a function that it then cannot trace in an outlined block.
"""

import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from duca_compile.torch_private import onednn_linear

SKINNY = 4
"""Rows up to which the weight is better the left operand, read row by row; not on Intel's processors."""
FEWEST = 3
"""Rows up to which the default, MKL, is best on Intel's processors: it reads the weight once at the rate of memory."""
LIBRARY = torch.library.Library("duca_compile", "DEF")  # type: ignore[no-untyped-call]
LIBRARY.define("linear(Tensor input, Tensor weight, Tensor? bias) -> Tensor")  # type: ignore[no-untyped-call]


@torch.library.impl(LIBRARY, "linear", "CPU")
def _on_cpu(source: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = source.shape[:-1].numel()
    if not source.numel() or (rows <= FEWEST and on_intel()):
        return F.linear(source, weight, bias)
    if rows <= SKINNY and not on_intel():
        columns = source.reshape(-1, weight.shape[1]).t()
        product = weight @ columns if bias is None else torch.addmm(bias.unsqueeze(1), weight, columns)
        return product.t().reshape(*source.shape[:-1], weight.shape[0]).contiguous()
    found: Tensor = onednn_linear()(source, weight, bias, "none", [], "")
    return found


@cache
def on_intel() -> bool:
    """Whether the processor is one that MKL is written for."""
    told = Path("/proc/cpuinfo")
    return "GenuineIntel" in (told.read_text() if told.exists() else platform.processor())


@torch.library.impl(LIBRARY, "linear", "Meta")
def _shape(source: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return source.new_empty(*source.shape[:-1], weight.shape[0])


linear = torch.ops.duca_compile.linear.default
