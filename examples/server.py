"""Serves images of the trained example: requests are denoised in turns over one compiled transformer.

    pip install ".[server]"
    python examples/server.py
    curl --json '{"label": 9, "seed": 1}' localhost:8000/generate > boot.png
    curl localhost:8000/metrics

A request whose client hangs up ends with its next turn, and its caches go with it.
"""

import argparse
import asyncio
import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import uvicorn
from fastapi import FastAPI, Request, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

import duca_compile
from metrics import CONTENT_TYPE, exposition
from sampling import initial_noise, sample, trained_dit
from turns import AT_ONCE, Order, Turns

STEPS = 50
CLIENT_CLOSED_REQUEST = 499


class Wanted(BaseModel):
    """The body of a request. A guidance of 1 would run another batch size; a name that is none of these is an error."""

    model_config = ConfigDict(extra="forbid")
    label: Annotated[int, Field(ge=0, le=9)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    steps: Annotated[int, Field(ge=1, le=200)] = STEPS
    guidance: Annotated[float, Field(gt=1, le=10)] = 1.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--cache-mib", type=float, default=64.0, help="the most that caches may take")
    parser.add_argument("--artifacts", type=Path, help="a file for what is compiled: read at the start, else written")
    given = parser.parse_args()
    model, budget = trained_dit(), int(given.cache_mib * 2**20)
    compiled = torch.compile(model, backend="duca", options={"cache_budget": budget})
    began = time.perf_counter()
    warm_up(compiled, given.artifacts)
    print(f"ready after {time.perf_counter() - began:.1f} s", flush=True)
    uvicorn.run(app(Turns(compiled, places(model, budget))), host=given.host, port=given.port)


def warm_up(compiled: Any, artifacts: Path | None = None) -> None:
    """Compiles every recipe, of what an earlier process has left in `artifacts`; without that, leaves it there."""
    if artifacts is not None and artifacts.exists():
        torch.compiler.load_cache_artifacts(artifacts.read_bytes())
    with duca_compile.session():
        sample(compiled, torch.tensor([0]), initial_noise(1, 0), STEPS)
    found = torch.compiler.save_cache_artifacts()
    if artifacts is not None and found is not None and not artifacts.exists():
        artifacts.parent.mkdir(parents=True, exist_ok=True)
        artifacts.write_bytes(found[0])


def places(model: nn.Module, budget: int) -> int:
    """How many generations the budget has room for, at least 1: one more would push out the caches of another."""
    both = (initial_noise(2, 0), torch.zeros(2), torch.zeros(2, dtype=torch.int64))
    held = sum(graph.held_bytes for graph in duca_compile.explain(model, *both).graphs)
    return max(1, min(AT_ONCE, budget // held)) if held else AT_ONCE


def app(turns: Turns) -> FastAPI:
    """Closes `turns` when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(turns.close)

    made = FastAPI(title="images of an example DiT", lifespan=lifespan)

    @made.post("/generate", response_class=Response)
    async def generate(wanted: Wanted, request: Request) -> Response:
        image = asyncio.wrap_future(turns.order(Order(**wanted.model_dump())))
        gone = asyncio.create_task(_hung_up(request))
        await asyncio.wait((image, gone), return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not image.done():
            image.cancel()
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        return Response(png(image.result()), media_type="image/png")

    @made.get("/metrics", response_class=Response)
    def metrics() -> Response:
        return Response(exposition(turns), media_type=CONTENT_TYPE)

    return made


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def png(image: Tensor) -> bytes:
    """Of one image `[1, 1, h, w]` in [-1, 1]."""
    pixels = ((image[0, 0] + 1) * 127.5).round().to(torch.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(written, "PNG")
    return written.getvalue()


if __name__ == "__main__":
    main()
