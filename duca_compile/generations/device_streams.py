"""Caches that one stream of a device writes and another one reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WITH_STREAMS = ("cuda", "xpu")
"""Types of devices."""


@dataclass
class Used:
    """By which stream of a device some memory was used last; None on the host, or before its first use."""

    last: torch.Stream | None = None

    def hand_over(self, tensors: Sequence[Tensor]) -> None:
        """To be called before the tensors are used: the current stream takes them over from the last one.

        That one's work is waited for, by the device alone, and their memory is not given to others before ours is done.
        """
        stream = _current(tensors)
        if stream is not None and self.last is not None and stream != self.last:
            stream.wait_stream(self.last)
            for tensor in tensors:
                tensor.record_stream(stream)
        self.last = stream

    def by_current(self, tensors: Sequence[Tensor]) -> None:
        """Notes that the current stream has made them: there is nothing to wait for."""
        self.last = _current(tensors)


def _current(tensors: Sequence[Tensor]) -> torch.Stream | None:
    """The stream that the caller queues work on, on the device of the first of the tensors."""
    if not tensors or tensors[0].device.type not in WITH_STREAMS:
        return None
    return torch.accelerator.current_stream(tensors[0].device)
