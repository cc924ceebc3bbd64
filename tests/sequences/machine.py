"""Random sequences of everything that programs do with a model while it generates, each call watched by the oracle."""

import contextvars
import functools
import gc
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor

import duca_compile
from duca_compile import sessions
from duca_compile.contexts import Context
from sequences import denoisers
from sequences.direct import Call, Kind
from sequences.generations import (
    ANEW,
    CONDITIONING,
    DRIVERS,
    GUIDANCE,
    HELD,
    OWN,
    SESSIONS,
    Generation,
    Plan,
    loop,
)
from sequences.kinds_of_wrong import kind
from sequences.likeness import confusable, content, handling
from sequences.oracle import Interrupted, Oracle, Stream
from sequences.samplers import DIFFUSION, FLOW, Evaluation, image_of, sample
from zoo.case import noise

LIVE = 4
"""Generations under way at once at most."""


class Player(Protocol):
    """Makes the calls: on the tracker alone, or on compiled models."""

    oracle: Oracle
    kinds: tuple[Kind, ...]
    changes: tuple[str, ...]
    interrupts: str

    def restore(self, twice: bool) -> None: ...
    def call(self, call: Call) -> Tensor: ...
    def reset(self, model: int) -> None: ...
    def change_weights(self, model: int, how: str, state: int) -> None: ...


@dataclass
class World:
    """What the sequences of one test share. `known` are all generations of the last sequence, by serial number."""

    player: Player
    sessions: tuple[str, ...] = SESSIONS
    drivers: tuple[str, ...] = DRIVERS
    contexts: tuple[str, ...] = ("none", "none", "none", "name", "index")
    sequences: int = 0
    situations: Counter[str] = field(default_factory=Counter)
    kinds_of_wrong: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, str] = field(default_factory=dict)
    """The first of each kind, and in which sequence."""
    known: list[Generation] = field(default_factory=list)

    def begin(self, generations: list[Generation], twice: bool = False) -> None:
        """A sequence begins; what went wrong in the last one is sorted, where the oracle collects it."""
        for wrong in self.player.oracle.wrong:
            sort = kind(wrong, self.known)
            self.firsts.setdefault(sort, f"sequence {self.sequences}: {wrong}")
            self.kinds_of_wrong[sort] += 1
        self.player.oracle.wrong.clear()
        self.known = generations
        self.player.restore(twice)


