"""What is said while a graph compiles, which may take minutes: a log message, and a line on a terminal."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

log = logging.getLogger("duca_compile")
CLEARED = "\r\x1b[K"
"""Takes away the line of the terminal that the cursor is in: ours, or a progress bar, which is drawn anew."""


class Turns:
    """Of the graphs of one compiled model, in the order in which they are compiled: each at its first use."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._numbers: dict[str, int] = {}

    def told(self, name: str) -> str:
        """What to say as it begins to compile; a second attempt has its number."""
        number = self._numbers.setdefault(name, len(self._numbers) + 1)
        return f"compiling {number} of {self._total}: {name} ..."


@contextmanager
def saying(told: str) -> Iterator[None]:
    """Logged; on a terminal also shown at stderr, until the end, unless log messages are."""
    log.info(told)
    if log.isEnabledFor(logging.INFO) or not _can_clear():
        yield
        return
    try:
        sys.stderr.write(f"{CLEARED}duca: {told}")
        sys.stderr.flush()
        yield
    finally:
        sys.stderr.write(CLEARED)
        sys.stderr.flush()


def _can_clear() -> bool:
    """Whether stderr is a terminal that takes a line away again: a dumb one, as an editor's, would show the codes."""
    if sys.stderr is None or not sys.stderr.isatty():
        return False
    console = Console(file=sys.stderr)
    return not (console.is_dumb_terminal or console.legacy_windows)
