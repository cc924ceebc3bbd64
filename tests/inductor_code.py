"""The code that Inductor writes for an example DiT, counted."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch._inductor.graph import GraphLowering

DEPTH = 5
SIZE = 2 * 16 * 32
"""Elements of the stream, of every feature and of every cache."""


@dataclass(frozen=True)
class Code:
    """`blocks` are functions for outlined blocks; `buffers` are full-size allocations of one step, over all its calls."""

    kernels: int
    blocks: int
    calls: int
    buffers: int


def counted(code: str) -> Code:
    main, *blocks = sorted(re.split(r"\n(?=def |class )", code), key=lambda part: "class Runner" not in part)
    blocks = [part for part in blocks if part.startswith("def repeated_subgraph")]
    calls = [len(re.findall(rf"= {re.escape(part.split('(')[0][4:])}\(", main)) for part in blocks]
    buffers = full_size(main) + sum(map(int.__mul__, calls, map(full_size, blocks)))
    return Code(len(re.findall(r"= async_compile\.cpp", code)), len(blocks), sum(calls), buffers)


def full_size(code: str) -> int:
    shapes = re.findall(r"empty_strided_cpu\(\(([^)]*)\)", code)
    return sum(math.prod(int(size) for size in re.findall(r"\d+", shape)) == SIZE for shape in shapes)


@contextmanager
def generated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    found: list[str] = []
    monkeypatch.setattr(GraphLowering, "save_output_code", staticmethod(found.append))
    with torch._inductor.config.patch(force_disable_caches=True):
        yield found
