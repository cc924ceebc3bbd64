"""Load on the server of `examples/server.py`, over the loopback: how fast, how much memory, and the same images.

    python benchmarks serving                             # 1,000 requests for the trained example, 12 clients
    python benchmarks serving --requests 100 --plain      # the same server over plain `torch.compile`

Every client sends its next request when its last one is answered. The client of one request in `HANGS_UP` hangs up if
it has to wait for longer than 0.1 to 1.9 seconds.
Memory is the resident set of the whole process, server and clients; images are compared with those made alone, one
request in `COMPARED`.
"""

import contextlib
import http.client
import itertools
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import uvicorn

import duca_compile
from dit import DiT
from face.block import Block, Page
from face.commands import parser
from face.draw import show
from face.origin import origin
from sampling import initial_noise, sample, trained_dit
from server import app, png, warm_up
from turns import Order, Turns

HANGS_UP = 20
COMPARED = 10
STEPS = (20, 30, 50)


@dataclass
class Load:
    """What came of it: `seconds` of each answered request, images by the request's number, and every so often the
    bytes of the process and of its caches."""

    images: dict[int, bytes] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    cached: list[int] = field(default_factory=list)
    given_up: int = 0
    wall: float = 0.0


def main(arguments: Sequence[str]) -> None:
    asked = parser("serving", __doc__)
    asked.add_argument("--requests", type=int, default=1000)
    asked.add_argument("--clients", type=int, default=12)
    asked.add_argument("--plain", action="store_true", help="plain torch.compile inside of the server")
    asked.add_argument("--small", action="store_true", help="a small model of random weights, not compiled by Inductor")
    given = asked.parse_args(arguments)
    model = small_dit() if given.small else trained_dit()
    inner: dict[str, Any] = {"options": {"inner": "eager"}} if given.small else {}
    compiled = torch.compile(model) if given.plain else torch.compile(model, backend="duca", **inner)
    warm_up(compiled)
    turns = Turns(compiled)
    with served(turns) as port:
        load = loaded(port, compiled, given.requests, given.clients)
    same = sum(made_alone(compiled, number) == image for number, image in compared(load))
    block = table(load, turns, same, given.clients)
    show(Page("Serving", origin("serving", arguments), [block]))


def small_dit() -> DiT:
    torch.manual_seed(0)
    model = DiT(patch=4, width=32, depth=2, heads=2).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.1)
    return model


@contextmanager
def served(turns: Turns) -> Iterator[int]:
    """The port of a server on the loopback, in a thread of its own."""
    server = uvicorn.Server(uvicorn.Config(app(turns), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def loaded(port: int, compiled: Any, requests: int, clients: int) -> Load:
    load, done = Load(), threading.Event()
    watching = threading.Thread(target=_watch, args=(load, compiled, done))
    watching.start()
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda number: _request(port, number, load), range(requests)))
    load.wall = time.perf_counter() - began
    done.set()
    watching.join()
    return load


def order(number: int) -> Order:
    return Order(number % 10, number, STEPS[number % len(STEPS)])


def patience(number: int) -> float:
    """Seconds."""
    rounds, place = divmod(number, HANGS_UP)
    return 600.0 if place else 0.1 + 0.2 * (rounds % 10)


def _request(port: int, number: int, load: Load) -> None:
    began, wanted = time.perf_counter(), order(number)
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=patience(number))
    body = json.dumps({"label": wanted.label, "seed": wanted.seed, "steps": wanted.steps})
    with contextlib.closing(client):
        client.request("POST", "/generate", body, {"Content-Type": "application/json"})
        try:
            answer = client.getresponse()
        except TimeoutError:
            load.given_up += 1
            return
        assert answer.status == 200, answer.read()
        load.images[number] = answer.read()
    load.seconds.append(time.perf_counter() - began)


def _watch(load: Load, compiled: Any, done: threading.Event) -> None:
    while not done.wait(0.5):
        load.resident.append(resident())
        load.cached.append(duca_compile.stats(compiled).bytes)


def resident() -> int:
    """Bytes of this process that lie in memory, on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def compared(load: Load) -> list[tuple[int, bytes]]:
    return list(itertools.islice(sorted(load.images.items()), 0, None, COMPARED))


def made_alone(compiled: Any, number: int) -> bytes:
    wanted = order(number)
    with duca_compile.session(steps=wanted.steps):
        noise = initial_noise(1, wanted.seed)
        return png(sample(compiled, torch.tensor([wanted.label]), noise, wanted.steps, wanted.guidance))


def table(load: Load, turns: Turns, same: int, clients: int) -> Block:
    stats = duca_compile.stats(turns.model)
    ordered = sorted(load.seconds)
    quarter = max(1, len(load.resident) // 4)
    early, late = (statistics.median(part) / 2**20 for part in (load.resident[:quarter], load.resident[-quarter:]))
    rows = {
        "requests answered, given up": f"{len(load.images)}, {load.given_up}",
        "outcomes at the server": ", ".join(f"{count} {name}" for name, count in turns.outcomes.items()),
        "clients": str(clients),
        "seconds in all": f"{load.wall:.1f}",
        "images a second": f"{len(load.images) / load.wall:.2f}",
        "seconds of a request, median and 95 %": f"{statistics.median(ordered):.2f}, {ordered[int(0.95 * len(ordered))]:.2f}",
        "steps": ", ".join(f"{count} {name}" for name, count in stats.steps.items() if count),
        "FLOPs": f"{stats.speedup or 1.0:.2f}x fewer",
        "MiB of cache, most and at the end": f"{max(load.cached) / 2**20:.2f}, {stats.bytes / 2**20:.2f}",
        "generations that hold caches at the end": str(stats.trajectories),
        "MiB resident, first and last quarter": f"{early:.0f}, {late:.0f}",
        "images equal to those made alone": f"{same} of {len(compared(load))}",
    }
    return Block("The server under load", ("", "found"), list(rows.items()))
