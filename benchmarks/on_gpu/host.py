"""What a step costs the host beside its graph: the graphs do nothing, and give what they gave the first time."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import fx

import duca_compile
from cycle import CYCLE
from on_gpu.section import Parts
from on_gpu.setting import Setting, ran, watched
from on_gpu.shapes import Shape, timesteps


class Idle:
    """An inner compiler whose graphs run once. `seconds` were spent in graphs since it was last set to 0."""

    seconds = 0.0

    def __call__(self, gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        results: list[Any] = []

        def run(*args: Any) -> Any:
            began = time.perf_counter()
            if not results:
                results.append(gm.forward(*args))
            self.seconds += time.perf_counter() - began
            return results[0]

        return run


def host(setting: Setting, shape: Shape) -> Parts:
    idle = Idle()
    subject = shape.subject(setting.device, setting.dtype)
    run = replace(setting, inner=idle).cached(subject.model)
    spent: dict[str, list[float]] = defaultdict(list)
    x = subject.latents
    for step, t in enumerate(timesteps(CYCLE * (4 if setting.tiny else 20))):
        given = subject.call(x, t)
        setting.wait()
        idle.seconds, began = 0.0, time.perf_counter()
        with watched(subject.model) as seen:
            run(**given)
            took = time.perf_counter() - began - idle.seconds
        if step >= 2 * CYCLE:
            spent[ran(seen).value].append(took)
        x = x * 0.999
    yield "us", {mode: 1e6 * statistics.median(each) for mode, each in spent.items()}
    yield "of", {"model": shape.title, "weights": len(list(subject.model.parameters()))}
    yield "resets", {"by reason": duca_compile.stats(subject.model).resets}
