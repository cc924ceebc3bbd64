"""The example server: its images are those made alone, its memory comes back, an abort leaves the others right."""

import http.client
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from dit import DiT
from metrics import exposition
from sampling import initial_noise, sample
from server import CLIENT_CLOSED_REQUEST, places, png
from serving.load import Load, compared, loaded, made_alone, order, patience, served, small_dit
from turns import AT_ONCE, Order, Turns


def fast(model: nn.Module, **options: Any) -> Any:
    return torch.compile(model, backend="duca", options={"inner": "eager", "strict": True, **options})


@pytest.fixture(scope="module")
def model() -> DiT:
    return small_dit()


@pytest.fixture
def turns(model: DiT) -> Iterator[Turns]:
    opened = Turns(fast(model))
    yield opened
    opened.close()


def alone(model: nn.Module, order: Order) -> Tensor:
    """When no other generation runs: they would be of the same compiled graph."""
    with duca_compile.session(steps=order.steps):
        labels, noise = torch.tensor([order.label]), initial_noise(1, order.seed)
        return sample(fast(model), labels, noise, order.steps, order.guidance)


def made(turns: Turns, orders: Sequence[Order]) -> list[Tensor]:
    coming = [turns.order(each) for each in orders]
    return [image.result(30) for image in coming]


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_images_are_those_made_alone_bit_for_bit(model: DiT, turns: Turns) -> None:
    """More requests than places, of other lengths, the same label, prompt and noise among them."""
    orders = [Order(number % 3, number % 5, 12 + 4 * (number % 3)) for number in range(15)]
    images = made(turns, orders)
    for each, image in zip(orders, images, strict=True):
        assert torch.equal(image, alone(model, each)), each
    assert turns.outcomes == {"done": 15, "aborted": 0, "failed": 0}
    stats = duca_compile.stats(turns.model)
    assert stats.steps["forecast"] > stats.steps["full"]


def test_memory_is_bounded_and_comes_back(model: DiT, turns: Turns) -> None:
    images = [turns.order(Order(number % 10, number, 16)) for number in range(20)]
    most = 0
    while not all(image.done() for image in images):
        most = max(most, duca_compile.stats(turns.model).trajectories)
        time.sleep(0.02)
    assert 1 < most <= AT_ONCE
    stats = duca_compile.stats(turns.model)
    assert (stats.bytes, stats.trajectories) == (0, 0)
    (graph,) = duca_compile.explain(model, initial_noise(2, 0), torch.zeros(2), torch.tensor([0, 1])).graphs
    assert stats.peak_bytes <= AT_ONCE * graph.held_bytes
    assert places(model, 3 * graph.held_bytes) == 3
    assert places(model, 0) == 1


def test_an_abort_in_the_middle_leaves_the_others_right(model: DiT, turns: Turns) -> None:
    orders = [Order(4, number, 16) for number in range(4)]
    long = Order(4, 9, 200)
    given_up = turns.order(long)
    coming = [turns.order(each) for each in orders]
    until(lambda: duca_compile.stats(turns.model).steps.total() > 10)
    assert given_up.cancel()
    images = [image.result(30) for image in coming]
    until(lambda: not turns.active)
    assert all(torch.equal(image, alone(model, each)) for image, each in zip(images, orders, strict=True))
    assert turns.outcomes == {"done": 4, "aborted": 1, "failed": 0}
    assert duca_compile.stats(turns.model).bytes == 0


def test_a_request_that_fails_is_told_and_leaves_the_others_right(model: DiT) -> None:
    compiled = fast(model)

    def failing(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if labels[0] == 6 and t[0] < 500:
            raise ValueError("no such label")
        return compiled(x, t, labels)

    turns = Turns(failing)
    good, bad = Order(4, 0, 16), Order(6, 0, 16)
    coming = [turns.order(bad), turns.order(good)]
    with pytest.raises(ValueError, match="no such label"):
        coming[0].result(30)
    image = coming[1].result(30)
    turns.close()
    assert torch.equal(image, alone(model, good))
    assert turns.outcomes == {"done": 1, "aborted": 0, "failed": 1}
    assert duca_compile.stats(compiled).bytes == 0


def test_what_is_on_its_way_is_aborted_when_turns_close(model: DiT) -> None:
    turns = Turns(fast(model), at_once=1)
    images = [turns.order(Order(0, number, 200)) for number in range(3)]
    turns.close()
    assert all(image.cancelled() for image in images)
    assert turns.outcomes["aborted"] == 3
    with pytest.raises(RuntimeError, match="no more images"):
        turns.order(Order(0))


def answer(port: int, method: str, path: str, body: object = None) -> http.client.HTTPResponse:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
    return client.getresponse()


def test_over_the_loopback(model: DiT) -> None:
    turns = Turns(fast(model))
    with served(turns) as port:
        image = answer(port, "POST", "/generate", {"label": 3, "seed": 1, "steps": 16}).read()
        assert image == png(alone(model, Order(3, 1, 16)))
        assert answer(port, "POST", "/generate", {"label": 10}).status == 422
        assert answer(port, "POST", "/generate", {"label": 1, "sed": 1}).status == 422
        hasty = http.client.HTTPConnection("127.0.0.1", port, timeout=0.2)
        hasty.request("POST", "/generate", '{"label": 1, "steps": 200}', {"Content-Type": "application/json"})
        until(lambda: turns.active == 1)
        hasty.close()
        until(lambda: turns.outcomes["aborted"] == 1)
        text = answer(port, "GET", "/metrics").read().decode()
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert samples['duca_requests_total{outcome="done"}'] == samples['duca_requests_total{outcome="aborted"}'] == "1"
    assert samples["duca_requests_active"] == samples["duca_cache_bytes"] == "0"
    assert int(samples['duca_steps_total{recipe="forecast"}']) > 0
    assert float(samples["duca_speedup"]) > 1
    assert CLIENT_CLOSED_REQUEST == 499


def test_counters_keep_all_digits_and_what_is_unknown_is_left_out(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(duca_compile.stats(turns.model), steps=Counter(forecast=1_234_567), speedup=None)
    monkeypatch.setattr(duca_compile, "stats", lambda model: found)
    monkeypatch.setattr(turns, "seconds", 1_234_567.125)
    text = exposition(turns)
    assert '\nduca_steps_total{recipe="forecast"} 1234567\n' in text
    assert "\nduca_request_seconds_total 1234567.125\n" in text
    assert "# TYPE duca_speedup gauge" in text
    assert "\nduca_speedup " not in text


@pytest.mark.slow
def test_a_thousand_requests(model: DiT) -> None:
    turns = Turns(fast(model))
    with served(turns) as port:
        load: Load = loaded(port, turns.model, 1000, 12)
    impatient = sum(patience(number) < 10 for number in range(1000))
    assert len(load.images) >= 1000 - impatient
    assert turns.outcomes["done"] + turns.outcomes["aborted"] == 1000
    assert all(made_alone(turns.model, number) == image for number, image in compared(load))
    assert max(load.cached) <= duca_compile.stats(turns.model).peak_bytes
    assert duca_compile.stats(turns.model).bytes == 0
    quarter = len(load.resident) // 4
    assert max(load.resident[-quarter:]) < max(load.resident[: 2 * quarter]) + 32 * 2**20
    assert order(7).steps == 30
