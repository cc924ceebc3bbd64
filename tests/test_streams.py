"""A step on another stream than the one before it waits for it on the device."""

from typing import Any

import pytest
import torch
from torch import Tensor

from duca_compile.generations import device_streams
from helpers import compiled
from tiny import Tiny, tiny_call


class Stream:
    def __init__(self, name: str, done: list[str]) -> None:
        self.name, self.done = name, done

    def wait_stream(self, other: "Stream") -> None:
        self.done.append(f"{self.name} waits for {other.name}")


def test_a_cache_is_handed_from_stream_to_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    one, two = Stream("one", done), Stream("two", done)
    now: list[Any] = [one]
    recorded: list[str] = []
    monkeypatch.setattr(device_streams, "WITH_STREAMS", ("cpu",))
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: now[0])
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: recorded.append(stream.name))
    fast = compiled(Tiny().eval(), cache_ratio=0.5)
    x, t = tiny_call()
    waits: list[list[str]] = []
    for step, stream in enumerate((one, one, two, one, one, two)):
        now[0] = stream
        fast(x, t - 0.02 * step)
        waits.append(done[:])
        done.clear()
    assert waits == [[], [], ["two waits for one"], ["one waits for two"], [], []], "a full step reads no cache"
    assert set(recorded) == {"one", "two"}
    assert len(recorded) > 3, "features, the stream and the drawn tokens"
