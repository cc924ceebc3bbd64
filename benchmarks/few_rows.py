"""Linear layers over few rows, as cached steps are made of: torch's default against the op that we call instead.

    python benchmarks/few_rows.py

A weight of DiT-XL/2's MLP, `[4608, 1152]`, float32; ten weights in turn, so that none is found in a cache. A figure is the
median of paired ratios.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from duca_compile.kernels import few_row_linear

ROWS = (1, 2, 4, 8, 16, 25, 50, 100, 200, 512)
Layer = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    weights, bias = [torch.randn(4608, 1152) for _ in range(10)], torch.randn(4608)
    table = Table(title=f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, float32")
    for heading in ("rows", "linear (GB/s of weight)", "ours (GB/s)", "time, ours / linear"):
        table.add_column(heading, justify="right")
    for rows in ROWS:
        source = torch.randn(rows, 1152)
        pairs = [
            [_seconds(layer, source, weights, bias) for layer in (F.linear, few_row_linear.linear)] for _ in range(12)
        ]
        rates = [
            sum(weight.nbytes for weight in weights) / statistics.median(each) / 1e9
            for each in zip(*pairs[2:], strict=True)
        ]
        ratio = statistics.median(ours / default for default, ours in pairs[2:])
        table.add_row(str(rows), *(f"{rate:.1f}" for rate in rates), f"{ratio:.2f}")
    Console().print(table)


def _seconds(layer: Layer, source: Tensor, weights: list[Tensor], bias: Tensor) -> float:
    began = time.perf_counter()
    for weight in weights:
        layer(source, weight, bias)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
