"""The sections, in the order of their worth: where time runs out, the last ones are left out."""

import argparse
from functools import partial

from speed.allocations import OPTIONS, SHAPES, allocations
from speed.compile_time import WAYS, compile_time
from speed.correctness import correctness
from speed.few_rows import few_rows
from speed.host import guard, host
from speed.machine import rates
from speed.peers import peers
from speed.section import Section
from speed.setting import Setting
from speed.steps import speed

BY_NAME, GPU, CPU = (), ("cuda",), ("cpu",)
MINUTES = 5.75
"""Of a GPU that all its sections take at most, but for the imports."""
ALL = argparse.Namespace(ways=WAYS, warm=False, models=SHAPES, options=tuple(OPTIONS))
"""What compile time and memory measure, unless less is asked for."""


def sections(setting: Setting, given: argparse.Namespace = ALL) -> tuple[Section, ...]:
    shapes = setting.measured
    dit2, short = shapes["dit2"], shapes["short flux"]
    cycles = 6 if setting.on_gpu else 4
    return (
        Section("machine", "Rates of this machine", 6, partial(rates, setting)),
        Section("correctness", "Largest relative error against float32 on the CPU", 30, partial(correctness, setting), GPU),
        Section("dit2", "DiT-XL/2, batch 2", 45, partial(speed, setting, dit2, cycles=cycles)),
        Section("dit16", "DiT-XL/2, batch 16", 50, partial(speed, setting, shapes["dit16"], cycles=cycles), GPU),
        Section("flux", "FLUX", 45, partial(speed, setting, shapes["flux"], cycles=cycles)),
        Section("dit2 graphs", "DiT-XL/2, batch 2, reduce-overhead", 50, partial(speed, setting, dit2, "reduce-overhead", 6), GPU),
        Section("host", "Host, beside a graph that does nothing: microseconds a step", 15, partial(host, setting, dit2), GPU),
        Section("wan", "Wan 1.3B", 35, partial(speed, setting, shapes["wan"], cycles=2 if setting.on_gpu else 4)),
        Section("autotune", "FLUX, max-autotune-no-cudagraphs", 60, partial(speed, setting, short, "max-autotune-no-cudagraphs", 3), GPU),
        Section("peers", "diffusers' FLUX beside other caches", 90, partial(peers, setting), BY_NAME),
        Section("guard", "Host, beside the graph of the smallest model, one thread: microseconds a step", 60, partial(guard, setting), CPU),
        Section("few rows", "Linear layers over few rows", 45, partial(few_rows, setting), CPU),
        Section("compile time", "Time to first result", 600, partial(compile_time, setting, given.ways, given.warm), CPU),
        Section("memory", "MiB over a cycle", 600, partial(allocations, setting, given.options, given.models), CPU),
    )  # fmt: skip


NAMES = tuple(each.name for each in sections(Setting("cpu")))
