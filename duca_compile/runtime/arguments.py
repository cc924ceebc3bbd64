"""The inputs of a compiled graph, sorted by their part in denoising."""

from collections.abc import Sequence
from typing import Any

import sympy
from torch import Tensor, fx

from duca_compile.analysis.facts import Inputs
from duca_compile.capture.capture import Capture
from duca_compile.generations.given import Given
from duca_compile.graph import ir


class Arguments:
    """Sorts the inputs of a call."""

    def __init__(self, captured: Capture, inputs: Inputs) -> None:
        own = captured.call
        position = {node.name: at for at, node in enumerate(own)}
        numbers = {node.name for node in own if _is_number(node)} - {*inputs.timesteps}
        sizes = _sizes(captured.gm.graph)
        told = [name for name in inputs.conditioning if name not in numbers]
        scalars = [node.name for node in own if node.name in numbers and node not in sizes and node.users]
        self._timesteps = [position[name] for name in inputs.timesteps]
        self._latents = [position[name] for name in inputs.latents]
        self._conditioning = [position[name] for name in told]
        self._weights = [position[name] for name in sorted(captured.state & position.keys() - numbers)]
        self._scalars = [position[name] for name in scalars]
        self._sizes = [position[node.name] for node in own if node in sizes]
        self._symbols = captured.symbols
        self.names = tuple(inputs.spelled.get(name, _spelled(own[position[name]])) for name in (*told, *scalars))

    def given(self, args: Sequence[Any]) -> Given:
        """Numbers are scalars that the model computes with and no size depends on. Where an argument's memory begins
        (`t[3].expand(2)`) is none of the sizes."""
        timesteps, latents, conditioning, weights = (
            [args[at] for at in positions]
            for positions in (self._timesteps, self._latents, self._conditioning, self._weights)
        )
        sizes, numbers = (tuple(_number(args[at]) for at in positions) for positions in (self._sizes, self._scalars))
        return Given(timesteps, latents, conditioning, weights, sizes, numbers, self.names)

    def sizes(self, args: Sequence[Any]) -> dict[Any, int]:
        """The value of every symbolic size."""
        return {symbol: int(args[at]) for symbol, at in self._symbols.items()}


def _is_number(node: fx.Node) -> bool:
    """A size, or a number that Dynamo wraps into a new tensor at every call: known by value, not by identity."""
    held = ir.value(node)
    return not isinstance(held, Tensor) or (held.dim() == 0 and held.device.type == "cpu")


def _sizes(graph: fx.Graph) -> frozenset[fx.Node]:
    """The inputs that hold symbols in the size of some value."""
    held = [dim for node in graph.nodes for dim in _dims(ir.value(node)) if isinstance(dim, sympy.Expr)]
    used = frozenset().union(*(dim.free_symbols for dim in held))
    return frozenset(node for symbol, node in ir.symbols(graph).items() if symbol in used)


def _dims(held: Any) -> tuple[Any, ...]:
    tensors = held if isinstance(held, (list, tuple)) else (held,)
    return tuple(dim for tensor in tensors if isinstance(tensor, Tensor) for dim in ir.sizes(tensor))


def _spelled(node: fx.Node) -> str:
    return str(node.meta.get("argument", node.name))


def _number(given: Any) -> float:
    found: float = given.item() if isinstance(given, Tensor) else given
    return found
