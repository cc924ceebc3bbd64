"""Slices and splits in one form."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.graph.op_sets import SPLITS

aten = torch.ops.aten


@dataclass(frozen=True)
class Piece:
    """The part from `start` up to `stop` of `source` along `dim`, without gaps."""

    source: fx.Node
    dim: int
    start: int
    stop: int


def piece_of(node: Any) -> Piece | None:
    """The piece that a slice is, or one result of a split; None for anything else."""
    if ir.packet(node) is aten.slice:
        return _slice(node)
    parent: Any = node.args[0] if node.args else None
    if ir.packet(node) is None and isinstance(parent, fx.Node) and ir.packet(parent) in SPLITS:
        return _part_of_split(node, parent)
    return None


def _slice(node: fx.Node) -> Piece | None:
    source: Any = node.args[0]
    size, whole = ir.shape(node), ir.shape(source)
    if ir.argument(node, 4, "step", 1) != 1 or size is None or whole is None:
        return None
    dim, start = ir.argument(node, 1, "dim", 0) % len(whole), ir.number(ir.argument(node, 2, "start", 0) or 0)
    if isinstance(start, int) and start < 0:
        start = max(0, start + whole[dim]) if isinstance(whole[dim], int) else start + whole[dim]
    return Piece(source, dim, start, start + size[dim])


def _part_of_split(node: fx.Node, parent: fx.Node) -> Piece:
    source: Any = parent.args[0]
    at: Any = node.args[1]
    dim = ir.argument(parent, 2, "dim", 0) % len(ir.shape(source) or ())
    parts: Any = ir.value(parent)
    size = (ir.shape(node) or ())[dim]
    alike = not isinstance(parent.args[1], (list, tuple)) and at >= 0
    start = at * ir.sizes(parts[0])[dim] if alike else sum(ir.sizes(part)[dim] for part in parts[:at])
    return Piece(source, dim, start, start + size)
