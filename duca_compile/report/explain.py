"""What the backend finds in a model and what it will do with it, before anything is compiled."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from duca_compile import torch_private
from duca_compile.cost.flops import Executed
from duca_compile.generations import sessions
from duca_compile.methods.check import require_int
from duca_compile.plan.options import Options
from duca_compile.plan.own_keywords import refuse_ambiguous, require_model, takes
from duca_compile.report import page, report_json, text
from duca_compile.report.graph_report import GraphReport, report_of
from duca_compile.report.verdict import Verdict, verdict_on

STEPS = 50
STEPS_INSTEAD = (
    "give the model's in a function without it, `lambda *args: model(*args, steps=...)`, or by position, and ours by "
    "`with duca_compile.session(steps=...)` around"
)


@dataclass(frozen=True, repr=False)
class Report:
    """`str(report)` is the text in 80 columns, `text(width)` in others; `show()` prints it as wide as the terminal is.

    `verdict` is what all `graphs` come to.
    """

    model: str
    verdict: Verdict
    graphs: tuple[GraphReport, ...]

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Report on {self.model}: {self.verdict.headline.rstrip('.')}>"

    def text(self, width: int = text.WIDTH) -> str:
        console = text.plain(width)
        text.show(console, self.verdict, self.graphs)
        return text.written(console)

    def show(self) -> None:
        """Prints it: to a terminal as wide as that is, and in colour; to a file in 80 columns."""
        text.show(text.shown(), self.verdict, self.graphs)

    def to_json(self) -> str:
        """All of it as JSON; `report_json.py` names the keys, which stay."""
        return report_json.dumped(self.model, self.verdict, self.graphs)

    def to_html(self, path: str | Path) -> None:
        """One page that needs nothing else, with a picture of the branches and of the schedule."""
        Path(path).write_text(page.page(self.model, self.verdict, self.graphs), encoding="utf-8")


def explain(
    model: Callable[..., Any],
    *args: Any,
    options: Any = None,
    duca_options: Mapping[str, Any] | None = None,
    steps: int | None = None,
    **kwargs: Any,
) -> Report:
    """Runs `model(*args, **kwargs)` once, uncompiled and without gradients, and reports what `backend="duca"` would do.

    It would do so for this call: within `session(key, steps=...)` steps are counted. `options`, or `duca_options`, are
    those of `torch.compile`; without, they are those that `model` was compiled with, by `torch.compile(model, ...)` or
    `model.compile(...)`. The verdict is on generations of so many `steps`: by default those of the session, else 50.
    A model whose forward pass is split runs twice, to count what lies between its graphs. Where the model has a
    parameter `options` of its own, that one is meant, and ours are `duca_options`.

    Raises `OptionError` for options that make no sense, and `TypeError` for what is no model, such as a pipeline, or
    where `options` or `steps` may be ours or the model's.
    """
    require_model(model)
    if steps is not None:
        refuse_ambiguous(model, "steps", STEPS_INSTEAD)
    if options is not None and duca_options is None:
        refuse_ambiguous(model, "options", "give ours as duca_options={...}, {} for the defaults")
        duca_options = options
    elif options is not None:
        if not takes(model, "options"):
            raise TypeError("give options=... or duca_options=..., which are the same, not both")
        kwargs["options"] = options
    return explain_call(model, args, kwargs, duca_options, steps)


def explain_call(
    model: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    duca_options: Mapping[str, Any] | None = None,
    steps: int | None = None,
) -> Report:
    """The same, of `model(*args, **kwargs)`, whatever its keywords are."""
    session = sessions.current()
    if steps is None:
        steps = (session.steps if session else None) or STEPS
    require_int("steps", steps, at_least=1)
    options = Options.parse(torch_private.options_of(model, "duca") if duca_options is None else duca_options)
    reports: list[GraphReport] = []
    runs: Counter[int] = Counter()

    def collect(gm: fx.GraphModule, inputs: list[Any]) -> Any:
        number = len(reports)
        reports.append(report_of(gm, inputs, options))

        def run(*given: Any) -> Any:
            runs[number] += 1
            return gm.forward(*given)

        return run

    plain = torch_private.uncompiled(model)
    with torch.no_grad(), torch_private.capturing():
        compiled: Any = torch.compile(plain, backend=collect, dynamic=False)
        compiled(*args, **kwargs)
    graphs = tuple(replace(report, runs=runs[number]) for number, report in enumerate(reports))
    executed = None if all(graph.whole for graph in graphs) else _executed(plain, args, kwargs)
    return Report(_name(model), verdict_on(graphs, options, steps, executed), graphs)


def _executed(plain: Any, args: Any, kwargs: Mapping[str, Any]) -> int | None:
    """FLOPs of a forward pass, as it runs; None where some cannot be counted."""
    with torch.no_grad(), torch.compiler.set_stance("force_eager"), Executed() as executed:
        plain(*args, **kwargs)
    return None if executed.unknown else executed.flops


def _name(model: Any) -> str:
    original = torch_private.original(model)
    return type(original).__name__ if isinstance(original, nn.Module) else getattr(original, "__name__", "the model")
