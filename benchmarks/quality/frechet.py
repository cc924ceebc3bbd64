"""The table of Fréchet distances, in the feature space of the examples' classifier."""

from typing import Any

import torch
from torch import Tensor

import fashion
from classifier import trained_classifier
from face.block import Block
from figures import decibels, frechet, spread
from quality.rows import CHUNK, IN_ALL, Found, Row

FRECHET = (Row.own("DDIM"), *(Row.cached("DDIM", name) for name in IN_ALL))


def block(found: Found) -> Block:
    """Of `FRECHET`, all of which are there."""
    judge = trained_classifier()
    real, _ = judged(judge, fashion.load("t10k")[0])
    chunks = min(len(each.images) for each in found.values())
    count, labels = chunks * CHUNK, torch.arange(CHUNK).repeat(chunks) % 10
    own = found[FRECHET[0]]
    rows = []
    for row, done in found.items():
        images = done.first(count)
        features, guesses = judged(judge, images)
        accuracy = (guesses == labels).float().mean().item()
        near = "" if done is own else spread(decibels(images, own.first(count)))
        told = (f"{own.flops / done.flops:.2f}x", f"{frechet(features, real):.2f}", f"{accuracy:.1%}")
        rows.append((row.name, str(done.full_steps), *told, near))
    headings = ("", "full steps", "FLOPs", "Fréchet distance ↓", "class accuracy ↑", "own (dB) ↑")
    return Block("Fréchet distance", headings, rows, (f"{count:,} samples a row, DDIM, without guidance, float32.",))


@torch.no_grad()
def judged(judge: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features `[n, 128]` and guessed labels `[n]`."""
    parts = [judge(part) for part in images.split(500)]
    return torch.cat([features for _, features in parts]), torch.cat([logits.argmax(1) for logits, _ in parts])
