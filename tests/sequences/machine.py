"""Random sequences of everything that a pipeline does with a model, each call of which the oracle checks."""

import copy
import gc
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from torch import Tensor, nn

import duca_compile
from helpers import compiled
from sequences.oracle import Interrupted, Oracle
from sequences.samplers import NAMES, Sampler, sample
from zoo.case import noise, randomise


class Small(nn.Module):
    """Two blocks of cross-attention and MLP; `[B, 16, 16]` latents, `[B, 3, 8]` context."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.enter, self.leave = nn.Linear(4, 8), nn.Linear(16, 8), nn.Linear(8, 16)
        self.mix = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.mlp = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        gate = self.clock((t[:, None] * torch.tensor([0.01, 0.02, 0.04, 0.08])).sin().to(x.dtype))[:, None]
        x = self.enter(x)
        for mix, mlp in zip(self.mix, self.mlp, strict=True):
            given = torch.cat([x, context], 1)
            x = x + gate * nn.functional.scaled_dot_product_attention(mix(x), given, given)
            x = x + gate * mlp(x).relu()
        return self.leave(x)


STATES = [randomise(Small(), seed).state_dict() for seed in range(3)]
PROMPTS = [noise(1, 3, 8, seed=seed) for seed in range(3)]
IMAGE = noise(1, 16, 16, seed=9)
SERIAL = itertools.count()
GUIDANCE = {
    "none": ["cond"],
    "batch": ["both"],
    "two": ["cond", "uncond"],
    "three": ["cond", "uncond", "other"],
}
"""The calls of one evaluation."""


class World:
    """What the sequences of one test share: models of one class, compiled once; the oracle."""

    def __init__(self) -> None:
        first = Small().eval()
        self.models = [first, Small().eval(), copy.deepcopy(first).double()]
        for model in self.models:
            model.requires_grad_(False)
        self.fast = [compiled(model, dynamic=False, cache_ratio=0.5) for model in self.models]
        self.oracle = Oracle()
        self.sequences = 0

    def restore(self) -> None:
        """As in a fresh process, but for what is compiled."""
        self.oracle.streams.clear()
        self.oracle.interrupts = False
        for model in self.models:
            model.load_state_dict(STATES[0])
            duca_compile.reset(model)
        self.sequences += 1


@dataclass(eq=False, repr=False)
class Generation:
    """One run of a pipeline. `encoded` are its conditioning tensors, where it makes them once."""

    serial: int
    model: int
    sampler: Sampler
    prompt: int
    guidance: str
    conditioning: str
    session: bool
    batch: int
    spread: float
    encoded: dict[str, Tensor]
    worker: ThreadPoolExecutor | None
    given: tuple[Tensor, Tensor] | None = None


def sequences(world: World) -> type[RuleBasedStateMachine]:
    """The machine over one world; its class is made anew so that it can carry the world."""

    class Sequences(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.running: list[Generation] = []
            self.weights = [0, 0, 0]
            self.held: dict[Any, Tensor] = {}
            self.epochs = [0, 0, 0]

        @initialize()
        def fresh(self) -> None:
            world.restore()

        @rule(
            model=st.integers(0, 2),
            sampler=st.sampled_from(NAMES),
            steps=st.sampled_from([8, 12, 20]),
            strength=st.sampled_from([1.0, 1.0, 0.8, 0.6, 0.5, 0.3]),
            seed=st.integers(0, 2),
            prompt=st.integers(0, 2),
            guidance=st.sampled_from(sorted(GUIDANCE)),
            conditioning=st.sampled_from(["held", "encoded", "encoded", "remade", "buffer", "silent buffer"]),
            session=st.booleans(),
            batch=st.integers(1, 2),
            spread=st.sampled_from([0.0, 0.0, 5.0]),
            threaded=st.booleans(),
        )
        @precondition(lambda self: len(self.running) < 4)
        def begin(
            self, model: int, sampler: str, steps: int, strength: float, seed: int, prompt: int, guidance: str,
            conditioning: str, session: bool, batch: int, spread: float, threaded: bool,
        ) -> None:  # fmt: skip
            serial = next(SERIAL)
            image = IMAGE.repeat(batch, 1, 1)
            if not (session or conditioning == "encoded"):
                # Over the very same tensors, nothing but the noise tells generations apart.
                seed = 3 + serial
            self.running.append(
                Generation(
                    serial, model, sample(sampler, steps, strength, image, seed),
                    prompt, guidance, conditioning, session, batch, spread, {},
                    ThreadPoolExecutor(1) if threaded else None,
                )
            )  # fmt: skip

        @rule(which=st.integers(0, 3), evaluations=st.integers(1, 8))
        @precondition(lambda self: self.running)
        def advance(self, which: int, evaluations: int) -> None:
            generation = self.running[which % len(self.running)]
            if not all(self.evaluate(generation) for _ in range(evaluations)):
                self.end(generation)

        @rule(
            event=st.sampled_from(["abort", "abort", "guidance", "exception", "weights", "reset", "collect"]),
            data=st.data(),
        )
        @precondition(lambda self: self.running)
        def disturb(self, event: str, data: st.DataObject) -> None:
            generation = self.running[data.draw(st.integers(0, len(self.running) - 1))]
            if event == "abort":
                self.end(generation)
            elif event == "guidance":
                generation.guidance = data.draw(st.sampled_from(sorted(GUIDANCE)))
            elif event == "exception":
                self.interrupt(generation)
                if data.draw(st.booleans()):
                    self.end(generation)
            elif event == "weights":
                state = self.weights[generation.model] = data.draw(st.integers(0, 2))
                CHANGES[data.draw(st.sampled_from(sorted(CHANGES)))](world.models[generation.model], STATES[state])
            elif event == "reset":
                duca_compile.reset(world.models[generation.model])
                self.epochs[generation.model] += 1
            else:
                gc.collect(0)

        def interrupt(self, generation: Generation) -> None:
            """An exception inside a step."""
            world.oracle.interrupts = True
            try:
                self.evaluate(generation)
            except Interrupted:
                pass
            finally:
                world.oracle.interrupts = False

        def teardown(self) -> None:
            for generation in list(self.running):
                self.end(generation)

        def end(self, generation: Generation) -> None:
            self.running.remove(generation)
            if generation.worker:
                generation.worker.shutdown()

        def evaluate(self, generation: Generation) -> bool:
            """One evaluation of the denoiser, in one, two or three calls. False when there are no more."""
            if generation.given is None:
                generation.given = next(generation.sampler)
            x, t = generation.given
            output = self.guided(generation, x, t)
            try:
                generation.given = generation.sampler.send(output)
            except StopIteration:
                return False
            return True

        def guided(self, generation: Generation, x: Tensor, t: Tensor) -> Tensor:
            outputs = {}
            for name in GUIDANCE[generation.guidance]:
                latents = torch.cat([x, x]) if name == "both" else x
                time = t.expand(len(latents)) + generation.spread * torch.arange(len(latents)).flip(0)
                outputs[name] = self.call(generation, name, latents, time)
            if "both" in outputs:
                outputs["uncond"], outputs["cond"] = outputs["both"].chunk(2)
            if "uncond" not in outputs:
                return outputs["cond"]
            found = outputs["uncond"] + 1.5 * (outputs["cond"] - outputs["uncond"])
            return found + 0.1 * (outputs["cond"] - outputs["other"]) if "other" in outputs else found

        def call(self, generation: Generation, name: str, latents: Tensor, time: Tensor) -> Tensor:
            context = self.context(generation, name)
            state = self.weights[generation.model]
            stream = (
                generation.serial,
                name,
                generation.prompt,
                generation.model,
                state,
                tuple(latents.shape),
                self.epochs[generation.model],
            )
            fast, dtype = world.fast[generation.model], next(world.models[generation.model].parameters()).dtype
            given = latents.to(dtype), time, context.to(dtype) if dtype != context.dtype else context

            def run() -> Tensor:
                held = duca_compile.session((generation.serial, name)) if generation.session else nullcontext()
                with torch.no_grad(), held:
                    found: Tensor = fast(*given)
                    return found

            do: Callable[[], Tensor] = (lambda: generation.worker.submit(run).result()) if generation.worker else run
            return world.oracle.call(stream, do).to(latents.dtype)

        def context(self, generation: Generation, name: str) -> Tensor:
            """The conditioning of a call, as this pipeline holds it."""
            wanted = _prompt(generation, name)
            key = (name, generation.batch, generation.prompt if name != "uncond" else None, generation.model)
            how = generation.conditioning
            if how == "remade":
                return wanted.clone()
            if how == "encoded":
                return generation.encoded.setdefault(name + str(generation.model), wanted.clone())
            if how == "held":
                return self.held.setdefault(key, wanted.clone())
            buffer = self.held.setdefault(("buffer", tuple(wanted.shape)), wanted.clone())
            if not torch.equal(buffer, wanted):
                (buffer if how == "buffer" else buffer.data).copy_(wanted)
            return buffer

    return Sequences


def _prompt(generation: Generation, name: str) -> Tensor:
    cond = PROMPTS[generation.prompt].repeat(generation.batch, 1, 1)
    empty = torch.zeros_like(cond)
    return {"cond": cond, "uncond": empty, "other": cond.flip(1), "both": torch.cat([empty, cond])}[name]


def _in_place(model: nn.Module, state: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(state[name])


def _fused(model: nn.Module, state: dict[str, Tensor]) -> None:
    """As peft fuses a LoRA: the version counter does not see it."""
    for name, parameter in model.named_parameters():
        parameter.data += state[name] - parameter.data


def _averaged(model: nn.Module, state: dict[str, Tensor]) -> None:
    """As an EMA is copied to a model."""
    for name, parameter in model.named_parameters():
        parameter.data.copy_(state[name])


def _swapped(model: nn.Module, state: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.data = state[name].to(parameter.dtype).clone()


def _replaced(model: nn.Module, state: dict[str, Tensor]) -> None:
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))
    _in_place(model, state)


CHANGES: dict[str, Callable[[nn.Module, dict[str, Tensor]], Any]] = {
    "in place": _in_place,
    "fused": _fused,
    "averaged": _averaged,
    "swapped": _swapped,
    "replaced": _replaced,
    "loaded": lambda model, state: model.load_state_dict(state),
}
