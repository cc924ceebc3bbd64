"""One size of a DiT, plain and cached in turn, in times of a product that is timed beside them."""

import statistics
import time
from typing import Any

import torch
from torch import nn

import duca_compile
from cycle import CYCLE
from duca_compile import Mode, Options
from duca_compile.methods.duca import DuCa
from models.shapes import next_latents
from scaling.report import Measured, Sizes


class Yardstick:
    """A product whose time is taken beside whatever is measured."""

    def __init__(self) -> None:
        self.found: list[float] = []
        self._source, self._weights = torch.randn(512, 1152), [torch.randn(1152, 1152) for _ in range(8)]

    def time(self) -> float:
        began = time.perf_counter()
        for weight in self._weights:
            nn.functional.linear(self._source, weight)
        self.found.append(time.perf_counter() - began)
        return self.found[-1]


def measure(sizes: Sizes, budget: float, yardstick: Yardstick) -> Measured:
    """In times of the yardstick."""
    torch._dynamo.reset()
    subject = sizes.shape.subject("cpu", torch.float32)
    model, x = subject.model, subject.latents
    plain = torch.compile(model, dynamic=False)
    options: dict[str, Any] = {"method": "duca", "cycle": CYCLE, "strict": True}
    cached = torch.compile(model, dynamic=False, backend="duca", options=options)
    seconds: list[float] = []
    ratios: dict[Mode, list[float]] = {mode: [] for mode in Mode}
    own: dict[Mode, list[float]] = {mode: [] for mode in Mode}
    began, step = time.perf_counter(), 0
    while step < 4 * CYCLE or step % CYCLE or time.perf_counter() - began < budget:
        both, outputs, beside = {}, {}, [yardstick.time()]
        given = subject.call(x, 900.0 - step)
        for run in (plain, cached) if step % 2 else (cached, plain):
            since = time.perf_counter()
            outputs[run] = run(**given)
            both[run] = time.perf_counter() - since
            beside.append(yardstick.time())
        if step >= CYCLE:
            mode = Mode(Options(DuCa(cycle=CYCLE)).sequence(step + 1)[-1])
            unit = statistics.median(beside)
            seconds.append(both[plain] / unit)
            own[mode].append(both[cached] / unit)
            ratios[mode].append(both[cached] / both[plain])
        step += 1
        began = time.perf_counter() if step == CYCLE else began
        x = next_latents(x, outputs[cached])  # latents made of other outputs would be another generation
    assert all(duca_compile.stats(model).steps.values())
    return Measured(statistics.median(seconds), {mode: statistics.median(found) for mode, found in own.items()}, ratios)
