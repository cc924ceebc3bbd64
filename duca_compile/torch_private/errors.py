"""Errors that reach a user from inside of a backend as they were raised.

- `torch._dynamo.exc.ShortenTraceback`, `remove_dynamo_frames` and `first_useful_frame`: what Dynamo neither wraps nor
  takes for a failure of the backend. It adds to the message in `args`.
"""

from typing import Any

import torch._dynamo.config
from torch._dynamo.exc import ShortenTraceback


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
