"""A model, or one that was exported, as one graph for each recipe of a caching method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from duca_compile import passes, torch_private
from duca_compile.backend import compiled
from duca_compile.capture.capture import Capture
from duca_compile.graph import ir
from duca_compile.graph.signature import Signature
from duca_compile.methods import name_of
from duca_compile.plan.options import Options
from duca_compile.plan.own_keywords import refuse_ambiguous, require_model
from duca_compile.plan.plan import Plan
from duca_compile.plan.step_plan import StepPlan
from duca_compile.programs import package
from duca_compile.programs.convention import convention, own_leaves
from duca_compile.programs.program import Program, StepForm
from duca_compile.refusal import Refused
from duca_compile.study import Study, study


@dataclass(frozen=True)
class RecipeGraph:
    """What one recipe runs: ATen ops, functional but for what they write to caches among the inputs. Each value that a
    node computes is known as a fake tensor, `node.meta["val"]`.

    `step` says what becomes of every branch, and what is taken from the cache and left for it.
    """

    graph: fx.GraphModule
    step: StepPlan

    @property
    def signature(self) -> Signature:
        """The names of the graph's inputs, by their kinds, and how many of its results are for the cache."""
        return self.step.signature


@dataclass(frozen=True, eq=False, repr=False)
class Rewritten(Program):
    """A program with its graphs, by recipe. They may be read, changed in copies, and compiled by anyone; what `start`
    runs are copies, compiled by `options["inner"]`, each at its first use."""

    recipes: Mapping[str, RecipeGraph]
    plan: Plan

    def save(self, path: str | Path) -> None:
        """Compiles every recipe by AOTInductor, for this machine and this release of torch, into the folder `path`.

        It holds a package for each recipe, the weights, once, and `manifest.json`; `duca_compile.load` makes a program
        of it that compiles nothing. Raises `Refused` for a method or an output that no file can name.
        """
        graphs = {name: passes.lower(each.graph, _in_line(each.step))[0] for name, each in self.recipes.items()}
        package.save(Path(path), self, graphs, self.plan.options.inductor_config)


OPTIONS_INSTEAD = "give the model's in a function without it: `lambda *args: model(*args, options=...)`"


def rewrite(
    model: Callable[..., Any] | ExportedProgram, *args: Any, options: Mapping[str, Any] | None = None, **kwargs: Any
) -> Rewritten:
    """The recipes of a model as graphs, for calls of the sizes of `model(*args, **kwargs)`, which runs once.

    `model`: a module, such as a `torch.fx.GraphModule`, or a `torch.export.ExportedProgram`; `options` are those of
    `torch.compile(model, backend="duca", options=...)`. The graphs take the very weights that the model has now.

    Raises `OptionError` for options that make no sense, `Refused` for a model that cannot be accelerated, `TypeError`
    for what is no model, such as a pipeline, or where `options` may be the model's, what the model itself
    raises of such a call, and what Dynamo raises where the forward pass is more than one graph.
    """
    if not isinstance(model, ExportedProgram):
        require_model(model)
        if options is not None:
            refuse_ambiguous(model, "options", OPTIONS_INSTEAD)
    chosen = Options.parse(options)
    leaves, tree = own_leaves(args, kwargs)
    seen, output = _called(model, leaves, tree, chosen)
    captured, plan = seen.studied.captured, seen.studied.plan
    if captured is None or plan is None:
        captured, plan = seen.studied.planned()
    if plan.probing:
        raise Refused(f"the method {name_of(plan.options.method)!r} decides at run time, which no program does")
    inputs = _named(captured, seen.given)
    known, held = convention(leaves, tree, inputs, seen.results, output)
    graphs = {name: passes.rewrite(captured.gm, step)[0] for name, step in plan.steps.items()}
    copies = {name: ir.copied(gm) for name, gm in graphs.items()}
    inner = torch_private.inner_compiler(plan.options.inner, plan.options.inductor_config)
    return Rewritten(
        method=plan.options.method,
        seed=plan.seed,
        steps={name: StepForm.of(step) for name, step in plan.steps.items()},
        runs=compiled(captured, plan, copies, [given for _, given in inputs], inner),
        convention=known,
        held=held,
        autocast=captured.autocast,
        same=plan.same,
        recipes={name: RecipeGraph(gm, plan.steps[name]) for name, gm in graphs.items()},
        plan=plan,
    )


@dataclass(frozen=True)
class _Call:
    """What the graph was given and gave."""

    studied: Study
    given: Sequence[Any]
    results: Sequence[Any]


def _called(model: Any, leaves: Sequence[Any], tree: Any, chosen: Options) -> tuple[_Call, Any]:
    calls: list[_Call] = []

    def collect(gm: fx.GraphModule, inputs: Sequence[Any]) -> Any:
        studied = study(gm, inputs, chosen)

        def run(*given: Any) -> Any:
            results = gm.forward(*given)
            calls.append(_Call(studied, given, results))
            return results

        return run

    module = model.module() if isinstance(model, ExportedProgram) else torch_private.uncompiled(model)
    args, kwargs = torch_private.tree_unflatten(leaves, tree)
    with torch.no_grad(), torch_private.capturing():
        captured: Any = torch.compile(_afresh(module), backend=collect, fullgraph=True, dynamic=False)
        try:
            output = captured(*args, **kwargs)
        except Exception:
            _raise_as_called(module, args, kwargs)
            raise
    (only,) = calls
    return only, output


def _raise_as_called(module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """What the model itself raises of a call that it does not take: Dynamo says so less plainly."""
    try:
        module(*args, **kwargs)
    except Exception as error:
        raise error from None


def _afresh(module: Any) -> Any:
    """A function with code of its own: Dynamo counts what it compiles of each code, up to a limit."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return module(*args, **kwargs)

    call.__code__ = call.__code__.replace()
    return call


def _in_line(step: StepPlan) -> StepPlan:
    """The step with its blocks in one graph: AOTInductor compiles no subgraph by itself."""
    return replace(step, options=replace(step.options, outline=False))


def _named(captured: Capture, given: Sequence[Any]) -> list[tuple[str, Any]]:
    """What the graphs take of constants and of the call, with the names of the inputs."""
    values = [*captured.constants, *captured.flatten(given)]
    signature = captured.signature
    return list(zip([*signature.constants, *signature.call], values, strict=True))
