"""Several processes that run one model together take the same steps, whatever each of them would do alone."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from duca_compile import Refused, backend
from duca_compile.generations.tracker import Tracker
from duca_compile.graph.collectives import collectives
from duca_compile.passes import rewrite
from duca_compile.runtime.agreement import _are_of_one_mesh, agreement_of
from helpers import captured, compiled, lenient
from processes import alone_of_two, in_context, parallel_dit, shared_dit, together, waits_for_others
from zoo.case import noise, randomise
from zoo.core import CORE, example_dit

STEPS = [900.0, 880.0, 860.0, 840.0, 820.0, 800.0]
LABELS = {label: torch.tensor([1, label]) for label in (2, 3)}
CHOSE = "the processes chose differently"


def call(t: float, label: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    return noise(2, 1, 8, 8), torch.full((2,), t), LABELS[label]


def steps_of(model: nn.Module) -> dict[str, int]:
    return {name: count for name, count in duca_compile.stats(model).steps.items() if count}


def generate_alike(fast: Any, alone: Any, plain: nn.Module) -> None:
    """The same steps as one process takes, and full ones bit for bit the plain model's."""
    for t in STEPS:
        full = steps_of(fast).get("full", 0)
        got = fast(*call(t))
        torch.testing.assert_close(got, alone(*call(t)), rtol=1e-4, atol=1e-5)
        if steps_of(fast).get("full", 0) > full:
            assert torch.equal(got, plain(*call(t)))
    assert steps_of(fast) == steps_of(alone)
    assert len(steps_of(fast)) > 1


def _cached_alike(rank: int) -> None:
    every: list[dict[str, Any]] = [{"method": "duca"}, {"preset": "balanced"}]
    for options in every:
        whole, spread = shared_dit(rank)
        fast, alone = compiled(spread, **options), compiled(whole, **options)
        generate_alike(fast, alone, spread)


def test_steps_are_those_of_one_process_and_full_ones_are_plain(tmp_path: Path) -> None:
    """With conservative steps too, which add up a few tokens over the processes."""
    together(_cached_alike, tmp_path)


def _parallelised(rank: int) -> None:
    for tokens_are_spread in (False, True):
        whole = example_dit()
        spread = parallel_dit(whole, tokens_are_spread)
        options: dict[str, Any] = {} if not tokens_are_spread else {"preset": "balanced"}
        fast, alone = compiled(spread, **options), compiled(whole, **options)
        generate_alike(fast, alone, spread)


@pytest.mark.slow
def test_tensor_parallel_steps_are_those_of_one_process(tmp_path: Path) -> None:
    """`parallelize_module`, with and without tokens that are spread too."""
    together(_parallelised, tmp_path)


def test_of_tensor_parallel_only_sums_are_token_by_token() -> None:
    with alone_of_two():
        summed, gathered = (captured(parallel_dit(example_dit(), each), *call(900.0)) for each in (False, True))
        kinds = [[branch.kind for branch in found.facts.branches] for found in (summed, gathered)]
        targets = [{str(node.target) for node in collectives(found.capture.gm)} for found in (summed, gathered)]
        unfinished = {node.name for found in (summed, gathered) for node in collectives(found.capture.gm)}
        kept = {slot.value for found in (summed, gathered) for slot in found.plan.slots}
    assert not unfinished & kept
    assert kinds == [["attention", "MLP"] * 2, ["attention", "mixing"] * 2]
    functional = "_c10d_functional."
    assert targets[0] == {functional + "all_reduce.default"}
    assert targets[1] == {functional + "all_gather_into_tensor.default", functional + "reduce_scatter_tensor.default"}


