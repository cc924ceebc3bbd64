"""The pages for readers, as tests read them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def rows_of(text: str) -> list[str]:
    """Of its tables."""
    return [line for line in text.splitlines() if line.startswith("|")]


def blocks_of(page: Path) -> list[str]:
    """Of Python."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
