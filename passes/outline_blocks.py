"""Equal blocks become calls of one subgraph, so that the inner compiler compiles each distinct block once."""

import operator
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from torch import Tensor, fx, nn

from duca_compile import torch_private
from duca_compile.graph import ir
from duca_compile.graph.repeats import Repeat, find_repeats
from duca_compile.passes.base import SYMBOLIC, PassResult
from duca_compile.plan.step_plan import StepPlan
from duca_compile.refusal import Refusal

SMALLEST = 4
"""Ops in a region that is worth a call."""


@dataclass(frozen=True)
class OutlineBlocks:
    """Writes to caches stay outside: a block is cut where one is rather than between two sums.

    before:  %linear = linear(%x, %weight_0)
             %add = add(%x, %linear)
             %linear_1 = linear(%add, %weight_1)
             %add_1 = add(%add, %linear_1)
    after:   %call = invoke_subgraph(%region_0, 'region_0', %x, %weight_0)
             %add = getitem(%call, 0)
             %call_1 = invoke_subgraph(%region_0, 'region_0', %add, %weight_1)
             %add_1 = getitem(%call_1, 0)
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        if ir.symbols(gm.graph):
            return SYMBOLIC
        groups: dict[Hashable, list[_Region]] = defaultdict(list)
        sums = {branch.sum for branch in step.branches}
        for region in _regions([node for node in gm.graph.nodes if node.op == "call_function"], sums):
            groups[region.form].append(region)
        refusals = []
        count = 0
        for regions in groups.values():
            first = regions[0]
            if len(regions) < 2 or len(first.nodes) < SMALLEST:
                continue
            unfit = next(((given, reason) for given in first.inputs if (reason := _unfit(given))), None)
            if unfit:
                refusals.append(Refusal(first.nodes[0].name, f"%{unfit[0].name}, which it reads, {unfit[1]}"))
                continue
            _outline(gm, f"region_{count}", regions)
            count += 1
        return PassResult(count, tuple(refusals))


class _Region:
    """Ops side by side in the graph, to be computed by one call."""

    def __init__(self, nodes: Sequence[fx.Node]) -> None:
        self.nodes = nodes
        self.index = {node: at for at, node in enumerate(nodes)}

    @property
    def inputs(self) -> tuple[fx.Node, ...]:
        """The values from elsewhere, in the order in which they are read."""
        given = (given for node in self.nodes for given in node.all_input_nodes)
        return tuple(dict.fromkeys(node for node in given if node not in self.index))

    @property
    def form(self) -> Hashable:
        """Equal for regions that one subgraph can compute: the same ops, wired alike, over values of equal form."""
        outside = {given: at for at, given in enumerate(self.inputs)}

        def name(node: fx.Node) -> tuple[str, int]:
            return ("op", self.index[node]) if node in self.index else ("input", outside[node])

        return tuple(_token(node, name) for node in self.nodes), tuple(_form(ir.value(given)) for given in outside)

    def read_outside(self) -> set[int]:
        return {at for at, node in enumerate(self.nodes) if any(user not in self.index for user in node.users)}


def _regions(ops: Sequence[fx.Node], sums: set[str]) -> list[_Region]:
    """Of all that repeats, what a residual addition lies in: the rest is within a block, and better fused with it."""
    regions = []
    index = {node: at for at, node in enumerate(ops)}
    for repeat in find_repeats([_token(op, lambda given: _form(ir.value(given))) for op in ops]):
        if sums.isdisjoint(op.name for op in ops[repeat.start : repeat.start + repeat.period]):
            continue
        for at in range(_first_cut(ops, index, repeat), repeat.stop - repeat.period + 1, repeat.period):
            regions += [_Region(part) for part in _parts(ops[at : at + repeat.period])]
    return regions


def _first_cut(ops: Sequence[fx.Node], index: dict[fx.Node, int], repeat: Repeat) -> int:
    """Where the first block begins: so that a period falls into the fewest regions, and the fewest values cross.

    A value crosses if it is made in the period and read after it. `index` tells the places of the `ops`.
    """
    first, last = repeat.start, min(repeat.start + 2 * repeat.period, repeat.stop - 2 * repeat.period)
    changes = [0] * (last + 2 - first)
    for at, node in enumerate(ops[first : last + repeat.period], first):
        read = max((index[user] for user in node.users if user in index), default=0)
        begin, end = max(at - repeat.period + 1, first), min(at, read - repeat.period, last) + 1
        if begin < end:
            changes[begin - first] += 1
            changes[end - first] -= 1
    crossing = list(accumulate(changes))
    stays = [_stays(node) for node in ops[first : last + repeat.period]]
    begun = [0, *accumulate(int(not here and before) for before, here in pairwise([True, *stays]))]

    def cost(start: int) -> tuple[int, int, int]:
        at = start - first
        inside = at > 0 and not stays[at] and not stays[at - 1]
        return begun[at + repeat.period] - begun[at] + inside, crossing[at], start

    return min(range(first, last + 1), key=cost)


def _parts(ops: Sequence[fx.Node]) -> Iterable[Sequence[fx.Node]]:
    """The runs of ops between those that stay where they are."""
    part: list[fx.Node] = []
    for op in ops:
        if not _stays(op):
            part.append(op)
        elif part:
            yield part
            part = []
    if part:
        yield part


def _stays(node: fx.Node) -> bool:
    """What writes to an input, and what takes functions of its own."""
    return isinstance(node.target, torch_private.HigherOrderOperator) or ir.is_mutable(node)


def _unfit(given: fx.Node) -> str | None:
    """Why a value cannot be handed to a subgraph, or had better not: there it keeps the layout of eager mode."""
    held = ir.value(given)
    if not isinstance(held, Tensor):
        return "is no tensor"
    strides = [stride for size, stride in zip(held.shape, held.stride(), strict=True) if size > 1]
    if given.op == "call_function" and strides != sorted(strides, reverse=True):
        return "is laid out in another order"
    return None


def _token(node: fx.Node, name: Callable[[fx.Node], Any]) -> Hashable:
    args, kwargs = fx.map_arg((node.args, node.kwargs), name)
    return node.target, repr(args), repr(kwargs), _form(ir.value(node))


def _form(value: Any) -> Any:
    if isinstance(value, Tensor):
        return *ir.form(value), value.dtype, value.device
    if isinstance(value, (list, tuple)):
        return tuple(map(_form, value))
    return repr(value)


def _outline(gm: fx.GraphModule, name: str, regions: Sequence[_Region]) -> None:
    """A value that only views another is made from it outside: a subgraph's results must not share memory."""
    read = sorted({at for region in regions for at in region.read_outside()})
    first = regions[0]
    owners = dict.fromkeys(_owner(first.nodes[at]) for at in read)
    outputs = [first.index[owner] for owner in owners if owner in first.index]
    gm.add_submodule(name, _subgraph(first, outputs))
    with gm.graph.inserting_before(first.nodes[0]):
        held = gm.graph.get_attr(name)
    for region in regions:
        _call(held, region, read, outputs)


