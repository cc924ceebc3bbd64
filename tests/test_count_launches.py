"""What Inductor writes for a GPU, counted without one: needs a CUDA build of torch, and minutes."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from count import launches

ROOT = Path(__file__).parents[1]
PATHS = [str(ROOT), *(str(ROOT / folder) for folder in ("benchmarks", "examples"))]
DEPTH = 6
COUNT = f"""
import sys; sys.path[:0] = {PATHS}
import json
from count import launches, pretend_h100
from models.sizes import NARROW
flux, flat, outlined = NARROW["flux"](1), NARROW["dit"]({DEPTH}), NARROW["dit"]({DEPTH})
graphs = [launches.captured(shape, {{"outline": shape is outlined}}) for shape in (flat, outlined, flux)]
graphs[1] = {{mode: graphs[1][mode] for mode in ("full", "conservative")}}
graphs[2] = {{mode: graphs[2][mode] for mode in ("plain", "full", "full, reduce-overhead")}}
pretend_h100.pretend()
found = [launches.counts(each) for each in graphs]
print(json.dumps([{{mode: vars(each) for mode, each in modes.items()}} for modes in found]))
"""
CODE = """
def repeated(args):
    triton_norm.run(args)
    extern_kernels.addmm(args)
    return torch.ops.aten._scaled_dot_product_flash_attention.default(args)

class Runner:
    def call(self, args):
        assert_size_stride(args)
        found = repeated(args)
        found = repeated(found)
        return torch.ops.aten.sort.default(extern_kernels.convolution(found))

def benchmark(args):
    repeated(args)
"""


def test_a_subgraph_launches_anew_at_every_call() -> None:
    want = Counter(triton=2, product=3, attention=2, other=1)
    assert launches.launches(CODE) == want


@pytest.mark.skipif(torch.version.cuda is not None, reason="tells what other builds of torch lack")
def test_without_a_cuda_build_it_says_so_in_one_line() -> None:
    with pytest.raises(SystemExit, match=r"^torch \S+ is no CUDA build: it has no CUDA operations to write code for$"):
        launches.main([])


@pytest.fixture(scope="module")
def counted() -> list[dict[str, Any]]:
    """Counts by mode of a DiT, not outlined and outlined, and of a FLUX. A process of its own: it never gets its torch back."""
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


needs_cuda_build = pytest.mark.skipif(
    torch.version.cuda is None or torch.cuda.is_available(), reason="needs a CUDA build of torch where no GPU is"
)


def total(found: dict[str, Any]) -> int:
    return sum(found["launches"].values())


@pytest.mark.slow
@needs_cuda_build
def test_attention_stays_one_kernel_a_block(counted: list[dict[str, Any]]) -> None:
    for modes, blocks in zip(counted, (DEPTH, DEPTH, 3), strict=True):
        for mode, found in modes.items():
            reused = mode.startswith(("conservative", "aggressive"))
            assert found["launches"].get("attention", 0) == (0 if reused else blocks), mode


@pytest.mark.slow
@needs_cuda_build
def test_a_full_step_launches_no_more_than_the_model_alone(counted: list[dict[str, Any]]) -> None:
    flat, outlined, flux = counted
    for modes in (flat, flux):
        assert total(modes["full"]) <= total(modes["plain"])
    cut = total(outlined["full"])
    assert total(flat["plain"]) < cut <= total(flat["plain"]) + 2 * DEPTH, (
        "a block that is called fuses with neither neighbour"
    )


@pytest.mark.slow
@needs_cuda_build
def test_in_fixed_memory_a_full_step_copies_each_value_at_most_once(counted: list[dict[str, Any]]) -> None:
    for modes in (counted[0], counted[2]):
        full, recorded = modes["full"], modes["full, reduce-overhead"]
        slots = recorded["tensors"] - full["tensors"]
        assert total(full) <= total(recorded) <= total(full) + slots
        assert recorded["static"] == full["static"] + slots, "the memory of caches is declared to stay"


@pytest.mark.slow
@needs_cuda_build
def test_the_models_own_state_is_declared_to_stay(counted: list[dict[str, Any]]) -> None:
    for modes in (counted[0], counted[2]):
        steady = {found["static"] for mode, found in modes.items() if "," not in mode}
        assert steady == {modes["plain"]["static"]}
        assert modes["plain"]["tensors"] > modes["plain"]["static"] > 0


@pytest.mark.slow
@needs_cuda_build
def test_cached_steps_launch_less(counted: list[dict[str, Any]]) -> None:
    flat, outlined, _ = counted
    assert total(flat["aggressive"]) < total(flat["conservative"]) < total(flat["plain"])
    assert total(flat["conservative"]) <= total(outlined["conservative"])
