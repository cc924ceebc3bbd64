"""What this machine can do: the rates that all other figures are read against."""

import platform
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from on_gpu.section import Parts
from on_gpu.setting import Setting

ROWS = (2, 50, 410, 4096)
"""Of a cached step's products: DiT-XL/2's modulation, its tokens (batch 2), FLUX's tokens, and a full step's."""


def versions(setting: Setting) -> dict[str, Any]:
    found: dict[str, Any] = {"device": card(setting), "torch": torch.__version__, "python": platform.python_version()}
    if setting.on_gpu:
        import triton

        found |= {"triton": triton.__version__, "cuda": torch.version.cuda}
    return found


def card(setting: Setting) -> str:
    return torch.cuda.get_device_name() if setting.on_gpu else f"CPU, {platform.machine()}"


def rates(setting: Setting) -> Parts:
    """A large product, a large copy, and products over as few rows as cached steps have: `us`, and what the rates allow."""
    size, large = (256, 2**20) if setting.tiny else (8192, 2**30)
    made: dict[str, Any] = {"device": setting.device, "dtype": setting.dtype}
    a, b = (torch.randn(size, size, **made) for _ in range(2))
    flops = 2 * size**3 / _median(setting, lambda: a @ b)
    source = torch.randint(256, (large,), dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    moved = 2 * large / _median(setting, lambda: target.copy_(source))
    yield "rates", {"product_tflops_per_s": flops / 1e12, "copy_tb_per_s": moved / 1e12}
    width, height = (64, 256) if setting.tiny else (3072, 12288)
    weights, bias = [torch.randn(height, width, **made) for _ in range(4)], torch.randn(height, **made)
    for rows in ROWS[: 2 if setting.tiny else None]:
        x = torch.randn(rows, width, **made)
        spent = _median(setting, partial(_products, x, weights, bias)) / len(weights)
        floor = max(2 * rows * width * height / flops, weights[0].nbytes / moved)
        yield f"{rows} rows", {"us": 1e6 * spent, "floor_us": 1e6 * floor}


def _products(x: Tensor, weights: list[Tensor], bias: Tensor) -> list[Tensor]:
    return [F.linear(x, weight, bias) for weight in weights]


def _median(setting: Setting, run: Callable[[], Any]) -> float:
    """Without the runs that warm up."""
    return statistics.median([setting.timed(run)[1].device for _ in range(12)][2:])