def _owner(node: fx.Node) -> fx.Node:
    """The tensor that holds the node's memory: of an op with several results, that result."""
    owner = ir.owner(node)
    while node is not owner and node.all_input_nodes[0] is not owner:
        node = node.all_input_nodes[0]
    return owner if isinstance(ir.value(owner), Tensor) else node


def _call(held: fx.Node, region: _Region, read: Sequence[int], outputs: Sequence[int]) -> None:
    graph = held.graph
    made: dict[fx.Node, fx.Node] = {}
    with graph.inserting_before(region.nodes[-1].next):
        call = graph.call_function(torch_private.invoke_subgraph, (held, str(held.target), *region.inputs))
        call.meta["val"] = tuple(ir.value(region.nodes[at]) for at in outputs)
        for place, at in enumerate(outputs):
            old = region.nodes[at]
            made[old] = graph.call_function(operator.getitem, (call, place))
            made[old].meta.update(old.meta)
        for at in read:
            _see_outside(graph, region, region.nodes[at], made)
    for at in read:
        old = region.nodes[at]
        old.replace_all_uses_with(made[old], delete_user_cb=lambda user: user not in region.index)
    for node in reversed(region.nodes):
        graph.erase_node(node)


def _see_outside(graph: fx.Graph, region: _Region, node: fx.Node, made: dict[fx.Node, fx.Node]) -> None:
    """Makes the region's value outside of it from what the call returns: the same view of that."""
    views = ir.ancestors([node], stop=lambda each: each not in region.index or each in made)
    for view in sorted(views):
        if view in region.index and view not in made:
            made[view] = graph.node_copy(view, lambda given: made.get(given, given))


def _subgraph(region: _Region, outputs: Sequence[int]) -> fx.GraphModule:
    graph = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    for at, given in enumerate(region.inputs):
        made[given] = graph.placeholder(f"input_{at}")
        made[given].meta["val"] = ir.value(given)
    for node in region.nodes:
        made[node] = graph.node_copy(node, made.__getitem__)
    graph.output(tuple(made[region.nodes[at]] for at in outputs))
    return fx.GraphModule(nn.Module(), graph)
