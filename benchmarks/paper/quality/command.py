"""Tables I and VI and Figures 2 and 7 of the paper, and its methods beside later ones, on the trained example model.

    python benchmarks paper quality                           # half an hour on 2 cores; run again to resume
    python benchmarks paper quality --parts orders cycles     # makes the samples of these alone, and shows them

DDIM in 50 steps without guidance, float32. Images are compared with those of all steps computed (PSNR, pixel range 2);
FLOPs are those that ran, against 50 computed steps. The graphs are the backend's; PyTorch runs them, not Inductor, which
would give the same images to rounding after minutes of compiling for each row.
"""

from collections.abc import Sequence
from pathlib import Path

from face import pages
from face.block import Page
from face.commands import parser
from face.draw import show
from face.origin import Origin, origin
from paper.quality import drawing, tables
from paper.quality.generate import Bench
from paper.quality.settings import PARTS
from sampling import trained_dit

FOLDER = pages.ROOT / "output" / "paper_quality"


def main(arguments: Sequence[str]) -> None:
    asked = parser("paper quality", __doc__)
    asked.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    asked.add_argument("--samples", type=int, default=32)
    asked.add_argument("--folder", type=Path, default=FOLDER, help="of finished samples")
    asked.add_argument("--out", type=Path, help="a folder for the figures; the pages for readers then stay as they are")
    given = asked.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(trained_dit(), 50, given.samples, given.folder)
    write(bench, given.parts, given.out, origin("paper quality", arguments))


def write(bench: Bench, parts: Sequence[str], out: Path | None, of: Origin) -> None:
    blocks = {part: tables.BLOCKS[part](bench) for part in parts}
    show(Page("The paper's tables on a trained model", of, list(blocks.values())))
    if set(parts) < set(PARTS):
        return
    for name, figure in drawing.FIGURES.items():
        figure(bench).savefig((out or pages.RESULTS) / f"paper_{name}.png", dpi=100)
    for part, block in blocks.items() if out is None else ():
        pages.insert(pages.PAPER, f"quality-{part}", block, of)
