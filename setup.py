"""What a package index shows: README.md, with links that lead to the repository, as no file lies beside it there.

All else is in pyproject.toml.
"""

import re
from pathlib import Path

from setuptools import setup

HOME = "https://github.com/duca-compile/duca-compile"
PLACES = (
    (r"!\[[^\]]*\]\(", "https://raw.githubusercontent.com/duca-compile/duca-compile/main/"),
    (r"\]\((?=#)", HOME),
    (r"\]\((?!#)", f"{HOME}/blob/main/"),
)
"""What comes before a link of each kind, and what goes before its target: pictures, headings, files."""


def with_absolute_links(text: str) -> str:
    for before, place in PLACES:
        text = re.sub(rf"({before})(?!https?://)", rf"\g<1>{place}", text)
    return text


setup(
    long_description=with_absolute_links(Path(__file__).with_name("README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
