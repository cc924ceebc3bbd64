"""What several processes that run a model together can do alike."""

from torch import fx

from duca_compile.graph.collectives import collectives
from duca_compile.methods import name_of
from duca_compile.plan.plan import Plan
from duca_compile.refusal import OfAllParts, Refused


def refuse_collectives(gm: fx.GraphModule, plan: Plan) -> None:
    """Raises `Refused` where the graph waits for other processes, and what a step does is decided by values, which may
    be others in each."""
    if not collectives(gm):
        return
    if plan.probing is not None:
        raise Refused(
            f"method: {name_of(plan.options.method)!r} decides at run time, and the processes that run this model "
            "together may decide differently; use a preset, or a method with a schedule"
        )
    if any(step.choices for step in plan.steps.values()):
        raise Refused(
            "method: scores choose the tokens, and the processes that run this model together may choose differently; "
            "use selector='random'"
        )


def refuse_parts(gm: fx.GraphModule, whole: bool) -> None:
    """Raises `Refused` where a graph that is not the `whole` forward pass waits for other processes: what they agree on
    is a step of all of it. Of a Dynamo graph only those collectives are seen that no tensor hides."""
    waiting = [] if whole else collectives(gm)
    if waiting:
        raise OfAllParts(
            f"the forward pass waits for other processes (%{waiting[0].name}, {waiting[0].target}) and Dynamo split it "
            "into several graphs; mend the breaks (TORCH_LOGS=graph_breaks)"
        )
