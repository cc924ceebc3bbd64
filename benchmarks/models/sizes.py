"""The sizes at which models are measured, by what for."""

from collections.abc import Callable, Mapping

from models import of_diffusers
from models.architectures import dit, flux, wan
from models.shapes import Shape

Shapes = Mapping[str, Shape]


def published(depth: int | None = None) -> Shapes:
    """Widths and tokens as published; blocks of FLUX and Wan are fewer, which a step's shares hardly depend on."""
    deep = depth or 28
    return {
        "dit2": dit(2, depth=deep), "dit16": dit(16, depth=deep),
        "flux": flux(depth or 2, 2 * (depth or 2)), "short flux": flux(1, 1), "wan": wan(depth or 3),
    }  # fmt: skip


def for_cpus(depth: int | None = None) -> Shapes:
    """Full width and fewer tokens."""
    return {
        "dit2": dit(2, depth=depth or 4), "dit16": dit(16, depth=depth or 4),
        "flux": of_diffusers.flux(depth or 2), "short flux": of_diffusers.flux(1), "wan": of_diffusers.wan(depth or 4),
    }  # fmt: skip


def tiny(depth: int | None = None) -> Shapes:
    """To see whether a benchmark works."""
    small = flux(1, 1, side=4, text=8, width=32, heads=2, words=16)
    return {
        "dit2": dit(2, size=8, width=32, depth=1, heads=2), "dit16": dit(16, size=8, width=32, depth=1, heads=2),
        "flux": small, "short flux": small,
        "wan": wan(1, frames=2, height=4, across=2, width=32, heads=2, hidden=64, text=8, words=16),
    }  # fmt: skip


FOR_A_CHECK: Shapes = {
    "dit2": dit(2, size=16, width=256, depth=2, heads=4),
    "flux": flux(1, 2, side=16, text=64, width=256, heads=4, words=128),
    "wan": wan(2, frames=3, height=8, across=8, width=256, heads=4, hidden=512, text=32, words=128),
}
"""For a comparison with the CPU, step by step."""

SMALLEST = dit(2, size=8, width=32, depth=2, heads=2)

NARROW: Mapping[str, Callable[[int], Shape]] = {
    "dit": lambda depth: dit(2, width=256, depth=depth, heads=4),
    "flux": lambda depth: of_diffusers.flux(depth, side=16, text=64, heads=2),
}
"""By depth, which of FLUX counts the double blocks."""
