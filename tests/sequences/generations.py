"""One generation as user code: a loop over a sampler's evaluations, each one, two or three calls of the model.

The loop is a Python generator that yields after each evaluation, as code that serves requests does. It may hold a
session around all of it, or enter one around each call.
"""

import contextvars
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

import duca_compile
from sequences.samplers import Evaluation, Sampler

GUIDANCE = {
    "none": ("cond",),
    "batch": ("both",),
    "two": ("cond", "uncond"),
    "three": ("cond", "uncond", "other"),
}
"""The calls of one evaluation."""
HELD, OWN, ANEW, BUFFER, SILENT = "held", "own", "anew", "buffer", "silent buffer"
CONDITIONING = {
    "held": ((HELD, HELD), (HELD, HELD)),
    "encoded": ((OWN, OWN), (OWN, OWN)),
    "negative kept": ((OWN, OWN), (HELD, HELD)),
    "pooled encoded": ((HELD, OWN), (HELD, OWN)),
    "pooled remade": ((HELD, ANEW), (HELD, ANEW)),
    "remade": ((ANEW, ANEW), (ANEW, ANEW)),
    "buffer": ((BUFFER, BUFFER), (BUFFER, BUFFER)),
    "silent buffer": ((SILENT, SILENT), (SILENT, SILENT)),
}
"""Whose objects the two conditioning tensors of a call are, with the prompt and without it: held by the program and given
to all generations, the generation's own, made anew for each call, or one buffer that is written to."""
SESSIONS = ("none", "call", "loop", "loop without key", "nested", "counted call", "counted loop")
DRIVERS = ("inline", "task", "thread", "pool")
"""Who runs the loop: the caller; an asyncio task, with a context of its own; a thread; any thread of a pool, in a copy
of the caller's context each time, as `asyncio.to_thread` does."""


class Plan(NamedTuple):
    """What is chosen when a generation begins. It leaves out the first `skip` steps where it denoises an image."""

    model: int
    sampler: str
    steps: int
    skip: float
    image: int
    seed: int
    prompt: int
    guidance: str
    conditioning: str
    session: str
    key: object
    driver: str
    batch: int
    spread: float
    context: str


@dataclass(eq=False, repr=False)
class Generation:
    """`last` is the timestep of its last call; `calls` how many there were under each conditioning."""

    serial: int
    plan: Plan
    total: int
    sampler: Sampler
    guidance: str
    given: Evaluation
    run: Generator[None, None, None] | None = None
    encoded: dict[object, Tensor] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    last: float = 1000.0
    step: int = 0
    leaves: bool = False
    retries: bool = False
    caller: object = None
    """The session that its caller is in."""
    _context: contextvars.Context | None = None

    def held(self) -> AbstractContextManager[None]:
        """The session around the loop."""
        key, how = self.plan.key, self.plan.session
        if how == "loop without key":
            return duca_compile.session()
        if how in ("loop", "nested"):
            return duca_compile.session(key)
        return duca_compile.session(key, steps=self.total) if how == "counted loop" else nullcontext()

    def around(self, name: str) -> AbstractContextManager[None]:
        """The session around one call."""
        key, how = self.plan.key, self.plan.session
        if how == "call":
            return duca_compile.session(key)
        if how == "nested":
            return duca_compile.session((key, name))
        return duca_compile.session(key, steps=self.total) if how == "counted call" else nullcontext()

    def owner(self, name: str) -> object:
        """Whose caches the calls under one conditioning have: a session's or, outside of all, a thread's."""
        how = self.plan.session
        if how == "loop without key":
            return self
        if how != "none":
            return (self.plan.key, name) if how == "nested" else ("key", self.plan.key)
        if self.caller is not None and self.plan.driver in ("inline", "pool"):
            return ("key", self.caller)
        if self.plan.driver == "thread":
            return ("thread", self.serial % 2)
        return ("thread", self.step % 2) if self.plan.driver == "pool" else "main"

    def owners(self, name: str) -> set[object]:
        """All that it may ever be under."""
        if self.plan.session == "none" and self.plan.driver == "pool":
            return {("thread", 0), ("thread", 1)}
        return {self.owner(name)}

    def start(self) -> None:
        self._context = contextvars.copy_context()

    def advance(self, threads: list[ThreadPoolExecutor]) -> bool:
        """Runs its loop to the next `yield`, in whatever runs it. False when it is over."""

        def onward() -> bool:
            assert self.run is not None
            return next(self.run, self) is not self

        driver = self.plan.driver
        if driver == "inline":
            return onward()
        if driver == "task":
            assert self._context is not None
            return self._context.run(onward)
        if driver == "thread":
            return threads[self.serial % 2].submit(onward).result()
        return threads[self.step % 2].submit(contextvars.copy_context().run, onward).result()


def loop(generation: Generation, evaluate: Callable[[], bool]) -> Generator[None, None, None]:
    """The code of a user who runs the generation; `evaluate` says whether there is more to do."""
    with generation.held():
        more = True
        while more:
            try:
                more = evaluate()
            except BaseException:
                if not generation.retries:
                    raise
                generation.retries = False
            generation.step += 1
            yield
            if generation.leaves:
                return
