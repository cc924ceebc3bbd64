"""Errors that reach a user from inside of a backend as they were raised.

- `torch._dynamo.exc.ShortenTraceback`, `remove_dynamo_frames` and `first_useful_frame`: what Dynamo neither wraps nor
  takes for a failure of the backend. It adds to the message in `args`.
- `torch._dynamo.exc.TorchDynamoException`: what Dynamo raises in place of an error of the code that it captures.
- The logger `torch._subclasses.fake_tensor`, which prints the frames of an error that is raised as well.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch._dynamo.config
from torch._dynamo.exc import ShortenTraceback, TorchDynamoException

from duca_compile.torch_private.causes import causes


class ThroughDynamo(ShortenTraceback):
    """An error whose message is all that a user needs: without Dynamo's wrapping, advice and frames.

    `TORCHDYNAMO_VERBOSE=1` keeps the frames.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, first_useful_frame=None)
        self._told = str(args[0]) if args else ""

    def __str__(self) -> str:
        return self._told

    def remove_dynamo_frames(self) -> "ThroughDynamo":
        return self if torch._dynamo.config.verbose else self.with_traceback(None)


def without_dynamo(error: BaseException) -> BaseException:
    """What Dynamo raised this error for; any other error as it is."""
    *_, first = causes(error)
    return first if isinstance(error, TorchDynamoException) else error


@contextmanager
def frames_unprinted() -> Iterator[None]:
    """Of errors that a model's own operations raise on fake tensors."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
