"""A program that runs generations in turns, and the world that it runs in."""

import contextvars
import gc
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

import duca_compile
from duca_compile.generations.diffusers_context import Context
from sequences import denoisers
from sequences.direct import Call, Kind
from sequences.generations import ANEW, DRIVERS, GUIDANCE, HELD, OWN, SESSIONS, Generation, Plan, loop
from sequences.kinds_of_wrong import kind
from sequences.likeness import confusable, content, handling
from sequences.oracle import Interrupted, Oracle, Stream
from sequences.samplers import DIFFUSION, FLOW, Evaluation, image_of, sample
from zoo.case import noise


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
            plans = [self.known[wrong.reader.generation].plan]
            plans += [self.known[wrong.fill.stream.generation].plan] if wrong.fill else []
            self.firsts.setdefault(sort, f"in sequence {self.sequences}: {wrong}; generations {plans}")
            self.kinds_of_wrong[sort] += 1
        self.player.oracle.wrong.clear()
        self.known = generations
        self.player.restore(twice)

    def report(self) -> None:
        print(f"{self.sequences} sequences; {dict(self.player.oracle.counts)}; {dict(self.situations)}")
        for sort, first in self.firsts.items():
            print(f"{self.kinds_of_wrong[sort]} of {sort}; first {first}")


class Program:
    """A program that runs generations. Each has a serial number, its place among `all`."""

    def __init__(self, world: World) -> None:
        self.world, self.player = world, world.player
        self.all: list[Generation] = []
        self.running: list[Generation] = []
        self.weights = Counter[int]()
        self.epochs = Counter[int]()
        self.objects: dict[Any, Tensor] = {}
        self.context = contextvars.copy_context()
        self.threads = [ThreadPoolExecutor(1), ThreadPoolExecutor(1)]

    def teardown(self) -> None:
        self.context.run(self.end_all)
        for thread in self.threads:
            thread.shutdown()

    def end_all(self) -> None:
        for generation in list(self.running):
            self.end(generation, "close")

    def interrupt(self, generation: Generation, where: str, retries: bool) -> None:
        """An exception inside a step: the loop catches it and tries again, or ends."""
        generation.retries, self.player.interrupts = retries, where
        try:
            self.step(generation)
        except Interrupted:
            self.end(generation, "close")
        generation.retries, self.player.interrupts = False, ""

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
        self.keep_apart(generation)

    def is_trained(self, plan: Plan) -> bool:
        return self.player.kinds[plan.model].denoiser == "trained"

    def start(self, plan: Plan) -> Generation:
        plan = self.fitting(plan)
        generation = self.made(plan)
        self.keep_apart(generation)
        self.all.append(generation)
        self.running.append(generation)
        generation.start()
        generation.run = loop(generation, lambda: self.evaluate(generation))
        self.note(generation)
        return generation

    def fitting(self, plan: Plan) -> Plan:
        """What the model and the keys in use allow of what was drawn."""
        kind = self.player.kinds[plan.model]
        skip = min(plan.steps - 2, int(plan.skip * plan.steps))
        if kind.predicts == "flow" and kind.denoiser != "trained":
            plan = plan._replace(
                sampler=FLOW[DIFFUSION.index(plan.sampler) % 3] if plan.sampler in DIFFUSION else plan.sampler
            )
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
        return Generation(serial, plan, total, sampler, plan.guidance, next(sampler))

    def keep_apart(self, generation: Generation) -> None:
        """Gives it a session of its own if nothing else could tell it from another one."""
        if self.is_like_another(generation):
            generation.plan = generation.plan._replace(session="call", key=("own", generation.serial))

    def is_like_another(self, generation: Generation) -> bool:
        """Whether a call of it could now be one of another generation, or the other way round."""
        return any(self.is_like(other, generation) for other in self.all if other is not generation)

    def is_like(self, other: Generation, later: Generation) -> bool:
        if other in self.running:
            return confusable(other, later) or confusable(later, other)
        if later.plan.context == "index" and not later.step:
            return False
        if len(later.owners("cond")) > 1:
            return confusable(other, later)
        t, up = later.given.t, self.player.kinds[later.plan.model].clock == "up"
        return (t != other.last if up else t < other.last) and confusable(other, later)

    def note(self, generation: Generation) -> None:
        """Counts which situations came up."""
        for other in self.running:
            same = other is not generation and other.plan.model == generation.plan.model
            if (
                same
                and other.plan.seed != generation.plan.seed
                and confusable(other, _with(generation, seed=other.plan.seed))
            ):
                self.world.situations["requests from different noise over shared conditioning"] += 1

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

    def closed(self, run: Generator[None, None, None]) -> None:
        try:
            run.close()
        except ValueError:
            self.broke()

    def broke(self) -> None:
        """A session could not be left where its loop was."""
        self.world.situations["a session could not be left"] += 1
        if not self.player.oracle.collects:
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
        kind = self.player.kinds[generation.plan.model].predicts
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
        clock = self.player.kinds[plan.model].clock
        time = torch.full((len(latents),), at.t) + plan.spread * torch.arange(len(latents)).flip(0)
        time = time if clock == "1000" else time / 1000 if clock == "1" else 1 - time / 1000
        conditioning = self.conditioning(generation, name)
        what = content(generation, name)
        prompt = what[1]
        prompts = (denoisers.EMPTY, prompt) if name == "both" else ((prompt + 1) % 3 if name == "other" else prompt,)
        index = {
            "none": None,
            "name": Context(name, None, None),
            "index": Context(name, generation.step, generation.total),
        }
        named = name if plan.context != "none" else ""
        stream = Stream(
            generation.serial, (*what, *handling(generation, name), named), tuple(latents.shape),
            (plan.model, self.weights[plan.model]), generation.owner(name), self.epochs[plan.model],
        )  # fmt: skip
        generation.calls[name] += 1
        generation.last = at.t
        with generation.around(name):
            return self.player.call(
                Call(plan.model, stream, at, latents, time, conditioning, prompts, index[plan.context])
            )

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


def _with(generation: Generation, **changes: Any) -> Generation:
    return Generation(
        generation.serial,
        generation.plan._replace(**changes),
        generation.total,
        generation.sampler,
        generation.guidance,
        generation.given,
    )


def _encoded(what: tuple[str, int], place: int) -> Tensor:
    """A prompt's first or second tensor."""
    found = noise(1, 3, 8, seed=10 * place + what[1])
    return found.flip(1) if what[0] == "other" else found + 1 if what[0] == "both" else found
