"""`duca bench`: a generation's steps, each run plain and cached in turn."""

import platform
from argparse import ArgumentParser, Namespace
from typing import Any

import torch
from rich.text import Text
from torch import Tensor

from duca_compile.cli.arguments import add_json, add_options, aside, options_of, print_json
from duca_compile.cli.paired import Measured, measured
from duca_compile.cli.subject import Subject, add_model, load
from duca_compile.cli.unusable import Unusable
from duca_compile.generations.sessions import session
from duca_compile.methods.base import FULL
from duca_compile.methods.check import require_int
from duca_compile.report.explain import STEPS, explain_call
from duca_compile.report.text import plain, shown, table, written
from duca_compile.report.units import bytes_told, counted
from duca_compile.report.verdict import Verdict

ABOUT = "time a model cached beside plain torch.compile, step by step in turn"


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--steps", type=int, default=STEPS, help="of a generation (default: %(default)s)")
    add_options(parser)
    add_json(parser)


def run(given: Namespace) -> int:
    """1 where the model is not accelerated."""
    options = options_of(given)
    require_int("steps", given.steps, at_least=1)
    with aside(given):
        subject = load(given)
        _require_numbers(subject)
        torch.compiler.reset()
        uncounted = _verdict(subject, options, given.steps)
        with session("bench", steps=given.steps):
            counted_by_session = _verdict(subject, options, given.steps)
        found, without = measured(subject, options, given.steps), _without_session(uncounted, counted_by_session)
    if given.json:
        told = {"flops_speedup": counted_by_session.speedup, "without_session": without}
        print_json({**_where(subject), **_told(found), **told})
    else:
        print(_text(subject, found, counted_by_session.speedup, without))
    return int(set(found.recipes) <= {FULL})


def _require_numbers(subject: Subject) -> None:
    if subject.is_on_meta:
        raise Unusable(
            "bench needs numbers, and some weights or inputs are on the meta device, which holds none; build them on "
            "the CPU or a GPU, with any weights"
        )


def _verdict(subject: Subject, options: dict[str, Any], steps: int) -> Verdict:
    return explain_call(subject.model, subject.args, subject.kwargs, options, steps).verdict


def _without_session(uncounted: Verdict, counted_by_session: Verdict) -> str:
    """What `explain` says of the same steps where no session counts them; empty where they run as these do."""
    said, known = [], (counted_by_session.headline, *counted_by_session.refused, *counted_by_session.advice)
    for each in (uncounted.headline, *uncounted.refused, *uncounted.advice):
        said += [] if each in known else [each]
    return " ".join(said)


def _where(subject: Subject) -> dict[str, Any]:
    parameter = max(subject.model.parameters(), key=Tensor.numel, default=torch.empty(0))
    on_gpu = parameter.device.type == "cuda"
    return {
        "model": type(subject.model).__name__,
        "device": torch.cuda.get_device_name(parameter.device) if on_gpu else str(parameter.device),
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _told(found: Measured) -> dict[str, Any]:
    """Milliseconds are medians."""
    return {
        "steps": found.steps,
        "speedup": found.speedup,
        "compile_seconds": found.compile_seconds,
        "cache_bytes": found.cache_bytes,
        "recipes": {
            name: {
                "steps": len(pairs.cached),
                "milliseconds": 1000 * pairs.median_cached,
                "plain_milliseconds": 1000 * pairs.median_plain,
                "share_of_plain": pairs.ratio,
            }
            for name, pairs in found.recipes.items()
        },
    }


def _text(subject: Subject, found: Measured, flops: float | None, without: str) -> str:
    made = table("recipe", "steps", "ms", "plain ms", "share of plain", left=("recipe",))
    for name, pairs in found.recipes.items():
        times = (f"{1000 * seconds:.2f}" for seconds in (pairs.median_cached, pairs.median_plain))
        made.add_row(Text(name), str(len(pairs.cached)), *times, f"{pairs.ratio:.1%}")
    promised = "" if flops is None else f", with {flops:.2f}x fewer FLOPs"
    where = _where(subject)
    console = plain(shown().width)
    steps = f"{counted(found.steps, 'step')} that a session counts"
    console.print(Text(f"{found.speedup:.2f}x as fast over {steps}{promised}."))
    if without:
        console.print(Text(f"Without a session: {without}"))
    console.print(Text(", ".join(f"{name} {value}" for name, value in where.items() if name != "machine")))
    console.print()
    console.print(made)
    console.print()
    compiled = f"compiled in {found.compile_seconds:.1f} s, plain in {found.plain_compile_seconds:.1f} s"
    console.print(Text(f"caches of up to {bytes_told(found.cache_bytes)}; {compiled}"))
    return written(console)
