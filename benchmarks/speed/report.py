"""The figures of a run as blocks. Parts that were not reached leave their cells empty."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from duca_compile import Mode
from face.block import Block
from speed.targets import SPEED, Verdict, verdicts

STEPS = ("plain", *(mode.value for mode in Mode))
INTRODUCTION = (
    "Random weights, one full step in five. Plain and cached steps take turns on the same latents; *of plain* is the "
    "median of the pairs' ratios, *promised* what FLOPs say. On a GPU milliseconds lie between two events on the device; "
    "*over floor* is a step's time over the larger of its FLOPs at the measured rate of a product and its bytes, of "
    "weights and caches, at the measured rate of memory; *host ms* go by until the call returns; *waits* are the host's "
    "for the device, in a step. Rows of whole trajectories are a step on average, as a sampler runs it; a *counted session* "
    "is told the number of steps (`session(steps=...)`), so that nothing is read from the device."
)


def blocks(sections: Sequence[Mapping[str, Any]], command: str, on_gpu: bool) -> Iterator[Block]:
    """`command` is that of the page: sections of other commands name theirs."""
    parts = {each["name"]: each["parts"] for each in sections}
    if on_gpu:
        yield targets(verdicts(parts))
    ordered = dict.fromkeys((*SPEED, "autotune"), steps) | OTHERS
    by_name = {each["name"]: each for each in sections}
    for name, block in ordered.items():
        if parts.get(name):
            drawn = block(by_name[name]["title"], parts[name])
            own = by_name[name]["command"]
            yield drawn if own == command else replace(drawn, notes=(*drawn.notes, f"By `{own}`."))
    if missing := [row for each in sections if (row := unfinished(each))]:
        yield Block("Not measured", ("section", "why"), missing, words=(0, 1))


def targets(found: list[Verdict]) -> Block:
    rows = []
    for each in found:
        worst = "" if each.worst is None else f"{each.found[each.worst]:.3g}"
        where = f" ({each.worst})" if len(each.found) > 1 else ""
        rows.append((each.title, each.wanted, f"{worst}{where}", each.word))
    return Block("Targets of a GPU", ("target", "wanted", "found, at worst", ""), rows, words=(0, 3))


def unfinished(section: Mapping[str, Any]) -> tuple[str, ...] | None:
    if section["error"]:
        return section["name"], f"failed: {section['error']}"
    return (section["name"], f"left out: {section['left_out']}") if section["left_out"] else None


def steps(title: str, parts: Mapping[str, Any]) -> Block:
    """A line for each kind of step."""
    rows = [tuple(_cells(name, parts)) for name in STEPS if name in parts.get("steps", {})]
    rows += [_whole(name, parts) for name in ("", "counted ") if f"{name}trajectory" in parts]
    headings = ("step", "ms", "of plain", "promised", "over floor", "host ms", "kernels", "waits")
    told = parts.get("foretold", {})
    model = f"{told['model']}, {told['dtype']}." if told else ""
    return Block(title, headings, rows, tuple(note for note in (model, *_notes(parts)) if note))


def _cells(name: str, parts: Mapping[str, Any]) -> Iterator[str]:
    own = parts["steps"][name]
    yield name
    yield f"{own['ms']:.3f}"
    yield from (f"{own[key]:.2%}" if key in own else "" for key in ("share", "promised"))
    yield f"{own['ms'] / own['floor_ms']:.2f}x" if "floor_ms" in own else ""
    yield f"{own['host_ms']:.3f}"
    launched = parts.get("launches", {}).get(name)
    yield f"{launched['kernels']}" if launched else ""
    waited = parts.get("waits", {}).get(name)
    yield f"{waited['waits'] / waited['steps']:.1f}" if waited else ""


def _whole(counted: str, parts: Mapping[str, Any]) -> tuple[str, ...]:
    """A step of a whole trajectory, on average."""
    found, waited = parts[f"{counted}trajectory"], parts.get(f"{counted}waits", {}).values()
    count = sum(found["steps"].values())
    times = [f"{found[of] / count:.3f}" for of in ("cached_ms", "cached_host_ms")]
    shares = (f"{1 / found[of]:.2%}" for of in ("speedup", "promised"))
    waits = f"{sum(each['waits'] for each in waited) / sum(each['steps'] for each in waited):.1f}" if waited else ""
    return (f"{counted and 'counted session, '}{count} steps", times[0], *shares, "", times[1], "", waits)


def _notes(parts: Mapping[str, Any]) -> Iterator[str]:
    if measured := parts.get("steps"):
        pairs = {name: each for name, each in measured.items() if "least" in each}
        ranges = (f"{name} {each['least']:.1%} to {each['most']:.1%} ({each['count']})" for name, each in pairs.items())
        yield f"Pairs: {', '.join(ranges)}."
        figures = (
            f"{name} {each['gflops']:.2f} and {each['mib_read']:.0f}"
            for name, each in parts["foretold"]["steps"].items()
        )
        yield f"GFLOPs and MiB read: {', '.join(figures)}."
    if whole := parts.get("cycle"):
        yield f"A cycle of five: {_speedup(whole)}."
    if sampled := parts.get("trajectory"):
        counts = " / ".join(str(count) for count in sampled["steps"].values())
        times = f"{sampled['plain_ms']:.1f} and {sampled['cached_ms']:.1f} ms"
        yield f"{sum(sampled['steps'].values())} steps ({counts}): {times}, {_speedup(sampled)}."
    if held := parts.get("memory"):
        peak = (
            f" Peak of a full step {held['full_mib']:.1f}, foretold {held['full_foretold_mib']:.1f}; of plain "
            f"{held['plain_mib']:.1f}, foretold {held['plain_foretold_mib']:.1f}."
            if "full_mib" in held
            else ""
        )
        yield f"MiB: caches hold {held['held_mib']:.1f}, foretold {held['held_foretold_mib']:.1f}.{peak}"
    if spent := parts.get("compile"):
        modes = " + ".join(f"{seconds:.1f}" for seconds in spent["modes_s"].values())
        yield f"Compiling: plain {spent['plain_s']:.1f} s, a first cycle {spent['cached_s']:.1f} s (modes {modes})."
    if launched := parts.get("launches"):
        counts = " / ".join(str(launched[name]["flash"]) for name in STEPS if name in launched)
        yield f"Flash attention: {counts} in {' / '.join(name for name in STEPS if name in launched)}."
    yield from parts.get("warnings", {}).get("said", {})


def _speedup(found: Mapping[str, float]) -> str:
    whole = f"{found['speedup']:.2f}x in time, {found['promised']:.2f}x in FLOPs"
    return f"{whole}, {found['of_promised']:.1%} of what they promise"


def correctness(title: str, parts: Mapping[str, Any]) -> Block:
    kinds = (*STEPS, "full against plain")
    rows = [(name, *(f"{part['worst'][kind]:.1e}" for kind in kinds)) for name, part in parts.items()]
    return Block(title, ("model", *kinds[:-1], "full - plain"), rows)


def machine(title: str, parts: Mapping[str, Any]) -> Block:
    rates = parts["rates"]
    rows = [(name, f"{part['us']:.1f}", f"{part['floor_us']:.1f}") for name, part in parts.items() if "us" in part]
    note = f"A product: {rates['product_tflops_per_s']:.3g} TFLOP/s; memory: {rates['moved_tb_per_s']:.3g} TB/s."
    return Block(title, ("linear layer over", "us", "at these rates"), rows, (note,))


def host(title: str, parts: Mapping[str, Any]) -> Block:
    rows = []
    for name, found in parts["us"].items():
        whole = parts.get("with torch.compile", {}).get(name)
        figures = (f"{found[key]:.0f}" for key in ("fastest", "median", "nine_in_ten"))
        rows.append((name, str(found["steps"]), *figures, "" if whole is None else f"{whole:.0f}"))
    of = parts.get("of", {})
    headings = ("of", "steps", "fastest", "median", "nine in ten", "with torch.compile's")
    return Block(title, headings, rows, (f"{of['model']}: {of['weights']} weights.",) if of else ())


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


def few_rows(title: str, parts: Mapping[str, Any]) -> Block:
    headings = ("", "linear (GB/s of weight)", "ours (GB/s)", "time, ours / linear")
    rows = [
        (name, f"{part['linear_gb_per_s']:.1f}", f"{part['ours_gb_per_s']:.1f}", f"{part['share']:.2f}")
        for name, part in parts.items()
    ]
    return Block(title, headings, rows)


def compile_time(title: str, parts: Mapping[str, Any]) -> Block:
    headings = ("way", "time / plain", "CPU / plain", "kernels", "seconds", "full, ms", "conservative, ms")
    rows = []
    for way, run in parts.items():
        if way != "depth":
            ratios = (f"{run[of]:.2f}" for of in ("seconds_ratio", "cpu_ratio"))
            last = f"{run['conservative_ms']:.1f}" if "duca" in way else ""
            counts = (f"{run['kernels']:.0f}", f"{run['seconds']:.0f}", f"{run['full_ms']:.1f}", last)
            rows.append((way, *ratios, *counts))
    of = parts["depth"]
    return Block(title, headings, rows, (f"{of['blocks']} blocks; the median of {of['rounds']} in turn.",))


def memory(title: str, parts: Mapping[str, Any]) -> Block:
    rows = []
    for part in parts.values():
        for of, found in part["of"].items():
            ratio = f"{found['measured_mib'] / found['foretold_mib']:.3f}" if found["foretold_mib"] else ""
            sizes = (f"{found[which]:.2f}" for which in ("foretold_mib", "measured_mib"))
            rows.append((part["name"], part["options"], of, *sizes, ratio))
    headings = ("model", "options", "of", "foretold", "measured", "measured / foretold")
    models = {f"{part['name']}: {part['model']}" for part in parts.values()}
    return Block(title, headings, rows, (f"{'; '.join(sorted(models))}.",), words=(0, 1, 2))


OTHERS = {
    "correctness": correctness, "machine": machine, "host": host, "guard": host, "peers": peers,
    "few rows": few_rows, "compile time": compile_time, "memory": memory,
}  # fmt: skip
