"""Whether random numbers are drawn between the graphs of a split forward pass, where no graph shows it."""

import random
from collections.abc import Hashable

import torch

WATCHED = 2
"""The first calls of a model. All of them must draw: another thread may draw in the meantime, but hardly in each."""
DRAWN = (
    "the forward pass draws random numbers between its graphs, and cached steps would repeat what old ones made; if it "
    "is for training, call model.eval()"
)


def state() -> Hashable:
    """Of the generators that Python, torch and its devices draw from by default; another once a number was drawn."""
    offsets: tuple[int, ...] = ()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        offsets = tuple(each.get_offset() for each in torch.cuda.default_generators)
    return random.getstate(), bytes(torch.default_generator.get_state().tolist()), offsets
