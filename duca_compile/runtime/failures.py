"""What became of steps that failed: when to try again, and when to give up."""

import logging
import traceback
from collections import Counter
from collections.abc import Hashable

import torch

from duca_compile.refusal import REPORT, Refused
from duca_compile.torch_private.causes import causes

log = logging.getLogger("duca_compile")

FAULTS = 2
"""Failures in a row of one recipe that end caching. Once may be chance, as a neighbour on the device; what fails twice
in succession is taken for a fault of ours, and every further attempt would cost a step for nothing."""
OUT_OF_MEMORY = 3
"""The same, where memory was short: that may pass, but each attempt costs the time of two failed steps."""
TOLD = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
"""How the allocators of CPU, CUDA, cuBLAS and Metal say it, which raise mere `RuntimeError`s."""


class Failures:
    """Those of one graph, by the recipe that ran; None where the step was not placed yet.

    A recipe that works again is forgiven. Another one proves nothing: a fault in one of them would never be known as
    lasting if each FULL step between two of them counted.
    """

    def __init__(self) -> None:
        self._in_a_row: Counter[Hashable] = Counter()

    def passed(self, recipe: Hashable) -> None:
        self._in_a_row.pop(recipe, None)

    def last(self, recipe: Hashable, error: Exception, certain: bool) -> Exception | None:
        """Takes note of a failure; what ends caching, if it was one too many. `certain`: it would fail again."""
        self._in_a_row[recipe] += 1
        times = self._in_a_row[recipe]
        if is_out_of_memory(error):
            return None if times < OUT_OF_MEMORY else Refused(_short_of_memory(times))
        if times < FAULTS and not certain:
            log.warning(
                "a step failed and ran as the plain graph; its generation starts over. If that comes again, %s",
                REPORT,
                exc_info=error,
            )
            return None
        return error


def _short_of_memory(times: int) -> str:
    return (
        f"memory ran out {times} times in a row; leave more of it: smaller caches (cache_dtype, cache_budget, "
        "order='aggressive'), a smaller batch, or weights offloaded"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is, or was raised from, what an allocator raises."""
    for each in causes(error):
        told = isinstance(each, RuntimeError) and any(text in str(each).lower() for text in TOLD)
        if told or isinstance(each, (MemoryError, torch.OutOfMemoryError)):
            return True
    return False


def release(error: BaseException) -> None:
    """Frees what the frames of a failed step, or of a refused call, still hold: its activations and results."""
    for each in causes(error):
        traceback.clear_frames(each.__traceback__)
        each.__traceback__ = None
