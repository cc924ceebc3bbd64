"""Where results are kept: files of their own, and marked places in the pages for readers."""

from collections.abc import Sequence
from pathlib import Path

from face.block import Block, Page
from face.draw import as_json, markdown, table_lines
from face.origin import Origin

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
MEASURED, MODELS, PAPER = (ROOT / "docs" / f"{name}.md" for name in ("measured", "models", "paper"))


def save(page: Page, folder: Path, name: str) -> None:
    """As `name.md` and `name.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(markdown(page))
    (folder / f"{name}.json").write_text(as_json(page))


def insert(path: Path, mark: str, blocks: Block | Sequence[Block], origin: Origin) -> None:
    """The table between the two marks of a page, its notes and its origin in a line below it. Several have titles."""
    before, opening, rest = path.read_text().partition(f"<!-- {mark} -->\n")
    _, closing, after = rest.partition(f"<!-- /{mark} -->")
    if not opening or not closing:
        raise ValueError(f"{path} has no place that is marked {mark}")
    if isinstance(blocks, Block):
        lines = [*table_lines(blocks), "", " ".join([*blocks.notes, origin.line])]
    else:
        lines = [line for block in blocks for line in _titled(block)] + [origin.line]
    path.write_text(f"{before}{opening}" + "\n".join(lines) + f"\n{closing}{after}")


def _titled(block: Block) -> list[str]:
    below = [" ".join(block.notes), ""] if block.notes else []
    return [f"**{block.title}**", "", *table_lines(block), "", *below]
