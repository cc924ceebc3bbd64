"""Inductor: its configuration, its caches, its packages, and oneDNN's linear layer.

- `torch._dynamo.lookup_backend`, `config_patches` of the backend "inductor"; `list_mode_options`, `list_options`,
  `config.get_type` and `config.triton.cudagraphs` of `torch._inductor`.
- `TracingContext`, `tracing` and `detect_fake_mode` of `torch._guards`, `FakeTensorMode` and what it remembers,
  `ShapeEnv`: the surroundings in which Inductor and AOTAutograd use their caches, as Dynamo makes them.
- `get_manager` of `torch._inductor.cudagraph_trees` and the manager's `ids_to_funcs`; `triton.cudagraph_trees` and
  `cudagraph_policy` (not in 2.11) of `torch._inductor.config`: which functions are run as CUDA graphs.
- `torch._inductor.cpp_builder.get_cpp_compiler`: the C++ compiler that it finds.
- `aoti_compile_and_package` and `aoti_load_package` of `torch._inductor`: graphs compiled ahead of time, as files.
- `torch._inductor.utils.is_triton_fp8_dtype_supported`, which not every release has: float8 on a device.
- `torch.ops.mkldnn._linear_pointwise`: oneDNN's linear layer over weights as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._inductor.config
from torch import Tensor, fx
from torch._guards import TracingContext, detect_fake_mode, tracing
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from duca_compile.torch_private.graphs import OpOverload, as_from_dynamo

CUDA_GRAPHS = "triton.cudagraphs"


def has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def onednn_linear() -> OpOverload:
    """`(input, weight, bias, "none", [], "")`, where torch is built with oneDNN."""
    found: OpOverload = torch.ops.mkldnn._linear_pointwise.default
    return found


def cpp_compiler() -> str | None:
    """The command of the C++ compiler that Inductor uses; None where it finds none."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        return str(get_cpp_compiler())
    except Exception:
        return None


def inner_compiler(inner: str | Callable[..., Any], changes: Mapping[str, Any]) -> Callable[..., Any]:
    """The backend function of a registered name; `changes` reach Inductor as its configuration."""
    if callable(inner):
        return inner
    found: Callable[..., Any] = torch._dynamo.lookup_backend(inner)
    return partial(_compile_with_caches, found, changes) if inner == "inductor" else found


def _compile_with_caches(
    inductor: Callable[..., Any], changes: Mapping[str, Any], gm: fx.GraphModule, inputs: Sequence[Any]
) -> Callable[..., Any]:
    """Inductor's function, kept on disk and in what `torch.compiler.save_cache_artifacts` gives.

    Its caches need a tracing context that knows shapes. Dynamo has ended its own when a mode is compiled at its first
    call: then all sizes are those of the inputs, and no guard is taken. Where it has not, its symbols must stay. Nor is
    there one for numbers among the inputs: it would make symbols of them, under guards that nobody checks.
    """
    if TracingContext.try_get() is not None or not all(isinstance(given, Tensor) for given in inputs):
        compiled: Callable[..., Any] = inductor(gm, inputs, config_patches=dict(changes))
        return compiled
    theirs = detect_fake_mode(inputs)
    mode = theirs or FakeTensorMode(shape_env=ShapeEnv())
    with tracing(TracingContext(mode)):
        known = [mode.from_tensor(given, static_shapes=True) for given in inputs if not isinstance(given, FakeTensor)]
        if not [*gm.parameters(), *gm.buffers()]:
            as_from_dynamo(gm)
        compiled = inductor(gm, inputs, config_patches=dict(changes))
        del known  # until here: the mode remembers them, and takes an input that it knows as it is
    if theirs is None:
        mode.fake_tensor_converter.meta_converter.describer.lookup_tensor.clear()  # weak references: `forget_tensors`
    return compiled


def inductor_modes() -> dict[str, dict[str, Any]]:
    """What each `mode` of `torch.compile` changes in Inductor's configuration."""
    return dict(torch._inductor.list_mode_options())


def inductor_options() -> dict[str, type | None]:
    """The names in Inductor's configuration, with the type of each where it is a plain one."""
    config: Any = torch._inductor.config
    kinds = {name: config.get_type(name) for name in torch._inductor.list_options()}
    plain = (bool, int, float, str)
    return {name: kind if kind in plain else None for name, kind in kinds.items()}


def records_cuda_graphs(changes: Mapping[str, Any], inputs: Sequence[Any]) -> bool:
    """Whether Inductor, so configured, would run a graph over these inputs as a CUDA graph."""
    config: Any = torch._inductor.config
    wanted = bool(changes.get(CUDA_GRAPHS, config.triton.cudagraphs))
    return wanted and any(isinstance(given, Tensor) and given.device.type == "cuda" for given in inputs)


def cuda_graphed_functions() -> int | None:
    """How many functions this thread has run as CUDA graphs so far; None where another keeper of them was asked for."""
    config: Any = torch._inductor.config
    if not config.triton.cudagraph_trees or getattr(config, "cudagraph_policy", None) is not None:
        return None
    if not torch.cuda.is_available():
        return 0
    from torch._inductor.cudagraph_trees import get_manager

    managers = [get_manager(at, create_if_none_exists=False) for at in range(torch.cuda.device_count())]
    return sum(len(manager.ids_to_funcs) for manager in managers if manager is not None)


def triton_knows(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether Triton knows float8 numbers of this type on a CUDA or ROCm device, as far as torch can tell."""
    from torch._inductor import utils

    asked = getattr(utils, "is_triton_fp8_dtype_supported", None)
    return asked is None or bool(asked(dtype, device))


def package_ahead_of_time(gm: fx.GraphModule, inputs: tuple[Any, ...], path: Path, changes: Mapping[str, Any]) -> None:
    """Compiles a graph for inputs like these into a file; what it writes to its inputs is written there, too."""
    exported = torch.export.export(gm, inputs)
    torch._inductor.aoti_compile_and_package(exported, package_path=str(path), inductor_configs=dict(changes))


def load_package(path: Path) -> Callable[..., Any]:
    """What `package_ahead_of_time` has compiled: called with the inputs, it gives the results in order."""
    return torch._inductor.aoti_load_package(str(path))
