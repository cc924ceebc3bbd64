"""The three modes a denoising step can run in (DuCa, arXiv 2412.18911, section IV-B)."""

from enum import Enum


class Mode(Enum):
    """What a denoising step runs."""

    FULL = "full"
    """Compute every token of every branch and store the features."""
    CONSERVATIVE = "conservative"
    """Recompute a few tokens of every branch that allows it, reuse the stored features for the rest."""
    AGGRESSIVE = "aggressive"
    """Run no block: the stream stored at the last non-aggressive step enters the final layer."""
