"""Caches that one stream of a device writes and another one reads."""

from collections.abc import Sequence

import torch
from torch import Tensor

WITH_STREAMS = ("cuda", "xpu")
"""Types of devices."""


def current(tensors: Sequence[Tensor]) -> torch.Stream | None:
    """The stream that the caller queues work on, on the device of the first of the tensors; None on the host."""
    if not tensors or tensors[0].device.type not in WITH_STREAMS:
        return None
    return torch.accelerator.current_stream(tensors[0].device)


def hand_over(tensors: Sequence[Tensor], last: torch.Stream | None) -> None:
    """To be called before tensors are used whose `last` user may have been another stream than the current one.

    That stream's work is waited for, by the device alone, and their memory is not given to others before ours is done.
    """
    stream = current(tensors)
    if stream is None or last is None or stream == last:
        return
    stream.wait_stream(last)
    for tensor in tensors:
        tensor.record_stream(stream)
