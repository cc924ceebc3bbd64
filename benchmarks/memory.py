"""Bytes that caches take, and the peak of a cycle with and without them: foretold by `explain`, and measured.

    python benchmarks/memory.py                                 # three architectures at full width, few blocks
    python benchmarks/memory.py --models dit wan --depth 28     # nearly as deep as they are
    python benchmarks/memory.py --flux-dev                      # FLUX.1-dev at 1024 x 1024, foretold only

Bytes are what torch allocates on the CPU, by its own profiler, over one cycle after warming up that begins without a
cache. *Held* is what is allocated at its end and was not at its start, over the same of the plain model. *Over plain* is
the peak over the plain model's; both lie in a full step.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity, profile

import duca_compile
from cycle import CYCLE
from duca_compile import Mode
from subjects import SUBJECTS, Subject, first, flux_call

OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {"method": "duca"},
    "order: conservative": {"method": "duca", "order": "conservative"},
    "order: aggressive": {"method": "duca", "order": "aggressive"},
    "cache_dtype: 8 bits": {"method": "duca", "cache_dtype": torch.float8_e4m3fn},
}
OVER_PLAIN = "peak over plain"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    parser.add_argument("--flux-dev", action="store_true")
    given = parser.parse_args()
    with torch.no_grad():
        subjects = [SUBJECTS[name] for name in given.models]
        Console(width=110).print(flux_dev() if given.flux_dev else measured(subjects, given.depth, given.options))


def measured(subjects: Sequence[Subject], depth: int, chosen: Sequence[str]) -> Table:
    table = Table(title=f"MiB over a cycle, float32, depth {depth}; torch {torch.__version__}, CPU")
    for heading in ("model", "options", "of", "foretold", "measured", "measured / foretold"):
        table.add_column(heading, justify="left" if heading in ("model", "options", "of") else "right")
    for subject in subjects:
        torch.manual_seed(0)
        model = subject.model(depth, torch.float32)
        plain = _cycle(subject, model, torch.compile(model))
        for name in chosen:
            for of, foretold, taken in _taken(subject, model, plain, {"cycle": CYCLE, **OPTIONS[name]}):
                sizes = (f"{size / 2**20:.2f}" for size in (foretold, taken))
                ratio = f"{taken / foretold:.3f}" if foretold else ""
                table.add_row(subject.title, name, of, *sizes, ratio, end_section=of == OVER_PLAIN)
    return table


class Taken(NamedTuple):
    """Bytes over those at a cycle's start: at most, and at its end."""

    peak: int
    left: int


def _taken(subject: Subject, model: nn.Module, plain: Taken, options: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    """What of, how much of it is foretold, and how much is taken."""
    (graph,) = duca_compile.explain(model, **subject.arguments(subject.latents(), 900.0), duca_options=options).graphs
    cached = _cycle(subject, model, torch.compile(model, backend="duca", options={**options, "strict": True}))
    yield "held", graph.held_bytes, cached.left - plain.left
    yield "peak, plain", graph.plain_step_bytes, plain.peak
    yield "peak", graph.full_step_bytes, cached.peak
    yield OVER_PLAIN, graph.full_step_bytes - graph.plain_step_bytes, cached.peak - plain.peak


def _cycle(subject: Subject, model: nn.Module, run: Callable[..., Any]) -> Taken:
    """The second of two cycles, from a start without a cache; what Dynamo compiled before counts to its limit no more."""
    torch._dynamo.reset()
    torch.manual_seed(1)
    x = subject.latents()
    fixed = subject.arguments(x, 900.0)
    for step in range(2 * CYCLE):
        given = subject.step(x, step, fixed)
        if step == CYCLE:
            duca_compile.reset(model)
            watch = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            watch.start()
        x = x - 0.01 * first(run(**given))
    watch.stop()
    held = highest = 0
    for event in _allocations(watch):
        held += event
        highest = max(highest, held)
    return Taken(highest, held)


def _allocations(watch: Any) -> list[int]:
    """Bytes allocated, and freed as negative numbers, in order."""
    found = [each for each in watch.profiler.kineto_results.events() if each.name() == "[memory]"]
    return [each.nbytes() for each in sorted(found, key=lambda each: each.start_ns())]


def flux_dev() -> Table:
    """19 double and 38 single blocks, 4,096 image and 512 text tokens, bfloat16, a cycle of 5 at cache ratio 0.9."""
    subject = SUBJECTS["flux"]
    model = subject.model(subject.depth, torch.bfloat16, device="meta")
    latents = torch.empty(1, 4096, 64, dtype=torch.bfloat16, device="meta")
    table = Table(title="FLUX.1-dev at 1024 x 1024, bfloat16, foretold")
    for heading in ("options", "mode", "TFLOPs", "weights read (GiB)", "cache read (GiB)", "held (GiB)"):
        table.add_column(heading, justify="left" if heading in ("options", "mode") else "right")
    arguments = flux_call(64, 512)(latents, 900.0)
    for name, options in OPTIONS.items():
        (graph,) = duca_compile.explain(model, **arguments, duca_options={"cycle": CYCLE, **options}).graphs
        modes = [mode for mode in Mode if mode in graph.flops]
        for mode in modes:
            sizes = (graph.weight_bytes[mode], graph.cache_bytes[mode], graph.held_bytes)
            cells = (f"{size / 2**30:.3f}" for size in sizes)
            table.add_row(name, mode.value, f"{graph.flops[mode] / 1e12:.3f}", *cells, end_section=mode is modes[-1])
    return table


if __name__ == "__main__":
    main()
