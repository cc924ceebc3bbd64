"""What a family of models costs as formulas in its sizes, in N and in R, exact for FLOPs and bytes.

    def build(tokens, width, depth): ...  # -> model, args, kwargs

    model = cost_model.fit(build, {"tokens": (16, 36, 64, 100), "width": (32, 64, 96, 128), "depth": (1, 2, 4)})
    model.costs[Mode.FULL].flops  # 24*depth*tokens*width**2 + 4*depth*tokens**2*width + ...
    model.speedup(tokens=4096, width=1152, depth=28, cycle=5, cache_ratio=0.9)

FLOPs and bytes of a step are polynomials in the sizes, as those of matrix products, convolutions and attention are. So
they are counted on small models, over a grid of sizes, and the polynomial through these counts is the formula; counts
at further sizes must agree with it. How many tokens a CONSERVATIVE step recomputes is no polynomial: it is
`F = floor((1 - R) * tokens)`. The step's cost is linear in the F of each group of branches that choose among equally
many tokens, and another formula where F is 0.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import product
from typing import Any

import sympy

from duca_compile.cost.step_cost import Cost
from duca_compile.cost_model.count_family import Build, Sample, sample
from duca_compile.cost_model.polynomials import Point, interpolate
from duca_compile.methods.duca import ORDERS, DuCa, Mode
from duca_compile.methods.ratios import exact
from duca_compile.plan.options import Options

N, R, STEPS = sympy.symbols("N R steps")
Through = Callable[[Mapping[Point, Any]], Any]
_CHECKED_RATIOS = (0, 0.5, 0.9, 1)


class NotPolynomial(ValueError):
    """The family's costs are no polynomials of the degrees that the grid allows; the message names sizes and counts."""


@dataclass(frozen=True)
class CostModel:
    """`costs`: of one step in each recipe, expressions in the symbols `sizes` and R; CONSERVATIVE's are piecewise.

    `options` are those that the graphs were planned with, but for `cycle` and `cache_ratio`, which are N and R.
    """

    sizes: Mapping[str, sympy.Symbol]
    costs: Mapping[Mode, Cost[Any]]
    options: Options

    @property
    def trajectory_flops(self) -> Any:
        """FLOPs of a generation, in the sizes, N, R and `steps`."""
        return sum(count * self.costs[mode].flops for mode, count in steps_per_mode(self.options).items())

    def cost(self, mode: Mode, *, cache_ratio: float = 0.9, **sizes: int) -> Cost[int]:
        """In numbers. Raises `ValueError` for other sizes than the family has, and where at this `cache_ratio` other
        groups of branches have tokens to recompute than can have some at all sizes of the grid."""
        if sizes.keys() != self.sizes.keys():
            raise ValueError(f"the sizes are {', '.join(self.sizes)}, not {', '.join(sizes) or 'none'}")
        numbers = {symbol: sympy.Integer(sizes[name]) for name, symbol in self.sizes.items()}
        numbers[R] = sympy.Rational(exact(cache_ratio))
        found = [expression.subs(numbers) for expression in astuple(self.costs[mode])]
        if sympy.nan in found:
            raise ValueError(f"no size of the grid shares out fresh tokens as {sizes} do at cache_ratio={cache_ratio}")
        return Cost(*map(int, found))

    def flops(self, mode: Mode, *, cache_ratio: float = 0.9, **sizes: int) -> int:
        """Of one step, 2 per multiply-add; exactly what `explain` counts. Raises as `cost` does."""
        return self.cost(mode, cache_ratio=cache_ratio, **sizes).flops

    def speedup(
        self,
        *,
        cycle: int = 5,
        cache_ratio: float = 0.9,
        steps: int = 50,
        price: Callable[[Cost[int]], float] = lambda cost: cost.flops,
        **sizes: int,
    ) -> float:
        """How many times less a generation of `steps` steps takes than one of full steps: in FLOPs or by another
        `price` of a step, such as `Calibration.seconds`. Raises as `cost` does."""
        numbers = {N: cycle, STEPS: steps}
        counts = {mode: int(count.subs(numbers)) for mode, count in steps_per_mode(self.options).items()}
        prices = {mode: price(self.cost(mode, cache_ratio=cache_ratio, **sizes)) for mode in self.costs}
        return steps * prices[Mode.FULL] / sum(counts[mode] * each for mode, each in prices.items())


def steps_per_mode(options: Options) -> dict[Mode, Any]:
    """How many steps of a generation run in each recipe, in N and `steps`: the clock of DuCa, summed up."""
    method = options.method
    assert isinstance(method, DuCa)
    since = sympy.Max(STEPS - (method.warmup_steps - 1), 0)
    cycles, rest = sympy.floor(since / N), sympy.Mod(since, N)
    odd = cycles * sympy.floor(N / 2) + sympy.floor(rest / 2)
    even = cycles * sympy.floor((N - 1) / 2) + sympy.Max(sympy.floor((rest - 1) / 2), 0)
    counts = {Mode.FULL: STEPS - odd - even}
    for mode, count in zip(ORDERS[method.order], (odd, even), strict=True):
        counts[mode] = counts.get(mode, 0) + count
    return counts


