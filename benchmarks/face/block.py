"""What results are made of: tables with notes, on a page that says where they are from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from face.origin import Origin


@dataclass(frozen=True)
class Block:
    """A table. Columns whose numbers are not in `words` hold figures, and lie to the right."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: tuple[str, ...] = ()
    words: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Page:
    """`data` are figures for programs, which stand in the JSON file in place of the blocks."""

    title: str
    origin: Origin
    blocks: Sequence[Block]
    introduction: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
