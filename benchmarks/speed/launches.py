"""What a step launches on the device, how long that is busy, and where the host waits for it."""

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import duca_compile
from cycle import CYCLE
from models.shapes import next_latents
from speed.pair import Pair
from speed.setting import first_steps, ran, watched

COPIES = ("Memcpy", "Memset")
OTHER_ATTENTION = ("fmha_cutlass", "efficient_attention", "attention_math", "softmax")
"""Kernels of attention that is not flash attention."""


def launched(pair: Pair) -> dict[str, Any]:
    """Of a plain step and of one in each recipe, from the second cycle. On the CPU the operators stand for kernels."""
    given = pair.subject.call(pair.subject.latents, 979.0)
    pair.plain(**given)
    found = {"plain": _profiled(pair, lambda: pair.plain(**given))[1]}
    duca_compile.reset(pair.model)
    x = pair.subject.latents
    for step, t in enumerate(first_steps(CYCLE + 3)):
        run = partial(pair.cached, **pair.subject.call(x, t))
        with watched(pair.model) as seen:
            output, figures = _profiled(pair, run) if step >= CYCLE else (run(), None)
        if figures is not None:
            found[ran(seen).value] = figures
        x = next_latents(x, output)
    return found


def _profiled(pair: Pair, run: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Any]]:
    kinds = [ProfilerActivity.CPU, ProfilerActivity.CUDA][: 1 + pair.setting.on_gpu]
    with profile(activities=kinds) as watch:
        output = run()
        pair.setting.wait()
    return output, counted(watch.events(), pair.setting.on_gpu)


def counted(events: Iterable[Any], on_gpu: bool) -> dict[str, Any]:
    """Kernels, copies, their milliseconds, the host's calls that launch or wait, and kernels of attention by sort."""
    events = [event for event in events if not event.is_user_annotation]
    own = [event for event in events if _is_kernel(event, on_gpu)]
    copies = [event for event in own if event.name.startswith(COPIES)]
    kernels = [event for event in own if not event.name.startswith(COPIES)]
    spent: Counter[str] = Counter()
    for event in own:
        spent[event.name[:60]] += event.time_range.elapsed_us()
    calls = Counter(event.name for event in events if event.name.startswith("cu") and _launches_or_waits(event.name))
    found = {
        "kernels": len(kernels), "copies": len(copies), "busy_ms": sum(spent.values()) / 1e3, "host_calls": dict(calls),
        "flash": sum("flash" in event.name for event in kernels),
        "other_attention": sum(any(part in event.name for part in OTHER_ATTENTION) for event in kernels),
        "longest_ms": {name: us / 1e3 for name, us in spent.most_common(4)},
    }  # fmt: skip
    return found


def _is_kernel(event: Any, on_gpu: bool) -> bool:
    return str(event.device_type).endswith("CUDA") if on_gpu else event.name.startswith("aten::")


def _launches_or_waits(call: str) -> bool:
    return "Launch" in call or "Synchronize" in call


def waits(pair: Pair, around: Callable[[int], AbstractContextManager[Any]] = nullcontext) -> dict[str, Any]:
    """How often the host waits in steps of each mode, by torch's own alarm, and where in Python; within `around(steps)`."""
    found: dict[str, list[Counter[str]]] = defaultdict(list)
    duca_compile.reset(pair.model)
    x = pair.subject.latents
    with around(3 * CYCLE):
        for t in first_steps(3 * CYCLE, pair.setting.steps):
            given = pair.subject.call(x, t)
            with watched(pair.model) as seen, alarmed() as caught:
                output = pair.cached(**given)
            found[ran(seen).value].append(places(caught))
            x = next_latents(x, output)
    return {
        mode: {"steps": len(each), "waits": sum(map(Counter.total, each)), "where": dict(sum(each, Counter()))}
        for mode, each in found.items()
    }


@contextmanager
def alarmed() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield caught
        finally:
            torch.cuda.set_sync_debug_mode("default")


def places(caught: Iterable[warnings.WarningMessage]) -> Counter[str]:
    told = [each for each in caught if "called a synchronizing" in str(each.message)]
    return Counter(f"{Path(each.filename).name}:{each.lineno}" for each in told)
