"""Token-wise paths: which part of a feature can be recomputed for selected tokens alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from torch import fx

from duca_compile.analysis.facts import TokenPath
from duca_compile.analysis.token_rules import Place, handed_on, is_pointwise, rule
from duca_compile.graph import ir
from duca_compile.graph.op_sets import REORDERINGS
from duca_compile.refusal import located
from duca_compile.torch_private import Size, is_data_dependent


@dataclass(frozen=True)
class Liveness:
    """What a CONSERVATIVE step has at hand.

    `streams`: roots, sums and features, which the step has whole whatever it recomputes. `moving`: everything that
    depends on a stream. A moving value that is not a stream value lies inside a body and is not computed.
    """

    streams: frozenset[fx.Node]
    prelude: frozenset[fx.Node]
    moving: frozenset[fx.Node]
    stale: frozenset[fx.Node]
    """Features of branches that are reused whole: gathering them brings nothing new."""


@dataclass
class _Search:
    live: Liveness
    feature: fx.Node
    compute: dict[fx.Node, Place] = field(default_factory=dict)
    gathered: dict[fx.Node, Place] = field(default_factory=dict)
    cached: dict[fx.Node, Place] = field(default_factory=dict)
    whole: set[fx.Node] = field(default_factory=set)
    same: dict[fx.Node, fx.Node] = field(default_factory=dict)
    sliced: dict[fx.Node, tuple[fx.Node, ...]] = field(default_factory=dict)
    fresh: bool = False
    mixing: fx.Node | None = None

    def plan(self, place: Place) -> bool:
        """Plans the feature at the selected tokens; False if one value would be needed in two layouts."""
        ahead = [(self.feature, place)]
        while ahead:
            needed = self._visit(*ahead.pop())
            if needed is None:
                return False
            ahead += reversed(needed)
        return True

    def _visit(self, node: fx.Node, place: Place) -> list[tuple[fx.Node, Place]] | None:
        """Plans one value; what it takes at the selected tokens, or None if there is no such plan."""
        known = self.compute.get(node) or self.gathered.get(node) or self.cached.get(node)
        if known is not None:
            return [] if known == place else None
        if self._at_hand(node):
            self.gathered[node] = place
            self.fresh |= node in self.live.moving and node not in self.live.stale
            return []
        with located(node):
            handed = handed_on(node, place)
            needed = rule(node, place) if handed is None else None
        if handed is not None:
            self.compute[node], self.same[node] = place, handed[0]
            return [handed]
        if needed is None or not self._whole_operands_fit(node, set(needed)):
            return [] if self._cut(node, place) else None
        self.compute[node], self.sliced[node] = place, tuple(needed)
        return list(needed.items())

    def _at_hand(self, node: fx.Node) -> bool:
        if node is self.feature:
            return False
        return node in self.live.streams or node in self.live.prelude or node not in self.live.moving

    def _whole_operands_fit(self, node: fx.Node, sliced: set[fx.Node]) -> bool:
        """An operand read whole must not move with the stream, unless a pointwise op broadcasts it from the cache."""
        for operand in node.all_input_nodes:
            if operand in sliced or operand not in self.live.moving:
                continue
            if not is_pointwise(node):
                return False
            if not self._at_hand(operand):
                self.whole.add(operand)
        return True

    def _cut(self, node: fx.Node, place: Place) -> bool:
        self.mixing = self.mixing or node
        if ir.shape(node) is None or node is self.feature:
            return False
        self.cached[node] = place
        return True

    def straighten(self) -> None:
        """Attention leaves its heads across memory, and what follows lays them in a row without a copy: that is kept.

        before:  %sdpa = scaled_dot_product_attention(...)    a cache would need a copy
                 %permute = permute(%sdpa, [0, 2, 1, 3])      contiguous
        """
        for mixing in list(self.cached):
            *before, straight = self._to_contiguous(mixing)
            place = self.cached.pop(mixing)
            for node in before[1:]:
                del self.compute[node], self.sliced[node]
            if before:
                place = self.compute.pop(straight)
                del self.sliced[straight]
            self.cached[straight] = place

    def _to_contiguous(self, mixing: fx.Node) -> list[fx.Node]:
        """From the value to the first contiguous one that mere views make of it; itself alone where none is."""
        chain = [mixing]
        while not ir.value(chain[-1]).is_contiguous():
            readers = [node for node in self.compute if chain[-1] in node.all_input_nodes]
            if len(readers) != 1 or readers[0] is self.feature or ir.packet(readers[0]) not in REORDERINGS:
                return [mixing]
            chain += readers
        return chain


class Layout(Enum):
    """In which dimensions a stream holds its tokens."""

    CHANNELS_LAST = "[batch, *tokens, features]"
    CHANNELS_FIRST = "[batch, features, *tokens]"
    TOKENS_FIRST = "[tokens, batch, features]"

    def place(self, size: tuple[Size, ...]) -> Place:
        rank = len(size)
        if self is Layout.CHANNELS_FIRST:
            return Place.over(size, 2, rank)
        if self is Layout.TOKENS_FIRST:
            return Place.over(size, 0, 1)
        return Place.over(size, min(1, rank - 2), rank - 1)


def layout_of(features: Sequence[fx.Node], live: Liveness) -> Layout:
    """A branch alone cannot tell: one that mixes tokens channel by channel is "token-wise" over channels.

    Channels come first where no branch is token-wise unless they do. Along the dimension of samples no branch mixes:
    where none does along the one that usually has the tokens, but some do along the first, that one has them.
    """
    sizes = [ir.shape(feature) or () for feature in features]

    def token_wise(layout: Layout) -> bool:
        return any(isinstance(token_path(feature, live, layout), TokenPath) for feature in features)

    def mixes(layout: Layout) -> bool:
        paths = (token_path(feature, live, layout) for feature in features)
        return any(isinstance(path, str) or path.cached for path in paths)

    ranks = {len(size) for size in sizes}
    if min(ranks) > 2 and not token_wise(Layout.CHANNELS_LAST) and token_wise(Layout.CHANNELS_FIRST):
        return Layout.CHANNELS_FIRST
    if ranks == {3} and (all(size[1] == 1 for size in sizes) or not mixes(Layout.CHANNELS_LAST)):
        first = Layout.TOKENS_FIRST
        return first if token_wise(first) and mixes(first) else Layout.CHANNELS_LAST
    return Layout.CHANNELS_LAST


def token_path(feature: fx.Node, live: Liveness, layout: Layout) -> TokenPath | str:
    """How to recompute `feature` at selected tokens, or why it must be reused whole."""
    size = ir.shape(feature)
    assert size is not None
    place = layout.place(size)
    if place.tokens in (0, 1):
        return "the stream has a single token"
    return path_at(feature, place, live)


def path_at(feature: fx.Node, place: Place, live: Liveness) -> TokenPath | str:
    """The same for tokens that lie at `place` in `feature`."""
    search = _Search(live, feature)
    if not search.plan(place):
        mixing = search.mixing or feature
        return f"{_op(mixing)} mixes tokens, or needs them in two layouts"
    if not search.fresh:
        mixes = f"{_op(search.mixing)} mixes tokens on every path" if search.mixing is not None else None
        return mixes or "what it reads of the stream are no tokens of its own"
    kept = [node for node in (*search.cached, *search.whole) if is_data_dependent(ir.shape(node) or ())]
    if kept:
        return f"{_op(kept[0])} has a size that the data decides, which no cache can hold"
    search.straighten()
    in_order = sorted(search.compute)
    return TokenPath(
        place,
        tuple((node.name, search.compute[node]) for node in in_order),
        tuple((node.name, at) for node, at in search.gathered.items()),
        tuple((node.name, at) for node, at in search.cached.items()),
        tuple(sorted(node.name for node in search.whole)),
        tuple((node.name, origin.name) for node, origin in search.same.items()),
        tuple((node.name, tuple(operand.name for operand in read)) for node, read in search.sliced.items()),
    )


def _op(node: fx.Node) -> str:
    made = node.args[0] if ir.packet(node) is None and isinstance(node.args[0], fx.Node) else node
    op = ir.operation(made.target, made.args)
    packet = ir.packet(made) if op is None else op.overloadpacket
    return str(packet).removeprefix("aten.") if packet else str(node.target)