def fit(build: Build, sizes: Mapping[str, Sequence[int]], duca_options: Mapping[str, Any] | None = None) -> CostModel:
    """The costs of all models that `build(**sizes)` makes, each with the arguments of a call: `(model, args, kwargs)`.

    `sizes` gives the values of each size to count at. The last of each is kept for the check; the others, one more than
    the degree that the size can have (two for tokens and width, one for depth, batch and most else), make the grid.
    `duca_options` are the `options` of `torch.compile`, for `method="duca"`.

    Raises `NotPolynomial` where a count at the kept sizes differs, `ValueError` for values that make no grid, and
    `Refused` where a model is not accelerated.
    """
    for name, values in sizes.items():
        _require_values(name, values)
    options = Options.parse({"method": "duca", **(duca_options or {}), "cycle": 3})
    if not isinstance(options.method, DuCa):
        raise ValueError("the formulas count the steps of method='duca'")
    symbols = {name: sympy.Symbol(name, integer=True, positive=True) for name in sizes}
    grid = [values[:-1] for values in sizes.values()]
    samples = {point: sample(build, dict(zip(sizes, point, strict=True)), options) for point in product(*grid)}

    def through(values: Mapping[Point, Any]) -> Any:
        return interpolate(values, grid, list(symbols.values()))

    costs = {mode: _formula(mode, samples, through) for mode in Mode if mode in options.recipes}
    model = CostModel(symbols, costs, options)
    for kept in _off_grid(sizes):
        _check(model, sample(build, kept, options), kept)
    return model


def _require_values(name: str, values: Any) -> None:
    known = isinstance(values, Sequence) and all(isinstance(value, int) and value > 0 for value in values)
    if not known or len(set(values)) < max(2, len(values)):
        raise ValueError(
            f"{name} must list different whole numbers to count at, at least two, as the last is for the check; "
            f"not {values!r}"
        )


def _formula(mode: Mode, samples: Mapping[Point, Sample], through: Through) -> Cost[Any]:
    if mode is not Mode.CONSERVATIVE:
        return _each(through, {point: found.cost(mode, cache_ratio=0) for point, found in samples.items()})
    if len({len(found.tokens) for found in samples.values()}) > 1:
        raise NotPolynomial("streams that have equally many tokens at some sizes of the grid have not at others")
    tokens = {point: found.tokens for point, found in samples.items()}
    groups = range(len(next(iter(tokens.values()))))
    fresh = [sympy.floor((1 - R) * through({point: each[group] for point, each in tokens.items()})) for group in groups]
    counted = {point: found.conservative() for point, found in samples.items()}
    pieces = []
    for regime in set.intersection(*(set(found) for found in counted.values())):
        costs = [
            _each(through, {point: found[regime][row] for point, found in counted.items()})
            for row in range(len(regime) + 1)
        ]
        drawn = [fresh[group] for group in sorted(regime)]
        where = sympy.And(*(count >= 1 if group in regime else count < 1 for group, count in enumerate(fresh)))
        pieces.append(([_linear(column, drawn) for column in zip(*map(astuple, costs), strict=True)], where))
    quantities = range(len(fields(Cost)))
    return Cost(*(sympy.Piecewise(*((total[each], where) for total, where in pieces)) for each in quantities))


def _linear(counted: Sequence[Any], fresh: Sequence[Any]) -> Any:
    """The cost with `fresh` tokens, of that with one in each group and those with one more in each by itself."""
    one, *more = counted
    slopes = [(other - one).expand() for other in more]
    return (one - sum(slopes)).expand() + sum(map(operator.mul, slopes, fresh))


def _each(through: Through, costs: Mapping[Point, Cost[Any]]) -> Cost[Any]:
    rows = {point: astuple(cost) for point, cost in costs.items()}
    return Cost(*(through({point: row[each] for point, row in rows.items()}) for each in range(len(fields(Cost)))))


def _off_grid(sizes: Mapping[str, Sequence[int]]) -> list[dict[str, int]]:
    """One size at a time off the grid, then all."""
    single = [{each: values[-1] if each == name else values[0] for each, values in sizes.items()} for name in sizes]
    return single + [{each: values[-1] for each, values in sizes.items()}] * (len(sizes) > 1)


def _check(model: CostModel, found: Sample, sizes: Mapping[str, int]) -> None:
    for mode in model.costs:
        for ratio in _CHECKED_RATIOS if mode is Mode.CONSERVATIVE else (0,):
            counted, said = found.cost(mode, ratio), model.cost(mode, cache_ratio=ratio, **sizes)
            for field in fields(Cost):
                pair = getattr(counted, field.name), getattr(said, field.name)
                if pair[0] != pair[1]:
                    raise NotPolynomial(
                        f"at {sizes} a {mode.value} step, cache_ratio={ratio}, counts {pair[0]} {field.name}, and the "
                        f"polynomial through the counts on the grid says {pair[1]}. List one value of each size "
                        "more than its degree (two for tokens and width, one for most else), and one for the check"
                    )
