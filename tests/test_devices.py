"""What is kept lies on one device, in a type that the device knows."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import duca_compile
from duca_compile import DucaWarning, torch_private
from duca_compile.graph import ir
from duca_compile.plan.devices import refuse_devices
from duca_compile.refusal import Refused
from helpers import Captured, captured
from tiny import Tiny, tiny_call


def moved(found: Captured, *devices: str) -> Captured:
    """The blocks on these devices, in turns."""
    nodes = [
        node for node in found.capture.gm.graph.nodes if node.name in {branch.sum for branch in found.facts.branches}
    ]
    with FakeTensorMode():
        for at, node in enumerate(nodes):
            node.meta["val"] = torch.empty(ir.shape(node) or (), device=devices[at % len(devices)])
    return found


def planned(**options: Any) -> Captured:
    return captured(Tiny().eval(), *tiny_call(), options={"order": "aggressive", **options})


def test_blocks_on_several_devices_are_refused() -> None:
    found = moved(planned(), "cuda:0", "cuda:1")
    with pytest.raises(Refused, match=r"on several devices \(cuda:0, cuda:1\).*move the model to one device"):
        refuse_devices(found.capture.gm.graph, found.plan)
    found = moved(planned(), "cuda:1")
    refuse_devices(found.capture.gm.graph, found.plan)


def test_what_holds_no_numbers_is_refused() -> None:
    """And `explain` needs none."""
    model, given = Tiny().eval().to("meta"), [each.to("meta") for each in tiny_call()]
    compiled = torch.compile(model, backend="duca", options={"inner": "eager"})
    with torch.no_grad(), pytest.warns(DucaWarning, match="are on the meta device.*load the weights first"):
        assert compiled(*given).is_meta
    assert duca_compile.explain(model, *given).verdict.outcome == "wholly"


@pytest.mark.parametrize(
    ("capability", "refused"), [((8, 0), True), ((8, 9), False), ((9, 0), False), ((10, 0), False)]
)
def test_8_bit_numbers_need_a_device_that_knows_them(
    capability: tuple[int, int], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    found = moved(planned(cache_dtype=torch.float8_e4m3fn, inner="inductor"), "cuda:0")
    if refused:
        with pytest.raises(Refused, match=r"needs a device of compute capability 8\.9, and cuda:0 has 8\.0"):
            refuse_devices(found.capture.gm.graph, found.plan)
    else:
        refuse_devices(found.capture.gm.graph, found.plan)
    for options in ({"cache_dtype": torch.float8_e5m2}, {"cache_dtype": torch.float8_e4m3fn, "inner": "eager"}, {}):
        found = moved(planned(**options), "cuda:0")
        refuse_devices(found.capture.gm.graph, found.plan)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_on_rocm_triton_says_which_8_bit_numbers_it_knows(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "7.2")
    monkeypatch.setattr(torch_private, "triton_knows", lambda asked, device: asked is torch.float8_e5m2)
    found = moved(planned(cache_dtype=dtype, inner="inductor"), "cuda:0")
    if dtype is torch.float8_e5m2:
        refuse_devices(found.capture.gm.graph, found.plan)
    else:
        with pytest.raises(Refused, match=r"Triton knows no such numbers on cuda:0; torch\.bfloat16 works there"):
            refuse_devices(found.capture.gm.graph, found.plan)


def test_metal_has_no_8_bit_numbers() -> None:
    found = moved(planned(cache_dtype=torch.float8_e5m2), "mps")
    with pytest.raises(Refused, match=r"torch\.bfloat16 works there"):
        refuse_devices(found.capture.gm.graph, found.plan)
    found = moved(planned(cache_dtype=torch.bfloat16), "mps")
    refuse_devices(found.capture.gm.graph, found.plan)