def _sharded(rank: int, block_by_block: bool) -> None:
    from torch.distributed.fsdp import fully_shard

    whole = example_dit()
    shards = copy.deepcopy(whole)
    for block in shards.get_submodule("blocks").children() if block_by_block else ():
        fully_shard(block)
    fully_shard(shards)
    fast, alone = lenient(shards), lenient(whole)
    for t in STEPS:
        torch.testing.assert_close(fast(*call(t)), alone(*call(t)))
    assert steps_of(fast)["full"] < len(STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("block_by_block", [False, True])
def test_steps_over_sharded_weights_are_those_over_whole_ones(tmp_path: Path, block_by_block: bool) -> None:
    """FSDP2: its collectives run outside of the graphs, at every step."""
    together(_sharded, tmp_path, block_by_block)


def _context_parallel(rank: int, name: str) -> None:
    case = CORE[name]
    whole = randomise(case.build()).eval()
    spread = in_context(whole)
    spread(**case.call(950.0))  # in which its hooks read signatures, at which Dynamo breaks a graph
    fast, alone = compiled(spread, preset="balanced"), compiled(whole, preset="balanced")
    for t in STEPS:
        torch.testing.assert_close(fast(**case.call(t))[0], alone(**case.call(t))[0], rtol=1e-4, atol=1e-5)
    assert steps_of(fast) == steps_of(alone)
    assert len(steps_of(fast)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FLUX", "Wan"])
def test_context_parallel_steps_of_diffusers_are_those_of_one_process(tmp_path: Path, name: str) -> None:
    together(_context_parallel, tmp_path, name)


def _choose_differently(rank: int) -> None:
    _, spread = shared_dit(rank)
    fast = compiled(spread)
    own = rank == 1

    def full(t: float, label: int = 2) -> bool:
        before = steps_of(fast).get("full", 0)
        got, want = fast(*call(t, label)), spread(*call(t, label))
        assert torch.equal(got, want) == (steps_of(fast)["full"] > before)
        return steps_of(fast)["full"] > before

    assert [full(t) for t in (900.0, 880.0, 860.0)] == [True, False, False]
    if own:
        duca_compile.reset(fast)
    assert [full(t) for t in (840.0, 820.0, 800.0)] == [True, False, False]
    assert [full(t) for t in (780.0, 990.0 if own else 760.0)][1]
    assert not full(970.0 if own else 740.0)
    assert full(950.0 if own else 720.0, 3 if own else 2)
    assert not full(930.0 if own else 700.0, 3 if own else 2)
    if own:
        torch._dynamo.reset()  # it compiles anew, which the other one waits for
    assert full(910.0 if own else 680.0, 3 if own else 2)
    assert duca_compile.stats(fast).resets[CHOSE]
    found = [None, None]
    torch.distributed.all_gather_object(found, steps_of(fast))
    assert found[0] == found[1]


def test_where_processes_choose_differently_all_take_a_full_step(tmp_path: Path) -> None:
    """One drops its caches, sees a timestep of another generation or other labels, compiles anew."""
    together(_choose_differently, tmp_path)


def _other_options(rank: int) -> None:
    _, spread = shared_dit(rank)
    fast = lenient(spread, seed=rank)
    with pytest.warns(duca_compile.DucaWarning, match="have graphs that do not match"):
        assert torch.equal(fast(*call(920.0)), spread(*call(920.0)))
    for t in STEPS:
        assert torch.equal(fast(*call(t)), spread(*call(t)))


@pytest.mark.slow
def test_where_processes_were_given_other_options_all_run_the_plain_graph(tmp_path: Path) -> None:
    together(_other_options, tmp_path)


def _fail_in_one(rank: int) -> None:
    _, spread = shared_dit(rank)

    def inner(gm: Any, inputs: Any) -> Any:
        fails = rank == 1 and len(asked) == 1
        asked.append(gm)
        if fails:
            raise RuntimeError("no room on the disk")
        return gm.forward

    asked: list[Any] = []
    fast = lenient(spread, inner=inner)
    for t in STEPS:
        assert torch.equal(fast(*call(t)), spread(*call(t)))
    assert len(asked) > 2
    torch._dynamo.reset()
    fast = lenient(shared_dit(rank)[1])
    visit = Tracker.visit
    for step, t in enumerate(STEPS):
        if rank == 1 and step == 2:
            Tracker.visit = _broken  # type: ignore[method-assign, assignment]
        got, want = fast(*call(t)), spread(*call(t))
        Tracker.visit = visit  # type: ignore[method-assign]
        assert torch.equal(got, want) == (step in (0, 2, 3)), step


def _broken(*given: Any) -> Any:
    raise RuntimeError("a fault")


@pytest.mark.filterwarnings("ignore::duca_compile.DucaWarning")
def test_where_one_process_fails_before_a_step_all_run_the_plain_graph(tmp_path: Path) -> None:
    together(_fail_in_one, tmp_path)


def _fault_in_one(rank: int) -> None:
    _, spread = shared_dit(rank)
    fast = lenient(spread)
    with pytest.MonkeyPatch.context() as patched:
        if rank == 1:
            patched.setattr(backend, "rewrite", _broken)
        for t in STEPS:
            assert torch.equal(fast(*call(t)), spread(*call(t)))


@pytest.mark.filterwarnings("ignore::duca_compile.DucaWarning")
@pytest.mark.slow
def test_a_process_with_a_fault_of_ours_has_all_run_the_plain_graph(tmp_path: Path) -> None:
    together(_fault_in_one, tmp_path)


def _independent(rank: int) -> None:
    model = example_dit()
    fast = compiled(model)
    for t in STEPS[: 6 - 3 * rank]:
        fast(*call(t))
    assert steps_of(fast)["full"] == 2 - rank


@pytest.mark.slow
def test_processes_that_do_not_wait_for_each_other_are_not_made_to(tmp_path: Path) -> None:
    together(_independent, tmp_path)


def test_the_cheapest_step_waits_for_nobody_and_a_conservative_one_for_the_mlps() -> None:
    with alone_of_two():
        found = captured(shared_dit()[1], *call(900.0))
        assert agreement_of(found.capture.gm) is not None
        waits = {name: waits_for_others(rewrite(found.capture.gm, step)[0]) for name, step in found.plan.steps.items()}
        kinds = [branch.kind for branch in found.facts.branches]
    assert waits == {"full": 2, "conservative": 2, "aggressive": 0}
    assert kinds == ["attention", "MLP", "attention", "MLP"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"method": "teacache"}, "method: 'teacache' decides at run time, and the processes"),
        ({"method": "duca", "selector": "similarity"}, "method: scores choose the tokens, and the processes"),
    ],
)
def test_methods_that_decide_by_values_are_refused(options: dict[str, Any], reason: str) -> None:
    with alone_of_two(), pytest.raises(Refused, match=reason):
        captured(shared_dit()[1], *call(900.0), options=options)


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dit = shared_dit()[1]

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        half = self.dit(x, t, y)
        torch._dynamo.graph_break()
        return half * 2


