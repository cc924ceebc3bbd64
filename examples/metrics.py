"""What a server of images has done, in the text format of Prometheus."""

from collections.abc import Mapping
from typing import Any

import duca_compile
from turns import Turns

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(turns: Turns) -> str:
    """Counts since the start. Of the model, those of every generation, be it of another caller."""
    stats = duca_compile.stats(turns.model)
    return "".join(
        [
            _metric("requests_total", "counter", "Requests that ended, by outcome.", "outcome", turns.outcomes),
            _metric("requests_active", "gauge", "Requests that are denoised in turns.", value=turns.active),
            _metric("requests_waiting", "gauge", "Requests that wait for a place.", value=turns.waiting),
            _metric("request_seconds_total", "counter", "From order to image, of all done.", value=turns.seconds),
            _metric("steps_total", "counter", "Denoising steps, by recipe.", "recipe", stats.steps),
            _metric("cache_bytes", "gauge", "Bytes held in caches.", value=stats.bytes),
            _metric("cache_bytes_peak", "gauge", "The most that was ever held.", value=stats.peak_bytes),
            _metric("cache_generations", "gauge", "Generations that hold caches.", value=stats.trajectories),
            _metric("speedup", "gauge", "Times fewer FLOPs than without a cache.", value=stats.speedup),
        ]
    )


def _metric(
    name: str, kind: str, told: str, label: str = "", values: Mapping[str, Any] | None = None, value: Any = None
) -> str:
    """In all digits, as a counter must not stand still. What is not known has no sample."""
    samples = {"": value} if values is None else {f'{{{label}="{each}"}}': count for each, count in values.items()}
    lines = [f"# HELP duca_{name} {told}", f"# TYPE duca_{name} {kind}"]
    lines += [f"duca_{name}{labels} {sample}" for labels, sample in samples.items() if sample is not None]
    return "\n".join(lines) + "\n"
