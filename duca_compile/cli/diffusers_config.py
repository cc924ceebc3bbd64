"""A transformer of diffusers from its configuration, and the arguments of one call of it."""

import importlib.util
import inspect
import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from duca_compile.cli.families import FAMILIES, Sizes
from duca_compile.cli.unusable import Unusable
from duca_compile.methods.check import require_int

DEPTHS = ("num_layers", "num_mmdit_layers", "num_single_layers", "num_single_dit_layers")
"""How configurations name the numbers of blocks of each sort; `--layers` is of the first that a model has."""

PIPELINE = "model_index.json"
"""In the folder of a pipeline, which has its transformer in a folder of that name."""
KEPT = "_keep_in_fp32_modules"
"""Of a class of diffusers: parts of the names of its weights."""


def add_sizes(parser: ArgumentParser) -> None:
    sizes = parser.add_argument_group("sizes", "of a model of diffusers that is built here")
    sizes.add_argument(
        "--layers", type=int, help="blocks (default: all); of FLUX double ones, and single ones to match"
    )
    sizes.add_argument("--batch", type=int, default=1, help="samples (default: 1)")
    sizes.add_argument("--side", type=int, help="rows and columns of latents, an eighth of an image's")
    sizes.add_argument("--frames", type=int, help="latent frames of a video")
    sizes.add_argument("--text", type=int, help="tokens of the prompt")


def sizes(given: Namespace) -> dict[str, int | None]:
    """What was asked for, by name; None is the usual."""
    return {name: getattr(given, name) for name in ("layers", "batch", "side", "frames", "text")}


def load(path: Path, asked: dict[str, int | None], device: torch.device) -> tuple[nn.Module, dict[str, Any]]:
    """The model that the file configures, and named arguments. Raises `Unusable` where that cannot be."""
    file = _file(path)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        name = config["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(f"{file} is no configuration of a model of diffusers: {error!r}") from error
    return build(str(name), config, asked, device)


def _file(path: Path) -> Path:
    """The configuration itself, where a folder is given, or of a whole pipeline."""
    folder = path.parent if path.name == PIPELINE else path
    if not folder.is_dir():
        return path
    return folder / "transformer" / "config.json" if (folder / PIPELINE).is_file() else folder / "config.json"


def cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """As `from_pretrained(torch_dtype=...)` does, which keeps in float32 what the class says."""
    nn.Module.to(model, dtype)
    kept = frozenset(getattr(model, KEPT, None) or ())
    for name, held in [*model.named_parameters(), *model.named_buffers()]:
        if held.is_floating_point() and not kept.isdisjoint(name.split(".")):
            held.data = held.data.float()
    return model


def build(
    name: str, config: dict[str, Any], asked: dict[str, int | None], device: torch.device
) -> tuple[nn.Module, dict[str, Any]]:
    """The class of this name with random weights (none on the meta device), and named arguments."""
    if name not in FAMILIES:
        raise Unusable(f"no inputs are known for {name}, but for {', '.join(FAMILIES)}; give a module:factory for it")
    if importlib.util.find_spec("diffusers") is None:
        raise Unusable("diffusers is not installed: pip install diffusers")
    import diffusers

    for size, number in asked.items():
        if number is not None:
            require_int(f"--{size}", number, at_least=1)
    family, kind = FAMILIES[name], getattr(diffusers, name)
    with torch.device(device):
        model: Any = kind.from_config(_of_depth(kind, {**family.config, **config}, asked.get("layers")))
        usual = {"batch": 1, "side": family.side, "frames": family.frames, "text": family.text}
        wanted = Sizes(**{size: asked.get(size) or default for size, default in usual.items()})
        return model.eval(), family.inputs(dict(model.config), wanted)


def _of_depth(kind: Any, config: dict[str, Any], layers: int | None) -> dict[str, Any]:
    """The configuration with so many blocks of the first sort, and of others in proportion."""
    known = {**_defaults(kind), **config}
    depths = {name: int(known[name]) for name in DEPTHS if name in known}
    if layers is None or not depths:
        return config
    first = next(iter(depths.values()))
    return {**config, **{name: max(1, round(depth * layers / first)) for name, depth in depths.items()}}


def _defaults(kind: Any) -> dict[str, Any]:
    found = inspect.signature(kind.__init__).parameters.values()
    return {each.name: each.default for each in found if each.default is not each.empty}
