"""The compiled modes against DuCa written out by hand for the example DiT, step by step, with the same tokens."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dit import Block, DiT, modulate
from duca_compile.generations.draw_tokens import RandomTokens
from helpers import STEPS, compiled, relative_error
from zoo.case import noise
from zoo.core import example_dit

LABELS = torch.tensor([1, 2])


class Line:
    """A value forecast from its last two: the line through them, no further on than they lie apart."""

    def __init__(self) -> None:
        self.known: list[tuple[int, Tensor]] = []

    def put(self, at: int, value: Tensor) -> None:
        self.known = [(at, value), *self.known][:2]

    def at(self, now: int, order: int) -> Tensor:
        (last, value), *before = self.known
        if not order or not before:
            return value
        ((earlier, other),) = before
        return value + min((now - last) / (last - earlier), 1.0) * (value - other)


class EagerForecasts:
    """DuCa where what a cached step does not compute is forecast: of every feature, and of the stream."""

    def __init__(self, model: DiT, draws: list[Tensor], order: int) -> None:
        self.model, self.draws, self.order = model, iter(draws), order
        self.attention, self.mlp = [Line() for _ in model.blocks], [Line() for _ in model.blocks]
        self.stream = Line()
        self.now = -1

    def step(self, mode: str, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.now += 1
        model, c = self.model, self.model.time(t) + self.model.label(y)
        h = model.embed(x).flatten(2).transpose(1, 2) + model.positions
        if mode == "A":
            h = self.stream.at(self.now, self.order)
        else:
            chosen = next(self.draws) if mode == "C" else None
            for index, block in enumerate(model.blocks):
                assert isinstance(block, Block)
                h = self.block(block, index, h, c, None if chosen is None else chosen[index])
            self.stream.put(self.now, h)
        return model.unpatchify(model.final(h, c))

    def block(self, block: Block, index: int, h: Tensor, c: Tensor, tokens: Tensor | None) -> Tensor:
        """Complete, or with these tokens computed by the MLP alone."""
        shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation(c)[:, None].chunk(6, dim=-1)
        attention, mlp = self.attention[index], self.mlp[index]
        if tokens is None:
            attention.put(self.now, block.attn(modulate(block.norm1(h), scale=scale1[:, 0], shift=shift1[:, 0])))
        h = h + gate1 * attention.at(self.now, self.order)
        if tokens is None:
            mlp.put(self.now, block.mlp(modulate(block.norm2(h), scale=scale2[:, 0], shift=shift2[:, 0])))
            return h + gate2 * mlp.at(self.now, self.order)
        feature = mlp.at(self.now, self.order).clone()
        feature[:, tokens] = block.mlp(modulate(block.norm2(h[:, tokens]), scale=scale2[:, 0], shift=shift2[:, 0]))
        return h + gate2 * feature


class EagerDuca:
    """arXiv 2412.18911, section IV-B, over the example DiT. `draws` holds the recomputed tokens, `[depth, k]` a step."""

    def __init__(self, model: DiT, depth: str, draws: list[Tensor], kept: torch.dtype | None) -> None:
        self.model, self.keep_last, self.draws = model, depth == "all-but-last", iter(draws)
        self.kept = kept or torch.float32
        self.attention: list[Tensor] = []
        self.mlp: list[Tensor] = []
        self.stream = torch.empty(0)

    def step(self, mode: str, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        model = self.model
        c = model.time(t) + model.label(y)
        h = model.embed(x).flatten(2).transpose(1, 2) + model.positions
        if mode == "F":
            self.attention, self.mlp = [], []
        chosen = next(self.draws, None) if mode == "C" else None
        last = len(model.blocks) - 1
        for index, block in enumerate(model.blocks):
            assert isinstance(block, Block)
            if self.keep_last and index == last and mode != "A":
                self.stream = h
            if mode == "A":
                if self.keep_last and index == last:
                    h = block(self.stream, c)
                continue
            shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation(c)[:, None].chunk(6, dim=-1)
            if mode == "F":
                mixed = block.attn(modulate(block.norm1(h), scale=scale1[:, 0], shift=shift1[:, 0]))
                h = h + gate1 * mixed
                alone = block.mlp(modulate(block.norm2(h), scale=scale2[:, 0], shift=shift2[:, 0]))
                h = h + gate2 * alone
                self.attention.append(mixed.to(self.kept))
                self.mlp.append(alone.to(self.kept))
                continue
            h = h + gate1 * self.attention[index].float()
            if chosen is not None:
                tokens = chosen[index]
                fresh = block.mlp(modulate(block.norm2(h[:, tokens]), scale=scale2[:, 0], shift=shift2[:, 0]))
                self.mlp[index] = self.mlp[index].float()
                self.mlp[index][:, tokens] = fresh
                self.mlp[index] = self.mlp[index].to(self.kept)
            h = h + gate2 * self.mlp[index].float()
        if not self.keep_last:
            if mode == "A":
                h = self.stream
            self.stream = h
        return model.unpatchify(model.final(h, c))


def schedule(cycle: int, order: str, warmup: int) -> str:
    """The modes of 50 steps, written from the options' meaning: `FCACA FCACA ...`."""
    cached = {"conservative-first": "CA", "aggressive-first": "AC", "conservative": "CC", "aggressive": "AA"}[order]
    unit = "F" + (cached * cycle)[: cycle - 1]
    return ("F" * (warmup - 1) + unit * 50)[:50]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cycle": 2}, {"cycle": 3}, {"cycle": 4}, {"cycle": 6},
        {"cache_ratio": 0.0}, {"cache_ratio": 0.5}, {"cache_ratio": 1.0},
        {"order": "aggressive-first"}, {"order": "conservative"}, {"order": "aggressive"},
        {"warmup_steps": 3}, {"warmup_steps": 4, "order": "aggressive-first", "cycle": 4},
        {"aggressive_depth": "all-but-last"}, {"aggressive_depth": "all-but-last", "order": "aggressive"},
        {"cache_dtype": torch.bfloat16}, {"cache_dtype": torch.float8_e4m3fn, "order": "conservative"},
        {"seed": 7}, {"selection": "step", "cache_ratio": 0.5},
        {"forecast": 1}, {"forecast": 1, "order": "conservative", "cache_ratio": 0.5},
        {"forecast": 1, "order": "aggressive-first", "cycle": 4},
    ],
    ids=str,
)  # fmt: skip
def test_fifty_steps_agree(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    draws: list[Tensor] = []
    draw = RandomTokens.draw

    def recorded(self: RandomTokens, device: torch.device) -> list[Tensor]:
        drawn = draw(self, device)
        if drawn:
            assert len(drawn) == 1 if options.get("selection") == "step" else len(drawn) == len(model.blocks)
            draws.append(torch.stack(drawn).expand(len(model.blocks), -1))
        return drawn

    monkeypatch.setattr(RandomTokens, "draw", recorded)
    model = example_dit()
    fast = compiled(model, **options)
    modes = schedule(
        options.get("cycle", 5), options.get("order", "conservative-first"), options.get("warmup_steps", 1)
    )
    x, results = noise(2, 1, 8, 8), []
    inputs = []
    for t in STEPS:
        inputs.append(x)
        results.append(fast(x, torch.full((2,), t), LABELS))
        x = x - 0.05 * results[-1]
    if options.get("cache_ratio") != 0.0:
        distinct = {tuple(map(tuple, drawn.tolist())) for drawn in draws}
        assert len(distinct) >= 0.8 * len(draws), "drawn anew at each step: one of 16 tokens for each of two branches"
    if options.get("cache_ratio") != 1.0:
        assert len(draws) == modes.count("C")
    slow: EagerDuca | EagerForecasts
    if order := options.get("forecast"):
        slow = EagerForecasts(model, draws, order)
    else:
        slow = EagerDuca(model, options.get("aggressive_depth", "all"), draws, options.get("cache_dtype"))
    for mode, t, given, got in zip(modes, STEPS, inputs, results, strict=True):
        assert relative_error(got, slow.step(mode, given, torch.full((2,), t), LABELS)) < 1e-5, (mode, t)


def test_cycle_one_is_the_inner_compiler_bit_for_bit() -> None:
    model = example_dit()
    fast, plain = compiled(model, cycle=1), torch.compile(model, backend="eager")
    x = y = noise(2, 1, 8, 8)
    for t in STEPS:
        x = x - 0.05 * fast(x, torch.full((2,), t), LABELS)
        y = y - 0.05 * plain(y, torch.full((2,), t), LABELS)
        assert torch.equal(x, y)


def test_two_seeds_choose_different_tokens_and_one_seed_the_same() -> None:
    model = example_dit()

    def second_step(seed: int) -> Tensor:
        torch._dynamo.reset()
        fast = compiled(model, seed=seed)
        x = noise(2, 1, 8, 8)
        x = x - 0.05 * fast(x, torch.full((2,), 980.0), LABELS)
        result: Tensor = fast(x, torch.full((2,), 960.0), LABELS)
        return result

    assert torch.equal(second_step(1), second_step(1))
    assert not torch.equal(second_step(1), second_step(2))
