"""Plays calls on the tracker alone, over exact denoisers: no model runs, so thousands of sequences take a minute."""

from dataclasses import dataclass, field
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor

from duca_compile.generations import long_steps
from duca_compile.generations.budget import Budget
from duca_compile.generations.diffusers_context import Context
from duca_compile.generations.given import Given
from duca_compile.generations.tracker import Tracker, Visit
from duca_compile.generations.trajectory import Cache
from duca_compile.methods.duca import DuCa, Mode
from duca_compile.plan.step_plan import Slot
from sequences import denoisers
from sequences.oracle import Interrupted, Oracle, Stream
from sequences.samplers import KINDS, Evaluation, predicts


class Kind(NamedTuple):
    """A model: who denoises, what is predicted, and how its timestep runs: from 1000 to 0, from 1 to 0 or `up` to 1."""

    denoiser: str
    predicts: str
    clock: str = "1000"


class Call(NamedTuple):
    """One call of a model. `prompts`: which one each row denoises by."""

    model: int
    stream: Stream
    at: Evaluation
    latents: Tensor
    time: Tensor
    conditioning: tuple[Tensor, ...]
    prompts: tuple[int, ...]
    context: Context | None


_KEPT = "the only graph"
_SLOT = Slot("kept")
_METHOD = DuCa()


@dataclass(eq=False)
class Direct:
    """The models of one process, as far as a tracker sees them."""

    oracle: Oracle
    kinds: tuple[Kind, ...] = (
        *(Kind("exact", kind) for kind in KINDS),
        Kind("exact", "flow", "1"),
        Kind("exact", "flow", "up"),
        Kind("trained", "eps"),
        Kind("trained", "x0"),
    )
    changes: tuple[str, ...] = ("in place", "through data", "swapped", "replaced")
    interrupts: str = ""
    trackers: list[Tracker] = field(default_factory=list)
    weights: list[list[Tensor]] = field(default_factory=list)

    def restore(self, twice: bool) -> None:
        """As in a fresh process. No call is made twice."""
        self.oracle.restore()
        self.interrupts = ""
        self.trackers = [Tracker(Budget(None)) for _ in self.kinds]
        self.weights = [[torch.zeros(8, 8), torch.zeros(8)] for _ in self.kinds]

    def change_weights(self, model: int, how: str, state: int) -> None:
        held = self.weights[model]
        for index, weight in enumerate(held):
            if how == "in place":
                weight.fill_(state)
            elif how == "through data":
                weight.data.fill_(state)
            elif how == "swapped":
                weight.data = torch.full_like(weight, state)
            else:
                held[index] = torch.full_like(weight, state)

    def reset(self, model: int) -> None:
        self.trackers[model].clear()

    def call(self, call: Call) -> Tensor:
        """The model's output, float64. The tracker chooses a cache, and the oracle looks at it."""
        tracker = self.trackers[call.model]
        output = self._output(call)
        visit = _visit(tracker, call, self.weights[call.model])
        assert visit is not None
        trajectory = visit.trajectory
        cache = trajectory.caches.get(_KEPT)
        if cache is None:
            trajectory.step = min(trajectory.step, 0)
            cache = trajectory.caches[_KEPT] = Cache()
        with mock.patch.object(long_steps, "why_too_long", return_value=""):  # they are put to the test as well
            mode = tracker.begin(visit, _METHOD, 8)
        self.oracle.meets(call.stream, mode, cache, call.time.flatten()[0].item())
        if self.interrupts == "before the output":
            return self._interrupt(tracker, visit, cache)
        _produced(tracker, call, visit, output)
        if self.interrupts:
            return self._interrupt(tracker, visit, cache)
        if mode == Mode.FULL:
            cache.put((_SLOT,), (torch.zeros(1),), trajectory.calls)
            tracker.settle(trajectory)
            self.oracle.filled(call.stream, cache)
        return output

    def _interrupt(self, tracker: Tracker, visit: Visit, cache: Cache) -> Tensor:
        self.interrupts = ""
        self.oracle.spoilt(cache)
        tracker.abandon(visit.trajectory)
        raise Interrupted

    def _output(self, call: Call) -> Tensor:
        kind, latents = self.kinds[call.model], call.latents.double()
        if kind.denoiser == "trained":
            image = denoisers.trained(call.at)
        else:
            rows = latents.chunk(len(call.prompts))
            halves = zip(rows, call.prompts, strict=True)
            image = torch.cat([denoisers.exact(call.at._replace(x=x), prompt) for x, prompt in halves])
        return predicts(kind.predicts, image, call.at, latents)


def _visit(tracker: Tracker, call: Call, weights: list[Tensor]) -> Visit | None:
    values = (call.latents.shape, call.time.shape, call.latents.dtype)
    return tracker.visit(Given([call.time], [call.latents], call.conditioning, weights, values), call.context)


def _produced(tracker: Tracker, call: Call, visit: Visit, output: Tensor) -> None:
    tracker.produced((output.to(call.latents.dtype),), [call.latents])
