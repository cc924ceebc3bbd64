"""Where and how everything runs, and how a run is timed."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import torch
from torch import nn

import duca_compile
from cycle import CYCLE
from duca_compile import Mode
from duca_compile.backend import duca
from models import sizes
from models.shapes import timesteps
from speed.section import LeftOut

Result = TypeVar("Result")


@dataclass(frozen=True)
class Setting:
    """`inner` compiles all graphs, plain and ours; `tiny` sizes and few steps are for a test of the benchmark itself.

    Where `depth`, `cycles`, `rounds` or `dtype` is None, each section has its own for the device: blocks, cycles whose
    steps are timed after one to warm up, whole trajectories, and the type of weights and latents.
    """

    device: str
    inner: str | Callable[..., Any] = "inductor"
    tiny: bool = False
    depth: int | None = None
    cycles: int | None = None
    rounds: int | None = None
    type_name: str | None = None

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        usual = "bfloat16" if self.on_gpu and not self.tiny else "float32"
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[self.type_name or usual]

    @property
    def steps(self) -> int:
        """Of a trajectory."""
        return 10 if self.tiny else 50

    @property
    def trajectories(self) -> int:
        """Minutes each on a CPU, where none is run unless asked for."""
        return self.rounds if self.rounds is not None else 1 if self.tiny else 3 if self.on_gpu else 0

    @property
    def measured(self) -> sizes.Shapes:
        return (sizes.tiny if self.tiny else sizes.published if self.on_gpu else sizes.for_cpus)(self.depth)

    @property
    def checked(self) -> sizes.Shapes:
        return {"dit2": sizes.tiny()["dit2"]} if self.tiny else sizes.FOR_A_CHECK

    def need_cpu(self) -> None:
        if self.on_gpu:
            raise LeftOut("it is of a CPU: --device cpu")

    def plain(self, model: nn.Module, mode: str | None = None) -> Callable[..., Any]:
        if self.inner != "inductor":
            return torch.compile(model, dynamic=False, backend=self.inner)
        return torch.compile(model, dynamic=False, mode=mode)

    def cached(self, model: nn.Module, mode: str | None = None) -> Callable[..., Any]:
        """Under our backend, without falling back; Inductor's `mode` goes with Inductor only."""
        options: dict[str, Any] = {"method": "duca", "cycle": CYCLE, "strict": True, "inner": self.inner}
        if self.inner == "inductor":
            options["inductor_mode"] = mode
        return torch.compile(model, dynamic=False, backend=duca, options=options)

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def timed(self, run: Callable[[], Result]) -> tuple[Result, "Spent"]:
        """Between two events of the device's stream; on the CPU the host's time is all there is."""
        self.wait()
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2)) if self.on_gpu else (None, None)
        began = time.perf_counter()
        if first is not None:
            first.record()
        result = run()
        if last is not None:
            last.record()
        host = time.perf_counter() - began
        self.wait()
        device = first.elapsed_time(last) / 1e3 if first is not None and last is not None else host
        return result, Spent(device, host)

    def median(self, run: Callable[[], Any]) -> float:
        """Seconds that it takes the device, but for the runs that warm up."""
        return median([self.timed(run)[1].device for _ in range(12)][2:])


@dataclass(frozen=True)
class Spent:
    """Seconds that the device took, and until the host came back."""

    device: float
    host: float


class Watched:
    """`mode` is that of the last step that `model` ran in the block of `watched(model)`."""

    mode: Mode | None = None


@contextmanager
def watched(model: nn.Module) -> Iterator[Watched]:
    before, seen = duca_compile.stats(model).steps, Watched()
    yield seen
    after = duca_compile.stats(model).steps
    seen.mode = next((mode for mode in Mode if after[mode] > before[mode]), None)


def ran(seen: Watched) -> Mode:
    """Raises where the step ran in no mode of ours."""
    if seen.mode is None:
        raise RuntimeError("a step ran in none of our modes")
    return seen.mode


def in_turn(step: int, *runs: Result) -> tuple[Result, ...]:
    """The runs in an order that changes with the step, so that none is always first."""
    return runs[::-1] if step % 2 else runs


def first_steps(count: int, of: int = 50) -> Iterator[float]:
    """Of a generation of so many steps, or of more where more are asked for."""
    return itertools.islice(timesteps(max(of, count)), count)
