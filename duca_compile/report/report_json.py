"""The report as JSON. The keys stay; new ones may come.

`model`, `headline`, `outcome` (`wholly`, `partly`, `not`), `speedup` (in FLOPs, null where unknown), `steps` (by
recipe), `sequence` (the recipe of each step, empty where that is decided at run time), `flops` and `plain_flops` (of a
generation), `elsewhere` (the share of a full step's FLOPs outside of the accelerated graphs), `cache_bytes`,
`peak_bytes`, `plain_peak_bytes`, `refused` and `advice` (texts), and `graphs`. A graph has `accelerated`, `refusal`,
`runs` and `whole`; if it is accelerated also
`latents`, `timesteps`, `conditioning`, `streams` (`shape`, `root`, `branches`, and `after` which streams it goes on),
`blocks` (see `_block`), `recipes` (of each `flops`, `weight_bytes`, `cache_bytes` per step), `held_bytes`,
`filled_bytes`, `full_step_bytes`, `plain_step_bytes`, `uncut`, `uncounted`, `left` and `not_branches` (`node`,
`reason`). Symbolic sizes are texts.
"""

import json
from collections.abc import Sequence
from typing import Any

from duca_compile.plan.plan import Plan
from duca_compile.report.branch_groups import Group, Row, groups
from duca_compile.report.graph_report import GraphReport
from duca_compile.report.verdict import Verdict


def dumped(model: str, verdict: Verdict, graphs: Sequence[GraphReport]) -> str:
    found = {
        "model": model,
        "headline": verdict.headline,
        "outcome": verdict.outcome,
        "speedup": verdict.speedup,
        "steps": verdict.steps,
        "sequence": verdict.sequence,
        "flops": verdict.flops,
        "plain_flops": verdict.plain_flops,
        "elsewhere": verdict.elsewhere,
        "cache_bytes": verdict.cache_bytes,
        "peak_bytes": verdict.peak_bytes,
        "plain_peak_bytes": verdict.plain_peak_bytes,
        "refused": verdict.refused,
        "advice": verdict.advice,
        "graphs": [_graph(graph) for graph in graphs],
    }
    return json.dumps(found, indent=2, default=str)


def _graph(graph: GraphReport) -> dict[str, Any]:
    known = {
        "accelerated": graph.plan is not None,
        "refusal": graph.refusal,
        "runs": graph.runs,
        "whole": graph.whole,
    }
    return known if graph.plan is None else {**known, **_found(graph, graph.plan)}


def _found(graph: GraphReport, plan: Plan) -> dict[str, Any]:
    given = plan.facts.inputs
    return {
        "latents": [given.spelled[name] for name in given.latents],
        "timesteps": [given.spelled[name] for name in given.timesteps],
        "conditioning": [given.spelled[name] for name in given.conditioning],
        "streams": [
            {
                "shape": list(stream.shape),
                "root": stream.root,
                "branches": len(stream.sums),
                "after": list(graph.joined.get(stream.index, ())),
            }
            for stream in plan.facts.streams
        ],
        "blocks": [_block(group) for group in groups(plan)],
        "recipes": {
            name: {
                "flops": graph.flops[name],
                "weight_bytes": graph.weight_bytes[name],
                "cache_bytes": graph.cache_bytes[name],
            }
            for name in plan.steps
        },
        "held_bytes": graph.held_bytes,
        "filled_bytes": graph.filled_bytes,
        "full_step_bytes": graph.full_step_bytes,
        "plain_step_bytes": graph.plain_step_bytes,
        "uncut": plan.uncut,
        "uncounted": dict(graph.uncounted),
        "left": dict(graph.left),
        "not_branches": [{"node": node, "reason": reason} for node, reason in plan.facts.refusals],
    }


def _block(group: Group) -> dict[str, Any]:
    """Blocks that are alike: the number of the `first` and the `last`, and the branches of each."""
    return {"first": group.first, "last": group.last, "branches": [_branch(row) for row in group.rows]}


def _branch(row: Row) -> dict[str, Any]:
    """`names`: in each of the blocks. `actions`: of each recipe, in a word or two."""
    return {
        "names": [branch.sum for branch in row.branches],
        "stream": row.first.stream,
        "kind": row.first.kind,
        "source": row.first.source,
        "actions": row.told,
        "not_token_wise": row.first.refusal,
    }
