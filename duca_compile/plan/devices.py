"""What the device that a model's blocks lie on can keep."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from duca_compile import torch_private
from duca_compile.graph import ir
from duca_compile.plan.plan import Plan
from duca_compile.refusal import Refused

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
CAPABLE = (8, 9)
"""The compute capability from which on Triton knows `float8_e4m3fn` on NVIDIA's devices."""


def refuse_devices(graph: fx.Graph, plan: Plan) -> None:
    """Raises `Refused` where caches would lie on several devices, or in a type that their device does not know."""
    names = {*(slot.value for slot in plan.slots), *(branch.sum for branch in plan.facts.branches)}
    found = sorted({ir.value(node).device for node in graph.nodes if node.name in names}, key=str)
    if len(found) > 1:
        raise Refused(
            f"its blocks lie on several devices ({', '.join(map(str, found))}), and what is kept of a generation on "
            "one; move the model to one device"
        )
    for device in found:
        _refuse_dtype(device, plan)


def refuse_shapes_alone(inputs: Iterable[Any]) -> None:
    """Raises `Refused` where one of the weights or arguments is without numbers, which no step can be told by."""
    if any(isinstance(each, Tensor) and each.is_meta for each in inputs):
        raise Refused(
            "some weights or arguments are on the meta device, which holds no numbers; load the weights first "
            "(duca_compile.explain needs none)"
        )


def _refuse_dtype(device: torch.device, plan: Plan) -> None:
    small = plan.options.cache_dtype
    if device.type == "mps" and small in FLOAT8:
        raise Refused(f"cache_dtype={small}: Metal has no such numbers; torch.bfloat16 works there")
    if device.type != "cuda" or small not in FLOAT8 or plan.options.inner != "inductor":
        return
    if torch.version.hip:
        if not torch_private.triton_knows(small, device):
            raise Refused(f"cache_dtype={small}: Triton knows no such numbers on {device}; torch.bfloat16 works there")
        return
    capability = torch.cuda.get_device_capability(device)
    if small is torch.float8_e4m3fn and capability < CAPABLE:
        needed, has = (".".join(map(str, each)) for each in (CAPABLE, capability))
        raise Refused(
            f"cache_dtype={small} needs a device of compute capability {needed}, and {device} has {has}; "
            "torch.float8_e5m2 and torch.bfloat16 work there"
        )
