"""What tests of several processes need: processes, and models that they run together."""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed import _functional_collectives as functional
from torch.multiprocessing.spawn import spawn

from duca_compile import torch_private
from zoo.core import example_dit

PATIENCE = 20
"""Seconds that a process waits for another one before it fails; those that are started may take a while to import."""


def together(function: Callable[..., None], folder: Path, *args: Any, processes: int = 2) -> None:
    """Runs a function of a module in several processes, which may wait for one another, and fails where they hang."""
    started = spawn(_begin, (processes, str(folder / "store"), function, args), nprocs=processes, join=False)
    ends = time.monotonic() + 6 * PATIENCE
    while not started.join(1):
        if time.monotonic() > ends:
            for process in started.processes:
                process.kill()
            raise TimeoutError("the processes wait for each other")


def _begin(rank: int, processes: int, store: str, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=processes, timeout=timedelta(seconds=PATIENCE)
    )
    torch.manual_seed(0)
    with torch.no_grad():
        function(rank, *args)
    distributed.barrier()  # a process that leaves earlier ends those that still read from it
    distributed.destroy_process_group()


@contextmanager
def alone_of_two() -> Iterator[None]:
    """One process of two that are never there: collectives do nothing."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        yield
    finally:
        distributed.destroy_process_group()


class InRows(nn.Module):
    """A linear layer of which each process has a part of the input features; the processes add up what they get."""

    def __init__(self, whole: nn.Linear, rank: int, processes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(whole.weight.detach().chunk(processes, 1)[rank].clone())
        self.bias = whole.bias

    def forward(self, x: Tensor) -> Tensor:
        part, everybody = nn.functional.linear(x, self.weight), distributed.group.WORLD
        assert everybody is not None
        return functional.all_reduce(part, "sum", everybody) + self.bias


def in_columns(whole: nn.Linear, rank: int, processes: int) -> nn.Linear:
    """A linear layer of which each process has a part of the output features."""
    part = nn.Linear(whole.in_features, whole.out_features // processes)
    part.weight = nn.Parameter(whole.weight.detach().chunk(processes, 0)[rank].clone())
    part.bias = nn.Parameter(whole.bias.detach().chunk(processes, 0)[rank].clone())
    return part


def shared_dit(rank: int = 0, processes: int = 2) -> tuple[nn.Module, nn.Module]:
    """A model whole, and with MLPs that are spread over the processes."""
    whole = example_dit()
    spread = copy.deepcopy(whole)
    for block in spread.get_submodule("blocks").children():
        mlp: Any = block.get_submodule("mlp")
        mlp[0], mlp[2] = in_columns(mlp[0], rank, processes), InRows(mlp[2], rank, processes)
    return whole, spread


def parallel_dit(whole: nn.Module, tokens_are_spread: bool, processes: int = 2) -> nn.Module:
    """A copy whose MLPs torch has spread over all processes; their tokens too, outside of the two layers."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        PrepareModuleInputOutput,
        RowwiseParallel,
        parallelize_module,
    )

    mesh, copied = init_device_mesh("cpu", (processes,)), copy.deepcopy(whole)
    here, tokens = Replicate(), Shard(1) if tokens_are_spread else Replicate()
    plan: dict[str, Any] = {
        "mlp.0": ColwiseParallel(input_layouts=tokens),
        "mlp.2": RowwiseParallel(output_layouts=tokens),
    }
    if tokens_are_spread:
        plan["mlp"] = PrepareModuleInputOutput(
            input_layouts=(here,),
            desired_input_layouts=(tokens,),
            use_local_input=True,
            output_layouts=(tokens,),
            desired_output_layouts=(here,),
        )
    for block in copied.get_submodule("blocks").children():
        parallelize_module(block, mesh, plan)
    return copied


def in_context(whole: Any, processes: int = 2) -> Any:
    """A copy whose tokens `diffusers` spreads over processes, by Ulysses' exchange of heads for tokens.

    Its plan does not split timesteps, about which Wan's warns, where Dynamo would break the graph.
    """
    from diffusers import ContextParallelConfig

    copied, torch.accelerator.device_count = copy.deepcopy(whole), lambda: 1  # which counts no CPUs
    plan = {name: spread for name, spread in copied._cp_plan.items() if name or "timestep" not in spread}
    copied.enable_parallelism(config=ContextParallelConfig(ulysses_degree=processes), cp_plan=plan)
    return copied


def waits_for_others(gm: torch.fx.GraphModule) -> int:
    """How many collectives a graph has."""
    return sum(torch_private.is_collective(node.target) for node in gm.graph.nodes)
