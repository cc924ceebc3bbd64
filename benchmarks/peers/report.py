"""The rows of a model as a block."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from face.block import Block

COLUMNS = (
    "", "full / cached", "time (from, to)", "FLOPs", "launches", "graphs", "first result", "compiling", "peak",
    "error", "PSNR",
)  # fmt: skip
INTRODUCTION = """\
{cores} cores, fp32, diffusers {versions[diffusers]}, cache-dit {versions[cache-dit]}. Every row takes {steps} steps of the same sampler from the same noise. Every cache is set to {full_steps} full steps (ours: `cycle` = {cycle}); \
what a cached step computes is its own affair.{warning}

FLUX, PixArt and Wan have random weights, scaled so that every block matters, and few blocks: their errors are only \
indicative, and the one block that FirstBlockCache and DBCache compute in every cached step weighs more than in a model of 50. \
The trained DiT is `examples/dit.py`.

- *time*: of a whole trajectory, over that of plain `torch.compile` in the same round; median of {rounds} rounds in turn, least and most.
- *full / cached*: steps, of peers by the FLOPs they spend uncompiled, of ours by its own count; * where not at the same steps as ours.
- *FLOPs*: of the trajectory over the uncached one's, of ours as its graphs foretell.
- *launches*: calls of graphs that Inductor compiled, in a full / in a cached step. *graphs*: how many it compiled.
- *first result*: seconds to the first step's output from an empty cache of Inductor's; *compiling*: seconds of the first \
trajectories, until nothing new is compiled, beyond what they take afterwards. Limits of recompiling are torch's own; for \
cache-dit those of its `set_compile_configs()`.
- *peak*: most bytes held at once of what torch's allocator gave during one trajectory (profiler, `profile_memory=True`): caches \
and activations, without weights and without what compiled kernels take from malloc.
- *error*: relative L2 error of the sample against that of plain `torch.compile`; *PSNR* over the range of pixels for the \
trained model, over that of the uncached sample for the others.
"""


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Of `COLUMNS`; a row that is not supported has its reason alone."""
    if row["unsupported"]:
        return (row["row"], f"not supported: {row['unsupported']}", *[""] * (len(COLUMNS) - 2))
    launches = [row["launches_full"], row["launches_cached"]]
    return (
        row["row"],
        f"{row['full']} / {row['cached']}" + ("" if row["same_steps"] or not row["cached"] else " *"),
        f"{row['time_ratio']:.1%} ({row['time_from']:.1%}, {row['time_to']:.1%})",
        f"{row['flops_share']:.1%}",
        " / ".join(f"{count:.3g}" for count in launches if count is not None),
        "" if row["graphs"] is None else str(row["graphs"]),
        "" if row["first_seconds"] is None else f"{row['first_seconds']:.1f} s",
        "" if row["compile_seconds"] is None else f"{row['compile_seconds']:.1f} s",
        f"{row['peak_bytes'] / 2**20:.1f} MiB",
        f"{row['error']:.2g}",
        "" if row["psnr"] is None else f"{row['psnr']:.1f} dB",
    )


def told(subject: str, rows: Sequence[dict[str, Any]]) -> Block:
    weights = "trained weights" if subject.startswith("trained") else "random weights"
    notes = "\n".join(f"- {row['row']}: {'; '.join(row['notes'])}" for row in rows if row["notes"])
    title = f"{subject}, {weights}: {rows[0]['shape']}"
    return Block(title, COLUMNS, [cells(row) for row in rows], (notes,) if notes else ())


def blocks(subjects: dict[str, Any], command: str) -> list[Block]:
    """`command` is that of the page: models of other commands name theirs."""
    found = []
    for subject, of in subjects.items():
        block = told(subject, of["rows"])
        own = () if of["command"] == command else (f"By `{of['command']}`.",)
        found.append(replace(block, notes=(*block.notes, *own)))
    return found


def introduction(settings: dict[str, Any]) -> str:
    warning = "" if settings["inductor"] else " **Without Inductor: times mean nothing.**"
    return INTRODUCTION.format(**settings, warning=warning)