def plans(world: World) -> st.SearchStrategy[Plan]:
    return st.builds(
        Plan,
        model=st.integers(0, len(world.player.kinds) - 1),
        sampler=st.sampled_from(DIFFUSION),
        steps=st.sampled_from([50, 20, 12, 8]),
        skip=st.sampled_from([0, 0, 0.2, 0.4, 0.5, 0.7]),
        image=st.integers(0, 1),
        seed=st.integers(0, 2),
        prompt=st.integers(0, denoisers.PROMPTS - 1),
        guidance=st.sampled_from(sorted(GUIDANCE)),
        conditioning=st.sampled_from(("held", "negative kept", *CONDITIONING)),
        session=st.sampled_from(("none", "none", "none", *world.sessions)),
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
        return machine.program.run(act, machine, **drawn)

    return run


def sequences(world: World) -> type[RuleBasedStateMachine]:
    """The machine over one world; its class is made anew so that it can carry the world."""
    player = world.player

    class Sequences(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.serial = itertools.count()
            self.all: list[Generation] = []
            self.running: list[Generation] = []
            self.skip = 15
            self.weights = Counter[int]()
            self.epochs = Counter[int]()
            self.objects: dict[Any, Tensor] = {}
            self.program = contextvars.copy_context()
            self.threads = [ThreadPoolExecutor(1), ThreadPoolExecutor(1)]

        @initialize(house=plans(world), ahead=st.integers(0, 25), twice=st.sampled_from([False, False, True]))
        def fresh(self, house: Plan, ahead: int, twice: bool) -> None:
            """The generations of a sequence are much alike; the first one has come some way when others begin."""
            self.house = house
            world.begin(self.all, twice)
            world.sequences += 1
            self.program.run(self.first, ahead)

        @rule(plan=plans(world), others=st.frozensets(st.sampled_from(Plan._fields), max_size=4))
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
                player.change_weights(model, data.draw(st.sampled_from(player.changes)), self.weights[model])
            elif event == "session":
                self.play_in_a_session(generation, data.draw(st.integers(1, 3)), data.draw(st.integers(0, 1)))
            elif event == "reset":
                player.reset(model)
                self.epochs[model] += 1

        @invariant()
        @in_program
        def no_session_is_left(self) -> None:
            """The rules hold none: it would be one that leaked out of a loop."""
            if sessions.current() is not None:
                world.situations["a session leaked"] += 1
                if not player.oracle.collects:
                    raise AssertionError("a session is current outside of all")

        def teardown(self) -> None:
            self.program.run(self.end_all)
            for thread in self.threads:
                thread.shutdown()

        def end_all(self) -> None:
            for generation in list(self.running):
                self.end(generation, "close")

        def first(self, ahead: int) -> None:
            self.start(self.house)
            self.play([0] * ahead)

        def interrupt(self, generation: Generation, where: str, retries: bool) -> None:
            """An exception inside a step: the loop catches it and tries again, or ends."""
            generation.retries, player.interrupts = retries, where
            try:
                self.step(generation)
            except Interrupted:
                self.end(generation, "close")
            generation.retries, player.interrupts = False, ""

        def switch_guidance(self, generation: Generation, guidance: str) -> None:
            before, generation.guidance = generation.guidance, guidance
            if self.is_like_another(generation):
                generation.guidance = before

        def play_in_a_session(self, generation: Generation, evaluations: int, key: int) -> None:
            """The caller is in a session of its own."""
            generation.caller = ("caller", key, generation.serial)
            with duca_compile.session(generation.caller):
                self.play([self.running.index(generation)] * evaluations)
            generation.caller = None

        def is_trained(self, plan: Plan) -> bool:
            return player.kinds[plan.model].denoiser == "trained"

        def start(self, plan: Plan) -> Generation:
            """Begins a generation; in a session of its own if nothing else could tell it from another one."""
            plan = self.fitting(plan)
            generation = self.made(plan)
            if self.is_like_another(generation):
                generation.plan = plan._replace(session="call", key=("own", generation.serial))
            self.all.append(generation)
            self.running.append(generation)
            generation.start()
            generation.run = loop(generation, lambda: self.evaluate(generation))
            self.note(generation)
            return generation

        def fitting(self, plan: Plan) -> Plan:
            """What the model and the keys in use allow of what was drawn."""
            kind = player.kinds[plan.model]
            skip = min(plan.steps - 2, int(plan.skip * plan.steps))
            if kind.predicts == "flow" and kind.denoiser != "trained":
                plan = plan._replace(sampler=FLOW[DIFFUSION.index(plan.sampler) % 3] if plan.sampler in DIFFUSION else plan.sampler)
            elif plan.sampler in FLOW:
                plan = plan._replace(sampler="DDIM")
            if kind.denoiser == "trained":
                later = denoisers.TRAINED_SKIPS[1] if skip else 0
                plan = plan._replace(seed=plan.seed % denoisers.TRAINED_SEEDS, guidance="none", batch=1, spread=0.0,
                                     sampler="DDIM", steps=20)  # fmt: skip
                skip = later
            taken = [other.plan.key for other in self.running]
            if plan.key in taken or plan.session == "counted call" or not isinstance(plan.key, int):
                plan = plan._replace(key=("own", len(self.all)))
            return plan._replace(skip=skip / plan.steps)

        def made(self, plan: Plan) -> Generation:
            serial = len(self.all)
            if self.is_trained(plan):
                total, sampler = denoisers.trained_path(plan.seed, int(plan.skip > 0))
            else:
                image = denoisers.image(plan.image, plan.batch)
                skip = round(plan.skip * plan.steps)
                total, sampler = sample(plan.sampler, plan.steps, skip, image, plan.seed)
            generation = Generation(serial, plan, total, sampler, plan.guidance)
            generation.given = next(sampler)
            return generation

        def is_like_another(self, generation: Generation) -> bool:
            """Whether a call of it could now be one of another generation, or the other way round."""
            return any(self.is_like(other, generation) for other in self.all if other is not generation)

        def is_like(self, other: Generation, later: Generation) -> bool:
            if other in self.running:
                return confusable(other, later) or confusable(later, other)
            if later.plan.context == "index" and not later.step:
                return False
            t, up = later.given.t, player.kinds[later.plan.model].clock == "up"
            return (t != other.last if up else t < other.last) and confusable(other, later)

        def note(self, generation: Generation) -> None:
            """Counts which situations came up."""
            for other in self.running:
                same = other is not generation and other.plan.model == generation.plan.model
                if same and other.plan.seed != generation.plan.seed and confusable(
                    other, _with(generation, seed=other.plan.seed)
                ):
                    world.situations["requests from different noise over shared conditioning"] += 1

        def play(self, order: list[int]) -> None:
            chosen = [self.running[which] for which in order]
            for generation in chosen:
                if generation in self.running:
                    self.step(generation)

        def step(self, generation: Generation) -> bool:
            """One evaluation. False when there are no more."""
            if self.advanced(generation):
                return True
            self.running.remove(generation)
            generation.encoded.clear()
            return False

        def advanced(self, generation: Generation) -> bool:
            try:
                return generation.advance(self.threads)
            except ValueError:
                self.broke()
                return False

        def closed(self, run: Iterator[None]) -> None:
            try:
                run.close()
            except ValueError:
                self.broke()

        def broke(self) -> None:
            """A session could not be left where its loop was."""
            world.situations["a session could not be left"] += 1
            if not player.oracle.collects:
                raise

        def end(self, generation: Generation, how: str) -> None:
            """It is closed, left by its own loop, or dropped, at once or by the garbage collector."""
            if generation not in self.running:
                return
            self.running.remove(generation)
            run = generation.run
            if how == "leave" and run is not None and generation.step:
                generation.leaves = True
                self.advanced(generation)
            elif how == "close" and run is not None:
                self.closed(run)
            elif how == "collect":
                cycle: list[Any] = [run]
                cycle.append(cycle)
            generation.run = None
            generation.encoded.clear()
            del run
            if how == "collect":
                del cycle
                gc.collect(0)

        def evaluate(self, generation: Generation) -> bool:
            """One evaluation of the denoiser, in one, two or three calls. False when there are no more."""
            at = generation.given
            kind = player.kinds[generation.plan.model].predicts
            output = self.guided(generation, at)
            try:
                generation.given = generation.sampler.send(image_of(kind, output, at, at.x.double()))
            except StopIteration:
                return False
            return True

        def guided(self, generation: Generation, at: Evaluation) -> Tensor:
            outputs = {name: self.call(generation, name, at) for name in GUIDANCE[generation.guidance]}
            if "both" in outputs:
                outputs["uncond"], outputs["cond"] = outputs["both"].chunk(2)
            if "uncond" not in outputs:
                return outputs["cond"]
            found = outputs["uncond"] + 1.5 * (outputs["cond"] - outputs["uncond"])
            return found + 0.1 * (outputs["cond"] - outputs["other"]) if "other" in outputs else found

        def call(self, generation: Generation, name: str, at: Evaluation) -> Tensor:
            plan = generation.plan
            latents = torch.cat([at.x, at.x]) if name == "both" else at.x
            clock = player.kinds[plan.model].clock
            time = torch.full((len(latents),), at.t) + plan.spread * torch.arange(len(latents)).flip(0)
            time = time if clock == "1000" else time / 1000 if clock == "1" else 1 - time / 1000
            conditioning = self.conditioning(generation, name)
            what = content(generation, name)
            prompt = what[1]
            prompts = (denoisers.EMPTY, prompt) if name == "both" else ((prompt + 1) % 3 if name == "other" else prompt,)
            index = {"none": None, "name": Context(name, None, None), "index": Context(name, generation.step, generation.total)}
            stream = Stream(
                generation.serial, (*what, *handling(generation, name)), tuple(latents.shape), (plan.model, self.weights[plan.model]),
                generation.owner(name), self.epochs[plan.model],
            )  # fmt: skip
            generation.calls[name] += 1
            generation.last = at.t
            with generation.around(name):
                return player.call(Call(plan.model, stream, at, latents, time, conditioning, prompts, index[plan.context]))

        def conditioning(self, generation: Generation, name: str) -> tuple[Tensor, ...]:
            """The conditioning of a call, as this program holds it."""
            batch, what = generation.plan.batch * (1 + (name == "both")), content(generation, name)
            wanted = [_encoded(what, place).repeat(batch, 1, 1) for place in range(2)]
            return tuple(
                self.conditioned(generation, how, (how, place, batch, what), tensor)
                for place, (how, tensor) in enumerate(zip(handling(generation, name), wanted, strict=True))
            )

        def conditioned(self, generation: Generation, how: str, key: tuple[Any, ...], wanted: Tensor) -> Tensor:
            if how == ANEW:
                return wanted.clone()
            if how == OWN:
                return generation.encoded.setdefault(key, wanted.clone())
            if how == HELD:
                return self.objects.setdefault(key, wanted.clone())
            buffer = self.objects.setdefault(key[:3], wanted.clone())
            if not torch.equal(buffer, wanted):
                (buffer if how == "buffer" else buffer.data).copy_(wanted)
            return buffer

    return Sequences


def _with(generation: Generation, **changes: Any) -> Generation:
    return Generation(
        generation.serial, generation.plan._replace(**changes), generation.total, generation.sampler, generation.guidance
    )


def _encoded(what: tuple[str, int], place: int) -> Tensor:
    """A prompt's first or second tensor."""
    found = noise(1, 3, 8, seed=10 * place + what[1])
    return found.flip(1) if what[0] == "other" else found + 1 if what[0] == "both" else found
