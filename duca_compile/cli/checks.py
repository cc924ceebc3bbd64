"""The checks of `duca doctor`: each looks at one thing, and says how to get it."""

import importlib.metadata
import importlib.util
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

import duca_compile
from duca_compile import torch_private
from duca_compile.releases import FIRST, LAST


@dataclass(frozen=True)
class Check:
    """`state`: "ok", "absent" (the backend works without it) or "broken" (it does not). `advice` is empty where there
    is nothing to do."""

    name: str
    state: str
    found: str
    advice: str = ""


def _torch() -> Check:
    """Another release cannot be imported beside this package."""
    range_told = f"runs on {FIRST[0]}.{FIRST[1]} to {LAST[0]}.{LAST[1]}"
    where = f"duca-compile {duca_compile.__version__}, Python {platform.python_version()}, {platform.machine()}"
    return Check("torch", "ok", f"{torch.__version__} ({range_told}); {where}")


def _backend() -> Check:
    if "duca" in torch.compiler.list_backends(exclude_tags=None):
        return Check("backend", "ok", 'torch.compile(model, backend="duca") finds it')
    advice = "pip install duca-compile, or pip install . in its folder: being importable is not enough"
    return Check("backend", "broken", "torch.compile does not find it: the package is not installed", advice)


def _compiler() -> Check:
    found = torch_private.cpp_compiler()
    if found is not None:
        return Check("C++", "ok", f"Inductor uses {found}")
    advice = "apt-get install g++, xcode-select --install on a Mac, or Visual Studio's C++ tools on Windows; or set CXX"
    return Check("C++", "broken", "no compiler, which Inductor needs on a CPU", advice)


def _inductor() -> Check:
    """A number that no earlier compilation has seen keeps it from being taken from a cache on disk."""
    number, began = time.time_ns() % 1_000_003, time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.ones(16, device=device)
    try:
        with torch.no_grad():
            right = torch.equal(torch.compile(lambda given: given * number)(x), x * number)
    except Exception as error:
        told = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}" if str(error).strip() else repr(error)
        return Check("Inductor", "broken", told, 'the compiler above, or options={"inner": "eager"} without Inductor')
    if not right:
        return Check("Inductor", "broken", "it computes something else than eager mode", "reinstall torch")
    return Check("Inductor", "ok", f"compiled a function for {device} in {time.perf_counter() - began:.1f} s")


def _onednn() -> Check:
    if torch_private.has_onednn():
        return Check("oneDNN", "ok", f"there, {torch.get_num_threads()} threads")
    advice = "a torch of PyPI or pytorch.org, for x86-64 or AArch64, is built with it"
    return Check("oneDNN", "absent", "this torch has none: linear layers on a CPU are slower", advice)


def _cuda() -> Check:
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        return Check("CUDA", "ok", f"{torch.cuda.get_device_name()}, capability {major}.{minor}")
    if torch.version.cuda is None:
        return Check("CUDA", "absent", "this torch is built without it", "the CUDA build of torch, if there is a GPU")
    return Check("CUDA", "absent", f"torch has CUDA {torch.version.cuda}, but sees no GPU", "nvidia-smi tells more")


def _triton() -> Check:
    needed = torch.cuda.is_available()
    if importlib.util.find_spec("triton") is not None:
        return Check("Triton", "ok", _version("triton"))
    advice = "pip install triton: Inductor needs it on a GPU" if needed else ""
    return Check("Triton", "broken" if needed else "absent", "not installed; of use on a GPU alone", advice)


def _flash() -> Check:
    if torch.cuda.is_available() and torch.backends.cuda.is_flash_attention_available():
        return Check("flash-attn", "ok", "torch has its own")
    if importlib.util.find_spec("flash_attn") is not None:
        return Check("flash-attn", "ok", _version("flash-attn"))
    advice = "pip install flash-attn, or a torch with its own" if torch.cuda.is_available() else ""
    return Check("flash-attn", "absent", "of use on a GPU alone, where torch has its own", advice)


def _package(name: str, use: str) -> Callable[[], Check]:
    def check() -> Check:
        if importlib.util.find_spec(name) is not None:
            return Check(name, "ok", _version(name))
        return Check(name, "absent", f"not installed; {use}", f"pip install {name}")

    return check


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "there, version unknown"


CHECKS: tuple[Callable[[], Check], ...] = (
    _torch,
    _backend,
    _compiler,
    _inductor,
    _onednn,
    _cuda,
    _triton,
    _flash,
    _package("diffusers", "for duca zoo and models named by a config.json"),
    _package("matplotlib", "for duca tune --draw"),
)
