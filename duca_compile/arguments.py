"""The inputs of a compiled graph, sorted by their part in denoising."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx

from duca_compile import ir
from duca_compile.capture import Capture
from duca_compile.facts import Inputs


class Arguments:
    """Takes the tensors and numbers of one sort out of the inputs of a call."""

    def __init__(self, captured: Capture, inputs: Inputs) -> None:
        own = ir.placeholders(captured.gm.graph)[len(captured.constants) :]
        position = {node.name: at for at, node in enumerate(own)}
        numbers = {node.name for node in own if _is_number(node)} - {*inputs.timesteps}
        self._timesteps = [position[name] for name in inputs.timesteps]
        self._latents = [position[name] for name in inputs.latents]
        self._conditioning = [position[name] for name in inputs.conditioning if name not in numbers]
        self._weights = [position[name] for name in sorted(captured.state & position.keys() - numbers)]
        self._numbers = [position[name] for name in sorted(numbers)]
        self._symbols = captured.symbols

    def timesteps(self, args: Sequence[Any]) -> list[Tensor]:
        return [args[at] for at in self._timesteps]

    def latents(self, args: Sequence[Any]) -> list[Tensor]:
        return [args[at] for at in self._latents]

    def conditioning(self, args: Sequence[Any]) -> list[Tensor]:
        return [args[at] for at in self._conditioning]

    def weights(self, args: Sequence[Any]) -> list[Tensor]:
        """Parameters and buffers of the module."""
        return [args[at] for at in self._weights]

    def numbers(self, args: Sequence[Any]) -> tuple[float, ...]:
        """Sizes and scalars."""
        return tuple(_number(args[at]) for at in self._numbers)

    def sizes(self, args: Sequence[Any]) -> dict[Any, int]:
        """The value of every symbolic size."""
        return {symbol: int(args[at]) for symbol, at in self._symbols.items()}


def _is_number(node: fx.Node) -> bool:
    """A size, or a number that Dynamo wraps into a new tensor at every call: known by value, not by identity."""
    held = ir.value(node)
    return not isinstance(held, Tensor) or (held.dim() == 0 and held.device.type == "cpu")


def _number(given: Any) -> float:
    found: float = given.item() if isinstance(given, Tensor) else given
    return found
