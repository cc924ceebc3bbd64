"""The rows of the table of quality, and what came of them, each in a file of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from duca_compile.methods import PRESETS
from duca_compile.methods.base import FULL, even
from quality.samplers import SAMPLERS, Placed, Sampler, Scheduled, TrainedFlow

CHUNK = 100
"""Images that are sampled at once."""
STEPS = 50
CACHED: dict[str, dict[str, Any]] = {
    "preset quality": {"preset": "quality"},
    "preset balanced (default)": {"preset": "balanced"},
    "preset fast": {"preset": "fast"},
    "forecast-stack, even cycles of 5": {"method": "forecast-stack"},
    "taylorseer, N = 5": {"method": "taylorseer"},
    "fora, N = 5": {"method": "fora"},
    "duca, N = 3": {"method": "duca", "cycle": 3},
    "duca, N = 5": {"method": "duca"},
}
WITNESSES = {
    "DDIM": (50, 17, 10, 7),
    "flow, shift 1": (50, 17, 10, 7),
    "flow, shift 3": (50, 17, 10, 7),
    "trained flow, shift 1": (50, 17, 10, 7),
    "trained flow, shift 3": (50, 17, 10, 7),
    "DPM-Solver++ 2M": (20, 17, 10, 7),
    "UniPC": (20, 17, 10, 7),
    "DDIM, guidance in one batch": (50, 10),
    "DDIM, guidance in two calls": (50, 10),
    "DDIM from half the noise": (25, 5),
}
"""Samplers, each with the steps of its own images and of its rows of fewer steps."""
OURS = ("preset quality", "preset balanced (default)", "preset fast")
IN_ALL = (*OURS, "duca, N = 5")
"""The cached rows of witnesses other than the first."""
DRAWN = ("DDIM", "flow, shift 1", "flow, shift 3")
"""Those that presets were made on."""
FROM_NOISE = (*DRAWN, "DPM-Solver++ 2M", "UniPC")
"""Those whose images have the exact ones as their limit."""
EXACT = ("DPM-Solver++ 2M", 100)
SOLVERS = ("DDIM", "DPM-Solver++ 2M", "UniPC")
"""Those that also take the full steps of presets alone, of 50, and nothing between them."""
PLACED = {f"uncached, the full steps of {preset}": preset for preset in ("quality", "balanced", "fast")}


@dataclass(frozen=True)
class Row:
    sampler: str
    name: str
    steps: int

    @classmethod
    def computed(cls, sampler: str, steps: int) -> "Row":
        return cls(sampler, f"uncached, {steps} steps", steps)

    @classmethod
    def own(cls, sampler: str) -> "Row":
        """Whose images a witness's rows are compared with."""
        return cls.computed(sampler, WITNESSES[sampler][0])

    @classmethod
    def cached(cls, sampler: str, name: str) -> "Row":
        return cls(sampler, name, WITNESSES[sampler][0])

    @classmethod
    def placed(cls, sampler: str, name: str) -> "Row":
        return cls(sampler, name, len(full_steps(PLACED[name])))

    @property
    def made_by(self) -> Sampler:
        sampler = SAMPLERS[self.sampler]
        if self.name not in PLACED:
            return sampler
        assert isinstance(sampler, Scheduled)
        return Placed(sampler, full_steps(PLACED[self.name]), STEPS)

    @property
    def options(self) -> dict[str, Any] | None:
        return CACHED.get(self.name)

    @property
    def whole(self) -> "Row":
        """50 computed steps of the same model, whose FLOPs are those that a row's are told in."""
        return Row.own(self.sampler if isinstance(SAMPLERS[self.sampler], TrainedFlow) else "DDIM")

    def path(self, folder: Path) -> Path:
        return folder / f"{self.sampler}, {self.name}.pt"


@dataclass
class Outcome:
    """Chunks of images `[CHUNK, 1, 28, 28]`; FLOPs, full steps and bytes of cache of one sample."""

    images: list[Tensor] = field(default_factory=list)
    flops: int = 0
    full_steps: int = 0
    held_bytes: int = 0

    def first(self, count: int) -> Tensor:
        return torch.cat(self.images)[:count]


Found = dict[Row, Outcome]


def rows() -> list[Row]:
    found = [Row.computed(*EXACT)]
    for sampler, (_, *fewer) in WITNESSES.items():
        found.append(Row.own(sampler))
        found += [Row.cached(sampler, name) for name in CACHED if sampler == "DDIM" or name in IN_ALL]
        found += [Row.computed(sampler, steps) for steps in fewer]
        found += [Row.placed(sampler, name) for name in PLACED if sampler in SOLVERS]
    return found


def full_steps(preset: str) -> tuple[int, ...]:
    return tuple(step for step, name in enumerate(even(PRESETS[preset], STEPS)) if name == FULL)


def load(row: Row, folder: Path) -> Outcome:
    """An empty one where nothing was generated yet."""
    path = row.path(folder)
    return Outcome(**torch.load(path)) if path.exists() else Outcome()


def all_found(folder: Path, of: Sequence[Row]) -> Found:
    return {row: outcome for row in of if (outcome := load(row, folder)).images}
