"""The releases of torch that we run on. Importing this says so where the one at hand is none of them."""

import torch

FIRST, LAST = (2, 11), (2, 15)
"""The first and the last; `docs/releases.md` says which tests were run on which."""


def parsed(version: str) -> tuple[int, int]:
    """Of `2.13.0+cpu`, (2, 13)."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def check(version: str) -> None:
    """Raises ImportError for a release outside of the range."""
    if not FIRST <= parsed(version) <= LAST:
        (major, first), (_, last) = FIRST, LAST
        raise ImportError(
            f"duca-compile runs on torch {major}.{first} to {major}.{last}, and this is torch {version}: "
            f"pip install 'torch>={major}.{first},<{major}.{last + 1}'"
        )


RELEASE = parsed(torch.__version__)
check(torch.__version__)
