"""The figures of a run as tables of at most 80 columns: for the terminal, and as Markdown."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from duca_compile import Mode
from on_gpu.targets import SPEED, Verdict, verdicts

WIDTH = 80
STEPS = ("plain", *(mode.value for mode in Mode))


@dataclass(frozen=True)
class Block:
    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: tuple[str, ...] = ()


def blocks(result: Mapping[str, Any]) -> Iterator[Block]:
    sections = {each["name"]: each["parts"] for each in result["sections"]}
    titles = {each["name"]: each["title"] for each in result["sections"]}
    yield targets(verdicts(sections))
    for name in (name for name in (*SPEED, "autotune") if sections.get(name)):
        yield steps(titles[name], sections[name])
    others = {"correctness": correctness, "machine": machine, "host": host, "peers": peers}
    for name, block in others.items():
        if sections.get(name):
            yield block(titles[name], sections[name])
    if missing := [row for each in result["sections"] if (row := unfinished(each))]:
        yield Block("Not measured", ("section", "why"), missing)


def targets(found: list[Verdict]) -> Block:
    rows = []
    for each in found:
        worst = "" if each.worst is None else f"{each.found[each.worst]:.3g}"
        where = f" ({each.worst})" if len(each.found) > 1 else ""
        rows.append((each.title, each.wanted, f"{worst}{where}", each.word))
    return Block("Targets", ("target", "wanted", "found, at worst", ""), rows)


def unfinished(section: Mapping[str, Any]) -> tuple[str, ...] | None:
    if section["error"]:
        return section["name"], f"failed: {section['error']}"
    return (section["name"], f"left out: {section['left_out']}") if section["left_out"] else None


def steps(title: str, parts: Mapping[str, Any]) -> Block:
    """A line for each kind of step; parts that were not reached leave their cells empty."""
    rows = [tuple(_cells(name, parts)) for name in STEPS if name in parts.get("steps", {})]
    headings = ("step", "ms", "of plain", "promised", "host ms", "kernels", "waits")
    model = parts.get("foretold", {}).get("model", "")
    return Block(title, headings, rows, tuple(note for note in (model, *_notes(parts)) if note))


def _cells(name: str, parts: Mapping[str, Any]) -> Iterator[str]:
    own = parts["steps"][name]
    yield name
    yield f"{own['ms']:.3f}"
    yield from (f"{own[key]:.1%}" if key in own else "" for key in ("share", "promised"))
    yield f"{own['host_ms']:.3f}"
    launched = parts.get("launches", {}).get(name)
    yield f"{launched['kernels']}" if launched else ""
    waited = parts.get("waits", {}).get(name)
    yield f"{waited['waits'] / waited['steps']:.1f}" if waited else ""


def _notes(parts: Mapping[str, Any]) -> Iterator[str]:
    if pairs := {name: each for name, each in parts.get("steps", {}).items() if "least" in each}:
        spread = (f"{name} {each['least']:.1%} to {each['most']:.1%}" for name, each in pairs.items())
        yield f"Pairs: {', '.join(spread)}."
    if sampled := parts.get("trajectory"):
        counts = " / ".join(str(count) for count in sampled["steps"].values())
        yield (
            f"{sum(sampled['steps'].values())} steps ({counts}): {sampled['plain_ms']:.1f} and "
            f"{sampled['cached_ms']:.1f} ms, {sampled['speedup']:.2f}x in time, {sampled['promised']:.2f}x in FLOPs, "
            f"{sampled['of_promised']:.1%} of them."
        )
    if held := parts.get("memory"):
        peak = f" Peak of a full step {held['full_mib']:.1f}, foretold {held['full_foretold_mib']:.1f}; of plain " \
            f"{held['plain_mib']:.1f}, foretold {held['plain_foretold_mib']:.1f}." if "full_mib" in held else ""  # fmt: skip
        yield f"MiB: caches hold {held['held_mib']:.1f}, foretold {held['held_foretold_mib']:.1f}.{peak}"
    if spent := parts.get("compile"):
        modes = " + ".join(f"{seconds:.1f}" for seconds in spent["modes_s"].values())
        yield f"Compiling: plain {spent['plain_s']:.1f} s, a first cycle {spent['cached_s']:.1f} s (modes {modes})."
    if launched := parts.get("launches"):
        counts = " / ".join(str(launched[name]["flash"]) for name in STEPS if name in launched)
        yield f"Flash attention: {counts} in {' / '.join(name for name in STEPS if name in launched)}."
    yield from parts.get("warnings", {}).get("said", {})


def correctness(title: str, parts: Mapping[str, Any]) -> Block:
    kinds = (*STEPS, "full against plain")
    rows = [(name, *(f"{part['worst'][kind]:.1e}" for kind in kinds)) for name, part in parts.items()]
    return Block(title, ("model", *kinds[:-1], "full - plain"), rows)


def machine(title: str, parts: Mapping[str, Any]) -> Block:
    rates = parts["rates"]
    rows = [(name, f"{part['us']:.1f}", f"{part['floor_us']:.1f}") for name, part in parts.items() if "us" in part]
    note = f"A product: {rates['product_tflops_per_s']:.1f} TFLOP/s; a copy: {rates['copy_tb_per_s']:.2f} TB/s."
    return Block(title, ("linear layer over", "us", "at these rates"), rows, (note,))


def host(title: str, parts: Mapping[str, Any]) -> Block:
    rows = [(mode, f"{us:.0f}") for mode, us in parts["us"].items()]
    of = parts.get("of", {})
    return Block(title, ("step", "us"), rows, (f"{of['model']}: {of['weights']} weights.",) if of else ())


def peers(title: str, parts: Mapping[str, Any]) -> Block:
    rows = []
    for name, part in parts.items():
        if "unsupported" in part:
            rows.append((name, "", "", "", ""))
        else:
            times = (f"{part['ms']:.1f}", f"{part['plain_ms']:.1f}", f"{part['share']:.1%}")
            rows.append((name, *times, f"{part['error']:.2g}"))
    reasons = (f"{name}: {part['unsupported']}." for name, part in parts.items() if "unsupported" in part)
    return Block(title, ("row", "ms", "plain ms", "of plain", "error"), rows, tuple(reasons))


def terminal(result: Mapping[str, Any]) -> Group:
    return Group(*(part for block in blocks(result) for part in _drawn(block)))


def _drawn(block: Block) -> Iterator[Any]:
    table = Table(padding=(0, 1))
    for number, heading in enumerate(block.headings):
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in block.rows:
        table.add_row(*row, style={"met": "green", "missed": "red"}.get(row[-1]))
    yield Text(block.title, style="bold")
    yield table
    for note in block.notes:
        yield Text(note, style="dim")
    yield Text("")


def markdown(result: Mapping[str, Any]) -> str:
    head = ", ".join(f"{name} {value}" if name != "device" else value for name, value in result["machine"].items())
    lines = ["# On a GPU", "", *textwrap.wrap(f"{head}. `make gpu` writes this; {INTRODUCTION}", WIDTH)]
    for block in blocks(result):
        lines += ["", f"## {block.title}", "", *_rows(block)]
        for note in block.notes:
            lines += ["", *textwrap.wrap(note, WIDTH, break_long_words=False)]
    return "\n".join(lines) + "\n"


INTRODUCTION = (
    "random weights, bfloat16, one full step in five. Plain and cached steps take turns on the same latents; *of plain* "
    "is the median of the pairs' ratios, *promised* what FLOPs say. Milliseconds lie "
    "between two events on the device; *host ms* go by until the call returns; *waits* are the host's for the device, "
    "in a step."
)


def _rows(block: Block) -> list[str]:
    """Cells as wide as their column, so that the text reads as the table does."""
    cells = [block.headings, *block.rows]
    widths = [max(3, *(len(row[at]) for row in cells)) for at in range(len(block.headings))]
    lines = [
        "| " + " | ".join(cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(zip(row, widths, strict=True))) + " |"
        for row in cells
    ]  # fmt: skip
    rule = "|" + "|".join("-" * (width + 1) + (":" if at else "-") for at, width in enumerate(widths)) + "|"
    return [lines[0], rule, *lines[1:]]


def show(result: Mapping[str, Any]) -> None:
    Console(width=WIDTH).print(terminal(result))
