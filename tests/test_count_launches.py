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
graphs = [launches.captured(NARROW["dit"]({DEPTH}), {{"outline": outline}}) for outline in (False, True)]
del graphs[1]["plain"], graphs[1]["aggressive"]
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
    """Counts of each mode, not outlined and outlined. A process of its own: it never gets its torch back."""
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


needs_cuda_build = pytest.mark.skipif(
    torch.version.cuda is None or torch.cuda.is_available(), reason="needs a CUDA build of torch where no GPU is"
)


@pytest.mark.slow
@needs_cuda_build
def test_attention_stays_one_kernel_a_block(counted: list[dict[str, Any]]) -> None:
    for modes in counted:
        for mode, found in modes.items():
            reused = mode in ("conservative", "aggressive")
            assert found["launches"].get("attention", 0) == (0 if reused else DEPTH), mode


@pytest.mark.slow
@needs_cuda_build
def test_a_full_step_launches_no_more_than_the_model_alone(counted: list[dict[str, Any]]) -> None:
    flat, outlined = counted
    plain, full, cut = (sum(each["launches"].values()) for each in (flat["plain"], flat["full"], outlined["full"]))
    assert full <= plain
    assert plain < cut <= plain + 2 * DEPTH, "a block that is called fuses with neither neighbour"


@pytest.mark.slow
@needs_cuda_build
def test_cached_steps_launch_less(counted: list[dict[str, Any]]) -> None:
    flat, outlined = counted
    totals = {mode: sum(found["launches"].values()) for mode, found in flat.items()}
    assert totals["aggressive"] < totals["conservative"] < totals["plain"]
    assert totals["conservative"] <= sum(outlined["conservative"]["launches"].values())
