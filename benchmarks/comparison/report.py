"""The same rows as a table for the terminal and as markdown."""

from typing import Any

from rich.table import Table

COLUMNS = (
    "", "full / cached", "time (from, to)", "FLOPs", "launches", "graphs", "first result", "compiling", "peak",
    "error", "PSNR",
)  # fmt: skip
INTRODUCTION = """\
# Beside other caches

{machine}, {cores} cores, {threads} threads, CPU, fp32; torch {versions[torch]}, diffusers {versions[diffusers]}, cache-dit {versions[cache-dit]}. Every row \
takes {steps} steps of the same sampler from the same noise. Every cache is set to {full_steps} full steps (ours: `cycle` = {cycle}); \
what a cached step computes is its own affair. `python benchmarks/peers.py` writes this.{warning}

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


def weights(subject: str) -> str:
    return "trained weights" if subject.startswith("trained") else "random weights"


def title(subject: str, rows: list[dict[str, Any]]) -> str:
    return f"{subject}, {weights(subject)}: {rows[0]['shape']}"


def table(subject: str, rows: list[dict[str, Any]]) -> Table:
    found = Table(title=title(subject, rows), caption="* at other steps than ours")
    for column in COLUMNS:
        found.add_column(column, justify="right" if column else "left", overflow="fold")
    for row in rows:
        found.add_row(*cells(row))
    return found


def markdown(report: dict[str, Any]) -> str:
    warning = "" if report["inductor"] else " **Without Inductor: times mean nothing.**"
    lines = [INTRODUCTION.format(**report, warning=warning)]
    for subject, rows in report["subjects"].items():
        lines += [
            f"## {title(subject, rows)}",
            "",
            f"| {' | '.join(COLUMNS)} |",
            f"|---|{'---:|' * (len(COLUMNS) - 1)}",
        ]
        lines += [f"| {' | '.join(cells(row))} |" for row in rows]
        lines.append("")
        lines += [f"- {row['row']}: {'; '.join(row['notes'])}" for row in rows if row["notes"]]
        lines.append("")
    return "\n".join(lines)
