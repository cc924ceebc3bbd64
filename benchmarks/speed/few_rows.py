"""Linear layers over few rows, as cached steps are made of: torch's default against the op that we call instead.

A weight of DiT-XL/2's MLP, `[4608, 1152]`, float32; ten weights in turn, so that none is found in a cache.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from duca_compile.kernels import few_row_linear
from figures import Ratios
from speed.section import Parts
from speed.setting import Setting

Layer = Callable[[Tensor, Tensor, Tensor], Tensor]
ROWS = (1, 2, 4, 8, 16, 25, 50, 100, 200, 512)
LAYERS: tuple[Layer, ...] = (F.linear, few_row_linear.linear)


def few_rows(setting: Setting) -> Parts:
    setting.need_cpu()
    width, height = (32, 64) if setting.tiny else (1152, 4608)
    weights, bias = [torch.randn(height, width) for _ in range(10)], torch.randn(height)
    for rows in ROWS[: 2 if setting.tiny else None]:
        x = torch.randn(rows, width)
        pairs = [[_seconds(setting, layer, x, weights, bias) for layer in LAYERS] for _ in range(12)][2:]
        default, ours = zip(*pairs, strict=True)
        moved = sum(weight.nbytes for weight in weights) / 1e9
        speeds = {"linear_gb_per_s": default, "ours_gb_per_s": ours}
        shown = {name: moved / statistics.median(found) for name, found in speeds.items()}
        yield f"{rows} rows", {**shown, **Ratios.of(ours, default).told}


def _seconds(setting: Setting, layer: Layer, x: Tensor, weights: list[Tensor], bias: Tensor) -> float:
    return setting.timed(partial(_all, layer, x, weights, bias))[1].host


def _all(layer: Layer, x: Tensor, weights: list[Tensor], bias: Tensor) -> None:
    for weight in weights:
        layer(x, weight, bias)
