"""A row, counted."""

import re
from collections import Counter, defaultdict
from dataclasses import MISSING, dataclass, fields, is_dataclass

from duca_compile.methods import name_of
from duca_compile.methods.base import Method
from paper.flops.counting import T, studied
from paper.flops.row import Beside, Row


@dataclass(frozen=True)
class Total:
    """TFLOPs of a generation: `ours`, as `explain` counts them; `theirs`: of the same graphs as the published code
    counts, with the `extras` that it counts besides. Nothing is counted where the setting is not known.

    `published` as the paper prints it, and the `ratio` that this is; `printed` where it prints another. `steps`: how
    many of each recipe ran.
    """

    table: str
    model: str
    label: str
    method: str
    steps: dict[str, int]
    published: str
    ratio: float | None
    printed: float | None
    ours: float
    theirs: float
    extras: dict[str, float]
    note: str

    @property
    def difference(self) -> float | None:
        """How far ours are from the published figure, as a share of it."""
        return self.ours / float(self.published) - 1 if self.ours and self.published else None

    @property
    def remainder(self) -> float | None:
        """What theirs leave of the published figure, in its digits."""
        if not self.theirs or not self.published:
            return None
        digits = len(self.published.partition(".")[2])
        return round(float(self.published) - round(self.theirs, digits), digits)


def total(row: Row) -> Total:
    ours = theirs = 0.0
    extras, steps = defaultdict[str, float](float), Counter[str]()
    for at, recipe in enumerate(row.ran):
        assert row.method is not None
        model = studied(row.model)
        step, more = model.cost(row.method, recipe), [each.at(at, recipe) for each in row.extras]
        ours += step.ours / T
        theirs += model.counter.step(step.theirs + sum(more)) / T
        steps[re.sub(r"(-\d+)+$", "", recipe)] += 1
        for extra, flops in zip(row.extras, more, strict=True):
            extras[extra.what] += flops / T
    method = described(row.method) if row.method else ""
    found = {what: flops for what, flops in extras.items() if flops}
    about, figures = (row.table, row.model, row.label), (row.published, row.ratio, row.printed)
    return Total(*about, method, dict(steps), *figures, ours, theirs, found, row.note)


def described(method: Method) -> str:
    """As a value, without recipes that are not its own."""
    if isinstance(method, Beside):
        return f"{described(method.method)}, and more"
    assert is_dataclass(method)
    own = {each.name: getattr(method, each.name) for each in fields(method) if each.default is not MISSING}
    changed = [f"{each.name}={own[each.name]!r}" for each in fields(method) if own.get(each.name) != each.default]
    return ", ".join([name_of(method), *changed])
