"""What a user is told where generations are computed step after step, and what to do about it."""

from collections.abc import Sequence

from duca_compile.generations.budget import KEPT
from duca_compile.generations.continuity import AGAIN, TURNED
from duca_compile.generations.trajectory import Miss
from duca_compile.refusal import COUNT_THEM, Refused

PATIENCE = 3
"""Starts in a row, each where a trajectory might have gone on, after which it is said."""
CHANGED = "arguments change at every step"
DOUBLED = "the conditioning is made anew for every call while that of the last one still lives"
THREADS = "the calls of a generation come from several threads"
WEIGHTS = "the weights are written to, or lie elsewhere, at every step"
CROWDED = (
    f"duca computes steps of generations that are served in turns: at most {KEPT} of them keep caches at once, within "
    "cache_budget; serve fewer in turns, or raise cache_budget where one is set"
)
ANOTHER_WAY = "the forward pass took another way"
ANEW = (
    f"duca computes every step: {ANOTHER_WAY} again and again, through other graphs or over weights in other memory, "
    "as where blocks are offloaded one by one. Offload whole models, or quantise"
)
DISAGREED = "the processes chose differently"
APART = (
    f"duca computes steps that others need not be: {DISAGREED}, which run this model together. Give each the same "
    "calls in the same order, over the same arguments, and call duca_compile.reset in all of them or in none"
)
_KEYED = "run each call in `with duca_compile.session(key)`, with one key for each generation"
_ON = {
    AGAIN: "the model is called several times at one timestep over the same conditioning, as by Heun's method; in "
    "`duca_compile.session(key, steps=...)` its calls are counted, one step each. If they are several generations', "
    f"{_KEYED}",
    TURNED: "the latents do not follow from the model's last outputs, as under a sampler that draws all noise anew or "
    f"changes most of what the model predicts. {COUNT_THEM}",
    DOUBLED: f"{DOUBLED}; keep one, or {_KEYED}",
    THREADS: f"{THREADS}; {_KEYED}",
    WEIGHTS: f"{WEIGHTS}: what was computed over others is not reused. Edit, fuse or move them between generations",
}


def on(missed: Miss, names: Sequence[str]) -> Refused:
    """`names` are those of the call's arguments."""
    if missed.reason == CHANGED:
        listed = ", ".join(names[at] if at < len(names) else f"number {at}" for at in sorted(missed.arguments))
        return Refused(f"{listed} changed at every step, and nothing shows that the latents go on. {COUNT_THEM}")
    return Refused(_ON.get(missed.reason, f"{missed.reason}; {_KEYED}"))
