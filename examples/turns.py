"""Generations denoised in turns: a round runs one step of each of them, over one compiled model."""

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import duca_compile
from sampling import denoised, initial_noise

AT_ONCE = 8
"""The most generations that keep caches in one compiled model at once; one more would cost others theirs."""
_numbers = itertools.count()


@dataclass(frozen=True)
class Order:
    """What an image is made from."""

    label: int
    seed: int = 0
    steps: int = 50
    guidance: float = 1.25


@dataclass(eq=False)
class Generation:
    """`image` will hold an image `[1, 1, 28, 28]` in [-1, 1]; to cancel it ends the generation."""

    order: Order
    image: "Future[Tensor]" = field(default_factory=Future)
    key: int = field(default_factory=lambda: next(_numbers))
    begun: float = field(default_factory=time.perf_counter)


class Turns:
    """Owns the thread that runs the model. What is ordered waits while `at_once` generations are on their way.

    `outcomes` counts generations that were `done`, `aborted` or `failed`; `seconds` is what the done ones took in all,
    from order to image.
    """

    def __init__(self, model: Callable[[Tensor, Tensor, Tensor], Tensor], at_once: int = AT_ONCE) -> None:
        self.model = model
        self.at_once = at_once
        self.outcomes: Counter[str] = Counter(done=0, aborted=0, failed=0)
        self.seconds = 0.0
        self._waiting: deque[Generation] = deque()
        self._active: dict[Generation, Any] = {}
        self._news = threading.Condition()
        self._is_open = True
        self._thread = threading.Thread(target=self._rounds, name="turns", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def active(self) -> int:
        return len(self._active)

    def order(self, order: Order) -> "Future[Tensor]":
        """The image to come, from any thread. Raises `RuntimeError` once closed."""
        generation = Generation(order)
        with self._news:
            if not self._is_open:
                raise RuntimeError("no more images are made here")
            self._waiting.append(generation)
            self._news.notify()
        return generation.image

    def close(self) -> None:
        """Ends all generations, which then count as aborted."""
        with self._news:
            self._is_open = False
            self._news.notify()
        self._thread.join()

    def _rounds(self) -> None:
        while self._is_open:
            self._admit()
            for generation in list(self._active):
                self._turn(generation)
        for generation in (*self._active, *self._waiting):
            generation.image.cancel()
            self.outcomes["aborted"] += 1
        self._active.clear()
        self._waiting.clear()

    def _admit(self) -> None:
        """Waits for one where there is none."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._active or not self._is_open)
            while self._waiting and len(self._active) < self.at_once:
                generation = self._waiting.popleft()
                self._active[generation] = _steps_of(generation.order, self.model)

    def _turn(self, generation: Generation) -> None:
        """One step, or the end. What the generation holds then goes: its caches with the tensor of its labels."""
        if generation.image.cancelled():
            return self._end(generation, "aborted")
        try:
            with duca_compile.session(generation.key, generation.order.steps):
                left, x = next(self._active[generation])
        except Exception as error:
            generation.image.set_exception(error)
            return self._end(generation, "failed")
        if not left:
            self._deliver(generation, x.clamp(-1, 1))

    def _deliver(self, generation: Generation, image: Tensor) -> None:
        if not generation.image.set_running_or_notify_cancel():
            return self._end(generation, "aborted")
        self.seconds += time.perf_counter() - generation.begun
        self._end(generation, "done")
        generation.image.set_result(image)

    def _end(self, generation: Generation, outcome: str) -> None:
        del self._active[generation]
        self.outcomes[outcome] += 1


def _steps_of(order: Order, model: Any) -> Any:
    """How many steps are left, and the latents, after each."""
    labels, noise = torch.tensor([order.label]), initial_noise(1, order.seed)
    found = denoised(model, labels, noise, order.steps, order.guidance)
    return zip(reversed(range(order.steps)), found, strict=True)
