"""What a GPU run is measured against, and whether it was met."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from duca_compile import Mode

Parts = Mapping[str, Mapping[str, Any]]
Sections = Mapping[str, Parts]
"""Figures by section and part."""

SPEED = ("flux", "dit16", "dit2", "dit2 graphs", "wan")
"""Sections that measure a whole model."""


@dataclass(frozen=True)
class Target:
    """`of(sections)` gives a figure by section, and nothing where it was not measured. The worst one counts."""

    title: str
    wanted: str
    of: Callable[[Sections], dict[str, float]]
    at_least: float | None = None
    at_most: float | None = None

    def verdict(self, sections: Sections) -> "Verdict":
        found = self.of(sections)
        if not found:
            return Verdict(self.title, self.wanted, {}, None, None)
        worst = max(found, key=lambda name: self._excess(found[name]))
        return Verdict(self.title, self.wanted, found, worst, self._excess(found[worst]) <= 0)

    def _excess(self, value: float) -> float:
        """How far on the wrong side of the bounds; what is no number is never within them."""
        over = [] if self.at_most is None else [value - self.at_most]
        under = [] if self.at_least is None else [self.at_least - value]
        return float("inf") if math.isnan(value) else max(over + under)


@dataclass(frozen=True)
class Verdict:
    """`met` is None where nothing was measured."""

    title: str
    wanted: str
    found: dict[str, float]
    worst: str | None
    met: bool | None

    @property
    def word(self) -> str:
        return {True: "met", False: "missed", None: "not measured"}[self.met]


def figure(*path: str, within: tuple[str, ...] = SPEED) -> Callable[[Sections], dict[str, float]]:
    """The figure at this path of each section that has it."""

    def of(sections: Sections) -> dict[str, float]:
        found = {}
        for name in within:
            value: Any = sections.get(name, {})
            for key in path:
                value = value.get(key, {})
            if isinstance(value, (int, float)):
                found[name] = value
        return found

    return of


def peak_over_forecast(sections: Sections) -> dict[str, float]:
    """Under CUDA graphs memory is their pool's, which is not foretold."""
    held = ((name, sections.get(name, {}).get("memory", {})) for name in SPEED if name != "dit2 graphs")
    return {name: each["full_mib"] / each["full_foretold_mib"] for name, each in held if "full_mib" in each}


def kernels_added(sections: Sections) -> dict[str, float]:
    """By a full step over plain. Under CUDA graphs it also copies what it stores to memory that stays."""
    launched = {name: sections.get(name, {}).get("launches", {}) for name in SPEED if name != "dit2 graphs"}
    return {
        name: float(each[Mode.FULL.value]["kernels"] - each["plain"]["kernels"])
        for name, each in launched.items()
        if Mode.FULL.value in each
    }


def flash_lost(sections: Sections) -> dict[str, float]:
    """Kernels of attention that are not flash in any mode, and those of plain that a full step lacks."""
    found = {}
    for name in SPEED:
        each = sections.get(name, {}).get("launches", {})
        modes = [each[mode.value] for mode in Mode if mode.value in each]
        if len(modes) == len(Mode) and each["plain"]["flash"]:
            missing = max(0, each["plain"]["flash"] - each[Mode.FULL.value]["flash"])
            found[name] = float(missing + sum(mode["other_attention"] for mode in modes))
    return found


def float32_errors(sections: Sections) -> dict[str, float]:
    parts = sections.get("correctness", {})
    return {name: max(_of_modes(part["worst"])) for name, part in parts.items() if "bf16" not in name}


def _of_modes(worst: Mapping[str, float]) -> Iterator[float]:
    return (worst[mode.value] for mode in Mode)


OF_PROMISED = ("trajectory", "of_promised")
TARGETS = (
    Target("FLUX, time over FLOPs", ">= 0.95", figure(*OF_PROMISED, within=("flux",)), at_least=0.95),
    Target("DiT batch 16, the same", ">= 0.95", figure(*OF_PROMISED, within=("dit16",)), at_least=0.95),
    Target("DiT batch 2, CUDA graphs", ">= 0.85", figure(*OF_PROMISED, within=("dit2 graphs",)), at_least=0.85),
    Target("full over plain", "<= 1.02", figure("steps", "full", "share"), at_most=1.02),
    Target("aggressive over plain", "<= 0.02", figure("steps", "aggressive", "share"), at_most=0.02),
    Target("peak over forecast", "0.95 to 1.05", peak_over_forecast, at_least=0.95, at_most=1.05),
    Target("kernels, full over plain", "0 more", kernels_added, at_most=0.0),
    Target("attention but for flash", "0 kernels", flash_lost, at_most=0.0),
    Target("float32 against the CPU", "<= 1e-4", float32_errors, at_most=1e-4),
)


def verdicts(sections: Sections) -> list[Verdict]:
    return [target.verdict(sections) for target in TARGETS]
