"""How near cached images are to computed ones, on the trained example models."""

from collections.abc import Sequence

from face.commands import Command, run

COMMANDS = {
    "table": Command("presets, methods and fewer steps at their costs, under all samplers", "quality.table"),
    "few-steps": Command("from how long a step on caching harms", "quality.few_steps"),
    "tuning": Command("what tune adds to the presets", "quality.tuning"),
    "choices": Command("the default preset with one thing of it changed", "quality.choices"),
    "continuity": Command("how latents follow from step to step, by sampler", "quality.continuity"),
}


def main(arguments: Sequence[str]) -> None:
    run("quality ", COMMANDS, arguments, default="table")
