"""Sections of the run: each with its own guard, so that whatever one of them meets, the next one follows."""

import gc
import math
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch

Parts = Iterator[tuple[str, dict[str, Any]]]
"""Named figures, as soon as they are there: what was measured before a failure stays."""


class LeftOut(Exception):
    """A section cannot run here; the message says why."""


class OutOfTime(BaseException):
    """Not an `Exception`, or what falls back after one would go on."""


@dataclass(frozen=True)
class Section:
    """`seconds` are what it is thought to need, on an H100 or on 2 cores: it is left out where less is left.

    `on` names the devices on which it runs without being asked for.
    """

    name: str
    title: str
    seconds: float
    run: Callable[[], Parts]
    on: tuple[str, ...] = ("cuda", "cpu")


@dataclass
class Outcome:
    """What came of a section: figures by part; `error` or `left_out` where there is more to say."""

    name: str
    title: str
    command: str
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
    left_out: str | None = None


def run(
    section: Section, left: float, save: Callable[[Outcome], None], command: str = "", patience: float = math.inf
) -> Outcome:
    """Stopped after `left` seconds, or `patience` times its own; `save` is told after every part, and at the end."""
    outcome, began = Outcome(section.name, section.title, command), time.perf_counter()
    if left < section.seconds:
        outcome.left_out = f"{max(left, 0):.0f} s were left, and it takes about {section.seconds:.0f}"
        save(outcome)
        return outcome
    try:
        clean()
        with limited(min(left, patience * section.seconds)):
            for name, figures in section.run():
                outcome.parts[name] = figures
                save(outcome)
    except LeftOut as reason:
        outcome.left_out = str(reason)
    except OutOfTime as reason:
        outcome.error = str(reason)
    except Exception as error:
        traceback.print_exc()
        outcome.error = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"
    outcome.seconds = round(time.perf_counter() - began, 1)
    save(outcome)
    return outcome


def clean() -> None:
    """Models and graphs of the section before are gone, and their memory with them."""
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises `OutOfTime` in the block after so many seconds. Only a main thread can be interrupted."""
    if math.isinf(seconds) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTime(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
