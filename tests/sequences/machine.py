"""Random sequences of everything that programs do with a model while it generates, each call watched by the oracle."""

import functools
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from duca_compile.generations import sessions
from sequences import denoisers
from sequences.generations import CONDITIONING, GUIDANCE, Plan
from sequences.program import Program, World
from sequences.samplers import DIFFUSION

LIVE = 4
"""Generations under way at once at most."""


def plans(world: World) -> st.SearchStrategy[Plan]:
    return st.builds(
        Plan,
        model=st.integers(0, len(world.player.kinds) - 1),
        sampler=st.sampled_from(DIFFUSION),
        steps=st.sampled_from([50, 50, 20, 12]),
        skip=st.sampled_from([0, 0, 0.2, 0.4, 0.5, 0.7]),
        image=st.integers(0, 1),
        seed=st.integers(0, 2),
        prompt=st.integers(0, denoisers.PROMPTS - 1),
        guidance=st.sampled_from(sorted(GUIDANCE)),
        conditioning=st.sampled_from(("held", "negative kept", *CONDITIONING)),
        session=st.sampled_from((*["none"] * 6, *world.sessions)),
        key=st.integers(0, 2),
        driver=st.sampled_from(("inline", "inline", *world.drivers)),
        batch=st.integers(1, 2),
        spread=st.sampled_from([0.0, 0.0, 5.0]),
        context=st.sampled_from(world.contexts),
    )


def in_program(act: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a rule in the context of the sequence's program, so that nothing it leaves there reaches the next sequence."""

    @functools.wraps(act)
    def run(machine: Any, **drawn: Any) -> Any:
        return machine.context.run(act, machine, **drawn)

    return run


PLANS: st.SearchStrategy[Plan] = st.runner().flatmap(lambda machine: machine.plans)
"""Of the world that the machine is over."""


class Sequences(Program, RuleBasedStateMachine):
    """All that a program can do in one world."""

    def __init__(self, world: World) -> None:
        RuleBasedStateMachine.__init__(self)
        Program.__init__(self, world)
        self.plans = plans(world)
        self.skip = 15

    @initialize(house=PLANS, ahead=st.integers(0, 25), twice=st.sampled_from([False, False, True]))
    def fresh(self, house: Plan, ahead: int, twice: bool) -> None:
        """The generations of a sequence are much alike; the first one has come some way when others begin."""
        self.house = house
        self.world.begin(self.all, twice)
        self.world.sequences += 1
        self.context.run(self.first, ahead)

    def first(self, ahead: int) -> None:
        self.start(self.house)
        self.play([0] * ahead)

    @rule(plan=PLANS, others=st.frozensets(st.sampled_from(Plan._fields), max_size=4))
    @precondition(lambda self: len(self.running) < LIVE)
    @in_program
    def begin(self, plan: Plan, others: frozenset[str]) -> None:
        changed = {name: getattr(plan, name) for name in others | {"seed", "key"}}
        self.start(self.house._replace(**changed))

    @rule(
        data=st.data(),
        seed=st.integers(0, 2),
        steps=st.sampled_from([None, 20, 12, 8]),
        skip=st.sampled_from([None, 0, 0.2, 0.4, 0.5]),
    )
    @precondition(lambda self: self.all and len(self.running) < LIVE)
    @in_program
    def begin_another(self, data: st.DataObject, seed: int, steps: int | None, skip: float | None) -> None:
        """As one of the last generations, from other noise or over another grid of timesteps."""
        plan = data.draw(st.sampled_from(self.all[-4:])).plan._replace(seed=seed)
        plan = plan if steps is None else plan._replace(steps=steps, skip=0)
        self.start(plan if skip is None else plan._replace(skip=skip))

    @rule(which=st.integers(0, LIVE - 1), evaluations=st.integers(1, 8))
    @precondition(lambda self: self.running)
    @in_program
    def advance(self, which: int, evaluations: int) -> None:
        self.play([which % len(self.running)] * evaluations)

    @rule(rounds=st.integers(2, 8))
    @precondition(lambda self: len(self.running) > 1)
    @in_program
    def take_turns(self, rounds: int) -> None:
        self.play([*range(len(self.running))] * rounds)

    @rule(order=st.lists(st.integers(0, LIVE - 1), min_size=4, max_size=16))
    @precondition(lambda self: len(self.running) > 1)
    @in_program
    def interleave(self, order: list[int]) -> None:
        self.play([which % len(self.running) for which in order])

    @rule(seed=st.integers(0, 2), rise=st.sampled_from([1, 2, 0, -1]))
    @precondition(lambda self: len(self.running) < LIVE)
    @in_program
    def preview(self, seed: int, rise: int) -> None:
        """An image at another strength than the last one's, which is stopped after one step."""
        self.skip = min(30, max(5, self.skip - rise))
        generation = self.start(self.house._replace(seed=seed, steps=50, skip=(self.skip + 0.5) / 50))
        if self.step(generation):
            self.end(generation, "close")

    @rule(which=st.integers(0, LIVE - 1), how=st.sampled_from(["close", "drop", "leave", "collect"]))
    @precondition(lambda self: self.running)
    @in_program
    def abort(self, which: int, how: str) -> None:
        self.end(self.running[which % len(self.running)], how)

    @rule(
        which=st.integers(0, LIVE - 1),
        event=st.sampled_from(["exception", "guidance", "weights", "session", "reset"]),
        data=st.data(),
    )
    @precondition(lambda self: self.running)
    @in_program
    def disturb(self, which: int, event: str, data: st.DataObject) -> None:
        generation = self.running[which % len(self.running)]
        model = generation.plan.model
        if event == "exception":
            where = data.draw(st.sampled_from(["before the output", "after the output"]))
            self.interrupt(generation, where, data.draw(st.booleans()))
        elif event == "guidance" and not self.is_trained(generation.plan):
            self.switch_guidance(generation, data.draw(st.sampled_from(sorted(GUIDANCE))))
        elif event == "weights":
            self.weights[model] = data.draw(st.integers(0, 2))
            self.player.change_weights(model, data.draw(st.sampled_from(self.player.changes)), self.weights[model])
        elif event == "session":
            self.play_in_a_session(generation, data.draw(st.integers(1, 3)), data.draw(st.integers(0, 1)))
        elif event == "reset":
            self.player.reset(model)
            self.epochs[model] += 1

    @invariant()
    @in_program
    def no_session_is_left(self) -> None:
        """The rules hold none: it would be one that leaked out of a loop."""
        if sessions.current() is not None:
            self.world.situations["a session leaked"] += 1
            if not self.player.oracle.collects:
                raise AssertionError("a session is current outside of all")
