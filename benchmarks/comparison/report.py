"""The same rows as a table for the terminal and as markdown."""

from typing import Any

from rich.table import Table

COLUMNS = (
    "", "full / cached", "time (from, to)", "FLOPs", "launches", "graphs", "first result", "compiling", "peak",
    "error", "PSNR",
)  # fmt: skip
INTRODUCTION = """\
{machine}, {cores} cores, CPU, fp32, torch {versions[torch]}, diffusers {versions[diffusers]}, cache-dit {versions[cache-dit]}; \
{steps} steps of which {full_steps} are full (cycle {cycle}), {rounds} rounds. `python benchmarks/peers.py --help` says what each \
column is. Random weights: errors are only indicative. With few blocks the one that FirstBlockCache and DBCache compute in \
every cached step weighs more than in a model of 50. Rows are timed in turn against plain `torch.compile`; lower is better but for PSNR.
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
    lines = [INTRODUCTION.format(**report)]
    for subject, rows in report["subjects"].items():
        lines += [
            f"## {title(subject, rows)}",
            "",
            f"| {' | '.join(COLUMNS)} |",
            f"|---|{'---:|' * (len(COLUMNS) - 1)}",
        ]
        lines += [f"| {' | '.join(cells(row))} |" for row in rows]
        lines += ["", "\\* at other steps than ours", ""]
        lines += [f"- {row['row']}: {'; '.join(row['notes'])}" for row in rows if row["notes"]]
        lines.append("")
    return "\n".join(lines)
