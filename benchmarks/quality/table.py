"""Quality at a given cost on the trained example models: presets, methods, fewer steps; writes tables and a figure.

    python benchmarks quality                         # an hour on 2 cores; run again to resume
    python benchmarks quality --latency               # ten minutes more: the column of times
    python benchmarks quality --frechet 1000          # half an hour more: the rows of the second table
    python benchmarks quality --report-only           # the pages from finished rows alone

Every row starts from the same noise and labels, class-conditional, in float32 through Inductor; without guidance but
where it is named. *Own*: PSNR (pixel range 2) to the sampler's own images, all of whose steps are computed, mean and
standard error over the images. *Exact*: to 100 steps of DPM-Solver++ 2M, which all samplers of the diffusion model
approach. *FLOPs*: how many times fewer than 50 steps of the same model. *Trained flow*: a model that was trained as a
rectified flow; its rows are left out while it has no weights. Image to image starts from test images at half the noise.
Fréchet distance is taken in the feature space of `examples/classifier.py` against the 10,000 test images (arXiv
1706.08500 with another network, so only rows of this table compare).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from face import pages
from face.block import Block, Page
from face.commands import parser
from face.draw import show
from face.origin import Origin, origin
from figures import Ratios, decibels, spread
from quality import frechet, latency
from quality.drawing import figure
from quality.frechet import FRECHET
from quality.generate import generate
from quality.rows import CHUNK, DRAWN, EXACT, FROM_NOISE, IN_ALL, WITNESSES, Found, Row, all_found, rows

ROWS = pages.ROOT / "output" / "quality"


def main(arguments: Sequence[str]) -> None:
    given = parsed(arguments)
    given.rows.mkdir(parents=True, exist_ok=True)
    wanted = dict.fromkeys(rows(), given.samples // CHUNK)
    wanted |= {row: max(given.frechet // CHUNK, wanted[row]) for row in FRECHET}
    for row, chunks in wanted.items() if not given.report_only else ():
        generate(row, chunks, given.rows)
    if given.latency and not given.report_only:
        latency.measure([row for row in rows() if row.sampler == "DDIM"], given.rows, given.pairs, given.batch)
    write(given.rows, given.out, origin("quality", [each for each in arguments if each != "--report-only"]))


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    found = parser("quality", __doc__)
    found.add_argument("--samples", type=int, default=100, help="a multiple of 100")
    found.add_argument("--frechet", type=int, default=0, help="samples of each row of the second table")
    found.add_argument("--report-only", action="store_true")
    found.add_argument("--latency", action="store_true", help="time the rows of DDIM, too; nothing else should run")
    found.add_argument("--pairs", type=int, default=5, help="of generations, plain and the row's in turn")
    found.add_argument("--batch", type=int, default=4, help="images of a generation that is timed")
    found.add_argument("--rows", type=Path, default=ROWS, help="the folder of finished rows")
    found.add_argument("--out", type=Path, help="a folder for the results; the pages for readers then stay as they are")
    return found.parse_args(arguments)


def write(folder: Path, out: Path | None, of: Origin) -> None:
    found, times = all_found(folder, rows()), latency.known(folder)
    second = all_found(folder, FRECHET)
    blocks = {"quality": table(list(found), found, times)}
    if len(second) == len(FRECHET) and all(len(each.images) > 1 for each in second.values()):
        blocks["frechet"] = frechet.block(second)
    page = Page("Quality", of, list(blocks.values()))
    pages.save(page, out or pages.RESULTS, "quality")
    samplers = [each for each in WITNESSES if Row.own(each) in found and (each in DRAWN or "trained" in each)]
    figure(found, samplers).savefig((out or pages.RESULTS) / "quality.png", dpi=110)
    if out is None:
        for mark, block in blocks.items():
            pages.insert(pages.MEASURED, mark, block, of)
        pages.insert(pages.README, "quality", table([row for row in found if is_short(row)], found, times), of)
    show(page)


def is_short(row: Row) -> bool:
    """Whether the README has it, too."""
    names = IN_ALL if row.sampler == "DDIM" else (IN_ALL[1], IN_ALL[3])
    return row.sampler in DRAWN and row.name in (*names, "uncached, 10 steps")


def table(shown: Sequence[Row], found: Found, times: latency.Times) -> Block:
    count = min(sum(map(len, each.images)) for each in found.values())
    timed = ("time",) if times else ()
    told = [cells(row, found, count, times) for row in shown]
    notes = (f"{count} samples a row, without guidance but where it is named, float32.",)
    headings = ("sampler", "", "full steps", "FLOPs", *timed, "cache a sample (MiB)", "own (dB)", "exact (dB)")
    return Block("Quality", headings, told, (*notes, *([latency.note(times)] if times else [])), words=(0, 1))


def cells(row: Row, found: Found, count: int, times: latency.Times) -> tuple[str, ...]:
    """Empty where there is nothing to compare with."""
    done, own, whole = found[row], found.get(Row.own(row.sampler)), found.get(row.whole)
    exact = found.get(Row.computed(*EXACT))
    images = done.first(count)
    less = "" if whole is None else f"{whole.flops / done.flops:.2f}x"
    held = f"{done.held_bytes / 2**20:.2f}" if done.held_bytes else ""
    near = "" if own is None or own is done else spread(decibels(images, own.first(count)))
    compared = exact is not None and exact is not done and row.sampler in FROM_NOISE
    far = spread(decibels(images, exact.first(count))) if exact is not None and compared else ""
    timed = (time_of(row, times),) if times else ()
    return (row.sampler, row.name, str(done.full_steps), less, *timed, held, near, far)


def time_of(row: Row, times: latency.Times) -> str:
    if row == Row.own("DDIM"):
        return "1.00x"
    known = row.sampler == "DDIM" and row.name in times
    return f"{Ratios(times[row.name]['ratios']).median:.2f}x" if known else ""
