"""A device with streams, for which the host stands in: it tells which stream uses memory before it may."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from duca_compile import torch_private
from duca_compile.generations import device_streams


@dataclass(eq=False)
class Stream:
    """`seen`: how far this stream knows each one to have come, itself among them."""

    name: str
    waited: list[str] = field(default_factory=list)
    seen: dict["Stream", int] = field(default_factory=dict)

    def wait_stream(self, other: "Stream") -> None:
        self.waited.append(other.name)
        for stream, moment in other.seen.items():
            self.seen[stream] = max(moment, self.seen.get(stream, 0))

    def next(self) -> int:
        self.seen[self] = self.seen.get(self, 0) + 1
        return self.seen[self]

    def knows(self, stream: "Stream", moment: int) -> bool:
        return self.seen.get(stream, 0) >= moment


@dataclass(eq=False)
class Memory:
    """Of the stream `home`, which gives it to others when it is freed, unless streams that use it are `recorded`."""

    home: Stream
    recorded: set[Stream] = field(default_factory=set)
    written: tuple[Stream, int] | None = None
    reads: dict[Stream, int] = field(default_factory=dict)


class Device(torch_private.TorchDispatchMode):
    """Every operation runs on the stream `now`. What was made before the first of them is everybody's to read."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.streams = [Stream(name) for name in names]
        self.now = self.streams[0]
        self.faults: list[str] = []
        self._known: dict[int, Memory] = {}
        self._alive: list[Tensor] = []
        """Nothing is freed, so that an address means the same memory for good."""

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True

    def record(self, tensor: Tensor, stream: Any) -> None:
        memory = self._known.get(_address(tensor))
        if memory is not None:
            memory.recorded.add(stream)

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = op(*args, **kwargs)
        given = {_address(each) for each in _tensors((args, kwargs))}
        written = {_address(each) for each in _tensors(_written(op, args, kwargs))}
        moment = self.now.next()
        for address in given:
            self._used(op, address, address in written, moment)
        for made in _tensors(found):
            if _address(made) not in self._known and _address(made) not in given:
                self._known[_address(made)] = Memory(self.now, written=(self.now, moment))
            self._alive.append(made)
        return found

    def _used(self, op: Any, address: int, is_written: bool, moment: int) -> None:
        memory, now = self._known.get(address), self.now
        if memory is None:
            return
        if memory.home is not now and now not in memory.recorded:
            self.faults.append(f"{op} on {now.name}: memory of {memory.home.name} that is not recorded")
        if memory.written and not now.knows(*memory.written):
            self.faults.append(f"{op} on {now.name}: {memory.written[0].name} still writes")
        if is_written:
            self.faults.extend(
                f"{op} on {now.name}: {reader.name} still reads"
                for reader, last in memory.reads.items()
                if not now.knows(reader, last)
            )
            memory.written = now, moment
        memory.reads[now] = moment


@contextmanager
def device(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[Device]:
    """Within it, the host is a device with streams of these names."""
    found = Device(*names)
    monkeypatch.setattr(device_streams, "WITH_STREAMS", ("cpu",))
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: found.now)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: found.record(tensor, stream))
    with found:
        yield found


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in torch_private.tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.numel()]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _written(op: Any, args: Any, kwargs: Any) -> list[Any]:
    schema = getattr(op, "_schema", None)
    if schema is None:
        return []
    into = [argument for argument in schema.arguments if argument.alias_info and argument.alias_info.is_write]
    places = {argument.name: at for at, argument in enumerate(schema.arguments)}
    return [args[places[each.name]] if places[each.name] < len(args) else kwargs.get(each.name) for each in into]
