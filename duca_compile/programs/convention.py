"""How a call of the model becomes what a graph takes of it, and the graph's results what the model returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from duca_compile import torch_private
from duca_compile.refusal import Refused

PLAIN = (int, float, str, bool, type(None))
"""What an argument may hold beside tensors: known by value."""


@dataclass(frozen=True)
class TensorForm:
    """What a tensor argument is like at every call. `stride`: how it is handed to the graph."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @staticmethod
    def of(tensor: Tensor) -> "TensorForm":
        return TensorForm(tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)

    def fits(self, given: Any) -> bool:
        return isinstance(given, Tensor) and (tuple(given.shape), given.dtype, given.device) == (
            self.shape, self.dtype, self.device
        )  # fmt: skip

    def laid_out(self, given: Tensor) -> Tensor:
        if given.stride() == self.stride:
            return given
        return self.empty().copy_(given)

    def empty(self) -> Tensor:
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=self.device)

    def __str__(self) -> str:
        return f"a {str(self.dtype).removeprefix('torch.')} tensor {list(self.shape)} on {self.device}"


@dataclass(frozen=True)
class Convention:
    """Of one model and calls like one example.

    `arguments`: what each leaf of the arguments is like, or its value where it is no tensor. `inputs`: of the graphs'
    constants and call, which leaf each is, or the name of a tensor that the program holds. `results`: which of the
    graphs' results each leaf of the output is; None where it is None. The trees say what the leaves are in.
    """

    arguments: tuple[Any, ...]
    arguments_tree: Any
    inputs: tuple[int | str, ...]
    results: tuple[int | None, ...]
    results_tree: Any

    def taken(self, args: Sequence[Any], kwargs: Mapping[str, Any], held: Mapping[str, Any]) -> list[Any]:
        """What a graph takes of this call. Raises `ValueError` for a call unlike the example."""
        leaves, tree = torch_private.tree_flatten((tuple(args), dict(kwargs)))
        if tree != self.arguments_tree:
            raise ValueError("the call has other arguments than the example that the model was rewritten for")
        given = [_fitting(at, *pair) for at, pair in enumerate(zip(leaves, self.arguments, strict=True))]
        return self.bound(given, held)

    def bound(self, leaves: Sequence[Any], held: Mapping[str, Any]) -> list[Any]:
        """The same of the leaves of arguments that fit."""
        return [held[each] if isinstance(each, str) else leaves[each] for each in self.inputs]

    def example(self) -> list[Any]:
        """Leaves that fit, of no particular content."""
        return [each.empty().zero_() if isinstance(each, TensorForm) else each for each in self.arguments]

    def returned(self, results: Sequence[Any]) -> Any:
        """What the model returns."""
        leaves = [None if at is None else results[at] for at in self.results]
        return torch_private.tree_unflatten(leaves, self.results_tree)


def _fitting(at: int, given: Any, wanted: Any) -> Any:
    if isinstance(wanted, TensorForm):
        if not wanted.fits(given):
            found = str(TensorForm.of(given)) if isinstance(given, Tensor) else repr(given)
            raise ValueError(f"argument {at} is {found}, not {wanted} as in the example; rewrite the model for it")
        return wanted.laid_out(given)
    if type(given) is not type(wanted) or given != wanted:
        raise ValueError(f"argument {at} is {given!r}, not {wanted!r} as in the example; rewrite the model for it")
    return given


def own_leaves(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], Any]:
    """The leaves of an example's arguments, each tensor in memory of its own, and the tree that they are in.

    Raises `Refused` for what a later call could not be compared with.
    """
    leaves, tree = torch_private.tree_flatten((tuple(args), dict(kwargs)))
    for leaf in leaves:
        if torch_private.is_wrapper(leaf) or not isinstance(leaf, (Tensor, *PLAIN)):
            raise Refused(f"an argument is a {type(leaf).__name__}; give plain tensors, numbers, strings or None")
    return [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves], tree


def convention(
    leaves: Sequence[Any], tree: Any, inputs: Sequence[tuple[str, Any]], results: Sequence[Any], output: Any
) -> tuple[Convention, dict[str, Any]]:
    """Of a call with these leaves, in which the graph took the `inputs`, by name, and gave the `results`, of which the
    `output` was made; with what the program has to hold of the inputs, which are no leaves."""
    place = {id(leaf): at for at, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
    bound = tuple(place.get(id(given), name) for name, given in inputs)
    held = {name: given for name, given in inputs if id(given) not in place}
    returned, returned_tree = torch_private.tree_flatten(output)
    made = {id(result): at for at, result in enumerate(results)}
    for leaf in returned:
        if leaf is not None and id(leaf) not in made:
            raise Refused(f"the model returns a {type(leaf).__name__} that its graph does not compute")
    forms = tuple(TensorForm.of(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves)
    where = tuple(None if leaf is None else made[id(leaf)] for leaf in returned)
    return Convention(forms, tree, bound, where, returned_tree), held
