"""Writes out the casts that autocast would insert, so that every op of the graph computes what it says."""

import operator
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, fx

from duca_compile import torch_private
from duca_compile.capture.write_out import write_out
from duca_compile.graph import ir
from duca_compile.refusal import Refused
from duca_compile.torch_private import TorchDispatchMode, tree_leaves

Region = dict[str, torch.dtype]
"""By device type, the type that autocast lowers to; devices on which it is off are missing."""


def with_casts(gm: fx.GraphModule) -> fx.GraphModule:
    """A copy of a Dynamo graph without autocast regions, and with the casts of these and of autocast around the call.

    Ops that autocast reaches inside of, where no cast of an input says the same, become the ops that they are made of.
    """
    around = ambient()
    if not around and not any(node.target is torch_private.enter_autocast for node in gm.graph.nodes):
        return gm
    return _with_casts(gm, around)


def _with_casts(gm: fx.GraphModule, around: Region) -> fx.GraphModule:
    copy = ir.copied(gm)
    regions = [around]
    gone: set[fx.Node] = set()
    for node in list(copy.graph.nodes):
        if node in gone:
            continue
        if node.target is torch_private.enter_autocast:
            regions.append(_entered(regions[-1], node))
        elif node.target is torch_private.exit_autocast:
            regions.pop()
        elif isinstance(node.target, torch_private.HigherOrderOperator):
            _cast_bodies(copy, node, regions[-1])
        elif node.op in ("call_function", "call_method") and regions[-1]:
            gone |= _cast(copy, node, regions[-1])
    for node in reversed(copy.graph.nodes):
        if node.target in (torch_private.enter_autocast, torch_private.exit_autocast):
            copy.graph.erase_node(node)
    copy.recompile()
    return copy


def ambient() -> Region:
    """Where autocast is on around the call."""
    accelerator = torch.accelerator.current_accelerator()
    devices = ["cpu"] if accelerator is None else ["cpu", accelerator.type]
    return {device: torch.get_autocast_dtype(device) for device in devices if torch.is_autocast_enabled(device)}


def off(devices: tuple[str, ...]) -> AbstractContextManager[None]:
    return _off(devices) if devices else nullcontext()


@contextmanager
def _off(devices: tuple[str, ...]) -> Iterator[None]:
    with ExitStack() as stack:
        for device in devices:
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def on(region: Region) -> Iterator[None]:
    with ExitStack() as stack:
        for device, dtype in region.items():
            stack.enter_context(torch.autocast(device, dtype, cache_enabled=False))
        yield


def _entered(region: Region, node: fx.Node) -> Region:
    device, dtype, enabled = cast(tuple[str, torch.dtype | None, bool], node.args[:3])
    others = {name: lowered for name, lowered in region.items() if name != device}
    if not enabled:
        return others
    return others | {device: dtype or torch.get_autocast_dtype(device)}


def _cast_bodies(gm: fx.GraphModule, node: fx.Node, region: Region) -> None:
    """A higher-order op passes autocast by: it is the graphs it takes that run under it."""
    for operand in node.all_input_nodes:
        body = getattr(gm, str(operand.target), None) if operand.op == "get_attr" else None
        if not isinstance(body, fx.GraphModule):
            continue
        name = f"{operand.target}_in_{node.name}"
        gm.add_module(name, _with_casts(body, region))
        with gm.graph.inserting_before(node):
            node.replace_input_with(operand, gm.graph.get_attr(name))


def _cast(gm: fx.GraphModule, node: fx.Node, region: Region) -> set[fx.Node]:
    """Casts the operands; where autocast reaches inside of the op, what it is made of stands in its place.

    Gives the nodes that are in the graph no more.
    """
    watched = _watch(node, region)
    if not watched.casts:
        return set()
    operands = {id(torch_private.dynamo_value(operand)): operand for operand in node.all_input_nodes}
    added = [each for each in watched.casts if each not in _watch(node, {}).casts]
    casts = {operands[source]: dtype for source, dtype in added if source in operands}
    if _watch(node, {}, casts).calls == watched.calls:
        _cast_operands(node, casts)
        return set()
    return _write_out(gm, node, region)


def _cast_operands(node: fx.Node, casts: Mapping[fx.Node, torch.dtype]) -> None:
    for operand, dtype in casts.items():
        with node.graph.inserting_before(node):
            lowered = node.graph.call_method("to", (operand, dtype))
        lowered.meta.update(operand.meta)
        value = torch_private.dynamo_value(operand)
        with torch_private.fake_modes(value):
            torch_private.set_dynamo_value(lowered, value.to(dtype))
        node.replace_input_with(operand, lowered)


def _write_out(gm: fx.GraphModule, node: fx.Node, region: Region) -> set[fx.Node]:
    parts = [] if isinstance(torch_private.dynamo_value(node), Tensor) else list(node.users)
    if not all(part.target is operator.getitem for part in parts):
        raise Refused(
            f"autocast casts inside %{node.name} = {node.target}: cast its inputs, or turn autocast off there"
        )
    write_out(gm, [node, *parts], on(region))
    return {node, *parts}


def _watch(node: fx.Node, region: Region, casts: Mapping[fx.Node, torch.dtype] | None = None) -> "_Watcher":
    """What running the node's op in the region does, on its operands or on these cast."""

    def operand(given: fx.Node) -> Any:
        value = torch_private.dynamo_value(given)
        return value.to(casts[given]) if casts and given in casts else value

    with off(tuple(ambient())):
        args, kwargs = fx.map_arg((node.args, node.kwargs), operand)
    watcher = _Watcher()
    with torch_private.fake_modes((args, kwargs)), watcher, off(tuple(ambient())), on(region):
        if node.op == "call_method":
            getattr(args[0], str(node.target))(*args[1:], **kwargs)
        elif callable(node.target):
            node.target(*args, **kwargs)
    return watcher


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The casts, by what is cast, and all other calls, by the types of their operands.

    Of a tensor made of others it is also seen when it is asked for its device, which computes nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.casts: list[tuple[int, torch.dtype]] = []
        self.calls: list[tuple[Any, list[torch.dtype]]] = []
        self._cast: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and kwargs and isinstance(kwargs.get("dtype"), torch.dtype):
            self.casts.append((id(args[0]), kwargs["dtype"]))
            self._cast.append(args[0])  # alive, no other tensor has its id
        elif func is not torch.ops.prim.device.default:
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self.calls.append((func, [tensor.dtype for tensor in tensors]))
        return func(*args, **(kwargs or {}))
