"""Makes Inductor believe in a GPU that is not there: it then writes the Triton code of an H100, which nothing compiles.

A CUDA build of torch is needed, for its operations' CUDA kernels are what graphs are lowered to, and no GPU. What is
changed of torch here stays changed until the process ends: capture graphs first, then `pretend`.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, fx
from torch._dynamo import device_interface
from torch._functorch import config as functorch
from torch._guards import TracingContext, tracing
from torch._inductor import compile_fx, config
from torch._inductor.fx_passes import fuse_attention, pad_mm
from torch._inductor.graph import GraphLowering
from torch._subclasses import fake_tensor

H100 = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3", major=9, minor=0, multi_processor_count=132, total_memory=80 * 2**30, warp_size=32,
    max_threads_per_multi_processor=2048, max_threads_per_block=1024, regs_per_multiprocessor=65536,
    L2_cache_size=50 * 2**20, shared_memory_per_block=48 * 2**10, shared_memory_per_block_optin=227 * 2**10,
    shared_memory_per_multiprocessor=228 * 2**10, is_integrated=False, gcnArchName="",
)  # fmt: skip
CUDA = torch.device("cuda", 0)
ATTENTION = (
    torch.ops.aten.scaled_dot_product_attention.default, torch.nn.functional.scaled_dot_product_attention,
)  # fmt: skip
INDUCTORS = tuple(
    f"_inductor.{name}" for name in ("utils", "scheduler", "compile_fx", "graph", "codecache", "codegen.triton")
)
"""Modules that have imported by name what tells whether Triton is of use here."""
ALONE = {"fx_graph_cache": False, "compile_threads": 1}
"""Of Inductor's configuration: nothing is remembered of code that no GPU ran, and no worker starts."""


def why_not() -> str | None:
    """What keeps this machine from it."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is no CUDA build: it has no CUDA operations to write code for"
    if torch.cuda.is_available():
        return "there is a GPU here, and a made-up one would hide it: python benchmarks speed measures on it"
    return None


class _NoGuard:
    """Stands for the context that chooses a device."""

    def __init__(self, *given: Any) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *given: Any) -> None:
        pass


def pretend() -> None:
    """To be called once, after all that is to run on the CPU."""
    cuda: Any = torch.cuda
    interface: Any = device_interface.CudaInterface
    cuda.device = interface.device = _NoGuard
    _answer(torch._C, _cuda_getDevice=0, _cuda_getDeviceCount=1)
    _answer(cuda, get_device_properties=H100, get_rng_state=torch.zeros(16, dtype=torch.uint8), _lazy_init=None)
    _answer(interface, get_device_properties=H100)
    _answer(interface.Worker, get_device_properties=H100)
    _answer(fake_tensor, init_gpu_context=None)
    for name in ("utils._triton", *INDUCTORS):
        _answer(importlib.import_module(f"torch.{name}"), has_triton=True, triton_hash_with_backend="of no backend")
    _answer(fuse_attention, _sfdp_init=None)
    _answer(pad_mm, _pad_mm_init=None)


def _answer(owner: Any, **answers: Any) -> None:
    """Those of these functions that the owner has answer so, whatever they are asked."""
    for name, answer in answers.items():
        if hasattr(owner, name):
            function = partial(_say, answer)
            setattr(owner, name, staticmethod(function) if isinstance(owner, type) else function)


def _say(answer: Any, *given: Any, **named: Any) -> Any:
    return answer


@dataclass(frozen=True)
class Generated:
    """Python code with Triton kernels in it, and how many of the graph's inputs are tensors, and declared static."""

    code: str
    tensors: int
    static: int


class _Written(Exception):
    """Ends a compilation once the code is there."""


def generated(gm: fx.GraphModule, inputs: Sequence[Any], changes: Mapping[str, Any] | None = None) -> Generated:
    """Inductor's code of a graph captured on the CPU, as if captured on the GPU. `changes`: to its configuration."""
    found: dict[str, Any] = {}

    def inner(lowered: fx.GraphModule, examples: Sequence[Any], **given: Any) -> Any:
        found["tensors"] = sum(isinstance(each, Tensor) for each in examples)
        found["static"] = len(given.get("static_input_idxs", ()))
        return compile_fx.compile_fx_inner(lowered, examples, **given)

    mode = fake_tensor.FakeTensorMode(allow_non_fake_inputs=True)
    alone = config.patch({**ALONE, **(changes or {})}), functorch.patch(enable_autograd_cache=False)
    with alone[0], alone[1], _stopped_at_code(found), tracing(TracingContext(mode)):
        try:
            compile_fx.compile_fx(_moved(gm), _fakes(inputs, mode), inner_compile=inner)
        except Exception:
            if "code" not in found:
                raise
    return Generated(**found)


@contextmanager
def _stopped_at_code(found: dict[str, Any]) -> Iterator[None]:
    def keep(code: str) -> None:
        found["code"] = code
        raise _Written

    before = GraphLowering.save_output_code
    GraphLowering.save_output_code = staticmethod(keep)
    try:
        yield
    finally:
        GraphLowering.save_output_code = before


def _moved(gm: fx.GraphModule) -> fx.GraphModule:
    """The graph with the devices it names replaced, and attention as torch would choose it on an H100."""
    for module in gm.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                node.args, node.kwargs = fx.node.map_aggregate((node.args, node.kwargs), _on_cuda)
                node.meta.pop("val", None)
                if any(node.target is each for each in ATTENTION):
                    node.target = _flash
            module.recompile()
    return gm


def _on_cuda(given: Any) -> Any:
    return CUDA if isinstance(given, torch.device) else given


def _flash(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """The choice itself cannot be made: the device would be asked. Without a mask and in half precision it is this."""
    assert attn_mask is None
    assert not enable_gqa
    found: Tensor = torch.ops.aten._scaled_dot_product_flash_attention.default(
        query, key, value, dropout_p, is_causal, scale=scale
    )[0]
    return found


def _fakes(inputs: Sequence[Any], mode: fake_tensor.FakeTensorMode) -> list[Any]:
    """Tensors of the same form on the device, each as far into its memory as the real one."""
    with mode:
        return [_fake(each) if isinstance(each, Tensor) else each for each in inputs]


def _fake(given: Tensor) -> Tensor:
    length = given.untyped_storage().nbytes() // given.element_size()
    whole = torch.empty(length, dtype=given.dtype, device=CUDA)
    return whole.as_strided(given.size(), given.stride(), given.storage_offset())
