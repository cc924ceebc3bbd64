"""FLOPs of the graphs that our passes make of a model, in our count and in that of the published code."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx

from duca_compile import Options, torch_private
from duca_compile.capture.capture import Capture
from duca_compile.cost import flops
from duca_compile.graph import ir
from duca_compile.methods.base import Method
from duca_compile.methods.duca import DuCa
from duca_compile.passes import rewrite
from duca_compile.passes.probe_graph import probe_graph
from duca_compile.plan.plan import Plan, make_plan
from duca_compile.study import Study, study
from paper.flops.models import build

aten = torch.ops.aten
T = 1e12


@dataclass(frozen=True)
class Counter:
    """How published code counts. Beside 2 per multiply-add of linear layers, convolutions and attention it counts
    `elementwise` operations per element of a result, and of an attention `softmax` ones per score and 1 per element of
    the scaled query.

    `vector_linear`: per multiply-add of a linear layer that has one row a sample, such as modulations. `blocks_only`:
    neither embeddings nor the final layer. `rounded`: each step to two decimals, in T or G.
    """

    elementwise: Mapping[Any, float]
    softmax: float = 0
    vector_linear: float = 2
    blocks_only: bool = False
    rounded: bool = False

    def count(self, gm: fx.GraphModule) -> float:
        return sum(flops.count(flops.operations(gm))) + sum(map(self._more, gm.graph.nodes))

    def _more(self, node: fx.Node) -> float:
        """What it finds in an operation that our count does not."""
        packet, result = ir.packet(node), ir.value(node)
        given: list[Any] = [ir.value(each) if isinstance(each, fx.Node) else each for each in node.args]
        if packet in self.elementwise:
            return self.elementwise[packet] * result.numel()
        if packet is aten.scaled_dot_product_attention and self.softmax:
            query, key = given[:2]
            return query.numel() + self.softmax * query[..., 0].numel() * key.shape[-2]
        if packet is aten.softmax and self.softmax:  # of an attention that is written out
            return _operand(node).numel() + self.softmax * result.numel()
        if packet is aten.linear and result.dim() == 2:
            return (self.vector_linear - 2) * result.numel() * given[0].shape[-1]
        if packet is aten.conv2d and self.blocks_only:
            return -2 * result.numel() * given[1][0].numel()
        return 0

    def step(self, counted: float) -> float:
        """What it prints of a step."""
        unit = T if counted >= T else 1e9
        return round(counted / unit, 2) * unit if self.rounded else counted


def _operand(node: fx.Node) -> Any:
    """The query whose products with keys the node is made of."""
    while ir.packet(node) is not aten.matmul:
        (node,) = node.all_input_nodes
    return ir.value(node.all_input_nodes[0])


BY_HAND = Counter({aten.gelu: 6, aten.silu: 1}, softmax=5, vector_linear=1, blocks_only=True)
"""Written into the blocks of DiT and PixArt. It counts norms, too, whatever they are of: `rows.py` adds them."""
CALFLOPS = Counter({aten.layer_norm: 4, aten.gelu: 1, aten.silu: 1}, rounded=True)
"""`calflops`, which does not see RMS norms, sums and products."""
UNSEEN_NORMS = replace(CALFLOPS, elementwise={aten.gelu: 1, aten.silu: 1})
"""The same over layer norms that are a kernel of their own."""
COUNTERS = {"dit": BY_HAND, "pixart": BY_HAND, "flux": CALFLOPS, "hidream": CALFLOPS, "opensora": UNSEEN_NORMS}


@dataclass(frozen=True)
class Count:
    """FLOPs of one step: `ours` as `explain` counts them, `theirs` as the published code's counter would."""

    ours: float
    theirs: float


@dataclass(eq=False)
class Studied:
    """A model, captured and analysed once. What its graphs cost is remembered: recipes of several methods share them."""

    captured: Capture
    plan: Plan
    counter: Counter
    plans: dict[Any, Plan] = field(default_factory=dict)
    known: dict[Any, Count] = field(default_factory=dict)

    def cost(self, method: Method, recipe: str) -> Count:
        step = self._planned(method).step(recipe)
        key = step.actions, step.draws, step.cut, step.reads, step.probing, self._planned(method).scored_by_attention
        if key not in self.known:
            probe = [probe_graph(self.captured.gm, step.probing)] if step.probing else []
            graphs = [*probe, rewrite(self.captured.gm, step)[0]]
            ours = sum(sum(flops.count(flops.operations(gm))) for gm in graphs)
            self.known[key] = Count(ours, sum(map(self.counter.count, graphs)) - self._ends)
        return self.known[key]

    def _planned(self, method: Method) -> Plan:
        if method not in self.plans:
            options = Options(method=method)
            self.plans[method] = make_plan(self.captured.gm.graph, self.plan.facts, options, whole=True)
        return self.plans[method]

    @functools.cached_property
    def _ends(self) -> float:
        """What the counter leaves out, beside convolutions: what a step costs that runs no block."""
        (step,) = (step for step in self.plan.steps.values() if step.cut)
        return self.counter.count(rewrite(self.captured.gm, step)[0]) if self.counter.blocks_only else 0


class _Seen(Exception):
    """Ends a compilation, so that Dynamo keeps nothing of it and the model is never run."""


@functools.cache
def studied(name: str) -> Studied:
    """A model of `SUBJECTS`, of which no weight exists and nothing is computed."""
    model, call = build(name)
    found: list[Study] = []

    def collect(gm: fx.GraphModule, inputs: list[Any]) -> Any:
        found.append(study(gm, inputs, Options(method=DuCa())))
        raise _Seen

    with torch.no_grad(), torch_private.backend_may_raise(_Seen):
        torch.compile(model, backend=collect, dynamic=False)(**call)
    assert found[0].whole, f"Dynamo splits {name}"
    return Studied(*found[0].planned(), COUNTERS[name])
