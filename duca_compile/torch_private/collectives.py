"""Operations of `torch.distributed` in captured graphs.

- The namespaces of `torch.ops` below: each operation in them waits for other processes, but for `wait_tensor`, which
  waits for such an operation. `group_name` is their argument that names the processes.
- `torch.distributed.distributed_c10d._resolve_process_group`: the group of that name.
"""

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

_NAMESPACES = ("_c10d_functional", "_c10d_functional_autograd", "c10d_functional", "c10d", "symm_mem", "_dtensor")
_TO_ONE = ("isend", "irecv", "batch_p2p_ops", "send", "recv_", "recv_any_source_")
"""They send to one process, or receive from one: what each process of a group runs differs."""


def is_collective(target: Any) -> bool:
    """Whether an operation, or one of its overloads as Dynamo calls it, waits for other processes."""
    return _namespace(target) in _NAMESPACES and _name(target) != "wait_tensor"


def is_wait(target: Any) -> bool:
    """Whether it is the end of a collective, before which nobody may read its result."""
    return _namespace(target) in _NAMESPACES and _name(target) == "wait_tensor"


def group_of(op: OpOverload, named: Any) -> Any:
    """The group of processes that a collective runs over, of which `named` is its argument `group_name`; None where
    that cannot be told."""
    if _name(op) in _TO_ONE or not torch.distributed.is_initialized():
        return None
    if isinstance(named, torch.distributed.ProcessGroup):
        return named
    if not isinstance(named, str):
        return None
    return torch.distributed.distributed_c10d._resolve_process_group(named)  # type: ignore


def ranks_of(group: Any) -> list[int]:
    """All processes of a group, by their numbers among all."""
    return torch.distributed.get_process_group_ranks(group)


def reduce_largest(numbers: Tensor, group: Any) -> None:
    """Puts in place of each number the largest that a process of the group has there."""
    torch.distributed.all_reduce(numbers, torch.distributed.ReduceOp.MAX, group=group)


def _namespace(target: Any) -> str:
    return _packet(target).rpartition(".")[0]


def _name(target: Any) -> str:
    return _packet(target).rpartition(".")[2]


def _packet(target: Any) -> str:
    """The name of an operation in its namespace; empty where the target is none."""
    packet = target.overloadpacket if isinstance(target, OpOverload) else target
    return str(packet) if isinstance(packet, OpOverloadPacket) else ""
