"""A model's graphs are found by the module that was compiled and by the weights, which nobody keeps alive."""

import copy
import os
import socket
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

import duca_compile
from duca_compile import Mode
from duca_compile.runtime import registry
from helpers import compiled, lenient
from zoo.case import noise
from zoo.core import example_dit

LABELS = torch.tensor([1, 2])


def call(t: float) -> tuple[Tensor, Tensor, Tensor]:
    return noise(2, 1, 8, 8), torch.full((2,), t), LABELS


def remembered(model: nn.Module) -> list[int]:
    return [len(registry._runs[graph].weights) for graph in registry.graphs(model)]


def test_weights_given_by_a_function_are_found_by_the_module_and_forgotten() -> None:
    model = example_dit()
    fast = compiled(model)
    for _ in range(3):
        given = {f"_orig_mod.{name}": weight.clone() for name, weight in model.named_parameters()}
        for step in range(2):
            torch.func.functional_call(fast, given, call(900.0 - 20 * step))
        assert remembered(model) == [len(given) + len(list(model.buffers()))]
    assert duca_compile.stats(model).steps == {Mode.FULL: 3, Mode.CONSERVATIVE: 3, Mode.AGGRESSIVE: 0}
    assert duca_compile.stats(model).bytes
    duca_compile.reset(model)
    assert not duca_compile.stats(model).bytes


def test_replaced_weights_are_forgotten() -> None:
    model = example_dit()
    fast = compiled(model)
    for _ in range(3):
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight = nn.Parameter(module.weight.clone())
        fast(*call(900.0))
        assert remembered(model) == [len([*model.parameters(), *model.buffers()])]


def test_a_model_around_the_compiled_one_and_a_part_of_it_find_its_graphs() -> None:
    model = example_dit()
    fast = compiled(model)
    fast(*call(900.0))
    (graph,) = registry.graphs(fast)
    assert registry.graphs(nn.Sequential(model)) == [graph]
    assert registry.graphs(nn.ModuleList(model.children())) == [graph]
    assert not registry.graphs(nn.Linear(1, 1))


def test_a_copy_finds_what_it_has_run_itself() -> None:
    model = example_dit()
    fast = lenient(model)
    fast(*call(900.0))
    twin = copy.deepcopy(fast)
    assert not registry.graphs(twin)
    twin(*call(900.0))
    assert registry.graphs(twin)
    assert duca_compile.stats(twin).steps[Mode.FULL]


def _sharded(rank: int, port: int) -> None:
    from torch.distributed.fsdp import fully_shard

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(0)
    model: Any = example_dit()
    with torch.no_grad():
        want = model(*call(900.0))
        fully_shard(model)
        model.compile(backend="duca", options={"method": "duca", "inner": "eager"})
        torch.testing.assert_close(model(*call(900.0)), want)
        model(*call(880.0))
    found = duca_compile.stats(model)
    assert found.graphs
    assert sum(found.steps.values()) == 2
    duca_compile.reset(model)
    assert not duca_compile.stats(model).bytes
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_sharded_model_finds_its_graphs() -> None:
    """FSDP2 on two processes: the model's parameters are shards, the graphs run over weights put together from them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_sharded, (port,), nprocs=2)
