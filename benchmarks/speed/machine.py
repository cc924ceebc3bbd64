"""What this machine can do: the rates that all other figures are read against."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speed.section import Parts
from speed.setting import Setting

ROWS = (2, 50, 410, 4096)
"""Of a cached step's products: DiT-XL/2's modulation, its tokens (batch 2), FLUX's tokens, and a full step's."""


@dataclass(frozen=True)
class Rates:
    flops_per_s: float
    bytes_per_s: float

    def floor(self, flops: float, moved: float) -> float:
        """Seconds that so many FLOPs and bytes take at least."""
        return max(flops / self.flops_per_s, moved / self.bytes_per_s)


def versions(setting: Setting) -> Mapping[str, str]:
    found = {"python": platform.python_version()}
    if setting.on_gpu:
        import triton

        found |= {"triton": triton.__version__, "cuda": str(torch.version.cuda)}
    return found


def rates(setting: Setting) -> Parts:
    """A large product, a large copy, and products over as few rows as cached steps have: `us`, and what the rates allow."""
    found = measured(setting)
    yield "rates", {"product_tflops_per_s": found.flops_per_s / 1e12, "moved_tb_per_s": found.bytes_per_s / 1e12}
    made: dict[str, Any] = {"device": setting.device, "dtype": setting.dtype}
    width, height = (64, 256) if setting.tiny else (3072, 12288)
    weights, bias = [torch.randn(height, width, **made) for _ in range(4)], torch.randn(height, **made)
    for rows in ROWS[: 2 if setting.tiny else 4 if setting.on_gpu else 3]:
        x = torch.randn(rows, width, **made)
        spent = setting.median(partial(_products, x, weights, bias)) / len(weights)
        floor = found.floor(2 * rows * width * height, weights[0].nbytes)
        yield f"{rows} rows", {"us": 1e6 * spent, "floor_us": 1e6 * floor}


def measured(setting: Setting) -> Rates:
    """On a GPU of a square product and of a copy; on a CPU of a layer of DiT-XL/2 over 512 rows, and of reading."""
    made: dict[str, Any] = {"device": setting.device, "dtype": setting.dtype}
    if setting.on_gpu:
        a, b = (torch.randn(8192, 8192, **made) for _ in range(2))
        source = torch.randint(256, (2**30,), dtype=torch.uint8, device=setting.device)
        target = torch.empty_like(source)
        moved = 2 * source.nbytes / setting.median(lambda: target.copy_(source))
        return Rates(2 * 8192**3 / setting.median(lambda: a @ b), moved)
    rows, width, height, large = (8, 64, 256, 2**18) if setting.tiny else (512, 1152, 4608, 2**27)
    x, weights = torch.randn(rows, width, **made), [torch.randn(height, width, **made) for _ in range(8)]
    product = setting.median(lambda: _products(x, weights, None)) / len(weights)
    read = torch.ones(large)
    return Rates(2 * rows * width * height / product, read.nbytes / setting.median(read.sum))


def _products(x: Tensor, weights: list[Tensor], bias: Tensor | None) -> list[Tensor]:
    return [F.linear(x, weight, bias) for weight in weights]