def test_a_split_forward_pass_is_refused() -> None:
    with alone_of_two():
        model, fast = Broken().eval(), lenient(Broken().eval())
        with pytest.warns(duca_compile.DucaWarning, match="the forward pass waits for other processes"):
            fast(*call(920.0))
        for t in STEPS:
            fast(*call(t))
        assert not steps_of(fast)
        assert torch.equal(fast(*call(900.0)), model(*call(900.0)))


class Sends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dit = example_dit()

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        received = torch.ops._c10d_functional.irecv(torch.empty_like(x), 1, 0, torch.distributed.group.WORLD.group_name)  # type: ignore
        return self.dit(x + torch.ops._c10d_functional.wait_tensor(received), t, y)


@pytest.mark.skipif(not hasattr(torch.ops._c10d_functional, "irecv"), reason="torch 2.11 has no such operation")
def test_what_is_between_two_processes_is_refused() -> None:
    with alone_of_two(), pytest.raises(Refused, match="waits for another process, and which ones take part cannot be"):
        compiled(Sends())(*call(900.0))


@pytest.mark.parametrize(
    ("groups", "one_mesh"),
    [
        ([[0, 1, 2, 3], [2, 6]], True),
        ([[2, 5], [2, 3]], False),
        ([[0, 1], [0, 2], [0, 4]], True),
        ([[0, 1], [1, 2]], False),
        ([[0, 3, 4], [0, 8]], False),
    ],
)
def test_which_groups_are_dimensions_of_one_mesh(groups: list[list[int]], one_mesh: bool) -> None:
    assert _are_of_one_mesh(groups) == one_mesh
